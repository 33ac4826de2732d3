"""The definitions: what Dagster shows, kept as a text that people can read and compare."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from microseg_assets.build import build_defs, load_workspace
from microseg_assets.home import Home
from microseg_assets.partitions import Lookback
from microseg_assets.workspace import Workspace

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "tests" / "snapshots" / "complete_journey.yaml"
UPDATE = "MICROSEG_UPDATE_SNAPSHOTS"
PROJECT = "complete_journey"


@pytest.fixture
def definitions() -> dg.Definitions:
    return build_defs(projects=[PROJECT])


@pytest.fixture
def workspace() -> Workspace:
    return load_workspace(PROJECT, Home.from_environment())


def test_the_definitions_match_the_accepted_snapshot(definitions: dg.Definitions) -> None:
    text = yaml.safe_dump(
        described(definitions), sort_keys=False, allow_unicode=True, width=120, default_flow_style=None
    )
    if os.environ.get(UPDATE):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(text, encoding="utf-8")
    remedy = f"If that is meant: {UPDATE}=1 python -m pytest {Path(__file__).relative_to(ROOT)}, and read the diff."
    assert SNAPSHOT.is_file(), f"{SNAPSHOT} is not there. {remedy}"
    agreed = SNAPSHOT.read_text(encoding="utf-8")
    assert text.splitlines() == agreed.splitlines(), f"The definitions are not those of {SNAPSHOT.name}. {remedy}"


def test_the_code_location_validates_through_the_workspace_file() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("dagster"), "definitions", "validate", "-w", "workspace.yaml"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "Validation successful" in done.stdout + done.stderr


def test_dagster_maps_each_partition_to_those_that_the_body_reads(
    definitions: dg.Definitions, workspace: Workspace
) -> None:
    """One declaration, two readings: lineage and staleness follow Dagster's, the refusal follows the calendar's.

    On both sides of a week's end, in a week cut short by the first day, and on days whose week has nothing before it.
    """
    graph = definitions.resolve_asset_graph()
    start = workspace.calendar.start
    days = [start, *(start + timedelta(days=k) for k in (1, 6, 7, 8, 14, 15, 16)), date(2017, 6, 11), date(2017, 6, 12)]
    weeks = [workspace.calendar.first_week, workspace.calendar.first_week + timedelta(days=7), date(2017, 6, 5)]
    for name, reads in workspace.reads.items():
        below = graph.get(workspace.key(name))
        for upstream, lookbacks in reads.items():
            above = graph.get(workspace.key(upstream))
            mapping = below.partition_mappings[workspace.key(upstream)]
            for key in weeks if workspace.is_weekly(name) else days:
                assert below.partitions_def and above.partitions_def
                asked = mapping.get_upstream_mapped_partitions_result_for_partitions(
                    below.partitions_def.subset_with_partition_keys([key.isoformat()]),
                    below.partitions_def, above.partitions_def,
                )  # fmt: skip
                needed = {
                    day.isoformat()
                    for lookback in ((lookbacks,) if isinstance(lookbacks, Lookback) else lookbacks)
                    for day in workspace.calendar.upstream(lookback, key)
                }
                assert set(asked.partitions_subset.get_partition_keys()) == needed, f"{name} of {key} reads {upstream}"


# ── the description ───────────────────────────────────────────────────────────────────────────────────────────────


def described(definitions: dg.Definitions) -> dict[str, Any]:
    graph = definitions.resolve_asset_graph()
    repository = definitions.get_repository_def()
    return {
        "assets": {key.to_user_string(): _asset(graph.get(key)) for key in graph.toposorted_asset_keys},
        "jobs": {
            job.name: {
                "partitions": _partitions(job.partitions_def),
                "selection": sorted(key.path[-1] for key in job.asset_layer.selected_asset_keys),
            }
            for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
            if not job.name.startswith("__")
        },
        "schedules": {
            schedule.name: {
                "job": schedule.job_name,
                "cron": schedule.cron_schedule,
                "time_zone": schedule.execution_timezone,
                "status": schedule.default_status.value,
            }
            for schedule in sorted(repository.schedule_defs, key=lambda schedule: schedule.name)
        },
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
    }


def _asset(node: Any) -> dict[str, Any]:
    mappings = node.partition_mappings
    return {
        "group": node.group_name,
        "partitions": _partitions(node.partitions_def),
        "kinds": sorted(tag.rpartition("/")[2] for tag in node.tags if tag.startswith("dagster/kind/")),
        "owners": list(node.owners),
        "code_version": node.code_version,
        "runs": "a range in one run" if node.backfill_policy == dg.BackfillPolicy.single_run() else "a run a partition",
        "deps": {key.path[-1]: _mapping(mapping) for key, mapping in sorted(mappings.items())},
        "checks": sorted(check.name for check in node.check_keys),
    }


def _partitions(partitions: Any) -> str:
    assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
    keys = partitions.get_partition_keys()
    assert partitions.schedule_type is not None
    return f"{partitions.schedule_type.value.lower()}, {keys[0]} … {keys[-1]}, {partitions.timezone}"


def _mapping(mapping: dg.PartitionMapping) -> str:
    assert isinstance(mapping, dg.TimeWindowPartitionMapping)
    span = f"{mapping.start_offset} … {mapping.end_offset}"
    return span + (", clipped" if mapping.allow_nonexistent_upstream_partitions else "")

"""The sensor that keeps the lake in line with its sources: off until switched on.

It compares the sources with what was ingested from them, and requests one run at a time for what is stale, in the order
of the chain. Belongs here: when to request a run. Does not belong here: what is stale (`staleness`) and which runs
rebuild it (`planning`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import dagster as dg

from microseg_assets.orchestration.dead_runs import report_dead_runs
from microseg_assets.planning.plan import PlannedRun, plan_stale
from microseg_assets.planning.staleness import AssetStatus, statuses
from microseg_assets.sources import list_days
from microseg_assets.storage.ingest_log import Comparison, compare
from microseg_assets.workspace import Workspace

INTERVAL_SECONDS = 900  # each tick reads every source in full

_ACTIVE = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip


def sensors(workspace: Workspace, jobs: Sequence[dg.UnresolvedAssetJobDefinition]) -> list[dg.SensorDefinition]:
    """`<project>_refresh`, which rebuilds what has become stale through late rows or reruns."""
    project = workspace.project.name
    wanted = {f"{project}_{name}" for name in ("to_features", "weekly", "from_value")}

    @dg.sensor(
        name=f"{project}_refresh",
        jobs=[job for job in jobs if job.name in wanted],
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Rebuilds what is stale: days whose source now has late or corrected rows, and everything made from data "
            "that has changed since. One run at a time, in the order of the chain."
        ),
    )
    def refresh(context):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
        report_dead_runs(context.instance)  # otherwise, a run whose process was killed would count as active forever
        if any(_is_of(run, workspace) for run in context.instance.get_runs(dg.RunsFilter(statuses=_ACTIVE))):
            return dg.SkipReason("a run of this project is in progress")
        sources = compare(workspace)
        asset_statuses = statuses(workspace, sources)
        runs = plan_stale(workspace, asset_statuses)
        if not runs:
            unreadable = "; ".join(f"{table}: {problem}" for table, problem in sources.unreadable)
            return dg.SkipReason(f"nothing is stale{f' ({unreadable})' if unreadable else ''}")
        return dg.RunRequest(
            run_key=_run_key(workspace, runs[0], asset_statuses, sources),
            job_name=f"{project}_{runs[0].job}",
            asset_selection=[workspace.key(name) for name in runs[0].assets],
            tags={**runs[0].tags, "microseg/why": _reason(sources, runs[0])},
        )

    return [refresh]


def _is_of(run: dg.DagsterRun, workspace: Workspace) -> bool:
    """Whether a run belongs to a project: through its job, or through the assets it selects."""
    project = workspace.project.name
    chosen = any(key.path[0] == project for key in run.asset_selection or ())
    return chosen or run.tags.get("microseg/project") == project or run.job_name.startswith(f"{project}_")


def _reason(sources: Comparison, run: PlannedRun) -> str:
    if not sources.changes:
        return run.why
    return f"{run.why}: {sources.changes[0].table} {list_days(sources.changes)}"


def _run_key(workspace: Workspace, run: PlannedRun, asset_statuses: Sequence[AssetStatus], sources: Comparison) -> str:
    """A digest of the run and of its inputs, so that a failed run is not requested again until an input has changed.

    What the run itself makes does not count: it may have made some of it before it failed.
    """
    digest = hashlib.sha256(repr((run, sources.changes)).encode())
    for status in asset_statuses:
        if status.asset in run.assets:
            for upstream in sorted(set(workspace.reads[status.asset]) - set(run.assets)):
                stamps = workspace.partitions(upstream).stamps()
                digest.update(repr(sorted((key, stamp.changed) for key, stamp in stamps.items())).encode())
    return digest.hexdigest()[:16]

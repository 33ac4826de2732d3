"""The sensor that keeps days as their sources have them: off until switched on.

It compares the sources with what was taken in from them, and asks for one run at a time of what is stale, in order.
Belongs here: when to ask. Does not belong here: what is stale (`staleness`) and which runs make it anew (`planning`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import dagster as dg

from microseg_assets.orchestration.dead_runs import report_dead_runs
from microseg_assets.planning.plan import PlannedRun, plan_stale
from microseg_assets.planning.staleness import AssetStatus, statuses
from microseg_assets.sources import days_told
from microseg_assets.storage.ingest_log import Comparison, compare
from microseg_assets.workspace import Workspace

EVERY_SECONDS = 900  # a look reads every source through

_AT_WORK = [
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
]  # fmt: skip


def sensors(workspace: Workspace, jobs: Sequence[dg.UnresolvedAssetJobDefinition]) -> list[dg.SensorDefinition]:
    """`<project>_refresh`: what has become stale, by late rows or by a rerun, is made anew."""
    project = workspace.project.name
    wanted = {f"{project}_{name}" for name in ("to_features", "weekly", "from_value")}

    @dg.sensor(
        name=f"{project}_refresh",
        jobs=[job for job in jobs if job.name in wanted],
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Makes anew what is stale: days whose source has come to hold late or corrected rows, and what was made "
            "from anything that has changed since. One run at a time, in the order of the chain."
        ),
    )
    def refresh(context):  # type: ignore[no-untyped-def]  # Dagster refuses annotations that are strings
        report_dead_runs(context.instance)  # a run whose process was killed is at work for good otherwise
        if any(_is_of(run, workspace) for run in context.instance.get_runs(dg.RunsFilter(statuses=_AT_WORK))):
            return dg.SkipReason("a run of this project is at work")
        sources = compare(workspace)
        found = statuses(workspace, sources)
        runs = plan_stale(workspace, found)
        if not runs:
            unreadable = "; ".join(f"{table}: {why}" for table, why in sources.unreadable)
            return dg.SkipReason(f"nothing is stale{f' ({unreadable})' if unreadable else ''}")
        return dg.RunRequest(
            run_key=_state(workspace, runs[0], found, sources),
            job_name=f"{project}_{runs[0].job}",
            asset_selection=[workspace.key(name) for name in runs[0].assets],
            tags={**runs[0].tags, "microseg/why": _why(sources, runs[0])},
        )

    return [refresh]


def _is_of(run: dg.DagsterRun, workspace: Workspace) -> bool:
    """Whether a run is of a project: of one of its jobs, or of assets chosen by hand."""
    project = workspace.project.name
    chosen = any(key.path[0] == project for key in run.asset_selection or ())
    return chosen or run.tags.get("microseg/project") == project or run.job_name.startswith(f"{project}_")


def _why(sources: Comparison, run: PlannedRun) -> str:
    if not sources.changes:
        return run.why
    return f"{run.why}: {sources.changes[0].table} {days_told(sources.changes)}"


def _state(workspace: Workspace, run: PlannedRun, found: Sequence[AssetStatus], sources: Comparison) -> str:
    """A key of what is asked for and of what it would be made from: a run that failed is not asked for again until
    something has changed. What the run makes itself does not count: it may have got so far before it failed."""
    digest = hashlib.sha256(repr((run, sources.changes)).encode())
    for one in found:
        if one.asset in run.assets:
            for upstream in sorted(set(workspace.reads[one.asset]) - set(run.assets)):
                stamps = workspace.partitions(upstream).stamps()
                digest.update(repr(sorted((key, stamp.changed) for key, stamp in stamps.items())).encode())
    return digest.hexdigest()[:16]

"""Executing planned runs through Dagster in this process.

Belongs here: handing a run to Dagster, and the reason if it failed. Does not belong here: which runs (see `planning`),
and runs whose process is gone (see `dead_runs`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from microseg_assets import project as projects
from microseg_assets.build import build_defs
from microseg_assets.home import Home
from microseg_assets.orchestration.dead_runs import tags_of_this_process
from microseg_assets.planning.plan import PlannedRun

if TYPE_CHECKING:
    from dagster import DagsterInstance


class RunFailed(RuntimeError):
    """A run failed; the message is that of the failed step."""


def job_of(project: str, home: str, job: str) -> dg.JobDefinition:
    """A job of a project, for Dagster to rebuild by name."""
    return build_defs(projects=[project], home=Home(Path(home))).resolve_job_def(job)


def execute(run: PlannedRun, project_path: str, home: Home, instance: DagsterInstance) -> float:
    """Execute one planned run through Dagster in this process; returns the seconds it took.

    Raises
    ------
    RunFailed
        With the message of the failed step.
    """
    name = projects.load(project_path).name
    arguments: Any = (project_path, str(home.folder), f"{name}_{run.job}")
    job = dg.build_reconstructable_job("microseg_assets.runs", "job_of", arguments)
    selected = [dg.AssetKey([name, asset]) for asset in run.assets] or None
    started = time.perf_counter()
    result = dg.execute_job(
        job,
        instance=instance,
        asset_selection=selected,
        tags={**run.tags, **tags_of_this_process()},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    if not result.success:
        raise RunFailed(_failure_message(instance, result.run_id))
    return time.perf_counter() - started


def _failure_message(instance: DagsterInstance, run_id: str) -> str:
    """The message of the first step that failed."""
    for entry in instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}):
        event = entry.dagster_event
        data = event.event_specific_data if event else None
        failure = getattr(data, "user_failure_data", None)
        if failure is not None and failure.description:
            return str(failure.description)
        error = getattr(data, "error", None)
        if error is not None:
            cause = error
            while cause.cause is not None:
                cause = cause.cause
            if "DagsterExecutionInterruptedError" in cause.message:
                return "stopped before the end. What has been written stays; the same command continues from there"
            return f"{event.step_key or 'the run'}: {cause.message.strip()}" if event else cause.message.strip()
    return f"run {run_id} failed; the Dagster UI shows why"

"""Executing planned runs through Dagster in this process, and what became of runs whose process is gone.

Belongs here: handing a run to Dagster and telling why it failed. Does not belong here: which runs (see `planning`).
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from microseg_assets import project as projects
from microseg_assets.build import build_chain, build_defs
from microseg_assets.chain import Chain
from microseg_assets.home import Home
from microseg_assets.planning import PlannedRun

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

PID_TAG, HOST_TAG = "microseg/pid", "microseg/host"


class RunFailed(RuntimeError):
    """A run ended without success; the message is what the failed step said."""


def job_of(project: str, home: str, job: str) -> dg.JobDefinition:
    """A job of a project, for Dagster to rebuild by name."""
    return build_defs(projects=[project], home=Home(Path(home))).resolve_job_def(job)


def execute(run: PlannedRun, project_path: str, home: Home, instance: DagsterInstance) -> float:
    """Execute one planned run through Dagster in this process; returns the seconds it took.

    Raises
    ------
    RunFailed
        With what the failed step said.
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
        tags={
            **run.tags,
            PID_TAG: str(os.getpid()),
            HOST_TAG: socket.gethostname(),
        },
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    if not result.success:
        raise RunFailed(_what_failed(instance, result.run_id))
    return time.perf_counter() - started


def _what_failed(instance: DagsterInstance, run_id: str) -> str:
    """The sentence of the first step that failed."""
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
                return "stopped before the end. What is there stays; the same command goes on from it"
            return f"{event.step_key or 'the run'}: {cause.message.strip()}" if event else cause.message.strip()
    return f"run {run_id} failed; the Dagster UI shows why"


def report_dead_runs(instance: DagsterInstance) -> list[str]:
    """Report runs as failed whose process on this machine is gone: a killed process cannot do so itself."""
    open_states = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.NOT_STARTED]
    dead = [
        run
        for run in instance.get_runs(dg.RunsFilter(statuses=open_states, tags={HOST_TAG: socket.gethostname()}))
        if not _is_alive(run)
    ]
    for run in dead:
        instance.report_run_failed(run, "the process that executed this run is gone")
    return [run.run_id for run in dead]


def _is_alive(run: DagsterRun) -> bool:
    pid = int(run.tags.get(PID_TAG, 0))
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def chain_of(project: str, home: Home) -> Chain:
    """A project's chain with every asset declared, for questions about what is there."""
    from microseg_assets.assets import assets

    chain = build_chain(projects.load(project), home=home)
    assets(chain)
    return chain

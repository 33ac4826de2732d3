"""Which Dagster runs make the days somebody asks for, and their execution in this process.

Three range runs at most for an unbroken span: ingest to features, the training weeks that serve the days, value to
atlas. Never daily and weekly assets in one range run. Dagster executes and records each; this module only orders them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from microseg_assets import project as projects
from microseg_assets.build import build_chain, build_defs
from microseg_assets.chain import Chain
from microseg_assets.home import Home
from microseg_assets.partitions import WEEK

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

PID_TAG, HOST_TAG = "microseg/pid", "microseg/host"


class RunFailed(RuntimeError):
    """A run ended without success; the message is what the failed step said."""


@dataclass(frozen=True)
class PlannedRun:
    """One range run of one job, over days or weeks."""

    job: str
    first: date
    last: date
    partitions: int
    unit: str
    why: str


def plan(chain: Chain, first: date, last: date, *, only_missing: bool = False) -> list[PlannedRun]:
    """The runs that make every daily asset of `first` … `last`, and the training weeks that end there, in order.

    Parameters
    ----------
    only_missing : leave out what is already there

    Raises
    ------
    ValueError
        If the days lie outside of the project's calendar.
    """
    calendar = chain.calendar
    if last < first:
        raise ValueError(f"the last day {last} lies before the first day {first}: swap them")
    if first < calendar.start or last > calendar.newest_day:
        newest = "its end" if calendar.newest_day == calendar.end else "the last day that has ended"
        raise ValueError(
            f"{first} … {last} does not lie between the project's start {calendar.start} and {newest} "
            f"{calendar.newest_day}: choose days between them"
        )
    featured = _made(chain, "customer_features")
    there = _made(chain, "segment_atlas") & featured
    before = [day for day in there if day < first]
    start = max(before) + timedelta(days=1) if before else first
    days = [d for d in calendar.days(start, last) if not only_missing or d not in there]
    if not days:
        return []
    runs = []
    to_features = [
        d for d in calendar.days(calendar.start, last) if d not in featured or (not only_missing and d >= first)
    ]
    runs += _ranges(chain, "to_features", to_features, "day", "what happened, and what is known of each customer")
    again = [] if only_missing else [w for w in map(calendar.week_ending, days) if w]
    weeks = sorted({*_weeks(chain, days), *again})
    runs += _ranges(chain, "weekly", weeks, "week", "the models in force on these days")
    runs += _ranges(chain, "from_value", days, "day", "value, stages, segments, journeys, actions, atlas")
    return runs


def _made(chain: Chain, asset: str) -> set[date]:
    stored = chain.stored[asset]
    return {date.fromisoformat(key) for key in chain.lake.keys(stored.table, **stored.fixed)}


def _weeks(chain: Chain, days: Sequence[date]) -> list[date]:
    """Training weeks that serve `days` or end with them and are not there, with any gap since the last one that is."""
    serving = chain.calendar.weeks_serving([*days, days[-1] + timedelta(days=1)])
    if not serving:
        return []
    families = [name for name in chain.stored if chain.is_weekly(name)]
    there = set.intersection(*(_made(chain, name) for name in families))
    before = [week for week in there if week < serving[0]]
    first = max(before) + WEEK if before else serving[0]
    count = (serving[-1] - first).days // 7 + 1
    return [week for i in range(count) if (week := first + i * WEEK) not in there]


def _ranges(chain: Chain, job: str, keys: Sequence[date], unit: str, why: str) -> list[PlannedRun]:
    """Unbroken runs of `keys` as range runs."""
    step = WEEK if unit == "week" else timedelta(days=1)
    found: list[PlannedRun] = []
    for key in sorted(keys):
        if found and key - found[-1].last == step:
            found[-1] = PlannedRun(job, found[-1].first, key, found[-1].partitions + 1, unit, why)
        else:
            found.append(PlannedRun(job, key, key, 1, unit, why))
    return found


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
    started = time.perf_counter()
    result = dg.execute_job(
        job,
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": run.first.isoformat(),
            "dagster/asset_partition_range_end": run.last.isoformat(),
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

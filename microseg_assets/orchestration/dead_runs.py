"""Runs whose process is gone: a killed process cannot report its own failure.

Belongs here: the tags that tie a run to its process, and finding runs whose process has ended. Does not belong here:
executing runs (see `runs`).
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster import DagsterInstance, DagsterRun

PID_TAG, HOST_TAG = "microseg/pid", "microseg/host"


def tags_of_this_process() -> dict[str, str]:
    """The tags that tie a run to this process."""
    return {PID_TAG: str(os.getpid()), HOST_TAG: socket.gethostname()}


def report_dead_runs(instance: DagsterInstance) -> list[str]:
    """Report runs as failed if their process on this machine is gone; returns their ids."""
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

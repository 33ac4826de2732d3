"""Materializing days from the command line, with progress."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import click

from microseg_assets import progress
from microseg_assets.build import load_workspace
from microseg_assets.cli.status import missing_customers
from microseg_assets.home import Home
from microseg_assets.orchestration.dead_runs import report_dead_runs
from microseg_assets.planning.plan import PlannedRun, plan, plan_stale
from microseg_assets.planning.staleness import statuses
from microseg_assets.project import find, remember
from microseg_assets.runs import execute
from microseg_assets.sources import SourceError, list_days
from microseg_assets.storage.ingest_log import compare
from microseg_assets.workspace import Workspace

MAX_ROUNDS = 5  # rounds of rebuilding: a rebuilt day can make others stale
MAX_REMARKS = 5  # remarks printed for an asset
MIN_UPDATE_SECONDS = 0.2  # between updates of the live line
BEAT_SECONDS = 1.0  # after which the live line is written again if nothing has happened
MAX_SILENT_SECONDS = 10.0  # after which a line is written where there is no terminal


class Printer:
    """One line per asset when it is done; on a terminal also a live line for the asset at work.

    Parameters
    ----------
    log : file that gets every remark on assets, also those that are too many for a terminal
    """

    def __init__(self, log: Path | None = None) -> None:
        self.log = log
        self.live = sys.stderr.isatty()
        self.seconds: dict[str, float] = {}
        self._shown = 0.0
        self._remarks: dict[str, list[str]] = {}
        self._current: tuple[str, int, int] | None = None  # the asset at work, its finished partitions, and all of them
        self._doing = ""
        self._since = self._printed = time.monotonic()
        self._over = threading.Event()

    @contextmanager
    def alive(self) -> Iterator[Printer]:
        """Keep printing what is at work, and for how long, while an asset reports nothing."""
        beat = threading.Thread(target=self._beat, daemon=True)
        beat.start()
        try:
            yield self
        finally:
            self._over.set()
            beat.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            silent = time.monotonic() - (self._shown if self.live else self._printed)
            if self.live and silent > BEAT_SECONDS:
                self._show()
            elif not self.live and silent > MAX_SILENT_SECONDS:
                self._printed = time.monotonic()
                click.echo(f"    … {self._status()}", err=True)

    def _status(self) -> str:
        seconds = time.monotonic() - self._since
        if self._current is None:
            return f"{'Dagster':24} {seconds:.0f} s"
        asset, partitions, of = self._current
        filled = 24 * partitions // max(of, 1)
        doing = f"  {self._doing}" if self._doing else ""
        return f"{asset:24} {'█' * filled}{'·' * (24 - filled)} {partitions}/{of}  {seconds:.0f} s{doing}"

    def _show(self) -> None:
        self._shown = time.monotonic()
        width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be overwritten
        click.echo(f"\r{f'    {self._status()}'[:width]}\033[K", nl=False, err=True)

    def say(self, line: str) -> None:
        """Print a line."""
        self._printed = time.monotonic()
        clear = "\r\033[K" if self.live else ""
        click.echo(f"{clear}{line}", err=True)

    def _switch_to(self, current: tuple[str, int, int] | None) -> None:
        self._current, self._since, self._doing = current, time.monotonic(), ""

    def begin(self, asset: str, total: int) -> None:
        self._switch_to((asset, 0, total))
        if self.live:
            self._show()

    def notify(self, asset: str, message: str) -> None:
        self._remarks.setdefault(asset, []).append(message)

    def set_activity(self, asset: str, activity: str) -> None:
        self._doing = activity
        if self.live:
            self._show()

    def advance(self, asset: str, partitions: int, total: int) -> None:
        self._current, self._doing = (asset, partitions, total), ""
        if self.live and time.monotonic() - self._shown > MIN_UPDATE_SECONDS:
            self._show()

    def finish(self, asset: str, partitions: int, seconds: float) -> None:
        self.seconds[asset] = self.seconds.get(asset, 0.0) + seconds
        self._switch_to(None)
        self.say(f"    {asset:24} {partitions:>4} partition{'s' if partitions != 1 else ' '} {seconds:6.1f} s")
        remarks = self._remarks.pop(asset, [])
        for text in remarks[:MAX_REMARKS]:
            click.echo(f"      {text}", err=True)
        if self.log is not None and remarks:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.writelines(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {asset}: {text}\n" for text in remarks)
        if len(remarks) > MAX_REMARKS:
            log = f": {self.log}" if self.log is not None else ""
            click.echo(f"      … and {len(remarks) - MAX_REMARKS:,} more like these{log}", err=True)


def materialize(project: str, first: date, last: date, home: Home, *, only_missing: bool = False) -> dict[str, float]:
    """Execute the runs that build the days; returns the seconds of each run by its title.

    Raises
    ------
    SourceError, ProjectError, RunFailed
        Before anything is written, or with the message of the failed step.
    """
    workspace = _checked(project, home)
    try:
        runs = plan(workspace, first, last, only_missing=only_missing)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _report_late(workspace, first, last)
    if not runs:
        click.echo("  Everything is there already.", err=True)
    if only_missing and any(asset.stale for asset in statuses(workspace)):
        remedy = "`microseg status` says why, `microseg run --stale` rebuilds it"
        project_option = f"--project {workspace.project.reference}"
        click.echo(f"  warning: some of what is there is stale: {remedy} ({project_option})", err=True)
    return _execute(workspace, runs, home)


def refresh(project: str, home: Home) -> dict[str, float]:
    """Execute the runs that rebuild what is stale; returns the seconds of each run by its title.

    Raises
    ------
    SourceError, ProjectError, RunFailed
        Before anything is written, or with the message of the failed step.
    """
    workspace = _checked(project, home)
    sources = compare(workspace)
    for table, why in sources.unreadable:
        raise SourceError(f"nothing can be ingested from {table} as it is: {why}")
    for table in workspace.project.inputs:
        if late := sources.of(table):
            click.echo(f"  {table}: the source has changed on {list_days(late)}", err=True)
    for line in missing_customers(workspace, sources, after="this run"):
        click.echo(f"  {line}", err=True)
    took: dict[str, float] = {}
    for _ in range(MAX_ROUNDS):  # an id that a day accepts, or loses, decides on rows of later days
        runs = plan_stale(workspace, statuses(workspace, sources))
        if not runs:
            break
        took |= _execute(workspace, runs, home)
        sources = compare(workspace)
    if not took:
        click.echo("  Nothing is stale.", err=True)
    return took


def _checked(project: str, home: Home) -> Workspace:
    """The workspace of a project whose sources can be read; their warnings are printed."""
    workspace = load_workspace(str(find(project).absolute()), home)
    problems = [p for source in workspace.sources.values() if source is not None for p in source.check()]
    if errors := [p for p in problems if p.is_error]:
        raise SourceError("\n".join(workspace.project.located(f"tables.{p.key}", p.message) for p in errors))
    for warning in (problem for problem in problems if problem.severity == "warning"):
        click.echo(f"  warning: {workspace.project.located(f'tables.{warning.key}', warning.message)}", err=True)
    return workspace


def _report_late(workspace: Workspace, first: date, last: date) -> None:
    """Report the days, apart from those to be built, whose source has changed since they were ingested."""
    sources = compare(workspace)
    for table in workspace.project.inputs:
        if late := [change for change in sources.of(table) if not first <= change.day <= last]:
            click.echo(
                f"  {table}: since it was ingested, the source has changed on {list_days(late)}. Rebuild these days, "
                f"and what depends on them, with: microseg run --project {workspace.project.reference} --stale",
                err=True,
            )


def _execute(workspace: Workspace, runs: Sequence[PlannedRun], home: Home) -> dict[str, float]:
    from dagster import DagsterInstance

    home.prepare()
    remember(workspace.project.name, workspace.project.path, home.folder)
    if missing := workspace.project.missing_tables():
        click.echo(f"  Switched off (not in the project file): {', '.join(missing)}.", err=True)
    took: dict[str, float] = {}
    printer = Printer(home.log(workspace.project.name))
    with DagsterInstance.get() as instance, progress.watched_by(printer), printer.alive():
        report_dead_runs(instance)
        for number, run in enumerate(runs, 1):
            title = _title(run)
            printer.say(f"  [{number}/{len(runs)}] {title}: {run.why}")
            took[title] = took.get(title, 0.0) + execute(run, str(workspace.project.path), home, instance)
    return took


def _title(run: PlannedRun) -> str:
    span = f"{run.first}" if run.partitions == 1 else f"{run.partitions} {run.unit}s, {run.first} … {run.last}"
    names = {"to_features": "ingest to features", "weekly": "training", "from_value": "value to atlas"}
    name = names[run.job]
    if run.job == "to_features" and run.assets:
        name = "features" if "customer_days" not in run.assets else "ingest to facts"
    return f"{name} ({span})"

"""Materializing days from the command line, with progress for whoever waits."""

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
from microseg_assets.sources import SourceError, days_told
from microseg_assets.storage.ingest_log import compare
from microseg_assets.workspace import Workspace
from ml import tables

ROUNDS = 5  # of making anew what has become stale by making something anew
TOLD = 5  # lines about an asset, at most
LIVE_EVERY = 0.2  # seconds between updates of the line of the asset at work
BEAT = 1.0  # seconds after which it is written again where nothing has happened
QUIET = 10.0  # seconds after which a line says so where there is no terminal


class Printer:
    """One line per asset when it is done; on a terminal also a live line for the one at work.

    Parameters
    ----------
    log : where everything goes that is said of assets, also what is too much for a terminal
    """

    def __init__(self, log: Path | None = None) -> None:
        self.log = log
        self.live = sys.stderr.isatty()
        self.seconds: dict[str, float] = {}
        self._shown = 0.0
        self._told: dict[str, list[str]] = {}
        self._at: tuple[str, int, int] | None = None  # the asset at work, its partitions in place, and all of them
        self._doing = ""
        self._since = self._said = time.monotonic()
        self._over = threading.Event()

    @contextmanager
    def alive(self) -> Iterator[Printer]:
        """Meanwhile a line tells that something is at work, and for how long, however long an asset is silent."""
        beat = threading.Thread(target=self._beat, daemon=True)
        beat.start()
        try:
            yield self
        finally:
            self._over.set()
            beat.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            silent = time.monotonic() - (self._shown if self.live else self._said)
            if self.live and silent > BEAT:
                self._show()
            elif not self.live and silent > QUIET:
                self._said = time.monotonic()
                click.echo(f"    … {self._line()}", err=True)

    def _line(self) -> str:
        seconds = time.monotonic() - self._since
        if self._at is None:
            return f"{'Dagster':24} {seconds:.0f} s"
        asset, partitions, of = self._at
        filled = 24 * partitions // max(of, 1)
        doing = f"  {self._doing}" if self._doing else ""
        return f"{asset:24} {'█' * filled}{'·' * (24 - filled)} {partitions}/{of}  {seconds:.0f} s{doing}"

    def _show(self) -> None:
        self._shown = time.monotonic()
        width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be overwritten
        click.echo(f"\r{f'    {self._line()}'[:width]}\033[K", nl=False, err=True)

    def say(self, line: str) -> None:
        """A line of its own."""
        self._said = time.monotonic()
        clear = "\r\033[K" if self.live else ""
        click.echo(f"{clear}{line}", err=True)

    def _now(self, at: tuple[str, int, int] | None) -> None:
        """Something else is at work."""
        self._at, self._since, self._doing = at, time.monotonic(), ""

    def begin(self, asset: str, total: int) -> None:
        self._now((asset, 0, total))
        if self.live:
            self._show()

    def notify(self, asset: str, message: str) -> None:
        self._told.setdefault(asset, []).append(message)

    def set_activity(self, asset: str, activity: str) -> None:
        self._doing = activity
        if self.live:
            self._show()

    def advance(self, asset: str, partitions: int, total: int) -> None:
        self._at, self._doing = (asset, partitions, total), ""
        if self.live and time.monotonic() - self._shown > LIVE_EVERY:
            self._show()

    def finish(self, asset: str, partitions: int, seconds: float) -> None:
        self.seconds[asset] = self.seconds.get(asset, 0.0) + seconds
        self._now(None)
        self.say(f"    {asset:24} {partitions:>4} partition{'s' if partitions != 1 else ' '} {seconds:6.1f} s")
        told = self._told.pop(asset, [])
        for text in told[:TOLD]:
            click.echo(f"      {text}", err=True)
        if self.log is not None and told:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.writelines(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z {asset}: {text}\n" for text in told)
        if len(told) > TOLD:
            where = f": {self.log}" if self.log is not None else ""
            click.echo(f"      … and {len(told) - TOLD:,} more like these{where}", err=True)


def materialize(project: str, first: date, last: date, home: Home, *, only_missing: bool = False) -> dict[str, float]:
    """Execute the runs that make the days; returns the seconds of each run by its title.

    Raises
    ------
    SourceError, ProjectError, RunFailed
        Before anything is written, or with what the failed step said.
    """
    workspace = _checked(project, home)
    try:
        runs = plan(workspace, first, last, only_missing=only_missing)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _tell_late(workspace, first, last)
    if not runs:
        click.echo("  Everything is there already.", err=True)
    if only_missing and any(one.stale for one in statuses(workspace)):
        said = "some of what is there is stale: `microseg status` says why, `microseg run --stale` makes it anew"
        click.echo(f"  warning: {said} (--project {workspace.project.reference})", err=True)
    return _execute(workspace, runs, home)


def refresh(project: str, home: Home) -> dict[str, float]:
    """Execute the runs that make anew what is stale; returns the seconds of each run by its title.

    Raises
    ------
    SourceError, ProjectError, RunFailed
        Before anything is written, or with what the failed step said.
    """
    workspace = _checked(project, home)
    sources = compare(workspace)
    for table, why in sources.unreadable:
        raise SourceError(f"as it is, nothing can be taken in of {table}: {why}")
    for table in tables.INPUTS:
        if late := sources.of(table):
            click.echo(f"  {table}: the source has changed on {days_told(late)}", err=True)
    for line in missing_customers(workspace, sources, after="this run"):
        click.echo(f"  {line}", err=True)
    took: dict[str, float] = {}
    for _ in range(ROUNDS):  # an id that a day has come to accept, or to lose, decides on rows of later days
        runs = plan_stale(workspace, statuses(workspace, sources))
        if not runs:
            break
        took |= _execute(workspace, runs, home)
        sources = compare(workspace)
    if not took:
        click.echo("  Nothing is stale.", err=True)
    return took


def _checked(project: str, home: Home) -> Workspace:
    """The workspace of a project whose sources can be read; their warnings are told."""
    workspace = load_workspace(str(find(project).absolute()), home)
    problems = [p for source in workspace.sources.values() if source is not None for p in source.check()]
    if errors := [p for p in problems if p.is_error]:
        raise SourceError("\n".join(workspace.project.located(f"tables.{p.key}", p.message) for p in errors))
    for warning in (problem for problem in problems if problem.severity == "warning"):
        click.echo(f"  warning: {workspace.project.located(f'tables.{warning.key}', warning.message)}", err=True)
    return workspace


def _tell_late(workspace: Workspace, first: date, last: date) -> None:
    """Say which days outside of those to be made hold something else in their source than was taken in."""
    sources = compare(workspace)
    for table in tables.INPUTS:
        if late := [change for change in sources.of(table) if not first <= change.day <= last]:
            click.echo(
                f"  {table}: since it was taken in, the source has changed on {days_told(late)}. Make these days and "
                f"what depends on them anew with: microseg run --project {workspace.project.reference} --stale",
                err=True,
            )


def _execute(workspace: Workspace, runs: Sequence[PlannedRun], home: Home) -> dict[str, float]:
    from dagster import DagsterInstance

    home.prepare()
    remember(workspace.project.name, workspace.project.path, home.folder)
    if missing := workspace.project.missing_tables():
        click.echo(f"  No {', '.join(missing)}: what needs them is switched off.", err=True)
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
    return f"{names[run.job]} ({span})"

"""Materializing days from the command line, with progress for whoever waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import date

import click

from microseg_assets import progress
from microseg_assets.chain import Chain
from microseg_assets.finding import find, remember
from microseg_assets.home import Home
from microseg_assets.planning import PlannedRun, plan, plan_stale
from microseg_assets.runs import chain_of, execute, report_dead_runs
from microseg_assets.sources import SourceError, days_told
from microseg_assets.status import statuses
from microseg_assets.taken_in import compare
from ml import tables

ROUNDS = 5  # of making anew what has become stale by making something anew
TOLD = 5  # lines about an asset, at most
LIVE_EVERY = 0.2  # seconds between updates of the line of the asset at work


class Printer:
    """One line per asset when it is done; on a terminal also a live line for the one at work."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.seconds: dict[str, float] = {}
        self._shown = 0.0
        self._told: dict[str, list[str]] = {}

    def tell(self, asset: str, text: str) -> None:
        self._told.setdefault(asset, []).append(text)

    def advance(self, asset: str, partitions: int, of: int) -> None:
        if self.live and time.monotonic() - self._shown > LIVE_EVERY:
            self._shown = time.monotonic()
            filled = 24 * partitions // max(of, 1)
            click.echo(
                f"\r    {asset:24} {'█' * filled}{'·' * (24 - filled)} {partitions}/{of}\033[K", nl=False, err=True
            )

    def done(self, asset: str, partitions: int, seconds: float) -> None:
        self.seconds[asset] = self.seconds.get(asset, 0.0) + seconds
        clear = "\r\033[K" if self.live else ""
        click.echo(
            f"{clear}    {asset:24} {partitions:>4} partition{'s' if partitions != 1 else ' '} {seconds:6.1f} s",
            err=True,
        )
        told = self._told.pop(asset, [])
        for text in told[:TOLD]:
            click.echo(f"      {text}", err=True)
        if len(told) > TOLD:
            click.echo(f"      … and {len(told) - TOLD:,} more like these", err=True)


def materialize(project: str, first: date, last: date, home: Home, *, only_missing: bool = False) -> dict[str, float]:
    """Execute the runs that make the days; returns the seconds of each run by its title.

    Raises
    ------
    SourceError, ProjectError, RunFailed
        Before anything is written, or with what the failed step said.
    """
    chain = _checked(project, home)
    try:
        runs = plan(chain, first, last, only_missing=only_missing)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    _tell_late(chain, first, last)
    if not runs:
        click.echo("  Everything is there already.", err=True)
    if only_missing and any(one.stale for one in statuses(chain)):
        said = "some of what is there is stale: `microseg status` says why, `microseg run --stale` makes it anew"
        click.echo(f"  warning: {said} (--project {chain.project.reference})", err=True)
    return _execute(chain, runs, home)


def refresh(project: str, home: Home) -> dict[str, float]:
    """Execute the runs that make anew what is stale; returns the seconds of each run by its title.

    Raises
    ------
    SourceError, ProjectError, RunFailed
        Before anything is written, or with what the failed step said.
    """
    chain = _checked(project, home)
    sources = compare(chain)
    for table, why in sources.unreadable:
        raise SourceError(f"{table} could not be compared with its source: {why}")
    for table in tables.INPUTS:
        if late := sources.of(table):
            click.echo(f"  {table}: the source has changed on {days_told(late)}", err=True)
    if count := len(sources.removed):
        people = "1 customer is" if count == 1 else f"{count:,} customers are"
        click.echo(f"  {people} in no source any more, and will be in no table", err=True)
    took: dict[str, float] = {}
    for _ in range(ROUNDS):  # an id that a day has come to accept, or to lose, decides on rows of later days
        runs = plan_stale(chain, statuses(chain, sources))
        if not runs:
            break
        took |= _execute(chain, runs, home)
        sources = compare(chain)
    if not took:
        click.echo("  Nothing is stale.", err=True)
    return took


def _checked(project: str, home: Home) -> Chain:
    """The chain of a project whose sources can be read; their warnings are told."""
    chain = chain_of(str(find(project).absolute()), home)
    problems = [p for source in chain.sources.values() if source is not None for p in source.check()]
    if errors := [p for p in problems if p.is_error]:
        raise SourceError("\n".join(chain.project.located(f"tables.{p.key}", p.message) for p in errors))
    for warning in (problem for problem in problems if problem.severity == "warning"):
        click.echo(f"  warning: {chain.project.located(f'tables.{warning.key}', warning.message)}", err=True)
    return chain


def _tell_late(chain: Chain, first: date, last: date) -> None:
    """Say which days outside of those to be made hold something else in their source than was taken in."""
    sources = compare(chain)
    for table in tables.INPUTS:
        if late := [change for change in sources.of(table) if not first <= change.day <= last]:
            click.echo(
                f"  {table}: since it was taken in, the source has changed on {days_told(late)}. Make these days and "
                f"what depends on them anew with: microseg run --project {chain.project.reference} --stale",
                err=True,
            )


def _execute(chain: Chain, runs: Sequence[PlannedRun], home: Home) -> dict[str, float]:
    from dagster import DagsterInstance

    home.prepare()
    remember(chain.project.name, chain.project.path, home.folder)
    if missing := chain.project.missing_tables():
        click.echo(f"  No {', '.join(missing)}: what needs them is switched off.", err=True)
    took: dict[str, float] = {}
    with DagsterInstance.get() as instance, progress.watched_by(Printer()):
        report_dead_runs(instance)
        for number, run in enumerate(runs, 1):
            title = _title(run)
            click.echo(f"  [{number}/{len(runs)}] {title}: {run.why}", err=True)
            took[title] = took.get(title, 0.0) + execute(run, str(chain.project.path), home, instance)
    return took


def _title(run: PlannedRun) -> str:
    span = f"{run.first}" if run.partitions == 1 else f"{run.partitions} {run.unit}s, {run.first} … {run.last}"
    names = {"to_features": "ingest to features", "weekly": "training", "from_value": "value to atlas"}
    return f"{names[run.job]} ({span})"

"""`microseg status`: what is there, missing and stale, and what to do about it, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date, timedelta

import click

from microseg_assets.planning.staleness import AssetStatus, Reason, refused_days, statuses
from microseg_assets.sources import days_told
from microseg_assets.storage.ingest_log import Comparison, compare
from microseg_assets.storage.quarantine import refusal
from microseg_assets.workspace import Workspace, command_for, raw_name
from ml import tables

LISTED = 3  # days or weeks that a remark names


def show(workspace: Workspace, *, everything: bool = False) -> None:
    """Print the state of a project; all that a remark is about, if `everything` is asked for."""
    sources = compare(workspace)
    found = statuses(workspace, sources)
    click.echo(f"{workspace.project.name}  ({workspace.project.path})")
    click.echo(f"  {'':24} {'there':>6}  {'first':10}  {'last':10}  {'missing':>7} {'stale':>6}")
    group = ""
    for one in found:
        if one.group != group:
            group = one.group
            click.echo(f"{group}")
        first, last = (str(one.there[0]), str(one.there[-1])) if one.there else ("–", "–")
        unit = "w" if workspace.is_weekly(one.asset) else "d"
        missing, stale = len(one.missing) or "", len(one.stale) or ""
        click.echo(f"  {one.asset:24} {len(one.there):>5}{unit}  {first:10}  {last:10}  {missing:>7} {stale:>6}")
    _remarks(workspace, found, sources, everything)


def _listed(keys: Iterable[date], everything: bool) -> str:
    """Some days or weeks in words."""
    ordered = sorted(keys)
    if everything or len(ordered) <= LISTED:
        return ", ".join(map(str, ordered))
    return f"{', '.join(map(str, ordered[: LISTED - 1]))} … {ordered[-1]}"


def _remarks(workspace: Workspace, found: Sequence[AssetStatus], sources: Comparison, everything: bool) -> None:
    """What to do about what is missing or stale."""
    project = workspace.project.reference
    if missing := workspace.project.missing_tables():
        click.echo(f"\nOff, for the project file maps no {', '.join(missing)}.")
    if not any(one.there for one in found):
        click.echo(f"\nNothing is there yet: microseg run --project {project} --from {workspace.calendar.start}")
        return
    for table, why in sources.unreadable:
        click.echo(f"\nAs it is, nothing can be taken in of {table}: {why}.")
    for table in tables.INPUTS:
        if late := sources.of(table):
            told = days_told(late, len(late) if everything else LISTED)
            click.echo(f"\n{table}: since it was taken in, the source has changed on {told}.")
    for line in missing_customers(workspace, sources):
        click.echo(f"\n{line}")
    refused = {table: days for table, days in refused_days(workspace, found).items() if days}
    for table, days in refused.items():
        first = min(days)
        were = f"of {first} was refused" if len(days) == 1 else f"was refused on {len(days)} days"
        which = "" if len(days) == 1 else f" ({_listed(days, everything)})"
        why = _why_refused(workspace, table, first)
        click.echo(f"\n{table} {were}{which}; why: microseg docs {table} --day {first} --project {project}{why}")
    if refused:
        for line in _after_refusals(workspace, found, {day for days in refused.values() for day in days}, everything):
            click.echo(line)
    for keys, names in _alike({one.asset: tuple(one.missing) for one in found if one.missing}).items():
        remedy = command_for(workspace, names[0], [str(key) for key in keys])
        click.echo(f"\n{', '.join(names)}: {len(keys)} missing ({_listed(keys, everything)}). {remedy}")
    if any(one.stale for one in found):
        for line in _why_stale(found, everything):
            click.echo(f"\n{line}")
        click.echo(f"\nMake all of it anew, in order: microseg run --project {project} --stale")
    empty = [one.asset for one in found if not one.there]
    if empty and (newest := workspace.partitions("customer_features").keys()):
        click.echo(
            f"\nNothing yet of {', '.join(empty)}: "
            f"microseg run --project {project} --from {newest[-1]} --to {newest[-1]}"
        )
    # What lies behind a refused day waits for it, which is said above.
    stop = min((day for days in refused.values() for day in days), default=date.max)
    there = {one.asset: [day for day in one.there if day < stop] for one in found if not workspace.is_weekly(one.asset)}
    behind = {days[-1] for days in there.values() if days}
    if len(behind) > 1:
        click.echo(
            f"\nLater assets end on {min(behind)}, earlier ones on {max(behind)}: "
            f"microseg run --project {project} --from {min(behind) + timedelta(days=1)} --to {max(behind)}"
        )


def _why_refused(workspace: Workspace, table: str, day: date) -> str:
    """What the run said of a day that it refused, in brackets."""
    said = refusal(workspace, table, day)
    return f" ({said})" if said else ""


def _after_refusals(
    workspace: Workspace, found: Sequence[AssetStatus], days: Collection[date], everything: bool
) -> Iterator[str]:
    """What to do about refused days, and which days wait for nothing else."""
    project, path, first = workspace.project.reference, workspace.project.path, min(days)
    newest = max(day for one in found if one.asset in map(raw_name, workspace.provided_inputs()) for day in one.there)
    published = set(next(one.there for one in found if one.asset == "segment_atlas"))
    again = f"microseg run --project {project} --from {first} --to {newest}"
    if not any(day < first for day in published):  # from which day on was asked for is not known
        again = f"microseg run --project {project} --from DAY --to {newest}, with the first day that you want published"
    waiting = [day for day in workspace.calendar.days(first, newest) if day not in published]
    if waiting:
        yield f"Correct the source, or raise the limit that was broken in {path}; then: {again}"
        if later := [day for day in waiting if day not in days]:
            wait = "1 later day waits" if len(later) == 1 else f"{len(later):,} later days wait"
            yield f"{wait} for that alone ({_listed(later, everything)})."
        return
    yield f"Correct the source; then: microseg run --project {project} --stale"
    yield f"Or raise the limit that was broken in {path}; then: {again}"
    yield "Until then no later day can be made, and what was published of these days before is stale."


def missing_customers(workspace: Workspace, sources: Comparison, after: str = "`run --stale`") -> Iterator[str]:
    """Who is in no source any more, and what becomes of them.

    Parameters
    ----------
    after : what takes them out of every table
    """
    if count := len(sources.removed):
        yield f"{_customers(count)} in no source any more, and will be in no table after {after}."
    if count := len(sources.missing.in_doubt):
        yield (
            f"{_customers(count)} in no source any more, which may be because the sources keep their newest days only: "
            "what is known of them stays. If the sources hold everything there is, and these customers have been "
            f"removed from them, say `sources_are_complete: true` in {workspace.project.path} and `run --stale`."
        )


def _customers(count: int) -> str:
    return "1 customer is" if count == 1 else f"{count:,} customers are"


def _alike(keys: dict[str, tuple[date, ...]]) -> dict[tuple[date, ...], list[str]]:
    """Days or weeks to the assets that they are said of."""
    found: dict[tuple[date, ...], list[str]] = {}
    for name, of_asset in keys.items():
        found.setdefault(of_asset, []).append(name)
    return found


def _why_stale(found: Sequence[AssetStatus], everything: bool) -> Iterator[str]:
    """A line for each cause, with what is stale by itself; and one for all that is made from it."""
    causes: dict[Reason, dict[str, list[date]]] = {}
    after: dict[str, list[date]] = {}
    for one in found:
        for key, why in sorted(one.stale.items()):
            if why.code == "stale":
                after.setdefault(one.asset, []).append(key)
            else:
                cause = why if why.code != "source" else Reason("source", "")
                causes.setdefault(cause, {}).setdefault(one.asset, []).append(key)
    for why, assets in causes.items():
        said = "the source has changed" if why.code == "source" else str(why)
        yield f"Stale, since {said}: {_stale_ones(assets, everything)}."
    if after:
        yield f"Stale with them, being made from them: {_stale_ones(after, everything)}."


def _stale_ones(assets: dict[str, list[date]], everything: bool) -> str:
    """``customer_value, audiences 14 each (2011-11-26, 2011-11-27 … 2011-12-09)``: assets of the same days together."""
    alike = _alike({name: tuple(keys) for name, keys in assets.items()})
    return "; ".join(
        f"{', '.join(names)} {len(keys)}{' each' if len(names) > 1 else ''} ({_listed(keys, everything)})"
        for keys, names in alike.items()
    )

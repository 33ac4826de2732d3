"""`microseg status`: what is there, missing and stale, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date, timedelta

import click

from microseg_assets.planning.staleness import AssetStatus, Reason, refused_days, statuses
from microseg_assets.sources import list_days
from microseg_assets.storage.ingest_log import Comparison, compare
from microseg_assets.storage.quarantine import refusal
from microseg_assets.workspace import Workspace, command_for, raw_name

MAX_LISTED = 3  # days or weeks that a remark lists


def show(workspace: Workspace, *, everything: bool = False) -> None:
    """Print the state of a project; with `everything`, every day and week that a remark refers to."""
    sources = compare(workspace)
    assets = statuses(workspace, sources)
    click.echo(f"{workspace.project.name}  ({workspace.project.path})")
    click.echo(f"  {'':24} {'there':>6}  {'first':10}  {'last':10}  {'missing':>7} {'stale':>6}")
    group = ""
    for one in assets:
        if one.group != group:
            group = one.group
            click.echo(f"{group}")
        first, last = (str(one.there[0]), str(one.there[-1])) if one.there else ("–", "–")
        unit = "w" if workspace.is_weekly(one.asset) else "d"
        missing, stale = len(one.missing) or "", len(one.stale) or ""
        click.echo(f"  {one.asset:24} {len(one.there):>5}{unit}  {first:10}  {last:10}  {missing:>7} {stale:>6}")
    _remarks(workspace, assets, sources, everything)


def _listed(keys: Iterable[date], everything: bool) -> str:
    """Days or weeks in words, shortened if there are many."""
    ordered = sorted(keys)
    if everything or len(ordered) <= MAX_LISTED:
        return ", ".join(map(str, ordered))
    return f"{', '.join(map(str, ordered[: MAX_LISTED - 1]))} … {ordered[-1]}"


def _remarks(workspace: Workspace, assets: Sequence[AssetStatus], sources: Comparison, everything: bool) -> None:
    """What to do about what is missing or stale."""
    project = workspace.project.reference
    if missing := workspace.project.missing_tables():
        click.echo(f"\nSwitched off (not in the project file): {', '.join(missing)}.")
    if not any(one.there for one in assets):
        click.echo(f"\nNothing is there yet: microseg run --project {project} --from {workspace.calendar.start}")
        return
    for table, why in sources.unreadable:
        click.echo(f"\nNothing can be ingested from {table} as it is: {why}.")
    for table in workspace.project.inputs:
        if late := sources.of(table):
            changed = list_days(late, len(late) if everything else MAX_LISTED)
            click.echo(f"\n{table}: since it was ingested, the source has changed on {changed}.")
    for line in missing_customers(workspace, sources):
        click.echo(f"\n{line}")
    refused = {table: days for table, days in refused_days(workspace, assets).items() if days}
    for table, days in refused.items():
        first = min(days)
        were = f"of {first} was refused" if len(days) == 1 else f"was refused on {len(days)} days"
        which = "" if len(days) == 1 else f" ({_listed(days, everything)})"
        why = _why_refused(workspace, table, first)
        click.echo(f"\n{table} {were}{which}; why: microseg docs {table} --day {first} --project {project}{why}")
    if refused:
        for line in _after_refusals(workspace, assets, {day for days in refused.values() for day in days}, everything):
            click.echo(line)
    for keys, names in _alike({one.asset: tuple(one.missing) for one in assets if one.missing}).items():
        remedy = command_for(workspace, names[0], [str(key) for key in keys])
        click.echo(f"\n{', '.join(names)}: {len(keys)} missing ({_listed(keys, everything)}). {remedy}")
    if any(one.stale for one in assets):
        for line in _why_stale(assets, everything):
            click.echo(f"\n{line}")
        click.echo(f"\nRebuild all of it, in order: microseg run --project {project} --stale")
    empty = [one.asset for one in assets if not one.there]
    if empty and (newest := workspace.partitions("customer_features").keys()):
        click.echo(
            f"\nNot built yet, {', '.join(empty)}: "
            f"microseg run --project {project} --from {newest[-1]} --to {newest[-1]}"
        )
    # What comes after a refused day waits for it, which is reported above.
    stop = min((day for days in refused.values() for day in days), default=date.max)
    there = {
        one.asset: [day for day in one.there if day < stop] for one in assets if not workspace.is_weekly(one.asset)
    }
    ends = {days[-1] for days in there.values() if days}
    if len(ends) > 1:
        click.echo(
            f"\nDownstream assets end on {min(ends)}, upstream ones on {max(ends)}: "
            f"microseg run --project {project} --from {min(ends) + timedelta(days=1)} --to {max(ends)}"
        )


def _why_refused(workspace: Workspace, table: str, day: date) -> str:
    """The reason that the run gave for refusing a day, in brackets."""
    reason = refusal(workspace, table, day)
    return f" ({reason})" if reason else ""


def _after_refusals(
    workspace: Workspace, assets: Sequence[AssetStatus], days: Collection[date], everything: bool
) -> Iterator[str]:
    """What to do about refused days, and which days wait only for them."""
    project, path, first = workspace.project.reference, workspace.project.path, min(days)
    newest = max(day for one in assets if one.asset in map(raw_name, workspace.provided_inputs()) for day in one.there)
    published = set(next(one.there for one in assets if one.asset == "segment_atlas"))
    again = f"microseg run --project {project} --from {first} --to {newest}"
    if not any(day < first for day in published):  # the first day that was asked for is not known
        again = f"microseg run --project {project} --from DAY --to {newest}, where DAY is the first day to publish"
    waiting = [day for day in workspace.calendar.days(first, newest) if day not in published]
    if waiting:
        yield f"Correct the source, or raise the limit that was exceeded in {path}; then: {again}"
        if later := [day for day in waiting if day not in days]:
            wait = "1 later day is" if len(later) == 1 else f"{len(later):,} later days are"
            yield f"{wait} waiting only for that ({_listed(later, everything)})."
        return
    yield f"Correct the source; then: microseg run --project {project} --stale"
    yield f"Or raise the limit that was exceeded in {path}; then: {again}"
    yield "Until then no later day can be built, and what was published for these days is stale."


def missing_customers(workspace: Workspace, sources: Comparison, after: str = "`run --stale`") -> Iterator[str]:
    """Customers who are no longer in any source, and what becomes of them.

    Parameters
    ----------
    after : what removes them from every table
    """
    if count := len(sources.removed):
        yield f"{_customers(count)} no longer in any source, and will be in no table after {after}."
    if count := len(sources.missing.in_doubt):
        yield (
            f"{_customers(count)} no longer in any source, perhaps because the sources keep only their newest days: "
            "what is known of them stays. If the sources hold the whole history, and these customers have been removed "
            f"from them, set `sources_are_complete: true` in {workspace.project.path} and `run --stale`."
        )


def _customers(count: int) -> str:
    return "1 customer is" if count == 1 else f"{count:,} customers are"


def _alike(keys: dict[str, tuple[date, ...]]) -> dict[tuple[date, ...], list[str]]:
    """Days or weeks to the assets that have exactly these."""
    names_of: dict[tuple[date, ...], list[str]] = {}
    for name, of_asset in keys.items():
        names_of.setdefault(of_asset, []).append(name)
    return names_of


def _why_stale(assets: Sequence[AssetStatus], everything: bool) -> Iterator[str]:
    """A line for each cause, with what is stale because of it; and one for all that depends on these."""
    causes: dict[Reason, dict[str, list[date]]] = {}
    downstream: dict[str, list[date]] = {}
    for one in assets:
        for key, why in sorted(one.stale.items()):
            if why.code == "stale":
                downstream.setdefault(one.asset, []).append(key)
            else:
                cause = why if why.code != "source" else Reason("source", "")
                causes.setdefault(cause, {}).setdefault(one.asset, []).append(key)
    for cause, keys in causes.items():
        words = "the source has changed" if cause.code == "source" else str(cause)
        yield f"Stale, since {words}: {_listed_by_asset(keys, everything)}."
    if downstream:
        yield f"Stale with them, since they depend on them: {_listed_by_asset(downstream, everything)}."


def _listed_by_asset(keys: dict[str, list[date]], everything: bool) -> str:
    """``customer_value, audiences 14 each (2011-11-26, 2011-11-27 … 2011-12-09)``: assets of the same days together."""
    alike = _alike({name: tuple(of_asset) for name, of_asset in keys.items()})
    return "; ".join(
        f"{', '.join(names)} {len(same)}{' each' if len(names) > 1 else ''} ({_listed(same, everything)})"
        for same, names in alike.items()
    )

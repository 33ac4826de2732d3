"""`microseg status`: per asset what is there, what is missing, and what is stale and why.

A partition is missing when something needs it and it is not there. It is stale when something it reads has got other
content after it was made, or is itself stale; what was taken in from a source is stale when the source has come to hold
something else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal, TypeAlias

import click

from microseg_assets.lake import Stamp
from microseg_assets.partitions import Lookback
from microseg_assets.quarantine import refusal, was_refused
from microseg_assets.sources import days_told
from microseg_assets.taken_in import Comparison, compare, raw_name
from microseg_assets.workspace import Workspace, command_for
from ml import tables

LISTED = 3  # days or weeks that a remark names

Code: TypeAlias = Literal["source", "gone", "made_after", "stale"]


@dataclass(frozen=True)
class Reason:
    """Why a partition is stale.

    Parameters
    ----------
    code : its ``source`` has changed; something it reads is ``gone``, was ``made_after`` it, or is ``stale`` itself
    of : what it reads, or how the source has changed
    """

    code: Code
    of: str

    def __str__(self) -> str:
        return _WORDS[self.code].format(self.of)


_WORDS: dict[Code, str] = {
    "source": "the source has {} since",
    "gone": "{} is gone",
    "made_after": "{} was made after it",
    "stale": "{} is stale",
}


@dataclass(frozen=True)
class AssetStatus:
    """What is there of one asset.

    Parameters
    ----------
    there : partitions in the lake, ascending
    missing : partitions that are needed and not there
    stale : partition to why
    """

    asset: str
    group: str
    there: list[date]
    missing: list[date]
    stale: dict[date, Reason]


def statuses(workspace: Workspace, sources: Comparison | None = None) -> list[AssetStatus]:
    """The state of every asset, in the order of the chain.

    Parameters
    ----------
    sources : what a comparison of the sources has found (see `taken_in.compare`); without one they are not looked at
    """
    made = {name: _stamps(workspace, name) for name in workspace.stored}
    stale: dict[str, dict[date, Reason]] = {}
    changed: dict[str, dict[date, Reason]] = {}
    for change in sources.changes if sources is not None else ():
        changed.setdefault(raw_name(change.table), {})[change.day] = Reason("source", str(change))
    for name in workspace.in_order():
        stale[name] = changed.get(name, {}) | _stale(workspace, name, made, stale)
    there = {name: set(made[name]) for name in stale}
    missing = _missing(workspace, there, _refused(workspace, there, stale))
    return [
        AssetStatus(name, workspace.groups[name], sorted(there[name]), missing[name], stale[name]) for name in stale
    ]


def outdated(workspace: Workspace, asset: str) -> set[date]:
    """The partitions of an asset that were made before something they read got the content it has."""
    made = {name: _stamps(workspace, name) for name in (asset, *workspace.reads[asset])}
    return set(_stale(workspace, asset, made, {}))


def _stamps(workspace: Workspace, name: str) -> dict[date, Stamp]:
    """When each partition changed and was made; it has changed when anything written beside it has."""
    own = workspace.partitions(name)
    found = {date.fromisoformat(key): stamp for key, stamp in own.stamps().items() if key[:1].isdigit()}
    for table in own.stored.side_outputs:
        for key, stamp in workspace.lake.stamps(table, **own.stored.partition_prefix).items():
            if (day := date.fromisoformat(key)) in found:
                found[day] = Stamp(max(found[day].changed, stamp.changed), max(found[day].made, stamp.made))
    return found


def _missing(workspace: Workspace, there: dict[str, set[date]], refused: dict[str, set[date]]) -> dict[str, list[date]]:
    """Partitions that are needed and not there: something reads them, or others of the same day or week are there.

    What nobody has asked for is not missing: the days between a single old day and the newest ones, say. Nor is what a
    refusal has taken away, or keeps from being made: that is said of the refusal.
    """
    stop = min((day for days in refused.values() for day in days), default=date.max)
    needed = {name: set[date]() for name in there}
    for group in _made_together(workspace):
        union = set.union(*(there[name] for name in group))
        for name in group:
            needed[name] |= union
    for name, reads in workspace.reads.items():
        for upstream, reach in reads.items():
            if upstream == name or reach.may_begin or reach == Lookback.SEVEN_DAYS:
                continue
            if reach in (
                Lookback.DAYS_SO_FAR,
                Lookback.DAYS_TO_WEEK_END,
            ):  # they only grow: the last one needs them all
                keys = [max(there[name])] if there[name] else []
            else:
                keys = sorted(there[name])
            needed[upstream].update(key for day in keys for key in workspace.calendar.upstream(reach, day))
    return {name: sorted(day for day in needed[name] - there[name] if day < stop) for name in there}


def _made_together(workspace: Workspace) -> list[list[str]]:
    """Assets that are made for the same days or weeks: what happened on a day; all that is told of a day; training."""
    daily = [name for name in workspace.stored if not workspace.is_weekly(name)]
    looks_back = {name for name in daily if Lookback.DAYS_SO_FAR in workspace.reads[name].values()}
    early = [name for name in daily if workspace.groups[name] in ("ingest", "validate", "features")]
    groups = [
        [name for name in early if name not in looks_back],
        [name for name in daily if name not in early],
        [name for name in workspace.stored if workspace.is_weekly(name)],
    ]
    return [group for group in groups if group]


def _stale(
    workspace: Workspace, name: str, made: dict[str, dict[date, Stamp]], known: dict[str, dict[date, Reason]]
) -> dict[date, Reason]:
    """Which partitions were made before something they read got its content, and before what."""
    found: dict[date, Reason] = {}
    for upstream, reach in workspace.reads[name].items():
        newest, tainted = _newest(workspace, reach, sorted(made[name]), made[upstream], known.get(upstream, {}))
        for key, stamp in made[name].items():
            if reach == Lookback.SAME_DAY and key not in made[upstream]:
                found.setdefault(key, Reason("gone", upstream))
            elif newest.get(key, 0.0) > stamp.made:
                found.setdefault(key, Reason("made_after", upstream))
            elif tainted.get(key):
                found.setdefault(key, Reason("stale", upstream))
    if name in workspace.reads[name]:
        # One that reads its own yesterday is stale from its first stale partition on.
        first = min(found, default=None)
        for key in made[name]:
            if first is not None and key > first:
                found.setdefault(key, Reason("stale", f"{name} of {first}"))
    return found


def _newest(
    workspace: Workspace, reach: Lookback, keys: Sequence[date], made: dict[date, Stamp], stale: dict[date, Reason]
) -> tuple[dict[date, float], dict[date, bool]]:
    """For each key, when the partition it reads that changed last did so, and whether one of them is stale."""
    newest: dict[date, float] = {}
    tainted: dict[date, bool] = {}
    if reach in (Lookback.DAYS_SO_FAR, Lookback.DAYS_TO_WEEK_END):
        # The partitions read only grow with the key: one pass over both.
        upstream = sorted(made)
        at, stamp, bad = 0, 0.0, False
        for key in keys:
            end = workspace.calendar.week_end(key) if reach == Lookback.DAYS_TO_WEEK_END else key
            while at < len(upstream) and upstream[at] <= end:
                stamp, bad = max(stamp, made[upstream[at]].changed), bad or upstream[at] in stale
                at += 1
            newest[key], tainted[key] = stamp, bad
        return newest, tainted
    for key in keys:
        read = [k for k in workspace.calendar.upstream(reach, key) if k in made]
        newest[key] = max((made[k].changed for k in read), default=0.0)
        tainted[key] = any(k in stale for k in read)
    return newest, tainted


def refused_days(workspace: Workspace, found: Sequence[AssetStatus]) -> dict[str, set[date]]:
    """Accepted table to the days that were refused and whose source is still as it was then."""
    there = {one.asset: set(one.there) for one in found}
    return _refused(workspace, there, {one.asset: one.stale for one in found})


def _refused(
    workspace: Workspace, there: dict[str, set[date]], stale: dict[str, dict[date, Reason]]
) -> dict[str, set[date]]:
    refused = {}
    for table in workspace.brought():
        raw = raw_name(table)
        gone = there[raw] - there[table] - set(stale[raw])
        refused[table] = {day for day in gone if was_refused(workspace, table, day)}
    return refused


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
    newest = max(day for one in found if one.asset in map(raw_name, workspace.brought()) for day in one.there)
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

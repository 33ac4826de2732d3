"""`microseg status`: per asset what is there, what is missing, and what is stale and why.

A partition is stale when something it reads has got other content after it was made, or is itself stale; what was taken
in from a source is stale when the source has come to hold something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import click

from microseg_assets.chain import Chain, Stored
from microseg_assets.lake import Stamp
from microseg_assets.partitions import WEEK, Reach
from microseg_assets.sources import days_told
from microseg_assets.taken_in import Comparison, compare, raw_name
from ml import tables


@dataclass(frozen=True)
class AssetStatus:
    """What is there of one asset.

    Parameters
    ----------
    there : partitions in the lake, ascending
    missing : gaps between the first and the last one
    stale : partition to why: what it reads was made after it, or is stale itself
    """

    asset: str
    group: str
    there: list[date]
    missing: list[date]
    stale: dict[date, str]


def statuses(chain: Chain, sources: Comparison | None = None) -> list[AssetStatus]:
    """The state of every asset, in the order of the chain.

    Parameters
    ----------
    sources : what a comparison of the sources has found (see `taken_in.compare`); without one they are not looked at
    """
    made = {name: _stamps(chain, stored) for name, stored in chain.stored.items()}
    stale: dict[str, dict[date, str]] = {}
    changed: dict[str, dict[date, str]] = {}
    for change in sources.changes if sources is not None else ():
        changed.setdefault(raw_name(change.table), {})[change.day] = f"the source has {change} since"
    found = []
    for name in chain.in_order():
        stale[name] = changed.get(name, {}) | _stale(chain, name, made, stale)
        there = sorted(made[name])
        step = WEEK if chain.is_weekly(name) else timedelta(days=1)
        missing = _gaps(there, step)
        found.append(AssetStatus(name, chain.groups[name], there, missing, stale[name]))
    return found


def outdated(chain: Chain, asset: str) -> set[date]:
    """The partitions of an asset that were made before something they read got the content it has."""
    made = {name: _stamps(chain, chain.stored[name]) for name in (asset, *chain.reads[asset])}
    return set(_stale(chain, asset, made, {}))


def _stamps(chain: Chain, stored: Stored) -> dict[date, Stamp]:
    """When each partition changed and was made; it has changed when anything written beside it has."""
    found = {
        date.fromisoformat(k): t for k, t in chain.lake.stamps(stored.table, **stored.fixed).items() if k[:1].isdigit()
    }
    for table in stored.beside:
        for key, stamp in chain.lake.stamps(table, **stored.fixed).items():
            if (day := date.fromisoformat(key)) in found:
                found[day] = Stamp(max(found[day].changed, stamp.changed), max(found[day].made, stamp.made))
    return found


def _gaps(there: Sequence[date], step: timedelta) -> list[date]:
    if not there:
        return []
    present = set(there)
    count = (there[-1] - there[0]) // step
    return [day for i in range(count + 1) if (day := there[0] + i * step) not in present]


def _stale(
    chain: Chain, name: str, made: dict[str, dict[date, Stamp]], known: dict[str, dict[date, str]]
) -> dict[date, str]:
    """Which partitions were made before something they read got its content, and before what."""
    found: dict[date, str] = {}
    for upstream, reach in chain.reads[name].items():
        newest, tainted = _newest(chain, reach, sorted(made[name]), made[upstream], known.get(upstream, {}))
        for key, stamp in made[name].items():
            if reach == Reach.SAME_DAY and key not in made[upstream]:
                found.setdefault(key, f"{upstream} is gone")
            elif newest.get(key, 0.0) > stamp.made:
                found.setdefault(key, f"{upstream} was made after it")
            elif tainted.get(key):
                found.setdefault(key, f"{upstream} is stale")
    if name in chain.reads[name]:
        # One that reads its own yesterday is stale from its first stale partition on.
        first = min(found, default=None)
        for key in made[name]:
            if first is not None and key > first:
                found.setdefault(key, f"{name} of {first} is stale")
    return found


def _newest(
    chain: Chain, reach: Reach, keys: Sequence[date], made: dict[date, Stamp], stale: dict[date, str]
) -> tuple[dict[date, float], dict[date, bool]]:
    """For each key, when the partition it reads that changed last did so, and whether one of them is stale."""
    newest: dict[date, float] = {}
    tainted: dict[date, bool] = {}
    if reach in (Reach.DAYS_SO_FAR, Reach.DAYS_TO_WEEK_END):
        # The partitions read only grow with the key: one pass over both.
        upstream = sorted(made)
        at, stamp, bad = 0, 0.0, False
        for key in keys:
            end = chain.calendar.week_end(key) if reach == Reach.DAYS_TO_WEEK_END else key
            while at < len(upstream) and upstream[at] <= end:
                stamp, bad = max(stamp, made[upstream[at]].changed), bad or upstream[at] in stale
                at += 1
            newest[key], tainted[key] = stamp, bad
        return newest, tainted
    for key in keys:
        read = [k for k in chain.calendar.upstream(reach, key) if k in made]
        newest[key] = max((made[k].changed for k in read), default=0.0)
        tainted[key] = any(k in stale for k in read)
    return newest, tainted


def refused_days(chain: Chain, found: Sequence[AssetStatus]) -> dict[str, set[date]]:
    """Accepted table to the days that were refused and whose source is still as it was then."""
    state = {one.asset: one for one in found}
    refused = {}
    for table in tables.INPUTS:
        raw = state[raw_name(table)]
        gone = set(raw.there) - set(state[table].there) - set(raw.stale)
        refused[table] = {day for day in gone if chain.was_refused(table, day)}
    return refused


def show(chain: Chain) -> None:
    """Print the state of a project."""
    sources = compare(chain)
    found = statuses(chain, sources)
    click.echo(f"{chain.project.name}  ({chain.project.path})")
    click.echo(f"  {'':24} {'there':>6}  {'first':10}  {'last':10}  {'gaps':>5} {'stale':>6}")
    group = ""
    for one in found:
        if one.group != group:
            group = one.group
            click.echo(f"{group}")
        first, last = (str(one.there[0]), str(one.there[-1])) if one.there else ("–", "–")
        unit = "w" if chain.is_weekly(one.asset) else "d"
        gaps, stale = len(one.missing) or "", len(one.stale) or ""
        click.echo(f"  {one.asset:24} {len(one.there):>5}{unit}  {first:10}  {last:10}  {gaps:>5} {stale:>6}")
    _remarks(chain, found, sources)


def _remarks(chain: Chain, found: Sequence[AssetStatus], sources: Comparison) -> None:
    """What to do about what is missing or stale."""
    project = chain.project.reference
    if missing := chain.project.missing_tables():
        click.echo(f"\nOff, for the project file maps no {', '.join(missing)}.")
    if not any(one.there for one in found):
        click.echo(f"\nNothing is there yet: microseg run --project {project} --from {chain.calendar.start}")
        return
    for table, why in sources.unreadable:
        click.echo(f"\n{table} could not be compared with its source: {why}")
    for table in tables.INPUTS:
        if late := sources.of(table):
            click.echo(f"\n{table}: since it was taken in, the source has changed on {days_told(late)}.")
    for table, days in refused_days(chain, found).items():
        for day in sorted(days)[:3]:
            click.echo(
                f"\n{table} of {day} was refused; why: microseg docs {table} --day {day} --project {project}\n"
                "Once the source is right, `run --stale` takes it in. Until then no later day can be made, and what "
                "was published of it before is stale."
            )
    for one in found:
        if one.missing:
            listed = ", ".join(map(str, one.missing[:3])) + (" …" if len(one.missing) > 3 else "")
            keys = [str(key) for key in one.missing]
            click.echo(f"\n{one.asset}: {len(one.missing)} missing ({listed}). {chain.remedy(one.asset, keys)}")
    if stale := [one for one in found if one.stale]:
        causes = [one for one in stale if not all(why.endswith("is stale") for why in one.stale.values())]
        for one in causes:
            key, why = next((k, why) for k, why in sorted(one.stale.items()) if not why.endswith("is stale"))
            count = f"{len(one.stale)} stale, the first of them {key}" if len(one.stale) > 1 else f"{key} is stale"
            click.echo(f"\n{one.asset}: {count}: {why}.")
        if len(stale) > len(causes):
            after = ", ".join(one.asset for one in stale if one not in causes)
            click.echo(f"\nStale with them, being made from them: {after}.")
        click.echo(f"\nMake all of it anew, in order: microseg run --project {project} --stale")
    empty = [one.asset for one in found if not one.there]
    if empty and (newest := chain.lake.keys(chain.stored["customer_features"].table)):
        click.echo(
            f"\nNothing yet of {', '.join(empty)}: "
            f"microseg run --project {project} --from {newest[-1]} --to {newest[-1]}"
        )
    behind = {one.there[-1] for one in found if one.there and not chain.is_weekly(one.asset)}
    if len(behind) > 1:
        click.echo(
            f"\nLater assets end on {min(behind)}, earlier ones on {max(behind)}: "
            f"microseg run --project {project} --from {min(behind) + timedelta(days=1)} --to {max(behind)}"
        )

"""Per asset what is there, what is missing, and what is stale and why.

A partition is missing when something needs it and it is not there. It is stale when something that it reads changed
after it was made, or is itself stale; an ingested day is stale when its source has changed since, the facts of a day
when what events count as has, and a snapshot when the declared features have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, TypeAlias

from microseg_assets.partitions import Lookback
from microseg_assets.storage import declarations
from microseg_assets.storage.ingest_log import Comparison
from microseg_assets.storage.lake import Stamp
from microseg_assets.storage.quarantine import was_refused
from microseg_assets.workspace import Workspace, raw_name

Code: TypeAlias = Literal["source", "gone", "made_after", "stale", "declared"]


@dataclass(frozen=True)
class Reason:
    """Why a partition is stale.

    Parameters
    ----------
    code : its ``source`` has changed; something it reads is ``gone``, was ``made_after`` it, or is ``stale`` itself; or
        what the project has ``declared`` has changed
    of : the asset that it reads, how the source has changed, or the key of the project file
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
    "declared": "{} has changed since",
}


@dataclass(frozen=True)
class AssetStatus:
    """The partitions of one asset.

    Parameters
    ----------
    there : partitions in the lake, ascending
    missing : partitions that are needed and not there
    stale : partition to the reason
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
    sources : comparison of the sources with the ingest log (see `ingest_log.compare`); None if they are not compared
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
    """The partitions of an asset that were made before the last change of something that they read."""
    made = {name: _stamps(workspace, name) for name in (asset, *workspace.reads[asset])}
    return set(_stale(workspace, asset, made, {}))


def _stamps(workspace: Workspace, name: str) -> dict[date, Stamp]:
    """When each partition was made and last changed; side outputs count as part of it."""
    own = workspace.partitions(name)
    stamps = {date.fromisoformat(key): stamp for key, stamp in own.stamps().items() if key[:1].isdigit()}
    for table in own.stored.side_outputs:
        for key, stamp in workspace.lake.stamps(table, **own.stored.partition_prefix).items():
            if (day := date.fromisoformat(key)) in stamps:
                stamps[day] = Stamp(max(stamps[day].changed, stamp.changed), max(stamps[day].made, stamp.made))
    return stamps


_GROWING = (Lookback.DAYS_SO_FAR, Lookback.DAYS_TO_WEEK_END)


def _missing(workspace: Workspace, there: dict[str, set[date]], refused: dict[str, set[date]]) -> dict[str, list[date]]:
    """Partitions that are needed and not there: something reads them, or others of the same day or week are there.

    What nobody has requested is not missing, such as the days between a single old day and the newest ones. Nor is what
    a refusal removed, or keeps from being made: the refusal is reported instead.
    """
    stop = min((day for days in refused.values() for day in days), default=date.max)
    needed = {name: set[date]() for name in there}
    for group in _made_together(workspace):
        union = set.union(*(there[name] for name in group))
        for name in group:
            needed[name] |= union
    for name, reads in workspace.reads.items():
        for upstream, lookback in reads.items():
            if upstream == name or lookback.may_begin or lookback == Lookback.SEVEN_DAYS:
                continue
            keys = sorted(there[name])
            if lookback in _GROWING:  # the last one needs them all
                keys = keys[-1:]
            needed[upstream].update(key for day in keys for key in workspace.calendar.upstream(lookback, day))
    return {name: sorted(day for day in needed[name] - there[name] if day < stop) for name in there}


def _made_together(workspace: Workspace) -> list[list[str]]:
    """Assets that are made for the same days or weeks: inputs of a day, results of a day, training."""
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
    """Which partitions were made before the last change of something that they read, and of what."""
    reasons: dict[date, Reason] = {}
    for upstream, lookback in workspace.reads[name].items():
        newest, tainted = _newest(workspace, lookback, sorted(made[name]), made[upstream], known.get(upstream, {}))
        for key, stamp in made[name].items():
            if lookback == Lookback.SAME_DAY and key not in made[upstream]:
                reasons.setdefault(key, Reason("gone", upstream))
            elif newest.get(key, 0.0) > stamp.made:
                reasons.setdefault(key, Reason("made_after", upstream))
            elif tainted.get(key):
                reasons.setdefault(key, Reason("stale", upstream))
    for key, declared in declarations.made_under_others(workspace, name).items():
        reasons.setdefault(key, Reason("declared", declared))
    if name in workspace.reads[name]:
        # One that reads its own yesterday is stale from its first stale partition on.
        first = min(reasons, default=None)
        for key in made[name]:
            if first is not None and key > first:
                reasons.setdefault(key, Reason("stale", f"{name} of {first}"))
    return reasons


def _newest(
    workspace: Workspace, lookback: Lookback, keys: Sequence[date], made: dict[date, Stamp], stale: dict[date, Reason]
) -> tuple[dict[date, float], dict[date, bool]]:
    """For each key, when anything it reads last changed, and whether any of that is stale."""
    newest: dict[date, float] = {}
    tainted: dict[date, bool] = {}
    if lookback in (Lookback.DAYS_SO_FAR, Lookback.DAYS_TO_WEEK_END):
        # A later key reads all that an earlier one reads: one pass over both is enough.
        upstream = sorted(made)
        position, stamp, is_tainted = 0, 0.0, False
        for key in keys:
            end = workspace.calendar.week_end(key) if lookback == Lookback.DAYS_TO_WEEK_END else key
            while position < len(upstream) and upstream[position] <= end:
                stamp = max(stamp, made[upstream[position]].changed)
                is_tainted = is_tainted or upstream[position] in stale
                position += 1
            newest[key], tainted[key] = stamp, is_tainted
        return newest, tainted
    for key in keys:
        read = [k for k in workspace.calendar.upstream(lookback, key) if k in made]
        newest[key] = max((made[k].changed for k in read), default=0.0)
        tainted[key] = any(k in stale for k in read)
    return newest, tainted


def refused_days(workspace: Workspace, assets: Sequence[AssetStatus]) -> dict[str, set[date]]:
    """Accepted table to the days that were refused, and whose source has not changed since."""
    there = {one.asset: set(one.there) for one in assets}
    return _refused(workspace, there, {one.asset: one.stale for one in assets})


def _refused(
    workspace: Workspace, there: dict[str, set[date]], stale: dict[str, dict[date, Reason]]
) -> dict[str, set[date]]:
    refused = {}
    for table in workspace.provided_inputs():
        raw = raw_name(table)
        gone = there[raw] - there[table] - set(stale[raw])
        refused[table] = {day for day in gone if was_refused(workspace, table, day)}
    return refused

"""Which Dagster runs build the requested days, or rebuild what is stale.

Four range runs at most for an unbroken span: the facts of all days up to it, the snapshots of its days, the training
weeks that serve them, value to atlas. Never daily and weekly assets in one range run. Belongs here: which runs, in
which order. Does not belong here: executing them (see `runs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from microseg_assets.orchestration.automation import UP_TO_FEATURES
from microseg_assets.partitions import WEEK, Lookback
from microseg_assets.planning.staleness import AssetStatus, refused_days
from microseg_assets.workspace import Workspace


@dataclass(frozen=True)
class PlannedRun:
    """One range run of one job, over days or weeks; of some of its assets only, if `assets` names them."""

    job: str
    first: date
    last: date
    partitions: int
    unit: str
    why: str
    assets: tuple[str, ...] = ()

    @property
    def tags(self) -> dict[str, str]:
        """What makes a Dagster run of it a range run."""
        return {
            "dagster/asset_partition_range_start": self.first.isoformat(),
            "dagster/asset_partition_range_end": self.last.isoformat(),
        }


def plan(workspace: Workspace, first: date, last: date, *, only_missing: bool = False) -> list[PlannedRun]:
    """The runs that build every daily asset of `first` … `last`, and the training weeks that end there, in order.

    Parameters
    ----------
    only_missing : whether to skip what is already there

    Raises
    ------
    ValueError
        If a day is outside of the project's calendar.
    """
    calendar = workspace.calendar
    if last < first:
        raise ValueError(f"the last day {last} lies before the first day {first}: swap them")
    if first < calendar.start or last > calendar.newest_day:
        newest = "its end" if calendar.newest_day == calendar.end else "the last day that has ended"
        raise ValueError(
            f"{first} … {last} does not lie between the project's start {calendar.start} and {newest} "
            f"{calendar.newest_day}: choose days between them"
        )
    featured = _made(workspace, "customer_features")
    there = _made(workspace, "segment_atlas") & featured
    before = [day for day in there if day < first]
    start = max(before) + timedelta(days=1) if before else first
    days = [d for d in calendar.days(start, last) if not only_missing or d not in there]
    if not days:
        return []
    runs = _up_to_features(workspace, start, last, set() if only_missing else set(calendar.days(first, last)))
    again = [] if only_missing else [w for w in map(calendar.week_ending, days) if w]
    weeks = sorted({*_weeks(workspace, days), *again})
    runs += _ranges(workspace, "weekly", weeks, "week", "the models in force on these days")
    runs += _ranges(workspace, "from_value", days, "day", "value, stages, segments, journeys, actions, atlas")
    return runs


def _up_to_features(workspace: Workspace, start: date, last: date, again: set[date]) -> list[PlannedRun]:
    """The runs that make the facts of every day up to `last`, and the snapshots of `start` … `last`.

    A snapshot sums up all facts before its day, and training reads facts, so no other day needs a snapshot.
    """
    calendar = workspace.calendar
    made = {name: _made(workspace, name) for name in ("customer_days", "customer_features")}
    facts = [d for d in calendar.days(calendar.start, last) if d not in made["customer_days"] or d in again]
    snapshots = [d for d in calendar.days(start, last) if d not in made["customer_features"] or d in again]
    if facts == snapshots:
        return _ranges(workspace, "to_features", facts, "day", "what happened, and what is known of each customer")
    early = [name for name in workspace.in_order() if workspace.groups[name] in UP_TO_FEATURES]
    split = [
        (facts, [name for name in early if name not in _cumulative(workspace, early)], "what happened"),
        (snapshots, _cumulative(workspace, early), "what is known of each customer"),
    ]
    runs = []
    for days, names, why in split:
        planned = _ranges(workspace, "to_features", days, "day", why)
        runs += [replace(run, assets=tuple(names)) for run in planned]
    return runs


def _cumulative(workspace: Workspace, names: Sequence[str]) -> list[str]:
    """Those assets of which a day depends on all days before it."""
    return [name for name in names if Lookback.DAYS_SO_FAR in workspace.reads[name].values()]


def plan_stale(workspace: Workspace, assets: Sequence[AssetStatus]) -> list[PlannedRun]:
    """The runs that rebuild what is stale, in order: the inputs of each day, what is known of each customer, the
    training weeks, and everything after them.

    What a refusal removed is built again once the source of that day has changed; until then nothing is planned that
    would need it (see `refused_days`). Of a day, only stale assets are built: a table whose source has not changed is
    left alone.

    Parameters
    ----------
    assets : the state of every asset (see `staleness.statuses`)
    """
    stale = {one.asset: set(one.stale) for one in assets}
    there = {one.asset: set(one.there) for one in assets}
    weekly = [name for name in workspace.stored if workspace.is_weekly(name)]
    early = [name for name in workspace.stored if workspace.groups[name] in UP_TO_FEATURES]
    cumulative = _cumulative(workspace, early)
    of_a_day = [name for name in workspace.in_order() if name in early and name not in cumulative]
    later = [name for name in workspace.stored if name not in early and name not in weekly]
    refused = refused_days(workspace, assets)
    stop = min((day for days in refused.values() for day in days), default=date.max)

    again: dict[date, list[str]] = {}
    available: dict[str, set[date]] = {}  # the days of an asset that are there, or will be
    for name in of_a_day:
        reads = workspace.reads[name].items()
        needed = [available[u] for u, lookback in reads if lookback == Lookback.SAME_DAY and u in available]
        gone = set.intersection(*needed) - there[name] - refused.get(name, set()) if needed else set()
        for day in stale[name] | gone:
            if all(day in days for days in needed):
                again.setdefault(day, []).append(name)
        available[name] = there[name] | {day for day, names in again.items() if name in names}
    first = min(again, default=date.max)
    runs: list[PlannedRun] = []
    for day in sorted(again):
        runs = _with_day(runs, day, tuple(again[day]))

    published = set[date]().union(*(there[name] for name in later))
    complete = {day for day in set.intersection(*available.values()) if day >= min(published, default=date.max)}
    after = [
        ("to_features", cumulative, "day", "what is known of each customer since then"),
        ("weekly", weekly, "week", "the models that were trained on it"),
        ("from_value", later, "day", "value, stages, segments, journeys, actions, atlas"),
    ]
    for job, names, unit, why in after:
        keys = set()
        for name in names:
            ends = {key: workspace.calendar.week_end(key) if unit == "week" else key for key in there[name]}
            keys |= stale[name] | {key for key, end in ends.items() if end >= first}
            if name in cumulative:
                keys |= complete - there[name]
        keys_before_stop = [
            key for key in sorted(keys) if (workspace.calendar.week_end(key) if unit == "week" else key) < stop
        ]
        planned = _ranges(workspace, job, keys_before_stop, unit, why)
        runs += [replace(run, assets=tuple(names)) for run in planned]
    return runs


def _with_day(runs: list[PlannedRun], day: date, assets: tuple[str, ...]) -> list[PlannedRun]:
    """Runs with one more day, added to the last one if the day follows it and the assets are the same."""
    if runs and runs[-1].assets == assets and day - runs[-1].last == timedelta(days=1):
        last = runs[-1]
        return [*runs[:-1], replace(last, last=day, partitions=last.partitions + 1)]
    why = "what happened on days whose rows, or what they count as, have changed"
    return [*runs, PlannedRun("to_features", day, day, 1, "day", why, assets)]


def _made(workspace: Workspace, asset: str) -> set[date]:
    return workspace.partitions(asset).dates()


def _weeks(workspace: Workspace, days: Sequence[date]) -> list[date]:
    """Missing training weeks that serve `days` or end with them, and those since the last one that is there."""
    serving = workspace.calendar.weeks_serving([*days, days[-1] + timedelta(days=1)])
    if not serving:
        return []
    families = [name for name in workspace.stored if workspace.is_weekly(name)]
    there = set.intersection(*(_made(workspace, name) for name in families))
    before = [week for week in there if week < serving[0]]
    first = max(before) + WEEK if before else serving[0]
    count = (serving[-1] - first).days // 7 + 1
    return [week for i in range(count) if (week := first + i * WEEK) not in there]


def _ranges(workspace: Workspace, job: str, keys: Sequence[date], unit: str, why: str) -> list[PlannedRun]:
    """One range run for each unbroken sequence of `keys`."""
    step = WEEK if unit == "week" else timedelta(days=1)
    runs: list[PlannedRun] = []
    for key in sorted(keys):
        if runs and key - runs[-1].last == step:
            runs[-1] = replace(runs[-1], last=key, partitions=runs[-1].partitions + 1)
        else:
            runs.append(PlannedRun(job, key, key, 1, unit, why))
    return runs

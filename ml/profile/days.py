"""The days that have rows: strays, rows in the future, missing days, closed weekdays and closed seasons.

Belongs here: questions about a count of rows per day. Does not belong here: whether a day is refused (see
`expectations`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from itertools import pairwise

from ml.profile.observations import Code, Observation

# Strays are at most this share of all rows, separated from the others by more than this many days.
MAX_STRAY_SHARE, MIN_STRAY_GAP_DAYS = 0.001, 60
# In a table of at least MIN_ROWS, so few rows are strays too if they are more than a year from the others, and farther
# from them than the others span.
MAX_FAR_ROWS, MAX_FAR_SHARE, MIN_ROWS, MIN_FAR_DAYS = 3, 0.01, 20, 365
MIN_OPEN_SHARE = 0.5  # share of the days with rows, closed weekdays aside, from which on a day without rows is a gap
MIN_CLOSED_WEEKS = 4
MAX_CLOSED_WEEKDAY_SHARE = 0.05  # share of a closed weekday's days that have rows all the same
MAX_HOLIDAY_SHARE = 0.01  # share of the days that holidays take
MIN_SEASON_DAYS = 21  # consecutive days without a row that are reported as a closed season


def main_span(days: Mapping[date, int]) -> tuple[date, date, int]:
    """The span of days that holds nearly all rows.

    Parameters
    ----------
    days : mapping of date to int
        Number of rows by day; not empty.

    Returns
    -------
    first, last : date
        The first and the last day with rows, apart from strays.
    strays : int
        Number of rows outside of the span: few, and far from all others.

    Examples
    --------
    >>> days = {date(2024, 5, day): 100 for day in range(1, 31)} | {date(1970, 1, 1): 2}
    >>> first, last, strays = main_span(days)
    >>> first.isoformat(), last.isoformat(), strays
    ('2024-05-01', '2024-05-30', 2)
    """
    groups = _groups(sorted(days))
    total = sum(days.values())
    while len(groups) > 1:
        sizes = [sum(days[day] for day in group) for group in groups]
        # The outermost cut first: what lies beyond a wider gap may hide a nearer one.
        first, last = groups[0], groups[-1]
        left = _is_stray(sizes[0], total, groups[1][0] - first[-1], groups[-1][-1] - groups[1][0])
        right = _is_stray(sizes[-1], total, last[0] - groups[-2][-1], groups[-2][-1] - groups[0][0])
        if left and (not right or sizes[0] <= sizes[-1]):
            groups = groups[1:]
        elif right:
            groups = groups[:-1]
        else:
            break
    inside = [day for group in groups for day in group]
    return inside[0], inside[-1], total - sum(days[day] for day in inside)


def _groups(ordered: list[date]) -> list[list[date]]:
    """Days, split at every gap that is wide enough for strays."""
    groups = [[ordered[0]]]
    for before, day in pairwise(ordered):
        if (day - before).days > MIN_STRAY_GAP_DAYS:
            groups.append([])
        groups[-1].append(day)
    return groups


def _is_stray(rows: int, total: int, gap: timedelta, others: timedelta) -> bool:
    if rows <= MAX_STRAY_SHARE * total:
        return True
    is_far = gap.days > max(MIN_FAR_DAYS, others.days)
    return total >= MIN_ROWS and rows <= max(MAX_FAR_ROWS, MAX_FAR_SHARE * total) and is_far


def observe(table: str, days: Mapping[date, int], *, today: date, is_steady: bool = True) -> Iterator[Observation]:
    """Stray days, days in the future and, for a steady table, the gaps between days.

    Parameters
    ----------
    table : str
        Name of the table.
    days : mapping of date to int
        Number of rows by day.
    today : date
        The newest day that can have happened.
    is_steady : bool, default True
        Whether the table has rows on most days, so that a day without rows is reported.
    """
    if not days:
        return
    first, last, strays = main_span(days)
    if strays:
        stray_days = [day for day in sorted(days) if not first <= day <= last]
        yield Observation(
            Code.STRAY_DAYS, table, {"rows": strays, "days": stray_days[:3], "first": first, "last": last}
        )
    future = [day for day in sorted(days) if day > today]
    if future:
        rows = sum(days[day] for day in future)
        figures = {"rows": rows, "first": future[0], "last": future[-1], "today": today}
        yield Observation(Code.FUTURE_ROWS, table, figures)
    if is_steady:
        yield from _gaps(table, {day for day in days if first <= day <= min(last, today)})


def _gaps(table: str, days: set[date]) -> Iterator[Observation]:
    """Closed weekdays, missing days and closed seasons of a business that has rows on most of its days."""
    if not days:
        return
    first, last = min(days), max(days)
    every = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    weekdays = [[day for day in every if day.weekday() == n] for n in range(7)]
    closed = [
        n
        for n, dates in enumerate(weekdays)
        if len(dates) >= MIN_CLOSED_WEEKS and sum(d in days for d in dates) <= MAX_CLOSED_WEEKDAY_SHARE * len(dates)
    ]
    open_days = [day for day in every if day.weekday() not in closed]
    missing = [day for day in open_days if day not in days]
    if not open_days or len(missing) > (1 - MIN_OPEN_SHARE) * len(open_days):
        return
    if closed:
        yield Observation(Code.CLOSED_WEEKDAYS, table, {"weekdays": closed})
    runs: list[list[date]] = []
    for before, day in zip([date.min, *open_days], open_days, strict=False):
        if day in days:
            continue
        if runs and runs[-1][-1] == before:
            runs[-1].append(day)
        else:
            runs.append([day])
    seasons = [run for run in runs if (run[-1] - run[0]).days + 1 >= MIN_SEASON_DAYS]
    for run in seasons:
        figures = {"first": run[0], "last": run[-1], "days": (run[-1] - run[0]).days + 1}
        yield Observation(Code.CLOSED_SEASON, table, figures)
    rest = [run for run in runs if run not in seasons]
    if sum(map(len, rest)) > max(2, MAX_HOLIDAY_SHARE * len(open_days)):
        longest = max(rest, key=len)
        yield Observation(
            Code.MISSING_DAYS, table,
            {"missing": sum(map(len, rest)), "days": len(open_days), "first": longest[0], "last": longest[-1],
             "longest": len(longest)},
        )  # fmt: skip

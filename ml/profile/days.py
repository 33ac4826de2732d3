"""Which days there are: strays far off, rows of the future, missing days, closed weekdays and seasons.

Belongs here: questions about a count of rows per day. Does not belong here: whether a day is refused (see
`expectations`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from itertools import pairwise

from ml.profile.observations import Code, Observation

STRAY_SHARE, STRAY_DAYS = 0.001, 60  # so few rows, so far off, are no reason to begin earlier or end later
# … nor are as few as these, of at least so many, where they lie farther off than a year and than all others span.
FEW, FEW_SHARE, AMONG, FAR = 3, 0.01, 20, 365
DAILY = 0.5  # share of the days that a business without gaps brings rows on, closed weekdays apart
CLOSED_WEEKS = 4
FEW_MISSING = 0.01  # share of the days that holidays take
SEASON = 21  # days in a row without a row that are told as a season


def main_span(days: Mapping[date, int]) -> tuple[date, date, int]:
    """First and last day with rows, leaving out few rows that lie far off, and how many rows these are.

    Parameters
    ----------
    days : day to rows; not empty
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
    """Days parted at every gap that is wide enough for strays."""
    groups = [[ordered[0]]]
    for before, day in pairwise(ordered):
        if (day - before).days > STRAY_DAYS:
            groups.append([])
        groups[-1].append(day)
    return groups


def _is_stray(rows: int, total: int, gap: timedelta, others: timedelta) -> bool:
    if rows <= STRAY_SHARE * total:
        return True
    is_far = gap.days > max(FAR, others.days)
    return total >= AMONG and rows <= max(FEW, FEW_SHARE * total) and is_far


def observe(table: str, days: Mapping[date, int], *, today: date, is_steady: bool = True) -> Iterator[Observation]:
    """What is strange about the days of a table.

    Parameters
    ----------
    days : day to rows
    today : the newest day that can have happened
    is_steady : whether the table brings rows on most days, so that one without is worth a word
    """
    if not days:
        return
    first, last, strays = main_span(days)
    if strays:
        off = [day for day in sorted(days) if not first <= day <= last]
        yield Observation(Code.STRAY_DAYS, table, {"rows": strays, "days": off[:3], "first": first, "last": last})
    ahead = [day for day in sorted(days) if day > today]
    if ahead:
        said = {"rows": sum(days[day] for day in ahead), "first": ahead[0], "last": ahead[-1], "today": today}
        yield Observation(Code.FUTURE_ROWS, table, said)
    if is_steady:
        yield from _gaps(table, {day for day in days if first <= day <= min(last, today)})


def _gaps(table: str, there: set[date]) -> Iterator[Observation]:
    """Closed weekdays, missing days and closed seasons of a business that otherwise brings rows on most days."""
    if not there:
        return
    first, last = min(there), max(there)
    every = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    weekdays = [[day for day in every if day.weekday() == n] for n in range(7)]
    closed = [
        n for n, of in enumerate(weekdays) if len(of) >= CLOSED_WEEKS and sum(d in there for d in of) <= 0.05 * len(of)
    ]
    open_days = [day for day in every if day.weekday() not in closed]
    missing = [day for day in open_days if day not in there]
    if not open_days or len(missing) > (1 - DAILY) * len(open_days):
        return
    if closed:
        yield Observation(Code.CLOSED_WEEKDAYS, table, {"weekdays": closed})
    runs: list[list[date]] = []
    for before, day in zip([date.min, *open_days], open_days, strict=False):
        if day in there:
            continue
        if runs and runs[-1][-1] == before:
            runs[-1].append(day)
        else:
            runs.append([day])
    seasons = [run for run in runs if (run[-1] - run[0]).days + 1 >= SEASON]
    for run in seasons:
        said = {"first": run[0], "last": run[-1], "days": (run[-1] - run[0]).days + 1}
        yield Observation(Code.CLOSED_SEASON, table, said)
    rest = [run for run in runs if run not in seasons]
    if sum(map(len, rest)) > max(2, FEW_MISSING * len(open_days)):
        longest = max(rest, key=len)
        yield Observation(
            Code.MISSING_DAYS, table,
            {"missing": sum(map(len, rest)), "days": len(open_days), "first": longest[0], "last": longest[-1],
             "longest": len(longest)},
        )  # fmt: skip

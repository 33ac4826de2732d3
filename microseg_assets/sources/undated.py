"""Rows without a readable day: which days they may belong to, by their position in their file.

A file is in ascending or descending order of days; so a row without a day belongs to the day of its neighbours. If
these are of two days, it belongs to one of them or to a day between them without rows: if there is such a day, the row
may be all that is left of it. (Not where days without rows are common, as with campaigns: they have lost nothing.) If
rows have no order (a query, a database), nothing is known.

Belongs here: which days, and how many rows each. Does not belong here: the verdict on a day (see `expectations`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import pairwise

_MAX_NEIGHBOUR_SHARE = 0.1  # of a day's rows: fewer may belong to that day even if a day without rows is next to it
_MIN_DENSITY = 0.5  # share of days with rows from which a day without rows is suspicious
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Lump:
    """Consecutive rows without a day.

    Parameters
    ----------
    source : their file
    before, after : the day of the nearest row before and after them in the file; None if there is none
    rows : how many they are
    """

    source: str
    before: date | None
    after: date | None
    rows: int


def allocate(lumps: Iterable[Lump], delivered: Mapping[date, int], start: date, last: date) -> dict[date, int]:
    """Count the undated rows that may belong to each day.

    Parameters
    ----------
    delivered : day to its rows, of all files
    start, last : first and last possible day
    """
    days = sorted(day for day in delivered if day <= last)
    if not days:
        return {}
    counts: Counter[date] = Counter()
    is_dense = len(days) >= _MIN_DENSITY * ((days[-1] - days[0]).days + 1)
    for lump in lumps:
        gap = _between(lump.before, lump.after, days, start, last) if is_dense else []
        for day, rows in _of(lump, gap, delivered):
            counts[day] += rows
    return dict(sorted(counts.items()))


def _of(lump: Lump, gap: list[date], delivered: Mapping[date, int]) -> list[tuple[date, int]]:
    """The days to which a lump may belong, possibly one of the days without rows in `gap`, and its rows for each."""
    before, after, rows = lump.before, lump.after, lump.rows
    neighbours = [day for day in dict.fromkeys((before, after)) if day is not None and day in delivered]
    if len(neighbours) == 1 and before == after:
        return [(neighbours[0], rows)]
    if not gap:  # either of the two: half of the rows for each, the larger half for the later
        share = dict.fromkeys(neighbours, rows // max(len(neighbours), 1))
        if neighbours:
            share[max(neighbours)] += rows - sum(share.values())
        return list(share.items())
    near = [day for day in neighbours if rows < _MAX_NEIGHBOUR_SHARE * delivered[day]]
    return [(day, rows) for day in [*near, *gap]]


def _between(before: date | None, after: date | None, days: list[date], start: date, last: date) -> list[date]:
    """The days without rows between two successive days with rows, or before the first or after the last of them."""
    if before is None and after is None:
        return []
    if before is None or after is None:
        edge = before or after
        assert edge is not None
        is_last, is_first = edge >= days[-1], edge <= days[0]
        # A file in descending order loses its newest day at the top, one in ascending order at the end.
        if is_last and (before is not None or not is_first):
            return list(_days(max(edge, days[-1]) + _DAY, last))
        if is_first:
            return list(_days(start, min(edge, days[0]) - _DAY))
        if before is not None:
            return list(_days(edge + _DAY, days[bisect_right(days, edge)] - _DAY))
        return list(_days(days[bisect_left(days, edge) - 1] + _DAY, edge - _DAY))
    low, high = sorted((before, after))
    is_next = bisect_left(days, high) == bisect_right(days, low)  # no day with rows lies between
    return list(_days(max(low + _DAY, start), high - _DAY)) if is_next else []


def _days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += _DAY


def between_files(lumps: Iterable[Lump], files: Mapping[str, tuple[date, date]]) -> list[Lump]:
    """The lumps, where those of a file without any dated row lie between the days of the neighbouring files.

    Files are in order of their names, ascending or descending in time; if the days of the others are in neither order,
    nothing is known.

    Parameters
    ----------
    files : file to its first and last day
    """
    result = []
    spans = [files[name] for name in sorted(files)]
    is_ascending = all(a <= b for (a, _), (b, _) in pairwise(spans))
    is_descending = not is_ascending and all(a >= b for (_, a), (_, b) in pairwise(spans))
    for lump in lumps:
        if lump.before is None and lump.after is None and (is_ascending or is_descending):
            before = [span for name, span in files.items() if name < lump.source]
            after = [span for name, span in files.items() if name > lump.source]
            older, newer = (before, after) if is_ascending else (after, before)
            earlier = max((last for _, last in older), default=None)
            later = min((first for first, _ in newer), default=None)
            lump = replace(lump, before=earlier, after=later)
        result.append(lump)
    return result

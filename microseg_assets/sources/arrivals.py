"""What a day was delivered, in two figures: how many rows, and a fingerprint of what they hold; and in a third, how
many rows that no day can be read of may be the day's own (see `undated`).

By them a source is compared with what was taken in from it, without keeping the rows twice. The fingerprint is a sum
over the rows, so that neither their order nor the files they come in show; it covers what a row means and what was
wrong with it. Belongs here: the two figures, and the differences between then and now. Does not belong here: which
partitions follow from a difference (see `microseg_assets.planning.staleness`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from types import MappingProxyType

import pyarrow as pa

from microseg_assets.sources.spec import DELIVERED_BEFORE
from ml.engine import quoted
from ml.tables import CUSTOMER_ID, Table

# Of the hash that a fingerprint is made of. A test pins what DuckDB hashes a row to: where that changes, so must this,
# and days taken in before are compared by their number of rows only.
_VERSION = "1:"


@dataclass(frozen=True)
class Arrival:
    """`rows` of a day, the `fingerprint` of what they hold, and how many rows without a day may be of it."""

    rows: int
    fingerprint: str
    undated: int = 0

    @classmethod
    def of_nothing(cls) -> Arrival:
        """A day without rows."""
        return cls(0, _VERSION)

    def holds_other_rows(self, other: Arrival) -> bool:
        if self.rows != other.rows:
            return True
        comparable = self.fingerprint.startswith(_VERSION) and other.fingerprint.startswith(_VERSION)
        return comparable and self.fingerprint != other.fingerprint

    def differs(self, now: Arrival) -> bool:
        """Whether the day is worth taking in again: its rows are others, or fewer rows without a day may be its own.

        More of them beside the same rows are none of the day's: it had its rows before they came.
        """
        return self.holds_other_rows(now) or now.undated < self.undated


@dataclass(frozen=True)
class Change:
    """A day of a table whose source no longer holds what was taken in from it."""

    table: str
    day: date
    then: Arrival
    now: Arrival

    def __str__(self) -> str:
        """``3 rows more``, ``1 row fewer`` or ``other values``, of the source against what was taken in."""
        more = self.now.rows - self.then.rows
        if not self.then.holds_other_rows(self.now):
            return f"{self.then.undated - self.now.undated:,} rows without a day fewer"
        if not more:
            return "other values"
        return f"{abs(more):,} row{'s' if abs(more) != 1 else ''} {'more' if more > 0 else 'fewer'}"


def arrivals_sql(table: Table, rows: str, may_be_of_a_day: str = "true") -> str:
    """`day`, `rows` and `fingerprint` of delivered rows, which carry `day`, `problem` and `delivered`; and how many
    rows there are without a day.

    Where a stamp may be missing, what a row says besides is versioned by delivery: only dated rows count, by who and
    when.

    Parameters
    ----------
    rows : the name of what is selected from
    may_be_of_a_day : the condition under which a row without a day is counted
    """
    is_versioned = table.stamp is not None and not table[table.stamp].required
    columns = [c for c in table.columns if not is_versioned or c.name in (CUSTOMER_ID.name, table.stamp)]
    values = [f"CAST({quoted(column.name)} AS {column.type})" for column in columns]
    if not is_versioned:
        values += ["CAST(problem AS VARCHAR)", "CAST(delivered AS VARCHAR)"]
    dated = f"day IS NOT NULL AND problem IS DISTINCT FROM '{DELIVERED_BEFORE}'"  # the same file again changes nothing
    if is_versioned:
        dated += f" AND {quoted(table.stamp or '')} IS NOT NULL"
    hashed = ", ".join(values)
    undated = f"day IS NULL AND {may_be_of_a_day} AND problem <> '{DELIVERED_BEFORE}'"
    return (
        f"SELECT day, count(*) AS rows, CAST(sum(CAST(hash({hashed}) AS HUGEINT)) AS VARCHAR) AS fingerprint "
        f"FROM {rows} WHERE ({dated}) OR ({undated}) GROUP BY day ORDER BY day"
    )


def arrivals(found: pa.Table, undated: Mapping[date, int] = MappingProxyType({})) -> dict[date, Arrival]:
    """What `arrivals_sql` has found, by day; and how many rows without a day may be of each."""
    rows = {row["day"]: row for row in found.to_pylist() if row["day"] is not None}
    made = {day: Arrival(row["rows"], f"{_VERSION}{row['fingerprint']}") for day, row in rows.items()}
    for day, lost in undated.items():
        made[day] = replace(made.get(day, Arrival.of_nothing()), undated=lost)
    return dict(sorted(made.items()))


def dropped(then: Mapping[date, Arrival], now: Mapping[date, Arrival]) -> set[date]:
    """Days taken in that the source no longer holds because it keeps only what is new.

    They lie before the first day that it still holds. Where such days are gone, that first day is one of them if it has
    fewer rows than before: a source that keeps the last so many hours, or counts days in another zone, cuts through it.
    """
    first = min(now, default=date.max)
    found = {day for day, was in then.items() if day < first and was.rows}
    if found and first in then and now[first].rows < then[first].rows:
        found.add(first)
    return found


def changes(table: str, then: Mapping[date, Arrival], now: Mapping[date, Arrival]) -> list[Change]:
    """The days among those taken in on which the source has come to hold something else, ascending.

    What the source has dropped as old does not count (see `dropped`): what was taken in from it stays.
    """
    empty, gone = Arrival.of_nothing(), dropped(then, now)
    found = ((day, was, now.get(day, empty)) for day, was in sorted(then.items()) if day not in gone)
    return [Change(table, day, was, is_) for day, was, is_ in found if was.differs(is_)]


def days_told(found: Iterable[Change], most: int = 3) -> str:
    """``2017-05-01 (3 rows more), 2017-05-02 (other values) and 4 more days``."""
    listed = list(found)
    told = ", ".join(f"{one.day} ({one})" for one in listed[:most])
    rest = len(listed) - most
    return told + (f" and {rest:,} more day{'s' if rest > 1 else ''}" if rest > 0 else "")

"""What a day was delivered, in two figures: how many rows, and a fingerprint of what they hold.

By them a source is compared with what was taken in from it, without keeping the rows twice. The fingerprint is a sum
over the rows, so that neither their order nor the files they come in show; it covers what a row means and what was
wrong with it. Belongs here: the two figures, and the differences between then and now. Does not belong here: which
partitions follow from a difference (see `microseg_assets.status`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa

from ml.engine import quoted
from ml.tables import Table

# What DuckDB hashes a row to may differ between its versions: then only the rows are compared.
_VERSION = f"{duckdb.__version__}:"


@dataclass(frozen=True)
class Arrival:
    """`rows` of a day, and the `fingerprint` of what they hold."""

    rows: int
    fingerprint: str

    @classmethod
    def of_nothing(cls) -> Arrival:
        """A day without rows."""
        return cls(0, _VERSION)

    def differs(self, other: Arrival) -> bool:
        if self.rows != other.rows:
            return True
        comparable = self.fingerprint.startswith(_VERSION) and other.fingerprint.startswith(_VERSION)
        return comparable and self.fingerprint != other.fingerprint


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
        if not more:
            return "other values"
        return f"{abs(more):,} row{'s' if abs(more) != 1 else ''} {'more' if more > 0 else 'fewer'}"


def arrivals_sql(table: Table, rows: str) -> str:
    """`day`, `rows` and `fingerprint` of delivered rows, which carry `day`, `problem` and `delivered`.

    Parameters
    ----------
    rows : the name of what is selected from
    """
    values = [f"CAST({quoted(column.name)} AS {column.type})" for column in table.columns]
    hashed = ", ".join([*values, "CAST(problem AS VARCHAR)", "CAST(delivered AS VARCHAR)"])
    return (
        f"SELECT day, count(*) AS rows, CAST(sum(CAST(hash({hashed}) AS HUGEINT)) AS VARCHAR) AS fingerprint "
        f"FROM {rows} WHERE day IS NOT NULL GROUP BY day ORDER BY day"
    )


def arrivals(found: pa.Table) -> dict[date, Arrival]:
    """What `arrivals_sql` has found, by day."""
    return {row["day"]: Arrival(row["rows"], f"{_VERSION}{row['fingerprint']}") for row in found.to_pylist()}


def changes(table: str, then: Mapping[date, Arrival], now: Mapping[date, Arrival]) -> list[Change]:
    """The days among those taken in on which the source has come to hold something else, ascending.

    Days before the first one that the source still holds do not count: a source may drop what is old, and what was
    taken in from it stays.
    """
    first = min(now, default=date.max)
    empty = Arrival.of_nothing()
    found = ((day, was, now.get(day, empty)) for day, was in sorted(then.items()) if day >= first)
    return [Change(table, day, was, is_) for day, was, is_ in found if was.differs(is_)]


def days_told(found: Iterable[Change], most: int = 3) -> str:
    """``2017-05-01 (3 rows more), 2017-05-02 (other values) and 4 more days``."""
    listed = list(found)
    told = ", ".join(f"{one.day} ({one})" for one in listed[:most])
    rest = len(listed) - most
    return told + (f" and {rest:,} more day{'s' if rest > 1 else ''}" if rest > 0 else "")

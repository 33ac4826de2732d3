"""What was delivered for a day, in three figures: the number of rows, a fingerprint of their content, and the number
of rows without a readable day that may belong to it (see `undated`).

They let a source be compared with what was ingested from it, without storing the rows twice. The fingerprint is a sum
over the rows, so that neither their order nor their files matter; it covers what a row means and what is wrong with it.
Belongs here: the figures, and the differences between then and now. Does not belong here: which partitions a difference
makes stale (see `microseg_assets.planning.staleness`).
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

# Of the hash behind a fingerprint. A test pins DuckDB's hash of a row: if that changes, so must this, and days ingested
# before are compared by their number of rows only.
_VERSION = "1:"


@dataclass(frozen=True)
class Arrival:
    """The `rows` of a day, a `fingerprint` of their content, and how many `undated` rows may belong to it."""

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
        """Whether to ingest the day again: its rows have changed, or fewer undated rows may belong to it.

        More undated rows while its own are the same cannot be the day's: it had its rows before they were delivered.
        """
        return self.holds_other_rows(now) or now.undated < self.undated


@dataclass(frozen=True)
class Change:
    """A day of a table whose source no longer has the rows that were ingested."""

    table: str
    day: date
    then: Arrival
    now: Arrival

    def __str__(self) -> str:
        """``3 rows more``, ``1 row fewer`` or ``other values``: the source compared with what was ingested."""
        more = self.now.rows - self.then.rows
        if not self.then.holds_other_rows(self.now):
            return f"{self.then.undated - self.now.undated:,} rows without a day fewer"
        if not more:
            return "other values"
        return f"{abs(more):,} row{'s' if abs(more) != 1 else ''} {'more' if more > 0 else 'fewer'}"


def arrivals_sql(table: Table, rows: str, may_be_of_a_day: str = "true") -> str:
    """SQL for `day`, `rows` and `fingerprint` of delivered rows, which have `day`, `problem` and `delivered`; and the
    number of rows without a day.

    Where the timestamp is optional, attributes are versioned by delivery: only dated rows count, by customer and time.

    Parameters
    ----------
    rows : name of the relation to select from
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


def arrivals(counts: pa.Table, undated: Mapping[date, int] = MappingProxyType({})) -> dict[date, Arrival]:
    """The result of `arrivals_sql` by day, with the number of undated rows that may belong to each."""
    rows = {row["day"]: row for row in counts.to_pylist() if row["day"] is not None}
    result = {day: Arrival(row["rows"], f"{_VERSION}{row['fingerprint']}") for day, row in rows.items()}
    for day, lost in undated.items():
        result[day] = replace(result.get(day, Arrival.of_nothing()), undated=lost)
    return dict(sorted(result.items()))


def dropped(then: Mapping[date, Arrival], now: Mapping[date, Arrival]) -> set[date]:
    """Ingested days that the source no longer has because it keeps only recent rows.

    They lie before the first day that it still has. If there are any, that first day is one of them if it has fewer
    rows than before: a source that keeps a number of hours, or counts days in another time zone, cuts through it.
    """
    first = min(now, default=date.max)
    result = {day for day, was in then.items() if day < first and was.rows}
    if result and first in then and now[first].rows < then[first].rows:
        result.add(first)
    return result


def changes(table: str, then: Mapping[date, Arrival], now: Mapping[date, Arrival]) -> list[Change]:
    """The ingested days whose rows in the source have changed, ascending.

    Days that the source has dropped as old do not count (see `dropped`): what was ingested from them stays.
    """
    empty, gone = Arrival.of_nothing(), dropped(then, now)
    pairs = ((day, was, now.get(day, empty)) for day, was in sorted(then.items()) if day not in gone)
    return [Change(table, day, was, is_) for day, was, is_ in pairs if was.differs(is_)]


def list_days(changed: Iterable[Change], max_days: int = 3) -> str:
    """``2017-05-01 (3 rows more), 2017-05-02 (other values) and 4 more days``."""
    listed = list(changed)
    text = ", ".join(f"{one.day} ({one})" for one in listed[:max_days])
    rest = len(listed) - max_days
    return text + (f" and {rest:,} more day{'s' if rest > 1 else ''}" if rest > 0 else "")

"""Day measures: a day in a few numbers, each against what came before it.

Belongs here: how each number is computed from profiles. Does not belong here: which numbers are good (the suite of
`expectations.suites`, with the thresholds of `expectations.thresholds`). A number that cannot be had, because too
little is known, is missing, and is not judged.

Rows of one customer come together: a basket has many lines. So where chance is allowed for, customers count, not rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from expectations.history import History
from expectations.past import Past
from expectations.profiles import counted_columns
from expectations.rules import ValidationSpec
from expectations.shifts import shift_of
from expectations.thresholds import Severity
from ml.tables import Table

if TYPE_CHECKING:
    import numpy as np

    from ml.engine import Engine

UNKNOWN, SILENT, VOLUME, SHIFT = "unknown customers", "days without rows", "rows against usual", "{}: shift"
EXAMPLES = 3  # unknown customers that are named
_FEW = 20.0  # customers a day; fewer are not much, so that more than usual is told only beyond this
_Z_VOLUME = 3.0  # standard errors that a small count is allowed


@dataclass(frozen=True)
class DayMeasures:
    """The numbers of several days.

    Parameters
    ----------
    days : the days, ascending
    values : measure to its value on each of them; NaN where it is not judged
    notes : measure and day to what explains the value
    """

    days: Sequence[date]
    values: Mapping[str, np.ndarray]
    notes: Mapping[tuple[str, date], str] = field(default_factory=dict)


def measure(
    engine: Engine,
    table: Table,
    rows: pa.Table,
    profiles: pa.Table,
    days: Sequence[date],
    spec: ValidationSpec,
    past: Past,
    failed: Collection[date] = (),
) -> DayMeasures:
    """Measure days against what was accepted before each of them.

    Parameters
    ----------
    rows : the rows of the days that are accepted if their day is
    profiles : their profiles
    failed : those of the days that are refused, and so are nothing to compare later ones with
    """
    import numpy as np

    days = sorted(days)
    history = History.of(pa.concat_tables([past.profiles, profiles]), days, spec, past, failed)
    values: dict[str, np.ndarray] = {}
    notes: dict[tuple[str, date], str] = {}
    if past.customers is not None and table.name != "customers":
        values[UNKNOWN] = _unknown(engine, rows, history, past.customers, notes)
    if table.name in spec.freshness.max_days:
        values[SILENT] = _silent(history, past)
    if table.name in spec.volume.tables:
        values[VOLUME] = _volume(history, spec, notes)
    if table.name in spec.shift.tables:
        for column in counted_columns(table):
            if spec.shift.limit(column) is not None:
                name = SHIFT.format(column)
                values[name] = shift_of(history, table[column], spec, name, notes)
    return DayMeasures(days, {name: np.asarray(found, dtype=float) for name, found in values.items()}, notes)


def _unknown(
    engine: Engine, rows: pa.Table, history: History, customers: object, notes: dict[tuple[str, date], str]
) -> np.ndarray:
    """Share of a day's rows whose customer was in no delivery of `customers` up to that day."""
    import numpy as np

    found = engine.query(
        """
        WITH known AS (SELECT customer_id, MIN(day) AS since FROM customers GROUP BY customer_id),
        given AS (SELECT day, customer_id, COUNT(*) AS n FROM accepted GROUP BY day, customer_id),
        strangers AS (
            SELECT given.day, given.customer_id, given.n,
                   row_number() OVER (PARTITION BY given.day ORDER BY given.customer_id) AS nth
            FROM given LEFT JOIN known ON given.customer_id = known.customer_id
            WHERE known.since IS NULL OR known.since > given.day
        )
        SELECT day, CAST(SUM(n) AS BIGINT) AS n, COUNT(*) AS customers,
               MAX(CASE WHEN nth = 1 THEN customer_id END) AS example_1,
               MAX(CASE WHEN nth = 2 THEN customer_id END) AS example_2,
               MAX(CASE WHEN nth = 3 THEN customer_id END) AS example_3
        FROM strangers GROUP BY day ORDER BY day
        """,
        accepted=rows.select(["day", "customer_id"]), customers=customers,
    )  # fmt: skip
    of_day = {row["day"]: row for row in found.to_pylist()}
    counts = np.array([of_day[day]["n"] if day in of_day else 0 for day in history.days], dtype=float)
    for day, row in of_day.items():
        named = ", ".join(row[f"example_{i}"][:40] for i in range(1, EXAMPLES + 1) if row[f"example_{i}"] is not None)
        more = " …" if row["customers"] > EXAMPLES else ""
        notes[UNKNOWN, day] = f"{row['n']:,} rows of {row['customers']:,} customers: {named}{more}"
    all_rows = history.rows[history.judged]
    return np.divide(counts, all_rows, out=np.full(len(counts), np.nan), where=all_rows > 0)


def _silent(history: History, past: Past) -> np.ndarray:
    """Days since the newest row: 0 where the day has one. Beyond the window it is the window's length, at least."""
    import numpy as np

    place = np.arange(len(history.rows))
    newest = np.maximum.accumulate(np.where((history.rows > 0) & history.accepted, place, -1))[history.judged]
    began = past.began is not None and past.began < history.first
    newest = np.where(history.rows[history.judged] > 0, history.judged, newest)
    return np.where((newest < 0) & (not began), np.nan, history.judged - newest)


def _volume(history: History, spec: ValidationSpec, notes: dict[tuple[str, date], str]) -> np.ndarray:
    """Rows against the median of the same weekday, with the benefit of the doubt.

    What is compared is not the count but the rate nearest to the usual one that could still have given it, by the
    square-root transform that makes the spread of a Poisson count constant (Anscombe, Biometrika 35, 1948, 246-254).
    """
    import numpy as np

    back = history.judged[:, None] - 7 * np.arange(1, spec.volume.weeks + 1)
    known = (back >= 0) & history.accepted[np.maximum(back, 0)]
    then = np.where(known, history.rows[np.maximum(back, 0)], np.nan)
    enough = known.sum(axis=1) >= spec.volume.min_weeks
    usual = np.full(len(enough), np.nan)
    if enough.any():
        usual[enough] = np.nanmedian(then[enough], axis=1)
    rows = history.rows[history.judged]
    for day, n, middle in zip(history.days, rows, usual, strict=True):
        if middle == middle:
            notes[VOLUME, day] = f"{n:,.0f} rows, usually {middle:,.0f}"
    # A customer's lines come together: the scale on which counts scatter as counts do.
    days = 7 * spec.volume.weeks
    lines = history.trailing(history.rows, days) + rows
    scale = np.divide(
        history.trailing(history.customers, days) + history.customers[history.judged], lines,
        out=np.ones(len(lines)), where=lines > 0,
    )  # fmt: skip
    count, middle = rows * scale, np.maximum(usual * scale, 1.0)
    most = (np.sqrt(count + 3 / 8) + _Z_VOLUME / 2) ** 2 - 3 / 8
    least = np.maximum(np.sqrt(count + 3 / 8) - _Z_VOLUME / 2, np.sqrt(3 / 8)) ** 2 - 3 / 8
    ratio = np.where(count < middle, np.minimum(most / middle, 1.0), np.maximum(least / np.maximum(middle, _FEW), 1.0))
    return np.where(enough, ratio, np.nan)


@dataclass(frozen=True)
class Limit:
    """What a measure may be."""

    measure: str
    least: float | None
    most: float | None
    severity: Severity


def limits(table: Table, spec: ValidationSpec) -> list[Limit]:
    """The limits of a table's measures; a measure without one is only reported."""
    found = []
    if table.name != "customers" and (most := spec.references.max_unknown_share) is not None:
        found.append(Limit(UNKNOWN, None, most, spec.references.severity))
    if table.name in spec.freshness.max_days:
        found.append(Limit(SILENT, None, spec.freshness.max_days[table.name], spec.freshness.severity))
    if table.name in spec.volume.tables:
        found.append(Limit(VOLUME, spec.volume.low, spec.volume.high, spec.volume.severity))
    if table.name in spec.shift.tables:
        found += [
            Limit(SHIFT.format(column), None, most, spec.shift.severity)
            for column in counted_columns(table)
            if (most := spec.shift.limit(column)) is not None
        ]
    return found

"""Day measures: a day in a few numbers, each compared with the days before it.

Belongs here: how each number is computed from profiles. Does not belong here: which numbers are acceptable (the suite
of `expectations.suites`, with the thresholds of `expectations.thresholds`). A number that cannot be computed, because
too little is known, is missing and is not judged.

Rows of one customer come together: a basket has many lines. So allowances for chance count customers, not rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa

from expectations.history import History
from expectations.past import Past, window
from expectations.profiles import counted_columns
from expectations.references import unknown_share
from expectations.rules import ValidationSpec
from expectations.shifts import shift_of
from expectations.thresholds import Severity
from ml.tables import Table

if TYPE_CHECKING:
    import numpy as np

UNKNOWN, SILENT, VOLUME, SHIFT = "unknown customers", "days without rows", "rows against usual", "{}: shift"
_MIN_USUAL_CUSTOMERS = 20.0  # a day; where fewer are usual, a day with more is compared with this many
_Z_VOLUME = 3.0  # standard errors that a count may deviate by chance


@dataclass(frozen=True)
class DayMeasures:
    """The numbers of several days.

    Parameters
    ----------
    days : the days, ascending
    values : measure to its value on each day, as it is judged; NaN where it is not judged
    plain : measure to its value as it is reported, where the judged one makes an allowance for chance
    notes : measure and day to what explains the value
    """

    days: Sequence[date]
    values: Mapping[str, np.ndarray]
    notes: Mapping[tuple[str, date], str] = field(default_factory=dict)
    plain: Mapping[str, np.ndarray] = field(default_factory=dict)


def measure(
    table: Table,
    profiles: pa.Table,
    unknown: pa.Table | None,
    days: Sequence[date],
    spec: ValidationSpec,
    past: Past,
    failed: Collection[date] = (),
) -> DayMeasures:
    """Compare days with what was accepted before each of them.

    Parameters
    ----------
    profiles : of the rows that are accepted if their day is
    unknown : rows of unknown customers (`references.count_unknown_customers`); None if there is no customers table
    failed : the days that are refused, with which later ones are not compared
    """
    import numpy as np

    days = sorted(days)
    history = History.of(pa.concat_tables([past.profiles, profiles]), days, spec, past, failed)
    values: dict[str, np.ndarray] = {}
    notes: dict[tuple[str, date], str] = {}
    if unknown is not None:
        values[UNKNOWN], examples = unknown_share(unknown, days, history.rows[history.judged])
        notes |= {(UNKNOWN, day): note for day, note in examples.items()}
    if table.name in spec.freshness.max_days:
        values[SILENT] = _silent(history, window(spec), notes)
    plain = {}
    if table.name in spec.volume.tables:
        values[VOLUME], plain[VOLUME] = _volume(history, spec, notes)
    if table.name in spec.shift.tables:
        for column in counted_columns(table):
            if spec.shift.limit(column) is not None:
                name = SHIFT.format(column)
                values[name] = shift_of(history, table[column], spec, name, notes)
    return DayMeasures(days, {name: np.asarray(of_day, dtype=float) for name, of_day in values.items()}, notes, plain)


def _silent(history: History, back: int, notes: dict[tuple[str, date], str]) -> np.ndarray:
    """Days since the newest row: 0 if the day has rows, `back` + 1 if none of the `back` days before it has any.

    Days before the first row are not judged. Of the time before the `back` days it is only known whether any day was
    accepted; if so, it may have had rows.
    """
    import numpy as np

    positions, judged = np.arange(len(history.rows)), history.judged
    newest = np.maximum.accumulate(np.where((history.rows > 0) & history.accepted, positions, -1))[judged]
    silent = np.where(history.rows[judged] > 0, 0, np.minimum(judged - newest, back + 1))
    began = np.inf if history.began is None else history.began
    for day, days, position in zip(history.days, silent, judged, strict=True):
        if days > back and began < position - back:
            notes[SILENT, day] = f"none in the {back} days before it"
    return np.where((silent > back) & (began >= judged - back), np.nan, silent)


def _volume(
    history: History, spec: ValidationSpec, notes: dict[tuple[str, date], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows relative to the median of the same weekday: with an allowance for chance, and as the plain ratio.

    What is judged is not the count but, of the rates that could have produced it by chance, the one nearest to the
    usual rate, by the variance-stabilizing transform of a Poisson count (Anscombe, Biometrika 35, 1948, 246-254).
    """
    import numpy as np

    back = history.judged[:, None] - 7 * np.arange(1, spec.volume.weeks + 1)
    known = (back >= 0) & history.accepted[np.maximum(back, 0)]
    earlier = np.where(known, history.rows[np.maximum(back, 0)], np.nan)
    enough = known.sum(axis=1) >= spec.volume.min_weeks
    usual = np.full(len(enough), np.nan)
    if enough.any():
        usual[enough] = np.nanmedian(earlier[enough], axis=1)
    rows = history.rows[history.judged]
    for day, n, middle in zip(history.days, rows, usual, strict=True):
        if middle == middle:
            notes[VOLUME, day] = f"{n:,.0f} rows, usually {middle:,.0f}"
    # A customer's lines come together: on the scale of customers, counts have the variance of a Poisson count.
    days = 7 * spec.volume.weeks
    lines = history.baseline(history.rows, days) + rows
    scale = np.divide(
        history.baseline(history.customers, days) + history.customers[history.judged], lines,
        out=np.ones(len(lines)), where=lines > 0,
    )  # fmt: skip
    count, middle = rows * scale, np.maximum(usual * scale, 1.0)
    upper = (np.sqrt(count + 3 / 8) + _Z_VOLUME / 2) ** 2 - 3 / 8
    lower = np.maximum(np.sqrt(count + 3 / 8) - _Z_VOLUME / 2, np.sqrt(3 / 8)) ** 2 - 3 / 8
    ratio = np.where(
        count < middle,
        np.minimum(upper / middle, 1.0),
        np.maximum(lower / np.maximum(middle, _MIN_USUAL_CUSTOMERS), 1.0),
    )
    plain = np.divide(rows, usual, out=ratio.copy(), where=enough & (usual > 0))
    return np.where(enough, ratio, np.nan), np.where(enough, plain, np.nan)


@dataclass(frozen=True)
class Limit:
    """The bounds of a measure."""

    measure: str
    lower: float | None
    upper: float | None
    severity: Severity


def limits(table: Table, spec: ValidationSpec) -> list[Limit]:
    """The limits of a table's measures; a measure without one is only reported."""
    result = []
    if table.name != "customers" and (max_share := spec.references.max_unknown_share) is not None:
        result.append(Limit(UNKNOWN, None, max_share, spec.references.severity))
    if table.name in spec.freshness.max_days:
        result.append(Limit(SILENT, None, spec.freshness.max_days[table.name], spec.freshness.severity))
    if table.name in spec.volume.tables:
        result.append(Limit(VOLUME, spec.volume.low, spec.volume.high, spec.volume.severity))
    if table.name in spec.shift.tables:
        result += [
            Limit(SHIFT.format(column), None, max_shift, spec.shift.severity)
            for column in counted_columns(table)
            if (max_shift := spec.shift.limit(column)) is not None
        ]
    return result

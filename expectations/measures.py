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
_FEW = 20.0  # customers a day; fewer are not much, so that more than usual is told only beyond this
_Z_VOLUME = 3.0  # standard errors that a small count is allowed


@dataclass(frozen=True)
class DayMeasures:
    """The numbers of several days.

    Parameters
    ----------
    days : the days, ascending
    values : measure to its value on each of them, as it is judged; NaN where it is not
    plain : measure to its value as it is told, where chance is allowed for in the one that is judged
    notes : measure and day to what explains the value
    """

    days: Sequence[date]
    values: Mapping[str, np.ndarray]
    notes: Mapping[tuple[str, date], str] = field(default_factory=dict)
    plain: Mapping[str, np.ndarray] = field(default_factory=dict)


def measure(
    table: Table,
    profiles: pa.Table,
    strangers: pa.Table | None,
    days: Sequence[date],
    spec: ValidationSpec,
    past: Past,
    failed: Collection[date] = (),
) -> DayMeasures:
    """Measure days against what was accepted before each of them.

    Parameters
    ----------
    profiles : those of the rows that are accepted if their day is
    strangers : those of them whose customer is unknown (`references.strangers`); None where no customers are brought
    failed : those of the days that are refused, and so are nothing to compare later ones with
    """
    import numpy as np

    days = sorted(days)
    history = History.of(pa.concat_tables([past.profiles, profiles]), days, spec, past, failed)
    values: dict[str, np.ndarray] = {}
    notes: dict[tuple[str, date], str] = {}
    if strangers is not None:
        values[UNKNOWN], who = unknown_share(strangers, days, history.rows[history.judged])
        notes |= {(UNKNOWN, day): said for day, said in who.items()}
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
    return DayMeasures(days, {name: np.asarray(found, dtype=float) for name, found in values.items()}, notes, plain)


def _silent(history: History, back: int, notes: dict[tuple[str, date], str]) -> np.ndarray:
    """Days since the newest row: 0 where the day has one, one more than is looked back where none of those has one.

    A day is not judged before the first row. Of a time before the days that are looked back, nothing is known but
    whether it was: if it was, there may have been rows.
    """
    import numpy as np

    place, judged = np.arange(len(history.rows)), history.judged
    newest = np.maximum.accumulate(np.where((history.rows > 0) & history.accepted, place, -1))[judged]
    silent = np.where(history.rows[judged] > 0, 0, np.minimum(judged - newest, back + 1))
    began = np.inf if history.began is None else history.began
    for day, days, at in zip(history.days, silent, judged, strict=True):
        if days > back and began < at - back:
            notes[SILENT, day] = f"none in the {back} days before it"
    return np.where((silent > back) & (began >= judged - back), np.nan, silent)


def _volume(
    history: History, spec: ValidationSpec, notes: dict[tuple[str, date], str]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows against the median of the same weekday: with the benefit of the doubt, and as the plain ratio.

    What is judged is not the count but the rate nearest to the usual one that could still have given it, by the
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
    plain = np.divide(rows, usual, out=ratio.copy(), where=enough & (usual > 0))
    return np.where(enough, ratio, np.nan), np.where(enough, plain, np.nan)


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

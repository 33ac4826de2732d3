"""Distribution shift: how far a column's values lie from those of the days before, beyond what chance explains.

Belongs here: the one measure that looks into columns. Does not belong here: how values are put into bins (see
`expectations.profiles`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from expectations.history import History
from expectations.profiles import ANY, REST
from expectations.rules import ValidationSpec
from ml.tables import Column

if TYPE_CHECKING:
    from datetime import date

    import numpy as np

_MIN_DAYS = 7  # days with rows that a distribution is compared with: a week has days of different kinds
_TOP = 20  # commonest values that are compared one by one
_EXPECTED = 5.0  # customers that a bin must be expected to have, or it is compared together with others
_Z_SHIFT = 3.09  # of the distribution of the index under no change: one day in a thousand lies beyond


def shift_of(
    history: History, column: Column, spec: ValidationSpec, name: str, notes: dict[tuple[str, date], str]
) -> np.ndarray:
    """Population stability index against the days before, less what chance explains.

    Under no change the index of a sample of n against one of m is about (1/n + 1/m) times a chi-square with one degree
    of freedom less than there are bins (Yurdakul and Naranjo, Journal of Risk Model Validation 14(4), 2020); its upper
    0.1 % is taken off. Bins too thin to be compared, and values beyond the commonest, are compared together.
    """
    import numpy as np

    nothing = np.full(len(history.days), np.nan)
    if column.name not in history.bins:
        return nothing
    labels, counts = history.bins[column.name]
    before, now = history.trailing(counts, spec.shift.days), counts[history.judged]
    m, n = before.sum(axis=1), now.sum(axis=1)
    with_rows = history.trailing((history.rows > 0).astype(float), spec.shift.days)
    enough = (n >= spec.shift.min_rows) & (m >= spec.shift.min_rows) & (with_rows >= _MIN_DAYS)
    if not enough.any():
        return nothing
    before, now, m, n = before[enough], now[enough], m[enough], n[enough]
    people_now = history.customers[history.judged][enough]
    people_before = history.trailing(history.customers, spec.shift.days)[enough]
    rest = np.array([label == REST for label in labels])
    # Of equally common values the first by name: the bins have an order of their own (see `History`).
    order = np.argsort(np.argsort(-np.where(rest, -1.0, before), axis=1, kind="stable"), axis=1)
    single = (order < _TOP) & ~rest & (before / m[:, None] * people_now[:, None] >= _EXPECTED)
    together = (~single & ((before > 0) | (now > 0))).any(axis=1)
    bins = single.sum(axis=1) + together

    def shares(found: np.ndarray, total: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sums = np.concatenate([np.where(single, found, 0.0), np.where(single, 0.0, found).sum(axis=1)[:, None]], axis=1)
        plain = sums / total[:, None]
        return plain, (plain * people[:, None] + 0.5) / (people + 0.5 * bins)[:, None]

    plain_now, p = shares(now, n, people_now)
    plain_before, q = shares(before, m, people_before)
    used = np.concatenate([single, together[:, None]], axis=1)
    parts = np.where(used, (p - q) * np.log(p / q), 0.0)
    # Summed exactly: bins that only other days of the run have are zeros here, and must not move the last digit.
    index = np.array([math.fsum(row) for row in parts])
    shift = np.maximum(index - _chance(bins, people_now, people_before), 0.0)
    limit = spec.shift.limit(column.name)
    days = [day for day, is_judged in zip(history.days, enough, strict=True) if is_judged]
    for i in np.flatnonzero(shift > (np.inf if limit is None else limit)):
        at = int(parts[i].argmax())
        # Of the bins that are compared together, today's commonest speaks; if all are gone, that of the days before.
        rare = "" if at < len(labels) else "what was rare, above all "
        speaks = now[i] if (now[i] * ~single[i]).any() else before[i]
        label = labels[at if not rare else int(np.where(single[i], -1.0, speaks).argmax())]
        notes[name, days[i]] = (
            f"most by {rare}{_bin(label, column)}: {plain_now[i, at]:.1%} of rows, before {plain_before[i, at]:.1%}"
        )
    nothing[enough] = shift
    return nothing


def _chance(bins: np.ndarray, n: np.ndarray, m: np.ndarray) -> np.ndarray:
    """What the index stays below under no change (Wilson and Hilferty's chi-square quantile)."""
    import numpy as np

    free = np.maximum(bins - 1.0, 1.0)
    quantile = free * (1 - 2 / (9 * free) + _Z_SHIFT * np.sqrt(2 / (9 * free))) ** 3
    return np.asarray(np.where(bins > 1, quantile * (1 / n + 1 / m), 0.0))


def _bin(label: str | None, column: Column) -> str:
    """A bin in words."""
    if label is None:
        return "missing values"
    if label in (REST, ANY):
        return "values beyond the commonest" if label == REST else "filled in"
    if column.type in ("double", "bigint"):
        edge = float(label)
        return f"{edge:g} … {2 * edge:g}" if edge else "0"
    return label[:40]

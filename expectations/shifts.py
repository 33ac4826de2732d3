"""Distribution shift: how far a column's values are from those of the days before, beyond what chance explains.

Belongs here: the one measure of single columns. Does not belong here: how values are put into bins (see
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

_MIN_DAYS = 7  # with rows, to compare a distribution with: the days of a week differ
_MAX_SINGLE_VALUES = 20  # that are compared one by one: the commonest
_MIN_EXPECTED_CUSTOMERS = 5.0  # of a bin; bins with fewer are compared together
_Z_SHIFT = 3.09  # standard normal quantile that one unchanged day in a thousand exceeds


def shift_of(
    history: History, column: Column, spec: ValidationSpec, name: str, notes: dict[tuple[str, date], str]
) -> np.ndarray:
    """Population stability index relative to the days before, less what chance explains.

    Without a change, the index of a sample of n and one of m is about (1/n + 1/m) times a chi-square variable with one
    degree of freedom fewer than there are bins (Yurdakul and Naranjo, Journal of Risk Model Validation 14(4), 2020);
    its upper 0.1 % quantile is subtracted. Sparse bins, and values beyond the commonest, are compared together.
    """
    import numpy as np

    nothing = np.full(len(history.days), np.nan)
    if column.name not in history.bins:
        return nothing
    labels, counts = history.bins[column.name]
    before, now = history.baseline(counts, spec.shift.days), counts[history.judged]
    m, n = before.sum(axis=1), now.sum(axis=1)
    with_rows = history.baseline((history.rows > 0).astype(float), spec.shift.days)
    enough = (n >= spec.shift.min_rows) & (m >= spec.shift.min_rows) & (with_rows >= _MIN_DAYS)
    if not enough.any():
        return nothing
    before, now, m, n = before[enough], now[enough], m[enough], n[enough]
    people_now = history.customers[history.judged][enough]
    people_before = history.baseline(history.customers, spec.shift.days)[enough]
    rest = np.array([label == REST for label in labels])
    # Ties go to the first by name: the order of the bins does not depend on the days (see `History`).
    order = np.argsort(np.argsort(-np.where(rest, -1.0, before), axis=1, kind="stable"), axis=1)
    single = (
        (order < _MAX_SINGLE_VALUES) & ~rest & (before / m[:, None] * people_now[:, None] >= _MIN_EXPECTED_CUSTOMERS)
    )
    together = (~single & ((before > 0) | (now > 0))).any(axis=1)
    bins = single.sum(axis=1) + together

    def shares(counts: np.ndarray, total: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        others = np.where(single, 0.0, counts).sum(axis=1)
        sums = np.concatenate([np.where(single, counts, 0.0), others[:, None]], axis=1)
        plain = sums / total[:, None]
        return plain, (plain * people[:, None] + 0.5) / (people + 0.5 * bins)[:, None]

    plain_now, p = shares(now, n, people_now)
    plain_before, q = shares(before, m, people_before)
    used = np.concatenate([single, together[:, None]], axis=1)
    parts = np.where(used, (p - q) * np.log(p / q), 0.0)
    # Summed exactly: zeros, for bins that only other days of the run have, must not change the last digit.
    index = np.array([math.fsum(row) for row in parts])
    shift = np.maximum(index - _chance(bins, people_now, people_before), 0.0)
    limit = spec.shift.limit(column.name)
    days = [day for day, is_judged in zip(history.days, enough, strict=True) if is_judged]
    for i in np.flatnonzero(shift > (np.inf if limit is None else limit)):
        largest = int(parts[i].argmax())
        # Bins that are compared together are named by today's commonest; if none has rows, by that of the days before.
        rare = "" if largest < len(labels) else "what was rare, above all "
        commonness = now[i] if (now[i] * ~single[i]).any() else before[i]
        label = labels[largest if not rare else int(np.where(single[i], -1.0, commonness).argmax())]
        notes[name, days[i]] = (
            f"most by {rare}{_bin(label, column)}: {plain_now[i, largest]:.1%} of rows, "
            f"before {plain_before[i, largest]:.1%}"
        )
    nothing[enough] = shift
    return nothing


def _chance(bins: np.ndarray, n: np.ndarray, m: np.ndarray) -> np.ndarray:
    """The quantile of the index without a change (Wilson and Hilferty's approximation of chi-square)."""
    import numpy as np

    dof = np.maximum(bins - 1.0, 1.0)
    quantile = dof * (1 - 2 / (9 * dof) + _Z_SHIFT * np.sqrt(2 / (9 * dof))) ** 3
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

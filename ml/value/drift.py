"""Whether value was right: what was expected a horizon ago against what came since.

Belongs here: the comparison and its verdict. Does not belong here: which days are compared (see the asset), and fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ml.columns import numbers
from ml.engine import Engine, sql_of

HORIZONS = (28, 56, 90)  # the snapshot says what came in so many days
TOLERATED = 0.20  # a season moves everybody's spend by less, as a rule
MIN_CUSTOMERS = 30
Z = 1.96


@dataclass(frozen=True)
class CalibrationDrift:
    """Expectations of a past day and what came.

    Parameters
    ----------
    customers : known on that day
    expected, realised : sums over the horizon, currency
    ratio, low, high : realised over expected, with a 95 % interval that counts customers as independent
    decile_error : misses of the ten groups by expectation, as a share of what was spent
    has_drifted : whether the whole interval lies further from 1 than `TOLERATED`
    reason : in words
    """

    customers: int
    expected: float
    realised: float
    ratio: float
    low: float
    high: float
    decile_error: float
    has_drifted: bool
    reason: str


def calibration_drift(engine: Engine, predicted: pa.Table, features: pa.Table, horizon_days: int) -> CalibrationDrift:
    """Compare the value of a past day with the snapshot of the day a horizon later.

    Parameters
    ----------
    predicted : `customer_value` of day d - horizon; rows over another horizon are left out
    features : the snapshot of day d

    Returns
    -------
    Without a comparison (a horizon the snapshot has no sum for, too few customers, nothing expected) nothing has
    drifted, and the reason says what was missing.
    """
    if horizon_days not in HORIZONS:
        known = ", ".join(map(str, HORIZONS))
        return _unknown(0, f"not compared: the snapshot sums spend over {known} days, the horizon is {horizon_days}")
    groups = engine.query(
        sql_of("ml.value", "drift"), {"horizon": horizon_days}, predicted=predicted, features=features
    )
    expected, realised = numbers(groups["expected"]), numbers(groups["realised"])
    customers, total, came = int(numbers(groups["customers"]).sum()), float(expected.sum()), float(realised.sum())
    if customers < MIN_CUSTOMERS:
        return _unknown(customers, f"not compared: {customers} customers, {MIN_CUSTOMERS} are asked for")
    if total <= 0:
        return _unknown(customers, "not compared: nothing was expected of anybody")
    mean = (came - total) / customers
    variance = max(float(numbers(groups["squares"]).sum()) / customers - mean**2, 0.0)
    ratio, half = came / total, Z * float(np.sqrt(variance * customers)) / total
    low, high = ratio - half, ratio + half
    has_drifted = low > 1 + TOLERATED or high < 1 - TOLERATED
    word = "more" if ratio > 1 else "less"
    reason = f"{abs(ratio - 1):.1%} {word} came than was expected of {customers:,} customers ({low:.2f} to {high:.2f})"
    error = float(np.abs(expected - realised).sum() / came) if came > 0 else 0.0
    return CalibrationDrift(customers, total, came, ratio, low, high, error, has_drifted, reason)


def _unknown(customers: int, reason: str) -> CalibrationDrift:
    return CalibrationDrift(customers, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, False, reason)

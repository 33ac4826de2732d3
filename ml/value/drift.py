"""Whether value was right: what was expected a horizon ago against what was spent since, and what follows for today.

The past error does not give the direction of the next one. When the season is not known, more spend than was expected
may be a peak that has just passed: today's values rest on its days, and may now be too high. So the verdict is about
today.

Belongs here: the comparison and its verdict. Does not belong here: which days are compared (see the asset), and fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.columns import numbers
from ml.engine import Engine, sql_of
from ml.reasons import Reason
from ml.value.basis import Outlook
from ml.value.currency import KINDS, Money, reckon
from ml.value.reasons import DRIFT_WORDS, DriftCode, Today

HORIZONS = (28, 56, 90)  # days over which the snapshot has sums of spend
TOLERATED = 0.20  # a season moves everybody's spend by less, as a rule
MIN_CUSTOMERS = 30
Z = 1.96


@dataclass(frozen=True)
class CalibrationDrift:
    """Expected and realised spend since a past day.

    Parameters
    ----------
    customers : int
        Known on that day.
    expected, realised : float
        Sums over the horizon, in currency.
    ratio, low, high : float
        Realised over expected, with a 95 % interval that takes customers as independent.
    decile_error : float
        Misses of the ten groups by expectation, as a share of what was spent.
    has_drifted : bool
        Whether the whole interval lies further from 1 than 0.2.
    why : Reason
        Code and figures of the result.
    today : {"as_expected", "may_be_too_low", "may_be_too_high"}
        What follows for today's sum.

    Examples
    --------
    >>> figures = {"ratio": 1.3, "low": 1.25, "high": 1.35, "customers": 500, "today": "may_be_too_low"}
    >>> why = Reason(DriftCode.COMPARED, figures)
    >>> drift = CalibrationDrift(500, 1_000.0, 1_300.0, 1.3, 1.25, 1.35, 0.3, True, why, "may_be_too_low")
    >>> drift.reason
    "30.0% more came than was expected of 500 customers (1.25 to 1.35); today's values may be too low"
    """

    customers: int
    expected: float
    realised: float
    ratio: float
    low: float
    high: float
    decile_error: float
    has_drifted: bool
    why: Reason
    today: Today = "as_expected"

    @property
    def reason(self) -> str:
        """The result in words."""
        return self.why.words(DRIFT_WORDS)


def calibration_drift(
    engine: Engine,
    predicted: pa.Table,
    features: pa.Table,
    horizon_days: int,
    outlook: Outlook | None = None,
    of: Money = "revenue",
) -> CalibrationDrift:
    """Compare the value of a past day with the snapshot of the day a horizon later.

    Parameters
    ----------
    engine : Engine
        Runs the comparison.
    predicted : pa.Table
        `customer_value` of day d - horizon: `customer_id`, `expected_spend` (currency) and `horizon_days`. Rows over
        another horizon are left out.
    features : pa.Table
        The snapshot of day d, with the spend of past windows.
    horizon_days : int
        The horizon: 28, 56 or 90 days can be compared.
    outlook : Outlook, optional
        Of the values of day d; without it there is no risk of a season.
    of : {"revenue", "margin"}
        What value is reckoned in. Past values that were reckoned in the other are left out.

    Returns
    -------
    CalibrationDrift
        Without a comparison (a horizon the snapshot has no sum for, too few customers, nothing expected) nothing has
        drifted, and the reason says what was missing.

    Examples
    --------
    >>> from ml.engine import DuckDB
    >>> names = [f"c{n:02d}" for n in range(40)]
    >>> predicted = pa.table({"customer_id": names, "expected_spend": [10.0] * 40, "horizon_days": [28] * 40})
    >>> features = pa.table(
    ...     {"customer_id": names, "spend_28d": [5.0] * 40, "spend_prev_28d": [5.0] * 40, "spend_90d": [15.0] * 40}
    ... )
    >>> drift = calibration_drift(DuckDB(threads=1), predicted, features, 28)
    >>> drift.ratio, drift.has_drifted, drift.today
    (0.5, True, 'may_be_too_high')
    """
    if horizon_days not in HORIZONS:
        return _unknown(0, Reason(DriftCode.OTHER_HORIZON, {"known": list(HORIZONS), "horizon": horizon_days}))
    features = reckon(features, of)
    if "value_of" in predicted.column_names:  # which days of older versions lack
        predicted = predicted.filter(pc.equal(pc.fill_null(predicted["value_of"], KINDS[0]), of))
    groups = engine.query(
        sql_of("ml.value", "drift"), {"horizon": horizon_days}, predicted=predicted, features=features
    )
    expected, realised = numbers(groups["expected"]), numbers(groups["realised"])
    customers, total, spent = int(numbers(groups["customers"]).sum()), float(expected.sum()), float(realised.sum())
    if customers < MIN_CUSTOMERS:
        return _unknown(
            customers, Reason(DriftCode.TOO_FEW_CUSTOMERS, {"customers": customers, "needed": MIN_CUSTOMERS})
        )
    if total <= 0:
        return _unknown(customers, Reason(DriftCode.NOTHING_EXPECTED))
    mean = (spent - total) / customers
    variance = max(float(numbers(groups["squares"]).sum()) / customers - mean**2, 0.0)
    ratio, half = spent / total, Z * float(np.sqrt(variance * customers)) / total
    low, high = ratio - half, ratio + half
    has_drifted = low > 1 + TOLERATED or high < 1 - TOLERATED
    error = float(np.abs(expected - realised).sum() / spent) if spent > 0 else 0.0
    today = _today(ratio, outlook or Outlook()) if has_drifted else "as_expected"
    figures = {"ratio": ratio, "low": low, "high": high, "customers": customers, "today": today}
    why = Reason(DriftCode.COMPARED, figures)
    return CalibrationDrift(customers, total, spent, ratio, low, high, error, has_drifted, why, today)


def _today(ratio: float, outlook: Outlook) -> Today:
    """In which direction today's sum is likely wrong, after values have turned out wrong in sum.

    Beyond what a known season explains, a level that has moved is assumed to stay. Where no season is known, the change
    may pass like one: the last days were among the strongest that were seen (a weaker run is known), or among the
    weakest.
    """
    if ratio > 1:
        return "may_be_too_high" if outlook.risk_low < 1 - TOLERATED else "may_be_too_low"
    return "may_be_too_low" if outlook.risk_high > 1 + TOLERATED else "may_be_too_high"


def _unknown(customers: int, why: Reason) -> CalibrationDrift:
    return CalibrationDrift(customers, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, False, why)

"""Whether value was right: what was expected a horizon ago against what came since, and what that says of today.

What came is not where things go. When the season is not known, more than was expected is what a peak looks like from
behind: today's values rest on its days, and it is they that may be too high. So a verdict points to today.

Belongs here: the comparison and its verdict. Does not belong here: which days are compared (see the asset), and fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ml.columns import numbers
from ml.engine import Engine, sql_of
from ml.reasons import Reason
from ml.value.basis import Outlook
from ml.value.reasons import DRIFT_WORDS, DriftCode, Today

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
    why : what was found, and its figures
    today : what follows for today's sum
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
        """What was found, in words."""
        return self.why.words(DRIFT_WORDS)


def calibration_drift(
    engine: Engine, predicted: pa.Table, features: pa.Table, horizon_days: int, outlook: Outlook | None = None
) -> CalibrationDrift:
    """Compare the value of a past day with the snapshot of the day a horizon later.

    Parameters
    ----------
    predicted : `customer_value` of day d - horizon; rows over another horizon are left out
    features : the snapshot of day d
    outlook : of the values of day d; None knows of no risk

    Returns
    -------
    Without a comparison (a horizon the snapshot has no sum for, too few customers, nothing expected) nothing has
    drifted, and the reason says what was missing.
    """
    if horizon_days not in HORIZONS:
        return _unknown(0, Reason(DriftCode.OTHER_HORIZON, {"known": list(HORIZONS), "horizon": horizon_days}))
    groups = engine.query(
        sql_of("ml.value", "drift"), {"horizon": horizon_days}, predicted=predicted, features=features
    )
    expected, realised = numbers(groups["expected"]), numbers(groups["realised"])
    customers, total, came = int(numbers(groups["customers"]).sum()), float(expected.sum()), float(realised.sum())
    if customers < MIN_CUSTOMERS:
        return _unknown(
            customers, Reason(DriftCode.TOO_FEW_CUSTOMERS, {"customers": customers, "needed": MIN_CUSTOMERS})
        )
    if total <= 0:
        return _unknown(customers, Reason(DriftCode.NOTHING_EXPECTED))
    mean = (came - total) / customers
    variance = max(float(numbers(groups["squares"]).sum()) / customers - mean**2, 0.0)
    ratio, half = came / total, Z * float(np.sqrt(variance * customers)) / total
    low, high = ratio - half, ratio + half
    has_drifted = low > 1 + TOLERATED or high < 1 - TOLERATED
    error = float(np.abs(expected - realised).sum() / came) if came > 0 else 0.0
    today = _today(ratio, outlook or Outlook()) if has_drifted else "as_expected"
    figures = {"ratio": ratio, "low": low, "high": high, "customers": customers, "today": today}
    why = Reason(DriftCode.COMPARED, figures)
    return CalibrationDrift(customers, total, came, ratio, low, high, error, has_drifted, why, today)


def _today(ratio: float, outlook: Outlook) -> Today:
    """Where today's sum is likely wrong, after values have turned out wrong in sum.

    Beyond what a known season explains, a level that has moved is taken to stay. Where no season is known, whatever
    came may pass like one: the last days were among the strongest that were seen (a weaker run is known), or among the
    weakest.
    """
    if ratio > 1:
        return "may_be_too_high" if outlook.risk_low < 1 - TOLERATED else "may_be_too_low"
    return "may_be_too_low" if outlook.risk_high > 1 + TOLERATED else "may_be_too_high"


def _unknown(customers: int, why: Reason) -> CalibrationDrift:
    return CalibrationDrift(customers, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, False, why)

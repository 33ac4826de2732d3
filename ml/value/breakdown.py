"""Where a right sum hides groups that are wrong: errors by cohort and by decile, and money that goes with rhythm.

Belongs here: the groups, expected and realised spend of each, and which differences are worth a warning. Does not
belong here: the words of a warning (see `microseg_assets`), and drawing (see `figures`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from ml.columns import numbers
from ml.value.metrics import DECILES

# Cohorts of first purchase, by days since it: each up to the next one's beginning.
COHORTS: Mapping[str, tuple[int, int]] = {
    "first_28_days": (0, 28),
    "days_28_to_89": (28, 90),
    "days_90_to_181": (90, 182),
    "days_182_to_364": (182, 365),
    "a_year_and_longer": (365, 1_000_000),
}
NEVER_BOUGHT = "never_bought"
TOLERATED = 0.20  # a group is warned of if the whole interval of realised over expected lies further from 1
MIN_CUSTOMERS = 30
MIN_SHARE = 0.02  # of what was expected of everybody; below it a group is too small to mislead
MIN_CORRELATION = 0.2  # between spend per purchase and the rate of purchases
Z, MIN_CORRELATION_Z = 1.96, 3.0
Code = Literal["cohort_off", "money_goes_with_rhythm"]


@dataclass(frozen=True)
class Group:
    """Expected and realised spend of a group of customers.

    Parameters
    ----------
    customers : how many they are
    expected, realised : sums over the horizon, currency
    ratio, low, high : realised over expected, with a 95 % interval that counts customers as independent
    """

    name: str
    customers: int
    expected: float
    realised: float
    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, name: str, expected: np.ndarray, realised: np.ndarray) -> Group:
        """From the customers of the group; without an expectation the interval is everything."""
        total, spent, n = float(expected.sum()), float(realised.sum()), len(expected)
        if total <= 0:
            return cls(name, n, total, spent, 1.0, 0.0, float("inf"))
        half = Z * float(np.sqrt(n) * np.std(realised - expected)) / total
        return cls(name, n, total, spent, spent / total, spent / total - half, spent / total + half)


@dataclass(frozen=True)
class Caveat:
    """What users of a fit should know about its errors.

    Parameters
    ----------
    code : {"cohort_off", "money_goes_with_rhythm"}
        The kind of caveat.
    figures : Mapping of str to Any
        Its figures: of a cohort, `cohort`, `customers`, `ratio`, `low`, `high` and `expected`; of money that goes with
        rhythm, `correlation`, `customers` and `corrections` by decile.

    Examples
    --------
    >>> caveat = Caveat("cohort_off", {"cohort": "first_28_days", "ratio": 0.6})
    >>> caveat.figures["ratio"]
    0.6
    """

    code: Code
    figures: Mapping[str, Any]


def by_cohort(snapshot: pa.Table, realised: np.ndarray, expected: np.ndarray) -> list[Group]:
    """Customers by days since their first purchase, youngest first, those who never bought last; no empty group.

    Parameters
    ----------
    snapshot : with tenure_days
    realised, expected : spend over the horizon after it, shape (n,)
    """
    tenure = numbers(snapshot["tenure_days"])
    masks = {name: (tenure >= low) & (tenure < high) for name, (low, high) in COHORTS.items()}
    masks[NEVER_BOUGHT] = ~np.isfinite(tenure)
    return [Group.of(name, expected[rows], realised[rows]) for name, rows in masks.items() if rows.any()]


def corrections(closed: np.ndarray, blend: np.ndarray, realised: np.ndarray) -> list[dict[str, float]]:
    """Per decile of the closed form's expectation, lowest first: the factor by which the blend corrects it, and the
    factor that would have been right; deciles of which nothing is expected are left out.

    Parameters
    ----------
    closed, blend, realised : spend over the horizon, shape (n,)
    """
    by_decile = []
    for decile, rows in enumerate(np.array_split(np.argsort(closed, kind="stable"), DECILES), start=1):
        total = float(closed[rows].sum())
        if total > 0:
            corrected, spent = float(blend[rows].sum()) / total, float(realised[rows].sum()) / total
            by_decile.append({"decile": float(decile), "correction": corrected, "realised": spent})
    return by_decile


def money_rhythm_correlation(snapshot: pa.Table) -> tuple[float, int]:
    """Rank correlation of spend per purchase day with the rate of purchases, and the number of customers it is from.

    Only customers with at least two repeat purchases count. Gamma-Gamma assumes that the two are independent.
    """
    from scipy.stats import spearmanr

    days, tenure, spend = (np.nan_to_num(numbers(snapshot[name])) for name in ("purchase_days", "tenure_days", "spend"))
    rows = (days >= 3) & (tenure > 0) & (spend > 0)
    if rows.sum() < MIN_CUSTOMERS:
        return 0.0, int(rows.sum())
    correlation = spearmanr(spend[rows] / days[rows], (days[rows] - 1) / tenure[rows]).statistic
    return float(np.nan_to_num(correlation)), int(rows.sum())


def metrics_of(
    cohorts: list[Group], deciles: list[dict[str, float]], correlation: tuple[float, int]
) -> dict[str, float]:
    """All of it as metrics whose names stay the same from week to week."""
    metrics = {"money_rhythm_correlation": correlation[0], "money_rhythm_customers": float(correlation[1])}
    for group in cohorts:
        for name in ("customers", "expected", "ratio", "low", "high"):
            value = float(getattr(group, name))
            if np.isfinite(value):
                metrics[f"cohort.{group.name}.{name}"] = value
    for row in deciles:
        decile = round(row["decile"])
        metrics[f"decile_{decile:02d}.correction"] = row["correction"]
        metrics[f"decile_{decile:02d}.realised"] = row["realised"]
    return metrics


def find_caveats(metrics: Mapping[str, float]) -> list[Caveat]:
    """Find what to warn of in the metrics of a fit.

    Parameters
    ----------
    metrics : Mapping of str to float
        Metrics that `train` logged; of a fit that was not scored there are no caveats.

    Returns
    -------
    list of Caveat
        Cohorts of which too much or too little was expected, then a correlation of money with rhythm.

    Examples
    --------
    >>> cohort = {"customers": 400.0, "expected": 9_000.0, "ratio": 0.6, "low": 0.5, "high": 0.7}
    >>> metrics = {f"cohort.first_28_days.{name}": value for name, value in cohort.items()}
    >>> [(caveat.code, caveat.figures["cohort"]) for caveat in find_caveats(metrics)]
    [('cohort_off', 'first_28_days')]
    """
    caveats = []
    expected = {name: metrics.get(f"cohort.{name}.expected", 0.0) for name in (*COHORTS, NEVER_BOUGHT)}
    total = sum(expected.values())
    for name, share in expected.items():
        figures = {
            key: metrics.get(f"cohort.{name}.{key}", float("nan")) for key in ("customers", "ratio", "low", "high")
        }
        is_large = figures["customers"] >= MIN_CUSTOMERS and share >= MIN_SHARE * total > 0
        if is_large and (figures["low"] > 1 + TOLERATED or figures["high"] < 1 - TOLERATED):
            caveats.append(Caveat("cohort_off", {"cohort": name, **figures, "expected": share}))
    correlation, customers = (metrics.get(f"money_rhythm_{name}", 0.0) for name in ("correlation", "customers"))
    if abs(correlation) >= MIN_CORRELATION and abs(correlation) * np.sqrt(max(customers - 1, 0)) >= MIN_CORRELATION_Z:
        by_decile = {
            decile: metrics[f"decile_{decile:02d}.correction"]
            for decile in range(1, DECILES + 1)
            if f"decile_{decile:02d}.correction" in metrics
        }
        rhythm = {"correlation": correlation, "customers": customers, "corrections": by_decile}
        caveats.append(Caveat("money_goes_with_rhythm", rhythm))
    return caveats

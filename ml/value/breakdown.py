"""Where a right sum hides groups that are wrong: errors by cohort and by decile, and money that goes with rhythm.

Belongs here: the groups, what came of each beside what was expected, and which differences are worth a warning. Does
not belong here: the words of a warning (see `microseg_assets`), and drawing (see `figures`).
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
TOLERATED = 0.20  # a group whose whole interval of what came over what was expected lies further from 1 is warned of
MIN_CUSTOMERS = 30
MIN_SHARE = 0.02  # of what was expected of everybody; below it a group is too small to mislead
MIN_CORRELATION = 0.2  # between what a purchase brings and how often one buys
Z, SURE = 1.96, 3.0
Code = Literal["cohort_off", "money_goes_with_rhythm"]


@dataclass(frozen=True)
class Group:
    """What was expected of a group of customers and what came.

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
        total, came, n = float(expected.sum()), float(realised.sum()), len(expected)
        if total <= 0:
            return cls(name, n, total, came, 1.0, 0.0, float("inf"))
        half = Z * float(np.sqrt(n) * np.std(realised - expected)) / total
        return cls(name, n, total, came, came / total, came / total - half, came / total + half)


@dataclass(frozen=True)
class Finding:
    """Something about a fit that whoever relies on it should know: a code, and what there is to say of it."""

    code: Code
    facts: Mapping[str, Any]


def by_cohort(held: pa.Table, realised: np.ndarray, expected: np.ndarray) -> list[Group]:
    """Customers by days since their first purchase, youngest first, those who never bought last; no empty group.

    Parameters
    ----------
    held : a snapshot with tenure_days
    realised, expected : spend over the horizon after it, shape (n,)
    """
    tenure = numbers(held["tenure_days"])
    masks = {name: (tenure >= low) & (tenure < high) for name, (low, high) in COHORTS.items()}
    masks[NEVER_BOUGHT] = ~np.isfinite(tenure)
    return [Group.of(name, expected[rows], realised[rows]) for name, rows in masks.items() if rows.any()]


def corrections(closed: np.ndarray, blend: np.ndarray, realised: np.ndarray) -> list[dict[str, float]]:
    """Per decile of the closed form's expectation, the lowest first: by which factor the blend moves it, and by
    which it should have (what came); a decile of which nothing is expected is left out.

    Parameters
    ----------
    closed, blend, realised : spend over the horizon, shape (n,)
    """
    found = []
    for place, rows in enumerate(np.array_split(np.argsort(closed, kind="stable"), DECILES), start=1):
        total = float(closed[rows].sum())
        if total > 0:
            moved, came = float(blend[rows].sum()) / total, float(realised[rows].sum()) / total
            found.append({"decile": float(place), "correction": moved, "realised": came})
    return found


def money_and_rhythm(snapshot: pa.Table) -> tuple[float, int]:
    """Rank correlation of what a purchase day brings with how often one buys, and of how many customers.

    Of those with at least two repeat purchases. Gamma-Gamma takes the two for independent.
    """
    from scipy.stats import spearmanr

    days, tenure, spend = (np.nan_to_num(numbers(snapshot[name])) for name in ("purchase_days", "tenure_days", "spend"))
    rows = (days >= 3) & (tenure > 0) & (spend > 0)
    if rows.sum() < MIN_CUSTOMERS:
        return 0.0, int(rows.sum())
    found = spearmanr(spend[rows] / days[rows], (days[rows] - 1) / tenure[rows]).statistic
    return float(np.nan_to_num(found)), int(rows.sum())


def metrics_of(
    cohorts: list[Group], deciles: list[dict[str, float]], correlation: tuple[float, int]
) -> dict[str, float]:
    """All of it as metrics that line up over the weeks."""
    found = {"money_rhythm_correlation": correlation[0], "money_rhythm_customers": float(correlation[1])}
    for group in cohorts:
        for name in ("customers", "expected", "ratio", "low", "high"):
            value = float(getattr(group, name))
            if np.isfinite(value):
                found[f"cohort.{group.name}.{name}"] = value
    for row in deciles:
        place = round(row["decile"])
        found[f"decile_{place:02d}.correction"] = row["correction"]
        found[f"decile_{place:02d}.realised"] = row["realised"]
    return found


def findings(metrics: Mapping[str, float]) -> list[Finding]:
    """What to warn of, from the metrics of a fit; none of a fit that has not been judged."""
    found = []
    expected = {name: metrics.get(f"cohort.{name}.expected", 0.0) for name in (*COHORTS, NEVER_BOUGHT)}
    total = sum(expected.values())
    for name, share in expected.items():
        facts = {
            key: metrics.get(f"cohort.{name}.{key}", float("nan")) for key in ("customers", "ratio", "low", "high")
        }
        is_large = facts["customers"] >= MIN_CUSTOMERS and share >= MIN_SHARE * total > 0
        if is_large and (facts["low"] > 1 + TOLERATED or facts["high"] < 1 - TOLERATED):
            found.append(Finding("cohort_off", {"cohort": name, **facts, "expected": share}))
    correlation, customers = (metrics.get(f"money_rhythm_{name}", 0.0) for name in ("correlation", "customers"))
    if abs(correlation) >= MIN_CORRELATION and abs(correlation) * np.sqrt(max(customers - 1, 0)) >= SURE:
        deciles = {
            place: metrics[f"decile_{place:02d}.correction"]
            for place in range(1, DECILES + 1)
            if f"decile_{place:02d}.correction" in metrics
        }
        found.append(
            Finding(
                "money_goes_with_rhythm", {"correlation": correlation, "customers": customers, "corrections": deciles}
            )
        )
    return found

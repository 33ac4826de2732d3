"""The silence–return curve: which share of the customers silent for s days buys again within the outcome window.

Belongs here: the curve, its sampling error, and the silence after which it stays below a threshold. Does not belong
here: the threshold, and whether last week's window stays (see `windows`).

The unit is a silence, not a customer: each silence of at least s days is exactly one customer-day on which the rule
``recency_days > s`` is evaluated, so the silences of that length are the rule's population. Customers who buy often
have many silences but hardly any of s days, so they do not count at s. Silences that have not ended are censored on
the last day, those that began before the observed span enter late (Kaplan & Meier 1958). A customer's silences are
alike, so errors come from a jackknife that leaves out one group of customers at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Self, TypeAlias

import numpy as np
import pyarrow as pa

from ml.engine import Engine, Input, sql_of
from ml.lifecycle.spec import MAX_CHURN_AFTER
from ml.sampling import sample_customers

Array: TypeAlias = "np.ndarray[Any, Any]"

GROUPS = 64  # of customers, for the errors
MIN_SILENCES = 50  # observed throughout the window after s, for the curve to be known at s
Z95 = 1.96


@dataclass(frozen=True)
class ReturnCurve:
    """The chance of a return after each silence.

    Parameters
    ----------
    at_risk : ndarray of shape (n_days,)
        Silences of at least s days that are observed on their day s + 1.
    chance : ndarray of shape (n_days,)
        Chance of a return on one of the days s + 1 … s + `within_days`; NaN where too few silences are observed.
    error : ndarray of shape (n_days,)
        Standard error of `chance`.
    fitted : ndarray of shape (n_days,)
        `chance`, made to never rise after its highest point (isotonic regression, weighted by `at_risk`).
    within_days : int
        Length of the outcome window in days.

    References
    ----------
    .. [1] Kaplan, E. L., & Meier, P. (1958). Nonparametric estimation from incomplete observations. Journal of the
       American Statistical Association, 53(282), 457-481.

    Examples
    --------
    >>> chance = np.array([0.8, 0.5, 0.3, 0.1, np.nan])
    >>> curve = ReturnCurve(np.full(5, 900.0), chance, np.full(5, 0.01), chance, within_days=28)
    >>> curve.longest_observed, curve.crossing(0.2)
    (3, 3)
    """

    at_risk: Array
    chance: Array
    error: Array
    fitted: Array
    within_days: int

    @classmethod
    def of(cls, entered: Array, lasted: Array, returned: Array, within_days: int) -> Self:
        """Estimate the curve from counts of silences by group of customers and length.

        Parameters
        ----------
        entered, lasted, returned : ndarray of shape (n_groups, n_days)
            Silences that come into view at a length, that leave it, and that end there in a return.
        within_days : int
            Length of the outcome window in days.

        Returns
        -------
        ReturnCurve
            The curve, unknown where fewer than `MIN_SILENCES` silences are observed.
        """
        whole, at_risk = _chances(entered.sum(0), lasted.sum(0), returned.sum(0), within_days)
        without = [
            _chances(entered.sum(0) - entered[g], lasted.sum(0) - lasted[g], returned.sum(0) - returned[g], within_days)
            for g in range(len(entered))
            if lasted[g].any()
        ]
        replicates = np.array([chance for chance, _ in without]).reshape(len(without), len(whole))
        error = np.sqrt(max(len(without) - 1, 0) * replicates.var(axis=0)) if without else np.full(len(whole), np.nan)
        observed = _min_over_window(at_risk, within_days)
        chance = np.where(observed >= MIN_SILENCES, whole, np.nan)
        return cls(at_risk[: len(chance)], chance, error, _falling(chance, at_risk), within_days)

    @property
    def longest_observed(self) -> int:
        """Longest silence up to which the curve is known without a gap, in days; −1 if it is not known at all."""
        return int(np.argmax(np.append(np.isnan(self.chance), True))) - 1

    @property
    def highest(self) -> float:
        """Highest chance after any silence; 0 if the curve is not known at all."""
        return float(np.max(self.fitted[: self.longest_observed + 1], initial=0.0))

    def crossing(self, threshold: float) -> int | None:
        """Find the shortest silence after which the fitted chance stays below a threshold.

        Parameters
        ----------
        threshold : float
            Chance of a return, 0 to 1.

        Returns
        -------
        int or None
            Days of silence; None if the chance does not fall below the threshold where the curve is known.
        """
        known = self.fitted[: self.longest_observed + 1]
        at_least = np.flatnonzero(known >= threshold)
        if not len(known) or (len(at_least) and at_least[-1] == self.longest_observed):
            return None
        return int(at_least[-1]) + 1 if len(at_least) else 0

    def is_off(self, silence: int, threshold: float) -> bool:
        """Test whether the chance after a silence differs from a threshold beyond sampling error.

        Parameters
        ----------
        silence : int
            Days of silence; the longest one observed stands for longer ones.
        threshold : float
            Chance of a return, 0 to 1.

        Returns
        -------
        bool
            Whether the threshold lies outside of the 95 % interval.
        """
        day = min(silence, self.longest_observed)
        return day >= 0 and bool(abs(self.fitted[day] - threshold) > Z95 * self.error[day])

    def interval(self, threshold: float) -> tuple[int, int]:
        """Find the silences around the crossing whose chance is not significantly off a threshold.

        Parameters
        ----------
        threshold : float
            Chance of a return, 0 to 1.

        Returns
        -------
        tuple of int
            Shortest and longest silence, in days.
        """
        crossing = self.crossing(threshold)
        low = high = max(self.longest_observed, 0) if crossing is None else crossing
        while low > 0 and not self.is_off(low - 1, threshold):
            low -= 1
        while high < self.longest_observed and not self.is_off(high + 1, threshold):
            high += 1
        return low, high


def return_curve(
    engine: Engine,
    customer_days: Input,
    as_of: date,
    *,
    within_days: int,
    history_days: int = 365,
    max_customers: int = 200_000,
    seed: int = 0,
) -> ReturnCurve:
    """Estimate the silence–return curve of a business up to the end of `as_of`.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    customer_days : Input
        Table `customer_days` with its `day`. Nothing after `as_of` is used.
    as_of : date
        Last day of what is known.
    within_days : int
        Length of the outcome window in days.
    history_days : int, default 365
        Days up to `as_of` on which silences are observed: older habits no longer count.
    max_customers : int, default 200_000
        Most customers who are looked at. Above it a seeded sample is drawn.
    seed : int, default 0
        Seed of the sample.

    Returns
    -------
    ReturnCurve
        The curve for silences of up to 365 days.
    """
    longest = MAX_CHURN_AFTER + within_days
    people = sampled_buyers(engine, customer_days, as_of, max_customers, seed)
    counts = engine.query(
        sql_of("ml.lifecycle", "silences"),
        {"as_of": as_of, "since": as_of - timedelta(days=history_days), "longest": longest + 1},
        customer_days=customer_days,
        people=people,
    )
    return ReturnCurve.of(*_by_group(counts, longest + 2), within_days)


def sampled_buyers(engine: Engine, customer_days: Input, as_of: date, max_customers: int, seed: int) -> pa.Table:
    """Columns customer_id and part (a hash that groups customers) of at most `max_customers` customers who bought."""
    buyers = engine.query(
        "SELECT DISTINCT customer_id, $as_of AS day FROM customer_days WHERE orders > 0 AND day <= $as_of",
        {"as_of": as_of},
        customer_days=customer_days,
    )
    return engine.query(
        "SELECT customer_id, SUBSTRING(SHA256(customer_id), 1, 4) AS part FROM buyers ORDER BY customer_id",
        buyers=sample_customers(engine, buyers, max_customers, seed),
    )


def _by_group(counts: pa.Table, days: int) -> tuple[Array, Array, Array]:
    group = np.array([int(part, 16) % GROUPS for part in counts["part"].to_pylist()], dtype=np.int64)
    length = counts["days"].to_numpy().astype(np.int64)

    def sums(name: str) -> Array:
        by_length = np.zeros((GROUPS, days))
        np.add.at(by_length, (group, length), counts[name].to_numpy().astype(float))
        return by_length

    return sums("entered"), sums("lasted"), sums("returned")


def _chances(entered: Array, lasted: Array, returned: Array, within: int) -> tuple[Array, Array]:
    """Chance of a return within the window after each silence, and the silences observed on the day after it."""
    at_risk = np.cumsum(entered) - np.cumsum(lasted)  # [s]: observed on their day s + 1
    on_day = np.append(returned[1:], 0.0)
    hazard = np.divide(on_day, at_risk, out=np.zeros_like(on_day), where=at_risk > 0)
    stays = np.concatenate([[0.0], np.cumsum(np.log1p(-np.minimum(hazard, 1 - 1e-12)))])
    days = len(entered) - 1 - within
    return -np.expm1(stays[within : within + days] - stays[:days]), at_risk


def _min_over_window(at_risk: Array, within: int) -> Array:
    """Fewest silences observed on any day of the window after each silence."""
    days = len(at_risk) - 1 - within
    result: Array = np.lib.stride_tricks.sliding_window_view(at_risk, within)[:days].min(axis=1)
    return result


def _falling(chance: Array, weight: Array) -> Array:
    """`chance`, replaced after its highest point by the nearest curve that never rises (pool adjacent violators)."""
    fitted = chance.copy()
    known = int(np.argmax(np.append(np.isnan(chance), True)))
    if not known:
        return fitted
    peak = int(np.argmax(chance[:known]))
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for day in range(peak, known):
        mean, mass, length = float(chance[day]), float(weight[day]), 1
        while blocks and blocks[-1][0] < mean:
            before = blocks.pop()
            mean = (before[0] * before[1] + mean * mass) / (before[1] + mass)
            mass, length = before[1] + mass, before[2] + length
        blocks.append((mean, mass, length))
    fitted[peak:known] = np.repeat([b[0] for b in blocks], [b[2] for b in blocks])
    return fitted

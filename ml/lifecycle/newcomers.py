"""How newcomers buy, week by week since their first purchase, and when that settles.

Belongs here: the rate of buying again by age and the split of it. Does not belong here: whether last week's window
stays (see `windows`).

The rate is that of all newcomers of an age, whether they have bought again or not: the hazard of a second purchase
would keep falling, because those who buy often leave it first. A customer is new until the week at which two levels,
before and after, describe the rate of the first half year best (least squares, weighted by customers). Of weeks that
do so nearly equally well it is the last: who is called new for too long is merely greeted twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, TypeAlias

import numpy as np

from ml.engine import Engine, Input, sql_of
from ml.lifecycle.silences import GROUPS, MIN_SILENCES, Z95, sampled_buyers

Array: TypeAlias = "np.ndarray[Any, Any]"

WEEKS, MAX_SPLIT = 26, 12  # weeks looked at, all of them or none, and the last split (84 days, below 90)
WARM_UP_DAYS = 28  # who first bought in the first weeks of the data may have bought before them
MIN_DISTANCE = 0.2  # between the two levels, as a share of the settled one
MIN_DISTANCE_Z = 3.0  # the same in standard errors, more than usual because the split was chosen
MIN_EXPLAINED_SHARE = 0.97  # of what the best split explains


@dataclass(frozen=True)
class NewcomerRates:
    """The rate of buying again by week since the first purchase.

    Parameters
    ----------
    customers : ndarray of shape (n_weeks,)
        Newcomers who have been customers throughout the week.
    rate : ndarray of shape (n_weeks,)
        Purchase days per customer and week.
    explained : ndarray of shape (n_splits,)
        Share of the weeks' variance that two levels explain, if split after week 1, 2, ….
    distance : ndarray of shape (n_splits,)
        First level over the settled one, minus 1.
    error : ndarray of shape (n_splits,)
        Standard error of `distance`.
    explained_without : ndarray of shape (n_groups, n_splits)
        `explained` without each group of customers.
    """

    customers: Array
    rate: Array
    explained: Array
    distance: Array
    error: Array
    explained_without: Array

    def is_significantly_better(self, week: int, other: int) -> bool:
        """Test whether one split explains more than another, beyond chance (jackknife over groups of customers).

        Parameters
        ----------
        week, other : int
            Weeks after which the levels are split, from 1.

        Returns
        -------
        bool
            Whether 0 lies below the 95 % interval of the difference.
        """
        differences = self.explained_without[:, week - 1] - self.explained_without[:, other - 1]
        error = float(np.sqrt(max(len(differences) - 1, 0) * differences.var())) if len(differences) else np.inf
        return bool(self.explained[week - 1] - self.explained[other - 1] > Z95 * error)

    def split(self) -> int | None:
        """Find the week after which newcomers have settled.

        Returns
        -------
        int or None
            Week, from 1; None if newcomers buy no differently, or too little is known.
        """
        if not len(self.explained):
            return None
        best = int(np.flatnonzero(self.explained >= MIN_EXPLAINED_SHARE * self.explained.max())[-1])
        distance = abs(self.distance[best])
        return best + 1 if distance >= MIN_DISTANCE and distance > MIN_DISTANCE_Z * self.error[best] else None


def newcomer_rates(
    engine: Engine,
    customer_days: Input,
    as_of: date,
    *,
    history_days: int = 365,
    max_customers: int = 200_000,
    seed: int = 0,
) -> NewcomerRates:
    """Measure how often newcomers have bought since their first purchase.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    customer_days : Input
        Table `customer_days` with its `day`. Nothing after `as_of` is used.
    as_of : date
        Last day of what is known.
    history_days : int, default 365
        Days up to `as_of` in which the first purchase of a newcomer lies.
    max_customers : int, default 200_000
        Most customers who are looked at. Above it a seeded sample is drawn.
    seed : int, default 0
        Seed of the sample.

    Returns
    -------
    NewcomerRates
        Rates by week, and how well each split describes them.
    """
    first = engine.query("SELECT MIN(day) AS day FROM customer_days", customer_days=customer_days)["day"][0].as_py()
    since = as_of - timedelta(days=history_days)
    if first is not None:
        since = max(since, first + timedelta(days=WARM_UP_DAYS - 1))
    people = sampled_buyers(engine, customer_days, as_of, max_customers, seed)
    counts = engine.query(
        sql_of("ml.lifecycle", "newcomers"),
        {"as_of": as_of, "since": since, "longest": WEEKS},
        customer_days=customer_days,
        people=people,
    )
    group = np.array([int(part, 16) % GROUPS for part in counts["part"].to_pylist()], dtype=np.int64)
    ended, bought = np.zeros((GROUPS, WEEKS + 1)), np.zeros((GROUPS, WEEKS + 1))
    np.add.at(ended, (group, counts["week"].to_numpy()), counts["customers"].to_numpy().astype(float))
    np.add.at(bought, (group, counts["week"].to_numpy()), counts["purchases"].to_numpy().astype(float))
    return rates_of(np.cumsum(ended[:, ::-1], axis=1)[:, ::-1][:, 1:], bought[:, 1:])


def rates_of(customers: Array, bought: Array) -> NewcomerRates:
    """Rates and all splits of them, from counts by group of customers and week, each of shape (n_groups, n_weeks)."""
    whole = customers.sum(0)
    weeks = int(np.argmax(np.append(whole < MIN_SILENCES, True)))
    customers, bought, whole = customers[:, :weeks], bought[:, :weeks], whole[:weeks]
    rate = bought.sum(0) / whole
    if weeks < WEEKS:
        empty = np.zeros(0)
        return NewcomerRates(whole, rate, empty, empty, empty, empty)
    has_customers = customers[:, 0] > 0
    groups = zip(customers[has_customers], bought[has_customers], strict=True)
    left_out = [(whole - group_customers, bought.sum(0) - group_bought) for group_customers, group_bought in groups]
    replicates = np.array([_distance(*counts) for counts in left_out])
    error = np.sqrt(max(len(replicates) - 1, 0) * replicates.var(axis=0))
    without = np.array([_explained(*counts) for counts in left_out])
    explained, distance = _explained(whole, bought.sum(0)), _distance(whole, bought.sum(0))
    return NewcomerRates(whole, rate, explained, distance, error, without)


def _explained(customers: Array, bought: Array) -> Array:
    """Share of the weeks' variance that two levels explain, for a split after each week."""
    mass_of_all, sum_of_all = np.maximum(customers.sum(), 1), bought.sum()
    middle = sum_of_all / mass_of_all
    rate = bought / np.maximum(customers, 1)
    total = float((customers * (rate - middle) ** 2).sum())
    mass, sums = np.cumsum(customers)[:MAX_SPLIT], np.cumsum(bought)[:MAX_SPLIT]
    early, late = sums / np.maximum(mass, 1), (sum_of_all - sums) / np.maximum(mass_of_all - mass, 1)
    between = mass * (early - middle) ** 2 + (mass_of_all - mass) * (late - middle) ** 2
    return np.asarray(between / total if total else between)


def _distance(customers: Array, bought: Array) -> Array:
    early = np.cumsum(bought)[:MAX_SPLIT] / np.maximum(np.cumsum(customers)[:MAX_SPLIT], 1)
    late_customers = np.maximum(customers.sum() - np.cumsum(customers)[:MAX_SPLIT], 1)
    late = (bought.sum() - np.cumsum(bought)[:MAX_SPLIT]) / late_customers
    result: Array = np.divide(early, late, out=np.full(len(early), np.inf), where=late > 0) - 1
    return result

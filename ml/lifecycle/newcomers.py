"""How newcomers buy, week by week since their first purchase, and when that settles.

Belongs here: the rate of buying again by age and the split of it. Does not belong here: whether last week's window
stays (see `windows`).

The rate is that of all newcomers of an age, whether they have bought again or not: the hazard of a second purchase
falls for ever, because those who buy often leave it first. The window for which a customer is new is the week at which
two levels, before and after, describe the rate of the first half year best (least squares, weighted by customers); of
weeks that do so nearly equally well the last, since who is called new for too long is merely greeted twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, TypeAlias

import numpy as np

from ml.engine import Engine, Input, sql_of
from ml.lifecycle.silences import GROUPS, SUPPORT, people_of

Array: TypeAlias = "np.ndarray[Any, Any]"

WEEKS, MOST_NEW = 26, 12  # looked at, all of them or none, and the longest split (84 days, below 90)
WARM_UP_DAYS = 28  # who first bought in the first weeks of the data may have bought before them
DIFFERENT = 0.2  # how far apart the levels must lie, as a share of the settled one
NEARLY = 0.97  # of what the best split explains
Z95 = 1.96
Z = 3.0  # and by how many standard errors: the split was chosen


@dataclass(frozen=True)
class NewcomerRates:
    """The rate of buying again by week since the first purchase.

    Parameters
    ----------
    customers : (weeks,): newcomers who have been customers throughout the week
    rate : (weeks,): purchase days a customer and week
    explained : (splits,): share of the weeks' variance that two levels parted after week 1, 2, … explain
    distance : (splits,): the first level over the settled one, minus 1
    error : (splits,): standard error of `distance`
    explained_without : (groups, splits): `explained` without each group of customers
    """

    customers: Array
    rate: Array
    explained: Array
    distance: Array
    error: Array
    explained_without: Array

    def is_surely_better(self, week: int, than: int) -> bool:
        """Whether a split after one week explains more than one after another, beyond chance (95 %, jackknife over
        groups of customers)."""
        more = self.explained_without[:, week - 1] - self.explained_without[:, than - 1]
        error = float(np.sqrt(max(len(more) - 1, 0) * more.var())) if len(more) else np.inf
        return bool(self.explained[week - 1] - self.explained[than - 1] > Z95 * error)

    def split(self) -> int | None:
        """The week after which newcomers have settled; None if they buy no differently, or too little is known."""
        if not len(self.explained):
            return None
        best = int(np.flatnonzero(self.explained >= NEARLY * self.explained.max())[-1])
        apart = abs(self.distance[best])
        return best + 1 if apart >= DIFFERENT and apart > Z * self.error[best] else None


def newcomer_rates(
    engine: Engine, customer_days: Input, as_of: date, *, history_days: int = 365, most: int = 200_000, seed: int = 0
) -> NewcomerRates:
    """How the newcomers of the last `history_days` days have bought since their first purchase.

    Parameters
    ----------
    customer_days : facts per customer and day; nothing after `as_of` is used
    most : customers looked at; above it a seeded sample
    """
    first = engine.query("SELECT MIN(day) AS day FROM customer_days", customer_days=customer_days)["day"][0].as_py()
    since = as_of - timedelta(days=history_days)
    if first is not None:
        since = max(since, first + timedelta(days=WARM_UP_DAYS - 1))
    people = people_of(engine, customer_days, as_of, most, seed)
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
    """The rates, and every split of them, from counts of each group of customers and week, (groups, weeks)."""
    whole = customers.sum(0)
    weeks = int(np.argmax(np.append(whole < SUPPORT, True)))
    customers, bought, whole = customers[:, :weeks], bought[:, :weeks], whole[:weeks]
    rate = bought.sum(0) / whole
    if weeks < WEEKS:
        nothing = np.zeros(0)
        return NewcomerRates(whole, rate, nothing, nothing, nothing, nothing)
    there = customers[:, 0] > 0
    left_out = [(whole - c, bought.sum(0) - b) for c, b in zip(customers[there], bought[there], strict=True)]
    replicates = np.array([_distance(*counts) for counts in left_out])
    error = np.sqrt(max(len(replicates) - 1, 0) * replicates.var(axis=0))
    without = np.array([_explained(*counts) for counts in left_out])
    found = _explained(whole, bought.sum(0)), _distance(whole, bought.sum(0))
    return NewcomerRates(whole, rate, *found, error, without)


def _explained(customers: Array, bought: Array) -> Array:
    """The share of the weeks' variance that two levels parted after each week explain."""
    mass_of_all, sum_of_all = np.maximum(customers.sum(), 1), bought.sum()
    middle = sum_of_all / mass_of_all
    rate = bought / np.maximum(customers, 1)
    total = float((customers * (rate - middle) ** 2).sum())
    mass, sums = np.cumsum(customers)[:MOST_NEW], np.cumsum(bought)[:MOST_NEW]
    early, late = sums / np.maximum(mass, 1), (sum_of_all - sums) / np.maximum(mass_of_all - mass, 1)
    between = mass * (early - middle) ** 2 + (mass_of_all - mass) * (late - middle) ** 2
    return np.asarray(between / total if total else between)


def _distance(customers: Array, bought: Array) -> Array:
    early = np.cumsum(bought)[:MOST_NEW] / np.maximum(np.cumsum(customers)[:MOST_NEW], 1)
    late_customers = np.maximum(customers.sum() - np.cumsum(customers)[:MOST_NEW], 1)
    late = (bought.sum() - np.cumsum(bought)[:MOST_NEW]) / late_customers
    result: Array = np.divide(early, late, out=np.full(len(early), np.inf), where=late > 0) - 1
    return result

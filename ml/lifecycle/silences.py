"""The silence–return curve: of those silent for s days, which share buys again within the outcome window.

Belongs here: the curve, its sampling error, and the silence from which on it stays under a threshold. Does not belong
here: which threshold is asked for and whether last week's window stays (see `windows`).

The unit is a silence, not a customer: each silence that reaches s days is exactly one customer-day on which the rule
``recency_days > s`` asks its question, so the silences that reach s are the population it sees on that day. Those who
buy often have many silences but hardly any that gets that far, and do not count at s. Silences that have not ended are
cut off at the last day (Kaplan & Meier 1958), those that began before the watched span enter late; and since a
customer's silences are alike, errors are taken over groups of customers (delete-a-group jackknife).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Self, TypeAlias

import numpy as np
import pyarrow as pa

from ml.engine import Engine, Input, sql_of
from ml.lifecycle.spec import LONGEST
from ml.sampling import sample_customers

Array: TypeAlias = "np.ndarray[Any, Any]"

GROUPS = 64  # of customers, for the errors
SUPPORT = 50  # silences that must be watched throughout the window after s for the curve to speak of s
Z = 1.96


@dataclass(frozen=True)
class ReturnCurve:
    """The chance of a return after each silence.

    Parameters
    ----------
    at_risk : (days,): silences that are watched on their day s + 1, those that reach s
    chance : (days,): chance of a return on one of the days s + 1 … s + `within_days`; NaN where too few are watched
    error : (days,): standard error of `chance`
    fitted : (days,): `chance`, never rising after its highest point (isotonic, weighted by `at_risk`)
    within_days : the outcome window
    """

    at_risk: Array
    chance: Array
    error: Array
    fitted: Array
    within_days: int

    @classmethod
    def of(cls, entered: Array, lasted: Array, returned: Array, within_days: int) -> Self:
        """The curve from counts of silences per group of customers and days, each (groups, days)."""
        whole, at_risk = _chances(entered.sum(0), lasted.sum(0), returned.sum(0), within_days)
        without = [
            _chances(entered.sum(0) - entered[g], lasted.sum(0) - lasted[g], returned.sum(0) - returned[g], within_days)
            for g in range(len(entered))
            if lasted[g].any()
        ]
        replicates = np.array([chance for chance, _ in without]).reshape(len(without), len(whole))
        error = np.sqrt(max(len(without) - 1, 0) * replicates.var(axis=0)) if without else np.full(len(whole), np.nan)
        watched = _smallest_ahead(at_risk, within_days)
        chance = np.where(watched >= SUPPORT, whole, np.nan)
        return cls(at_risk[: len(chance)], chance, error, _falling(chance, at_risk), within_days)

    @property
    def reach(self) -> int:
        """The longest silence that the curve speaks of without a break; −1 if it speaks of none."""
        return int(np.argmax(np.append(np.isnan(self.chance), True))) - 1

    @property
    def highest(self) -> float:
        """The highest chance after any silence; 0 where the curve speaks of none."""
        return float(np.max(self.fitted[: self.reach + 1], initial=0.0))

    def crossing(self, threshold: float) -> int | None:
        """The shortest silence after which the fitted chance stays under the threshold; None if it is not seen to."""
        known = self.fitted[: self.reach + 1]
        at_least = np.flatnonzero(known >= threshold)
        if not len(known) or (len(at_least) and at_least[-1] == self.reach):
            return None
        return int(at_least[-1]) + 1 if len(at_least) else 0

    def is_off(self, silence: int, threshold: float) -> bool:
        """Whether the chance after a silence differs from the threshold by more than sampling error explains."""
        place = min(silence, self.reach)
        return place >= 0 and bool(abs(self.fitted[place] - threshold) > Z * self.error[place])

    def interval(self, threshold: float) -> tuple[int, int]:
        """The silences around the crossing whose chance is not significantly off the threshold."""
        crossing = self.crossing(threshold)
        low = high = max(self.reach, 0) if crossing is None else crossing
        while low > 0 and not self.is_off(low - 1, threshold):
            low -= 1
        while high < self.reach and not self.is_off(high + 1, threshold):
            high += 1
        return low, high


def return_curve(
    engine: Engine,
    customer_days: Input,
    as_of: date,
    *,
    within_days: int,
    history_days: int = 365,
    most: int = 200_000,
    seed: int = 0,
) -> ReturnCurve:
    """The silence–return curve of a business up to the end of `as_of`.

    Parameters
    ----------
    customer_days : facts per customer and day; nothing after `as_of` is used
    within_days : the outcome window
    history_days : the days up to `as_of` on which silences are watched: an older habit no longer counts
    most : customers looked at; above it a seeded sample
    """
    longest = LONGEST + within_days
    people = people_of(engine, customer_days, as_of, most, seed)
    counts = engine.query(
        sql_of("ml.lifecycle", "silences"),
        {"as_of": as_of, "since": as_of - timedelta(days=history_days), "longest": longest + 1},
        customer_days=customer_days,
        people=people,
    )
    return ReturnCurve.of(*_by_group(counts, longest + 2), within_days)


def people_of(engine: Engine, customer_days: Input, as_of: date, most: int, seed: int) -> pa.Table:
    """customer_id and part (a hash that parts customers into groups) of at most `most` customers who have bought."""
    buyers = engine.query(
        "SELECT DISTINCT customer_id, $as_of AS day FROM customer_days WHERE orders > 0 AND day <= $as_of",
        {"as_of": as_of},
        customer_days=customer_days,
    )
    return engine.query(
        "SELECT customer_id, SUBSTRING(SHA256(customer_id), 1, 4) AS part FROM buyers ORDER BY customer_id",
        buyers=sample_customers(engine, buyers, most, seed),
    )


def _by_group(counts: pa.Table, days: int) -> tuple[Array, Array, Array]:
    group = np.array([int(part, 16) % GROUPS for part in counts["part"].to_pylist()], dtype=np.int64)
    place = counts["days"].to_numpy().astype(np.int64)
    found = []
    for name in ("entered", "lasted", "returned"):
        sums = np.zeros((GROUPS, days))
        np.add.at(sums, (group, place), counts[name].to_numpy().astype(float))
        found.append(sums)
    return found[0], found[1], found[2]


def _chances(entered: Array, lasted: Array, returned: Array, within: int) -> tuple[Array, Array]:
    """Chance of a return within the window after each silence, and silences watched on the day after it."""
    at_risk = np.cumsum(entered) - np.cumsum(lasted)  # [s]: watched on their day s + 1
    on_day = np.append(returned[1:], 0.0)
    hazard = np.divide(on_day, at_risk, out=np.zeros_like(on_day), where=at_risk > 0)
    stays = np.concatenate([[0.0], np.cumsum(np.log1p(-np.minimum(hazard, 1 - 1e-12)))])
    days = len(entered) - 1 - within
    return -np.expm1(stays[within : within + days] - stays[:days]), at_risk


def _smallest_ahead(at_risk: Array, within: int) -> Array:
    """The fewest silences watched on any day of the window after each silence."""
    days = len(at_risk) - 1 - within
    result: Array = np.lib.stride_tricks.sliding_window_view(at_risk, within)[:days].min(axis=1)
    return result


def _falling(chance: Array, weight: Array) -> Array:
    """`chance`, from its highest point on the nearest curve that never rises (pool adjacent violators)."""
    fitted = chance.copy()
    known = int(np.argmax(np.append(np.isnan(chance), True)))
    if not known:
        return fitted
    peak = int(np.argmax(chance[:known]))
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for place in range(peak, known):
        mean, mass, length = float(chance[place]), float(weight[place]), 1
        while blocks and blocks[-1][0] < mean:
            before = blocks.pop()
            mean = (before[0] * before[1] + mean * mass) / (before[1] + mass)
            mass, length = before[1] + mass, before[2] + length
        blocks.append((mean, mass, length))
    fitted[peak:known] = np.repeat([b[0] for b in blocks], [b[2] for b in blocks])
    return fitted

"""How expectations of value are held against each other: by measures that three customers cannot turn.

Belongs here: the loss, what is looked at beside it, and when one expectation counts as better. Does not belong here:
who is compared with whom (see `contest`), and what follows (see `training`).

The loss is the Tweedie deviance of power 1.5: consistent for a mean, so nothing that is too low in sum can win by it,
and a customer weighs in it by about the root of what it spends. Squared error weighs by the square: where spend is as
spread as among wholesalers, three customers of five thousand are most of it. Whoever had spent more than a limit
*before* the day that is judged is judged as if all its amounts were smaller by the factor that brings it to the limit:
weights that depend on what was known beforehand leave a mean's loss consistent, as cutting off what came would not.
Only what comes out of all proportion, ten times the limit, is cut off.

Beside the loss stand the order of customers (the Gini coefficient) and the sum: what is better by the loss, but surely
puts customers in a worse order, is not taken, and what is surely further off in sum only if its order is far better.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from ml.statistics import Gain, Sums, ranking_terms, saved_share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

POWER = 1.5
LIMIT_QUANTILE = 0.99  # of what those who had bought had spent before
BEYOND = 10  # times the limit: more than that counts as that
FLOOR = 0.1  # of the mean: whoever is expected to bring less is judged as if it were this
SUM_TOLERANCE = 0.05  # share of all spend by which a sum may be further off
FAR_BETTER = 0.05  # Gini by which an order is so much better that the sum does not matter


@dataclass(frozen=True)
class Comparison:
    """A challenger beside what it challenges, on the same customers; above 0 the challenger is better.

    Parameters
    ----------
    gain : share of the standing loss that it saves
    ranking : difference of the normalised Gini coefficients
    level : by how much less its sum is off, as a share of the sum that came
    """

    gain: Gain
    ranking: Gain
    level: Gain

    def is_better(self, margin: float) -> bool:
        """By the margin and beyond chance, and surely worse in nothing else that counts as much."""
        is_further_off = self.level.high < -SUM_TOLERANCE and self.ranking.low <= FAR_BETTER
        is_sure = self.gain.mean >= margin and self.gain.is_significantly_better
        return is_sure and not self.ranking.is_significantly_worse and not is_further_off

    def is_worse(self) -> bool:
        """Beyond chance, with nothing that speaks for it."""
        return self.gain.is_significantly_worse and not self.ranking.is_significantly_better

    def metrics(self, name: str) -> dict[str, float]:
        """As figures to log."""
        return (
            self.gain.metrics(f"{name}_gain")
            | self.ranking.metrics(f"{name}_ranking_gain")
            | self.level.metrics(f"{name}_sum_gain")
        )


@dataclass(frozen=True)
class Judge:
    """What came, as it is judged.

    Parameters
    ----------
    actual : what each customer spent, scaled; none below 0, shape (n,)
    scale : what the customer's amounts are multiplied by, at most 1; shape (n,)
    floor : currency, the least expectation
    seed : of the bootstrap
    """

    actual: Numbers
    scale: Numbers
    floor: float
    seed: int = 0

    @classmethod
    def of(cls, spend: Numbers, before: Numbers, seed: int = 0) -> Self:
        """For the spend of a horizon, given what the same customers had spent in as many days before it."""
        before = np.maximum(before, 0.0)
        bought = before[before > 0]
        if not bought.size:
            return cls(np.maximum(spend, 0.0), np.ones(len(spend)), 1e-9, seed)
        limit = float(np.quantile(bought, LIMIT_QUANTILE))
        scale = limit / np.maximum(before, limit)
        floor = FLOOR * float((before * scale).mean())
        return cls(np.clip(spend * scale, 0.0, BEYOND * limit), scale, floor, seed)

    def losses(self, expected: Numbers) -> Numbers:
        """The deviance of each customer, shape (n,), none below 0.

        4 (√y − √μ)² / √μ, which is the Tweedie deviance of power 1.5 written so that it cannot fall below 0.
        """
        mean = np.sqrt(np.maximum(expected * self.scale, self.floor))
        losses: Numbers = 4 * (np.sqrt(self.actual) - mean) ** 2 / mean
        return losses

    def score(self, expected: Numbers) -> float:
        """Mean deviance."""
        return float(self.losses(expected).mean()) if len(self.actual) else 0.0

    def compare(self, standing: Numbers, challenger: Numbers) -> Comparison:
        """Hold two expectations against each other, each of shape (n,)."""
        orders = [ranking_terms(self.actual, one * self.scale) for one in (standing, challenger)]
        terms = (
            self.losses(standing), self.losses(challenger), orders[1] - orders[0], self._own_order,
            standing * self.scale, challenger * self.scale, self.actual,
        )  # fmt: skip
        sums = Sums.of(np.column_stack(terms), seed=self.seed)
        return Comparison(sums.gain(saved_share), sums.gain(_ranking), sums.gain(_level))

    @cached_property
    def _own_order(self) -> Numbers:
        return ranking_terms(self.actual, self.actual)


def _ranking(sums: Numbers) -> Numbers:
    return np.divide(sums[:, 2], sums[:, 3], out=np.zeros(len(sums)), where=sums[:, 3] > 0)


def _level(sums: Numbers) -> Numbers:
    off = np.abs(sums[:, 4:6] - sums[:, 6:7])
    result: Numbers = np.divide(off[:, 0] - off[:, 1], sums[:, 6], out=np.zeros(len(sums)), where=sums[:, 6] > 0)
    return result

"""How expectations of value are compared: by measures that three customers cannot reverse.

Belongs here: the loss, the measures beside it, and when one expectation counts as better. Does not belong here: what is
compared with what (see `contest`), and what follows (see `training`).

The loss is the Tweedie deviance of power 1.5: consistent for a mean, so nothing that is too low in sum can win by it,
and a customer weighs in it by about the root of what it spends. Squared error weighs by the square: where spend is as
spread as among wholesalers, three customers of five thousand make up most of it. The amounts of a customer who had
spent more than a limit *before* the day that is judged are scaled down by the factor that brings it to the limit:
weights that depend on what was known beforehand leave a mean's loss consistent, as truncating outcomes would not. Only
outcomes out of all proportion, ten times the limit, are truncated.

Beside the loss stand the order of customers (the Gini coefficient) and the sum: an expectation that is better by the
loss is not accepted if it orders customers significantly worse, and one that is significantly further off in sum only
if its order is far better.
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

LIMIT_QUANTILE = 0.99  # of earlier spend, among those who had bought
MAX_LIMITS = 10  # an outcome counts as at most so many times the limit
MIN_EXPECTED_SHARE = 0.1  # of the mean: a lower expectation is judged as if it were this
SUM_TOLERANCE = 0.05  # share of all spend by which a sum may be further off
FAR_BETTER_ORDER = 0.05  # a gain in Gini that makes up for a sum that is further off


@dataclass(frozen=True)
class Comparison:
    """A challenger compared with a reference on the same customers; above 0 the challenger is better.

    Parameters
    ----------
    gain : share of the reference's loss that it saves
    ranking : difference of the normalised Gini coefficients
    level : by how much less its sum is off, as a share of the realised sum
    """

    gain: Gain
    ranking: Gain
    level: Gain

    def is_better(self, margin: float) -> bool:
        """Whether it is better by the margin and beyond chance, and not significantly worse in order or sum."""
        is_further_off = self.level.high < -SUM_TOLERANCE and self.ranking.low <= FAR_BETTER_ORDER
        has_gain = self.gain.mean >= margin and self.gain.is_significantly_better
        return has_gain and not self.ranking.is_significantly_worse and not is_further_off

    def is_worse(self) -> bool:
        """Whether it is significantly worse by the loss and not significantly better in order."""
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
    """Outcomes as they are judged.

    Parameters
    ----------
    actual : what each customer spent, scaled; none below 0, shape (n,)
    scale : the factor on the customer's amounts, at most 1; shape (n,)
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
        floor = MIN_EXPECTED_SHARE * float((before * scale).mean())
        return cls(np.clip(spend * scale, 0.0, MAX_LIMITS * limit), scale, floor, seed)

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

    def compare(self, reference: Numbers, challenger: Numbers) -> Comparison:
        """Compare two expectations, each of shape (n,)."""
        orders = [ranking_terms(self.actual, expected * self.scale) for expected in (reference, challenger)]
        terms = (
            self.losses(reference), self.losses(challenger), orders[1] - orders[0], self._perfect_order,
            reference * self.scale, challenger * self.scale, self.actual,
        )  # fmt: skip
        sums = Sums.of(np.column_stack(terms), seed=self.seed)
        return Comparison(sums.gain(saved_share), sums.gain(_ranking), sums.gain(_level))

    @cached_property
    def _perfect_order(self) -> Numbers:
        return ranking_terms(self.actual, self.actual)


def _ranking(sums: Numbers) -> Numbers:
    return np.divide(sums[:, 2], sums[:, 3], out=np.zeros(len(sums)), where=sums[:, 3] > 0)


def _level(sums: Numbers) -> Numbers:
    off = np.abs(sums[:, 4:6] - sums[:, 6:7])
    result: Numbers = np.divide(off[:, 0] - off[:, 1], sums[:, 6], out=np.zeros(len(sums)), where=sums[:, 6] > 0)
    return result

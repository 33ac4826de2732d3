"""Whether one of two models is better on the same customers, or only seems so: the paired bootstrap.

Belongs here: statistics of paired losses, for every family. Does not belong here: what a loss is (each family's), and
what follows from a gain (see `ml.choice`).

Customers are drawn with all of their rows, by Poisson(1) weights: so a resample is a product of matrices, and many
figures are taken from the same resamples at once. They are drawn in the order of their losses, not of their rows: then
an interval does not depend on the order of rows, and if the largest customers were not there, the others would be drawn
as before, so that chance has no say in what difference the largest make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

DRAWS = 1000
LEVEL = 0.95
GROUPS = 5_000  # more customers than these are drawn in so many random groups


@dataclass(frozen=True)
class Gain:
    """By how much a challenger is better than what it challenges; above 0 it is better.

    Parameters
    ----------
    mean : on the customers themselves
    low, high : 95 % interval of it, by a bootstrap over customers
    customers : how many it rests on
    """

    mean: float
    low: float
    high: float
    customers: int

    @property
    def is_significantly_better(self) -> bool:
        return self.low > 0

    @property
    def is_significantly_worse(self) -> bool:
        return self.high < 0

    def reversed(self) -> Gain:
        """What the challenged one gains over the challenger, as a share of the challenger's loss."""

        def other(share: float) -> float:
            return -share / (1 - share) if share < 1 else -np.inf

        return Gain(other(self.mean), other(self.high), other(self.low), self.customers)

    def metrics(self, name: str) -> dict[str, float]:
        """As figures to log: `name`, `name_low` and `name_high`."""
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


def paired_gain(
    standing: Numbers,
    challenger: Numbers,
    *,
    customers: NDArray[Any] | None = None,
    counts: NDArray[Any] | None = None,
    seed: int = 0,
) -> Gain:
    """By which share of the standing model's loss the challenger's is lower.

    Parameters
    ----------
    standing, challenger : losses of the same rows, shape (n,), none below 0
    customers, counts : see `bootstrap`

    Returns
    -------
    Gain
        0 with an interval of 0 where nobody loses anything.

    Examples
    --------
    >>> paired_gain(np.full(100, 2.0), np.full(100, 1.5)).low
    0.25
    """

    terms = np.column_stack([standing, challenger])
    return bootstrap(terms, saved_share, customers=customers, counts=counts, seed=seed)


def saved_share(sums: Numbers) -> Numbers:
    """1 − the second sum over the first; 0 where nothing is lost."""
    saved: Numbers = 1 - np.divide(sums[:, 1], sums[:, 0], out=np.ones(len(sums)), where=sums[:, 0] > 0)
    return saved


def bootstrap(
    terms: Numbers,
    statistic: Callable[[Numbers], Numbers],
    *,
    customers: NDArray[Any] | None = None,
    counts: NDArray[Any] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Gain:
    """A statistic of sums over customers, with its interval.

    Parameters
    ----------
    terms : what each row adds to each sum, shape (n, m)
    statistic : of sums, shape (k, m), the statistic of each set of them, shape (k,)
    customers : whose row it is, shape (n,); None where each row is a customer
    counts : how many customers, all alike, a row stands for, shape (n,); None where it is one
    draws : resamples, at most `DRAWS`

    Returns
    -------
    Gain
        Of no rows at all, 0 without any certainty.
    """
    return Sums.of(terms, customers=customers, counts=counts, seed=seed, draws=draws).gain(statistic)


@dataclass(frozen=True)
class Sums:
    """Sums over customers, and over the same resamples of them: many statistics are taken from one set.

    Parameters
    ----------
    total : shape (1, m)
    drawn : shape (draws, m)
    customers : how many there are
    """

    total: Numbers
    drawn: Numbers
    customers: int

    @classmethod
    def of(
        cls,
        terms: Numbers,
        *,
        customers: NDArray[Any] | None = None,
        counts: NDArray[Any] | None = None,
        seed: int = 0,
        draws: int = DRAWS,
    ) -> Self:
        """See `bootstrap`."""
        terms = np.asarray(terms, dtype=np.float64)
        if customers is not None:
            terms = _by_group(terms, np.unique(customers, return_inverse=True)[1])
        if counts is not None:
            weights = np.random.default_rng(seed).poisson(counts, (draws, len(counts))).astype(np.float64)
            return cls((counts @ terms)[None, :], weights @ terms, int(counts.sum()))
        total = terms.sum(axis=0, keepdims=True)
        groups = in_groups(terms[np.lexsort(terms.T[::-1])], seed)
        return cls(total, resamples(len(groups), seed)[:, :draws].T @ groups, len(terms))

    def gain(self, statistic: Callable[[Numbers], Numbers]) -> Gain:
        """A statistic of these sums, with its interval."""
        if not self.customers:
            return Gain(0.0, -np.inf, np.inf, 0)
        low, high = np.quantile(statistic(self.drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Gain(float(statistic(self.total)[0]), float(low), float(high), self.customers)


def in_groups(terms: Numbers, seed: int = 0) -> Numbers:
    """The sums of random groups of customers, where there are many: these scatter as the customers do."""
    if len(terms) <= GROUPS:
        return terms
    return _by_group(terms, np.random.default_rng(seed).integers(0, GROUPS, len(terms)))


def _by_group(terms: Numbers, group: NDArray[Any]) -> Numbers:
    return np.column_stack([np.bincount(group, weights=column) for column in terms.T])


@lru_cache(maxsize=2)
def resamples(units: int, seed: int = 0) -> Numbers:
    """How often each customer is drawn in each resample, shape (units, DRAWS); of fewer customers, the first rows."""
    return np.random.default_rng(seed).poisson(1.0, (units, DRAWS)).astype(np.float64)


def ranking_terms(actual: Numbers, predicted: Numbers) -> Numbers:
    """What each customer adds to the concentration of `actual` along the order of `predicted`.

    The sum of the terms orders predictions as the Gini coefficient does, and their spread is that of a resample: each
    is the customer's own outcome at its place, and its place among the outcomes of others (the projection of a
    U-statistic; Hoeffding 1948). Equal predictions share their places.

    Parameters
    ----------
    actual, predicted : shape (n,); none of `actual` below 0
    """
    if not len(actual):
        return np.zeros(0)
    _, place, counts = np.unique(predicted, return_inverse=True, return_counts=True)
    held = np.bincount(place, weights=actual)
    below = (np.cumsum(counts) - (counts + 0.0)) + counts / 2
    above = held.sum() - np.cumsum(held) + held / 2
    n = len(actual)
    centre = float(actual.sum()) / 2
    terms: Numbers = (actual * (below[place] / n - 0.5)) + (above[place] - centre) / n
    return terms

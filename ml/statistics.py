"""Whether one of two models is better on the same customers, or only seems so: the paired bootstrap.

Belongs here: statistics of paired losses, for every family. Does not belong here: what a loss is (each family's), and
what follows from a gain (see `ml.choice`).

Customers are drawn with all of their rows, by Poisson(1) weights: so a resample is a product of matrices, and many
figures are taken from the same resamples at once. They are drawn in the order of their losses, not of their rows: then
an interval does not depend on the order of rows, and without the largest customers the others would be drawn as before,
so that the difference which the largest make is not due to chance.
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
    """How much better a challenger is than a reference; above 0 it is better.

    Parameters
    ----------
    mean : float
        The gain on the customers themselves.
    low, high : float
        Its 95 % interval, by a bootstrap over customers.
    customers : int
        Number of customers it rests on.

    Examples
    --------
    >>> gain = Gain(0.05, -0.01, 0.11, 400)
    >>> gain.is_significantly_better, gain.is_significantly_worse
    (False, False)
    """

    mean: float
    low: float
    high: float
    customers: int

    @property
    def is_significantly_better(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0

    @property
    def is_significantly_worse(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0

    def reversed(self) -> Gain:
        """Swap the two: the gain of the reference over the challenger, as a share of the challenger's loss.

        Returns
        -------
        Gain
            For gains that are shares of a loss.
        """

        def other(share: float) -> float:
            return -share / (1 - share) if share < 1 else -np.inf

        return Gain(other(self.mean), other(self.high), other(self.low), self.customers)

    def metrics(self, name: str) -> dict[str, float]:
        """List the gain and its interval as metrics.

        Parameters
        ----------
        name : str
            Name of the gain.

        Returns
        -------
        dict of str to float
            `name`, `name_low` and `name_high`.
        """
        return {name: self.mean, f"{name}_low": self.low, f"{name}_high": self.high}


def paired_gain(
    reference: Numbers,
    challenger: Numbers,
    *,
    customers: NDArray[Any] | None = None,
    counts: NDArray[Any] | None = None,
    seed: int = 0,
) -> Gain:
    """Compute by which share of the reference's loss the challenger's is lower.

    Parameters
    ----------
    reference, challenger : np.ndarray of shape (n_rows,)
        Losses of the same rows, none below 0.
    customers, counts : np.ndarray of shape (n_rows,), optional
        See `bootstrap`.
    seed : int
        Of the resamples.

    Returns
    -------
    Gain
        0 with an interval of 0 where nobody loses anything.

    Examples
    --------
    >>> paired_gain(np.full(100, 2.0), np.full(100, 1.5)).low
    0.25
    """
    terms = np.column_stack([reference, challenger])
    return bootstrap(terms, saved_share, customers=customers, counts=counts, seed=seed)


def saved_share(sums: Numbers) -> Numbers:
    """Compute which share of a first loss a second one saves; 0 where nothing is lost.

    Parameters
    ----------
    sums : np.ndarray of shape (n_sets, n_sums)
        Sums of two losses, in the first two columns.

    Returns
    -------
    np.ndarray of shape (n_sets,)
        1 minus the second sum over the first.

    Examples
    --------
    >>> saved_share(np.array([[4.0, 3.0], [0.0, 0.0]])).tolist()
    [0.25, 0.0]
    """
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
    """Compute a statistic of sums over customers, with its bootstrap interval.

    Parameters
    ----------
    terms : np.ndarray of shape (n_rows, n_sums)
        What each row adds to each sum.
    statistic : callable
        From sums of shape (n_sets, n_sums) to the statistic of each set, shape (n_sets,).
    customers : np.ndarray of shape (n_rows,), optional
        The customer of each row; by default each row is a customer.
    counts : np.ndarray of shape (n_rows,), optional
        The number of identical customers that a row represents; by default one.
    seed : int
        Of the resamples.
    draws : int
        Number of resamples, at most 1000.

    Returns
    -------
    Gain
        The statistic with its interval; without rows, 0 with an infinite interval.

    Examples
    --------
    The mean spend of four customers:

    >>> spend = np.column_stack([[10.0, 20.0, 30.0, 40.0], np.ones(4)])
    >>> gain = bootstrap(spend, lambda sums: sums[:, 0] / np.maximum(sums[:, 1], 1.0))
    >>> gain.mean, gain.customers
    (25.0, 4)
    """
    return Sums.of(terms, customers=customers, counts=counts, seed=seed, draws=draws).gain(statistic)


@dataclass(frozen=True)
class Sums:
    """Sums over customers, and over resamples of them: several statistics are taken from one set.

    Parameters
    ----------
    total : np.ndarray of shape (1, n_sums)
        Over the customers themselves.
    drawn : np.ndarray of shape (n_draws, n_sums)
        Over each resample.
    customers : int
        Number of customers.

    Examples
    --------
    >>> sums = Sums.of(np.column_stack([np.full(50, 2.0), np.full(50, 1.0)]))
    >>> sums.total.tolist(), sums.gain(saved_share).mean
    ([[100.0, 50.0]], 0.5)
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
        """Sum the terms of customers, and of resamples of them.

        Parameters
        ----------
        terms : np.ndarray of shape (n_rows, n_sums)
            What each row adds to each sum.
        customers, counts : np.ndarray of shape (n_rows,), optional
            See `bootstrap`.
        seed : int
            Of the resamples.
        draws : int
            Number of resamples, at most 1000.

        Returns
        -------
        Sums
            The sums.
        """
        terms = np.asarray(terms, dtype=np.float64)
        if customers is not None:
            terms = _by_group(terms, np.unique(customers, return_inverse=True)[1])
        if counts is not None:
            weights = np.random.default_rng(seed).poisson(counts, (draws, len(counts))).astype(np.float64)
            return cls((counts @ terms)[None, :], weights @ terms, int(counts.sum()))
        total = terms.sum(axis=0, keepdims=True)
        groups = _pooled(terms[np.lexsort(terms.T[::-1])], seed)
        return cls(total, resamples(len(groups), seed)[:, :draws].T @ groups, len(terms))

    def gain(self, statistic: Callable[[Numbers], Numbers]) -> Gain:
        """Compute a statistic of these sums, with its interval.

        Parameters
        ----------
        statistic : callable
            See `bootstrap`.

        Returns
        -------
        Gain
            Without customers, 0 with an infinite interval.
        """
        if not self.customers:
            return Gain(0.0, -np.inf, np.inf, 0)
        low, high = np.quantile(statistic(self.drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Gain(float(statistic(self.total)[0]), float(low), float(high), self.customers)


def _pooled(terms: Numbers, seed: int = 0) -> Numbers:
    """The sums of random groups of customers, where there are many: they scatter as the customers do."""
    if len(terms) <= GROUPS:
        return terms
    return _by_group(terms, np.random.default_rng(seed).integers(0, GROUPS, len(terms)))


def _by_group(terms: Numbers, group: NDArray[Any]) -> Numbers:
    return np.column_stack([np.bincount(group, weights=column) for column in terms.T])


@lru_cache(maxsize=2)
def resamples(units: int, seed: int = 0) -> Numbers:
    """Draw how often each customer is in each resample.

    Parameters
    ----------
    units : int
        Number of customers, or of groups of them.
    seed : int
        Of the draws; with the same seed, fewer units get the first rows.

    Returns
    -------
    np.ndarray of shape (units, 1000)
        Poisson(1) weights.

    Examples
    --------
    >>> bool(np.array_equal(resamples(3), resamples(5)[:3]))
    True
    """
    return np.random.default_rng(seed).poisson(1.0, (units, DRAWS)).astype(np.float64)


def ranking_terms(actual: Numbers, predicted: Numbers) -> Numbers:
    """Compute what each customer adds to the concentration of `actual` along the order of `predicted`.

    The sum of the terms orders predictions as the Gini coefficient does, and their spread is that of a resample: each
    is the customer's own outcome at its rank, and its rank among the outcomes of others (the projection of a
    U-statistic). Equal predictions share their ranks.

    Parameters
    ----------
    actual, predicted : np.ndarray of shape (n_customers,)
        Outcomes, none below 0, and predictions.

    Returns
    -------
    np.ndarray of shape (n_customers,)
        Terms that add up to the concentration.

    References
    ----------
    Hoeffding, W. (1948). A Class of Statistics with Asymptotically Normal Distribution. Annals of Mathematical
    Statistics 19(3), 293-325.

    Examples
    --------
    The normalised Gini coefficient of a prediction that swaps two customers:

    >>> actual = np.array([1.0, 2.0, 7.0])
    >>> float(ranking_terms(actual, np.array([2.0, 1.0, 3.0])).sum() / ranking_terms(actual, actual).sum())
    0.8333333333333334
    """
    if not len(actual):
        return np.zeros(0)
    _, group, counts = np.unique(predicted, return_inverse=True, return_counts=True)
    spent = np.bincount(group, weights=actual)
    below = (np.cumsum(counts) - (counts + 0.0)) + counts / 2
    above = spent.sum() - np.cumsum(spent) + spent / 2
    n = len(actual)
    centre = float(actual.sum()) / 2
    terms: Numbers = (actual * (below[group] / n - 0.5)) + (above[group] - centre) / n
    return terms

"""Mixtures of clusters that share one spread per column, fitted by expectation and maximisation, and k-means.

Belongs here: the two fits on a matrix. Does not belong here: how many clusters there are (see `structure` for natural
ones, `cuts` for those that pay), and what the columns mean.

A mixture with one spread per column finds the unit in which a column's clusters are round, which k-means on
standardised columns cannot: a column that tells clusters apart has a large standard deviation because of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOOR = 0.1  # least within-cluster standard deviation, in the column's own: whole numbers must not become clusters


@dataclass(frozen=True)
class Mixture:
    """Centres (k, columns), the clusters' common variance per column, their shares, and the mean log-likelihood."""

    centres: np.ndarray
    variance: np.ndarray
    shares: np.ndarray
    fit: float

    def labels(self, data: np.ndarray) -> np.ndarray:
        """The nearest centre of each row, in within-cluster units."""
        return np.argmax(_products(data, self.centres, self.variance), axis=1)


def expectation_maximisation(data: np.ndarray, start: Mixture, *, most: int = 300, gain: float = 1e-6) -> Mixture:
    """Climb from `start` until a step brings less than `gain` in the mean log-likelihood."""
    n, across = len(data), np.ascontiguousarray(data.T)  # (columns, n): sums over clusters then run along memory
    own = across * across
    squares = own.sum(axis=1)
    centres, variance, shares, last = start.centres, start.variance, start.shares, -np.inf
    for _ in range(most):
        score = (centres / variance) @ across
        score += (np.log(shares) - 0.5 * ((centres * centres) @ (1 / variance)))[:, None]
        top = score.max(axis=0)
        score -= top
        np.exp(score, out=score)
        total = score.sum(axis=0)
        fit = float((top + np.log(total)).mean() - 0.5 * (squares @ (1 / variance)) / n - 0.5 * np.log(variance).sum())
        score /= total
        weight = score.sum(axis=1) + 1e-9
        shares = weight / n
        centres = (score @ data) / weight[:, None]
        variance = np.maximum((squares - (weight[:, None] * centres**2).sum(axis=0)) / n, FLOOR**2)
        if fit - last < gain:
            break
        last = fit
    return Mixture(centres, variance, shares, fit)


def log_likelihood(data: np.ndarray, mixture: Mixture) -> np.ndarray:
    """Of each row, without the constant. Shape (n,)."""
    score = _products(data, mixture.centres, mixture.variance) + np.log(np.maximum(mixture.shares, 1e-12))
    top = score.max(axis=1)
    inside = top + np.log(np.exp(score - top[:, None]).sum(axis=1))
    result: np.ndarray = inside - 0.5 * ((data * data) @ (1 / mixture.variance)) - 0.5 * np.log(mixture.variance).sum()
    return result


def mixture_of(data: np.ndarray, k: int, seed: int, tries: int, gain: float = 1e-6) -> Mixture:
    """The best of several short climbs from k-means++ starts, climbed to its end."""
    from sklearn.cluster import kmeans_plusplus

    best: Mixture | None = None
    for number in range(tries):
        centres = kmeans_plusplus(data, k, random_state=1000 * seed + number)[0]
        found = expectation_maximisation(data, around(centres), most=25, gain=3e-4)
        if best is None or found.fit > best.fit:
            best = found
    if best is None:
        raise ValueError("tries must be at least 1")
    return expectation_maximisation(data, best, gain=gain)


def around(centres: np.ndarray) -> Mixture:
    """A start: equal shares around given centres, half of the standardised columns' variance."""
    k, width = centres.shape
    return Mixture(centres, np.full(width, 0.5), np.full(k, 1 / k), -np.inf)


def k_means(data: np.ndarray, start: int | np.ndarray) -> np.ndarray:
    """Centres by Lloyd's algorithm until nobody moves, from given centres or the best of four drawn starts.

    On one thread, so that sums are always added in the same order. It always draws the same starts: what is found does
    not depend on a seed.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    first, k, tries = ("k-means++", start, 4) if isinstance(start, int) else (start, len(start), 1)
    with threadpool_limits(limits=1):
        fitted = KMeans(k, init=first, n_init=tries, max_iter=300, tol=0, random_state=0, algorithm="lloyd").fit(data)
    centres: np.ndarray = fitted.cluster_centers_
    return centres


def nearest(data: np.ndarray, centres: np.ndarray, variance: np.ndarray | float = 1.0) -> np.ndarray:
    """The place of each row's nearest centre."""
    return np.argmax(_products(data, centres, np.broadcast_to(variance, centres.shape[1:])), axis=1)


def _products(data: np.ndarray, centres: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """−½ squared distance in within-cluster units, without the part that all centres share. Shape (n, k)."""
    inner: np.ndarray = (data / variance) @ centres.T
    inner -= 0.5 * ((centres * centres) @ (1 / variance))
    return inner

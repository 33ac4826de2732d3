"""Mixtures of clusters that share one spread per column, fitted by expectation and maximisation, and k-means.

Belongs here: the two fits on a matrix. Does not belong here: how many clusters there are (see `structure` for natural
ones, `cuts` for those that pay), and what the columns mean.

A mixture with one spread per column finds the unit in which a column's clusters are round, which k-means on
standardised columns cannot: a column that tells clusters apart has a large standard deviation because of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOOR = 0.1  # least within-cluster standard deviation, in the column's own


@dataclass(frozen=True)
class Mixture:
    """Centres (k, columns), the clusters' common variance per column, their shares, and the mean log-likelihood."""

    centres: np.ndarray
    variance: np.ndarray
    shares: np.ndarray
    fit: float

    def labels(self, data: np.ndarray) -> np.ndarray:
        """The most likely cluster of each row: nearness in within-cluster units, and size."""
        result: np.ndarray = np.argmax(
            _products(data, self.centres, self.variance) + np.log(np.maximum(self.shares, 1e-12)), axis=1
        )
        return result


def least_variance(data: np.ndarray) -> np.ndarray:
    """The least variance that a cluster may have in each column, so that no single value becomes one. Shape (columns,).

    A column of few values is a rounded one: a value stands for all numbers up to halfway to its neighbours, which adds
    a twelfth of that width squared (Sheppard 1898). Where no value is frequent this is next to nothing.
    """
    found = np.full(data.shape[1], FLOOR**2)
    for number, column in enumerate(data.T):
        values, counts = np.unique(column, return_counts=True)
        if len(values) > 1:
            gaps = np.diff(values)
            width = (np.append(gaps, gaps[-1]) + np.append(gaps[0], gaps)) / 2
            found[number] = max(FLOOR**2, float((counts * width**2).sum() / len(column) / 12))
    return found


def expectation_maximisation(
    data: np.ndarray, start: Mixture, floor: np.ndarray, *, most: int = 300, gain: float = 1e-6
) -> Mixture:
    """Climb from `start` until a step brings less than `gain` in the mean log-likelihood.

    Parameters
    ----------
    floor : `least_variance` of the data
    """
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
        variance = np.maximum((squares - (weight[:, None] * centres**2).sum(axis=0)) / n, floor)
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


def mixture_of(
    data: np.ndarray,
    k: int,
    seed: int,
    tries: int,
    floor: np.ndarray,
    gain: float = 1e-6,
    smaller: Mixture | None = None,
) -> Mixture:
    """The best of several short climbs, climbed to its end.

    Parameters
    ----------
    tries : climbs from k-means++ starts, which may all miss a small cluster far out
    floor : `least_variance` of the data
    smaller : a mixture of k − 1 clusters; each of its clusters, split in two, is a start as well
    """
    from sklearn.cluster import kmeans_plusplus

    starts = [around(kmeans_plusplus(data, k, random_state=1000 * seed + number)[0]) for number in range(tries)]
    if smaller is not None:
        starts += grown(data, smaller)
    if not starts:
        raise ValueError("tries must be at least 1")
    climbs = [expectation_maximisation(data, start, floor, most=25, gain=3e-4) for start in starts]
    return expectation_maximisation(data, max(climbs, key=lambda found: found.fit), floor, gain=gain)


def around(centres: np.ndarray) -> Mixture:
    """A start: equal shares around given centres, half of the standardised columns' variance."""
    k, width = centres.shape
    return Mixture(centres, np.full(width, 0.5), np.full(k, 1 / k), -np.inf)


def of_labels(data: np.ndarray, label: np.ndarray, k: int, floor: np.ndarray) -> Mixture:
    """The mixture that labels describe: each cluster's mean and share, and their common spread."""
    centres = np.stack([data[label == number].mean(axis=0) for number in range(k)])
    variance = np.maximum(((data - centres[label]) ** 2).mean(axis=0), floor)
    return Mixture(centres, variance, np.bincount(label, minlength=k) / len(label), -np.inf)


def grown(data: np.ndarray, mixture: Mixture) -> list[Mixture]:
    """Starts with a cluster more: each cluster in turn is split along the direction in which it is longest."""
    label, scale = mixture.labels(data), np.sqrt(mixture.variance)
    starts = []
    for number in range(len(mixture.centres)):
        inside = data[label == number] / scale
        if len(inside) < 4:
            continue
        away = inside - inside.mean(axis=0)
        size, direction = np.linalg.eigh(away.T @ away / len(inside))
        step = np.sqrt(max(size[-1], 0.0)) * direction[:, -1] * scale
        others = np.delete(np.arange(len(mixture.centres)), number)
        centres = np.vstack([mixture.centres[others], mixture.centres[number] - step, mixture.centres[number] + step])
        half = mixture.shares[number] / 2
        starts.append(Mixture(centres, mixture.variance, np.append(mixture.shares[others], [half, half]), -np.inf))
    return starts


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
    result: np.ndarray = np.argmax(_products(data, centres, np.broadcast_to(variance, centres.shape[1:])), axis=1)
    return result


def _products(data: np.ndarray, centres: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """−½ squared distance in within-cluster units, without the part that all centres share. Shape (n, k)."""
    inner: np.ndarray = (data / variance) @ centres.T
    inner -= 0.5 * ((centres * centres) @ (1 / variance))
    return inner

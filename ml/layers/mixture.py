"""Gaussian mixtures with one common variance per column, fitted by expectation-maximisation, and k-means.

Belongs here: fitting either to a matrix. Does not belong here: how many clusters there are (see `structure` for natural
ones, `cuts` for cuts that pay), and what the columns mean.

A common variance per column finds the unit in which clusters are round. K-means on standardised columns cannot: a
column that separates clusters has a large standard deviation because of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.threads import one_thread

MIN_SD = 0.1  # smallest within-cluster standard deviation, as a share of the column's own


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture, or the start of a fit.

    Parameters
    ----------
    centres : ndarray of shape (k, n_columns)
        Means of the clusters.
    variance : ndarray of shape (n_columns,)
        The clusters' common variance per column.
    shares : ndarray of shape (k,)
        Mixing proportions, 0 to 1.
    fit : float
        Mean log-likelihood per row, without the constant; −inf before a fit.
    """

    centres: np.ndarray
    variance: np.ndarray
    shares: np.ndarray
    fit: float

    def labels(self, data: np.ndarray) -> np.ndarray:
        """The most likely cluster of each row, by distance in within-cluster units and by the cluster's share."""
        result: np.ndarray = np.argmax(
            _products(data, self.centres, self.variance) + np.log(np.maximum(self.shares, 1e-12)), axis=1
        )
        return result


def min_variance(data: np.ndarray) -> np.ndarray:
    """The smallest variance that a cluster may have in each column, so that a single value never becomes a cluster.

    A column of few distinct values is a rounded one: a value stands for all numbers up to halfway to its neighbours,
    which adds a twelfth of that width squared (Sheppard 1898). Where no value is frequent this is close to 0.
    """
    variances = np.full(data.shape[1], MIN_SD**2)
    for number, column in enumerate(data.T):
        values, counts = np.unique(column, return_counts=True)
        if len(values) > 1:
            gaps = np.diff(values)
            width = (np.append(gaps, gaps[-1]) + np.append(gaps[0], gaps)) / 2
            variances[number] = max(MIN_SD**2, float((counts * width**2).sum() / len(column) / 12))
    return variances


def expectation_maximisation(
    data: np.ndarray, start: Mixture, floor: np.ndarray, *, max_steps: int = 300, gain: float = 1e-6
) -> Mixture:
    """Run EM from `start` until a step raises the mean log-likelihood by less than `gain`.

    Parameters
    ----------
    data : ndarray of shape (n, n_columns)
        Prepared numbers.
    start : Mixture
        Where to begin.
    floor : ndarray of shape (n_columns,)
        `min_variance` of the data.
    max_steps : int
        Largest number of steps.
    gain : float
        Increase in the mean log-likelihood below which the fit has converged.
    """
    n, by_column = len(data), np.ascontiguousarray(data.T)  # (columns, n): sums over clusters then run along memory
    squared = by_column * by_column
    squares = squared.sum(axis=1)
    centres, variance, shares, last = start.centres, start.variance, start.shares, -np.inf
    for _ in range(max_steps):
        score = (centres / variance) @ by_column
        score += (np.log(shares) - 0.5 * ((centres * centres) @ (1 / variance)))[:, None]
        top = score.max(axis=0)
        score -= top
        np.exp(score, out=score)
        row_sums = score.sum(axis=0)
        fit = float(
            (top + np.log(row_sums)).mean() - 0.5 * (squares @ (1 / variance)) / n - 0.5 * np.log(variance).sum()
        )
        score /= row_sums
        weight = score.sum(axis=1) + 1e-9
        shares = weight / n
        centres = (score @ data) / weight[:, None]
        variance = np.maximum((squares - (weight[:, None] * centres**2).sum(axis=0)) / n, floor)
        if fit - last < gain:
            break
        last = fit
    return Mixture(centres, variance, shares, fit)


def log_likelihood(data: np.ndarray, mixture: Mixture) -> np.ndarray:
    """Log-likelihood of each row, without the constant. Shape (n,)."""
    score = _products(data, mixture.centres, mixture.variance) + np.log(np.maximum(mixture.shares, 1e-12))
    top = score.max(axis=1)
    inside = top + np.log(np.exp(score - top[:, None]).sum(axis=1))
    result: np.ndarray = inside - 0.5 * ((data * data) @ (1 / mixture.variance)) - 0.5 * np.log(mixture.variance).sum()
    return result


def fit_mixture(
    data: np.ndarray,
    k: int,
    seed: int,
    n_starts: int,
    floor: np.ndarray,
    gain: float = 1e-6,
    smaller: Mixture | None = None,
) -> Mixture:
    """Fit a mixture: several short EM runs, the best of which runs to convergence.

    Parameters
    ----------
    data : ndarray of shape (n, n_columns)
        Prepared numbers.
    k : int
        Number of clusters.
    seed : int
        Seed of the k-means++ starts.
    n_starts : int
        Number of k-means++ starts, which may all miss a small cluster far out.
    floor : ndarray of shape (n_columns,)
        `min_variance` of the data.
    gain : float
        As in `expectation_maximisation`.
    smaller : Mixture, optional
        A mixture of k − 1 clusters; splitting each of its clusters in turn gives further starts.
    """
    from sklearn.cluster import kmeans_plusplus

    starts = [
        start_around(kmeans_plusplus(data, k, random_state=1000 * seed + number)[0]) for number in range(n_starts)
    ]
    if smaller is not None:
        starts += starts_by_splitting(data, smaller)
    if not starts:
        raise ValueError("n_starts must be at least 1")
    fits = [expectation_maximisation(data, start, floor, max_steps=25, gain=3e-4) for start in starts]
    return expectation_maximisation(data, max(fits, key=lambda fitted: fitted.fit), floor, gain=gain)


def start_around(centres: np.ndarray) -> Mixture:
    """A start with equal shares around centres, and half of the standardised columns' variance."""
    k, width = centres.shape
    return Mixture(centres, np.full(width, 0.5), np.full(k, 1 / k), -np.inf)


def mixture_from_labels(data: np.ndarray, labels: np.ndarray, k: int, floor: np.ndarray) -> Mixture:
    """The mixture that labels describe: each cluster's mean and share, and their common variance."""
    centres = np.stack([data[labels == number].mean(axis=0) for number in range(k)])
    variance = np.maximum(((data - centres[labels]) ** 2).mean(axis=0), floor)
    return Mixture(centres, variance, np.bincount(labels, minlength=k) / len(labels), -np.inf)


def starts_by_splitting(data: np.ndarray, mixture: Mixture) -> list[Mixture]:
    """Starts with one cluster more: each cluster in turn is split along its longest axis."""
    labels, scale = mixture.labels(data), np.sqrt(mixture.variance)
    starts = []
    for number in range(len(mixture.centres)):
        members = data[labels == number] / scale
        if len(members) < 4:
            continue
        deviations = members - members.mean(axis=0)
        eigenvalues, eigenvectors = np.linalg.eigh(deviations.T @ deviations / len(members))
        step = np.sqrt(max(eigenvalues[-1], 0.0)) * eigenvectors[:, -1] * scale
        others = np.delete(np.arange(len(mixture.centres)), number)
        centres = np.vstack([mixture.centres[others], mixture.centres[number] - step, mixture.centres[number] + step])
        half = mixture.shares[number] / 2
        starts.append(Mixture(centres, mixture.variance, np.append(mixture.shares[others], [half, half]), -np.inf))
    return starts


def k_means(data: np.ndarray, start: int | np.ndarray) -> np.ndarray:
    """Centres by Lloyd's algorithm, run to convergence from given centres or from the best of four random starts.

    It runs on one thread, so that sums are always added in the same order, and always draws the same starts, so that
    the result does not depend on a seed.
    """
    from sklearn.cluster import KMeans

    init, k, n_init = ("k-means++", start, 4) if isinstance(start, int) else (start, len(start), 1)
    with one_thread():
        fitted = KMeans(k, init=init, n_init=n_init, max_iter=300, tol=0, random_state=0, algorithm="lloyd").fit(data)
    centres: np.ndarray = fitted.cluster_centers_
    return centres


def nearest(data: np.ndarray, centres: np.ndarray, variance: np.ndarray | float = 1.0) -> np.ndarray:
    """The number of each row's nearest centre."""
    result: np.ndarray = np.argmax(_products(data, centres, np.broadcast_to(variance, centres.shape[1:])), axis=1)
    return result


def _products(data: np.ndarray, centres: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """−½ squared distance in within-cluster units, without the part that all centres share. Shape (n, k)."""
    inner: np.ndarray = (data / variance) @ centres.T
    inner -= 0.5 * ((centres * centres) @ (1 / variance))
    return inner

"""Natural clusters of a layer of many columns: which few of its features tell them apart.

Belongs here: proposing features, and testing those proposed. Does not belong here: the test (see `structure`).

In hundreds of columns a mixture follows what most of them share, such as how active a customer is, and misses clusters
that show in three. So features are proposed that share most with one of the first principal components, or that differ
most between groups in all of these components, scaled alike. Those proposed are tested by themselves, as if the layer
had no others, against data of the same margins and correlations: a slice of one cloud does not pass, whatever
proposed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ml.layers.mixture import fit_mixture, min_variance, mixture_from_labels
from ml.layers.structure import MAX_COMPONENTS, MIN_ROWS, N_STARTS, Structure, natural_clusters
from ml.threads import one_thread

MAX_TOGETHER = 48  # prepared columns that are tested all together; a layer of more is wide
N_FEATURES = (3, 6, 12)  # features proposed at a time
MIN_BETWEEN_SHARE = 0.05  # of a feature's variance that must lie between the groups of a partition
MIN_SEPARATION_IF_CHOSEN = 0.1  # asked for where the features are chosen among dozens of sets
MIN_BETTER_SEPARATION = 1.2  # of the separation in the features in force, or in fewer, before others replace them


def is_wide(blocks: Sequence[int]) -> bool:
    """Whether a layer has too many columns to be tested all together."""
    return sum(blocks) > MAX_TOGETHER


def natural_clusters_in_few(
    data: np.ndarray, blocks: Sequence[int], max_clusters: int, min_size: int, in_force: Sequence[int] = ()
) -> tuple[tuple[int, ...], Structure]:
    """Test for natural clusters in a few features of many.

    Parameters
    ----------
    data : ndarray of shape (n, n_columns)
        Prepared numbers of a bounded sample.
    blocks : Sequence of int
        Number of neighbouring columns that each feature has.
    max_clusters : int
        Largest k to try.
    min_size : int
        Smallest number of these n customers that a cluster may have.
    in_force : Sequence of int
        Features of the natural clusters in force, which others must beat.

    Returns
    -------
    features : tuple of int
        Positions of the features that tell the clusters apart, ascending. If there are no natural clusters, those in
        force; empty without any.
    structure : Structure
        Result of the test on these features; without any, on those that came nearest.
    """
    nearest: tuple[float, tuple[int, ...], Structure] = (-np.inf, (), Structure())
    best: tuple[float, tuple[int, ...], Structure] = nearest
    tested: set[tuple[int, ...]] = set()
    if len(data) < MIN_ROWS:
        return (), Structure()
    with one_thread():
        for features in (tuple(in_force), *_proposals(data, blocks, max_clusters)):
            if len(features) < 2 or features in tested:
                continue
            tested.add(features)
            columns = columns_of_features(blocks, features)
            natural = natural_clusters(data[:, columns], [blocks[i] for i in features], max_clusters, min_size)
            is_in_force = features == tuple(in_force)
            separation = max((point.separation or -np.inf for point in natural.curve), default=-np.inf)
            if natural.k > 1:
                separation = next(point.separation or 0.0 for point in natural.curve if point.k == natural.k)
            if natural.k > 1 and (is_in_force or separation >= MIN_SEPARATION_IF_CHOSEN):
                is_preferred = best[1] == tuple(in_force) != () or 0 < len(best[1]) < len(features)
                if separation > best[0] * (MIN_BETTER_SEPARATION if is_preferred else 1):
                    best = (separation, features, natural)
            elif is_in_force:
                nearest = (np.inf, features, natural)
            elif separation > nearest[0]:
                nearest = (separation, (), replace(natural, k=1))
    _, features, natural = best if best[1] else nearest
    return features, natural


def columns_of_features(blocks: Sequence[int], features: Sequence[int]) -> np.ndarray:
    """Positions of the prepared columns of some features."""
    ends = np.cumsum(blocks)
    return np.concatenate([np.arange(ends[i] - blocks[i], ends[i]) for i in features])


def _proposals(data: np.ndarray, blocks: Sequence[int], max_clusters: int) -> Iterator[tuple[int, ...]]:
    """Features that share most with a component, then those in which the groups of a partition differ most."""
    points = _whitened(data)
    starts = np.cumsum(blocks) - np.asarray(blocks)
    variances = np.maximum(np.add.reduceat(data.var(axis=0), starts), 1e-12)
    for component in points.T:
        shared = np.add.reduceat((component @ data / len(data)) ** 2, starts) / variances
        yield tuple(sorted(int(i) for i in np.argsort(-shared, kind="stable")[: N_FEATURES[0]]))
    floor = min_variance(points)
    fitted = mixture_from_labels(points, np.zeros(len(points), dtype=int), 1, floor)
    for k in range(2, max_clusters + 1):
        fitted = fit_mixture(points, k, k, n_starts=N_STARTS, floor=floor, smaller=fitted)
        shares = _between_shares(data, blocks, fitted.labels(points), k)
        order = np.argsort(-shares, kind="stable")
        for count in N_FEATURES:
            yield tuple(sorted(int(i) for i in order[:count] if shares[i] >= MIN_BETWEEN_SHARE))


def _whitened(data: np.ndarray) -> np.ndarray:
    """The first principal components, each with variance 1."""
    centred = data - data.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    kept = np.argsort(-variances, kind="stable")[:MAX_COMPONENTS]
    kept = kept[variances[kept] > 1e-9]
    result: np.ndarray = centred @ directions[:, kept] / np.sqrt(variances[kept])
    return result


def _between_shares(data: np.ndarray, blocks: Sequence[int], labels: np.ndarray, k: int) -> np.ndarray:
    """Share of each feature's variance that lies between groups."""
    sizes = np.bincount(labels, minlength=k)
    sums = np.eye(k)[:, labels] @ data
    means = sums / np.maximum(sizes, 1)[:, None]
    between = (sizes[:, None] * (means - data.mean(axis=0)) ** 2).sum(axis=0) / len(data)
    starts = np.cumsum(blocks) - np.asarray(blocks)
    shares: np.ndarray = np.add.reduceat(between, starts) / np.maximum(np.add.reduceat(data.var(axis=0), starts), 1e-12)
    return shares

"""Test for natural clusters: whether customers of a stage fall into groups in a layer, and into how many.

Belongs here: the test on one prepared matrix, and the curve behind its result. Does not belong here: what happens where
there are no natural clusters (see `cuts`).

k clusters must pass two tests. *Separation*: a mixture of k clusters fits the data better than it fits data without
clusters, drawn from a Gaussian copula with the same margins and rank correlations. This is the gap statistic
(Tibshirani, Walther & Hastie 2001), measured by likelihood, against a null that keeps the correlations, because k-means
cuts every elongated cloud stably. *Stability*: mixtures fitted to bootstrap samples put the same customers together
(adjusted Rand index; Hennig 2007). A single column has no such null, for its margin is all there is, so the clusters of
one column are never natural.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from ml.layers.mixture import Mixture, fit_mixture, min_variance, mixture_from_labels
from ml.threads import one_thread

MAX_ROWS = 5_000  # customers that the test samples
MIN_ROWS = 400  # fewer customers cannot show that they are not one cloud
MAX_COMPONENTS = 12  # principal components tested where a layer has more columns
N_NULL_SAMPLES, N_RESAMPLES, N_STARTS = 4, 4, 3
N_CORRELATION_ROUNDS = 3  # passes that bring a null's correlations up to the data's where a column has a point mass
MIN_STABILITY_ARI = 0.75  # mean adjusted Rand index of bootstrap samples
MIN_SEPARATION = 0.02  # log-likelihood per customer that k clusters must gain beyond their gain on a null
MIN_SEPARATION_GAIN = 0.07  # share by which more clusters must raise the separation
MIN_SEPARATION_GAIN_IF_CLOSER = 0.12  # the same where their centres lie closer together
HIGH_STABILITY_ARI = 0.93  # clusters this stable need not raise the separation unless they lie closer together
MIN_CENTRE_DISTANCE = 1.75  # between the nearest centres, in within-cluster standard deviations; below it, one mode
CLOSER_RATIO = 0.75  # centres nearer than this share of the previous smallest distance lie "closer together"
# What stored models of earlier versions call a field.
_RENAMED = {"apart": "centre_distance"}


@dataclass(frozen=True)
class Point:
    """Figures of one k.

    Parameters
    ----------
    k : int
        Number of clusters.
    separation : float, optional
        Natural clusters: gain in log-likelihood per customer over one cluster, beyond the null's gain.
    error : float, optional
        Natural clusters: standard deviation of the nulls' gains.
    stability : float, optional
        Natural clusters: mean adjusted Rand index between bootstrap samples.
    centre_distance : float, optional
        Natural clusters: distance between the nearest two centres, in within-cluster standard deviations.
    gain_spend, gain_stage : float, optional
        Cuts: share of the variance of the next window's log spend, and of the next stage, that the cut explains out of
        time beyond what is explained without it.
    """

    k: int
    separation: float | None = None
    error: float | None = None
    stability: float | None = None
    centre_distance: float | None = None
    gain_spend: float | None = None
    gain_stage: float | None = None

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """From the JSON of a model, of this version or an earlier one."""
        return cls(**{_RENAMED.get(name, name): value for name, value in stored.items()})


@dataclass(frozen=True)
class Structure:
    """Result of the test for natural clusters.

    Parameters
    ----------
    k : int
        Number of natural clusters; 1 if there are none.
    curve : tuple of Point
        Figures of each k tried.
    labels : Mapping of int to ndarray of shape (n,)
        For each k tried, the cluster of each row.
    """

    k: int = 1
    curve: tuple[Point, ...] = ()
    labels: Mapping[int, np.ndarray] = field(default_factory=dict)


def natural_clusters(data: np.ndarray, blocks: Sequence[int], max_clusters: int, min_size: int) -> Structure:
    """Test whether there are natural clusters, and how many.

    Parameters
    ----------
    data : ndarray of shape (n, n_columns)
        Prepared numbers of a bounded sample.
    blocks : Sequence of int
        Number of neighbouring columns that each feature has; they are drawn together.
    max_clusters : int
        Largest k to try.
    min_size : int
        Smallest number of these n customers that a cluster may have.

    Returns
    -------
    Structure
        With k = 1 if there are no natural clusters, or too few rows or features to test.
    """
    if len(blocks) < 2 or len(data) < MIN_ROWS:
        return Structure()
    with one_thread():
        return _natural(data, blocks, max_clusters, min_size)


def _natural(data: np.ndarray, blocks: Sequence[int], max_clusters: int, min_size: int) -> Structure:
    random = np.random.default_rng(0)
    copula = _Copula.of(data, blocks)
    nulls = [copula.sample_null(random) for _ in range(N_NULL_SAMPLES)]
    points, *nulls = (principal_components(sample) for sample in (data, *nulls))
    floor = min_variance(points)
    resamples = [random.integers(len(points), size=len(points)) for _ in range(N_RESAMPLES)]
    best_k, best_separation, best_distance, curve, null_sd = 1, 0.0, 0.0, [], 0.0
    labels = {}
    # The search on the nulls is as thorough as on the data; otherwise the thoroughness would pass for structure.
    fitted, *fitted_nulls = (
        mixture_from_labels(sample, np.zeros(len(sample), dtype=int), 1, floor) for sample in (points, *nulls)
    )
    for k in range(2, max_clusters + 1):
        fitted = fit_mixture(points, k, k, n_starts=N_STARTS, floor=floor, smaller=fitted)
        fitted_nulls = [
            fit_mixture(null, k, k, n_starts=N_STARTS, floor=floor, smaller=smaller, gain=1e-5)
            for null, smaller in zip(nulls, fitted_nulls, strict=True)
        ]
        row_labels = labels[k] = fitted.labels(points)
        if np.bincount(row_labels, minlength=k).min() < min_size:
            curve.append(Point(k))
            if k > best_k + 1:
                break
            continue
        gains = [other.fit - _single_cluster_fit(null, floor) for null, other in zip(nulls, fitted_nulls, strict=True)]
        null_sd = max(null_sd, float(np.std(gains)))
        separation = fitted.fit - _single_cluster_fit(points, floor) - float(np.mean(gains))
        stability = _stability(points, resamples, row_labels, k, floor) if separation > MIN_SEPARATION / 2 else None
        distance = _nearest_centre_distance(fitted)
        curve.append(Point(k, separation, null_sd, stability, distance))
        min_separation = max(
            MIN_SEPARATION, 3 * null_sd, best_separation * (1 + _min_gain(distance, best_distance, stability))
        )
        is_separate = separation >= min_separation and distance >= MIN_CENTRE_DISTANCE
        if is_separate and stability is not None and stability >= MIN_STABILITY_ARI:
            best_k, best_separation, best_distance = k, separation, distance
        elif k >= max(best_k + 2, 3) and separation < max(best_separation * (1 + MIN_SEPARATION_GAIN), MIN_SEPARATION):
            break
    return Structure(best_k, tuple(curve), labels)


def _min_gain(distance: float, best_distance: float, stability: float | None) -> float:
    """Share by which more clusters must raise the separation."""
    if distance < CLOSER_RATIO * best_distance:
        return MIN_SEPARATION_GAIN_IF_CLOSER
    return MIN_SEPARATION_GAIN if (stability or 0.0) < HIGH_STABILITY_ARI else 0.0


@dataclass(frozen=True)
class _Copula:
    """The Gaussian copula that samples without clusters are drawn from: margins and rank correlations of the data.

    A multimodal margin is itself a sign of clusters, so a normal one with the same mean and spread replaces it.

    Parameters
    ----------
    spans : Sequence of slice
        Columns of each feature.
    margins : Sequence of ndarray of shape (n, width)
        Rows of each feature in the order of its projection; of a multimodal one, a normal sample.
    correlation : ndarray of shape (n_features, n_features)
        Of the normal scores.
    has_point_mass : bool
        Whether a feature has a value that more than a twentieth of the rows share.
    """

    spans: Sequence[slice]
    margins: Sequence[np.ndarray]
    correlation: np.ndarray
    has_point_mass: bool

    @classmethod
    def of(cls, data: np.ndarray, blocks: Sequence[int]) -> Self:
        """Measure the data once, for all samples."""
        from scipy.special import ndtri

        ends = np.cumsum(blocks)
        spans = [slice(end - width, end) for end, width in zip(ends, blocks, strict=True)]
        margins, n = [], len(data)
        for span in spans:
            projection = _projection(data[:, span])
            if span.stop - span.start == 1 and is_multimodal(projection):
                normal = projection.mean() + projection.std() * ndtri((np.arange(n) + 0.5) / n)
                margins.append(normal[:, None])
            else:
                margins.append(data[np.argsort(projection, kind="stable"), span])
        has_point_mass = any(_has_point_mass(data[:, span]) for span in spans)
        return cls(spans, margins, _rank_correlations(data, spans), has_point_mass)

    def sample_null(self, rng: np.random.Generator) -> np.ndarray:
        """Draw data without clusters, of the same size, margins and rank correlations.

        Point masses weaken a rank correlation, so the latent one is raised until the sample's is as strong as the
        data's.
        """
        noise = rng.standard_normal((len(self.margins[0]), len(self.spans)))
        sample = self._with_rank_order(noise, self.correlation)
        if not self.has_point_mass:
            return sample
        latent = target = self.correlation
        for _ in range(N_CORRELATION_ROUNDS):
            observed = _rank_correlations(sample, self.spans)
            ratio = np.where(np.abs(observed) > 0.05, target / np.where(np.abs(observed) > 0.05, observed, 1.0), 1.0)
            latent = np.clip(latent * np.clip(ratio, 0.5, 2.0), -0.995, 0.995)
            np.fill_diagonal(latent, 1.0)
            sample = self._with_rank_order(noise, latent)
        return sample

    def _with_rank_order(self, noise: np.ndarray, correlation: np.ndarray) -> np.ndarray:
        """The data's margins, rearranged into the rank order of correlated normal noise."""
        eigenvalues, eigenvectors = np.linalg.eigh(correlation)
        scores = noise @ (eigenvectors * np.sqrt(np.maximum(eigenvalues, 0))).T
        result = np.empty((len(noise), self.spans[-1].stop))
        for number, (span, margin) in enumerate(zip(self.spans, self.margins, strict=True)):
            result[np.argsort(scores[:, number], kind="stable"), span] = margin
        return result


def _rank_correlations(data: np.ndarray, spans: Sequence[slice]) -> np.ndarray:
    """Correlations of normal scores; 0 where a column does not vary."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores = np.column_stack([ndtri((rankdata(_projection(data[:, span])) - 0.5) / len(data)) for span in spans])
    with np.errstate(invalid="ignore", divide="ignore"):
        correlations: np.ndarray = np.nan_to_num(np.atleast_2d(np.corrcoef(scores, rowvar=False)))
    np.fill_diagonal(correlations, 1.0)
    return correlations


def _projection(block: np.ndarray) -> np.ndarray:
    """A single column itself, or the first principal component of a word feature's several columns, to rank rows by."""
    return block[:, 0] if block.shape[1] == 1 else _first_principal_component(block)


def _has_point_mass(block: np.ndarray) -> bool:
    """Whether more than a twentieth of the rows share one value."""
    return bool(np.unique(_projection(block), return_counts=True)[1].max() > len(block) / 20)


def is_multimodal(values: np.ndarray) -> bool:
    """Whether a continuous column's density has two modes with a valley below 70 % of the lower mode between them.

    Gaussian kernel density with Silverman's bandwidth; each side of the valley holds at least a twentieth of the
    values. Columns with few distinct values or a point mass are not continuous. The extremes are left out, because
    winsorising puts a point mass there.
    """
    values = values[(values > values.min()) & (values < values.max())]
    _, counts = np.unique(values, return_counts=True)
    if len(counts) < 50 or counts.max() > len(values) / 20:
        return False
    ordered = np.sort(values)
    spread = min(ordered.std(), (np.quantile(ordered, 0.75) - np.quantile(ordered, 0.25)) / 1.34)
    bandwidth = 0.9 * max(spread, 1e-9) * len(ordered) ** -0.2
    grid = np.linspace(ordered[0], ordered[-1], 128)
    density = np.exp(-0.5 * ((grid[:, None] - ordered[None, :: max(1, len(ordered) // 1000)]) / bandwidth) ** 2).sum(
        axis=1
    )
    left, right = np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])[::-1]
    cumulative = np.searchsorted(ordered, grid) / len(ordered)
    return bool(((density < 0.7 * np.minimum(left, right)) & (cumulative >= 0.05) & (cumulative <= 0.95)).any())


def _stability(
    data: np.ndarray, resamples: Sequence[np.ndarray], row_labels: np.ndarray, k: int, floor: np.ndarray
) -> float:
    from sklearn.metrics import adjusted_rand_score

    labels_of_resamples = [
        fit_mixture(data[rows], k, k + 7, n_starts=3, floor=floor, gain=1e-5).labels(data) for rows in resamples
    ]
    return float(np.mean([adjusted_rand_score(row_labels, other) for other in labels_of_resamples]))


def _nearest_centre_distance(fitted: Mixture) -> float:
    scaled = fitted.centres / np.sqrt(fitted.variance)
    distances = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    return float(distances[~np.eye(len(distances), dtype=bool)].min())


def _single_cluster_fit(data: np.ndarray, floor: np.ndarray) -> float:
    """Mean log-likelihood of a single cluster."""
    variance = np.maximum(data.var(axis=0), floor)
    return -0.5 * float((data.var(axis=0) / variance).sum()) - 0.5 * float(np.log(variance).sum())


def _first_principal_component(block: np.ndarray) -> np.ndarray:
    centred = block - block.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    direction = direction * np.sign(direction[np.argmax(np.abs(direction))])
    scores: np.ndarray = centred @ direction
    return scores


def principal_components(data: np.ndarray) -> np.ndarray:
    """The columns to test: all of them or, where there are many, the first principal components."""
    if data.shape[1] <= MAX_COMPONENTS:
        return data
    centred = data - data.mean(axis=0)
    left, singular_values, _ = np.linalg.svd(centred, full_matrices=False)
    result: np.ndarray = (left * singular_values)[:, :MAX_COMPONENTS] / (singular_values[0] / np.sqrt(len(data)))
    return result

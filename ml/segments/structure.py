"""Is there structure? Whether customers of a stage fall into natural clusters in a layer, and into how many.

Belongs here: the test on one prepared matrix, and the curve behind its answer. Does not belong here: what is done where
there is none (see `cuts`).

Two things must hold of k clusters. *Separation*: a mixture of k clusters explains the data better than it explains
data without clusters, drawn from a Gaussian copula, which has the same margins and the same rank correlations: one
correlated cloud in this layer's own units (the gap statistic of Tibshirani, Walther & Hastie 2001, with the likelihood
as its measure and a null that keeps the correlations, for k-means cuts every long cloud stably). *Stability*: mixtures
fitted to bootstrap samples put the same customers together (adjusted Rand index; Hennig 2007). A single column has no
such null: its margin is all there is, so one column alone is never natural.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ml.segments.mixture import Mixture, least_variance, mixture_of, of_labels

ROWS = 5_000  # customers the test looks at
LEAST = 400  # and at least: fewer cannot show that they are not one cloud
COLUMNS = 12  # principal components it looks at where a layer has more columns
NULLS, RESAMPLES, TRIES = 4, 4, 3
ROUNDS = 3  # in which a null's correlations are made as strong as the data's, where values are shared by many
STABLE = 0.75  # mean adjusted Rand index of bootstrap samples
SEPARATION = 0.02  # log-likelihood per customer that k clusters must bring beyond what they bring on a null
SURE = 0.93  # stability of more clusters that need not add separation if they lie as far apart
BETTER, MUCH = 0.07, 0.12  # share of the separation that more clusters must add; more if they lie closer together
APART = 1.75  # within-cluster standard deviations between the nearest two centres; below it a mixture has one summit
CLOSER = 0.75  # of the nearest two centres' distance among fewer clusters: closer than that is "closer together"


@dataclass(frozen=True)
class Point:
    """One k of a curve.

    Parameters
    ----------
    k : clusters
    separation : gain in log-likelihood per customer over one cluster, beyond the null's (natural clusters)
    error : standard deviation of the null's gains
    stability : mean adjusted Rand index between bootstrap samples (natural clusters)
    apart : distance between the nearest two centres, in within-cluster standard deviations (natural clusters)
    gain_spend, gain_stage : share of the variance of the next window's log spend, and of the next stage, that a cut
        adds out of time (cuts)
    """

    k: int
    separation: float | None = None
    error: float | None = None
    stability: float | None = None
    apart: float | None = None
    gain_spend: float | None = None
    gain_stage: float | None = None


@dataclass(frozen=True)
class Structure:
    """How many natural clusters there are, 1 if there are none; the curve behind it; for each k the rows' clusters."""

    k: int = 1
    curve: tuple[Point, ...] = ()
    labels: Mapping[int, np.ndarray] = field(default_factory=dict)


def natural_clusters(data: np.ndarray, blocks: Sequence[int], most: int, smallest: int) -> Structure:
    """Whether there are natural clusters, and how many.

    Parameters
    ----------
    data : prepared numbers, shape (n, columns); a bounded sample
    blocks : how many neighbouring columns each feature has; they are drawn together
    most : clusters at most
    smallest : customers a cluster must have, of these n
    """
    from threadpoolctl import threadpool_limits

    if len(blocks) < 2 or len(data) < LEAST:
        return Structure()
    with threadpool_limits(limits=1):
        return _natural(data, blocks, most, smallest)


def _natural(data: np.ndarray, blocks: Sequence[int], most: int, smallest: int) -> Structure:
    random = np.random.default_rng(0)
    nulls = [without_clusters(data, blocks, random) for _ in range(NULLS)]
    seen, *nulls = (projected(one) for one in (data, *nulls))
    floor = least_variance(seen)
    resamples = [random.integers(len(seen), size=len(seen)) for _ in range(RESAMPLES)]
    chosen, best, apart, curve, spread = 1, 0.0, 0.0, [], 0.0
    labels = {}
    # As hard as on the data is searched on the nulls, or the harder search would pass for structure.
    found, *on_nulls = (of_labels(one, np.zeros(len(one), dtype=int), 1, floor) for one in (seen, *nulls))
    for k in range(2, most + 1):
        found = mixture_of(seen, k, k, tries=TRIES, floor=floor, smaller=found)
        on_nulls = [
            mixture_of(null, k, k, tries=TRIES, floor=floor, smaller=fewer, gain=1e-5)
            for null, fewer in zip(nulls, on_nulls, strict=True)
        ]
        label = labels[k] = found.labels(seen)
        if np.bincount(label, minlength=k).min() < smallest:
            curve.append(Point(k))
            if k > chosen + 1:
                break
            continue
        gains = [other.fit - _one(null, floor) for null, other in zip(nulls, on_nulls, strict=True)]
        spread = max(spread, float(np.std(gains)))
        separation = found.fit - _one(seen, floor) - float(np.mean(gains))
        stability = _stability(seen, resamples, label, k, floor) if separation > SEPARATION / 2 else None
        gap = _nearest_centres(found)
        curve.append(Point(k, separation, spread, stability, gap))
        more = MUCH if gap < CLOSER * apart else BETTER if (stability or 0.0) < SURE else 0.0
        is_separate = separation >= max(SEPARATION, 3 * spread, best * (1 + more)) and gap >= APART
        if is_separate and stability is not None and stability >= STABLE:
            chosen, best, apart = k, separation, gap
        elif k >= max(chosen + 2, 3) and separation < max(best * (1 + BETTER), SEPARATION):
            break
    return Structure(chosen, tuple(curve), labels)


def without_clusters(data: np.ndarray, blocks: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """A sample of the same size and margins from the Gaussian copula with the same rank correlations.

    A margin with several summits is itself a sign of clusters: in its place stands a normal one of the same mean and
    spread. Values that many share weaken a correlation: what is drawn is made as strong as shows in what comes of it.
    """
    ends = np.cumsum(blocks)
    spans = [slice(end - width, end) for end, width in zip(ends, blocks, strict=True)]
    noise = random.standard_normal((len(data), len(spans)))
    wanted = _rank_correlations(data, spans)
    drawn = _drawn(data, spans, noise, wanted)
    if not any(_is_heaped(data[:, span]) for span in spans):
        return drawn
    latent = wanted
    for _ in range(ROUNDS):
        shown = _rank_correlations(drawn, spans)
        ratio = np.where(np.abs(shown) > 0.05, wanted / np.where(np.abs(shown) > 0.05, shown, 1.0), 1.0)
        latent = np.clip(latent * np.clip(ratio, 0.5, 2.0), -0.995, 0.995)
        np.fill_diagonal(latent, 1.0)
        drawn = _drawn(data, spans, noise, latent)
    return drawn


def _drawn(data: np.ndarray, spans: Sequence[slice], noise: np.ndarray, correlation: np.ndarray) -> np.ndarray:
    """The data's margins in the order that correlated normal noise has."""
    from scipy.special import ndtri

    n = len(data)
    values, vectors = np.linalg.eigh(correlation)
    drawn = noise @ (vectors * np.sqrt(np.maximum(values, 0))).T
    result = np.empty_like(data)
    for number, span in enumerate(spans):
        line = _line(data[:, span])
        order = np.argsort(drawn[:, number], kind="stable")
        if span.stop - span.start == 1 and has_summits(line):
            result[order, span.start] = line.mean() + line.std() * ndtri((np.arange(n) + 0.5) / n)
        else:
            result[order, span] = data[np.argsort(line, kind="stable"), span]
    return result


def _rank_correlations(data: np.ndarray, spans: Sequence[slice]) -> np.ndarray:
    """Correlations of normal scores; 0 where a column does not vary."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores = np.column_stack([ndtri((rankdata(_line(data[:, span])) - 0.5) / len(data)) for span in spans])
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.nan_to_num(np.atleast_2d(np.corrcoef(scores, rowvar=False)))
    np.fill_diagonal(found, 1.0)
    return found


def _line(block: np.ndarray) -> np.ndarray:
    """A column; of a word's several columns what orders them: their own main direction."""
    return block[:, 0] if block.shape[1] == 1 else _main(block)


def _is_heaped(block: np.ndarray) -> bool:
    """Whether a column has a value that more than a twentieth of the rows share."""
    return bool(np.unique(_line(block), return_counts=True)[1].max() > len(block) / 20)


def has_summits(values: np.ndarray) -> bool:
    """Whether a continuous column's density has two summits with a valley of less than 70 % of the lower between.

    Gaussian kernel density with Silverman's bandwidth; each side of the valley holds at least a twentieth of the
    values. Columns of few values, or with many alike, are not continuous. What was cut off at an end is left out: there
    it stands in a heap.
    """
    values = values[(values > values.min()) & (values < values.max())]
    _, counts = np.unique(values, return_counts=True)
    if len(counts) < 50 or counts.max() > len(values) / 20:
        return False
    ordered = np.sort(values)
    spread = min(ordered.std(), (np.quantile(ordered, 0.75) - np.quantile(ordered, 0.25)) / 1.34)
    width = 0.9 * max(spread, 1e-9) * len(ordered) ** -0.2
    grid = np.linspace(ordered[0], ordered[-1], 128)
    density = np.exp(-0.5 * ((grid[:, None] - ordered[None, :: max(1, len(ordered) // 1000)]) / width) ** 2).sum(axis=1)
    left, right = np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])[::-1]
    below = np.searchsorted(ordered, grid) / len(ordered)
    return bool(((density < 0.7 * np.minimum(left, right)) & (below >= 0.05) & (below <= 0.95)).any())


def _stability(
    data: np.ndarray, resamples: Sequence[np.ndarray], label: np.ndarray, k: int, floor: np.ndarray
) -> float:
    from sklearn.metrics import adjusted_rand_score

    again = [mixture_of(data[rows], k, k + 7, tries=3, floor=floor, gain=1e-5).labels(data) for rows in resamples]
    return float(np.mean([adjusted_rand_score(label, other) for other in again]))


def _nearest_centres(found: Mixture) -> float:
    scaled = found.centres / np.sqrt(found.variance)
    away = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    return float(away[~np.eye(len(away), dtype=bool)].min())


def _one(data: np.ndarray, floor: np.ndarray) -> float:
    """Mean log-likelihood of a single cluster."""
    variance = np.maximum(data.var(axis=0), floor)
    return -0.5 * float((data.var(axis=0) / variance).sum()) - 0.5 * float(np.log(variance).sum())


def _main(block: np.ndarray) -> np.ndarray:
    around = block - block.mean(axis=0)
    direction = np.linalg.svd(around, full_matrices=False)[2][0]
    direction = direction * np.sign(direction[np.argmax(np.abs(direction))])
    line: np.ndarray = around @ direction
    return line


def projected(data: np.ndarray) -> np.ndarray:
    """What the test looks at: the columns themselves, or where they are many their first principal components."""
    if data.shape[1] <= COLUMNS:
        return data
    around = data - data.mean(axis=0)
    left, sizes, _ = np.linalg.svd(around, full_matrices=False)
    result: np.ndarray = (left * sizes)[:, :COLUMNS] / (sizes[0] / np.sqrt(len(data)))
    return result

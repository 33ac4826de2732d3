"""Worlds of layers: whether customers of a stage fall into groups, how far apart these lie, and how they move.

Belongs here: features and the clusters behind them. Does not belong here: anything that looks for clusters.

What the design's table leaves open is fixed here. Within-cluster SD are 1 along every direction once each feature's log
is divided by its own SD; every centre has a nearest other at exactly the stated distance; the smallest cluster has
exactly the stated share of its stage. Midway customers lie on the plane that halves the way between two nearest
centres, with the clusters' spread inside of that plane. The drifting world is one stage of ten weekly snapshots, in
which customers keep nine tenths of their place in the cluster from week to week: one centre moves evenly between
weeks 0 and 6, and another cluster has split, half and half, from week 3 on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.simulate.vocabulary import Array
from ml.simulate.worlds.moments import Moment, stated

FEATURES = ("spend_90d", "orders_90d", "items_90d", "events_90d")
STAGES = ("new", "active", "star", "churn")
CUSTOMERS = 5_000  # a stage
SMALLEST_SHARE = 0.08
CLEAR, OVERLAPPING, SPLIT = 4.0, 2.5, 3.0  # distances, in within-cluster SD
MIDWAY_SHARE = 0.10
CORRELATIONS = (0.3, 0.7)
WEEKS, DRIFT_WEEKS, SPLIT_WEEK = 10, 6, 3
DRIFT = 1.0  # within-cluster SD
PERSISTENCE = 0.9


@dataclass(frozen=True)
class LayerWorld:
    """Features of the customers of some stages, and the clusters they were drawn from.

    Parameters
    ----------
    data : pa.Table
        Columns customer_id, stage, week, and `FEATURES`, which are positive; a row per customer and week.
    truth : pa.Table
        Columns customer_id, stage, week, cluster (a number within the stage; null without clusters), second_cluster (of
        those midway between two).
    centres : dict of str to ndarray of shape (n_weeks, n_clusters, n_features)
        By stage: true centres of the logs, in within-cluster SD.
    log_sd : dict of str to ndarray of shape (n_features,)
        By stage: within-cluster SD of the logs.
    measure : callable
        What the design states about such a stage, measured in its rows.

    Examples
    --------
    >>> world = clear_layers(0, customers=300)
    >>> sorted(world.centres), world.stage("star").logs.shape
    (['active', 'churn', 'new', 'star'], (300, 4))
    """

    data: pa.Table
    truth: pa.Table
    centres: dict[str, Array]
    log_sd: dict[str, Array]
    measure: Callable[[Stage], list[Moment]]

    def stage(self, name: str) -> Stage:
        """The rows of one stage as arrays.

        Parameters
        ----------
        name : str
            One of `STAGES`.

        Returns
        -------
        Stage
            Logs of the features and the true clusters.
        """
        is_in_stage = pc.equal(self.data["stage"], name)
        data, truth = self.data.filter(is_in_stage), self.truth.filter(is_in_stage)
        logs = np.log(np.column_stack([data[feature].to_numpy() for feature in FEATURES]))
        one, other = (pc.fill_null(truth[c], -1).to_numpy() for c in ("cluster", "second_cluster"))
        return Stage(logs, data["week"].to_numpy(), one, other, self.centres[name])

    def moments(self) -> list[Moment]:
        """What the design states about each stage, measured in its rows.

        Returns
        -------
        list of Moment
            Each stated number beside its measurement, stage by stage.
        """
        return [moment for name in self.centres for moment in self.measure(self.stage(name))]


@dataclass(frozen=True)
class Stage:
    """Rows of one stage: logs (rows, features), the rest (rows,); −1 is no cluster. `centres` are the true ones."""

    logs: Array
    week: Array
    cluster: Array
    second: Array
    centres: Array


def clear_layers(seed: int, customers: int = CUSTOMERS) -> LayerWorld:
    """3–5 Gaussian clusters a stage, nearest centres 4 within-cluster SD apart, smallest share 8 %.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 5_000
        How many a stage.

    Returns
    -------
    LayerWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> [3 <= centres.shape[1] <= 5 for centres in clear_layers(0, customers=300).centres.values()]
    [True, True, True, True]
    """
    return _clusters(seed, customers, CLEAR, 0.0)


def overlapping_layers(seed: int, customers: int = CUSTOMERS) -> LayerWorld:
    """The same at 2.5 SD; one customer in ten midway between two centres.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 5_000
        How many a stage.

    Returns
    -------
    LayerWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> truth = overlapping_layers(0, customers=300).truth
    >>> round(1 - truth["second_cluster"].null_count / truth.num_rows, 2)
    0.1
    """
    return _clusters(seed, customers, OVERLAPPING, MIDWAY_SHARE)


def no_layers(seed: int, customers: int = CUSTOMERS) -> LayerWorld:
    """One correlated lognormal cloud a stage, each pair of logs correlated by .3 to .7.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 5_000
        How many a stage.

    Returns
    -------
    LayerWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> world = no_layers(0, customers=300)
    >>> world.truth["cluster"].null_count == world.truth.num_rows
    True
    """
    random = np.random.default_rng([seed, 2])
    parts, centres, log_sd = [], {}, {}
    for stage in STAGES:
        z = random.multivariate_normal(np.zeros(len(FEATURES)), _correlations(random), customers)
        log_sd[stage], centres[stage] = _log_sd(random), np.zeros((1, 0, len(FEATURES)))
        parts.append(_rows(stage, z[None], log_sd[stage], np.full((1, customers), -1), np.full((1, customers), -1)))
    return _world(parts, centres, log_sd, _cloud_moments)


def drifting_layers(seed: int, customers: int = CUSTOMERS) -> LayerWorld:
    """Clear layers, weekly: one centre moves 1 SD over six weeks, a second cluster splits in two 3 SD apart.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 5_000
        How many a stage.

    Returns
    -------
    LayerWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> drifting_layers(0, customers=300).data.num_rows  # ten weeks
    3000
    """
    random = np.random.default_rng([seed, 3])
    stage = "active"
    centres, sizes = _layout(random, customers, CLEAR)
    splits, moves = 0, 1 + int(random.integers(len(sizes) - 1))  # the largest splits: both halves are worth a name
    path = _drift(random, centres, moves, splits)
    cluster = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    own = np.tile(cluster, (WEEKS, 1))
    half = (cluster == splits) & (random.random(customers) < 0.5)
    own[SPLIT_WEEK:, half] = len(sizes)  # the other half keeps its cluster's number
    z = np.empty((WEEKS, customers, len(FEATURES)))
    z[0] = random.standard_normal((customers, len(FEATURES)))
    for week in range(1, WEEKS):
        news = random.standard_normal((customers, len(FEATURES)))
        z[week] = PERSISTENCE * z[week - 1] + np.sqrt(1 - PERSISTENCE**2) * news
    z += path[np.arange(WEEKS)[:, None], own]
    log_sd = _log_sd(random)
    rows = _rows(stage, z, log_sd, own, np.full(own.shape, -1))
    return _world([rows], {stage: path}, {stage: log_sd}, partial(_drift_moments, moves, splits))


# ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _clusters(seed: int, customers: int, distance: float, midway_share: float) -> LayerWorld:
    random = np.random.default_rng([seed, int(10 * distance)])
    parts, all_centres, log_sds = [], {}, {}
    for stage in STAGES:
        midway = round(midway_share * customers)
        centres, sizes = _layout(random, customers, distance, others=midway)
        cluster = np.repeat(np.arange(len(sizes)), sizes)
        z = centres[cluster] + random.standard_normal((len(cluster), len(FEATURES)))
        first, second = _neighbours(centres, distance)
        pair = random.integers(len(first), size=midway)
        between = (centres[first[pair]] + centres[second[pair]]) / 2
        along = (centres[second[pair]] - centres[first[pair]]) / distance
        spread = random.standard_normal((midway, len(FEATURES)))
        spread -= (spread * along).sum(axis=1, keepdims=True) * along
        order = random.permutation(customers)
        z = np.concatenate([z, between + spread])[order]
        one = np.concatenate([cluster, first[pair]])[order]
        other = np.concatenate([np.full(len(cluster), -1), second[pair]])[order]
        log_sds[stage], all_centres[stage] = _log_sd(random), centres[None]
        parts.append(_rows(stage, z[None], log_sds[stage], one[None], other[None]))
    return _world(parts, all_centres, log_sds, partial(_cluster_moments, distance, midway_share))


def _layout(random: np.random.Generator, customers: int, distance: float, others: int = 0) -> tuple[Array, Array]:
    """Centres, each with its nearest other exactly `distance` away, and cluster sizes, the largest first."""
    k = int(random.integers(3, 6))
    centres = np.zeros((1, len(FEATURES)))
    while len(centres) < k:
        new = centres[random.integers(len(centres))] + distance * _direction(random)
        if np.linalg.norm(centres - new, axis=1).min() > distance - 1e-9:
            centres = np.vstack([centres, new])
    smallest = round(SMALLEST_SHARE * customers)
    rest = customers - others - smallest
    shares = 0.1 + (rest / customers - 0.1 * (k - 1)) * random.dirichlet(np.full(k - 1, 4.0))
    sizes = np.floor(shares * customers).astype(int)
    sizes[sizes.argmax()] += rest - sizes.sum()
    return centres, np.append(np.sort(sizes)[::-1], smallest)


def _direction(random: np.random.Generator) -> Array:
    drawn = random.standard_normal(len(FEATURES))
    return drawn / np.linalg.norm(drawn)


def _neighbours(centres: Array, distance: float) -> tuple[Array, Array]:
    """Pairs of centres that are exactly `distance` apart."""
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=2)
    first, second = np.nonzero(np.triu(np.abs(distances - distance) < 1e-9))
    return first, second


def _drift(random: np.random.Generator, centres: Array, moves: int, splits: int) -> Array:
    """(weeks, clusters + 1, features): centres of every week; the last cluster is born by the split."""
    while True:
        step, half_split = DRIFT * _direction(random), SPLIT / 2 * _direction(random)
        path = np.tile(np.vstack([centres, centres[splits]]), (WEEKS, 1, 1))
        share = np.minimum(np.arange(WEEKS) / DRIFT_WEEKS, 1.0)
        path[:, moves] += share[:, None] * step
        path[SPLIT_WEEK:, splits] += half_split
        path[SPLIT_WEEK:, -1] -= half_split
        between = np.linalg.norm(path[:, :, None] - path[:, None], axis=3)[SPLIT_WEEK:]
        if between[:, ~np.eye(path.shape[1], dtype=bool)].min() >= SPLIT - 1e-9:
            return path


def _correlations(random: np.random.Generator) -> Array:
    while True:
        drawn = np.eye(len(FEATURES))
        upper = np.triu_indices(len(FEATURES), 1)
        drawn[upper] = random.uniform(*CORRELATIONS, len(upper[0]))
        drawn = np.triu(drawn) + np.triu(drawn, 1).T
        if np.linalg.eigvalsh(drawn).min() > 0.05:
            return drawn


def _log_sd(random: np.random.Generator) -> Array:
    return random.uniform(0.3, 0.8, len(FEATURES))


def _rows(stage: str, z: Array, log_sd: Array, cluster: Array, second: Array) -> pa.Table:
    """Rows of a stage from (weeks, customers, features) in within-cluster SD, and (weeks, customers)."""
    weeks, n, _ = z.shape
    values = np.exp(np.log([120.0, 6.0, 20.0, 15.0]) + z * log_sd)
    ids = pa.array(np.char.mod(f"{stage}-%05d", np.arange(n)), pa.string())
    one, other = cluster.ravel(), second.ravel()
    return pa.table(
        {
            "customer_id": pa.concat_arrays([ids] * weeks),
            "stage": pa.array([stage]).take(pa.array(np.zeros(weeks * n, dtype=np.int64))),
            "week": np.repeat(np.arange(weeks), n),
            **{name: values[:, :, i].ravel() for i, name in enumerate(FEATURES)},
            "cluster": pa.array(one, mask=one < 0),
            "second_cluster": pa.array(other, mask=other < 0),
        }
    )


def _world(
    parts: list[pa.Table],
    centres: dict[str, Array],
    log_sd: dict[str, Array],
    measure: Callable[[Stage], list[Moment]],
) -> LayerWorld:
    rows = pa.concat_tables(parts).combine_chunks()
    keys = ["customer_id", "stage", "week"]
    data, truth = rows.select([*keys, *FEATURES]), rows.select([*keys, "cluster", "second_cluster"])
    return LayerWorld(data, truth, centres, log_sd, measure)


# ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _in_sd(logs: Array, cluster: Array) -> Array:
    """Logs in pooled within-cluster SD; rows without a cluster (−1) are scaled but do not count."""
    inside = cluster >= 0
    residuals = logs[inside] - _means(logs[inside], cluster[inside])[cluster[inside]]
    result: Array = logs / np.sqrt((residuals**2).sum(axis=0) / (len(residuals) - cluster.max() - 1))
    return result


def _means(values: Array, cluster: Array) -> Array:
    """(clusters, features)"""
    sums = np.column_stack([np.bincount(cluster, values[:, i]) for i in range(values.shape[1])])
    return sums / np.bincount(cluster)[:, None]


def _along(difference: Array, true: Array) -> Array:
    """Lengths of measured differences along the true ones: unlike their norms, these are not drawn upwards by noise."""
    result: Array = (difference * true).sum(axis=-1) / np.linalg.norm(true, axis=-1)
    return result


def _cluster_moments(distance: float, midway_share: float, stage: Stage) -> list[Moment]:
    is_midway = stage.second >= 0
    own = np.where(is_midway, -1, stage.cluster)
    values, true, n = _in_sd(stage.logs, own), stage.centres[0], len(own)
    centres, sizes = _means(values[~is_midway], own[~is_midway]), np.bincount(own[~is_midway])
    first, second = _neighbours(true, distance)
    gaps = _along(centres[first] - centres[second], true[first] - true[second])
    error = np.sqrt(1 / sizes[first] + 1 / sizes[second] + distance**2 / (2 * n))
    skewness = (((values[~is_midway] - centres[own[~is_midway]]) ** 3).mean(axis=0)).mean()
    moments = [
        stated("customers a stage", n, CUSTOMERS),
        Moment("clusters", len(sizes), 3, 5),
        stated("nearest centres apart, within-cluster SD", gaps.mean(), distance, error.mean()),
        stated("smallest share of a stage", sizes.min() / n, SMALLEST_SHARE),
        stated("skewness of logs inside clusters", skewness, 0, np.sqrt(15 / 4 / n)),
    ]
    if midway_share:
        one, other = centres[stage.cluster[is_midway]], centres[stage.second[is_midway]]
        middle = _along(values[is_midway] - (one + other) / 2, one - other)
        moments += [
            stated("share midway between two centres", is_midway.mean(), midway_share),
            stated("how far off the middle they are, SD", middle.mean(), 0, error.mean() / 2),
        ]
    return moments


def _cloud_moments(stage: Stage) -> list[Moment]:
    n = len(stage.logs)
    pairs = np.corrcoef(stage.logs.T)[np.triu_indices(len(FEATURES), 1)]
    z = (stage.logs - stage.logs.mean(axis=0)) / stage.logs.std(axis=0)
    # The main axis is where two clusters would show first, as a kurtosis below 0.
    main = z @ np.linalg.eigh(np.corrcoef(z.T))[1][:, -1]
    kurtosis = ((main / main.std()) ** 4).mean() - 3
    return [
        stated("customers a stage", n, CUSTOMERS),
        Moment(
            "smallest correlation of logs",
            pairs.min(),
            *CORRELATIONS,
            (1 - pairs.min() ** 2) / np.sqrt(n),
        ),
        Moment("largest correlation of logs", pairs.max(), *CORRELATIONS, (1 - pairs.max() ** 2) / np.sqrt(n)),
        stated("skewness of logs", (z**3).mean(), 0, np.sqrt(6 / n)),
        stated("excess kurtosis along the main axis", kurtosis, 0, np.sqrt(24 / n)),
    ]


def _drift_moments(moves: int, splits: int, stage: Stage) -> list[Moment]:
    _, group = np.unique(np.column_stack([stage.week, stage.cluster]), axis=0, return_inverse=True)
    values = _in_sd(stage.logs, group)

    def centre(cluster: int, week: int) -> Array:
        mean: Array = values[(stage.week == week) & (stage.cluster == cluster)].mean(axis=0)
        return mean

    def moved(cluster: int, true: Array, until: int) -> float:
        return float(_along(centre(cluster, until) - centre(cluster, 0), true))

    first, true = stage.week == 0, stage.centres
    sizes = np.bincount(stage.cluster[first])
    newborn = true.shape[1] - 1
    step = true[DRIFT_WEEKS, moves] - true[0, moves]
    halves = true[SPLIT_WEEK, splits] - true[SPLIT_WEEK, newborn]
    # Customers keep most of their place, so differences between weeks have smaller errors than those between customers.
    error = np.sqrt(2 / sizes[moves] * (1 - PERSISTENCE**DRIFT_WEEKS) + DRIFT**2 / (2 * len(values)))
    others = [c for c in range(newborn) if c not in (moves, splits)]
    still = float(np.mean([moved(c, step, DRIFT_WEEKS) for c in others]))
    halves_gap = float(_along(centre(splits, SPLIT_WEEK) - centre(newborn, SPLIT_WEEK), halves))
    return [
        stated("customers a stage", first.sum(), CUSTOMERS),
        Moment("clusters before the split", newborn, 3, 5),
        stated("smallest share of a stage", sizes.min() / first.sum(), SMALLEST_SHARE),
        stated("the moving centre after six weeks, SD", moved(moves, step, DRIFT_WEEKS), DRIFT, error),
        stated("the moving centre after three weeks, SD", moved(moves, step, 3), DRIFT / 2, error),
        stated("centres that stay, after six weeks, SD", still, 0, np.sqrt(2 / sizes[others].min())),
        stated(
            "halves of the split one apart, SD",
            halves_gap,
            SPLIT,
            np.sqrt(4 / (sizes[splits] / 2) + SPLIT**2 / 1e4),
        ),
    ]

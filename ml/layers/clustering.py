"""Clusters of one layer in one stage, by each method.

Belongs here: how many clusters there are, and where, on the rows of one day: natural clusters, cuts that pay, a fixed
number, quantiles and rules. Does not belong here: whether there is structure (see `structure`), whether a cut pays (see
`cuts`), and letters and names (see `fitting`).

A refit starts from the clusters in force: the means of their members on the new data are the first centres. So on
unchanged data it stays where it is, to the last customer or two, and `training` then keeps what is in force. Nothing is
drawn with the project's seed: the same rows give the same clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

import ml.layers.mixture as mixture
import ml.layers.preparation as preparation
import ml.layers.structure as structure
from ml.engine import in_memory
from ml.layers.cuts import StageOutcomes, choose_cut, is_better
from ml.layers.identity import lineage, new_letters
from ml.layers.layer_model import LayerModel, rule_clusters
from ml.layers.reasons import Code, Drift
from ml.layers.specs import LayerSpec, SegmentSpec
from ml.layers.structure import MIN_CENTRE_DISTANCE, MIN_SEPARATION, MIN_STABILITY_ARI, Point
from ml.reasons import Reason

OTHERS = "others"
DRAW_RANK = "_draw_rank"  # column with the order in which rows are drawn, which also orders any subset of them
CANDIDATE_ROWS = 10_000  # customers on whom candidate cuts are made before the chosen one is fitted to all
MIN_SEPARATION_RATIO = 1.2  # of the separation in force, which a larger number of natural clusters must exceed
MIN_DRIFT_GAIN = 0.05  # log-likelihood per customer by which a refit must beat the clusters in force


def fit_clusters(
    table: pa.Table,
    stage: str,
    layer: LayerSpec,
    features: Sequence[str],
    spec: SegmentSpec,
    incumbent: LayerModel | None,
    letters_used: Sequence[str],
    past: StageOutcomes | None,
) -> LayerModel:
    """Fit clusters without letters and names."""
    columns = preparation.fit(draw(table, structure.MAX_ROWS), features)
    if incumbent is not None and preparation.is_still_valid(incumbent.columns, columns, table):
        columns = incumbent.columns  # only in the same units can both be compared
    bare = LayerModel(stage, layer, columns, letters_used=tuple(letters_used))
    if layer.method == "rules":
        return _fit_rules(bare, table, incumbent)
    limits = _SizeLimits(spec.min_cluster_customers, table.num_rows)
    if not columns:
        fitted = _single_cluster(bare, table, Reason(Code.ALL_ALIKE))
    elif limits.max_clusters < 2:
        figures = {"customers": table.num_rows, "needed": 2 * limits.min_size}
        fitted = _single_cluster(bare, table, Reason(Code.TOO_FEW, figures))
    elif layer.method == "quantiles" and not isinstance(columns[0], preparation.Numeric):
        fitted = _single_cluster(bare, table, Reason(Code.NOT_A_NUMBER, {"feature": columns[0].feature}))
    elif layer.method == "quantiles":
        fitted = _fit_quantiles(bare, table, limits.min_size)
    elif layer.k == "auto":
        fitted = _fit_auto(bare, table, incumbent, past, limits)
    else:
        fitted = _fit_fixed(bare, table, incumbent, limits)
    return fitted


@dataclass(frozen=True)
class _SizeLimits:
    """How many customers there are, and how many a cluster must have."""

    min_size: int
    customers: int

    @property
    def max_clusters(self) -> int:
        return self.customers // self.min_size

    def min_size_among(self, customers: int) -> int:
        """The same share of fewer customers."""
        return max(5, -(-self.min_size * customers // self.customers))


def _single_cluster(model: LayerModel, table: pa.Table, reason: Reason, curve: tuple[Point, ...] = ()) -> LayerModel:
    return replace(model, letters=("A",), sizes=(table.num_rows,), kind="one", reason=reason, curve=curve)


# ── how many clusters ─────────────────────────────────────────────────────────────────────────────────────────────


def _fit_auto(
    model: LayerModel, table: pa.Table, incumbent: LayerModel | None, past: StageOutcomes | None, limits: _SizeLimits
) -> LayerModel:
    """Natural clusters if there are any, else the cut that pays, else one cluster."""
    data = _matrix(model.columns, table)
    max_clusters = min(model.layer.max_clusters, limits.max_clusters)
    order = _draw_order(table)
    sample = data[np.sort(order[: structure.MAX_ROWS])]
    min_size = limits.min_size_among(len(sample))
    natural = structure.natural_clusters(sample, _blocks(model.columns), max_clusters, min_size)
    k, curve = natural.k, natural.curve
    if incumbent is not None and incumbent.kind == "natural":
        k = _kept_number(k, len(incumbent.letters), curve)
    if k > 1:
        fitted = _fit_natural(model, table, data, k, incumbent, natural, sample, limits)
        if (fitted is None or fitted.drift) and k != natural.k > 1:  # the number in force no longer fits either
            fitted = _fit_natural(model, table, data, natural.k, incumbent, natural, sample, limits) or fitted
        if fitted is not None:
            return fitted
    if past is None or not past.can_judge(2 * limits.min_size):
        reason = Reason(Code.TOO_LITTLE_HISTORY)
        if incumbent is not None and incumbent.kind == "cut":
            fitted = _refit_cut(model, table, data, incumbent, curve, limits)
            if fitted is not None:
                return fitted
        return _single_cluster(model, table, reason, curve)
    return _fit_cut(model, table, data, order, incumbent, past, curve, limits)


def _kept_number(k: int, incumbent_k: int, curve: Sequence[Point]) -> int:
    """Prefer the number of natural clusters in force, which has lower thresholds to pass than a new one."""
    point = next((point for point in curve if point.k == incumbent_k), None)
    if (
        k == incumbent_k
        or point is None
        or point.separation is None
        or point.stability is None
        or point.centre_distance is None
    ):
        return k
    separation = next((point.separation or 0.0 for point in curve if point.k == k), 0.0)
    ratios = (
        (point.separation / MIN_SEPARATION, 1 / 2),
        (point.stability / MIN_STABILITY_ARI, 0.8),
        (point.centre_distance / MIN_CENTRE_DISTANCE, 0.8),
    )
    max_separation = point.separation * (MIN_SEPARATION_RATIO if k > incumbent_k else 1)
    return incumbent_k if all(ratio >= min_ratio for ratio, min_ratio in ratios) and separation < max_separation else k


def _fit_natural(
    model: LayerModel,
    table: pa.Table,
    data: np.ndarray,
    k: int,
    incumbent: LayerModel | None,
    natural: structure.Structure,
    sample: np.ndarray,
    limits: _SizeLimits,
) -> LayerModel | None:
    is_anchored = incumbent is not None and incumbent.kind == "natural" and len(incumbent.letters) == k
    floor = mixture.min_variance(sample)
    start = _mixture_in_force(data, incumbent, table) if is_anchored and incumbent is not None else None
    if start is None:  # the clusters of the sample that was tested, in all columns
        start = mixture.mixture_from_labels(sample, natural.labels[k], k, floor)
    fitted = mixture.expectation_maximisation(data, start, floor)
    clusters = fitted.labels(data)
    sizes = np.bincount(clusters, minlength=k)
    if sizes.min() < max(1, limits.min_size // 2 if is_anchored else limits.min_size):
        return None
    point = next(point for point in natural.curve if point.k == k)
    figures = {
        "clusters": k, "separation": point.separation or 0.0, "separation_asked": MIN_SEPARATION,
        "stability": point.stability or 0.0,
    }  # fmt: skip
    layer = _with_centres(model, data, clusters, fitted.centres, np.sqrt(fitted.variance))
    shares = tuple(float(x) for x in fitted.shares)
    layer = replace(layer, kind="natural", reason=Reason(Code.NATURAL, figures), curve=natural.curve, shares=shares)
    return replace(layer, drift=_drift(data, layer, incumbent) if incumbent is not None else None)


def _mixture_in_force(data: np.ndarray, incumbent: LayerModel, table: pa.Table) -> mixture.Mixture | None:
    """The clusters in force on today's data and in its units: means of their members, common variance and shares."""
    clusters = incumbent.assign(table)
    sizes = np.bincount(clusters, minlength=len(incumbent.letters))
    return (
        mixture.mixture_from_labels(data, clusters, len(sizes), mixture.min_variance(data))
        if len(sizes) > 1 and sizes.min()
        else None
    )


def _drift(data: np.ndarray, fitted: LayerModel, incumbent: LayerModel) -> Reason | None:
    """Why the clusters in force are wrong today, if they are."""
    k = len(fitted.letters)
    if incumbent.kind != "natural":  # nothing in force is wrong: new natural clusters must win the contest
        return None
    if len(incumbent.letters) != k:
        return Reason(Drift.OTHER_NUMBER, {"before": len(incumbent.letters), "clusters": k})
    if incumbent.columns is not fitted.columns:
        return None
    fits = [mixture.log_likelihood(data, _mixture(layer)).mean() for layer in (fitted, incumbent)]
    n_parameters = k * data.shape[1] + k
    if fits[0] - fits[1] < max(MIN_DRIFT_GAIN, 2.5 * n_parameters / len(data)):
        return None
    return Reason(Drift.MOVED, {"gain": float(fits[0] - fits[1])})


def _mixture(model: LayerModel) -> mixture.Mixture:
    return mixture.Mixture(np.array(model.centres), np.array(model.spread) ** 2, np.array(model.shares), -np.inf)


def _fit_cut(
    model: LayerModel,
    table: pa.Table,
    data: np.ndarray,
    order: np.ndarray,
    incumbent: LayerModel | None,
    past: StageOutcomes,
    curve: tuple[Point, ...],
    limits: _SizeLimits,
) -> LayerModel:
    """Fit the smallest number of clusters that explains nearly as much of what follows as any."""
    incumbent_k = len(incumbent.letters) if incumbent is not None and incumbent.kind == "cut" else 1
    candidates = _candidate_cuts(model, table, data, order, incumbent, incumbent_k, limits)
    past_data = _matrix(model.columns, past.inputs)
    k, gains, falls = choose_cut(past, {k: mixture.nearest(past_data, centres) for k, centres in candidates.items()})
    by_k = {point.k: point for point in gains}
    if incumbent_k in by_k and k != incumbent_k:
        is_paying = max(by_k[incumbent_k].gain_spend or 0.0, by_k[incumbent_k].gain_stage or 0.0) > 0
        if is_paying and not (k > 1 and is_better(falls, k, incumbent_k)):
            k = incumbent_k  # no other number of clusters is significantly better than the one in force
    curve = tuple(
        replace(point, gain_spend=by_k[point.k].gain_spend, gain_stage=by_k[point.k].gain_stage)
        if point.k in by_k
        else point
        for point in curve
    ) + tuple(point for point in gains if point.k not in {other.k for other in curve})
    if k == 1:
        best = max((max(point.gain_spend or 0.0, point.gain_stage or 0.0) for point in gains), default=0.0)
        return _single_cluster(model, table, Reason(Code.NO_CUT_PAYS, {"best": float(best)}), curve)
    centres = mixture.k_means(data, candidates[k])
    clusters = mixture.nearest(data, centres)
    smallest = int(np.bincount(clusters, minlength=k).min())
    if smallest < max(1, limits.min_size // 2):
        return _single_cluster(model, table, Reason(Code.CUT_LEAVES_FEW, {"clusters": k, "least": smallest}), curve)
    gain = by_k[k]
    figures = {"clusters": k, "gain_spend": gain.gain_spend or 0.0, "gain_stage": gain.gain_stage or 0.0}
    reason = Reason(Code.CUT_PAYS, figures)
    fitted = replace(_with_centres(model, data, clusters, centres), kind="cut", reason=reason, curve=curve)
    return replace(fitted, drift=_emptied_cluster(incumbent, table, limits))


def _candidate_cuts(
    model: LayerModel,
    table: pa.Table,
    data: np.ndarray,
    order: np.ndarray,
    incumbent: LayerModel | None,
    incumbent_k: int,
    limits: _SizeLimits,
) -> dict[int, np.ndarray]:
    """Centres for each number of clusters that leaves no cluster too small; the number in force starts from its own."""
    sample = data[np.sort(order[:CANDIDATE_ROWS])]
    candidates: dict[int, np.ndarray] = {}
    n_distinct = len(np.unique(sample, axis=0))
    for k in range(2, min(model.layer.max_clusters, limits.max_clusters, n_distinct) + 1):
        start = _mixture_in_force(data, incumbent, table) if incumbent is not None and k == incumbent_k else None
        centres = mixture.k_means(sample, k) if start is None else mixture.k_means(data, start.centres)
        min_size = limits.min_size_among(len(sample)) // (1 if k != incumbent_k else 2)
        if np.bincount(mixture.nearest(sample, centres), minlength=k).min() >= min_size:
            candidates[k] = centres
    return candidates


def _emptied_cluster(incumbent: LayerModel | None, table: pa.Table, limits: _SizeLimits) -> Reason | None:
    """Why a cut in force is wrong today: one of its clusters has lost nearly all customers."""
    if incumbent is None or len(incumbent.centres) < 2:
        return None
    sizes = np.bincount(incumbent.assign(table), minlength=len(incumbent.letters))
    smallest = int(np.argmin(sizes))
    if sizes[smallest] >= max(1, limits.min_size // 2):
        return None
    return Reason(Drift.EMPTIED, {"cluster": incumbent.letters[smallest], "customers": int(sizes[smallest])})


def _refit_cut(
    model: LayerModel,
    table: pa.Table,
    data: np.ndarray,
    incumbent: LayerModel,
    curve: tuple[Point, ...],
    limits: _SizeLimits,
) -> LayerModel | None:
    """The cut in force, refitted to today's customers; None if a cluster has become too small."""
    start = _mixture_in_force(data, incumbent, table)
    if start is None:
        return None
    centres = mixture.k_means(data, start.centres)
    clusters = mixture.nearest(data, centres)
    if np.bincount(clusters, minlength=len(centres)).min() < max(1, limits.min_size // 2):
        return None
    fitted = _with_centres(model, data, clusters, centres)
    return replace(fitted, kind="cut", reason=_inherited_reason(incumbent.reason), curve=incumbent.curve or curve)


def _inherited_reason(reason: Reason) -> Reason:
    """The reason of the clusters in force, where there is too little history to establish it again."""
    return reason if reason.code == Code.INHERITED else Reason(Code.INHERITED, {"reason": reason.stored()})


# ── the project's own numbers of clusters ─────────────────────────────────────────────────────────────────────────


def _fit_fixed(model: LayerModel, table: pa.Table, incumbent: LayerModel | None, limits: _SizeLimits) -> LayerModel:
    """As many clusters as the project file asks for, or as customers allow."""
    data = _matrix(model.columns, table)
    max_clusters = max(1, min(model.layer.max_clusters, limits.max_clusters, len(np.unique(data, axis=0))))
    figures = {"asked": model.layer.max_clusters}

    def reason(k: int) -> Reason:
        if k == model.layer.max_clusters:
            return Reason(Code.ASKED_FOR, figures)
        return Reason(Code.FEWER_THAN_ASKED, {**figures, "clusters": k, "smallest": limits.min_size})

    if incumbent is not None and len(incumbent.centres) == max_clusters:
        start = _mixture_in_force(data, incumbent, table)
        if start is not None:
            centres = mixture.k_means(data, start.centres)
            clusters = mixture.nearest(data, centres)
            if np.bincount(clusters, minlength=max_clusters).min() >= max(1, limits.min_size // 2):
                fitted = _with_centres(model, data, clusters, centres)
                fitted = replace(fitted, kind="fixed", reason=reason(max_clusters))
                return replace(fitted, drift=_emptied_cluster(incumbent, table, limits))
    sample = data[np.sort(_draw_order(table)[:CANDIDATE_ROWS])]  # the same customers of a larger sample: the same start
    if model.layer.max_clusters == 1:
        return _single_cluster(model, table, reason(1))
    for k in range(min(max_clusters, len(np.unique(sample, axis=0))), 1, -1):
        centres = mixture.k_means(data, mixture.k_means(sample, k))
        clusters = mixture.nearest(data, centres)
        if np.bincount(clusters, minlength=k).min() >= limits.min_size:
            return replace(_with_centres(model, data, clusters, centres), kind="fixed", reason=reason(k))
    return _single_cluster(model, table, Reason(Code.NONE_OF_THOSE_ASKED, {**figures, "smallest": limits.min_size}))


def _fit_quantiles(model: LayerModel, table: pa.Table, min_size: int) -> LayerModel:
    k = None if isinstance(model.layer.k, str) else model.layer.k
    values = np.sort(preparation.transform(model.columns, table)[0])
    for n_quantiles in range(min(model.layer.max_clusters, len(values) // min_size), 1, -1):
        cuts = np.unique(np.quantile(values, [number / n_quantiles for number in range(1, n_quantiles)]))
        cuts = cuts[cuts > values[0]]
        sizes = np.bincount(np.searchsorted(cuts, values, side="right"), minlength=len(cuts) + 1)
        if len(cuts) and sizes.min() >= min_size:
            return replace(
                model,
                cuts=tuple(float(cut) for cut in cuts),
                letters=tuple("?" * len(sizes)),
                sizes=tuple(int(size) for size in sizes),
                kind="fixed",
                reason=Reason(Code.QUANTILES, {"feature": model.columns[0].feature, "asked": k}),
            )
    return _single_cluster(model, table, Reason(Code.QUANTILES_TOO_SMALL, {"asked": k, "smallest": min_size}))


def _fit_rules(model: LayerModel, table: pa.Table, incumbent: LayerModel | None) -> LayerModel:
    """A rule keeps its letter as long as it keeps its name."""
    in_force = incumbent if incumbent is not None and incumbent.rules else None
    letter_of = dict(zip(in_force.names, in_force.letters, strict=True)) if in_force is not None else {}
    names = [*(rule.name for rule in model.layer.rules), OTHERS]
    letters_used = list(model.letters_used)
    unused = iter(new_letters(sum(name not in letter_of for name in names), letters_used))
    letters = [letter_of.get(name) or next(unused) for name in names]
    clusters = rule_clusters(model.layer.rules, table)
    old_clusters = in_force.assign(table) if in_force is not None else np.full(table.num_rows, -1)
    return replace(
        model,
        rules=model.layer.rules,
        letters=tuple(letters),
        names=tuple(names),
        letters_used=tuple(dict.fromkeys([*letters_used, *letters])),
        sizes=tuple(int(size) for size in np.bincount(clusters, minlength=len(names))),
        kind="rules",
        reason=Reason(Code.RULES),
        events=lineage(old_clusters, list(letter_of.values()), clusters, letters),
    )


# ── common ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _matrix(columns: Sequence[preparation.Column], table: pa.Table) -> np.ndarray:
    return np.stack(preparation.transform(columns, table), axis=1)


def _blocks(columns: Sequence[preparation.Column]) -> list[int]:
    """How many prepared columns each feature has."""
    return [column.width for column in columns]


def _draw_order(table: pa.Table) -> np.ndarray:
    return np.argsort(table[DRAW_RANK].to_numpy()) if DRAW_RANK in table.column_names else draw_order(table)


def draw(table: pa.Table, max_rows: int) -> pa.Table:
    """The first rows that would be drawn, so that a larger sample contains the same customers."""
    if table.num_rows <= max_rows:
        return table
    return table.take(pa.array(np.sort(_draw_order(table)[:max_rows])))


def draw_order(table: pa.Table) -> np.ndarray:
    """Rows in the order of the hash that `ml.sampling` draws by, so that samples and all customers begin alike."""
    if "customer_id" not in table.column_names:
        return np.random.default_rng(0).permutation(table.num_rows)
    rows = table.select(["customer_id"]).append_column("row_place", pa.array(np.arange(table.num_rows)))
    query = "SELECT row_place FROM people ORDER BY SHA256(CONCAT('0/', customer_id)), customer_id, row_place"
    order: np.ndarray = in_memory().query(query, people=rows)["row_place"].to_numpy()
    return order


def _with_centres(
    model: LayerModel, data: np.ndarray, clusters: np.ndarray, centres: np.ndarray, spread: np.ndarray | None = None
) -> LayerModel:
    """Add centres and their spread: per column, or one for all columns if none is given, as k-means assumes."""
    deviations = data - centres[clusters]
    if spread is None:
        spread = np.full(data.shape[1], max(float(np.sqrt((deviations**2).mean())), 1e-6))
    return replace(
        model,
        centres=tuple(tuple(float(x) for x in centre) for centre in centres),
        spread=tuple(float(x) for x in spread),
        sharpness=_sharpness(deviations),
        letters=tuple("?" * len(centres)),
        sizes=tuple(int(size) for size in np.bincount(clusters, minlength=len(centres))),
    )


def _sharpness(deviations: np.ndarray) -> float:
    """Effective dimensions per column: (Σλ)² / Σλ² of the correlations within clusters, over their number."""
    width = deviations.shape[1]
    varies = deviations.std(axis=0) > 1e-9
    if varies.sum() < 2:
        return 1 / max(width, 1) if varies.sum() else 1.0
    correlation = np.corrcoef(deviations[:, varies], rowvar=False)
    return float(varies.sum() ** 2 / (correlation**2).sum() / width)

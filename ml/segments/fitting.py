"""Fitting the clusters of each stage and layer, anchored on the clusters in force.

Belongs here: one day's fit by each method. Does not belong here: whether there is structure (see `structure`), whether
a cut pays (see `cuts`), the words for a cluster (see `naming`), and whether a refit replaces what is in force (see
`training`).

A refit starts from the partition in force: its members' means on the new data are the first centres. So on unchanged
data it stays where it is, to the last customer or two, and `training` then keeps what is in force. Its clusters are
matched to those in force by the customers they share, and letters are carried on; a cluster that continues none gets a
letter that was never used. Nothing is drawn with the project's seed: the same rows give the same clusters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import ml.segments.mixture as mixture
import ml.segments.preparation as preparation
import ml.segments.structure as structure
from ml.engine import in_memory
from ml.reasons import Reason
from ml.segments.cuts import Past, StagePast, is_better, judged
from ml.segments.identity import lineage, matched_letters, new_letters
from ml.segments.inputs import in_order
from ml.segments.layer_model import LayerModel, rule_places
from ml.segments.layers import LayerModels, kept_as_it_is
from ml.segments.naming import with_names
from ml.segments.reasons import Code, Drift
from ml.segments.specs import STAGE_COLUMNS, LayerSpec, SegmentSpec
from ml.segments.structure import APART, SEPARATION, STABLE, Point
from ml.segments.unknown import are_many, has_unknown, place_of_unknown, unknown_rows, with_unknown, without_unknown

OTHERS = "others"
DRAWN = "_drawn"  # when each row is drawn, which stays true of a part of the rows
CANDIDATE_ROWS = 10_000  # customers on whom candidate cuts are made before the chosen one is fitted to all
MUCH_BETTER = 1.2  # times the separation in force: another number of natural clusters must reach it
DRIFT = 0.05  # log-likelihood per customer by which a refit must explain today better than the clusters in force


def fit_layers(
    inputs: pa.Table, spec: SegmentSpec, incumbent: LayerModels | None = None, past: Past | None = None
) -> LayerModels:
    """Fit every layer in every stage on one day's inputs.

    Parameters
    ----------
    inputs : `layer_inputs` of a single day (or a sample of it)
    incumbent : the layers in force, whose clusters are continued
    past : what followed on earlier days; without it no cut can be shown to pay, and only natural clusters, and numbers
        of clusters that the project file fixes, are made
    """
    if not inputs.num_rows:
        raise ValueError("no customers to fit layers on")
    inputs = in_order(inputs)
    columns = [name for name in inputs.column_names if name not in ("customer_id", "day", *STAGE_COLUMNS)]
    on_before = set() if incumbent is None else {layer.name for layer in incumbent.live}
    off = tuple(x.name for x in spec.layers if x.name not in on_before and not has_data(inputs, x, columns))
    stages = pc.unique(inputs["stage"]).to_pylist()
    if incumbent is not None:  # a stage that is empty today keeps what it had
        stages += [model.stage for model in incumbent.models]
    models = []
    for stage in sorted(set(stages)):
        part = inputs.filter(pc.equal(inputs["stage"], stage))
        part = part.append_column(DRAWN, pa.array(np.argsort(drawn(part))))  # once for all layers
        behind = past.of(stage) if past is not None else None
        for layer in spec.layers:
            if layer.applies_to(stage) and layer.name not in off:
                before = incumbent.find(stage, layer.name) if incumbent is not None else None
                used = incumbent.letters_used(stage, layer.name) if incumbent is not None else ()
                fitted = fit_layer(part, stage, layer, layer.present(columns), spec, before, used, behind)
                models.append(fitted)
                if behind is not None and len(fitted.letters) > 1:
                    behind = behind.split(fitted.assign(behind.inputs))
    lost = _no_longer_cut(incumbent, models)
    return LayerModels(spec.layers, tuple(models), pc.max(inputs["day"]).as_py(), off, lost)


def has_data(inputs: pa.Table, layer: LayerSpec, columns: Sequence[str]) -> bool:
    """Whether any feature of the layer differs between customers at all; rules can always be asked."""
    return layer.method == "rules" or any(_differs(inputs[name]) for name in layer.present(columns))


def _differs(column: pa.ChunkedArray) -> bool:
    if pa.types.is_null(column.type):
        return False
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return bool(pc.count_distinct(column).as_py() > 1)


def _no_longer_cut(
    incumbent: LayerModels | None, models: Sequence[LayerModel]
) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    if incumbent is None:
        return ()
    now = {(model.stage, model.layer.name) for model in models}
    before = {(stage, name): used for stage, name, used in incumbent.letters_before}
    before |= {(model.stage, model.layer.name): model.letters_used for model in incumbent.models}
    return tuple((stage, name, used) for (stage, name), used in sorted(before.items()) if (stage, name) not in now)


def fit_layer(
    table: pa.Table,
    stage: str,
    layer: LayerSpec,
    features: Sequence[str],
    spec: SegmentSpec,
    before: LayerModel | None,
    letters_used: Sequence[str] = (),
    past: StagePast | None = None,
) -> LayerModel:
    """Fit one layer in one stage and carry on the letters of the clusters in force.

    A cluster of fewer than `min_cluster_customers` is not made; one that is continued may shrink to half of that, so
    that a stage near the limit does not gain and lose it every week.
    """
    if before is not None and table.num_rows == 0:
        return replace(kept_as_it_is(before), layer=layer)
    if layer.method != "rules":
        looked_at = features[:1] if layer.method == "quantiles" else features
        unknown = unknown_rows(table, looked_at)
        if are_many(unknown, spec.min_cluster_customers, before):
            return _beside_unknown(table, unknown, stage, layer, looked_at, spec, before, letters_used, past)
    fitted = _clusters(table, stage, layer, features, spec, without_unknown(before), letters_used, past)
    return _finished(fitted, table, before)


def _finished(fitted: LayerModel, table: pa.Table, before: LayerModel | None) -> LayerModel:
    """A layer's clusters with letters, names and days; those of rules have their letters."""
    lettered = fitted if fitted.rules else _with_letters(fitted, table, before)
    return _dated(with_names(lettered, table), table, before)


def _beside_unknown(
    table: pa.Table,
    unknown: np.ndarray,
    stage: str,
    layer: LayerSpec,
    features: Sequence[str],
    spec: SegmentSpec,
    before: LayerModel | None,
    letters_used: Sequence[str],
    past: StagePast | None,
) -> LayerModel:
    """Clusters of those of whom something is known, and one of the others."""
    known = table.filter(pa.array(~unknown))
    behind = None if past is None else past.at(~unknown_rows(past.inputs, features))
    found = _clusters(known, stage, layer, features, spec, without_unknown(before), letters_used, behind)
    columns = found.columns or preparation.fit(_first(known, structure.ROWS), features)
    return _finished(with_unknown(found, columns, features, unknown), table, before)


def _clusters(
    table: pa.Table,
    stage: str,
    layer: LayerSpec,
    features: Sequence[str],
    spec: SegmentSpec,
    before: LayerModel | None,
    letters_used: Sequence[str],
    past: StagePast | None,
) -> LayerModel:
    """The clusters of some rows, without letters and names."""
    columns = preparation.fit(_first(table, structure.ROWS), features)
    if before is not None and preparation.still_fit(before.columns, columns, table):
        columns = before.columns  # the units of the clusters in force: only then can both be held against each other
    bare = LayerModel(stage, layer, columns, letters_used=tuple(letters_used))
    if layer.method == "rules":
        return _fit_rules(bare, table, before)
    room = _Room(spec.min_cluster_customers, table.num_rows)
    if not columns:
        fitted = _one(bare, table, Reason(Code.ALL_ALIKE))
    elif room.clusters < 2:
        figures = {"customers": table.num_rows, "needed": 2 * room.smallest}
        fitted = _one(bare, table, Reason(Code.TOO_FEW, figures))
    elif layer.method == "quantiles" and not isinstance(columns[0], preparation.Numeric):
        fitted = _one(bare, table, Reason(Code.NOT_A_NUMBER, {"feature": columns[0].feature}))
    elif layer.method == "quantiles":
        fitted = _fit_quantiles(bare, table, room.smallest)
    elif layer.k == "auto":
        fitted = _fit_auto(bare, table, before, past, room)
    else:
        fitted = _fit_fixed(bare, table, before, room)
    return fitted


@dataclass(frozen=True)
class _Room:
    """How many customers there are, and how many a cluster must have."""

    smallest: int
    customers: int

    @property
    def clusters(self) -> int:
        return self.customers // self.smallest

    def least(self, customers: int) -> int:
        """The same share among fewer."""
        return max(5, -(-self.smallest * customers // self.customers))


def _one(model: LayerModel, table: pa.Table, reason: Reason, curve: tuple[Point, ...] = ()) -> LayerModel:
    return replace(model, letters=("A",), sizes=(table.num_rows,), kind="one", reason=reason, curve=curve)


# ── how many clusters ─────────────────────────────────────────────────────────────────────────────────────────────


def _fit_auto(
    model: LayerModel, table: pa.Table, before: LayerModel | None, past: StagePast | None, room: _Room
) -> LayerModel:
    """Natural clusters where there are some, else the cut that pays, else one cluster."""
    data = _matrix(model.columns, table)
    most = min(model.layer.most, room.clusters)
    order = _order(table)
    some = data[np.sort(order[: structure.ROWS])]
    least = room.least(len(some))
    seen = structure.natural_clusters(some, _blocks(model.columns), most, least)
    k, curve = seen.k, seen.curve
    if before is not None and before.kind == "natural":
        k = _held(k, len(before.letters), curve)
    if k > 1:
        fitted = _natural(model, table, data, k, before, seen, some, room)
        if (fitted is None or fitted.drift) and k != seen.k > 1:  # what is held does not fit any more either
            fitted = _natural(model, table, data, seen.k, before, seen, some, room) or fitted
        if fitted is not None:
            return fitted
    if past is None or not past.can_judge(2 * room.smallest):
        why = Reason(Code.TOO_LITTLE_HISTORY)
        if before is not None and before.kind == "cut":
            return _anchored_cut(model, table, data, before, curve, room) or _one(model, table, why, curve)
        return _one(model, table, why, curve)
    return _cut(model, table, data, order, before, past, curve, room)


def _held(k: int, had: int, curve: Sequence[Point]) -> int:
    """A number of natural clusters in force is held to a lower bar than a new one."""
    point = next((one for one in curve if one.k == had), None)
    if k == had or point is None or point.separation is None or point.stability is None or point.apart is None:
        return k
    other = next((one.separation or 0.0 for one in curve if one.k == k), 0.0)
    still = (point.separation / SEPARATION, 1 / 2), (point.stability / STABLE, 0.8), (point.apart / APART, 0.8)
    at_most = point.separation * (MUCH_BETTER if k > had else 1)  # fewer clusters must only not explain more
    return had if all(found >= asked for found, asked in still) and other < at_most else k


def _natural(
    model: LayerModel,
    table: pa.Table,
    data: np.ndarray,
    k: int,
    before: LayerModel | None,
    seen: structure.Structure,
    some: np.ndarray,
    room: _Room,
) -> LayerModel | None:
    is_anchored = before is not None and before.kind == "natural" and len(before.letters) == k
    floor = mixture.least_variance(some)
    start = _members(data, before, table) if is_anchored and before is not None else None
    if start is None:  # the clusters of those whom the structure test looked at, in all columns
        start = mixture.of_labels(some, seen.labels[k], k, floor)
    found = mixture.expectation_maximisation(data, start, floor)
    place = found.labels(data)
    sizes = np.bincount(place, minlength=k)
    if sizes.min() < max(1, room.smallest // 2 if is_anchored else room.smallest):
        return None
    point = next(one for one in seen.curve if one.k == k)
    figures = {
        "clusters": k, "separation": point.separation or 0.0, "separation_asked": SEPARATION,
        "stability": point.stability or 0.0,
    }  # fmt: skip
    fitted = _with_centres(model, data, place, found.centres, np.sqrt(found.variance))
    shares = tuple(float(x) for x in found.shares)
    fitted = replace(fitted, kind="natural", reason=Reason(Code.NATURAL, figures), curve=seen.curve, shares=shares)
    return replace(fitted, drift=_drift(data, fitted, before) if before is not None else None)


def _members(data: np.ndarray, before: LayerModel, table: pa.Table) -> mixture.Mixture | None:
    """The clusters in force on today's data, in today's units: their members' means, their spread and shares."""
    place = before.assign(table)
    sizes = np.bincount(place, minlength=len(before.letters))
    return (
        mixture.of_labels(data, place, len(sizes), mixture.least_variance(data))
        if len(sizes) > 1 and sizes.min()
        else None
    )


def _drift(data: np.ndarray, fitted: LayerModel, before: LayerModel) -> Reason | None:
    """Why the clusters in force are wrong today, if they are."""
    k = len(fitted.letters)
    if before.kind != "natural":  # nothing in force is wrong: clusters that have appeared must win the contest
        return None
    if len(before.letters) != k:
        return Reason(Drift.OTHER_NUMBER, {"before": len(before.letters), "clusters": k})
    if before.columns is not fitted.columns:
        return None
    told = [mixture.log_likelihood(data, _mixture(one)).mean() for one in (fitted, before)]
    numbers = k * data.shape[1] + k
    if told[0] - told[1] < max(DRIFT, 2.5 * numbers / len(data)):
        return None
    return Reason(Drift.MOVED, {"gain": float(told[0] - told[1])})


def _mixture(model: LayerModel) -> mixture.Mixture:
    return mixture.Mixture(np.array(model.centres), np.array(model.spread) ** 2, np.array(model.shares), -np.inf)


def _cut(
    model: LayerModel,
    table: pa.Table,
    data: np.ndarray,
    order: np.ndarray,
    before: LayerModel | None,
    past: StagePast,
    curve: tuple[Point, ...],
    room: _Room,
) -> LayerModel:
    """The fewest clusters that tell most of what a cut can tell of what came next."""
    some = data[np.sort(order[:CANDIDATE_ROWS])]
    behind = _matrix(model.columns, past.inputs)
    had = len(before.letters) if before is not None and before.kind == "cut" else 1
    centres: dict[int, np.ndarray] = {}
    points = len(np.unique(some, axis=0))
    for k in range(2, min(model.layer.most, room.clusters, points) + 1):
        start = _members(data, before, table) if before is not None and k == had else None
        found = mixture.k_means(some, k) if start is None else mixture.k_means(data, start.centres)
        if np.bincount(mixture.nearest(some, found), minlength=k).min() >= room.least(len(some)) // (
            1 if k != had else 2
        ):
            centres[k] = found
    k, gains, falls = judged(past, {k: mixture.nearest(behind, found) for k, found in centres.items()})
    merged = {one.k: one for one in gains}
    if had in merged and k != had:
        still = max(merged[had].gain_spend or 0.0, merged[had].gain_stage or 0.0) > 0
        if still and not (k > 1 and is_better(falls, k, had)):
            k = had  # no other number of clusters tells more than the one in force, beyond chance
    curve = tuple(
        replace(one, gain_spend=merged[one.k].gain_spend, gain_stage=merged[one.k].gain_stage)
        if one.k in merged
        else one
        for one in curve
    ) + tuple(one for one in gains if one.k not in {other.k for other in curve})
    if k == 1:
        best = max((max(one.gain_spend or 0.0, one.gain_stage or 0.0) for one in gains), default=0.0)
        return _one(model, table, Reason(Code.NO_CUT_PAYS, {"best": float(best)}), curve)
    found = mixture.k_means(data, centres[k])
    place = mixture.nearest(data, found)
    sizes = np.bincount(place, minlength=k)
    if sizes.min() < max(1, room.smallest // 2):
        return _one(model, table, Reason(Code.CUT_LEAVES_FEW, {"clusters": k, "least": int(sizes.min())}), curve)
    gain = merged[k]
    figures = {"clusters": k, "gain_spend": gain.gain_spend or 0.0, "gain_stage": gain.gain_stage or 0.0}
    reason = Reason(Code.CUT_PAYS, figures)
    fitted = replace(_with_centres(model, data, place, found), kind="cut", reason=reason, curve=curve)
    return replace(fitted, drift=_emptied(before, table, room))


def _emptied(before: LayerModel | None, table: pa.Table, room: _Room) -> Reason | None:
    """Why a cut in force is no cut any more: a cluster has nearly nobody left."""
    if before is None or len(before.centres) < 2:
        return None
    sizes = np.bincount(before.assign(table), minlength=len(before.letters))
    least = int(np.argmin(sizes))
    if sizes[least] >= max(1, room.smallest // 2):
        return None
    return Reason(Drift.EMPTIED, {"cluster": before.letters[least], "customers": int(sizes[least])})


def _anchored_cut(
    model: LayerModel, table: pa.Table, data: np.ndarray, before: LayerModel, curve: tuple[Point, ...], room: _Room
) -> LayerModel | None:
    """The cut in force on today's customers; nothing if it does not fit them any more."""
    start = _members(data, before, table)
    if start is None:
        return None
    found = mixture.k_means(data, start.centres)
    place = mixture.nearest(data, found)
    if np.bincount(place, minlength=len(found)).min() < max(1, room.smallest // 2):
        return None
    fitted = _with_centres(model, data, place, found)
    return replace(fitted, kind="cut", reason=_inherited(before.reason), curve=before.curve or curve)


def _inherited(reason: Reason) -> Reason:
    """The reason of the clusters in force, where there is too little history to find it again."""
    return reason if reason.code == Code.INHERITED else Reason(Code.INHERITED, {"reason": reason.stored()})


# ── the project's own numbers of clusters ─────────────────────────────────────────────────────────────────────────


def _fit_fixed(model: LayerModel, table: pa.Table, before: LayerModel | None, room: _Room) -> LayerModel:
    """As many clusters as the project file says, or as customers allow."""
    data = _matrix(model.columns, table)
    most = max(1, min(model.layer.most, room.clusters, len(np.unique(data, axis=0))))
    asked = {"asked": model.layer.most}

    def reason(k: int) -> Reason:
        if k == model.layer.most:
            return Reason(Code.ASKED_FOR, asked)
        return Reason(Code.FEWER_THAN_ASKED, {**asked, "clusters": k, "smallest": room.smallest})

    if before is not None and len(before.centres) == most:
        start = _members(data, before, table)
        if start is not None:
            centres = mixture.k_means(data, start.centres)
            place = mixture.nearest(data, centres)
            if np.bincount(place, minlength=most).min() >= max(1, room.smallest // 2):
                fitted = replace(_with_centres(model, data, place, centres), kind="fixed", reason=reason(most))
                return replace(fitted, drift=_emptied(before, table, room))
    some = data[np.sort(_order(table)[:CANDIDATE_ROWS])]  # the same customers of a larger sample: the same start
    if model.layer.most == 1:
        return _one(model, table, reason(1))
    for k in range(min(most, len(np.unique(some, axis=0))), 1, -1):
        centres = mixture.k_means(data, mixture.k_means(some, k))
        place = mixture.nearest(data, centres)
        if np.bincount(place, minlength=k).min() >= room.smallest:
            return replace(_with_centres(model, data, place, centres), kind="fixed", reason=reason(k))
    return _one(model, table, Reason(Code.NONE_OF_THOSE_ASKED, {**asked, "smallest": room.smallest}))


def _fit_quantiles(model: LayerModel, table: pa.Table, smallest: int) -> LayerModel:
    asked = None if isinstance(model.layer.k, str) else model.layer.k
    values = np.sort(preparation.transform(model.columns, table)[0])
    for parts in range(min(model.layer.most, len(values) // smallest), 1, -1):
        cuts = np.unique(np.quantile(values, [number / parts for number in range(1, parts)]))
        cuts = cuts[cuts > values[0]]
        sizes = np.bincount(np.searchsorted(cuts, values, side="right"), minlength=len(cuts) + 1)
        if len(cuts) and sizes.min() >= smallest:
            return replace(
                model,
                cuts=tuple(float(cut) for cut in cuts),
                letters=tuple("?" * len(sizes)),
                sizes=tuple(int(size) for size in sizes),
                kind="fixed",
                reason=Reason(Code.QUANTILES, {"feature": model.columns[0].feature, "asked": asked}),
            )
    return _one(model, table, Reason(Code.QUANTILES_TOO_SMALL, {"asked": asked, "smallest": smallest}))


def _fit_rules(model: LayerModel, table: pa.Table, before: LayerModel | None) -> LayerModel:
    """A rule keeps its letter as long as it keeps its name."""
    given = dict(zip(before.names, before.letters, strict=True)) if before is not None and before.rules else {}
    names = [*(rule.name for rule in model.layer.rules), OTHERS]
    used = list(model.letters_used)
    fresh = iter(new_letters(sum(name not in given for name in names), used))
    letters = [given.get(name) or next(fresh) for name in names]
    places = rule_places(model.layer.rules, table)
    old_letters = list(given.values()) if before is not None and before.rules else []
    old = before.assign(table) if before is not None and before.rules else np.full(table.num_rows, -1)
    return replace(
        model,
        rules=model.layer.rules,
        letters=tuple(letters),
        names=tuple(names),
        letters_used=tuple(dict.fromkeys([*used, *letters])),
        sizes=tuple(int(size) for size in np.bincount(places, minlength=len(names))),
        kind="rules",
        reason=Reason(Code.RULES),
        events=lineage(old, old_letters, places, letters),
    )


# ── common ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _matrix(columns: Sequence[preparation.Column], table: pa.Table) -> np.ndarray:
    return np.stack(preparation.transform(columns, table), axis=1)


def _blocks(columns: Sequence[preparation.Column]) -> list[int]:
    """How many prepared columns each feature has."""
    return [one.width for one in columns]


def _order(table: pa.Table) -> np.ndarray:
    return np.argsort(table[DRAWN].to_numpy()) if DRAWN in table.column_names else drawn(table)


def _first(table: pa.Table, most: int) -> pa.Table:
    """At most so many rows, the first that would be drawn: a larger sample of customers has the same ones."""
    if table.num_rows <= most:
        return table
    return table.take(pa.array(np.sort(_order(table)[:most])))


def drawn(table: pa.Table) -> np.ndarray:
    """The rows by the hash that `ml.sampling` draws by: of a sample and of all, the first are the same customers."""
    if "customer_id" not in table.column_names:
        return np.random.default_rng(0).permutation(table.num_rows)
    numbered = table.select(["customer_id"]).append_column("row_place", pa.array(np.arange(table.num_rows)))
    query = "SELECT row_place FROM people ORDER BY SHA256(CONCAT('0/', customer_id)), customer_id, row_place"
    found: np.ndarray = in_memory().query(query, people=numbered)["row_place"].to_numpy()
    return found


def _with_centres(
    model: LayerModel, data: np.ndarray, place: np.ndarray, centres: np.ndarray, spread: np.ndarray | None = None
) -> LayerModel:
    """Centres with their spread: one per column, or where none is given one for all, which k-means is about."""
    away = data - centres[place]
    if spread is None:
        spread = np.full(data.shape[1], max(float(np.sqrt((away**2).mean())), 1e-6))
    return replace(
        model,
        centres=tuple(tuple(float(x) for x in centre) for centre in centres),
        spread=tuple(float(x) for x in spread),
        sharpness=_sharpness(away),
        letters=tuple("?" * len(centres)),
        sizes=tuple(int(size) for size in np.bincount(place, minlength=len(centres))),
    )


def _sharpness(away: np.ndarray) -> float:
    """Effective dimensions per column: (Σλ)² / Σλ² of the correlations inside clusters."""
    width = away.shape[1]
    varies = away.std(axis=0) > 1e-9
    if varies.sum() < 2:
        return 1 / max(width, 1) if varies.sum() else 1.0
    correlation = np.corrcoef(away[:, varies], rowvar=False)
    return float(varies.sum() ** 2 / (correlation**2).sum() / width)


def _with_letters(fitted: LayerModel, table: pa.Table, before: LayerModel | None) -> LayerModel:
    """Letters of the clusters in force by shared customers; on a first fit by falling mean of the first feature."""
    count = len(fitted.letters)
    old_letters: tuple[str, ...] = ()
    old = np.full(table.num_rows, -1)
    if before is not None and not before.rules and table.num_rows:
        old, old_letters = _old_places(before, table), before.letters
    place = fitted.assign(table)
    is_free = "A" in old_letters or "A" not in fitted.letters_used  # and not the letter of a cluster that is gone
    if count == 1 and is_free:
        letters = ["A"]
    else:
        letters = matched_letters(old, old_letters, place, count) if old_letters else [""] * count
        missing = [number for number in _canonical(fitted, table, place) if not letters[number]]
        fresh = new_letters(len(missing), fitted.letters_used)
        for number, given in zip(missing, fresh, strict=True):
            letters[number] = given
    events = lineage(old, old_letters, place, letters)
    used = tuple(dict.fromkeys([*fitted.letters_used, *sorted(letters, key=lambda x: (len(x), x))]))
    fitted = replace(fitted, letters=tuple(letters), letters_used=used, events=events)
    if fitted.cuts or count == 1:
        return fitted
    order = sorted(range(count), key=lambda number: (len(letters[number]), letters[number]))
    return replace(
        fitted,
        letters=tuple(letters[number] for number in order),
        centres=tuple(fitted.centres[number] for number in order),
        shares=tuple(fitted.shares[number] for number in order) if fitted.shares else (),
        sizes=tuple(fitted.sizes[number] for number in order),
    )


def _dated(fitted: LayerModel, table: pa.Table, before: LayerModel | None) -> LayerModel:
    """Each letter with the day of the fit that gave it."""
    given: dict[str, str] = {}
    if before is not None:
        given = dict(zip(before.letters, before.since or [""] * len(before.letters), strict=True))
    is_dated = "day" in table.column_names and table.num_rows
    today = str(pc.max(table["day"]).as_py()) if is_dated else ""
    return replace(fitted, since=tuple(given.get(letter, today) for letter in fitted.letters))


def _old_places(before: LayerModel, table: pa.Table) -> np.ndarray:
    """The clusters in force on today's rows; −1 for those who lie outside of all natural clusters."""
    distances = before.distances(table)
    place = before.places_at(distances)
    if before.kind == "natural":
        width = before.sharpness * len(before.centres[0])
        place = np.where(distances.min(axis=1) > _outside(width), -1, place)
    return place


def _outside(dimensions: float) -> float:
    """Squared distance that one in a thousand exceeds (chi-square, Wilson & Hilferty 1931)."""
    third = 2 / (9 * dimensions)
    return float(dimensions * (1 - third + 3.09 * third**0.5) ** 3)


def _canonical(fitted: LayerModel, table: pa.Table, place: np.ndarray) -> list[int]:
    """Cluster numbers by falling mean of the first feature, the first prepared column."""
    if not fitted.columns:
        return list(range(len(fitted.letters)))
    first = preparation.transform(fitted.columns[:1], table)[0]
    last = place_of_unknown(fitted) if has_unknown(fitted) else -1  # who nothing is known of comes last
    means = [
        float(np.mean(first[place == number])) if (place == number).any() and number != last else -np.inf
        for number in range(len(fitted.letters))
    ]
    return sorted(range(len(means)), key=lambda number: (-means[number], number))

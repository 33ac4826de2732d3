"""Fitting the clusters of each stage and layer, anchored on the clusters in force.

Belongs here: one day's fit by each method, and the words for what sets a cluster apart. Does not belong here: what a
fitted layer does (see `layers`), and whether a refit replaces what is in force (see `training`).

A refit starts from the partition in force: its members' means on the new data are the first centres. So on unchanged
data it stays where it is, and nobody moves. Its clusters are then matched to those in force by the customers they
share, and letters are carried on; a cluster that continues none gets a letter that was never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.segments import preparation
from ml.segments.identity import matched_letters, new_letters
from ml.segments.layers import LayerModel, LayerModels, in_order, rule_places
from ml.segments.names import ALIKE, Difference, cluster_names
from ml.segments.specs import STAGE_COLUMNS, LayerSpec, SegmentSpec

OTHERS = "others"
MOST_EVIDENCE = 16


def fit_layers(inputs: pa.Table, spec: SegmentSpec, incumbent: LayerModels | None) -> LayerModels:
    """Fit every layer in every stage on one day's inputs.

    Parameters
    ----------
    inputs : `layer_inputs` of a single day (or a sample of it)
    incumbent : the layers in force, whose clusters are continued
    """
    inputs = in_order(inputs)
    columns = [name for name in inputs.column_names if name not in ("customer_id", "day", *STAGE_COLUMNS)]
    stages = pc.unique(inputs["stage"]).to_pylist()
    if incumbent is not None:  # a stage that is empty today keeps what it had
        stages += [model.stage for model in incumbent.models]
    models = []
    for stage in sorted(set(stages)):
        part = inputs.filter(pc.equal(inputs["stage"], stage))
        for layer in spec.layers:
            if layer.applies_to(stage):
                before = incumbent.of(stage, layer) if incumbent is not None else None
                models.append(fit_layer(part, stage, layer, layer.present(columns), spec, before))
    if not inputs.num_rows:
        raise ValueError("no customers to fit layers on")
    return LayerModels(spec.layers, tuple(models), pc.max(inputs["day"]).as_py())


def fit_layer(
    table: pa.Table,
    stage: str,
    layer: LayerSpec,
    features: Sequence[str],
    spec: SegmentSpec,
    before: LayerModel | None,
) -> LayerModel:
    """Fit one layer in one stage and carry on the letters of the clusters in force.

    A cluster of fewer than `min_cluster_customers` is not made; one that is continued may shrink to half of that, so
    that a stage near the limit does not gain and lose it every week.
    """
    if before is not None and table.num_rows == 0:
        return replace(before, layer=layer)
    columns = preparation.fit(table, features)
    bare = LayerModel(stage, layer, columns, letters_used=before.letters_used if before else ())
    if layer.method == "rules":
        fitted = _fit_rules(bare, table, before)
    elif not columns or table.num_rows < 2 * spec.min_cluster_customers:
        fitted = replace(bare, letters=("A",), sizes=(table.num_rows,))
    elif layer.method == "quantiles":
        fitted = _fit_quantiles(bare, table, layer.k, spec.min_cluster_customers)
    else:
        fitted = _fit_kmeans(bare, table, spec, before)
    if layer.method != "rules":
        fitted = _with_letters(fitted, table, before)
    return _with_names(fitted, table)


def _fit_kmeans(model: LayerModel, table: pa.Table, spec: SegmentSpec, before: LayerModel | None) -> LayerModel:
    data = np.stack(preparation.transform(model.columns, table), axis=1)
    points = len(np.unique(data, axis=0))
    most = max(1, min(model.layer.k, len(data) // spec.min_cluster_customers, points))
    if before is not None and 1 < len(before.centres) == most:
        place = before.assign(table)
        sizes = np.bincount(place, minlength=most)
        if sizes.min() > 0:
            start = np.stack([data[place == cluster].mean(axis=0) for cluster in range(most)])
            centres, sizes = _kmeans(data, start, spec.seed)
            if sizes.min() >= max(1, spec.min_cluster_customers // 2):
                return _with_centres(model, centres, sizes)
    for k in range(most, 1, -1):
        centres, sizes = _kmeans(data, k, spec.seed)
        if sizes.min() >= spec.min_cluster_customers:
            return _with_centres(model, centres, sizes)
    return replace(model, letters=("A",), sizes=(len(data),))


def _kmeans(data: np.ndarray, start: int | np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's algorithm until nobody moves, on one thread so that sums are always added in the same order."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    first, k, tries = ("k-means++", start, 4) if isinstance(start, int) else (start, len(start), 1)
    with threadpool_limits(limits=1):
        fitted = KMeans(
            n_clusters=k,
            init=first,
            n_init=tries,
            max_iter=300,
            tol=0,
            random_state=seed,
            algorithm="lloyd",
        ).fit(data)
    return fitted.cluster_centers_, np.bincount(fitted.labels_, minlength=len(fitted.cluster_centers_))


def _with_centres(model: LayerModel, centres: np.ndarray, sizes: np.ndarray) -> LayerModel:
    return replace(
        model,
        centres=tuple(tuple(float(x) for x in centre) for centre in centres),
        letters=tuple("?" * len(centres)),
        sizes=tuple(int(size) for size in sizes),
    )


def _fit_quantiles(model: LayerModel, table: pa.Table, k: int, smallest: int) -> LayerModel:
    values = np.sort(preparation.transform(model.columns, table)[0])
    for parts in range(min(k, len(values) // smallest), 1, -1):
        cuts = np.unique(np.quantile(values, [number / parts for number in range(1, parts)]))
        cuts = cuts[cuts > values[0]]
        sizes = np.bincount(np.searchsorted(cuts, values, side="right"), minlength=len(cuts) + 1)
        if len(cuts) and sizes.min() >= smallest:
            return replace(
                model,
                cuts=tuple(float(cut) for cut in cuts),
                letters=tuple("?" * len(sizes)),
                sizes=tuple(int(size) for size in sizes),
            )
    return replace(model, letters=("A",), sizes=(len(values),))


def _fit_rules(model: LayerModel, table: pa.Table, before: LayerModel | None) -> LayerModel:
    """A rule keeps its letter as long as it keeps its name."""
    given = dict(zip(before.names, before.letters, strict=True)) if before is not None and before.rules else {}
    names = [*(rule.name for rule in model.layer.rules), OTHERS]
    used = list(model.letters_used)
    fresh = iter(new_letters(sum(name not in given for name in names), used))
    letters = [given.get(name) or next(fresh) for name in names]
    places = rule_places(model.layer.rules, table)
    return replace(
        model,
        rules=model.layer.rules,
        letters=tuple(letters),
        names=tuple(names),
        letters_used=tuple(dict.fromkeys([*used, *letters])),
        sizes=tuple(int(size) for size in np.bincount(places, minlength=len(names))),
    )


def _with_letters(fitted: LayerModel, table: pa.Table, before: LayerModel | None) -> LayerModel:
    """Letters of the clusters in force by shared customers; on a first fit by falling mean of the first feature."""
    count = len(fitted.letters)
    if count == 1:
        return replace(fitted, letters=("A",), letters_used=tuple(dict.fromkeys([*fitted.letters_used, "A"])))
    place = fitted.assign(table)
    if before is None or before.rules or not table.num_rows:
        order = _canonical(fitted, table, place)
        letters: list[str] = [""] * count
        for rank, fresh in zip(order, new_letters(count, fitted.letters_used), strict=True):
            letters[rank] = fresh
    else:
        letters = matched_letters(before.assign(table), before.letters, place, count)
        missing = [number for number in _canonical(fitted, table, place) if not letters[number]]
        for number, fresh in zip(missing, new_letters(len(missing), fitted.letters_used), strict=True):
            letters[number] = fresh
    used = tuple(dict.fromkeys([*fitted.letters_used, *sorted(letters, key=lambda x: (len(x), x))]))
    fitted = replace(fitted, letters=tuple(letters), letters_used=used)
    if fitted.cuts:
        return fitted
    order = sorted(range(count), key=lambda number: (len(letters[number]), letters[number]))
    return replace(
        fitted,
        letters=tuple(letters[number] for number in order),
        centres=tuple(fitted.centres[number] for number in order),
        sizes=tuple(fitted.sizes[number] for number in order),
    )


def _canonical(fitted: LayerModel, table: pa.Table, place: np.ndarray) -> list[int]:
    """Cluster numbers by falling mean of the first feature, the first prepared column."""
    first = preparation.transform(fitted.columns[:1], table)[0]
    means = [
        float(np.mean(first[place == number])) if (place == number).any() else -np.inf
        for number in range(len(fitted.letters))
    ]
    return sorted(range(len(means)), key=lambda number: (-means[number], number))


def _with_names(fitted: LayerModel, table: pa.Table) -> LayerModel:
    """Measure what sets each cluster apart inside its stage, and say it."""
    if len(fitted.letters) == 1:
        return replace(fitted, names=(ALIKE,), evidence=((),))
    if not table.num_rows:
        return fitted
    place = fitted.assign(table)
    found: list[list[Difference]] = [[] for _ in fitted.letters]
    for column in fitted.columns:
        for value, prepared, raw in _spoken(column, table):
            spread = float(np.std(prepared))
            everywhere = float(np.mean(prepared))
            known = ~np.isnan(raw)
            for number in range(len(fitted.letters)):
                here = place == number
                if not here.any() or spread <= 1e-12:
                    continue
                found[number].append(
                    Difference(
                        column.feature,
                        value,
                        (float(np.mean(prepared[here])) - everywhere) / spread,
                        float(np.mean(raw[here & known])) if (here & known).any() else 0.0,
                        float(np.mean(raw[known])) if known.any() else 0.0,
                    )
                )
    for differences in found:
        differences.sort(key=lambda one: (-abs(one.difference), one.feature, one.value))
    evidence = tuple(tuple(differences[:MOST_EVIDENCE]) for differences in found)
    if fitted.rules:
        return replace(fitted, evidence=evidence)
    features = [column.feature for column in fitted.columns]
    return replace(fitted, evidence=evidence, names=cluster_names(fitted.letters, found, features))


def _spoken(column: preparation.Column, table: pa.Table) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(value, prepared numbers, raw numbers) of each thing that can be said of a column."""
    if isinstance(column, preparation.Numeric):
        return [("", column.transform(table)[0], preparation.numbers(table, column.feature))]
    code = column.codes(table)
    prepared = column.transform(table)
    return [
        (value, prepared[number], np.where(code < 0, np.nan, (code == number).astype(float)))
        for number, value in enumerate(column.vocabulary)
    ]

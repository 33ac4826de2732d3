"""Fits of every stage and layer, continued from the clusters in force.

Belongs here: fitting all layers on one day, and the letters that clusters keep. Does not belong here: finding clusters
(see `clustering`), the words for a cluster (see `naming`), and whether a refit replaces what is in force (see
`training`).

New clusters are matched to those in force by the customers they share, and letters are carried on. A cluster that
continues none gets a letter that was never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import ml.layers.preparation as preparation
import ml.layers.structure as structure
from ml.layers.clustering import DRAW_RANK, draw, draw_order, fit_clusters
from ml.layers.cuts import PastOutcomes, StageOutcomes
from ml.layers.identity import lineage, matched_letters, new_letters
from ml.layers.inputs import sort_inputs
from ml.layers.layer_model import LayerModel
from ml.layers.layer_models import LayerModels, continued
from ml.layers.naming import with_names
from ml.layers.specs import STAGE_COLUMNS, LayerSpec, SegmentSpec
from ml.layers.unknown import (
    add_unknown_cluster,
    are_enough,
    has_unknown_cluster,
    remove_unknown_cluster,
    unknown_cluster,
    unknown_rows,
)


def fit_layers(
    inputs: pa.Table, spec: SegmentSpec, incumbent: LayerModels | None = None, past: PastOutcomes | None = None
) -> LayerModels:
    """Fit every layer in every stage on one day's inputs.

    Parameters
    ----------
    inputs : pyarrow.Table
        `layer_inputs` of a single day, or of a sample of it.
    spec : SegmentSpec
        Layers to fit, and limits.
    incumbent : LayerModels, optional
        The layers in force, whose clusters are continued.
    past : PastOutcomes, optional
        What followed on earlier days. Without it no cut can be shown to pay, so only natural clusters, and numbers of
        clusters that the project file fixes, are made.

    Returns
    -------
    LayerModels
        One model per stage and layer that applies.

    Raises
    ------
    ValueError
        If there are no customers.

    Examples
    --------
    >>> from datetime import date
    >>> spend = [5.0, 6, 7, 8, 9, 10, 500, 550, 600, 650, 700, 750]
    >>> inputs = pa.table(
    ...     {
    ...         "customer_id": [f"c{number:02d}" for number in range(12)],
    ...         "day": [date(2024, 3, 1)] * 12,
    ...         "stage": ["active"] * 12,
    ...         "sub_stage": ["steady"] * 12,
    ...         "spend_90d": spend,
    ...     }
    ... )
    >>> spec = SegmentSpec((LayerSpec("value", ("spend_90d",), method="quantiles", k=2),), min_cluster_customers=5)
    >>> (value,) = fit_layers(inputs, spec).models
    >>> value.letters, value.names, value.sizes
    (('B', 'A'), ('low spend', 'high spend'), (6, 6))
    """
    if not inputs.num_rows:
        raise ValueError("no customers to fit layers on")
    inputs = sort_inputs(inputs)
    columns = [name for name in inputs.column_names if name not in ("customer_id", "day", *STAGE_COLUMNS)]
    earlier_layers = set() if incumbent is None else {layer.name for layer in incumbent.live}
    off = tuple(x.name for x in spec.layers if x.name not in earlier_layers and not has_data(inputs, x, columns))
    stages = pc.unique(inputs["stage"]).to_pylist()
    if incumbent is not None:  # a stage that is empty today keeps its clusters
        stages += [model.stage for model in incumbent.models]
    models = []
    for stage in sorted(set(stages)):
        rows = inputs.filter(pc.equal(inputs["stage"], stage))
        rows = rows.append_column(DRAW_RANK, pa.array(np.argsort(draw_order(rows))))  # once for all layers
        stage_outcomes = past.of(stage) if past is not None else None
        for layer in spec.layers:
            if layer.applies_to(stage) and layer.name not in off:
                in_force = incumbent.find(stage, layer.name) if incumbent is not None else None
                letters_used = incumbent.letters_used(stage, layer.name) if incumbent is not None else ()
                features = layer.present(columns)
                fitted = fit_layer(rows, stage, layer, features, spec, in_force, letters_used, stage_outcomes)
                models.append(fitted)
                if stage_outcomes is not None and len(fitted.letters) > 1:
                    stage_outcomes = stage_outcomes.split(fitted.assign(stage_outcomes.inputs))
    letters_before = _no_longer_cut(incumbent, models)
    return LayerModels(spec.layers, tuple(models), pc.max(inputs["day"]).as_py(), off, letters_before)


def has_data(inputs: pa.Table, layer: LayerSpec, columns: Sequence[str]) -> bool:
    """Whether any feature of the layer differs between customers; a layer of rules always has data."""
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
    """Letters of every stage and layer that was cut before and is not now."""
    if incumbent is None:
        return ()
    fitted = {(model.stage, model.layer.name) for model in models}
    letters = {(stage, name): used for stage, name, used in incumbent.letters_before}
    letters |= {(model.stage, model.layer.name): model.letters_used for model in incumbent.models}
    return tuple((stage, name, used) for (stage, name), used in sorted(letters.items()) if (stage, name) not in fitted)


def fit_layer(
    table: pa.Table,
    stage: str,
    layer: LayerSpec,
    features: Sequence[str],
    spec: SegmentSpec,
    incumbent: LayerModel | None,
    letters_used: Sequence[str] = (),
    past: StageOutcomes | None = None,
) -> LayerModel:
    """Fit one layer in one stage, and carry on the letters of the clusters in force.

    No cluster of fewer than `min_cluster_customers` is made. One that is continued may shrink to half of that, so that
    a stage near the limit does not gain and lose it every week.

    Parameters
    ----------
    table : pyarrow.Table
        Inputs of the stage's customers.
    stage : str
        Name of the stage.
    layer : LayerSpec
        Settings of the layer.
    features : Sequence of str
        The layer's features among the columns of `table`.
    spec : SegmentSpec
        Limits of the fit.
    incumbent : LayerModel or None
        The layer in force in this stage.
    letters_used : Sequence of str
        Every letter ever given to a cluster of the layer in this stage.
    past : StageOutcomes, optional
        What followed on earlier days, split by the layers before this one.

    Returns
    -------
    LayerModel
        With letters, names, evidence and events.
    """
    if incumbent is not None and table.num_rows == 0:
        return replace(continued(incumbent), layer=layer)
    if layer.method != "rules":
        used = features[:1] if layer.method == "quantiles" else features
        unknown = unknown_rows(table, used)
        if are_enough(unknown, spec.min_cluster_customers, incumbent):
            return _fit_with_unknown(table, unknown, stage, layer, used, spec, incumbent, letters_used, past)
    fitted = fit_clusters(table, stage, layer, features, spec, remove_unknown_cluster(incumbent), letters_used, past)
    return _finish(fitted, table, incumbent)


def _finish(fitted: LayerModel, table: pa.Table, incumbent: LayerModel | None) -> LayerModel:
    """Add letters, names and days to a layer's clusters; those of rules have their letters already."""
    lettered = fitted if fitted.rules else _with_letters(fitted, table, incumbent)
    return _with_days(with_names(lettered, table), table, incumbent)


def _fit_with_unknown(
    table: pa.Table,
    unknown: np.ndarray,
    stage: str,
    layer: LayerSpec,
    features: Sequence[str],
    spec: SegmentSpec,
    incumbent: LayerModel | None,
    letters_used: Sequence[str],
    past: StageOutcomes | None,
) -> LayerModel:
    """Fit clusters among customers of whom something is known, and add one of the others."""
    known = table.filter(pa.array(~unknown))
    past_of_known = None if past is None else past.select(~unknown_rows(past.inputs, features))
    fitted = fit_clusters(
        known, stage, layer, features, spec, remove_unknown_cluster(incumbent), letters_used, past_of_known
    )
    columns = fitted.columns or preparation.fit(draw(known, structure.MAX_ROWS), features)
    return _finish(add_unknown_cluster(fitted, columns, features, unknown), table, incumbent)


def _with_letters(fitted: LayerModel, table: pa.Table, incumbent: LayerModel | None) -> LayerModel:
    """Carry letters on by shared customers; on a first fit give them by falling mean of the first feature."""
    count = len(fitted.letters)
    old_letters: tuple[str, ...] = ()
    old_clusters = np.full(table.num_rows, -1)
    if incumbent is not None and not incumbent.rules and table.num_rows:
        old_clusters, old_letters = _clusters_in_force(incumbent, table), incumbent.letters
    clusters = fitted.assign(table)
    is_free = "A" in old_letters or "A" not in fitted.letters_used  # not the letter of a cluster that is gone
    if count == 1 and is_free:
        letters = ["A"]
    else:
        letters = matched_letters(old_clusters, old_letters, clusters, count) if old_letters else [""] * count
        missing = [number for number in _by_first_feature(fitted, table, clusters) if not letters[number]]
        unused = new_letters(len(missing), fitted.letters_used)
        for number, letter in zip(missing, unused, strict=True):
            letters[number] = letter
    events = lineage(old_clusters, old_letters, clusters, letters)
    letters_used = tuple(dict.fromkeys([*fitted.letters_used, *sorted(letters, key=lambda x: (len(x), x))]))
    fitted = replace(fitted, letters=tuple(letters), letters_used=letters_used, events=events)
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


def _with_days(fitted: LayerModel, table: pa.Table, incumbent: LayerModel | None) -> LayerModel:
    """Add to each letter the day of the fit that gave it."""
    since: dict[str, str] = {}
    if incumbent is not None:
        since = dict(zip(incumbent.letters, incumbent.since or [""] * len(incumbent.letters), strict=True))
    is_dated = "day" in table.column_names and table.num_rows
    today = str(pc.max(table["day"]).as_py()) if is_dated else ""
    return replace(fitted, since=tuple(since.get(letter, today) for letter in fitted.letters))


def _clusters_in_force(incumbent: LayerModel, table: pa.Table) -> np.ndarray:
    """Today's rows under the clusters in force; −1 outside all natural clusters."""
    distances = incumbent.distances(table)
    clusters = incumbent.clusters_at(distances)
    if incumbent.kind == "natural":
        dimensions = incumbent.sharpness * len(incumbent.centres[0])
        clusters = np.where(distances.min(axis=1) > _chi_square_quantile(dimensions), -1, clusters)
    return clusters


def _chi_square_quantile(dimensions: float) -> float:
    """Squared distance that one in a thousand exceeds (Wilson & Hilferty 1931)."""
    third = 2 / (9 * dimensions)
    return float(dimensions * (1 - third + 3.09 * third**0.5) ** 3)


def _by_first_feature(fitted: LayerModel, table: pa.Table, clusters: np.ndarray) -> list[int]:
    """Cluster numbers by falling mean of the first prepared column."""
    if not fitted.columns:
        return list(range(len(fitted.letters)))
    first = preparation.transform(fitted.columns[:1], table)[0]
    unknown = unknown_cluster(fitted) if has_unknown_cluster(fitted) else -1  # comes last
    means = [
        float(np.mean(first[clusters == number])) if (clusters == number).any() and number != unknown else -np.inf
        for number in range(len(fitted.letters))
    ]
    return sorted(range(len(means)), key=lambda number: (-means[number], number))

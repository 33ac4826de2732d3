"""Layers: the clusters of each stage and layer, their identity, and who belongs to them.

Belongs here: fitting one stage and layer, anchored on the clusters in force, and applying all of them to snapshots.
Does not belong here: whether a refit replaces what is in force (see `training`) and what strings are made of it (see
`micro_segments`).

A refit starts from the partition in force: its members' means on the new data are the first centres. So on unchanged
data it stays where it is, and nobody moves. Its clusters are then matched to those in force by the customers they
share, and letters are carried on; a cluster that continues none gets a letter that was never used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from ml import rules, tables
from ml.engine import DuckDB, Engine
from ml.segments import preparation
from ml.segments.micro_segments import micro_segment_id
from ml.segments.names import ALIKE, Difference, Names, cluster_names
from ml.segments.specs import DERIVED, STAGE_COLUMNS, VALUE_COLUMNS, LayerRule, LayerSpec, SegmentSpec

if TYPE_CHECKING:
    import pandas as pd

OTHERS = "others"
MOST_EVIDENCE = 16


def letter(number: int) -> str:
    """0 → A, 25 → Z, 26 → AA."""
    text = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


def new_letters(count: int, used: Sequence[str]) -> list[str]:
    """The first `count` letters that were never used."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        if letter(number) not in used:
            found.append(letter(number))
        number += 1
    return found


@dataclass(frozen=True)
class LayerModel:
    """The clusters of one layer in one stage.

    Parameters
    ----------
    columns : the preparation; empty where the layer carries no information
    centres : k-means: one row per cluster in prepared units
    cuts : quantiles: inner borders of the first feature in prepared units, rising
    rules : rules: (name, predicate), in order; the cluster after them is of the others
    letters, names : of the clusters; a single cluster is A
    letters_used : every letter ever given here, in order
    sizes : customers behind each cluster at the fit
    evidence : per cluster what sets it apart, greatest first
    """

    stage: str
    layer: LayerSpec
    columns: tuple[preparation.Column, ...] = ()
    centres: tuple[tuple[float, ...], ...] = ()
    cuts: tuple[float, ...] = ()
    rules: tuple[LayerRule, ...] = ()
    letters: tuple[str, ...] = ("A",)
    names: tuple[str, ...] = (ALIKE,)
    letters_used: tuple[str, ...] = ("A",)
    sizes: tuple[int, ...] = ()
    evidence: tuple[tuple[Difference, ...], ...] = ()

    def weights(self, table: pa.Table) -> np.ndarray:
        """Weight of each cluster for each row, before the threshold; rows add up to 1. Shape (n, clusters).

        For k-means proportional to 1 / squared distance to the cluster's centre, over all clusters.
        """
        if len(self.letters) == 1:
            return np.ones((table.num_rows, 1))
        if self.rules:
            return np.eye(len(self.letters))[_rule_places(self.rules, table)]
        prepared = preparation.transform(self.columns, table)
        if self.cuts:
            return np.eye(len(self.letters))[np.searchsorted(np.array(self.cuts), prepared[0], side="right")]
        # Added column by column: exactly the same whatever the number of rows, which a matrix product is not.
        squared = np.stack([_squared_distance(prepared, centre) for centre in self.centres], axis=1)
        at_centre = squared <= 1e-24
        inverse = np.where(
            np.any(at_centre, axis=1, keepdims=True), at_centre.astype(float), 1 / np.maximum(squared, 1e-24)
        )
        result: np.ndarray = inverse / _row_sums(inverse)[:, None]
        return result

    def assign(self, table: pa.Table) -> np.ndarray:
        """The place of each row's primary cluster: the nearest, the first of equals."""
        return np.argmax(self.weights(table), axis=1)

    def memberships(self, table: pa.Table) -> np.ndarray:
        """Weights that count: the primary cluster's and those above the threshold, made to add up to 1; else 0."""
        weights = self.weights(table)
        if weights.shape[1] == 1:
            return weights
        nearest: np.ndarray = np.argmax(weights, axis=1).reshape(-1, 1)
        keep: np.ndarray = np.equal(nearest, np.arange(weights.shape[1])) | (weights >= self.layer.membership_threshold)
        kept = np.where(keep, weights, 0.0)
        result: np.ndarray = kept / _row_sums(kept)[:, None]
        return result

    def to_json(self) -> dict[str, Any]:
        plain = ("stage", "centres", "cuts", "letters", "names", "letters_used", "sizes")
        stored = {name: getattr(self, name) for name in plain}
        return {
            **stored,
            "layer": asdict(self.layer),
            "rules": [asdict(rule) for rule in self.rules],
            "columns": [preparation.to_json(column) for column in self.columns],
            "evidence": [[asdict(one) for one in found] for found in self.evidence],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        plain = {name: tuple(stored[name]) for name in ("cuts", "letters", "names", "letters_used", "sizes")}
        return cls(
            stage=stored["stage"],
            layer=_layer_spec(stored["layer"]),
            columns=tuple(preparation.from_json(column) for column in stored["columns"]),
            centres=tuple(tuple(centre) for centre in stored["centres"]),
            rules=tuple(LayerRule(**rule) for rule in stored["rules"]),
            evidence=tuple(tuple(Difference(**one) for one in found) for found in stored["evidence"]),
            **plain,
        )


@dataclass(frozen=True)
class LayerModels:
    """The layers of every stage, fitted on one day. A stage without a fit has one cluster, A, in each of its layers."""

    layers: tuple[LayerSpec, ...]
    models: tuple[LayerModel, ...]
    fitted_on: date

    def of(self, stage: str, layer: LayerSpec) -> LayerModel:
        for model in self.models:
            if model.stage == stage and model.layer.name == layer.name:
                return model
        return LayerModel(stage, layer)

    def save(self, folder: Path) -> None:
        stored = {
            "fitted_on": self.fitted_on.isoformat(),
            "layers": [asdict(layer) for layer in self.layers],
            "models": [model.to_json() for model in self.models],
        }
        (folder / "layers.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        stored = json.loads((folder / "layers.json").read_text(encoding="utf-8"))
        return cls(
            layers=tuple(_layer_spec(layer) for layer in stored["layers"]),
            models=tuple(LayerModel.from_json(model) for model in stored["models"]),
            fitted_on=date.fromisoformat(stored["fitted_on"]),
        )

    def names(self) -> Names:
        """The name of every micro-segment and prefix, by its string."""
        return Names(
            {
                (model.stage, f"{model.layer.name}.{given}"): "" if len(model.letters) == 1 else name
                for model in self.models
                for given, name in zip(model.letters, model.names, strict=True)
            }
        )

    def evidence(self) -> pd.DataFrame:
        """What sets each cluster apart: stage, layer, cluster, name, customers, feature, value, difference, means."""
        import pandas as pd

        rows = [
            {"stage": model.stage, "layer": model.layer.name, "cluster": given, "cluster_name": name, "customers": size}
            | asdict(one)
            for model in self.models
            for given, name, size, found in zip(model.letters, model.names, model.sizes, model.evidence, strict=False)
            for one in found
        ]
        names = ["stage", "layer", "cluster", "cluster_name", "customers", *Difference.__dataclass_fields__]
        return pd.DataFrame(rows, columns=names)

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """The primary micro-segment of each row.

        Parameters
        ----------
        features : the snapshot's columns, ``stage`` and `customer_value`'s columns; those that no layer uses may lack

        Returns
        -------
        With the index of `features`: customer_id (if given), stage, micro_segment, micro_segment_id, name.

        Raises
        ------
        ValueError
            If there is no column ``stage``.
        """
        import pandas as pd

        if "stage" not in features.columns:
            raise ValueError(
                "layers are cut inside a stage: add a column 'stage' to the frame, as the lifecycle model predicts it"
            )
        table = pa.Table.from_pandas(features.reset_index(drop=True), preserve_index=False)
        table = _with_derived(table)
        stages = np.array(features["stage"].astype(str), dtype=object)
        text = stages.copy()
        for stage in sorted(set(stages)):
            rows = np.flatnonzero(stages == stage)
            part = table.take(pa.array(rows))
            for layer in self.layers:
                if layer.applies_to(stage):
                    model = self.of(stage, layer)
                    found = np.array([f"/{layer.name}.{given}" for given in model.letters], dtype=object)
                    text[rows] = text[rows] + found[model.assign(part)]
        names = self.names()
        result = {"customer_id": features["customer_id"].to_numpy()} if "customer_id" in features.columns else {}
        return pd.DataFrame(
            result
            | {
                "stage": stages,
                "micro_segment": text,
                "micro_segment_id": [micro_segment_id(one) for one in text],
                "name": [names[one] for one in text],
            },
            index=features.index,
        )


def layer_inputs(engine: Engine, features: pa.Table, value: pa.Table, stages: pa.Table) -> pa.Table:
    """The columns that a layer, an audience or a profile may use, by day and customer.

    Parameters
    ----------
    features, value, stages : with customer_id and day; one row per customer and day in each

    Returns
    -------
    Every column of `features`, then spend_trend_28d, ltv, p_alive, expected_orders, expected_spend, stage, sub_stage.
    """
    own = [exp.column(name, "features", quoted=True) for name in features.column_names]
    query = (
        exp.select(*own)
        .select(*(exp.alias_(exp.maybe_parse(sql, dialect="duckdb"), name) for name, sql in DERIVED.items()))
        .select(*(exp.column(name, "value_of") for name in VALUE_COLUMNS))
        .select(*(exp.column(name, "stages") for name in STAGE_COLUMNS))
        .from_("features")
        .join("value_of", on="value_of.customer_id = features.customer_id AND value_of.day = features.day")
        .join("stages", on="stages.customer_id = features.customer_id AND stages.day = features.day")
        .order_by("features.day", "features.customer_id")
    )
    return engine.query(
        query.sql("duckdb"),
        features=features,
        value_of=value.select(["customer_id", "day", *VALUE_COLUMNS]),
        stages=stages.select(["customer_id", "day", *STAGE_COLUMNS]),
    )


def assign(inputs: pa.Table, model: LayerModels | None) -> pa.Table:
    """The clusters of each customer and day in each layer of its stage.

    Parameters
    ----------
    inputs : `layer_inputs`, of any days
    model : the layers in force; None gives no rows

    Returns
    -------
    customer_id, day and the columns of `layer_assignments`, by day, customer, layer in the project's order, cluster.
    """
    schema = tables.LAYER_ASSIGNMENTS.schema().insert(1, pa.field("day", pa.date32()))
    if model is None or not inputs.num_rows:
        return schema.empty_table()
    inputs = _in_order(inputs)
    stage_codes = inputs["stage"].combine_chunks().dictionary_encode()
    if isinstance(stage_codes, pa.ChunkedArray):
        stage_codes = stage_codes.combine_chunks()
    places = stage_codes.indices.to_numpy(zero_copy_only=False)
    rows, layers, clusters, weights, primary = [], [], [], [], []
    letters: dict[str, int] = {}
    names: dict[str, int] = {}
    letter_codes, name_codes = [], []
    needed = [name for name in inputs.column_names if name not in ("customer_id", "day", "stage")]
    used = {feature for layer in model.layers for feature in layer.present(needed)}
    ruled = any(layer.method == "rules" for layer in model.layers)
    data = inputs if ruled else inputs.select([name for name in inputs.column_names if name in used])
    for code, stage in enumerate(stage_codes.dictionary.to_pylist()):
        here = np.flatnonzero(places == code)
        part = data.take(pa.array(here))
        if not data.num_columns:
            part = inputs.select(["customer_id"]).take(pa.array(here))
        for position, layer in enumerate(model.layers):
            if not layer.applies_to(stage):
                continue
            fitted = model.of(stage, layer)
            member = fitted.memberships(part)
            first = np.argmax(member, axis=1)
            for place, (given, name) in enumerate(zip(fitted.letters, fitted.names, strict=True)):
                belongs = np.flatnonzero(member[:, place] > 0)
                rows.append(here[belongs])
                layers.append(np.full(len(belongs), position))
                clusters.append(np.full(len(belongs), place))
                weights.append(member[belongs, place])
                primary.append(first[belongs] == place)
                letter_codes.append(np.full(len(belongs), letters.setdefault(given, len(letters)), dtype=np.int32))
                name_codes.append(np.full(len(belongs), names.setdefault(name, len(names)), dtype=np.int32))
    if not rows:
        return schema.empty_table()
    row, layer_codes = np.concatenate(rows), np.concatenate(layers)
    order = np.argsort((row * len(model.layers) + layer_codes) * 1000 + np.concatenate(clusters), kind="stable")
    taken = pa.array(row[order])

    def words(codes: np.ndarray, values: Sequence[str]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes[order], pa.int32()), pa.array(values, pa.string())).cast(
            pa.string()
        )

    return pa.table(
        {
            "customer_id": inputs["customer_id"].combine_chunks().take(taken),
            "day": inputs["day"].combine_chunks().take(taken),
            "layer": words(layer_codes, [layer.name for layer in model.layers]),
            "cluster": words(np.concatenate(letter_codes), list(letters)),
            "cluster_name": words(np.concatenate(name_codes), list(names)),
            "weight": pa.array(np.concatenate(weights)[order], pa.float64()),
            "is_primary": pa.array(np.concatenate(primary)[order], pa.bool_()),
        }
    ).cast(schema)


def fit_layers(inputs: pa.Table, spec: SegmentSpec, incumbent: LayerModels | None) -> LayerModels:
    """Fit every layer in every stage on one day's inputs.

    Parameters
    ----------
    inputs : `layer_inputs` of a single day (or a sample of it)
    incumbent : the layers in force, whose clusters are continued
    """
    inputs = _in_order(inputs)
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


# ── methods ───────────────────────────────────────────────────────────────────────────────────────────────────────


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
    places = _rule_places(model.layer.rules, table)
    return replace(
        model,
        rules=model.layer.rules,
        letters=tuple(letters),
        names=tuple(names),
        letters_used=tuple(dict.fromkeys([*used, *letters])),
        sizes=tuple(int(size) for size in np.bincount(places, minlength=len(names))),
    )


def _rule_places(layer_rules: Sequence[LayerRule], table: pa.Table) -> np.ndarray:
    """The place of the first rule that holds for each row; after the last if none does."""
    if not table.num_rows:
        return np.zeros(0, dtype=int)
    columns = table.column_names
    case = exp.Case()
    for place, rule in enumerate(layer_rules):
        case = case.when(rules.scalar(rule.when, columns), exp.Literal.number(place))
    case = case.else_(exp.Literal.number(len(layer_rules)))
    numbered = table.append_column("row_place", pa.array(np.arange(table.num_rows)))
    query = exp.select("row_place", exp.alias_(case, "place")).from_("inputs").order_by("row_place")
    found = DuckDB().query(query.sql("duckdb"), inputs=numbered)
    return found["place"].to_numpy().astype(int)


# ── identity and names ────────────────────────────────────────────────────────────────────────────────────────────


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


def matched_letters(old: np.ndarray, old_letters: Sequence[str], new: np.ndarray, count: int) -> list[str]:
    """For each of `count` new clusters the letter of the old one it continues, or an empty text.

    The assignment that keeps most customers under their letter (Hungarian algorithm); a pair without a shared customer
    continues nothing.

    Parameters
    ----------
    old, new : place of each customer's cluster before and after, shape (n,)
    """
    from scipy.optimize import linear_sum_assignment

    shared = np.zeros((len(old_letters), count))
    np.add.at(shared, (old, new), 1)
    found = [""] * count
    for before, after in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        if shared[before, after] > 0:
            found[after] = old_letters[before]
    return found


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


# ── small parts ───────────────────────────────────────────────────────────────────────────────────────────────────


def _squared_distance(prepared: Sequence[np.ndarray], centre: Sequence[float]) -> np.ndarray:
    total = np.zeros(len(prepared[0]))
    for column, at in zip(prepared, centre, strict=True):
        away = column - at
        total += away * away
    return total


def _row_sums(values: np.ndarray) -> np.ndarray:
    total = np.zeros(len(values))
    for number in range(values.shape[1]):
        total += values[:, number]
    return total


def _in_order(inputs: pa.Table) -> pa.Table:
    """By day and customer; a table that already is stays as it is."""
    if inputs.num_rows > 1:
        day, who = inputs["day"], inputs["customer_id"]
        earlier, later = day.slice(0, len(day) - 1), day.slice(1)
        rising = pc.or_(
            pc.less(earlier, later),
            pc.and_(pc.equal(earlier, later), pc.less(who.slice(0, len(who) - 1), who.slice(1))),
        )
        if not pc.all(rising).as_py():
            return inputs.sort_by([("day", "ascending"), ("customer_id", "ascending")])
    return inputs


def _with_derived(table: pa.Table) -> pa.Table:
    """The derived columns beside the others, where what they are made of is there."""
    there = set(table.column_names)
    wanted = {name: sql for name, sql in DERIVED.items() if name not in there and _columns_of(sql) <= there}
    if not wanted:
        return table
    numbered = table.append_column("row_place", pa.array(np.arange(table.num_rows)))
    query = (
        exp.select(*(exp.alias_(exp.maybe_parse(sql, dialect="duckdb"), name) for name, sql in wanted.items()))
        .from_("inputs")
        .order_by("row_place")
    )
    found = DuckDB().query(query.sql("duckdb"), inputs=numbered)
    for name in wanted:
        table = table.append_column(name, found[name])
    return table


def _columns_of(sql: str) -> set[str]:
    tree: exp.Expression = exp.maybe_parse(sql, dialect="duckdb")
    return {column.name for column in tree.find_all(exp.Column)}


def _layer_spec(stored: Mapping[str, Any]) -> LayerSpec:
    fields = dict(stored)
    fields["rules"] = tuple(LayerRule(**rule) for rule in fields.get("rules", ()))
    for name in ("features", "stages"):
        fields[name] = tuple(fields[name])
    return LayerSpec(**fields)

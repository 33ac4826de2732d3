"""Layers: what the clusters of each stage and layer are, and who belongs to them.

Belongs here: fitted layers, and applying them to snapshots. Does not belong here: fitting one (see `fitting`), whether
a refit replaces what is in force (see `training`), and the memberships of those in between (see `micro_segments`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache
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
from ml.segments.names import ALIKE, Difference, Names
from ml.segments.specs import DERIVED, STAGE_COLUMNS, VALUE_COLUMNS, LayerRule, LayerSpec

if TYPE_CHECKING:
    import pandas as pd


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
            return np.eye(len(self.letters))[rule_places(self.rules, table)]
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
        """The layer as it was fitted in the stage; a single cluster where it was not."""
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
        stages = pa.array(features["stage"].astype(str).tolist(), pa.string())
        table = _with_derived(table.set_column(table.column_names.index("stage"), "stage", stages))
        found = primary_strings(table, self, self.layers)
        names = self.names()
        result = {"customer_id": features["customer_id"].to_numpy()} if "customer_id" in features.columns else {}
        return pd.DataFrame(
            result
            | {
                "stage": stages.to_pylist(),
                "micro_segment": found["micro_segment"].to_pylist(),
                "micro_segment_id": found["micro_segment_id"].to_pylist(),
                "name": [names[one] for one in found["micro_segment"].to_pylist()],
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
    return engine.query(
        _inputs_sql(tuple(features.column_names)),
        features=features,
        value_of=value.select(["customer_id", "day", *VALUE_COLUMNS]),
        stages=stages.select(["customer_id", "day", *STAGE_COLUMNS]),
    )


@cache
def _inputs_sql(features: tuple[str, ...]) -> str:
    return (
        exp.select(*(exp.column(name, "features", quoted=True) for name in features))
        .select(*(exp.alias_(exp.maybe_parse(sql, dialect="duckdb"), name) for name, sql in DERIVED.items()))
        .select(*(exp.column(name, "value_of") for name in VALUE_COLUMNS))
        .select(*(exp.column(name, "stages") for name in STAGE_COLUMNS))
        .from_("features")
        .join("value_of", on="value_of.customer_id = features.customer_id AND value_of.day = features.day")
        .join("stages", on="stages.customer_id = features.customer_id AND stages.day = features.day")
        .order_by("features.day", "features.customer_id")
        .sql("duckdb")
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
    inputs = in_order(inputs)
    letters, names = _Words(), _Words()
    parts = []
    for stage, here, data in _stages(inputs, model):
        for position, layer in enumerate(model.layers):
            if layer.applies_to(stage):
                fitted = model.of(stage, layer)
                member = fitted.memberships(data)
                row, cluster = np.nonzero(member)
                is_first = np.argmax(member, axis=1)[row] == cluster
                letter, name = letters.codes(fitted.letters)[cluster], names.codes(fitted.names)[cluster]
                layer_code = np.full(len(row), position)
                parts.append((here[row], layer_code, cluster, member[row, cluster], is_first, letter, name))
    if not parts:
        return schema.empty_table()
    rows, layers, clusters, weights, is_primary, letter, name = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    order = np.lexsort((clusters, layers, rows))
    taken = pa.array(rows[order])
    return pa.table(
        {
            "customer_id": inputs["customer_id"].combine_chunks().take(taken),
            "day": inputs["day"].combine_chunks().take(taken),
            "layer": spelt(layers[order], [layer.name for layer in model.layers]),
            "cluster": spelt(letter[order], list(letters)),
            "cluster_name": spelt(name[order], list(names)),
            "weight": pa.array(weights[order], pa.float64()),
            "is_primary": pa.array(is_primary[order], pa.bool_()),
        }
    ).cast(schema)


def primary_strings(inputs: pa.Table, model: LayerModels | None, layers: Sequence[LayerSpec]) -> pa.Table:
    """The primary micro-segment of each row: what `micro_segments` says of it, without those it also leans to.

    Parameters
    ----------
    inputs : with `stage` and the columns that the layers use
    model : the layers in force; None makes the stage the whole string
    layers : which layers stand in the string, in order

    Returns
    -------
    micro_segment and micro_segment_id, one row per row of `inputs`.
    """
    model = model or LayerModels((), (), date.min)
    texts = _Words()
    code = np.zeros(inputs.num_rows, dtype=np.int64)
    for stage, here, data in _stages(inputs, model):
        known = {layer.name: layer for layer in model.layers if layer.applies_to(stage)}
        path, found = np.zeros(len(here), dtype=np.int64), np.array([stage], dtype=object)
        for layer in (known[layer.name] for layer in layers if layer.name in known):
            fitted = model.of(stage, layer)
            longer = path * len(fitted.letters) + fitted.assign(data)
            used, path = np.unique(longer, return_inverse=True)
            before, cluster = np.divmod(used, len(fitted.letters))
            found = found[before] + np.array([f"/{layer.name}.{one}" for one in fitted.letters], dtype=object)[cluster]
        code[here] = texts.codes(found)[path]
    strings = list(texts)
    return pa.table(
        {"micro_segment": spelt(code, strings), "micro_segment_id": spelt(code, [micro_segment_id(t) for t in strings])}
    )


class _Words(dict[str, int]):
    """Words and the codes they were given, in the order in which they were met."""

    def codes(self, words: Iterable[str]) -> np.ndarray:
        return np.array([self.setdefault(word, len(self)) for word in words], dtype=np.int32)


def spelt(codes: np.ndarray, words: Sequence[str]) -> pa.Array:
    """The word of each code."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(words, pa.string())).cast(pa.string())


def _stages(inputs: pa.Table, model: LayerModels) -> Iterator[tuple[str, np.ndarray, pa.Table]]:
    """Each stage, its rows' places, and the columns of these rows that the layers may look at."""
    coded = inputs["stage"].combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    needed = {name for layer in model.layers for name in layer.present(inputs.column_names)} | {"stage"}
    is_ruled = any(layer.method == "rules" for layer in model.layers)  # a rule may use any column
    data = inputs.select([name for name in inputs.column_names if is_ruled or name in needed])
    places = coded.indices.to_numpy(zero_copy_only=False)
    for code, stage in enumerate(coded.dictionary.to_pylist()):
        here = np.flatnonzero(places == code)
        yield stage, here, data.take(pa.array(here))


def rule_places(layer_rules: Sequence[LayerRule], table: pa.Table) -> np.ndarray:
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


def in_order(inputs: pa.Table) -> pa.Table:
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

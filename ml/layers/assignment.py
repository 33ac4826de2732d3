"""The clusters of each customer and day, damped at borders by the weeks before.

Belongs here: applying fitted layers to snapshots. Does not belong here: the clusters (see `layer_model`), and how they
become strings with weights (see `micro_segments`).

A customer who is clearly nearer to one cluster than to any other is in it at once. Any other customer stays in the
cluster that the last four weeks support most. One day of each week is evidence, and a customer is assumed to leave its
cluster with a small probability a week (a hidden Markov model with sticky states, filtered forwards; Rabiner 1989,
§III.A). Today then counts if it is clear, as if that cluster had been certain. The clusters are those of today's stage
on all of these days.

Each customer has a fixed weekday, drawn from its id, and its last four before the day are evidence. So a customer's
evidence is the same for seven days, which keeps it in place from day to day, and each day renews the evidence of a
seventh of all customers: no weekday has more moves than another. (At fixed distances of 7, 14, 21 and 28 days, evidence
would change daily, and more than twice as many moves would be undone.)

A day needs no stored assignment: features of earlier days follow from accepted rows, their value from the model in
force today (see `ml.restate.past`). It does not matter which days were published before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import tables
from ml.layers.inputs import columns_of, sort_inputs, with_derived
from ml.layers.layer_model import LayerModel, likelihoods, shares_of_rows
from ml.layers.specs import DERIVED, VALUE_COLUMNS, LayerSpec
from ml.layers.strings import micro_segment_id

# From pairs of customer and day to the inputs of each by the end of the day, one row each, in the order of the pairs.
# The pairs are ordered by day and customer; their column `is_valued` is whether the value model's columns are needed.
History: TypeAlias = Callable[[pa.Table], pa.Table]

LOOKBACK_WEEKS = 4  # weeks before the day, one day of each


class Layers(Protocol):
    """The fitted layers of every stage, as far as assigning customers needs them (see `ml.layers.layer_models`)."""

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """The project's layers, in the order of the string."""
        ...

    @property
    def off(self) -> tuple[str, ...]:
        """Layers without data, which are left out of every string."""
        ...

    def of(self, stage: str, layer: LayerSpec) -> LayerModel:
        """The layer as it was fitted in the stage; a single cluster where it was not."""
        ...


def assign(inputs: pa.Table, model: Layers | None, history: History | None = None) -> pa.Table:
    """Assign each customer and day to clusters, in each layer of its stage.

    Parameters
    ----------
    inputs : pyarrow.Table
        `layer_inputs`, of any days.
    model : LayerModels or None
        The layers in force; None gives no rows.
    history : History, optional
        Looks up inputs of earlier days (`ml.restate.past`), for customers at a border; without it nothing is damped.

    Returns
    -------
    pyarrow.Table
        Customer_id, day and the columns of `layer_assignments`, by day, customer, layer in the project's order,
        cluster.

    Examples
    --------
    >>> from ml.layers import LayerModels, LayerRule
    >>> value = LayerSpec("value", method="rules", rules=(LayerRule("big", "spend_90d >= 100"),))
    >>> fitted = LayerModel("active", value, rules=value.rules, letters=("A", "B"), names=("big", "others"))
    >>> model = LayerModels((value,), (fitted,), date(2024, 3, 1))
    >>> keys = {"customer_id": ["c1", "c2"], "day": [date(2024, 3, 1)] * 2, "stage": ["active"] * 2}
    >>> inputs = pa.table({**keys, "spend_90d": [250.0, 10.0]})
    >>> assign(inputs, model).select(["customer_id", "layer", "cluster", "cluster_name"]).to_pylist()[0]
    {'customer_id': 'c1', 'layer': 'value', 'cluster': 'A', 'cluster_name': 'big'}
    """
    schema = tables.LAYER_ASSIGNMENTS.schema().insert(1, pa.field("day", pa.date32()))
    if model is None or not inputs.num_rows:
        return schema.empty_table()
    inputs = sort_inputs(inputs)
    letters, names = _Codes(), _Codes()
    parts = []
    for part in _assigned_parts(inputs, model, history):
        member = part.fitted.memberships_at(part.distances, part.clusters)
        row, cluster = np.nonzero(member)
        letter, name = letters.codes(part.fitted.letters)[cluster], names.codes(part.fitted.names)[cluster]
        layer = np.full(len(row), part.position, dtype=np.int8)
        is_primary = cluster == part.clusters[row]
        parts.append((part.rows[row], layer, cluster.astype(np.int8), member[row, cluster], is_primary, letter, name))
    if not parts:
        return schema.empty_table()
    rows, layers, clusters, weights, is_primary, letter, name = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    width = len(model.layers) * 256
    order = np.argsort(rows * width + layers.astype(np.int64) * 256 + clusters, kind="stable")
    indices = pa.array(rows[order])
    return pa.table(
        {
            "customer_id": inputs["customer_id"].combine_chunks().take(indices),
            "day": inputs["day"].combine_chunks().take(indices),
            "layer": decoded(layers[order], [layer.name for layer in model.layers]),
            "cluster": decoded(letter[order], list(letters)),
            "cluster_name": decoded(name[order], list(names)),
            "weight": pa.array(weights[order], pa.float64()),
            "is_primary": pa.array(is_primary[order], pa.bool_()),
        }
    ).cast(schema)


def primary_strings(
    inputs: pa.Table, model: Layers | None, layers: Sequence[LayerSpec], history: History | None = None
) -> pa.Table:
    """The primary micro-segment of each row, as in `micro_segments`, without secondary ones.

    Parameters
    ----------
    inputs : pyarrow.Table
        With `stage` and the columns that the layers use; with a history also customer_id and day.
    model : LayerModels or None
        The layers in force; None makes the stage the whole string.
    layers : Sequence of LayerSpec
        Layers of the string, in order.
    history : History, optional
        As in `assign`.

    Returns
    -------
    pyarrow.Table
        micro_segment and micro_segment_id, one row per row of `inputs`.
    """
    stages = inputs["stage"].combine_chunks().dictionary_encode()
    stages = stages.combine_chunks() if isinstance(stages, pa.ChunkedArray) else stages
    strings = np.array(stages.dictionary.to_pylist(), dtype=object)
    codes = stages.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    position = {layer.name: number for number, layer in enumerate(layers)}
    if model is not None:
        parts = [part for part in _assigned_parts(inputs, model, history) if part.layer.name in position]
        # Within a stage, parts follow the order of the string.
        for part in sorted(parts, key=lambda part: position[part.layer.name]):
            pair_codes = codes[part.rows] * len(part.fitted.letters) + part.clusters
            pairs, string = np.unique(pair_codes, return_inverse=True)
            prefix, cluster = np.divmod(pairs, len(part.fitted.letters))
            suffixes = np.array([f"/{part.layer.name}.{letter}" for letter in part.fitted.letters], dtype=object)
            codes[part.rows] = string + len(strings)
            strings = np.concatenate([strings, strings[prefix] + suffixes[cluster]])
    values = list(strings)
    ids = [micro_segment_id(text) for text in values]
    return pa.table({"micro_segment": decoded(codes, values), "micro_segment_id": decoded(codes, ids)})


# ── placing ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Part:
    """One stage's rows in one layer: their numbers in the table, distances to the clusters, and primary clusters."""

    layer: LayerSpec
    position: int
    fitted: LayerModel
    rows: np.ndarray
    distances: np.ndarray
    clusters: np.ndarray

    @property
    def uses_value(self) -> bool:
        """Whether the clusters use columns of the value model."""
        return any(column.feature in VALUE_COLUMNS for column in self.fitted.columns)

    @property
    def switch_margin(self) -> float:
        """How much nearer than its own another cluster must be for a customer to move by today's evidence alone.

        It is as much as outweighs the certainty that the customer stayed: 2 log((1 − p) / p) in squared distance, where
        p is the probability of a switch. Going to a small natural cluster takes more than that, staying in one does
        not.
        """
        return float(2 * np.log(1 / self.layer.weekly_switch_probability - 1))

    def unclear(self) -> np.ndarray:
        """Indices into `rows` of those whose earlier weeks may matter."""
        if self.distances.shape[1] == 1 or self.fitted.rules or self.switch_margin <= 0:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero((self.distances <= self.max_stay_distance(self.distances)[:, None]).sum(axis=1) > 1)

    def max_stay_distance(self, distances: np.ndarray) -> np.ndarray:
        """Squared distance up to which each row stays in a cluster that it was in."""
        share_offsets = self.fitted.share_offsets
        result: np.ndarray = (distances + (share_offsets - share_offsets.min())).min(axis=1) + self.switch_margin
        return result


def _assigned_parts(inputs: pa.Table, model: Layers, history: History | None) -> list[_Part]:
    parts = []
    for stage, stage_rows, data in _rows_by_stage(inputs, model):
        for position, layer in enumerate(model.layers):
            if layer.applies_to(stage) and layer.name not in model.off:
                fitted = model.of(stage, layer)
                distances = fitted.distances(data)
                parts.append(_Part(layer, position, fitted, stage_rows, distances, fitted.clusters_at(distances)))
    if history is None or not parts:
        return parts
    unclear = {number: rows for number, part in enumerate(parts) if len(rows := part.unclear())}
    is_unclear = np.zeros(inputs.num_rows, dtype=bool)
    for number, rows in unclear.items():
        is_unclear[parts[number].rows[rows]] = True
    is_valued = np.zeros(inputs.num_rows, dtype=bool)
    for number, rows in unclear.items():
        if parts[number].uses_value:
            is_valued[parts[number].rows[rows]] = True
    if is_unclear.any():
        earlier = _Earlier.of(inputs, np.flatnonzero(is_unclear), is_valued, history)
        for number, rows in unclear.items():
            _damp(parts[number], rows, earlier, inputs)
    return parts


def _damp(part: _Part, rows: np.ndarray, earlier: _Earlier, inputs: pa.Table) -> None:
    """Let rows whose cluster is unclear stay where they were in the weeks before."""
    fitted = part.fitted
    columns = part.layer.present(inputs.column_names)
    shares = np.array(fitted.shares) if fitted.shares else np.full(len(fitted.letters), 1 / len(fitted.letters))
    switch_probability = part.layer.weekly_switch_probability
    belief, is_known = np.tile(shares, (len(rows), 1)), np.zeros(len(rows), dtype=bool)
    for number in range(len(earlier.positions)):
        known, data = earlier.rows(number, part.rows[rows], columns, part.uses_value)
        likelihood = likelihoods(fitted.distances(data))
        prior = (1 - switch_probability) * belief[known] + switch_probability * shares
        belief[known] = shares_of_rows(prior * likelihood)
        is_known[known] = True
    earlier_clusters = np.argmax(belief, axis=1)
    distances = part.distances[rows]
    stays = is_known & (distances[np.arange(len(rows)), earlier_clusters] <= part.max_stay_distance(distances))
    part.clusters[rows] = np.where(stays, earlier_clusters, part.clusters[rows])


@dataclass
class _Earlier:
    """Inputs of some rows' customers on their weekdays before the row's day.

    `positions` : for each week, the oldest first, and each row of the inputs its row in `known`, or −1
    """

    known: pa.Table
    positions: np.ndarray

    @cached_property
    def is_valued(self) -> np.ndarray:
        """Which rows of `known` have a value, shape (n,); all of them if no value was requested."""
        values = [self.known[name] for name in VALUE_COLUMNS if name in self.known.column_names]
        valued = [column.is_valid().to_numpy() for column in values]
        result: np.ndarray = np.logical_and.reduce(valued) if valued else np.ones(self.known.num_rows, dtype=bool)
        return result

    @classmethod
    def of(cls, inputs: pa.Table, rows: np.ndarray, is_valued: np.ndarray, history: History) -> _Earlier:
        """Query the history once for all `rows`, with value columns for those in the mask `is_valued`."""
        days = inputs["day"].to_numpy().astype("datetime64[D]").astype(np.int64)[rows]
        customers = inputs["customer_id"].combine_chunks()
        codes = _ranks(customers)[rows]
        earlier_days = _days_on_weekday(days, _weekday_of_customer(customers.take(pa.array(rows)), codes))
        was_known = (days - earlier_days <= _known_days(inputs)[rows]) & (earlier_days >= 0)
        keys = np.where(was_known, earlier_days * len(customers) + codes, -1)
        unique_keys, inverse = np.unique(keys, return_inverse=True)
        inverse = inverse.reshape(keys.shape)
        n_missing = int(len(unique_keys) > 0 and unique_keys[0] == -1)
        row_of_pair = np.zeros(len(unique_keys), dtype=np.int64)
        row_of_pair[inverse.ravel()] = np.tile(np.arange(len(rows)), len(earlier_days))
        weights = np.tile(is_valued[rows], len(earlier_days))
        valued = np.bincount(inverse.ravel(), weights, minlength=len(unique_keys)) > 0
        pairs = pa.table(
            {
                "customer_id": customers.take(pa.array(rows[row_of_pair[n_missing:]])),
                "day": pa.array((unique_keys[n_missing:] // len(customers)).astype("datetime64[D]"), pa.date32()),
                "is_valued": pa.array(valued[n_missing:]),
            }
        )
        known = history(pairs) if pairs.num_rows else pairs
        if known.num_rows != pairs.num_rows:
            raise ValueError(f"the history has {known.num_rows} rows for {pairs.num_rows} pairs of customer and day")
        positions = np.full((len(earlier_days), inputs.num_rows), -1, dtype=np.int64)
        positions[:, rows] = inverse - n_missing
        return cls(with_derived(known), positions)

    def rows(
        self, number: int, rows: np.ndarray, columns: Sequence[str], uses_value: bool
    ) -> tuple[np.ndarray, pa.Table]:
        """Which of some input rows were known in that week (and valued, if needed), and their columns as of then."""
        positions = self.positions[number, rows]
        known = np.flatnonzero(positions >= 0)
        if uses_value:
            known = known[self.is_valued[positions[known]]]
        data = self.known.select([name for name in columns if name in self.known.column_names])
        return known, data.take(pa.array(positions[known]))


def history_columns(model: Layers | None, names: Sequence[str]) -> tuple[list[str], bool]:
    """List the columns of a snapshot that damping uses.

    Parameters
    ----------
    model : LayerModels or None
        The layers in force.
    names : Sequence of str
        The snapshot's columns.

    Returns
    -------
    columns : list of str
        Those of `names` that damping uses.
    uses_value : bool
        Whether it uses the value model's columns as well.

    Examples
    --------
    >>> from ml.layers import LayerModels
    >>> model = LayerModels((LayerSpec("value", ("ltv", "spend_90d")),), (), date(2024, 3, 1))
    >>> history_columns(model, ["customer_id", "orders_90d", "spend_90d"])
    (['spend_90d'], True)
    """
    if model is None:
        return [], False
    layers = [layer for layer in model.layers if layer.name not in model.off]
    used = {name for layer in layers for name in layer.present([*names, *VALUE_COLUMNS, *DERIVED])}
    used |= {name for derived in used & set(DERIVED) for name in columns_of(DERIVED[derived])}
    return [name for name in names if name in used], not used.isdisjoint(VALUE_COLUMNS)


def lookback_days(day: date) -> list[date]:
    """The earlier days that a day's assignments use, each for a seventh of the customers, oldest first.

    Parameters
    ----------
    day : date
        Day of the assignments.

    Returns
    -------
    list of date
        The 28 days before.

    Examples
    --------
    >>> days = lookback_days(date(2024, 3, 29))
    >>> days[0], days[-1], len(days)
    (datetime.date(2024, 3, 1), datetime.date(2024, 3, 28), 28)
    """
    return [day - timedelta(days=back) for back in range(7 * LOOKBACK_WEEKS, 0, -1)]


def _days_on_weekday(days: np.ndarray, weekdays: np.ndarray) -> np.ndarray:
    """The earlier days that an assignment uses, as days since 1970, oldest first; shape (weeks, n).

    Parameters
    ----------
    days : of the assignments, shape (n,)
    weekdays : each customer's weekday, as the remainder of its days by 7, shape (n,)
    """
    last_day = (days - 1 - weekdays) // 7 * 7 + weekdays
    return np.stack([last_day - 7 * back for back in range(LOOKBACK_WEEKS - 1, -1, -1)])


def _weekday_of_customer(customers: pa.Array, codes: np.ndarray) -> np.ndarray:
    """The weekday of each row's customer, 0 to 6, from a hash of its id, so that it never changes.

    Parameters
    ----------
    codes : the same number for the same customer
    """
    from pandas.util import hash_array

    _, first, row = np.unique(codes, return_index=True, return_inverse=True)
    ids = customers.take(pa.array(first)).to_numpy(zero_copy_only=False).astype(object)
    result: np.ndarray = (hash_array(ids, categorize=False) % 7).astype(np.int64)[row]
    return result


def _known_days(inputs: pa.Table) -> np.ndarray:
    if "known_days" not in inputs.column_names:
        return np.full(inputs.num_rows, 10**6)
    return np.asarray(inputs["known_days"].fill_null(0).to_numpy()).astype(np.int64)


def _ranks(customers: pa.Array) -> np.ndarray:
    """A number for each customer, in the order of ids."""
    if len(customers) < 2 or pc.all(pc.less(customers[:-1], customers[1:])).as_py():
        return np.arange(len(customers))
    coded = customers.dictionary_encode()
    rank = np.empty(len(coded.dictionary), dtype=np.int64)
    rank[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(rank))
    result: np.ndarray = rank[coded.indices.to_numpy(zero_copy_only=False)]
    return result


def _rows_by_stage(inputs: pa.Table, model: Layers) -> Iterator[tuple[str, np.ndarray, pa.Table]]:
    """Each stage, its row numbers, and the columns of these rows that the layers may use."""
    encoded = inputs["stage"].combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    needed = {name for layer in model.layers for name in layer.present(inputs.column_names)} | {"stage"}
    is_ruled = any(layer.method == "rules" for layer in model.layers)  # a rule may use any column
    data = inputs.select([name for name in inputs.column_names if is_ruled or name in needed]).combine_chunks()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    for code, stage in enumerate(encoded.dictionary.to_pylist()):
        rows = np.flatnonzero(codes == code)
        yield stage, rows, data.take(pa.array(rows))


class _Codes(dict[str, int]):
    """Words and their codes, in order of first appearance."""

    def codes(self, words: Iterable[str]) -> np.ndarray:
        return np.array([self.setdefault(word, len(self)) for word in words], dtype=np.int32)


def decoded(codes: np.ndarray, words: Sequence[str]) -> pa.Array:
    """The word of each code."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(words, pa.string())).cast(pa.string())

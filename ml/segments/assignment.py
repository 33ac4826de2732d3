"""Placing customers: the clusters of each customer and day, damped at borders by the weeks before.

Belongs here: applying fitted layers to snapshots. Does not belong here: the clusters (see `layer_model`), and how they
become strings with weights (see `micro_segments`).

Whoever lies clearly nearer to a cluster than to any other is in it, at once. Anybody else stays in the cluster that the
last four weeks speak for most: one day of each is evidence, and a customer is taken to leave its cluster with a small
chance a week (a hidden Markov model with sticky states, filtered forwards; Rabiner 1989, §III.A); today then counts if
it is clear, as if that cluster had been certain. The clusters are those of today's stage on all of these days.

Every customer has a weekday of its own, drawn from its id, and is looked at on the last four of them before the day. So
the evidence on a customer is the same for seven days, which keeps it where it is from day to day, and it is renewed on
every weekday for a seventh of all customers: no weekday has more moves than another. (With the same distances back from
every day, 7, 14, 21 and 28 days, the evidence would change daily, and more than twice as many moves would be undone.)

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
from ml.segments.inputs import columns_of, in_order, with_derived
from ml.segments.layer_model import LayerModel, likelihoods, shares_of_rows
from ml.segments.micro_segments import micro_segment_id
from ml.segments.specs import DERIVED, VALUE_COLUMNS, LayerSpec

# From pairs of customer and day to what was known of each by the end of the day: a row each, in the order of the pairs.
# The pairs are ordered by day and customer and have a column `is_valued`: whether the value model's columns are needed.
History: TypeAlias = Callable[[pa.Table], pa.Table]

WEEKS = 4  # how many of a customer's weekdays are looked at


class Layers(Protocol):
    """The fitted layers of every stage, as far as placing customers asks for them (see `ml.segments.layers`)."""

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """The project's, in the order of the string."""
        ...

    @property
    def off(self) -> tuple[str, ...]:
        """Those without data: they do not stand in any string."""
        ...

    def of(self, stage: str, layer: LayerSpec) -> LayerModel:
        """The layer as it was fitted in the stage; a single cluster where it was not."""
        ...


def assign(inputs: pa.Table, model: Layers | None, history: History | None = None) -> pa.Table:
    """The clusters of each customer and day in each layer of its stage.

    Parameters
    ----------
    inputs : `layer_inputs`, of any days
    model : the layers in force; None gives no rows
    history : what was known on earlier days (`ml.restate.past`), asked for those at a border; without it nothing is
        damped

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
    for one in _placed(inputs, model, history):
        member = one.fitted.memberships_at(one.distances, one.place)
        row, cluster = np.nonzero(member)
        letter, name = letters.codes(one.fitted.letters)[cluster], names.codes(one.fitted.names)[cluster]
        layer = np.full(len(row), one.position, dtype=np.int8)
        is_primary = cluster == one.place[row]
        parts.append((one.here[row], layer, cluster.astype(np.int8), member[row, cluster], is_primary, letter, name))
    if not parts:
        return schema.empty_table()
    rows, layers, clusters, weights, is_primary, letter, name = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    width = len(model.layers) * 256
    order = np.argsort(rows * width + layers.astype(np.int64) * 256 + clusters, kind="stable")
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


def primary_strings(
    inputs: pa.Table, model: Layers | None, layers: Sequence[LayerSpec], history: History | None = None
) -> pa.Table:
    """The primary micro-segment of each row: what `micro_segments` says of it, without those it also leans to.

    Parameters
    ----------
    inputs : with `stage` and the columns that the layers use; with a history also customer_id and day
    model : the layers in force; None makes the stage the whole string
    layers : which layers stand in the string, in order
    history : as in `assign`

    Returns
    -------
    micro_segment and micro_segment_id, one row per row of `inputs`.
    """
    stages = inputs["stage"].combine_chunks().dictionary_encode()
    stages = stages.combine_chunks() if isinstance(stages, pa.ChunkedArray) else stages
    texts = np.array(stages.dictionary.to_pylist(), dtype=object)
    code = stages.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    wanted = {layer.name: number for number, layer in enumerate(layers)}
    if model is not None:
        parts = [one for one in _placed(inputs, model, history) if one.layer.name in wanted]
        # Stage by stage, and inside of one in the string's order.
        for one in sorted(parts, key=lambda part: wanted[part.layer.name]):
            longer = code[one.here] * len(one.fitted.letters) + one.place
            used, found = np.unique(longer, return_inverse=True)
            before, cluster = np.divmod(used, len(one.fitted.letters))
            ends = np.array([f"/{one.layer.name}.{given}" for given in one.fitted.letters], dtype=object)
            code[one.here] = found + len(texts)
            texts = np.concatenate([texts, texts[before] + ends[cluster]])
    strings = list(texts)
    return pa.table(
        {"micro_segment": spelt(code, strings), "micro_segment_id": spelt(code, [micro_segment_id(t) for t in strings])}
    )


# ── placing ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class _Part:
    """The rows of one stage in one layer: their places in the table, distances to the clusters, and primary one."""

    layer: LayerSpec
    position: int
    fitted: LayerModel
    here: np.ndarray
    distances: np.ndarray
    place: np.ndarray

    @property
    def uses_value(self) -> bool:
        """Whether the clusters are made of what the value model says."""
        return any(column.feature in VALUE_COLUMNS for column in self.fitted.columns)

    @property
    def reach(self) -> float:
        """How much nearer than its own another cluster must be for a customer to move on today's word alone.

        As much as undoes the certainty that it stayed: 2 log((1 − p) / p) in squared distance, where p is the chance to
        switch. Going to a small natural cluster asks for more than that, staying in one does not.
        """
        return float(2 * np.log(1 / self.layer.weekly_switch_probability - 1))

    def unclear(self) -> np.ndarray:
        """The rows whose weeks before may matter, as places in `here`."""
        if self.distances.shape[1] == 1 or self.fitted.rules or self.reach <= 0:
            return np.zeros(0, dtype=np.int64)
        return np.flatnonzero((self.distances <= self.bound(self.distances)[:, None]).sum(axis=1) > 1)

    def bound(self, distances: np.ndarray) -> np.ndarray:
        """The squared distance up to which each row stays in a cluster that it was in."""
        share_offsets = self.fitted.share_offsets
        result: np.ndarray = (distances + (share_offsets - share_offsets.min())).min(axis=1) + self.reach
        return result


def _placed(inputs: pa.Table, model: Layers, history: History | None) -> list[_Part]:
    parts = []
    for stage, here, data in _stages(inputs, model):
        for position, layer in enumerate(model.layers):
            if layer.applies_to(stage) and layer.name not in model.off:
                fitted = model.of(stage, layer)
                distances = fitted.distances(data)
                parts.append(_Part(layer, position, fitted, here, distances, fitted.clusters_at(distances)))
    if history is None or not parts:
        return parts
    unclear = {number: rows for number, part in enumerate(parts) if len(rows := part.unclear())}
    asked = np.zeros(inputs.num_rows, dtype=bool)
    for number, rows in unclear.items():
        asked[parts[number].here[rows]] = True
    is_valued = np.zeros(inputs.num_rows, dtype=bool)
    for number, rows in unclear.items():
        if parts[number].uses_value:
            is_valued[parts[number].here[rows]] = True
    if asked.any():
        earlier = _Earlier.of(inputs, np.flatnonzero(asked), is_valued, history)
        for number, rows in unclear.items():
            _damp(parts[number], rows, earlier, inputs)
    return parts


def _damp(part: _Part, rows: np.ndarray, earlier: _Earlier, inputs: pa.Table) -> None:
    """Let the rows whose place is unclear stay where they were in the weeks before."""
    fitted = part.fitted
    wanted = part.layer.present(inputs.column_names)
    shares = np.array(fitted.shares) if fitted.shares else np.full(len(fitted.letters), 1 / len(fitted.letters))
    switching = part.layer.weekly_switch_probability
    belief, is_seen = np.tile(shares, (len(rows), 1)), np.zeros(len(rows), dtype=bool)
    for number in range(len(earlier.at)):
        known, data = earlier.rows(number, part.here[rows], wanted, part.uses_value)
        likelihood = likelihoods(fitted.distances(data))
        belief[known] = shares_of_rows(((1 - switching) * belief[known] + switching * shares) * likelihood)
        is_seen[known] = True
    before = np.argmax(belief, axis=1)
    today = part.distances[rows]
    stays = is_seen & (today[np.arange(len(rows)), before] <= part.bound(today))
    part.place[rows] = np.where(stays, before, part.place[rows])


@dataclass
class _Earlier:
    """What was known of some rows' customers on their weekdays before the row's day.

    `at` : for each week, the oldest first, and each row of the inputs the place in `known`, or −1
    """

    known: pa.Table
    at: np.ndarray

    @cached_property
    def is_valued(self) -> np.ndarray:
        """Which rows of `known` have a value, shape (n,); all of them where none is asked for."""
        values = [self.known[name] for name in VALUE_COLUMNS if name in self.known.column_names]
        valued = [column.is_valid().to_numpy() for column in values]
        result: np.ndarray = np.logical_and.reduce(valued) if valued else np.ones(self.known.num_rows, dtype=bool)
        return result

    @classmethod
    def of(cls, inputs: pa.Table, asked: np.ndarray, is_valued: np.ndarray, history: History) -> _Earlier:
        """Ask the history once for all rows in `asked`, with value columns for those in the mask `is_valued`."""
        days = inputs["day"].to_numpy().astype("datetime64[D]").astype(np.int64)[asked]
        customers = inputs["customer_id"].combine_chunks()
        codes = _ranks(customers)[asked]
        looks = _looked_at(days, _own_weekdays(customers.take(pa.array(asked)), codes))
        keys = np.where((days - looks <= _known_days(inputs)[asked]) & (looks >= 0), looks * len(customers) + codes, -1)
        used, place = np.unique(keys, return_inverse=True)
        place = place.reshape(keys.shape)
        first = int(len(used) > 0 and used[0] == -1)
        one_of = np.zeros(len(used), dtype=np.int64)
        one_of[place.ravel()] = np.tile(np.arange(len(asked)), len(looks))
        valued = np.bincount(place.ravel(), np.tile(is_valued[asked], len(looks)), minlength=len(used)) > 0
        pairs = pa.table(
            {
                "customer_id": customers.take(pa.array(asked[one_of[first:]])),
                "day": pa.array((used[first:] // len(customers)).astype("datetime64[D]"), pa.date32()),
                "is_valued": pa.array(valued[first:]),
            }
        )
        found = history(pairs) if pairs.num_rows else pairs
        if found.num_rows != pairs.num_rows:
            raise ValueError(f"the history has {found.num_rows} rows for {pairs.num_rows} pairs of customer and day")
        at = np.full((len(looks), inputs.num_rows), -1, dtype=np.int64)
        at[:, asked] = place - first
        return cls(with_derived(found), at)

    def rows(
        self, number: int, here: np.ndarray, wanted: Sequence[str], uses_value: bool
    ) -> tuple[np.ndarray, pa.Table]:
        """Which rows were known in that week (and valued, where that matters), and the wanted columns as of then."""
        at = self.at[number, here]
        known = np.flatnonzero(at >= 0)
        if uses_value:
            known = known[self.is_valued[at[known]]]
        data = self.known.select([name for name in wanted if name in self.known.column_names])
        return known, data.take(pa.array(at[known]))


def history_columns(model: Layers | None, names: Sequence[str]) -> tuple[list[str], bool]:
    """Those of a snapshot's columns that damping looks at, and whether it looks at the value model's as well."""
    if model is None:
        return [], False
    live = [layer for layer in model.layers if layer.name not in model.off]
    wanted = {name for layer in live for name in layer.present([*names, *VALUE_COLUMNS, *DERIVED])}
    wanted |= {name for derived in wanted & set(DERIVED) for name in columns_of(DERIVED[derived])}
    return [name for name in names if name in wanted], not wanted.isdisjoint(VALUE_COLUMNS)


def days_before(day: date) -> list[date]:
    """The days that the assignments of a day look at, each for a seventh of the customers, the oldest first."""
    return [day - timedelta(days=back) for back in range(7 * WEEKS, 0, -1)]


def _looked_at(days: np.ndarray, weekdays: np.ndarray) -> np.ndarray:
    """The days that an assignment looks at, as days since 1970, the oldest first; shape (weeks, n).

    Parameters
    ----------
    days : of the assignments, shape (n,)
    weekdays : the remainder by 7 of the days on which each customer is looked at, shape (n,)
    """
    last = (days - 1 - weekdays) // 7 * 7 + weekdays
    return np.stack([last - 7 * back for back in range(WEEKS - 1, -1, -1)])


def _own_weekdays(customers: pa.Array, codes: np.ndarray) -> np.ndarray:
    """The weekday of each row's customer, 0 to 6: by a hash of its id, so that it is the same on every day.

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
    """A number for each customer, in the order of their ids."""
    if len(customers) < 2 or pc.all(pc.less(customers[:-1], customers[1:])).as_py():
        return np.arange(len(customers))
    coded = customers.dictionary_encode()
    rank = np.empty(len(coded.dictionary), dtype=np.int64)
    rank[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(rank))
    result: np.ndarray = rank[coded.indices.to_numpy(zero_copy_only=False)]
    return result


def _stages(inputs: pa.Table, model: Layers) -> Iterator[tuple[str, np.ndarray, pa.Table]]:
    """Each stage, its rows' places, and the columns of these rows that the layers may look at."""
    coded = inputs["stage"].combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    needed = {name for layer in model.layers for name in layer.present(inputs.column_names)} | {"stage"}
    is_ruled = any(layer.method == "rules" for layer in model.layers)  # a rule may use any column
    data = inputs.select([name for name in inputs.column_names if is_ruled or name in needed]).combine_chunks()
    places = coded.indices.to_numpy(zero_copy_only=False)
    for code, stage in enumerate(coded.dictionary.to_pylist()):
        here = np.flatnonzero(places == code)
        yield stage, here, data.take(pa.array(here))


class _Words(dict[str, int]):
    """Words and the codes they were given, in the order in which they were met."""

    def codes(self, words: Iterable[str]) -> np.ndarray:
        return np.array([self.setdefault(word, len(self)) for word in words], dtype=np.int32)


def spelt(codes: np.ndarray, words: Sequence[str]) -> pa.Array:
    """The word of each code."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(words, pa.string())).cast(pa.string())

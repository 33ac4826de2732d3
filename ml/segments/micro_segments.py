"""Micro-segments: who is in which, by the primary clusters, and by secondary ones with weights.

Belongs here: how a day's clusters become strings and weights. Does not belong here: where the clusters come from (see
`ml.layers`), and what a string means (see `ml.layers.strings`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import tables
from ml.engine import Engine
from ml.layers.inputs import sort_inputs
from ml.layers.specs import SegmentSpec
from ml.layers.strings import micro_segment_id

MIN_SECONDARY_WEIGHT = 0.1  # product of the weights of a string's clusters
MAX_SECONDARY_ROWS = 4  # per customer and day


def micro_segments(engine: Engine, stages: pa.Table, assignments: pa.Table, spec: SegmentSpec) -> pa.Table:
    """The primary micro-segment of each customer and day, and the secondary ones.

    Parameters
    ----------
    engine : Engine
        Not used: strings are joined from numbers, which takes a tenth of the time of a grouped query.
    stages : pyarrow.Table
        customer_id, day, stage; one row per customer and day.
    assignments : pyarrow.Table
        `layer_assignments` and day; empty before there is a model, when the string is the stage alone.
    spec : SegmentSpec
        Its layers order the string; assignments of other layers are left out.

    Returns
    -------
    pyarrow.Table
        customer_id, day and the other columns of `micro_segments`, by day, customer and weight. Exactly one row per
        customer and day is primary. The others are the four heaviest combinations of clusters whose product of weights
        is at least 0.1. Lighter products are cut off layer by layer, which loses nothing because a product only
        shrinks.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import in_memory
    >>> from ml.layers import LayerSpec
    >>> stages = pa.table({"customer_id": ["c1"], "day": [date(2024, 3, 1)], "stage": ["active"]})
    >>> assignments = pa.table(
    ...     {
    ...         "customer_id": ["c1", "c1"],
    ...         "day": [date(2024, 3, 1)] * 2,
    ...         "layer": ["value", "value"],
    ...         "cluster": ["A", "B"],
    ...         "weight": [0.7, 0.3],
    ...         "is_primary": [True, False],
    ...     }
    ... )
    >>> rows = micro_segments(in_memory(), stages, assignments, SegmentSpec((LayerSpec("value", ("ltv",)),)))
    >>> rows.select(["micro_segment", "weight", "is_primary"]).to_pylist()[0]
    {'micro_segment': 'active/value.A', 'weight': 0.7, 'is_primary': True}
    """
    del engine
    stages = sort_inputs(stages.select(["customer_id", "day", "stage"]))
    encoded = _encoded(stages["stage"])
    stage_names = np.array(encoded.dictionary.to_pylist(), dtype=object)
    rows = np.arange(stages.num_rows)
    strings = _Strings(rows, _numbers(encoded.indices), np.ones(len(rows)), np.ones(len(rows), dtype=bool), stage_names)
    if assignments.num_rows:
        stage_rows = _rows_of(assignments, stages)
        layers, clusters = _encoded(assignments["layer"]), _encoded(assignments["cluster"])
        layer_of, cluster_of = _numbers(layers.indices), _numbers(clusters.indices)
        weight, is_primary = (assignments[name].to_numpy(zero_copy_only=False) for name in ("weight", "is_primary"))
        names = layers.dictionary.to_pylist()
        for layer in (one.name for one in spec.layers if one.name in names):
            members = np.flatnonzero((layer_of == names.index(layer)) & (stage_rows >= 0))
            if not _is_rising(stage_rows[members]):
                members = members[np.argsort(stage_rows[members], kind="stable")]
            suffixes = [f"/{layer}.{letter}" for letter in clusters.dictionary.to_pylist()]
            strings = strings.extended(
                stage_rows[members], cluster_of[members], weight[members], is_primary[members], suffixes, len(rows)
            )
    strings = strings.heaviest(MAX_SECONDARY_ROWS)
    texts = list(strings.texts)
    code = pa.array(strings.code, pa.int32())
    indices = pa.array(strings.row)
    table = {
        "customer_id": stages["customer_id"].combine_chunks().take(indices),
        "micro_segment_id": pa.DictionaryArray.from_arrays(code, pa.array(map(micro_segment_id, texts), pa.string())),
        "micro_segment": pa.DictionaryArray.from_arrays(code, pa.array(texts, pa.string())),
        "stage": pa.DictionaryArray.from_arrays(code, pa.array([text.split("/")[0] for text in texts], pa.string())),
        "weight": strings.weight,
        "is_primary": strings.is_primary,
    }
    result = tables.MICRO_SEGMENTS.conform(pa.table(table).cast(tables.MICRO_SEGMENTS.schema()))
    return result.add_column(1, pa.field("day", pa.date32()), stages["day"].combine_chunks().take(indices))


@dataclass(frozen=True)
class _Strings:
    """Strings so far, by row: the customer's row, the text's number, its weight, and whether it is the primary one."""

    row: np.ndarray
    code: np.ndarray
    weight: np.ndarray
    is_primary: np.ndarray
    texts: np.ndarray

    def extended(
        self,
        stage_rows: np.ndarray,
        cluster: np.ndarray,
        weight: np.ndarray,
        is_primary: np.ndarray,
        suffixes: list[str],
        rows: int,
    ) -> _Strings:
        """Each string with its customer's memberships in one more layer, without those that weigh too little."""
        count = np.bincount(stage_rows, minlength=rows)
        first = np.cumsum(count) - count
        times = np.maximum(count[self.row], 1)
        index = np.repeat(np.arange(len(self.row)), times)
        has = count[self.row[index]] > 0
        step = np.arange(len(index)) - np.repeat(np.cumsum(times) - times, times)
        member = np.where(has, first[self.row[index]] + step, 0)
        new_weight = self.weight[index] * np.where(has, weight[member], 1.0)
        primary = self.is_primary[index] & np.where(has, is_primary[member], True)
        keep = np.flatnonzero(primary | (new_weight >= MIN_SECONDARY_WEIGHT))
        # A customer without a cluster in this layer keeps its text.
        suffix = np.where(has, cluster[member] + 1, 0)[keep]
        pair = self.code[index][keep] * (len(suffixes) + 1) + suffix
        is_used = np.zeros(len(self.texts) * (len(suffixes) + 1), dtype=bool)
        is_used[pair] = True
        used = np.flatnonzero(is_used)
        number = np.zeros(len(is_used), dtype=np.int64)
        number[used] = np.arange(len(used))
        prefix, suffix_of_used = np.divmod(used, len(suffixes) + 1)
        texts = self.texts[prefix] + np.array(["", *suffixes], dtype=object)[suffix_of_used]
        return _Strings(self.row[index][keep], number[pair], new_weight[keep], primary[keep], texts)

    def heaviest(self, max_secondary: int) -> _Strings:
        """The primary string of each customer, then the heaviest secondary ones, heaviest first."""
        n_strings = np.bincount(self.row) if len(self.row) else np.zeros(0, dtype=np.int64)
        mixed = np.flatnonzero(n_strings[self.row] > 1)
        order = np.arange(len(self.row))
        rank = np.empty(len(self.texts), dtype=np.int64)
        rank[np.argsort(self.texts.astype(str))] = np.arange(len(rank))
        sort_keys = (rank[self.code[mixed]], -self.weight[mixed], ~self.is_primary[mixed], self.row[mixed])
        order[mixed] = mixed[np.lexsort(sort_keys)]
        start = np.cumsum(n_strings) - n_strings
        position = np.arange(len(order)) - start[self.row[order]]
        order = order[position <= max_secondary]
        return _Strings(self.row[order], self.code[order], self.weight[order], self.is_primary[order], self.texts)


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    coded = column.combine_chunks().dictionary_encode()
    return coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded


def _numbers(indices: pa.Array) -> np.ndarray:
    result: np.ndarray = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return result


def _rows_of(assignments: pa.Table, stages: pa.Table) -> np.ndarray:
    """For each assignment the row of its customer and day in `stages`, −1 if there is none."""
    customers, day = (
        assignments["customer_id"].combine_chunks(),
        assignments["day"].combine_chunks().cast(pa.int32()).to_numpy(),
    )
    changes = np.ones(len(customers), dtype=bool)
    if len(customers) > 1:
        is_other = np.asarray(pc.not_equal(customers[1:], customers[:-1]).to_numpy(zero_copy_only=False))
        changes[1:] = is_other | (day[1:] != day[:-1])
    starts = np.flatnonzero(changes)
    known = stages["customer_id"].combine_chunks()
    days = np.unique(stages["day"].combine_chunks().cast(pa.int32()).to_numpy())
    if len(days) == 1:  # then no customer has two rows
        customer_ids, row_of = known, np.arange(len(known))
    else:
        encoded = _encoded(stages["customer_id"])
        customer_ids = encoded.dictionary
        row_of = np.full(len(customer_ids) * len(days), -1)
        day_index = np.searchsorted(days, stages["day"].combine_chunks().cast(pa.int32()).to_numpy())
        row_of[_numbers(encoded.indices) * len(days) + day_index] = np.arange(len(known))
    positions = positions_of(customers.take(pa.array(starts)), customer_ids).fill_null(-1)
    customer = positions.to_numpy(zero_copy_only=False).astype(np.int64)
    day_index = np.searchsorted(days, day[starts])
    is_there = (customer >= 0) & (day_index < len(days))
    is_there[is_there] = days[day_index[is_there]] == day[starts][is_there]
    first_rows = np.where(is_there, row_of[np.where(is_there, customer * len(days) + day_index, 0)], -1)
    result: np.ndarray = np.repeat(first_rows, np.diff(np.append(starts, len(customers))))
    return result


def positions_of(ids: pa.Array, others: pa.Array) -> pa.Array:
    """The position of each id among others, null if absent; returned at once if both are the same."""
    if ids.equals(others):
        return pa.array(np.arange(len(others), dtype=np.int32))
    return pc.index_in(ids, others)


def _is_rising(values: np.ndarray) -> bool:
    return bool((values[1:] >= values[:-1]).all())

"""Micro-segments: the string of stage and primary clusters, its id, and the memberships of those in between.

Belongs here: how clusters become strings, weights and ids, and how a string splits into its prefixes. Does not belong
here: where the clusters come from (see `layers`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import tables
from ml.engine import Engine
from ml.segments.inputs import in_order
from ml.segments.specs import SegmentSpec

SECONDARY_WEIGHT = 0.1
SECONDARY_ROWS = 4


def micro_segment_id(text: str) -> str:
    """The first 10 hex digits of the string's SHA-256; SQL computes the same with ``sha256``."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def prefixes(text: str) -> list[str]:
    """``active/value.B/engagement.A`` → ``active``, ``active/value.B`` and itself."""
    parts = text.split("/")
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def micro_segments(engine: Engine, stages: pa.Table, assignments: pa.Table, spec: SegmentSpec) -> pa.Table:
    """The micro-segment of each customer and day, and those it also leans to.

    Parameters
    ----------
    engine : not asked: strings are put together from numbers, which takes a tenth of the time of a grouped query
    stages : customer_id, day, stage; one row per customer and day
    assignments : `layer_assignments` and day; empty before there is a model, and the string is the stage alone
    spec : its layers order the string; an assignment of a layer that is not in it is left out

    Returns
    -------
    The columns of `micro_segments` behind customer_id and day, by day, customer and weight. Exactly one row per
    customer and day is primary. The others are the combinations of clusters whose product of weights is at least .1,
    the four heaviest; products below are cut layer by layer, which loses nothing because a product only shrinks.
    """
    del engine
    stages = in_order(stages.select(["customer_id", "day", "stage"]))
    coded = _coded(stages["stage"])
    texts = np.array(coded.dictionary.to_pylist(), dtype=object)
    rows = np.arange(stages.num_rows)
    found = _Strings(rows, _numbers(coded.indices), np.ones(len(rows)), np.ones(len(rows), dtype=bool), texts)
    if assignments.num_rows:
        at = _rows_of(assignments, stages)
        layers, clusters = _coded(assignments["layer"]), _coded(assignments["cluster"])
        layer_of, cluster_of = _numbers(layers.indices), _numbers(clusters.indices)
        weight, is_primary = (assignments[name].to_numpy(zero_copy_only=False) for name in ("weight", "is_primary"))
        names = layers.dictionary.to_pylist()
        for layer in (one.name for one in spec.layers if one.name in names):
            here = np.flatnonzero((layer_of == names.index(layer)) & (at >= 0))
            if not _is_rising(at[here]):
                here = here[np.argsort(at[here], kind="stable")]
            ends = [f"/{layer}.{letter}" for letter in clusters.dictionary.to_pylist()]
            found = found.longer(at[here], cluster_of[here], weight[here], is_primary[here], ends, stages.num_rows)
    found = found.heaviest(SECONDARY_ROWS)
    strings = list(found.texts)
    code = pa.array(found.code, pa.int32())
    taken = pa.array(found.row)
    table = {
        "customer_id": stages["customer_id"].combine_chunks().take(taken),
        "micro_segment_id": pa.DictionaryArray.from_arrays(code, pa.array(map(micro_segment_id, strings), pa.string())),
        "micro_segment": pa.DictionaryArray.from_arrays(code, pa.array(strings, pa.string())),
        "stage": pa.DictionaryArray.from_arrays(code, pa.array([text.split("/")[0] for text in strings], pa.string())),
        "weight": found.weight,
        "is_primary": found.is_primary,
    }
    result = tables.MICRO_SEGMENTS.conform(pa.table(table).cast(tables.MICRO_SEGMENTS.schema()))
    return result.add_column(1, pa.field("day", pa.date32()), stages["day"].combine_chunks().take(taken))


@dataclass(frozen=True)
class _Strings:
    """Strings so far: the customer's row, the text's number, its weight, and whether it is the primary one; by row."""

    row: np.ndarray
    code: np.ndarray
    weight: np.ndarray
    is_primary: np.ndarray
    texts: np.ndarray

    def longer(
        self,
        at: np.ndarray,
        cluster: np.ndarray,
        weight: np.ndarray,
        is_primary: np.ndarray,
        ends: list[str],
        rows: int,
    ) -> _Strings:
        """Each string with each membership of its customer in one more layer, without those that weigh too little."""
        count = np.bincount(at, minlength=rows)
        first = np.cumsum(count) - count
        times = np.maximum(count[self.row], 1)
        old = np.repeat(np.arange(len(self.row)), times)
        has = count[self.row[old]] > 0
        step = np.arange(len(old)) - np.repeat(np.cumsum(times) - times, times)
        member = np.where(has, first[self.row[old]] + step, 0)
        new_weight = self.weight[old] * np.where(has, weight[member], 1.0)
        primary = self.is_primary[old] & np.where(has, is_primary[member], True)
        keep = np.flatnonzero(primary | (new_weight >= SECONDARY_WEIGHT))
        # A customer who is not in this layer keeps its text.
        tail = np.where(has, cluster[member] + 1, 0)[keep]
        pair = self.code[old][keep] * (len(ends) + 1) + tail
        is_used = np.zeros(len(self.texts) * (len(ends) + 1), dtype=bool)
        is_used[pair] = True
        used = np.flatnonzero(is_used)
        number = np.zeros(len(is_used), dtype=np.int64)
        number[used] = np.arange(len(used))
        before, end = np.divmod(used, len(ends) + 1)
        texts = self.texts[before] + np.array(["", *ends], dtype=object)[end]
        return _Strings(self.row[old][keep], number[pair], new_weight[keep], primary[keep], texts)

    def heaviest(self, most: int) -> _Strings:
        """The primary string of each customer, then the `most` heaviest others, the heaviest first."""
        several = np.bincount(self.row) if len(self.row) else np.zeros(0, dtype=np.int64)
        mixed = np.flatnonzero(several[self.row] > 1)
        order = np.arange(len(self.row))
        rank = np.empty(len(self.texts), dtype=np.int64)
        rank[np.argsort(self.texts.astype(str))] = np.arange(len(rank))
        keys = (rank[self.code[mixed]], -self.weight[mixed], ~self.is_primary[mixed], self.row[mixed])
        order[mixed] = mixed[np.lexsort(keys)]
        start = np.cumsum(several) - several
        place = np.arange(len(order)) - start[self.row[order]]
        order = order[place <= most]
        return _Strings(self.row[order], self.code[order], self.weight[order], self.is_primary[order], self.texts)


def _coded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    coded = column.combine_chunks().dictionary_encode()
    return coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded


def _numbers(indices: pa.Array) -> np.ndarray:
    result: np.ndarray = indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return result


def _rows_of(assignments: pa.Table, stages: pa.Table) -> np.ndarray:
    """The row of each assignment's customer and day among the stages, −1 if there is none."""
    who, day = (
        assignments["customer_id"].combine_chunks(),
        assignments["day"].combine_chunks().cast(pa.int32()).to_numpy(),
    )
    changes = np.ones(len(who), dtype=bool)
    if len(who) > 1:
        changes[1:] = np.asarray(pc.not_equal(who[1:], who[:-1]).to_numpy(zero_copy_only=False)) | (day[1:] != day[:-1])
    starts = np.flatnonzero(changes)
    known = stages["customer_id"].combine_chunks()
    days = np.unique(stages["day"].combine_chunks().cast(pa.int32()).to_numpy())
    if len(days) == 1:  # then no customer has two rows
        people, row_of = known, np.arange(len(known))
    else:
        coded = _coded(stages["customer_id"])
        people = coded.dictionary
        row_of = np.full(len(people) * len(days), -1)
        on = np.searchsorted(days, stages["day"].combine_chunks().cast(pa.int32()).to_numpy())
        row_of[_numbers(coded.indices) * len(days) + on] = np.arange(len(known))
    person = places_of(who.take(pa.array(starts)), people).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    on = np.searchsorted(days, day[starts])
    is_there = (person >= 0) & (on < len(days))
    is_there[is_there] = days[on[is_there]] == day[starts][is_there]
    found = np.where(is_there, row_of[np.where(is_there, person * len(days) + on, 0)], -1)
    result: np.ndarray = np.repeat(found, np.diff(np.append(starts, len(who))))
    return result


def places_of(wanted: pa.Array, among: pa.Array) -> pa.Array:
    """The place of each id among others, null where it is not; without a look at each where both are the same."""
    if wanted.equals(among):
        return pa.array(np.arange(len(among), dtype=np.int32))
    return pc.index_in(wanted, among)


def _is_rising(values: np.ndarray) -> bool:
    return bool((values[1:] >= values[:-1]).all())

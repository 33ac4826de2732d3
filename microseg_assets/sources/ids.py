"""A map of ids, followed to its end: who is meant where an id leads to an id that leads to a customer.

Belongs here: chains, circles and contradictions of a map. Does not belong here: reading it (see `source`), and giving
rows their customer (see `rows`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

_SHOWN = 6  # ids of a circle that a message names


@dataclass(frozen=True)
class FollowedIds:
    """What a map of ids amounts to.

    Parameters
    ----------
    customers : `source_id` and `customer_id`, sorted: each id that leads to one customer, and that customer
    ambiguous : ids that lead to more than one, sorted
    circles : for each circle the ids in the order of the map, from its first by name; such a map means nothing
    """

    customers: pa.Table
    ambiguous: tuple[str, ...] = ()
    circles: tuple[tuple[str, ...], ...] = ()

    def circle_in_words(self) -> str:
        """``X → Y → X``: the first circle, cut off if it is long."""
        first = self.circles[0]
        shown = [*first, first[0]] if len(first) <= _SHOWN else [*first[:_SHOWN], "…", first[0]]
        return " → ".join(shown)


def follow(source_ids: pa.ChunkedArray, customer_ids: pa.ChunkedArray) -> FollowedIds:
    """Follow every id of a map to the customer in whom its chain ends.

    Parameters
    ----------
    source_ids, customer_ids : text, none missing: a line of the map each. A line may come several times, and in any
        order. An id that leads to itself ends there; one that leads by two ways to the same customer is that customer.
    """
    count = len(source_ids)
    coded = pa.chunked_array([*source_ids.chunks, *customer_ids.chunks], pa.string()).combine_chunks()
    if not count:
        return FollowedIds(pa.table({"source_id": coded, "customer_id": coded}))
    coded = coded.dictionary_encode()
    names = np.array(coded.dictionary.to_pylist(), dtype=object)
    codes = coded.indices.to_numpy()
    edges = np.unique(np.stack([codes[:count], codes[count:]], axis=1), axis=0)
    if circles := _circles(edges, names):
        return FollowedIds(pa.table({"source_id": names[:0], "customer_id": names[:0]}), circles=circles)
    end, ambiguous = _ends(edges, len(names))
    single = np.setdiff1d(edges[:, 0], ambiguous)
    found = pa.table({
        "source_id": pa.array(names[single], pa.string()), "customer_id": pa.array(names[end[single]], pa.string()),
    })  # fmt: skip
    return FollowedIds(found.sort_by("source_id"), tuple(sorted(names[ambiguous])))


def _ends(edges: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `count` ids ends, and the ids that end in several places; those stay where they are.

    An id is known once all it leads to is one: a round for each time that ids which part come together again.
    """
    end, pairs = np.arange(count), edges
    while True:
        sources, at, ways = np.unique(pairs[:, 0], return_index=True, return_counts=True)
        is_single = ways == 1
        end[sources[is_single]] = pairs[at[is_single], 1]
        while not np.array_equal(further := end[end], end):  # twice as far each time
            end = further
        pairs = pairs[np.isin(pairs[:, 0], sources[~is_single])]
        if not len(pairs) or not is_single.any():
            return end, sources[~is_single]
        pairs = np.unique(np.stack([pairs[:, 0], end[pairs[:, 1]]], axis=1), axis=0)


def _circles(edges: np.ndarray, names: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """The circles that ids lead in; an id that leads to itself alone is none."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(names)
    graph = coo_array((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(size, size))
    _, part = connected_components(graph.tocsr(), directed=True, connection="strong")
    is_inside = (np.bincount(part)[part[edges[:, 0]]] > 1) & (part[edges[:, 0]] == part[edges[:, 1]])
    inside = edges[is_inside & (edges[:, 0] != edges[:, 1])]
    after = {names[a]: names[b] for a, b in inside[::-1]}
    found: list[tuple[str, ...]] = []
    done: set[str] = set()
    for first in sorted(after):
        way: list[str] = []
        while first not in done:
            done.add(first)
            way.append(first)
            first = after[first]
        if first in way:
            found.append(tuple(way[way.index(first) :]))
    return tuple(found)

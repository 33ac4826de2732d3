"""A map of ids, followed to its end: the customer that an id leads to, by way of other ids.

Belongs here: chains, circles and contradictions of a map. Does not belong here: reading it (see `source`), and giving
rows their customer (see `rows`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

_MAX_SHOWN = 6  # ids of a circle in a message


@dataclass(frozen=True)
class FollowedIds:
    """The result of following a map of ids.

    Parameters
    ----------
    customers : `source_id` and `customer_id`, sorted: each id that leads to one customer, and that customer
    ambiguous : ids that lead to more than one, sorted
    circles : the ids of each circle in the order of the map, beginning with the first by name; such a map is invalid
    """

    customers: pa.Table
    ambiguous: tuple[str, ...] = ()
    circles: tuple[tuple[str, ...], ...] = ()

    def circle_in_words(self) -> str:
        """``X → Y → X``: the first circle, cut off if it is long."""
        first = self.circles[0]
        shown = [*first, first[0]] if len(first) <= _MAX_SHOWN else [*first[:_MAX_SHOWN], "…", first[0]]
        return " → ".join(shown)


def follow(source_ids: pa.ChunkedArray, customer_ids: pa.ChunkedArray) -> FollowedIds:
    """Follow every id of a map to the customer at the end of its chain.

    Parameters
    ----------
    source_ids, customer_ids : the lines of the map, as text, none missing; in any order, and repeated lines are fine.
        An id that leads to itself ends there; one that leads to the same customer in two ways is that customer.
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
    customers = pa.table({
        "source_id": pa.array(names[single], pa.string()), "customer_id": pa.array(names[end[single]], pa.string()),
    })  # fmt: skip
    return FollowedIds(customers.sort_by("source_id"), tuple(sorted(names[ambiguous])))


def _ends(edges: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `count` ids ends, and the ids that end in several places; those stay as they are.

    An id is resolved once all ids it leads to are; it takes a round for each time that branches come together again.
    """
    end, pairs = np.arange(count), edges
    while True:
        sources, first, ways = np.unique(pairs[:, 0], return_index=True, return_counts=True)
        is_single = ways == 1
        end[sources[is_single]] = pairs[first[is_single], 1]
        while not np.array_equal(further := end[end], end):  # twice as far each time
            end = further
        pairs = pairs[np.isin(pairs[:, 0], sources[~is_single])]
        if not len(pairs) or not is_single.any():
            return end, sources[~is_single]
        pairs = np.unique(np.stack([pairs[:, 0], end[pairs[:, 1]]], axis=1), axis=0)


def _circles(edges: np.ndarray, names: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """The circles of a map; an id that leads to itself is not one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(names)
    graph = coo_array((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(size, size))
    _, part = connected_components(graph.tocsr(), directed=True, connection="strong")
    is_inside = (np.bincount(part)[part[edges[:, 0]]] > 1) & (part[edges[:, 0]] == part[edges[:, 1]])
    inside = edges[is_inside & (edges[:, 0] != edges[:, 1])]
    after = {names[a]: names[b] for a, b in inside[::-1]}
    circles: list[tuple[str, ...]] = []
    done: set[str] = set()
    for name in sorted(after):
        path: list[str] = []
        while name not in done:
            done.add(name)
            path.append(name)
            name = after[name]
        if name in path:
            circles.append(tuple(path[path.index(name) :]))
    return tuple(circles)

"""Shares of customers, and the values from which on they begin.

Belongs here: arithmetic on values. Does not belong here: whose values they are, and when a cut is frozen anew (see
`training`).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from ml.statistics import GROUPS, LEVEL, Gain, bootstrap, resamples

Array: TypeAlias = "np.ndarray[Any, Any]"
TOP_SHARE = 0.10  # of new customers who are high-potential
FEWEST, MOST = 0.05, 0.20  # bounds of the share of stars that is found


def share_of_half(ltv: Array) -> float | None:
    """The share of the fewest customers who hold half of all LTV, between 5 and 20 %; None where there is no LTV.

    Where value is spread evenly it would be half of the customers, and nobody stands out less than a fifth do: the
    bound holds. The point of the Lorenz curve farthest from equality is no better knee: it lies where LTV is the mean,
    which a third of the customers exceed even where value is as concentrated as in the lognormal law with SD 1.
    """
    worth = np.sort(np.maximum(ltv[~np.isnan(ltv)], 0.0))[::-1]
    total = worth.sum()
    if not total:
        return None
    held = int(np.searchsorted(np.cumsum(worth), total / 2)) + 1
    return float(np.clip(held / len(worth), FEWEST, MOST))


def change_of_half(ltv: Array, before: float, seed: int = 0) -> Gain:
    """By how much `share_of_half` is above a share of before, with its interval: a few large customers move it."""
    worth = np.sort(np.maximum(ltv[~np.isnan(ltv)], 0.0))[::-1]
    found = share_of_half(ltv)
    if found is None:
        return Gain(0.0, -np.inf, np.inf, len(worth))
    some = worth[:: -(-len(worth) // GROUPS)]  # of very many every so-manieth: the interval is wider, never too narrow
    drawn = []
    for weights in np.array_split(resamples(len(some), seed).T, 10):
        held, people = np.cumsum(weights * some, axis=1), np.cumsum(weights, axis=1)
        place = (held < held[:, -1:] / 2).sum(axis=1).clip(max=len(some) - 1)
        drawn.append(people[np.arange(len(place)), place] / people[:, -1])
    shares = np.clip(np.concatenate(drawn), FEWEST, MOST)
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - before
    return Gain(found - before, float(low), float(high), len(worth))


def cut_for_share(values: Array, share: float) -> float | None:
    """The value from which on a share of `values` nearest to `share` lies; None where having none at all is as near.

    Ties cannot be separated: where everybody is worth the same, nobody stands out.
    """
    found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if not found.size:
        return None
    above = np.cumsum(counts[::-1])[::-1] / counts.sum()
    best = int(np.argmin(np.abs(above - share)))
    return float(found[best]) if abs(above[best] - share) < share else None


def share_error(candidates: Array, cut: float | None, share: float) -> float:
    """How far the share of stars among the candidates, given by their ltv, is from the share that is asked for."""
    if not candidates.size or cut is None:
        return share if candidates.size else 0.0
    return float(abs((candidates >= cut).mean() - share))


def share_off(candidates: Array, cut: float | None, share: float, seed: int = 0) -> Gain:
    """How far the share of stars lies above the share that is asked for, with its interval."""
    is_star = np.zeros(len(candidates)) if cut is None else (candidates >= cut).astype(float)

    def above(sums: Array) -> Array:
        return np.asarray(sums[:, 0] / np.maximum(sums[:, 1], 1) - share)

    return bootstrap(np.column_stack([is_star, np.ones(len(candidates))]), above, seed=seed)

"""Shares of customers, and the values at which they begin.

Belongs here: arithmetic on values. Does not belong here: whose values they are, and when a cut is frozen again (see
`training`).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from ml.statistics import GROUPS, LEVEL, Gain, bootstrap, resamples

Array: TypeAlias = "np.ndarray[Any, Any]"
TOP_SHARE = 0.10  # of new customers who are high-potential
MIN_STAR_SHARE, MAX_STAR_SHARE = 0.05, 0.20  # bounds of a share of stars that is estimated


def share_holding_half(ltv: Array) -> float | None:
    """Estimate the share of the fewest customers who hold half of all LTV.

    Where value is spread evenly, half of the customers hold half of it and nobody stands out: hence the upper bound.
    The point of the Lorenz curve farthest from equality is no better knee: it lies where LTV is the mean, which a third
    of the customers exceed even where value is as concentrated as in the lognormal law with SD 1.

    Parameters
    ----------
    ltv : ndarray of shape (n_customers,)
        Lifetime values in currency; NaN where unknown.

    Returns
    -------
    float or None
        Share between 0.05 and 0.20; None where there is no LTV.

    Examples
    --------
    >>> share_holding_half(np.array([50.0, 10.0, 10.0, 10.0, 5.0, 5.0, 4.0, 3.0, 2.0, 1.0]))
    0.1
    """
    descending = np.sort(np.maximum(ltv[~np.isnan(ltv)], 0.0))[::-1]
    total = descending.sum()
    if not total:
        return None
    holders = int(np.searchsorted(np.cumsum(descending), total / 2)) + 1
    return float(np.clip(holders / len(descending), MIN_STAR_SHARE, MAX_STAR_SHARE))


def change_of_share_holding_half(ltv: Array, earlier: float, seed: int = 0) -> Gain:
    """Compare `share_holding_half` with an earlier share: the difference and its interval.

    Parameters
    ----------
    ltv : ndarray of shape (n_customers,)
        Lifetime values in currency; NaN where unknown.
    earlier : float
        Share to compare with.
    seed : int, default 0
        Seed of the bootstrap.

    Returns
    -------
    Gain
        Share minus earlier share. The interval is wide where a few large customers move the share, and infinite where
        there is no LTV.
    """
    descending = np.sort(np.maximum(ltv[~np.isnan(ltv)], 0.0))[::-1]
    share = share_holding_half(ltv)
    if share is None:
        return Gain(0.0, -np.inf, np.inf, len(descending))
    # Of very many customers every n-th is drawn: the interval is wider then, never too narrow.
    thinned = descending[:: -(-len(descending) // GROUPS)]
    draws = []
    for weights in np.array_split(resamples(len(thinned), seed).T, 10):
        ltv_sums, customers = np.cumsum(weights * thinned, axis=1), np.cumsum(weights, axis=1)
        half = (ltv_sums < ltv_sums[:, -1:] / 2).sum(axis=1).clip(max=len(thinned) - 1)
        draws.append(customers[np.arange(len(half)), half] / customers[:, -1])
    shares = np.clip(np.concatenate(draws), MIN_STAR_SHARE, MAX_STAR_SHARE)
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - earlier
    return Gain(share - earlier, float(low), float(high), len(descending))


def cut_for_share(values: Array, share: float) -> float | None:
    """Find the value at or above which a share of the customers lies, as nearly as ties allow.

    Parameters
    ----------
    values : ndarray of shape (n_customers,)
        Values of the customers; NaN where unknown.
    share : float
        Share of customers, above 0.

    Returns
    -------
    float or None
        The cut; None where no cut comes nearer to the share than leaving everybody below it, as where all values are
        equal.

    Examples
    --------
    >>> cut_for_share(np.arange(10.0), 0.2)
    8.0
    """
    distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if not distinct.size:
        return None
    above = np.cumsum(counts[::-1])[::-1] / counts.sum()
    nearest = int(np.argmin(np.abs(above - share)))
    return float(distinct[nearest]) if abs(above[nearest] - share) < share else None


def share_error(candidates: Array, cut: float | None, share: float) -> float:
    """Distance of the share of stars among the candidates, given by their ltv, from the target share."""
    if not candidates.size or cut is None:
        return share if candidates.size else 0.0
    return float(abs((candidates >= cut).mean() - share))


def share_excess(candidates: Array, cut: float | None, share: float, seed: int = 0) -> Gain:
    """Excess of the share of stars over the target share, with its interval."""
    is_star = np.zeros(len(candidates)) if cut is None else (candidates >= cut).astype(float)

    def excess(sums: Array) -> Array:
        return np.asarray(sums[:, 0] / np.maximum(sums[:, 1], 1) - share)

    return bootstrap(np.column_stack([is_star, np.ones(len(candidates))]), excess, seed=seed)

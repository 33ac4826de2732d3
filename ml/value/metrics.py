"""How good predictions of value are, for people to read; decisions are made by `judgement`.

Belongs here: measures over two arrays. Does not belong here: figures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

DECILES = 10


def scores(realised: pa.Table, predicted: Mapping[str, np.ndarray]) -> dict[str, float]:
    """All measures of one set of predictions.

    Parameters
    ----------
    realised : spend, orders
    predicted : expected_spend, expected_orders and p_alive, in the same order

    Returns
    -------
    rmse, mae, bias (currency), gini, decile_error (shares), orders_mae, alive_brier.
    """
    spend = np.asarray(realised["spend"].to_numpy(), dtype=float)
    orders = np.asarray(realised["orders"].to_numpy(), dtype=float)
    expected = predicted["expected_spend"]
    return {
        "rmse": float(np.sqrt(np.mean((spend - expected) ** 2))),
        "mae": float(np.mean(np.abs(spend - expected))),
        "bias": float(np.mean(expected - spend)),
        "gini": gini(spend, expected),
        "decile_error": decile_error(spend, expected),
        "orders_mae": float(np.mean(np.abs(orders - predicted["expected_orders"]))),
        "alive_brier": float(np.mean(((orders > 0) - predicted["p_alive"]) ** 2)),
    }


def gini(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Normalised Gini: the concentration of `actual` when sorted by `predicted`, over that when sorted by itself.

    1 orders customers perfectly, 0 no better than chance. Rows with equal predictions share their ranks, so the order
    of rows does not matter. Actuals below 0 count as 0; 0 if nobody spent.
    """
    actual = np.maximum(actual, 0.0)
    best = _concentration(actual, actual)
    return float(_concentration(actual, predicted) / best) if best > 0 else 0.0


def _concentration(actual: np.ndarray, by: np.ndarray) -> float:
    """Gini coefficient of `actual` along the mean ranks of `by` (covariance form: 2 cov(y, rank) / (n mean(y)))."""
    if actual.size == 0 or actual.sum() == 0:
        return 0.0
    _, group, counts = np.unique(by, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return float(2 * np.mean((actual - actual.mean()) * (ranks - ranks.mean())) / (actual.size * actual.mean()))


def deciles(actual: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean prediction and mean outcome in ten groups of equal size by prediction (fewer with fewer rows)."""
    order = np.argsort(predicted, kind="stable")
    groups = [part for part in np.array_split(order, DECILES) if part.size]
    return np.array([predicted[part].mean() for part in groups]), np.array([actual[part].mean() for part in groups])


def decile_error(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Sum over predicted deciles of |mean prediction - mean outcome|, as a share of the sum of the mean outcomes.

    0.05 means that the misses of all deciles add up to 5 % of all that was spent. 0 if nobody spent.
    """
    expected, realised = deciles(actual, predicted)
    return float(np.sum(np.abs(expected - realised)) / realised.sum()) if realised.size and realised.sum() > 0 else 0.0

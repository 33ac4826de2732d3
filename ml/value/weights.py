"""The weight of each member of the blend.

Belongs here: weights from predictions for a holdout and its outcomes. Does not belong here: the members (`blend`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

STEPS = 20  # the grid of weights has steps of 1 / STEPS
PRIOR_CUSTOMERS = 5_000  # so many customers weigh as much as the belief that all members are equally good
MIN_EXPECTED_SHARE = 0.1  # of the mean expectation: below it errors get no larger weight


def learn_weights(actual: np.ndarray, members: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Learn weights that add up to 1, none negative, between equal ones and those with the smallest squared error.

    Members are first brought to the level of the outcome, so that they are weighed by how they distinguish customers.
    Each error is divided by what was expected, as spend scatters in proportion to it; otherwise a few large spenders
    would decide.

    Parameters
    ----------
    actual : spend, shape (n,), of customers whose outcomes the members had not seen
    members : name to expectation, each of shape (n,); at least two
    """
    names, total = list(members), float(actual.sum())
    equal = np.full(len(names), 1 / len(names))
    sums = np.array([float(members[name].sum()) for name in names])
    if total <= 0 or not np.all(sums > 0):
        return dict(zip(names, equal.tolist(), strict=True))
    expected = np.array([members[name] * (total / s) for name, s in zip(names, sums, strict=True)])
    mean = expected.mean(axis=0)
    weighed = expected / (mean + MIN_EXPECTED_SHARE * mean.mean())
    squares, cross = weighed @ expected.T, weighed @ actual
    grid = np.array([w for w in np.ndindex(*(STEPS + 1,) * len(names)) if sum(w) == STEPS]) / STEPS
    loss = np.einsum("gi,ij,gj->g", grid, squares, grid) - 2 * grid @ cross
    share = len(actual) / (len(actual) + PRIOR_CUSTOMERS)
    weights = share * grid[int(loss.argmin())] + (1 - share) * equal
    return {name: float(weight) for name, weight in zip(names, weights, strict=True)}

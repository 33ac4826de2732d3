"""How much each member of the blend is listened to.

Belongs here: weights from what members said of a holdout and what came. Does not belong here: the members (`blend`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

STEPS = 20  # the grid of weights has steps of 1 / STEPS
PRIOR_CUSTOMERS = 5_000  # so many customers weigh as much as the belief that all members are equally good
LEAST = 0.1  # of the mean expectation: below it errors are not weighed up any more


def learnt_weights(actual: np.ndarray, members: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Weights that add up to 1, none negative, between the plain mean and those with the smallest squared error.

    Members are brought to the level of what came first: they are weighed by how they tell customers apart. Errors count
    one over what was expected, as spend scatters in proportion to it; else a few large spenders would decide.

    Parameters
    ----------
    actual : what came, shape (n,), of customers whom the members had not seen the outcome of
    members : name to expectation, each of shape (n,); at least two
    """
    names, total = list(members), float(actual.sum())
    plain = np.full(len(names), 1 / len(names))
    sums = np.array([float(members[name].sum()) for name in names])
    if total <= 0 or not np.all(sums > 0):
        return dict(zip(names, plain.tolist(), strict=True))
    said = np.array([members[name] * (total / s) for name, s in zip(names, sums, strict=True)])
    mean = said.mean(axis=0)
    weighed = said / (mean + LEAST * mean.mean())
    squares, cross = weighed @ said.T, weighed @ actual
    grid = np.array([w for w in np.ndindex(*(STEPS + 1,) * len(names)) if sum(w) == STEPS]) / STEPS
    loss = np.einsum("gi,ij,gj->g", grid, squares, grid) - 2 * grid @ cross
    share = len(actual) / (len(actual) + PRIOR_CUSTOMERS)
    found = share * grid[int(loss.argmin())] + (1 - share) * plain
    return {name: float(weight) for name, weight in zip(names, found, strict=True)}

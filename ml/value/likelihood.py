"""Maximum likelihood for models with a few positive parameters, as BG/NBD and Gamma-Gamma share it.

Belongs here: the search from several starts, standard errors, and words for an optimum that lies at the edge. Does not
belong here: any model's likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ml.threads import one_thread

Floats = NDArray[np.float64]
# Of positive parameters, in the model's own scale: beyond it one means "none" or "no difference between people".
MIN_PARAMETER, MAX_PARAMETER = 1e-5, 1e5
STEP = 1e-4


@dataclass(frozen=True)
class Optimum:
    """Where the likelihood is highest.

    Parameters
    ----------
    values : the parameters, shape (k,)
    errors : their standard errors from the curvature there; NaN for one at its edge, or where there is no curvature
    at_edge : which parameters ended at an end of their range, shape (k,)
    converged : whether the slope at the optimum is zero
    """

    values: Floats
    errors: Floats
    at_edge: NDArray[np.bool_]
    converged: bool


def maximise(objective: Callable[[Floats], tuple[float, Floats]], starts: Sequence[Sequence[float]]) -> Optimum:
    """Find the best of several searches (L-BFGS-B over logarithms, so that parameters stay positive).

    Parameters
    ----------
    objective : of the parameters' logarithms, the negative log-likelihood and its gradient with respect to them
    starts : parameters to begin from
    """
    from scipy.optimize import minimize

    low, high = np.log(MIN_PARAMETER), np.log(MAX_PARAMETER)
    scale = max(abs(objective(np.clip(np.log(starts[0]), low, high))[0]), 1.0)

    def scaled(theta: Floats) -> tuple[float, Floats]:
        value, gradient = objective(theta)
        return value / scale, gradient / scale

    best = None
    for start in starts:
        theta = np.clip(np.log(start), low, high)
        with one_thread():
            result = minimize(
                scaled, theta, jac=True, method="L-BFGS-B", bounds=[(low, high)] * len(theta),
                options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-9},
            )  # fmt: skip
        if np.isfinite(result.fun) and (best is None or result.fun < best.fun - 1e-12):
            best = result
    if best is None:
        raise ValueError("the likelihood is not finite anywhere near a sensible start; look for absurd numbers in it")
    theta = np.asarray(best.x, dtype=float)
    at_edge = (theta < low + 0.01) | (theta > high - 0.01)
    errors = _errors(objective, theta, at_edge)
    # A search may end with "abnormal" where no step helps any more: what counts is that the slope is gone.
    slope = np.abs(np.where(at_edge, 0.0, objective(theta)[1])).max(initial=0.0)
    return Optimum(np.exp(theta), errors, at_edge, bool(slope <= 1e-5 * scale))


def _errors(objective: Callable[[Floats], tuple[float, Floats]], theta: Floats, at_edge: NDArray[np.bool_]) -> Floats:
    """Standard errors of the parameters: curvature of the free logarithms, then the delta method."""
    out = np.full(len(theta), np.nan)
    free = np.flatnonzero(~at_edge)
    if not free.size:
        return out
    curvature = np.empty((len(free), len(free)))
    for row, parameter in enumerate(free):
        step = np.zeros(len(theta))
        step[parameter] = STEP
        curvature[row] = (objective(theta + step)[1] - objective(theta - step)[1])[free] / (2 * STEP)
    curvature = (curvature + curvature.T) / 2
    try:
        np.linalg.cholesky(curvature)  # only at a true optimum is it positive definite
        out[free] = np.exp(theta[free]) * np.sqrt(np.diag(np.linalg.inv(curvature)))
    except np.linalg.LinAlgError:
        pass
    return out


@dataclass(frozen=True)
class Counts:
    """The distinct values of a count, found once for all evaluations of a likelihood.

    Parameters
    ----------
    values : the distinct counts, ascending, shape (n_values,)
    of_row : which of them each row has, shape (n,)
    weight : weight of the rows with each, shape (n_values,)
    """

    values: Floats
    of_row: NDArray[np.int64]
    weight: Floats

    @classmethod
    def of(cls, count: Floats, weight: Floats) -> Self:
        """The counts of weighted rows."""
        values, of_row = np.unique(count, return_inverse=True)
        return cls(values, of_row, np.bincount(of_row, weights=weight).astype(float))


def counted(columns: Sequence[Floats], weights: Floats) -> tuple[list[Floats], Floats]:
    """Distinct rows of several columns, in a fixed order, and how much weight each carries."""
    if not weights.size:
        return [column[:0] for column in columns], weights
    order = np.lexsort(tuple(columns))
    ordered = [column[order] for column in columns]
    is_new = np.concatenate([[True], np.any([column[1:] != column[:-1] for column in ordered], axis=0)])
    return [column[is_new] for column in ordered], np.add.reduceat(weights[order], np.flatnonzero(is_new))

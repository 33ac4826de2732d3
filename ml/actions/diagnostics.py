"""Diagnostics of an estimated effect: placebo, balance, and the gain of treating the best predicted first.

Belongs here: verdicts about an estimate. Does not belong here: the estimate (see `ml.actions.learners`) and pictures
(see `ml.actions.figures`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from ml.actions.learners import Z90, Scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

Placebo = Literal["passed", "failed", "cannot tell", "not needed"]


def placebo_verdict(effect: float, error: float, band: float) -> Placebo:
    """Judge whether an effect on the time before the exposure is small enough to trust the one after it.

    Parameters
    ----------
    effect, error : float
        Placebo effect and its standard error, in currency; NaN if it could not be estimated.
    band : float
        Smallest effect of interest, in currency.

    Returns
    -------
    {"passed", "failed", "cannot tell"}
        `passed` if the 90 % interval lies inside the band (an equivalence test: a bias that is certain but negligible
        passes); `failed` if it excludes 0; `cannot tell` if it is too wide for either.
    """
    if not (np.isfinite(effect) and np.isfinite(error)):
        return "cannot tell"
    low, high = effect - Z90 * error, effect + Z90 * error
    if -band < low and high < band:
        return "passed"
    return "failed" if low > 0 or high < 0 else "cannot tell"


def imbalance(features: NDArray[np.float64], scores: Scores) -> tuple[float, float]:
    """Largest standardised mean difference between the arms over all features, before and after weighting.

    Missing values are left out feature by feature; only rows inside the overlap count after weighting.
    """
    even = np.ones(len(scores.treated))
    weight = np.where(scores.treated, 1 / scores.propensity, 1 / (1 - scores.propensity)) * scores.in_overlap
    return _largest_difference(features, scores.treated, even), _largest_difference(features, scores.treated, weight)


def _largest_difference(
    features: NDArray[np.float64], treated: NDArray[np.bool_], weight: NDArray[np.float64]
) -> float:
    known = np.isfinite(features)
    values = np.where(known, features, 0.0)

    def moments(arm: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weights = known[arm] * weight[arm, None]
        total = np.maximum(weights.sum(axis=0), 1e-12)
        mean = (weights * values[arm]).sum(axis=0) / total
        return mean, (weights * (values[arm] - mean) ** 2).sum(axis=0) / total

    (mean_1, variance_1), (mean_0, variance_0) = moments(treated), moments(~treated)
    spread = np.sqrt((variance_1 + variance_0) / 2)
    difference = np.abs(mean_1 - mean_0)[spread > 1e-9] / spread[spread > 1e-9]
    return float(difference.max()) if len(difference) else 0.0


Ranked: TypeAlias = "tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]"
SHARES = np.linspace(0, 1, 51)


def gain(
    prediction: NDArray[np.float64],
    score: NDArray[np.float64],
    share: NDArray[np.float64],
    weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Compute the gain of treating the best predicted share of the rows, per row.

    Ties are broken at random in expectation: where a tie is treated in part, each of its rows has the same
    probability. A constant prediction therefore gains what random treatment does, in any order of the rows.

    Parameters
    ----------
    prediction, score : ndarray of shape (n_rows,)
        Predicted effect and doubly robust score of each row, in currency.
    share : ndarray of shape (n_shares,)
        Shares of the rows to treat, 0 to 1.
    weight : ndarray of shape (n_rows,), optional
        How often each row counts; once by default.

    Returns
    -------
    ndarray of shape (n_shares,)
        In currency per row.
    """
    if not len(score):
        return np.zeros(len(share))
    _, code = np.unique(-prediction, return_inverse=True)
    weight = np.ones(len(score)) if weight is None else weight
    sizes = np.concatenate([[0.0], np.cumsum(np.bincount(code, weights=weight))])
    sums = np.concatenate([[0.0], np.cumsum(np.bincount(code, weights=weight * score))])
    return np.asarray(np.interp(share * sizes[-1], sizes, sums) / max(sizes[-1], 1e-12))


def gain_band(
    prediction: NDArray[np.float64],
    score: NDArray[np.float64],
    customer: NDArray[np.int64],
    share: NDArray[np.float64],
    seed: int = 0,
    draws: int = 100,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A pointwise 90 % bootstrap band of `gain`; customers are drawn with all of their rows, which are correlated."""
    random = np.random.default_rng(seed)
    customers, code = np.unique(customer, return_inverse=True)
    counts = random.multinomial(len(customers), np.full(len(customers), 1 / max(len(customers), 1)), size=draws)
    curves = [gain(prediction, score, share, count[code].astype(float)) for count in counts]
    low, high = np.quantile(curves, [0.05, 0.95], axis=0)
    return low, high


def qini(prediction: NDArray[np.float64], score: NDArray[np.float64]) -> float:
    """Area between the gain curve and that of random treatment; 0 for a constant prediction."""
    curve = gain(prediction, score, SHARES)
    return float(np.trapezoid(curve - SHARES * curve[-1], SHARES))

"""What makes an effect believable or not: placebo, balance, and the gain of treating the best predicted first.

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
    """Whether an effect on the time before the exposure is small enough to trust the one after it.

    Parameters
    ----------
    effect, error : placebo effect and its standard error, in currency; NaN if there was none to estimate
    band : smallest effect of interest, in currency

    Returns
    -------
    `passed` if the 90 % interval lies inside the band (an equivalence test: a bias that is certain but smaller than
    anything of interest passes); `failed` if it excludes 0; else the interval is too wide: `cannot tell`.
    """
    if not (np.isfinite(effect) and np.isfinite(error)):
        return "cannot tell"
    low, high = effect - Z90 * error, effect + Z90 * error
    if -band < low and high < band:
        return "passed"
    return "failed" if low > 0 or high < 0 else "cannot tell"


def imbalance(features: NDArray[np.float64], scores: Scores) -> tuple[float, float]:
    """Largest standardised mean difference between the arms over all features: as delivered, and after weighting.

    Missing values are left out feature by feature; only rows inside the overlap count after weighting.
    """
    even = np.ones(len(scores.treated))
    weight = np.where(scores.treated, 1 / scores.propensity, 1 / (1 - scores.propensity)) * scores.kept
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
    guess: NDArray[np.float64],
    score: NDArray[np.float64],
    share: NDArray[np.float64],
    weight: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """What treating the best predicted share brings, per row.

    Rows with equal predictions count as one: of a tie that is treated in part, each row is in with the same chance. So
    a prediction that is the same for all brings what chance brings, in whatever order the rows come.

    Parameters
    ----------
    guess, score : predicted effect and doubly robust score of each row, shape (n,)
    share : shares of the rows to treat, shape (m,)
    weight : how often each row counts, shape (n,); once by default

    Returns
    -------
    Shape (m,), in the scores' currency.
    """
    if not len(score):
        return np.zeros(len(share))
    _, code = np.unique(-guess, return_inverse=True)
    weight = np.ones(len(score)) if weight is None else weight
    sizes = np.concatenate([[0.0], np.cumsum(np.bincount(code, weights=weight))])
    sums = np.concatenate([[0.0], np.cumsum(np.bincount(code, weights=weight * score))])
    return np.asarray(np.interp(share * sizes[-1], sizes, sums) / max(sizes[-1], 1e-12))


def gain_band(
    guess: NDArray[np.float64],
    score: NDArray[np.float64],
    customer: NDArray[np.int64],
    share: NDArray[np.float64],
    seed: int = 0,
    draws: int = 100,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A pointwise 90 % band of `gain`: customers are drawn with all of their rows, since these repeat each other."""
    random = np.random.default_rng(seed)
    people, code = np.unique(customer, return_inverse=True)
    counts = random.multinomial(len(people), np.full(len(people), 1 / max(len(people), 1)), size=draws)
    curves = [gain(guess, score, share, drawn[code].astype(float)) for drawn in counts]
    low, high = np.quantile(curves, [0.05, 0.95], axis=0)
    return low, high


def qini(guess: NDArray[np.float64], score: NDArray[np.float64]) -> float:
    """Area between the gain curve and that of treating at random; 0 for a prediction that is the same for all."""
    curve = gain(guess, score, SHARES)
    return float(np.trapezoid(curve - SHARES * curve[-1], SHARES))

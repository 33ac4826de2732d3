"""What makes an effect believable or not: placebo, balance, and pictures of them.

Belongs here: verdicts and figures about an estimate. Does not belong here: the estimate (see `ml.actions.learners`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ml.actions.learners import Z90, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from ml.actions.response import ActionEvidence

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


def effects_figure(actions: Mapping[str, ActionEvidence]) -> Figure:
    """Overall effect of each action with its placebo beside it: bars are 90 % intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.6 + 0.8 * max(1, len(actions))), layout="constrained")
    axes = figure.subplots()
    names = sorted(actions, reverse=True)
    for place, name in enumerate(names):
        shown = actions[name]
        pairs = (
            ("effect", 0.12, "C0", shown.effect, shown.error),
            ("placebo", -0.12, "C7", shown.placebo_effect, shown.placebo_error),
        )
        for label, offset, colour, middle, error in pairs:
            if middle is not None and error is not None:
                axes.errorbar(
                    middle, place + offset, xerr=Z90 * error, fmt="o", capsize=3, color=colour,
                    label=label if place == 0 else None,
                )  # fmt: skip
        axes.fill_betweenx([place - 0.3, place + 0.3], -shown.band, shown.band, color="C7", alpha=0.15, lw=0)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(names)), [f"{n}\n{actions[n].design}, placebo {actions[n].placebo}" for n in names])
    axes.set_xlabel("net revenue per exposure against control, currency")
    figure.suptitle("What each action does, and what the same method finds before it happened", fontsize=11)
    axes.set_title("bars: 90 % intervals; grey: smaller than is of interest", fontsize=9)
    axes.legend(loc="best")
    return figure


def _panels(count: int, height: float) -> tuple[Figure, list[Any]]:
    """A figure with `count` panels below each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height * max(1, count)), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(max(1, count), 1, sharex=True)))[:count]


def overlap_figure(scores: Mapping[str, Scores]) -> Figure:
    """Histogram of the chance of treatment in both arms: effects can only be read where both have mass."""
    figure, panels = _panels(len(scores), 2.4)
    for axes, name in zip(panels, sorted(scores), strict=True):
        shown = scores[name]
        for arm, label, colour in ((shown.treated, "treated", "C0"), (~shown.treated, "control", "C7")):
            axes.hist(shown.propensity[arm], bins=np.linspace(0, 1, 41), alpha=0.6, label=label, color=colour)
        axes.set_title(f"{name}: {shown.kept.mean():.0%} of exposures inside the overlap")
        axes.set_ylabel("exposures")
        axes.legend()
    figure.supxlabel("chance of the action against control")
    return figure


def uplift_figure(
    ranked: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], seed: int = 0, draws: int = 100
) -> Figure:
    """Gain against share treated, best predicted customers first, with a 90 % bootstrap band.

    Parameters
    ----------
    ranked : per action, out-of-fold predicted effects and doubly robust scores of the same rows
    """
    figure, panels = _panels(len(ranked), 3.0)
    share = np.linspace(0, 1, 51)
    for axes, name in zip(panels, sorted(ranked), strict=True):
        guess, score = ranked[name]
        random = np.random.default_rng(seed)
        curve = _gain(guess, score, share)
        samples = (random.integers(0, len(score), len(score)) for _ in range(draws))
        band = [_gain(guess[sample], score[sample], share) for sample in samples]
        low, high = np.quantile(band, [0.05, 0.95], axis=0)
        axes.fill_between(share, low, high, alpha=0.2, lw=0, label="90 % band")
        axes.plot(share, curve, label="best predicted first")
        axes.plot([0, 1], [0, curve[-1]], color="C7", ls="--", label="at random")
        axes.set_title(f"{name}: gain by share of customers treated")
        axes.set_ylabel("currency per customer")
        axes.legend()
    figure.supxlabel("share of customers treated")
    return figure


def _gain(guess: NDArray[np.float64], score: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(-guess, kind="stable")
    total = np.concatenate([[0.0], np.cumsum(score[order])]) / max(1, len(score))
    return total[np.round(share * len(score)).astype(int)]

"""Pictures of the effects of actions: with their placebo, the overlap of the arms, and the gain by share treated.

Belongs here: drawing. Does not belong here: what is drawn (see `ml.actions.diagnostics` and `ml.actions.learners`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.actions.diagnostics import SHARES, Ranked, gain, gain_band
from ml.actions.learners import Z90, Scores
from ml.actions.response import ActionEvidence

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def effects_figure(actions: Mapping[str, ActionEvidence]) -> Figure:
    """Overall effect of each action with its placebo; bars are 90 % intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.6 + 0.8 * max(1, len(actions))), layout="constrained")
    axes = figure.subplots()
    names = sorted(actions, reverse=True)
    for position, name in enumerate(names):
        shown = actions[name]
        pairs = (
            ("effect", 0.12, "C0", shown.effect, shown.standard_error),
            ("placebo", -0.12, "C7", shown.placebo_effect, shown.placebo_standard_error),
        )
        for label, offset, colour, middle, error in pairs:
            if middle is not None and error is not None:
                axes.errorbar(
                    middle, position + offset, xerr=Z90 * error, fmt="o", capsize=3, color=colour,
                    label=label if position == 0 else None,
                )  # fmt: skip
        axes.fill_betweenx([position - 0.3, position + 0.3], -shown.band, shown.band, color="C7", alpha=0.15, lw=0)
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(names)), [f"{n}\n{actions[n].design}, placebo {actions[n].placebo}" for n in names])
    axes.set_xlabel("difference in outcome per exposure against control, currency")
    figure.suptitle("Effect of each action, and its placebo before the action", fontsize=11)
    axes.set_title("bars: 90 % intervals; grey: too small to be of interest", fontsize=9)
    axes.legend(loc="best")
    return figure


def overlap_figure(scores: Mapping[str, Scores]) -> Figure:
    """Histogram of the propensity in both arms: effects can be estimated only where both have mass."""
    figure, panels = _panels(len(scores), 2.4)
    for axes, name in zip(panels, sorted(scores), strict=True):
        shown = scores[name]
        for arm, label, colour in ((shown.treated, "treated", "C0"), (~shown.treated, "control", "C7")):
            axes.hist(shown.propensity[arm], bins=np.linspace(0, 1, 41), alpha=0.6, label=label, color=colour)
        axes.set_title(f"{name}: {shown.in_overlap.mean():.0%} of exposures inside the overlap")
        axes.set_ylabel("exposures")
        axes.legend()
    figure.supxlabel("propensity of the action against control")
    return figure


def uplift_figure(ranked: Mapping[str, Ranked], seed: int = 0, draws: int = 100) -> Figure:
    """Gain against share treated, best predicted customers first, with a 90 % bootstrap band over customers.

    Parameters
    ----------
    ranked : mapping of str to Ranked
        Per action: out-of-fold predicted effects, doubly robust scores and customers of the same rows.
    seed : int, default 0
        Of the bootstrap.
    draws : int, default 100
        Bootstrap samples.
    """
    figure, panels = _panels(len(ranked), 3.0)
    for axes, name in zip(panels, sorted(ranked), strict=True):
        prediction, score, customer = ranked[name]
        curve = gain(prediction, score, SHARES)
        low, high = gain_band(prediction, score, customer, SHARES, seed, draws)
        axes.fill_between(SHARES, low, high, alpha=0.2, lw=0, label="90 % band")
        axes.plot(SHARES, curve, label="best predicted first")
        axes.plot([0, 1], [0, curve[-1]], color="C7", ls="--", label="at random")
        axes.set_title(f"{name}: gain by share of customers treated")
        axes.set_ylabel("currency per customer")
        axes.legend()
    figure.supxlabel("share of customers treated")
    return figure


def _panels(count: int, height: float) -> tuple[Figure, list[Any]]:
    """A figure with `count` panels below each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, height * max(1, count)), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(max(1, count), 1, sharex=True)))[:count]

"""Pictures of a value fit: is it calibrated, does it order customers, what does it look at.

Belongs here: drawing. Does not belong here: computing (see `metrics`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ml.value.metrics import deciles, gini

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODEL, PLAIN, TRUTH = "#1b6ca8", "#9aa5ad", "#22313f"


def calibration(actual: np.ndarray, predicted: np.ndarray, plain: np.ndarray, about: str) -> Figure:
    """Predicted against realised spend per decile of the prediction, for the model and for spend as it was."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.2), layout="constrained")
    axes = figure.subplots()
    for values, name, colour, marker in ((predicted, "model", MODEL, "o"), (plain, "spend as it was", PLAIN, "s")):
        expected, found = deciles(actual, values)
        axes.plot(expected, found, color=colour, marker=marker, label=name)
    top = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([0, top], [0, top], color=TRUTH, linestyle=":", label="perfectly calibrated")
    axes.set(title=f"Predicted and realised spend by predicted decile\n{about}")
    axes.set(xlabel="mean predicted spend (currency)", ylabel="mean realised spend (currency)")
    axes.legend(frameon=False)
    return figure


def contributions(columns: list[str], gains: np.ndarray) -> Figure:
    """The columns that the trees for spend gained most from, as shares of the whole gain."""
    from matplotlib.figure import Figure

    total = gains.sum() or 1.0
    order = np.argsort(-gains, kind="stable")[:15][::-1]
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.barh([columns[place] for place in order], gains[order] / total * 100, color=MODEL)
    axes.set(title="What expected spend is read from", xlabel="share of the trees' gain (%)")
    return figure


def lorenz(actual: np.ndarray, predicted: np.ndarray, plain: np.ndarray, about: str) -> Figure:
    """Share of realised spend held by the customers who were predicted to spend the most."""
    from matplotlib.figure import Figure

    actual = np.maximum(actual, 0.0)
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    axes = figure.subplots()
    share = np.linspace(0, 100, len(actual) + 1)
    total = actual.sum() or 1.0
    lines = ((actual, "if the future were known", TRUTH, ":"), (predicted, "model", MODEL, "-"))
    for values, name, colour, style in (*lines, (plain, "spend as it was", PLAIN, "-")):
        held = np.concatenate([[0.0], np.cumsum(actual[np.argsort(-values, kind="stable")])]) / total * 100
        axes.plot(share, held, color=colour, linestyle=style, label=f"{name} (Gini {gini(actual, values):.2f})")
    axes.plot([0, 100], [0, 100], color=PLAIN, linewidth=0.8)
    axes.set(title=f"How well customers are put in order\n{about}")
    axes.set(xlabel="customers, highest prediction first (%)", ylabel="share of realised spend (%)")
    axes.legend(frameon=False, loc="lower right")
    return figure

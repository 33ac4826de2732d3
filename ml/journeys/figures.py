"""Pictures of a transition model: its stages' rows, and how well each kind of model predicts.

Belongs here: drawing. Does not belong here: computing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ml.journeys.transitions import TransitionModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def transitions(model: TransitionModel) -> Figure:
    """Draw a heat map of the stages' rows, with the customers counted behind each."""
    from matplotlib.figure import Figure

    matrix, size = model.stage_matrix, len(model.stages)
    figure = Figure(figsize=(1.6 + 1.1 * size, 1.4 + 0.8 * size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    counted = model.totals.sum(axis=1).astype(int)
    axes.set_xticks(range(size), list(model.stages))
    axes.set_yticks(range(size), [f"{stage}\nn = {n:,}" for stage, n in zip(model.stages, counted, strict=True)])
    for row in range(size):
        for column in range(size):
            chance = matrix[row, column]
            axes.text(
                column,
                row,
                f"{chance:.1%}" if chance >= 0.0005 else "",
                ha="center",
                va="center",
                color="white" if chance > 0.5 else "black",
            )
    axes.set_xlabel(f"stage {model.step_days} days later")
    axes.set_ylabel("stage now, transitions counted")
    axes.set_title(f"Where customers are {model.step_days} days later")
    figure.colorbar(image, ax=axes, label="probability")
    return figure


def losses(log_losses: Mapping[str, float], step_days: int) -> Figure:
    """Draw the holdout log-loss of each kind of model as bars, the best at the top."""
    from matplotlib.figure import Figure

    ordered = sorted(log_losses.items(), key=lambda item: -item[1])
    figure = Figure(figsize=(8, 0.9 + 0.5 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([name.replace("_", "-") for name, _ in ordered], [value for _, value in ordered], color="#4477aa")
    axes.bar_label(bars, fmt="%.4f", padding=3)
    axes.margins(x=0.15)
    axes.set_xlabel("log-loss, nats per customer (lower is better)")
    axes.set_title(f"Predicting the stage {step_days} days later: newest {step_days} days, held out")
    return figure

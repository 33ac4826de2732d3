"""Figures of layers.

Belongs here: functions that draw one matplotlib figure each. Does not belong here: the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ml.layers.layer_model import LayerModel
    from ml.layers.layer_models import LayerModels
    from ml.layers.structure import Point


def all_figures(models: LayerModels) -> dict[str, Callable[[], Figure]]:
    """Functions that draw each figure, by name.

    A heat map for each of the three largest stages with clusters, the sizes of all clusters, the curves behind their
    numbers, and what became of the clusters before.
    """
    customers: dict[str, int] = {}
    for model in models.models:
        if len(model.letters) > 1:
            customers[model.stage] = max(customers.get(model.stage, 0), sum(model.sizes))
    largest = sorted(customers, key=lambda stage: (-customers[stage], stage))[:3]
    figures: dict[str, Callable[[], Figure]] = {
        f"cluster_profiles_{stage}": partial(cluster_profiles, models, stage) for stage in largest
    }
    figures |= {"cluster_sizes": partial(cluster_sizes, models)} if largest else {}
    if any(model.curve for model in models.models):
        figures["cluster_structure"] = partial(structure_curves, models)
    if any(event.event != "first" for model in models.models for event in model.events):
        figures["cluster_lineage"] = partial(lineage_figure, models)
    return figures


def cluster_profiles(models: LayerModels, stage: str) -> Figure:
    """Heat map of one stage: each cluster's means in the stage's standard deviations, a panel per layer."""
    from matplotlib.figure import Figure

    shown = [model for model in models.models if model.stage == stage and len(model.letters) > 1]
    grids = []
    for model in shown:
        labels: dict[tuple[str, str], str] = {}
        for differences in model.evidence:
            for one in differences:
                labels[one.feature, one.value] = f"{one.feature} = {one.value}" if one.value else one.feature
        grid = np.full((len(labels), len(model.letters)), np.nan)
        for column, differences in enumerate(model.evidence):
            difference_of = {(one.feature, one.value): one.difference for one in differences}
            for row, key in enumerate(labels):
                grid[row, column] = difference_of.get(key, np.nan)
        grids.append((list(labels.values()), grid))
    heights = [max(len(labels), 2) + 3 for labels, _ in grids] or [1]
    figure = Figure(figsize=(9, 0.32 * sum(heights) + 1.2), layout="constrained")
    figure.suptitle(f"What sets the clusters of stage '{stage}' apart")
    panels = figure.subplots(len(shown) or 1, 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    image = None
    for panel, model, (rows, grid) in zip(panels, shown, grids, strict=False):
        image = panel.imshow(grid, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
        names = [
            f"{fill(f'{letter}: {name}', 26)}\n{size:,} customers"
            for letter, name, size in zip(model.letters, model.names, model.sizes, strict=True)
        ]
        panel.set_xticks(range(len(names)), names, fontsize=8)
        panel.set_yticks(range(len(rows)), rows, fontsize=8)
        panel.set_title(model.layer.name, loc="left", fontsize=10)
        for row, column in zip(*np.nonzero(np.isfinite(grid)), strict=True):
            shade = "white" if abs(grid[row, column]) > 1.3 else "black"
            panel.text(column, row, f"{grid[row, column]:+.1f}", ha="center", va="center", fontsize=7, color=shade)
    if image is not None:
        figure.colorbar(
            image, ax=list(panels), shrink=0.6, label="difference from the stage's mean (standard deviations)"
        )
    return figure


def cluster_sizes(models: LayerModels) -> Figure:
    """Share of a stage's customers in each cluster, one bar per stage and layer."""
    from matplotlib.figure import Figure

    shown = [model for model in models.models if len(model.letters) > 1]
    figure = Figure(figsize=(9, 0.4 * len(shown) + 1.6), layout="constrained")
    panel = figure.subplots()
    for row, model in enumerate(shown):
        left, total = 0.0, max(sum(model.sizes), 1)
        for number, (letter, size) in enumerate(zip(model.letters, model.sizes, strict=True)):
            panel.barh(row, size / total, left=left, color=f"C{number % 10}", edgecolor="white")
            panel.text(left + size / total / 2, row, f"{letter} {size:,}", ha="center", va="center", fontsize=8)
            left += size / total
    panel.set_yticks(range(len(shown)), [f"{model.stage} / {model.layer.name}" for model in shown], fontsize=8)
    panel.set_xlim(0, 1)
    panel.invert_yaxis()
    panel.set_xlabel("share of the stage's customers (numbers: customers)")
    panel.set_title("Sizes of the clusters")
    return figure


def structure_curves(models: LayerModels) -> Figure:
    """For each stage and layer: what each number of clusters gains, and the number chosen."""
    from matplotlib.figure import Figure

    shown = [model for model in models.models if any(_brings(point) is not None for point in model.curve)][:24]
    across = min(4, max(len(shown), 1))
    down = -(-max(len(shown), 1) // across)
    width, height = 3.2 * across, 2.4 * down + 1
    # Panels are alike, so margins are fixed: measuring two dozen panels for a layout takes longer than drawing them.
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(0.6 / width, 0.5 / height, 1 - 0.6 / width, 1 - 0.75 / height, wspace=0.65, hspace=0.5)
    figure.suptitle(
        "Why this many clusters? Separation beyond a cloud (blue), stability (grey), gain of a cut (orange)",
        y=1 - 0.12 / height,
        va="top",
    )
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for panel, model in zip(panels, shown, strict=False):
        k = np.array([point.k for point in model.curve])
        curves = {
            "C0": [point.separation for point in model.curve],
            "0.6": [point.stability for point in model.curve],
            "C1": [_gain(point) for point in model.curve],
        }
        right_axis = panel.twinx()
        for color, values in curves.items():
            series = np.array([np.nan if value is None else value for value in values], dtype=float)
            (right_axis if color == "0.6" else panel).plot(k, series, "o-", color=color, markersize=3, linewidth=1)
        right_axis.set_ylim(0, 1.05)
        panel.axvline(len(model.letters), color="black", linewidth=0.8, linestyle=":")
        panel.axhline(0, color="black", linewidth=0.5)
        panel.set_xticks(sorted({len(model.letters), *k.tolist()}))
        panel.set_title(f"{model.stage} / {model.layer.name}: {model.kind}, {len(model.letters)}", fontsize=8)
        panel.set_xlabel("clusters", fontsize=7)
        panel.set_ylabel("log-likelihood, R²", fontsize=7)
        right_axis.set_ylabel("adjusted Rand index", fontsize=7)
        panel.tick_params(labelsize=7)
        right_axis.tick_params(labelsize=7)
    return figure


def _gain(point: Point) -> float | None:
    gains = [value for value in (point.gain_spend, point.gain_stage) if value is not None]
    return max(gains, default=None)


def _brings(point: Point) -> float | None:
    return point.separation if point.separation is not None else _gain(point)


def lineage_figure(models: LayerModels) -> Figure:
    """Clusters before (left) and now (right) of each layer that changed; a line's width is the share of customers."""
    from matplotlib.figure import Figure

    shown = [model for model in models.models if any(event.event != "first" for event in model.events)]
    changed = [m for m in shown if any(event.event not in ("first", "continued") for event in m.events)]
    shown = (changed or [model for model in shown if len(model.letters) > 1] or shown)[:12]
    figure = Figure(figsize=(9, 1.9 * -(-len(shown) // 2) + 1), layout="constrained")
    figure.suptitle("What became of the clusters: before (left) and now (right), with customers")
    panels = figure.subplots(-(-len(shown) // 2), 2, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, model in zip(panels, shown, strict=False):
        _draw_lineage(panel, model)
    return figure


def _draw_lineage(panel: Axes, model: LayerModel) -> None:
    panel.set_title(f"{model.stage} / {model.layer.name}", fontsize=9, loc="left")
    left = [event.letter for event in model.events if event.event in ("continued", "merged", "retired")]
    right = list(model.letters)
    height = {("left", name): -row for row, name in enumerate(left)}
    height |= {("right", name): -row for row, name in enumerate(right)}
    for event in model.events:
        source = event.other if event.event == "split" else event.letter
        destination = event.other if event.event == "merged" else event.letter
        ends = [height.get(("left", source)), height.get(("right", destination))]
        known = [end for end in ends if end is not None]
        if len(known) == 2 and event.event not in ("retired", "born", "first"):
            color = {"continued": "0.7", "split": "C1", "merged": "C3"}[event.event]
            panel.plot(
                [0, 1], known, color=color, linewidth=1 + 7 * event.retained_share, solid_capstyle="butt", alpha=0.7
            )
            panel.text(
                0.5,
                sum(known) / 2,
                f"{event.event} {event.retained_share:.0%}",
                ha="center",
                va="center",
                fontsize=7,
            )
        elif event.event in ("born", "first") and ends[1] is not None:
            panel.text(0.93, ends[1], f"{event.event} ", ha="right", va="center", fontsize=7, color="C2")
        elif event.event == "retired" and ends[0] is not None:
            panel.text(0.07, ends[0], " retired", ha="left", va="center", fontsize=7, color="C3")
    before = {event.letter: event.customers_before for event in model.events}
    for name in left:
        panel.text(-0.02, height["left", name], f"{name} {before[name]:,}", ha="right", va="center", fontsize=8)
    for name, size in zip(right, model.sizes, strict=False):
        panel.text(1.02, height["right", name], f"{name} {size:,}", ha="left", va="center", fontsize=8)
    panel.set_xlim(-0.35, 1.35)
    panel.set_ylim(-max(len(left), len(right)) + 0.5, 0.6)

"""Pictures of layers and of the evidence for them.

Belongs here: functions that draw one matplotlib figure each. Does not belong here: the numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ml.segments.layers import LayerModels


def all_figures(models: LayerModels) -> dict[str, Callable[[], Figure]]:
    """A heat map for each of the three largest stages that have clusters, and the sizes of all clusters."""
    customers: dict[str, int] = {}
    for model in models.models:
        if len(model.letters) > 1:
            customers[model.stage] = max(customers.get(model.stage, 0), sum(model.sizes))
    largest = sorted(customers, key=lambda stage: (-customers[stage], stage))[:3]
    found: dict[str, Callable[[], Figure]] = {
        f"cluster_profiles_{stage}": partial(cluster_profiles, models, stage) for stage in largest
    }
    return found | ({"cluster_sizes": partial(cluster_sizes, models)} if largest else {})


def cluster_profiles(models: LayerModels, stage: str) -> Figure:
    """Clusters × features of one stage: the cluster's mean in the stage's standard deviations, a panel per layer."""
    from matplotlib.figure import Figure

    shown = [model for model in models.models if model.stage == stage and len(model.letters) > 1]
    grids = []
    for model in shown:
        labels: dict[tuple[str, str], str] = {}
        for found in model.evidence:
            for one in found:
                labels[one.feature, one.value] = f"{one.feature} = {one.value}" if one.value else one.feature
        grid = np.full((len(labels), len(model.letters)), np.nan)
        for column, found in enumerate(model.evidence):
            at = {(one.feature, one.value): one.difference for one in found}
            for row, key in enumerate(labels):
                grid[row, column] = at.get(key, np.nan)
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


def evidence_figure(table: pa.Table) -> Figure:
    """Bars: how much of next month's spend each grouping tells, out of time."""
    from matplotlib.figure import Figure

    rows = sorted(table.to_pylist(), key=lambda row: row["r2_log_spend"])
    figure = Figure(figsize=(9, 0.5 * len(rows) + 1.8), layout="constrained")
    panel = figure.subplots()
    place = np.arange(len(rows))
    panel.barh(place + 0.2, [row["r2_log_spend"] for row in rows], 0.38, label="log(1 + spend)", color="C0")
    panel.barh(place - 0.2, [row["r2_spend"] for row in rows], 0.38, label="spend", color="C1")
    panel.set_yticks(place, [f"{row['grouping']} ({row['groups']:,})" for row in rows], fontsize=9)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_xlabel("share of the variance of the next window's spend explained, out of time (groups in brackets)")
    panel.set_title("What do groups tell about next month's spend?")
    panel.legend(loc="lower right")
    return figure

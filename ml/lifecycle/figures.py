"""Pictures of a lifecycle fit: how many customers each stage has, and where the stars begin.

Belongs here: drawing. Does not belong here: computing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def stage_shares(counts: Mapping[str, int], as_of: date) -> Figure:
    """Customers in each stage."""
    from matplotlib.figure import Figure

    total = sum(counts.values()) or 1
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    names = list(counts)[::-1]
    bars = axes.barh(names, [counts[name] / total * 100 for name in names], color="#1b6ca8")
    axes.bar_label(bars, [f"{counts[name]:,}" for name in names], padding=3)
    axes.margins(x=0.12)
    axes.set(title=f"Lifecycle stages on {as_of}", xlabel=f"share of {sum(counts.values()):,} known customers (%)")
    return figure


def ltv_with_cut(ltv: np.ndarray, cut: float | None, as_of: date) -> Figure:
    """How LTV is spread over active customers, and where the stars begin."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    top = float(np.quantile(ltv, 0.995)) if ltv.size else 1.0
    axes.hist(np.minimum(ltv, top), bins=50, color="#9aa5ad")
    if cut is not None:
        axes.axvline(cut, color="#c0392b", label=f"stars from {cut:,.0f} on ({(ltv >= cut).mean():.1%})")
        axes.legend(frameon=False)
    axes.set(title=f"LTV of {ltv.size:,} active customers on {as_of}")
    axes.set(xlabel="LTV (currency; the top 0.5 % stand in the last bar)", ylabel="customers")
    return figure

"""Pictures of a lifecycle fit: the stages now and over time, and the estimates behind the windows and the cut.

Belongs here: drawing. Does not belong here: computing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ml.lifecycle.newcomers import NewcomerRates
    from ml.lifecycle.silences import ReturnCurve


def stage_shares(counts: Mapping[str, int], as_of: date) -> Figure:
    """Draw the customers of each stage as bars."""
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
    """Draw the distribution of LTV over active customers, and the cut of the stars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    top = float(np.quantile(ltv, 0.995)) if ltv.size else 1.0
    axes.hist(np.minimum(ltv, top), bins=50, color="#9aa5ad")
    if cut is not None:
        axes.axvline(cut, color="#c0392b", label=f"stars from {cut:,.0f} on ({(ltv >= cut).mean():.1%})")
        axes.legend(frameon=False)
    axes.set(title=f"LTV of {ltv.size:,} active customers on {as_of}")
    axes.set(xlabel="LTV (currency; the last bar holds the top 0.5 %)", ylabel="customers")
    return figure


def silence_return(curve: ReturnCurve, threshold: float, window: int, as_of: date) -> Figure:
    """Draw the silence–return curve and the churn window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    days = np.arange(curve.longest_observed + 1)
    chance, error = curve.chance[: len(days)] * 100, curve.error[: len(days)] * 196
    axes.fill_between(
        days, np.clip(chance - error, 0, 100), np.clip(chance + error, 0, 100), color="#1b6ca8", alpha=0.2
    )
    axes.plot(days, chance, color="#1b6ca8", label="of those silent for so long (band: 95 %)")
    axes.axhline(threshold * 100, color="#9aa5ad", linestyle="--", label=f"threshold: {threshold:.0%}")
    axes.axvline(window, color="#c0392b", label=f"churn after {window} days")
    axes.set(title=f"Who comes back after a silence, as known on {as_of}")
    axes.set(xlabel="days since the last purchase", ylabel=f"return within {curve.within_days} days (%)")
    axes.set_xlim(0, max(len(days), window + 7))
    axes.set_ylim(0, None)
    axes.legend(frameon=False)
    return figure


def newcomers(rates: NewcomerRates, window: int, as_of: date) -> Figure:
    """Draw how often newcomers buy by week, and until when they are new."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.step(np.arange(len(rates.rate)) + 1, rates.rate, where="mid", color="#1b6ca8")
    axes.axvline(window / 7 + 0.5, color="#c0392b", label=f"new for {window} days")
    axes.set(title=f"How newcomers buy again, as known on {as_of}")
    axes.set(xlabel="week since the first purchase", ylabel="purchase days a customer and week")
    axes.set_ylim(0, None)
    axes.legend(frameon=False)
    return figure


def shares_over_time(counts: Mapping[date, Mapping[str, int]]) -> Figure:
    """Draw stage shares by week, under today's rules and thresholds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    days = sorted(counts)
    names = list(counts[days[0]]) if days else []
    totals = [max(sum(counts[day].values()), 1) for day in days]
    below = np.zeros(len(days))
    for name in names:
        share = np.array([counts[day][name] for day in days]) / totals * 100
        axes.bar([str(day) for day in days], share, bottom=below, label=name)
        below += share
    axes.set(title="Stages week by week, under today's thresholds")
    axes.set(xlabel="day", ylabel="share of known customers (%)")
    axes.tick_params(axis="x", rotation=60)
    figure.legend(loc="outside right center", frameon=False)
    return figure

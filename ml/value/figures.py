"""Pictures of a value fit: whether it is calibrated, how well it orders customers, which columns it uses.

Belongs here: drawing. Does not belong here: computing (see `metrics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ml.value.breakdown import Group
from ml.value.metrics import decile_error, deciles, gini

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH, PLAIN = "#22313f", "#9aa5ad"
COLOURS = ("#1b6ca8", "#d98032", "#4c9f70", PLAIN)


def calibration(actual: np.ndarray, predicted: Mapping[str, np.ndarray], subtitle: str) -> Figure:
    """Predicted against realised spend per decile of the prediction; the first of `predicted` stands out."""
    figure, axes = _empty()
    for (name, values), colour, style in zip(predicted.items(), COLOURS, ("o-", "s--", "^--", "x:"), strict=False):
        expected, realised = deciles(actual, values)
        label = f"{name} (off by {decile_error(actual, values):.0%} of spend)"
        axes.plot(expected, realised, style, color=colour, label=label, linewidth=2 if style == "o-" else 1)
    top = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([0, top], [0, top], color=TRUTH, linestyle=":", label="perfectly calibrated")
    axes.set(title=f"Predicted and realised spend by predicted decile\n{subtitle}")
    axes.set(xlabel="mean predicted spend (currency)", ylabel="mean realised spend (currency)")
    axes.legend(frameon=False)
    return figure


def cohorts(groups: Sequence[Group], subtitle: str) -> Figure:
    """Realised over expected spend per cohort of first purchase, with 95 % intervals."""
    figure, axes = _empty()
    shown = [group for group in groups if group.expected > 0][::-1]
    position, ratio = np.arange(len(shown)), np.array([group.ratio for group in shown])
    half = np.array([group.high - group.ratio for group in shown])
    axes.errorbar(ratio, position, xerr=half, fmt="o", color=COLOURS[0], capsize=3)
    axes.axvline(1.0, color=TRUTH, linestyle=":")
    axes.set_yticks(position, [f"{group.name.replace('_', ' ')} ({group.customers:,})" for group in shown])
    axes.set(title=f"Realised over predicted spend, by days since the first purchase\n{subtitle}")
    axes.set(xlabel="realised over predicted spend (95 % interval)", ylabel="cohort (customers)")
    return figure


def corrections(rows: Sequence[Mapping[str, float]], subtitle: str) -> Figure:
    """The factor by which BG/NBD's expectation is corrected in each of its deciles, and the right factor."""
    figure, axes = _empty()
    decile = [row["decile"] for row in rows]
    for name, label, colour, style in (
        ("correction", "corrected by", COLOURS[0], "o-"), ("realised", "right correction", COLOURS[1], "s--"),
    ):  # fmt: skip
        axes.plot(decile, [row[name] for row in rows], style, color=colour, label=label)
    axes.axhline(1.0, color=TRUTH, linestyle=":")
    axes.set(title=f"The correction of BG/NBD and Gamma-Gamma by decile of what they expect\n{subtitle}")
    axes.set(xlabel="decile of BG/NBD's expectation, lowest first", ylabel="multiple of BG/NBD's expectation")
    axes.legend(frameon=False)
    return figure


def season(orders: np.ndarray, spend: np.ndarray) -> Figure:
    """The index of each day of the year."""
    figure, axes = _empty()
    for values, label, colour in ((spend, "spend", COLOURS[0]), (orders, "orders", COLOURS[1])):
        axes.plot(np.arange(1, len(values) + 1), values, color=colour, label=label)
    axes.axhline(1.0, color=TRUTH, linestyle=":")
    axes.set(title="Activity on each day of the year, relative to an ordinary day")
    axes.set(xlabel="day of the year", ylabel="index (1 on average)", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def contributions(columns: list[str], gains: np.ndarray) -> Figure:
    """The columns that the trees for spend gained most from, as shares of the whole gain."""
    total = gains.sum() or 1.0
    order = np.argsort(-gains, kind="stable")[:15][::-1]
    figure, axes = _empty()
    axes.barh([columns[position] for position in order], gains[order] / total * 100, color=COLOURS[0])
    axes.set(title="Columns that expected spend depends on most", xlabel="share of the trees' gain (%)")
    return figure


def lorenz(actual: np.ndarray, predicted: Mapping[str, np.ndarray], subtitle: str) -> Figure:
    """Share of realised spend that the customers with the highest predictions account for."""
    actual = np.maximum(actual, 0.0)
    figure, axes = _empty()
    share = np.linspace(0, 100, len(actual) + 1)
    total = actual.sum() or 1.0
    lines = [("perfect foresight", actual, TRUTH, ":")]
    lines += [(name, values, c, "-") for (name, values), c in zip(predicted.items(), COLOURS, strict=False)]
    for name, values, colour, style in lines:
        spend = np.concatenate([[0.0], np.cumsum(actual[np.argsort(-values, kind="stable")])]) / total * 100
        axes.plot(share, spend, color=colour, linestyle=style, label=f"{name} (Gini {gini(actual, values):.2f})")
    axes.plot([0, 100], [0, 100], color=PLAIN, linewidth=0.8)
    axes.set(title=f"How well customers are ordered\n{subtitle}")
    axes.set(xlabel="customers, highest prediction first (%)", ylabel="share of realised spend (%)")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _empty() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5.2), layout="constrained")
    return figure, figure.subplots()

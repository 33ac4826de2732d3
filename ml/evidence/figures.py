"""Figure of the evidence.

Belongs here: drawing. Does not belong here: the numbers (see `comparison`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def evidence_figure(table: pa.Table) -> Figure:
    """Draw how much of next month's spend each grouping explains, out of time.

    Parameters
    ----------
    table : pyarrow.Table
        As `segment_evidence` returns it.

    Returns
    -------
    matplotlib.figure.Figure
        Bars, the best grouping at the top.

    Examples
    --------
    >>> columns = {"grouping": ["stage only", "micro-segments"], "groups": [6, 52]}
    >>> figure = evidence_figure(pa.table({**columns, "r2_spend": [0.1, 0.4], "r2_log_spend": [0.2, 0.5]}))
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['stage only (6)', 'micro-segments (52)']
    """
    from matplotlib.figure import Figure

    rows = sorted(table.to_pylist(), key=lambda row: row["r2_log_spend"])
    figure = Figure(figsize=(9, 0.5 * len(rows) + 1.8), layout="constrained")
    panel = figure.subplots()
    position = np.arange(len(rows))
    panel.barh(position + 0.2, [row["r2_log_spend"] for row in rows], 0.38, label="log(1 + spend)", color="C0")
    panel.barh(position - 0.2, [row["r2_spend"] for row in rows], 0.38, label="spend", color="C1")
    panel.set_yticks(position, [f"{row['grouping']} ({row['groups']:,})" for row in rows], fontsize=9)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_xlabel("share of the variance of the next window's spend explained, out of time (groups in brackets)")
    panel.set_title("How much of next month's spend do groups explain?")
    panel.legend(loc="lower right")
    return figure

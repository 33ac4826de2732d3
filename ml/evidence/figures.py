"""The picture of the evidence.

Belongs here: drawing. Does not belong here: the numbers (see `comparison`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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

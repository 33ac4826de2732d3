"""How well stages agree with those that are known to be true, stage by stage.

Belongs here: counting. Does not belong here: where the truth comes from (see `evidence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from ml.engine import Engine

_COUNTS = """
SELECT assigned.stage AS assigned, truth.stage AS truth, COUNT(*) AS n
FROM assigned JOIN truth ON truth.customer_id = assigned.customer_id AND truth.day = assigned.day
GROUP BY assigned.stage, truth.stage
"""


@dataclass(frozen=True)
class Agreement:
    """Agreement on one stage, or on all of them.

    Parameters
    ----------
    stage : str
        Name of the stage; "all" for customers of any stage.
    customers : int
        Customers who are truly in it.
    recall : float
        Share of these who were assigned to it.
    precision : float
        Share of the customers assigned to it who are truly in it.
    """

    stage: str
    customers: int
    recall: float
    precision: float

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision."""
        both = self.recall + self.precision
        return 2 * self.recall * self.precision / both if both else 0.0


def agreement(engine: Engine, assigned: pa.Table, truth: pa.Table, stages: Sequence[str]) -> list[Agreement]:
    """Compare assigned stages with the true ones.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    assigned, truth : pa.Table
        Columns customer_id, day and stage. Rows that only one of the tables has do not count.
    stages : sequence of str
        Names, in the order of the result.

    Returns
    -------
    list of Agreement
        One entry per stage, and "all" as the last, whose recall and precision are both the share of rows that agree.
    """
    rows = engine.query(_COUNTS, assigned=assigned, truth=truth).to_pylist()
    counts = {(row["assigned"], row["truth"]): row["n"] for row in rows}
    entries = []
    for stage in stages:
        both = counts.get((stage, stage), 0)
        n_true = sum(n for (_, true), n in counts.items() if true == stage)
        n_assigned = sum(n for (assigned_stage, _), n in counts.items() if assigned_stage == stage)
        recall, precision = both / n_true if n_true else 0.0, both / n_assigned if n_assigned else 0.0
        entries.append(Agreement(stage, n_true, recall, precision))
    total = sum(counts.values())
    share = sum(n for (assigned_stage, true), n in counts.items() if assigned_stage == true) / total if total else 0.0
    return [*entries, Agreement("all", total, share, share)]

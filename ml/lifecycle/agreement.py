"""How well stages agree with those that are known to be true, stage by stage.

Belongs here: counting. Does not belong here: where the truth comes from (see `evidence`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from ml.engine import Engine

_COUNTS = """
SELECT found.stage AS found, truth.stage AS truth, COUNT(*) AS n
FROM found JOIN truth ON truth.customer_id = found.customer_id AND truth.day = found.day
GROUP BY found.stage, truth.stage
"""


@dataclass(frozen=True)
class Agreement:
    """Agreement on one stage, or on all of them.

    Parameters
    ----------
    stage : its name; "all" for customers of any stage
    customers : how many are truly in it
    recall : share of them that were found to be
    precision : share of those found to be that truly are
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


def agreement(engine: Engine, found: pa.Table, truth: pa.Table, stages: Sequence[str]) -> list[Agreement]:
    """Set the stages that were found beside the true ones.

    Parameters
    ----------
    found, truth : customer_id, day, stage; rows that only one of them has do not count
    stages : names, in the order of the answer

    Returns
    -------
    One entry per stage, and "all" as the last, whose recall and precision are both the share of rows that agree.
    """
    counts = {(r["found"], r["truth"]): r["n"] for r in engine.query(_COUNTS, found=found, truth=truth).to_pylist()}
    entries = []
    for stage in stages:
        right = counts.get((stage, stage), 0)
        true = sum(n for (_, of), n in counts.items() if of == stage)
        said = sum(n for (as_, _), n in counts.items() if as_ == stage)
        entries.append(Agreement(stage, true, right / true if true else 0.0, right / said if said else 0.0))
    everybody = sum(counts.values())
    share = sum(n for (as_, of), n in counts.items() if as_ == of) / everybody if everybody else 0.0
    return [*entries, Agreement("all", everybody, share, share)]

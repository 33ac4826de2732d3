"""Stage shares of the last weeks, in today's terms, and whether today's shares are out of line with them.

Belongs here: shares of customers by stage over days. Does not belong here: single customers' spells (see `stages`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from ml.engine import Engine, Input
from ml.lifecycle.model import LifecycleModel, assign_stages
from ml.lifecycle.spec import LifecycleSpec
from ml.sampling import sample_customers
from ml.value.model import ValueModel, apply
from ml.value.spec import ValueSpec

if TYPE_CHECKING:
    from ml.features import CustomerHistory

WEEKS, MOST_CUSTOMERS = 13, 20_000
TRAILING_WEEKS = 4
SHIFTED = 0.25  # population stability index from which on shares count as shifted, by the usual rule of thumb


def recent_shares(
    facts: CustomerHistory,
    as_of: date,
    model: LifecycleModel,
    spec: LifecycleSpec,
    *,
    value_model: ValueModel | None,
    value_spec: ValueSpec,
) -> dict[date, dict[str, int]]:
    """Customers by stage on `as_of` and on the same day of the weeks before it, all under one model.

    Of at most `MOST_CUSTOMERS` customers, a seeded sample: it is drawn, not acted upon.
    """
    engine = facts.engine
    known = facts.known([as_of])
    people = sample_customers(engine, known, MOST_CUSTOMERS, seed=0)
    if people.num_rows < known.num_rows:
        only = "SELECT facts.* FROM facts JOIN people ON people.customer_id = facts.customer_id"
        inputs = {name: getattr(facts, name) for name in ("customer_days", "category_days", "customers")}
        facts = replace(
            facts, **{name: engine.query(only, facts=table, people=people) for name, table in inputs.items()}
        )
    features = facts.snapshot_of(*(as_of - timedelta(days=7 * back) for back in range(WEEKS - 1, -1, -1)))
    value = apply(features, value_model, value_spec, label="weekly")
    counts = stage_counts(engine, assign_stages(engine, features, value, model, spec))
    none = dict.fromkeys(spec.stage_names(), 0)
    return {day: none | of_day for day, of_day in counts.items()}


def stage_counts(engine: Engine, stages: Input) -> dict[date, dict[str, int]]:
    """Customers by stage of each day of `lifecycle_stages`."""
    found: dict[date, dict[str, int]] = {}
    for row in engine.query(
        "SELECT day, stage, COUNT(*) AS n FROM stages GROUP BY day, stage ORDER BY day, stage", stages=stages
    ).to_pylist():
        found.setdefault(row["day"], {})[row["stage"]] = row["n"]
    return found


@dataclass(frozen=True)
class Shift:
    """How far a day's stage shares are from those of the weeks before.

    Parameters
    ----------
    index : population stability index; None where fewer than `TRAILING_WEEKS` weeks are there to compare with
    stage, share, before : the stage that has moved most, its share today, and its mean share before
    """

    index: float | None
    stage: str = ""
    share: float = 0.0
    before: float = 0.0

    @property
    def is_large(self) -> bool:
        return self.index is not None and self.index > SHIFTED

    def __str__(self) -> str:
        if self.index is None:
            return f"fewer than {TRAILING_WEEKS} weeks to compare with"
        return f"{self.stage}: {self.share:.1%} of customers, {self.before:.1%} in the {TRAILING_WEEKS} weeks before"


def share_shift(today: Mapping[str, int], before: Sequence[Mapping[str, int]]) -> Shift:
    """Compare a day's customers by stage with those of the same weekday of the last weeks.

    The index is Σ (p − q) ln(p / q) over stages, p today's share and q the mean share before, each count raised by one
    half so that an empty stage has a logarithm.

    Parameters
    ----------
    before : customers by stage of each of the earlier days that are there; days without customers are left out
    """
    earlier = [counts for counts in before if sum(counts.values())]
    if len(earlier) < TRAILING_WEEKS or not sum(today.values()):
        return Shift(None)
    names = sorted(set(today).union(*earlier))

    def shares(counts: Mapping[str, int]) -> np.ndarray:
        raised = np.array([counts.get(name, 0) + 0.5 for name in names])
        return np.asarray(raised / raised.sum())

    now, then = shares(today), np.mean([shares(counts) for counts in earlier], axis=0)
    most = int(np.argmax(np.abs(now - then)))
    return Shift(float(((now - then) * np.log(now / then)).sum()), names[most], float(now[most]), float(then[most]))

"""Stage shares of the last weeks under today's model, and whether today's shares are out of line with them.

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

WEEKS, MAX_CUSTOMERS = 13, 20_000  # of the picture
TRAILING_WEEKS = 4
SHIFT_THRESHOLD = 0.25  # population stability index above which shares have shifted, by the usual rule of thumb


def recent_shares(
    facts: CustomerHistory,
    as_of: date,
    model: LifecycleModel,
    spec: LifecycleSpec,
    *,
    value_model: ValueModel | None,
    value_spec: ValueSpec,
) -> dict[date, dict[str, int]]:
    """Count customers by stage on the same weekday of the last weeks, all under one model.

    Parameters
    ----------
    facts : CustomerHistory
        What is known at the end of `as_of`.
    as_of : date
        Last of the days.
    model : LifecycleModel
        The model of all of the days.
    spec : LifecycleSpec
        Settings of the family.
    value_model : ValueModel or None
        The value model in force. None uses the baseline.
    value_spec : ValueSpec
        Settings of the value family.

    Returns
    -------
    dict of date to dict of str to int
        Customers by stage, in a seeded sample of at most `MAX_CUSTOMERS` customers: the counts are for a picture.
    """
    engine = facts.engine
    known = facts.known([as_of])
    people = sample_customers(engine, known, MAX_CUSTOMERS, seed=0)
    if people.num_rows < known.num_rows:
        of_people = "SELECT facts.* FROM facts JOIN people ON people.customer_id = facts.customer_id"
        inputs = {name: getattr(facts, name) for name in ("customer_days", "category_days", "customers")}
        facts = replace(
            facts, **{name: engine.query(of_people, facts=table, people=people) for name, table in inputs.items()}
        )
    features = facts.snapshot_of(*(as_of - timedelta(days=7 * back) for back in range(WEEKS - 1, -1, -1)))
    value = apply(features, value_model, value_spec, label="weekly")
    counts = stage_counts(engine, assign_stages(engine, features, value, model, spec))
    zeros = dict.fromkeys(spec.stage_names(), 0)
    return {day: zeros | of_day for day, of_day in counts.items()}


def stage_counts(engine: Engine, stages: Input) -> dict[date, dict[str, int]]:
    """Count customers by day and stage.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    stages : Input
        Columns day and stage: one row per customer and day.

    Returns
    -------
    dict of date to dict of str to int
        Customers by stage, of each day in order.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from ml.engine import DuckDB
    >>> stages = pa.table({"day": [date(2024, 6, 1)] * 3, "stage": ["new", "active", "active"]})
    >>> stage_counts(DuckDB(threads=1), stages)
    {datetime.date(2024, 6, 1): {'active': 2, 'new': 1}}
    """
    counts: dict[date, dict[str, int]] = {}
    for row in engine.query(
        "SELECT day, stage, COUNT(*) AS n FROM stages GROUP BY day, stage ORDER BY day, stage", stages=stages
    ).to_pylist():
        counts.setdefault(row["day"], {})[row["stage"]] = row["n"]
    return counts


@dataclass(frozen=True)
class Shift:
    """Distance of a day's stage shares from those of the weeks before.

    Parameters
    ----------
    index : float or None
        Population stability index; None if there are fewer than `TRAILING_WEEKS` weeks to compare with.
    stage : str
        Stage whose share has changed most.
    share : float
        Its share of customers on the day.
    before : float
        Its mean share in the weeks before.

    Examples
    --------
    >>> str(Shift(0.3, "churn", 0.4, 0.2))
    'churn: 40.0% of customers, 20.0% in the 4 weeks before'
    """

    index: float | None
    stage: str = ""
    share: float = 0.0
    before: float = 0.0

    @property
    def is_large(self) -> bool:
        """Whether the shares have shifted."""
        return self.index is not None and self.index > SHIFT_THRESHOLD

    def __str__(self) -> str:
        if self.index is None:
            return f"fewer than {TRAILING_WEEKS} weeks to compare with"
        return f"{self.stage}: {self.share:.1%} of customers, {self.before:.1%} in the {TRAILING_WEEKS} weeks before"


def share_shift(today: Mapping[str, int], before: Sequence[Mapping[str, int]]) -> Shift:
    """Compare a day's customers by stage with those of the same weekday of the last weeks.

    The index is Σ (p − q) ln(p / q) over stages, where p is today's share and q the mean share before. Each count is
    raised by one half, so that an empty stage has a logarithm.

    Parameters
    ----------
    today : mapping of str to int
        Customers by stage.
    before : sequence of mapping of str to int
        Customers by stage of each earlier day there is. Days without customers are left out.

    Returns
    -------
    Shift
        The index, and the stage whose share has changed most.

    Examples
    --------
    >>> shift = share_shift({"churn": 400, "active": 550, "new": 50}, [{"churn": 200, "active": 700, "new": 100}] * 4)
    >>> str(shift), shift.is_large
    ('churn: 40.0% of customers, 20.0% in the 4 weeks before', False)
    """
    earlier = [counts for counts in before if sum(counts.values())]
    if len(earlier) < TRAILING_WEEKS or not sum(today.values()):
        return Shift(None)
    names = sorted(set(today).union(*earlier))

    def shares(counts: Mapping[str, int]) -> np.ndarray:
        raised = np.array([counts.get(name, 0) + 0.5 for name in names])
        return np.asarray(raised / raised.sum())

    current, usual = shares(today), np.mean([shares(counts) for counts in earlier], axis=0)
    index = float(((current - usual) * np.log(current / usual)).sum())
    largest = int(np.argmax(np.abs(current - usual)))
    return Shift(index, names[largest], float(current[largest]), float(usual[largest]))

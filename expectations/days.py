"""The verdict on days as a whole: Great Expectations decides which measures lie outside their limits.

Belongs here: combining measures, limits and the suite's results, day by day. Does not belong here: how a measure
is computed (see `expectations.measures`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

import expectations.suites as suites
from expectations.measures import DayMeasures, Limit, limits
from expectations.rules import ValidationSpec
from ml.tables import Table

if TYPE_CHECKING:
    import numpy as np

    from expectations.thresholds import Severity


@dataclass(frozen=True)
class Measurement:
    """One measure of one day.

    Parameters
    ----------
    value : None if too little is known to compute it
    lower, upper : its limits
    severity : what a value outside the limits means; ``report`` for a measure without limits
    passed : whether the expectation is met; a value outside the limits passes if chance explains it
    note : what explains the value
    """

    measure: str
    value: float | None
    lower: float | None = None
    upper: float | None = None
    severity: Severity | Literal["report"] = "report"
    passed: bool = True
    note: str = ""

    @property
    def limits(self) -> str:
        """The limits in words."""
        if self.lower is not None and self.upper is not None:
            return f"{self.lower:g} … {self.upper:g}"
        return f"at most {self.upper:g}" if self.upper is not None else "only reported"

    @property
    def is_within_chance(self) -> bool:
        """Whether the value lies outside its limits, and chance explains it."""
        low = -math.inf if self.lower is None else self.lower
        high = math.inf if self.upper is None else self.upper
        return self.passed and self.value is not None and not low <= self.value <= high

    def __str__(self) -> str:
        value = "not judged" if self.value is None else f"{self.value:.3g}"
        limit = (
            ""
            if self.passed
            else f", outside of {self.limits}"
            if self.lower is not None
            else f", above {self.upper:g}"
        )
        note = ", ".join(filter(None, (self.note, "no more than chance explains" if self.is_within_chance else "")))
        return f"{value}{limit}{f' ({note})' if note else ''}"


def can_refuse(table: Table, spec: ValidationSpec) -> bool:
    """Whether a day of the table can be refused for its measures."""
    return any(limit.severity == "error" for limit in limits(table, spec))


def judge_days(table: Table, spec: ValidationSpec, measures: DayMeasures) -> dict[date, tuple[Measurement, ...]]:
    """Judge each day's measures, by one run of the suite over the frame of all days."""
    import numpy as np

    of_measure = {limit.measure: limit for limit in limits(table, spec)}
    judged = {n: v for n, v in measures.values.items() if n in of_measure and not np.isnan(v).all()}
    outside = _outside(table, [of_measure[name] for name in judged], judged)
    return {
        day: tuple(
            _measurement(name, float(measures.plain.get(name, values)[i]), of_measure.get(name),
                         (name, i) in outside, measures.notes.get((name, day), ""))
            for name, values in measures.values.items()
        )
        for i, day in enumerate(measures.days)
    }  # fmt: skip


def _outside(table: Table, asked: list[Limit], judged: dict[str, np.ndarray]) -> set[tuple[str, int]]:
    """Measure and position of each day that does not meet its expectation."""
    import pandas as pd

    if not asked:
        return set()
    result = suites.run(suites.day_suite(table, asked), pd.DataFrame(judged), positions=True)
    return {
        (one.expectation_config.kwargs["column"], int(position))
        for one in result.results
        if one.expectation_config is not None
        for position in one.result.get("unexpected_index_list") or ()
    }


def _measurement(name: str, value: float, limit: Limit | None, is_outside: bool, note: str) -> Measurement:
    rounded = round(value, 6) if value == value else None
    if limit is None:
        return Measurement(name, rounded, note=note)
    return Measurement(name, rounded, limit.lower, limit.upper, limit.severity, not is_outside, note)

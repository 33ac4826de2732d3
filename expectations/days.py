"""The judgement on days as a whole: Great Expectations says which measures lie outside of their limits.

Belongs here: putting measures, limits and the suite's answers together, day by day. Does not belong here: how a measure
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
class Measured:
    """One measure of one day.

    Parameters
    ----------
    value : None where too little is known to have it; it may lie outside of the limits and hold, where chance explains
        that
    least, most : its limits
    severity : what it means to lie outside of them; ``report`` for a measure without limits
    note : what explains the value
    """

    measure: str
    value: float | None
    least: float | None = None
    most: float | None = None
    severity: Severity | Literal["report"] = "report"
    held: bool = True
    note: str = ""

    @property
    def limits(self) -> str:
        """The limits in words."""
        if self.least is not None and self.most is not None:
            return f"{self.least:g} … {self.most:g}"
        return f"at most {self.most:g}" if self.most is not None else "only reported"

    @property
    def by_chance(self) -> bool:
        """Whether the value lies outside of its limits, and chance explains it."""
        low = -math.inf if self.least is None else self.least
        high = math.inf if self.most is None else self.most
        return self.held and self.value is not None and not low <= self.value <= high

    def __str__(self) -> str:
        value = "not judged" if self.value is None else f"{self.value:.3g}"
        limit = (
            "" if self.held else f", outside of {self.limits}" if self.least is not None else f", above {self.most:g}"
        )
        note = ", ".join(filter(None, (self.note, "no more than chance explains" if self.by_chance else "")))
        return f"{value}{limit}{f' ({note})' if note else ''}"


def can_refuse(table: Table, spec: ValidationSpec) -> bool:
    """Whether a day of the table can be refused for its measures."""
    return any(limit.severity == "error" for limit in limits(table, spec))


def judge_days(table: Table, spec: ValidationSpec, measures: DayMeasures) -> dict[date, tuple[Measured, ...]]:
    """What is said of each day's measures, by one run of the suite over the frame of all days."""
    import numpy as np

    of_measure = {limit.measure: limit for limit in limits(table, spec)}
    judged = {n: v for n, v in measures.values.items() if n in of_measure and not np.isnan(v).all()}
    outside = _outside(table, [of_measure[name] for name in judged], judged)
    found: dict[date, tuple[Measured, ...]] = {}
    for place, day in enumerate(measures.days):
        found[day] = tuple(
            _measured(name, float(measures.plain.get(name, values)[place]), of_measure.get(name),
                      (name, place) in outside,
                      measures.notes.get((name, day), ""))
            for name, values in measures.values.items()
        )  # fmt: skip
    return found


def _outside(table: Table, asked: list[Limit], judged: dict[str, np.ndarray]) -> set[tuple[str, int]]:
    import pandas as pd

    if not asked:
        return set()
    result = suites.run(suites.day_suite(table, asked), pd.DataFrame(judged), which=True)
    return {
        (one.expectation_config.kwargs["column"], int(place))
        for one in result.results
        if one.expectation_config is not None
        for place in one.result.get("unexpected_index_list") or ()
    }


def _measured(name: str, value: float, limit: Limit | None, is_outside: bool, note: str) -> Measured:
    known = round(value, 6) if value == value else None
    if limit is None:
        return Measured(name, known, note=note)
    return Measured(name, known, limit.least, limit.most, limit.severity, not is_outside, note)

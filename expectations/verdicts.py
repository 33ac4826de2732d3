"""The suite's verdict on each day's rows, in few passes.

Belongs here: what a verdict is, and running Great Expectations on the days of one run. Does not belong here: the suites
(see `expectations.suites`), and which rows are refused (`expectations.validation`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import expectations.suites as suites
from expectations.days import Measurement
from expectations.rules import ValidationSpec
from ml.tables import Table

if TYPE_CHECKING:
    import pandas as pd

NO_ROWS = "no rows were delivered"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one day.

    Parameters
    ----------
    rows, refused : delivered rows, and how many of them were refused
    counted : how many of the refused ones count against the day
    undated : rows without a readable day that may belong to this one; they count against it too
    rules : rule to the number of rows it refused
    failed_expectations : why the day does not pass; empty if it does
    warnings : expectations that failed without refusing the day
    results : one small entry per expectation: its name, whether it was met, the percentage of rows that broke it
    measures : the day as a whole compared with the days before; empty if nothing is known about those
    """

    passed: bool
    rows: int
    refused: int
    counted: int = 0
    undated: int = 0
    rules: dict[str, int] = field(default_factory=dict)
    failed_expectations: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)
    measures: tuple[Measurement, ...] = ()

    @property
    def refused_share(self) -> float:
        return self.refused / self.rows if self.rows else 0.0

    @property
    def unusual(self) -> list[Measurement]:
        """The measures that lie outside their limits."""
        return [one for one in self.measures if not one.passed]

    def with_measures(self, measures: tuple[Measurement, ...]) -> Verdict:
        """The same verdict with the day's measures; one that fails with severity ``error`` refuses the day."""
        errors = [f"{one.measure}: {one}" for one in measures if not one.passed and one.severity == "error"]
        return replace(
            self,
            passed=self.passed and not errors,
            failed_expectations=[*self.failed_expectations, *errors],
            measures=measures,
        )


def row_verdicts(
    table: Table,
    spec: ValidationSpec,
    batch: pd.DataFrame,
    days: Sequence[date],
    counts: Mapping[date | None, int],
    rules: Mapping[date, dict[str, int]],
    undated: Mapping[date, int] = MappingProxyType({}),
) -> dict[date, Verdict]:
    """The suite's verdict on each day, in as few passes as give the same result as a pass per day.

    An expectation that every row of the run meets is met on every day. Any other is checked on each day with a refused
    row, and on the remaining days together; only if it fails there too, on each of them.
    """
    min_rows = spec.min_rows.get(table.name, 0)
    lenient = suites.suite(table, spec)
    names = suites.labels(lenient)
    rows_of_a_day = {suites.label(one) for one in lenient.expectations if suites.counts_rows(one)}
    strict = {name for name in names if name not in rows_of_a_day}
    broken = _broken(table, spec, batch, strict) if len(batch) else strict
    alone = {day for day in days if counts.get(day, 0) < max(1, min_rows) or undated.get(day)}
    if broken:
        alone |= set(rules)
        others = [day for day in days if day not in alone]
        if others and _broken(table, spec, batch[batch["day"].isin(stamps(others))], broken):
            alone |= set(others)
    groups = batch.groupby("day").indices if alone else {}
    counting = batch.loc[batch[suites.REFUSED_BY].notna(), "day"].value_counts()
    verdicts = {}
    for day, stamp in zip(days, stamps(days), strict=True):
        refused, answers, lost = rules.get(day, {}), {}, undated.get(day, 0)
        if not counts.get(day, 0) and not min_rows and not lost:
            verdicts[day] = Verdict(True, 0, 0, warnings=[NO_ROWS])
            continue
        if day in alone:
            answers = _answers(table, spec, batch.iloc[groups.get(stamp, [])], lost, broken | rows_of_a_day)
        failing = [name for name in names if name in answers and not answers[name].success]
        passed = not any(names[name] for name in failing)
        verdicts[day] = Verdict(
            passed=passed,
            rows=counts.get(day, 0),
            refused=sum(refused.values()),
            counted=int(counting.get(stamp, 0)),
            undated=lost,
            rules=refused,
            failed_expectations=[] if passed else failing,
            warnings=([] if counts.get(day, 0) else [NO_ROWS]) + (failing if passed else []),
            results=[_entry(name, critical, answers.get(name)) for name, critical in names.items()],
        )
    return verdicts


def _answers(
    table: Table, spec: ValidationSpec, batch: pd.DataFrame, undated: int, names: Collection[str]
) -> dict[str, Any]:
    """The suite's results on one day's rows, by expectation.

    Rows without a day that may belong to this one count as refused, and nothing else, for their values are unknown.
    """
    import pandas as pd

    mostly = spec.mostly(len(batch) + undated)
    alone = {suites.REFUSED} if undated else set()
    result = suites.run(suites.suite(table, spec, mostly=mostly, only=set(names) - alone), batch)
    answers = {suites.label(one): one for one in result.results}
    if undated:
        refused = pd.concat([batch[suites.REFUSED_BY], pd.Series([1.0] * undated)])
        result = suites.run(suites.suite(table, spec, mostly=mostly, only=alone), refused.to_frame(suites.REFUSED_BY))
        answers |= {suites.label(one): one for one in result.results}
    return answers


def _broken(table: Table, spec: ValidationSpec, batch: pd.DataFrame, names: Collection[str]) -> set[str]:
    """Those of the named expectations that some row does not meet."""
    result = suites.run(suites.suite(table, spec, mostly=1.0, only=names), batch)
    return {suites.label(one) for one in result.results if not one.success}


def stamps(days: Sequence[date]) -> list[pd.Timestamp]:
    """Days as a batch has them."""
    import pandas as pd

    return [pd.Timestamp(day) for day in days]


def _entry(name: str, critical: bool, answer: Any | None) -> dict[str, Any]:
    percent = answer.result.get("unexpected_percent") if answer is not None else None
    return {
        "expectation": name,
        "success": bool(answer.success) if answer is not None else True,
        "severity": "critical" if critical else "warning",
        "unexpected_percent": round(float(percent or 0.0), 4),
    }

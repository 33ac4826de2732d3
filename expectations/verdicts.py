"""The suite's answer for each day's rows, in few passes.

Belongs here: what is said of a day, and asking Great Expectations about the days of one run. Does not belong here: the
suites (see `expectations.suites`), and which rows are refused (`expectations.validation`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import expectations.suites as suites
from expectations.days import Measured
from expectations.rules import ValidationSpec
from ml.tables import Table

if TYPE_CHECKING:
    import pandas as pd

NO_ROWS = "no rows were delivered"


@dataclass(frozen=True)
class Verdict:
    """What is said of one day.

    Parameters
    ----------
    rows, refused : delivered rows, and how many of them were refused
    counted : how many of the refused ones count against the day
    undated : rows that no day could be read of, and that may be this day's; they count against it, too
    rules : rule to the number of rows it refused
    failed_expectations : why the day does not pass; empty if it does
    warnings : what else is worth knowing
    results : one small entry per expectation: its name, whether it held, the percentage of rows that broke it
    measures : the day as a whole against what came before; empty if nothing is known of that
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
    measures: tuple[Measured, ...] = ()

    @property
    def refused_share(self) -> float:
        return self.refused / self.rows if self.rows else 0.0

    @property
    def unusual(self) -> list[Measured]:
        """The measures that lie outside of their limits."""
        return [one for one in self.measures if not one.held]

    def measured(self, measures: tuple[Measured, ...]) -> Verdict:
        """The same verdict with the day's measures; one that is an error refuses the day."""
        errors = [f"{one.measure}: {one}" for one in measures if not one.held and one.severity == "error"]
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
    """The suite's answer for each day, in as few passes as give the same answers as a pass per day.

    What holds of every row of the run holds of every day. What does not is asked of each day that has a refused row,
    and of the other days together; only if it does not hold of all of those either, of each of them.
    """
    least = spec.min_rows.get(table.name, 0)
    lenient = suites.suite(table, spec)
    names = suites.labels(lenient)
    rows_of_a_day = {suites.label(one) for one in lenient.expectations if suites.counts_rows(one)}
    strict = {name for name in names if name not in rows_of_a_day}
    broken = _broken(table, spec, batch, strict) if len(batch) else strict
    alone = {day for day in days if counts.get(day, 0) < max(1, least) or undated.get(day)}
    if broken:
        alone |= set(rules)
        others = [day for day in days if day not in alone]
        if others and _broken(table, spec, batch[batch["day"].isin(stamps(others))], broken):
            alone |= set(others)
    groups = batch.groupby("day").indices if alone else {}
    counting = batch.loc[batch[suites.REFUSED_BY].notna(), "day"].value_counts()
    verdicts = {}
    for day, stamp in zip(days, stamps(days), strict=True):
        found, answers, lost = rules.get(day, {}), {}, undated.get(day, 0)
        if not counts.get(day, 0) and not least and not lost:
            verdicts[day] = Verdict(True, 0, 0, warnings=[NO_ROWS])
            continue
        if day in alone:
            answers = _answers(table, spec, batch.iloc[groups.get(stamp, [])], lost, broken | rows_of_a_day)
        failing = [name for name in names if name in answers and not answers[name].success]
        passed = not any(names[name] for name in failing)
        verdicts[day] = Verdict(
            passed=passed,
            rows=counts.get(day, 0),
            refused=sum(found.values()),
            counted=int(counting.get(stamp, 0)),
            undated=lost,
            rules=found,
            failed_expectations=[] if passed else failing,
            warnings=([] if counts.get(day, 0) else [NO_ROWS]) + (failing if passed else []),
            results=[_entry(name, critical, answers.get(name)) for name, critical in names.items()],
        )
    return verdicts


def _answers(
    table: Table, spec: ValidationSpec, batch: pd.DataFrame, undated: int, names: Collection[str]
) -> dict[str, Any]:
    """What the suite says of one day's rows, by expectation.

    Rows that have no day but may be of this one are asked about, too: as refused, and as nothing else, for of their
    values nothing is known.
    """
    import pandas as pd

    mostly = spec.mostly(len(batch) + undated)
    alone = {suites.REFUSED} if undated else set()
    result = suites.run(suites.suite(table, spec, mostly=mostly, only=set(names) - alone), batch)
    found = {suites.label(one): one for one in result.results}
    if undated:
        refused = pd.concat([batch[suites.REFUSED_BY], pd.Series([1.0] * undated)])
        result = suites.run(suites.suite(table, spec, mostly=mostly, only=alone), refused.to_frame(suites.REFUSED_BY))
        found |= {suites.label(one): one for one in result.results}
    return found


def _broken(table: Table, spec: ValidationSpec, batch: pd.DataFrame, names: Collection[str]) -> set[str]:
    """Those of the named expectations that do not hold of every row."""
    result = suites.run(suites.suite(table, spec, mostly=1.0, only=names), batch)
    return {suites.label(one) for one in result.results if not one.success}


def stamps(days: Sequence[date]) -> list[pd.Timestamp]:
    """Days as they are written in a batch."""
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

"""The verdict on delivered rows: which are accepted, which are refused and why, and which days pass.

Belongs here: putting row rules and suites together for the days of one run. Every row is accepted or refused, never
lost; a day is judged by its own rows alone, so its verdict is the same alone or in a range. Does not belong here: the
rules.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from expectations import suites
from expectations.rules import ValidationSpec, duplicate_rule, row_rules, unique_key
from ml.engine import quoted
from ml.tables import QUARANTINE, Table

if TYPE_CHECKING:
    import pandas as pd

    from ml.engine import Engine

NO_ROWS = "no rows were delivered"


@dataclass(frozen=True)
class Verdict:
    """What is said of one day.

    Parameters
    ----------
    rows, refused : delivered rows, and how many of them were refused
    rules : rule to the number of rows it refused
    failed_expectations : why the day does not pass; empty if it does
    warnings : what else is worth knowing
    results : one small entry per expectation: its name, whether it held, the percentage of rows that broke it
    """

    passed: bool
    rows: int
    refused: int
    rules: dict[str, int] = field(default_factory=dict)
    failed_expectations: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def refused_share(self) -> float:
        return self.refused / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Validation:
    """`accepted`: the contract's columns and `day`; `refused`: those of `quarantine` and `day`."""

    accepted: pa.Table
    refused: pa.Table
    verdicts: dict[date, Verdict]


def validate(engine: Engine, table: Table, rows: pa.Table, days: Sequence[date], spec: ValidationSpec) -> Validation:
    """Judge the delivered rows of several days.

    Parameters
    ----------
    rows : as a source gives them: the contract's columns, `day`, `source`, `problem`, `delivered`
    days : the days of the run; one that brought no row has a verdict too

    Raises
    ------
    ValueError
        If a row belongs to none of `days`.
    """
    counts = _counts(rows["day"])
    strangers = sorted(set(counts) - set(days), key=str)
    if strangers:
        raise ValueError(f"{table.name}: rows of {strangers[0]} among those of {len(days)} other days")
    judged = _judged(engine, table, rows, spec)
    accepted = _without(rows, judged["row_number"]).select([*table.names, "day"])
    refused = judged.select([*QUARANTINE.names, "day"]).cast(
        pa.schema([*QUARANTINE.schema(), pa.field("day", pa.date32())])
    )
    rules: dict[date, dict[str, int]] = {}
    by_rule = judged.group_by(["day", "rule"]).aggregate([([], "count_all")])
    for entry in by_rule.sort_by([("day", "ascending"), ("rule", "ascending")]).to_pylist():
        rules.setdefault(entry["day"], {})[entry["rule"]] = entry["count_all"]
    verdicts = _verdicts(table, spec, _batch(table, spec, rows, judged), sorted(set(days)), counts, rules)
    return Validation(accepted, refused, verdicts)


def judge_rows(engine: Engine, table: Table, rows: pa.Table, spec: ValidationSpec) -> pd.DataFrame:
    """Delivered rows with `refused_by`, as a suite sees them."""
    return _batch(table, spec, rows, _judged(engine, table, rows, spec))


def _judged(engine: Engine, table: Table, rows: pa.Table, spec: ValidationSpec) -> pa.Table:
    import numpy as np

    numbered = rows.append_column("row_number", pa.array(np.arange(rows.num_rows, dtype=np.int64)))
    return engine.query(_query(table, spec, rows), rows=numbered)


def _counts(days: pa.ChunkedArray) -> dict[date | None, int]:
    return {entry["values"].as_py(): entry["counts"].as_py() for entry in pc.value_counts(days)}


def _query(table: Table, spec: ValidationSpec, rows: pa.Table) -> str:
    """The refused rows: their number, the first rule they break, and the row as JSON."""
    cases = " ".join(f"WHEN {rule.broken} THEN {_text(rule.name)}" for rule in row_rules(table, spec))
    key, repeated = unique_key(table), duplicate_rule(table)
    columns = ", ".join(map(quoted, table.names))
    steps = [f"judged AS (SELECT *, CASE WHEN problem IS NOT NULL THEN problem {cases} END AS broken FROM rows)"]
    last = "judged"
    if repeated and not any(rows[name].null_count == rows.num_rows for name in key):
        keys = ", ".join(map(quoted, key))
        present = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in key)
        nth = f"row_number() OVER (PARTITION BY day, broken IS NULL, {keys} ORDER BY {columns}, source)"
        told = f"CASE WHEN nth > 1 THEN {_text(repeated)} ELSE broken END"
        steps.append(f"ranked AS (SELECT *, CASE WHEN broken IS NULL AND {present} THEN {nth} END AS nth FROM judged)")
        steps.append(f"unique_rows AS (SELECT * REPLACE ({told} AS broken) FROM ranked)")
        last = "unique_rows"
    values = ", ".join(f"{quoted(name)} := {_json_value(table, name)}" for name in table.names)
    return (
        f'WITH {", ".join(steps)} SELECT row_number, {_text(table.name)} AS "table", broken AS rule, '
        f"coalesce(delivered, CAST(to_json(struct_pack({values})) AS VARCHAR)) AS row, "
        f"coalesce(source, '') AS source, day FROM {last} WHERE broken IS NOT NULL ORDER BY day, row_number"
    )


def _json_value(table: Table, name: str) -> str:
    """JSON has no NaN and no infinity: such a number is shown as text."""
    column = quoted(name)
    if table[name].type == "double":
        return f"CASE WHEN isfinite({column}) THEN to_json({column}) ELSE to_json(CAST({column} AS VARCHAR)) END"
    return column


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _without(rows: pa.Table, numbers: pa.ChunkedArray) -> pa.Table:
    if not len(numbers):
        return rows
    import numpy as np

    keep = np.ones(rows.num_rows, dtype=bool)
    keep[numbers.to_numpy()] = False
    return rows.filter(pa.array(keep))


def _batch(table: Table, spec: ValidationSpec, rows: pa.Table, judged: pa.Table) -> pd.DataFrame:
    """What the suite sees: the contract's columns, `day`, and the rule a row was refused by if that rule counts."""
    import numpy as np
    import pandas as pd

    frame = rows.select([*table.names, "day"]).to_pandas(date_as_object=False)
    by = np.full(rows.num_rows, None, dtype=object)
    by[judged["row_number"].to_numpy()] = [
        rule if spec.severity.get(rule, "error") == "error" else None for rule in judged["rule"].to_pylist()
    ]
    frame[suites.REFUSED_BY] = pd.Series(by, dtype="str")
    return frame


def _verdicts(
    table: Table,
    spec: ValidationSpec,
    batch: pd.DataFrame,
    days: Sequence[date],
    counts: dict[date | None, int],
    rules: dict[date, dict[str, int]],
) -> dict[date, Verdict]:
    """The suite's answer for each day, in as few passes as give the same answers as a pass per day.

    What holds of every row of the run holds of every day. What does not is asked of each day that has a refused row,
    and of the other days together; only if it does not hold of all of those either, of each of them.
    """
    least = spec.min_rows.get(table.name, 0)
    lenient = suites.suite(table, spec)
    names = suites.labels(lenient)
    # How many rows there are is a question to each day, never to the run.
    rows_of_a_day = {name for name in names if name.startswith("table: expect_table_row_count")}
    strict = {name for name in names if name not in rows_of_a_day}
    broken = _broken(table, spec, batch, strict) if len(batch) else strict
    alone = {day for day in days if counts.get(day, 0) < max(1, least)}
    if broken:
        alone |= set(rules)
        others = [day for day in days if day not in alone]
        if others and _broken(table, spec, batch[batch["day"].isin(_stamps(others))], broken):
            alone |= set(others)
    asked = suites.suite(table, spec, only=broken | rows_of_a_day)
    groups = batch.groupby("day").indices if alone else {}
    verdicts = {}
    for day, stamp in zip(days, _stamps(days), strict=True):
        found, answers = rules.get(day, {}), {}
        if not counts.get(day, 0) and not least:
            verdicts[day] = Verdict(True, 0, 0, warnings=[NO_ROWS])
            continue
        if day in alone:
            result = suites.run(asked, batch.iloc[groups.get(stamp, [])])
            answers = {suites.label(one): one for one in result.results}
        failing = [name for name in names if name in answers and not answers[name].success]
        passed = not any(names[name] for name in failing)
        verdicts[day] = Verdict(
            passed=passed,
            rows=counts.get(day, 0),
            refused=sum(found.values()),
            rules=found,
            failed_expectations=[] if passed else failing,
            warnings=([] if counts.get(day, 0) else [NO_ROWS]) + (failing if passed else []),
            results=[_entry(name, critical, answers.get(name)) for name, critical in names.items()],
        )
    return verdicts


def _broken(table: Table, spec: ValidationSpec, batch: pd.DataFrame, names: Collection[str]) -> set[str]:
    """Those of the named expectations that do not hold of every row."""
    result = suites.run(suites.suite(table, spec, mostly=1.0, only=names), batch)
    return {suites.label(one) for one in result.results if not one.success}


def _stamps(days: Sequence[date]) -> list[pd.Timestamp]:
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

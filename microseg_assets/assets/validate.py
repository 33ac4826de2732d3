"""Validate: rows that hold what the contract promises; the others go to quarantine with the rule they broke.

The gate: a day whose refused share passes the project's limit, or which lies further from what came before than the
project allows, is not written, and an older accepted partition of that day is taken out of sight, so that "exists"
means "passed" and nothing downstream can run, in this run or a later one. What is merely unusual informs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NoReturn

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from expectations import Validation, ValidationSpec, Verdict, validate
from expectations.days import Measured
from expectations.measures import SILENT, UNKNOWN, VOLUME
from expectations.refusals import exact_repeats
from microseg_assets import progress
from microseg_assets.assets.ingest import ALL_AT_ONCE
from microseg_assets.orchestration.declaration import Declaration
from microseg_assets.orchestration.step import Step, refuse
from microseg_assets.partitions import Lookback
from microseg_assets.storage import quarantine
from microseg_assets.storage.baselines import days_to_judge_again, past_of
from microseg_assets.storage.ingest_log import undated_of
from microseg_assets.storage.rows import of_days
from microseg_assets.workspace import raw_name
from ml import tables

_KEPT = {
    "keep": "all are kept, as validation.duplicates says",
    "keep one": "one of them is kept, the others are in quarantine",
    "refuse": "one of them is kept, the others are refused and count against their day",
}
CHECK, DAY_CHECK = "great_expectations", "day_expectations"


def accept(step: Step) -> None:
    """Judge the days of an input table; those that pass are written, of the others nothing is."""
    table, spec = step.name, step.project.validation
    accepted = step.project.inputs[table]
    refused: dict[date, str] = {}
    equal = 0
    for days in step.batches(ALL_AT_ONCE):
        progress.doing(step.name, "reading")
        rows = step.read(raw_name(table), days)
        progress.doing(step.name, f"judging {rows.num_rows:,} rows")
        past, undated = past_of(step.workspace, table, days), undated_of(step.workspace, table, days)
        again = _equal_rows(step, accepted, rows)
        equal += sum(again.values())
        result = validate(step.engine, accepted, rows, days, spec, past, undated)
        progress.doing(step.name, f"writing {result.accepted.num_rows:,} rows")
        _write(step, result, days)
        for day in days:
            verdict = result.verdicts[day]
            page = None if verdict.passed else _page(step, day, rows, undated.get(day, 0))
            step.check(CHECK, day, verdict.passed, stop=False, data_docs=page, **_notes(verdict, spec))
            words = "; ".join(_words(one) for one in verdict.unusual)
            step.check(
                DAY_CHECK, day, not verdict.unusual, warn=True, words=words, **_day_notes(verdict, again.get(day))
            )
            if verdict.passed:
                quarantine.clear_refusal(step.workspace, table, day)
            else:
                why = _broken(verdict, spec)
                quarantine.put_refusal(step.workspace, table, day, why)
                quarantine.withdraw(step.workspace, table, day)
                count = f"{verdict.refused:,} of {verdict.rows:,} rows: " if verdict.refused else ""
                refused[day] = f"{day} ({count}{why})"
    if equal:
        kept = _KEPT[spec.duplicates]
        progress.tell(step.name, f"{_rows_are(equal)} equal to another one in every column: {kept}")
    if refused:
        _refuse(step, refused)


def _declared(table: str) -> Declaration:
    reads = {raw_name(table): Lookback.SAME_DAY}
    if table != "customers":
        reads["customers"] = Lookback.SAME_DAY  # whose rows are of unknown customers, where they are brought
    return Declaration(
        table,
        "validate",
        accept,
        f"Accepted rows of `{table}`: every rule of its Great Expectations suite holds.",
        writes=lambda project: project.inputs[table],
        reads=reads,
        kinds=("duckdb", "greatexpectations"),
        checks={
            CHECK: ("The suite holds; at most the allowed share of rows was refused. A day that fails is not written."),
            DAY_CHECK: "The day is like those before it: known customers, fresh, as many rows, the same values.",
        },
    )


ASSETS = tuple(_declared(table) for table in tables.INPUTS)


def _write(step: Step, result: Validation, days: Sequence[date]) -> None:
    """Put refused rows in quarantine and the days that passed in place; later days that these decide on are stale."""
    table = step.name
    quarantine.put_days(step.workspace, table, days, result.refused)
    if result.refused.num_rows:
        rules = pc.value_counts(result.refused["rule"]).to_pylist()
        most = sorted(rules, key=lambda entry: (-entry["counts"], entry["values"]))[:4]
        listed = ", ".join(f"{entry['values']} ×{entry['counts']:,}" for entry in most)
        progress.tell(step.name, f"{_rows_are(result.refused.num_rows)} in quarantine: {listed}")
    good = [day for day in days if result.verdicts[day].passed]
    quarantine.put_profiles(step.workspace, table, good, result.profiles)
    kept = of_days(result.accepted, good)
    for later in days_to_judge_again(step.workspace, table, days, kept):
        step.workspace.partitions(raw_name(table)).touch(later)
    step.write(kept, good)


def _page(step: Step, day: date, rows: pa.Table, undated: int) -> dg.MetadataValue:
    return dg.MetadataValue.url(quarantine.put_data_docs(step.workspace, step.name, day, rows, undated))


def _refuse(step: Step, refused: Mapping[date, str]) -> NoReturn:
    """End the step with what was refused and what to do about it."""
    refuse(
        f"{'1 day' if len(refused) == 1 else f'{len(refused)} days'} of {step.name} "
        f"{'was' if len(refused) == 1 else 'were'} refused and not written: {'; '.join([*refused.values()][:5])}. "
        "The refused rows are in quarantine with their rule. Correct the source and run the day again, or "
        f"raise validation.max_refused_share, or the limit it broke, in {step.project.path}."
        + _until(step, [day for day in step.keys if day < min(refused)])
    )


def _rows_are(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def _until(step: Step, good: Sequence[date]) -> str:
    """How the days before the first refused one are made."""
    if not good:
        return ""
    last = max(good)
    command = f"microseg run --project {step.project.reference} --from {last} --to {last}"
    return f" The last good day before can be made: {command}"


def _notes(verdict: Verdict, spec: ValidationSpec) -> dict[str, Any]:
    return {
        "rows": verdict.rows,
        "refused": verdict.refused,
        "counted": verdict.counted if verdict.counted != verdict.refused else None,
        "without_a_day": verdict.undated or None,
        "rules": verdict.rules or None,
        "broken": _broken(verdict, spec) or None,
        "unusual": _unusual(verdict),
    }


def _day_notes(verdict: Verdict, equal: int | None) -> dict[str, Any]:
    measures = {one.measure: str(one) for one in verdict.measures if one.value is not None}
    return {"unusual": _unusual(verdict), "measures": measures or None, "rows_equal_to_another": equal}


def _equal_rows(step: Step, table: tables.Table, rows: pa.Table) -> dict[date, int]:
    """Day to its rows that are equal to another one in every column; a table with a key has no such rows."""
    if table.key or not rows.num_rows:
        return {}
    return {row["day"]: row["repeats"] for row in exact_repeats(step.engine, table, rows).to_pylist()}


def _words(one: Measured) -> str:
    """What is unusual about a day, for whoever watches a run."""
    if one.value is None:
        return f"{one.measure}: {one}"
    if one.measure == VOLUME:
        return one.note or f"{one.value:.3g} times as many rows as usual"
    if one.measure == UNKNOWN:
        return f"{one.value:.1%} of the rows are of customers that the customers table does not know"
    if one.measure == SILENT:
        return "1 day without a row" if round(one.value) == 1 else f"{one.value:.0f} days without a row"
    column = one.measure.partition(":")[0]
    most = f", where {one.most:.2g} is the limit" if one.most is not None else ""
    return f"the values of {column} are spread unlike those of the weeks before (by {one.value:.2g}{most})"


def _unusual(verdict: Verdict) -> str | None:
    return "; ".join(f"{one.measure}: {one}" for one in verdict.unusual) or None


def _broken(verdict: Verdict, spec: ValidationSpec) -> str:
    """Which rules that count against a day refused how many rows, and which expectation failed where no rule did."""
    if verdict.passed:
        return ""
    counts = {rule: count for rule, count in verdict.rules.items() if spec.severity_of(rule) == "error"}
    rules = [f"{rule} ×{count:,}" for rule, count in sorted(counts.items(), key=lambda item: -item[1])]
    if verdict.undated:
        rules.insert(0, f"rows that no day can be read of and that may be this day's ×{verdict.undated:,}")
    errors = [f"{one.measure}: {one}" for one in verdict.unusual if one.severity == "error"]
    return "; ".join([*rules, *errors] or verdict.failed_expectations)

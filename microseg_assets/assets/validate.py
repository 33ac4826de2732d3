"""Validate: rows that keep the contract are accepted; the others go to quarantine with the rule they broke.

A day is refused if its share of refused rows exceeds the project's limit, or if it differs from the days before by more
than the project allows. It is not written, and an older accepted partition of the day is deleted, so that "exists"
means "passed" and nothing downstream can run, in this run or a later one. What is merely unusual is reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NoReturn

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from expectations import Validation, ValidationSpec, Verdict, validate
from expectations.days import Measurement
from expectations.measures import SILENT, UNKNOWN, VOLUME
from expectations.refusals import exact_repeats
from microseg_assets import progress
from microseg_assets.assets.ingest import SCAN_DAYS
from microseg_assets.orchestration.declaration import Declaration
from microseg_assets.orchestration.step import Step, refuse
from microseg_assets.partitions import Lookback
from microseg_assets.storage import quarantine
from microseg_assets.storage.baselines import days_to_revalidate, read_baseline
from microseg_assets.storage.ingest_log import undated_counts
from microseg_assets.storage.rows import filter_days
from microseg_assets.workspace import raw_name
from ml import tables

_DUPLICATES = {
    "keep": "all are kept, as validation.duplicates says",
    "keep one": "one of them is kept, the others are in quarantine",
    "refuse": "one of them is kept, the others are refused and count against their day",
}
CHECK, DAY_CHECK = "great_expectations", "day_expectations"


def accept(step: Step) -> None:
    """Validate the days of an input table; only those that pass are written."""
    table, spec = step.name, step.project.validation
    accepted = step.project.inputs[table]
    refused: dict[date, str] = {}
    duplicates = 0
    for days in step.batches(SCAN_DAYS):
        progress.set_activity(step.name, "reading")
        rows = step.read(raw_name(table), days)
        progress.set_activity(step.name, f"validating {rows.num_rows:,} rows")
        baseline, undated = read_baseline(step.workspace, table, days), undated_counts(step.workspace, table, days)
        repeats = _count_duplicates(step, accepted, rows)
        duplicates += sum(repeats.values())
        result = validate(step.engine, accepted, rows, days, spec, baseline, undated)
        progress.set_activity(step.name, f"writing {result.accepted.num_rows:,} rows")
        _write(step, result, days)
        for day in days:
            verdict = result.verdicts[day]
            page = None if verdict.passed else _page(step, day, rows, undated.get(day, 0))
            step.check(CHECK, day, verdict.passed, stop=False, data_docs=page, **_notes(verdict, spec))
            message = "; ".join(_describe(measured) for measured in verdict.unusual)
            notes = _day_notes(verdict, repeats.get(day))
            step.check(DAY_CHECK, day, not verdict.unusual, warn=True, message=message, **notes)
            if verdict.passed:
                quarantine.clear_refusal(step.workspace, table, day)
            else:
                reason = _broken(verdict, spec)
                quarantine.put_refusal(step.workspace, table, day, reason)
                quarantine.withdraw(step.workspace, table, day)
                count = f"{verdict.refused:,} of {verdict.rows:,} rows: " if verdict.refused else ""
                refused[day] = f"{day} ({count}{reason})"
    if duplicates:
        treatment = _DUPLICATES[spec.duplicates]
        progress.notify(step.name, f"{_rows_are(duplicates)} equal to another one in every column: {treatment}")
    if refused:
        _refuse(step, refused)


def declare(table: str, *, is_of_customers: bool = True) -> Declaration:
    """The validation of an input table, whose rows are about customers or not."""
    reads = {raw_name(table): Lookback.SAME_DAY}
    if is_of_customers and table != "customers":
        reads["customers"] = Lookback.SAME_DAY  # if provided, to recognize rows of unknown customers
    return Declaration(
        table,
        "validate",
        accept,
        f"Accepted rows of `{table}`: every rule of its Great Expectations suite holds.",
        writes=lambda project: project.inputs[table],
        reads=reads,
        kinds=("duckdb", "greatexpectations"),
        checks={
            CHECK: "The suite holds: columns, number of rows, few enough broken rows. A day that fails is not written.",
            DAY_CHECK: "The day is like those before it: known customers, no gap, as many rows, the same values.",
        },
    )


ASSETS = tuple(declare(table) for table in tables.INPUTS)


def _write(step: Step, result: Validation, days: Sequence[date]) -> None:
    """Write refused rows to quarantine, and the days that passed; later days whose verdict may change become stale."""
    table = step.name
    quarantine.put_days(step.workspace, table, days, result.refused)
    if result.refused.num_rows:
        rules = pc.value_counts(result.refused["rule"]).to_pylist()
        most_frequent = sorted(rules, key=lambda entry: (-entry["counts"], entry["values"]))[:4]
        listed = ", ".join(f"{entry['values']} ×{entry['counts']:,}" for entry in most_frequent)
        progress.notify(step.name, f"{_rows_are(result.refused.num_rows)} in quarantine: {listed}")
    passed = [day for day in days if result.verdicts[day].passed]
    quarantine.put_profiles(step.workspace, table, passed, result.profiles)
    accepted = filter_days(result.accepted, passed)
    for later in days_to_revalidate(step.workspace, table, days, accepted):
        step.workspace.partitions(raw_name(table)).touch(later)
    step.write(accepted, passed)


def _page(step: Step, day: date, rows: pa.Table, undated: int) -> dg.MetadataValue:
    return dg.MetadataValue.url(quarantine.put_data_docs(step.workspace, step.name, day, rows, undated))


def _refuse(step: Step, refused: Mapping[date, str]) -> NoReturn:
    """Fail the step with the refused days and what to do about them."""
    refuse(
        f"{'1 day' if len(refused) == 1 else f'{len(refused)} days'} of {step.name} "
        f"{'was' if len(refused) == 1 else 'were'} refused and not written: {'; '.join([*refused.values()][:5])}. "
        "The refused rows are in quarantine with their rule. Correct the source and run the day again, or "
        f"raise validation.max_refused_share, or the limit it exceeded, in {step.project.path}."
        + _until(step, [day for day in step.keys if day < min(refused)])
    )


def _rows_are(count: int) -> str:
    return "1 row is" if count == 1 else f"{count:,} rows are"


def _until(step: Step, passed: Sequence[date]) -> str:
    """How to make the days before the first refused one."""
    if not passed:
        return ""
    last = max(passed)
    command = f"microseg run --project {step.project.reference} --from {last} --to {last}"
    return f" The last good day before can be made: {command}"


def _notes(verdict: Verdict, spec: ValidationSpec) -> dict[str, Any]:
    return {
        "rows": verdict.rows,
        "refused": verdict.refused,
        "refused_counting_as_errors": verdict.counted if verdict.counted != verdict.refused else None,
        "rows_without_a_day": verdict.undated or None,
        "refused_by_rule": verdict.rules or None,
        "reason": _broken(verdict, spec) or None,
        "unusual": _unusual(verdict),
    }


def _day_notes(verdict: Verdict, duplicates: int | None) -> dict[str, Any]:
    measures = {one.measure: str(one) for one in verdict.measures if one.value is not None}
    return {"unusual": _unusual(verdict), "measures": measures or None, "duplicate_rows": duplicates}


def _count_duplicates(step: Step, table: tables.Table, rows: pa.Table) -> dict[date, int]:
    """Day to its number of rows equal to another one in every column; a table with a key has none."""
    if table.key or not rows.num_rows:
        return {}
    return {row["day"]: row["repeats"] for row in exact_repeats(step.engine, table, rows).to_pylist()}


def _describe(measured: Measurement) -> str:
    """What is unusual about a day, in a sentence for the output of a run."""
    if measured.value is None:
        return f"{measured.measure}: {measured}"
    if measured.measure == VOLUME:
        return measured.note or f"{measured.value:.3g} times as many rows as usual"
    if measured.measure == UNKNOWN:
        return f"{measured.value:.1%} of the rows are of customers who are not in the customers table"
    if measured.measure == SILENT:
        return "1 day without a row" if round(measured.value) == 1 else f"{measured.value:.0f} days without a row"
    column = measured.measure.partition(":")[0]
    limit = f", where {measured.upper:.2g} is the limit" if measured.upper is not None else ""
    return f"the distribution of {column} differs from the weeks before (by {measured.value:.2g}{limit})"


def _unusual(verdict: Verdict) -> str | None:
    return "; ".join(f"{one.measure}: {one}" for one in verdict.unusual) or None


def _broken(verdict: Verdict, spec: ValidationSpec) -> str:
    """Which rules that count as errors refused how many rows, or which expectations failed if no rule did."""
    if verdict.passed:
        return ""
    counts = {rule: count for rule, count in verdict.rules.items() if spec.severity_of(rule) == "error"}
    rules = [f"{rule} ×{count:,}" for rule, count in sorted(counts.items(), key=lambda item: -item[1])]
    if verdict.undated:
        rules.insert(0, f"rows whose day cannot be read and that may belong to this day ×{verdict.undated:,}")
    errors = [f"{one.measure}: {one}" for one in verdict.unusual if one.severity == "error"]
    return "; ".join([*rules, *errors] or verdict.failed_expectations)

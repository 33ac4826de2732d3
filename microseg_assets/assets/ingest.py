"""Ingest: the rows of a day as the business delivers them, mapped to the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

from microseg_assets import progress
from microseg_assets.orchestration.declaration import Declaration
from microseg_assets.orchestration.step import Step, refuse
from microseg_assets.sources import Arrival, Drift, Source
from microseg_assets.storage import ingest_log, quarantine, removals
from microseg_assets.storage.rows import filter_days
from microseg_assets.storage.undated import count_problems, explain_too_many
from microseg_assets.workspace import input_of, raw_name
from ml import tables

RAW_COLUMNS = (
    tables.Column("source", "string", "the file or query the row came from"),
    tables.Column(
        "problem", "string", "the column whose value could not be converted, and why; missing if there is none"
    ),
    tables.Column("delivered", "string", "the row as delivered, if there is a problem", "JSON"),
)

SCAN_DAYS = 400  # days per scan: reading the source again for every month costs more than holding the rows


DELIVERY = "delivery"
UNCHANGED = "the source no longer holds this day: it stays as it was ingested"


def ingest_days(step: Step) -> None:
    """Ingest the days of an input table; days that the source no longer holds stay as they are."""
    workspace, table = step.workspace, input_of(step.name)
    source = workspace.sources[table]
    assert source is not None, f"{table} is not provided"
    undated = source.undated()
    quarantine.put(workspace, table, "undated", undated_as_refused(table, undated))
    if undated.num_rows:
        rows = "1 row belongs" if undated.num_rows == 1 else f"{undated.num_rows:,} rows belong"
        progress.notify(step.name, f"{rows} to no day: in quarantine, day=undated")
    counted = _count_undated(step, source, table, undated)
    total_undated = count_problems(undated).total()
    columns = list(source.columns())
    state = _source_state(step, source, table)
    ingested = ingest_log.read_ingested(workspace, table)
    is_repeat = table in tables.INPUTS and any(day in ingested for day in step.keys)  # a context has no customers
    removed = ingest_log.removed_customers(workspace, step.run_id) if is_repeat else ()
    for days in step.batches(SCAN_DAYS):
        rows = source.rows(days[0], days[-1])
        arrived = source.arrived(rows)
        unchanged = ingest_log.dropped_days(source, days, ingested, arrived)
        same_dated = _days_with_same_dated_rows(step, table, days, ingested, arrived)
        if reduced := _without_removed(step, removed, [*unchanged, *same_dated]):
            remaining = pa.concat_tables(reduced.values())
            footers = ingest_log.notes(list(reduced), source.arrived(remaining), counted)
            step.write(remaining, list(reduced), footers=footers)
            unchanged = [day for day in unchanged if day not in reduced]
        new = [day for day in days if day not in unchanged and day not in reduced]
        rows = filter_days(rows, new) if unchanged or reduced else rows
        step.write(rows, new, footers=ingest_log.notes(new, arrived, counted), **state.notes)
        for day in unchanged:
            step.note(day, rows=ingested[day].rows, unchanged=UNCHANGED, **state.notes)
        ingest_log.note_columns(workspace, table, days[-1], columns)
        if not source.has_order:
            ingest_log.note_undated(workspace, table, days[-1], total_undated)
        for day in days:
            step.check(
                DELIVERY, day, not state.warnings, warn=True, message="; ".join(state.warnings),
                unchanged=UNCHANGED if day in unchanged else None, **state.notes,
            )  # fmt: skip


def declare(table: str, meaning: str) -> Declaration:
    """The ingest of an input table, whose rows have a meaning."""
    return Declaration(
        raw_name(table),
        "ingest",
        ingest_days,
        f"Delivered rows of `{table}`: {meaning}. Mapped, not yet validated.",
        writes=lambda project: project.inputs[table].plus(RAW_COLUMNS).named(raw_name(table)),
        checks={DELIVERY: "The source has every mapped column, and all columns it had before."},
    )


ASSETS = tuple(declare(table.name, table.meaning) for table in tables.INPUTS.values())


def _days_with_same_dated_rows(
    step: Step, table: str, days: Sequence[date], ingested: Mapping[date, Arrival], arrived: Mapping[date, Arrival]
) -> list[date]:
    """Days of a table versioned by delivery whose dated rows have not changed: their other rows stay as ingested."""
    if not ingested or not removals.is_versioned(step.project.inputs[table]):
        return []
    nothing = Arrival.of_nothing()
    return [day for day in days if day in ingested and not ingested[day].differs(arrived.get(day, nothing))]


def _without_removed(step: Step, removed: pa.Array | tuple[()], days: Sequence[date]) -> dict[date, pa.Table]:
    """The remaining rows of those of `days` that have rows of removed customers."""
    if not len(removed):
        return {}
    remaining = {}
    for day in days:
        rows = step.read(step.name, [day])
        others = removals.exclude(rows, removed)
        if others.num_rows < rows.num_rows:
            remaining[day] = others
    return remaining


@dataclass(frozen=True)
class _SourceState:
    """The state of a source as a whole: what it lacks, as `warnings`, and metadata about it, as `notes`."""

    warnings: list[str]
    notes: dict[str, Any]


def _source_state(step: Step, source: Source, table: str) -> _SourceState:
    before = ingest_log.columns_before(step.workspace, table, min(step.keys))
    drift = source.drift(before) if before is not None else Drift()
    warnings = [problem.message for problem in source.check() if problem.severity == "warning"]
    unmapped = source.unmapped() if source.ids is not None else None
    notes = {
        "new_columns": ", ".join(drift.new) or None,
        "vanished_columns": ", ".join(drift.vanished) or None,
        "source_warnings": "; ".join(warnings) or None,
        "ids_without_a_customer": _describe_unmapped(unmapped) if unmapped is not None and unmapped.num_rows else None,
    }
    return _SourceState([*warnings, *(f"column {name} is no longer delivered" for name in drift.vanished)], notes)


def _describe_unmapped(unmapped: pa.Table) -> str:
    examples = ", ".join(f"{row['source_id']} ×{row['rows']:,}" for row in unmapped.slice(0, 3).to_pylist())
    return f"{unmapped.num_rows:,} that are not in the map of ids, such as {examples}"


def undated_as_refused(table: str, rows: pa.Table) -> pa.Table:
    """Rows that belong to no day of the project, in the form of the quarantine."""
    return pa.table(
        {
            "table": pa.array([table] * rows.num_rows, pa.string()),
            "rule": rows["problem"],
            "row": rows["delivered"],
            "source": rows["source"],
        }
    )


def _count_undated(step: Step, source: Source, table: str, undated: pa.Table) -> ingest_log.Undated:
    """Which days the rows without a day count against.

    If there are too many of them, nothing is ingested: the validation of a single day would not show the problem.
    """
    problems = count_problems(undated)
    if not problems:
        return ingest_log.Undated()
    arrived = source.arrivals(step.workspace.calendar.newest_day)
    if problem := explain_too_many(step.project, table, problems, sum(one.rows for one in arrived.values())):
        refuse(problem)
    return ingest_log.count_undated(step.workspace, table, problems.total(), arrived)

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
from microseg_assets.storage import forgetting, ingest_log, quarantine
from microseg_assets.storage.rows import of_days
from microseg_assets.storage.undated import problems_of, too_many
from microseg_assets.workspace import input_of, raw_name
from ml import tables

RAW_COLUMNS = (
    tables.Column("source", "string", "the file or query the row came from"),
    tables.Column("problem", "string", "the column whose value could not be converted, and why; missing if all could"),
    tables.Column("delivered", "string", "the row as it came, where there is a problem", "JSON"),
)

ALL_AT_ONCE = 400  # days of one scan: reading a source again for every month would cost more than the rows weigh


DELIVERY = "delivery"
KEPT = "the source no longer holds this day: it stays as it was taken in"


def take_in(step: Step) -> None:
    """Take the days of an input table in: those that the source no longer holds stay as they were."""
    workspace, table = step.workspace, input_of(step.name)
    source = workspace.sources[table]
    assert source is not None, f"{table} is off"
    undated = source.undated()
    quarantine.put(workspace, table, "undated", undated_as_refused(table, undated))
    if undated.num_rows:
        rows = "1 row belongs" if undated.num_rows == 1 else f"{undated.num_rows:,} rows belong"
        progress.tell(step.name, f"{rows} to no day: in quarantine, day=undated")
    counting = _undated(step, source, table, undated)
    lost = problems_of(undated).total()
    columns = list(source.columns())
    about = _about(step, source, table)
    then = ingest_log.taken(workspace, table)
    is_again = any(day in then for day in step.keys)
    removed = ingest_log.removed_in(workspace, step.run_id) if is_again else ()
    for days in step.batches(ALL_AT_ONCE):
        rows = source.rows(days[0], days[-1])
        arrived = source.arrived(rows)
        kept = ingest_log.kept(source, days, then, arrived)
        if mended := _without(step, removed, [*kept, *_undated_alike(step, table, days, then, arrived)]):
            lasting = pa.concat_tables(mended.values())
            noted = ingest_log.notes(list(mended), source.arrived(lasting), counting)
            step.write(lasting, list(mended), footers=noted)
            kept = [day for day in kept if day not in mended]
        new = [day for day in days if day not in kept and day not in mended]
        rows = of_days(rows, new) if kept or mended else rows
        step.write(rows, new, footers=ingest_log.notes(new, arrived, counting), **about.notes)
        for day in kept:
            step.note(day, rows=then[day].rows, kept=KEPT, **about.notes)
        ingest_log.note_columns(workspace, table, days[-1], columns)
        if not source.has_order:
            ingest_log.note_undated(workspace, table, days[-1], lost)
        for day in days:
            is_kept = KEPT if day in kept else None
            step.check(
                DELIVERY, day, not about.lost, warn=True, words="; ".join(about.lost), kept=is_kept, **about.notes
            )


def _declared(table: str) -> Declaration:
    return Declaration(
        raw_name(table),
        "ingest",
        take_in,
        f"Delivered rows of `{table}`: {tables.INPUTS[table].meaning}. Mapped, not yet judged.",
        writes=lambda project: project.inputs[table].plus(RAW_COLUMNS).named(raw_name(table)),
        checks={DELIVERY: "The source has every column that is mapped, and none of those it had before is gone."},
    )


ASSETS = tuple(_declared(table) for table in tables.INPUTS)


def _undated_alike(
    step: Step, table: str, days: Sequence[date], then: Mapping[date, Arrival], arrived: Mapping[date, Arrival]
) -> list[date]:
    """Days of a table versioned by delivery whose dated rows are as they were: what they say of customers stays."""
    if not then or not forgetting.is_versioned(step.project.inputs[table]):
        return []
    nothing = Arrival.of_nothing()
    return [day for day in days if day in then and not then[day].differs(arrived.get(day, nothing))]


def _without(step: Step, removed: pa.Array | tuple[()], days: Sequence[date]) -> dict[date, pa.Table]:
    """The rows of days that stay as they were taken in, where customers have been removed from all sources since."""
    if not len(removed):
        return {}
    found = {}
    for day in days:
        rows = step.read(step.name, [day])
        others = forgetting.without(rows, removed)
        if others.num_rows < rows.num_rows:
            found[day] = others
    return found


@dataclass(frozen=True)
class _About:
    """What is worth knowing of a source as a whole; `lost` is what it no longer has."""

    lost: list[str]
    notes: dict[str, Any]


def _about(step: Step, source: Source, table: str) -> _About:
    before = ingest_log.columns_before(step.workspace, table, min(step.keys))
    drift = source.drift(before) if before is not None else Drift()
    lost = [problem.message for problem in source.check() if problem.severity == "warning"]
    unmapped = source.unmapped() if source.ids is not None else None
    notes = {
        "new_columns": ", ".join(drift.new) or None,
        "vanished_columns": ", ".join(drift.vanished) or None,
        "missing": "; ".join(lost) or None,
        "ids_without_a_customer": _listed(unmapped) if unmapped is not None and unmapped.num_rows else None,
    }
    return _About([*lost, *(f"column {name} is no longer delivered" for name in drift.vanished)], notes)


def _listed(unmapped: pa.Table) -> str:
    examples = ", ".join(f"{row['source_id']} ×{row['rows']:,}" for row in unmapped.slice(0, 3).to_pylist())
    return f"{unmapped.num_rows:,} that the map of ids does not hold, such as {examples}"


def undated_as_refused(table: str, rows: pa.Table) -> pa.Table:
    """Rows that belong to no day of the project, as the quarantine keeps them."""
    return pa.table(
        {
            "table": pa.array([table] * rows.num_rows, pa.string()),
            "rule": rows["problem"],
            "row": rows["delivered"],
            "source": rows["source"],
        }
    )


def _undated(step: Step, source: Source, table: str, undated: pa.Table) -> ingest_log.Undated:
    """Which days rows without a day count against. Where too many have none, nothing is taken in: no day's own gate
    could tell what is wrong with all of them."""
    problems = problems_of(undated)
    if not problems:
        return ingest_log.Undated()
    arrived = source.arrivals(step.workspace.calendar.newest_day)
    if why := too_many(step.project, table, problems, sum(one.rows for one in arrived.values())):
        refuse(why)
    return ingest_log.undated_now(step.workspace, table, problems.total(), arrived)

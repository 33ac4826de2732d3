"""Customers whom the business has removed from all of its sources, and whose rows must leave the lake too.

Belongs here: deciding who was removed, rather than merely older than what a source keeps. Does not belong here:
deleting rows (see `assets.ingest`), and what becomes stale as a result (see `staleness`).

A row that is missing from a source proves nothing: a source that keeps only its newest days drops every customer in
time, and a file may be truncated or missing. Deleted rows cannot be restored, so nobody is deleted on suspicion. A
customer in no source counts as removed only if a row is gone that the source would still hold had it only aged or been
truncated: a row of a day of which the source still holds nearly all rows of other customers, or the customer's line in
a file that still has nearly all other lines (see `_missing_lines`). If this holds for many customers at once, it is the
source that has changed. All other missing customers stay, in doubt, unless the project file settles the question with
`sources_are_complete`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.sources import Arrival, Change, SourceError, dropped
from microseg_assets.workspace import Workspace, raw_name
from ml import tables
from ml.tables import CUSTOMER_ID, Table

Arrivals = Mapping[str, Mapping[date, Arrival]]

_MAX_GONE_SHARE = 0.1  # of rows or customers that may be gone, if nearly all are to be present; one always may


def _nobody() -> pa.Array:
    return pa.array([], pa.string())


@dataclass(frozen=True)
class MissingCustomers:
    """Customers in the lake who are no longer in any source, sorted.

    Parameters
    ----------
    removed : customers removed by the business
    in_doubt : customers who may only have been dropped by sources that keep recent rows; their rows stay
    changes : days that differ only by the rows of removed customers and that no other comparison reports: days that a
        source has dropped as old, and lines without a stamp
    """

    removed: pa.Array = field(default_factory=_nobody)
    in_doubt: pa.Array = field(default_factory=_nobody)
    changes: tuple[Change, ...] = ()


def find_missing(
    workspace: Workspace, ingested: Arrivals, current: Arrivals, changes: Collection[Change]
) -> MissingCustomers:
    """Customers in the lake who are no longer in any source; nobody if a source cannot be read.

    Parameters
    ----------
    ingested, current : table to what was ingested and what the source holds now, by day; contexts are not about
        customers, and are left out
    changes : the days on which a source holds something else now
    """
    ingested = {table: of_table for table, of_table in ingested.items() if table in tables.INPUTS}
    suspects = {table: _suspects(workspace, table, ingested[table], current[table], changes) for table in ingested}
    suspected = pa.chunked_array([rows["customer_id"] for rows in suspects.values()], pa.string())
    gone = _absent(workspace, suspected.unique())
    if not len(gone):
        return MissingCustomers()
    removed = gone
    if not workspace.project.sources_are_complete:
        old = {table: dropped(ingested[table], current[table]) for table in ingested}
        dropped_rows, other_rows = (
            {table: _of_days(rows, old[table], is_in) for table, rows in suspects.items()} for is_in in (True, False)
        )
        only_gone_dropped = all(
            pc.all(pc.is_in(rows["customer_id"], gone)).as_py() is not False for rows in dropped_rows.values()
        )
        evident: list[pa.Array] = []
        for table, rows in other_rows.items():
            if is_versioned(workspace.project.inputs[table]):
                known = rows["customer_id"].unique()
                evident.append(_missing_lines(workspace, known, gone, list(ingested), only_gone_dropped))
            else:
                evident.append(_missing_rows(rows, gone, ingested[table], current[table]))
        removed = pa.concat_arrays(evident).unique()
    removed = removed.take(pc.array_sort_indices(removed))
    in_doubt = gone.filter(pc.invert(pc.is_in(gone, removed)))
    reported = {(change.table, change.day) for change in changes}
    further = []
    for table, rows in suspects.items():
        lost = rows.filter(pc.is_in(rows["customer_id"], removed)).group_by("day").aggregate([("rows", "sum")])
        for row in lost.sort_by("day").to_pylist():
            before = ingested[table][row["day"]]
            if (table, row["day"]) not in reported:
                after = Arrival(before.rows - row["rows_sum"], before.fingerprint)
                further.append(Change(table, row["day"], before, after))
    return MissingCustomers(removed, in_doubt.take(pc.array_sort_indices(in_doubt)), tuple(further))


def _missing_rows(
    rows: pa.Table, gone: pa.Array, ingested: Mapping[date, Arrival], current: Mapping[date, Arrival]
) -> pa.Array:
    """The gone customers of days that still hold nearly all rows of other customers; nobody if they are many.

    Parameters
    ----------
    rows : `day`, `customer_id` and `rows` in the lake, of days that the source has not dropped
    """
    gone_rows = rows.filter(pc.is_in(rows["customer_id"], gone))
    by_day = gone_rows.group_by("day").aggregate([("rows", "sum")]).to_pylist()
    nearly_full = []
    for row in by_day:
        before, after = ingested[row["day"]].rows, current.get(row["day"], Arrival.of_nothing()).rows
        others = before - row["rows_sum"]
        # With as many rows as before, the customers may have another id now.
        if others and (1 - _MAX_GONE_SHARE) * others <= after < before:
            nearly_full.append(row["day"])
    days = pa.array(sorted(nearly_full), pa.date32())
    removed = gone_rows.filter(pc.is_in(gone_rows["day"], days))["customer_id"].unique()
    known = pc.count_distinct(rows.filter(pc.is_in(rows["day"], days))["customer_id"]).as_py()
    return removed if _are_few(len(removed), known) else removed.slice(0, 0)


def _missing_lines(
    workspace: Workspace, known: pa.Array, gone: pa.Array, ingested_tables: Collection[str], only_gone_dropped: bool
) -> pa.Array:
    """The gone customers of a file that still has nearly all of its known customers.

    A file of recently active customers drops the others too. So a customer must remain in it who has been inactive for
    longer, or who was never active; or only one customer is gone, and all rows of the dropped days are theirs.

    Parameters
    ----------
    known : customers whose lines were ingested
    ingested_tables : the tables ingested; those with a stamp in every row show when a customer was last active
    only_gone_dropped : whether all rows of the days that sources have dropped are of gone customers
    """
    source, nobody = workspace.sources["customers"], known.slice(0, 0)
    if source is None:
        return nobody
    is_present = pc.is_in(known, source.customers().combine_chunks())
    left, lost = known.filter(is_present), known.filter(pc.and_(pc.is_in(known, gone), pc.invert(is_present)))
    if not len(left) or not _are_few(len(known) - len(left), len(known)):
        return nobody
    if len(lost) == 1 and only_gone_dropped:
        return lost
    dated = [table for table in ingested_tables if not is_versioned(workspace.project.inputs[table])]
    if not dated:  # nothing shows when a customer was last active
        return nobody
    last = _last_days(workspace, dated)
    seen = last.filter(pc.is_in(last["customer_id"], left))
    never = left.filter(pc.invert(pc.is_in(left, last["customer_id"].combine_chunks())))
    for table in dated:  # a customer active only after the newest day in the lake has not been inactive
        if (other := workspace.sources[table]) is not None:
            never = never.filter(pc.invert(pc.is_in(never, other.customers().combine_chunks())))
    if len(never):
        return lost
    if not seen.num_rows:
        return nobody
    later = last.filter(pc.greater(last["day"], pc.min(seen["day"])))["customer_id"].combine_chunks()
    return lost.filter(pc.is_in(lost, later))


def _last_days(workspace: Workspace, dated: Collection[str]) -> pa.Table:
    """Each `customer_id` with the last `day` of their rows in the lake, in the tables named."""
    raw = {table: workspace.partitions(raw_name(table)) for table in dated}
    parts = " UNION ALL ".join(f"SELECT customer_id, day FROM {table}" for table in dated)
    return workspace.engine.query(
        f"SELECT customer_id, max(day) AS day FROM ({parts}) WHERE customer_id IS NOT NULL GROUP BY customer_id",
        **{table: partitions.files(partitions.keys()) for table, partitions in raw.items()},
    )


def _of_days(rows: pa.Table, days: Collection[date], is_in: bool) -> pa.Table:
    """The rows of some days, or of all other days."""
    matches = pc.is_in(rows["day"], pa.array(sorted(days), pa.date32()))
    return rows.filter(matches if is_in else pc.invert(matches))


def _are_few(lost: int, known: int) -> bool:
    return lost <= max(1, _MAX_GONE_SHARE * known)


def is_versioned(table: Table) -> bool:
    """Whether a table's rows may lack a stamp: their values are versioned by delivery, and not compared."""
    return table.stamp is not None and not table[table.stamp].required


def _suspects(
    workspace: Workspace,
    table: str,
    ingested: Mapping[date, Arrival],
    current: Mapping[date, Arrival],
    changes: Iterable[Change],
) -> pa.Table:
    """`day`, `customer_id` and `rows` in the lake of the days on which a customer may be missing in the source."""
    days = {change.day for change in changes if change.table == table} | dropped(ingested, current)
    if is_versioned(workspace.project.inputs[table]):
        days = set(ingested)
    raw = workspace.partitions(raw_name(table))
    rows = "SELECT day, customer_id, COUNT(*) AS rows FROM raw WHERE customer_id IS NOT NULL GROUP BY day, customer_id"
    return workspace.engine.query(rows, raw=raw.files(sorted(days)))


def _absent(workspace: Workspace, ids: pa.Array) -> pa.Array:
    """The ids that occur in no source, nor in a map of ids that renames them; none if a source cannot be read."""
    for table in tables.INPUTS:
        source = workspace.sources[table]
        if source is None or not len(ids):
            continue
        try:
            for present in (source.customers(), source.mapped_ids()):
                ids = ids.filter(pc.invert(pc.is_in(ids, present.combine_chunks())))
        except SourceError:
            return ids.slice(0, 0)
    return ids


def exclude(rows: pa.Table, ids: pa.Array) -> pa.Table:
    """The rows of all other customers."""
    return rows.filter(pc.invert(pc.is_in(rows[CUSTOMER_ID.name], ids)))

"""Customers whom the business has removed from all of its sources: whose rows have to leave the lake too.

Belongs here: telling who was removed from who merely lies further back than a source keeps. Does not belong here:
taking rows out (see `assets.ingest`), and what becomes stale by it (see `staleness`).

That a source no longer holds a row is no proof: one that keeps its newest days lets go of every customer in time, and a
file may be cut off, or one of several be missing. What is forgotten does not come back, so nobody is forgotten on
suspicion. Who is in no source any more counts as removed where a row is gone that the source would still hold if it had
only grown old or been cut off: one of a day of which it goes on holding nearly everything that others have done; or the
line of a customer in a file that still has nearly all others (see `_missing_lines`). If that is said of many at once,
it is the source that has changed. All others stay, and are in doubt: a word in the project file
(`sources_are_complete`) settles it.
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

_FEW = 0.1  # share of rows or customers that may be gone, besides one, where nearly all are still there


def _nobody() -> pa.Array:
    return pa.array([], pa.string())


@dataclass(frozen=True)
class Missing:
    """Customers in the lake who are in no source any more, sorted.

    Parameters
    ----------
    removed : by the business
    in_doubt : or only let go of by sources that keep what is new; they stay
    changes : days that only the rows of who was removed make different, and of which nothing else would tell: those
        that a source has dropped as old, and lines without a stamp
    """

    removed: pa.Array = field(default_factory=_nobody)
    in_doubt: pa.Array = field(default_factory=_nobody)
    changes: tuple[Change, ...] = ()


def missing(workspace: Workspace, then: Arrivals, now: Arrivals, found: Collection[Change]) -> Missing:
    """Who is in no source any more; nobody where a source cannot be read.

    Parameters
    ----------
    then, now : table to what was taken in and what the source holds, by day
    found : the days on which a source has come to hold something else
    """
    suspects = {table: _suspects(workspace, table, then[table], now[table], found) for table in then}
    suspected = pa.chunked_array([rows["customer_id"] for rows in suspects.values()], pa.string())
    gone = _absent(workspace, suspected.unique())
    if not len(gone):
        return Missing()
    sure = gone
    if not workspace.project.sources_are_complete:
        old = {table: dropped(then[table], now[table]) for table in then}
        early, held = ({t: _of(rows, old[t], is_in) for t, rows in suspects.items()} for is_in in (True, False))
        is_theirs = all(pc.all(pc.is_in(rows["customer_id"], gone)).as_py() is not False for rows in early.values())
        evident: list[pa.Array] = []
        for table, rows in held.items():
            if is_versioned(workspace.project.inputs[table]):
                evident.append(_missing_lines(workspace, rows["customer_id"].unique(), gone, list(then), is_theirs))
            else:
                evident.append(_missing_rows(rows, gone, then[table], now[table]))
        sure = pa.concat_arrays(evident).unique()
    sure = sure.take(pc.array_sort_indices(sure))
    doubt = gone.filter(pc.invert(pc.is_in(gone, sure)))
    told = {(change.table, change.day) for change in found}
    changes = []
    for table, rows in suspects.items():
        lost = rows.filter(pc.is_in(rows["customer_id"], sure)).group_by("day").aggregate([("rows", "sum")])
        for row in lost.sort_by("day").to_pylist():
            was = then[table][row["day"]]
            if (table, row["day"]) not in told:
                changes.append(Change(table, row["day"], was, Arrival(was.rows - row["rows_sum"], was.fingerprint)))
    return Missing(sure, doubt.take(pc.array_sort_indices(doubt)), tuple(changes))


def _missing_rows(
    rows: pa.Table, gone: pa.Array, then: Mapping[date, Arrival], now: Mapping[date, Arrival]
) -> pa.Array:
    """Those who are gone on days that still hold nearly all rows of others; nobody where these are many.

    Parameters
    ----------
    rows : `day`, `customer_id` and `rows` in the lake, of days that the source has not dropped
    """
    theirs = rows.filter(pc.is_in(rows["customer_id"], gone))
    by_day = theirs.group_by("day").aggregate([("rows", "sum")]).to_pylist()
    full = []
    for row in by_day:
        was, is_ = then[row["day"]].rows, now.get(row["day"], Arrival.of_nothing()).rows
        others = was - row["rows_sum"]
        if others and (1 - _FEW) * others <= is_ < was:  # as many as before: they may be under another id
            full.append(row["day"])
    days = pa.array(sorted(full), pa.date32())
    found = theirs.filter(pc.is_in(theirs["day"], days))["customer_id"].unique()
    known = pc.count_distinct(rows.filter(pc.is_in(rows["day"], days))["customer_id"]).as_py()
    return found if _are_few(len(found), known) else found.slice(0, 0)


def _missing_lines(
    workspace: Workspace, known: pa.Array, gone: pa.Array, tables_then: Collection[str], is_theirs: bool
) -> pa.Array:
    """Those of the known customers of a file who are gone, where it still has nearly all others.

    A file of who was here lately lets go of them too. So somebody must be left who has been away for longer, or who has
    never been here; or it is one customer, and the days that sources have dropped were that customer's alone.

    Parameters
    ----------
    known : whose lines were taken in
    tables_then : tables whose rows say when somebody was here last
    is_theirs : whether nobody but who is gone has rows on the days that sources have dropped
    """
    source, nobody = workspace.sources["customers"], known.slice(0, 0)
    if source is None:
        return nobody
    is_here = pc.is_in(known, source.customers().combine_chunks())
    left, lost = known.filter(is_here), known.filter(pc.and_(pc.is_in(known, gone), pc.invert(is_here)))
    if not len(left) or not _are_few(len(known) - len(left), len(known)):
        return nobody
    if len(lost) == 1 and is_theirs:
        return lost
    dated = [table for table in tables_then if not is_versioned(workspace.project.inputs[table])]
    if not dated:  # nothing says when anybody was here last
        return nobody
    last = _last_days(workspace, dated)
    seen = last.filter(pc.is_in(last["customer_id"], left))
    never = left.filter(pc.invert(pc.is_in(left, last["customer_id"].combine_chunks())))
    for table in dated:  # who comes only after the newest day in the lake has not been away
        if (other := workspace.sources[table]) is not None:
            never = never.filter(pc.invert(pc.is_in(never, other.customers().combine_chunks())))
    if len(never):
        return lost
    if not seen.num_rows:
        return nobody
    later = last.filter(pc.greater(last["day"], pc.min(seen["day"])))["customer_id"].combine_chunks()
    return lost.filter(pc.is_in(lost, later))


def _last_days(workspace: Workspace, dated: Collection[str]) -> pa.Table:
    """`customer_id` and the last `day` on which the lake has rows of them, in the tables named."""
    raw = {table: workspace.partitions(raw_name(table)) for table in dated}
    parts = " UNION ALL ".join(f"SELECT customer_id, day FROM {table}" for table in dated)
    return workspace.engine.query(
        f"SELECT customer_id, max(day) AS day FROM ({parts}) WHERE customer_id IS NOT NULL GROUP BY customer_id",
        **{table: one.files(one.keys()) for table, one in raw.items()},
    )


def _of(rows: pa.Table, days: Collection[date], is_in: bool) -> pa.Table:
    """The rows of some days, or of all others."""
    found = pc.is_in(rows["day"], pa.array(sorted(days), pa.date32()))
    return rows.filter(found if is_in else pc.invert(found))


def _are_few(lost: int, known: int) -> bool:
    return lost <= max(1, _FEW * known)


def is_versioned(table: Table) -> bool:
    """Whether a table's rows may lack a stamp: what they say is versioned by delivery, and not compared."""
    return table.stamp is not None and not table[table.stamp].required


def _suspects(
    workspace: Workspace, table: str, then: Mapping[date, Arrival], now: Mapping[date, Arrival], found: Iterable[Change]
) -> pa.Table:
    """`day`, `customer_id` and `rows` in the lake of the days on which somebody may be missing in the source."""
    days = {change.day for change in found if change.table == table} | dropped(then, now)
    if is_versioned(workspace.project.inputs[table]):
        days = set(then)
    raw = workspace.partitions(raw_name(table))
    rows = "SELECT day, customer_id, COUNT(*) AS rows FROM raw WHERE customer_id IS NOT NULL GROUP BY day, customer_id"
    return workspace.engine.query(rows, raw=raw.files(sorted(days)))


def _absent(workspace: Workspace, ids: pa.Array) -> pa.Array:
    """Those of the ids that no source holds, nor any map of ids, by which a customer has another name; none if a source
    cannot tell."""
    for table in tables.INPUTS:
        source = workspace.sources[table]
        if source is None or not len(ids):
            continue
        try:
            for there in (source.customers(), source.mapped_ids()):
                ids = ids.filter(pc.invert(pc.is_in(ids, there.combine_chunks())))
        except SourceError:
            return ids.slice(0, 0)
    return ids


def without(rows: pa.Table, ids: pa.Array) -> pa.Table:
    """The rows of all others."""
    return rows.filter(pc.invert(pc.is_in(rows[CUSTOMER_ID.name], ids)))

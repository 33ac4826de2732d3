"""Customers whom the business has removed from all of its sources: whose rows have to leave the lake too.

Belongs here: telling who was removed from who merely lies further back than a source keeps. Does not belong here:
taking rows out (see `assets.ingest`), and what becomes stale by it (see `status`).

That a source no longer holds a row is no proof: one that keeps its newest days lets go of every customer in time. Who
is in no source any more counts as removed where a row is gone that the source would still hold if it had only grown
old: one of a day that the source goes on holding, or the line of a customer in a file that still has most of the
others. So do the customers of days before the sources' first ones, if *nobody* of these days is left anywhere: the days
were theirs alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.sources import Arrival, Change, SourceError, dropped
from ml import tables
from ml.tables import CUSTOMER_ID, Table

if TYPE_CHECKING:
    from microseg_assets.chain import Chain

Arrivals = Mapping[str, Mapping[date, Arrival]]

_MOST = 0.5  # share of the customers taken in that a file must still hold to be all of them, rather than the newest


def removed(chain: Chain, then: Arrivals, now: Arrivals, found: Collection[Change]) -> tuple[pa.Array, list[Change]]:
    """Customers in the lake who are in no source any more, and the days that only their rows make different.

    Parameters
    ----------
    then, now : table to what was taken in and what the source holds, by day
    found : the days on which a source has come to hold something else

    Returns
    -------
    ids : sorted; none where a source cannot be read
    changes : days of which nothing else would tell: those that a source has dropped as old, and lines without a stamp
    """
    suspects = {table: _suspects(chain, table, then[table], now[table], found) for table in then}
    gone = _absent(chain, pa.chunked_array([rows["customer_id"] for rows in suspects.values()], pa.string()).unique())
    if not len(gone):
        return gone, []
    sure: list[pa.Array] = []
    early: list[pa.Array] = []  # customers of the days that sources have dropped
    for table, rows in suspects.items():
        old = _among(rows, dropped(then[table], now[table]))
        early.append(rows.filter(old)["customer_id"])
        held = rows.filter(pc.invert(old))
        theirs = held.filter(pc.is_in(held["customer_id"], gone))
        if not is_versioned(chain.project.inputs[table]) or (theirs.num_rows and _is_whole(chain, table, held)):
            sure.append(theirs["customer_id"])
    if all(pc.all(pc.is_in(who, gone)).as_py() for who in early if len(who)):
        sure += early
    ids = pa.chunked_array([chunk for part in sure for chunk in part.chunks], pa.string()).unique().sort()
    told = {(change.table, change.day) for change in found}
    changes = []
    for table, rows in suspects.items():
        lost = rows.filter(pc.is_in(rows["customer_id"], ids)).group_by("day").aggregate([("rows", "sum")])
        for row in lost.sort_by("day").to_pylist():
            was = then[table][row["day"]]
            if (table, row["day"]) not in told:
                changes.append(Change(table, row["day"], was, Arrival(was.rows - row["rows_sum"], was.fingerprint)))
    return ids, changes


def is_versioned(table: Table) -> bool:
    """Whether a table's rows may lack a stamp: what they say is versioned by delivery, and not compared."""
    return table.stamp is not None and not table[table.stamp].required


def _suspects(
    chain: Chain, table: str, then: Mapping[date, Arrival], now: Mapping[date, Arrival], found: Iterable[Change]
) -> pa.Table:
    """`day`, `customer_id` and `rows` in the lake of the days on which somebody may be missing in the source."""
    days = {change.day for change in found if change.table == table} | dropped(then, now)
    if is_versioned(chain.project.inputs[table]):
        days = set(then)
    raw = chain.stored[f"raw_{table}"].table
    rows = "SELECT day, customer_id, COUNT(*) AS rows FROM raw WHERE customer_id IS NOT NULL GROUP BY day, customer_id"
    return chain.engine.query(rows, raw=chain.lake.files(raw, sorted(days)))


def _absent(chain: Chain, ids: pa.Array) -> pa.Array:
    """Those of the ids that no source holds; none if a source cannot tell."""
    for table in tables.INPUTS:
        source = chain.sources[table]
        if source is None or not len(ids):
            continue
        try:
            ids = ids.filter(pc.invert(pc.is_in(ids, source.customers().combine_chunks())))
        except SourceError:
            return ids.slice(0, 0)
    return ids


def _is_whole(chain: Chain, table: str, rows: pa.Table) -> bool:
    """Whether a file still holds most of those who were taken in from it."""
    source, known = chain.sources[table], rows["customer_id"].unique()
    if source is None or not len(known):
        return False
    here = pc.sum(pc.is_in(known, source.customers().combine_chunks())).as_py() or 0
    return bool(here >= _MOST * len(known))


def _among(rows: pa.Table, days: Collection[date]) -> pa.ChunkedArray:
    """Whether each row is of one of the days."""
    return pc.is_in(rows["day"], pa.array(sorted(days), pa.date32()))


def without(rows: pa.Table, ids: pa.Array) -> pa.Table:
    """The rows of all others."""
    return rows.filter(pc.invert(pc.is_in(rows[CUSTOMER_ID.name], ids)))

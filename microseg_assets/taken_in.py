"""What was taken in from the sources, and where they have come to hold something else since.

Each delivered partition carries in its file's footer how many rows the day had and a fingerprint of them; beside the
last partition of a run lies a list of the source's columns. Belongs here: writing and reading these notes, and
comparing them with the sources. Does not belong here: the figures themselves (`sources.arrivals`), and what becomes
stale by a difference (`status`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa

from microseg_assets import forgetting
from microseg_assets.chain import Chain
from microseg_assets.sources import Arrival, Change, Source, SourceError, changes, dropped
from ml import tables

_ROWS, _FINGERPRINT = "rows", "fingerprint"
_COLUMNS = "_columns.json"  # not in the footer: a column more does not change what a day holds


@dataclass(frozen=True)
class Comparison:
    """The sources against the lake.

    Parameters
    ----------
    changes : days already taken in whose source holds something else now: late, corrected or withdrawn rows
    unreadable : table to why its source could not be compared
    removed : customers of the lake whom the business has removed from all sources (see `forgetting`), sorted
    """

    changes: tuple[Change, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    removed: pa.Array = field(default_factory=lambda: pa.array([], pa.string()), compare=False)

    def of(self, table: str) -> list[Change]:
        return [change for change in self.changes if change.table == table]


def raw_name(table: str) -> str:
    """The asset that takes an input table in."""
    return f"raw_{table}"


def notes(days: Sequence[date], arrived: Mapping[date, Arrival]) -> dict[date, dict[str, str]]:
    """What to note of each day that is taken in."""
    nothing = Arrival.of_nothing()
    found = ((day, arrived.get(day, nothing)) for day in days)
    return {day: {_ROWS: str(one.rows), _FINGERPRINT: one.fingerprint} for day, one in found}


def note_columns(chain: Chain, table: str, day: date, columns: Sequence[str]) -> None:
    """Keep the columns the source has while `day` is taken in."""
    chain.lake.put_file(chain.stored[raw_name(table)].table, day, _COLUMNS, json.dumps(list(columns)).encode())


def columns_before(chain: Chain, table: str, day: date) -> list[str] | None:
    """The columns the source had when the days before `day` were taken in; None if nobody has noted them."""
    raw = chain.stored[raw_name(table)].table
    for key in reversed([key for key in chain.lake.keys(raw) if key < day.isoformat()]):
        if (held := chain.lake.read_file(raw, key, _COLUMNS)) is not None:
            return list(json.loads(held))
    return None


def taken(chain: Chain, table: str) -> dict[date, Arrival]:
    """What was taken in of an input table, by day."""
    held = chain.lake.notes(chain.stored[raw_name(table)].table)
    noted = {key: note for key, note in held.items() if _FINGERPRINT in note}
    return {date.fromisoformat(key): Arrival(int(note[_ROWS]), note[_FINGERPRINT]) for key, note in noted.items()}


def kept(
    source: Source, days: Sequence[date], then: Mapping[date, Arrival], arrived: Mapping[date, Arrival]
) -> list[date]:
    """Those of `days` that stay as they were taken in, since the source has dropped them as old.

    Parameters
    ----------
    then : what was taken in, by day
    arrived : what the source gave of `days` now
    """
    nothing = Arrival.of_nothing()
    if not any(day in then and arrived.get(day, nothing).rows < then[day].rows for day in days):
        return []
    gone = dropped(then, source.arrivals())
    return [day for day in days if day in gone]


def compare(chain: Chain) -> Comparison:
    """Read every source through and compare it with what was taken in from it."""
    found: list[Change] = []
    unreadable = []
    before: dict[str, Mapping[date, Arrival]] = {}
    held: dict[str, Mapping[date, Arrival]] = {}
    for table in tables.INPUTS:
        source = chain.sources[table]
        then = taken(chain, table) if source is not None else {}
        if source is None or not then:
            continue
        try:
            now = source.arrivals()
        except SourceError as error:
            unreadable.append((table, str(error)))
            continue
        if not now and any(was.rows for was in then.values()):
            unreadable.append((table, "the source holds no row any more; what was taken in from it stays"))
        else:
            found += changes(table, then, now)
            before[table], held[table] = then, now
    if unreadable or not before:
        return Comparison(tuple(found), tuple(unreadable))
    removed, more = forgetting.removed(chain, before, held, found)
    return Comparison((*found, *more), (), removed)

"""What was taken in from the sources, and where they have come to hold something else since.

Each delivered partition carries in its file's footer how many rows the day had and a fingerprint of them; beside the
last partition of a run lies a list of the source's columns. Belongs here: writing and reading these notes, and
comparing them with the sources. Does not belong here: the figures themselves (`sources.arrivals`), and what becomes
stale by a difference (`staleness`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa

from microseg_assets.sources import Arrival, Change, Source, SourceError, changes, dropped
from microseg_assets.storage import forgetting
from microseg_assets.storage.undated import against_new_days, problems_of, too_many
from microseg_assets.workspace import Workspace, raw_name
from ml import tables

_ROWS, _FINGERPRINT = "rows", "fingerprint"
_UNDATED, _UNPLACED = "undated", "unplaced"  # rows without a day that count against it: by their place, or as new ones
_LOST = "_undated.json"  # how many rows had no day while these were taken in
_COLUMNS = "_columns.json"  # not in the footer: a column more does not change what a day holds


@dataclass(frozen=True)
class Undated:
    """Day to how many rows without a day count against it.

    Parameters
    ----------
    placed : since they may lie among its own
    new : since they came with it
    """

    placed: Mapping[date, int] = field(default_factory=dict)
    new: Mapping[date, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The sources against the lake.

    Parameters
    ----------
    changes : days already taken in whose source holds something else now: late, corrected or withdrawn rows
    unreadable : table to why nothing can be taken in from its source as it is, in a sentence
    missing : customers of the lake who are in no source any more (see `forgetting`)
    """

    changes: tuple[Change, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    missing: forgetting.Missing = field(default_factory=forgetting.Missing, compare=False)

    @property
    def removed(self) -> pa.Array:
        """Customers of the lake whom the business has removed from all sources, sorted."""
        return self.missing.removed

    def of(self, table: str) -> list[Change]:
        return [change for change in self.changes if change.table == table]


def notes(
    days: Sequence[date], arrived: Mapping[date, Arrival], undated: Undated = Undated()
) -> dict[date, dict[str, str]]:
    """What to note of each day that is taken in."""
    nothing = Arrival.of_nothing()
    found = {day: arrived.get(day, nothing) for day in days}
    noted = {day: {_ROWS: str(one.rows), _FINGERPRINT: one.fingerprint} for day, one in found.items()}
    for name, counts in ((_UNDATED, undated.placed), (_UNPLACED, undated.new)):
        for day in days:
            if counts.get(day):
                noted[day][name] = str(counts[day])
    return noted


def undated_of(workspace: Workspace, table: str, days: Sequence[date]) -> dict[date, int]:
    """How many rows without a day count against days that were taken in."""
    held = workspace.partitions(raw_name(table)).notes(days)
    counts = {day: sum(int(held[f"{day}"].get(name, 0)) for name in (_UNDATED, _UNPLACED)) for day in days}
    return {day: count for day, count in counts.items() if count}


def undated_now(workspace: Workspace, table: str, lost: int, arrived: Mapping[date, Arrival]) -> Undated:
    """How many rows without a day count against which days, as the source is now.

    Parameters
    ----------
    lost : how many such rows there are
    arrived : what every day was delivered
    """
    source = workspace.sources[table]
    if not lost or source is None:
        return Undated()
    then = taken(workspace, table)
    if source.has_order:
        placed = {day: now.undated for day, now in arrived.items() if now.undated}
        for day in placed.keys() & then.keys():  # a day that had its rows before these came has lost none of them
            if not then[day].holds_other_rows(arrived[day]):
                placed[day] = min(placed[day], then[day].undated)
        return Undated(placed)
    accepted = {date.fromisoformat(key) for key in workspace.lake.keys(workspace.project.inputs[table])}
    before = _counted_before(workspace, table, accepted)
    rows = {day: was.rows for day, was in then.items() if day in accepted}
    return Undated({}, against_new_days(workspace.project, lost, arrived, rows, before))


def note_undated(workspace: Workspace, table: str, day: date, lost: int) -> None:
    """Keep how many rows have no day while `day` is taken in."""
    workspace.partitions(raw_name(table)).put_file(day, _LOST, json.dumps(lost).encode())


def _counted_before(workspace: Workspace, table: str, accepted: Collection[date]) -> int:
    """How many rows had no day when the newest accepted day was taken in with such rows."""
    raw = workspace.partitions(raw_name(table))
    for day in sorted(accepted, reverse=True):
        if (held := raw.read_file(day, _LOST)) is not None:
            return int(json.loads(held))
    return 0


def note_columns(workspace: Workspace, table: str, day: date, columns: Sequence[str]) -> None:
    """Keep the columns the source has while `day` is taken in."""
    workspace.partitions(raw_name(table)).put_file(day, _COLUMNS, json.dumps(list(columns)).encode())


def columns_before(workspace: Workspace, table: str, day: date) -> list[str] | None:
    """The columns the source had when the days before `day` were taken in; None if nobody has noted them."""
    raw = workspace.partitions(raw_name(table))
    for before in sorted((one for one in raw.dates() if one < day), reverse=True):
        if (held := raw.read_file(before, _COLUMNS)) is not None:
            return list(json.loads(held))
    return None


def taken(workspace: Workspace, table: str) -> dict[date, Arrival]:
    """What was taken in of an input table, by day."""
    held = workspace.partitions(raw_name(table)).notes()
    noted = {key: note for key, note in held.items() if _FINGERPRINT in note}
    return {
        date.fromisoformat(key): Arrival(int(note[_ROWS]), note[_FINGERPRINT], int(note.get(_UNDATED, 0)))
        for key, note in noted.items()
    }


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


def compare(workspace: Workspace) -> Comparison:
    """Read every source through and compare it with what was taken in from it."""
    found: list[Change] = []
    unreadable = []
    before: dict[str, Mapping[date, Arrival]] = {}
    held: dict[str, Mapping[date, Arrival]] = {}
    for table in tables.INPUTS:
        source = workspace.sources[table]
        then = taken(workspace, table) if source is not None else {}
        if source is None or not then:
            continue
        try:
            now, lost = source.delivery(workspace.calendar.newest_day)
            why = _too_many(workspace, table, source, now) if lost else None
        except SourceError as error:
            unreadable.append((table, str(error)))
            continue
        if why is not None:
            unreadable.append((table, f"{why}; what was taken in before stays"))
        elif not now and any(was.rows for was in then.values()):
            unreadable.append((table, "the source holds no row any more; what was taken in from it stays"))
        else:
            found += changes(table, then, now)
            before[table], held[table] = then, now
    if unreadable or not before:
        return Comparison(tuple(found), tuple(unreadable))
    missing = forgetting.missing(workspace, before, held, found)
    return Comparison((*found, *missing.changes), (), missing)


def removed_in(workspace: Workspace, run: str) -> pa.Array:
    """Who has been removed from all sources, for all assets of a run as it was at its beginning: what tells so is gone
    once the first of them has taken its days in again.

    Parameters
    ----------
    run : Dagster's id of it; empty without a run, which then has no beginning, and is asked anew each time
    """
    if not run:
        return compare(workspace).removed
    if run not in workspace.removed_in:
        workspace.removed_in.clear()
        workspace.removed_in[run] = compare(workspace).removed
    return workspace.removed_in[run]


def _too_many(workspace: Workspace, table: str, source: Source, now: Mapping[date, Arrival]) -> str | None:
    """Why nothing is taken in from a source, if so many of its rows belong to no day."""
    problems = problems_of(source.undated())
    return too_many(workspace.project, table, problems, sum(one.rows for one in now.values()))

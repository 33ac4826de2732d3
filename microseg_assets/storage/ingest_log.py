"""What was ingested from the sources, and where the sources differ from it now.

The footer of each delivered partition holds the day's number of rows and their fingerprint; a list of the source's
columns is stored next to the last partition of a run. Belongs here: writing and reading these notes, and comparing them
with the sources. Does not belong here: the figures themselves (`sources.arrivals`), and what a difference makes stale
(`staleness`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa

from microseg_assets.sources import Arrival, Change, Source, SourceError, changes, dropped
from microseg_assets.storage import removals
from microseg_assets.storage.undated import count_problems, explain_too_many, spread_over_new_days
from microseg_assets.workspace import Workspace, raw_name

_ROWS, _FINGERPRINT = "rows", "fingerprint"
_UNDATED, _UNPLACED = "undated", "unplaced"  # undated rows that count against a day: by their position, or as new rows
_UNDATED_TOTAL = "_undated.json"  # how many rows of the source had no day when these were ingested
_COLUMNS = "_columns.json"  # not in the footer: another column does not change the content of a day


@dataclass(frozen=True)
class Undated:
    """Day to how many rows without a day count against it.

    Parameters
    ----------
    placed : as they may be among the day's own rows
    new : as they arrived with the day
    """

    placed: Mapping[date, int] = field(default_factory=dict)
    new: Mapping[date, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """How the sources differ from the lake.

    Parameters
    ----------
    changes : ingested days whose source holds something else now: late, corrected or withdrawn rows
    unreadable : tables whose source cannot be ingested as it is, each with the reason in a sentence
    missing : customers in the lake who are no longer in any source (see `removals`)
    """

    changes: tuple[Change, ...] = ()
    unreadable: tuple[tuple[str, str], ...] = ()
    missing: removals.MissingCustomers = field(default_factory=removals.MissingCustomers, compare=False)

    @property
    def removed(self) -> pa.Array:
        """Customers in the lake whom the business has removed from all sources, sorted."""
        return self.missing.removed

    def of(self, table: str) -> list[Change]:
        """The changes of one table."""
        return [change for change in self.changes if change.table == table]


def notes(
    days: Sequence[date], arrived: Mapping[date, Arrival], undated: Undated = Undated()
) -> dict[date, dict[str, str]]:
    """The notes of each ingested day."""
    nothing = Arrival.of_nothing()
    arrivals = {day: arrived.get(day, nothing) for day in days}
    notes_of = {day: {_ROWS: str(one.rows), _FINGERPRINT: one.fingerprint} for day, one in arrivals.items()}
    for name, counts in ((_UNDATED, undated.placed), (_UNPLACED, undated.new)):
        for day in days:
            if counts.get(day):
                notes_of[day][name] = str(counts[day])
    return notes_of


def undated_counts(workspace: Workspace, table: str, days: Sequence[date]) -> dict[date, int]:
    """How many rows without a day count against each ingested day; days without such rows are left out."""
    stored = workspace.partitions(raw_name(table)).notes(days)
    counts = {day: sum(int(stored[f"{day}"].get(name, 0)) for name in (_UNDATED, _UNPLACED)) for day in days}
    return {day: count for day, count in counts.items() if count}


def count_undated(workspace: Workspace, table: str, total: int, arrived: Mapping[date, Arrival]) -> Undated:
    """How many rows without a day count against which days, as the source is now.

    Parameters
    ----------
    total : number of rows without a day
    arrived : day to what the source holds of it
    """
    source = workspace.sources[table]
    if not total or source is None:
        return Undated()
    ingested = read_ingested(workspace, table)
    if source.has_order:
        placed = {day: now.undated for day, now in arrived.items() if now.undated}
        for day in placed.keys() & ingested.keys():  # a day whose rows were complete before these came lacks none
            if not ingested[day].holds_other_rows(arrived[day]):
                placed[day] = min(placed[day], ingested[day].undated)
        return Undated(placed)
    accepted = {date.fromisoformat(key) for key in workspace.lake.keys(workspace.project.inputs[table])}
    total_before = _total_before(workspace, table, accepted)
    rows = {day: before.rows for day, before in ingested.items() if day in accepted}
    return Undated({}, spread_over_new_days(workspace.project, total, arrived, rows, total_before))


def note_undated(workspace: Workspace, table: str, day: date, total: int) -> None:
    """Store the number of rows without a day as of ingesting `day`."""
    workspace.partitions(raw_name(table)).put_file(day, _UNDATED_TOTAL, json.dumps(total).encode())


def _total_before(workspace: Workspace, table: str, accepted: Collection[date]) -> int:
    """The number of rows without a day noted with the newest accepted day that has such a note."""
    raw = workspace.partitions(raw_name(table))
    for day in sorted(accepted, reverse=True):
        if (note := raw.read_file(day, _UNDATED_TOTAL)) is not None:
            return int(json.loads(note))
    return 0


def note_columns(workspace: Workspace, table: str, day: date, columns: Sequence[str]) -> None:
    """Store the source's columns as of ingesting `day`."""
    workspace.partitions(raw_name(table)).put_file(day, _COLUMNS, json.dumps(list(columns)).encode())


def columns_before(workspace: Workspace, table: str, day: date) -> list[str] | None:
    """The source's columns when the days before `day` were ingested; None if they were not noted."""
    raw = workspace.partitions(raw_name(table))
    for before in sorted((one for one in raw.dates() if one < day), reverse=True):
        if (note := raw.read_file(before, _COLUMNS)) is not None:
            return list(json.loads(note))
    return None


def read_ingested(workspace: Workspace, table: str) -> dict[date, Arrival]:
    """What was ingested of an input table, by day."""
    notes_of = workspace.partitions(raw_name(table)).notes()
    return {
        date.fromisoformat(key): Arrival(int(note[_ROWS]), note[_FINGERPRINT], int(note.get(_UNDATED, 0)))
        for key, note in notes_of.items()
        if _FINGERPRINT in note
    }


def dropped_days(
    source: Source, days: Sequence[date], ingested: Mapping[date, Arrival], arrived: Mapping[date, Arrival]
) -> list[date]:
    """Those of `days` that the source has dropped as old, and that therefore stay as they were ingested.

    Parameters
    ----------
    ingested : what was ingested, by day
    arrived : what the source holds of `days` now
    """
    nothing = Arrival.of_nothing()
    if not any(day in ingested and arrived.get(day, nothing).rows < ingested[day].rows for day in days):
        return []
    gone = dropped(ingested, source.arrivals())
    return [day for day in days if day in gone]


def compare(workspace: Workspace) -> Comparison:
    """Read every source in full and compare it with what was ingested from it."""
    changed: list[Change] = []
    unreadable = []
    ingested: dict[str, Mapping[date, Arrival]] = {}
    current: dict[str, Mapping[date, Arrival]] = {}
    for table, source in workspace.sources.items():
        before = read_ingested(workspace, table) if source is not None else {}
        if source is None or not before:
            continue
        try:
            now, undated = source.delivery(workspace.calendar.newest_day)
            problem = _explain_too_many(workspace, table, source, now) if undated else None
        except SourceError as error:
            unreadable.append((table, str(error)))
            continue
        if problem is not None:
            unreadable.append((table, f"{problem}; what was ingested before stays"))
        elif not now and any(day.rows for day in before.values()):
            unreadable.append((table, "the source no longer holds any row; what was ingested from it stays"))
        else:
            changed += changes(table, before, now)
            ingested[table], current[table] = before, now
    if unreadable or not ingested:
        return Comparison(tuple(changed), tuple(unreadable))
    missing = removals.find_missing(workspace, ingested, current, changed)
    return Comparison((*changed, *missing.changes), (), missing)


def removed_customers(workspace: Workspace, run_id: str) -> pa.Array:
    """Customers removed from all sources as of the start of a run, the same for all of its assets: once the first of
    them has ingested its days again, the evidence is gone.

    Parameters
    ----------
    run_id : Dagster's id of the run; empty outside of a run, where the sources are compared on each call
    """
    if not run_id:
        return compare(workspace).removed
    if run_id not in workspace.removed_customers:
        workspace.removed_customers.clear()
        workspace.removed_customers[run_id] = compare(workspace).removed
    return workspace.removed_customers[run_id]


def _explain_too_many(workspace: Workspace, table: str, source: Source, now: Mapping[date, Arrival]) -> str | None:
    """Why nothing is ingested from a source, if too many of its rows belong to no day."""
    problems = count_problems(source.undated())
    return explain_too_many(workspace.project, table, problems, sum(one.rows for one in now.values()))

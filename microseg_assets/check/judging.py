"""Judging what the sources of a project bring, before anything runs: what `microseg check` finds.

Belongs here: what was found, and what of it is a problem. Does not belong here: reading rows (see `sources`), when a
row is refused (see `expectations`), and what is printed (see `check.report`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from expectations.tallies import Tally
from microseg_assets import project as projects
from microseg_assets.check.profiling import Opened, look
from microseg_assets.project import Project, ProjectError
from microseg_assets.sources import Problem, Source, SourceError
from microseg_assets.storage.undated import count_problems, explain_too_many
from ml import tables
from ml.profile import Observation

if TYPE_CHECKING:
    from ml.engine import Engine
    from ml.tables import Table

SAMPLED = 50_000  # rows of the newest days that are looked at closely; one day is, whatever its size
JUDGED = 300_000  # rows that are judged at a time
MOST_JUDGED = 1_500_000  # rows that are judged at all: those of the newest days
SHOWN = 3
OVERLAP_SINGLES = 0.05  # of a day's rows at most that are there once, where exports overlap
OVERLAP_ROWS = 20  # of days on end that are there twice: fewer may be so by chance


class Repeats(NamedTuple):
    """Of a day's rows: how many are equal to another in every column, which is not counted, and how many to none."""

    rows: int
    singles: int


@dataclass(frozen=True)
class Finding:
    """What a source delivers.

    Parameters
    ----------
    problems : what makes it unusable; nothing else is known then
    warnings : what does not
    days : day to rows, inside the calendar or not
    undated : why rows have no day, with how many
    newest : rows of the newest days, as delivered
    refused : rule to how many of `newest` it refuses
    judged : what every day brought, or of a large source the newest ones, as the gate counts it
    repeats : day to what of it is there more than once
    has_ids : whether every row has a transaction_id, so that of those that are there more than once one is taken
    too_many : why nothing can be ingested, if too many rows have no day
    """

    problems: Sequence[Problem] = ()
    warnings: Sequence[Problem] = ()
    days: Mapping[date, int] = field(default_factory=dict)
    undated: Mapping[str, int] = field(default_factory=dict)
    newest: pa.Table | None = None
    refused: Mapping[str, int] = field(default_factory=dict)
    accepted: pa.Table | None = None
    judged: Mapping[date, Tally] = field(default_factory=dict)
    repeats: Mapping[date, Repeats] = field(default_factory=dict)
    has_ids: bool = False
    too_many: str | None = None

    @property
    def rows(self) -> int:
        return sum(self.days.values()) + sum(self.undated.values())

    def fills(self, column: str) -> bool:
        """Whether any of the newest rows brings a column."""
        return self.newest is not None and self.newest[column].null_count < self.newest.num_rows

    def days_there_twice(self) -> list[date]:
        """The days on which nearly every row is there twice: where two exports overlap.

        Only days on end that bring enough rows together: a day on which three customers redeem two coupons each is
        none.
        """
        return [day for run in self._runs() if sum(self.days[day] for day in run) >= OVERLAP_ROWS for day in run]

    def _runs(self) -> Iterator[list[date]]:
        """Days one after another, of those that bring rows, on which hardly any row is there once."""
        run: list[date] = []
        for day, rows in sorted(self.days.items()):
            equal = self.repeats.get(day)
            if equal is not None and equal.singles <= OVERLAP_SINGLES * rows:
                run.append(day)
            elif run:
                yield run
                run = []
        if run:
            yield run


# ── finding ───────────────────────────────────────────────────────────────────────────────────────────────────────


def find(project: Project, table: str) -> Finding:
    """Read a source: its days from all rows, everything else from the newest ones."""
    source = project.source(table)
    assert source is not None
    told = source.check()
    if wrong := [problem for problem in told if problem.is_error]:
        return Finding(wrong)
    try:
        days = {row["day"]: row["rows"] for row in source.counts_by_day().to_pylist()}
        without_day = days.pop(None, 0)
        undated: Counter[str] = Counter()
        undatable: Counter[str] = Counter()
        if without_day or not _is_parquet(source):
            without = source.undated()
            undated.update(without["problem"].to_pylist())
            undatable.update(count_problems(without))
        inside = [day for day in sorted(days) if project.end is None or day <= project.end]
        if not inside:
            return Finding(warnings=told, days=days, undated=undated)
        newest = source.rows(_sampled_from(inside, days), inside[-1])
        judged, repeats = _judged_days(project, source, days, bool(undated))
    except SourceError as error:
        return Finding([Problem(f"{table}.path", str(error))])
    accepted, refused = _judged(project, table, newest)
    refused = _as_the_gate_counts(newest, judged) or refused
    has_ids = _has_ids(newest)
    why = explain_too_many(project, table, undatable, sum(days.values()))
    return Finding((), told, days, undated, newest, refused, accepted, judged, repeats, has_ids, why)


def _judged_days(
    project: Project, source: Source, days: Mapping[date, int], has_undated: bool
) -> tuple[dict[date, Tally], dict[date, Repeats]]:
    """What the gate will count of each day, and the rows of each that are equal to another one; of a large source, of
    the newest days."""
    from expectations.tallies import tallies
    from ml.engine import in_memory

    engine, table, last = in_memory(), source.target.table, project.calendar.newest_day
    undated = {day: one.undated for day, one in source.arrivals(last).items()} if has_undated else {}
    asked = sorted(day for day in {*days, *(day for day, rows in undated.items() if rows)} if day <= last)
    judged: dict[date, Tally] = {}
    repeated: dict[date, Repeats] = {}
    earlier = project.inputs[table.name].empty_days()
    for piece in _pieces(asked, days):
        rows = source.rows(piece[0], piece[-1])
        found, accepted = tallies(engine, table, rows, piece, project.validation, undated, earlier)
        judged |= found
        if not table.key:
            repeated |= _repeats(engine, table, rows)
        if "transaction_id" in table.names and accepted["transaction_id"].null_count < accepted.num_rows:
            passed = pa.array([day for day, one in found.items() if one.passes], pa.date32())
            earlier = pa.concat_tables([earlier, accepted.filter(pc.is_in(accepted["day"], passed))])
    return judged, repeated


def _repeats(engine: Engine, table: Table, rows: pa.Table) -> dict[date, Repeats]:
    from expectations.refusals import exact_repeats

    found = exact_repeats(engine, table, rows).to_pylist()
    return {row["day"]: Repeats(row["repeats"], row["singles"]) for row in found}


def _has_ids(rows: pa.Table) -> bool:
    return "transaction_id" in rows.column_names and not rows["transaction_id"].null_count


def equal_rows(name: str) -> dict[str, Finding]:
    """Table to its days and what is there more than once in them, where anything is; of a project that can be read."""
    from ml.engine import in_memory

    found = {}
    try:
        project = projects.load(name)
        for table, source in ((table, project.source(table)) for table in tables.INPUTS):
            if source is None or project.inputs[table].key:
                continue
            days = {row["day"]: row["rows"] for row in source.counts_by_day().to_pylist() if row["day"] is not None}
            repeats: dict[date, Repeats] = {}
            has_ids = True
            for piece in _pieces(sorted(days), days):
                rows = source.rows(piece[0], piece[-1])
                repeats |= _repeats(in_memory(), source.target.table, rows)
                has_ids = has_ids and _has_ids(rows)
            if repeats:
                found[table] = Finding(days=days, repeats=repeats, has_ids=has_ids)
    except (ProjectError, SourceError):
        pass  # what keeps it from being read is for `check` to say
    return found


def _pieces(asked: Sequence[date], days: Mapping[date, int]) -> list[list[date]]:
    """Days in ascending pieces that fit into memory; not more of the newest than a check should take."""
    pieces: list[list[date]] = []
    size, total = 0, 0
    for day in reversed(asked):
        total += days.get(day, 0)
        if total > MOST_JUDGED and pieces:
            break
        if not pieces or size + days.get(day, 0) > JUDGED:
            pieces.append([])
            size = 0
        pieces[-1].append(day)
        size += days.get(day, 0)
    return [piece[::-1] for piece in reversed(pieces)]


def _is_parquet(source: Source) -> bool:
    """Whether no line of the files can fail to be a row."""
    spec = source.spec
    names = [name for names in spec.locations.values() for name in names]
    return spec.format == "parquet" or (spec.format == "auto" and all(n.endswith((".parquet", ".pq")) for n in names))


def _sampled_from(ordered: Sequence[date], days: Mapping[date, int]) -> date:
    first, rows = ordered[-1], days[ordered[-1]]
    for day in reversed(ordered[:-1]):
        rows += days[day]
        if rows > SAMPLED:
            break
        first = day
    return first


def _judged(project: Project, table: str, rows: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """The accepted ones of delivered rows, and rule to the number of refused ones, whether or not these count."""
    from expectations.refusals import judged, without
    from ml.engine import in_memory

    broken = judged(in_memory(), project.inputs[table], rows, project.validation)
    counts = Counter(broken["rule"].to_pylist())
    return without(rows, broken["row_number"].to_numpy()), dict(counts.most_common())


def _as_the_gate_counts(newest: pa.Table, judged: Mapping[date, Tally]) -> dict[str, int]:
    """Rule to how many of the newest rows it refuses, repeats of an earlier day's rows among them."""
    counts: Counter[str] = Counter()
    for day in pc.unique(newest["day"]).to_pylist():
        counts.update(judged[day].rules if day in judged else {})
    return dict(counts.most_common())


def observed(project: Project, found: Mapping[str, Finding]) -> list[Observation]:
    """What is worth a look before the sources are believed."""
    opened = {
        table: Opened(source, one.days, project.validation.ids.not_customers)
        for table, one in found.items()
        if one.newest is not None and (source := project.source(table)) is not None
    }
    return look(opened, zone=project.time_zone)


# ── problems ──────────────────────────────────────────────────────────────────────────────────────────────────────


def problems(project: Project, found: Mapping[str, Finding]) -> Iterator[str]:
    """Everything that keeps days from being made, one sentence each, with file and line."""
    for table, finding in found.items():
        for problem in finding.problems:
            yield project.located(f"tables.{problem.key}", problem.message)
        if finding.problems:
            continue
        if finding.newest is None:
            why = f"{_most(finding.undated)}" if finding.undated else "the source is empty"
            yield project.located(
                f"tables.{table}",
                f"no row lies in the project's days {span(project)} ({why}): correct start, end or the stamp",
            )
        elif finding.too_many:
            yield project.located(f"tables.{table}", finding.too_many)
        elif refused := [day for day, one in sorted(finding.judged.items()) if not one.passes]:
            yield project.located(f"tables.{table}", _refusal(project, finding, refused))


def _refusal(project: Project, finding: Finding, refused: Sequence[date]) -> str:
    """That days would be refused, with the reason that the run would give, and what to do."""
    limit = f"validation.max_refused_share is {project.validation.max_refused_share:.0%}"
    remedy = "correct the mapping or the source, leave such rows out by `where`, or raise the limit"
    newest = set(finding.newest["day"].to_pylist()) if finding.newest is not None else set()
    counted = sum(finding.judged[day].counted for day in newest if day in finding.judged)
    rows = finding.newest.num_rows if finding.newest is not None else 0
    if counted > project.validation.allowed(rows):
        share = counted / max(rows, 1)
        said = f"{share:.1%} of the newest rows would be refused ({_most(finding.refused)}), and their days with them"
        return f"{said}, since {limit}: {remedy}"
    listed = "; ".join(f"{day} ({_tallied(finding.judged[day])})" for day in refused[:SHOWN])
    more = f" and {len(refused) - SHOWN:,} more" if len(refused) > SHOWN else ""
    return f"{len(refused):,} of {len(finding.judged):,} days would be refused, since {limit}: {listed}{more}: {remedy}"


def _tallied(tally: Tally) -> str:
    undated = f"{tally.undated:,} rows without a day lie where its own would; " if tally.undated else ""
    return f"{undated}{tally.counted:,} of {tally.rows:,} rows{': ' if tally.rules else ''}{_most(tally.rules)}"


def _most(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{n:,}: {reason}" for reason, n in sorted(reasons.items(), key=lambda one: -one[1])[:3])


def span(project: Project) -> str:
    return f"{project.start} … {project.end or 'today'}"

"""Assessing what the sources of a project deliver, before anything runs.

Belongs here: the state of a source, and what of it is a problem. Does not belong here: reading rows (see `sources`),
when a row is refused (see `expectations`), and printing (see `check.report`).
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
from microseg_assets.check.profile import Opened, observe_sources
from microseg_assets.project import Project, ProjectError
from microseg_assets.sources import Problem, Source, SourceError
from microseg_assets.storage.undated import count_problems, explain_too_many
from ml import tables
from ml.profile import Observation

if TYPE_CHECKING:
    from ml.engine import Engine
    from ml.tables import Table

MAX_SAMPLE_ROWS = 50_000  # rows of the newest days that are read as a sample; the newest day is, whatever its size
BATCH_ROWS = 300_000  # rows that are judged at a time
MAX_JUDGED_ROWS = 1_500_000  # rows that are judged at all: those of the newest days
SHOWN = 3
MAX_SINGLE_SHARE = 0.05  # share of a day's rows that occur once, where exports overlap
MIN_OVERLAP_ROWS = 20  # rows of consecutive days that occur twice: fewer may do so by chance


class Repeats(NamedTuple):
    """Of a day's rows: how many repeat another row in every column, and how many equal no other row."""

    rows: int
    singles: int


@dataclass(frozen=True)
class SourceState:
    """What a source delivers.

    Parameters
    ----------
    problems : what makes it unusable; nothing else is known then
    warnings : what does not
    days : day to number of rows, inside the calendar or not
    undated : reason why rows have no day, to their number
    newest : rows of the newest days, as delivered
    refused : rule to the number of rows of `newest` that it refuses
    accepted : rows of `newest` that no rule refuses
    judged : every day as the gate counts it, or of a large source the newest days
    repeats : day to its rows that occur more than once
    has_ids : whether every row has a transaction_id, so that one of equal rows is kept
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
        """Whether any of the newest rows has a value in a column."""
        return self.newest is not None and self.newest[column].null_count < self.newest.num_rows

    def overlapping_days(self) -> list[date]:
        """The days on which nearly every row occurs twice, as where two exports overlap.

        Consecutive days with enough rows together: a day on which three customers redeem two coupons each is none.
        """
        return [day for run in self._runs() if sum(self.days[day] for day in run) >= MIN_OVERLAP_ROWS for day in run]

    def _runs(self) -> Iterator[list[date]]:
        """Consecutive days with rows on which hardly any row occurs once."""
        run: list[date] = []
        for day, rows in sorted(self.days.items()):
            equal = self.repeats.get(day)
            if equal is not None and equal.singles <= MAX_SINGLE_SHARE * rows:
                run.append(day)
            elif run:
                yield run
                run = []
        if run:
            yield run


# ── assessing ─────────────────────────────────────────────────────────────────────────────────────────────────────


def assess_source(project: Project, table: str) -> SourceState:
    """Read a source: its days from all rows, everything else from the newest rows."""
    source = project.source(table)
    assert source is not None
    warnings = source.check()
    if errors := [problem for problem in warnings if problem.is_error]:
        return SourceState(errors)
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
            return SourceState(warnings=warnings, days=days, undated=undated)
        newest = source.rows(_sampled_from(inside, days), inside[-1])
        judged, repeats = _judged_days(project, source, days, bool(undated))
    except SourceError as error:
        return SourceState([Problem(f"{table}.path", str(error))])
    accepted, refused = _judged(project, table, newest)
    refused = _as_the_gate_counts(newest, judged) or refused
    has_ids = _has_ids(newest)
    why = explain_too_many(project, table, undatable, sum(days.values()))
    return SourceState((), warnings, days, undated, newest, refused, accepted, judged, repeats, has_ids, why)


def _judged_days(
    project: Project, source: Source, days: Mapping[date, int], has_undated: bool
) -> tuple[dict[date, Tally], dict[date, Repeats]]:
    """Each day as the gate will count it, and its rows that repeat another one; of a large source, the newest days."""
    from expectations.tallies import tallies
    from ml.engine import in_memory

    engine, table, last = in_memory(), source.target.table, project.calendar.newest_day
    undated = {day: arrival.undated for day, arrival in source.arrivals(last).items()} if has_undated else {}
    asked_days = sorted(day for day in {*days, *(day for day, rows in undated.items() if rows)} if day <= last)
    judged: dict[date, Tally] = {}
    repeats: dict[date, Repeats] = {}
    earlier = project.inputs[table.name].empty_days()
    for piece in _pieces(asked_days, days):
        rows = source.rows(piece[0], piece[-1])
        counts, accepted = tallies(engine, table, rows, piece, project.validation, undated, earlier)
        judged |= counts
        if not table.key:
            repeats |= _repeats(engine, table, rows)
        if "transaction_id" in table.names and accepted["transaction_id"].null_count < accepted.num_rows:
            passed = pa.array([day for day, tally in counts.items() if tally.passes], pa.date32())
            earlier = pa.concat_tables([earlier, accepted.filter(pc.is_in(accepted["day"], passed))])
    return judged, repeats


def _repeats(engine: Engine, table: Table, rows: pa.Table) -> dict[date, Repeats]:
    from expectations.refusals import exact_repeats

    counts = exact_repeats(engine, table, rows).to_pylist()
    return {row["day"]: Repeats(row["repeats"], row["singles"]) for row in counts}


def _has_ids(rows: pa.Table) -> bool:
    return "transaction_id" in rows.column_names and not rows["transaction_id"].null_count


def find_equal_rows(name: str) -> dict[str, SourceState]:
    """The tables of a project with rows that occur more than once, with these; none if it cannot be read."""
    from ml.engine import in_memory

    states = {}
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
                states[table] = SourceState(days=days, repeats=repeats, has_ids=has_ids)
    except (ProjectError, SourceError):
        pass  # `check` reports why it cannot be read
    return states


def _pieces(asked_days: Sequence[date], days: Mapping[date, int]) -> list[list[date]]:
    """Days in ascending pieces that fit into memory; only as many of the newest ones as a check can afford."""
    pieces: list[list[date]] = []
    size, total = 0, 0
    for day in reversed(asked_days):
        total += days.get(day, 0)
        if total > MAX_JUDGED_ROWS and pieces:
            break
        if not pieces or size + days.get(day, 0) > BATCH_ROWS:
            pieces.append([])
            size = 0
        pieces[-1].append(day)
        size += days.get(day, 0)
    return [piece[::-1] for piece in reversed(pieces)]


def _is_parquet(source: Source) -> bool:
    """Whether every line of the files is a row for certain."""
    spec = source.spec
    names = [name for names in spec.locations.values() for name in names]
    return spec.format == "parquet" or (spec.format == "auto" and all(n.endswith((".parquet", ".pq")) for n in names))


def _sampled_from(ordered: Sequence[date], days: Mapping[date, int]) -> date:
    first, rows = ordered[-1], days[ordered[-1]]
    for day in reversed(ordered[:-1]):
        rows += days[day]
        if rows > MAX_SAMPLE_ROWS:
            break
        first = day
    return first


def _judged(project: Project, table: str, rows: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """The accepted rows, and rule to the number of refused ones, whether or not these count against their day."""
    from expectations.refusals import drop_rows, refused_rows
    from ml.engine import in_memory

    broken = refused_rows(in_memory(), project.inputs[table], rows, project.validation)
    counts = Counter(broken["rule"].to_pylist())
    return drop_rows(rows, broken["row_number"].to_numpy()), dict(counts.most_common())


def _as_the_gate_counts(newest: pa.Table, judged: Mapping[date, Tally]) -> dict[str, int]:
    """Rule to the number of the newest rows that it refuses, repeats of rows of an earlier day among them."""
    counts: Counter[str] = Counter()
    for day in pc.unique(newest["day"]).to_pylist():
        counts.update(judged[day].rules if day in judged else {})
    return dict(counts.most_common())


def observations(project: Project, states: Mapping[str, SourceState]) -> list[Observation]:
    """What the owner of the sources should look at before anybody trusts them; contexts have no customers to judge."""
    opened = {
        table: Opened(source, state.days, project.validation.ids.not_customers)
        for table, state in states.items()
        if table in tables.INPUTS and state.newest is not None and (source := project.source(table)) is not None
    }
    return observe_sources(opened, zone=project.time_zone)


# ── problems ──────────────────────────────────────────────────────────────────────────────────────────────────────


def problems(project: Project, states: Mapping[str, SourceState]) -> Iterator[str]:
    """Everything that keeps days from being made, one sentence each, with file and line."""
    for table, state in states.items():
        for problem in state.problems:
            yield project.located(f"tables.{problem.key}", problem.message)
        if state.problems:
            continue
        if state.newest is None:
            why = f"{_most_frequent(state.undated)}" if state.undated else "the source is empty"
            yield project.located(
                f"tables.{table}",
                f"no row falls on the project's days {span(project)} ({why}): correct start, end or the stamp",
            )
        elif table == "transactions" and project.value.of == "margin" and not state.fills("margin"):
            yield project.located(
                "value.of",
                f"none of the newest {state.newest.num_rows:,} rows of transactions has a margin, so every value would "
                "be 0: correct tables.transactions.columns.margin, or write revenue",
            )
        elif state.too_many:
            yield project.located(f"tables.{table}", state.too_many)
        elif refused := [day for day, tally in sorted(state.judged.items()) if not tally.passes]:
            yield project.located(f"tables.{table}", _refusal(project, state, refused))


def _refusal(project: Project, state: SourceState, refused: Sequence[date]) -> str:
    """Which days would be refused, for the reason that a run would give, and what to do."""
    limit = f"validation.max_refused_share is {project.validation.max_refused_share:.0%}"
    remedy = "correct the mapping or the source, leave such rows out with `where`, or raise the limit"
    newest = set(state.newest["day"].to_pylist()) if state.newest is not None else set()
    counted = sum(state.judged[day].counted for day in newest if day in state.judged)
    rows = state.newest.num_rows if state.newest is not None else 0
    if counted > project.validation.allowed(rows):
        share = counted / max(rows, 1)
        refused_rows = f"{share:.1%} of the newest rows would be refused ({_most_frequent(state.refused)})"
        return f"{refused_rows}, and their days with them, since {limit}: {remedy}"
    listed = "; ".join(f"{day} ({_tallied(state.judged[day])})" for day in refused[:SHOWN])
    more = f" and {len(refused) - SHOWN:,} more" if len(refused) > SHOWN else ""
    return f"{len(refused):,} of {len(state.judged):,} days would be refused, since {limit}: {listed}{more}: {remedy}"


def _tallied(tally: Tally) -> str:
    undated = f"{tally.undated:,} rows without a day probably belong to it; " if tally.undated else ""
    return (
        f"{undated}{tally.counted:,} of {tally.rows:,} rows{': ' if tally.rules else ''}{_most_frequent(tally.rules)}"
    )


def _most_frequent(reasons: Mapping[str, int]) -> str:
    return "; ".join(f"{n:,}: {reason}" for reason, n in sorted(reasons.items(), key=lambda item: -item[1])[:3])


def span(project: Project) -> str:
    return f"{project.start} … {project.end or 'today'}"

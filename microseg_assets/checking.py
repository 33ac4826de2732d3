"""`microseg check`: what a project file and its sources amount to, before anything runs.

Belongs here: what is told, and what of it is a problem. Does not belong here: reading rows (see `sources`) and when a
row is refused (see `expectations`).
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

import click
import pyarrow as pa
import pyarrow.compute as pc

from expectations.tallies import Tally
from microseg_assets import estimating
from microseg_assets import project as projects
from microseg_assets.advice import Advice, advice, ids_sql
from microseg_assets.finding import ProjectError
from microseg_assets.profiling import Opened, look
from microseg_assets.project import Project
from microseg_assets.sources import Problem, Source, SourceError, before_start
from microseg_assets.undated import too_many
from ml import tables
from ml.profile import Code, Observation
from ml.segments.specs import DERIVED, STAGE_COLUMNS, VALUE_COLUMNS

if TYPE_CHECKING:
    from ml.engine import Engine
    from ml.tables import Table

SAMPLED = 50_000  # rows of the newest days that are looked at closely; one day is, whatever its size
JUDGED = 300_000  # rows that are judged at a time
MOST_JUDGED = 1_500_000  # rows that are judged at all: those of the newest days
SHOWN = 3
WIDTH = 116
CELL = 19
OVERLAP_SINGLES = 0.05  # of a day's rows at most that are there once, where exports overlap
OVERLAP_ROWS = 20  # of days on end that are there twice: fewer may be so by chance
# What each feature lives on: its input table, and the optional column of it where it needs one.
NEEDS: Mapping[str, tuple[str, str]] = {
    "items_90d": ("transactions", "quantity"),
    "discount_share_90d": ("transactions", "discount"),
    "categories_90d": ("transactions", "category"),
    "top_category_90d": ("transactions", "category"),
    "top_category_share_90d": ("transactions", "category"),
    "share_*": ("transactions", "category"),
    "events_28d": ("events", ""),
    "events_90d": ("events", ""),
    "days_since_event": ("events", ""),
    "page_views_28d": ("events", ""),
    "days_since_cart": ("events", ""),
    "redemptions_90d": ("events", ""),
    "exposures_28d": ("exposures", ""),
    "exposures_90d": ("exposures", ""),
    "days_since_exposure": ("exposures", ""),
    "balance": ("balances", ""),
}
LOST = {
    "customers": "no attributes; a customer is known from the first purchase or event on",
    "events": "no features of visits and clicks",
    "exposures": "no effects of actions, so the plan hands out nothing",
    "balances": "nobody is known to have something left",
}


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
    too_many : why nothing can be taken in, if too many rows have no day
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
    too_many: str | None = None

    @property
    def rows(self) -> int:
        return sum(self.days.values()) + sum(self.undated.values())

    def fills(self, column: str) -> bool:
        """Whether any of the newest rows brings a column."""
        return self.newest is not None and self.newest[column].null_count < self.newest.num_rows


def report(name: str) -> int:
    """Print what was found and every problem; returns the exit code, 0 or 2.

    Raises
    ------
    ProjectError
        If the project file itself cannot be used.
    """
    project = projects.load(name)
    found = {table: find(project, table) for table in tables.INPUTS if project.source(table) is not None}
    for line in told(project, found, observed(project, found)):
        click.echo(line)
    wrong = list(problems(project, found))
    for problem in wrong:
        click.echo(f"microseg: {problem}", err=True)
    return 2 if wrong else 0


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
        if without_day or not _is_parquet(source):
            undated.update(source.undated()["problem"].to_pylist())
        inside = [day for day in sorted(days) if project.end is None or day <= project.end]
        if not inside:
            return Finding(warnings=told, days=days, undated=undated)
        newest = source.rows(_sampled_from(inside, days), inside[-1])
        judged, repeats = _judged_days(project, source, days, bool(undated))
    except SourceError as error:
        return Finding([Problem(f"{table}.path", str(error))])
    accepted, refused = _judged(project, table, newest)
    undatable = Counter(undated)
    undatable.pop(before_start(project.inputs[table], project.start), None)
    why = too_many(project, table, undatable, sum(days.values()))
    return Finding((), told, days, undated, newest, refused, accepted, judged, repeats, why)


def _judged_days(
    project: Project, source: Source, days: Mapping[date, int], has_undated: bool
) -> tuple[dict[date, Tally], dict[date, Repeats]]:
    """What the gate will count of each day, and the rows of each that are equal to another one; of a large source, of
    the newest days."""
    from expectations.tallies import tallies
    from ml.engine import DuckDB

    engine, table, last = DuckDB(), source.target.table, project.calendar.newest_day
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


def equal_rows(name: str) -> dict[str, str]:
    """Table to a remark on its rows that are equal to another one in every column; of a project that can be read."""
    from ml.engine import DuckDB

    found = {}
    try:
        project = projects.load(name)
        for table, source in ((table, project.source(table)) for table in tables.INPUTS):
            if source is None or project.inputs[table].key:
                continue
            days = {row["day"]: row["rows"] for row in source.counts_by_day().to_pylist() if row["day"] is not None}
            repeats: dict[date, Repeats] = {}
            for piece in _pieces(sorted(days), days):
                repeats |= _repeats(DuckDB(), source.target.table, source.rows(piece[0], piece[-1]))
            if repeats:
                found[table] = _equal(Finding(days=days, repeats=repeats))
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
    from ml.engine import DuckDB

    broken = judged(DuckDB(), project.inputs[table], rows, project.validation)
    counts = Counter(broken["rule"].to_pylist())
    return without(rows, broken["row_number"].to_numpy()), dict(counts.most_common())


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
                f"no row lies in the project's days {_span(project)} ({why}): correct start, end or the stamp",
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


# ── telling ───────────────────────────────────────────────────────────────────────────────────────────────────────


def told(project: Project, found: Mapping[str, Finding], observations: Sequence[Observation] = ()) -> Iterator[str]:
    """The report."""
    advised = _advised(project, observations)
    yield f"{project.name}: {project.path}"
    yield f"  days {_span(project)}, {project.time_zone}, {project.currency}"
    yield ""
    for table in tables.INPUTS:
        known = next((one for one in observations if (one.table, one.code) == (table, Code.IDS_KNOWN)), None)
        yield from _table(table, found.get(table), known)
    readable = {table: one for table, one in found.items() if one.accepted is not None}
    if readable:
        yield ""
        yield _title("The newest rows, as they are mapped (times in UTC)")
        for table, one in readable.items():
            yield from _rows(project.inputs[table], one)
    yield from _observations(advised)
    yield ""
    yield from _features(project, found)
    yield ""
    yield from _stages(project, found.get("transactions"))
    yield from _models(project, found)
    if (bought := found.get("transactions")) is not None and bought.newest is not None:
        for seen, words in advised:
            if not words.is_warning and seen.code is not Code.IDS_KNOWN:
                yield from _wrapped(f"{seen.table}: {words}")


def _span(project: Project) -> str:
    return f"{project.start} … {project.end or 'today'}"


def _title(text: str) -> str:
    return click.style(text, bold=True)


def _table(table: str, finding: Finding | None, known: Observation | None) -> Iterator[str]:
    if finding is None:
        yield f"  {table:13} off: the project file maps no {table}: {LOST[table]}"
        return
    if finding.problems:
        yield f"  {table:13} {len(finding.problems)} problem(s), see below"
        return
    days, outside = sorted(finding.days), sum(finding.undated.values())
    stamp = tables.INPUTS[table].stamp or ""
    if not days:
        span = "no day"
    elif finding.newest is not None and len(days) == 1 and not finding.fills(stamp):
        span = f"known from the first day on: no {stamp} is mapped"
    else:
        span = f"{days[0]} … {days[-1]}"
    line = f"  {table:13} {finding.rows:>11,} rows, {span}" + (f", {outside:,} outside the calendar" if outside else "")
    met = ""
    if known is not None:
        met = f", {'all' if known['known'] == known['ids'] else format(known['known'], ',')} bought"
    yield line + _judgement(finding) + met
    for reason, rows in sorted(finding.undated.items(), key=lambda one: -one[1])[:3]:
        yield f"{'':28}{rows:,} go to quarantine: {reason}"
    if finding.repeats:
        yield f"{'':28}{_equal(finding)}"
    for rule, rows in list(finding.refused.items())[:4]:
        yield f"{'':28}{rows:,} would be refused: {rule}"


def _equal(finding: Finding) -> str:
    count = sum(equal.rows for equal in finding.repeats.values())
    return f"{count:,} rows are equal to another in every column{_when(finding)}: see validation.duplicates"


def _when(finding: Finding) -> str:
    """The days on which nearly every row is there twice: where two exports overlap.

    Only days on end that bring enough rows together: a day on which three customers redeem two coupons each is none.
    """
    twice = [day for run in _runs(finding) if sum(finding.days[day] for day in run) >= OVERLAP_ROWS for day in run]
    if not twice:
        return ""
    days = f"on {twice[0]}" if len(twice) == 1 else f"on {len(twice):,} days, {twice[0]} … {twice[-1]},"
    return f"; {days} nearly every row is there twice, as where exports overlap"


def _runs(finding: Finding) -> Iterator[list[date]]:
    """Days one after another, of those that bring rows, on which hardly any row is there once."""
    run: list[date] = []
    for day, rows in sorted(finding.days.items()):
        equal = finding.repeats.get(day)
        if equal is not None and equal.singles <= OVERLAP_SINGLES * rows:
            run.append(day)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _judgement(finding: Finding) -> str:
    """What became of the newest rows, in half a line."""
    if finding.newest is None:
        return ""
    judged, refused = finding.newest.num_rows, sum(finding.refused.values())
    who = f"{pc.count_distinct(finding.newest['customer_id']).as_py():,} customers"
    verdict = f"{refused / judged:.1%} refused" if refused else "none refused"
    if judged == sum(finding.days.values()):
        return f"; {who}, {verdict}"
    count = pc.count_distinct(finding.newest["day"]).as_py()
    return f"; newest {f'{count} days' if count > 1 else 'day'}: {judged:,} rows, {who}, {verdict}"


def _rows(table: tables.Table, finding: Finding) -> Iterator[str]:
    assert finding.accepted is not None
    count = finding.accepted.num_rows
    shown = sorted({count * (2 * i + 1) // (2 * SHOWN) for i in range(SHOWN)}) if count else []
    rows = finding.accepted.take(pa.array(shown, pa.int64()))
    names = [name for name in table.names if name in finding.accepted.column_names and finding.fills(name)]
    columns: list[list[str]] = []
    for name in names:
        column = [name, *map(_cell, rows[name].to_pylist())]
        width = max(map(len, column))
        if sum(max(map(len, one)) + 2 for one in columns) + width + 16 > WIDTH:
            columns.append(["…"] * len(column))
            break
        is_number = table[name].type in ("double", "bigint")
        columns.append([cell.rjust(width) if is_number else cell.ljust(width) for cell in column])
    for i in range(rows.num_rows + 1):
        yield f"  {table.name if i == 0 else '':13} {'  '.join(column[i] for column in columns)}".rstrip()


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        value = value.isoformat(" ", "seconds")
    text = "–" if value is None else f"{value:.10g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= CELL else f"{text[: CELL - 1]}…"


def _observations(advised: Sequence[tuple[Observation, Advice]]) -> Iterator[str]:
    """What asks for an answer, with the setting that gives it."""
    asking = [(one, words) for one, words in advised if words.is_warning]
    if asking:
        yield ""
        yield _title(f"To look at first: {len(asking)}")
        for one, words in asking:
            yield from _wrapped(f"! {one.table}: {words}")


def _advised(project: Project, observations: Sequence[Observation]) -> list[tuple[Observation, Advice]]:
    sources = {table: source for table in tables.INPUTS if (source := project.source(table)) is not None}
    ids = ids_sql(
        {table: source.spec.columns for table, source in sources.items()},
        {one.table: sources[one.table].columns() for one in observations},
    )
    return [(one, advice(one, ids)) for one in observations]


def _features(project: Project, found: Mapping[str, Finding]) -> Iterator[str]:
    names = [name for name in project.features_table.names if name != "customer_id"]
    empty = {name: why for name in names if (why := lacking(name, project, found))}
    alive = [name for name in names if name not in empty]
    yield _title(f"{len(alive)} features" + (f"; {len(empty)} more stay empty" if empty else ""))
    yield from _wrapped(", ".join(_folded(alive)))
    for why in dict.fromkeys(empty.values()):
        yield from _wrapped(f"empty, {why}: " + ", ".join(name for name in empty if empty[name] == why))
    layers = project.segments.layers
    history, warm_up = _history(project, found), project.segments.warm_up_days
    title = _title(f"{len(layers)} layers, cut inside each stage")
    yield title + (f": none yet, for want of {warm_up} days of history (see below)" if 0 < history < warm_up else "")
    known = {*alive, *DERIVED, *VALUE_COLUMNS, *STAGE_COLUMNS}
    for layer in layers:
        used = list(layer.present([*names, *DERIVED, *VALUE_COLUMNS, *STAGE_COLUMNS]))
        rules = [rule.name for rule in layer.rules]
        live = [name for name in used if name in known]
        if layer.method == "rules":
            yield f"  {layer.name:13} {', '.join(rules)}, others"
        elif live:
            lost = (
                f" (without {', '.join(name for name in used if name not in known)})" if len(live) < len(used) else ""
            )
            yield from _wrapped(f"{layer.name:13} at most {layer.most}, by {', '.join(_folded(live))}{lost}")
        else:
            yield f"  {layer.name:13} off: nothing of it is delivered"
    audiences = ", ".join(audience.name for audience in project.audiences)
    yield from _wrapped(f"{'audiences':13} {audiences or 'none'}")


def _history(project: Project, found: Mapping[str, Finding]) -> int:
    """Days from the first purchase to the end of the last training week that serves the project's days; 0 if none."""
    bought = found.get("transactions")
    if bought is None or not bought.days:
        return 0
    last = project.end or max(bought.days)
    week = project.calendar.serving_week(last)
    return ((project.calendar.week_end(week) if week else last) - min(bought.days)).days + 1


def _folded(names: Sequence[str]) -> list[str]:
    """Names with those of a long pattern told as one."""
    shares = [name for name in names if name.startswith("share_")]
    if len(shares) < 3:
        return list(names)
    return [name for name in names if name not in shares] + [f"{len(shares)} of share_*"]


def lacking(feature: str, project: Project, found: Mapping[str, Finding]) -> str:
    """Why a feature stays empty; nothing if it does not."""
    if feature in {attribute.name for attribute in project.attributes}:
        table, column = "customers", feature
    else:
        needs = next((need for pattern, need in NEEDS.items() if fnmatchcase(feature, pattern)), None)
        if needs is None:
            return ""
        table, column = needs
    finding = found.get(table)
    if finding is None:
        return f"since there are no {table}"
    if finding.newest is None or not column or finding.fills(column):
        return ""
    return f"since {table} bring no {column}"


def _stages(project: Project, bought: Finding | None) -> Iterator[str]:
    lifecycle, actions = project.lifecycle, project.actions
    rules = lifecycle.rules()
    estimate = estimating.windows(project, bought.days if bought is not None else {})
    marks = dict.fromkeys(estimate.read, "*") | dict.fromkeys(estimate.preset, "°")
    values = {name: f"{days}{marks.get(name, '')}" for name, days in estimate.days.items()}
    notes = [
        *([f"*: as training reads purchases up to {estimate.as_of}"] if estimate.read else []),
        *(["°: a preset, for want of data"] if estimate.preset else []),
    ]
    yield _title(f"{len(rules)} stages, first rule that holds") + (f" ({'; '.join(notes)})" if notes else "")
    for rule in rules:
        when = re.sub(r"\$(\w+)", lambda found: str(values.get(found[1], found[0])), rule.when)
        subs = ", ".join(sub.name for sub in lifecycle.sub_rules() if sub.stage == rule.name)
        yield f"  {rule.name:13} {'everybody else' if when == 'true' else when:32} {subs}".rstrip()
    if not actions.actions:
        yield _title("No actions") + ": none is declared, so nothing can be planned"
        return
    yield _title(f"{len(actions.actions)} actions")
    for action in actions.actions:
        stages = f", for {', '.join(action.eligible_stages)}" if action.eligible_stages else ""
        capacity = f", at most {action.capacity:,} a cycle" if action.capacity is not None else ""
        yield f"  {action.name:13} {action.cost:g} {project.currency} each{stages}{capacity}"


def _models(project: Project, found: Mapping[str, Finding]) -> Iterator[str]:
    """From when on there can be models, and what is declared but not delivered."""
    bought, exposed = found.get("transactions"), found.get("exposures")
    if bought is None or bought.newest is None:
        return
    yield ""
    yield _title("Worth knowing")
    for warning in (one for finding in found.values() for one in finding.warnings):
        yield from _wrapped(project.located(f"tables.{warning.key}", warning.message))
    value = project.value
    begin, last = min(bought.days), project.end or max(bought.days)
    history, warm_up = _history(project, found), project.segments.warm_up_days
    if 0 < history < warm_up:
        yield from _wrapped(
            f"no layers will be cut: {warm_up} days of history are asked for before the first (segments.warm_up_days), "
            f"and the last training week has {history}; until then the micro-segments are the stages"
        )
    rhythm, outcomes = (begin + timedelta(days=n) for n in (value.fits_after_days, value.learns_outcomes_after_days))
    if rhythm > last:
        told = (
            f"no model of value will be learnt: {value.fits_after_days} days of data are asked for "
            f"(value.warm_up_days, value.horizon_days), and there are {(last - begin).days + 1}"
        )
    else:
        told = f"value: spend as it was, by rhythm (BG/NBD) from the week of {rhythm} on, " + (
            f"by outcomes too from {outcomes} on" if outcomes <= last
            else f"by outcomes never, since no horizon of {value.horizon_days} days will have closed"
        )  # fmt: skip
    yield from _wrapped(told)
    if project.features.categories and bought.fills("category"):
        there = {str(one).lower() for one in pc.unique(bought.newest["category"]).to_pylist()}
        gone = [name for name in project.features.categories if name.lower() not in there]
        if gone:
            yield from _wrapped(f"features.categories: none of the newest rows is of {', '.join(gone)}")
    if exposed is not None and exposed.newest is not None:
        for line in _exposures(project, exposed, min(bought.days), last):
            yield from _wrapped(line)


def _exposures(project: Project, exposed: Finding, known_since: date, last: date) -> Iterator[str]:
    """What of the exposures can be measured, by when, and what is in the way."""
    from ml.actions import doubtful_words, maturity_of

    assert exposed.newest is not None
    declared = {action.name for action in project.actions.actions}
    delivered = [one for one in pc.unique(exposed.newest["action"]).to_pylist() if one is not None]
    arm = {value: tables.arm_of(value, declared) for value in delivered}
    if doubtful := [value for value in delivered if arm[value] is None]:
        yield f"exposures: {doubtful_words(doubtful)}"
    strange = sorted({arm[value] or "" for value in delivered} - {tables.CONTROL, "", *declared})
    if strange:
        yield f"actions: {', '.join(strange)} is delivered but not declared: it is measured, never planned"
    yield from _controls(exposed.newest, arm)
    week = project.calendar.serving_week(last)
    as_of = project.calendar.week_end(week) if week else last
    is_random = pc.any(pc.fill_null(exposed.newest["randomised"], False)).as_py()
    days = ((day, bool(is_random)) for day in exposed.days if day <= last)
    found = maturity_of(days, project.actions.outcome_window_days, known_since, as_of)
    if not found.is_complete:
        yield f"by {as_of}, the end of the last training week, {found.words()}"
    if (rows := sum(exposed.days.values())) > project.actions.max_rows:
        yield (
            f"actions.max_rows is {project.actions.max_rows:,}: of an arm with more exposures ({rows:,} are there in "
            "all) as many customers are drawn as fit; a larger number takes more memory"
        )


def _controls(rows: pa.Table, arm: Mapping[str, str | None]) -> Iterator[str]:
    """Which randomised campaigns bring nobody who was left alone."""
    randomised = rows.filter(pc.fill_null(rows["randomised"], False))
    has_control: dict[object, bool] = {}
    groups = randomised.group_by(["campaign_id", "day", "action", "is_holdout"]).aggregate([])
    columns = (groups[name].to_pylist() for name in ("campaign_id", "day", "action", "is_holdout"))
    for campaign, day, action, is_holdout in zip(*columns, strict=True):
        key = campaign if campaign is not None else day
        has_control[key] = has_control.get(key, False) or bool(is_holdout) or arm.get(action) == tables.CONTROL
    without = sorted(str(key) for key, has in has_control.items() if not has)
    if without:
        named = ", ".join(without[:SHOWN]) + (" …" if len(without) > SHOWN else "")
        yield (
            f"exposures: {len(without)} of {len(has_control)} randomised campaigns ({named}) have no controls, so they "
            "measure nothing: deliver those whom chance left alone as rows too, with the action `control` (or "
            "is_holdout) and the campaign_id of the campaign"
        )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=" " * 4, break_long_words=False)

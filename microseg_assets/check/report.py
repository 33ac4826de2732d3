"""What `microseg check` prints: a project and what its sources bring, from rows to stages.

Belongs here: the report and its words. Does not belong here: judging what sources bring (see `judging`), and the words
for what is worth a look (see `advice`).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase

import click
import pyarrow as pa
import pyarrow.compute as pc

from expectations.rules import NO_CUSTOMER, REPEATED, ROUNDED_ID
from microseg_assets import project as projects
from microseg_assets.check import estimating
from microseg_assets.check.advice import Advice, advice, ids_sql
from microseg_assets.check.judging import SHOWN, Finding, find, observed, problems, span
from microseg_assets.project import Project
from ml import tables
from ml.profile import Code, Observation
from ml.segments.specs import DERIVED, STAGE_COLUMNS, VALUE_COLUMNS

WIDTH = 116
CELL = 19
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


def told(project: Project, found: Mapping[str, Finding], observations: Sequence[Observation] = ()) -> Iterator[str]:
    """The report."""
    advised = _advised(project, observations)
    yield f"{project.name}: {project.path}"
    yield f"  days {span(project)}, {project.time_zone}, {project.currency}"
    yield ""
    for table in tables.INPUTS:
        known = next((one for one in observations if (one.table, one.code) == (table, Code.IDS_KNOWN)), None)
        yield from _table(project, table, found.get(table), known)
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


def _title(text: str) -> str:
    return click.style(text, bold=True)


def _table(project: Project, table: str, finding: Finding | None, known: Observation | None) -> Iterator[str]:
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
    asked = _left_out(project)
    yield line + _judgement(finding, asked) + met
    for reason, rows in sorted(finding.undated.items(), key=lambda one: -one[1])[:3]:
        yield f"{'':28}{rows:,} go to quarantine: {reason}"
    if finding.repeats and project.validation.duplicates == "keep":
        yield f"{'':28}{equal_words(finding)}"
    for rule, rows in list(finding.refused.items())[:4]:
        if rule in asked:
            yield f"{'':28}{rows:,} left out, as {asked[rule]} asks"
        else:
            yield f"{'':28}{rows:,} would be refused: {rule}"


def equal_words(finding: Finding) -> str:
    """How many rows are there more than once, and the days of overlapping exports."""
    count = sum(equal.rows for equal in finding.repeats.values())
    if finding.has_ids:
        remedy = "one of each is taken, since their transaction_id is the same"
    elif finding.days_there_twice():
        remedy = "set validation.duplicates: keep one"
    else:
        remedy = "all are kept, see validation.duplicates"
    equal = "1 row is equal" if count == 1 else f"{count:,} rows are equal"
    return f"{equal} to another in every column{_when(finding)}: {remedy}"


def _when(finding: Finding) -> str:
    twice = finding.days_there_twice()
    if not twice:
        return ""
    days = f"on {twice[0]}" if len(twice) == 1 else f"on {len(twice):,} days between {twice[0]} and {twice[-1]}"
    return f"; {days} nearly every row is there twice, as where exports overlap"


def _left_out(project: Project) -> dict[str, str]:
    """Rules by which rows are left out on purpose, with the key of the project file that asks for it."""
    asked = {NO_CUSTOMER: "validation.ids.not_customers", ROUNDED_ID: "validation.ids.rounded"}
    return asked | ({REPEATED: "validation.duplicates"} if project.validation.duplicates == "keep one" else {})


def _judgement(finding: Finding, asked: Mapping[str, str]) -> str:
    """What became of the newest rows, in half a line."""
    if finding.newest is None:
        return ""
    judged = finding.newest.num_rows
    left_out = sum(rows for rule, rows in finding.refused.items() if rule in asked)
    refused = sum(finding.refused.values()) - left_out
    who = f"{pc.count_distinct(finding.newest['customer_id']).as_py():,} customers"
    verdict = f"{refused / judged:.1%} refused" if refused else "none refused"
    verdict += f", {left_out / judged:.1%} left out" if left_out else ""
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
    is_settled = project.validation.duplicates != "keep"  # then it is said what becomes of lines that are sent twice
    return [(one, advice(one, ids)) for one in observations if not (is_settled and one.code is Code.NO_TRANSACTION_ID)]


def _features(project: Project, found: Mapping[str, Finding]) -> Iterator[str]:
    names = [name for name in project.features_table.names if name != "customer_id"]
    empty = {name: lack for name in names if (lack := lacking(name, project, found))}
    alive = [name for name in names if name not in empty]
    yield _title(f"{len(alive)} features" + (f"; {len(empty)} more stay empty" if empty else ""))
    yield from _wrapped(", ".join(_folded(alive)))
    for lack in dict.fromkeys(empty.values()):
        yield from _wrapped(f"empty, {lack}: " + ", ".join(name for name in empty if empty[name] == lack))
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
            yield from _wrapped(f"{layer.name:13} at most {layer.max_clusters}, by {', '.join(_folded(live))}{lost}")
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


@dataclass(frozen=True)
class Lack:
    """What a feature stays empty for: a table that is not delivered, or a column of one that is."""

    table: str
    column: str = ""

    def __str__(self) -> str:
        return f"since {self.table} bring no {self.column}" if self.column else f"since there are no {self.table}"


def lacking(feature: str, project: Project, found: Mapping[str, Finding]) -> Lack | None:
    """What a feature stays empty for; nothing if it does not."""
    if feature in {attribute.name for attribute in project.attributes}:
        table, column = "customers", feature
    else:
        needs = next((need for pattern, need in NEEDS.items() if fnmatchcase(feature, pattern)), None)
        if needs is None:
            return None
        table, column = needs
    finding = found.get(table)
    if finding is None:
        return Lack(table)
    if finding.newest is None or not column or finding.fills(column):
        return None
    return Lack(table, column)


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

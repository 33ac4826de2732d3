"""What `microseg check` prints: a project and what its sources deliver, from rows to stages.

Belongs here: the report and its words. Does not belong here: assessing sources (see `assess`), and the words for
observations (see `advice`).
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
from microseg_assets.check import declared
from microseg_assets.check.advice import Advice, advice, ids_sql
from microseg_assets.check.assess import SHOWN, SourceState, assess_source, observations, problems, span
from microseg_assets.check.roles import absent_types, is_guessed, role_lines
from microseg_assets.check.windows import estimate_windows
from microseg_assets.project import Project
from ml import tables
from ml.features.context import PREFIX, Context
from ml.features.mapped import columns_of_mapped_features
from ml.layers.specs import DERIVED, STAGE_COLUMNS, VALUE_COLUMNS
from ml.profile import Code, Observation
from ml.tables import CUSTOMER_ID

WIDTH = 116
CELL = 19
# What each feature needs: its input table, and an optional column of it.
NEEDS: Mapping[str, tuple[str, str]] = {
    "items_90d": ("transactions", "quantity"),
    "discount_share_90d": ("transactions", "discount"),
    "categories_90d": ("transactions", "category"),
    "top_category_90d": ("transactions", "category"),
    "top_category_share_90d": ("transactions", "category"),
    "share_*": ("transactions", "category"),
    **{column.name: ("transactions", "margin") for column in tables.MARGIN_FEATURES},
    **{column.name: ("events", "") for column in (*tables.VISIT_FEATURES, *tables.GOAL_FEATURES)},
    **{name: ("events", column) for name, column in columns_of_mapped_features().items()},
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
    "exposures": "no effects of actions, so the plan assigns none",
    "balances": "no customer is known to have a balance",
}


def report(name: str) -> int:
    """Print the report and every problem; returns the exit code, 0 or 2.

    Raises
    ------
    ProjectError
        If the project file itself cannot be used.
    """
    project = projects.load(name)
    states = {table: assess_source(project, table) for table in project.inputs if project.source(table) is not None}
    for line in report_lines(project, states, observations(project, states)):
        click.echo(line)
    errors = list(problems(project, states))
    for problem in errors:
        click.echo(f"microseg: {problem}", err=True)
    return 2 if errors else 0


def report_lines(
    project: Project, states: Mapping[str, SourceState], observed: Sequence[Observation] = ()
) -> Iterator[str]:
    """The report."""
    advised = _advised(project, observed)
    yield f"{project.name}: {project.path}"
    yield f"  days {span(project)}, {project.time_zone}, {project.currency}"
    yield ""
    for table in project.inputs:
        known = next((one for one in observed if (one.table, one.code) == (table, Code.IDS_KNOWN)), None)
        yield from _table(project, table, states.get(table), known)
    readable = {table: state for table, state in states.items() if state.accepted is not None}
    if readable:
        yield ""
        yield _title("The newest rows, as they are mapped (times in UTC)")
        for table, state in readable.items():
            yield from _rows(project.inputs[table], state)
    yield from _observations(advised)
    yield ""
    yield from _event_roles(project, states.get("events"))
    yield from _features(project, states)
    yield from _declared(project, states)
    yield ""
    yield from _stages(project, states.get("transactions"))
    yield from _models(project, states)
    if (bought := states.get("transactions")) is not None and bought.newest is not None:
        for observation, words in advised:
            if not words.is_warning and observation.code is not Code.IDS_KNOWN:
                yield from _wrapped(f"{observation.table}: {words}")


def _title(text: str) -> str:
    return click.style(text, bold=True)


def _table(project: Project, table: str, state: SourceState | None, known: Observation | None) -> Iterator[str]:
    if state is None:
        yield f"  {table:13} switched off (not in the project file): {LOST[table]}"
        return
    if state.problems:
        count = len(state.problems)
        yield f"  {table:13} {count} problem{'' if count == 1 else 's'}, see below"
        return
    days, outside = sorted(state.days), sum(state.undated.values())
    stamp = project.inputs[table].stamp or ""
    if not days:
        span = "no days"
    elif state.newest is not None and len(days) == 1 and not state.fills(stamp):
        span = f"known from the first day on: no {stamp} is mapped"
    else:
        span = f"{days[0]} … {days[-1]}"
    line = f"  {table:13} {state.rows:>11,} rows, {span}" + (f", {outside:,} outside the calendar" if outside else "")
    bought = ""
    if known is not None:
        bought = f", {'all' if known['known'] == known['ids'] else format(known['known'], ',')} bought"
    asked = _left_out(project)
    yield line + _judgement(state, project.inputs[table], asked) + bought
    for reason, rows in sorted(state.undated.items(), key=lambda item: -item[1])[:3]:
        yield f"{'':28}{rows:,} go to quarantine: {reason}"
    if state.repeats and project.validation.duplicates == "keep":
        yield f"{'':28}{equal_words(state)}"
    for rule, rows in list(state.refused.items())[:4]:
        if rule in asked:
            yield f"{'':28}{rows:,} left out, as {asked[rule]} says"
        else:
            yield f"{'':28}{rows:,} would be refused: {rule}"


def equal_words(state: SourceState) -> str:
    """How many rows occur more than once, and the days on which exports overlap."""
    count = sum(equal.rows for equal in state.repeats.values())
    if state.has_ids:
        remedy = "one of each is kept, since their transaction_id is the same"
    elif state.overlapping_days():
        remedy = "set validation.duplicates: keep one"
    else:
        remedy = "all are kept, see validation.duplicates"
    equal = "1 row repeats" if count == 1 else f"{count:,} rows repeat"
    return f"{equal} another one in every column{_when(state)}: {remedy}"


def _when(state: SourceState) -> str:
    overlap = state.overlapping_days()
    if not overlap:
        return ""
    days = (
        f"on {overlap[0]}" if len(overlap) == 1 else f"on {len(overlap):,} days between {overlap[0]} and {overlap[-1]}"
    )
    return f"; {days} nearly every row occurs twice, as where exports overlap"


def _left_out(project: Project) -> dict[str, str]:
    """Rules by which rows are left out on purpose, with the key of the project file that says so."""
    asked = {NO_CUSTOMER: "validation.ids.not_customers", ROUNDED_ID: "validation.ids.rounded"}
    return asked | ({REPEATED: "validation.duplicates"} if project.validation.duplicates == "keep one" else {})


def _judgement(state: SourceState, table: tables.Table, asked: Mapping[str, str]) -> str:
    """How the newest rows were judged, in half a line."""
    if state.newest is None:
        return ""
    judged = state.newest.num_rows
    left_out = sum(rows for rule, rows in state.refused.items() if rule in asked)
    refused = sum(state.refused.values()) - left_out
    subjects = "customers" if table.subject == CUSTOMER_ID.name else f"values of {table.subject}"
    who = f"{pc.count_distinct(state.newest[table.subject]).as_py():,} {subjects}"
    verdict = f"{refused / judged:.1%} refused" if refused else "none refused"
    verdict += f", {left_out / judged:.1%} left out" if left_out else ""
    if judged == sum(state.days.values()):
        return f"; {who}, {verdict}"
    count = pc.count_distinct(state.newest["day"]).as_py()
    return f"; newest {f'{count} days' if count > 1 else 'day'}: {judged:,} rows, {who}, {verdict}"


def _rows(table: tables.Table, state: SourceState) -> Iterator[str]:
    assert state.accepted is not None
    count = state.accepted.num_rows
    shown = sorted({count * (2 * i + 1) // (2 * SHOWN) for i in range(SHOWN)}) if count else []
    rows = state.accepted.take(pa.array(shown, pa.int64()))
    names = [name for name in table.names if name in state.accepted.column_names and state.fills(name)]
    columns: list[list[str]] = []
    for name in names:
        column = [name, *map(_cell, rows[name].to_pylist())]
        width = max(map(len, column))
        if sum(max(map(len, cells)) + 2 for cells in columns) + width + 16 > WIDTH:
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
    """The warnings, with the setting that answers each."""
    warnings = [(observation, words) for observation, words in advised if words.is_warning]
    if warnings:
        yield ""
        yield _title(f"To look at first: {len(warnings)}")
        for observation, words in warnings:
            yield from _wrapped(f"! {observation.table}: {words}")


def _advised(project: Project, observed: Sequence[Observation]) -> list[tuple[Observation, Advice]]:
    sources = {table: source for table in tables.INPUTS if (source := project.source(table)) is not None}
    ids = ids_sql(
        {table: source.spec.columns for table, source in sources.items()},
        {one.table: sources[one.table].columns() for one in observed},
    )
    is_settled = project.validation.duplicates != "keep"
    return [(one, advice(one, ids)) for one in observed if not (is_settled and one.code is Code.NO_TRANSACTION_ID)]


def _event_roles(project: Project, seen: SourceState | None) -> Iterator[str]:
    if seen is None or seen.accepted is None or not seen.accepted.num_rows:
        return
    note = " (*: guessed from its words; event_roles in the project file decides)"
    yield _title("What an event counts as, by its type") + (note if is_guessed(project, seen.accepted) else "")
    for role, types in role_lines(project, seen.accepted):
        yield from _wrapped(f"{role:13} {types}")
    for line in absent_types(project, seen.accepted):
        yield from _wrapped(f"! {line}")
    yield ""


def _features(project: Project, states: Mapping[str, SourceState]) -> Iterator[str]:
    names = [name for name in project.features_table.names if name != "customer_id"]
    empty = {name: lack for name in names if (lack := lacking(name, project, states))}
    alive = [name for name in names if name not in empty]
    yield _title(
        f"{len(alive)} features" + (f"; {len(empty)} more stay{'s' if len(empty) == 1 else ''} empty" if empty else "")
    )
    own = set(declared.names(project))
    others = [name for name in alive if name not in own]
    yield from _wrapped(", ".join(_folded(others)) + (f" and {len(own)} declared ones (below)" if own else ""))
    for lack in dict.fromkeys(empty.values()):
        yield from _wrapped(f"empty, {lack}: " + ", ".join(name for name in empty if empty[name] == lack))
    layers = project.segments.layers
    history, warm_up = _history(project, states), project.segments.warm_up_days
    title = _title(f"{len(layers)} layers, cut inside each stage")
    yield title + (f": none yet, they need {warm_up} days of history (see below)" if 0 < history < warm_up else "")
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
            yield f"  {layer.name:13} off: none of its features is delivered"
    audiences = ", ".join(audience.name for audience in project.audiences)
    yield from _wrapped(f"{'audiences':13} {audiences or 'none'}")


def _declared(project: Project, states: Mapping[str, SourceState]) -> Iterator[str]:
    """What the declared features hold, computed from the newest rows."""
    if not project.features.declared:
        return
    accepted = {table: state.accepted for table, state in states.items() if state.accepted is not None}
    if (sampled := declared.sample(project, accepted)) is None:
        return
    day, snapshot = sampled
    yield ""
    count = len(declared.names(project))
    yield _title(f"{count} declared feature{'' if count == 1 else 's'}") + (
        f", of {snapshot.num_rows:,} customers on {day}, as far as the newest rows show"
    )
    for line in declared.lines(project, snapshot):
        yield from _wrapped(line)
    for position in declared.without_content(project, snapshot) if snapshot.num_rows else ():
        message = (
            f"{project.features.declared[position].name} is 0 or missing for every customer of the sample: is a word "
            "of its `where` or a mapped field misspelt?"
        )
        yield from _wrapped(project.located(f"features.declared.{position}", message))


def _history(project: Project, states: Mapping[str, SourceState]) -> int:
    """Days from the first purchase to the end of the last training week that serves the project's days; 0 if none."""
    bought = states.get("transactions")
    if bought is None or not bought.days:
        return 0
    last = project.end or max(bought.days)
    week = project.calendar.serving_week(last)
    return ((project.calendar.week_end(week) if week else last) - min(bought.days)).days + 1


def _folded(names: Sequence[str]) -> list[str]:
    """Names, with those of a long pattern as one."""
    shares = [name for name in names if name.startswith("share_")]
    if len(shares) < 3:
        return list(names)
    return [name for name in names if name not in shares] + [f"{len(shares)} of share_*"]


@dataclass(frozen=True)
class Lack:
    """Why a feature stays empty: a table that is not delivered, or a column of one that is."""

    table: str
    column: str = ""

    def __str__(self) -> str:
        if self.column:
            return f"since {self.table} {'has' if self.table.startswith(PREFIX) else 'have'} no {self.column}"
        return f"since there are no {self.table}"


def lacking(feature: str, project: Project, states: Mapping[str, SourceState]) -> Lack | None:
    """Why a feature stays empty; None if it does not."""
    own = {attribute.name: ("customers", attribute.name) for attribute in project.attributes}
    for context in project.contexts:
        own |= {name: (context.table, name.removeprefix(PREFIX)) for name in context.features}
    if feature in own:
        table, column = own[feature]
    else:
        needs = next((need for pattern, need in NEEDS.items() if fnmatchcase(feature, pattern)), None)
        if needs is None:
            return None
        table, column = needs
    state = states.get(table)
    if state is None:
        return Lack(table)
    if state.newest is None or not column or state.fills(column):
        return None
    return Lack(table, column)


def _stages(project: Project, bought: SourceState | None) -> Iterator[str]:
    lifecycle, actions = project.lifecycle, project.actions
    rules = lifecycle.rules()
    estimate = estimate_windows(project, bought.days if bought is not None else {})
    marks = dict.fromkeys(estimate.read, "*") | dict.fromkeys(estimate.preset, "°")
    values = {name: f"{days}{marks.get(name, '')}" for name, days in estimate.days.items()}
    notes = [
        *([f"*: estimated from purchases up to {estimate.as_of}"] if estimate.read else []),
        *(["°: a preset, too few data"] if estimate.preset else []),
    ]
    yield _title(f"{len(rules)} stages, by the first rule that holds") + (f" ({'; '.join(notes)})" if notes else "")
    for rule in rules:
        when = re.sub(r"\$(\w+)", lambda match: str(values.get(match[1], match[0])), rule.when)
        subs = ", ".join(sub.name for sub in lifecycle.sub_rules() if sub.stage == rule.name)
        yield f"  {rule.name:13} {'everybody else' if when == 'true' else when:32} {subs}".rstrip()
    if not actions.actions:
        yield _title("No actions") + ": none is declared, so nothing can be planned"
        return
    yield _title(f"{len(actions.actions)} actions")
    for action in actions.actions:
        stages = f", for {', '.join(action.eligible_stages)}" if action.eligible_stages else ""
        capacity = f", at most {action.capacity:,} per cycle" if action.capacity is not None else ""
        yield f"  {action.name:13} {action.cost:g} {project.currency} each{stages}{capacity}"


def _models(project: Project, states: Mapping[str, SourceState]) -> Iterator[str]:
    """From when on there can be models, and what is declared but not delivered."""
    bought, exposed = states.get("transactions"), states.get("exposures")
    if bought is None or bought.newest is None:
        return
    yield ""
    yield _title("Worth knowing")
    for warning in (warning for state in states.values() for warning in state.warnings):
        yield from _wrapped(project.located(f"tables.{warning.key}", warning.message))
    value = project.value
    begin, last = min(bought.days), project.end or max(bought.days)
    history, warm_up = _history(project, states), project.segments.warm_up_days
    if 0 < history < warm_up:
        yield from _wrapped(
            f"no layers will be cut: the first ones need {warm_up} days of history (segments.warm_up_days), and there "
            f"are {history} up to the last training week; until then the micro-segments are the stages"
        )
    rhythm, outcomes = (begin + timedelta(days=n) for n in (value.fits_after_days, value.learns_outcomes_after_days))
    if rhythm > last:
        models = (
            f"no value model will be trained: it needs {value.fits_after_days + 1} days of data (value.warm_up_days, "
            f"value.horizon_days), and there are {(last - begin).days + 1}"
        )
    else:
        models = f"value: the persistence baseline, BG/NBD from the week of {rhythm} on, " + (
            f"a model of outcomes from {outcomes} on" if outcomes <= last
            else f"no model of outcomes, since no horizon of {value.horizon_days} days will have closed"
        )  # fmt: skip
    yield from _wrapped(models)
    yield from _without_margin(project, bought.newest)
    if project.features.categories and bought.fills("category"):
        delivered = {str(one).lower() for one in pc.unique(bought.newest["category"]).to_pylist()}
        absent = [name for name in project.features.categories if name.lower() not in delivered]
        if absent:
            yield from _wrapped(f"features.categories: no row of the newest ones is of {', '.join(absent)}")
    for context in project.contexts:
        for line in _unmatched(context, states):
            yield from _wrapped(line)
    if exposed is not None and exposed.newest is not None:
        for line in _exposures(project, exposed, min(bought.days), last):
            yield from _wrapped(line)


def _unmatched(context: Context, states: Mapping[str, SourceState]) -> Iterator[str]:
    """Values of customers' attributes that a context has no row about."""
    customers, rows = states.get("customers"), states[context.table]
    if customers is None or customers.accepted is None or rows.accepted is None:
        return
    if context.by not in customers.accepted.column_names:  # another feature than an attribute
        return
    values = sorted(value for value in pc.unique(customers.accepted[context.by]).to_pylist() if value is not None)
    about = set(pc.unique(rows.accepted[context.by]).to_pylist())
    if absent := [value for value in values if value not in about]:
        named = ", ".join(repr(value) for value in absent[:SHOWN]) + (" …" if len(absent) > SHOWN else "")
        yield (
            f"{context.table}: no row of the newest ones is about {len(absent)} of the {len(values)} values of "
            f"{context.by} that customers have ({named}): values must be spelt alike in both"
        )


def _without_margin(project: Project, rows: pa.Table) -> Iterator[str]:
    """How many rows have no margin where value is reckoned in it."""
    without = rows["margin"].null_count
    if project.value.of == "margin" and 0 < without < rows.num_rows:
        yield from _wrapped(
            f"value.of is margin, and {without / rows.num_rows:.1%} of the newest {rows.num_rows:,} rows of "
            "transactions have none: they add nothing to value. If a share of the amount is about right, map margin: "
            "coalesce(…, 0.3 * …)"
        )


def _exposures(project: Project, exposed: SourceState, known_since: date, last: date) -> Iterator[str]:
    """Which exposures can be measured, by when, and what prevents the others from being measured."""
    from ml.actions import doubtful_words, maturity_of

    assert exposed.newest is not None
    declared = {action.name for action in project.actions.actions}
    delivered = [one for one in pc.unique(exposed.newest["action"]).to_pylist() if one is not None]
    arm = {value: tables.arm_of(value, declared) for value in delivered}
    if doubtful := [value for value in delivered if arm[value] is None]:
        yield f"exposures: {doubtful_words(doubtful)}"
    undeclared = sorted({arm[value] or "" for value in delivered} - {tables.CONTROL, "", *declared})
    if undeclared:
        yield f"actions: {', '.join(undeclared)} is delivered but not declared: it is measured, never planned"
    yield from _controls(exposed.newest, arm)
    week = project.calendar.serving_week(last)
    as_of = project.calendar.week_end(week) if week else last
    is_random = pc.any(pc.fill_null(exposed.newest["randomised"], False)).as_py()
    days = ((day, bool(is_random)) for day in exposed.days if day <= last)
    maturity = maturity_of(days, project.actions.outcome_window_days, known_since, as_of)
    if not maturity.is_complete:
        yield f"by {as_of}, the end of the last training week, {maturity.words()}"
    if (rows := sum(exposed.days.values())) > project.actions.max_rows:
        yield (
            f"actions.max_rows is {project.actions.max_rows:,}: an arm with more exposures (there are {rows:,} in all) "
            "is sampled by customer; a larger number takes more memory"
        )


def _controls(rows: pa.Table, arm: Mapping[str, str | None]) -> Iterator[str]:
    """Which randomised campaigns deliver no controls."""
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
            "measure nothing: deliver the customers who were held out at random as rows too, with the action `control` "
            "(or is_holdout) and the campaign_id of the campaign"
        )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=" " * 4, break_long_words=False)

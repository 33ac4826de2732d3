"""`microseg show customer`: where one customer is, since when, why, and what moved it.

Belongs here: the words of reasons, causes and dates. Does not belong here: evaluating rules (see
`ml.lifecycle.reasons`) and what a feature is called (see `ml.features.phrases`).
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Any, TypeAlias

import click
import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.cli.printing import table, title
from microseg_assets.storage import choices
from microseg_assets.storage.history import history_from_facts
from microseg_assets.storage.lake import MissingPartitions
from microseg_assets.workspace import Workspace
from ml import tables
from ml.features.phrases import figure, label, phrase, unit
from ml.lifecycle.reasons import KNOWN, MISSING, Comparison, Verdict, verdicts

Ids: TypeAlias = "pa.Array | pa.ChunkedArray"
MOST_STEPS = 20
LONGEST = 400  # days that are looked back for the true beginning of a stage
CAUSES = {
    "behaviour": "behaviour: they bought or did something, or fell silent",
    "model": "new models drew the lines elsewhere; the customer did nothing new",
    "both": "behaviour and new models together",
    "rule": "the calendar: a stage with a time limit came to its end",
    "entry": "became known",
}
_OPERATORS = {">": "more than", ">=": "at least", "<": "less than", "<=": "at most", "=": "equal to", "<>": "not"}
_CAME_FROM = {
    "new_for": "lifecycle.new_for_days",
    "churn_after": "lifecycle.churn_after_days",
    "star_cut": "the cut of stars",
}


@dataclass(frozen=True)
class Customer:
    """One customer as of a day; every table is read once, and only its rows."""

    workspace: Workspace
    id: str
    day: date

    def rows(self, of: tables.Table, days: Sequence[date]) -> list[dict[str, Any]]:
        """The customer's rows of some days, as far as these are there, by day."""
        gone = set(self.workspace.lake.missing(of, days))
        there = [day for day in days if day.isoformat() not in gone]
        if not there:
            return []
        return self.workspace.engine.query(
            "SELECT * FROM partitions WHERE customer_id = $customer ORDER BY ALL",
            {"customer": self.id},
            partitions=self.workspace.lake.files(of, there),
        ).to_pylist()

    @cached_property
    def published(self) -> list[date]:
        """Days with stages, up to the day."""
        keys = self.workspace.lake.keys(tables.LIFECYCLE_STAGES)
        return [date.fromisoformat(key) for key in keys if key <= self.day.isoformat()]

    @cached_property
    def path(self) -> list[dict[str, Any]]:
        return sorted(self.rows(tables.LIFECYCLE_STAGES, self.published), key=lambda row: row["day"])

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Features and value of the day."""
        features = self.rows(self.workspace.project.features_table, [self.day])
        value = self.rows(tables.CUSTOMER_VALUE, [self.day])
        return {**(features[0] if features else {}), **(value[0] if value else {})}


def as_read(customer: str) -> str:
    """An id as the chain reads it: a float column's `13085.0` is 13085."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", customer.strip())


def show(workspace: Workspace, day: date, customer: str) -> None:
    """Print one customer's stage with its reasons, its value and clusters, its plan, and every step that led here."""
    customer = as_read(customer)
    one = Customer(workspace, customer, day)
    title(f"Customer {customer} on {day}")
    if not one.path or one.path[-1]["day"] != day:
        for line in unknown(one):
            click.echo(f"  {line}")
        sys.exit(2)
    for line in (*stage_lines(one), *value_lines(one), *segment_lines(one), *plan_lines(one)):
        click.echo(line)
    steps(one)


# ── who is meant ──────────────────────────────────────────────────────────────────────────────────────────────────


def unknown(one: Customer) -> Iterator[str]:
    """Why a customer cannot be shown: the day was not made, is too early, or the id is written in another way."""
    workspace, day = one.workspace, one.day
    days = [date.fromisoformat(key) for key in workspace.lake.keys(tables.LIFECYCLE_STAGES)]
    if day not in days:
        yield f"{day} was not made: `microseg status` shows which days were."
        return
    known = sorted(row["day"] for row in one.rows(tables.LIFECYCLE_STAGES, days))
    if known:
        at = known[0] if known[0] > day else max(other for other in known if other < day)
        span = f"known from {at} on" if at > day else f"known up to {at}"
        yield f"{one.id} is not known on {day}: {span}. {_command(workspace, one.id, f' --day {at}')}"
        return
    query = "SELECT DISTINCT customer_id FROM partitions WHERE customer_id IS NOT NULL ORDER BY customer_id"
    ids = workspace.engine.query(query, partitions=workspace.lake.files(tables.LIFECYCLE_STAGES, [days[-1]]))[
        "customer_id"
    ]
    yield f"{one.id} is not known on {day}, nor on any other day that was made."
    if near := nearest(ids, one.id):
        yield f"Is {' or '.join(near)} meant? {_command(workspace, near[0])}"
    elif len(ids):
        shown = sorted({0, len(ids) // 2, len(ids) - 1})
        yield f"Ids are written like {', '.join(ids[i].as_py() for i in shown)}."


def _command(workspace: Workspace, id_: str, options: str = "") -> str:
    """The command that shows a customer, as it can be pasted."""
    words = [f"--project {workspace.project.reference}{options}", shlex.quote(id_)]
    # An id that looks like an option stands behind all of them.
    return f"microseg show customer {' -- '.join(words) if id_.startswith('-') else ' '.join(reversed(words))}"


def nearest(ids: pa.ChunkedArray, given: str) -> list[str]:
    """Up to three ids that are the given one but for blanks, case, signs, zeros in front, or letters beside figures."""
    asked = pa.array([given])
    for form in (_bare, _without_zeros, _figures):
        wanted = form(asked)[0].as_py()
        if wanted and (found := ids.filter(pc.equal(form(ids), wanted))):
            return [str(one) for one in found.to_pylist()[:3]]
    return []


def _bare(ids: Ids) -> Ids:
    return pc.replace_substring_regex(pc.utf8_lower(ids), r"[^\pL\pN]+", "")


def _without_zeros(ids: Ids) -> Ids:
    return pc.utf8_ltrim(_bare(ids), "0")


def _figures(ids: Ids) -> Ids:
    return pc.utf8_ltrim(pc.replace_substring_regex(ids, r"[^0-9]+", ""), "0")


# ── the stage ─────────────────────────────────────────────────────────────────────────────────────────────────────


def stage_lines(one: Customer) -> Iterator[str]:
    """Stage, since when, and the comparisons that put the customer there, and not into an earlier one."""
    workspace, now = one.workspace, one.path[-1]
    model = choices.load_choice(workspace, "lifecycle", workspace.calendar.serving_week(one.day)).model
    spec = workspace.project.lifecycle
    rules = (model.stages if model else None) or spec.rules()
    subs = (model.sub_stages if model else None) or spec.sub_rules()
    parameters = model.parameters() if model else {
        "new_for": spec.first_new_for, "churn_after": spec.first_churn_after
    }  # fmt: skip
    finer = "" if now["sub_stage"] in (None, now["stage"]) else f", {now['sub_stage']}"
    yield f"  Stage: {now['stage']}{finer}, {since(one)}"
    found = verdicts(workspace.engine, one.figures, rules, parameters)
    yield from _told(found, workspace.project.currency)
    own = [rule for rule in subs if rule.stage == now["stage"]]
    if finer and own:
        held = verdicts(workspace.engine, one.figures, own, parameters)[-1]
        why = _joined(held.comparisons, workspace.project.currency) or "none of the finer rules before it holds"
        yield f"    {now['sub_stage']} because: {why}"
    treatment = spec.treatments().get(f"{now['stage']}/{now['sub_stage']}") or spec.treatments().get(now["stage"])
    if treatment:
        yield f"    what to do: {treatment}"
    origin = "set by the model in force" if model else "presets, until a first model is trained"
    windows = ", ".join(f"${name} = {figure_of(name, parameters[name])}" for name in ("churn_after", "new_for"))
    yield f"    windows: {windows} ({origin})"


def figure_of(parameter: str, value: Any) -> str:
    """A window or cut with its unit."""
    return figure("mean_gap_days" if parameter in ("churn_after", "new_for") else "ltv", value)


def _told(found: Sequence[Verdict], currency: str) -> Iterator[str]:
    *before, last = found
    why = _joined(last.comparisons, currency) if last.holds else ""
    if why:
        yield f"    because: {why}"
    elif last.holds:
        yield "    because no earlier rule holds:"
        for one in before:
            yield f"      not {one.rule}: {_joined(one.comparisons, currency)}"


def _joined(comparisons: Sequence[Comparison], currency: str) -> str:
    return "; ".join(dict.fromkeys(said(one, currency) for one in comparisons))


def said(one: Comparison, currency: str) -> str:
    """A comparison in words, with figure and threshold: ``last purchase 88 days ago, more than 51 days``."""
    is_column = one.left.replace("_", "").isalnum()
    operator = one.true_operator
    if operator in (MISSING, KNOWN):
        return phrase(one.left, None) if operator == MISSING else f"{label(one.left)} is known"
    if not operator:
        return one.left if one.holds else f"not ({one.left})"
    money = f" {currency}" if is_column and unit(one.left) == "money" else ""
    figures = phrase(one.left, one.value) if is_column else f"{one.left} is {figure('', one.value)}"
    if one.value is None or (one.left == "comeback_gap_days" and one.value == 0):
        return figures
    if one.threshold is None:
        return f"{figures}{money}, and {'$' if one.is_parameter else ''}{one.right} is not known yet"
    threshold = figure(one.left, one.threshold) if is_column else figure("", one.threshold)
    if is_column and unit(one.left) == "ago":
        threshold = threshold.removesuffix(" ago")
    name = f" (${one.right})" if one.is_parameter else "" if _is_number(one.right) else f" ({one.right})"
    return f"{figures}{money}, {_OPERATORS[operator]} {threshold}{money}{name}"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()


def since(one: Customer) -> str:
    """Since when the customer is in its stage: the first published day of the spell, unless it began before the record.

    Where the record begins inside of a spell, the days before it are restated under the models in force.
    """
    begun = one.path[-1]["stage_since"]
    if begun == one.workspace.calendar.start or begun - timedelta(days=1) in one.published:
        return f"since {begun}"
    found = _restated_since(one, begun)
    if found is None:
        return f"at least since {begun}, the first day that was published"
    day, is_known = found
    if not is_known:
        return f"at least since {day}, where the data begin"
    return f"since {day}" + (f" under the models in force today; published since {begun}" if day != begun else "")


def _restated_since(one: Customer, begun: date) -> tuple[date, bool] | None:
    """The first day of a spell that began before the record, by facts and the models in force, and whether it is known.

    `begun` is the first published day of the spell. None where facts of the days before are not there, or the models
    would have put the customer elsewhere on that day.
    """

    workspace, stage = one.workspace, one.path[-1]["stage"]
    days = workspace.calendar.days(workspace.calendar.start, begun)
    try:
        stored = workspace.lake.files(tables.CUSTOMER_DAYS, days), workspace.lake.files(tables.CATEGORY_DAYS, days)
        inputs = (*stored, workspace.accepted("customers", days))
        everybody = history_from_facts(workspace, begun)
    except MissingPartitions:
        return None
    own = [
        workspace.engine.query(
            "SELECT * FROM partitions WHERE customer_id = $customer", {"customer": one.id}, partitions=of
        )
        for of in inputs
    ]
    names = ("customer_days", "category_days", "customers")
    facts = replace(everybody, **dict(zip(names, own, strict=True)))
    pairs = facts.known(days[-LONGEST:])
    if not pairs.num_rows:
        return None
    models = choices.load_models(workspace, workspace.calendar.serving_week(one.day), without=("layers",))
    was = models.inputs_of(workspace.engine, facts.snapshot(pairs)).sort_by("day")
    first = None
    for day, then in zip(reversed(was["day"].to_pylist()), reversed(was["stage"].to_pylist()), strict=True):
        if then != stage:
            return (first, True) if first else None
        first = day
    return (first, first != days[-LONGEST:][0]) if first else None


# ── value, segments, plan ─────────────────────────────────────────────────────────────────────────────────────────


def value_lines(one: Customer) -> Iterator[str]:
    found = one.figures
    if found.get("ltv") is None:
        return
    currency = one.workspace.project.currency
    yield (
        f"  Lifetime value: {found['ltv']:,.2f} {currency} expected over the next {found['horizon_days']} days "
        f"({found['model']})"
    )
    shown = ("recency_days", "tenure_days", "orders_28d", "orders_90d", "spend_28d", "spend_90d", "mean_gap_days")
    told = dict.fromkeys(
        phrase(name, found.get(name)) + (f" {currency}" if unit(name) == "money" else "") for name in shown
    )
    yield "    from: " + ", ".join(told)


def segment_lines(one: Customer) -> Iterator[str]:
    """The micro-segment, and for each layer what the cluster is like and what the customer is."""
    workspace = one.workspace
    for row in sorted(one.rows(tables.MICRO_SEGMENTS, [one.day]), key=lambda row: -row["weight"]):
        kind = "Micro-segment:" if row["is_primary"] else "  leans to"
        yield f"  {kind} {row['micro_segment']} ({row['weight']:.0%})"
    layers = choices.load_choice(workspace, "layers", workspace.calendar.serving_week(one.day)).model
    stage = one.path[-1]["stage"]
    for row in one.rows(tables.LAYER_ASSIGNMENTS, [one.day]):
        if not row["is_primary"]:
            continue
        model = layers.find(stage, row["layer"]) if layers is not None else None
        if model is None or len(model.letters) == 1:
            yield f"    {row['layer']} {row['cluster']}: not cut in this stage"
            continue
        yield f"    {row['layer']} {row['cluster']}: {row['cluster_name'] or ''} ({row['weight']:.0%})"
        place = model.letters.index(row["cluster"]) if row["cluster"] in model.letters else None
        evidence = model.evidence[place] if place is not None and model.evidence else ()
        told = {difference.feature: difference for difference in reversed(evidence) if not difference.value}
        for difference in list(reversed(told.values()))[:3]:
            yield f"      {_beside(difference, one.figures)}"


def _beside(difference: Any, figures: Mapping[str, Any]) -> str:
    """The customer's figure beside its cluster's and its stage's."""
    name = difference.feature
    own = phrase(name, figures[name]) if name in figures else label(name)
    cluster = difference.cluster_text or figure(name, difference.cluster_mean)
    stage = difference.stage_text or figure(name, difference.stage_mean)
    return f"{own}; the group’s mean is {cluster}, the stage’s {stage}"


def plan_lines(one: Customer) -> Iterator[str]:
    for row in one.rows(tables.ACTION_PLAN, [one.day]):
        yield f"  Plan: {row['action']} – {row['reason']}"


# ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def steps(one: Customer) -> None:
    """Every change of stage or micro-segment that was published, with its cause; the newest last."""
    workspace = one.workspace
    known = set(workspace.lake.keys(tables.MOVEMENTS))
    days = [day for day in one.published if day.isoformat() in known]
    moves = [row for row in one.rows(tables.MOVEMENTS, days) if row["cause"] is not None]
    moves.sort(key=lambda row: row["day"])
    strings = {
        row["micro_segment_id"]: row["micro_segment"]
        for row in one.rows(
            tables.MICRO_SEGMENTS, sorted({d for m in moves for d in (m["day"], m["day"] - timedelta(1))})
        )
    }
    title("Steps")
    if len(moves) > MOST_STEPS:
        click.echo(f"  The newest {MOST_STEPS} of {len(moves)}:")
    first = min((date.fromisoformat(key) for key in known), default=None)
    table(
        ("day", "from", "to", "cause"),
        (
            (
                row["day"],
                strings.get(row["from_micro_segment_id"], row["from_stage"] or "–"),
                strings.get(row["to_micro_segment_id"], row["to_stage"]),
                "the record begins here" if row["cause"] == "entry" and row["day"] == first else CAUSES[row["cause"]],
            )
            for row in moves[-MOST_STEPS:]
        ),
    )

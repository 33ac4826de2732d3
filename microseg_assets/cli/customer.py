"""`microseg show customer`: the stage and segments of one customer, since when, why, and every move.

Belongs here: the words of reasons, causes and dates. Does not belong here: evaluating rules (see
`ml.lifecycle.verdicts`) and what a feature is called (see `ml.features.phrases`).
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
from ml.lifecycle.verdicts import KNOWN, MISSING, Comparison, Verdict, verdicts

Ids: TypeAlias = "pa.Array | pa.ChunkedArray"
MAX_STEPS = 20
MAX_LOOKBACK_DAYS = 400  # days back that the true beginning of a stage is looked for
CAUSES = {
    "behaviour": "behaviour: they bought or did something, or became inactive",
    "model": "new models moved the boundaries; the customer did nothing new",
    "both": "behaviour and new models together",
    "rule": "the calendar: a stage with a time limit ended",
    "entry": "became known",
}
_OPERATORS = {">": "more than", ">=": "at least", "<": "less than", "<=": "at most", "=": "equal to", "<>": "not"}


@dataclass(frozen=True)
class Customer:
    """One customer as of a day; each table is read once, and only the rows of the customer."""

    workspace: Workspace
    id: str
    day: date

    def rows(self, of: tables.Table, days: Sequence[date]) -> list[dict[str, Any]]:
        """The customer's rows of those days that are in the lake."""
        missing = set(self.workspace.lake.missing(of, days))
        available = [day for day in days if day.isoformat() not in missing]
        if not available:
            return []
        return self.workspace.engine.query(
            "SELECT * FROM partitions WHERE customer_id = $customer ORDER BY ALL",
            {"customer": self.id},
            partitions=self.workspace.lake.files(of, available),
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
        """Features and value as of the day."""
        features = self.rows(self.workspace.project.features_table, [self.day])
        value = self.rows(tables.CUSTOMER_VALUE, [self.day])
        return {**(features[0] if features else {}), **(value[0] if value else {})}


def as_read(customer: str) -> str:
    """An id as the chain reads it: `13085.0` of a float column is 13085."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", customer.strip())


def show(workspace: Workspace, day: date, customer: str) -> None:
    """Print one customer's stage with its reasons, their value and clusters, their plan, and every step so far."""
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


# ── unknown ids ───────────────────────────────────────────────────────────────────────────────────────────────────


def unknown(one: Customer) -> Iterator[str]:
    """Why a customer cannot be shown: the day is missing or too early, or the id is spelt differently."""
    workspace, day = one.workspace, one.day
    days = [date.fromisoformat(key) for key in workspace.lake.keys(tables.LIFECYCLE_STAGES)]
    if day not in days:
        yield f"{day} has not been built: `microseg status` shows which days have."
        return
    known = sorted(row["day"] for row in one.rows(tables.LIFECYCLE_STAGES, days))
    if known:
        nearest_day = known[0] if known[0] > day else max(other for other in known if other < day)
        span = f"known from {nearest_day} on" if nearest_day > day else f"known up to {nearest_day}"
        yield f"{one.id} is not known on {day}: {span}. {_command(workspace, one.id, f' --day {nearest_day}')}"
        return
    query = "SELECT DISTINCT customer_id FROM partitions WHERE customer_id IS NOT NULL ORDER BY customer_id"
    ids = workspace.engine.query(query, partitions=workspace.lake.files(tables.LIFECYCLE_STAGES, [days[-1]]))[
        "customer_id"
    ]
    yield f"{one.id} is not known on {day}, nor on any other day that has been built."
    if similar := similar_ids(ids, one.id):
        yield f"Did you mean {' or '.join(similar)}? {_command(workspace, similar[0])}"
    elif len(ids):
        shown = sorted({0, len(ids) // 2, len(ids) - 1})
        yield f"Ids look like {', '.join(ids[i].as_py() for i in shown)}."


def _command(workspace: Workspace, id_: str, options: str = "") -> str:
    """The command that shows a customer, as it can be pasted."""
    words = [f"--project {workspace.project.reference}{options}", shlex.quote(id_)]
    # An id that looks like an option goes behind all of them.
    return f"microseg show customer {' -- '.join(words) if id_.startswith('-') else ' '.join(reversed(words))}"


def similar_ids(ids: pa.ChunkedArray, id_: str) -> list[str]:
    """Up to three ids that differ from one only in blanks, case, punctuation, leading zeros, or letters."""
    asked = pa.array([id_])
    for form in (_bare, _without_zeros, _figures):
        wanted = form(asked)[0].as_py()
        if wanted and (matches := ids.filter(pc.equal(form(ids), wanted))):
            return [str(match) for match in matches.to_pylist()[:3]]
    return []


def _bare(ids: Ids) -> Ids:
    return pc.replace_substring_regex(pc.utf8_lower(ids), r"[^\pL\pN]+", "")


def _without_zeros(ids: Ids) -> Ids:
    return pc.utf8_ltrim(_bare(ids), "0")


def _figures(ids: Ids) -> Ids:
    return pc.utf8_ltrim(pc.replace_substring_regex(ids, r"[^0-9]+", ""), "0")


# ── the stage ─────────────────────────────────────────────────────────────────────────────────────────────────────


def stage_lines(one: Customer) -> Iterator[str]:
    """The stage, since when, and the comparisons that put the customer there, rather than into an earlier one."""
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
    yield from _reasons(verdicts(workspace.engine, one.figures, rules, parameters), workspace.project.currency)
    own = [rule for rule in subs if rule.stage == now["stage"]]
    if finer and own:
        verdict = verdicts(workspace.engine, one.figures, own, parameters)[-1]
        why = _joined(verdict.comparisons, workspace.project.currency) or "none of the finer rules before it holds"
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


def _reasons(every: Sequence[Verdict], currency: str) -> Iterator[str]:
    *before, last = every
    why = _joined(last.comparisons, currency) if last.holds else ""
    if why:
        yield f"    because: {why}"
    elif last.holds:
        yield "    because no earlier rule holds:"
        for verdict in before:
            yield f"      not {verdict.rule}: {_joined(verdict.comparisons, currency)}"


def _joined(comparisons: Sequence[Comparison], currency: str) -> str:
    return "; ".join(dict.fromkeys(describe(comparison, currency) for comparison in comparisons))


def describe(comparison: Comparison, currency: str) -> str:
    """A comparison in words, with figure and threshold: ``last purchase 88 days ago, more than 51 days``."""
    left, value = comparison.left, comparison.value
    is_column = left.replace("_", "").isalnum()
    operator = comparison.true_operator
    if operator in (MISSING, KNOWN):
        return phrase(left, None) if operator == MISSING else f"{label(left)} is known"
    if not operator:
        return left if comparison.holds else f"not ({left})"
    money = f" {currency}" if is_column and unit(left) == "money" else ""
    figures = phrase(left, value) if is_column else f"{left} is {figure('', value)}"
    if value is None or (left == "comeback_gap_days" and value == 0):
        return figures
    if comparison.threshold is None:
        name = f"${comparison.right}" if comparison.is_parameter else comparison.right
        return f"{figures}{money}, and {name} is not known yet"
    threshold = figure(left if is_column else "", comparison.threshold)
    if is_column and unit(left) == "ago":
        threshold = threshold.removesuffix(" ago")
    right = comparison.right
    name = f" (${right})" if comparison.is_parameter else "" if _is_number(right) else f" ({right})"
    return f"{figures}{money}, {_OPERATORS[operator]} {threshold}{money}{name}"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()


def since(one: Customer) -> str:
    """Since when the customer is in its stage: the first published day of the spell, unless it began before the record.

    Where the record begins inside of a spell, the days before it are restated under the models in force.
    """
    published = one.path[-1]["stage_since"]
    if published == one.workspace.calendar.start or published - timedelta(days=1) in one.published:
        return f"since {published}"
    restated = _restated_since(one, published)
    if restated is None:
        return f"at least since {published}, the first day that was published"
    day, is_known = restated
    if not is_known:
        return f"at least since {day}, where the data begin"
    return f"since {day}" + (
        f" under the models in force today; published since {published}" if day != published else ""
    )


def _restated_since(one: Customer, published: date) -> tuple[date, bool] | None:
    """The first day of a spell that began before it was published, by the models in force; and whether that is certain.

    None if the history of the days before is missing, or the models would have put the customer elsewhere on that day.
    """
    workspace, stage = one.workspace, one.path[-1]["stage"]
    days = workspace.calendar.days(workspace.calendar.start, published)
    try:
        stored = workspace.lake.files(tables.CUSTOMER_DAYS, days), workspace.lake.files(tables.CATEGORY_DAYS, days)
        inputs = (*stored, workspace.accepted("customers", days))
        everybody = history_from_facts(workspace, published)
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
    pairs = facts.known(days[-MAX_LOOKBACK_DAYS:])
    if not pairs.num_rows:
        return None
    models = choices.load_models(workspace, workspace.calendar.serving_week(one.day), without=("layers",))
    restated = models.inputs_of(workspace.engine, facts.snapshot(pairs)).sort_by("day")
    first = None
    columns = (reversed(restated[name].to_pylist()) for name in ("day", "stage"))
    for day, restated_stage in zip(*columns, strict=True):
        if restated_stage != stage:
            return (first, True) if first else None
        first = day
    return (first, first != days[-MAX_LOOKBACK_DAYS:][0]) if first else None


# ── value, segments, plan ─────────────────────────────────────────────────────────────────────────────────────────


def value_lines(one: Customer) -> Iterator[str]:
    figures = one.figures
    if figures.get("ltv") is None:
        return
    currency = one.workspace.project.currency
    in_margin = " of margin" if figures.get("value_of") == "margin" else ""
    yield (
        f"  Lifetime value: {figures['ltv']:,.2f} {currency}{in_margin} expected over the next "
        f"{figures['horizon_days']} days ({figures['model']})"
    )
    shown: tuple[str, ...] = (
        "recency_days",
        "tenure_days",
        "orders_28d",
        "orders_90d",
        "spend_28d",
        "spend_90d",
        "mean_gap_days",
    )
    shown += ("margin_28d", "margin_90d") if in_margin else ()
    phrases = dict.fromkeys(
        phrase(name, figures.get(name)) + (f" {currency}" if unit(name) == "money" else "") for name in shown
    )
    yield "    from: " + ", ".join(phrases)


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
        index = model.letters.index(row["cluster"]) if row["cluster"] in model.letters else None
        evidence = model.evidence[index] if index is not None and model.evidence else ()
        by_feature = {difference.feature: difference for difference in reversed(evidence) if not difference.value}
        for difference in list(reversed(by_feature.values()))[:3]:
            yield f"      {_compared(difference, one.figures)}"


def _compared(difference: Any, figures: Mapping[str, Any]) -> str:
    """The customer's figure, compared with those of the cluster and the stage."""
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
    """Print every published change of stage or micro-segment, with its cause; the newest last."""
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
    if len(moves) > MAX_STEPS:
        click.echo(f"  The newest {MAX_STEPS} of {len(moves)}:")
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
            for row in moves[-MAX_STEPS:]
        ),
    )

"""Segments: clusters per stage and layer, the micro-segments they add up to, audiences, and their KPIs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa

from microseg_assets.assets.earlier import EARLIER_DAYS, EarlierFeatures
from microseg_assets.orchestration.declaration import asset, fits
from microseg_assets.orchestration.fits import monitor, record_choice, record_evidence, training_weeks
from microseg_assets.orchestration.step import Step, check_one_each
from microseg_assets.partitions import Lookback
from microseg_assets.storage import choices
from microseg_assets.storage.rows import counts_of, primary
from ml import evidence, segments, tables
from ml.restate import valued_history

TODAY = ("customer_features", "customer_value", "lifecycle_stages")
SAME_DAY = dict.fromkeys(TODAY, Lookback.SAME_DAY)


@fits("layers", reads=("value_model", "lifecycle_model"), kinds=("scikitlearn", "mlflow"))
def layer_models(step: Step) -> None:
    """The clusters of every stage and layer: refitted from those in force, chosen only where they are better."""
    for week in training_weeks(step, "layers"):
        models = choices.models(step.workspace, week.start, without=("layers",))
        training = segments.train(week.facts, week.end, step.project.segments, week.incumbent.model, models=models)
        record_choice(step, "layers", week, training, spec=step.project.segments)
        chosen = training.model if training.decision == "challenger" else week.incumbent.model
        if isinstance(chosen, segments.LayerModels):
            step.note(week.start, why_these_clusters=chosen.reasons())


@asset(
    "segments",
    writes=tables.CLUSTER_LINEAGE,
    reads={"layer_models": Lookback.SAME_WEEK},
)
def cluster_lineage(step: Step) -> None:
    """What became of each cluster in the week's choice: continued, born, split, merged, or retired."""
    for week in sorted(step.keys):
        chosen = choices.choice(step.workspace, "layers", week)
        rows = tables.CLUSTER_LINEAGE.empty()
        if chosen.model is not None:
            before = choices.choice_before(step.workspace, "layers", week)
            rows = chosen.model.lineage(is_new=chosen.label != before.label)
        step.write_week(week, rows, fates=counts_of(step.engine, rows, "event"), clusters=_in_lines(rows))


@asset(
    "segments",
    writes=tables.SEGMENT_EVIDENCE,
    reads={
        **dict.fromkeys(tables.INPUTS, Lookback.DAYS_TO_WEEK_END),
        "value_model": Lookback.SAME_WEEK, "lifecycle_model": Lookback.SAME_WEEK, "layer_models": Lookback.SAME_WEEK,
    },
    kinds=("duckdb", "mlflow"),
)  # fmt: skip
def segment_evidence(step: Step) -> None:
    """How well micro-segments tell next month's spend, out of time, beside what a simpler grouping would tell."""
    for week in training_weeks(step):
        rows = evidence.segment_evidence(
            week.facts, week.end, choices.models(step.workspace, week.start), seed=step.project.segments.seed
        )
        record_evidence(step, "layers", week, rows, evidence.evidence_figure)


@asset(
    "segments",
    writes=tables.LAYER_ASSIGNMENTS,
    reads={**SAME_DAY, **EARLIER_DAYS, "layer_models": Lookback.LAST_ENDED_WEEK},
    kinds=("duckdb", "scikitlearn"),
)
def layer_assignments(step: Step) -> None:
    """The cluster of each customer in each layer of its stage, and the ones it also leans to, with weights."""
    for week, days in step.in_force():
        models = choices.models(step.workspace, week, without=("lifecycle",))
        history = valued_history(EarlierFeatures(step.workspace, models), models)
        rows = segments.assign(_inputs(step, days), models.layers, history)
        step.write(rows, days, model=choices.choice(step.workspace, "layers", week).label)


@asset(
    "segments",
    writes=tables.MICRO_SEGMENTS,
    reads={
        "lifecycle_stages": Lookback.SAME_DAY,
        "layer_assignments": Lookback.SAME_DAY,
        "layer_models": Lookback.LAST_ENDED_WEEK,
    },
    checks={"one_primary_per_known_customer": "Each known customer has exactly one primary micro-segment."},
)
def micro_segments(step: Step) -> None:
    """Stage and primary clusters as one string with an id; secondary micro-segments with their weights."""
    for week, days in step.in_force():
        stages, assignments = step.read("lifecycle_stages", days), step.read("layer_assignments", days)
        spec = choices.segments_in_force(step.workspace, week)
        rows = segments.micro_segments(step.engine, stages, assignments, spec)
        check_one_each(step, "one_primary_per_known_customer", days, stages, primary(rows))
        step.write(rows, days)


@asset("segments", writes=tables.AUDIENCES, reads=SAME_DAY)
def audiences(step: Step) -> None:
    """Rule segments that a customer can be in several of."""
    for _, days in step.in_force():
        rows = segments.audiences(step.engine, _inputs(step, days), step.project.audiences)
        step.write(rows, days)


@asset(
    "segments",
    writes=tables.MICRO_SEGMENT_PROFILES,
    reads={**SAME_DAY, "micro_segments": Lookback.SAME_DAY, "layer_models": Lookback.LAST_ENDED_WEEK},
)
def micro_segment_profiles(step: Step) -> None:
    """Name and KPIs of each micro-segment and of each prefix of its string."""
    for week, days in step.in_force():
        model = choices.choice(step.workspace, "layers", week).model
        names = segments.Names() if model is None else model.names()
        rows = segments.profiles(step.engine, step.read("micro_segments", days), _inputs(step, days), names)
        step.write(rows, days)
    monitor(step, "layers", {"micro_segments": "COUNT(*) FILTER (WHERE is_leaf)"})


def _inputs(step: Step, days: Sequence[date]) -> pa.Table:
    """Features, value and stage of each customer, side by side."""
    features, value, stages = (step.read(name, days) for name in TODAY)
    return segments.layer_inputs(step.engine, features, value, stages)


def _in_lines(lineage: pa.Table) -> dict[str, str]:
    """Each cluster of a layer that has several, in a line: what it is, how many are in it, and what became of it."""
    lines: dict[str, str] = {}
    for row in lineage.to_pylist():
        if row["kind"] == "one" and row["event"] in ("first", "continued"):
            continue
        parts = [row["cluster_name"] or "gone", f"{row['event']} {row['other']}".rstrip()]
        if row["cluster_name"]:
            parts += [f"{row['customers']:,} customers at the fit", f"since {row['since']}", row["differences"]]
        lines[f"{row['stage']}/{row['layer']}.{row['cluster']}"] = "; ".join(part for part in parts if part)
    return lines

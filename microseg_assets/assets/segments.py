"""Segments: clusters per stage and layer, the micro-segments they combine to, audiences, and their KPIs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa

from microseg_assets.assets.earlier import EARLIER_DAYS, EarlierFeatures
from microseg_assets.orchestration.declaration import HISTORY, asset, model_asset
from microseg_assets.orchestration.step import Step, check_one_row_per_customer
from microseg_assets.orchestration.training import monitor, record_choice, record_evidence, training_weeks
from microseg_assets.partitions import Lookback
from microseg_assets.storage import choices
from microseg_assets.storage.rows import count_by, filter_primary
from ml import evidence, segments, tables
from ml import layers as ml_layers
from ml.restate import valued_history

TODAY = ("customer_features", "customer_value", "lifecycle_stages")
SAME_DAY = dict.fromkeys(TODAY, Lookback.SAME_DAY)


@model_asset("layers", reads=("value_model", "lifecycle_model"), kinds=("scikitlearn", "mlflow"))
def layer_models(step: Step) -> None:
    """The clusters of every stage and layer: refitted from those in force, chosen only if better."""
    for week in training_weeks(step, "layers"):
        models = choices.load_models(step.workspace, week.start, without=("layers",))
        fit_result = ml_layers.train(week.history, week.end, step.project.segments, week.incumbent.model, models=models)
        record_choice(step, "layers", week, fit_result, spec=step.project.segments)
        chosen = fit_result.model if fit_result.decision == "challenger" else week.incumbent.model
        if isinstance(chosen, ml_layers.LayerModels):
            step.note(week.start, cluster_reasons=chosen.reasons())


@asset(
    "segments",
    writes=tables.CLUSTER_LINEAGE,
    reads={"layer_models": Lookback.SAME_WEEK},
)
def cluster_lineage(step: Step) -> None:
    """What became of each cluster in the week's choice: continued, born, split, merged, or retired."""
    for week in sorted(step.keys):
        chosen = choices.load_choice(step.workspace, "layers", week)
        rows = tables.CLUSTER_LINEAGE.empty()
        if chosen.model is not None:
            before = choices.load_previous_choice(step.workspace, "layers", week)
            rows = chosen.model.lineage(is_new=chosen.label != before.label)
        step.write_week(
            week, rows, clusters_by_event=count_by(step.engine, rows, "event"), clusters=_describe_clusters(rows)
        )


@asset(
    "segments",
    writes=tables.SEGMENT_EVIDENCE,
    reads={
        **dict.fromkeys(HISTORY, Lookback.DAYS_TO_WEEK_END),
        "value_model": Lookback.SAME_WEEK, "lifecycle_model": Lookback.SAME_WEEK, "layer_models": Lookback.SAME_WEEK,
    },
    kinds=("duckdb", "mlflow"),
)  # fmt: skip
def segment_evidence(step: Step) -> None:
    """How well micro-segments predict next month's spend, out of time, compared with simpler groupings."""
    for week in training_weeks(step):
        rows = evidence.segment_evidence(
            week.history, week.end, choices.load_models(step.workspace, week.start), seed=step.project.segments.seed
        )
        record_evidence(step, "layers", week, rows, evidence.evidence_figure)


@asset(
    "segments",
    writes=tables.LAYER_ASSIGNMENTS,
    reads={**SAME_DAY, **EARLIER_DAYS, "layer_models": Lookback.LAST_ENDED_WEEK},
    kinds=("duckdb", "scikitlearn"),
)
def layer_assignments(step: Step) -> None:
    """The primary cluster of each customer in each layer of its stage, and secondary clusters with their weights."""
    for week, days in step.days_by_training_week():
        models = choices.load_models(step.workspace, week, without=("lifecycle",))
        history = valued_history(EarlierFeatures(step.workspace, models), models)
        rows = ml_layers.assign(_inputs(step, days), models.layers, history)
        step.write(rows, days, model=choices.load_choice(step.workspace, "layers", week).label)


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
    for week, days in step.days_by_training_week():
        stages, assignments = step.read("lifecycle_stages", days), step.read("layer_assignments", days)
        spec = choices.segments_in_force(step.workspace, week)
        rows = segments.micro_segments(step.engine, stages, assignments, spec)
        check_one_row_per_customer(step, "one_primary_per_known_customer", days, stages, filter_primary(rows))
        step.write(rows, days)


@asset("segments", writes=tables.AUDIENCES, reads=SAME_DAY)
def audiences(step: Step) -> None:
    """Rule-based segments; a customer can belong to several."""
    for _, days in step.days_by_training_week():
        rows = segments.audiences(step.engine, _inputs(step, days), step.project.audiences)
        step.write(rows, days)


@asset(
    "segments",
    writes=tables.MICRO_SEGMENT_PROFILES,
    reads={**SAME_DAY, "micro_segments": Lookback.SAME_DAY, "layer_models": Lookback.LAST_ENDED_WEEK},
)
def micro_segment_profiles(step: Step) -> None:
    """Name and KPIs of each micro-segment and of each prefix of its string."""
    for week, days in step.days_by_training_week():
        model = choices.load_choice(step.workspace, "layers", week).model
        names = ml_layers.Names() if model is None else model.names()
        of = step.project.value.of
        rows = segments.profiles(step.engine, step.read("micro_segments", days), _inputs(step, days), names, of=of)
        step.write(rows, days)
    monitor(step, "layers", {"micro_segments": "COUNT(*) FILTER (WHERE is_leaf)"})


def _inputs(step: Step, days: Sequence[date]) -> pa.Table:
    """Features, value and stage of each customer, side by side."""
    features, value, stages = (step.read(name, days) for name in TODAY)
    return ml_layers.layer_inputs(step.engine, features, value, stages)


def _describe_clusters(lineage: pa.Table) -> dict[str, str]:
    """A line for each cluster of a layer that has several: its name, event, size and distinguishing features."""
    lines: dict[str, str] = {}
    for row in lineage.to_pylist():
        if row["kind"] == "one" and row["event"] in ("first", "continued"):
            continue
        parts = [row["cluster_name"] or "gone", f"{row['event']} {row['other']}".rstrip()]
        if row["cluster_name"]:
            parts += [f"{row['customers']:,} customers at the fit", f"since {row['since']}", row["differences"]]
        lines[f"{row['stage']}/{row['layer']}.{row['cluster']}"] = "; ".join(part for part in parts if part)
    return lines

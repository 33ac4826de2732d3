"""Segments: clusters per stage and layer, the micro-segments they add up to, audiences, and their KPIs."""

from __future__ import annotations

import dagster as dg

from microseg_assets.chain import Chain, Step
from microseg_assets.partitions import Reach
from ml import segments, tables

TODAY = ("customer_features", "customer_value", "lifecycle_stages")


def assets(chain: Chain) -> list[dg.AssetsDefinition]:
    same_day = dict.fromkeys(TODAY, Reach.SAME_DAY)

    @chain.family("layers", group="segments", reads=("value_model", "lifecycle_model"), kinds=("scikitlearn", "mlflow"))
    def layer_models(step: Step) -> None:
        """The clusters of every stage and layer: refitted from those in force, chosen only where they are better."""
        for week in step.training("layers"):
            models = chain.models(week.start, without=("layers",))
            training = segments.train(week.facts, week.end, step.project.segments, week.incumbent.model, models=models)
            step.choose("layers", week, training, spec=step.project.segments)

    @chain.asset(
        "segments",
        writes=tables.SEGMENT_EVIDENCE,
        reads={
            **dict.fromkeys(tables.INPUTS, Reach.DAYS_TO_WEEK_END),
            "value_model": Reach.SAME_WEEK, "lifecycle_model": Reach.SAME_WEEK, "layer_models": Reach.SAME_WEEK,
        },
        kinds=("duckdb", "mlflow"),
    )  # fmt: skip
    def segment_evidence(step: Step) -> None:
        """How well micro-segments tell next month's spend, out of time, beside what a simpler grouping would tell."""
        for week in step.training():
            rows = segments.segment_evidence(
                week.facts, week.end, chain.models(week.start), seed=step.project.segments.seed
            )
            step.log_evidence("layers", week, rows, segments.evidence_figure)

    @chain.asset(
        "segments",
        writes=tables.LAYER_ASSIGNMENTS,
        reads={**same_day, "layer_models": Reach.LAST_ENDED_WEEK},
        kinds=("duckdb", "scikitlearn"),
    )
    def layer_assignments(step: Step) -> None:
        """The cluster of each customer in each layer of its stage, and the ones it also leans to, with weights."""
        for week, days in step.in_force():
            choice = chain.choice("layers", week)
            step.write(segments.assign(step.layer_inputs(days), choice.model), days, model=choice.label)

    @chain.asset(
        "segments",
        writes=tables.MICRO_SEGMENTS,
        reads={
            "lifecycle_stages": Reach.SAME_DAY,
            "layer_assignments": Reach.SAME_DAY,
            "layer_models": Reach.LAST_ENDED_WEEK,
        },
        checks={"one_primary_per_known_customer": "Each known customer has exactly one primary micro-segment."},
    )
    def micro_segments(step: Step) -> None:
        """Stage and primary clusters as one string with an id; secondary micro-segments with their weights."""
        for week, days in step.in_force():
            stages, assignments = step.read("lifecycle_stages", days), step.read("layer_assignments", days)
            rows = segments.micro_segments(step.engine, stages, assignments, chain.segments_in_force(week))
            primary = step.primary(rows)
            step.check_counts(
                "one_primary_per_known_customer", days, step.counts(stages, days), step.counts(primary, days)
            )
            step.write(rows, days)

    @chain.asset("segments", writes=tables.AUDIENCES, reads=same_day)
    def audiences(step: Step) -> None:
        """Rule segments that a customer can be in several of."""
        for _, days in step.in_force():
            rows = segments.audiences(step.engine, step.layer_inputs(days), step.project.audiences)
            step.write(rows, days)

    @chain.asset(
        "segments",
        writes=tables.MICRO_SEGMENT_PROFILES,
        reads={**same_day, "micro_segments": Reach.SAME_DAY, "layer_models": Reach.LAST_ENDED_WEEK},
    )
    def micro_segment_profiles(step: Step) -> None:
        """Name and KPIs of each micro-segment and of each prefix of its string."""
        for week, days in step.in_force():
            rows = segments.profiles(
                step.engine, step.read("micro_segments", days), step.layer_inputs(days),
                step.names(week),
            )  # fmt: skip
            step.write(rows, days)
        step.monitor("layers", {"micro_segments": "COUNT(*) FILTER (WHERE is_leaf)"})

    return [
        layer_models, segment_evidence, layer_assignments, micro_segments, audiences, micro_segment_profiles,
    ]  # fmt: skip

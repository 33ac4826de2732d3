"""Segments: clusters per stage and layer, the micro-segments they add up to, audiences, and their KPIs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.chain import Chain
from microseg_assets.partitions import Reach
from microseg_assets.status import outdated
from microseg_assets.step import Step
from microseg_assets.workspace import Choice
from ml import evidence, segments, tables
from ml.engine import quoted
from ml.restate import Models, past, past_columns

TODAY = ("customer_features", "customer_value", "lifecycle_stages")
# What the strings of a day look back at: with these, late rows of any earlier day make them stale.
EARLIER_DAYS = {
    "customer_days": Reach.DAYS_SO_FAR, "customers": Reach.DAYS_SO_FAR, "value_model": Reach.LAST_ENDED_WEEK,
}  # fmt: skip


def earlier_features(chain: Chain, models: Models) -> segments.History:
    """Features of earlier days as the layers look at them, for those customers who are asked about.

    They follow from the accepted rows up to these days, whatever was published: a stored snapshot is read only where it
    is what would be made of them now, and what it is made of is declared as a dependency of whoever asks
    (`EARLIER_DAYS`). All the rest is computed, for those customers alone.
    """
    snapshot = chain.project.features_table
    names = ["customer_id", "day", *past_columns(models, snapshot.names)]

    def stored(pairs: pa.Table, days: list[date]) -> pa.Table:
        columns = ", ".join(f"partitions.{quoted(name)} AS {quoted(name)}" for name in names)
        return chain.engine.query(
            f"""
            SELECT {columns}, pairs.place AS place FROM partitions
            JOIN pairs ON pairs.customer_id = partitions.customer_id AND pairs.day = partitions.day
            """,
            pairs=pairs,
            partitions=chain.lake.files(snapshot, days),
        )

    def computed(pairs: pa.Table) -> pa.Table:
        features = chain.facts_so_far(pc.max(pairs["day"]).as_py()).snapshot(pairs.select(["customer_id", "day"]))
        return features.select(names).append_column("place", pairs["place"])

    def of(pairs: pa.Table) -> pa.Table:
        pairs = pairs.append_column("place", pa.array(np.arange(pairs.num_rows)))
        current = _current_snapshots(chain, pc.unique(pairs["day"]).to_pylist(), names)
        is_stored = pc.is_in(pairs["day"], pa.array(current, pa.date32()))
        parts = []
        if current:
            parts.append(stored(pairs.filter(is_stored), current))
        if (rest := pairs.filter(pc.invert(is_stored))).num_rows:
            parts.append(computed(rest))
        found = pa.concat_tables(parts, promote_options="permissive")
        return found.take(np.argsort(found["place"].to_numpy())).drop_columns(["place"])

    return of


def _current_snapshots(chain: Chain, days: Sequence[date], names: Sequence[str]) -> list[date]:
    """Those of the days whose stored snapshot is what would be made of the accepted rows now, with all its columns."""
    table = chain.project.features_table
    gone, old = set(chain.lake.missing(table, days)), outdated(chain, "customer_features")
    declared = table.schema()
    wanted = {(name, declared.field(name).type) for name in names if name in declared.names}
    there = [day for day in days if f"{day}" not in gone and day not in old]
    return [day for day in there if wanted <= {(one.name, one.type) for one in chain.lake.schema(table, day)}]


def _choice_before(chain: Chain, week: date) -> Choice:
    """The layers' choice of the week before; none before the first week that was ever trained."""
    before = chain.calendar.previous_week(week)
    is_there = before is not None and not chain.lake.missing(tables.MODEL_CHOICES, [before], family="layers")
    return chain.choice("layers", before if is_there else None)


def _told(lineage: pa.Table) -> dict[str, str]:
    """Each cluster of a layer that has several, in a line: what it is, how many are in it, and what became of it."""
    told: dict[str, str] = {}
    for row in lineage.to_pylist():
        if row["kind"] == "one" and row["event"] in ("first", "continued"):
            continue
        parts = [row["cluster_name"] or "gone", f"{row['event']} {row['other']}".rstrip()]
        if row["cluster_name"]:
            parts += [f"{row['customers']:,} customers at the fit", f"since {row['since']}", row["differences"]]
        told[f"{row['stage']}/{row['layer']}.{row['cluster']}"] = "; ".join(part for part in parts if part)
    return told


def assets(chain: Chain) -> list[dg.AssetsDefinition]:
    same_day = dict.fromkeys(TODAY, Reach.SAME_DAY)

    @chain.family("layers", group="segments", reads=("value_model", "lifecycle_model"), kinds=("scikitlearn", "mlflow"))
    def layer_models(step: Step) -> None:
        """The clusters of every stage and layer: refitted from those in force, chosen only where they are better."""
        for week in step.training("layers"):
            models = chain.models(week.start, without=("layers",))
            training = segments.train(week.facts, week.end, step.project.segments, week.incumbent.model, models=models)
            step.choose("layers", week, training, spec=step.project.segments)
            chosen = training.model if training.decision == "challenger" else week.incumbent.model
            if isinstance(chosen, segments.LayerModels):
                step.note(week.start, why_these_clusters=chosen.reasons())

    @chain.asset(
        "segments",
        writes=tables.CLUSTER_LINEAGE,
        reads={"layer_models": Reach.SAME_WEEK},
    )
    def cluster_lineage(step: Step) -> None:
        """What became of each cluster in the week's choice: continued, born, split, merged, or retired."""
        for week in sorted(step.keys):
            choice, before = chain.choice("layers", week), _choice_before(chain, week)
            rows = tables.CLUSTER_LINEAGE.empty()
            if choice.model is not None:
                rows = choice.model.lineage(is_new=choice.label != before.label)
            step.write_week(week, rows, fates=step.shares(rows, "event"), clusters=_told(rows))

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
            rows = evidence.segment_evidence(
                week.facts, week.end, chain.models(week.start), seed=step.project.segments.seed
            )
            step.log_evidence("layers", week, rows, evidence.evidence_figure)

    @chain.asset(
        "segments",
        writes=tables.LAYER_ASSIGNMENTS,
        reads={**same_day, **EARLIER_DAYS, "layer_models": Reach.LAST_ENDED_WEEK},
        kinds=("duckdb", "scikitlearn"),
    )
    def layer_assignments(step: Step) -> None:
        """The cluster of each customer in each layer of its stage, and the ones it also leans to, with weights."""
        for week, days in step.in_force():
            models = chain.models(week, without=("lifecycle",))
            history = past(earlier_features(chain, models), models)
            rows = segments.assign(step.layer_inputs(days), models.layers, history)
            step.write(rows, days, model=chain.choice("layers", week).label)

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
        layer_models, cluster_lineage, segment_evidence, layer_assignments, micro_segments, audiences,
        micro_segment_profiles,
    ]  # fmt: skip

"""Segments: clusters per stage and layer, the micro-segments they add up to, audiences, and their KPIs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.chain import Chain, Choice, Step
from microseg_assets.partitions import Reach
from ml import segments, tables
from ml.engine import quoted

TODAY = ("customer_features", "customer_value", "lifecycle_stages")


def earlier_features(chain: Chain, layers: segments.LayerModels | None) -> segments.History:
    """Features of earlier days, as far as the layers look at them, for those customers who are asked about.

    Read beside Dagster's dependencies on purpose: making one old day anew does not make all later ones stale. A day
    whose snapshot is not there is computed from accepted rows, which gives the same; the value of a customer is what
    was published that day, and nothing before the first published day.
    """
    snapshot, value = chain.project.features_table, tables.CUSTOMER_VALUE
    wanted = segments.history_columns(layers, snapshot.names)
    valued = [name for name in wanted if name in value.names]
    features = [name for name in wanted if name not in valued]

    def read(table: tables.Table, day: date, names: list[str]) -> pa.Table:
        columns = ", ".join(map(quoted, ["customer_id", *names]))
        return chain.engine.query(f"SELECT {columns} FROM partition", partition=chain.lake.files(table, [day]))

    def on(day: date, who: pa.Array) -> pa.Table:
        """The wanted columns of one day, a row for each of `who`."""
        place: pa.Array | None = None
        there: pa.Array | None = None
        found = pa.table({"customer_id": who})
        for table, names in ((snapshot, features), (value, valued)):
            if chain.lake.missing(table, [day]):
                part = (
                    chain.facts(day).snapshot(found.append_column("day", pa.array([day] * len(who), pa.date32())))
                    if table is snapshot
                    else pa.table({name: pa.nulls(len(who), pa.float64()) for name in names})
                )
            else:
                part = read(table, day, names)
                ids = part["customer_id"].combine_chunks()
                if place is None or not ids.equals(there):  # both tables have the same customers, as a rule
                    place, there = segments.places_of(who, ids), ids
                part = part.take(place)
            for name in names:
                found = found.append_column(name, part[name])
        return found.drop_columns(["customer_id"])

    def of(pairs: pa.Table) -> pa.Table:
        days = sorted(pc.unique(pairs["day"]).to_pylist())
        if not days:
            return pairs
        who = [pairs["customer_id"].filter(pc.equal(pairs["day"], day)).combine_chunks() for day in days]
        with ThreadPoolExecutor(min(len(days), os.cpu_count() or 1)) as pool:
            return pa.concat_tables(pool.map(on, days, who))

    return of


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
            history = earlier_features(chain, choice.model)
            step.write(segments.assign(step.layer_inputs(days), choice.model, history), days, model=choice.label)

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

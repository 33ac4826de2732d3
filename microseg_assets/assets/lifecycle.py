"""Lifecycle: the one stage of each customer, and the weekly model that fixes its windows and cuts."""

from __future__ import annotations

import dagster as dg
import pyarrow as pa

from microseg_assets.chain import Chain, Step
from microseg_assets.partitions import Reach
from ml import lifecycle, tables


def assets(chain: Chain) -> list[dg.AssetsDefinition]:
    @chain.family("lifecycle", group="lifecycle", reads=("value_model",), kinds=("duckdb", "mlflow"))
    def lifecycle_model(step: Step) -> None:
        """The windows and cuts of the stages, fixed for the week so that a stage changes only when a customer does."""
        spec = step.project.lifecycle
        for week in step.training("lifecycle"):
            training = lifecycle.train(
                week.facts, week.end, spec, week.incumbent.model,
                value_model=chain.choice("value", week.start).model, value_spec=step.project.value,
            )  # fmt: skip
            step.choose("lifecycle", week, training, spec=spec)

    @chain.asset(
        "lifecycle",
        writes=tables.LIFECYCLE_STAGES,
        reads={
            "customer_features": Reach.SAME_DAY,
            "customer_value": Reach.SAME_DAY,
            "lifecycle_model": Reach.LAST_ENDED_WEEK,
            "lifecycle_stages": Reach.YESTERDAY,
        },
        checks={"one_stage_per_known_customer": "Each known customer has exactly one stage."},
    )
    def lifecycle_stages(step: Step) -> None:
        """Stage and sub-stage of each known customer, since when, and the stage before it."""
        for week, days in step.in_force():
            model = chain.choice("lifecycle", week).model
            features = step.read("customer_features", days)
            stages = lifecycle.assign_stages(
                step.engine, features, step.read("customer_value", days), model, step.project.lifecycle
            )
            step.check_counts(
                "one_stage_per_known_customer", days, step.counts(features, days), step.counts(stages, days)
            )
            for day in days:
                today: pa.Table = step.of_days(stages, [day])
                spells = lifecycle.continue_spells(step.engine, today, step.yesterday("lifecycle_stages", day))
                step.write(spells, [day], stages=step.shares(spells, "stage"))
        step.monitor_shares("lifecycle", "stage")

    return [lifecycle_model, lifecycle_stages]

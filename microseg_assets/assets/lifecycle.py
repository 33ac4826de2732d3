"""Lifecycle: the one stage of each customer, and the weekly model that fixes its windows and cuts."""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg
import pyarrow as pa

from microseg_assets.chain import Chain
from microseg_assets.partitions import Reach
from microseg_assets.step import Step
from ml import lifecycle, tables


def _weeks_before(step: Step, day: date) -> list[dict[str, int]]:
    """Customers by stage on the same day of each of the weeks before, as far as they are there."""
    wanted = [day - timedelta(weeks=back) for back in range(1, lifecycle.TRAILING_WEEKS + 1)]
    gone = set(step.workspace.lake.missing(tables.LIFECYCLE_STAGES, wanted))
    there = [d for d in wanted if d.isoformat() not in gone]
    return list(lifecycle.stage_counts(step.engine, step.files("lifecycle_stages", there)).values())


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
        checks={
            "one_stage_per_known_customer": "Each known customer has exactly one stage.",
            "stage_shares_in_line": "The stages' shares of customers are near those of the four weeks before.",
        },
    )
    def lifecycle_stages(step: Step) -> None:
        """Stage and sub-stage of each known customer, since when, the stages before it, and how often it was here."""
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
                counts = step.shares(spells, "stage")
                step.write(spells, [day], stages=counts)
                shift = lifecycle.share_shift(counts, _weeks_before(step, day))
                step.check(
                    "stage_shares_in_line", day, not shift.is_large,
                    warn=True, words=f"unusually many or few customers are in {shift}", said=str(shift),
                    population_stability_index=shift.index,
                )  # fmt: skip
        step.monitor_shares("lifecycle", "stage")

    return [lifecycle_model, lifecycle_stages]

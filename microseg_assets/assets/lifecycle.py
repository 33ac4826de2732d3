"""Lifecycle: the one stage of each customer, and the weekly model that fixes its windows and cuts."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa

from microseg_assets.orchestration.declaration import asset, fits
from microseg_assets.orchestration.fits import monitor_shares, record_choice, training_weeks
from microseg_assets.orchestration.step import Step, check_one_each, yesterday
from microseg_assets.partitions import Lookback
from microseg_assets.storage.choices import choice
from microseg_assets.storage.rows import counts_of, of_days
from ml import lifecycle, tables


def _weeks_before(step: Step, day: date) -> list[dict[str, int]]:
    """Customers by stage on the same day of each of the weeks before, as far as they are there."""
    wanted = [day - timedelta(weeks=back) for back in range(1, lifecycle.TRAILING_WEEKS + 1)]
    gone = set(step.own.missing(wanted))
    there = [d for d in wanted if d.isoformat() not in gone]
    return list(lifecycle.stage_counts(step.engine, step.own.files(there)).values())


@fits("lifecycle", reads=("value_model",), kinds=("duckdb", "mlflow"))
def lifecycle_model(step: Step) -> None:
    """The windows and cuts of the stages, fixed for the week so that a stage changes only when a customer does."""
    spec = step.project.lifecycle
    for week in training_weeks(step, "lifecycle"):
        training = lifecycle.train(
            week.facts, week.end, spec, week.incumbent.model,
            value_model=choice(step.workspace, "value", week.start).model, value_spec=step.project.value,
        )  # fmt: skip
        record_choice(step, "lifecycle", week, training, spec=spec)


@asset(
    "lifecycle",
    writes=tables.LIFECYCLE_STAGES,
    reads={
        "customer_features": Lookback.SAME_DAY,
        "customer_value": Lookback.SAME_DAY,
        "lifecycle_model": Lookback.LAST_ENDED_WEEK,
        "lifecycle_stages": Lookback.YESTERDAY,
    },
    checks={
        "one_stage_per_known_customer": "Each known customer has exactly one stage.",
        "stage_shares_in_line": "The stages' shares of customers are near those of the four weeks before.",
    },
)
def lifecycle_stages(step: Step) -> None:
    """Stage and sub-stage of each known customer, since when, the stages before it, and how often it was here."""
    for week, days in step.in_force():
        model = choice(step.workspace, "lifecycle", week).model
        features = step.read("customer_features", days)
        stages = lifecycle.assign_stages(
            step.engine, features, step.read("customer_value", days), model, step.project.lifecycle
        )
        check_one_each(step, "one_stage_per_known_customer", days, features, stages)
        for day in days:
            today: pa.Table = of_days(stages, [day])
            spells = lifecycle.continue_spells(step.engine, today, yesterday(step, "lifecycle_stages", day))
            counts = counts_of(step.engine, spells, "stage")
            step.write(spells, [day], stages=counts)
            shift = lifecycle.share_shift(counts, _weeks_before(step, day))
            step.check(
                "stage_shares_in_line", day, not shift.is_large,
                warn=True, words=f"unusually many or few customers are in {shift}", said=str(shift),
                population_stability_index=shift.index,
            )  # fmt: skip
    monitor_shares(step, "lifecycle", "stage")

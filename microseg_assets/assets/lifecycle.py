"""Lifecycle: the stage of each customer, and the weekly model that sets the time windows and thresholds of stages."""

from __future__ import annotations

from datetime import date, timedelta

import pyarrow as pa

from microseg_assets.orchestration.declaration import asset, model_asset
from microseg_assets.orchestration.step import Step, check_one_row_per_customer, read_day_before
from microseg_assets.orchestration.training import monitor_shares, record_choice, training_weeks
from microseg_assets.partitions import Lookback
from microseg_assets.storage.choices import load_choice
from microseg_assets.storage.rows import count_by, filter_days
from ml import lifecycle, tables


def _weeks_before(step: Step, day: date) -> list[dict[str, int]]:
    """Customers by stage on the same weekday of each of the weeks before, as far as it exists."""
    wanted = [day - timedelta(weeks=back) for back in range(1, lifecycle.TRAILING_WEEKS + 1)]
    absent = set(step.own_partitions.missing(wanted))
    existing = [d for d in wanted if d.isoformat() not in absent]
    return list(lifecycle.stage_counts(step.engine, step.own_partitions.files(existing)).values())


@model_asset("lifecycle", reads=("value_model",), kinds=("duckdb", "mlflow"))
def lifecycle_model(step: Step) -> None:
    """The time windows and thresholds of the stages, fixed for a week so that only behaviour changes a stage."""
    spec = step.project.lifecycle
    for week in training_weeks(step, "lifecycle"):
        fit_result = lifecycle.train(
            week.history, week.end, spec, week.incumbent.model,
            value_model=load_choice(step.workspace, "value", week.start).model, value_spec=step.project.value,
        )  # fmt: skip
        record_choice(step, "lifecycle", week, fit_result, spec=spec)


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
        "stage_shares_in_line": "Each stage's share of customers is close to its share in the four weeks before.",
    },
)
def lifecycle_stages(step: Step) -> None:
    """Stage and sub-stage of each known customer, since when, the stages before, and how often it has been entered."""
    for week, days in step.days_by_training_week():
        model = load_choice(step.workspace, "lifecycle", week).model
        features = step.read("customer_features", days)
        stages = lifecycle.assign_stages(
            step.engine, features, step.read("customer_value", days), model, step.project.lifecycle
        )
        check_one_row_per_customer(step, "one_stage_per_known_customer", days, features, stages)
        for day in days:
            today: pa.Table = filter_days(stages, [day])
            spells = lifecycle.continue_spells(step.engine, today, read_day_before(step, "lifecycle_stages", day))
            counts = count_by(step.engine, spells, "stage")
            step.write(spells, [day], stages=counts)
            shift = lifecycle.share_shift(counts, _weeks_before(step, day))
            step.check(
                "stage_shares_in_line", day, not shift.is_large,
                warn=True, message=f"unusually many or few customers are in {shift}", largest_shift=str(shift),
                population_stability_index=shift.index,
            )  # fmt: skip
    monitor_shares(step, "lifecycle", "stage")

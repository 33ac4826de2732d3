"""Journeys: who moved between segments and why, and where each customer is likely to be next."""

from __future__ import annotations

from datetime import timedelta

import pyarrow.compute as pc

from microseg_assets.assets.earlier import EARLIER_DAYS, EarlierFeatures, snapshot_of_day_before
from microseg_assets.orchestration.declaration import asset, model_asset
from microseg_assets.orchestration.step import Step, read_day_before
from microseg_assets.orchestration.training import monitor, record_choice, training_weeks
from microseg_assets.partitions import Lookback
from microseg_assets.storage import choices
from microseg_assets.storage.rows import count_by, filter_primary
from ml import journeys, tables
from ml.restate import restate


@model_asset("transitions", reads=("value_model", "lifecycle_model", "layer_models"), kinds=("duckdb", "mlflow"))
def transition_model(step: Step) -> None:
    """Weekly transition probabilities, estimated on past weeks restated under the current choices."""
    for week in training_weeks(step, "transitions"):
        models = choices.load_models(step.workspace, week.start)
        fit_result = journeys.train(week.history, week.end, step.project.journeys, week.incumbent.model, models=models)
        record_choice(step, "transitions", week, fit_result, spec=step.project.journeys)


@asset(
    "journeys",
    writes=tables.MOVEMENTS,
    reads={
        "micro_segments": Lookback.TWO_DAYS,
        "customer_features": Lookback.TWO_DAYS,
        **EARLIER_DAYS,
        "lifecycle_model": Lookback.LAST_ENDED_WEEK,
        "layer_models": Lookback.LAST_ENDED_WEEK,
    },
    checks={"counts_reconcile": "Yesterday's customers plus today's entries equal today's customers."},
)
def movements(step: Step) -> None:
    """Where each customer was yesterday and is today, with moves attributed to models or to behaviour."""
    calendar = step.workspace.calendar
    for day in step.keys:
        today = filter_primary(step.read("micro_segments", [day]))
        published = read_day_before(step, "micro_segments", day)
        before = None if published is None else filter_primary(published)
        week, last_week = (calendar.serving_week(d) for d in (day, day - timedelta(days=1)))
        restated = None
        if before is not None and not choices.same_models(step.workspace, week, last_week):
            models = choices.load_models(step.workspace, week)
            features = snapshot_of_day_before(step, day)
            restated = restate(step.engine, features, models, EarlierFeatures(step.workspace, models))
        rows = journeys.movements(step.engine, today, before, restated, step.read("customer_features", [day]))
        known = 0 if before is None else before.num_rows
        entries = pc.sum(pc.equal(rows["cause"], "entry")).as_py() or 0
        step.check(
            "counts_reconcile", day, known + entries == today.num_rows,
            yesterday=known, entries=entries, today=today.num_rows,
        )  # fmt: skip
        step.write(
            rows, [day], yesterday_restated=restated is not None, moves_by_cause=count_by(step.engine, rows, "cause")
        )
    monitor(step, "transitions", {"moved_share": "AVG(CASE WHEN cause IS NULL THEN 0 ELSE 1 END)"})


@asset(
    "journeys",
    writes=tables.JOURNEY_FORECASTS,
    reads={"micro_segments": Lookback.SAME_DAY, "transition_model": Lookback.LAST_ENDED_WEEK},
)
def journey_forecasts(step: Step) -> None:
    """The probability of each stage in 7 and in 28 days, per customer."""
    for week, days in step.days_by_training_week():
        chosen = choices.load_choice(step.workspace, "transitions", week)
        rows = journeys.forecast(step.engine, filter_primary(step.read("micro_segments", days)), chosen.model)
        step.write(rows, days, model=chosen.label, reason=chosen.reason)

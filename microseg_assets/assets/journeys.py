"""Journeys: who moved and why, and where each customer is likely to be next."""

from __future__ import annotations

from datetime import timedelta

import pyarrow.compute as pc

from microseg_assets.assets.earlier import EARLIER_DAYS, EarlierFeatures
from microseg_assets.orchestration.declaration import asset, fits
from microseg_assets.orchestration.fits import monitor, record_choice, training_weeks
from microseg_assets.orchestration.step import Step, yesterday
from microseg_assets.partitions import Lookback
from microseg_assets.storage import choices
from microseg_assets.storage.rows import counts_of, primary
from ml import journeys, tables
from ml.restate import restate


@fits("transitions", reads=("value_model", "lifecycle_model", "layer_models"), kinds=("duckdb", "mlflow"))
def transition_model(step: Step) -> None:
    """Weekly transition probabilities, learnt on past weeks restated under the current choices."""
    for week in training_weeks(step, "transitions"):
        models = choices.models(step.workspace, week.start)
        training = journeys.train(week.facts, week.end, step.project.journeys, week.incumbent.model, models=models)
        record_choice(step, "transitions", week, training, spec=step.project.journeys)


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
    checks={"counts_reconcile": "Yesterday's customers and today's entries are today's customers."},
)
def movements(step: Step) -> None:
    """Where each customer was yesterday and is today, split into what the models and what behaviour caused."""
    calendar = step.workspace.calendar
    for day in step.keys:
        today = primary(step.read("micro_segments", [day]))
        published = yesterday(step, "micro_segments", day)
        before = None if published is None else primary(published)
        week, last_week = (calendar.serving_week(one) for one in (day, day - timedelta(days=1)))
        restated = None
        if before is not None and not choices.same_models(step.workspace, week, last_week):
            models = choices.models(step.workspace, week)
            features = yesterday(step, "customer_features", day)
            restated = restate(step.engine, features, models, EarlierFeatures(step.workspace, models))
        rows = journeys.movements(step.engine, today, before, restated, step.read("customer_features", [day]))
        known = 0 if before is None else before.num_rows
        entries = pc.sum(pc.equal(rows["cause"], "entry")).as_py() or 0
        step.check(
            "counts_reconcile", day, known + entries == today.num_rows,
            yesterday=known, entries=entries, today=today.num_rows,
        )  # fmt: skip
        step.write(rows, [day], restated=restated is not None, causes=counts_of(step.engine, rows, "cause"))
    monitor(step, "transitions", {"moved_share": "AVG(CASE WHEN cause IS NULL THEN 0 ELSE 1 END)"})


@asset(
    "journeys",
    writes=tables.JOURNEY_FORECASTS,
    reads={"micro_segments": Lookback.SAME_DAY, "transition_model": Lookback.LAST_ENDED_WEEK},
)
def journey_forecasts(step: Step) -> None:
    """The chance of each stage in 7 and in 28 days, per customer."""
    for week, days in step.in_force():
        chosen = choices.choice(step.workspace, "transitions", week)
        rows = journeys.forecast(step.engine, primary(step.read("micro_segments", days)), chosen.model)
        step.write(rows, days, model=chosen.label, why=chosen.reason)

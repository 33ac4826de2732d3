"""Journeys: who moved and why, and where each customer is likely to be next."""

from __future__ import annotations

import dagster as dg

from microseg_assets.assets.segments import EARLIER_DAYS, earlier_features
from microseg_assets.chain import Chain
from microseg_assets.partitions import Reach
from microseg_assets.step import Step
from ml import journeys, tables
from ml.restate import restate


def assets(chain: Chain) -> list[dg.AssetsDefinition]:
    @chain.family(
        "transitions",
        group="journeys",
        reads=("value_model", "lifecycle_model", "layer_models"),
        kinds=("duckdb", "mlflow"),
    )
    def transition_model(step: Step) -> None:
        """Weekly transition probabilities, learnt on past weeks restated under the current choices."""
        for week in step.training("transitions"):
            training = journeys.train(
                week.facts, week.end, step.project.journeys, week.incumbent.model, models=chain.models(week.start)
            )
            step.choose("transitions", week, training, spec=step.project.journeys)

    @chain.asset(
        "journeys",
        writes=tables.MOVEMENTS,
        reads={
            "micro_segments": Reach.TWO_DAYS,
            "customer_features": Reach.TWO_DAYS,
            **EARLIER_DAYS,
            "lifecycle_model": Reach.LAST_ENDED_WEEK,
            "layer_models": Reach.LAST_ENDED_WEEK,
        },
        checks={"counts_reconcile": "Yesterday's customers and today's entries are today's customers."},
    )
    def movements(step: Step) -> None:
        """Where each customer was yesterday and is today, split into what the models and what behaviour caused."""
        for day in step.keys:
            today = step.primary(step.read("micro_segments", [day]))
            yesterday = step.yesterday("micro_segments", day)
            before = None if yesterday is None else step.primary(yesterday)
            week, last_week = chain.calendar.serving_week(day), chain.calendar.serving_week(step.before(day))
            restated = None
            if before is not None and not chain.same_models(week, last_week):
                models = chain.models(week)
                features = step.yesterday("customer_features", day)
                restated = restate(step.engine, features, models, earlier_features(chain, models))
            rows = journeys.movements(step.engine, today, before, restated, step.read("customer_features", [day]))
            known = 0 if before is None else before.num_rows
            entries = step.count(rows, "cause = 'entry'")
            step.check(
                "counts_reconcile", day, known + entries == today.num_rows,
                yesterday=known, entries=entries, today=today.num_rows,
            )  # fmt: skip
            step.write(rows, [day], restated=restated is not None, causes=step.shares(rows, "cause"))
        step.monitor("transitions", {"moved_share": "AVG(CASE WHEN cause IS NULL THEN 0 ELSE 1 END)"})

    @chain.asset(
        "journeys",
        writes=tables.JOURNEY_FORECASTS,
        reads={"micro_segments": Reach.SAME_DAY, "transition_model": Reach.LAST_ENDED_WEEK},
    )
    def journey_forecasts(step: Step) -> None:
        """The chance of each stage in 7 and in 28 days, per customer."""
        for week, days in step.in_force():
            choice = chain.choice("transitions", week)
            primary = step.primary(step.read("micro_segments", days))
            step.write(
                journeys.forecast(step.engine, primary, choice.model), days, model=choice.label, why=choice.reason
            )

    return [transition_model, movements, journey_forecasts]

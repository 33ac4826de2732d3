"""Value: what each customer is expected to bring, and the model that says so."""

from __future__ import annotations

import dagster as dg

from microseg_assets.chain import Chain, Step
from microseg_assets.partitions import Reach
from ml import tables, value


def assets(chain: Chain) -> list[dg.AssetsDefinition]:
    @chain.family("value", group="value", kinds=("lightgbm", "mlflow"))
    def value_model(step: Step) -> None:
        """The value model of the week: fitted on matured snapshots, judged on a temporal holdout, chosen or not."""
        for week in step.training("value"):
            training = value.train(week.facts, week.end, step.project.value, week.incumbent.model)
            step.choose("value", week, training, spec=step.project.value)

    @chain.asset(
        "value",
        writes=tables.CUSTOMER_VALUE,
        reads={"customer_features": Reach.SAME_DAY, "value_model": Reach.LAST_ENDED_WEEK},
        kinds=("duckdb", "lightgbm"),
    )
    def customer_value(step: Step) -> None:
        """LTV, chance of being alive, expected orders and spend over the horizon, per known customer."""
        for week, days in step.in_force():
            choice = chain.choice("value", week)
            features = step.read("customer_features", days)
            rows = value.apply(features, choice.model, step.project.value, label=choice.label)
            step.write(rows, days, model=choice.label, why=choice.reason)
        step.monitor("value", {"ltv": "SUM(ltv)", "ltv_per_customer": "AVG(ltv)", "p_alive": "AVG(p_alive)"})

    return [value_model, customer_value]

"""Value: what each customer is expected to bring, and the model that says so."""

from __future__ import annotations

from datetime import date, timedelta

import dagster as dg
import pyarrow as pa

from microseg_assets.chain import Chain, Step
from microseg_assets.partitions import Reach
from ml import tables, value

CALIBRATED = "calibrated_a_horizon_ago"


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
        checks={CALIBRATED: "What was expected of customers a horizon ago is about what they have brought since."},
    )
    def customer_value(step: Step) -> None:
        """LTV, chance of being alive, expected orders and spend over the horizon, per known customer."""
        for week, days in step.in_force():
            choice = chain.choice("value", week)
            features = step.read("customer_features", days)
            rows = value.apply(features, choice.model, step.project.value, label=choice.label)
            step.write(rows, days, model=choice.label, why=choice.reason)
            for day in days:
                _check_calibration(step, day, step.of_days(features, [day]))
        step.monitor("value", {"ltv": "SUM(ltv)", "ltv_per_customer": "AVG(ltv)", "p_alive": "AVG(p_alive)"})

    return [value_model, customer_value]


def _check_calibration(step: Step, day: date, features: pa.Table) -> None:
    """Warn where the value of the day a horizon ago, as it was published then, has turned out wrong in sum."""
    horizon = step.project.value.horizon_days
    then = day - timedelta(days=horizon)
    if then < step.chain.calendar.start or step.chain.lake.missing(step.stored.table, [then]):
        step.check(CALIBRATED, day, True, warn=True, reason=f"no value was worked out {horizon} days ago")
        return
    found = value.calibration_drift(step.engine, step.read("customer_value", [then]), features, horizon)
    step.check(
        CALIBRATED, day, not found.has_drifted, warn=True, reason=found.reason, customers=found.customers,
        expected=found.expected, realised=found.realised, ratio=found.ratio, decile_error=found.decile_error,
    )  # fmt: skip

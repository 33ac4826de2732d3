"""Value: the expected value of each customer, and the model that predicts it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from microseg_assets.orchestration.declaration import asset, model_asset
from microseg_assets.orchestration.step import Step
from microseg_assets.orchestration.training import monitor, record_choice, training_weeks
from microseg_assets.partitions import Lookback
from microseg_assets.storage.choices import load_choice
from microseg_assets.storage.rows import filter_days
from ml import tables, value
from ml.value.breakdown import NEVER_BOUGHT

CALIBRATED = "calibrated_a_horizon_ago"
COHORTS_FIT, MONEY_FITS = "no_cohort_is_off", "money_is_independent_of_rhythm"
_COHORTS = {
    "first_28_days": "customers of the last 28 days",
    "days_28_to_89": "customers who first bought 28 to 89 days before",
    "days_90_to_181": "customers who first bought 90 to 181 days before",
    "days_182_to_364": "customers who first bought 182 to 364 days before",
    "a_year_and_longer": "customers of a year and longer",
    NEVER_BOUGHT: "customers who had not bought yet",
}
CHECK_OF_CAVEAT = {"cohort_off": COHORTS_FIT, "money_goes_with_rhythm": MONEY_FITS}


@model_asset(
    "value",
    kinds=("lightgbm", "mlflow"),
    checks={
        COHORTS_FIT: "On the holdout, the spend of every first-purchase cohort is close to its prediction.",
        MONEY_FITS: "Spend per order is independent of order frequency, as BG/NBD and Gamma-Gamma assume.",
    },
)
def value_model(step: Step) -> None:
    """The value model of the week: fitted on matured snapshots, evaluated on a temporal holdout, chosen if better."""
    for week in training_weeks(step, "value"):
        fit_result = value.train(week.history, week.end, step.project.value, week.incumbent.model)
        record_choice(step, "value", week, fit_result, spec=step.project.value)
        _check_fit(step, week.start, value.find_caveats(fit_result.metrics))


@asset(
    "value",
    writes=tables.CUSTOMER_VALUE,
    reads={"customer_features": Lookback.SAME_DAY, "value_model": Lookback.LAST_ENDED_WEEK},
    kinds=("duckdb", "lightgbm"),
    checks={CALIBRATED: "Predictions made one horizon ago are close to what customers have spent since."},
)
def customer_value(step: Step) -> None:
    """LTV, probability of being alive, expected orders and spend over the horizon, per known customer."""
    ratios: dict[date, float | None] = {}
    for week, days in step.days_by_training_week():
        chosen = load_choice(step.workspace, "value", week)
        features = step.read("customer_features", days)
        rows = value.apply(features, chosen.model, step.project.value, label=chosen.label)
        step.write(rows, days, model=chosen.label, reason=chosen.reason)
        for day in days:
            basis = value.Basis.of(step.engine, filter_days(rows, [day]))
            outlook = value.Outlook() if basis is None else basis.outlook
            step.note(
                day,
                value_basis=None if basis is None else basis.words(),
                value_of=step.project.value.of,
                **vars(outlook),
            )
            ratios[day] = _check_calibration(step, day, filter_days(features, [day]), outlook)
    if compared := {day: {"came_over_expected": ratio} for day, ratio in ratios.items() if ratio is not None}:
        step.workspace.tracking.monitor("value", compared)
    monitor(step, "value",
        {
            "ltv": "SUM(ltv)", "ltv_per_customer": "AVG(ltv)", "p_alive": "AVG(p_alive)",
            "season_factor": "AVG(season_factor)", "risk_low": "AVG(risk_low)", "risk_high": "AVG(risk_high)",
        },
    )  # fmt: skip


def _check_fit(step: Step, week: date, caveats: list[value.Caveat]) -> None:
    """Warn of problems that the totals of a fit hide: each kind of caveat is a check of the week."""
    for code, name in CHECK_OF_CAVEAT.items():
        details = [caveat.figures for caveat in caveats if caveat.code == code]
        notes: dict[str, Any] = {}
        message = ""
        if code == "cohort_off" and details:
            off = ", ".join(f"{figures['cohort'].replace('_', ' ')} {figures['ratio']:.0%}" for figures in details)
            notes = {"actual_over_expected_spend": off}
            message = "; ".join(_describe_cohort(figures) for figures in details)
        elif details:
            figures = details[0]
            more = "more" if figures["correlation"] > 0 else "less"
            message = (
                f"customers who buy often spend {more} each time (rank correlation {figures['correlation']:+.2f} over "
                f"{figures['customers']:,.0f} customers), but the model assumes "
                "no relation: its predictions for single customers may be off"
            )
            notes = {
                "rank_correlation": f"rank correlation {figures['correlation']:+.2f}",
                "customers": figures["customers"],
                "correction_by_decile": {f"decile {k}": v for k, v in figures["corrections"].items()},
            }
        step.check(name, week, not details, warn=True, message=message, **notes)


def _describe_cohort(figures: Mapping[str, Any]) -> str:
    """The spend of one cohort against its prediction, in a sentence."""
    cohort = _COHORTS[figures["cohort"]]
    return (
        f"{cohort} spent {figures['ratio']:.0%} of what the model expected of them "
        f"({figures['customers']:,.0f} customers)"
    )


def _check_calibration(step: Step, day: date, features: pa.Table, outlook: value.Outlook) -> float | None:
    """Warn if the values published one horizon ago have turned out wrong in total.

    Returns actual over expected spend; None if there was nothing to compare.
    """
    horizon = step.project.value.horizon_days
    past_day = day - timedelta(days=horizon)
    if past_day < step.workspace.calendar.start or step.own_partitions.missing([past_day]):
        step.check(CALIBRATED, day, True, warn=True, reason=f"no value was computed {horizon} days ago")
        return None
    past = step.read("customer_value", [past_day])
    drift = value.calibration_drift(step.engine, past, features, horizon, outlook, step.project.value.of)
    step.note(day, actual_over_expected_spend=drift.ratio, todays_sum=drift.today)
    step.check(
        CALIBRATED, day, not drift.has_drifted, warn=True, reason=drift.reason,
        message=f"lifetime value as of {past_day}: {drift.reason}", customers=drift.customers,
        expected_spend=drift.expected, actual_spend=drift.realised, actual_over_expected_spend=drift.ratio,
        decile_error=drift.decile_error, todays_sum=drift.today,
    )  # fmt: skip
    return drift.ratio if drift.expected > 0 else None

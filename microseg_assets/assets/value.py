"""Value: what each customer is expected to bring, and the model that says so."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from microseg_assets.orchestration.declaration import asset, fits
from microseg_assets.orchestration.fits import monitor, record_choice, training_weeks
from microseg_assets.orchestration.step import Step
from microseg_assets.partitions import Lookback
from microseg_assets.storage.choices import choice
from microseg_assets.storage.rows import of_days
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
FINDINGS = {"cohort_off": COHORTS_FIT, "money_goes_with_rhythm": MONEY_FITS}


@fits(
    "value",
    kinds=("lightgbm", "mlflow"),
    checks={
        COHORTS_FIT: "On the holdout, customers of every cohort of first purchase brought about what was expected.",
        MONEY_FITS: "What a purchase brings does not go with how often one buys, as BG/NBD and Gamma-Gamma assume.",
    },
)
def value_model(step: Step) -> None:
    """The value model of the week: fitted on matured snapshots, judged on a temporal holdout, chosen or not."""
    for week in training_weeks(step, "value"):
        training = value.train(week.facts, week.end, step.project.value, week.incumbent.model)
        record_choice(step, "value", week, training, spec=step.project.value)
        _check_fit(step, week.start, value.findings(training.metrics))


@asset(
    "value",
    writes=tables.CUSTOMER_VALUE,
    reads={"customer_features": Lookback.SAME_DAY, "value_model": Lookback.LAST_ENDED_WEEK},
    kinds=("duckdb", "lightgbm"),
    checks={CALIBRATED: "What was expected of customers a horizon ago is about what they have brought since."},
)
def customer_value(step: Step) -> None:
    """LTV, chance of being alive, expected orders and spend over the horizon, per known customer."""
    came: dict[date, float | None] = {}
    for week, days in step.in_force():
        chosen = choice(step.workspace, "value", week)
        features = step.read("customer_features", days)
        rows = value.apply(features, chosen.model, step.project.value, label=chosen.label)
        step.write(rows, days, model=chosen.label, why=chosen.reason)
        for day in days:
            basis = value.Basis.of(step.engine, of_days(rows, [day]))
            outlook = value.Outlook() if basis is None else basis.outlook
            step.note(day, rests_on=None if basis is None else basis.words(), **vars(outlook))
            came[day] = _check_calibration(step, day, of_days(features, [day]), outlook)
    if compared := {day: {"came_over_expected": ratio} for day, ratio in came.items() if ratio is not None}:
        step.workspace.tracking.monitor("value", compared)
    monitor(step, "value",
        {
            "ltv": "SUM(ltv)", "ltv_per_customer": "AVG(ltv)", "p_alive": "AVG(p_alive)",
            "season_factor": "AVG(season_factor)", "risk_low": "AVG(risk_low)", "risk_high": "AVG(risk_high)",
        },
    )  # fmt: skip


def _check_fit(step: Step, week: date, found: list[value.Finding]) -> None:
    """Warn of what the sum of a fit hides: each kind of finding is a check of the week."""
    for code, name in FINDINGS.items():
        mine = [finding.facts for finding in found if finding.code == code]
        notes: dict[str, Any] = {}
        words = ""
        if code == "cohort_off" and mine:
            off = ", ".join(f"{facts['cohort'].replace('_', ' ')} {facts['ratio']:.0%}" for facts in mine)
            notes = {"came_of_what_was_expected": off}
            words = "; ".join(_of_cohort(facts) for facts in mine)
        elif mine:
            more = "more" if mine[0]["correlation"] > 0 else "less"
            words = (
                f"customers who buy often spend {more} each time (rank correlation {mine[0]['correlation']:+.2f} over "
                f"{mine[0]['customers']:,.0f} customers), which the model takes "
                "for unrelated: what it expects of a single customer may be off"
            )
            notes = {
                "rank_correlation": f"rank correlation {mine[0]['correlation']:+.2f}",
                "customers": mine[0]["customers"],
                "correction_by_decile": {f"decile {k}": v for k, v in mine[0]["corrections"].items()},
            }  # fmt: skip
        step.check(name, week, not mine, warn=True, words=words, **notes)


def _of_cohort(facts: Mapping[str, Any]) -> str:
    """What came of the customers of one cohort beside what was expected of them."""
    who = _COHORTS[facts["cohort"]]
    return f"{who} spent {facts['ratio']:.0%} of what the model expected of them ({facts['customers']:,.0f} customers)"


def _check_calibration(step: Step, day: date, features: pa.Table, outlook: value.Outlook) -> float | None:
    """Warn where the value of the day a horizon ago, as it was published then, has turned out wrong in sum.

    Returns what came over what was expected; None where there was nothing to compare.
    """
    horizon = step.project.value.horizon_days
    then = day - timedelta(days=horizon)
    if then < step.workspace.calendar.start or step.own.missing([then]):
        step.check(CALIBRATED, day, True, warn=True, reason=f"no value was worked out {horizon} days ago")
        return None
    found = value.calibration_drift(step.engine, step.read("customer_value", [then]), features, horizon, outlook)
    step.note(day, came_over_expected=found.ratio, today=found.today)
    step.check(
        CALIBRATED, day, not found.has_drifted, warn=True, reason=found.reason,
        words=f"lifetime value as it was on {then}: {found.reason}", customers=found.customers,
        expected=found.expected, realised=found.realised, ratio=found.ratio, decile_error=found.decile_error,
        today=found.today,
    )  # fmt: skip
    return found.ratio if found.expected > 0 else None

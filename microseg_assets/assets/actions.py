"""Actions: the effect of each action on each group, the evidence for it, and who gets which action."""

from __future__ import annotations

from microseg_assets.orchestration.declaration import HISTORY, asset, model_asset
from microseg_assets.orchestration.step import Step, check_one_row_per_customer
from microseg_assets.orchestration.training import TrainingWeek, monitor, record_choice, training_weeks
from microseg_assets.partitions import Lookback
from microseg_assets.storage import choices
from microseg_assets.storage.rows import count_by, filter_primary
from ml import actions, tables


@asset(
    "actions",
    writes=tables.EXPOSURE_OUTCOMES,
    reads=dict.fromkeys(HISTORY, Lookback.DAYS_TO_WEEK_END),
)
def exposure_outcomes(step: Step) -> None:
    """Exposures whose outcome window has closed, their controls, and their outcomes."""
    for week in training_weeks(step):
        rows = actions.exposure_outcomes(
            week.history, week.accepted("exposures"), week.end, step.project.actions, start=step.project.start
        )
        step.write_week(week.start, rows, exposures_by_action=count_by(step.engine, rows, "action"))


@model_asset("action-response", kinds=("lightgbm", "mlflow"),
    reads=("exposure_outcomes", "value_model", "lifecycle_model", "layer_models"),
)  # fmt: skip
def action_response_model(step: Step) -> None:
    """The effect of each action on net revenue: cross-fitted, doubly robust, with a placebo test if not randomized."""
    outcomes = step.workspace.partitions("exposure_outcomes")
    for week in training_weeks(step, "action-response"):
        fit_result = actions.train(
            week.history, week.end, step.project.actions, week.incumbent.model,
            models=choices.load_models(step.workspace, week.start), outcomes=outcomes.read(week.start),
            maturity=_maturity(step, week),
        )  # fmt: skip
        record_choice(step, "action-response", week, fit_result, spec=step.project.actions)


@asset(
    "actions",
    writes=tables.ACTION_EFFECTS,
    reads={"micro_segments": Lookback.SAME_DAY, "action_response_model": Lookback.LAST_ENDED_WEEK},
)
def action_effects(step: Step) -> None:
    """The effect of each action on each micro-segment, with its interval, arm sizes and the evidence it rests on."""
    for week, days in step.days_by_training_week():
        chosen = choices.load_choice(step.workspace, "action-response", week)
        customers = filter_primary(step.read("micro_segments", days))
        rows = actions.effects(step.engine, customers, chosen.model, step.project.actions)
        step.write(rows, days, model=chosen.label, reason=chosen.reason)


@asset(
    "actions",
    writes=tables.ACTION_PLAN,
    reads={
        "micro_segments": Lookback.SAME_DAY,
        "action_effects": Lookback.SAME_DAY,
        "action_response_model": Lookback.LAST_ENDED_WEEK,  # its choice gives the reason if there are no effects
    },
    checks={
        "one_row_per_known_customer": "Each known customer has exactly one row in the plan.",
        "only_supported_effects": "No customer gets an action without evidence for its effect.",
    },
)
def action_plan(step: Step) -> None:
    """Who gets which action, who is held out as control, who gets none, and why."""
    for week, days in step.days_by_training_week():
        customers = filter_primary(step.read("micro_segments", days))
        effects = step.read("action_effects", days)
        why = "" if effects.num_rows else choices.load_choice(step.workspace, "action-response", week).reason
        rows = actions.plan(
            step.engine, customers, effects, step.project.actions,
            start=step.project.start, salt=step.project.name, why=why,
        )  # fmt: skip
        check_one_row_per_customer(step, "one_row_per_known_customer", days, customers, rows)
        unsupported = actions.unsupported_rows(step.engine, rows, effects)
        for day in days:
            step.check("only_supported_effects", day, not unsupported.get(day, 0), rows=unsupported.get(day, 0))
        step.write(rows, days)
    monitor(
        step,
        "action-response",
        {
            "treated": "COUNT(*) FILTER (WHERE action NOT IN ('none', 'control'))",
            "expected_value": "SUM(expected_incremental_value)",
        },
    )


def _maturity(step: Step, week: TrainingWeek) -> actions.Maturity:
    """Which exposures have a complete outcome by the end of a week."""
    spec = step.project.actions
    return actions.maturity(
        step.engine, week.accepted("exposures"), week.history.customer_days, week.end, spec.outcome_window_days,
        step.project.start, [action.name for action in spec.actions],
    )  # fmt: skip

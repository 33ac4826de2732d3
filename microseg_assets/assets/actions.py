"""Actions: what each action does to whom, how far that can be believed, and who gets what."""

from __future__ import annotations

from microseg_assets.orchestration.declaration import asset, fits
from microseg_assets.orchestration.fits import TrainingWeek, monitor, record_choice, training_weeks
from microseg_assets.orchestration.step import Step, check_one_each
from microseg_assets.partitions import Lookback
from microseg_assets.storage import choices
from microseg_assets.storage.rows import counts_of, primary
from ml import actions, tables


@asset(
    "actions",
    writes=tables.EXPOSURE_OUTCOMES,
    reads=dict.fromkeys(tables.INPUTS, Lookback.DAYS_TO_WEEK_END),
)
def exposure_outcomes(step: Step) -> None:
    """Exposures whose outcome window has closed, their controls, and what followed."""
    for week in training_weeks(step):
        rows = actions.exposure_outcomes(
            week.facts, week.accepted("exposures"), week.end, step.project.actions, start=step.project.start
        )
        step.write_week(week.start, rows, arms=counts_of(step.engine, rows, "action"))


@fits("action-response", kinds=("lightgbm", "mlflow"),
    reads=("exposure_outcomes", "value_model", "lifecycle_model", "layer_models"),
)  # fmt: skip
def action_response_model(step: Step) -> None:
    """What each action does to net revenue: cross-fitted, doubly robust; a placebo where chance did not choose."""
    outcomes = step.workspace.partitions("exposure_outcomes")
    for week in training_weeks(step, "action-response"):
        training = actions.train(
            week.facts, week.end, step.project.actions, week.incumbent.model,
            models=choices.models(step.workspace, week.start), outcomes=outcomes.read(week.start),
            maturity=_maturity(step, week),
        )  # fmt: skip
        record_choice(step, "action-response", week, training, spec=step.project.actions)


@asset(
    "actions",
    writes=tables.ACTION_EFFECTS,
    reads={"micro_segments": Lookback.SAME_DAY, "action_response_model": Lookback.LAST_ENDED_WEEK},
)
def action_effects(step: Step) -> None:
    """The effect of each action on each micro-segment, with interval, arm counts and the evidence it stands on."""
    for week, days in step.in_force():
        chosen = choices.choice(step.workspace, "action-response", week)
        customers = primary(step.read("micro_segments", days))
        rows = actions.effects(step.engine, customers, chosen.model, step.project.actions)
        step.write(rows, days, model=chosen.label, why=chosen.reason)


@asset(
    "actions",
    writes=tables.ACTION_PLAN,
    reads={
        "micro_segments": Lookback.SAME_DAY,
        "action_effects": Lookback.SAME_DAY,
        "action_response_model": Lookback.LAST_ENDED_WEEK,  # says why there are no effects
    },
    checks={
        "one_row_per_known_customer": "Each known customer has exactly one row of the plan.",
        "only_supported_effects": "No customer gets an action whose effect is unsupported.",
    },
)
def action_plan(step: Step) -> None:
    """Who gets which action, who is held out on purpose, who is left alone and why."""
    for week, days in step.in_force():
        customers = primary(step.read("micro_segments", days))
        effects = step.read("action_effects", days)
        why = "" if effects.num_rows else choices.choice(step.workspace, "action-response", week).reason
        rows = actions.plan(
            step.engine, customers, effects, step.project.actions,
            start=step.project.start, salt=step.project.name, why=why,
        )  # fmt: skip
        check_one_each(step, "one_row_per_known_customer", days, customers, rows)
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
    """Which exposures count by the end of a week."""
    spec = step.project.actions
    return actions.maturity(
        step.engine, week.accepted("exposures"), week.facts.customer_days, week.end, spec.outcome_window_days,
        step.project.start, [action.name for action in spec.actions],
    )  # fmt: skip

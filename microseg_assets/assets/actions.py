"""Actions: what each action does to whom, how far that can be believed, and who gets what."""

from __future__ import annotations

import dagster as dg

from microseg_assets.chain import Chain
from microseg_assets.partitions import Reach
from microseg_assets.step import Step, TrainingWeek
from ml import actions, tables


def assets(chain: Chain) -> list[dg.AssetsDefinition]:
    @chain.asset(
        "actions",
        writes=tables.EXPOSURE_OUTCOMES,
        reads=dict.fromkeys(tables.INPUTS, Reach.DAYS_TO_WEEK_END),
    )
    def exposure_outcomes(step: Step) -> None:
        """Exposures whose outcome window has closed, their controls, and what followed."""
        for week in step.training():
            rows = actions.exposure_outcomes(
                week.facts, week.accepted("exposures"), week.end, step.project.actions, start=step.project.start
            )
            step.write_week(week.start, rows, arms=step.shares(rows, "action"))

    @chain.family(
        "action-response", group="actions", kinds=("lightgbm", "mlflow"),
        reads=("exposure_outcomes", "value_model", "lifecycle_model", "layer_models"),
    )  # fmt: skip
    def action_response_model(step: Step) -> None:
        """What each action does to net revenue: cross-fitted, doubly robust; a placebo where chance did not choose."""
        for week in step.training("action-response"):
            training = actions.train(
                week.facts, week.end, step.project.actions, week.incumbent.model,
                models=chain.models(week.start), outcomes=step.week("exposure_outcomes", week.start),
                maturity=_maturity(step, week),
            )  # fmt: skip
            step.choose("action-response", week, training, spec=step.project.actions)

    @chain.asset(
        "actions",
        writes=tables.ACTION_EFFECTS,
        reads={"micro_segments": Reach.SAME_DAY, "action_response_model": Reach.LAST_ENDED_WEEK},
    )
    def action_effects(step: Step) -> None:
        """The effect of each action on each micro-segment, with interval, arm counts and the evidence it stands on."""
        for week, days in step.in_force():
            choice = chain.choice("action-response", week)
            primary = step.primary(step.read("micro_segments", days))
            rows = actions.effects(step.engine, primary, choice.model, step.project.actions)
            step.write(rows, days, model=choice.label, why=choice.reason)

    @chain.asset(
        "actions",
        writes=tables.ACTION_PLAN,
        reads={
            "micro_segments": Reach.SAME_DAY,
            "action_effects": Reach.SAME_DAY,
            "action_response_model": Reach.LAST_ENDED_WEEK,  # says why there are no effects
        },
        checks={
            "one_row_per_known_customer": "Each known customer has exactly one row of the plan.",
            "only_supported_effects": "No customer gets an action whose effect is unsupported.",
        },
    )
    def action_plan(step: Step) -> None:
        """Who gets which action, who is held out on purpose, who is left alone and why."""
        for week, days in step.in_force():
            primary = step.primary(step.read("micro_segments", days))
            effects = step.read("action_effects", days)
            why = "" if effects.num_rows else chain.choice("action-response", week).reason
            rows = actions.plan(
                step.engine, primary, effects, step.project.actions,
                start=step.project.start, salt=step.project.name, why=why,
            )  # fmt: skip
            step.check_counts("one_row_per_known_customer", days, step.counts(primary, days), step.counts(rows, days))
            unsupported = actions.unsupported_rows(step.engine, rows, effects)
            for day in days:
                step.check("only_supported_effects", day, not unsupported.get(day, 0), rows=unsupported.get(day, 0))
            step.write(rows, days)
        step.monitor(
            "action-response",
            {
                "treated": "COUNT(*) FILTER (WHERE action NOT IN ('none', 'control'))",
                "expected_value": "SUM(expected_incremental_value)",
            },
        )

    return [exposure_outcomes, action_response_model, action_effects, action_plan]


def _maturity(step: Step, week: TrainingWeek) -> actions.Maturity:
    """Which exposures count by the end of a week."""
    spec = step.project.actions
    return actions.maturity(
        step.engine, week.accepted("exposures"), week.facts.customer_days, week.end, spec.outcome_window_days,
        step.project.start, [action.name for action in spec.actions],
    )  # fmt: skip

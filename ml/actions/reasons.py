"""Why an effect is not acted upon, why a week chose its effects, and caveats: codes, figures and sentences.

Belongs here: the codes, and the sentence of each. Does not belong here: when one applies. For a customer's plan that
is `policy` (per micro-segment) and ``plan.sql`` (per customer), for the evidence behind it `response`, `cells` and
`audit`, for a week's choice `training`. No decision may be read from a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from ml.actions.spec import CONTROL, NONE
from ml.choice import Code, vocabulary_of
from ml.reasons import Reason, Vocabulary

Figures: TypeAlias = Mapping[str, float | str]

FINDINGS = {
    "arms_unbalanced": "{action} is said to be randomised, but its arms differ before the exposure: {feature} by "
    "{difference:+.2f} SD (p {p:.2g} over {features:.0f} features); chance did not choose, or rows are missing",
    "sample_ratio_mismatch": "{action} has {treated:,.0f} treated and {control:,.0f} control exposures where the "
    "stated chances expect {expected:.1%} treated (p {p:.2g}): about {missing:,.0f} rows of {short} are missing",
    "chances_incomplete": "{action}: the stated chance differs from row to row in a campaign of more than two arms, so "
    "the chance of control is unknown: map one chance per arm as `propensities`",
    "later_exposures_differ": "later exposures differ between the arms of {action}: {treated:.2f} within the window "
    "after a treated exposure, {control:.2f} after a control one",
    "later_exposures_unclear": "{action}: treated and control customers are too unlike for their later exposures to be "
    "compared",
    "too_few_customers": "{action} has too little evidence: {treated:,.0f} treated and {control:,.0f} control "
    "customers ({min_treated:.0f} and {min_control:.0f} are asked for)",
    "too_few_responders": "{action} has too few responders: {treated:,.0f} treated and {control:,.0f} control "
    "customers with revenue ({min_treated:.0f} and {min_control:.0f} are asked for)",
    "placebo_failed": "{action} is observational and its placebo check failed",
    "placebo_unclear": "{action} is observational and its placebo check cannot tell",
    "sampled": "{action}: a sample of {used:,.0f} of {matured:,.0f} exposures was used (actions.max_rows)",
    "no_controls": "{action}: none of its {treated:,.0f} matured exposures has a control row in its campaign; deliver "
    "the customers that chance left alone as rows with the action `control` and the same campaign_id",
    "too_few_exposures": "{action}: {treated:,.0f} treated and {control:,.0f} control customers; {least:.0f} of each "
    "are needed",
    "no_overlap": "{action}: treated and control customers have nothing in common",
}


@dataclass(frozen=True)
class Finding:
    """An objection to the evidence about an action, or a caveat.

    Parameters
    ----------
    code : str
        A key of `FINDINGS`; codes never change.
    figures : mapping of str to float or str
        The figures of its sentence.
    blocks : bool, default True
        Whether it forbids acting upon the action's effects.
    """

    code: str
    figures: Figures = field(default_factory=dict)
    blocks: bool = True

    def words(self, action: str) -> str:
        """The sentence about `action`, without a full stop."""
        return FINDINGS[self.code].format(action=action, **self.figures)

    def reason(self, action: str) -> Reason:
        """The finding as a reason of `CHOICE_WORDS`."""
        return Reason(self.code, {**self.figures, "action": action})

    def as_columns(self, action: str) -> dict[str, str | None]:
        """The finding as columns of `action_effects`."""
        return self.reason(action).as_columns(CHOICE_WORDS)

    def stored(self) -> dict[str, Any]:
        """The finding as JSON."""
        return {"code": self.code, "figures": dict(self.figures), "blocks": self.blocks}


class PlanCode(StrEnum):
    """Why a customer gets an action or none, besides findings; `plan.sql` assigns some of these."""

    HELD_OUT = "held_out"
    PLANNED = "planned"
    INTERVAL_INCLUDES_COST = "interval_includes_cost"
    NO_EFFECTS = "no_effects"
    CAPACITY_USED = "capacity_used"
    BUDGET_SPENT = "budget_spent"
    NONE_DECLARED = "none_declared"
    STAGE_NOT_ELIGIBLE = "stage_not_eligible"


# The kind of each reason of a plan, for a summary.
PLAN_KINDS: Mapping[str, str] = {
    PlanCode.HELD_OUT: "held out",
    PlanCode.PLANNED: "acted upon",
    PlanCode.INTERVAL_INCLUDES_COST: "interval does not clear the cost",
    PlanCode.NO_EFFECTS: "no effects yet",
    PlanCode.CAPACITY_USED: "capacity used up",
    PlanCode.BUDGET_SPENT: "budget spent",
    PlanCode.NONE_DECLARED: "not meant for them",
    PlanCode.STAGE_NOT_ELIGIBLE: "not meant for them",
}
UNSUPPORTED = "unsupported"


def plan_kind(code: str) -> str:
    """The kind of a plan's reason; every code that is not the plan's own is a finding against an effect."""
    return PLAN_KINDS.get(code, UNSUPPORTED)


def uncoded_kind(action: str) -> str:
    """The kind of a reason without a code, in plans of earlier versions, by the action."""
    return {CONTROL: "held out", NONE: "left alone (made before reasons had codes)"}.get(action, "acted upon")


# ── the plan ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _none_declared() -> str:
    return "no action is declared"


def _stage_not_eligible(*, stage: str) -> str:
    return f"no action is meant for stage {stage}"


def _no_effects(*, actions: Sequence[str], why: str) -> str:
    if why:
        return f"no effects yet: {why}"
    return "no effects yet: no matured exposures" + (f" of {', '.join(actions)}" if actions else "")


def _planned(*, action: str, effect: float, cost: float) -> str:
    return f"{action}: +{_number(effect)} expected against cost {cost:.2f}"


def _held_out(*, cycle: int) -> str:
    return f"held out of cycle {cycle} on purpose"


def _interval_includes_cost(*, action: str, ci_low: float, ci_high: float, cost: float) -> str:
    return f"the interval of {action} ({_number(ci_low)} … {_number(ci_high)}) does not clear its cost {cost:.2f}"


def _budget_spent(*, action: str) -> str:
    return f"the budget is spent before {action}"


def _capacity_used(*, action: str) -> str:
    return f"the capacity of {action} is used up"


def _unsupported(*, finding: Mapping[str, Any], ci_low: float | None, ci_high: float | None) -> str:
    """An unsupported effect; without an interval there is no effect at all."""
    finding_words = choice_words(Reason.from_stored(finding))
    if ci_low is None or ci_high is None:
        return f"no effects yet: {finding_words}"
    return f"{finding_words} ({_number(ci_low)} … {_number(ci_high)})"


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


PLAN_WORDS: Vocabulary = {
    PlanCode.NONE_DECLARED: _none_declared, PlanCode.STAGE_NOT_ELIGIBLE: _stage_not_eligible,
    PlanCode.NO_EFFECTS: _no_effects, PlanCode.PLANNED: _planned, PlanCode.HELD_OUT: _held_out,
    PlanCode.INTERVAL_INCLUDES_COST: _interval_includes_cost, PlanCode.BUDGET_SPENT: _budget_spent,
    PlanCode.CAPACITY_USED: _capacity_used, **dict.fromkeys(FINDINGS, _unsupported),
}  # fmt: skip


def finding_of(row: Mapping[str, Any]) -> Reason:
    """The finding about the effect in a row of `action_effects`; as a sentence where the row has no figures."""
    return Reason.from_row(row, CHOICE_WORDS)


def plan_reason(row: Mapping[str, Any]) -> Reason:
    """The reason in a row of `action_plan`."""
    return Reason.from_row(row, PLAN_WORDS)


# ── the choice ────────────────────────────────────────────────────────────────────────────────────────────────────


class ChoiceCode(StrEnum):
    """The reasons of a weekly choice, besides those of all families (see `ml.choice.Code`)."""

    NO_EXPOSURES = "no_exposures"
    NOBODY_TREATED = "nobody_treated"
    NOT_ENOUGH_EXPOSURES = "not_enough_exposures"
    NOTHING_IN_COMMON = "nothing_in_common"
    NEWLY_MEASURED = "newly_measured"
    NO_LONGER_MEASURED = "no_longer_measured"
    EVIDENCE_CHANGED = "evidence_changed"
    FINDINGS_CHANGED = "findings_changed"
    NEW_EVIDENCE = "new_evidence"
    UNKNOWN_SEGMENTS = "unknown_segments"
    NO_NEW_EXPOSURES = "no_new_exposures"
    NOT_ALL_COUNT = "not_all_count"


def _no_exposures() -> str:
    return "no matured exposures"


def _nobody_treated() -> str:
    return "not enough matured exposures: nobody was treated"


def _not_enough_exposures(*, findings: Sequence[Mapping[str, Any]]) -> str:
    return f"not enough matured exposures: {_all_of(findings)}"


def _all_of(findings: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(choice_words(Reason.from_stored(finding)) for finding in findings)


def _nothing_in_common() -> str:
    return "treated and control customers have nothing in common: no overlap"


def _first_fit(*, metric: str, challenger: float, exposures: int, newest: str) -> str:
    return f"first fit, from {exposures:,} treated exposures up to {newest}: {metric} {challenger:.4g}"


def _newly_measured(*, action: str) -> str:
    return f"{action} is newly measured"


def _no_longer_measured(*, action: str) -> str:
    return f"{action} is no longer measured"


def _evidence_changed(*, action: str, design: str, placebo: str) -> str:
    return f"the evidence of {action} is judged differently: {design}, placebo {placebo}"


def _findings_changed(*, action: str, findings: Sequence[Mapping[str, Any]]) -> str:
    sentence = _all_of(findings) or f"nothing is held against {action} now"
    return f"the evidence of {action} is judged differently: {sentence}"


def _new_evidence(*, exposures: int, newest: str) -> str:
    return f"{exposures:,} exposures matured since the incumbent, the newest of {newest}: all evidence counts"


def _unknown_segments(*, share: float) -> str:
    return f"the incumbent does not know the micro-segments of {share:.0%} of the exposures"


def _no_new_exposures() -> str:
    return "no exposure matured since the incumbent"


def _not_all_count(
    *, used: int, unknown: Sequence[str], waiting: Sequence[str], last: str | None, window: int, doubtful: Sequence[str]
) -> str:
    parts = [f"exposures of {used} of {used + len(unknown) + len(waiting)} days count"]
    if unknown:
        parts.append(f"{_days(unknown)} never, since nobody was known the day before")
    if waiting:
        parts.append(f"{_days(waiting)} once {window} days are over, the last on {last}")
    if doubtful:
        parts.append(doubtful_words(doubtful))
    return "; ".join(parts)


_MAX_LISTED_DAYS = 3  # of more, only the first and the last are named


def _days(days: Sequence[str]) -> str:
    return f"{len(days)} days from {days[0]} to {days[-1]}" if len(days) > _MAX_LISTED_DAYS else ", ".join(days)


def doubtful_words(values: Sequence[str]) -> str:
    """Name the actions that may mean control, and what to do about them.

    Parameters
    ----------
    values : sequence of str
        Values of `exposures.action`, as delivered.

    Returns
    -------
    str
        One sentence without a full stop.

    Examples
    --------
    >>> doubtful_words(["no minimum"])[:58]
    "the action 'no minimum' may mean control or an action, so "
    """
    named = ", ".join(repr(value) for value in values)
    return (
        f"the action {named} may mean control or an action, so its rows take no part: map it to 'control', or declare "
        "it under actions"
    )


CHOICE_WORDS: Vocabulary = vocabulary_of(
    {
        Code.FIRST_FIT: _first_fit, ChoiceCode.NO_EXPOSURES: _no_exposures, ChoiceCode.NOBODY_TREATED: _nobody_treated,
        ChoiceCode.NOT_ENOUGH_EXPOSURES: _not_enough_exposures, ChoiceCode.NOTHING_IN_COMMON: _nothing_in_common,
        ChoiceCode.NEWLY_MEASURED: _newly_measured, ChoiceCode.NO_LONGER_MEASURED: _no_longer_measured,
        ChoiceCode.EVIDENCE_CHANGED: _evidence_changed, ChoiceCode.FINDINGS_CHANGED: _findings_changed,
        ChoiceCode.NEW_EVIDENCE: _new_evidence, ChoiceCode.UNKNOWN_SEGMENTS: _unknown_segments,
        ChoiceCode.NO_NEW_EXPOSURES: _no_new_exposures, ChoiceCode.NOT_ALL_COUNT: _not_all_count,
        **{code: text.format for code, text in FINDINGS.items()},
    }
)  # fmt: skip


def choice_words(reason: Reason) -> str:
    """The sentence of a reason of the choice, or of a finding, without a full stop."""
    return reason.words(CHOICE_WORDS)

"""Why an effect is not acted upon, or what else must be known about it: a code with its figures, and the words for it.

Belongs here: the codes, and the one place that makes a sentence of each. Does not belong here: when one applies (see
`ml.actions.audit`, `diagnostics`, `training`). Nothing may read a decision back out of the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ml.actions.spec import CONTROL, NONE

Figures: TypeAlias = Mapping[str, float | str]

_ACTION_WORDS = {
    "arms_unbalanced": "{action} is said to be randomised, but its arms differ before the exposure: {feature} by "
    "{difference:+.2f} SD (p {p:.2g} over {features:.0f} features); chance did not choose, or rows are missing",
    "sample_ratio_mismatch": "{action} has {treated:,.0f} treated and {control:,.0f} control exposures where the "
    "stated chances expect {expected:.1%} treated (p {p:.2g}): about {missing:,.0f} rows of {short} are missing",
    "chances_incomplete": "{action}: the stated chance differs from row to row in a campaign of more than two arms, so "
    "the chance of control is unknown: map one chance per arm as `propensities`",
    "later_exposures_differ": "later exposures differ between the arms of {action}: {treated:.2f} within the window "
    "after a treated exposure, {control:.2f} after a control one",
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
    """Something that was found out about the evidence of an action.

    Parameters
    ----------
    code : a key of `_ACTION_WORDS`; stays the same
    figures : what stands in its sentence
    blocks : whether the action's effects must not be acted upon because of it
    """

    code: str
    figures: Figures = field(default_factory=dict)
    blocks: bool = True

    def words(self, action: str) -> str:
        """The sentence about `action`, without a full stop."""
        return _ACTION_WORDS[self.code].format(action=action, **self.figures)

    def stored(self) -> dict[str, Any]:
        """What goes into JSON."""
        return {"code": self.code, "figures": dict(self.figures), "blocks": self.blocks}


# What a plan's reason amounts to, for a summary: the code of every row of the plan has one.
PLAN_KINDS: Mapping[str, str] = {
    "held_out": "held out",
    "planned": "acted upon",
    "interval_includes_cost": "interval does not clear the cost",
    "no_effects": "no effects yet",
    "capacity_used": "capacity used up",
    "budget_spent": "budget spent",
    "none_declared": "not meant for them",
    "stage_not_eligible": "not meant for them",
}
UNSUPPORTED = "unsupported"


def plan_kind(code: str) -> str:
    """What a code of the plan amounts to; every other code says why an effect is unsupported."""
    return PLAN_KINDS.get(code, UNSUPPORTED)


def uncoded_kind(action: str) -> str:
    """The same for a plan that was made before there were codes: what the action says."""
    return {CONTROL: "held out", NONE: "left alone (made before reasons had codes)"}.get(action, "acted upon")

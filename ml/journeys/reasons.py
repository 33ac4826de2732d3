"""Why a week chose its transition model: codes, figures, and the words made of them.

Belongs here: the vocabulary. Does not belong here: when a code applies (see `training`).
"""

from __future__ import annotations

from enum import StrEnum

from ml.choice import vocabulary_of
from ml.reasons import stored_as


class ChoiceCode(StrEnum):
    """Kinds of reason that only this family has (see `ml.choice.Code` for those of all families)."""

    TOO_FEW_TRANSITIONS = "too_few_transitions"
    MICRO_SEGMENTS_EXPLAIN_MORE = "micro_segments_explain_more"
    STAGES_ALONE = "stages_alone"


@stored_as(newest="held")
def _too_few_transitions(*, seen: int, newest: int, needed: int, step_days: int) -> str:
    return f"{seen} transitions before the newest {step_days} days and {newest} in them: {needed} and 1 are needed"


def _micro_segments_explain_more(*, gain: float, gain_low: float, gain_high: float) -> str:
    return f"micro-segments tell more than their stage ({_nats(gain, gain_low, gain_high)})"


def _stages_alone(*, gain: float, gain_low: float, gain_high: float) -> str:
    return (
        f"micro-segments do not tell more than their stage beyond chance ({_nats(gain, gain_low, gain_high)}), so "
        "stages alone are used"
    )


def _nats(mean: float, low: float, high: float) -> str:
    return f"{mean:.4f} nats a customer, 95 % interval {low:.4f} to {high:.4f}"


CHOICE_WORDS = vocabulary_of(
    {
        ChoiceCode.TOO_FEW_TRANSITIONS: _too_few_transitions,
        ChoiceCode.MICRO_SEGMENTS_EXPLAIN_MORE: _micro_segments_explain_more,
        ChoiceCode.STAGES_ALONE: _stages_alone,
    }
)

"""Why a week chose its thresholds, and why the windows are what they are: codes, figures, and the words made of them.

Belongs here: the vocabulary. Does not belong here: when a code applies (see `training`, `windows`), and why a customer
is in its stage (see `verdicts`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

from ml.choice import Code, vocabulary_of
from ml.reasons import Vocabulary, stored_as


class ChoiceCode(StrEnum):
    """Kinds of reason that only this family has (see `ml.choice.Code` for those of all families)."""

    TOO_FEW_BUYERS = "too_few_buyers"
    RULES_CHANGED = "rules_changed"
    OTHER_MEASURE_OF_NEW = "other_measure_of_new"
    DRIFT = "drift"
    WINDOWS_CHANGED = "windows_changed"


class WindowCode(StrEnum):
    """Kinds of reason why an estimated window is as long as it is."""

    CHURN_UNWATCHED = "churn_unwatched"
    CHURN_BEYOND_HISTORY = "churn_beyond_history"
    CHURN_UNCHANGED = "churn_unchanged"
    CHURN_ESTIMATED = "churn_estimated"
    NEW_UNSEEN = "new_unseen"
    NEW_NO_DIFFERENCE = "new_no_difference"
    NEW_UNCHANGED = "new_unchanged"
    NEW_ESTIMATED = "new_estimated"


MeasureOfNew: TypeAlias = Literal["first_purchase", "forecast_ltv"]


# ── the choice ────────────────────────────────────────────────────────────────────────────────────────────────────


def _too_few_buyers(*, buyers: int, needed: int) -> str:
    return f"not enough customers: {buyers} have ever bought, {needed} are asked for"


def _cut(star_cut: float | None) -> str:
    return "no cut separates stars" if star_cut is None else f"stars from {star_cut:,.2f} on"


def _distance(away: float, asked: float) -> str:
    return f"the incumbent's share of stars is {away:.1%} of active customers off the {asked:.0%} asked for"


def _first_fit(*, star_cut: float | None) -> str:
    return f"first fit: {_cut(star_cut)}"


def _rules_changed(*, star_cut: float | None) -> str:
    return f"the stage rules have changed; {_cut(star_cut)}"


def _other_measure_of_new(*, measure: MeasureOfNew, star_cut: float | None) -> str:
    what = "the first purchase" if measure == "first_purchase" else "the forecast LTV"
    return f"new customers are now distinguished by {what}; {_cut(star_cut)}"


def _drift(*, away: float, asked: float, tolerance: float, star_cut: float | None, **_: float) -> str:
    return f"{_distance(away, asked)}, more than {tolerance:.0%}; {_cut(star_cut)}"


def _windows_changed(*, away: float, asked: float, **_: float | None) -> str:
    return f"the windows have changed; the cuts stay, as {_distance(away, asked)}"


def _within_chance(*, away: float, asked: float, **_: float | None) -> str:
    return f"{_distance(away, asked)}, which chance may explain: kept"


def _not_better(*, away: float, asked: float, **_: float | None) -> str:
    return f"{_distance(away, asked)}: kept, so that nobody moves without reason"


# ── the windows ───────────────────────────────────────────────────────────────────────────────────────────────────


def _churn_unwatched(*, days: int, within: int) -> str:
    return f"churn after {days} days, as before: too few silences have been watched for {within} days"


@stored_as(longest_observed="reach")
def _churn_beyond_history(*, days: int, longest_observed: int, chance: float, threshold: float, within: int) -> str:
    still = (
        f"of those silent for {longest_observed} days, the longest silence that enough were watched in, {chance:.0%}"
    )
    return f"churn after {days} days: {still} return within {within} days, not yet fewer than {threshold:.0%}"


def _fitting(low: int, high: int, threshold: float, within: int) -> str:
    return f"{low} to {high} days fit a chance of {threshold:.0%} to return within {within} days"


def _churn_unchanged(*, days: int, low: int, high: int, threshold: float, within: int) -> str:
    return f"churn after {days} days, kept: {_fitting(low, high, threshold, within)}"


def _churn_estimated(*, days: int, chance: float, low: int, high: int, threshold: float, within: int) -> str:
    when = f"when {chance:.1%} return within {within} days"
    return f"churn after {days} days, {when}: {_fitting(low, high, threshold, within)}"


def _new_unseen(*, days: int) -> str:
    return f"new for {days} days, as before: newcomers have not been seen for long enough"


def _new_no_difference(*, days: int) -> str:
    return f"new for {days} days, as before: they buy no differently"


def _new_unchanged(*, days: int) -> str:
    return f"new for {days} days, kept: no other window describes newcomers clearly better"


def _new_estimated(*, days: int, distance: float) -> str:
    return f"new for {days} days: until then newcomers buy {distance:+.0%} against afterwards"


WINDOW_WORDS: Vocabulary = {
    WindowCode.CHURN_UNWATCHED: _churn_unwatched, WindowCode.CHURN_BEYOND_HISTORY: _churn_beyond_history,
    WindowCode.CHURN_UNCHANGED: _churn_unchanged, WindowCode.CHURN_ESTIMATED: _churn_estimated,
    WindowCode.NEW_UNSEEN: _new_unseen,
    WindowCode.NEW_NO_DIFFERENCE: _new_no_difference, WindowCode.NEW_UNCHANGED: _new_unchanged,
    WindowCode.NEW_ESTIMATED: _new_estimated,
}  # fmt: skip
CHOICE_WORDS: Vocabulary = vocabulary_of(
    {
        Code.FIRST_FIT: _first_fit, Code.WITHIN_CHANCE: _within_chance, Code.NOT_BETTER: _not_better,
        ChoiceCode.TOO_FEW_BUYERS: _too_few_buyers, ChoiceCode.RULES_CHANGED: _rules_changed,
        ChoiceCode.OTHER_MEASURE_OF_NEW: _other_measure_of_new, ChoiceCode.DRIFT: _drift,
        ChoiceCode.WINDOWS_CHANGED: _windows_changed, **WINDOW_WORDS,
    }
)  # fmt: skip

"""Why a week chose its value model, what its data did not determine, and whether value was right: codes and words.

Belongs here: the vocabularies. Does not belong here: when a code applies (see `training`, `closed_form`, `drift`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, TypeAlias

from ml.choice import format_gain, format_scores, vocabulary_of
from ml.reasons import Reason, Vocabulary

# ── the choice ────────────────────────────────────────────────────────────────────────────────────────────────────


class ChoiceCode(StrEnum):
    """Why a week chose what it chose, in addition to the reasons of all families (see `ml.choice.Code`)."""

    NOBODY_HAS_BOUGHT = "nobody_has_bought"
    HISTORY_TOO_SHORT = "history_too_short"
    TOO_FEW_CUSTOMERS = "too_few_customers"
    NO_FAIR_CONTEST = "no_fair_contest"
    BASELINE_BETTER = "baseline_better"
    BETTER_BUT = "better_but"
    BETTER_THAN_BASELINE = "better_than_baseline"
    NOT_BETTER_THAN_BASELINE = "not_better_than_baseline"
    WITHIN_CHANCE_OF_BASELINE = "within_chance_of_baseline"
    BETTER_THAN_BASELINE_BUT = "better_than_baseline_but"
    OTHER_QUESTION_AND_WORSE = "other_question_and_worse"
    ANOTHER_QUESTION = "another_question"
    UNSCORED_AND_WORSE = "unscored_and_worse"
    FIRST_OUTCOMES = "first_outcomes"
    INCUMBENT_UNSCORED = "incumbent_unscored"
    AGAINST_BASELINE = "against_baseline"


class Validation(StrEnum):
    """How the predictions of the holdout were kept from seeing its outcomes."""

    TEMPORAL = "temporal holdout"
    BETWEEN = "customer split"
    SHORTER = "shorter horizon"


Shortcoming: TypeAlias = Literal["order", "sum", "baseline"]  # what a fit is worse in that is better by the loss


def _nobody_has_bought(*, as_of: str) -> str:
    return f"not enough history: nobody has bought anything by {as_of}"


def _history_too_short(*, needed: int, as_of: str) -> str:
    return f"not enough history: {needed} days of it are asked for by {as_of}"


def _too_few_customers(*, customers: int, needed: int) -> str:
    return f"not enough customers: {customers} with a matured outcome, {needed} are asked for"


def _no_fair_contest() -> str:
    return "no fair contest yet: neither fit can be scored on outcomes it has not seen"


def _baseline_better(*, lost: float, lost_low: float, lost_high: float, **_: float) -> str:
    gain = format_gain(lost, lost_low, lost_high)
    return f"back to the persistence baseline, which is better than the model in force by {gain}"


def _better_but(
    *, shortcoming: Shortcoming, metric: str, challenger: float, incumbent: float, gain: float, gain_low: float,
    gain_high: float, **_: float,
) -> str:  # fmt: skip
    what = {
        "order": "puts customers in a worse order", "sum": "is further off in sum",
        "baseline": "is worse than the persistence baseline",
    }[shortcoming]  # fmt: skip
    gained = f"{format_scores(metric, challenger, incumbent)}: better by {format_gain(gain, gain_low, gain_high)}"
    return f"{gained}, but it surely {what}"


def _better_than_baseline(**_: float) -> str:
    return "in place of the persistence baseline"


def _not_better_than_baseline(**_: float) -> str:
    return "not better than the persistence baseline"


def _within_chance_of_baseline(**_: float) -> str:
    return "not surely better than the persistence baseline"


def _better_than_baseline_but(*, shortcoming: Shortcoming, **_: float) -> str:
    return f"the persistence baseline is closer in {'the order of customers' if shortcoming == 'order' else 'the sum'}"


def _other_question_and_worse(**_: float) -> str:
    return f"{_another_question()}, and the persistence baseline is better"


def _another_question(**_: float) -> str:
    return "the incumbent answers another question (horizon or discount have changed)"


def _unscored_and_worse(**_: float) -> str:
    return "the incumbent cannot be scored, and this fit is worse than the persistence baseline"


def _first_outcomes(**_: float) -> str:
    return "the first fit that has seen outcomes takes over from BG/NBD alone"


def _incumbent_unscored(**_: float) -> str:
    return "the incumbent cannot be scored out of time, this fit can"


def _against_baseline(
    *, method: str, score: float, baseline: float, gain: float, gain_low: float, gain_high: float,
    validation: Validation, ahead: int, horizon: int,
) -> str:  # fmt: skip
    how = {
        Validation.TEMPORAL: "on the temporal holdout",
        Validation.BETWEEN: (
            "by cross-validation between customers, as no earlier snapshot had matured before the holdout"
        ),
        Validation.SHORTER: f"over {ahead} days, as no horizon of {horizon} days has closed yet",
    }[Validation(validation)]
    side = f"deviance {score:.4g} against {baseline:.4g} for the persistence baseline"
    return f"{method}: {side}, a gain of {format_gain(gain, gain_low, gain_high)}, {how}"


# ── what the data did not determine ───────────────────────────────────────────────────────────────────────────────


class Note(StrEnum):
    """What the data did not determine in BG/NBD and Gamma-Gamma."""

    NOBODY_BOUGHT = "nobody_bought"
    NOBODY_BOUGHT_TWICE = "nobody_bought_twice"
    NO_POSITIVE_SPEND = "no_positive_spend"
    ONE_CUSTOMER = "one_customer"
    NO_LEAVING = "no_leaving"
    ALIKE_IN_RHYTHM = "alike_in_rhythm"
    ALIKE_IN_LEAVING = "alike_in_leaving"
    PURCHASES_ALIKE = "purchases_alike"
    ALIKE_IN_SPEND = "alike_in_spend"
    NO_MEAN = "no_mean"


NOTES: dict[str, str] = {
    Note.NOBODY_BOUGHT: "nobody has bought anything",
    Note.NOBODY_BOUGHT_TWICE: (
        "nobody has bought twice: all that is known is that repeat purchases are rarer than these data show"
    ),
    Note.NO_POSITIVE_SPEND: "nobody has brought more than was given back",
    Note.ONE_CUSTOMER: "one customer says nothing about how customers differ",
    Note.NO_LEAVING: "no leaving is seen (a → 0): everybody counts as alive, whatever the silence",
    Note.ALIKE_IN_RHYTHM: "customers do not differ in how often they buy (r and alpha grow together)",
    Note.ALIKE_IN_LEAVING: "customers do not differ in how easily they leave, or nobody does (b at its edge)",
    Note.PURCHASES_ALIKE: "all purchases of a customer are alike (p at its edge): its mean is taken as it is",
    Note.ALIKE_IN_SPEND: "customers do not differ in what they spend (q and gamma at their edge)",
    Note.NO_MEAN: "the spread of spend is so wide that it has no mean (q ≤ 1)",
}


CHOICE_WORDS: Vocabulary = vocabulary_of(
    {
        ChoiceCode.NOBODY_HAS_BOUGHT: _nobody_has_bought, ChoiceCode.HISTORY_TOO_SHORT: _history_too_short,
        ChoiceCode.TOO_FEW_CUSTOMERS: _too_few_customers, ChoiceCode.NO_FAIR_CONTEST: _no_fair_contest,
        ChoiceCode.BASELINE_BETTER: _baseline_better, ChoiceCode.BETTER_BUT: _better_but,
        ChoiceCode.BETTER_THAN_BASELINE: _better_than_baseline,
        ChoiceCode.NOT_BETTER_THAN_BASELINE: _not_better_than_baseline,
        ChoiceCode.WITHIN_CHANCE_OF_BASELINE: _within_chance_of_baseline,
        ChoiceCode.BETTER_THAN_BASELINE_BUT: _better_than_baseline_but,
        ChoiceCode.OTHER_QUESTION_AND_WORSE: _other_question_and_worse,
        ChoiceCode.ANOTHER_QUESTION: _another_question, ChoiceCode.UNSCORED_AND_WORSE: _unscored_and_worse,
        ChoiceCode.FIRST_OUTCOMES: _first_outcomes, ChoiceCode.INCUMBENT_UNSCORED: _incumbent_unscored,
        ChoiceCode.AGAINST_BASELINE: _against_baseline,
        **{note: text.format for note, text in NOTES.items()},
    }
)  # fmt: skip


def note_reason(note: str) -> Reason:
    """A note as a remark; one that was stored before notes had codes is its words."""
    return Reason(note) if note in NOTES else Reason(sentence=note)


# ── whether value was right ───────────────────────────────────────────────────────────────────────────────────────


class DriftCode(StrEnum):
    """How the values of a past day turned out."""

    OTHER_HORIZON = "other_horizon"
    TOO_FEW_CUSTOMERS = "too_few_customers"
    NOTHING_EXPECTED = "nothing_expected"
    COMPARED = "compared"


Today: TypeAlias = Literal["as_expected", "may_be_too_low", "may_be_too_high"]
_TODAY: dict[Today, str] = {
    "as_expected": "",
    "may_be_too_low": "; today's values may be too low",
    "may_be_too_high": "; today's values may be too high",
}


def _other_horizon(*, known: Sequence[int], horizon: int) -> str:
    return f"not compared: the snapshot sums spend over {', '.join(map(str, known))} days, the horizon is {horizon}"


def _too_few_compared(*, customers: int, needed: int) -> str:
    return f"not compared: {customers} customers, {needed} are asked for"


def _nothing_expected() -> str:
    return "not compared: nothing was expected of anybody"


def _compared(*, ratio: float, low: float, high: float, customers: int, today: Today) -> str:
    word = "more" if ratio > 1 else "less"
    sentence = (
        f"{abs(ratio - 1):.1%} {word} came than was expected of {customers:,} customers ({low:.2f} to {high:.2f})"
    )
    return sentence + _TODAY[today]


DRIFT_WORDS: Vocabulary = {
    DriftCode.OTHER_HORIZON: _other_horizon, DriftCode.TOO_FEW_CUSTOMERS: _too_few_compared,
    DriftCode.NOTHING_EXPECTED: _nothing_expected, DriftCode.COMPARED: _compared,
}  # fmt: skip

"""Why a layer has the clusters it has in a stage, and why those in force no longer fit: codes, figures, and words.

Belongs here: the vocabularies (the third is of a week's choices), and what can be read off a code. Does not belong
here: when a code applies (see `clustering`, `unknown`, `training`). Nothing may read a decision back out of the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from ml.choice import vocabulary_of
from ml.reasons import Reason, Vocabulary, stored_as


class Code(StrEnum):
    """Why a layer has its clusters; the names stay the same."""

    NATURAL = "natural"
    CUT_PAYS = "cut_pays"
    INHERITED = "inherited"
    NO_CUT_PAYS = "no_cut_pays"
    CUT_LEAVES_FEW = "cut_leaves_few"
    TOO_LITTLE_HISTORY = "too_little_history"
    ALL_ALIKE = "all_alike"
    TOO_FEW = "too_few"
    NOT_A_NUMBER = "not_a_number"
    ASKED_FOR = "asked_for"
    FEWER_THAN_ASKED = "fewer_than_asked"
    NONE_OF_THOSE_ASKED = "none_of_those_asked"
    QUANTILES = "quantiles"
    QUANTILES_TOO_SMALL = "quantiles_too_small"
    RULES = "rules"
    UNKNOWN_APART = "unknown_apart"


class Drift(StrEnum):
    """Why the clusters in force are wrong today."""

    OTHER_NUMBER = "other_number"
    MOVED = "moved"
    EMPTIED = "emptied"


class ChoiceCode(StrEnum):
    """Why a week chose what it chose, besides the codes of all families (see `ml.choice.Code`)."""

    HISTORY_TOO_SHORT = "history_too_short"
    TOO_FEW_CUSTOMERS = "too_few_customers"
    CANNOT_BE_JUDGED = "cannot_be_judged"
    SETTINGS_CHANGED = "settings_changed"
    LAYERS_CHANGED = "layers_changed"
    DRIFT = "drift"


def words(reason: Reason) -> str:
    """Why a layer has its clusters, in a sentence without a full stop."""
    return reason.words(WORDS)


def as_columns(reason: Reason) -> dict[str, str | None]:
    """The columns of `cluster_lineage` that say why a layer has its clusters."""
    return reason.as_columns(WORDS)


def from_row(row: Mapping[str, Any]) -> Reason:
    """The reason in a row of `cluster_lineage`."""
    return Reason.from_row(row, WORDS)


def drift_words(drift: Reason) -> str:
    """Why the clusters in force are wrong, in a sentence without a full stop."""
    return drift.words(DRIFT_WORDS)


def asked_for(reason: Reason) -> int | None:
    """How many clusters the project file asks for; None if it does not say, or if that is not recorded."""
    asked: int | None = among_known(reason).parameters.get("asked")
    return asked


def among_known(reason: Reason) -> Reason:
    """The reason for the clusters of the customers of whom something is known."""
    if reason.code != Code.UNKNOWN_APART:
        return reason
    return Reason.from_stored(reason.parameters["others"])


def without_figures(reason: Reason) -> Reason | None:
    """The reason without the figures that differ from layer to layer; None if the figures are what matters."""
    return Reason(reason.code) if reason.code in BRIEF_WORDS else None


def brief_words(reason: Reason) -> str:
    """A reason that several layers may share, in words."""
    return BRIEF_WORDS[reason.code]() if without_figures(reason) else words(reason)


# ── the words ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _natural(*, clusters: int, separation: float, separation_asked: float, stability: float) -> str:
    return (
        f"{clusters} natural clusters: they explain customers better than one cloud of the same margins and "
        f"correlations by {separation:.2f} a customer ({separation_asked:g} is asked for), and bootstrap samples agree "
        f"to {stability:.2f}"
    )


def _cut_pays(*, clusters: int, gain_spend: float, gain_stage: float) -> str:
    return (
        f"no natural clusters; a cut in {clusters} tells {gain_spend:.1%} more of the variance of next month's log "
        f"spend and {gain_stage:.1%} of the next stage, out of time"
    )


def _inherited(*, reason: Mapping[str, Any]) -> str:
    before = words(Reason.from_stored(reason))
    return f"{before}, as was found when history was long enough to tell"


def _no_cut_pays(*, best: float) -> str:
    return f"{_no_cut_pays_at_all()} (at best {best:.1%} of its variance)"


def _no_cut_pays_at_all() -> str:
    return "no natural clusters, and no cut surely tells what comes next"


def _too_little_history() -> str:
    return "no natural clusters, and too little history to tell whether a cut would pay"


def _all_alike() -> str:
    return "all customers are alike in what this layer looks at"


def _too_few(*, customers: int, needed: int) -> str:
    return f"{customers} customers; {needed} are needed for two clusters"


def _not_a_number(*, feature: str) -> str:
    return f"{feature} is no number, and quantiles are of numbers: use k-means"


def _asked_for(*, asked: int) -> str:
    return f"the project file asks for {asked}"


def _fewer_than_asked(*, asked: int, clusters: int, smallest: int) -> str:
    return f"{_asked_for(asked=asked)}; of more than {clusters} one would have fewer than {smallest} customers"


def _none_of_those_asked(*, asked: int, smallest: int) -> str:
    return f"{_asked_for(asked=asked)}, but clusters would have fewer than {smallest} customers"


def _quantiles(*, feature: str, asked: int | None) -> str:
    return f"the project file asks for {_number_asked(asked)}quantiles of {feature}"


def _quantiles_too_small(*, asked: int | None, smallest: int) -> str:
    parts = f"{_number_asked(asked)}quantiles"
    return f"the project file asks for {parts}, but they would have fewer than {smallest} customers"


def _number_asked(asked: int | None) -> str:
    return "" if asked is None else f"{asked} "


def _rules() -> str:
    return "the project file's rules"


@stored_as(fewest_customers="least")
def _cut_leaves_few(*, clusters: int, fewest_customers: int) -> str:
    return f"a cut in {clusters} would leave {fewest_customers} customers in a cluster"


def _unknown_apart(*, features: Sequence[str], unknown: int, customers: int, others: Mapping[str, Any]) -> str:
    who = " and ".join(features) if len(features) < 3 else "every attribute of the layer"
    text = f"{who} unknown for {unknown:,} of {customers:,} customers, a group of their own"
    rest = words(Reason.from_stored(others))
    return f"{text}; of the others: {rest}" if rest else text


WORDS: Vocabulary = {
    Code.NATURAL: _natural, Code.CUT_PAYS: _cut_pays, Code.INHERITED: _inherited, Code.NO_CUT_PAYS: _no_cut_pays,
    Code.CUT_LEAVES_FEW: _cut_leaves_few,
    Code.TOO_LITTLE_HISTORY: _too_little_history, Code.ALL_ALIKE: _all_alike, Code.TOO_FEW: _too_few,
    Code.NOT_A_NUMBER: _not_a_number, Code.ASKED_FOR: _asked_for,
    Code.FEWER_THAN_ASKED: _fewer_than_asked, Code.NONE_OF_THOSE_ASKED: _none_of_those_asked,
    Code.QUANTILES: _quantiles, Code.QUANTILES_TOO_SMALL: _quantiles_too_small, Code.RULES: _rules,
    Code.UNKNOWN_APART: _unknown_apart,
}  # fmt: skip
# Reasons whose figures do not matter to a reader of several layers together.
BRIEF_WORDS: Vocabulary = {Code.NO_CUT_PAYS: _no_cut_pays_at_all}


def _other_number(*, before: int, clusters: int) -> str:
    return f"{before} natural clusters have become {clusters}"


def _moved(*, gain: float) -> str:
    return f"the clusters have moved: a refit explains today's customers better by {gain:.3f} each"


def _emptied(*, cluster: str, customers: int) -> str:
    return f"cluster {cluster} has {customers} customers left"


DRIFT_WORDS: Vocabulary = {Drift.OTHER_NUMBER: _other_number, Drift.MOVED: _moved, Drift.EMPTIED: _emptied}


def _history_too_short(*, days: int, needed: int) -> str:
    return f"{days} days of history; {needed} are asked for before a first fit"


def _too_few_customers(*, customers: int, needed: int) -> str:
    return f"{customers} customers are known; {needed} are needed for clusters"


def _cannot_be_judged() -> str:
    return "too little history to judge a refit: the clusters in force stay"


def _settings_changed() -> str:
    return "the project's memberships have changed, and no cluster"


def _layers_changed() -> str:
    return "the project's layers have changed"


def _drift(*, layers: Sequence[str], drifts: Sequence[Mapping[str, Any]]) -> str:
    sentences = (drift_words(Reason.from_stored(drift)) for drift in drifts)
    where = "; ".join(f"{layer}: {sentence}" for layer, sentence in zip(layers, sentences, strict=True))
    return f"drift makes the clusters in force wrong in {where}. The others stay"


CHOICE_WORDS = vocabulary_of(
    {
        ChoiceCode.HISTORY_TOO_SHORT: _history_too_short, ChoiceCode.TOO_FEW_CUSTOMERS: _too_few_customers,
        ChoiceCode.CANNOT_BE_JUDGED: _cannot_be_judged, ChoiceCode.SETTINGS_CHANGED: _settings_changed,
        ChoiceCode.LAYERS_CHANGED: _layers_changed, ChoiceCode.DRIFT: _drift,
    }
)  # fmt: skip

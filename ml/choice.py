"""What a weekly fit returns, whatever the family: a challenger, its figures, and the decision about it.

The rule is one for all families. What is in force stays until something else is surely better: a challenger takes over
if it is better by the stated margin and the 95 % interval of its gain, from a bootstrap over customers, excludes 0; or
if what is in force answers another question or is wrong today (drift). A family goes without a model again only if
what it did without one is surely better, by the same kind of interval. What cannot be told changes nothing.

Belongs here: the shape that every family's `train` shares, so that one place can log it and one rule can decide. Does
not belong here: any family's method or loss, the bootstrap (see `statistics`), and MLflow (see
`microseg_assets.tracking`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, TypedDict

from ml.reasons import Reason, Vocabulary, with_remarks, words
from ml.statistics import Gain

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.figure import Figure

Decision = Literal["challenger", "incumbent", "none"]


class Model(Protocol):
    """A fitted model: it stores itself without pickles and predicts from the columns of a snapshot."""

    def save(self, folder: Path) -> None:
        """Write everything the model is into an existing empty folder (JSON, Parquet, LightGBM's text)."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self: ...

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """One or more rows per customer, from a frame with the snapshot's columns. What a served model answers."""
        ...


@dataclass(frozen=True)
class FitResult:
    """The outcome of one week of one family.

    Parameters
    ----------
    model : this week's fit, or None if there was not enough data
    decision : `challenger` puts the fit in force, `incumbent` keeps last week's, `none` leaves the family without one
    reason : why, in words a person reads in `model_choices`
    reason_code, reason_parameters : the same for programs: what kind of reason, and its figures
    metric : name of the holdout metric that decided; `challenger_score` and `incumbent_score` are its values
    metrics, params : logged as they are
    figures : name to a function that draws, called only when somebody logs it
    example : a few invented rows with the columns and types that a served model takes (see `ml.serving`): nothing of a
        customer is kept with a model
    """

    model: Model | None
    decision: Decision
    reason: str
    metric: str
    challenger_score: float | None = None
    incumbent_score: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Callable[[], Figure]] = field(default_factory=dict)
    example: pa.Table | None = None
    reason_code: str = ""
    reason_parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def without_fit(cls, verdict: Verdict, vocabulary: Vocabulary, metric: str, **rest: Any) -> Self:
        """A week in which nothing could be fitted."""
        return cls(None, metric=metric, **verdict.fields(vocabulary), **rest)


class Code(StrEnum):
    """The kinds of reason that families share; the names stay the same."""

    NOT_ENOUGH_DATA = "not_enough_data"
    FIRST_FIT = "first_fit"
    NOT_BETTER = "not_better"
    WITHIN_CHANCE = "within_chance"
    BETTER = "better"


class _Fields(TypedDict):
    """The fields of a `FitResult` that hold a decision."""

    decision: Decision
    reason: str
    reason_code: str
    reason_parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """A decision and why.

    Parameters
    ----------
    code : the kind of reason, of the family's vocabulary
    parameters : its figures, as its renderer declares them
    """

    decision: Decision
    code: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def with_remarks(self, remarks: Sequence[Reason]) -> Verdict:
        """The same with what else must be known."""
        return replace(self, parameters=with_remarks(self.parameters, remarks))

    def fields(self, vocabulary: Vocabulary) -> _Fields:
        """The decision with its reason, for programs and in words."""
        return {
            "decision": self.decision,
            "reason": words(vocabulary, self.code, self.parameters),
            "reason_code": str(self.code),
            "reason_parameters": self.parameters,
        }


def decide_without_data(lacking: Reason, has_incumbent: bool) -> Verdict:
    """What is in force stays where there are not enough data to say anything.

    Parameters
    ----------
    lacking : of the family's vocabulary
    """
    return Verdict("incumbent" if has_incumbent else "none", Code.NOT_ENOUGH_DATA, {"lacking": lacking.stored()})


def decide_first_fit(metric: str, challenger: float | None) -> Verdict:
    """A fit that nothing can be compared with is chosen without a contest."""
    return Verdict("challenger", Code.FIRST_FIT, {"metric": metric, "challenger": challenger})


def decide(metric: str, challenger: float, incumbent: float, gain: Gain, *, margin: float) -> Verdict:
    """Whether a challenger replaces the incumbent: better by the margin, and by more than chance explains.

    Parameters
    ----------
    challenger, incumbent : their scores on the holdout, for the reason
    gain : of the challenger, as a share of what the incumbent scores
    margin : the share that is asked for
    """
    parameters = {
        "metric": metric, "challenger": challenger, "incumbent": incumbent, "gain": gain.mean, "gain_low": gain.low,
        "gain_high": gain.high, "customers": gain.customers, "margin": margin,
    }  # fmt: skip
    if gain.mean < margin or gain.mean <= 0:
        return Verdict("incumbent", Code.NOT_BETTER, parameters)
    if not gain.is_significantly_better:
        return Verdict("incumbent", Code.WITHIN_CHANCE, parameters)
    return Verdict("challenger", Code.BETTER, parameters)


# ── the words ─────────────────────────────────────────────────────────────────────────────────────────────────────


def vocabulary_of(own: Vocabulary) -> Vocabulary:
    """A family's words: those that all families share, and its own.

    What a family lacks, where there are not enough data, is a reason of its own vocabulary.
    """
    found = {**WORDS, **own}

    def not_enough_data(*, lacking: Mapping[str, Any]) -> str:
        return Reason.from_stored(lacking).words(found)

    found[Code.NOT_ENOUGH_DATA] = not_enough_data
    return found


def format_gain(mean: float, low: float, high: float) -> str:
    """A gain and its interval, in words."""
    return f"{mean:.1%} (95 % interval {low:.1%} to {high:.1%})"


def format_scores(metric: str, challenger: float, incumbent: float) -> str:
    """What two models scored, in words."""
    return f"{metric} {challenger:.4g} against {incumbent:.4g}"


def _first_fit(*, metric: str, challenger: float | None) -> str:
    return (
        "first fit; too little history to score it yet"
        if challenger is None
        else (f"first fit: {metric} {challenger:.4g}")
    )


def _not_better(*, metric: str, challenger: float, incumbent: float, margin: float, **_: float) -> str:
    return f"{format_scores(metric, challenger, incumbent)}: not better by the {margin:.1%} that is asked for"


def _gained(metric: str, challenger: float, incumbent: float, gain: float, gain_low: float, gain_high: float) -> str:
    return f"{format_scores(metric, challenger, incumbent)}: better by {format_gain(gain, gain_low, gain_high)}"


def _within_chance(
    *, metric: str, challenger: float, incumbent: float, gain: float, gain_low: float, gain_high: float, **_: float
) -> str:
    return f"{_gained(metric, challenger, incumbent, gain, gain_low, gain_high)}, which chance may explain"


def _better(
    *, metric: str, challenger: float, incumbent: float, gain: float, gain_low: float, gain_high: float, margin: float,
    **_: float,
) -> str:  # fmt: skip
    gained = _gained(metric, challenger, incumbent, gain, gain_low, gain_high)
    return f"{gained}, at least the {margin:.1%} that is asked for"


WORDS: Vocabulary = {
    Code.FIRST_FIT: _first_fit, Code.NOT_BETTER: _not_better, Code.WITHIN_CHANCE: _within_chance, Code.BETTER: _better,
}  # fmt: skip

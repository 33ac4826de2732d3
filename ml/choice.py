"""What a weekly fit returns, whatever the family: a challenger, its figures, and the decision about it.

Value, segments, journeys and actions share one rule; value adds checks of ranking and sum (`ml.value.judgement`), and
lifecycle has its own (`ml.lifecycle.training`). The model in force stays until another is significantly better: a
challenger takes over if it is better by the stated margin and the 95 % interval of its gain, from a bootstrap over
customers, excludes 0; or if the model in force answers another question or is wrong today (drift). A family drops its
model only if its fallback is significantly better, by the same kind of interval. Without enough data nothing changes.

Belongs here: the result that every family's `train` returns, so that one place can log it and one rule can decide. Does
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
        """Write the whole model (JSON, Parquet, LightGBM's text).

        Parameters
        ----------
        folder : Path
            An existing, empty folder.
        """
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        folder : Path
            Where the model was saved.

        Returns
        -------
        Self
            A model that predicts the same.
        """
        ...

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """Predict as the served model does.

        Parameters
        ----------
        features : pd.DataFrame
            Rows with the snapshot's columns.

        Returns
        -------
        pd.DataFrame
            One or more rows per customer.
        """
        ...


@dataclass(frozen=True)
class FitResult:
    """The outcome of one week of one family.

    Parameters
    ----------
    model : Model or None
        This week's fit, or None if there was not enough data.
    decision : {"challenger", "incumbent", "none"}
        `challenger` puts the fit in force, `incumbent` keeps last week's, `none` leaves the family without one.
    reason : str
        Why, in the words of `model_choices`.
    metric : str
        Name of the holdout metric that decided.
    challenger_score, incumbent_score : float, optional
        Its values.
    metrics, params : Mapping
        Logged as they are.
    figures : Mapping of str to callable
        Functions that draw, by name; called only when they are logged.
    example : pa.Table, optional
        A few invented rows with the columns and types that a served model takes (see `ml.serving`), so that no
        customer's data are stored with a model.
    reason_code : str
        The kind of reason, for programs.
    reason_parameters : Mapping of str to Any
        The figures of the reason.

    Examples
    --------
    >>> verdict = decide("deviance", 0.9, 1.0, Gain(0.1, 0.05, 0.15, 500), margin=0.01)
    >>> result = FitResult(None, metric="deviance", **verdict.fields(vocabulary_of({})))
    >>> result.decision, result.reason_code
    ('challenger', 'better')
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
        """Make the result of a week in which nothing could be fitted.

        Parameters
        ----------
        verdict : Verdict
            The decision and why.
        vocabulary : Vocabulary
            The family's words.
        metric : str
            Name of the holdout metric.
        **rest : Any
            Other fields, such as `metrics`.

        Returns
        -------
        FitResult
            A result without a model.
        """
        return cls(None, metric=metric, **verdict.fields(vocabulary), **rest)


class Code(StrEnum):
    """The kinds of reason that all families share; stored tables hold them, so they never change."""

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
    decision : {"challenger", "incumbent", "none"}
        See `FitResult`.
    code : str
        The kind of reason, from the family's vocabulary.
    parameters : Mapping of str to Any
        Its figures, as its renderer declares them.

    Examples
    --------
    >>> Verdict("none", "late", {"days": 3}).fields({"late": lambda *, days: f"{days} days late"})["reason"]
    '3 days late'
    """

    decision: Decision
    code: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def with_remarks(self, remarks: Sequence[Reason]) -> Verdict:
        """Add remarks to the reason.

        Parameters
        ----------
        remarks : sequence of Reason
            From the family's vocabulary.

        Returns
        -------
        Verdict
            The same decision, with the remarks after those it has.
        """
        return replace(self, parameters=with_remarks(self.parameters, remarks))

    def fields(self, vocabulary: Vocabulary) -> _Fields:
        """List the fields of a `FitResult` that hold the decision, for programs and in words.

        Parameters
        ----------
        vocabulary : Vocabulary
            The family's words.

        Returns
        -------
        dict
            `decision`, `reason`, `reason_code` and `reason_parameters`.
        """
        return {
            "decision": self.decision,
            "reason": words(vocabulary, self.code, self.parameters),
            "reason_code": str(self.code),
            "reason_parameters": self.parameters,
        }


def decide_without_data(lacking: Reason, has_incumbent: bool) -> Verdict:
    """Keep what is in force where there are not enough data to decide.

    Parameters
    ----------
    lacking : Reason
        What is missing, from the family's vocabulary.
    has_incumbent : bool
        Whether a model is in force.

    Returns
    -------
    Verdict
        For the incumbent, or for none where there is none.

    Examples
    --------
    >>> decide_without_data(Reason("too_few_customers", {"customers": 3}), has_incumbent=False).decision
    'none'
    """
    return Verdict("incumbent" if has_incumbent else "none", Code.NOT_ENOUGH_DATA, {"lacking": lacking.stored()})


def decide_first_fit(metric: str, challenger: float | None) -> Verdict:
    """Choose a fit without a contest where there is nothing to compare it with.

    Parameters
    ----------
    metric : str
        Name of the holdout metric.
    challenger : float or None
        The fit's score, if history is long enough to score it.

    Returns
    -------
    Verdict
        For the challenger.

    Examples
    --------
    >>> decide_first_fit("deviance", None).fields(vocabulary_of({}))["reason"]
    'first fit; too little history to score it yet'
    """
    return Verdict("challenger", Code.FIRST_FIT, {"metric": metric, "challenger": challenger})


def decide(metric: str, challenger: float, incumbent: float, gain: Gain, *, margin: float) -> Verdict:
    """Decide whether a challenger replaces the incumbent: better by the margin, and by more than chance explains.

    Parameters
    ----------
    metric : str
        Name of the holdout metric.
    challenger, incumbent : float
        Their scores on the holdout, for the reason.
    gain : Gain
        Of the challenger, as a share of the incumbent's loss.
    margin : float
        The share by which it must be better.

    Returns
    -------
    Verdict
        For the challenger or the incumbent, with the figures.

    Examples
    --------
    >>> decide("deviance", 0.95, 1.0, Gain(0.05, 0.02, 0.08, 400), margin=0.01).decision
    'challenger'
    >>> decide("deviance", 0.95, 1.0, Gain(0.05, -0.02, 0.12, 400), margin=0.01).code.value
    'within_chance'
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
    """Add the words that all families share to a family's own.

    What is missing where there are not enough data is a reason from the family's own vocabulary.

    Parameters
    ----------
    own : Vocabulary
        Code to the function that puts its figures in words.

    Returns
    -------
    Vocabulary
        Words for the codes of `Code` and for the family's own.

    Examples
    --------
    >>> vocabulary = vocabulary_of({"few": lambda *, customers: f"{customers} customers are too few"})
    >>> lacking = Reason("few", {"customers": 3}).stored()
    >>> words(vocabulary, Code.NOT_ENOUGH_DATA, {"lacking": lacking})
    '3 customers are too few'
    """
    vocabulary = {**_WORDS, **own}

    def not_enough_data(*, lacking: Mapping[str, Any]) -> str:
        return Reason.from_stored(lacking).words(vocabulary)

    vocabulary[Code.NOT_ENOUGH_DATA] = not_enough_data
    return vocabulary


def format_gain(mean: float, low: float, high: float) -> str:
    """Put a gain and its interval in words.

    Parameters
    ----------
    mean, low, high : float
        Shares, with a 95 % interval.

    Returns
    -------
    str
        Percentages.

    Examples
    --------
    >>> format_gain(0.05, 0.021, 0.08)
    '5.0% (95 % interval 2.1% to 8.0%)'
    """
    return f"{mean:.1%} (95 % interval {low:.1%} to {high:.1%})"


def format_scores(metric: str, challenger: float, incumbent: float) -> str:
    """Put the scores of two models in words.

    Parameters
    ----------
    metric : str
        Name of the holdout metric.
    challenger, incumbent : float
        Their scores.

    Returns
    -------
    str
        The metric's name and both scores.

    Examples
    --------
    >>> format_scores("deviance", 0.95, 1.0)
    'deviance 0.95 against 1'
    """
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


def _surpassed(
    *, metric: str, challenger: float, incumbent: float, gain: float, gain_low: float, gain_high: float, margin: float,
    **_: float,
) -> str:  # fmt: skip
    gained = _gained(metric, challenger, incumbent, gain, gain_low, gain_high)
    return f"{gained}, at least the {margin:.1%} that is asked for"


_WORDS: Vocabulary = {
    Code.FIRST_FIT: _first_fit, Code.NOT_BETTER: _not_better, Code.WITHIN_CHANCE: _within_chance,
    Code.BETTER: _surpassed,
}  # fmt: skip

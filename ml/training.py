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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

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
class Training:
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
    def without_fit(cls, verdict: Verdict, metric: str, **rest: Any) -> Self:
        """A week in which nothing could be fitted."""
        return cls(
            None, verdict.decision, verdict.reason, metric,
            reason_code=verdict.code, reason_parameters=verdict.parameters, **rest,
        )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """A decision and why.

    Parameters
    ----------
    code : the kind of reason, of a fixed vocabulary: `first_fit`, `better`, `within_chance`, `not_better`,
        `not_enough_data` … A family may have kinds of its own
    reason : in words, made of `code` and `parameters`
    parameters : its figures, by name
    """

    decision: Decision
    code: str
    reason: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def too_little(reason: str, has_incumbent: bool, **parameters: Any) -> Verdict:
    """What is in force stays where there are not enough data to say anything."""
    return Verdict("incumbent" if has_incumbent else "none", "not_enough_data", reason, parameters)


def first_fit(metric: str, challenger: float | None) -> Verdict:
    """A fit that nothing can be compared with is chosen without a contest."""
    if challenger is None:
        return Verdict("challenger", "first_fit", "first fit; too little history to score it yet")
    return Verdict("challenger", "first_fit", f"first fit: {metric} {challenger:.4g}", {"challenger": challenger})


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
    figures = f"{metric} {challenger:.4g} against {incumbent:.4g}"
    if gain.mean < margin or gain.mean <= 0:
        return Verdict(
            "incumbent", "not_better", f"{figures}: not better by the {margin:.1%} that is asked for", parameters
        )
    better = f"{figures}: better by {interval(gain)}"
    if not gain.is_surely_better:
        return Verdict("incumbent", "within_chance", f"{better}, which chance may explain", parameters)
    return Verdict("challenger", "better", f"{better}, at least the {margin:.1%} that is asked for", parameters)


def interval(gain: Gain) -> str:
    """A gain and its interval, in words."""
    return f"{gain.mean:.1%} (95 % interval {gain.low:.1%} to {gain.high:.1%})"

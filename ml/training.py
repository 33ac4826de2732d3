"""What a weekly fit returns, whatever the family: a challenger, its figures, and the decision about it.

Belongs here: the shape that every family's `train` shares, so that one place can log it and one rule can decide. Does
not belong here: any family's method, and MLflow (see `microseg_assets.tracking`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

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
    metric : name of the holdout metric that decided; `challenger_score` and `incumbent_score` are its values
    metrics, params : logged as they are
    figures : name to a function that draws, called only when somebody logs it
    example : a few rows of the snapshot, for the model's signature
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
    example: pd.DataFrame | None = None


def decide(
    metric: str,
    challenger: float,
    incumbent: float | None,
    *,
    margin: float,
    lower_is_better: bool = True,
) -> tuple[Decision, str]:
    """Whether a challenger replaces the incumbent: it must be better by `margin`, a share of the incumbent's score.

    The first fit of a family is chosen without a contest.
    """
    if incumbent is None:
        return "challenger", f"first fit: {metric} {challenger:.4g}"
    gain = (incumbent - challenger if lower_is_better else challenger - incumbent) / max(abs(incumbent), 1e-12)
    figures = f"{metric} {challenger:.4g} against {incumbent:.4g}"
    if gain >= margin:
        return "challenger", f"{figures}: better by {gain:.1%}, at least the {margin:.1%} that is asked for"
    return "incumbent", f"{figures}: not better by the {margin:.1%} that is asked for"


def example_of(features: pa.Table) -> pd.DataFrame:
    """A few rows for the model's signature; whole numbers as floats, so that any of them may be missing."""
    frame: pd.DataFrame = features.slice(0, 5).to_pandas()
    return frame.astype({name: float for name in frame.columns if frame[name].dtype.kind in "iu"})

"""The transition model: the probability that a customer of a micro-segment is in a stage one or four weeks from now.

Belongs here: counting transitions between snapshots, shrinking them up the string's prefixes, and the log-loss of
predictions. Does not belong here: the weekly fit (`ml.journeys.training`) and writing forecasts for customers
(`ml.journeys.forecasts`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa

from ml.engine import Engine, Input, sql_of
from ml.layers import prefixes

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


Detail = Literal["micro_segment", "stage"]


@dataclass(frozen=True)
class TransitionSpec:
    """Settings of the transition model.

    Parameters
    ----------
    weeks : int, default 12
        Steps of history that are counted.
    step_days : int, default 7
        Length of a step, in days.
    horizons : tuple of int, default (7, 28)
        Days ahead that are forecast; multiples of `step_days`.
    prior_strength : float, default 100.0
        Weight of a prefix, in transitions, when the next longer string is estimated.
    stage_prior_strength : float, default 10.0
        Weight of all customers' transitions, in transitions, when a stage's row is estimated.
    margin : float, default 0.005
        Share by which a new fit must beat last week's log-loss on the newest step.
    min_customers : int, default 200
        Fewest transitions before the newest step for which a model is fitted.
    max_rows : int, default 250_000
        Most rows of history that are read. Above it, a fixed sample of the customers is drawn.
    rule_stages : tuple of str, default ("new", "reengaged")
        Stages that end by the calendar. What micro-segments add is also reported without them.
    bootstraps : int, default 500
        Draws for the interval of what micro-segments add to stages.
    seed : int, default 0
        Seed of the bootstrap and of the sample.

    Raises
    ------
    ValueError
        If a span or a strength is not positive, or a horizon is not a multiple of the step.

    Examples
    --------
    >>> TransitionSpec(weeks=26, horizons=(7, 14)).step_days
    7
    """

    weeks: int = 12
    step_days: int = 7
    horizons: tuple[int, ...] = (7, 28)
    prior_strength: float = 100.0
    stage_prior_strength: float = 10.0
    margin: float = 0.005
    min_customers: int = 200
    max_rows: int = 250_000
    rule_stages: tuple[str, ...] = ("new", "reengaged")
    bootstraps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.weeks < 1 or self.step_days < 1:
            raise ValueError("weeks and step_days must be at least 1")
        if self.prior_strength <= 0 or self.stage_prior_strength <= 0:
            raise ValueError("prior strengths must be above 0")
        for horizon in self.horizons:
            _steps(horizon, self.step_days)


def _steps(horizon: int, step_days: int) -> int:
    if horizon < step_days or horizon % step_days:
        raise ValueError(f"a horizon of {horizon} days is not a multiple of the {step_days}-day step")
    return horizon // step_days


@dataclass(frozen=True)
class TransitionModel:
    """A first-order Markov chain over stages whose first step depends on the micro-segment.

    A micro-segment's row is its own counts plus `prior_strength` times the row of its prefix, and so on up to the
    stage's row, which is shrunk to that of all customers: stay with the overall probability of staying, else go where
    others go. A micro-segment without counts takes the row of its longest known prefix. Later steps follow the
    stages' rows.

    Parameters
    ----------
    stages : tuple of str
        Stages, in the order of every row and column.
    counts : mapping of str to tuple of int
        Micro-segment to the number of customers that went to each stage, each of shape (n_stages,).
    step_days : int, default 7
        Length of a step, in days.
    horizons : tuple of int, default (7, 28)
        Days ahead that `predict` forecasts.
    prior_strength : float, default 100.0
        Weight of a prefix, in transitions, when the next longer string is estimated.
    stage_prior_strength : float, default 10.0
        Weight of all customers' transitions, in transitions, when a stage's row is estimated.
    detail : {"micro_segment", "stage"}, default "micro_segment"
        Whether the first step depends on the micro-segment, or on its stage alone.

    Examples
    --------
    >>> counts = {"active/value.A": (760, 40), "active/value.B": (140, 60), "churn": (10, 190)}
    >>> model = TransitionModel(("active", "churn"), counts)
    >>> model.row("active/value.A").round(2).tolist()
    [0.94, 0.06]
    >>> model.probabilities(["active/value.A", "active/value.B"], horizon_days=28).round(2).tolist()
    [[0.71, 0.29], [0.6, 0.4]]
    """

    stages: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    step_days: int = 7
    horizons: tuple[int, ...] = (7, 28)
    prior_strength: float = 100.0
    stage_prior_strength: float = 10.0
    detail: Detail = "micro_segment"

    @cached_property
    def _sums(self) -> dict[str, NDArray[Any]]:
        """Counts of every string and of every prefix."""
        sums: dict[str, NDArray[Any]] = {}
        for text in sorted(self.counts):
            for prefix in prefixes(text):
                sums[prefix] = sums.get(prefix, np.zeros(len(self.stages))) + np.asarray(self.counts[text], dtype=float)
        return sums

    @cached_property
    def totals(self) -> NDArray[Any]:
        """Transitions counted between stages, of shape (n_stages, n_stages)."""
        zeros = np.zeros(len(self.stages))
        return np.array([self._sums.get(stage, zeros) for stage in self.stages]).reshape(-1, len(self.stages))

    @cached_property
    def marginal(self) -> NDArray[Any]:
        """Probability of each stage one step ahead, whatever the stage now, of shape (n_stages,): order 0."""
        arrivals = self.totals.sum(axis=0) + 0.5
        result: NDArray[Any] = arrivals / arrivals.sum()
        return result

    @cached_property
    def staying(self) -> NDArray[Any]:
        """Transition matrix with one probability of staying for all stages, of shape (n_stages, n_stages)."""
        size = len(self.stages)
        if size == 1:
            return np.ones((1, 1))
        stay = (np.trace(self.totals) + 1) / (self.totals.sum() + 2)
        elsewhere = np.tile(self.marginal, (size, 1)) * (1 - np.eye(size))
        result: NDArray[Any] = stay * np.eye(size) + (1 - stay) * elsewhere / elsewhere.sum(axis=1, keepdims=True)
        return result

    @cached_property
    def stage_matrix(self) -> NDArray[Any]:
        """Transition matrix: the probability of the column's stage one step after the row's, (n_stages, n_stages)."""
        strength = self.stage_prior_strength
        result: NDArray[Any] = (self.totals + strength * self.staying) / (
            self.totals.sum(axis=1, keepdims=True) + strength
        )
        return result

    def row(self, micro_segment: str) -> NDArray[Any]:
        """Predict the probability of each stage one step ahead.

        Parameters
        ----------
        micro_segment : str
            String of the micro-segment, such as ``active/value.B``, or a stage.

        Returns
        -------
        ndarray of shape (n_stages,)
            Probabilities, which add up to 1.
        """
        stage, *longer = prefixes(micro_segment)
        if stage not in self.stages:
            return self.marginal
        row: NDArray[Any] = self.stage_matrix[self.stages.index(stage)]
        for prefix in longer if self.detail == "micro_segment" else ():
            counts = self._sums.get(prefix)
            if counts is None:
                break
            row = (counts + self.prior_strength * row) / (counts.sum() + self.prior_strength)
        return row

    def probabilities(self, micro_segments: Sequence[str], horizon_days: int) -> NDArray[Any]:
        """Predict the probability of each stage some days ahead.

        Parameters
        ----------
        micro_segments : sequence of str
            Strings of micro-segments, or stages.
        horizon_days : int
            Days ahead, a multiple of the model's step.

        Returns
        -------
        ndarray of shape (n_micro_segments, n_stages)
            Probabilities; each row adds up to 1.

        Raises
        ------
        ValueError
            If the horizon is not a multiple of the model's step.
        """
        later = np.linalg.matrix_power(self.stage_matrix, _steps(horizon_days, self.step_days) - 1)
        rows = {text: self.row(text) @ later for text in dict.fromkeys(micro_segments)}
        return np.array([rows[text] for text in micro_segments]).reshape(-1, len(self.stages))

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """Predict the probability of each stage at each of the model's horizons.

        Parameters
        ----------
        features : pd.DataFrame of shape (n_customers, n_columns)
            Column `micro_segment` or, without it, `stage`.

        Returns
        -------
        pd.DataFrame of shape (n_customers, n_stages * n_horizons)
            Columns ``{stage}_{horizon}d``, with the index of `features`.

        Raises
        ------
        ValueError
            If the frame has neither column.
        """
        import pandas as pd

        source = next((name for name in ("micro_segment", "stage") if name in features.columns), None)
        if source is None:
            raise ValueError(
                "a transition model needs the column micro_segment (as in active/value.B) or stage; the frame has "
                + (", ".join(map(str, features.columns[:8])) or "no columns")
            )
        texts = features[source].fillna("").astype(str).tolist()
        columns = {
            f"{stage}_{horizon}d": chances
            for horizon in self.horizons
            for stage, chances in zip(self.stages, self.probabilities(texts, horizon).T, strict=True)
        }
        return pd.DataFrame(columns, index=features.index)

    def save(self, folder: Path) -> None:
        """Write the model as JSON.

        Parameters
        ----------
        folder : Path
            Existing folder.
        """
        content = asdict(self) | {"counts": {text: self.counts[text] for text in sorted(self.counts)}}
        (folder / "transitions.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a model that `save` wrote.

        Parameters
        ----------
        folder : Path
            Folder given to `save`.

        Returns
        -------
        TransitionModel
            The model, which predicts as the saved one does.
        """
        content = json.loads((folder / "transitions.json").read_text(encoding="utf-8"))
        content["counts"] = {text: tuple(counts) for text, counts in content["counts"].items()}
        return cls(**content | {"stages": tuple(content["stages"]), "horizons": tuple(content["horizons"])})


def fit(
    cells: pa.Table, stages: Sequence[str], spec: TransitionSpec, detail: Detail = "micro_segment"
) -> TransitionModel:
    """Sum counted transitions up to a model.

    Parameters
    ----------
    cells : pa.Table
        Columns micro_segment, to_stage and customers. Rows of the same cell are added up.
    stages : sequence of str
        Known stages, in order. Stages that only `cells` has follow them.
    spec : TransitionSpec
        Step, horizons and prior strengths.
    detail : {"micro_segment", "stage"}, default "micro_segment"
        Whether the model's first step depends on the micro-segment.

    Returns
    -------
    TransitionModel
        The fitted model.
    """
    known = list(dict.fromkeys([*stages, *sorted(_stages_in(cells))]))
    column_of = {stage: column for column, stage in enumerate(known)}
    counts: dict[str, list[int]] = {}
    for cell in cells.to_pylist():
        row = counts.setdefault(cell["micro_segment"], [0] * len(known))
        row[column_of[cell["to_stage"]]] += cell["customers"]
    return TransitionModel(
        tuple(known),
        {text: tuple(counts[text]) for text in sorted(counts)},
        spec.step_days,
        spec.horizons,
        spec.prior_strength,
        spec.stage_prior_strength,
        detail,
    )


def _stages_in(cells: pa.Table) -> set[str]:
    return set(cells["to_stage"].to_pylist()) | {text.split("/")[0] for text in cells["micro_segment"].to_pylist()}


def transition_counts(engine: Engine, states: Input, step_days: int) -> pa.Table:
    """Count customers by day of departure, micro-segment and the stage one step later.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    states : Input
        Columns customer_id, day, stage and micro_segment: one row per customer and day.
    step_days : int
        Length of a step, in days.

    Returns
    -------
    pa.Table
        Columns day, micro_segment, to_stage and customers.
    """
    return engine.query(sql_of("ml.journeys", "transition_counts"), {"step": step_days}, states=states)


def log_loss(cells: pa.Table, stages: Sequence[str], rows: NDArray[Any]) -> float:
    """Average the negative log likelihood of the transitions counted, in nats per customer.

    Parameters
    ----------
    cells : pa.Table
        Columns micro_segment, to_stage and customers.
    stages : sequence of str
        Stages, in the order of the columns of `rows`.
    rows : ndarray of shape (n_cells, n_stages)
        Probabilities predicted for each cell's micro-segment.

    Returns
    -------
    float
        Mean negative log likelihood.
    """
    weights = cells["customers"].to_numpy()
    return float(weights @ negative_log_likelihood(cells, stages, rows) / weights.sum())


def negative_log_likelihood(cells: pa.Table, stages: Sequence[str], rows: NDArray[Any]) -> NDArray[Any]:
    """Negative log likelihood of a customer of each cell, of shape (n_cells,); parameters as in `log_loss`."""
    column_of = {stage: column for column, stage in enumerate(stages)}
    columns = np.array([column_of.get(stage, -1) for stage in cells["to_stage"].to_pylist()], dtype=int)
    probabilities = np.where(columns >= 0, rows[np.arange(len(columns)), columns], 0.0)
    result: NDArray[Any] = -np.log(np.clip(probabilities, 1e-6, 1.0))
    return result

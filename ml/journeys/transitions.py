"""The transition model: the chance that a customer of a micro-segment is in a stage a week, or four, from now.

Belongs here: counting transitions between snapshots, shrinking them up the string's prefixes, and the log-loss of what
is foretold. Does not belong here: the weekly fit (`ml.journeys.training`) and writing forecasts for customers
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
from ml.segments import prefixes

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


Detail = Literal["micro_segment", "stage"]


@dataclass(frozen=True)
class TransitionSpec:
    """How transitions are learnt.

    Parameters
    ----------
    weeks : steps of history that are counted
    step_days : the clock of the chain
    horizons : days ahead that are forecast; multiples of `step_days`
    prior_strength : how many transitions a prefix counts for when the next longer string is estimated
    stage_prior_strength : the same for everybody's transitions when a stage's are estimated
    margin : share by which a new fit must beat last week's on the newest week's log-loss
    min_customers : transitions below which there is no model
    max_rows : rows of history read at most; above it a fixed sample of the customers is taken
    rule_stages : stages that end by the calendar; what micro-segments add is also reported without them
    bootstraps, seed : for the interval of what micro-segments add to stages, and the sample
    """

    weeks: int = 12
    step_days: int = 7
    horizons: tuple[int, ...] = (7, 28)
    prior_strength: float = 100.0
    stage_prior_strength: float = 10.0
    margin: float = 0.005
    min_customers: int = 200
    max_rows: int = 1_000_000
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
    """A Markov chain of order 1 over stages whose first step knows the micro-segment.

    A micro-segment's row is its own counts plus `prior_strength` times the row of its prefix, and so on up to the
    stage's row, which is drawn to everybody's: stay with the overall chance of staying, else go where others are. So a
    micro-segment nobody has seen takes the row of its longest known prefix. Later steps follow the stages' rows.

    Parameters
    ----------
    stages : in the order of every row
    counts : micro-segment to the customers that went to each stage
    detail : `stage` if micro-segments did not tell more than their stage when this was fitted
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
        """Counts of every string and every prefix of one."""
        sums: dict[str, NDArray[Any]] = {}
        for text in sorted(self.counts):
            for prefix in prefixes(text):
                sums[prefix] = sums.get(prefix, np.zeros(len(self.stages))) + np.asarray(self.counts[text], dtype=float)
        return sums

    @cached_property
    def totals(self) -> NDArray[Any]:
        """Stage-to-stage counts, (stages, stages)."""
        nothing = np.zeros(len(self.stages))
        return np.array([self._sums.get(stage, nothing) for stage in self.stages]).reshape(-1, len(self.stages))

    @cached_property
    def marginal(self) -> NDArray[Any]:
        """Where a customer is next, whoever it is, (stages,): order 0."""
        arrivals = self.totals.sum(axis=0) + 0.5
        result: NDArray[Any] = arrivals / arrivals.sum()
        return result

    @cached_property
    def staying(self) -> NDArray[Any]:
        """The same chance of staying for every stage, else where others are, (stages, stages)."""
        size = len(self.stages)
        if size == 1:
            return np.ones((1, 1))
        stay = (np.trace(self.totals) + 1) / (self.totals.sum() + 2)
        elsewhere = np.tile(self.marginal, (size, 1)) * (1 - np.eye(size))
        result: NDArray[Any] = stay * np.eye(size) + (1 - stay) * elsewhere / elsewhere.sum(axis=1, keepdims=True)
        return result

    @cached_property
    def stage_matrix(self) -> NDArray[Any]:
        """P, (stages, stages): the chance to be in the column's stage one step after the row's."""
        strength = self.stage_prior_strength
        result: NDArray[Any] = (self.totals + strength * self.staying) / (
            self.totals.sum(axis=1, keepdims=True) + strength
        )
        return result

    def row(self, micro_segment: str) -> NDArray[Any]:
        """The chance of each stage one step from now, (stages,); adds up to 1."""
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
        """The chance of each stage `horizon_days` from now, (micro-segments, stages); rows add up to 1.

        Raises
        ------
        ValueError
            If the horizon is not a multiple of the model's step.
        """
        later = np.linalg.matrix_power(self.stage_matrix, _steps(horizon_days, self.step_days) - 1)
        rows = {text: self.row(text) @ later for text in dict.fromkeys(micro_segments)}
        return np.array([rows[text] for text in micro_segments]).reshape(-1, len(self.stages))

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """A column ``{stage}_{horizon}d`` for each stage and horizon, from `micro_segment` or, without it, `stage`.

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
        content = asdict(self) | {"counts": {text: self.counts[text] for text in sorted(self.counts)}}
        (folder / "transitions.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        content = json.loads((folder / "transitions.json").read_text(encoding="utf-8"))
        content["counts"] = {text: tuple(counts) for text, counts in content["counts"].items()}
        return cls(**content | {"stages": tuple(content["stages"]), "horizons": tuple(content["horizons"])})


def fit(
    cells: pa.Table, stages: Sequence[str], spec: TransitionSpec, detail: Detail = "micro_segment"
) -> TransitionModel:
    """Sum counted transitions up to a model.

    Parameters
    ----------
    cells : micro_segment, to_stage, customers; a cell may stand several times
    stages : the known stages, in order; stages met only in `cells` follow them
    """
    known = list(dict.fromkeys([*stages, *sorted(_met(cells))]))
    place = {stage: number for number, stage in enumerate(known)}
    counts: dict[str, list[int]] = {}
    for cell in cells.to_pylist():
        row = counts.setdefault(cell["micro_segment"], [0] * len(known))
        row[place[cell["to_stage"]]] += cell["customers"]
    return TransitionModel(
        tuple(known),
        {text: tuple(counts[text]) for text in sorted(counts)},
        spec.step_days,
        spec.horizons,
        spec.prior_strength,
        spec.stage_prior_strength,
        detail,
    )


def _met(cells: pa.Table) -> set[str]:
    return set(cells["to_stage"].to_pylist()) | {text.split("/")[0] for text in cells["micro_segment"].to_pylist()}


def transition_counts(engine: Engine, states: Input, step_days: int) -> pa.Table:
    """Customers per day of departure, micro-segment and the stage `step_days` later.

    Parameters
    ----------
    states : customer_id, day, stage, micro_segment: a row per customer and day

    Returns
    -------
    day, micro_segment, to_stage, customers
    """
    return engine.query(sql_of("ml.journeys", "transition_counts"), {"step": step_days}, states=states)


def log_loss(cells: pa.Table, stages: Sequence[str], rows: NDArray[Any]) -> float:
    """Mean negative log chance of what happened, in nats per customer.

    Parameters
    ----------
    cells : micro_segment, to_stage, customers
    rows : (cells, stages): the chances foretold for each cell's micro-segment
    """
    weights = cells["customers"].to_numpy()
    return float(weights @ surprise(cells, stages, rows) / weights.sum())


def surprise(cells: pa.Table, stages: Sequence[str], rows: NDArray[Any]) -> NDArray[Any]:
    """Negative log chance of what happened in each cell, (cells,), as `log_loss` takes it."""
    place = {stage: number for number, stage in enumerate(stages)}
    happened = np.array([place.get(stage, -1) for stage in cells["to_stage"].to_pylist()], dtype=int)
    chances = np.where(happened >= 0, rows[np.arange(len(happened)), happened], 0.0)
    result: NDArray[Any] = -np.log(np.clip(chances, 1e-6, 1.0))
    return result

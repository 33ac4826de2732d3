"""Test whether a cut pays: whether splitting a stage explains, out of time, more of what follows than the string does.

Belongs here: comparing candidate cuts on two earlier days. Does not belong here: making the candidates (see
`clustering`), and natural clusters (see `structure`).

On the earlier day, each cell of prefix and cluster learns its mean outcome, shrunk towards the prefix's mean; on the
later day these means are predictions. A cut pays if it lowers the error on the later day by at least a stated share of
the stage's variance, and significantly so (paired differences of squared errors).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ml.layers.structure import Point

MIN_GAIN = 0.005  # share of the variance inside the stage
MIN_GAIN_STANDARD_ERRORS = 2.0
SUFFICIENT_GAIN_SHARE = 0.9  # of the greatest gain: the fewest clusters that reach it are chosen


@dataclass(frozen=True)
class PastOutcomes:
    """Inputs and outcomes of customers on two earlier days.

    Parameters
    ----------
    inputs : pyarrow.Table
        `layer_inputs` of the two days, by day and customer.
    is_earlier : ndarray of shape (n,)
        Whether a row is of the earlier day, on which means are learnt; they predict the other rows.
    spend : ndarray of shape (n,)
        Net revenue of the window after the row's day, in currency.
    next_stage : ndarray of shape (n,)
        Number of the customer's stage when that window closes.
    """

    inputs: pa.Table
    is_earlier: np.ndarray
    spend: np.ndarray
    next_stage: np.ndarray

    @property
    def log_spend(self) -> np.ndarray:
        """log(1 + spend); net refunds count as 0."""
        result: np.ndarray = np.log1p(np.maximum(self.spend, 0))
        return result

    def of(self, stage: str) -> StageOutcomes:
        """The rows of one stage, not yet split by any layer."""
        rows = np.flatnonzero(np.array(self.inputs["stage"].to_pylist(), dtype=object) == stage)
        next_stages = self.next_stage[rows]
        outcomes = np.column_stack(
            [self.log_spend[rows], *(next_stages == number for number in np.unique(next_stages))]
        )
        return StageOutcomes.unsplit(self.inputs.take(pa.array(rows)), self.is_earlier[rows], outcomes.astype(float))


@dataclass(frozen=True)
class StageOutcomes:
    """Outcomes of one stage's customers, the cells they are in so far, and what these cells predict.

    Parameters
    ----------
    inputs : pyarrow.Table
        As in `PastOutcomes`.
    is_earlier : ndarray of shape (n,)
        As in `PastOutcomes`.
    outcomes : ndarray of shape (n, n_outcomes)
        Log spend, then an indicator of each next stage.
    cells : ndarray of shape (n,)
        Number of each row's cell: its clusters in the layers so far.
    predictions : ndarray of shape (n, n_outcomes)
        The cells' shrunken mean outcomes.
    """

    inputs: pa.Table
    is_earlier: np.ndarray
    outcomes: np.ndarray
    cells: np.ndarray
    predictions: np.ndarray

    def select(self, mask: np.ndarray) -> StageOutcomes:
        """The rows where `mask` is true."""
        indices = pa.array(np.flatnonzero(mask))
        return StageOutcomes(
            self.inputs.take(indices),
            self.is_earlier[mask],
            self.outcomes[mask],
            self.cells[mask],
            self.predictions[mask],
        )

    @classmethod
    def unsplit(cls, inputs: pa.Table, is_earlier: np.ndarray, outcomes: np.ndarray) -> StageOutcomes:
        """All rows in a single cell."""
        learning = outcomes[is_earlier]
        mean = learning.mean(axis=0) if len(learning) else np.zeros(outcomes.shape[1])
        predictions = np.broadcast_to(mean, outcomes.shape).copy()
        return cls(inputs, is_earlier, outcomes, np.zeros(len(outcomes), dtype=np.int64), predictions)

    def split(self, clusters: np.ndarray) -> StageOutcomes:
        """The same rows with each cell split by cluster."""
        cells = np.unique(self.cells * (int(clusters.max(initial=0)) + 1) + clusters, return_inverse=True)[1]
        predictions = np.column_stack(
            [
                _shrunken_predictions(cells, self.cells, outcome, prediction, self.is_earlier)
                for outcome, prediction in zip(self.outcomes.T, self.predictions.T, strict=True)
            ]
        )
        return StageOutcomes(self.inputs, self.is_earlier, self.outcomes, cells, predictions)

    def can_judge(self, min_customers: int) -> bool:
        """Whether both days have at least so many customers."""
        return min(int(self.is_earlier.sum()), int((~self.is_earlier).sum())) >= min_customers


def choose_cut(
    past: StageOutcomes, candidates: Mapping[int, np.ndarray]
) -> tuple[int, tuple[Point, ...], dict[int, np.ndarray]]:
    """Choose the smallest number of clusters that explains nearly as much as any.

    Parameters
    ----------
    past : StageOutcomes
        Two earlier days of the stage.
    candidates : Mapping of int to ndarray of shape (n,)
        For each number of clusters the cluster of each row of `past`.

    Returns
    -------
    k : int
        Number of clusters; 1 if no cut pays.
    curve : tuple of Point
        Gains of each candidate.
    falls : dict of int to ndarray of shape (n_later, 2)
        By how much each candidate lowers each later row's squared error of spend and of stage, over the total.
    """
    later = ~past.is_earlier
    actual = past.outcomes[later]
    squares = ((actual - actual.mean(axis=0)) ** 2).sum(axis=0)
    total_squares = np.array([max(squares[0], 1e-12), max(squares[1:].sum(), 1e-12)])
    errors_before = _squared_errors(actual, past.predictions[later])
    curve, gains, falls = [], {}, {}
    for k, clusters in sorted(candidates.items()):
        fall = errors_before - _squared_errors(actual, past.split(clusters).predictions[later])  # (n, 2): spend, stage
        gain, error = fall.sum(axis=0) / total_squares, fall.std(axis=0) * np.sqrt(len(fall)) / total_squares
        curve.append(Point(k, gain_spend=float(gain[0]), gain_stage=float(gain[1])))
        gains[k] = np.where((gain >= MIN_GAIN) & (gain > MIN_GAIN_STANDARD_ERRORS * error), gain, 0.0)
        falls[k] = fall / total_squares
    for kind in (0, 1):
        best = max((gain[kind] for gain in gains.values()), default=0.0)
        if best > 0:
            return (
                min(k for k, gain in gains.items() if gain[kind] >= SUFFICIENT_GAIN_SHARE * best),
                tuple(curve),
                falls,
            )
    return 1, tuple(curve), falls


def is_better(falls: Mapping[int, np.ndarray], k: int, other: int) -> bool:
    """Whether `k` clusters predict spend or stage significantly better than `other`, by at least the minimum gain."""
    if k not in falls or other not in falls:
        return k in falls
    more = falls[k] - falls[other]
    gain, error = more.sum(axis=0), more.std(axis=0) * len(more) ** 0.5
    return bool(((gain >= MIN_GAIN) & (gain > MIN_GAIN_STANDARD_ERRORS * error)).any())


def _squared_errors(actual: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    squares = (actual - predictions) ** 2
    return np.column_stack([squares[:, 0], squares[:, 1:].sum(axis=1)])


def _shrunken_predictions(
    cells: np.ndarray, parents: np.ndarray, y: np.ndarray, predictions: np.ndarray, is_earlier: np.ndarray
) -> np.ndarray:
    """Each row's cell mean, learnt on the earlier day and shrunk towards its parent cell's prediction.

    Like `shrinkage.shrunken_means` for strings: n / (n + within variance / between variance), by moments.
    """
    count = int(cells.max(initial=0)) + 1
    n = np.bincount(cells[is_earlier], minlength=count).astype(float)
    residuals = y[is_earlier] - predictions[is_earlier]
    total = np.bincount(cells[is_earlier], residuals, minlength=count)
    mean = total / np.maximum(n, 1)
    is_filled = n > 0
    degrees_of_freedom = n.sum() - is_filled.sum()
    if degrees_of_freedom <= 0:
        return predictions
    within = max(float((residuals**2).sum() - (n * mean**2).sum()), 0.0) / degrees_of_freedom
    parent = np.zeros(count, dtype=np.int64)
    parent[cells] = parents
    parent_n = np.bincount(parent[is_filled], n[is_filled])
    scale = float(
        n.sum() - (np.bincount(parent[is_filled], n[is_filled] ** 2)[parent_n > 0] / parent_n[parent_n > 0]).sum()
    )
    between_sum = float((n * mean**2).sum()) - (is_filled.sum() - (parent_n > 0).sum()) * within
    between = between_sum / scale if scale > 0 else 0.0
    weights = np.zeros(count)
    if between > 0:  # a cell without customers keeps 0, also if nothing varies within cells
        np.divide(n, n + within / between, out=weights, where=is_filled)
    result: np.ndarray = predictions + (weights * mean)[cells]
    return result

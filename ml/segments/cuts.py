"""Does a cut pay? Whether splitting a stage tells, out of time, what comes next beyond what the string tells already.

Belongs here: the judgement of candidate cuts on two earlier days. Does not belong here: making the candidates (see
`fitting`), and natural clusters (see `structure`).

Customers of the earlier day teach each cell of prefix and cluster the mean of what followed, shrunk towards the
prefix's own; customers of the later day apply it. A cut pays if the error on the later day falls by at least a stated
share of the variance inside of the stage, and by more than chance explains (paired differences of squared errors).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ml.segments.structure import Point

LEAST_GAIN = 0.005  # share of the variance inside of the stage
ERRORS = 2.0  # standard errors
ENOUGH = 0.9  # of the greatest gain: the fewest clusters that bring as much are taken


@dataclass(frozen=True)
class Past:
    """What followed on two earlier days.

    Parameters
    ----------
    inputs : `layer_inputs` of the two days, by day and customer
    is_first : the rows of the earlier day, which teach; the others are told
    spend : net revenue of the window after the row's day
    next_stage : number of the customer's stage when that window closes
    """

    inputs: pa.Table
    is_first: np.ndarray
    spend: np.ndarray
    next_stage: np.ndarray

    @property
    def log_spend(self) -> np.ndarray:
        """log(1 + spend); net refunds count as nothing."""
        result: np.ndarray = np.log1p(np.maximum(self.spend, 0))
        return result

    def of(self, stage: str) -> StagePast:
        """The rows of one stage, not yet split by any layer."""
        here = np.flatnonzero(np.array(self.inputs["stage"].to_pylist(), dtype=object) == stage)
        after = self.next_stage[here]
        outcomes = np.column_stack([self.log_spend[here], *(after == number for number in np.unique(after))])
        return StagePast.unsplit(self.inputs.take(pa.array(here)), self.is_first[here], outcomes.astype(float))


@dataclass(frozen=True)
class StagePast:
    """One stage's rows of the past, the cells they are in so far, and what these cells tell of each outcome.

    `outcomes` : log spend, then a column for each next stage; `told` : the cells' shrunken means, same shape (n, m)
    """

    inputs: pa.Table
    is_first: np.ndarray
    outcomes: np.ndarray
    cells: np.ndarray
    told: np.ndarray

    def at(self, rows: np.ndarray) -> StagePast:
        """Some of the rows, given by a boolean each."""
        here = pa.array(np.flatnonzero(rows))
        return StagePast(
            self.inputs.take(here), self.is_first[rows], self.outcomes[rows], self.cells[rows], self.told[rows]
        )

    @classmethod
    def unsplit(cls, inputs: pa.Table, is_first: np.ndarray, outcomes: np.ndarray) -> StagePast:
        known = outcomes[is_first]
        mean = known.mean(axis=0) if len(known) else np.zeros(outcomes.shape[1])
        told = np.broadcast_to(mean, outcomes.shape).copy()
        return cls(inputs, is_first, outcomes, np.zeros(len(outcomes), dtype=np.int64), told)

    def split(self, places: np.ndarray) -> StagePast:
        """The same rows with each cell split by a cluster."""
        cells = np.unique(self.cells * (int(places.max(initial=0)) + 1) + places, return_inverse=True)[1]
        told = np.column_stack(
            [
                _shrunk(cells, self.cells, y, told, self.is_first)
                for y, told in zip(self.outcomes.T, self.told.T, strict=True)
            ]
        )
        return StagePast(self.inputs, self.is_first, self.outcomes, cells, told)

    def can_judge(self, least: int) -> bool:
        return min(int(self.is_first.sum()), int((~self.is_first).sum())) >= least


def judged(
    past: StagePast, candidates: Mapping[int, np.ndarray]
) -> tuple[int, tuple[Point, ...], dict[int, np.ndarray]]:
    """How many clusters pay, 1 if none do, the curve, and the squared errors' fall per customer and k.

    Parameters
    ----------
    candidates : number of clusters to the place of each past row
    """
    later = ~past.is_first
    actual = past.outcomes[later]
    spread = ((actual - actual.mean(axis=0)) ** 2).sum(axis=0)
    scale = np.array([max(spread[0], 1e-12), max(spread[1:].sum(), 1e-12)])
    before = _errors(actual, past.told[later])
    curve, gains, falls = [], {}, {}
    for k, places in sorted(candidates.items()):
        fall = before - _errors(actual, past.split(places).told[later])  # (n, 2): spend, stage
        gain, error = fall.sum(axis=0) / scale, fall.std(axis=0) * np.sqrt(len(fall)) / scale
        curve.append(Point(k, gain_spend=float(gain[0]), gain_stage=float(gain[1])))
        gains[k] = np.where((gain >= LEAST_GAIN) & (gain > ERRORS * error), gain, 0.0)
        falls[k] = fall / scale
    for kind in (0, 1):
        best = max((gain[kind] for gain in gains.values()), default=0.0)
        if best > 0:
            return min(k for k, gain in gains.items() if gain[kind] >= ENOUGH * best), tuple(curve), falls
    return 1, tuple(curve), falls


def is_better(falls: Mapping[int, np.ndarray], k: int, other: int) -> bool:
    """Whether `k` clusters tell spend or stage better than `other` by the least gain and by more than chance."""
    if k not in falls or other not in falls:
        return k in falls
    more = falls[k] - falls[other]
    return bool(
        ((more.sum(axis=0) >= LEAST_GAIN) & (more.sum(axis=0) > ERRORS * more.std(axis=0) * len(more) ** 0.5)).any()
    )


def _errors(actual: np.ndarray, told: np.ndarray) -> np.ndarray:
    squares = (actual - told) ** 2
    return np.column_stack([squares[:, 0], squares[:, 1:].sum(axis=1)])


def _shrunk(
    cells: np.ndarray, parents: np.ndarray, y: np.ndarray, told: np.ndarray, is_first: np.ndarray
) -> np.ndarray:
    """Each row's cell mean, learnt on the first day and shrunk towards what its parent cell tells.

    As `shrinkage.shrunken_means` does for strings: n / (n + within variance / between variance), by moments.
    """
    count = int(cells.max(initial=0)) + 1
    n = np.bincount(cells[is_first], minlength=count).astype(float)
    away = y[is_first] - told[is_first]
    total = np.bincount(cells[is_first], away, minlength=count)
    mean = total / np.maximum(n, 1)
    filled = n > 0
    spare = n.sum() - filled.sum()
    if spare <= 0:
        return told
    within = max(float((away**2).sum() - (n * mean**2).sum()), 0.0) / spare
    parent = np.zeros(count, dtype=np.int64)
    parent[cells] = parents
    parent_n = np.bincount(parent[filled], n[filled])
    scale = float(n.sum() - (np.bincount(parent[filled], n[filled] ** 2)[parent_n > 0] / parent_n[parent_n > 0]).sum())
    between_sum = float((n * mean**2).sum()) - (filled.sum() - (parent_n > 0).sum()) * within
    between = between_sum / scale if scale > 0 else 0.0
    keep = n / (n + within / between) if between > 0 else np.zeros(count)
    result: np.ndarray = told + (keep * mean)[cells]
    return result

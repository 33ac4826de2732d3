"""What a fit would have predicted for the newest matured snapshot without seeing its outcome, and how good that was.

Belongs here: backtest fits, cross-validation, scores per candidate. Does not belong here: the decision (see
`training`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.columns import numbers
from ml.value.blend import Fit, Method, Outputs
from ml.value.judgement import Comparison, Judge
from ml.value.metrics import scores
from ml.value.reasons import Validation
from ml.value.spec import ValueSpec, persistence

FOLDS = 4
MIN_BLEND_GAIN = 0.01  # share of the loss by which the blend must be better than BG/NBD alone to replace it
Learn = Callable[[pa.Table, pa.Table, pa.Table], Fit]


@dataclass(frozen=True)
class Rows:
    """Snapshots of several days, and the outcomes of those that have matured; both by day and customer."""

    snapshot: pa.Table
    outcomes: pa.Table

    def of(self, days: list[date]) -> tuple[pa.Table, pa.Table]:
        """Both tables on `days`: row by row of the same customers, if these days have matured."""
        wanted = pa.array(days, pa.date32())
        return (
            self.snapshot.filter(pc.is_in(self.snapshot["day"], value_set=wanted)),
            self.outcomes.filter(pc.is_in(self.outcomes["day"], value_set=wanted)),
        )


@dataclass(frozen=True)
class Contest:
    """Predictions for the holdout by every method, and its outcomes.

    Parameters
    ----------
    day, scored_days : the holdout's day, and how many days after it are scored
    validation : how the predictions were kept from seeing the outcomes
    snapshot, realised : features and outcomes of the holdout
    predicted : per method p_alive, expected_orders and expected_spend
    seed : of the bootstrap over customers
    """

    day: date
    scored_days: int
    validation: Validation
    snapshot: pa.Table
    realised: pa.Table
    predicted: dict[Method, Outputs]
    seed: int = 0

    @classmethod
    def by_backtest(cls, fit: Fit, snapshot: pa.Table, realised: pa.Table, day: date, validation: Validation) -> Self:
        """Predict by a fit made as of the holdout's day."""
        return cls(day, fit.horizon_days, validation, snapshot, realised, fit.candidates(snapshot))

    @classmethod
    def by_customers(cls, rows: Rows, days: list[date], day: date, learn: Learn, spec: ValueSpec) -> Self:
        """Predict each row by a fit that saw none of that customer's rows on any day.

        It shows whether the recipe distinguishes customers, not whether it foresees that times change.
        """
        snapshot, outcomes = rows.of(days)
        customers, codes = np.unique(np.asarray(snapshot["customer_id"].to_pylist(), dtype=str), return_inverse=True)
        folds = np.random.default_rng(spec.seed).permutation(len(customers))[codes] % FOLDS
        is_holdout = np.asarray(pc.equal(snapshot["day"], pa.scalar(day, pa.date32())).to_numpy(), dtype=bool)
        predicted: dict[Method, Outputs] = {}
        for fold in range(FOLDS):
            others, in_fold = pa.array(folds != fold), (folds == fold) & is_holdout
            now = snapshot.filter(pa.array((folds != fold) & is_holdout))
            fit = learn(snapshot.filter(others), outcomes.filter(others), now)
            for method, outputs in fit.candidates(snapshot.filter(pa.array(in_fold))).items():
                for name, values in outputs.items():
                    predicted.setdefault(method, {}).setdefault(name, np.zeros(len(folds)))[in_fold] = values
        predicted = {m: {name: values[is_holdout] for name, values in o.items()} for m, o in predicted.items()}
        return cls(day, spec.horizon_days, Validation.BETWEEN, *rows.of([day]), predicted)

    @cached_property
    def baseline(self) -> Outputs:
        """The persistence baseline, over the days that are scored."""
        return persistence(self.snapshot, self.scored_days, 0.0)

    @cached_property
    def judge(self) -> Judge:
        """The outcomes as they are judged; limits are read from what was spent before."""
        return Judge.of(numbers(self.realised["spend"]), self.baseline["expected_spend"], self.seed)

    def best(self) -> Method:
        """BG/NBD alone, unless the blend is significantly better, and that by more than `MIN_BLEND_GAIN`.

        LightGBM alone is a member of the blend, reported beside it and never chosen: its weight is learnt. Where the
        true expectations are known, its deviance on a holdout may be the smaller one although the blend is nearer to
        them; and a choice between two that are so close depends on a few customers.
        """
        has_blend = "blend" in self.predicted
        return "blend" if has_blend and self.compare("bgnbd", "blend").is_better(MIN_BLEND_GAIN) else "bgnbd"

    def compare(self, reference: Method, challenger: Method) -> Comparison:
        """Compare two methods of the fit on the holdout."""
        return self.judge.compare(
            self.predicted[reference]["expected_spend"], self.predicted[challenger]["expected_spend"]
        )

    def against_persistence(self, expected: np.ndarray) -> Comparison:
        """Compare expected spend with the persistence baseline."""
        return self.judge.compare(self.baseline["expected_spend"], expected)

    def metrics(self, method: Method) -> dict[str, float]:
        """All measures: of `method` under their own names, of every candidate and of the baseline with a prefix.

        `plain_mean` is the mean of LightGBM alone and BG/NBD alone.
        """
        candidates: dict[str, Outputs] = {"baseline": self.baseline}
        candidates |= {str(name): outputs for name, outputs in self.predicted.items()}
        if "lightgbm" in self.predicted:
            trees, closed = self.predicted["lightgbm"], self.predicted["bgnbd"]
            candidates["plain_mean"] = {name: (trees[name] + closed[name]) / 2 for name in trees}
        metrics = scores(self.realised, self.predicted[method])
        metrics["deviance"] = self.judge.score(self.predicted[method]["expected_spend"])
        for candidate, outputs in candidates.items():
            metrics |= {f"{candidate}_{name}": score for name, score in scores(self.realised, outputs).items()}
            metrics[f"{candidate}_deviance"] = self.judge.score(outputs["expected_spend"])
        return metrics | {"holdout_customers": float(self.snapshot.num_rows)}

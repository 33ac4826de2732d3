"""What a fit would have said of the newest matured snapshot, had it not seen the outcome, and how good that was.

Belongs here: twins, cross-validation, scores per candidate. Does not belong here: what is decided (see `training`).
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
from ml.value.spec import ValueSpec, as_it_was

FOLDS = 4
PREFERENCE = 0.01  # by how much the blend must be better than BG/NBD alone, before it answers in its place
Learn = Callable[[pa.Table, pa.Table, pa.Table], Fit]


@dataclass(frozen=True)
class Rows:
    """Snapshots of several days, and the outcomes of those that have matured; both by day and customer."""

    snapshot: pa.Table
    outcomes: pa.Table

    def of(self, days: list[date]) -> tuple[pa.Table, pa.Table]:
        """Both tables on `days`: side by side, if these have matured."""
        found = pa.array(days, pa.date32())
        return (
            self.snapshot.filter(pc.is_in(self.snapshot["day"], value_set=found)),
            self.outcomes.filter(pc.is_in(self.outcomes["day"], value_set=found)),
        )


@dataclass(frozen=True)
class Contest:
    """Predictions for the holdout by every method, beside what came.

    Parameters
    ----------
    day, ahead : the holdout's day, and the days ahead that are scored
    validation : how the predictions were kept from seeing the answers
    held, realised : snapshot and outcomes of the holdout
    predicted : per method p_alive, expected_orders and expected_spend
    seed : of the bootstrap over customers
    """

    day: date
    ahead: int
    validation: Validation
    held: pa.Table
    realised: pa.Table
    predicted: dict[Method, Outputs]
    seed: int = 0

    @classmethod
    def by_twin(cls, twin: Fit, held: pa.Table, realised: pa.Table, day: date, validation: Validation) -> Self:
        """By a fit made as of the holdout's day."""
        return cls(day, twin.horizon_days, validation, held, realised, twin.candidates(held))

    @classmethod
    def by_customers(cls, rows: Rows, days: list[date], day: date, learn: Learn, spec: ValueSpec) -> Self:
        """Each row by a fit that saw none of that customer's rows on any day.

        It shows whether the recipe tells customers apart, not whether it foresees a change of times.
        """
        snapshot, outcomes = rows.of(days)
        customers, codes = np.unique(np.asarray(snapshot["customer_id"].to_pylist(), dtype=str), return_inverse=True)
        folds = np.random.default_rng(spec.seed).permutation(len(customers))[codes] % FOLDS
        is_held = np.asarray(pc.equal(snapshot["day"], pa.scalar(day, pa.date32())).to_numpy(), dtype=bool)
        predicted: dict[Method, Outputs] = {}
        for fold in range(FOLDS):
            rest, mine = pa.array(folds != fold), (folds == fold) & is_held
            now = snapshot.filter(pa.array((folds != fold) & is_held))
            fit = learn(snapshot.filter(rest), outcomes.filter(rest), now)
            for method, outputs in fit.candidates(snapshot.filter(pa.array(mine))).items():
                for name, values in outputs.items():
                    predicted.setdefault(method, {}).setdefault(name, np.zeros(len(folds)))[mine] = values
        predicted = {m: {name: values[is_held] for name, values in o.items()} for m, o in predicted.items()}
        return cls(day, spec.horizon_days, Validation.BETWEEN, *rows.of([day]), predicted)

    @cached_property
    def plain(self) -> Outputs:
        """Spend as it was, over the days that are scored."""
        return as_it_was(self.held, self.ahead, 0.0)

    @cached_property
    def judge(self) -> Judge:
        """What came, as it is judged; limits are read from what had come before."""
        return Judge.of(numbers(self.realised["spend"]), self.plain["expected_spend"], self.seed)

    def best(self) -> Method:
        """BG/NBD alone, unless the blend is surely better, and that by more than `PREFERENCE`.

        LightGBM alone is a member of the blend, shown beside it and never chosen: how much it is listened to is learnt.
        Where the true expectations are known, its deviance on a holdout may be the smaller one although the blend is
        nearer to them; and a choice between two that are so close hangs on a few customers.
        """
        has_blend = "blend" in self.predicted
        return "blend" if has_blend and self.compare("bgnbd", "blend").is_better(PREFERENCE) else "bgnbd"

    def compare(self, standing: Method, challenger: Method) -> Comparison:
        """Two methods of the fit on the holdout."""
        return self.judge.compare(
            self.predicted[standing]["expected_spend"], self.predicted[challenger]["expected_spend"]
        )

    def against_plain(self, expected: np.ndarray) -> Comparison:
        """Expected spend held against spend as it was."""
        return self.judge.compare(self.plain["expected_spend"], expected)

    def metrics(self, method: Method) -> dict[str, float]:
        """All measures: of `method` under their own names, of every candidate and of spend as it was with a prefix.

        `plain_mean` is the mean of LightGBM alone and BG/NBD alone.
        """
        candidates: dict[str, Outputs] = {"baseline": self.plain}
        candidates |= {str(name): outputs for name, outputs in self.predicted.items()}
        if "lightgbm" in self.predicted:
            one, two = self.predicted["lightgbm"], self.predicted["bgnbd"]
            candidates["plain_mean"] = {name: (one[name] + two[name]) / 2 for name in one}
        found = scores(self.realised, self.predicted[method])
        found["deviance"] = self.judge.score(self.predicted[method]["expected_spend"])
        for candidate, outputs in candidates.items():
            found |= {f"{candidate}_{name}": score for name, score in scores(self.realised, outputs).items()}
            found[f"{candidate}_deviance"] = self.judge.score(outputs["expected_spend"])
        return found | {"holdout_customers": float(self.held.num_rows)}

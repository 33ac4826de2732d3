"""What a fit would have said of the newest matured snapshot, had it not seen the outcome, and how good that was.

Belongs here: twins, cross-validation, scores per candidate. Does not belong here: what is decided (see `training`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.value.blend import Fit, Method, Outputs
from ml.value.metrics import scores
from ml.value.spec import ValueSpec, as_it_was

FOLDS = 4
PREFERENCE = 0.01  # by how much a single member must be better than the blend, before it answers alone
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
    """

    day: date
    ahead: int
    validation: str
    held: pa.Table
    realised: pa.Table
    predicted: dict[Method, Outputs]

    @classmethod
    def by_twin(cls, twin: Fit, held: pa.Table, realised: pa.Table, day: date, validation: str) -> Self:
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
        return cls(day, spec.horizon_days, "customer split", *rows.of([day]), predicted)

    @property
    def plain(self) -> Outputs:
        """Spend as it was, over the days that are scored."""
        return as_it_was(self.held, self.ahead, 0.0)

    def best(self) -> Method:
        """The method with the lowest RMSE; the blend, unless a member is better by more than `PREFERENCE`."""
        rmse = {method: scores(self.realised, outputs)["rmse"] for method, outputs in self.predicted.items()}
        if "blend" in rmse:
            rmse["blend"] *= 1 - PREFERENCE
        return min(rmse, key=lambda method: (rmse[method], method))

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
        for candidate, outputs in candidates.items():
            found |= {f"{candidate}_{name}": score for name, score in scores(self.realised, outputs).items()}
        return found | {"holdout_customers": float(self.held.num_rows)}

"""The value model in force: a fit, the method it answers with, storage, and its application to a day.

Belongs here: what is stored and served. Does not belong here: what a fit is made of (`blend`), which days it is fitted
on and whether it is chosen (`training`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from ml.value.basis import Outlook
from ml.value.blend import Fit, Method
from ml.value.season import days_of
from ml.value.spec import BASELINE_INPUTS, OUTPUTS, ValueSpec, baseline, discount, value_table

if TYPE_CHECKING:
    import pandas as pd

BATCH_ROWS = 200_000
FORMAT = 2


@dataclass(frozen=True)
class ValueModel:
    """Expected value from a snapshot.

    Parameters
    ----------
    final : fitted on all matured snapshots; it makes the predictions
    twin : the same recipe fitted only on what had matured one horizon earlier. It has not seen the outcomes that
        the final fit has, so it is what next week's challenger is measured against. None where history is too short.
    method : what it answers with: BG/NBD alone, or the blend where that was surely better on the holdout (models of
        versions before may answer by LightGBM alone)
    """

    horizon_days: int
    annual_discount_rate: float
    final: Fit
    twin: Fit | None = None
    method: Method = "blend"

    def outputs(self, table: pa.Table) -> dict[str, np.ndarray]:
        """p_alive, expected_orders, expected_spend and ltv of each row of a snapshot, each of shape (n,)."""
        out = self.final.predict(table, self.method)
        out["ltv"] = out["expected_spend"] * discount(self.horizon_days, self.annual_discount_rate)
        return out

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """ltv, p_alive, expected_orders and expected_spend for each row of a frame with the snapshot's columns.

        With a column `day`, windows that reach back before the business began are scaled up; without, they count as
        they are.
        """
        import pandas as pd

        used = [name for name in (*self.final.inputs, "day") if name in features.columns]
        table = pa.Table.from_pandas(features[used], preserve_index=False)
        out = self.outputs(table)
        return pd.DataFrame({name: out[name] for name in OUTPUTS}, index=features.index)

    def save(self, folder: Path) -> None:
        stored = {
            "format": FORMAT,
            "horizon_days": self.horizon_days,
            "annual_discount_rate": self.annual_discount_rate,
            "method": self.method,
            "final": self.final.save(folder, "final"),
            "twin": self.twin.save(folder, "twin") if self.twin else None,
        }
        (folder / "value_model.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If it was written in another format.
        """
        stored = json.loads((folder / "value_model.json").read_text(encoding="utf-8"))
        if stored.get("format") != FORMAT:
            raise ValueError(
                "this value model was stored by another version of the software: train the value family again "
                "for the weeks in question (weekly job), beginning with the first"
            )
        horizon = stored["horizon_days"]
        return cls(
            horizon_days=horizon,
            annual_discount_rate=stored["annual_discount_rate"],
            final=Fit.load(folder, "final", stored["final"], horizon),
            twin=Fit.load(folder, "twin", stored["twin"], horizon) if stored["twin"] else None,
            method=stored["method"],
        )


def inputs_of(model: ValueModel | None) -> tuple[str, ...]:
    """The snapshot's columns that `apply` looks at, besides customer and day."""
    return BASELINE_INPUTS if model is None else tuple(model.final.inputs)


def apply(features: pa.Table, model: ValueModel | None, spec: ValueSpec, *, label: str) -> pa.Table:
    """The value of each row of a snapshot, in batches so that memory does not grow with the customer base.

    Parameters
    ----------
    features : a snapshot; any number of days
    model : the model in force, or None for `baseline`. A model counts over its own horizon, whatever `spec` says by now
    label : what the column `model` says

    Returns
    -------
    customer_id, day and the other columns of `customer_value`, one row per row of `features` in its order.
    """
    if model is None:
        return baseline(features, spec, label=label)
    parts: list[dict[str, np.ndarray]] = [
        model.outputs(features.slice(start, BATCH_ROWS)) for start in range(0, features.num_rows, BATCH_ROWS)
    ]
    outputs = {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in OUTPUTS}
    outlook = _outlook(features, model, spec.warm_up_days)
    return value_table(features, outputs, horizon_days=model.horizon_days, label=label, outlook=outlook)


def _outlook(features: pa.Table, model: ValueModel, warm_up_days: int) -> dict[str, pa.Array]:
    """What the season of the model says of the days ahead of each row, and what one that it does not know could do."""
    fit, (days, places) = model.final, np.unique(days_of(features), return_inverse=True)
    risks = [fit.season.risk_on(day, fit.first_day, model.horizon_days, warm_up_days) for day in days.astype(object)]
    ahead = fit.season.ahead(days, model.horizon_days)
    found = [ahead, *(np.array([getattr(risk, name) for risk in risks], dtype=float) for name in ("low", "high"))]
    return {name: pa.array(values[places]) for name, values in zip(vars(Outlook()), found, strict=True)}

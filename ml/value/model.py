"""The value model in force: a fit, the method it predicts with, storage, and its application to a day.

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
from ml.value.currency import Money, exchange, reckon
from ml.value.season import days_of
from ml.value.spec import BASELINE, BASELINE_INPUTS, OUTPUTS, ValueSpec, baseline, discount, value_table

if TYPE_CHECKING:
    import pandas as pd

BATCH_ROWS = 200_000
FORMAT = 3
READABLE = (2, FORMAT)  # format 2 has other names for the backtest fit and the corrected member, and is read


@dataclass(frozen=True)
class ValueModel:
    """A fitted model of customer value: expected orders and spend over a horizon, from a snapshot.

    Parameters
    ----------
    horizon_days : int
        Days over which value is counted.
    annual_discount_rate : float
        Share by which money loses value within a year, 0.10 for ten percent.
    final : Fit
        Fitted on all matured snapshots; it makes the predictions.
    backtest_fit : Fit, optional
        The same recipe fitted only on what had matured one horizon earlier. It has not seen the outcomes that `final`
        has, so next week's challenger is compared with it. None where history is too short.
    method : {"blend", "lightgbm", "bgnbd"}
        Which of its methods predicts: BG/NBD alone, or the blend where that was significantly better on the holdout.
        Only models of earlier versions predict by LightGBM alone.
    of : {"revenue", "margin"}, default "revenue"
        What spend is: net revenue, or the margin of what was bought.

    Examples
    --------
    Two customers of the same age, of whom one fell silent, by parameters published for CDNOW (here in days):

    >>> import pyarrow as pa
    >>> from ml.value.blend import Fit
    >>> from ml.value.closed_form import ClosedForm
    >>> closed = ClosedForm((0.243, 30.9, 0.793, 2.426), (6.25, 3.74, 15.44))
    >>> model = ValueModel(90, 0.10, Fit(90, closed), method="bgnbd")
    >>> snapshot = pa.table(
    ...     {"purchase_days": [4, 4], "recency_days": [5, 250], "tenure_days": [300, 300], "orders": [4, 4],
    ...      "spend": [120.0, 120.0], "orders_90d": [1, 0], "spend_90d": [30.0, 0.0]}
    ... )
    >>> model.outputs(snapshot)["expected_spend"].round(1).tolist()
    [21.2, 1.4]
    """

    horizon_days: int
    annual_discount_rate: float
    final: Fit
    backtest_fit: Fit | None = None
    method: Method = "blend"
    of: Money = "revenue"

    def outputs(self, table: pa.Table) -> dict[str, np.ndarray]:
        """Predict the four outputs of the family for each row of a snapshot.

        Parameters
        ----------
        table : pa.Table
            A snapshot with at least the columns of `inputs_of`.

        Returns
        -------
        dict of str to np.ndarray
            `p_alive` (0 to 1), `expected_orders`, `expected_spend` and `ltv` (currency), each of shape (n_rows,).
        """
        out = self.final.predict(reckon(table, self.of), self.method)
        out["ltv"] = out["expected_spend"] * discount(self.horizon_days, self.annual_discount_rate)
        return out

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """Predict for a frame, as a served model does.

        Parameters
        ----------
        features : pd.DataFrame
            Rows with the snapshot's columns. With a column `day`, windows that reach back before the business began
            are scaled up; without it, they count as they are.

        Returns
        -------
        pd.DataFrame
            `ltv`, `p_alive`, `expected_orders` and `expected_spend`, with the index of `features`.
        """
        import pandas as pd

        used = [name for name in (*exchange(self.final.inputs, self.of), "day") if name in features.columns]
        table = pa.Table.from_pandas(features[used], preserve_index=False)
        out = self.outputs(table)
        return pd.DataFrame({name: out[name] for name in OUTPUTS}, index=features.index)

    def save(self, folder: Path) -> None:
        """Write the model as JSON and LightGBM's text.

        Parameters
        ----------
        folder : Path
            An existing, empty folder.
        """
        stored = {
            "format": FORMAT,
            "horizon_days": self.horizon_days,
            "annual_discount_rate": self.annual_discount_rate,
            "method": self.method,
            "of": self.of,
            "final": self.final.save(folder, "final"),
            "backtest": self.backtest_fit.save(folder, "backtest") if self.backtest_fit else None,
        }
        (folder / "value_model.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote, also in an earlier version that differs in names alone.

        Parameters
        ----------
        folder : Path
            Where the model was saved.

        Returns
        -------
        ValueModel
            A model that predicts the same.

        Raises
        ------
        ValueError
            If the model was written in another format.
        """
        stored = json.loads((folder / "value_model.json").read_text(encoding="utf-8"))
        if stored.get("format") not in READABLE:
            raise ValueError(
                "this value model was stored by another version of the software: train the value family again "
                "for the weeks in question (weekly job), beginning with the first"
            )
        horizon = stored["horizon_days"]
        backtest = "backtest" if "backtest" in stored else "twin"
        return cls(
            horizon_days=horizon,
            annual_discount_rate=stored["annual_discount_rate"],
            final=Fit.load(folder, "final", stored["final"], horizon),
            backtest_fit=Fit.load(folder, backtest, stored[backtest], horizon) if stored[backtest] else None,
            method=stored["method"],
            of=stored.get("of", "revenue"),
        )


def model_in_force(model: ValueModel | None, of: Money) -> ValueModel | None:
    """Leave out a model that reckons in other money than asked for: until the next fit there is none."""
    return model if model is not None and model.of == of else None


def inputs_of(model: ValueModel | None, of: Money = "revenue") -> tuple[str, ...]:
    """List the snapshot's columns that `apply` reads, besides customer and day.

    Parameters
    ----------
    model : ValueModel or None
        The model in force; None for `baseline`.
    of : {"revenue", "margin"}
        What value is reckoned in.

    Returns
    -------
    tuple of str
        Column names.

    Examples
    --------
    >>> inputs_of(None)
    ('orders_90d', 'spend_90d', 'tenure_days')
    """
    model = model_in_force(model, of)
    return exchange(BASELINE_INPUTS if model is None else model.final.inputs, of)


def apply(features: pa.Table, model: ValueModel | None, spec: ValueSpec, *, label: str) -> pa.Table:
    """Value each row of a snapshot, in batches so that memory does not grow with the customer base.

    Parameters
    ----------
    features : pa.Table
        A snapshot, of any number of days.
    model : ValueModel or None
        The model in force, or None for `baseline`. A model counts over its own horizon, even if `spec` has another; one
        that reckons in other money than `spec` is left out.
    spec : ValueSpec
        Settings of the family.
    label : str
        The value of the column `model`.

    Returns
    -------
    pa.Table
        `customer_id`, `day` and the other columns of `customer_value`: one row per row of `features`, in its order.

    Examples
    --------
    >>> import datetime, pyarrow as pa
    >>> features = pa.table(
    ...     {"customer_id": ["a", "b"], "day": [datetime.date(2024, 3, 31)] * 2, "orders_90d": [3, 0],
    ...      "spend_90d": [90.0, 0.0]}
    ... )
    >>> apply(features, None, ValueSpec(horizon_days=30), label="baseline")["expected_spend"].to_pylist()
    [30.0, 0.0]
    """
    if (chosen := model_in_force(model, spec.of)) is None:
        return baseline(features, spec, label=label if model is None else BASELINE)
    model = chosen
    parts: list[dict[str, np.ndarray]] = [
        model.outputs(features.slice(start, BATCH_ROWS)) for start in range(0, features.num_rows, BATCH_ROWS)
    ]
    outputs = {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in OUTPUTS}
    outlook = _outlook(features, model, spec.warm_up_days)
    horizon_days = model.horizon_days
    return value_table(features, outputs, horizon_days=horizon_days, label=label, outlook=outlook, of=model.of)


def _outlook(features: pa.Table, model: ValueModel, warm_up_days: int) -> dict[str, pa.Array]:
    """The columns of `Outlook` for each row, from the model's season."""
    fit, (days, positions) = model.final, np.unique(days_of(features), return_inverse=True)
    risks = [fit.season.risk_on(day, fit.first_day, model.horizon_days, warm_up_days) for day in days.astype(object)]
    season_factor = fit.season.mean_ahead(days, model.horizon_days)
    low, high = (np.array([getattr(risk, name) for risk in risks], dtype=float) for name in ("low", "high"))
    factors = (season_factor, low, high)
    return {name: pa.array(values[positions]) for name, values in zip(vars(Outlook()), factors, strict=True)}

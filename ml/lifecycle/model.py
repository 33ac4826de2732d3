"""The lifecycle model: stage rules with every threshold frozen.

Belongs here: what is frozen, its storage, and its answer for a frame. Does not belong here: the query that applies it
(see `stages`) and how thresholds are found (see `training`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from ml import tables
from ml.engine import DuckDB
from ml.lifecycle.rules import CUTS, PARAMETERS, StageRule, SubStageRule
from ml.lifecycle.spec import FIRST_CHURN_AFTER, FIRST_NEW_FOR, FIRST_STAR_SHARE, LifecycleSpec
from ml.value.spec import OUTPUTS, ValueSpec, baseline

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LifecycleModel:
    """Stage rules with every threshold frozen.

    A trained model carries the rules it was frozen for, so that an edited project file comes into force with the next
    training week and not in the middle of one. Without rules of its own it takes the spec's.

    Parameters
    ----------
    star_cut : least ltv of a star; None means there are no stars
    new_for, churn_after : windows, days
    star_share : share of active customers that the cut was frozen for
    new_ltv_cut : ltv of the top tenth of new customers; None while no value model forecasts it
    new_first_spend_cut : spend on the first day of the top tenth of new customers; None while one does
    active_median_ltv, active_median_orders : medians of active customers without stars
    active_high_orders, active_high_spend, active_high_basket : their upper quartiles of orders_90d, spend_90d and
        average_order_90d
    stages, sub_stages : the rules
    horizon_days, annual_discount_rate : how `predict` counts ltv where the frame brings none
    """

    star_cut: float | None = None
    new_for: int = FIRST_NEW_FOR
    churn_after: int = FIRST_CHURN_AFTER
    star_share: float = FIRST_STAR_SHARE
    new_ltv_cut: float | None = None
    new_first_spend_cut: float | None = None
    active_median_ltv: float | None = None
    active_median_orders: float | None = None
    active_high_orders: float | None = None
    active_high_spend: float | None = None
    active_high_basket: float | None = None
    stages: tuple[StageRule, ...] = ()
    sub_stages: tuple[SubStageRule, ...] = ()
    horizon_days: int = 90
    annual_discount_rate: float = 0.10

    def parameters(self) -> dict[str, float | int | None]:
        """What stands behind each ``$name`` of a rule."""
        return {name: getattr(self, name) for name in (*PARAMETERS, *CUTS)}

    def save(self, folder: Path) -> None:
        (folder / "lifecycle_model.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        stored = json.loads((folder / "lifecycle_model.json").read_text(encoding="utf-8"))
        known = {f.name for f in fields(cls)}
        stored = {name: value for name, value in stored.items() if name in known}
        stored["stages"] = tuple(StageRule(**rule) for rule in stored["stages"])
        stored["sub_stages"] = tuple(SubStageRule(**rule) for rule in stored["sub_stages"])
        return cls(**stored)

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """stage and sub_stage of each row of a frame with the snapshot's columns.

        Value columns are optional: without ltv, "spend stays as it was" takes its place (`ml.value.baseline`).
        """
        import pandas as pd

        from ml.lifecycle.stages import assign_stages

        rows = len(features)
        known = features.drop(columns=["customer_id", "day"], errors="ignore")
        table = _typed(pa.Table.from_pandas(known, preserve_index=False))
        table = table.append_column("customer_id", pa.array([f"{place:012d}" for place in range(rows)], pa.string()))
        table = table.append_column("day", pa.array([date(1970, 1, 1)] * rows, pa.date32()))
        value_spec = ValueSpec(horizon_days=self.horizon_days, annual_discount_rate=self.annual_discount_rate)
        if "ltv" in table.column_names:
            given = [name for name in OUTPUTS if name in table.column_names]
            value = table.select(["customer_id", "day", *given])
        else:
            value = baseline(table, value_spec)
        found = assign_stages(DuckDB(threads=1), table, value, self, LifecycleSpec())
        columns = {name: found[name].to_pylist() for name in ("stage", "sub_stage")}
        return pd.DataFrame(columns, index=features.index)


def _typed(table: pa.Table) -> pa.Table:
    """Give columns that are empty throughout their declared type, so that a rule can compare them."""
    declared = tables.CUSTOMER_FEATURES.schema()
    for place, column in enumerate(table.schema):
        if pa.types.is_null(column.type):
            at = declared.get_field_index(column.name)
            type_ = declared.field(at).type if at >= 0 else pa.string()
            table = table.set_column(place, column.name, table[column.name].cast(type_))
    return table

"""The lifecycle model: stage rules with every threshold frozen.

Belongs here: what is frozen, its storage, and the stages of a snapshot under a model or without one. Does not belong
here: the query that applies rules (see `stages`) and how thresholds are found (see `training`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pyarrow as pa
import pyarrow.compute as pc

from ml import tables
from ml.columns import numbers
from ml.engine import Engine, in_memory
from ml.lifecycle.cuts import TOP_SHARE, cut_for_share
from ml.lifecycle.rules import CUTS, PARAMETERS, StageRule, SubStageRule
from ml.lifecycle.spec import FIRST_CHURN_AFTER, FIRST_NEW_FOR, FIRST_STAR_SHARE, LifecycleSpec
from ml.lifecycle.stages import apply_rules
from ml.value.spec import OUTPUTS, ValueSpec, baseline

if TYPE_CHECKING:
    import pandas as pd

FIRST_SPEND = """
SELECT features.day AS day, features.customer_id AS customer_id, features.first_day_spend AS first_day_spend
FROM features JOIN staged ON staged.customer_id = features.customer_id AND staged.day = features.day
WHERE staged.stage = 'new'
ORDER BY features.day, features.customer_id
"""


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
        found = assign_stages(in_memory(), table, value, self, LifecycleSpec())
        columns = {name: found[name].to_pylist() for name in ("stage", "sub_stage")}
        return pd.DataFrame(columns, index=features.index)


def assign_stages(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel | None, spec: LifecycleSpec
) -> pa.Table:
    """The stage and sub-stage of each row of a snapshot.

    Parameters
    ----------
    features : a snapshot; any number of days
    value : customer_id, day and the value columns of the same rows
    model : the model in force; its rules and thresholds hold. None: the spec's rules and windows, nobody is a star,
        and of the sub-stages that need a cut only that of first purchases, which is read off each day itself

    Returns
    -------
    customer_id, day, stage, sub_stage, ordered by day and customer; exactly one row per row of `features`.

    Raises
    ------
    RuleError
        If a rule uses a column that neither table has.
    """
    if model is None:
        return _without_model(engine, features, value, spec)
    stages, sub_stages = model.stages or spec.rules(), model.sub_stages or spec.sub_rules()
    return apply_rules(engine, features, value, stages, sub_stages, model.parameters())


def _without_model(engine: Engine, features: pa.Table, value: pa.Table, spec: LifecycleSpec) -> pa.Table:
    """Stages before there is a model: the cut of first purchases is that of the new customers of the day."""
    open_model = LifecycleModel(
        new_for=spec.first_new_for, churn_after=spec.first_churn_after, stages=spec.rules(), sub_stages=spec.sub_rules()
    )
    staged = assign_stages(engine, features, value, open_model, spec)
    if not any("new_first_spend_cut" in rule.when for rule in open_model.sub_stages):
        return staged
    spent = engine.query(FIRST_SPEND, features=features, staged=staged)
    parts = []
    for day in pc.unique(spent["day"]):
        cut = cut_for_share(numbers(spent.filter(pc.equal(spent["day"], day))["first_day_spend"]), TOP_SHARE)
        of_day = features.filter(pc.equal(features["day"], day))
        model = replace(open_model, new_first_spend_cut=cut)
        parts.append(assign_stages(engine, of_day, value, model, spec))
    without = staged.filter(pc.invert(pc.is_in(staged["day"], spent["day"])))
    return pa.concat_tables([*parts, without]).sort_by([("day", "ascending"), ("customer_id", "ascending")])


def _typed(table: pa.Table) -> pa.Table:
    """Give columns that are empty throughout their declared type, so that a rule can compare them."""
    declared = tables.CUSTOMER_FEATURES.schema()
    for place, column in enumerate(table.schema):
        if pa.types.is_null(column.type):
            at = declared.get_field_index(column.name)
            type_ = declared.field(at).type if at >= 0 else pa.string()
            table = table.set_column(place, column.name, table[column.name].cast(type_))
    return table

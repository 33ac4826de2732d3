"""The lifecycle model: stage rules with every threshold frozen.

Belongs here: what is frozen, its storage, and the stages of a snapshot under a model or without one. Does not belong
here: the query that applies rules (see `stages`) and how thresholds are estimated (see `training`).
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
from ml.value.currency import Money
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

    A trained model carries the rules it was frozen for, so that an edited project file takes effect with the next
    training week and not in the middle of one. A model without rules uses the spec's.

    Parameters
    ----------
    star_cut : float, optional
        Lowest ltv of a star, in currency. None means there are no stars.
    new_for, churn_after : int
        Windows in days.
    star_share : float
        Share of active customers, 0 to 1, that the cut was frozen for.
    new_ltv_cut : float, optional
        Lowest ltv of the top tenth of new customers; None while no value model forecasts it.
    new_first_spend_cut : float, optional
        Lowest spend on the first day of the top tenth of new customers; None while a value model forecasts ltv.
    active_median_ltv, active_median_orders : float, optional
        Medians of active customers who are not stars, of ltv and orders_90d.
    active_high_orders, active_high_spend, active_high_basket : float, optional
        Their upper quartiles of orders_90d, spend_90d and average_order_90d.
    stages : tuple of StageRule
        Stage rules, in order.
    sub_stages : tuple of SubStageRule
        Sub-stage rules, in order.
    horizon_days : int, default 90
        Horizon of the ltv that `predict` computes for a frame without it.
    annual_discount_rate : float, default 0.10
        Discount rate of that ltv, per year.
    value_of : {"revenue", "margin"}, default "revenue"
        What that ltv is reckoned in.

    Examples
    --------
    >>> import pandas as pd
    >>> stages = StageRule("star", "ltv >= $star_cut"), StageRule("other", "true")
    >>> model = LifecycleModel(star_cut=500.0, stages=stages, sub_stages=(SubStageRule("other", "idle", "spend = 0"),))
    >>> model.predict(pd.DataFrame({"ltv": [800.0, 20.0], "spend": [90.0, 0.0]})).values.tolist()
    [['star', 'star'], ['other', 'idle']]
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
    value_of: Money = "revenue"

    def parameters(self) -> dict[str, float | int | None]:
        """Return the value of each ``$name`` of a rule.

        Returns
        -------
        dict of str to float
            Thresholds by name; None while unknown.
        """
        return {name: getattr(self, name) for name in (*PARAMETERS, *CUTS)}

    def save(self, folder: Path) -> None:
        """Write the model as JSON.

        Parameters
        ----------
        folder : Path
            Existing folder.
        """
        (folder / "lifecycle_model.json").write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a model that `save` wrote, also in an earlier version.

        Parameters
        ----------
        folder : Path
            Folder given to `save`.

        Returns
        -------
        LifecycleModel
            The model, which predicts as the saved one does.
        """
        stored = json.loads((folder / "lifecycle_model.json").read_text(encoding="utf-8"))
        known = {f.name for f in fields(cls)}
        stored = {name: value for name, value in stored.items() if name in known}
        stored["stages"] = tuple(StageRule(**rule) for rule in stored["stages"])
        stored["sub_stages"] = tuple(SubStageRule(**rule) for rule in stored["sub_stages"])
        return cls(**stored)

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """Predict the stage and sub-stage of each row of a frame.

        Parameters
        ----------
        features : pd.DataFrame of shape (n_customers, n_columns)
            The snapshot's columns that the rules use. Value columns are optional: without ltv, the baseline of value
            takes its place (`ml.value.baseline`).

        Returns
        -------
        pd.DataFrame of shape (n_customers, 2)
            Columns stage and sub_stage, with the index of `features`.
        """
        import pandas as pd

        rows = len(features)
        known = features.drop(columns=["customer_id", "day"], errors="ignore")
        table = _typed(pa.Table.from_pandas(known, preserve_index=False))
        table = table.append_column("customer_id", pa.array([f"{row:012d}" for row in range(rows)], pa.string()))
        table = table.append_column("day", pa.array([date(1970, 1, 1)] * rows, pa.date32()))
        value_spec = ValueSpec(
            horizon_days=self.horizon_days, annual_discount_rate=self.annual_discount_rate, of=self.value_of
        )
        if "ltv" in table.column_names:
            value_columns = [name for name in OUTPUTS if name in table.column_names]
            value = table.select(["customer_id", "day", *value_columns])
        else:
            value = baseline(table, value_spec)
        stages = assign_stages(in_memory(), table, value, self, LifecycleSpec())
        columns = {name: stages[name].to_pylist() for name in ("stage", "sub_stage")}
        return pd.DataFrame(columns, index=features.index)


def assign_stages(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel | None, spec: LifecycleSpec
) -> pa.Table:
    """Assign a stage and a sub-stage to each row of a snapshot.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    features : pa.Table
        A snapshot of one day or several (`CustomerHistory.snapshot`).
    value : pa.Table
        Columns customer_id, day and the value columns of the same rows.
    model : LifecycleModel or None
        The model in force, whose rules and thresholds apply. Without one the spec's rules and windows apply, nobody is
        a star, and of the cuts of sub-stages only that of first purchases is known, which is taken from each day.
    spec : LifecycleSpec
        Settings of the family.

    Returns
    -------
    pa.Table
        Columns customer_id, day, stage and sub_stage, ordered by day and customer: one row per row of `features`.

    Raises
    ------
    RuleError
        If a rule uses a column that neither table has.

    Examples
    --------
    >>> from ml.engine import DuckDB
    >>> spec = LifecycleSpec(stages=(StageRule("silent", "recency_days > $churn_after"), StageRule("awake", "true")))
    >>> keys = {"customer_id": ["a", "b"], "day": [date(2024, 6, 1)] * 2}
    >>> features, value = pa.table(keys | {"recency_days": [3, 61]}), pa.table(keys | {"ltv": [100.0, 20.0]})
    >>> model = LifecycleModel(churn_after=60, stages=spec.rules())
    >>> assign_stages(DuckDB(threads=1), features, value, model, spec)["stage"].to_pylist()
    ['awake', 'silent']
    """
    if model is None:
        return _without_model(engine, features, value, spec)
    stages, sub_stages = model.stages or spec.rules(), model.sub_stages or spec.sub_rules()
    return apply_rules(engine, features, value, stages, sub_stages, model.parameters())


def _without_model(engine: Engine, features: pa.Table, value: pa.Table, spec: LifecycleSpec) -> pa.Table:
    """Stages before there is a model: the cut of first purchases is that of each day's new customers."""
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
    for position, column in enumerate(table.schema):
        if pa.types.is_null(column.type):
            index = declared.get_field_index(column.name)
            type_ = declared.field(index).type if index >= 0 else pa.string()
            table = table.set_column(position, column.name, table[column.name].cast(type_))
    return table

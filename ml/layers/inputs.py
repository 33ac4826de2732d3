"""The columns that layers, audiences and profiles use, side by side.

Belongs here: joining features, value and stage, and the columns derived from them. Does not belong here: what uses
them.
"""

from __future__ import annotations

from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from ml.engine import Engine
from ml.expressions import evaluate
from ml.layers.specs import DERIVED, STAGE_COLUMNS, VALUE_COLUMNS


def layer_inputs(engine: Engine, features: pa.Table, value: pa.Table, stages: pa.Table) -> pa.Table:
    """Join the columns that a layer, an audience or a profile may use, by day and customer.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    features, value, stages : pyarrow.Table
        With customer_id and day; one row per customer and day in each.

    Returns
    -------
    pyarrow.Table
        Every column of `features`, then the derived ones (`DERIVED`), ltv, p_alive, expected_orders, expected_spend,
        stage, sub_stage.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import in_memory
    >>> keys = {"customer_id": ["c1"], "day": [date(2024, 3, 1)]}
    >>> days = {"recency_days": [30], "mean_gap_days": [10.0]}
    >>> features = pa.table({**keys, "spend_28d": [60.0], "spend_prev_28d": [20.0], **days})
    >>> value = pa.table({**keys, "ltv": [90.0], "p_alive": [0.8], "expected_orders": [2.0], "expected_spend": [80.0]})
    >>> stages = pa.table({**keys, "stage": ["active"], "sub_stage": ["rising"]})
    >>> rows = layer_inputs(in_memory(), features, value, stages)
    >>> rows.select(["spend_trend_28d", "overdue", "ltv", "stage"]).to_pylist()
    [{'spend_trend_28d': 0.5, 'overdue': 1.5, 'ltv': 90.0, 'stage': 'active'}]
    """
    return engine.query(
        _inputs_sql(tuple(features.column_names)),
        features=features,
        value_of=value.select(["customer_id", "day", *VALUE_COLUMNS]),
        stages=stages.select(["customer_id", "day", *STAGE_COLUMNS]),
    )


@cache
def _inputs_sql(features: tuple[str, ...]) -> str:
    return (
        exp.select(*(exp.column(name, "features", quoted=True) for name in features))
        .select(*(exp.alias_(exp.maybe_parse(sql, dialect="duckdb"), name) for name, sql in DERIVED.items()))
        .select(*(exp.column(name, "value_of") for name in VALUE_COLUMNS))
        .select(*(exp.column(name, "stages") for name in STAGE_COLUMNS))
        .from_("features")
        .join("value_of", on="value_of.customer_id = features.customer_id AND value_of.day = features.day")
        .join("stages", on="stages.customer_id = features.customer_id AND stages.day = features.day")
        .order_by("features.day", "features.customer_id")
        .sql("duckdb")
    )


def sort_inputs(inputs: pa.Table) -> pa.Table:
    """Sort by day and customer; a table already in this order is returned as it is."""
    if inputs.num_rows > 1:
        day, customer = inputs["day"], inputs["customer_id"]
        this_day, next_day = day.slice(0, len(day) - 1), day.slice(1)
        rising = pc.or_(
            pc.less(this_day, next_day),
            pc.and_(pc.equal(this_day, next_day), pc.less(customer.slice(0, len(customer) - 1), customer.slice(1))),
        )
        if not pc.all(rising).as_py():
            return inputs.sort_by([("day", "ascending"), ("customer_id", "ascending")])
    return inputs


def with_derived(table: pa.Table) -> pa.Table:
    """Append the derived columns whose sources exist."""
    existing = set(table.column_names)
    missing = {name: sql for name, sql in DERIVED.items() if name not in existing and columns_of(sql) <= existing}
    if not missing:
        return table
    needed = sorted(set().union(*(columns_of(sql) for sql in missing.values())))
    derived = evaluate(table.select(needed), missing)
    for name in missing:
        table = table.append_column(name, derived[name])
    return table


@cache
def columns_of(sql: str) -> frozenset[str]:
    """The columns that an expression uses."""
    tree: exp.Expression = exp.maybe_parse(sql, dialect="duckdb")
    return frozenset(column.name for column in tree.find_all(exp.Column))

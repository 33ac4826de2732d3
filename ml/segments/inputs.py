"""The columns that layers, audiences and profiles look at, side by side.

Belongs here: joining features, value and stage, and the columns derived from them. Does not belong here: what is made
of them.
"""

from __future__ import annotations

from functools import cache

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from ml.engine import Engine
from ml.expressions import evaluate
from ml.segments.specs import DERIVED, STAGE_COLUMNS, VALUE_COLUMNS


def layer_inputs(engine: Engine, features: pa.Table, value: pa.Table, stages: pa.Table) -> pa.Table:
    """The columns that a layer, an audience or a profile may use, by day and customer.

    Parameters
    ----------
    features, value, stages : with customer_id and day; one row per customer and day in each

    Returns
    -------
    Every column of `features`, then the derived ones (`DERIVED`), ltv, p_alive, expected_orders, expected_spend, stage,
    sub_stage.
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


def in_order(inputs: pa.Table) -> pa.Table:
    """By day and customer; a table that already is stays as it is."""
    if inputs.num_rows > 1:
        day, who = inputs["day"], inputs["customer_id"]
        earlier, later = day.slice(0, len(day) - 1), day.slice(1)
        rising = pc.or_(
            pc.less(earlier, later),
            pc.and_(pc.equal(earlier, later), pc.less(who.slice(0, len(who) - 1), who.slice(1))),
        )
        if not pc.all(rising).as_py():
            return inputs.sort_by([("day", "ascending"), ("customer_id", "ascending")])
    return inputs


def with_derived(table: pa.Table) -> pa.Table:
    """The derived columns beside the others, where what they are made of is there."""
    there = set(table.column_names)
    wanted = {name: sql for name, sql in DERIVED.items() if name not in there and columns_of(sql) <= there}
    if not wanted:
        return table
    needed = sorted(set().union(*(columns_of(sql) for sql in wanted.values())))
    found = evaluate(table.select(needed), wanted)
    for name in wanted:
        table = table.append_column(name, found[name])
    return table


@cache
def columns_of(sql: str) -> frozenset[str]:
    """The columns that an expression names."""
    tree: exp.Expression = exp.maybe_parse(sql, dialect="duckdb")
    return frozenset(column.name for column in tree.find_all(exp.Column))

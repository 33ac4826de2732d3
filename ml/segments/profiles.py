"""Profiles: the KPIs of each micro-segment and of each prefix of its string.

Belongs here: sums over primary members. Does not belong here: names (see `names`).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from ml import tables
from ml.engine import Engine, sql_of
from ml.layers.names import Names
from ml.layers.strings import micro_segment_id, prefixes
from ml.value.currency import Money, reckon


def profiles(
    engine: Engine, micro_segments: pa.Table, inputs: pa.Table, names: Mapping[str, str], *, of: Money = "revenue"
) -> pa.Table:
    """KPIs per day of every string and every prefix.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    micro_segments : pyarrow.Table
        With day; only primary rows count, so the leaves of a day add up to its known customers.
    inputs : pyarrow.Table
        `layer_inputs` of the same customers and days.
    names : Mapping of str to str
        Names by string or prefix (`LayerModels.names()`); a string without one is made readable.
    of : {"revenue", "margin"}, default "revenue"
        What value is reckoned in: the column `revenue` holds the same.

    Returns
    -------
    pyarrow.Table
        day and the columns of `micro_segment_profiles`, by day and string. `is_leaf` means that the row is a whole
        string; other rows are prefixes. Sums over the leaves, and over depth 0, are those of all customers.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import in_memory
    >>> keys = {"customer_id": ["c1", "c2"], "day": [date(2024, 3, 1)] * 2}
    >>> strings = ["active/value.A", "active/value.B"]
    >>> members = pa.table({**keys, "micro_segment": strings, "stage": ["active"] * 2, "is_primary": [True, True]})
    >>> counts = {"orders_28d": [3, 1], "events_28d": [0, 0], "page_views_28d": [0, 0]}
    >>> inputs = pa.table({**keys, **counts, "spend_28d": [90.0, 10.0], "ltv": [300.0, 100.0], "p_alive": [0.9, 0.5]})
    >>> kpis = profiles(in_memory(), members, inputs, {})
    >>> kpis.select(["micro_segment", "is_leaf", "customers", "revenue"]).to_pylist()[0]
    {'micro_segment': 'active', 'is_leaf': False, 'customers': 2, 'revenue': 100.0}
    """
    strings = engine.query(
        "SELECT DISTINCT micro_segment, stage FROM micro_segments WHERE is_primary ORDER BY micro_segment",
        micro_segments=micro_segments,
    ).to_pylist()
    readable = Names()
    rows = [
        {
            "leaf": row["micro_segment"],
            "prefix": prefix,
            "prefix_id": micro_segment_id(prefix),
            "name": names.get(prefix) or readable[prefix],
            "stage": row["stage"],
            "depth": depth,
        }
        for row in strings
        for depth, prefix in enumerate(prefixes(row["micro_segment"]))
    ]
    string = pa.string()
    schema = pa.schema(
        {"leaf": string, "prefix": string, "prefix_id": string, "name": string, "stage": string, "depth": pa.int64()}
    )
    kpis = engine.query(
        sql_of("ml.segments", "profiles"),
        members=micro_segments.select(["customer_id", "day", "micro_segment", "is_primary"]),
        inputs=_kpi_columns(reckon(inputs, of)),
        prefixes=pa.Table.from_pylist(rows, schema=schema),
    )
    return tables.MICRO_SEGMENT_PROFILES.conform(kpis).add_column(0, pa.field("day", pa.date32()), kpis["day"])


def _kpi_columns(inputs: pa.Table) -> pa.Table:
    """The columns of KPIs; older snapshots have no page views."""
    if "page_views_28d" not in inputs.column_names:
        inputs = inputs.append_column("page_views_28d", pa.nulls(inputs.num_rows, pa.int64()))
    return inputs.select(
        ["customer_id", "day", "orders_28d", "spend_28d", "events_28d", "page_views_28d", "ltv", "p_alive"]
    )

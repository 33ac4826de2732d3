"""Profiles: the KPIs of each micro-segment and of each prefix of its string.

Belongs here: sums over primary members. Does not belong here: names (see `names`).
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from ml import tables
from ml.engine import Engine, sql_of
from ml.segments.micro_segments import micro_segment_id, prefixes
from ml.segments.names import Names


def profiles(engine: Engine, micro_segments: pa.Table, inputs: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """KPIs per day of every string and of every prefix of one.

    Parameters
    ----------
    micro_segments : with day; only primary rows count, so the leaves of a day add up to its known customers
    inputs : `layer_inputs` of the same customers and days
    names : string or prefix → name (`LayerModels.names()`); for one that is not in it, the string is made readable

    Returns
    -------
    day and the columns of `micro_segment_profiles`, by day and string. `is_leaf`: it is a customer's whole string; rows
    of one `depth` that are not leaves are prefixes. Sums of the leaves, and of depth 0, are those of everybody.
    """
    strings = engine.query(
        "SELECT DISTINCT micro_segment, stage FROM micro_segments WHERE is_primary ORDER BY micro_segment",
        micro_segments=micro_segments,
    ).to_pylist()
    plain = Names()
    rows = [
        {
            "leaf": row["micro_segment"],
            "prefix": prefix,
            "prefix_id": micro_segment_id(prefix),
            "name": names.get(prefix) or plain[prefix],
            "stage": row["stage"],
            "depth": depth,
        }
        for row in strings
        for depth, prefix in enumerate(prefixes(row["micro_segment"]))
    ]
    text = pa.string()
    schema = pa.schema(
        {"leaf": text, "prefix": text, "prefix_id": text, "name": text, "stage": text, "depth": pa.int64()}
    )
    found = engine.query(
        sql_of("ml.segments", "profiles"),
        members=micro_segments.select(["customer_id", "day", "micro_segment", "is_primary"]),
        inputs=_looked_at(inputs),
        prefixes=pa.Table.from_pylist(rows, schema=schema),
    )
    return tables.MICRO_SEGMENT_PROFILES.conform(found).add_column(0, pa.field("day", pa.date32()), found["day"])


def _looked_at(inputs: pa.Table) -> pa.Table:
    """The columns that KPIs are made of; page views are missing in snapshots of before they were counted."""
    if "page_views_28d" not in inputs.column_names:
        inputs = inputs.append_column("page_views_28d", pa.nulls(inputs.num_rows, pa.int64()))
    return inputs.select(
        ["customer_id", "day", "orders_28d", "spend_28d", "events_28d", "page_views_28d", "ltv", "p_alive"]
    )

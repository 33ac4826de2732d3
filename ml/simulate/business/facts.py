"""What a drawn block of customers has done, as the facts that models learn from.

Belongs here: the way past files and sources. Does not belong here: drawing, and writing (see `rows`, `writing`).
"""

from __future__ import annotations

from ml import tables
from ml.engine import Engine
from ml.features import CustomerHistory, FeatureSpec
from ml.simulate.retail import Simulated


def facts_of(engine: Engine, block: Simulated) -> CustomerHistory:
    """The facts of a block; a stamp's own date is its day."""
    inputs = {}
    for name, table in tables.INPUTS.items():
        rows = block.tables.get(name, table.schema().empty_table())
        inputs[name] = engine.query(
            f"""
            SELECT * REPLACE (CAST(customer_id AS VARCHAR) AS customer_id), CAST({table.stamp} AS DATE) AS day FROM rows
            """,
            rows=rows,
        )
    return CustomerHistory.from_rows(engine, FeatureSpec(), **inputs)

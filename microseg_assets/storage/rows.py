"""Small operations on rows that several bodies share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from ml.engine import Engine


def filter_days(rows: pa.Table, days: Sequence[date]) -> pa.Table:
    """The rows of some days."""
    return rows.filter(pc.is_in(rows["day"], pa.array(list(days), pa.date32())))


def filter_primary(rows: pa.Table) -> pa.Table:
    """The primary row of each customer."""
    return rows.filter(rows["is_primary"])


def count_by(engine: Engine, rows: pa.Table, column: str) -> dict[str, int]:
    """The number of rows per value of a column, the most frequent first."""
    counts = engine.query(
        f"""
        SELECT {column} AS value, COUNT(*) AS n FROM rows WHERE {column} IS NOT NULL
        GROUP BY {column} ORDER BY n DESC, value
        """,
        rows=rows,
    )
    return {str(row["value"]): row["n"] for row in counts.to_pylist()}

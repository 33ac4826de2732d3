"""What Dagster shows with an asset and its partitions: columns, counts, links, small tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg

from ml.tables import Table


def of_table(table: Table) -> dict[str, Any]:
    """The metadata of an asset that writes `table`: its columns with types and meanings, as the table declares them."""
    columns = [
        dg.TableColumn(
            column.name,
            column.type,
            description=f"{column.meaning} [{column.unit}]" if column.unit else column.meaning,
            constraints=dg.TableColumnConstraints(nullable=not column.required),
        )
        for column in table.columns
    ]
    return {"dagster/column_schema": dg.TableSchema(columns), "table": table.meaning}


def values(notes: Mapping[str, Any]) -> dict[str, Any]:
    """Notes on a partition as Dagster metadata; those that are None are left out."""
    return {name: _value(value) for name, value in notes.items() if value is not None}


def _value(value: Any) -> Any:
    if isinstance(value, dg.MetadataValue):
        return value
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, date):
        return dg.MetadataValue.text(value.isoformat())
    if isinstance(value, Mapping):
        lines = ["| | |", "|---|---:|", *(f"| {k} | {_format_cell(v)} |" for k, v in value.items())]
        return dg.MetadataValue.md("\n".join(lines))
    if isinstance(value, (int, float, str)):
        return value
    return dg.MetadataValue.text(str(value))


def _format_cell(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)

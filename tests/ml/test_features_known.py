"""What is known of a customer on a day: attributes from the day of their export on."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa

from ml import tables
from ml.engine import DuckDB
from ml.features import Attribute, Facts, FeatureSpec

FIRST = date(2024, 1, 1)
ENGINE = DuckDB(threads=1)


def facts(spec: FeatureSpec, lines: list[dict[str, Any]], people: list[dict[str, Any]] = ()) -> Facts:  # type: ignore[assignment]
    inputs = {}
    for name, table in tables.INPUTS.items():
        schema = pa.schema([*table.schema(), pa.field("day", pa.date32())])
        if name == "customers":
            kinds = {"string": pa.string(), "double": pa.float64(), "boolean": pa.bool_()}
            schema = pa.schema([*schema, *(pa.field(a.name, kinds[a.type]) for a in spec.attributes)])
        rows = lines if name == "transactions" else people if name == "customers" else ()
        inputs[name] = pa.Table.from_pylist(list(rows), schema=schema)
    return Facts.from_rows(ENGINE, spec, **inputs)


def line(id_: str, day: int, amount: float = 10.0, *, hour: int = 12, order: str | None = None) -> dict[str, Any]:
    on = FIRST + timedelta(days=day)
    at = datetime(on.year, on.month, on.day, hour)
    return {"customer_id": id_, "occurred_at": at, "amount": amount, "order_id": order, "day": on}


def test_an_attribute_is_known_from_the_day_of_its_export_on_unless_it_is_timeless() -> None:
    spec = FeatureSpec(
        attributes=(Attribute("spent", "double", known_from=FIRST + timedelta(days=30)), Attribute("region"))
    )
    people = [{"customer_id": "a", "day": FIRST, "registered_at": datetime(2024, 1, 1), "spent": 99.0, "region": "N"}]
    known = facts(spec, [line("a", 0), line("a", 40)], people)
    for day, spent in ((0, None), (29, None), (30, 99.0), (45, 99.0)):
        (row,) = known.snapshot_of(FIRST + timedelta(days=day)).select(["spent", "region"]).to_pylist()
        assert row == {"spent": spent, "region": "N"}, day

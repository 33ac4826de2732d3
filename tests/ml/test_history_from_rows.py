"""A history from the rows that a business has: tables and columns that it lacks need not be made up."""

from __future__ import annotations

from datetime import date, datetime

import pyarrow as pa
import pytest

from ml import tables
from ml.engine import DuckDB
from ml.features import Attribute, CustomerHistory, FeatureSpec

LATE = datetime(2024, 1, 2, 23, 30)
BOUGHT = pa.table({"amount": [5, 7], "customer_id": ["a", "b"], "occurred_at": [datetime(2024, 1, 1), LATE]})


def test_what_is_not_there_is_null_and_the_day_is_that_of_the_stamp() -> None:
    rows = tables.TRANSACTIONS.filled(BOUGHT.append_column("colour", pa.array(["red", "blue"])))
    assert rows.schema == tables.TRANSACTIONS.empty_days().schema
    assert rows["day"].to_pylist() == [date(2024, 1, 1), date(2024, 1, 2)]
    assert rows["amount"].to_pylist() == [5.0, 7.0]
    assert rows["order_id"].null_count == rows.num_rows


def test_a_day_that_is_there_stays() -> None:
    days = pa.array([date(2024, 1, 1), date(2024, 1, 3)])  # in a zone east of Greenwich
    assert tables.TRANSACTIONS.filled(BOUGHT.append_column("day", days))["day"].to_pylist() == days.to_pylist()


def test_a_required_column_must_be_there() -> None:
    with pytest.raises(ValueError, match="transactions lacks occurred_at"):
        tables.TRANSACTIONS.filled(BOUGHT.drop_columns(["occurred_at"]))


@pytest.mark.parametrize("spec", [FeatureSpec(), FeatureSpec(attributes=(Attribute("city"),))])
def test_a_business_with_purchases_alone_has_the_history_of_one_whose_other_tables_are_empty(spec: FeatureSpec) -> None:
    bought = tables.TRANSACTIONS.filled(BOUGHT)
    empty = {name: table.empty_days() for name, table in tables.INPUTS.items()} | {"transactions": bought}
    for attribute in spec.attributes:
        empty["customers"] = empty["customers"].append_column(attribute.name, pa.array([], pa.string()))
    alone = CustomerHistory.from_rows(DuckDB(), spec, transactions=bought)
    assert alone.snapshot_of(LATE.date()).equals(
        CustomerHistory.from_rows(DuckDB(), spec, **empty).snapshot_of(LATE.date())
    )
    assert alone.snapshot_of(LATE.date())["spend_28d"].to_pylist() == [5.0, 7.0]

"""Ids that are no customers: left out into quarantine, nothing lost, and no reason to refuse a day."""

from __future__ import annotations

from datetime import date, datetime

import pyarrow as pa
import pytest

from expectations import CustomerIdsSpec, ValidationSpec, validate
from ml import tables
from ml.engine import DuckDB

DAY = date(2024, 5, 1)


def delivered(ids: list[str]) -> pa.Table:
    n = len(ids)
    rows = {
        "customer_id": ids, "occurred_at": [datetime(2024, 5, 1, 9)] * n, "amount": [float(i + 1) for i in range(n)],
        "day": [DAY] * n, "source": ["sales.csv"] * n, "problem": [None] * n, "delivered": [None] * n,
    }  # fmt: skip
    schema = [pa.field("day", pa.date32()), *(pa.field(c, pa.string()) for c in ("source", "problem", "delivered"))]
    schema = pa.schema([*tables.TRANSACTIONS.schema(), *schema])
    return pa.table({name: rows.get(name, [None] * n) for name in schema.names}, schema=schema)


def judge(ids: list[str], **ids_spec: object) -> tuple[list[str], dict[str, str], bool]:
    """Accepted ids; id to rule of the refused ones; whether the day passes."""
    rows = delivered(ids)
    spec = ValidationSpec(ids=CustomerIdsSpec(**ids_spec))  # type: ignore[arg-type]
    result = validate(DuckDB(), tables.TRANSACTIONS, rows, [DAY], spec)
    assert result.accepted.num_rows + result.refused.num_rows == len(ids), "nothing is lost"
    refused = dict(zip(ids_of(result.refused), result.refused["rule"].to_pylist(), strict=True))
    return result.accepted["customer_id"].to_pylist(), refused, result.verdicts[DAY].passed


def ids_of(refused: pa.Table) -> list[str]:
    import json

    return [json.loads(row)["customer_id"] for row in refused["row"].to_pylist()]


def test_listed_ids_go_to_quarantine_and_do_not_count_against_the_day() -> None:
    ids = ["a", "NULL", "n/a", "-1", "GUEST", " guest ", "b"]
    accepted, refused, passed = judge(ids, not_customers=("null", "N/A", "-1", "guest"))
    assert accepted == ["a", "b"] and passed
    assert set(refused.values()) == {"customer_id: not a customer"} and len(refused) == 5


def test_ids_that_a_spreadsheet_has_rounded_are_left_out_where_that_is_asked_for() -> None:
    ids = ["4.10003E+12", "4,1E+12", "41000312", "E12", "4E12X", "a"]
    accepted, refused, passed = judge(ids, rounded="refuse")
    assert accepted == ["41000312", "E12", "4E12X", "a"] and passed
    assert set(refused.values()) == {"customer_id: rounded by a spreadsheet"}


def test_without_the_setting_every_id_is_a_customer() -> None:
    ids = ["NULL", "-1", "4.10003E+12", "a"]
    assert sorted(judge(ids)[0]) == sorted(ids)


@pytest.mark.parametrize("rule", ["customer_id: not a customer"])
def test_that_it_counts_can_be_said(rule: str) -> None:
    spec = ValidationSpec(ids=CustomerIdsSpec(not_customers=("null",)), severity={rule: "error"}, min_refused_rows=1)
    assert not validate(DuckDB(), tables.TRANSACTIONS, delivered(["null", "a"]), [DAY], spec).verdicts[DAY].passed


def test_ids_of_hexadecimal_digits_are_not_taken_for_rounded_numbers() -> None:
    ids = ["12e45678", "0003E400", "9e7", "4.1e12", "4E+12"]
    assert judge(ids, rounded="refuse")[0] == ["12e45678", "0003E400", "9e7"]

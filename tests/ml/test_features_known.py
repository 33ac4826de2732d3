"""What is known of a customer on a day: attributes from the day of their export on, an order from its first line on."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml import tables
from ml.engine import DuckDB
from ml.features import Attribute, CustomerHistory, FeatureSpec, day_facts, repeated_orders

FIRST = date(2024, 1, 1)
ENGINE = DuckDB(threads=1)


def facts(spec: FeatureSpec, lines: list[dict[str, Any]], people: list[dict[str, Any]] = ()) -> CustomerHistory:  # type: ignore[assignment]
    inputs = {}
    for name, table in tables.INPUTS.items():
        schema = pa.schema([*table.schema(), pa.field("day", pa.date32())])
        if name == "customers":
            kinds = {"string": pa.string(), "double": pa.float64(), "boolean": pa.bool_()}
            schema = pa.schema([*schema, *(pa.field(a.name, kinds[a.type]) for a in spec.attributes)])
        rows = lines if name == "transactions" else people if name == "customers" else ()
        inputs[name] = pa.Table.from_pylist(list(rows), schema=schema)
    return CustomerHistory.from_rows(ENGINE, spec, **inputs)


def line(id_: str, day: int, amount: float = 10.0, *, hour: int = 12, order: str | None = None) -> dict[str, Any]:
    on = FIRST + timedelta(days=day)
    stamp = datetime(on.year, on.month, on.day, hour)
    return {"customer_id": id_, "occurred_at": stamp, "amount": amount, "order_id": order, "day": on}


def test_an_attribute_is_known_from_the_day_of_its_export_on_unless_it_is_timeless() -> None:
    spec = FeatureSpec(
        attributes=(Attribute("spent", "double", known_from=FIRST + timedelta(days=30)), Attribute("region"))
    )
    people = [{"customer_id": "a", "day": FIRST, "registered_at": datetime(2024, 1, 1), "spent": 99.0, "region": "N"}]
    known = facts(spec, [line("a", 0), line("a", 40)], people)
    for day, spent in ((0, None), (29, None), (30, 99.0), (45, 99.0)):
        (row,) = known.snapshot_of(FIRST + timedelta(days=day)).select(["spent", "region"]).to_pylist()
        assert row == {"spent": spent, "region": "N"}, day


# ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────

FEATURES = ("orders", "purchase_days", "spend", "recency_days", "tenure_days", "mean_gap_days")


def known(lines: list[dict[str, Any]], day: int, spec: FeatureSpec | None = None) -> dict[str, Any]:
    (row,) = facts(spec or FeatureSpec(), lines).snapshot_of(FIRST + timedelta(days=day)).to_pylist()
    return {name: row[name] for name in FEATURES}


def test_an_order_around_midnight_is_one_on_its_first_day() -> None:
    lines = [line("a", 0, 20.0, hour=23, order="o1"), line("a", 1, 5.0, hour=0, order="o1")]
    assert known(lines, 1) == {
        "orders": 1, "purchase_days": 1, "spend": 25.0, "recency_days": 1, "tenure_days": 1, "mean_gap_days": None,
    }  # fmt: skip


def test_an_order_that_comes_in_five_parts_is_one_and_makes_no_rhythm() -> None:
    lines = [line("a", 7 * i, 10.0, order="o1") for i in range(5)]
    row = known(lines, 40)
    assert (row["orders"], row["purchase_days"], row["spend"], row["mean_gap_days"]) == (1, 1, 50.0, None)
    again = [*lines, line("a", 33, 10.0, order="o2")]
    assert (known(again, 40)["orders"], known(again, 40)["mean_gap_days"]) == (2, 33.0)


@pytest.mark.parametrize(("within", "orders"), [(30, 2), (50, 1), (0, 2)])
def test_an_id_that_comes_again_much_later_is_an_order_of_its_own(within: int, orders: int) -> None:
    """Tills start to number their receipts from 1 again."""
    lines = [line("a", 0, order="17"), line("a", 45, order="17")]
    assert known(lines, 60, FeatureSpec(order_days=within))["orders"] == orders


def test_orders_of_other_customers_refunds_and_lines_without_an_id_stay_as_they_were() -> None:
    lines = [line("a", 0, order="1"), line("b", 1, order="1")]
    assert [r["orders"] for r in facts(FeatureSpec(), lines).snapshot_of(FIRST + timedelta(days=9)).to_pylist()] == [
        1,
        1,
    ]
    assert known([line("a", 0, 20.0, order="1"), line("a", 2, -5.0, order="1")], 9)["orders"] == 1
    assert known([line("a", 0, -5.0, order="1"), line("a", 2, 20.0, order="1")], 9)["recency_days"] == 7
    assert known([line("a", 0), line("a", 1)], 9)["orders"] == 2


LINES = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 70), st.integers(-3, 9), st.sampled_from(["x", "y", None])),
    min_size=1, max_size=14,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(LINES, st.integers(0, 70))
def test_what_comes_later_changes_no_order_of_a_day(drawn: list[tuple[str, int, int, str | None]], day: int) -> None:
    lines = [line(id_, on, float(amount), order=order) for id_, on, amount, order in drawn]
    before = [one for one in lines if one["day"] <= FIRST + timedelta(days=day)]
    if before:
        wanted = FIRST + timedelta(days=day)
        assert facts(FeatureSpec(), lines).snapshot_of(wanted) == facts(FeatureSpec(), before).snapshot_of(wanted)


@settings(max_examples=25, deadline=None)
@given(LINES)
def test_facts_day_by_day_give_what_facts_of_the_whole_history_do(
    drawn: list[tuple[str, int, int, str | None]],
) -> None:
    """As the lake holds them: each day by itself, with the parts of orders looked up over the days so far."""
    assert_day_by_day_is_the_whole(drawn, FeatureSpec())


@settings(max_examples=25, deadline=None)
@given(LINES)
@example([("a", 1, 10, "A"), ("a", 5, 20, "A"), ("a", 8, -20, None)])
def test_facts_day_by_day_do_so_where_a_refund_undoes_a_later_part_of_an_order(
    drawn: list[tuple[str, int, int, str | None]],
) -> None:
    assert_day_by_day_is_the_whole(drawn, FeatureSpec(undo_within_days=7))


def assert_day_by_day_is_the_whole(drawn: list[tuple[str, int, int, str | None]], spec: FeatureSpec) -> None:
    lines = [line(id_, on, float(amount), order=order) for id_, on, amount, order in drawn]
    whole = facts(spec, lines)
    empty = {
        name: pa.schema([*tables.INPUTS[name].schema(), pa.field("day", pa.date32())]).empty_table()
        for name in ("customers", "events", "exposures", "balances")
    }
    schema = pa.schema([*tables.TRANSACTIONS.schema(), pa.field("day", pa.date32())])
    days = sorted({one["day"] for one in lines})
    each = [
        day_facts(
            ENGINE,
            transactions=pa.Table.from_pylist([one for one in lines if one["day"] == day], schema=schema),
            **empty,
        )
        for day in days
    ]
    customer_days = pa.concat_tables([one.customer_days for one in each])
    day_by_day = CustomerHistory(
        ENGINE, spec, customer_days, pa.concat_tables([one.category_days for one in each]), whole.customers,
        repeated_orders(ENGINE, pa.concat_tables([one.order_days for one in each]), 30), whole.undone_orders,
    )  # fmt: skip
    assert day_by_day.snapshot_of(*days) == whole.snapshot_of(*days)


def test_rows_without_a_day_are_completed_with_one_or_refused_and_never_lost() -> None:
    who = pa.table({"customer_id": ["a", "b"]})
    with pytest.raises(ValueError, match="2 rows of customers have no day"):
        tables.CUSTOMERS.filled(who)
    assert tables.CUSTOMERS.filled(who, date(2024, 1, 1))["day"].to_pylist() == [date(2024, 1, 1)] * 2

"""Claims about refunds that undo an order: it counts until the day of the refund, and no longer from then on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec
from ml.lifecycle import LifecycleSpec, assign_stages
from ml.value import ValueSpec, baseline

ENGINE = DuckDB(threads=1)
LAST = date(2024, 12, 31)
OrderLine = tuple[datetime, float, str]  # stamp, amount, order


def facts_of(lines: Sequence[OrderLine], within: int | None) -> CustomerHistory:
    """Facts of one customer's lines; every order is an invoice of its own."""

    def table(name: str, columns: dict[str, Sequence[Any]], days: Sequence[date]) -> pa.Table:
        schema = tables.INPUTS[name].schema()
        arrays = {f.name: pa.array(columns.get(f.name, [None] * len(days)), f.type) for f in schema}
        return pa.table(arrays).append_column("day", pa.array(days, pa.date32()))

    inputs = {name: table(name, {}, []) for name in tables.INPUTS}
    inputs["transactions"] = table(
        "transactions",
        {
            "customer_id": ["a"] * len(lines),
            "occurred_at": [stamp for stamp, *_ in lines],
            "amount": [amount for _, amount, _ in lines],
            "order_id": [order for *_, order in lines],
        },
        [stamp.date() for stamp, *_ in lines],
    )
    return CustomerHistory.from_rows(ENGINE, FeatureSpec(undo_within_days=within), **inputs)


def on(day: date, *lines: OrderLine, within: int | None = 7) -> dict[str, Any]:
    row: dict[str, Any] = facts_of(lines, within).snapshot_of(day).to_pylist()[0]
    return row


def stage(day: date, *lines: OrderLine, within: int | None = 7) -> tuple[str, str]:
    features = facts_of(lines, within).snapshot_of(day)
    row = assign_stages(ENGINE, features, baseline(features, ValueSpec()), None, LifecycleSpec()).to_pylist()[0]
    return row["stage"], row["sub_stage"]


def stamp_of(back: int, minute: int = 0) -> datetime:
    return datetime.combine(LAST - timedelta(days=back), datetime.min.time()) + timedelta(hours=10, minutes=minute)


BIG = (stamp_of(3), 168_469.60, "541431"), (stamp_of(3, 12), -168_469.60, "C541433")


def test_an_order_that_is_cancelled_in_full_12_minutes_later_under_another_invoice_is_none() -> None:
    row = on(LAST, *BIG)
    assert (row["orders"], row["recency_days"], row["spend"]) == (0, None, 0.0)
    assert stage(LAST, *BIG) == ("no-sale", "all-returned")
    assert on(LAST, *BIG, within=0)["orders"] == 0, "the same day is within 0 days"


def test_without_the_setting_every_order_stays_one() -> None:
    assert on(LAST, *BIG, within=None)["recency_days"] == 3
    assert FeatureSpec().undo_within_days is None


def test_an_earlier_order_stays_what_the_customer_is_known_by() -> None:
    row = on(LAST, (stamp_of(60), 20.0, "1"), *BIG)
    assert (row["orders"], row["recency_days"], row["tenure_days"], row["spend"]) == (1, 60, 60, 20.0)


def test_it_is_an_order_until_the_day_that_takes_it_away() -> None:
    lines = (stamp_of(20), 50.0, "1"), (stamp_of(15), -50.0, "2")
    known = {back: on(LAST - timedelta(days=back), *lines)["orders"] for back in (20, 16, 15, 0)}
    assert known == {20: 1, 16: 1, 15: 0, 0: 0}


def test_a_refund_too_late_or_of_another_amount_undoes_nothing() -> None:
    assert on(LAST, (stamp_of(20), 50.0, "1"), (stamp_of(12), -50.0, "2"))["orders"] == 1
    assert on(LAST, (stamp_of(20), 50.0, "1"), (stamp_of(19), -49.99, "2"))["orders"] == 1
    assert on(LAST, (stamp_of(19), 50.0, "1"), (stamp_of(20), -50.0, "2"))["orders"] == 1, "a refund before the order"


def test_of_two_equal_orders_one_refund_takes_the_newer() -> None:
    row = on(LAST, (stamp_of(30), 50.0, "1"), (stamp_of(20), 50.0, "2"), (stamp_of(19), -50.0, "3"))
    assert (row["orders"], row["recency_days"], row["spend"]) == (1, 30, 50.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 25), st.sampled_from([-10, 10, -20, 20])), min_size=1, max_size=9))
def test_refunds_undo_what_matching_them_one_by_one_undoes(steps: list[tuple[int, int]]) -> None:
    lines = [(stamp_of(back, number), float(amount), str(number)) for number, (back, amount) in enumerate(steps)]
    open_: dict[float, list[datetime]] = {}
    undone = 0
    for stamp, amount, _ in sorted(lines):
        waiting = open_.setdefault(abs(amount), [])
        if amount > 0:
            waiting.append(stamp)
        elif waiting and (stamp.date() - waiting.pop().date()).days <= 7:
            undone += 1
    assert on(LAST, *lines)["orders"] == sum(amount > 0 for _, amount, _ in lines) - undone


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(5, 25), st.sampled_from([-10, 10])), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([-10, 10])), max_size=4),
)
def test_what_comes_later_changes_no_earlier_day_and_several_days_are_as_each_alone(
    before: list[tuple[int, int]], after: list[tuple[int, int]]
) -> None:
    lines = [(stamp_of(back, n), float(amount), str(n)) for n, (back, amount) in enumerate([*before, *after])]
    day = LAST - timedelta(days=5)
    assert on(day, *lines) == on(day, *lines[: len(before)])
    facts = facts_of(lines, 7)
    together = facts.snapshot_of(day, LAST)
    for one in (day, LAST):
        alone = facts.snapshot_of(one)
        assert together.filter(pc.equal(together["day"], pa.scalar(one))).to_pylist() == alone.to_pylist()

"""Audiences and the facts they stand on, and the KPIs of micro-segments and their prefixes."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec
from ml.rules import RuleError
from ml.segments import DEFAULT_AUDIENCES, AudienceSpec, audiences, profiles
from ml.segments.audiences import expand_patterns

ENGINE = DuckDB()
DAY = date(2024, 3, 1)
CART = AudienceSpec("cart_abandoners", "days_since_cart <= 28 AND COALESCE(recency_days > days_since_cart, TRUE)")


def some_facts(
    bought: list[tuple[str, date, float]], seen: list[tuple[str, date, str]], categories: tuple[str, ...] = ()
) -> CustomerHistory:
    def rows(table: tables.Table, records: list[dict[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist(records, table.schema().append(pa.field("day", pa.date32())))

    lines = [
        {"customer_id": customer, "day": day, "occurred_at": datetime.combine(day, time(12)), "amount": amount,
         "order_id": str(n), "category": categories[n % len(categories)] if categories else None}
        for n, (customer, day, amount) in enumerate(bought)
    ]  # fmt: skip
    events = [
        {"customer_id": customer, "day": day, "occurred_at": datetime.combine(day, time(9)), "event_type": kind}
        for customer, day, kind in seen
    ]
    empty = {name: rows(tables.INPUTS[name], []) for name in ("customers", "exposures", "balances")}
    return CustomerHistory.from_rows(
        ENGINE,
        FeatureSpec(categories),
        transactions=rows(tables.TRANSACTIONS, lines),
        events=rows(tables.EVENTS, events),
        **empty,
    )


def before(days: int) -> date:
    return DAY - timedelta(days=days)


def members(rows: pa.Table) -> dict[str, set[str]]:
    result: dict[str, set[str]] = {}
    for row in rows.to_pylist():
        result.setdefault(row["audience"], set()).add(row["customer_id"])
    return result


# ── cart abandoners, and what an event was ────────────────────────────────────────────────────────────────────────


def test_a_cart_without_a_purchase_since_is_abandoned() -> None:
    facts = some_facts(
        bought=[("bought after", before(2), 5.0), ("same day", before(5), 5.0), ("bought before", before(9), 5.0)],
        seen=[
            ("bought after", before(5), "add_to_cart"),
            ("same day", before(5), "Checkout started"),
            ("bought before", before(5), "add_to_cart"),
            ("never bought", before(5), "basket_add"),
            ("long ago", before(40), "add_to_cart"),
            ("took it out", before(5), "remove_from_cart"),
            ("looked", before(5), "view_cart"),
            ("visited", before(5), "visit"),
        ],
    )
    rows = audiences(ENGINE, facts.snapshot_of(DAY), (CART,))
    assert members(rows) == {"cart_abandoners": {"bought before", "never bought"}}


def test_a_cart_tomorrow_makes_nobody_an_abandoner_today() -> None:
    seen = [("a", before(1), "visit"), ("a", DAY + timedelta(1), "add_to_cart")]
    facts = some_facts(bought=[("a", before(9), 5.0)], seen=seen)
    row = facts.snapshot_of(DAY).to_pylist()[0]
    assert (row["days_since_cart"], row["page_views_28d"], row["events_28d"]) == (None, 1, 1)
    later = facts.snapshot_of(DAY + timedelta(1)).to_pylist()[0]
    assert later["days_since_cart"] == 0


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("page_view", (1, None, 0)),
        ("Product Viewed", (1, None, 0)),
        ("visit", (1, None, 0)),
        ("AddToCart", (0, 3, 0)),
        ("begin_checkout", (0, 3, 0)),
        ("coupon_redemption", (0, None, 1)),
        ("voucher redeemed", (0, None, 1)),
        ("wager", (0, None, 0)),
    ],
)
def test_what_an_event_was_is_read_from_its_type(kind: str, facts: tuple[int, int | None, int]) -> None:
    row = some_facts([("a", before(9), 1.0)], [("a", before(3), kind)]).snapshot_of(DAY).to_pylist()[0]
    assert (row["page_views_28d"], row["days_since_cart"], row["redemptions_90d"]) == facts
    assert row["events_28d"] == 1


def test_without_events_nobody_is_an_abandoner_and_the_rest_works() -> None:
    facts = some_facts([(f"c{n}", before(day), 9.0) for n in range(4) for day in range(1, 28, 3)], [])
    table = facts.snapshot_of(DAY)
    specs = (CART, AudienceSpec("frequent", "purchase_days_28d >= 4"))
    assert members(audiences(ENGINE, table, specs)) == {"frequent": {"c0", "c1", "c2", "c3"}}


# ── one rule for many columns ─────────────────────────────────────────────────────────────────────────────────────

TOP = AudienceSpec(
    "top_spenders_*",
    "share_* >= 0.05 AND share_* * spend_90d >= 4 * $median_share_* * $median_spend_90d",
    "spend most on *",
)


def test_top_spenders_of_each_category_are_audiences_of_their_own() -> None:
    bought = [(f"c{n}", before(1 + half), 10.0 + 0.1 * n) for n in range(9) for half in range(2)]
    bought += [("meat lover", before(4), 0.5), ("meat lover", before(3), 900.0)]
    table = some_facts(bought, [], ("FUEL", "MEAT-PCKGD")).snapshot_of(DAY)
    assert members(audiences(ENGINE, table, (TOP,))) == {"top_spenders_meat_pckgd": {"meat lover"}}


def test_a_rule_for_many_columns_vanishes_where_there_are_none() -> None:
    table = some_facts([("a", before(1), 5.0)], []).snapshot_of(DAY)
    assert audiences(ENGINE, table, (TOP,)).num_rows == 0


def test_a_pattern_is_the_same_column_throughout_and_names_the_audience() -> None:
    expanded = expand_patterns((TOP, AudienceSpec("plain", "spend > 2")), ["spend_90d", "share_fuel", "share_deli"])
    assert [one.name for one in expanded] == ["top_spenders_fuel", "top_spenders_deli", "plain"]
    assert (
        expanded[0].when
        == "share_fuel >= 0.05 AND share_fuel * spend_90d >= 4 * $median_share_fuel * $median_spend_90d"
    )
    assert expanded[1].description == "spend most on deli"


@pytest.mark.parametrize("name", ["top", "top_*"])
def test_two_patterns_or_a_name_without_room_are_refused_with_a_way_out(name: str) -> None:
    when = "share_* > 0.5" if name == "top" else "share_* > orders_*"
    with pytest.raises(RuleError, match="write one pattern"):
        expand_patterns((AudienceSpec(name, when),), ["share_fuel", "orders_28d"])


def test_multiplication_is_no_pattern() -> None:
    spec = AudienceSpec("x", "orders_28d * 2 > spend_28d*3")
    assert expand_patterns((spec,), ["orders_28d", "spend_28d"]) == (spec,)


def test_default_audiences_hold_on_a_bare_business_and_on_nobody() -> None:
    from ml.layers import SegmentSpec
    from ml.lifecycle import LifecycleSpec
    from ml.restate import Models, Specs
    from ml.value import ValueSpec

    models = Models(None, None, None, Specs(ValueSpec(), LifecycleSpec(), SegmentSpec()))
    facts = some_facts([(f"c{n}", before(day), 9.0 + n) for n in range(6) for day in range(1, 60, 2 + n)], [])
    for day in (DAY, before(400)):
        table = models.inputs_of(ENGINE, facts.snapshot_of(day))
        rows = audiences(ENGINE, table, (*DEFAULT_AUDIENCES, CART, TOP))
        assert (rows.num_rows > 0) == (day == DAY)


# ── profiles ──────────────────────────────────────────────────────────────────────────────────────────────────────

_CUSTOMER = st.tuples(
    st.sampled_from(["active/v.A/e.A", "active/v.A/e.B", "active/v.B/e.A", "churn"]),
    st.integers(0, 3),
    st.sampled_from([0.0, 1.5, 20.0, 300.25]),
    st.integers(0, 5),
    st.sampled_from([0.0, 10.0, 10.0, 55.5]),
)


def profiled(customers: list[tuple[str, int, float, int, float]]) -> list[dict[str, Any]]:
    ids = [f"c{n:03d}" for n in range(len(customers))]
    days = pa.array([DAY] * len(ids), pa.date32())
    column = list(zip(*customers, strict=True)) if customers else [(), (), (), (), ()]
    text = pa.array(column[0], pa.string())
    stage = pa.array([one.split("/")[0] for one in column[0]], pa.string())
    primary = pa.array([True] * len(ids), pa.bool_())
    who = pa.array(ids, pa.string())
    strings = pa.table({"customer_id": who, "day": days, "micro_segment": text, "stage": stage, "is_primary": primary})
    inputs = pa.table(
        {
            "customer_id": who,
            "day": days,
            "orders_28d": pa.array(column[1], pa.int64()),
            "spend_28d": pa.array(column[2], pa.float64()),
            "events_28d": pa.array(column[3], pa.int64()),
            "page_views_28d": pa.array(column[3], pa.int64()),
            "ltv": pa.array(column[4], pa.float64()),
            "p_alive": pa.array([0.5] * len(ids), pa.float64()),
        }
    )
    return profiles(ENGINE, strings, inputs, {}).to_pylist()


@settings(max_examples=25, deadline=None)
@given(st.lists(_CUSTOMER, max_size=40))
def test_profiles_of_leaves_and_of_stages_add_up_to_everybody(customers: list[Any]) -> None:
    kpis = profiled(customers)
    for rows in ([row for row in kpis if row["is_leaf"]], [row for row in kpis if row["depth"] == 0]):
        assert sum(row["customers"] for row in rows) == len(customers)
        assert sum(row["orders"] for row in rows) == sum(one[1] for one in customers)
        assert sum(row["revenue"] for row in rows) == pytest.approx(sum(one[2] for one in customers))
        assert sum(row["ltv_tercile_low"] + row["ltv_tercile_mid"] + row["ltv_tercile_high"] for row in rows) == len(
            customers
        )
        total_ltv = sum(one[4] for one in customers)
        assert sum(row["ltv_share"] or 0 for row in rows) == pytest.approx(1.0 if total_ltv else 0.0)
        views = sum(one[3] for one in customers)
        seen = sum((row["page_views_per_customer"] or 0) * row["customers"] for row in rows)
        assert seen == pytest.approx(views)


def test_value_groups_are_thirds_of_the_day_and_equals_stay_together() -> None:
    customers = [("active", 0, 0.0, 0, float(worth)) for worth in (1, 2, 3, 4, 5, 6, 7, 8, 9)]
    row = profiled(customers)[0]
    assert (row["ltv_tercile_low"], row["ltv_tercile_mid"], row["ltv_tercile_high"]) == (3, 3, 3)
    same = profiled([("active", 0, 0.0, 0, 7.0)] * 5)[0]
    assert (same["ltv_tercile_low"], same["ltv_tercile_mid"], same["ltv_tercile_high"]) == (5, 0, 0)


def test_depth_and_is_leaf_distinguish_prefixes_from_whole_strings() -> None:
    kpis = {
        row["micro_segment"]: row for row in profiled([("active/v.A/e.A", 1, 10.0, 2, 5.0), ("churn", 0, 0.0, 0, 5.0)])
    }
    assert {name: (row["depth"], row["is_leaf"]) for name, row in kpis.items()} == {
        "active": (0, False),
        "active/v.A": (1, False),
        "active/v.A/e.A": (2, True),
        "churn": (0, True),
    }
    assert kpis["active/v.A"]["ltv_share"] == 0.5 and kpis["active/v.A"]["conversion"] == 1.0
    assert kpis["churn"]["average_order"] is None


def test_page_views_are_missing_where_the_business_counts_none() -> None:
    assert {row["page_views_per_customer"] for row in profiled([("active", 1, 10.0, 0, 5.0)])} == {None}

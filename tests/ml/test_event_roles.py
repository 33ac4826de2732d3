"""What types of events count as: guessed from their words, unless the project says so."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pytest

from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, EventRoles, FeatureSpec, guess_roles
from ml.features.event_roles import event_roles_table

ENGINE = DuckDB(threads=1)
DAY = date(2024, 3, 1)


def before(days: int) -> date:
    return DAY - timedelta(days=days)


def history(seen: list[tuple[str, date, str]], roles: EventRoles) -> CustomerHistory:
    events: list[dict[str, Any]] = [
        {"customer_id": who, "occurred_at": datetime.combine(day, time(9)), "event_type": kind}
        for who, day, kind in seen
    ]
    return CustomerHistory.from_rows(
        ENGINE,
        FeatureSpec(event_roles=roles),
        transactions=tables.TRANSACTIONS.empty_days(),
        events=tables.EVENTS.filled(pa.Table.from_pylist(events)),
    )


def test_a_listed_type_counts_as_its_role_and_the_others_are_guessed() -> None:
    roles = EventRoles(page_views=("screen",), carts=("wishlist",), redemptions=("stamp",), no_role=("page_error",))
    seen = [("a", before(n), kind) for n, kind in enumerate(("screen", "wishlist", "stamp", "page_error", "page_view"))]
    row = history(seen, roles).snapshot_of(DAY).to_pylist()[0]
    assert (row["page_views_28d"], row["days_since_cart"], row["redemptions_90d"], row["events_28d"]) == (2, 1, 1, 5)
    guessed = history(seen, EventRoles()).snapshot_of(DAY).to_pylist()[0]
    assert (guessed["page_views_28d"], guessed["days_since_cart"], guessed["redemptions_90d"]) == (2, None, 0), (
        "page_error and page_view"
    )


def test_a_listed_type_has_the_role_it_is_listed_under_and_no_other() -> None:
    """By its words a view of a coupon is both a page view and a redemption."""
    assert guess_roles("coupon_page") == ("page_views", "redemptions")
    assert EventRoles(page_views=("coupon_page",)).of("coupon_page") == ("page_views",)


def test_no_type_is_guessed_to_be_a_goal() -> None:
    assert "goals" not in guess_roles("goal")
    facts = history([("a", DAY, "goal"), ("a", DAY, "signup"), ("b", DAY, "goal")], EventRoles(goals=("signup",)))
    days = facts.customer_days
    assert isinstance(days, pa.Table)
    assert {row["customer_id"]: row["goals"] for row in days.to_pylist()} == {"a": 1, "b": 0}


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"carts": ("a",), "goals": ("a",)}, "'a' is listed in both carts and goals, but an event type has one role"),
        ({"goals": ("b", "b")}, "'b' is listed twice in goals"),
        ({"goals": ("c",), "no_role": ("c",)}, "'c' is listed in both goals and no_role"),
    ],
)
def test_a_type_has_one_role(roles: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EventRoles(**roles)


def test_types_are_as_delivered_and_a_listed_one_that_does_not_occur_is_named() -> None:
    roles = EventRoles(goals=("Signup",))
    assert roles.of("signup") == () and roles.of("Signup") == ("goals",)
    assert roles.absent(["signup", "visit"]) == {"Signup": "did you mean 'signup'?"}
    assert roles.absent(["Signup"]) == {}


def test_the_table_of_roles_has_each_type_once_and_none_that_is_missing() -> None:
    rows = event_roles_table(["b", None, "page", "b"], EventRoles(goals=("b",))).to_pylist()
    assert [(row["event_type"], row["is_page_view"], row["is_goal"]) for row in rows] == [("b", 0, 1), ("page", 1, 0)]

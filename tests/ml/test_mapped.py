"""Claims about the features of what a business maps of its events: visits, goals, devices, referrers, values."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, EventRoles, FeatureSpec, features_table, mapped_features, with_mapped_features
from ml.features.declared import DeclaredFeature, DeclaredSpec
from ml.features.mapped import REFERRER_DOMAIN

ENGINE = DuckDB(threads=1)
DAY = date(2024, 6, 30)
ALL = ("device", "os", "browser", "channel", "referrer", "campaign", "value")
VISITS = FeatureSpec(has_visits=True)


def history(events: Iterable[dict[str, Any]], spec: FeatureSpec = VISITS) -> CustomerHistory:
    rows = [{"customer_id": "a", "event_type": "view", **event} for event in events]
    names = tables.EVENTS.names
    columns = {
        name: pa.array([row.get(name) for row in rows], tables.EVENTS.schema().field(name).type) for name in names
    }
    columns |= {"day": pa.array([row.get("day", row["occurred_at"].date()) for row in rows], pa.date32())}
    return CustomerHistory.from_rows(
        ENGINE, spec, transactions=tables.TRANSACTIONS.empty_days(), events=tables.EVENTS.filled(pa.table(columns))
    )


def stamp_of(back: int, hour: int = 12, minute: int = 0, second: int = 0) -> datetime:
    return datetime.combine(DAY - timedelta(days=back), time(hour, minute, second))


def seen(*stamps: datetime, **more: Any) -> list[dict[str, Any]]:
    return [{"occurred_at": stamp, **more} for stamp in stamps]


def row_of(facts: CustomerHistory, day: date = DAY) -> dict[str, Any]:
    row: dict[str, Any] = facts.snapshot_of(day).to_pylist()[0]
    return row


# ── visits ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_visit_ends_with_30_minutes_of_silence() -> None:
    row = row_of(
        history(
            seen(
                stamp_of(3),
                stamp_of(3, 12, 29),
                stamp_of(3, 12, 58, 59),
                stamp_of(3, 13, 28, 59),
                stamp_of(3, 20),
                stamp_of(3, 20),
            )
        )
    )
    assert row["visits_28d"] == 3, "12:00 to 12:58:59, 13:28:59 after exactly half an hour, and 20:00"
    assert (row["visits_90d"], row["days_since_visit"], row["events_28d"]) == (3, 3, 6)


def test_a_visit_across_midnight_is_one_and_belongs_to_the_day_it_began() -> None:
    facts = history(seen(stamp_of(5, 23, 50), stamp_of(4, 0, 10), stamp_of(4, 0, 35), stamp_of(1, 9)))
    on = {back: row_of(facts, DAY - timedelta(days=back)) for back in (5, 4, 1)}
    assert [row["visits_28d"] for row in on.values()] == [1, 1, 2]
    assert [row["days_since_visit"] for row in on.values()] == [0, 1, 0]
    assert on[4]["days_since_event"] == 0


def test_a_night_of_events_is_one_visit_however_many_days_it_touches() -> None:
    stamps = [
        stamp_of(4, 23) + timedelta(minutes=20 * step) for step in range(200)
    ]  # nearly three days without a pause
    row = row_of(history(seen(*stamps)))
    assert (row["visits_28d"], row["days_since_visit"]) == (1, 4)


def test_the_visits_of_a_customer_are_their_own() -> None:
    facts = history([*seen(stamp_of(5, 23, 50)), *seen(stamp_of(4, 0, 10), customer_id="b")])
    assert facts.snapshot_of(DAY)["visits_28d"].to_pylist() == [1, 1]


def test_windows_of_visits_end_where_those_of_events_do() -> None:
    row = row_of(history(seen(stamp_of(0), stamp_of(27), stamp_of(28), stamp_of(89), stamp_of(90))))
    assert (row["visits_28d"], row["visits_90d"], row["events_28d"], row["events_90d"]) == (2, 4, 2, 4)


def test_a_day_in_the_projects_zone_may_begin_in_the_middle_of_one_in_utc() -> None:
    noon = stamp_of(3, 12)  # the project's day begins at noon UTC
    before, after = noon - timedelta(minutes=10), noon + timedelta(minutes=10)
    events: list[dict[str, Any]] = [
        {"occurred_at": before, "day": before.date() - timedelta(days=1)},
        {"occurred_at": after},
    ]
    assert row_of(history(events))["visits_28d"] == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4 * 24 * 60), min_size=1, max_size=30), st.integers(0, 4))
def test_visits_are_those_counted_one_event_after_the_other(minutes: list[int], back: int) -> None:
    stamps = [stamp_of(4, 0) + timedelta(minutes=minute) for minute in minutes]
    cut, count, before = DAY - timedelta(days=back), 0, None
    for stamp in sorted(stamp for stamp in stamps if stamp.date() <= cut):
        count += before is None or stamp - before >= timedelta(minutes=30)
        before = stamp
    facts = history(seen(*stamps))
    if before is not None:
        assert row_of(facts, cut)["visits_28d"] == count, "later events change nothing"


def test_goals_are_features_where_a_type_is_one() -> None:
    roles = FeatureSpec(event_roles=EventRoles(goals=("signup",)))
    events = [*seen(stamp_of(2), stamp_of(40), stamp_of(89), event_type="signup"), *seen(stamp_of(1))]
    row = row_of(history(events, roles))
    assert (row["goals_28d"], row["goals_90d"], row["days_since_goal"]) == (1, 3, 2)
    assert "visits_28d" not in row and "goals_28d" not in row_of(history(events))
    assert row_of(history(seen(stamp_of(1)), roles))["days_since_goal"] is None


# ── columns ───────────────────────────────────────────────────────────────────────────────────────────────────────


def spec_of(*columns: str) -> FeatureSpec:
    return FeatureSpec(declared=with_mapped_features(DeclaredSpec(), columns))


def test_columns_that_are_not_mapped_give_no_features() -> None:
    assert mapped_features(["customer_id", "occurred_at", "event_type", "category"]) == ()
    names = [
        name for name in features_table(spec_of("os", "value")).names if name not in tables.CUSTOMER_FEATURES.names
    ]
    assert names == ["last_os", "top_os_90d", "event_value_28d", "event_value_90d", "mean_event_value_90d"]


@pytest.mark.parametrize("column", ["device", "os", "browser", "channel", "campaign"])
def test_the_last_and_the_most_frequent_value_of_a_column(column: str) -> None:
    values = {100: "old", 60: "x", 59: "x", 30: "y", 10: "y", 9: "z", 2: None}
    events = [{"occurred_at": stamp_of(back), column: value} for back, value in values.items()]
    facts = history(events, spec_of(column))
    row = row_of(facts)
    assert (row[f"last_{column}"], row[f"top_{column}_90d"]) == ("z", "y"), "of x and y, y came last"
    earlier = row_of(facts, DAY - timedelta(days=20))
    assert (earlier[f"last_{column}"], earlier[f"top_{column}_90d"]) == ("y", "x")
    late = row_of(facts, DAY + timedelta(days=200))
    assert (late[f"last_{column}"], late[f"top_{column}_90d"]) == ("z", None)


def test_the_value_of_events_is_summed_and_averaged() -> None:
    values = {80: 10.0, 20: 4.0, 3: None, 2: 0.5, 95: 100.0}
    facts = history(
        [{"occurred_at": stamp_of(back), "value": value} for back, value in values.items()], spec_of("value")
    )
    row = row_of(facts)
    assert (row["event_value_28d"], row["event_value_90d"], row["mean_event_value_90d"]) == (4.5, 14.5, 14.5 / 3)


DOMAINS = {
    "https://www.google.com/search?q=shoes": "google.com",
    "http://WWW.Example.ORG": "example.org",
    "https://shop.example.com:8443/a#b": "shop.example.com",
    "//cdn.example.com/x": "cdn.example.com",
    "android-app://com.google.android.gm/": "com.google.android.gm",
    "https://user:secret@example.com/": "example.com",
    "m.facebook.com": "m.facebook.com",
    "www.bing.com/search": "bing.com",
    "localhost:8080/path": "localhost",
    "https://example.com?from=//other.com": "example.com",
    "Newsletter": "newsletter",
    "  (direct) ": "(direct)",
    "": None,
    "   ": None,
}


@pytest.mark.parametrize("referrer", DOMAINS)
def test_the_domain_of_a_referrer(referrer: str) -> None:
    row = row_of(history([{"occurred_at": stamp_of(1), "referrer": referrer}], spec_of("referrer")))
    assert row["last_referrer_domain"] == row["top_referrer_domain_90d"] == DOMAINS[referrer]


def test_the_domain_is_written_for_other_engines_as_well() -> None:
    import sqlglot

    spark = sqlglot.transpile(f"SELECT {REFERRER_DOMAIN} FROM events", read="duckdb", write="spark")[0]
    assert "REGEXP_EXTRACT(LOWER(TRIM(referrer))" in spark


def test_a_projects_own_feature_takes_the_place_of_one_of_the_same_name() -> None:
    own = DeclaredFeature("last_os", "events", measure="last", of="upper(os)")
    spec = with_mapped_features(DeclaredSpec((own,)), ["os", "device"], taken=["Top_device_90d"])
    assert [feature.name for feature in spec.features] == ["last_os", "last_device", "top_os"]
    assert row_of(history([{"occurred_at": stamp_of(1), "os": "ios"}], FeatureSpec(declared=spec)))["last_os"] == "IOS"


def test_a_declared_feature_takes_the_place_of_visits_too() -> None:
    own = DeclaredFeature("visits", "events", "event_type = 'visit'", windows=28)
    spec = FeatureSpec(has_visits=True, declared=DeclaredSpec((own,)))
    assert features_table(spec).names.count("visits_28d") == 1
    events = [*seen(stamp_of(3), stamp_of(3, 12, 5), event_type="visit"), *seen(stamp_of(2))]
    row = row_of(history(events, spec))
    assert (row["visits_28d"], row["visits_90d"], row["days_since_visit"]) == (2, 2, 2)


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_future_never_leaks_and_a_range_is_its_days() -> None:
    chance = random.Random(5)
    spec = FeatureSpec(
        declared=with_mapped_features(DeclaredSpec(), ALL), has_visits=True, event_roles=EventRoles(goals=("signup",))
    )
    events: list[dict[str, Any]] = [
        {
            "customer_id": f"c{chance.randrange(8)}",
            "occurred_at": stamp_of(0, 0) + timedelta(minutes=chance.randrange(-100 * 24 * 60, 5 * 24 * 60)),
            "event_type": chance.choice(["view", "signup"]),
            "value": chance.choice([None, 1.25, 7.0]),
            "referrer": chance.choice([None, "https://a.example/x", "b.example"]),
            **{
                name: chance.choice([None, "x", "y", "z"])
                for name in ("device", "os", "browser", "channel", "campaign")
            },
        }
        for _ in range(400)
    ]
    days = [DAY - timedelta(days=back) for back in (70, 35, 1, 0)]
    together = history(events, spec).snapshot_of(*days)
    assert together.num_rows > 20 and together["visits_90d"].null_count == 0
    for day in days:
        alone = history([event for event in events if event["occurred_at"].date() <= day], spec).snapshot_of(day)
        assert together.filter(pc.equal(together["day"], pa.scalar(day))).equals(alone)

"""Context: the newest row of a customer's value at or before the day counts, for as long as it holds."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

import pyarrow as pa
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import ErrorLevel

from ml import tables
from ml.engine import DuckDB
from ml.features import Attribute, Context, CustomerHistory, FeatureSpec, context_table, features_table
from ml.features.context import _joined, context_features

ENGINE = DuckDB(threads=1)
FIRST = date(2024, 5, 1)
DAYS = [FIRST + timedelta(days=n) for n in range(8)]
REGIONS = ("north", "south", 'it\'s "west"')
Row = tuple[int, str, int, str | None, float | None]  # day, region, hour, sky, degrees


def weather(valid_days: int | None = 1) -> Context:
    return Context("weather", "region", (("sky", "string"), ("degrees", "double")), valid_days)


def delivered(context: Context, rows: list[Row]) -> pa.Table:
    schema = pa.schema([*context_table(context).schema(), pa.field("day", pa.date32())])
    return pa.Table.from_pylist(
        [
            {
                "region": region,
                "occurred_at": datetime.combine(DAYS[day], datetime.min.time()) + timedelta(hours=hour),
                "sky": sky,
                "degrees": degrees,
                "day": DAYS[day],
            }
            for day, region, hour, sky, degrees in rows
        ],
        schema=schema,
    )


def customers(regions: dict[str, str | None], days: list[date] = DAYS) -> pa.Table:
    rows = [{"customer_id": who, "day": day, "region": region} for day in days for who, region in regions.items()]
    schema = pa.schema([("customer_id", pa.string()), ("day", pa.date32()), ("region", pa.string())])
    return pa.Table.from_pylist(rows, schema=schema)


def sky(context: Context, rows: list[Row], regions: dict[str, str | None]) -> dict[str, list[str | None]]:
    """The sky over each customer, day by day."""
    joined = context_features(ENGINE, context, customers(regions), delivered(context, rows)).to_pylist()
    return {who: [row["context_sky"] for row in joined if row["customer_id"] == who] for who in regions}


def test_a_row_holds_for_its_own_day_and_everybody_with_its_value() -> None:
    rows: list[Row] = [(1, "north", 6, "storm", 9.0), (3, "south", 6, "sun", 20.0)]
    assert sky(weather(), rows, {"anna": "north", "ben": "south", "cleo": "east", "dan": None}) == {
        "anna": [None, "storm", None, None, None, None, None, None],
        "ben": [None, None, None, "sun", None, None, None, None],
        "cleo": [None] * 8,
        "dan": [None] * 8,
    }


def test_a_row_holds_for_as_many_days_as_are_stated_unless_a_newer_one_replaces_it() -> None:
    rows: list[Row] = [(1, "north", 6, "storm", 9.0), (2, "north", 6, "sun", 20.0)]
    assert sky(weather(3), rows, {"anna": "north"})["anna"] == [None, "storm", "sun", "sun", "sun", None, None, None]
    assert sky(weather(None), rows, {"anna": "north"})["anna"] == [None, "storm", *["sun"] * 6]


def test_of_several_rows_of_a_day_the_last_one_counts_and_what_it_lacks_is_missing() -> None:
    rows: list[Row] = [(0, "north", 18, "storm", None), (0, "north", 6, "sun", 20.0)]
    joined = context_features(ENGINE, weather(), customers({"anna": "north"}, DAYS[:1]), delivered(weather(), rows))
    assert joined.drop_columns(["day"]).to_pylist() == [
        {"customer_id": "anna", "context_sky": "storm", "context_degrees": None}
    ]


ROWS = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.sampled_from(REGIONS),
        st.integers(0, 23),
        st.sampled_from(["sun", "storm", None]),
        st.one_of(st.none(), st.floats(-20, 40)),
    ),
    max_size=25,
    unique_by=lambda row: row[:3],
)
VALID = st.sampled_from([1, 2, 5, None])
WHERE: dict[str, str | None] = {"a": "north", "b": "south", "c": REGIONS[2], "d": None, "e": "nowhere"}


def expected(rows: list[Row], day: int, region: str | None, valid_days: int | None) -> tuple[str | None, float | None]:
    """What holds in a region, found by looking at every row."""
    past = [row for row in rows if row[1] == region and row[0] <= day]
    newest = max(past, key=lambda row: row[:1] + row[2:3], default=None)
    if newest is None or (valid_days is not None and day - newest[0] >= valid_days):
        return None, None
    return newest[3], newest[4]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, valid_days=VALID)
def test_every_customer_and_day_has_what_a_look_at_every_row_finds(rows: list[Row], valid_days: int | None) -> None:
    context = weather(valid_days)
    joined = context_features(ENGINE, context, customers(WHERE), delivered(context, rows))
    assert [(row["customer_id"], row["day"]) for row in joined.to_pylist()] == [(w, d) for d in DAYS for w in WHERE]
    for row in joined.to_pylist():
        day = DAYS.index(row["day"])
        assert (row["context_sky"], row["context_degrees"]) == expected(
            rows, day, WHERE[row["customer_id"]], valid_days
        )


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, future=ROWS, day=st.integers(0, 6), valid_days=VALID)
def test_nothing_later_than_a_day_changes_it_and_a_range_equals_its_days(
    rows: list[Row], future: list[Row], day: int, valid_days: int | None
) -> None:
    context = weather(valid_days)
    past = [row for row in rows if row[0] <= day]
    whole = context_features(ENGINE, context, customers(WHERE, DAYS[: day + 1]), delivered(context, past))
    other = delivered(context, past + [row for row in future if row[0] > day])
    by_day = [context_features(ENGINE, context, customers(WHERE, [one]), other) for one in DAYS[: day + 1]]
    assert pa.concat_tables(by_day).equals(whole)


def history(contexts: dict[Context, pa.Table], regions: dict[str, list[tuple[int, str | None]]]) -> CustomerHistory:
    """Customers who bought on the first day, with the region of each delivery."""
    bought: dict[str, Any] = {
        "customer_id": list(regions), "occurred_at": [datetime(2024, 5, 1, 9)] * len(regions),
        "amount": [10.0] * len(regions),
    }  # fmt: skip
    spec = FeatureSpec(attributes=(Attribute("region"),), contexts=tuple(contexts))
    attribute = tables.Column("region", "string", "where they live")
    versions = [(who, day, region) for who, deliveries in regions.items() for day, region in deliveries]
    known = pa.table(
        {
            "customer_id": [who for who, _, _ in versions],
            "region": pa.array([region for _, _, region in versions], pa.string()),
            "day": pa.array([DAYS[day] for _, day, _ in versions], pa.date32()),
        }
    )
    return CustomerHistory.from_rows(
        ENGINE,
        spec,
        transactions=tables.TRANSACTIONS.filled(pa.table(bought)),
        customers=tables.CUSTOMERS.plus([attribute]).filled(known),
        contexts={context.table: rows for context, rows in contexts.items()},
    )


def test_a_snapshot_has_the_context_of_the_attribute_as_of_its_day() -> None:
    """Who has moved is where the delivery of the customers says, and each context has features of its own."""
    rows: list[Row] = [(2, "north", 6, "storm", 9.0), (2, "south", 6, "sun", 20.0)]
    fares = Context("fares", "region", (("fare", "double"), ("is_peak", "boolean")), None)
    day = pa.array(DAYS[:1], pa.date32())
    stamps = pa.array([datetime(2024, 5, 1)], pa.timestamp("us"))
    prices = pa.table({"region": ["north"], "occurred_at": stamps, "fare": [2.5], "is_peak": [True], "day": day})
    contexts = {weather(): delivered(weather(), rows), fares: prices}
    known = history(contexts, {"anna": [(0, "north")], "ben": [(0, "north"), (2, "south")], "cleo": [(0, None)]})
    names = ["customer_id", "context_sky", "context_degrees", "context_fare", "context_is_peak"]
    assert known.snapshot_of(DAYS[2]).select(names).to_pylist() == [
        dict(zip(names, ("anna", "storm", 9.0, 2.5, True), strict=True)),
        dict(zip(names, ("ben", "sun", 20.0, None, None), strict=True)),
        dict(zip(names, ("cleo", None, None, None, None), strict=True)),
    ]
    assert known.snapshot_of(DAYS[1])["context_fare"].to_pylist() == [2.5, 2.5, None]
    assert features_table(known.spec).names[-5:] == ["region", *names[1:]]
    assert known.until(DAYS[1]).snapshot_of(DAYS[2])["context_sky"].to_pylist() == [None] * 3


def test_a_snapshot_over_refunded_orders_has_its_context_too() -> None:
    rows: list[Row] = [(0, "north", 6, "storm", 9.0), (1, "north", 6, "sun", 20.0)]
    known = history({weather(): delivered(weather(), rows)}, {"anna": [(0, "north")]})
    undone = pa.table(
        {
            "customer_id": ["anna"], "orders": [1], "amount": [10.0], "margin": [0.0], "refund_margin": [0.0],
            "day": pa.array([FIRST], pa.date32()), "undone_on": pa.array([DAYS[1]], pa.date32()),
        }
    )  # fmt: skip
    snapshot = replace(known, undone_orders=undone).snapshot_of(*DAYS[:2])
    assert snapshot["context_sky"].to_pylist() == ["storm", "sun"]


@pytest.mark.parametrize("type_", ["string", "double", "boolean"])
def test_a_context_may_be_by_any_feature_of_text(type_: Literal["string", "double", "boolean"]) -> None:
    """The prices of the category that a customer buys most of."""
    prices = Context("prices", "top_category_90d", (("x", type_),))
    assert features_table(FeatureSpec(contexts=(prices,)))["context_x"].type == type_


def test_the_query_can_be_written_for_spark() -> None:
    for context in (weather(), weather(None)):
        query = _joined(context)
        (spark,) = sqlglot.transpile(query, read="duckdb", write="spark", unsupported_level=ErrorLevel.RAISE)
        assert "DATEDIFF(DAY, spans.since, wanted.day)" in spark or "DATE_DIFF" not in query


def test_a_context_that_says_nothing_or_never_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="no columns of its own"):
        Context("weather", "region", ())
    with pytest.raises(ValueError, match="valid_days is 0"):
        weather(0)

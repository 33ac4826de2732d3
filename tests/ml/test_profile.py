"""The profile of delivered data: what it reports, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.engine import DuckDB
from ml.profile import Code, Delivered, Observation, main_span, observe
from ml.profile.ids import merged_sql

FIRST = date(2024, 1, 1)
TODAY = date(2024, 12, 31)
ENGINE = DuckDB(threads=1)


def transactions(lines: Sequence[Mapping[str, Any]], *more: str) -> pa.Table:
    """Rows as a source gives them; a line has at least an id and a day."""
    schema = pa.schema(
        [*tables.TRANSACTIONS.schema(), pa.field("day", pa.date32()), pa.field("source", pa.string())]
        + [pa.field(name, pa.string()) for name in more]
    )
    rows = [
        {"amount": 10.0, "source": "a.csv", "occurred_at": datetime.combine(line["day"], datetime.min.time()), **line}
        for line in lines
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def bought(ids: Sequence[str], days: int = 200) -> list[dict[str, Any]]:
    """Each id buys every few days."""
    return [
        {"customer_id": id_, "day": FIRST + timedelta(days=(3 * i + 7 * n) % days), "amount": 5.0 + i % 13}
        for i, id_ in enumerate(ids)
        for n in range(4 + i % 9)
    ]


def observed(rows: pa.Table, **more: Any) -> dict[Code, Observation]:
    delivered = {"transactions": Delivered(rows, **more)}
    return {observation.code: observation for observation in observe(ENGINE, delivered, today=TODAY)}


IDS = [f"{i:05d}" for i in range(1, 121)]


# ── ids ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sound_data_give_no_observation() -> None:
    assert observed(transactions(bought(IDS))) == {}
    assert observed(transactions(bought([str(i) for i in range(61)]))) == {}, "ids that are counted from 0"
    assert observed(transactions(bought([f"{'aBcXyZ'[i % 6]}{i:03d}{'QrS'[i % 3]}" for i in range(90)]))) == {}


@pytest.mark.parametrize("id_", ["NULL", "n/a", " N/A ", "-1", "0000", "guest", "Unknown", "nan", "#N/A", "(not set)"])
def test_words_and_numbers_for_nobody_are_observed(id_: str) -> None:
    seen = observed(transactions(bought([*IDS, id_])))
    assert seen[Code.PLACEHOLDER_IDS]["ids"] == [id_]


def test_a_zero_counts_as_nobody_where_it_has_more_rows_than_its_neighbours() -> None:
    ids = [str(i) for i in range(61)]
    many = [{"customer_id": "0", "day": FIRST + timedelta(days=i % 200)} for i in range(300)]
    assert observed(transactions([*bought(ids), *many]))[Code.PLACEHOLDER_IDS]["ids"] == ["0"]


def test_ids_that_a_spreadsheet_has_rounded_are_counted() -> None:
    seen = observed(transactions(bought([*IDS, "4.10003E+12", "4.10007E+12", "3,2e+11", "1E5B"])))[Code.ROUNDED_IDS]
    assert seen["ids"] == 3 and 0 < seen["share"] < 0.1


def test_an_id_with_a_quarter_of_all_orders_is_reported_and_a_good_customer_is_not() -> None:
    lines = bought(IDS)
    till = [{"customer_id": "7", "day": FIRST + timedelta(days=i % 200), "order_id": f"o{i}"} for i in range(320)]
    seen = observed(transactions([*lines, *till]))[Code.HEAVY_ID]
    assert seen["id"] == "7" and seen["share"] == pytest.approx(320 / (320 + len(lines)), rel=0.2)
    assert Code.HEAVY_ID not in observed(transactions([*lines, *till[:60]]))


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("blanks", "Ann Lee", "Ann\u00a0Lee"), ("blanks", "Ann Lee", "Ann  Lee"),
        ("blanks", "Ann Lee", "Ann Lee\u2007"),
        ("unicode", "Zoë", "Zoe\u0308"), ("case", "ann@x.org", "Ann@X.org"), ("case", "AB-17", "ab-17"),
    ],
)  # fmt: skip
def test_spellings_of_one_id_are_reported_with_the_expression_that_merges_them(kind: str, one: str, other: str) -> None:
    seen = observed(transactions(bought([*IDS, one, other])))[Code.SPELLINGS]
    assert seen["kinds"] == [kind] and (seen["ids"], seen["customers"]) == (122, 121)
    sql = merged_sql((kind,), "id")
    values = ENGINE.query(f"SELECT COUNT(DISTINCT {sql}) AS n FROM t", t=pa.table({"id": [one, other]}))
    assert values["n"].to_pylist() == [1]


def test_random_ids_that_differ_in_case_are_two() -> None:
    assert Code.SPELLINGS not in observed(transactions(bought([*IDS, "aBx9Q", "AbX9q", "Zk3pW", "zK3pw"])))


def test_that_hardly_anybody_comes_back_is_reported() -> None:
    lines = [{"customer_id": f"c{i}", "day": FIRST + timedelta(days=i % 200)} for i in range(400)]
    seen = observed(transactions(lines))[Code.NOBODY_RETURNS]
    assert (seen["customers"], seen["returning"]) == (400, 0)


# ── whether the ids of two tables match ───────────────────────────────────────────────────────────────────────────────


def customers(ids: Sequence[str], **columns: Sequence[Any]) -> pa.Table:
    n = len(ids)
    table = {"customer_id": ids, "registered_at": pa.array([None] * n, pa.timestamp("us")), "day": [FIRST] * n}
    return pa.table({**table, **columns})


def matched(ids: Sequence[str], others: Sequence[str]) -> Observation:
    delivered = {"transactions": Delivered(transactions(bought(ids))), "customers": Delivered(customers(others))}
    (observation,) = (o for o in observe(ENGINE, delivered, today=TODAY) if o.table == "customers")
    return observation


@pytest.mark.parametrize(
    ("bought_as", "registered_as", "form"),
    [
        (lambda i: f"{i:05d}", lambda i: f"{i}", "zeros"), (lambda i: f"K-{i:03d}", lambda i: f"k{i:03d}", "signs"),
        (lambda i: f"C{i:04d}", lambda i: f"{i}", "digits"), (lambda i: f"AB{i}", lambda i: f"ab{i}", "case"),
        (lambda i: f"N {i}", lambda i: f"N\u00a0{i}", "blanks"),
    ],
)  # fmt: skip
def test_ids_that_never_match_are_reported_with_a_common_form(bought_as: Any, registered_as: Any, form: str) -> None:
    one = matched([bought_as(i) for i in range(1, 161)], [registered_as(i) for i in range(1, 201)])
    assert one.code is Code.IDS_DO_NOT_MEET and one["form"] == form
    assert (one["known"], one["known_united"], one["ids"], one["of_other"]) == (0, 160, 200, 160)


def test_ids_that_match_are_counted_and_ids_that_have_nothing_in_common_get_no_form() -> None:
    assert matched(IDS, IDS[:100]).code is Code.IDS_KNOWN
    one = matched(IDS, [f"x{i * 7919 % 100_003}y" for i in range(100)])
    assert one.code is Code.IDS_DO_NOT_MEET and one["form"] == "" and one["known"] == 0


# ── days ──────────────────────────────────────────────────────────────────────────────────────────────────────────

DAYS = {FIRST + timedelta(days=i): 2 for i in range(178)}


@pytest.mark.parametrize(
    "strays",
    [
        {date(1970, 1, 1): 1, date(2031, 5, 26): 1}, {date(1899, 12, 30): 1, date(1900, 1, 1): 1},
        {date(2099, 1, 1): 2, date(2099, 1, 2): 1}, {date(1970, 1, 1): 1}, {date(2031, 5, 26): 1},
    ],
)  # fmt: skip
def test_strays_by_count_and_distance_are_left_out(strays: dict[date, int]) -> None:
    assert main_span({**DAYS, **strays}) == (FIRST, FIRST + timedelta(days=177), sum(strays.values()))


def test_a_pause_and_a_slow_beginning_are_no_strays() -> None:
    pause = {day: n for day, n in DAYS.items() if not date(2024, 2, 1) <= day <= date(2024, 4, 20)}
    assert main_span(pause)[2] == 0
    slow = {FIRST - timedelta(days=90): 2, FIRST - timedelta(days=200): 1, **DAYS}
    assert main_span(slow)[0] == FIRST - timedelta(days=200)
    assert main_span({FIRST: 1, FIRST + timedelta(days=800): 1})[2] == 0, "two rows are no crowd"


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(1, 50), min_size=1, max_size=30))
def test_the_main_span_holds_all_rows_but_those_it_calls_strays(days: dict[date, int]) -> None:
    first, last, strays = main_span(days)
    assert first in days and last in days
    assert strays == sum(n for day, n in days.items() if not first <= day <= last)
    assert strays < sum(days.values())


def test_rows_in_the_future_missing_days_closed_weekdays_and_seasons_are_reported() -> None:
    def seen(days: Mapping[date, int]) -> dict[Code, Observation]:
        return observed(transactions(bought(IDS)), days=days)

    assert seen(DAYS) == {}
    assert seen({**DAYS, date(2031, 5, 26): 1})[Code.FUTURE_ROWS]["rows"] == 1
    sundays = {day: n for day, n in DAYS.items() if day.weekday() != 6}
    assert seen(sundays)[Code.CLOSED_WEEKDAYS]["weekdays"] == [6] and Code.MISSING_DAYS not in seen(sundays)
    lost = {day: n for day, n in sundays.items() if not date(2024, 3, 4) <= day <= date(2024, 3, 8)}
    one = seen(lost)[Code.MISSING_DAYS]
    assert (one["missing"], one["first"], one["last"]) == (5, date(2024, 3, 4), date(2024, 3, 8))
    holiday = {day: n for day, n in DAYS.items() if day != date(2024, 5, 1)}
    assert seen(holiday) == {}, "a holiday is no gap"
    summer = {day: n for day, n in DAYS.items() if not date(2024, 3, 1) <= day <= date(2024, 4, 10)}
    assert seen(summer)[Code.CLOSED_SEASON]["days"] == 41


# ── orders and labels ─────────────────────────────────────────────────────────────────────────────────────────────


def test_orders_on_several_days_and_ids_that_are_used_again_are_reported() -> None:
    lines = [{**line, "order_id": f"o{i}"} for i, line in enumerate(bought(IDS))]
    assert observed(transactions(lines)) == {}
    parts = [{**line, "day": line["day"] + timedelta(days=7)} for line in lines[::5]]
    one = observed(transactions([*lines, *parts]))[Code.ORDERS_ON_SEVERAL_DAYS]
    assert (one["several"], one["longest"]) == (len(parts), 7)
    reused = [{**line, "order_id": f"o{i % 100}"} for i, line in enumerate(bought(IDS))]
    assert observed(transactions(reused))[Code.ORDER_IDS_SHARED]["share"] > 0.9


def labelled(values: Sequence[str], column: str = "label", **more: Any) -> dict[Code, Observation]:
    lines = [{**line, "l": values[i % len(values)], "order_id": f"o{i}", **more} for i, line in enumerate(bought(IDS))]
    rows = transactions(lines, "l")
    return observed(rows, newest=rows, labels={column: "l"})


def test_currencies_states_and_signs_in_a_column_of_labels_are_reported() -> None:
    one = labelled(["EUR", "EUR", "USD", "GBP"], "Währung")[Code.SEVERAL_CURRENCIES]
    assert one["column"] == "Währung" and set(one["values"]) == {"EUR", "USD", "GBP"}
    assert set(labelled(["EUR"])) == {Code.NO_TRANSACTION_ID}
    assert set(labelled(["paid", "paid", "Cancelled by customer"])[Code.ORDER_STATES]["values"]) == {
        "Cancelled by customer"
    }
    assert labelled(["sale", "sale", "Refund"])[Code.SIGN_IN_COLUMN]["values"] == ["Refund"]
    assert Code.SIGN_IN_COLUMN not in labelled(["Refund", "sale"], amount=-5.0), "the sign is there"
    few = [
        {**line, "l": "refunded" if i % 9 == 0 else "completed", "order_id": f"o{i}"}
        for i, line in enumerate(bought(IDS))
    ]
    few[0]["amount"] = -3.0
    rows = transactions(few, "l")
    one = observed(rows, newest=rows, labels={"Status": "l"})[Code.SIGN_IN_COLUMN]
    assert one["above"] == one["rows"] - 1, "a single sign says nothing of the others"
    assert set(labelled(["red", "green", "blue", "Opener"])) == {Code.NO_TRANSACTION_ID}


def test_orders_that_are_delivered_again_in_another_state_or_file_are_reported() -> None:
    lines = [{**line, "order_id": f"o{i}", "l": "pending"} for i, line in enumerate(bought(IDS))]
    later = [{**line, "l": "paid"} for line in lines[::4]]
    rows = transactions([*lines, *later], "l")
    one = observed(rows, newest=rows, labels={"order_status": "l"})[Code.ORDERS_COME_AGAIN]
    assert (one["column"], one["again"]) == ("order_status", len(later))
    again = transactions([*lines, *({**line, "source": "b.csv"} for line in lines[::4])])
    assert Code.ORDERS_COME_AGAIN not in observed(again, newest=again), "equal rows of files that overlap are no change"
    again = transactions([*lines, *({**line, "source": "b.csv", "amount": 0.5} for line in lines[::4])])
    assert observed(again, newest=again)[Code.ORDERS_COME_AGAIN]["column"] == "file"


# ── attributes ────────────────────────────────────────────────────────────────────────────────────────────────────

RATES = np.random.default_rng(5).lognormal(0, 0.8, 400)
WHO = [f"c{i:03d}" for i in range(400)]


def history(seed: int) -> list[dict[str, Any]]:
    """Half a year of customers who differ in how often and for how much they buy."""
    draw = np.random.default_rng(seed)
    price = draw.lognormal(3, 0.5, 400)
    return [
        {"customer_id": id_, "day": FIRST + timedelta(days=int(day)),
         "amount": float(round(price[i] * draw.lognormal(0, 0.3), 2))}
        for i, id_ in enumerate(WHO)
        for day in draw.integers(0, 180, 1 + draw.poisson(4 * RATES[i]))
    ]  # fmt: skip


def foretelling(
    lines: list[dict[str, Any]], values: Sequence[Any] | np.ndarray, type_: str = "double"
) -> Observation | None:
    delivered = {
        "transactions": Delivered(transactions(lines)),
        "customers": Delivered(customers(WHO, x=list(values)), attributes={"x": type_}),
    }
    return next((o for o in observe(ENGINE, delivered, today=TODAY) if o.code is Code.FORETELLING), None)


def sums(lines: list[dict[str, Any]], of: str = "amount") -> np.ndarray:
    total = dict.fromkeys(WHO, 0.0)
    for line in lines:
        total[line["customer_id"]] += line["amount"] if of == "amount" else 1
    return np.array([total[id_] for id_ in WHO])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_totals_as_of_the_export_are_reported_in_every_disguise(seed: int) -> None:
    lines = history(seed)
    draw = np.random.default_rng(seed + 50)
    spend, orders = sums(lines), sums(lines, "lines")
    equal = foretelling(lines, np.round(spend, 2))
    assert equal is not None and (equal["how"], equal["of"]) == ("equals", "spend")
    counted = foretelling(lines, orders)
    assert counted is not None and counted["how"] == "equals"
    assert foretelling(lines, np.floor(spend / 10)) is not None, "points"
    assert foretelling(lines, spend + draw.lognormal(4, 1, 400)) is not None, "with what came before the data"
    tiers = np.where(spend > np.quantile(spend, 0.9), "gold", np.where(spend > np.median(spend), "silver", "bronze"))
    assert foretelling(lines, tiers.tolist(), "string") is not None
    assert foretelling(lines, (orders > 2).tolist(), "boolean") is not None, "is a repeat buyer"


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_traits_of_a_customer_do_not_leak_the_future(seed: int) -> None:
    lines = history(seed)
    draw = np.random.default_rng(seed + 90)
    assert foretelling(lines, draw.integers(18, 80, 400)) is None, "an age"
    assert foretelling(lines, draw.choice(["N", "E", "S", "W"], 400).tolist(), "string") is None
    assert foretelling(lines, RATES * draw.lognormal(0, 1.0, 400)) is None, (
        "an income that goes with how often they buy"
    )
    assert foretelling(lines, (draw.random(400) < 0.5).tolist(), "boolean") is None
    plan = draw.choice([9.99, 19.99, 29.99], 400)
    subscriptions = [{**line, "amount": float(plan[int(line["customer_id"][1:])])} for line in lines]
    observation = foretelling(subscriptions, plan)
    assert observation is None or observation["how"] != "equals", "a price agreed on equals every order"

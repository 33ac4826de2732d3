"""Sums over windows of days, for many pairs of customer and day: the wide part of the snapshot, as SQL.

Each sum is declared once (`SUMS`), with the daily quantity that it sums and the ages of the days that count. Two
queries are composed from the declarations; both give the same rows:

- `joined_sums` joins each pair with the customer's facts up to its day. It fits any pairs, and reads a fact once for
  each pair that sees it.
- `running_sums` makes a whole range of days in one pass. A fact enters a window on its day and leaves it so many days
  later; both are *changes*, one added and one subtracted, and a running total over the days of interest gives each
  day's sum. Facts from before the range are added up first, so that the cost of a further day does not grow with the
  history.

Money is summed as decimals, so both are exact and equal in every digit.

Belongs here: sums, and the first and last day of something. Does not belong here: what a snapshot makes of them (see
`snapshot.sql`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

import pyarrow as pa
from sqlglot import exp, parse_one

MONEY = frozenset({"items", "amount", "refunds", "discount"})  # quantities that are summed as decimals
_DECIMAL = "DECIMAL(18, 4)"


@dataclass(frozen=True)
class WindowSum:
    """The sum of a daily quantity over the days of a window.

    Parameters
    ----------
    name : name of the sum
    of : the quantity, a column of the facts
    first_age, end_age : the window: days at least `first_age` and less than `end_age` days before the end of the
        snapshot's day; None for no end
    """

    name: str
    of: str
    first_age: int = 0
    end_age: int | None = None

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """The ages at which a fact enters the window (sign 1) and leaves it (sign -1)."""
        return [(self.first_age, 1)] + ([] if self.end_age is None else [(self.end_age, -1)])


@dataclass(frozen=True)
class NewestDay:
    """The newest day on which a condition held, or the oldest one."""

    name: str
    condition: str
    is_oldest: bool = False

    @property
    def function(self) -> str:
        return "MIN" if self.is_oldest else "MAX"


SUMS = (
    WindowSum("purchase_days", "purchase_days"),
    WindowSum("orders", "orders"),
    WindowSum("lines", "lines"),
    WindowSum("spend", "amount"),
    WindowSum("refunds", "refunds"),
    WindowSum("orders_28d", "orders", 0, 28),
    WindowSum("orders_90d", "orders", 0, 90),
    WindowSum("orders_prev_28d", "orders", 28, 56),
    WindowSum("spend_28d", "amount", 0, 28),
    WindowSum("spend_90d", "amount", 0, 90),
    WindowSum("spend_prev_28d", "amount", 28, 56),
    WindowSum("purchase_days_28d", "purchase_days", 0, 28),
    WindowSum("purchase_days_90d", "purchase_days", 0, 90),
    WindowSum("items_90d", "items", 0, 90),
    WindowSum("refunds_90d", "refunds", 0, 90),
    WindowSum("discount_90d", "discount", 0, 90),
    WindowSum("events_28d", "events", 0, 28),
    WindowSum("events_90d", "events", 0, 90),
    WindowSum("page_views_28d", "page_views", 0, 28),
    WindowSum("redemptions_90d", "redemptions", 0, 90),
    WindowSum("exposures_28d", "exposures", 0, 28),
    WindowSum("exposures_90d", "exposures", 0, 90),
)
DAYS = (
    NewestDay("first_day", "TRUE", is_oldest=True),
    NewestDay("first_purchase", "orders > 0", is_oldest=True),
    NewestDay("last_purchase", "orders > 0"),
    NewestDay("last_event", "events > 0"),
    NewestDay("last_cart", "carts > 0"),
    NewestDay("last_exposure", "exposures > 0"),
)
QUANTITIES = tuple(dict.fromkeys(one.of for one in SUMS))
# Values on a particular day: the amount of the first purchase day, the newest balance.
VALUES = ("first_day_spend", "balance")
CATEGORY_WINDOW_DAYS = 90
FACTS = ("customer_days", "category_days")


def facts(quantities: Sequence[str], *, has_repeated_orders: bool) -> exp.Select:
    """The daily facts up to `$last_day`; an order counts once, on its first day.

    Parameters
    ----------
    quantities : the columns to have
    has_repeated_orders : whether `repeated_orders` is an input
    """
    orders = _orders(has_repeated_orders)
    composed = {"orders": orders, "purchase_days": f"CASE WHEN {orders} > 0 THEN 1 ELSE 0 END"}
    composed |= {name: f"CAST(customer_days.{name} AS {_DECIMAL})" for name in MONEY}
    query = exp.select(
        "customer_days.customer_id AS customer_id",
        "customer_days.day AS day",
        *(f"{composed.get(name, f'customer_days.{name}')} AS {name}" for name in quantities),
        dialect="duckdb",
    )
    return _from_customer_days(query, has_repeated_orders).where("customer_days.day <= $last_day", dialect="duckdb")


def purchases(*, has_repeated_orders: bool) -> exp.Select:
    """Each customer's purchase days up to `$last_day`.

    Parameters
    ----------
    has_repeated_orders : whether `repeated_orders` is an input
    """
    query = exp.select("customer_days.customer_id AS customer_id", "customer_days.day AS day")
    query = _from_customer_days(query, has_repeated_orders).where("customer_days.day <= $last_day", dialect="duckdb")
    return query.where(f"{_orders(has_repeated_orders)} > 0")


def _orders(has_repeated_orders: bool) -> str:
    return "customer_days.orders" + (" - COALESCE(repeated_orders.repeated, 0)" if has_repeated_orders else "")


def _from_customer_days(query: exp.Select, has_repeated_orders: bool) -> exp.Select:
    query = query.from_("customer_days")
    if not has_repeated_orders:
        return query
    return query.join(
        "repeated_orders",
        on="repeated_orders.customer_id = customer_days.customer_id AND repeated_orders.day = customer_days.day",
        join_type="left",
    )


def joined_sums(*, has_repeated_orders: bool) -> dict[str, exp.Query]:
    """Sums of each pair from the facts up to its day.

    What counts for ever is summed apart from what counts for a while: few facts are young enough for the many windows,
    and a wide state for each customer is slow to reach.

    Returns
    -------
    The queries by name, each after those it reads; the last one is the result.
    """
    age = "DATE_DIFF('day', facts.day, pairs.day)"
    is_recent = f"customer_days.day > $first_day - {BOUNDS[-1]}"
    sums = {
        name: [one for one in SUMS if (one.end_age is None) == (name == "lifetime")] for name in ("lifetime", "recent")
    }
    facts_of = {name: dict.fromkeys(one.of for one in group) for name, group in sums.items()}
    lifetime_facts = facts(
        [*facts_of["lifetime"], "events", "carts", "exposures", "balance"], has_repeated_orders=has_repeated_orders
    )
    recent_facts = facts([*facts_of["recent"]], has_repeated_orders=has_repeated_orders).where(
        is_recent, dialect="duckdb"
    )
    lifetime = _of_pairs(
        "lifetime_facts",
        *(f"SUM(facts.{one.of}) AS {one.name}" for one in sums["lifetime"]),
        *(_extreme(one, "facts.day") for one in DAYS),
        "MIN_BY(facts.amount, CASE WHEN orders > 0 THEN facts.day END) AS first_day_spend",
        "MAX_BY(balance, CASE WHEN NOT balance IS NULL THEN facts.day END) AS balance",
    )
    recent = _of_pairs("recent_facts", *(f"{_sum_of_ages(one, age)} AS {one.name}" for one in sums["recent"]))
    recent = recent.where(f"{age} < {BOUNDS[-1]}", dialect="duckdb")
    names = [*(one.name for one in sums["lifetime"]), *(one.name for one in DAYS), *VALUES]
    columns = [f"lifetime.{name} AS {name}" for name in names]
    columns += [f"COALESCE(recent.{one.name}, 0) AS {one.name}" for one in sums["recent"]]
    both = exp.select(
        "lifetime.customer_id AS customer_id", "lifetime.day AS day", "lifetime.day AS category_day", *columns
    )
    both = both.from_("lifetime")
    on = "recent.customer_id = lifetime.customer_id AND recent.day = lifetime.day"
    pairs = exp.select("customer_id", "day").from_("pairs")
    parts: dict[str, exp.Query] = {
        "category_pairs": pairs,
        "lifetime_facts": lifetime_facts,
        "recent_facts": recent_facts,
        "lifetime": lifetime,
        "recent": recent,
    }
    return parts | {"sums": both.join("recent", on=on, join_type="left")}


def _of_pairs(table: str, *columns: str) -> exp.Select:
    return (
        exp.select("pairs.customer_id AS customer_id", "pairs.day AS day", *columns, dialect="duckdb")
        .from_("pairs")
        .join(f"{table} AS facts", on="facts.customer_id = pairs.customer_id AND facts.day <= pairs.day")
        .group_by("pairs.customer_id", "pairs.day")
    )


def _sum_of_ages(one: WindowSum, age: str) -> str:
    tests = [f"{age} >= {one.first_age}"] if one.first_age else []
    tests += [] if one.end_age in (None, BOUNDS[-1]) else [f"{age} < {one.end_age}"]
    return f"SUM(CASE WHEN {' AND '.join(tests)} THEN facts.{one.of} ELSE 0 END)" if tests else f"SUM(facts.{one.of})"


def _extreme(one: NewestDay, day: str) -> str:
    value = day if one.condition == "TRUE" else f"CASE WHEN {one.condition} THEN {day} END"
    return f"{one.function}({value}) AS {one.name}"


BOUNDS = tuple(sorted({age for one in SUMS for age, _ in one.bounds}))


def calendar(days: Sequence[date]) -> pa.Table:
    """For each day of facts that can change a sum within a range: the day of the range on which it does.

    Parameters
    ----------
    days : the range, ascending

    Returns
    -------
    Columns day, and for each bound of a window the first day of the range at which a fact is that old; null after its
    end. Facts from before the first row have changed every sum by the first day of the range.
    """
    first = days[0] - timedelta(days=BOUNDS[-1])
    facts_days = [first + timedelta(days=i) for i in range((days[-1] - first).days + 1)]
    columns = {"day": pa.array(facts_days, pa.date32())}
    for age in BOUNDS:
        positions = (bisect_left(days, day + timedelta(days=age)) for day in facts_days)
        columns[_on(age)] = pa.array([days[i] if i < len(days) else None for i in positions], pa.date32())
    return pa.table(columns)


def _on(age: int) -> str:
    return f"at_age_{age}"


def running_sums(*, has_repeated_orders: bool, has_categories: bool) -> dict[str, exp.Query]:
    """Sums of each pair as running totals over a range of days.

    Parameters
    ----------
    has_repeated_orders : whether `repeated_orders` is an input
    has_categories : whether the days are needed on which a category enters or leaves its window

    Returns
    -------
    The queries by name, each after those it reads; the last one is the result.
    """
    union = exp.union(*(_changes(age) for age in BOUNDS), _no_changes(), distinct=False)
    names = [one.name for one in SUMS]
    changes = exp.select("customer_id", "day", "MAX(is_pair) AS is_pair",
        *(f"SUM({name}) AS {name}" for name in names),
        *(f"{one.function}({one.name}) AS {one.name}" for one in DAYS),
        "MIN_BY(first_day_spend, first_purchase) AS first_day_spend",
        "MAX_BY(balance, last_balance) AS balance",
        dialect="duckdb",
    ).from_(union.subquery("moves")).group_by("customer_id", "day")  # fmt: skip
    over = (
        "OVER (PARTITION BY changes.customer_id ORDER BY changes.day ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    )
    # The first purchase of all is the first of the range's first change that has one.
    totals = exp.select("changes.customer_id AS customer_id", "changes.day AS day", "is_pair",
        *(f"SUM({name}) {over} AS {name}" for name in names),
        *(f"{one.function}({one.name}) {over} AS {one.name}" for one in DAYS),
        f"FIRST_VALUE(first_day_spend IGNORE NULLS) {over} AS first_day_spend",
        f"LAST_VALUE(balance IGNORE NULLS) {over} AS balance",
        dialect="duckdb",
    ).from_("changes")  # fmt: skip
    if has_categories:
        on = "category_pairs.customer_id = changes.customer_id AND category_pairs.day = changes.day"
        totals = totals.join("category_pairs", on=on, join_type="left")
        totals = totals.select(f"MAX(category_pairs.day) {over} AS category_day", dialect="duckdb")
    columns = [
        "customer_id",
        "day",
        *(["category_day"] if has_categories else []),
        *names,
        *(one.name for one in DAYS),
        *VALUES,
    ]
    sums = exp.select(*columns).from_("totals").where("is_pair = 1")
    quantities = [*QUANTITIES, "carts", "balance"]
    return {
        "category_pairs": _category_pairs(),
        "facts": facts(quantities, has_repeated_orders=has_repeated_orders),
        "cells": _cells(),
        "changes": changes,
        "totals": totals,
        "sums": sums,
    }


def _category_pairs() -> exp.Query:
    """Customers and days of a range on which a category enters or leaves the window; the same until the next one."""
    columns = [exp.column(_on(age), "calendar") for age in (0, CATEGORY_WINDOW_DAYS)]
    moves = (
        exp.select("category_days.customer_id AS customer_id", exp.alias_(column, "day"))
        .from_("category_days")
        .join("calendar", on="calendar.day = category_days.day")
        .where(column.is_(exp.null()).not_())
        for column in columns
    )
    return exp.union(*moves, distinct=True)


def _cells() -> exp.Select:
    """Facts that change every sum of a range on the same days, added up."""
    # What is older than the calendar has entered and left all windows by the first day.
    days = [f"CASE WHEN calendar.day IS NULL THEN $first_day ELSE calendar.{_on(age)} END" for age in BOUNDS]
    return (
        exp.select(
            "facts.customer_id AS customer_id",
            *(f"{day} AS {_on(age)}" for age, day in zip(BOUNDS, days, strict=True)),
            *(f"SUM(facts.{name}) AS {name}" for name in QUANTITIES),
            *(_extreme(one, "facts.day") for one in DAYS),
            "MIN_BY(amount, CASE WHEN orders > 0 THEN facts.day END) AS first_day_spend",
            "MAX_BY(balance, CASE WHEN NOT balance IS NULL THEN facts.day END) AS balance",
            "MAX(CASE WHEN NOT balance IS NULL THEN facts.day END) AS last_balance",
            dialect="duckdb",
        )
        .from_("facts")
        .join("calendar", on="calendar.day = facts.day", join_type="left")
        .group_by("facts.customer_id", *days, dialect="duckdb")
    )


def _changes(age: int) -> exp.Select:
    """How the sums change when facts become `age` days old; days and values count once, when they enter."""
    columns = []
    for one in SUMS:
        signs = dict(one.bounds)
        change = {1: one.of, -1: f"-{one.of}"}[signs[age]] if age in signs else _zero(one.of)
        columns.append(f"{change} AS {one.name}")
    names = [*(one.name for one in DAYS), *VALUES, "last_balance"]
    columns += names if age == 0 else _nulls(names)
    query = exp.select("customer_id", f"{_on(age)} AS day", "0 AS is_pair", *columns, dialect="duckdb").from_("cells")
    return query.where(f"NOT {_on(age)} IS NULL", dialect="duckdb")


def _no_changes() -> exp.Select:
    """A row for each pair, so that its day has a running total."""
    columns = [f"{_zero(one.of)} AS {one.name}" for one in SUMS]
    columns += _nulls([*(one.name for one in DAYS), *VALUES, "last_balance"])
    return exp.select("customer_id", "day", "1 AS is_pair", *columns, dialect="duckdb").from_("pairs")


def _zero(quantity: str) -> str:
    return f"CAST(0 AS {_DECIMAL})" if quantity in MONEY else "0"


def _nulls(names: Iterable[str]) -> list[str]:
    types = {"first_day_spend": _DECIMAL, "balance": "DOUBLE"}
    return [f"CAST(NULL AS {types.get(name, 'DATE')}) AS {name}" for name in names]


@cache
def with_sums(
    snapshot: str, wanted: frozenset[str], *, is_range: bool, has_repeated_orders: bool, is_sample: bool
) -> str:
    """Complete the snapshot's query with the queries of its sums, for some of its columns.

    Parameters
    ----------
    snapshot : a query that reads `purchases`, `sums` and `category_pairs`
    wanted : the columns to select, beside customer and day
    is_range : whether to use running totals
    has_repeated_orders : whether `repeated_orders` is an input
    is_sample : whether to read the facts of the pairs' customers alone, for most customers have no pair

    Returns
    -------
    The query, in DuckDB's dialect.
    """
    result = parse_one(snapshot, dialect="duckdb").assert_is(exp.Select)
    selected = [one for one in result.expressions if one.alias_or_name in {"customer_id", "day", *wanted}]
    result.set("expressions", selected)
    used = {column.table for one in selected for column in one.find_all(exp.Column)}
    result.set("joins", [join for join in result.args["joins"] if join.this.alias_or_name in used])
    has_categories = "top_categories" in used
    parts: dict[str, exp.Query] = {"purchases": purchases(has_repeated_orders=has_repeated_orders)}
    if is_range:
        parts |= running_sums(has_repeated_orders=has_repeated_orders, has_categories=has_categories)
    else:
        parts |= joined_sums(has_repeated_orders=has_repeated_orders)
    own = result.args.pop("with_")
    for name, part in parts.items():
        result = result.with_(name, as_=part)
    for cte in own.expressions:
        result = result.with_(cte.alias, as_=cte.this)
    return (_of_customers_in_pairs(result) if is_sample else result).sql("duckdb")


def _of_customers_in_pairs(query: exp.Select) -> exp.Select:
    """The same query, reading the facts of the pairs' customers alone.

    Otherwise gaps and categories are computed for everybody before the pairs are joined. Where the pairs are nearly
    everybody, the copy of their facts would cost more than it saves.
    """
    own = {}
    for table in list(query.find_all(exp.Table)):
        if table.name in FACTS:
            own[table.name] = f"own_{table.name}"
            table.replace(exp.to_table(own[table.name]).as_(table.alias_or_name))
    with_ = query.args["with_"]
    for name, renamed in own.items():
        rows = exp.select("*").from_(name).where("customer_id IN (SELECT customer_id FROM pairs)")
        with_.set("expressions", [exp.CTE(this=rows, alias=exp.to_identifier(renamed)), *with_.expressions])
    return query

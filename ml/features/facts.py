"""Facts: what is known of customers up to a day, and the questions the chain asks of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from ml import tables
from ml.engine import Engine, Input, quoted, sql_of


@dataclass(frozen=True)
class Attribute:
    """An attribute of the customers table that becomes a feature under its own name.

    Parameters
    ----------
    known_from : the day on which it was exported: before it nobody's is known. None where it is known from the day of
        its row on.
    """

    name: str
    type: Literal["string", "double", "boolean"] = "string"
    known_from: date | None = None


@dataclass(frozen=True)
class FeatureSpec:
    """What a project adds to the features every project has.

    Parameters
    ----------
    categories : categories whose share of the last 90 days' revenue is a feature of its own. Declared, not learnt, so
        no later day can leak into the vocabulary.
    attributes : columns of the customers table.
    order_days : lines of one order's id within so many days of each other are one order, which counts on its first
        day; 0 where an id is an order's own on one day only
    undo_within_days : a refund of a whole order's amount by the same customer, at most so many days after it, takes the
        order away as of the day of the refund; None: every order stays one
    """

    categories: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    order_days: int = 30
    undo_within_days: int | None = None


def category_column(category: str) -> str:
    """The feature that holds a category's revenue share: ``share_meat_pckgd`` for ``MEAT-PCKGD``."""
    return "share_" + re.sub(r"[^\w]+", "_", category.lower()).strip("_")


def features_table(spec: FeatureSpec) -> tables.Table:
    """`customer_features` with the project's own columns."""
    shares = [
        tables.Column(category_column(name), "double", f"share of {name} in the last 90 days' revenue", "0 to 1")
        for name in spec.categories
    ]
    return tables.CUSTOMER_FEATURES.plus([*shares, *_columns(spec.attributes)])


def _columns(attributes: Sequence[Attribute]) -> list[tables.Column]:
    return [tables.Column(a.name, a.type, "attribute of the customer, newest delivery") for a in attributes]


@dataclass(frozen=True)
class DayFacts:
    """What the rows of some days come to, each day by itself: the same whatever other days are there.

    Parameters
    ----------
    customer_days, category_days, order_days : tables of their names, with their `day`
    """

    customer_days: pa.Table
    category_days: pa.Table
    order_days: pa.Table


def day_facts(
    engine: Engine, *, transactions: Input, customers: Input, events: Input, exposures: Input, balances: Input
) -> DayFacts:
    """Sum accepted rows up, day by day. Every input has a `day` column."""
    actions = engine.query("SELECT DISTINCT action FROM exposures", exposures=exposures)["action"].to_pylist()
    days = engine.query(
        sql_of("ml.features", "customer_days"),
        arms=tables.arms_table(actions),
        transactions=transactions,
        customers=customers,
        events=events,
        exposures=exposures,
        balances=balances,
    )
    categories = engine.query(sql_of("ml.features", "category_days"), transactions=transactions)
    return DayFacts(days, categories, engine.query(sql_of("ml.features", "order_days"), transactions=transactions))


def repeated_orders(engine: Engine, order_days: Input, within: int) -> pa.Table:
    """`customer_id`, `day` and `repeated`: how many orders of a day are later parts of one counted before.

    Parameters
    ----------
    order_days : of the whole history up to the last day that is asked for
    within : days between two parts of one order, at most
    """
    return engine.query(sql_of("ml.features", "repeated_orders"), {"order_days": within}, order_days=order_days)


def undone_orders(engine: Engine, transactions: Input, within: int | None) -> pa.Table | None:
    """`customer_id`, `day`, `undone_on`, `orders`, `amount`: orders that a refund took away, and when that was known.

    Parameters
    ----------
    transactions : accepted rows of the whole history up to the last day that is asked for
    within : days between an order and its refund, at most; None where no refund undoes an order
    """
    if within is None:
        return None
    return engine.query(sql_of("ml.features", "undone_orders"), {"undo_within_days": within}, transactions=transactions)


@dataclass(frozen=True)
class CustomerHistory:
    """Customer days, category days and attribute deliveries, none of them later than the day they were read for.

    Each input is anything the engine reads; all have a `day` column beside their declared ones.

    Parameters
    ----------
    repeated_orders : what `customer_days` counts too often (see the function); None where it counts each order once
    undone_orders : orders that refunds took away, and when (see the function); None where they all stay
    """

    engine: Engine
    spec: FeatureSpec
    customer_days: Input
    category_days: Input
    customers: Input
    repeated_orders: Input | None = None
    undone_orders: pa.Table | None = None

    @classmethod
    def from_rows(
        cls,
        engine: Engine,
        spec: FeatureSpec,
        *,
        transactions: Input,
        customers: Input | None = None,
        events: Input | None = None,
        exposures: Input | None = None,
        balances: Input | None = None,
    ) -> CustomerHistory:
        """Sum accepted rows of a whole history up to facts.

        Parameters
        ----------
        engine : Engine
            Runs the queries.
        spec : FeatureSpec
            What the project adds to the features.
        transactions : Input
            Rows with the columns of the contract and a `day` column (`Table.filled` makes both).
        customers, events, exposures, balances : Input, optional
            The same of the other input tables; None where the business has no such table.

        Returns
        -------
        CustomerHistory
            The facts of every day.
        """
        customers = tables.CUSTOMERS.plus(_columns(spec.attributes)).empty_days() if customers is None else customers
        events = tables.EVENTS.empty_days() if events is None else events
        exposures = tables.EXPOSURES.empty_days() if exposures is None else exposures
        balances = tables.BALANCES.empty_days() if balances is None else balances
        found = day_facts(
            engine,
            transactions=transactions,
            customers=customers,
            events=events,
            exposures=exposures,
            balances=balances,
        )
        repeated = repeated_orders(engine, found.order_days, spec.order_days)
        days = found.customer_days
        if repeated.num_rows:
            once = sql_of("ml.features", "orders_once")
            days = engine.query(once, customer_days=days, repeated_orders=repeated).cast(days.schema)
        names = ", ".join(["customer_id", "day", *(quoted(a.name) for a in spec.attributes)])
        attributes = engine.query(f"SELECT {names} FROM customers", customers=customers)
        undone = undone_orders(engine, transactions, spec.undo_within_days)
        return cls(engine, spec, days, found.category_days, attributes, undone_orders=undone)

    def until(self, day: date) -> CustomerHistory:
        """The same facts without anything after `day`."""

        def cut(table: Input) -> pa.Table:
            return self.engine.query("SELECT * FROM facts WHERE day <= $day", {"day": day}, facts=table)

        return replace(
            self,
            customer_days=cut(self.customer_days),
            category_days=cut(self.category_days),
            customers=cut(self.customers),
        )

    def fingerprint(self) -> str:
        """A short digest of the facts: changes when any day's counts or sums do, whatever machine or row order."""
        rows = self.engine.query(
            """
            SELECT day, COUNT(*) AS customers, SUM(lines) AS lines, SUM(orders) AS orders, SUM(events) AS events,
                   SUM(exposures) AS exposures, SUM(CAST(amount AS DECIMAL(18, 4))) AS amount
            FROM customer_days GROUP BY day ORDER BY day
            """,
            customer_days=self.customer_days,
        )
        return hashlib.sha256(repr(rows.to_pylist()).encode()).hexdigest()[:16]

    def known(self, days: Sequence[date]) -> pa.Table:
        """Pairs (customer_id, day) of every customer known on each of `days`."""
        return self.engine.query(
            """
            WITH known AS (SELECT customer_id, MIN(day) AS known_since FROM customer_days GROUP BY customer_id)
            SELECT known.customer_id AS customer_id, days.day AS day
            FROM days JOIN known ON known.known_since <= days.day
            ORDER BY days.day, known.customer_id
            """,
            days=pa.table({"day": pa.array(list(days), pa.date32())}),
            customer_days=self.customer_days,
        )

    def snapshot(self, pairs: pa.Table) -> pa.Table:
        """The features of each pair, as of the end of its day.

        Parameters
        ----------
        pairs : customer_id, day; each customer known on its day, no pair twice

        Returns
        -------
        One row per pair, ordered by day and customer: customer_id, day, and the columns of `features_table(spec)`.
        """
        if self.undone_orders is not None and self.undone_orders.num_rows and pairs.num_rows:
            days = sorted(pc.unique(pairs["day"]).to_pylist())
            once = _each_once(self.engine, self.customer_days, self.repeated_orders)
            whole = replace(self, customer_days=once, repeated_orders=None)
            return pa.concat_tables(
                [whole._as_known(day).snapshot(pairs.filter(pc.equal(pairs["day"], pa.scalar(day)))) for day in days]
            )
        repeated = _NONE_REPEATED.empty_table() if self.repeated_orders is None else self.repeated_orders
        tables_in = {
            "pairs": pairs,
            "customer_days": self.customer_days,
            "category_days": self.category_days,
            "repeated_orders": repeated,
        }
        features = self.engine.query(sql_of("ml.features", "snapshot"), **tables_in)
        if self.spec.categories:
            shares = self.engine.query(_shares(self.spec.categories), pairs=pairs, category_days=self.category_days)
            features = _beside(features, shares)
        if self.spec.attributes:
            attributes = self.engine.query(
                _attributes(self.spec.attributes).sql("duckdb"),
                pairs=pairs,
                customers=self.customers,
            )
            features = _beside(features, attributes)
        wanted = features_table(self.spec)
        order = ["customer_id", "day", *wanted.names[1:]]
        types = pa.schema(
            [wanted.schema().field("customer_id"), pa.field("day", pa.date32()), *list(wanted.schema())[1:]]
        )
        return features.select(order).cast(types)

    def _as_known(self, day: date) -> CustomerHistory:
        """The facts up to `day` without the orders that refunds had taken away by its end."""
        known = self.engine.query(
            sql_of("ml.features", "without_undone"),
            {"as_of": day},
            customer_days=_each_once(self.engine, self.customer_days, self.repeated_orders),
            undone_orders=self.undone_orders,
        )
        return replace(self, customer_days=known, repeated_orders=None, undone_orders=None)

    def snapshot_of(self, *days: date) -> pa.Table:
        """The snapshot of every customer known on each of `days`."""
        return self.snapshot(self.known(days))

    def outcomes(self, pairs: pa.Table, window_days: int, *, until: date) -> pa.Table:
        """Spend and orders of each pair's customer in the `window_days` days after the pair's day.

        Raises
        ------
        ValueError
            If a window has not closed by the end of `until`: an unmatured label is never a label.
        """
        if pairs.num_rows and (until - pc.max(pairs["day"]).as_py()).days < window_days:
            raise ValueError(f"outcomes over {window_days} days are not complete by {until} for every pair")
        return self.engine.query(
            sql_of("ml.features", "outcomes"),
            {"window": window_days},
            pairs=pairs,
            customer_days=self.customer_days if self.undone_orders is None else self._as_known(until).customer_days,
        )


def _each_once(engine: Engine, customer_days: Input, repeated_orders: Input | None) -> Input:
    """The facts in which an order that is delivered in parts counts once: what is taken away later is one of these."""
    if repeated_orders is None:
        return customer_days
    once = sql_of("ml.features", "orders_once")
    return engine.query(once, customer_days=customer_days, repeated_orders=repeated_orders)


_NONE_REPEATED = pa.schema(
    [pa.field("customer_id", pa.string()), pa.field("day", pa.date32()), pa.field("repeated", pa.int64())]
)  # a schema, not a table: making a table loads pandas, which importing the code location must not


def _beside(left: pa.Table, right: pa.Table) -> pa.Table:
    """Put the columns of `right` beside `left`; both are ordered by day and customer and have one row per pair."""
    if left.num_rows != right.num_rows:
        raise ValueError("a pair is given twice, or its customer was not yet known on its day")
    for name in right.column_names:
        if name not in ("customer_id", "day"):
            left = left.append_column(name, right[name])
    return left


@lru_cache(maxsize=16)
def _shares(categories: tuple[str, ...]) -> str:
    """Revenue share of each declared category in the 90 days up to the pair's day."""
    amount = "CASE WHEN category_days.amount > 0 THEN CAST(category_days.amount AS DECIMAL(18, 4)) ELSE 0 END"
    total = f"CAST(SUM({amount}) AS DOUBLE)"
    columns = []
    for category in categories:
        test = exp.column("category", "category_days").eq(exp.Literal.string(category)).sql("duckdb")
        part = f"CAST(SUM(CASE WHEN {test} THEN {amount} ELSE 0 END) AS DOUBLE)"
        share: exp.Expr = exp.maybe_parse(f"CASE WHEN {total} > 0 THEN {part} / {total} END", dialect="duckdb")
        columns.append(exp.alias_(share, category_column(category), quoted=True))
    window = "category_days.day <= pairs.day AND category_days.day > pairs.day - 90"
    query = (
        exp.select("pairs.customer_id AS customer_id", "pairs.day AS day", *columns)
        .from_("pairs")
        .join("category_days", on=f"category_days.customer_id = pairs.customer_id AND {window}", join_type="left")
        .group_by("pairs.customer_id", "pairs.day")
        .order_by("pairs.day", "pairs.customer_id")
    )
    return query.sql("duckdb")


def _attributes(attributes: Sequence[Attribute]) -> exp.Select:
    """The newest delivery of each attribute up to the pair's day."""
    columns = [exp.column(a.name, "customers", quoted=True) for a in attributes]
    ranked = (
        exp.select("pairs.customer_id AS customer_id", "pairs.day AS day", *columns)
        .select("ROW_NUMBER() OVER (PARTITION BY pairs.customer_id, pairs.day ORDER BY customers.day DESC) AS newest")
        .from_("pairs")
        .join(
            "customers", on="customers.customer_id = pairs.customer_id AND customers.day <= pairs.day", join_type="left"
        )
    )
    return (
        exp.select("customer_id", "day", *map(_as_known, attributes))
        .from_(ranked.subquery("ranked"))
        .where("newest = 1")
        .order_by("day", "customer_id")
    )


def _as_known(attribute: Attribute) -> exp.Expr:
    """The attribute on days on which it was known."""
    column = exp.column(attribute.name, quoted=True)
    if attribute.known_from is None:
        return column
    since = exp.cast(exp.Literal.string(attribute.known_from.isoformat()), "DATE")
    known = exp.Case().when(exp.column("day") >= since, column)
    return exp.alias_(known, attribute.name, quoted=True)

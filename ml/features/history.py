"""The history of customers up to a day, and the snapshots and outcomes computed from it.

Belongs here: every question the chain asks of the facts of days. Does not belong here: the facts of a day (see
`day_facts`), a feature's formula (see `snapshot.sql` and `windows`), and where rows come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

import ml.features.windows as windows
from ml import tables
from ml.engine import Engine, Files, Input, quoted, sql_of
from ml.features.added import category_shares, columns_added, newest_attributes
from ml.features.context import context_features
from ml.features.day_facts import day_facts, repeated_orders, undone_orders
from ml.features.declared import compute
from ml.features.spec import FeatureSpec, attribute_columns, features_table

MIN_RANGE_DAYS = 4  # from so many days on, running totals cost less than joining each day with all facts before it
MAX_PAIRS = 1_000_000  # pairs that one query of a range holds
MIN_SPLIT_PAIRS = 200_000  # sparse pairs that are split by weekdays; fewer cost less than reading facts again
MAX_GROUPS = 14  # of customers with the same weekdays, each a range of its own
_NEVER = date(1, 1, 1)


@dataclass(frozen=True)
class CustomerHistory:
    """What customers did, by day, and the features and outcomes that follow from it.

    A history holds nothing later than the day it was read for. A snapshot looks back from its day and an outcome looks
    ahead from it, so no feature can see the future, whatever else the history holds.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    spec : FeatureSpec
        The project's categories and attributes, and what counts as one order.
    customer_days : Input
        Table `customer_days` with its `day`: one row per customer and day on which anything happened.
    category_days : Input
        Table `category_days` with its `day`: net revenue per customer, day and category.
    customers : Input
        Deliveries of the customers table: customer_id, day of the delivery, and the attributes of `spec`.
    repeated_orders : Input, optional
        Orders that `customer_days` counts more than once (`repeated_orders`). None if it counts each order once.
    undone_orders : pa.Table, optional
        Orders that refunds undo, and when (`undone_orders`). None if no refund undoes an order.
    rows : Mapping of str to Input, optional
        Accepted rows of the input tables that `spec.declared` measures, with their `day`.
    contexts : mapping of str to Input
        Accepted rows of each context of `spec` by the name of its table (`Context.table`), with their `day`.

    Examples
    --------
    Two customers with three orders between them, as of 22 January: the third order has not happened yet.

    >>> from datetime import date, datetime
    >>> from ml.engine import DuckDB
    >>> orders = pa.table(
    ...     {
    ...         "customer_id": ["anna", "ben", "anna"],
    ...         "occurred_at": [datetime(2024, 1, 2), datetime(2024, 1, 20), datetime(2024, 1, 25)],
    ...         "amount": [30.0, 12.0, 50.0],
    ...     }
    ... )
    >>> transactions = tables.TRANSACTIONS.filled(orders)
    >>> history = CustomerHistory.from_rows(DuckDB(threads=1), FeatureSpec(), transactions=transactions)
    >>> snapshot = history.snapshot_of(date(2024, 1, 22))
    >>> snapshot.select(["customer_id", "recency_days", "orders", "spend"]).to_pylist()
    [{'customer_id': 'anna', 'recency_days': 20, 'orders': 1, 'spend': 30.0},
     {'customer_id': 'ben', 'recency_days': 2, 'orders': 1, 'spend': 12.0}]

    What they spent in the week that followed:

    >>> pairs = history.known([date(2024, 1, 22)])
    >>> history.outcomes(pairs, 7, until=date(2024, 1, 31))["spend"].to_pylist()
    [50.0, 0.0]
    """

    engine: Engine
    spec: FeatureSpec
    customer_days: Input
    category_days: Input
    customers: Input
    repeated_orders: Input | None = None
    undone_orders: pa.Table | None = None
    rows: Mapping[str, Input] = field(default_factory=dict)
    contexts: Mapping[str, Input] = field(default_factory=dict)

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
        contexts: Mapping[str, Input] | None = None,
    ) -> CustomerHistory:
        """Sum the accepted rows of a whole history.

        Parameters
        ----------
        engine : Engine
            Runs the queries.
        spec : FeatureSpec
            The project's categories and attributes, and what counts as one order.
        transactions : Input
            Accepted rows of `transactions`, with the columns of the contract and a `day` (`Table.filled` makes both).
        customers, events, exposures, balances : Input, optional
            Accepted rows of the other input tables. None if the business has no such table.
        contexts : mapping of str to Input, optional
            Accepted rows of each context of `spec` by the name of its table. None if the project has no context.

        Returns
        -------
        CustomerHistory
            The history, in which each order counts once.
        """
        customers = (
            tables.CUSTOMERS.plus(attribute_columns(spec.attributes)).empty_days() if customers is None else customers
        )
        events = tables.EVENTS.empty_days() if events is None else events
        exposures = tables.EXPOSURES.empty_days() if exposures is None else exposures
        balances = tables.BALANCES.empty_days() if balances is None else balances
        facts = day_facts(
            engine,
            transactions=transactions,
            customers=customers,
            events=events,
            exposures=exposures,
            balances=balances,
            event_roles=spec.event_roles,
        )
        repeated = repeated_orders(engine, facts.order_days, spec.order_days)
        names = ", ".join(["customer_id", "day", *(quoted(a.name) for a in spec.attributes)])
        attributes = engine.query(f"SELECT {names} FROM customers", customers=customers)
        undone = undone_orders(engine, transactions, spec.undo_within_days)
        inputs = {"transactions": transactions, "events": events, "exposures": exposures, "balances": balances}
        rows = {name: inputs[name] for name in spec.declared.tables}
        parts = repeated if repeated.num_rows else None
        return cls(
            engine, spec, facts.customer_days, facts.category_days, attributes, parts,
            undone_orders=undone, rows=rows, contexts=contexts or {},
        ).each_once()  # fmt: skip

    @property
    def money(self) -> dict[str, bool]:
        """The parameter of queries that sum the money that value is reckoned in."""
        return {"in_margin": self.spec.value_of == "margin"}

    def until(self, day: date) -> CustomerHistory:
        """Leave out everything after a day.

        Parameters
        ----------
        day : date
            Last day to keep.

        Returns
        -------
        CustomerHistory
            The history up to the end of `day`.
        """

        def cut(table: Input) -> Input:
            if isinstance(table, Files):
                return replace(table, until=day if table.until is None else min(day, table.until))
            return self.engine.query("SELECT * FROM facts WHERE day <= $day", {"day": day}, facts=table)

        return replace(
            self,
            customer_days=cut(self.customer_days),
            category_days=cut(self.category_days),
            customers=cut(self.customers),
            contexts={name: cut(rows) for name, rows in self.contexts.items()},
        )

    def each_once(self) -> CustomerHistory:
        """Count an order that is delivered in parts once, in the facts themselves.

        Returns
        -------
        CustomerHistory
            The same history without `repeated_orders`.
        """
        if self.repeated_orders is None:
            return self
        once = sql_of("ml.features", "orders_once")
        days = self.engine.query(once, customer_days=self.customer_days, repeated_orders=self.repeated_orders)
        schema = tables.CUSTOMER_DAYS.schema().append(pa.field("day", pa.date32()))
        return replace(self, customer_days=days.select(schema.names).cast(schema), repeated_orders=None)

    def fingerprint(self) -> str:
        """Digest the history: the digest changes when any day's counts or sums do, and not with the order of rows.

        Returns
        -------
        str
            16 hexadecimal digits, the same on every machine.
        """
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
        """List the customers known on each of some days.

        A customer is known from the first day on which anything is recorded of it.

        Parameters
        ----------
        days : sequence of date
            Days to look at.

        Returns
        -------
        pa.Table
            Columns customer_id and day, ordered by day and customer: pairs for `snapshot` and `outcomes`.
        """
        return self.engine.query(
            """
            SELECT known.customer_id AS customer_id, days.day AS day
            FROM days JOIN known ON known.known_since <= days.day
            ORDER BY days.day, known.customer_id
            """,
            days=pa.table({"day": pa.array(list(days), pa.date32())}),
            known=self._known_since,
        )

    @cached_property
    def _known_since(self) -> pa.Table:
        """The first day on which anything is recorded of each customer."""
        return self.engine.query(
            "SELECT customer_id, MIN(day) AS known_since FROM customer_days GROUP BY customer_id",
            customer_days=self.customer_days,
        )

    def snapshot(self, pairs: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
        """Compute the features of each pair of customer and day, as of the end of the day.

        Parameters
        ----------
        pairs : pa.Table
            Columns customer_id and day: each customer known on its day, no pair twice.
        columns : sequence of str, optional
            Features to compute; others cost nothing. All by default.

        Returns
        -------
        pa.Table
            One row per pair, ordered by day and customer: customer_id, day, and the other columns of
            `features_table(spec)`, as far as they are in `columns`.

        Raises
        ------
        ValueError
            If the project adds features, and a pair is given twice or its customer is not known on its day.
        """
        if self.undone_orders is not None and self.undone_orders.num_rows and pairs.num_rows:
            days = sorted(pc.unique(pairs["day"]).to_pylist())
            whole = self.each_once()
            parts = {day: pairs.filter(pc.equal(pairs["day"], pa.scalar(day))) for day in days}
            return pa.concat_tables([whole._as_known(day).snapshot(part, columns) for day, part in parts.items()])
        customer_id, *fields = features_table(self.spec).schema()
        asked = {field.name for field in fields} if columns is None else set(columns)
        added = columns_added(self.spec)
        # Declared ratios and contexts may read any feature.
        wanted = {field.name for field in fields} if asked & (added["declared"] | added["contexts"]) else asked
        features = self._summed(pairs, wanted)
        if wanted & added["categories"]:
            of_categories = self.engine.query(
                category_shares(self.spec.categories), pairs=pairs, category_days=self.category_days
            )
            features = _with_columns_of(features, of_categories)
        if wanted & added["attributes"]:
            attributes = self.engine.query(
                newest_attributes(self.spec.attributes).sql("duckdb"),
                pairs=pairs,
                customers=self.customers,
            )
            features = _with_columns_of(features, attributes)
        if wanted & added["declared"]:
            declared = compute(self.engine, self.spec.declared, pairs, self.rows, features)
            features = _with_columns_of(features, declared)
        for context in self.spec.contexts if wanted & added["contexts"] else ():
            of_context = context_features(self.engine, context, features, self.contexts[context.table])
            features = _with_columns_of(features, of_context)
        others = [field for field in fields if field.name in asked]
        schema = pa.schema([customer_id, pa.field("day", pa.date32()), *others])
        return features.select(schema.names).cast(schema)

    def _summed(self, pairs: pa.Table, wanted: Set[str]) -> pa.Table:
        """The features that every project has, by day and customer, a bounded number of pairs at a time."""
        parts = list(self._ranges(pairs))
        if len(parts) > 1:
            rows = pa.concat_tables([self._summed_range(part, wanted) for part in parts])
            features = rows.sort_by([("day", "ascending"), ("customer_id", "ascending")])
        else:
            features = self._summed_range(pairs, wanted)
        with_visits = self.spec.has_visits or bool(self.spec.event_roles.goals)
        for query, is_there in (("margins", self.spec.has_margin), ("visits", with_visits)):
            if not is_there or not wanted & {one.name for one in self.spec.of_facts}:
                continue
            of_facts = self.engine.query(sql_of("ml.features", query), pairs=pairs, customer_days=self.customer_days)
            names = [one.name for one in self.spec.of_facts if one.name in of_facts.column_names]
            features = _with_columns_of(features, of_facts.select(["customer_id", *names]))
        return features

    def _ranges(self, pairs: pa.Table) -> Iterator[pa.Table]:
        """Split pairs into ranges: customers with the same weekdays, a bounded number of pairs each."""
        for part in _by_weekdays(self.engine, pairs):
            days = sorted(pc.unique(part["day"]).to_pylist())
            size = max(1, MAX_PAIRS * len(days) // max(part.num_rows, 1))
            for i in range(0, len(days), size):
                batch = pa.array(days[i : i + size], pa.date32())
                yield part if size >= len(days) else part.filter(pc.is_in(part["day"], batch))

    def _summed_range(self, pairs: pa.Table, wanted: Set[str]) -> pa.Table:
        days = sorted(pc.unique(pairs["day"]).to_pylist())
        customers = _count_customers(pairs)
        is_range = len(days) >= MIN_RANGE_DAYS and pairs.num_rows >= len(days) * customers / 2
        inputs = {"pairs": pairs, "customer_days": self.customer_days, "category_days": self.category_days}
        inputs |= {"calendar": windows.calendar(days)} if is_range else {}
        has_repeated_orders = self.repeated_orders is not None
        inputs |= {"repeated_orders": self.repeated_orders} if has_repeated_orders else {}
        query = windows.with_sums(
            sql_of("ml.features", "snapshot"),
            frozenset(wanted),
            is_range=is_range,
            has_repeated_orders=has_repeated_orders,
            is_sample=2 * customers < self._known_since.num_rows,
        )
        bounds = {"first_day": days[0], "last_day": days[-1]} if days else {"first_day": _NEVER, "last_day": _NEVER}
        return self.engine.query(query, bounds, **inputs)

    def _as_known(self, day: date) -> CustomerHistory:
        """The history up to `day`, without the orders that refunds had undone by its end."""
        known = self.engine.query(
            sql_of("ml.features", "without_undone"),
            {"as_of": day},
            customer_days=self.each_once().customer_days,
            undone_orders=self.undone_orders,
        )
        return replace(self, customer_days=known, repeated_orders=None, undone_orders=None)

    def snapshot_of(self, *days: date) -> pa.Table:
        """Compute the features of every customer known on each of some days.

        Parameters
        ----------
        *days : date
            Days to look at.

        Returns
        -------
        pa.Table
            As `snapshot` of the pairs of `known`.
        """
        return self.snapshot(self.known(days))

    def outcomes(self, pairs: pa.Table, window_days: int, *, until: date) -> pa.Table:
        """Sum what each pair's customer spent and ordered in the days after the pair's day.

        Where the history's value is of margin, spend is the margin of what was bought; a line without one adds nothing.

        Parameters
        ----------
        pairs : pa.Table
            Columns customer_id and day.
        window_days : int
            Days after the pair's day that count.
        until : date
            Last day that the history covers.

        Returns
        -------
        pa.Table
            Columns customer_id, day, spend (currency) and orders, ordered by day and customer.

        Raises
        ------
        ValueError
            If a window is still open at the end of `until`: its label would be incomplete.
        """
        if pairs.num_rows and (until - pc.max(pairs["day"]).as_py()).days < window_days:
            raise ValueError(f"outcomes over {window_days} days are not complete by {until} for every pair")
        return self.engine.query(
            sql_of("ml.features", "outcomes"),
            {"window": window_days} | self.money,
            pairs=pairs,
            customer_days=self.customer_days if self.undone_orders is None else self._as_known(until).customer_days,
        )


_WEEKDAYS = """
    SELECT customer_id, SUM(flag) AS weekdays
    FROM (
        SELECT DISTINCT customer_id, POWER(2, DATE_DIFF('day', DATE '2000-01-03', day) % 7) AS flag FROM pairs
    ) AS flags
    GROUP BY customer_id
"""


def _by_weekdays(engine: Engine, pairs: pa.Table) -> list[pa.Table]:
    """Split pairs by the weekdays that their customers have, so that each part is a range of the same days."""
    days = pc.unique(pairs["day"])
    if (
        pairs.num_rows < MIN_SPLIT_PAIRS
        or len(days) < MIN_RANGE_DAYS
        or pairs.num_rows >= len(days) * _count_customers(pairs) / 2
    ):
        return [pairs]
    groups = engine.query(_WEEKDAYS, pairs=pairs)
    weekdays = pc.unique(groups["weekdays"]).to_pylist()
    if not 1 < len(weekdays) <= MAX_GROUPS:
        return [pairs]
    people = (groups.filter(pc.equal(groups["weekdays"], flags))["customer_id"] for flags in weekdays)
    return [pairs.filter(pc.is_in(pairs["customer_id"], some.combine_chunks())) for some in people]


def _count_customers(pairs: pa.Table) -> int:
    return int(pc.count_distinct(pairs["customer_id"]).as_py())


def _with_columns_of(left: pa.Table, right: pa.Table) -> pa.Table:
    """Append the columns of `right` to `left`; both are ordered by day and customer and have one row per pair."""
    if left.num_rows != right.num_rows:
        raise ValueError("a pair is given twice, or its customer was not yet known on its day")
    for name in right.column_names:
        if name not in ("customer_id", "day"):
            left = left.append_column(name, right[name])
    return left

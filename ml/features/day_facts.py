"""Facts of each day: sums of accepted rows, and the orders that are delivered in parts or undone by refunds.

Belongs here: summing rows by day. Does not belong here: what follows from the sums of many days (see `history`).
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from ml import tables
from ml.engine import Engine, Input, sql_of
from ml.features.event_roles import GUESSED, EventRoles, event_roles_table


@dataclass(frozen=True)
class DayFacts:
    """Sums of the rows of some days, each day by itself: the same whatever other days are summed with it.

    Parameters
    ----------
    customer_days, category_days, order_days : pa.Table
        Tables of these names (`ml.tables`), with their `day`.
    """

    customer_days: pa.Table
    category_days: pa.Table
    order_days: pa.Table


def day_facts(
    engine: Engine,
    *,
    transactions: Input,
    customers: Input,
    events: Input,
    exposures: Input,
    balances: Input,
    event_roles: EventRoles = GUESSED,
) -> DayFacts:
    """Sum accepted rows, day by day.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    transactions, customers, events, exposures, balances : Input
        Accepted rows of the input tables of these names (`ml.tables.INPUTS`), with their `day`.
    event_roles : EventRoles
        What types of events count as.

    Returns
    -------
    DayFacts
        Tables `customer_days`, `category_days` and `order_days`, with their `day`.

    Examples
    --------
    >>> from datetime import datetime
    >>> from ml.engine import DuckDB
    >>> lines = {"customer_id": ["a", "a"], "occurred_at": [datetime(2024, 1, 2, 12)] * 2, "amount": [30.0, 12.5]}
    >>> inputs = {name: table.empty_days() for name, table in tables.INPUTS.items()}
    >>> inputs["transactions"] = tables.TRANSACTIONS.filled(pa.table(lines))
    >>> day_facts(DuckDB(threads=1), **inputs).customer_days.select(["orders", "lines", "amount"]).to_pylist()
    [{'orders': 1, 'lines': 2, 'amount': 42.5}]
    """
    actions = engine.query("SELECT DISTINCT action FROM exposures", exposures=exposures)["action"].to_pylist()
    event_types = engine.query("SELECT DISTINCT event_type FROM events", events=events)["event_type"].to_pylist()
    days = engine.query(
        sql_of("ml.features", "customer_days"),
        arms=tables.arms_table(actions),
        event_roles=event_roles_table(event_types, event_roles),
        transactions=transactions,
        customers=customers,
        events=events,
        exposures=exposures,
        balances=balances,
    )
    categories = engine.query(sql_of("ml.features", "category_days"), transactions=transactions)
    return DayFacts(days, categories, engine.query(sql_of("ml.features", "order_days"), transactions=transactions))


def repeated_orders(engine: Engine, order_days: Input, within: int) -> pa.Table:
    """Count the orders of each day that are later parts of an order counted before.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    order_days : Input
        Table `order_days` of the whole history up to the last day of interest, with its `day`.
    within : int
        Most days between two parts of one order (`FeatureSpec.order_days`).

    Returns
    -------
    pa.Table
        Columns customer_id, day and repeated (a count).

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import DuckDB
    >>> parts = pa.table(
    ...     {"customer_id": ["a", "a"], "day": [date(2024, 1, 2), date(2024, 1, 5)], "order_number": [17, 17]}
    ... )
    >>> repeated_orders(DuckDB(threads=1), parts, within=30).to_pylist()
    [{'customer_id': 'a', 'day': datetime.date(2024, 1, 5), 'repeated': 1}]
    """
    return engine.query(sql_of("ml.features", "repeated_orders"), {"order_days": within}, order_days=order_days)


def undone_orders(engine: Engine, transactions: Input, within: int | None) -> pa.Table | None:
    """Match each refund of a whole order with the order it undoes.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    transactions : Input
        Accepted rows of the whole history up to the last day of interest, with their `day`.
    within : int or None
        Most days between an order and its refund (`FeatureSpec.undo_within_days`). None if no refund undoes an order.

    Returns
    -------
    pa.Table or None
        Columns customer_id, day (of the order), undone_on (day of the refund), orders, amount, margin and refund_margin
        (currency). None where `within` is None.

    Examples
    --------
    >>> from datetime import datetime
    >>> from ml.engine import DuckDB
    >>> stamps = [datetime(2024, 1, 2, 10), datetime(2024, 1, 4, 9)]
    >>> transactions = pa.table(
    ...     {
    ...         "customer_id": ["a", "a"], "day": [stamp.date() for stamp in stamps], "occurred_at": stamps,
    ...         "order_id": ["1", "2"], "amount": [80.0, -80.0],
    ...     }
    ... )
    >>> undone_orders(DuckDB(threads=1), transactions, within=7).select(["orders", "amount", "undone_on"]).to_pylist()
    [{'orders': 1, 'amount': 80.0, 'undone_on': datetime.date(2024, 1, 4)}]
    """
    if within is None:
        return None
    if isinstance(transactions, pa.Table) and "margin" not in transactions.column_names:
        transactions = transactions.append_column("margin", pa.nulls(transactions.num_rows, pa.float64()))
    return engine.query(sql_of("ml.features", "undone_orders"), {"undo_within_days": within}, transactions=transactions)

"""Orders: whether one has lines on several days, belongs to several customers, or comes again changed.

Belongs here: questions about `order_id`. Does not belong here: what counts as one order (see `ml.features`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ml.engine import Engine, Input, quoted
from ml.profile.observations import Code, Observation

SHARED = 0.01  # share of the order ids that may belong to several customers by mistakes alone
AGAIN = 0.005


def observe(engine: Engine, table: str, rows: Input) -> Iterator[Observation]:
    """What is strange about orders.

    Parameters
    ----------
    rows : `customer_id`, `order_id`, `day`
    """
    (found,) = engine.query(
        """
        WITH orders AS (
            SELECT order_id, COUNT(DISTINCT customer_id) AS customers, MIN(day) AS first, MAX(day) AS last
            FROM rows WHERE order_id IS NOT NULL AND day IS NOT NULL GROUP BY order_id
        ),
        own AS (
            SELECT customer_id, order_id, MIN(day) AS first, MAX(day) AS last
            FROM rows WHERE order_id IS NOT NULL AND day IS NOT NULL GROUP BY customer_id, order_id
        )
        SELECT (SELECT COUNT(*) FROM orders) AS orders,
               (SELECT COUNT(*) FROM orders WHERE customers > 1) AS shared,
               (SELECT MIN(order_id) FROM orders WHERE customers > 1) AS example,
               (SELECT COUNT(*) FROM own WHERE last > first) AS several,
               (SELECT MAX(DATE_DIFF('day', first, last)) FROM own) AS longest
        """,
        rows=rows,
    ).to_pylist()
    orders = found["orders"]
    if not orders:
        return
    if found["several"]:
        said = {"orders": orders, "several": found["several"], "share": found["several"] / orders}
        yield Observation(Code.ORDERS_ON_SEVERAL_DAYS, table, {**said, "longest": found["longest"]})
    if found["shared"] > SHARED * orders:
        said = {"orders": orders, "shared": found["shared"], "share": found["shared"] / orders}
        yield Observation(Code.ORDER_IDS_SHARED, table, {**said, "example": found["example"]})


def changed(engine: Engine, table: str, rows: Input, states: Mapping[str, str]) -> Iterator[Observation]:
    """Orders that are there in several states, or in several files: delivered again rather than ordered again.

    Parameters
    ----------
    rows : `order_id`, `source` and the columns of `states`
    states : columns that say what became of an order: the source's name to the name in `rows`
    """
    for source, column in {**states, "file": "source"}.items():
        (found,) = engine.query(
            f"""
            WITH orders AS (
                SELECT order_id, COUNT(DISTINCT {quoted(column)}) AS several FROM rows
                WHERE order_id IS NOT NULL GROUP BY order_id
            )
            SELECT COUNT(*) AS orders, SUM(CASE WHEN several > 1 THEN 1 ELSE 0 END) AS again,
                   MIN(CASE WHEN several > 1 THEN order_id END) AS example
            FROM orders
            """,
            rows=rows,
        ).to_pylist()
        if found["orders"] and found["again"] > AGAIN * found["orders"]:
            said = {"orders": found["orders"], "again": int(found["again"]), "share": found["again"] / found["orders"]}
            yield Observation(Code.ORDERS_COME_AGAIN, table, {**said, "column": source, "example": found["example"]})
            return

"""Orders: whether one has lines on several days, belongs to several customers, or comes again changed.

Belongs here: questions about `order_id`. Does not belong here: what counts as one order (see `ml.features`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from ml.engine import Engine, Input, quoted
from ml.profile.observations import Code, Observation

UNIQUE_ROWS = 20  # of fewer rows, no two are alike in many a column
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


def without_ids(
    engine: Engine, table: str, rows: pa.Table, newest: Input, columns: Mapping[str, str]
) -> Iterator[Observation]:
    """Whether nothing tells a purchase that was sent twice from a second one, and which columns might.

    Parameters
    ----------
    rows : `transaction_id`
    newest : the columns of `columns`
    columns : columns that nothing maps: the source's name to the name in `newest`
    """
    if not rows.num_rows or rows["transaction_id"].null_count < rows.num_rows:
        return
    counts = ", ".join(f"COUNT(DISTINCT {quoted(name)}) AS {quoted(name)}" for name in columns.values())
    (found,) = engine.query(
        f"SELECT COUNT(*) AS rows{', ' if counts else ''}{counts} FROM rows", rows=newest
    ).to_pylist()
    unique = [source for source, name in columns.items() if found[name] == found["rows"] >= UNIQUE_ROWS]
    yield Observation(Code.NO_TRANSACTION_ID, table, {"columns": unique})


def changed(
    engine: Engine, table: str, rows: Input, states: Mapping[str, str], content: Sequence[str]
) -> Iterator[Observation]:
    """Orders that are there in several states, or in several files: delivered again rather than ordered again.

    An order whose rows all its files have as they are has not changed: files that overlap repeat it, and what is equal
    in every column is for `duplicates` to say.

    Parameters
    ----------
    rows : the columns of the table, `source` and the columns of `states`
    content : the columns of the table
    states : columns that say what became of an order: the source's name to the name in `rows`
    """
    listed = ", ".join(map(quoted, content))
    of_files = f"""
        lines AS (
            SELECT order_id, hash({listed}) AS said, COUNT(DISTINCT source) AS files FROM rows
            WHERE order_id IS NOT NULL GROUP BY order_id, said
        ),
        files AS (
            SELECT order_id, COUNT(DISTINCT source) AS files FROM rows WHERE order_id IS NOT NULL GROUP BY order_id
        ),
        orders AS (
            SELECT lines.order_id AS order_id, MAX(files.files) - MIN(lines.files) + 1 AS several
            FROM lines JOIN files ON lines.order_id = files.order_id GROUP BY lines.order_id
        )
    """
    for source, column in {**states, "file": "source"}.items():
        of_states = f"""
            orders AS (
                SELECT order_id, COUNT(DISTINCT {quoted(column)}) AS several FROM rows
                WHERE order_id IS NOT NULL GROUP BY order_id
            )
        """
        (found,) = engine.query(
            f"""
            WITH {of_files if column == "source" else of_states}
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

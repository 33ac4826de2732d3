"""Orders: whether one has lines on several days, belongs to several customers, or is delivered again with changes.

Belongs here: questions about `order_id`. Does not belong here: what counts as one order (see `ml.features`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from ml.engine import Engine, Input, quoted
from ml.profile.observations import Code, Observation

MIN_UNIQUE_ROWS = 20  # in fewer rows, many a column has no value twice
MAX_SHARED_SHARE = 0.01  # share of the order ids that belong to several customers by mistakes alone
MAX_REPEATED_SHARE = 0.005


def observe(engine: Engine, table: str, rows: Input) -> Iterator[Observation]:
    """Orders with lines on several days, and order ids of several customers.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    table : str
        Name of the table.
    rows : Input
        `customer_id`, `order_id` and `day`.
    """
    (counts,) = engine.query(
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
    orders, several, shared = counts["orders"], counts["several"], counts["shared"]
    if not orders:
        return
    if several:
        figures = {"orders": orders, "several": several, "share": several / orders, "longest": counts["longest"]}
        yield Observation(Code.ORDERS_ON_SEVERAL_DAYS, table, figures)
    if shared > MAX_SHARED_SHARE * orders:
        figures = {"orders": orders, "shared": shared, "share": shared / orders, "example": counts["example"]}
        yield Observation(Code.ORDER_IDS_SHARED, table, figures)


def observe_missing_ids(
    engine: Engine, table: str, rows: pa.Table, newest: Input, columns: Mapping[str, str]
) -> Iterator[Observation]:
    """Whether nothing distinguishes a purchase that was sent twice from a second one, and which columns might.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    table : str
        Name of the table.
    rows : pa.Table
        `transaction_id`.
    newest : Input
        The columns of `columns`.
    columns : mapping of str to str
        Unmapped columns: the source's name to the name in `newest`.
    """
    if not rows.num_rows or rows["transaction_id"].null_count < rows.num_rows:
        return
    counts = ", ".join(f"COUNT(DISTINCT {quoted(name)}) AS {quoted(name)}" for name in columns.values())
    (distinct,) = engine.query(
        f"SELECT COUNT(*) AS rows{', ' if counts else ''}{counts} FROM rows", rows=newest
    ).to_pylist()
    unique = [source for source, name in columns.items() if distinct[name] == distinct["rows"] >= MIN_UNIQUE_ROWS]
    yield Observation(Code.NO_TRANSACTION_ID, table, {"columns": unique})


def observe_repeats(
    engine: Engine, table: str, rows: Input, states: Mapping[str, str], content: Sequence[str]
) -> Iterator[Observation]:
    """Orders in several states, or with different rows in several files: delivered again rather than ordered again.

    An order with the same rows in all of its files has not changed: files that overlap repeat it, and rows that are
    equal in every column are the concern of `validation.duplicates`.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    table : str
        Name of the table.
    rows : Input
        The columns of the table, `source` and the columns of `states`.
    states : mapping of str to str
        Columns that hold the state of an order: the source's name to the name in `rows`.
    content : sequence of str
        The columns of the table.
    """
    listed = ", ".join(map(quoted, content))
    of_files = f"""
        lines AS (
            SELECT order_id, hash({listed}) AS content_hash, COUNT(DISTINCT source) AS files FROM rows
            WHERE order_id IS NOT NULL GROUP BY order_id, content_hash
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
        (counts,) = engine.query(
            f"""
            WITH {of_files if column == "source" else of_states}
            SELECT COUNT(*) AS orders, SUM(CASE WHEN several > 1 THEN 1 ELSE 0 END) AS again,
                   MIN(CASE WHEN several > 1 THEN order_id END) AS example
            FROM orders
            """,
            rows=rows,
        ).to_pylist()
        orders, again = counts["orders"], counts["again"]
        if orders and again > MAX_REPEATED_SHARE * orders:
            figures = {"orders": orders, "again": int(again), "share": again / orders}
            yield Observation(
                Code.ORDERS_COME_AGAIN, table, {**figures, "column": source, "example": counts["example"]}
            )
            return

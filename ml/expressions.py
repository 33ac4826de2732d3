"""SQL expressions over one row, evaluated for the rows of a table in memory and in their order.

Belongs here: evaluation. Does not belong here: whether an expression is allowed (see `ml.rules`), and queries over more
than one row.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from sqlglot import exp

from ml.engine import in_memory

_ROW_NUMBER = "row_number_in_table"


def evaluate(table: pa.Table, expressions: Mapping[str, exp.Expr | str]) -> pa.Table:
    """Evaluate expressions over the columns of a table.

    Parameters
    ----------
    table : pa.Table
        The inputs.
    expressions : Mapping of str to str or exp.Expr
        Name of the new column to its expression, in DuckDB's dialect.

    Returns
    -------
    pa.Table
        The new columns, one row per row of `table`, in its order.

    Examples
    --------
    >>> table = pa.table({"spend": [30.0, 10.0], "orders": [3, 2]})
    >>> evaluate(table, {"per_order": "spend / orders"}).to_pydict()
    {'per_order': [10.0, 5.0]}
    """
    numbered = table.append_column(_ROW_NUMBER, pa.array(np.arange(table.num_rows)))
    columns = [exp.alias_(exp.maybe_parse(text, dialect="duckdb"), name) for name, text in expressions.items()]
    query = exp.select(*columns).from_("inputs").order_by(_ROW_NUMBER)
    return in_memory().query(query.sql("duckdb"), inputs=numbered)

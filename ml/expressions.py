"""What SQL expressions of one row come to, for the rows of a table in memory and in their order.

Belongs here: computing them. Does not belong here: whether an expression may be written (see `ml.rules`), and queries
over more than one row.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from sqlglot import exp

from ml.engine import in_memory

_PLACE = "row_place"


def evaluate(table: pa.Table, expressions: Mapping[str, exp.Expr | str]) -> pa.Table:
    """The columns that expressions over the columns of a table come to, a row for each of its rows.

    Parameters
    ----------
    expressions : name of the new column to what it is, in DuckDB's dialect
    """
    numbered = table.append_column(_PLACE, pa.array(np.arange(table.num_rows)))
    wanted = [exp.alias_(exp.maybe_parse(one, dialect="duckdb"), name) for name, one in expressions.items()]
    query = exp.select(*wanted).from_("inputs").order_by(_PLACE)
    return in_memory().query(query.sql("duckdb"), inputs=numbered)

"""Audiences: rule segments with multiple membership, beside the string.

Belongs here: turning predicates into one statement. Does not belong here: what a predicate may contain (see
`ml.rules`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa
from sqlglot import exp

from ml import rules, tables
from ml.engine import Engine
from ml.segments.specs import AudienceSpec

MEDIAN = "median_"


def check_audiences(specs: Sequence[AudienceSpec], columns: Collection[str]) -> None:
    """Raise `ml.rules.RuleError` for the first predicate that is not a pure expression over `columns`."""
    for spec in specs:
        _predicate(spec, columns)


def audiences(engine: Engine, inputs: pa.Table, specs: Sequence[AudienceSpec]) -> pa.Table:
    """Who is in which audience, in one statement.

    Parameters
    ----------
    inputs : `layer_inputs`, of any days
    specs : a predicate that is missing (NULL) for a customer does not hold. ``$median_<column>`` is the median of the
        column over the day's customers where it is known.

    Returns
    -------
    customer_id, day and the columns of `audiences`, by day, customer and audience.

    Raises
    ------
    RuleError
        If a predicate uses a column that `inputs` lacks, or anything but a pure expression.
    """
    schema = tables.AUDIENCES.schema().insert(1, pa.field("day", pa.date32()))
    if not specs:
        return schema.empty_table()
    trees = [_predicate(spec, inputs.column_names) for spec in specs]
    medians = sorted({node.name for tree in trees for node in tree.find_all(exp.Placeholder)})
    middle = exp.select("day").from_("inputs").group_by("day")
    for name in medians:
        column = exp.column(name.removeprefix(MEDIAN), "inputs", quoted=True)
        middle = middle.select(exp.alias_(exp.func("MEDIAN", exp.cast(column, "DOUBLE")), name, quoted=True))
    branches = [
        exp.select("inputs.customer_id AS customer_id", "inputs.day AS day")
        .select(exp.alias_(exp.Literal.string(spec.name), "audience"))
        .from_("inputs")
        .join("medians", on="medians.day = inputs.day")
        .where(exp.func("COALESCE", exp.paren(tree.transform(_resolved)), exp.false()))
        for spec, tree in zip(specs, trees, strict=True)
    ]
    united: exp.Query = branches[0]
    for branch in branches[1:]:
        united = exp.union(united, branch, distinct=False)
    query = (
        exp.select("customer_id", "day", "audience")
        .with_("medians", middle)
        .with_("members", united)
        .from_("members")
        .order_by("day", "customer_id", "audience")
    )
    return engine.query(query.sql("duckdb"), inputs=inputs).cast(schema)


def _predicate(spec: AudienceSpec, columns: Collection[str]) -> exp.Expr:
    return rules.scalar(spec.when, columns, [MEDIAN + name for name in columns])


def _resolved(node: exp.Expr) -> exp.Expr:
    """Columns are of `inputs`; a ``$median_…`` is a column of the day's medians."""
    if isinstance(node, exp.Placeholder):
        return exp.column(node.name, "medians", quoted=True)
    if isinstance(node, exp.Column) and not node.table:
        return exp.column(node.name, "inputs", quoted=node.this.quoted)
    return node

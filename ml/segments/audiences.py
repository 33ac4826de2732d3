"""Audiences: rule segments with multiple membership, beside the string.

Belongs here: turning predicates into one statement, and one predicate over many columns into many. Does not belong
here: what a predicate may contain (see `ml.rules`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace

import pyarrow as pa
from sqlglot import exp

from ml import rules, tables
from ml.engine import Engine
from ml.segments.specs import AudienceSpec

MEDIAN = "median_"
_PATTERN = re.compile(r"\b([A-Za-z]\w*_)\*")


def spelt_out(specs: Sequence[AudienceSpec], columns: Collection[str]) -> tuple[AudienceSpec, ...]:
    """The audiences with patterns replaced by one audience per column.

    ``share_*`` in a predicate stands for every column that begins with ``share_``, the same one throughout the
    predicate (also in ``$median_share_*``); ``*`` in the name and the description is what follows. A predicate with a
    pattern that no column fits is left out: the project has nothing of that kind.

    Raises
    ------
    RuleError
        If a predicate has two different patterns, or the audience's name has no place for what the pattern stands for.
    """
    found: list[AudienceSpec] = []
    for spec in specs:
        patterns = {pattern.removeprefix(MEDIAN) for pattern in _PATTERN.findall(spec.when)}
        if not patterns:
            found.append(spec)
            continue
        if len(patterns) > 1 or "*" not in spec.name:
            spoken = ", ".join(sorted(f"{one}*" for one in patterns))
            raise rules.RuleError(
                f"{spec.when!r} speaks of {spoken}: write one pattern, and a * in the audience's name where what it "
                "stands for belongs"
            )
        stem = patterns.pop()
        for column in (name for name in columns if name.startswith(stem) and name != stem):
            rest = column.removeprefix(stem)
            found.append(
                replace(
                    spec,
                    name=spec.name.replace("*", rest),
                    when=spec.when.replace(f"{stem}*", column),
                    description=spec.description.replace("*", rest.replace("_", " ")),
                )
            )
    return tuple(found)


def check_audiences(specs: Sequence[AudienceSpec], columns: Collection[str]) -> None:
    """Raise `ml.rules.RuleError` for the first predicate that is not a pure expression over `columns`."""
    for spec in spelt_out(specs, columns):
        _predicate(spec, columns)


def audiences(engine: Engine, inputs: pa.Table, specs: Sequence[AudienceSpec]) -> pa.Table:
    """Who is in which audience, in one statement.

    Parameters
    ----------
    inputs : `layer_inputs`, of any days
    specs : a predicate that is missing (NULL) for a customer does not hold. ``$median_<column>`` is the median of the
        column over the day's customers where it is known. Patterns are spelt out (`spelt_out`)

    Returns
    -------
    customer_id, day and the columns of `audiences`, by day, customer and audience.

    Raises
    ------
    RuleError
        If a predicate uses a column that `inputs` lacks, or anything but a pure expression.
    """
    schema = tables.AUDIENCES.schema().insert(1, pa.field("day", pa.date32()))
    specs = spelt_out(specs, inputs.column_names)
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
    return rules.parse_scalar(spec.when, columns, [MEDIAN + name for name in columns])


def _resolved(node: exp.Expr) -> exp.Expr:
    """Columns are of `inputs`; a ``$median_…`` is a column of the day's medians."""
    if isinstance(node, exp.Placeholder):
        return exp.column(node.name, "medians", quoted=True)
    if isinstance(node, exp.Column) and not node.table:
        return exp.column(node.name, "inputs", quoted=node.this.quoted)
    return node

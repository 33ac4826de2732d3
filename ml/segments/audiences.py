"""Audiences: rule segments with multiple membership, not part of the string.

Belongs here: turning predicates into one statement, and expanding patterns. Does not belong here: what a predicate may
contain (see `ml.rules`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from sqlglot import exp

from ml import rules, tables
from ml.engine import Engine

MEDIAN = "median_"
_PATTERN = re.compile(r"\b([A-Za-z]\w*_)\*")


@dataclass(frozen=True)
class AudienceSpec:
    """A rule segment: every customer for whom an SQL predicate holds.

    Parameters
    ----------
    name : str
        Name of the audience.
    when : str
        Predicate over `layer_inputs`; ``$median_<column>`` is the day's median.
    description : str
        What these customers do, in words.

    Examples
    --------
    >>> AudienceSpec("big_baskets", "average_order_90d >= 2 * $median_average_order_90d").name
    'big_baskets'
    """

    name: str
    when: str
    description: str = ""


DEFAULT_AUDIENCES = (
    AudienceSpec(
        "frequent_buyers",
        "purchase_days_28d >= 4 AND purchase_days_28d >= 2 * $median_purchase_days_28d",
        "buy at least weekly, and twice as often as the median customer",
    ),
    AudienceSpec(
        "big_baskets",
        "orders_90d >= 2 AND average_order_90d >= 2 * $median_average_order_90d",
        "spend at least twice the median per order",
    ),
    AudienceSpec(
        "discount_lovers",
        "orders_90d >= 2 AND discount_share_90d >= 0.1 AND discount_share_90d >= 1.5 * $median_discount_share_90d",
        "buy much more at a discount than the median customer",
    ),
    AudienceSpec(
        "coupon_responders",
        "exposures_90d > 0 AND redemptions_90d > 0",
        "were reached by an action and redeemed a coupon in the last 90 days",
    ),
    AudienceSpec(
        "cart_abandoners",
        "days_since_cart <= 28 AND COALESCE(recency_days > days_since_cart, TRUE)",
        "filled a cart in the last 28 days and have not bought since",
    ),
    AudienceSpec(
        "top_spenders_*",
        "share_* >= 0.05 AND share_* * spend_90d >= 4 * $median_share_* * $median_spend_90d",
        "spend at least four times the usual on *",
    ),
    AudienceSpec(
        "fading",
        "orders_prev_28d >= 2 AND spend_prev_28d > 0 AND spend_28d < 0.5 * spend_prev_28d",
        "spent less than half of what they spent in the 28 days before",
    ),
    AudienceSpec(
        "lapsed_high_value",
        "stage = 'churn' AND spend >= 2 * $median_spend",
        "gone, and had spent at least twice the median",
    ),
)


def expand_patterns(specs: Sequence[AudienceSpec], columns: Collection[str]) -> tuple[AudienceSpec, ...]:
    """Replace each audience with a pattern by one audience per matching column.

    ``share_*`` in a predicate stands for every column that begins with ``share_``, the same one throughout the
    predicate (also in ``$median_share_*``). ``*`` in the name and the description is the rest of the column's name. A
    predicate whose pattern matches no column is left out: the project has no such data.

    Raises
    ------
    RuleError
        If a predicate has two different patterns, or the audience's name has no * for the rest of the column's name.
    """
    expanded: list[AudienceSpec] = []
    for spec in specs:
        patterns = {pattern.removeprefix(MEDIAN) for pattern in _PATTERN.findall(spec.when)}
        if not patterns:
            expanded.append(spec)
            continue
        if len(patterns) > 1 or "*" not in spec.name:
            listed = ", ".join(sorted(f"{one}*" for one in patterns))
            raise rules.RuleError(
                f"{spec.when!r} contains {listed}: write one pattern, and put a * in the audience's name "
                "where its replacement belongs"
            )
        stem = patterns.pop()
        for column in (name for name in columns if name.startswith(stem) and name != stem):
            suffix = column.removeprefix(stem)
            expanded.append(
                replace(
                    spec,
                    name=spec.name.replace("*", suffix),
                    when=spec.when.replace(f"{stem}*", column),
                    description=spec.description.replace("*", suffix.replace("_", " ")),
                )
            )
    return tuple(expanded)


def audiences(engine: Engine, inputs: pa.Table, specs: Sequence[AudienceSpec]) -> pa.Table:
    """Find the members of all audiences in one statement.

    Parameters
    ----------
    engine : Engine
        Runs the statement.
    inputs : pyarrow.Table
        `layer_inputs`, of any days.
    specs : Sequence of AudienceSpec
        A predicate that is NULL for a customer does not hold. ``$median_<column>`` is the median of the column's known
        values over the day's customers. Patterns are expanded (`expand_patterns`).

    Returns
    -------
    pyarrow.Table
        customer_id, day and the columns of `audiences`, by day, customer and audience.

    Raises
    ------
    RuleError
        If a predicate uses a column that `inputs` lacks, or is not a pure expression.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import in_memory
    >>> days = [date(2024, 3, 1)] * 3
    >>> inputs = pa.table({"customer_id": ["c1", "c2", "c3"], "day": days, "spend_90d": [10.0, 20.0, 90.0]})
    >>> big = AudienceSpec("big_spenders", "spend_90d >= 2 * $median_spend_90d")
    >>> audiences(in_memory(), inputs, [big]).select(["customer_id", "audience"]).to_pylist()
    [{'customer_id': 'c3', 'audience': 'big_spenders'}]
    """
    schema = tables.AUDIENCES.schema().insert(1, pa.field("day", pa.date32()))
    specs = expand_patterns(specs, inputs.column_names)
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
    """Qualify columns: plain ones are of `inputs`, ``$median_…`` ones of the day's medians."""
    if isinstance(node, exp.Placeholder):
        return exp.column(node.name, "medians", quoted=True)
    if isinstance(node, exp.Column) and not node.table:
        return exp.column(node.name, "inputs", quoted=node.this.quoted)
    return node

"""The columns that a project adds to the snapshot from categories and attributes, as SQL.

Belongs here: shares of declared categories, and the newest delivery of each attribute. Does not belong here: declared
features and contexts, which have modules of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from sqlglot import exp

from ml.features.context import context_columns
from ml.features.declared import declared_columns
from ml.features.spec import Attribute, FeatureSpec, category_column


def columns_added(spec: FeatureSpec) -> dict[str, set[str]]:
    """The columns that a project adds to the snapshot, by where they come from."""
    return {
        "categories": {category_column(name) for name in spec.categories},
        "attributes": {attribute.name for attribute in spec.attributes},
        "declared": {column.name for column in declared_columns(spec.declared)} if spec.declared else set(),
        "contexts": {column.name for column in context_columns(spec.contexts)},
    }


@lru_cache(maxsize=16)
def category_shares(categories: tuple[str, ...]) -> str:
    """Revenue share of each declared category in the 90 days up to the pair's day."""
    amount = "CASE WHEN category_days.amount > 0 THEN CAST(category_days.amount AS DECIMAL(18, 4)) ELSE 0 END"
    total = f"CAST(SUM({amount}) AS DOUBLE)"
    columns = []
    for category in categories:
        test = exp.column("category", "category_days").eq(exp.Literal.string(category)).sql("duckdb")
        part = f"CAST(SUM(CASE WHEN {test} THEN {amount} ELSE 0 END) AS DOUBLE)"
        share: exp.Expr = exp.maybe_parse(f"CASE WHEN {total} > 0 THEN {part} / {total} END", dialect="duckdb")
        columns.append(exp.alias_(share, category_column(category), quoted=True))
    window = "category_days.day <= pairs.day AND category_days.day > pairs.day - 90"
    query = (
        exp.select("pairs.customer_id AS customer_id", "pairs.day AS day", *columns)
        .from_("pairs")
        .join("category_days", on=f"category_days.customer_id = pairs.customer_id AND {window}", join_type="left")
        .group_by("pairs.customer_id", "pairs.day")
        .order_by("pairs.day", "pairs.customer_id")
    )
    return query.sql("duckdb")


def newest_attributes(attributes: Sequence[Attribute]) -> exp.Select:
    """The newest delivery of each attribute up to the pair's day."""
    columns = [exp.column(a.name, "customers", quoted=True) for a in attributes]
    ranked = (
        exp.select("pairs.customer_id AS customer_id", "pairs.day AS day", *columns)
        .select("ROW_NUMBER() OVER (PARTITION BY pairs.customer_id, pairs.day ORDER BY customers.day DESC) AS newest")
        .from_("pairs")
        .join(
            "customers", on="customers.customer_id = pairs.customer_id AND customers.day <= pairs.day", join_type="left"
        )
    )
    return (
        exp.select("customer_id", "day", *map(_as_known, attributes))
        .from_(ranked.subquery("ranked"))
        .where("newest = 1")
        .order_by("day", "customer_id")
    )


def _as_known(attribute: Attribute) -> exp.Expr:
    """The attribute, missing on days before it was exported."""
    column = exp.column(attribute.name, quoted=True)
    if attribute.known_from is None:
        return column
    since = exp.cast(exp.Literal.string(attribute.known_from.isoformat()), "DATE")
    known = exp.Case().when(exp.column("day") >= since, column)
    return exp.alias_(known, attribute.name, quoted=True)

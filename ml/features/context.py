"""Context: what is known of the surroundings of customers, such as the weather in their region.

Belongs here: joining rows by an attribute's value and a day to the features of customers, as of a day. Does not belong
here: features computed from a customer's own rows (see `facts`), and where context comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from sqlglot import exp

from ml import tables
from ml.engine import Engine, Input

PREFIX = "context_"  # of the names of tables and of features
STAMP = "occurred_at"


@dataclass(frozen=True)
class Context:
    """A table of rows by the value of a feature and a day.

    Parameters
    ----------
    name : str
        Its name in the project file, for example ``weather``.
    by : str
        Feature of text whose value a row is about, for example the attribute ``region``.
    columns : tuple of tuple of str
        Name and type (``string``, ``double`` or ``boolean``) of each column, which becomes a feature of its own.
    valid_days : int or None, default 1
        Days for which a row holds unless a newer one replaces it, counting its own: with 1, yesterday's row says
        nothing about today. None if a row holds until the next one.

    Raises
    ------
    ValueError
        If there is no column, or `valid_days` is less than 1.

    Examples
    --------
    >>> weather = Context("weather", "region", (("sky", "string"),))
    >>> weather.table, weather.features
    ('context_weather', ('context_sky',))
    """

    name: str
    by: str
    columns: tuple[tuple[str, Literal["string", "double", "boolean"]], ...]
    valid_days: int | None = 1

    def __post_init__(self) -> None:
        if not self.columns:
            raise ValueError("a context has no columns of its own: list them in attributes, name to type")
        if self.valid_days is not None and self.valid_days < 1:
            raise ValueError(f"valid_days is {self.valid_days}: write 1 if a row holds for its own day only")

    @property
    def table(self) -> str:
        """Name of the input table that holds its rows."""
        return f"{PREFIX}{self.name}"

    @property
    def features(self) -> tuple[str, ...]:
        """Names of its features, in the order of its columns."""
        return tuple(f"{PREFIX}{name}" for name, _ in self.columns)


def context_table(context: Context) -> tables.Table:
    """Declare the input table of a context.

    Parameters
    ----------
    context : Context
        The project's context.

    Returns
    -------
    Table
        The value a row is about, ``occurred_at``, and the context's columns. Of two rows of the same value and time,
        one is accepted.

    Examples
    --------
    >>> context_table(Context("weather", "region", (("sky", "string"),))).names
    ['region', 'occurred_at', 'sky']
    """
    return tables.Table(
        context.table,
        f"one row per {context.by} and time",
        (
            tables.Column(context.by, "string", "what the row is about; as customers have it", required=True),
            tables.Column(STAMP, "timestamp", "from when on it holds", "UTC", required=True),
            *(tables.Column(name, type_, f"what held in the {context.by}") for name, type_ in context.columns),
        ),
        key=(context.by, STAMP),
        stamp=STAMP,
    )


def context_columns(contexts: Sequence[Context]) -> list[tables.Column]:
    """Declare the features that contexts add to `customer_features`.

    Parameters
    ----------
    contexts : sequence of Context
        The project's contexts.

    Returns
    -------
    list of Column
        One for each column of each context, in their order.

    Examples
    --------
    >>> [column.name for column in context_columns([Context("weather", "region", (("sky", "string"),))])]
    ['context_sky']
    """
    return [
        tables.Column(feature, type_, f"{name.replace('_', ' ')} in the customer's {context.by} on the day")
        for context in contexts
        for feature, (name, type_) in zip(context.features, context.columns, strict=True)
    ]


def context_features(engine: Engine, context: Context, customers: Input, rows: Input) -> pa.Table:
    """Join a context to customers as of a day.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    context : Context
        The context.
    customers : Input
        Columns customer_id, day, and the feature that the context is by.
    rows : Input
        Accepted rows of `context_table(context)`, with their `day`.

    Returns
    -------
    pa.Table
        One row per row of `customers`, ordered by day and customer: customer_id, day and the context's features. Of
        the rows about the customer's value up to the end of the day, the newest one counts, if it still holds.

    Examples
    --------
    >>> from datetime import date, datetime
    >>> from ml.engine import DuckDB
    >>> weather = Context("weather", "region", (("sky", "string"),))
    >>> rows = {"region": ["north"], "occurred_at": [datetime(2024, 5, 1, 6)], "sky": ["storm"]}
    >>> days = [date(2024, 5, 1), date(2024, 5, 2)]
    >>> customers = pa.table({"customer_id": ["anna"] * 2, "day": days, "region": ["north"] * 2})
    >>> delivered = context_table(weather).filled(pa.table(rows))
    >>> context_features(DuckDB(threads=1), weather, customers, delivered)["context_sky"].to_pylist()
    ['storm', None]
    """
    params = {} if context.valid_days is None else {"valid_days": context.valid_days}
    return engine.query(_joined(context), params, customers=customers, rows=rows)


def _joined(context: Context) -> str:
    """Customers with what holds on their day. Only the few distinct values and days are compared with the rows."""
    values = [exp.alias_(exp.column(name, "rows", quoted=True), f"value_{i}") for i, (name, _) in _numbered(context)]
    names = [f"value_{i}" for i, _ in _numbered(context)]
    newest = (
        exp.select(exp.alias_(_by(context, "rows"), "what"), "rows.day AS day", *values)
        .select(
            exp.alias_(
                exp.Window(
                    this=exp.RowNumber(),
                    partition_by=[_by(context, "rows"), exp.column("day", "rows")],
                    order=exp.Order(expressions=[exp.Ordered(this=exp.column(STAMP, "rows"), desc=True)]),
                ),
                "nth",
            )
        )
        .from_("rows")
    )
    # A row of a later day ends an earlier one only from that day on, so no day knows what comes after it.
    spans = (
        exp.select("what", "day AS since", "LEAD(day) OVER (PARTITION BY what ORDER BY day) AS next_day", *names)
        .from_("newest")
        .where("nth = 1")
    )
    wanted = (
        exp.select(exp.alias_(_by(context, "customers"), "what"), "customers.day AS day")
        .distinct()
        .from_("customers")
        .where(exp.Not(this=exp.Is(this=_by(context, "customers"), expression=exp.Null())))
    )
    holds = "spans.what = wanted.what AND spans.since <= wanted.day AND COALESCE(spans.next_day > wanted.day, TRUE)"
    if context.valid_days is not None:
        holds += " AND DATE_DIFF('day', spans.since, wanted.day) < $valid_days"
    valid = (
        exp.select("wanted.what AS what", "wanted.day AS day", *(f"spans.{name} AS {name}" for name in names))
        .from_("wanted")
        .join("spans", on=exp.maybe_parse(holds, dialect="duckdb"))
    )
    features = (
        exp.alias_(exp.column(name, "valid"), feature, quoted=True)
        for name, feature in zip(names, context.features, strict=True)
    )
    is_valid = exp.and_(exp.column("what", "valid").eq(_by(context, "customers")), "valid.day = customers.day")
    return (
        exp.select("customers.customer_id AS customer_id", "customers.day AS day", *features)
        .with_("newest", newest)
        .with_("spans", spans)
        .with_("wanted", wanted)
        .with_("valid", valid)
        .from_("customers")
        .join("valid", on=is_valid, join_type="left")
        .order_by("customers.day", "customers.customer_id")
        .sql("duckdb")
    )


def _numbered(context: Context) -> list[tuple[int, tuple[str, str]]]:
    return list(enumerate(context.columns))


def _by(context: Context, table: str) -> exp.Column:
    return exp.column(context.by, table, quoted=True)

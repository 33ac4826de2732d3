"""The columns that declarations become, and the figures from which each is computed.

Belongs here: names, types and meanings of columns, and which aggregates of a customer's rows they are made of. Does not
belong here: computing them (see `queries` and `computing`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from ml.features.declared.spec import EVER, DeclaredFeature, DeclaredSpec, Measure, Ratio, Value, Window
from ml.rules import type_of
from ml.tables import Column
from ml.tables.contract import Type

# What is aggregated: rows; values, rows with a value of `of`; the sum of `of`, and of what of it is positive; its
# extremes; days since the last row, or the last one with a value; and what needs the different values of `of`.
Kind: TypeAlias = Literal["rows", "values", "sum", "gains", "min", "max", "age", "distinct", "first", "last", "mode"]
VALUED: tuple[Measure, ...] = ("first", "last", "mode")  # measures whose result is a value of `of` as it is
NUMERIC: tuple[Measure, ...] = ("sum", "mean", "min", "max")
DAY = "day"  # column of an input table that the days of rows are in


@dataclass(frozen=True)
class Figure:
    """One aggregate of the rows of a customer, from which columns are computed.

    Parameters
    ----------
    kind : str
        What is aggregated.
    table : str
        Input table.
    where : str, default ""
        Predicate of the rows that count.
    of : str, default ""
        Expression that is aggregated.
    by : str, default ""
        Column whose value the rows must have.
    value : str, bool, int or float, optional
        That value.
    window : int, optional
        Days that count; all, if None.
    """

    kind: Kind
    table: str
    where: str = ""
    of: str = ""
    by: str = ""
    value: Value | None = None
    window: int | None = None


@dataclass(frozen=True)
class DeclaredColumn:
    """One feature: a column of `customer_features`.

    Parameters
    ----------
    column : Column
        Name, type, meaning and unit.
    declaration : int
        Position of its declaration.
    measure : str
        What is measured; ``ratio`` for one of two features.
    figures : tuple of Figure
        The aggregates that it is computed from.
    ratio : Ratio, optional
        The columns that are divided.

    Examples
    --------
    >>> (column,) = declared_columns(DeclaredSpec((DeclaredFeature("carts", "events", windows=28),)))
    >>> column.name, column.column.type
    ('carts_28d', 'bigint')
    """

    column: Column
    declaration: int
    measure: Measure | Literal["ratio"]
    figures: tuple[Figure, ...] = ()
    ratio: Ratio | None = None

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.column.name


@dataclass(frozen=True)
class Part:
    """What distinguishes one column of a declaration from the others."""

    name: str
    measure: Measure | Literal["ratio"]
    value: Value | None
    window: Window


def parts(feature: DeclaredFeature) -> Iterator[Part]:
    """Name the columns of one declaration.

    A list of measures adds ``_sum``, a value of a column ``_by_phone``, and a window ``_28d``; `ever` adds nothing.

    Parameters
    ----------
    feature : DeclaredFeature
        The declaration.

    Yields
    ------
    Part
        One for each column, in order.

    Examples
    --------
    >>> from ml.features.declared.spec import By
    >>> carts = DeclaredFeature("carts", "events", windows=(28, "ever"), by=By("device", ("Phone",)))
    >>> [part.name for part in parts(carts)]
    ['carts_by_phone_28d', 'carts_by_phone']
    """
    measures: tuple[Measure | Literal["ratio"], ...] = ("ratio",) if feature.ratio else feature.measures
    is_list = isinstance(feature.measure, tuple) and not feature.ratio
    values: tuple[Value | None, ...] = feature.by.values if feature.by else (None,)
    for measure in measures:
        stem = f"{feature.name}_{measure}" if is_list else feature.name
        for value in values:
            cut = stem if value is None else f"{stem}_by_{slug(value)}"
            for window in feature.spans:
                yield Part(cut + _suffix(window), measure, value, window)


def slug(value: Value) -> str:
    """Write a value as a part of a column's name.

    Parameters
    ----------
    value : str, bool, int or float
        The value.

    Returns
    -------
    str
        Lower-case letters, digits and underscores; empty if it has no letter or digit.

    Examples
    --------
    >>> slug("Mac OS X"), slug(True), slug(2.5)
    ('mac_os_x', 'true', '2_5')
    """
    return re.sub(r"[^\w]+", "_", str(value).lower()).strip("_")


def _suffix(window: Window) -> str:
    return "" if window == EVER else f"_{window}d"


@lru_cache(maxsize=16)
def declared_columns(spec: DeclaredSpec) -> tuple[DeclaredColumn, ...]:
    """Expand declarations to columns.

    Parameters
    ----------
    spec : DeclaredSpec
        The declarations, free of problems (see `problems`).

    Returns
    -------
    tuple of DeclaredColumn
        The columns, in the order of the declarations.

    Raises
    ------
    RuleError
        If an expression cannot be used.

    Examples
    --------
    >>> spend = DeclaredFeature("spend", "transactions", measure=("sum", "mean"), of="amount", windows=(28, 90))
    >>> [one.name for one in declared_columns(DeclaredSpec((spend,)))]
    ['spend_sum_28d', 'spend_sum_90d', 'spend_mean_28d', 'spend_mean_90d']
    """
    columns = []
    for position, feature in enumerate(spec.features):
        valued = _valued_type(spec, feature)
        for part in parts(feature):
            type_ = _type_of(part.measure, valued)
            column = Column(part.name, type_, _meaning(feature, part), _unit(spec, feature, part.measure))
            if feature.ratio:
                ends = _suffix(part.window)
                ratio = Ratio(feature.ratio.of + ends, feature.ratio.to + ends)
                columns.append(DeclaredColumn(column, position, "ratio", (), ratio))
            else:
                columns.append(DeclaredColumn(column, position, part.measure, _figures(feature, part)))
    return tuple(columns)


def _figures(feature: DeclaredFeature, part: Part) -> tuple[Figure, ...]:
    """The aggregates that a column is computed from, the numerator first."""
    table, where, of = feature.table or "", feature.where, feature.of
    by, value = (feature.by.column, part.value) if feature.by else ("", None)
    window = part.window if isinstance(part.window, int) else None
    whole = Figure("rows", table, where, "", by, value, window)

    def of_kind(kind: Kind, of: str = of, window: int | None = window) -> Figure:
        return Figure(kind, table, where, of, by, value, window)

    match part.measure:
        case "count":
            return (whole,)
        case "mean":
            return of_kind("sum"), of_kind("values")
        case "days":
            return (of_kind("distinct", DAY),)
        case "days_since":
            return (of_kind("age", ""),)
        case "share":
            kind: Kind = "gains" if of else "rows"
            among = where if feature.by else ""  # of each value among the rows that count, or of these among all
            return of_kind(kind), Figure(kind, table, among, of, window=window)
        case "sum" | "min" | "max" | "distinct" | "first" | "last" | "mode":
            return (of_kind(part.measure),)
    raise AssertionError(part.measure)


def _valued_type(spec: DeclaredSpec, feature: DeclaredFeature) -> Type:
    """Type of the values of `of`, where a column takes them as they are."""
    if feature.table is None or not set(feature.measures) & set(VALUED):
        return "double"
    types = spec.types(feature.table)
    type_ = types.get(feature.of) or type_of(feature.of, types)  # a column alone needs no engine
    return {"string": "string", "boolean": "boolean"}.get(type_, "double")  # type: ignore[return-value]


def _type_of(measure: str, valued: Type) -> Type:
    if measure in ("count", "days", "distinct", "days_since"):
        return "bigint"
    return valued if measure in VALUED else "double"


def _unit(spec: DeclaredSpec, feature: DeclaredFeature, measure: str) -> str:
    if measure == "share":
        return "0 to 1"
    if measure in ("days", "days_since"):
        return "days"
    if measure in (*NUMERIC, *VALUED) and feature.table is not None:
        return next((c.unit for c in spec.input(feature.table).columns if c.name == feature.of), "")
    return ""


_WORDS = {
    "count": "number of {rows}",
    "sum": "sum of {of} over {rows}",
    "mean": "mean of {of} over {rows}",
    "min": "smallest {of} of {rows}",
    "max": "largest {of} of {rows}",
    "days": "days with {rows}",
    "distinct": "different values of {of} in {rows}",
    "first": "first {of} of {rows}",
    "last": "last {of} of {rows}",
    "mode": "most frequent {of} of {rows}",
    "days_since": "days since the last of {rows}",
}


def _meaning(feature: DeclaredFeature, part: Part) -> str:
    """What a value says, in words; the project's own, where it has some."""
    span = "" if part.window == EVER else f", last {part.window} days"
    if feature.ratio:
        return (feature.description or f"{feature.ratio.of} divided by {feature.ratio.to}") + span
    rows = f"{feature.table} where {feature.where}" if feature.where else f"{feature.table}"
    cut = f"{feature.by.column} {part.value}" if feature.by else ""
    if feature.description:
        words = feature.description if len(feature.measures) == 1 else f"{feature.description} ({part.measure})"
    elif part.measure == "share":
        of, among = feature.of or "rows", rows if feature.by else f"{feature.table}"
        words = f"share of {of} among {among}" if feature.by else f"share of {rows} in {of} of all {among}"
    else:
        words = _WORDS[part.measure].format(rows=rows, of=feature.of)
    return words + (f", {cut}" if cut else "") + span

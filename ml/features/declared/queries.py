"""The queries that aggregate the rows of an input table for pairs of customer and day.

A query has up to four steps. The rows of the pairs' customers, up to the pair's day, with what the declarations say of
each row (`_rows`). Where different values count, one line per pair and value (`_by_key`). The aggregates
(`_aggregated`). Where there is one feature per value of a column, these are made per value, so that a row is read once
whatever the number of values, and then spread over columns (`_spread`).

Belongs here: SQL. Does not belong here: which figures are needed (see `columns`), and running it (see `computing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from sqlglot import exp

from ml.features.declared.columns import Figure, Kind
from ml.rules import forgiving, parse_scalar
from ml.tables import Table

KEYED: tuple[Kind, ...] = ("distinct", "first", "last", "mode")  # they need the different values of `of`
_MONEY = exp.DataType.build("DECIMAL(18, 4)", dialect="duckdb")  # sums of it do not depend on the order of rows


@dataclass(frozen=True)
class Block:
    """Figures that one query can compute: of one table, by the same column, over the same values.

    Parameters
    ----------
    table : Table
        Input table with the project's own columns.
    by : str
        Column for whose values there is a figure each; empty if there is none.
    key : str
        Expression whose different values are looked at; empty if none are.
    figures : tuple of Figure
        What is computed, in the order of the query's columns.
    """

    table: Table
    by: str
    key: str
    figures: tuple[Figure, ...]

    @property
    def lookback_days(self) -> int | None:
        """Days that the longest window looks back; None for all."""
        windows = [figure.window for figure in self.figures]
        return None if None in windows else max(window for window in windows if window is not None)

    @cached_property
    def sql(self) -> str:
        """The query: columns n (number of the pair) and f0, f1 … for the figures; no row for a pair without rows.

        Its inputs are `pairs` (n, customer_id, day) and `input_rows`; its parameters are `first` and `last`, the days
        of rows to read.
        """
        return _query(self).sql("duckdb")


def blocks(figures: Sequence[Figure], tables: Sequence[Table], width: int) -> list[Block]:
    """Group figures into queries of limited width.

    Parameters
    ----------
    figures : sequence of Figure
        What is needed, each once.
    tables : sequence of Table
        The input tables.
    width : int
        Most figures of a query.

    Returns
    -------
    list of Block
        All figures; those of short windows come first in queries of their own, if there are several.
    """
    named = {table.name: table for table in tables}
    groups: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        key = figure.of if figure.kind in KEYED else ""
        groups.setdefault((figure.table, figure.by, key), []).append(figure)
    result = []
    for (table, by, key), members in groups.items():
        members.sort(key=lambda figure: figure.window or 1 << 30)  # values of a column stay together
        result += [
            Block(named[table], by, key, tuple(members[start : start + width]))
            for start in range(0, len(members), width)
        ]
    return result


def _query(block: Block) -> exp.Select:
    rows = _rows(block)
    if block.key:
        rows = _by_key(block, rows)
    if not block.by:
        return _aggregated(block, rows, {figure: f"f{i}" for i, figure in enumerate(block.figures)})
    of_any_value = dict.fromkeys(replace(figure, value=None) for figure in block.figures)
    names = {figure: f"a{i}" for i, figure in enumerate(of_any_value)}
    return _spread(block, _aggregated(block, rows, names), names)


def _rows(block: Block) -> exp.Select:
    """The rows of each pair's customer up to the pair's day, with every predicate and expression evaluated once."""
    query = exp.select("pairs.n AS n", "DATE_DIFF('day', input_rows.day, pairs.day) AS age", dialect="duckdb")
    if block.by:
        query = query.select(exp.alias_(_column(block.by), "b"))
    if block.key:
        query = query.select(exp.alias_(_column(block.table.stamp or ""), "stamp"))
        query = query.select(exp.alias_(_expression(block.key, block.table), "k"))
    else:
        for of, name in _names(block, "of").items():
            number = exp.cast(_expression(of, block.table), "DOUBLE")
            query = query.select(exp.alias_(number, f"{name}_as_is"))
            query = query.select(exp.alias_(exp.TryCast(this=number.copy(), to=_MONEY.copy()), name))
    for where, name in _names(block, "where").items():
        query = query.select(exp.alias_(_expression(where, block.table), name))
    query = query.from_("input_rows").join(
        "pairs", on="input_rows.customer_id = pairs.customer_id AND input_rows.day <= pairs.day"
    )
    query = query.where(exp.maybe_parse("input_rows.day >= $first AND input_rows.day <= $last", dialect="duckdb"))
    if block.by:
        values = dict.fromkeys(figure.value for figure in block.figures)
        query = query.where(_column(block.by).isin(*map(exp.convert, values)))
    return query


def _by_key(block: Block, rows: exp.Select) -> exp.Select:
    """One line per pair (and value of the column) and different value: how often, since when and until when."""
    groups = ["n", "b", "k"] if block.by else ["n", "k"]
    columns: dict[str, str] = {}
    for figure in block.figures:
        where, span = _where(block, figure), _span(figure)
        name = _names(block, "where").get(figure.where, "w")
        columns[f"age_{name}"] = f"MIN({_only(where, 'age')})"
        columns[f"last_{name}"] = f"MAX({_only(where, 'stamp')})"
        if figure.kind == "first":
            columns[f"first_{name}{figure.window or ''}"] = f"MIN({_only([*where, *span], 'stamp')})"
        if figure.kind == "mode":
            columns[f"times_{name}{figure.window or ''}"] = f"COUNT({_only([*where, *span], '1')})"
    query = exp.select(*groups, *(_named(sql, name) for name, sql in columns.items())).from_(rows.subquery("input"))
    return query.where("k IS NOT NULL").group_by(*groups)


def _aggregated(block: Block, rows: exp.Select, names: Mapping[Figure, str]) -> exp.Select:
    """The figures of each pair (and value of the column)."""
    groups = ["n", "b"] if block.by else ["n"]
    aggregate = _aggregate_of_keys if block.key else _aggregate_of_rows
    columns = [_named(aggregate(block, figure), name) for figure, name in names.items()]
    return exp.select(*groups, *columns).from_(rows.subquery("input")).group_by(*groups)


def _spread(block: Block, summed: exp.Select, names: Mapping[Figure, str]) -> exp.Select:
    """One column per figure, from one line per value of the column that it is by."""
    columns = []
    for i, figure in enumerate(block.figures):
        is_value = exp.column("b").eq(exp.convert(figure.value))
        of_value = exp.Case().when(is_value, exp.column(names[replace(figure, value=None)]))
        columns.append(exp.alias_(exp.Max(this=of_value), f"f{i}"))
    return exp.select("n", *columns).from_(summed.subquery("input")).group_by("n")


def _aggregate_of_rows(block: Block, figure: Figure) -> str:
    conditions, of = [*_where(block, figure), *_span(figure)], _names(block, "of").get(figure.of, "")
    match figure.kind:
        case "rows":
            return f"COUNT({_only(conditions, '1')})"
        case "values":
            return f"COUNT({_only(conditions, of)})"
        case "sum":
            return f"CAST(SUM({_only(conditions, of)}) AS DOUBLE)"
        case "gains":
            return f"CAST(SUM({_only([*conditions, f'{of} > 0'], of)}) AS DOUBLE)"
        case "min" | "max":
            return f"{figure.kind.upper()}({_only([*conditions, f'{of} IS NOT NULL'], f'{of}_as_is')})"
        case "age":
            return f"MIN({_only(conditions, 'age')})"
    raise AssertionError(figure.kind)


def _aggregate_of_keys(block: Block, figure: Figure) -> str:
    """Of values that are equally good, the one that was there last decides, and then the greatest."""
    name = _names(block, "where").get(figure.where, "w")
    is_there = f"age_{name} < {figure.window}" if figure.window else f"age_{name} IS NOT NULL"
    match figure.kind:
        case "distinct":
            return f"COUNT(CASE WHEN {is_there} THEN 1 END)"
        case "last":
            return f"(MAX(CASE WHEN {is_there} THEN {{'a': last_{name}, 'v': k}} END)).v"
        case "first":
            first = f"first_{name}{figure.window or ''}"
            return f"(MIN(CASE WHEN {first} IS NOT NULL THEN {{'a': {first}, 'v': k}} END)).v"
        case "mode":
            times = f"times_{name}{figure.window or ''}"
            return f"(MAX(CASE WHEN {times} > 0 THEN {{'a': {times}, 'b': last_{name}, 'v': k}} END)).v"
    raise AssertionError(figure.kind)


def _names(block: Block, part: Literal["where", "of"]) -> dict[str, str]:
    """Each predicate or expression of the block, to the name of its column among the rows."""
    texts = dict.fromkeys(getattr(figure, part) for figure in block.figures)
    return {text: f"{part}_{i}" for i, text in enumerate(text for text in texts if text)}


def _where(block: Block, figure: Figure) -> list[str]:
    return [_names(block, "where")[figure.where]] if figure.where else []


def _span(figure: Figure) -> list[str]:
    return [f"age < {figure.window}"] if figure.window else []


def _only(conditions: Sequence[str], value: str) -> str:
    """A value, where the conditions hold."""
    return f"CASE WHEN {' AND '.join(conditions)} THEN {value} END" if conditions else value


def _named(sql: str, name: str) -> exp.Expr:
    return exp.alias_(exp.maybe_parse(sql, dialect="duckdb"), name)


def _column(name: str) -> exp.Column:
    return exp.column(name, "input_rows", quoted=True)


def _expression(text: str, table: Table) -> exp.Expr:
    """A project's expression over a row, with its columns as the table spells them."""
    spelled = {name.lower(): name for name in (*table.names, "day")}

    def qualified(node: exp.Expr) -> exp.Expr:
        return _column(spelled[node.name.lower()]) if isinstance(node, exp.Column) else node

    return exp.paren(forgiving(parse_scalar(text, spelled)).transform(qualified))

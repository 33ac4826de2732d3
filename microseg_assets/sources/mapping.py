"""The mapping: which source column, expression or constant each column of the contract is taken from.

Belongs here: binding the user's mapping to the delivered columns, and reporting every mistake in it. Does not belong
here: converting values (see `values`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import duckdb
from sqlglot import exp

from microseg_assets.sources.locate import first_line
from microseg_assets.sources.query import as_numbers, with_fields
from microseg_assets.sources.read import FILE, SOURCE, described
from ml.engine import quoted
from ml.rules import RuleError, nearest, parse_scalar
from ml.tables import Column, Table

Report: TypeAlias = Callable[..., None]  # key under the table, one sentence, and a severity if it is not an error

_MAX_EXAMPLES = 20  # values of a column by which to decide whether it holds objects
_NUMBER = r"VARCHAR|JSON|BOOLEAN|NULL|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*|FLOAT|DOUBLE|BIGNUM|VARINT"
_TIME = r"VARCHAR|DATE|TIMESTAMP.*|NULL"
# DuckDB's types that a source may have for each type of the contract.
_FITTING = {
    "double": _NUMBER, "bigint": _NUMBER, "boolean": _NUMBER, "date": _TIME, "timestamp": _TIME, "string": r".*",
}  # fmt: skip


class LeftOut(RuleError):
    """Why an optional column of the contract is left out."""


class Vanished(LeftOut):
    """A source column that is missing, for an optional column of the contract."""


@dataclass(frozen=True)
class Relation:
    """A SELECT of a source's rows, with the columns and their DuckDB types; `label` names the source in messages."""

    connection: duckdb.DuckDBPyConnection
    sql: str
    label: str

    @cached_property
    def columns(self) -> dict[str, str]:
        types = described(self.connection, self.sql)
        return {name: type_ for name, type_ in types.items() if name not in (SOURCE, FILE)}

    def bind(self, expression: str) -> tuple[str, str, tuple[str, ...]]:
        """SQL, type and source columns of a user's expression.

        Raises
        ------
        RuleError
            If it cannot be evaluated on these columns.
        """
        sql, uses = self._checked(expression)
        try:
            type_ = described(self.connection, f"SELECT ({sql}) AS x FROM ({self.sql})")["x"]
        except duckdb.Error as error:
            raise RuleError(f"{expression!r} cannot be computed: {first_line(error)}") from None
        return sql, type_.strip('"'), uses

    def _checked(self, expression: str) -> tuple[str, tuple[str, ...]]:
        texts = {name.lower() for name, type_ in self.columns.items() if type_ in ("VARCHAR", "JSON")}
        tree = parse_scalar(expression, self.columns)
        tree = with_fields(as_numbers(tree, texts), texts)
        sql = tree.sql("duckdb", comments=False)
        parse_scalar(sql, self.columns)  # what runs is what sqlglot writes, so check that
        known = {name.lower(): name for name in self.columns}
        uses = dict.fromkeys(known[column.parts[0].name.lower()] for column in tree.find_all(exp.Column))
        return sql, tuple(uses)


@dataclass(frozen=True)
class Mapped:
    """A column of the contract, the SQL of its raw value and that value's DuckDB type.

    `uses` are the source columns of an expression; `source` is the one column that is taken as it is, which cannot
    fail.
    """

    column: Column
    sql: str
    type: str
    is_calculated: bool = False
    uses: tuple[str, ...] = ()
    source: str = ""


def mapping(
    table: Table,
    columns: Mapping[str, str | bool | int | float],
    relation: Relation,
    report: Report,
    *,
    wanted: Collection[str] = (),
    is_counted: bool = False,
) -> list[Mapped]:
    """Every column of the contract that can be bound; those that cannot are reported.

    Parameters
    ----------
    columns : contract column to source column, expression or constant
    wanted : optional columns to report if the source lacks them, although nothing maps them
    is_counted : whether timestamps are numbers
    """
    for name in columns:
        if name not in table.names:
            report(f"columns.{name}", f"{table.name} has no column {name!r}; {nearest(name, table.names)}")
    result = []
    known = {name.lower() for name in relation.columns}
    for column in table.columns:
        try:
            if column.name in wanted and column.name not in columns and column.name.lower() not in known:
                raise Vanished(f"the source has no column {column.name!r}; {nearest(column.name, relation.columns)}")
            result.append(_mapped(column, columns.get(column.name), relation, is_counted))
        except LeftOut as reason:
            severity = "warning" if isinstance(reason, Vanished) else "note"
            report(f"columns.{column.name}", f"{reason}; {column.name} stays empty", severity)
            result.append(Mapped(column, "NULL", "NULL"))
        except RuleError as error:
            report(f"columns.{column.name}", str(error))
    return result


def _mapped(column: Column, declared: str | bool | int | float | None, relation: Relation, is_counted: bool) -> Mapped:
    expression = column.name if declared is None else str(declared).strip()
    if isinstance(declared, bool):
        expression = expression.lower()
    taken = next((name for name in relation.columns if name.lower() == expression.lower()), None)
    if taken is not None:
        mapped = Mapped(column, quoted(taken), relation.columns[taken].strip('"'), source=taken)
    elif declared is not None:
        if not column.required and (lost := _lost(expression, relation)):
            meant = f" (write \"'{lost}'\" if that text is meant)" if lost == expression else ""
            raise Vanished(f"the source has no column {lost!r}{meant}; {nearest(lost, relation.columns)}")
        sql, type_, uses = relation.bind(expression)
        mapped = Mapped(column, sql, type_, True, uses)
    elif column.required:
        listed = nearest(column.name, relation.columns)
        raise RuleError(f"no source column is called {column.name}: map it to one; {listed}")
    else:
        mapped = Mapped(column, "NULL", "NULL")
    if taken is not None and (declared is None or column.type != "string") and (example := _nested(relation, taken)):
        message = f"{taken} holds objects, such as {example:.60}, but {column.name} is a {column.type}"
        remedy = f"map a field of it: {column.name}: {taken}.{_likely_field(example, column)}"
        if declared is None and not column.required:
            raise LeftOut(f"the source's {message}: to bring it, {remedy}")
        raise RuleError(f"{message}: {remedy}")
    is_count = is_counted and column.type == "timestamp"
    if not re.fullmatch(_NUMBER if is_count else _FITTING[column.type], mapped.type):
        expected, remedy = f"{column.name} is a {column.type}", "map another column"
        if is_count:
            expected, remedy = f"the key stamp declares {column.name} a number", "leave out the key stamp"
        elif column.type == "timestamp":
            remedy = "set the key stamp to epoch_s or epoch_ms, or write to_timestamp(…) for seconds since 1970"
        raise RuleError(f"{expression} is of type {mapped.type}, but {expected}: {remedy}")
    return mapped


def _nested(relation: Relation, name: str) -> str:
    """An example of the objects in a column, as JSON; empty if it has plain values."""
    type_ = relation.columns[name].strip('"')
    column = quoted(name)
    if type_.startswith(("STRUCT", "MAP")):
        shown = f"CAST(to_json({column}) AS VARCHAR)"
    elif type_ in ("VARCHAR", "JSON"):
        shown = f"CAST({column} AS VARCHAR)"
    else:
        return ""
    try:
        rows = relation.connection.sql(
            f"SELECT {shown} FROM ({relation.sql}) WHERE {column} IS NOT NULL LIMIT {_MAX_EXAMPLES}"
        ).fetchall()
    except duckdb.Error:
        return ""  # reported when the rows are read
    objects = [value for (value,) in rows if _is_object(value)]
    return objects[0] if objects and len(objects) == len(rows) else ""


def _is_object(value: str) -> bool:
    if not value.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(value), dict)
    except ValueError:
        return False


def _likely_field(example: str, column: Column) -> str:
    """The path of the first field that could be the column: a number where one is wanted."""
    fields: dict[str, object] = json.loads(example)
    is_number = column.type in ("double", "bigint")
    fitting = [name for name, value in fields.items() if isinstance(value, int | float) or not is_number]
    return next(iter([*fitting, *fields]), "field")


def _lost(expression: str, relation: Relation) -> str:
    """A column that an expression uses and the source lacks; empty if there is none."""
    known = {name.lower() for name in relation.columns}
    roots = [column.parts[0].name for column in parse_scalar(expression).find_all(exp.Column)]
    return next((root for root in roots if root.lower() not in known), "")


def predicate(where: str, relation: Relation, report: Report) -> str:
    """The SQL of `where`; what is wrong with it is reported."""
    if not where:
        return ""
    try:
        sql, type_, _ = relation.bind(where)
    except RuleError as error:
        report("where", str(error))
        return ""
    if type_ != "BOOLEAN":
        report("where", f"{where!r} is not true or false but {type_}: write a comparison")
    return sql

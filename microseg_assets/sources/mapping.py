"""The mapping: which source column, expression or constant each column of the contract is.

Belongs here: binding the user's mapping to the columns that are there, and telling every mistake in it. Does not belong
here: converting values (see `values`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import duckdb
from sqlglot import exp

from microseg_assets.sources.locate import first_line
from microseg_assets.sources.query import as_numbers
from microseg_assets.sources.read import FILE, SOURCE, described
from microseg_assets.sources.spec import TableSpec
from ml.engine import quoted
from ml.rules import RuleError, nearest, scalar
from ml.tables import Column, Table

Tell: TypeAlias = Callable[[str, str], None]  # key under the table, and one sentence

_NUMBER = r"VARCHAR|JSON|BOOLEAN|NULL|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*|FLOAT|DOUBLE|BIGNUM|VARINT"
_TIME = r"VARCHAR|DATE|TIMESTAMP.*|NULL"
# What a source may bring for each type of the contract, as DuckDB names it.
_FITTING = {
    "double": _NUMBER, "bigint": _NUMBER, "boolean": _NUMBER, "date": _TIME, "timestamp": _TIME, "string": r".*",
}  # fmt: skip


@dataclass(frozen=True)
class Relation:
    """A SELECT with a source's rows, their columns and DuckDB's types of these, and words for where it reads from."""

    connection: duckdb.DuckDBPyConnection
    sql: str
    label: str

    @cached_property
    def columns(self) -> dict[str, str]:
        found = described(self.connection, self.sql)
        return {name: type_ for name, type_ in found.items() if name not in (SOURCE, FILE)}

    def bind(self, expression: str) -> tuple[str, str, tuple[str, ...]]:
        """SQL, type and source columns of a user's expression.

        Raises
        ------
        RuleError
            If it means nothing here.
        """
        texts = {name.lower() for name, type_ in self.columns.items() if type_ == "VARCHAR"}
        tree = as_numbers(scalar(expression, self.columns), texts)
        sql = tree.sql("duckdb")
        try:
            type_ = described(self.connection, f"SELECT ({sql}) AS x FROM ({self.sql})")["x"]
        except duckdb.Error as error:
            raise RuleError(f"{expression!r} cannot be computed: {first_line(error)}") from None
        known = {name.lower(): name for name in self.columns}
        uses = dict.fromkeys(known[column.parts[0].name.lower()] for column in tree.find_all(exp.Column))
        return sql, type_.strip('"'), tuple(uses)


@dataclass(frozen=True)
class Mapped:
    """A column of the contract, the SQL of its raw value and DuckDB's type of that.

    `uses` are the source columns of an expression; it is empty for a column that is taken as it is, which cannot fail.
    """

    column: Column
    sql: str
    type: str
    is_calculated: bool = False
    uses: tuple[str, ...] = ()


def mapping(table: Table, spec: TableSpec, relation: Relation, tell: Tell) -> list[Mapped]:
    """Every column of the contract that can be bound; what cannot is told."""
    for name in spec.columns:
        if name not in table.names:
            tell(f"columns.{name}", f"{table.name} has no column {name!r}; {nearest(name, table.names)}")
    found = []
    for column in table.columns:
        try:
            found.append(_mapped(column, spec.columns.get(column.name), relation))
        except RuleError as error:
            tell(f"columns.{column.name}", str(error))
    return found


def _mapped(column: Column, given: str | bool | int | float | None, relation: Relation) -> Mapped:
    expression = column.name if given is None else str(given).lower() if isinstance(given, bool) else str(given).strip()
    taken = next((name for name in relation.columns if name.lower() == expression.lower()), None)
    if taken is not None:
        mapped = Mapped(column, quoted(taken), relation.columns[taken].strip('"'))
    elif given is not None:
        sql, type_, uses = relation.bind(expression)
        mapped = Mapped(column, sql, type_, True, uses)
    elif column.required:
        listed = nearest(column.name, relation.columns)
        raise RuleError(f"no source column holds {column.name}: map it to one; {listed}")
    else:
        mapped = Mapped(column, "NULL", "NULL")
    if not re.fullmatch(_FITTING[column.type], mapped.type):
        remedy = "map another column"
        if column.type == "timestamp":
            remedy = "write to_timestamp(…) for seconds since 1970, epoch_ms(…) for milliseconds"
        raise RuleError(f"{expression} is of type {mapped.type}, but {column.name} is a {column.type}: {remedy}")
    return mapped


def predicate(where: str, relation: Relation, tell: Tell) -> str:
    """The SQL of `where`; what is wrong with it is told."""
    if not where:
        return ""
    try:
        sql, type_, _ = relation.bind(where)
    except RuleError as error:
        tell("where", str(error))
        return ""
    if type_ != "BOOLEAN":
        tell("where", f"{where!r} is not true or false but {type_}: write a comparison")
    return sql

"""A plan: the files found, the query accepted and the mapping bound, so that rows can be asked for.

Belongs here: putting these together, and telling everything that is wrong at once. Does not belong here: the parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb

from microseg_assets.sources.locate import copies, first_line, locate
from microseg_assets.sources.mapping import Mapped, Relation, Tell, mapping, predicate
from microseg_assets.sources.query import checked_query
from microseg_assets.sources.read import FILE, SOURCE, create_view, described, format_of_all, text
from microseg_assets.sources.spec import Problem, SourceError, TableSpec
from microseg_assets.sources.values import Zones
from ml.engine import quoted
from ml.rules import RuleError
from ml.tables import Table


@dataclass(frozen=True)
class Target:
    """What rows become: a contract, in the days of a project that begins at `start` and whose file lies in `base`."""

    table: Table
    zones: Zones
    start: date
    base: Path


@dataclass(frozen=True)
class Plan:
    """How the rows of a source become those of its target.

    Parameters
    ----------
    mapped : one for each column of the contract
    where : the SQL of the predicate on delivered rows; empty if there is none
    copies : files that were delivered before
    """

    target: Target
    relation: Relation
    mapped: tuple[Mapped, ...]
    where: str
    copies: tuple[str, ...]


@contextmanager
def connected() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that reads nothing but what it is given."""
    with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET enable_progress_bar = false")
        yield connection


def plan(
    connection: duckdb.DuckDBPyConnection, spec: TableSpec, target: Target, problems: list[Problem]
) -> Plan | None:
    """The plan; None if something keeps it from being made. What is wrong is added to `problems` either way."""

    def tell(key: str, message: str) -> None:
        problems.append(Problem(f"{target.table.name}.{key}", message))

    if not _is_declared(spec, tell):
        return None
    files = _views(connection, spec, target.base, tell)
    if problems:
        return None
    try:
        relation = _relation(connection, spec, target.base, files)
    except RuleError as error:
        tell("query", str(error))
        return None
    mapped = mapping(target.table, spec, relation, tell)
    where = predicate(spec.where, relation, tell)
    again = tuple(copies(files["rows"])) if spec.path else ()
    return Plan(target, relation, tuple(mapped), where, again)


def _is_declared(spec: TableSpec, tell: Tell) -> bool:
    """Whether the spec says where rows are, in one of the ways there are."""
    if spec.connection:
        tell("connection", "databases are not read yet: export the table to a file and name that in path")
    elif not spec.path and not spec.files:
        tell("path", "no file is named: set path, or files and query")
    elif spec.path and (spec.files or spec.query):
        tell("path", "path stands alone: name the files of a query in files, or leave the query out")
    else:
        return True
    return False


def _views(connection: duckdb.DuckDBPyConnection, spec: TableSpec, base: Path, tell: Tell) -> dict[str, list[str]]:
    """A view ``__name`` of each location, and for a query one without the file's name; the files of each."""
    found = {}
    if len(spec.files) > 1 and not spec.query:
        tell("query", "several files need a query that says how they belong together")
    if spec.time_zone and not _is_zone(spec.time_zone):
        tell("time_zone", f"{spec.time_zone!r} is not a time zone: write one like Europe/Berlin or UTC")
    for name, locations in spec.locations.items():
        key = "path" if spec.path else f"files.{name}"
        if not (name.isascii() and name.isidentifier()) or name.startswith("__"):
            tell(key, "a name in files consists of letters, digits and underscores and does not begin with two")
            continue
        try:
            files = list(dict.fromkeys(file for location in locations for file in locate(location, base)))
            format_ = format_of_all(files) if spec.format == "auto" else spec.format
            create_view(connection, f"__{name}", files, format_)
            connection.execute(
                f"CREATE TEMP VIEW {quoted(name)} AS SELECT * EXCLUDE ({FILE}) FROM {quoted(f'__{name}')}"
            )
            found[name] = files
        except SourceError as error:
            tell(key, str(error))
    return found


def _is_zone(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        return False


def _relation(
    connection: duckdb.DuckDBPyConnection, spec: TableSpec, base: Path, files: dict[str, list[str]]
) -> Relation:
    """The source's rows with `SOURCE`: the file as the project names it or, behind a query, its files.

    Raises
    ------
    RuleError
        If the query cannot be accepted or bound.
    """
    if spec.path:
        label = ", ".join(spec.locations["rows"])
        prefix = f"{base}/"
        inner = f"{FILE}[{len(prefix) + 1}:]"
        source = f"CASE WHEN starts_with({FILE}, {text(prefix)}) THEN {inner} ELSE {FILE} END"
        return Relation(
            connection, f"SELECT *, {text(label) if len(files['rows']) == 1 else source} AS {SOURCE} FROM __rows", label
        )
    if not spec.query:
        ((name, label),) = spec.files.items()
        return Relation(connection, f"SELECT *, {text(label)} AS {SOURCE} FROM {quoted(name)}", label)
    label = f"query over {', '.join(spec.files)}"
    functions = connection.sql(
        "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
        "WHERE function_type IN ('scalar', 'aggregate', 'macro')"
    ).fetchall()
    query = checked_query(spec.query, spec.files, [name for (name,) in functions]).sql("duckdb")
    sql = f"SELECT *, {text(label)} AS {SOURCE} FROM ({query})"
    try:
        described(connection, sql)
    except duckdb.Error as error:
        hint = "columns of CSV and JSON files are text: CAST(x AS DOUBLE) where needed"
        raise RuleError(f"{first_line(error)}; {hint}") from None
    return Relation(connection, sql, label)

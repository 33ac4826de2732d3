"""A plan: the files or database located, the query accepted and the mapping bound, so that rows can be read.

Belongs here: combining these, and reporting everything that is wrong at once. Does not belong here: the parts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo

import duckdb

from microseg_assets.sources.database import Database, Fetch, attach, database, fetch
from microseg_assets.sources.encodings import AUTO, normalized
from microseg_assets.sources.lines import prepare, rewritten
from microseg_assets.sources.locate import copies, first_line, locate
from microseg_assets.sources.mapping import Mapped, Relation, Report, mapping, predicate
from microseg_assets.sources.query import adds_up, database_query, parse_query, table_query, with_fields_of_files
from microseg_assets.sources.read import FILE, SOURCE, create_view, described, format_of_all, literal, text
from microseg_assets.sources.spec import Problem, Severity, SourceError, SourceSpec, TableSpec
from microseg_assets.sources.values import Clock, counted
from ml.engine import quoted
from ml.rules import RuleError
from ml.tables import Table


@dataclass(frozen=True)
class Target:
    """What rows are mapped to: a contract, in the days of a project that begins at `start`, with its file in `base`."""

    table: Table
    clock: Clock
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
    fetch : what must be fetched from a database before rows can be asked for
    has_ids : whether customers are looked up in the table ``__ids``
    """

    target: Target
    relation: Relation
    mapped: tuple[Mapped, ...]
    where: str
    copies: tuple[str, ...]
    fetch: Fetch | None = None
    has_ids: bool = False


@dataclass(frozen=True)
class _Opened:
    """What is opened for a source before any of the user's SQL runs: the files of each view, or a database."""

    files: dict[str, list[str]]
    database: Database | None = None
    tables: Collection[str] = ()  # of a database that is attached


Connection: TypeAlias = duckdb.DuckDBPyConnection


@contextmanager
def connected() -> Iterator[Connection]:
    """A DuckDB connection with extensions and replacement scans disabled."""
    with (
        tempfile.TemporaryDirectory(prefix="microseg-") as folder,
        duckdb.connect(config={"autoinstall_known_extensions": False}) as connection,
    ):
        prepare(connection, folder)
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET python_enable_replacements = false")
        connection.execute("SET enable_progress_bar = false")
        yield connection


def plan(
    connection: duckdb.DuckDBPyConnection, spec: TableSpec, target: Target, problems: list[Problem]
) -> Plan | None:
    """The plan; None if something prevents it. What is wrong is added to `problems` either way."""

    def report(key: str, message: str, severity: Severity = "error") -> None:
        problems.append(Problem(f"{target.table.name}.{key}", message, severity))

    if not _is_declared(spec, report):
        return None
    target = replace(target, clock=_clock(spec, target.clock, report))
    opened = _opened(connection, spec, target.base, report)
    if problems:
        return None
    if spec.query and not spec.connection and adds_up(spec.query):
        connection.execute("SET threads = 1")
    _lock(connection, opened)
    try:
        relation, fetched = _relation(connection, spec, target.base, opened)
    except RuleError as error:
        report("table" if spec.table else "query", str(error))
        return None
    except SourceError as error:
        report("connection", str(error))
        return None
    is_counted = target.clock.counted is not None
    mapped = mapping(
        target.table, spec.columns, relation, report, wanted={*spec.attributes, *spec.properties}, is_counted=is_counted
    )  # a declared attribute or property is expected in the source
    where = predicate(spec.where, relation, report)
    repeated = tuple(copies(opened.files["rows"])) if spec.path else ()
    return Plan(target, relation, tuple(mapped), where, repeated, fetched, spec.ids is not None)


def _is_declared(spec: SourceSpec, report: Report) -> bool:
    """Whether the spec says where rows are, in one of the possible ways."""
    if spec.connection and (spec.path or spec.files):
        report("connection", "a database excludes files: leave out path and files, or the connection")
    elif spec.connection and bool(spec.table) == bool(spec.query):
        report("connection", "name a table of the database in table, or a SELECT in query; one of the two")
    elif spec.connection and spec.encoding != AUTO:
        report("encoding", "a database has no encoding: leave out the key")
    elif spec.connection:
        return True
    elif spec.table:
        report("table", "a table is one of a database: name that in connection")
    elif not spec.path and not spec.files:
        report("path", "no file is named: set path, or files and query, or connection and table")
    elif spec.path and (spec.files or spec.query):
        report("path", "path excludes files and query: name the files of a query in files, or leave out the query")
    else:
        return True
    return False


def _clock(spec: TableSpec, clock: Clock, report: Report) -> Clock:
    """The target's clock, with the unit of numeric timestamps; what is wrong with that or the zone is reported."""
    if not _is_zone(clock.naive):
        report("time_zone", f"{clock.naive!r} is not a time zone: write one like Europe/Berlin or UTC")
        return clock
    try:
        return replace(clock, counted=counted(spec.stamp, clock.naive, clock.project))
    except ValueError as error:
        report("stamp", str(error))
        return clock


def _is_zone(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        return False


def _opened(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, base: Path, report: Report) -> _Opened:
    """The database, or a view ``__name`` of each location, and for a query one without the file's name."""
    if not spec.connection:
        return _Opened(_views(connection, spec, base, report))
    try:
        opened = database(spec.connection, base)
        return _Opened({}, opened, attach(connection, opened, "__database") if opened.kind == "duckdb" else ())
    except SourceError as error:
        report("connection", str(error))
        return _Opened({})


def _views(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, base: Path, report: Report) -> dict[str, list[str]]:
    views = {}
    try:
        encoding = normalized(spec.encoding)
    except ValueError as error:
        report("encoding", str(error))
        return {}
    if len(spec.files) > 1 and not spec.query:
        report("query", "several files need a query that says how they belong together")
    for name, locations in spec.locations.items():
        key = "path" if spec.path else f"files.{name}"
        if not (name.isascii() and name.isidentifier()) or name.startswith("__"):
            report(key, "a name in files consists of letters, digits and underscores and does not begin with two")
            continue
        try:
            files = list(dict.fromkeys(file for location in locations for file in locate(location, base)))
            format_ = format_of_all(files) if spec.format == "auto" else spec.format
            create_view(connection, f"__{name}", files, format_, encoding if format_ != "parquet" else AUTO)
            if encoding != AUTO and format_ == "parquet":
                report("encoding", "Parquet files have no encoding: leave out the key")
            connection.execute(
                f"CREATE TEMP VIEW {quoted(name)} AS SELECT * EXCLUDE ({FILE}) FROM {quoted(f'__{name}')}"
            )
            views[name] = files
        except SourceError as error:
            report(key, str(error))
    return views


def _lock(connection: duckdb.DuckDBPyConnection, opened: _Opened) -> None:
    """From now on DuckDB opens no files but those of the views, whatever SQL it runs; this cannot be undone."""
    all_files = [*rewritten(connection), *(name for files in opened.files.values() for name in files)]
    names = {form for name in all_files for form in (name, literal(name))}
    connection.execute(f"SET allowed_paths = [{', '.join(map(text, sorted(names)))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _relation(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, base: Path, opened: _Opened
) -> tuple[Relation, Fetch | None]:
    """The source's rows with `SOURCE`: the file as the project names it, or the files of a query; and what must be
    fetched first.

    Raises
    ------
    RuleError
        If the query cannot be accepted or bound.
    SourceError
        If a database does not answer.
    """
    if opened.database is not None:
        return _of_database(connection, spec, opened.database, opened.tables)
    if spec.path:
        label = ", ".join(spec.locations["rows"])
        prefix = f"{base}/"
        inner = f"{FILE}[{len(prefix) + 1}:]"
        source = f"CASE WHEN starts_with({FILE}, {text(prefix)}) THEN {inner} ELSE {FILE} END"
        one = text(label) if len(opened.files["rows"]) == 1 else source
        return Relation(connection, f"SELECT *, {one} AS {SOURCE} FROM __rows", label), None
    if not spec.query:
        ((name, label),) = spec.files.items()
        return Relation(connection, f"SELECT *, {text(label)} AS {SOURCE} FROM {quoted(name)}", label), None
    tree = parse_query(spec.query, spec.files, _functions(connection))
    columns = {name: described(connection, f"FROM {quoted(name)}") for name in spec.files}
    query = with_fields_of_files(tree, columns).sql("duckdb", comments=False)
    hint = "columns of CSV and JSON files are text: CAST(x AS DOUBLE) where needed; a field of JSON: device.os"
    return _bound(connection, query, f"query over {', '.join(spec.files)}", hint), None


def _of_database(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, opened: Database, tables: Collection[str]
) -> tuple[Relation, Fetch | None]:
    label = f"{spec.table or 'query'} of {opened.label}"
    functions = _functions(connection) if opened.kind == "duckdb" else ()
    if spec.table:
        select = table_query(spec.table, opened.kind, tables)
    else:
        select = database_query(spec.query, opened.kind, tables, functions)
    if opened.kind == "duckdb":
        return _bound(connection, select, label, "correct the query"), None
    fetched = fetch(opened, select, "__rows")
    fetched.create(connection)
    return Relation(connection, f"SELECT *, {text(label)} AS {SOURCE} FROM __rows", label), fetched


def _bound(connection: duckdb.DuckDBPyConnection, query: str, label: str, hint: str) -> Relation:
    """The rows of a query that DuckDB runs."""
    sql = f"SELECT *, {text(label)} AS {SOURCE} FROM ({query})"
    try:
        described(connection, sql)
    except duckdb.Error as error:
        raise RuleError(f"{first_line(error)}; {hint}") from None
    return Relation(connection, sql, label)


def _functions(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.sql(
        "SELECT DISTINCT lower(function_name) FROM duckdb_functions() "
        "WHERE function_type IN ('scalar', 'aggregate', 'macro')"
    ).fetchall()
    return [name for (name,) in rows]

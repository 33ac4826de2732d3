"""Runs a query: the one place that knows which engine does the work.

Everything per-customer and wide is one SQL query per step, written in DuckDB's dialect and kept portable. The engine
gets the query, its named input tables and its parameters, and returns Arrow. Belongs here: registering inputs, running,
streaming. Does not belong here: any query of the chain.

A query names its inputs as plain tables; each is given by keyword as a `pyarrow.Table`, a pandas frame, or `Files`
(Parquet on disk, read with column pruning). Values go in as `$name` parameters, never as pasted text.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import duckdb
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Files:
    """Parquet files with one schema; a hive partition in the path (`day=2017-01-01/`) is a column of it. Files of an
    earlier version may lack some of its columns.

    Parameters
    ----------
    paths : tuple of str
        Paths of this machine, or URLs that fsspec knows (``s3://…``).
    schema : pa.Schema
        The columns to read, the partition among them.
    renamed : mapping of str to str, optional
        What earlier versions called a column, to its name in `schema`.
    """

    paths: tuple[str, ...]
    schema: pa.Schema
    renamed: Mapping[str, str] = field(default_factory=dict)


Input: TypeAlias = "pa.Table | pd.DataFrame | Files"
QueryError = duckdb.Error
ConversionError = duckdb.ConversionException  # a value is not of the type that is asked for


class Engine(Protocol):
    """What the chain asks of an engine."""

    def query(self, sql: str, params: Mapping[str, Any] | None = None, /, **tables: Any) -> pa.Table:
        """Run one statement and return its rows."""
        ...

    def stream(
        self, sql: str, params: Mapping[str, Any] | None = None, /, *, rows: int = 200_000, **tables: Any
    ) -> Iterator[pa.RecordBatch]:
        """Run one statement and yield its rows in batches, so that memory does not grow with the result."""
        ...


class DuckDB:
    """The embedded engine. One instance keeps one connection; a query runs in a cursor of its own.

    Parameters
    ----------
    threads : how many threads a query may use; the machine's cores by default
    memory_limit : as DuckDB writes it, for example ``"4GB"``; DuckDB's default otherwise
    """

    def __init__(self, threads: int | None = None, memory_limit: str | None = None) -> None:
        self._config: dict[str, Any] = {}
        if threads:
            self._config["threads"] = threads
        if memory_limit:
            self._config["memory_limit"] = memory_limit
        self._lock = threading.Lock()

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        """Opened by the first query, under the lock: who only lists assets pays for none."""
        connection = duckdb.connect(config=self._config)
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        with suppress(duckdb.InvalidInputException):  # in a notebook without ipywidgets, where there is no bar
            connection.execute("SET enable_progress_bar = false")
        # DuckDB 2.0.0 rewrites SUM(…) OVER (PARTITION BY …) into a join that forgets a filter on the partition column.
        connection.execute("SET GLOBAL disabled_optimizers = 'window_self_join'")
        return connection

    @contextmanager
    def _relation(self, sql: str, params: Mapping[str, Any] | None, tables: Mapping[str, Any]) -> Iterator[Any]:
        with self._lock:
            cursor = self._connection.cursor()
        try:
            for name, table in tables.items():
                if isinstance(table, Files):
                    with self._lock:  # a file system is registered once for all cursors
                        _register_files(cursor, name, table)
                else:
                    cursor.register(name, table)
            used = {name: value for name, value in (params or {}).items() if re.search(rf"\${name}\b", sql)}
            yield cursor.sql(sql, params=used or None)
        finally:
            cursor.close()

    def query(self, sql: str, params: Mapping[str, Any] | None = None, /, **tables: Any) -> pa.Table:
        with self._relation(sql, params, tables) as relation:
            return relation.to_arrow_table()

    def stream(
        self, sql: str, params: Mapping[str, Any] | None = None, /, *, rows: int = 200_000, **tables: Any
    ) -> Iterator[pa.RecordBatch]:
        with self._relation(sql, params, tables) as relation:
            yield from relation.to_arrow_reader(rows)


@cache
def in_memory() -> Engine:
    """The one engine of this process for those whom nobody hands one: a served model answers for a frame alone."""
    return DuckDB()


def _register_files(cursor: Any, name: str, files: Files) -> None:
    """A temporary view over Parquet files; without files, an empty table of the same columns.

    Files may be older than a column of the schema, which then is NULL in their rows.
    """
    if not files.paths:
        cursor.register(name, files.schema.empty_table())
        return
    for protocol in {path.partition("://")[0] for path in files.paths if "://" in path}:
        import fsspec

        if not cursor.filesystem_is_registered(protocol):
            cursor.register_filesystem(fsspec.filesystem(protocol))
    # A path is a pattern to DuckDB; in brackets its signs stand for themselves.
    literal = (re.sub(r"[*?\[]", r"[\g<0>]", path).replace("'", "''") for path in files.paths)
    listed = ", ".join(f"'{path}'" for path in literal)
    former = {new: old for old, new in files.renamed.items()}
    columns = ", ".join(map(quoted, files.schema.names))
    view = f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS SELECT "
    rows = f"read_parquet([{listed}], hive_partitioning = true, union_by_name = true)"
    try:
        if former:  # some files may have the one name, some the other
            raise duckdb.BinderException
        cursor.execute(f"{view}{columns} FROM {rows}")
    except duckdb.BinderException:  # all files were written before a column was declared, or may have been
        declared = quoted(f"{name} as declared")
        every = [*files.schema, *(files.schema.field(new).with_name(old) for new, old in former.items())]
        cursor.register(declared.strip('"'), pa.schema(every).empty_table())
        columns = ", ".join(
            f"COALESCE({quoted(one)}, {quoted(former[one])}) AS {quoted(one)}" if one in former else quoted(one)
            for one in files.schema.names
        )
        cursor.execute(f"{view}{columns} FROM (FROM {rows} UNION ALL BY NAME FROM {declared})")


@cache
def sandbox() -> duckdb.DuckDBPyConnection:
    """A DuckDB that reads nothing, for expressions over constants; each use takes a cursor of it."""
    return duckdb.connect(config={"enable_external_access": "false", "threads": 1})


def sql_of(package: str, name: str) -> str:
    """The text of a query that lies as a ``.sql`` file beside the module that runs it."""
    return (resources.files(package) / f"{name}.sql").read_text(encoding="utf-8")


def quoted(name: str) -> str:
    """A column or table name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'

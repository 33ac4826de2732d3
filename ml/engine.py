"""Runs queries: the one place that knows which engine does the work.

Wide work per customer is one SQL query per step, written in DuckDB's dialect and kept portable. The engine gets the
query, its named input tables and its parameters, and returns Arrow. A query names its inputs as plain tables; each is
passed by keyword as a `pyarrow.Table`, a pandas frame, or `Files` (Parquet on disk, read with column pruning). Values
are `$name` parameters, never pasted text.

Belongs here: registering inputs, running, streaming. Does not belong here: any query of the chain.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import duckdb
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Files:
    """Parquet files with one schema, as an input of a query.

    A hive partition in the path (`day=2017-01-01/`) is a column. Files of earlier versions may lack columns, which then
    are NULL.

    Parameters
    ----------
    paths : tuple of str
        Local paths, or URLs that fsspec knows (``s3://…``).
    schema : pa.Schema
        The columns to read, including the partition.
    renamed : Mapping of str to str, optional
        A column's name in earlier versions, to its name in `schema`.
    until : datetime.date, optional
        Last `day` whose rows are read; all rows by default.

    Examples
    --------
    Without files the table is empty, but has its columns:

    >>> files = Files((), pa.schema({"customer_id": pa.string()}))
    >>> DuckDB(threads=1).query("SELECT * FROM customers", customers=files).column_names
    ['customer_id']
    """

    paths: tuple[str, ...]
    schema: pa.Schema
    renamed: Mapping[str, str] = field(default_factory=dict, hash=False)
    until: date | None = None


Input: TypeAlias = "pa.Table | pd.DataFrame | Files"
QueryError = duckdb.Error
ConversionError = duckdb.ConversionException  # a value is not of the type that is asked for


class Engine(Protocol):
    """What the chain needs of an engine."""

    def query(self, sql: str, params: Mapping[str, Any] | None = None, /, **tables: Any) -> pa.Table:
        """Run one statement.

        Parameters
        ----------
        sql : str
            The statement, in DuckDB's dialect.
        params : Mapping of str to Any, optional
            Values of its `$name` parameters; those it does not use are ignored.
        **tables : pa.Table, pd.DataFrame or Files
            Its inputs by name.

        Returns
        -------
        pa.Table
            The rows.
        """
        ...

    def stream(
        self, sql: str, params: Mapping[str, Any] | None = None, /, *, rows: int = 200_000, **tables: Any
    ) -> Iterator[pa.RecordBatch]:
        """Run one statement and yield its rows in batches, so that memory does not grow with the result.

        Parameters
        ----------
        sql : str
            The statement, in DuckDB's dialect.
        params : Mapping of str to Any, optional
            Values of its `$name` parameters; those it does not use are ignored.
        rows : int
            Rows of a batch.
        **tables : pa.Table, pd.DataFrame or Files
            Its inputs by name.

        Yields
        ------
        pa.RecordBatch
            Batches in the order of the result.
        """
        ...


class DuckDB:
    """The embedded engine. An instance keeps one connection; each query runs in its own cursor.

    Parameters
    ----------
    threads : int, optional
        Threads that a query may use; the machine's cores by default.
    memory_limit : str, optional
        As DuckDB writes it, for example ``"4GB"``; DuckDB's default otherwise. What does not fit is put in files.
    spill_folder : str, optional
        Folder of these files; by default that of the system's temporary files.

    Examples
    --------
    >>> engine = DuckDB(threads=1)
    >>> orders = pa.table({"customer_id": ["a", "a", "b"], "amount": [10.0, 20.0, 5.0]})
    >>> sql = "SELECT customer_id, SUM(amount) AS spend FROM orders WHERE amount > $over GROUP BY 1 ORDER BY 1"
    >>> engine.query(sql, {"over": 7.0}, orders=orders).to_pylist()
    [{'customer_id': 'a', 'spend': 30.0}]
    """

    def __init__(
        self, threads: int | None = None, memory_limit: str | None = None, spill_folder: str | None = None
    ) -> None:
        self._config: dict[str, Any] = {"temp_directory": spill_folder or tempfile.gettempdir()}
        if threads:
            self._config["threads"] = threads
        if memory_limit:
            self._config["memory_limit"] = memory_limit
        self._lock = threading.Lock()

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        """Opened by the first query, under the lock: listing assets costs no connection."""
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
        """Run one statement (see `Engine.query`).

        Parameters
        ----------
        sql : str
            The statement.
        params : Mapping of str to Any, optional
            Values of its `$name` parameters.
        **tables : pa.Table, pd.DataFrame or Files
            Its inputs by name.

        Returns
        -------
        pa.Table
            The rows.
        """
        with self._relation(sql, params, tables) as relation:
            return relation.to_arrow_table()

    def stream(
        self, sql: str, params: Mapping[str, Any] | None = None, /, *, rows: int = 200_000, **tables: Any
    ) -> Iterator[pa.RecordBatch]:
        """Run one statement and yield its rows in batches (see `Engine.stream`).

        Parameters
        ----------
        sql : str
            The statement.
        params : Mapping of str to Any, optional
            Values of its `$name` parameters.
        rows : int
            Rows of a batch.
        **tables : pa.Table, pd.DataFrame or Files
            Its inputs by name.

        Yields
        ------
        pa.RecordBatch
            Batches in the order of the result.
        """
        with self._relation(sql, params, tables) as relation:
            yield from relation.to_arrow_reader(rows)


@cache
def in_memory() -> Engine:
    """Return an engine shared by the process, for code that gets none, such as a served model.

    Returns
    -------
    Engine
        The same engine on every call.

    Examples
    --------
    >>> in_memory().query("SELECT 1 AS one").to_pylist()
    [{'one': 1}]
    """
    return DuckDB()


def _register_files(cursor: Any, name: str, files: Files) -> None:
    """A temporary view over Parquet files; without files, an empty table of the same columns.

    A column of the schema that older files lack is NULL in their rows.
    """
    if not files.paths:
        cursor.register(name, files.schema.empty_table())
        return
    for protocol in {path.partition("://")[0] for path in files.paths if "://" in path}:
        import fsspec

        if not cursor.filesystem_is_registered(protocol):
            cursor.register_filesystem(fsspec.filesystem(protocol))
    # DuckDB reads a path as a pattern; brackets escape its special characters.
    literal = (re.sub(r"[*?\[]", r"[\g<0>]", path).replace("'", "''") for path in files.paths)
    listed = ", ".join(f"'{path}'" for path in literal)
    former = {new: old for old, new in files.renamed.items()}
    columns = ", ".join(map(quoted, files.schema.names))
    view = f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS SELECT "
    rows = f"read_parquet([{listed}], hive_partitioning = true, union_by_name = true)"
    if files.until:
        rows = f"(FROM {rows} WHERE day <= DATE '{files.until}')"
    try:
        if former:  # some files may have the old name, some the new one
            raise duckdb.BinderException
        cursor.execute(f"{view}{columns} FROM {rows}")
    except duckdb.BinderException:  # all files were written before a column was declared, or may have been
        declared = quoted(f"{name} as declared")
        fields = [*files.schema, *(files.schema.field(new).with_name(old) for new, old in former.items())]
        cursor.register(declared.strip('"'), pa.schema(fields).empty_table())
        columns = ", ".join(
            f"COALESCE({quoted(column)}, {quoted(former[column])}) AS {quoted(column)}"
            if column in former
            else quoted(column)
            for column in files.schema.names
        )
        cursor.execute(f"{view}{columns} FROM (FROM {rows} UNION ALL BY NAME FROM {declared})")


@cache
def sandbox() -> duckdb.DuckDBPyConnection:
    """Return a DuckDB that cannot read files, for expressions over constants; take a cursor for each use.

    Returns
    -------
    duckdb.DuckDBPyConnection
        The same connection on every call.

    Examples
    --------
    >>> sandbox().cursor().sql("SELECT 1 + 1").fetchall()
    [(2,)]
    """
    return duckdb.connect(config={"enable_external_access": "false", "threads": 1})


def sql_of(package: str, name: str) -> str:
    """Read a query from a ``.sql`` file beside the module that runs it.

    Parameters
    ----------
    package : str
        Package that holds the file.
    name : str
        Its name without ``.sql``.

    Returns
    -------
    str
        The query.

    Examples
    --------
    >>> "FROM customer_days" in sql_of("ml.value", "season")
    True
    """
    return (resources.files(package) / f"{name}.sql").read_text(encoding="utf-8")


def quoted(name: str) -> str:
    """Quote a column or table name as a SQL identifier.

    Parameters
    ----------
    name : str
        Any text.

    Returns
    -------
    str
        The identifier in double quotes.

    Examples
    --------
    >>> quoted('the "total" of orders')
    '"the ""total"" of orders"'
    """
    return '"' + name.replace('"', '""') + '"'

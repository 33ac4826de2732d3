"""A table or a query of a database, as a table of DuckDB.

Belongs here: opening a database so that nothing can be written, and fetching the rows of one SELECT. Does not belong
here: what that SELECT may contain (see `query`), and what its columns mean (see `mapping`).

PostgreSQL casts every value to text, and DuckDB casts it to the type of its column: so nothing depends on how a driver
converts a value, and a type that DuckDB lacks stays text. SQLite gives each *value* a type and does not enforce those
of its columns, so there every column is text, as in a CSV file. A DuckDB file is attached rather than fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, unquote, urlsplit

import duckdb
import pyarrow as pa

from microseg_assets.sources.locate import first_line
from microseg_assets.sources.spec import SourceError
from ml.engine import quoted

Kind: TypeAlias = Literal["postgres", "sqlite", "duckdb"]

_SCHEMES: dict[str, Kind] = {
    "postgresql": "postgres", "postgres": "postgres", "postgresql+psycopg2": "postgres", "sqlite": "sqlite",
    "duckdb": "duckdb",
}  # fmt: skip
_SUFFIXES: dict[str, Kind] = {".sqlite": "sqlite", ".sqlite3": "sqlite", ".duckdb": "duckdb"}
_EXAMPLES = "write postgresql://user@host/name, sqlite:///file.sqlite or duckdb:///file.duckdb"
_VARIABLE = re.compile(r"\$\{(\w+)\}")
# PostgreSQL's types that DuckDB has too, by their object id in its catalog.
_TYPES = {
    16: "BOOLEAN", 20: "BIGINT", 21: "BIGINT", 23: "BIGINT", 26: "BIGINT", 700: "DOUBLE", 701: "DOUBLE",
    1700: "DOUBLE", 1082: "DATE", 1114: "TIMESTAMP", 1184: "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
_BATCH = 50_000  # rows
_TIMEOUT = 20  # seconds to wait for a server


@dataclass(frozen=True)
class Database:
    """Where a database is; `label` names it in messages, without the password, which is `secret`.

    `address` is a URL for a server and a path for a file.
    """

    kind: Kind
    address: str
    label: str
    secret: str = ""

    def error_line(self, error: BaseException) -> str:
        """An error's message in one line, without the password."""
        line = first_line(getattr(error, "orig", None) or error)
        return line.replace(self.secret, "***") if self.secret else line

    def __repr__(self) -> str:
        return f"Database({self.label})"


def database(connection: str, base: Path) -> Database:
    """The database that a project file names.

    Raises
    ------
    SourceError
        If it names none, an environment variable is not set, or there is no such file.
    """

    def variable(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise SourceError(f"the environment variable {match[1]} is not set: export it before the run")
        return quote(os.environ[match[1]], safe="") if "://" in connection[: match.start()] else os.environ[match[1]]

    expanded = _VARIABLE.sub(variable, connection).strip()
    scheme, is_url, _ = expanded.partition("://")
    kind = _SCHEMES.get(scheme.lower()) if is_url else _SUFFIXES.get(Path(expanded).suffix.lower())
    if kind is None:
        what = f"{scheme}:// is not a supported database" if is_url else "this is not a supported database"
        raise SourceError(f"{what}: {_EXAMPLES}")
    if kind == "postgres":
        return _server(expanded)
    name = unquote(expanded.split("://", 1)[1].removeprefix("/")) if is_url else expanded
    path = (base / Path(name).expanduser()).absolute()
    if not path.is_file():
        raise SourceError(f"there is no file {name} (looked for {path}): put it there or correct the connection")
    return Database(kind, str(path), name)


def _server(address: str) -> Database:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
        secret = unquote(urlsplit(address).password or "")
    except (ArgumentError, ValueError):
        raise SourceError(f"this is not the address of a PostgreSQL server: {_EXAMPLES}") from None
    label = f"{url.host or 'localhost'}/{url.database or ''}"
    url = url.set(drivername="postgresql+psycopg2")
    return Database("postgres", url.render_as_string(hide_password=False), label, str(url.password or secret))


def attach(connection: duckdb.DuckDBPyConnection, of: Database, name: str) -> dict[str, None]:
    """Attach a DuckDB file so that its tables can be used by their own names; returns these, in lower case.

    Raises
    ------
    SourceError
        If it cannot be opened.
    """
    try:
        connection.execute(f"ATTACH {_literal(of.address)} AS {quoted(name)} (TYPE duckdb, READ_ONLY)")
        connection.execute(f"USE {quoted(name)}")
    except duckdb.Error as error:
        raise SourceError(f"{of.label} cannot be opened as a DuckDB database: {of.error_line(error)}") from None
    tables = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = $1 UNION ALL "
        "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = $1 AND NOT internal ORDER BY ALL",
        [name],
    ).fetchall()
    return dict.fromkeys(n for s, t in tables for n in ((f"{s}.{t}", t) if s == "main" else (f"{s}.{t}",)))


@dataclass(frozen=True)
class Fetch:
    """The rows of one SELECT of PostgreSQL or SQLite, and where in DuckDB they go.

    Parameters
    ----------
    columns : name to type in DuckDB
    into : name of the temporary table
    """

    database: Database
    select: str
    columns: dict[str, str]
    into: str

    def create(self, connection: duckdb.DuckDBPyConnection) -> None:
        """The table without rows, to bind expressions to."""
        declared = ", ".join(f"{quoted(name)} {type_}" for name, type_ in self.columns.items())
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(self.into)} ({declared})")

    def fill(self, connection: duckdb.DuckDBPyConnection, condition: str = "") -> None:
        """Fetch the rows for which a condition in the database's own SQL holds; all of them without one.

        Raises
        ------
        SourceError
            If the database cannot be read.
        """
        failures: list[BaseException] = []

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                yield from self._batches(condition)
            except Exception as error:
                failures.append(error)
                raise

        schema = pa.schema([(name, pa.string()) for name in self.columns])
        typed = (
            quoted(name) if type_ == "VARCHAR" else f"TRY_CAST({_plain(quoted(name), type_)} AS {type_})"
            for name, type_ in self.columns.items()
        )
        connection.register("__batches", pa.RecordBatchReader.from_batches(schema, batches()))
        try:
            self.create(connection)
            connection.execute(f"INSERT INTO {quoted(self.into)} SELECT {', '.join(typed)} FROM __batches")
        except duckdb.Error as error:
            line = self.database.error_line(failures[0] if failures else error)
            raise SourceError(f"{self.database.label} cannot be read: {line}") from None
        finally:
            connection.unregister("__batches")

    def _batches(self, condition: str) -> Iterator[pa.RecordBatch]:
        as_text = "{}::text" if self.database.kind == "postgres" else "{}"
        listed = ", ".join(as_text.format(f"q.{quoted(name)}") for name in self.columns)
        sql = f"SELECT {listed} FROM ({self.select}) AS q" + (f" WHERE {condition}" if condition else "")
        with _reading(self.database) as connection:
            result = connection.exec_driver_sql(sql, execution_options={"yield_per": _BATCH})
            for rows in result.partitions(_BATCH):
                texts = [pa.array(_texts(values), pa.string()) for values in zip(*rows, strict=True)]
                yield pa.record_batch(texts, names=list(self.columns))


def fetch(of: Database, select: str, into: str) -> Fetch:
    """Prepare fetching a SELECT from PostgreSQL or SQLite, by asking the database for its columns.

    Raises
    ------
    SourceError
        If the database cannot be reached or refuses it.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _reading(of) as connection:
            result = connection.exec_driver_sql(f"SELECT * FROM ({select}) AS q LIMIT 0")
            columns = list(result.cursor.description)
            result.close()
    except ModuleNotFoundError as error:
        raise SourceError(f"PostgreSQL needs {error.name}: pip install 'microseg[postgres]'") from None
    except SQLAlchemyError as error:
        raise SourceError(f"{of.label} does not answer: {of.error_line(error)}") from None
    names = [column[0] for column in columns]
    lower = [name.lower() for name in names]
    if twice := sorted({name for name in names if lower.count(name.lower()) > 1}):
        raise SourceError(f"{of.label}: two columns are called {twice[0]!r}: give each its own name with AS")
    types = [_TYPES.get(column[1], "VARCHAR") if of.kind == "postgres" else "VARCHAR" for column in columns]
    return Fetch(of, select, dict(zip(names, types, strict=True)), into)


@contextmanager
def _reading(of: Database) -> Iterator[Any]:
    """A connection within one read-only transaction, which sees one state of the database."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    if of.kind == "sqlite":
        url, arguments = f"sqlite:///file:{quote(of.address)}?mode=ro&uri=true", {}
    else:
        url, arguments = of.address, {"connect_timeout": _TIMEOUT}
    engine = create_engine(url, poolclass=NullPool, connect_args=arguments)
    options: dict[str, Any] = {"no_parameters": True, "max_row_buffer": _BATCH}
    if of.kind == "postgres":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    try:
        with engine.connect().execution_options(**options) as connection:
            if of.kind == "postgres":
                for setting in ("timezone = 'UTC'", "datestyle = 'ISO, YMD'", "extra_float_digits = 1"):
                    connection.exec_driver_sql(f"SET LOCAL {setting}")
            else:
                connection.exec_driver_sql("PRAGMA query_only = true")
                driver: Any = connection.connection.driver_connection
                driver.text_factory = _decoded
            yield connection
    finally:
        engine.dispose()


def _decoded(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _texts(values: Sequence[Any]) -> list[str | None]:
    """Values of SQLite as text; those of PostgreSQL already are."""
    return [value if value is None or type(value) is str else _text(value) for value in values]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return repr(value)  # of a float: the shortest text that reads back as the same number


def _plain(value: str, type_: str) -> str:
    """PostgreSQL writes BC at the end of a timestamp, DuckDB after the day."""
    if type_ == "DATE" or type_.startswith("TIMESTAMP"):
        return f"regexp_replace({value}, '^(\\S+)(.*) BC$', '\\1 (BC)\\2')"
    return value


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"

"""Files as SQL: a view of what they hold, as it was delivered.

Belongs here: what is special about CSV, JSON lines and Parquet. Does not belong here: which files (see `locate`), and
what a value means.

Text files hold text: every CSV and JSON column is a string, never guessed from a sample, so that a bad value in the
last line cannot change what the first line means.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence

import duckdb
from sqlglot import exp

from microseg_assets.sources.locate import first_line, format_of, is_url
from microseg_assets.sources.spec import Format, SourceError
from ml.engine import quoted

# Columns beside the delivered ones: the file a row lies in, and what the reader of a row is told about that.
FILE, SOURCE = "__file", "__source"
_KINDS = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON lines"}


def text(value: str) -> str:
    """A string as a SQL literal: for what DuckDB cannot take as a parameter inside of a view."""
    return exp.Literal.string(value).sql("duckdb")


def described(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """Columns of a query and their DuckDB types."""
    relation = connection.sql(query)
    return {name: str(type_) for name, type_ in zip(relation.columns, relation.types, strict=True)}


def format_of_all(files: Sequence[str]) -> Format:
    """The one format of all files, by their suffixes.

    Raises
    ------
    SourceError
        If a suffix is unknown, or they differ.
    """
    formats = {name: format_of(name) for name in files}
    for name, format_ in formats.items():
        if format_ is None:
            raise SourceError(f"{name} has an unknown suffix: set format to csv, jsonl or parquet")
    if len(set(formats.values())) > 1:
        raise SourceError(f"{files[0]} and others are of different formats: name one kind of file, or a pattern")
    return formats[files[0]]  # type: ignore[return-value]


def create_view(connection: duckdb.DuckDBPyConnection, view: str, files: Sequence[str], format_: Format) -> None:
    """A temporary view of all rows of the files, with the column `FILE`.

    Raises
    ------
    SourceError
        If a file cannot be read; it says which, and why.
    """
    import fsspec

    for protocol in {name.partition("://")[0] for name in files if is_url(name)}:
        connection.register_filesystem(fsspec.filesystem(protocol))
    error = _tried(connection, view, files, format_)
    if error is None:
        return
    # Which of several files is to blame?
    blamed = ((name, _tried(connection, view, [name], format_)) for name in files)
    name, reason = next(((name, one) for name, one in blamed if one), (files[0], error))
    kind = _KINDS[format_]
    raise SourceError(f"{name} cannot be read as {kind}: {first_line(reason)}; deliver it again or set format")


def _tried(connection: duckdb.DuckDBPyConnection, view: str, files: Sequence[str], format_: Format) -> Exception | None:
    """Create the view and bind it, or say why not."""
    try:
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(view)} AS {_select(connection, files, format_)}")
        described(connection, f"FROM {quoted(view)}")
    except (duckdb.Error, OSError, UnicodeError) as error:
        return error
    return None


def _select(connection: duckdb.DuckDBPyConnection, files: Sequence[str], format_: Format) -> str:
    if format_ == "parquet":
        return (
            f"SELECT * FROM read_parquet({_listed(files)}, union_by_name = true, filename = '{FILE}', "
            "hive_partitioning = true, hive_types_autocast = false)"
        )
    return _select_json(connection, files) if format_ == "jsonl" else _select_csv(files)


def _select_json(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> str:
    """A line that is no object is a row without values."""
    objects = (
        f"read_json_objects({_listed(files)}, format = 'newline_delimited', ignore_errors = true, filename = true)"
    )
    keys = connection.sql(
        f"SELECT DISTINCT unnest(json_keys(json)) AS name FROM {objects} WHERE json_type(json) = 'OBJECT' ORDER BY name"
    ).fetchall()
    names = {name.lower(): name for (name,) in reversed(keys)}.values()  # one spelling of each
    if not names:
        raise SourceError(f"{files[0]} holds no JSON object: write one object per line")
    structure = text(json.dumps(dict.fromkeys(sorted(names), "VARCHAR")))
    object_ = "CASE WHEN json_type(json) = 'OBJECT' THEN json ELSE '{}'::JSON END"
    return f"SELECT unnest(json_transform({object_}, {structure})), filename AS {FILE} FROM {objects}"


def _select_csv(files: Sequence[str]) -> str:
    """Files with the same header are read together; lines that are no rows are noted by DuckDB as rejects."""
    headers: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for name in files:
        headers.setdefault(_header(name), []).append(name)
    selects = []
    for (columns, delimiter), same in headers.items():
        declared = ", ".join(f"{text(name)}: 'VARCHAR'" for name in columns)
        selects.append(
            f"SELECT * RENAME (filename AS {FILE}) FROM read_csv({_listed(same)}, auto_detect = false, header = true, "
            f"delim = {text(delimiter)}, quote = '\"', escape = '\"', columns = {{{declared}}}, "
            "store_rejects = true, filename = true)"
        )
    return " UNION ALL BY NAME ".join(selects)


def _header(name: str) -> tuple[tuple[str, ...], str]:
    """Column names and delimiter of a CSV file, from its first line alone."""
    import fsspec

    with fsspec.open(name, "rt", encoding="utf-8-sig", errors="replace", newline="", compression="infer") as file:
        line = file.readline(1_000_000)
    if not line.strip():
        raise SourceError(f"{name} is empty: a CSV file begins with a line of column names")
    delimiter = max(",;\t|", key=re.sub(r'"[^"]*"', "", line).count)
    cells = next(csv.reader(io.StringIO(line), delimiter=delimiter))
    names = tuple(cell.strip() or f"column{i}" for i, cell in enumerate(cells))
    lower = [one.lower() for one in names]
    twice = sorted(one for one in names if lower.count(one.lower()) > 1)
    if twice:
        raise SourceError(f"{name} names the column {twice[0]!r} twice in its first line: rename one")
    return names, delimiter


def literal(name: str) -> str:
    """A file as DuckDB must be given it: a path is a pattern to it, in brackets its signs stand for themselves."""
    return name if is_url(name) else re.sub(r"[*?[]", r"[\g<0>]", name)


def _listed(files: Sequence[str]) -> str:
    """The files as a SQL list."""
    return f"[{', '.join(text(literal(name)) for name in files)}]"

"""Files as SQL views of their rows, as delivered.

Belongs here: what is specific to CSV, JSON lines and Parquet. Does not belong here: which files (see `locate`), and
what a value means.

Text files contain text: every CSV and JSON column is a string, never guessed from a sample, so that an invalid value in
the last line cannot change the meaning of the first. An invalid line is in no view: DuckDB records those of CSV files
as rejects, and `broken` returns those of JSON lines.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence

import duckdb
from sqlglot import exp

from microseg_assets.sources.encodings import AUTO, encoding_of, to_utf8
from microseg_assets.sources.lines import DAMAGED, check_encoding, check_whole, readable
from microseg_assets.sources.locate import first_line, format_of, is_url
from microseg_assets.sources.spec import Format, SourceError
from ml.engine import quoted

# Columns added to the delivered ones: the file of a row, and how messages name it.
FILE, SOURCE = "__file", "__source"
BROKEN = "__broken_"  # prefix of views of broken lines
_KINDS = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON lines"}
_WHITE = " \t\r\n"
_MAX_HEADER = 1 << 20  # bytes in the first line of a CSV file
_MAX_LINE = 1 << 24  # bytes in a line of JSON


def text(value: str) -> str:
    """A string as a SQL literal, since a view cannot have parameters."""
    return exp.Literal.string(value).sql("duckdb")


def described(connection: duckdb.DuckDBPyConnection, query: str) -> dict[str, str]:
    """The columns of a query and their DuckDB types."""
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


def create_view(
    connection: duckdb.DuckDBPyConnection, view: str, files: Sequence[str], format_: Format, encoding: str = AUTO
) -> None:
    """A temporary view of all rows of the files, with the column `FILE`.

    Parameters
    ----------
    encoding : of text files, as `encodings.normalized` returns it

    Raises
    ------
    SourceError
        If a file cannot be read; the message says which, and why.
    """
    import fsspec

    for protocol in {name.partition("://")[0] for name in files if is_url(name)}:
        connection.register_filesystem(fsspec.filesystem(protocol))
    if format_ != "parquet":
        check_whole(files)
    error = _try_to_create(connection, view, files, format_, encoding)
    if error is None:
        return
    # Which of several files is the cause?
    blamed = ((name, _try_to_create(connection, view, [name], format_, encoding)) for name in files)
    name, reason = next(((name, one) for name, one in blamed if one), (files[0], error))
    kind = _KINDS[format_]
    raise SourceError(f"{name} cannot be read as {kind}: {first_line(reason)}; deliver it again or set format")


def _try_to_create(
    connection: duckdb.DuckDBPyConnection, view: str, files: Sequence[str], format_: Format, encoding: str
) -> Exception | None:
    """Create the view and bind it; returns the error if that fails."""
    try:
        select = _select(connection, view, files, format_, encoding)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(view)} AS {select}")
        described(connection, f"FROM {quoted(view)}")
    except (duckdb.Error, UnicodeError, *DAMAGED) as error:
        return error
    return None


def broken(connection: duckdb.DuckDBPyConnection) -> str:
    """SQL of the invalid lines of JSON files: `source`, `line`, and `nth`, the number of the line; empty without such
    files."""
    views = connection.sql(
        f"SELECT view_name FROM duckdb_views() WHERE starts_with(view_name, {text(BROKEN)}) ORDER BY view_name"
    ).fetchall()
    return " UNION ALL ".join(f"SELECT {FILE} AS source, line, nth FROM {quoted(name)}" for (name,) in views)


def _select(
    connection: duckdb.DuckDBPyConnection, view: str, files: Sequence[str], format_: Format, encoding: str
) -> str:
    if format_ == "parquet":
        return (
            f"SELECT * FROM read_parquet({_listed(files)}, union_by_name = true, filename = '{FILE}', "
            "hive_partitioning = true, hive_types_autocast = false)"
        )
    plain = {name: _in_utf8(connection, name, encoding) for name in files}
    return _select_json(connection, view, plain) if format_ == "jsonl" else _select_csv(connection, plain)


def _in_utf8(connection: duckdb.DuckDBPyConnection, name: str, encoding: str) -> str:
    """The text file, or a copy of it in UTF-8."""
    head = _head(name, 1 << 12)
    used = encoding_of(encoding, head)
    if used == "utf-8":
        check_encoding(name, head)
    return to_utf8(connection, name, used)


def _select_json(connection: duckdb.DuckDBPyConnection, view: str, plain: Mapping[str, str]) -> str:
    """Every line is read as text first, so that one that is not an object can be reported; empty lines are skipped.

    Parameters
    ----------
    plain : file to its copy in UTF-8
    """
    files = list(plain.values())
    copied = [f"WHEN {text(copy)} THEN {text(name)}" for name, copy in plain.items() if copy != name]
    source = f"CASE {FILE} {' '.join(copied)} ELSE {FILE} END" if copied else FILE
    # No line of JSON contains this delimiter, and without quotes any line ending works.
    lines = (
        f"SELECT line, {source} AS {FILE}, CASE WHEN json_valid(line) THEN CASE WHEN json_type(line) = 'OBJECT' "
        "THEN CAST(line AS JSON) END END AS object FROM read_csv("
        f"{_listed(files)}, auto_detect = false, header = false, delim = '\x01', quote = '', escape = '', "
        f"strict_mode = false, columns = {{line: 'VARCHAR'}}, max_line_size = {_MAX_LINE}, "
        f"buffer_size = {2 * _MAX_LINE}, store_rejects = true, filename = '{FILE}') "
        f"WHERE trim(line, {text(_WHITE)}) <> ''"
    )
    keys = connection.sql(f"SELECT DISTINCT unnest(json_keys(object)) AS name FROM ({lines}) ORDER BY name")
    names = {name.lower(): name for (name,) in reversed(keys.fetchall()) if name}.values()  # one spelling of each
    if not names:
        raise SourceError(f"{next(iter(plain))} holds no JSON object: write one object per line")
    name = quoted(BROKEN + view)
    numbered = f"SELECT *, row_number() OVER () AS nth FROM ({lines})"
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT line, {FILE}, nth FROM ({numbered}) WHERE object IS NULL"
    )
    structure = text(json.dumps(dict.fromkeys(sorted(names), "VARCHAR")))
    return f"SELECT unnest(json_transform(object, {structure})), {FILE} FROM ({lines}) WHERE object IS NOT NULL"


def _select_csv(connection: duckdb.DuckDBPyConnection, plain: Mapping[str, str]) -> str:
    """Files with the same header are read together; DuckDB records invalid lines as rejects.

    Parameters
    ----------
    plain : file to its copy in UTF-8
    """
    headers: dict[tuple[tuple[str, ...], str], list[str]] = {}
    selects = []
    for name, in_utf8 in plain.items():
        columns, delimiter = _header(name, in_utf8)
        copy = readable(connection, in_utf8, delimiter, name)
        if copy == name:
            headers.setdefault((columns, delimiter), []).append(name)
        else:
            selects.append(f"SELECT * REPLACE ({text(name)} AS {FILE}) FROM {_csv([copy], columns, delimiter)}")
    selects += [f"FROM {_csv(same, *header)}" for header, same in headers.items()]
    return " UNION ALL BY NAME ".join(selects)


def _csv(files: Sequence[str], columns: Sequence[str], delimiter: str) -> str:
    declared = ", ".join(f"{text(name)}: 'VARCHAR'" for name in columns)
    return (
        f"read_csv({_listed(files)}, auto_detect = false, header = true, delim = {text(delimiter)}, quote = '\"', "
        f"escape = '\"', columns = {{{declared}}}, store_rejects = true, filename = '{FILE}')"
    )


def _head(name: str, size: int = _MAX_HEADER) -> bytes:
    import fsspec

    with fsspec.open(name, "rb", compression="infer") as file:
        content: bytes = file.read(size)
    return content


def _header(name: str, in_utf8: str) -> tuple[tuple[str, ...], str]:
    """Column names and delimiter of a CSV file, from its first line alone, which continues while a quote is open."""
    head = _head(in_utf8)
    rest = io.StringIO(head.decode("utf-8-sig", errors="replace"), newline="")
    line = rest.readline()
    if not line.strip():
        raise SourceError(f"{name} is empty: a CSV file begins with a line of column names")
    while line.count('"') % 2 and (more := rest.readline()):
        line += more
    delimiter = max(",;\t|", key=re.sub(r'"[^"]*"', "", line).count)
    try:
        cells = next(csv.reader(io.StringIO(line, newline=""), delimiter=delimiter))
    except csv.Error:
        raise SourceError(f"{name} does not begin with a line of column names: put one there") from None
    names = tuple(cell.strip() or f"column{i}" for i, cell in enumerate(cells))
    lower = [one.lower() for one in names]
    twice = sorted(one for one in names if lower.count(one.lower()) > 1)
    if twice:
        raise SourceError(f"{name} names the column {twice[0]!r} twice in its first line: rename one")
    if taken := [one for one in names if one.lower() in (FILE, SOURCE)]:
        raise SourceError(f"{name} has a column {taken[0]!r}, a reserved name: rename it")
    return names, delimiter


def literal(name: str) -> str:
    """A path as DuckDB takes it, which treats paths as patterns: special characters are put in brackets."""
    return name if is_url(name) else re.sub(r"[*?[]", r"[\g<0>]", name)


def _listed(files: Sequence[str]) -> str:
    """The files as a SQL list."""
    return f"[{', '.join(text(literal(name)) for name in files)}]"

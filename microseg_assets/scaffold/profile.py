"""Profiling files: which belong together, and what their columns look like.

Belongs here: reading a sample of each file. Does not belong here: guessing what it holds (see `infer`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from microseg_assets.scaffold.columns import Repeats, SourceColumn
from microseg_assets.scaffold.infer import Guess, guesses
from microseg_assets.scaffold.names import GROUPS, NAMES, rank
from microseg_assets.sources import SourceError, locate
from microseg_assets.sources.encodings import AUTO, EncodingGuess, guess_encoding
from microseg_assets.sources.locate import first_line, is_url
from microseg_assets.sources.plan import Connection, connected
from microseg_assets.sources.read import FILE, create_view, format_of_all
from ml.engine import QueryError, quoted

MAX_SAMPLE_ROWS = 200_000  # rows of a file that guesses are made from
MAX_COUNTED_ROWS = 5_000_000  # rows up to which a whole table is read to count its values
MAX_VALUES = 400
MAX_CATEGORIES = 8
MAX_GROUPS_PER_CUSTOMER = 1.02  # groups per customer, up to which the column groups customers, not products
MIN_SHARED_COLUMNS = 0.8  # share of the columns of the smaller file that files of one series have in common
_MONTHS = (
    r"(?<![a-z])(jan(uary|uar|vier)?|feb(ruary|ruar)?|fevrier|mar(ch|s)?|maerz|märz|apr(il)?|may|mai|june?|juni|juin|"
    r"july?|juli|juillet|aug(ust)?|aout|sep(t|tember)?|o[ck]t(ober)?|nov(ember)?|de[cz](ember)?|decembre)(?![a-z])"
)
MAX_SHAPES = 60  # notations of which a value is sampled in addition


@dataclass(frozen=True)
class Delivery:
    """Files that hold one table.

    Parameters
    ----------
    location : as the project file names them
    rows : number of all rows
    columns : as they look in the first `MAX_SAMPLE_ROWS` rows
    encoding : of text files that are not UTF-8
    broken : number of lines that are not rows, and what is wrong with the first one
    categories : column to its most frequent values
    partial : columns that only some files have: how many, and the first of them
    """

    location: str | tuple[str, ...]
    files: tuple[str, ...]
    rows: int
    columns: tuple[SourceColumn, ...]
    broken: tuple[int, str] = (0, "")
    encoding: EncodingGuess = field(default_factory=EncodingGuess)
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    partial: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        first = self.location if isinstance(self.location, str) else self.location[0]
        return first.rstrip("/").rpartition("/")[2].partition(".")[0].partition("*")[0] or first

    @property
    def label(self) -> str:
        return (
            self.location if isinstance(self.location, str) else f"{self.location[0]} and {len(self.location) - 1} more"
        )


def read_deliveries(data: Sequence[str], folder: Path) -> list[Delivery]:
    """Read the files at some locations; those with the same columns, or of one series, are one delivery."""
    deliveries = []
    with connected() as connection:
        for argument in data:
            groups = _groups(connection, argument, folder)
            for location, files in groups:
                try:
                    deliveries.append(_read(connection, files, location))
                except SourceError as error:
                    if len(groups) == 1:
                        raise
                    deliveries.append(Delivery(location, tuple(files), 0, (), (1, str(error))))
    return deliveries


def _groups(connection: Connection, argument: str, folder: Path) -> list[tuple[str | tuple[str, ...], list[str]]]:
    """The location to write, and the files, of each set of files with the same columns."""
    files = locate(argument, Path.cwd())
    if len(files) == 1:
        return [(argument if "://" in argument else _from(folder, files[0]), files)]
    visible = [name for name in files if is_url(name) or not _is_hidden(Path(name), Path(argument).expanduser())]
    alike: dict[tuple[str, ...], list[str]] = {}
    for name in visible:
        alike.setdefault(_shape(connection, name), []).append(name)
    alike = _of_one_table(alike)
    if len(alike) == 1 and visible == files:
        return [(argument if "://" in argument else _from(folder, str(Path(argument).expanduser().absolute())), files)]
    if argument.startswith("package://"):  # as the package names them, wherever it is installed
        package = argument.removeprefix("package://").partition("/")[0]
        (base, *_) = getattr(find_spec(package), "submodule_search_locations", None) or [""]
        return [
            (names[0] if len(names) == 1 else names, same)
            for same in alike.values()
            if (names := tuple(f"package://{package}{name[len(base) :]}" for name in same))
        ]
    return [(_together(same, folder), same) for same in alike.values()]


def _of_one_table(alike: Mapping[tuple[str, ...], list[str]]) -> dict[tuple[str, ...], list[str]]:
    """Merge the sets of files that are one series, of which later files have more columns.

    Files are of one series if their names differ only in digits, and the columns of one are, or nearly are, among those
    of the other.
    """
    merged: dict[tuple[str, ...], list[str]] = {}
    for shape, names in sorted(alike.items(), key=lambda item: (-len(item[0]), item[1])):
        hosts = (other for other, others in merged.items() if _is_one_series(other, others, shape, names))
        host = next(hosts, None)
        merged.setdefault(host or shape, []).extend(names)
    return {shape: sorted(names) for shape, names in merged.items()}


def _is_one_series(shape: Sequence[str], names: Sequence[str], other: Sequence[str], others: Sequence[str]) -> bool:
    (format_, *columns), (format_of_other, *columns_of_other) = shape, other
    if not format_ or format_ != format_of_other or _series(names[0]) != _series(others[0]):
        return False
    one, two = ({name.lower() for name in side} for side in (columns, columns_of_other))
    return len(one & two) >= max(2, MIN_SHARED_COLUMNS * min(len(one), len(two)))


def _series(name: str) -> str:
    """A file's name without what numbers it: digits, names of months, and their separators."""
    return re.sub(rf"([\d_\-.]|{_MONTHS})+(?=[^/]*$)", "#", name.lower())


def _is_hidden(path: Path, below: Path) -> bool:
    """Whether a file is in a folder such as ``.microseg`` or ``_old`` below another one."""
    below = below.absolute()
    parts = path.relative_to(below).parts if path.is_relative_to(below) else ()
    return any(part.startswith((".", "_")) for part in parts)


def _shape(connection: Connection, name: str) -> tuple[str, ...]:
    """Format and columns of a file; its name if it cannot be read, so that it stays alone."""
    try:
        format_ = format_of_all([name])
        encoding = guess_encoding([name]).encoding if format_ != "parquet" else AUTO
        create_view(connection, "__one", [name], format_, encoding)
    except SourceError:
        return ("", name)
    return (format_of_all([name]), *connection.sql("FROM __one").columns)


def _together(files: Sequence[str], folder: Path) -> str | tuple[str, ...]:
    """One pattern for several files, if it matches no others; otherwise their names."""
    if len(files) > 1 and not is_url(files[0]):
        start = re.match(r".*[/_\-]", re.sub(r"\d[\d_\-]*$", "", _common(files)))
        end = _common([name[::-1] for name in files])[::-1]
        pattern = f"{start[0] if start else ''}*{end[end.find('.') :] if '.' in end else ''}"
        if "/" in pattern and sorted(files) == locate(pattern, Path("/")):
            return _from(folder, pattern)
    each = tuple(name if is_url(name) else _from(folder, name) for name in files)
    return each[0] if len(each) == 1 else each


def _common(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _from(folder: Path, name: str) -> str:
    """A path as written to the project file: relative if it is below that file."""
    path, base = Path(name).absolute(), folder.absolute()
    return path.relative_to(base).as_posix() or "." if path.is_relative_to(base) else str(path)


def _read(connection: Connection, files: Sequence[str], location: str | tuple[str, ...]) -> Delivery:
    format_ = format_of_all(files)
    encoding = guess_encoding(files) if format_ != "parquet" else EncodingGuess()
    create_view(connection, "__rows", files, format_, encoding.encoding)
    try:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE sample_rows AS SELECT * EXCLUDE ({FILE}) FROM __rows LIMIT {MAX_SAMPLE_ROWS}"
        )
        broken = _broken(connection)
        described = connection.sql("FROM sample_rows")
        columns = dict(zip(described.columns, map(str, described.types), strict=True))
        seen = tuple(_seen(connection, name, type_) for name, type_ in columns.items())
        rows = seen[0].rows if seen else 0
        if rows == MAX_SAMPLE_ROWS:
            ((rows,),) = connection.sql("SELECT count(*) FROM __rows").fetchall()
            if rows > MAX_SAMPLE_ROWS:
                seen = tuple(replace(one, is_sample=True) for one in seen)
            if rows <= MAX_COUNTED_ROWS:
                likely = {name for guess in guesses("", seen)[:1] for r in guess.columns.values() for name in r.uses}
                seen = tuple(_counted(connection, one) if one.name in likely else one for one in seen)
        bought = next((guess for guess in guesses("", seen) if guess.table == "transactions"), None)
        if bought is not None and not bought.lacks:
            table = "__rows" if rows <= MAX_COUNTED_ROWS else "sample_rows"
            seen = tuple(_compared(connection, one, bought, list(columns), table) for one in seen)
            _broken(connection)  # lines met again by this second reading do not belong to the next file
        frequent = {one.name: _frequent(connection, one.name) for one in seen if 2 <= one.distinct <= 500}
    except QueryError as error:
        raise SourceError(f"{files[0]} cannot be read: {first_line(error)}") from None
    return Delivery(location, tuple(files), rows, seen, broken, encoding, frequent, _partial(connection, files))


def _partial(connection: Connection, files: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Columns that only some of several files have."""
    if len(files) == 1:
        return {}
    holders: dict[str, list[str]] = {}
    for name in files:
        for column in _shape(connection, name)[1:]:
            if column != FILE:
                holders.setdefault(column, []).append(name)
    return {
        column: (len(names), names[0].rpartition("/")[2])
        for column, names in holders.items()
        if len(names) < len(files)
    }


def _broken(connection: Connection) -> tuple[int, str]:
    if not connection.sql("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reject_errors'").fetchall():
        return 0, ""
    query = "SELECT count(DISTINCT (scan_id, file_id, line)), min_by(error_message, line), min(line) FROM reject_errors"
    ((lines, reason, line),) = connection.sql(query).fetchall()
    connection.execute("DELETE FROM reject_errors")
    return (lines, f"line {line}: {first_line(ValueError(reason))}") if lines else (0, "")


def _seen(connection: Connection, name: str, type_: str, table: str = "sample_rows") -> SourceColumn:
    value = f"nullif(trim(CAST({quoted(name)} AS VARCHAR)), '')"
    counts = f"SELECT count(*), count({value}), count(DISTINCT {value}) FROM {table}"
    ((rows, filled, distinct),) = connection.sql(counts).fetchall()
    distinct_values = f"SELECT DISTINCT CAST({quoted(name)} AS VARCHAR) AS v FROM {table} WHERE {value} IS NOT NULL"
    values = connection.sql(f"SELECT v FROM ({distinct_values}) ORDER BY md5(v) LIMIT {MAX_VALUES}").fetchall()
    # One value of each notation: signs that few amounts have must not depend on the values that are drawn.
    shapes = (
        f"SELECT min(v), count(*) AS n FROM ({distinct_values}) GROUP BY "
        f"regexp_replace(v, '[0-9]+([.,][0-9]+)*', '9', 'g') ORDER BY n DESC, 1 LIMIT {MAX_SHAPES}"
    )
    rare = (
        tuple(v for v, _ in connection.sql(shapes).fetchall()) if type_ == "VARCHAR" and distinct > MAX_VALUES else ()
    )
    return SourceColumn(name, type_, rows, rows - filled, distinct, tuple(v for (v,) in values), rare)


def _counted(connection: Connection, seen: SourceColumn) -> SourceColumn:
    column = quoted(seen.name)
    counts = f"SELECT count(*), count({column}), count(DISTINCT {column}) FROM __rows"
    ((rows, filled, distinct),) = connection.sql(counts).fetchall()
    return replace(seen, rows=rows, missing=rows - filled, distinct=distinct, is_sample=False)


def _compared(
    connection: Connection, seen: SourceColumn, bought: Guess, columns: Sequence[str], table: str
) -> SourceColumn:
    """Compare the rows of each value, of a column that may be a transaction's id or a group of products."""
    (who,) = bought.columns["customer_id"].uses
    if rank(seen.name, NAMES["transactions"]["transaction_id"]) is not None and not seen.is_unique:
        content = [n for name in ("customer_id", "amount", "product_id") if name in bought.columns
                   for n in bought.columns[name].uses if n != seen.name]  # fmt: skip
        ((ids, contents, whole_rows),) = connection.sql(
            f"""
            SELECT count(DISTINCT {quoted(seen.name)}), count(DISTINCT {_hashed([seen.name, *content])}),
                   count(DISTINCT {_hashed(columns)})
            FROM {table} WHERE trim(CAST({quoted(seen.name)} AS VARCHAR)) <> ''
            """
        ).fetchall()
        return replace(seen, repeats=Repeats(contents - ids, whole_rows - contents))
    if rank(seen.name, GROUPS) is not None and 2 <= seen.distinct <= 500:
        ((customers, pairs),) = connection.sql(
            f"SELECT count(DISTINCT {quoted(who)}), count(DISTINCT {_hashed([who, seen.name])}) FROM {table} "
            f"WHERE trim(CAST({quoted(seen.name)} AS VARCHAR)) <> '' AND {quoted(who)} IS NOT NULL"
        ).fetchall()
        return replace(seen, is_of_customer=pairs <= MAX_GROUPS_PER_CUSTOMER * customers < seen.rows)
    return seen


def _hashed(columns: Sequence[str]) -> str:
    return f"hash({', '.join(map(quoted, columns))})"


def _frequent(connection: Connection, name: str) -> tuple[str, ...]:
    value = f"trim(CAST({quoted(name)} AS VARCHAR))"
    query = f"SELECT {value} FROM sample_rows WHERE {value} <> '' GROUP BY 1 ORDER BY count(*) DESC, 1"
    return tuple(v for (v,) in connection.sql(f"{query} LIMIT {MAX_CATEGORIES}").fetchall())

"""A look at files: which belong together, and what their columns look like.

Belongs here: reading a part of what is there. Does not belong here: what it is taken for (see `infer`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from microseg_assets.scaffold.columns import Again, Seen
from microseg_assets.scaffold.infer import Guess, guesses
from microseg_assets.scaffold.names import GROUPS, NAMES, rank
from microseg_assets.sources import SourceError, locate
from microseg_assets.sources.encodings import AUTO, Guessed, guessed
from microseg_assets.sources.locate import first_line, is_url
from microseg_assets.sources.plan import Connection, connected
from microseg_assets.sources.read import FILE, create_view, format_of_all
from ml.engine import QueryError, quoted

LOOKED_AT = 200_000  # rows of a file that guesses are made from
COUNTED = 5_000_000  # rows up to which a table is read whole to count its values
VALUES = 400
CATEGORIES = 8
ONE_GROUP = 1.02  # different groups for each customer, up to which it is customers that are grouped
MOSTLY_SHARED = 0.8  # share of the columns of the smaller file that files of one series have in common
_MONTHS = (
    r"(?<![a-z])(jan(uary|uar|vier)?|feb(ruary|ruar)?|fevrier|mar(ch|s)?|maerz|märz|apr(il)?|may|mai|june?|juni|juin|"
    r"july?|juli|juillet|aug(ust)?|aout|sep(t|tember)?|o[ck]t(ober)?|nov(ember)?|de[cz](ember)?|decembre)(?![a-z])"
)
SHAPES = 60  # ways of writing of which a value is looked at beyond those


@dataclass(frozen=True)
class Delivery:
    """Files that hold one table.

    Parameters
    ----------
    location : as the project file names them
    rows : all of them
    columns : as they look in the first `LOOKED_AT` rows
    encoding : of text files that are not UTF-8
    broken : how many lines of these are no rows, and why the first one is none
    partial : columns that not all files have: how many do, and the first of them
    """

    location: str | tuple[str, ...]
    files: tuple[str, ...]
    rows: int
    columns: tuple[Seen, ...]
    broken: tuple[int, str] = (0, "")
    encoding: Guessed = field(default_factory=Guessed)
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


def look(data: Sequence[str], folder: Path) -> list[Delivery]:
    """What lies at the given locations, files with the same columns, or of one series, taken together."""
    found = []
    with connected() as connection:
        for given in data:
            groups = _groups(connection, given, folder)
            for location, files in groups:
                try:
                    found.append(_looked_at(connection, files, location))
                except SourceError as error:
                    if len(groups) == 1:
                        raise
                    found.append(Delivery(location, tuple(files), 0, (), (1, str(error))))
    return found


def _groups(connection: Connection, given: str, folder: Path) -> list[tuple[str | tuple[str, ...], list[str]]]:
    """The location to write, and the files, of each set of files that have their columns in common."""
    files = locate(given, Path.cwd())
    if len(files) == 1:
        return [(given if "://" in given else _from(folder, files[0]), files)]
    seen = [name for name in files if is_url(name) or not _is_hidden(Path(name), Path(given).expanduser())]
    alike: dict[tuple[str, ...], list[str]] = {}
    for name in seen:
        alike.setdefault(_shape(connection, name), []).append(name)
    alike = _of_one_table(alike)
    if len(alike) == 1 and seen == files:
        return [(given if "://" in given else _from(folder, str(Path(given).expanduser().absolute())), files)]
    if given.startswith("package://"):  # as the package names them, wherever it is installed
        package = given.removeprefix("package://").partition("/")[0]
        (base, *_) = getattr(find_spec(package), "submodule_search_locations", None) or [""]
        return [
            (names[0] if len(names) == 1 else names, same)
            for same in alike.values()
            if (names := tuple(f"package://{package}{name[len(base) :]}" for name in same))
        ]
    return [(_together(same, folder), same) for same in alike.values()]


def _of_one_table(alike: Mapping[tuple[str, ...], list[str]]) -> dict[tuple[str, ...], list[str]]:
    """The sets of files, those of one series put together although some have a column more: a delivery that has grown.

    Files are of one series if their names differ in figures alone and one's columns are among the other's, or nearly.
    """
    merged: dict[tuple[str, ...], list[str]] = {}
    for shape, names in sorted(alike.items(), key=lambda one: (-len(one[0]), one[1])):
        host = next((of for of, held in merged.items() if _is_one_series(of, held, shape, names)), None)
        merged.setdefault(host or shape, []).extend(names)
    return {shape: sorted(names) for shape, names in merged.items()}


def _is_one_series(shape: Sequence[str], names: Sequence[str], other: Sequence[str], others: Sequence[str]) -> bool:
    (format_, *columns), (format_of_other, *columns_of_other) = shape, other
    if not format_ or format_ != format_of_other or _series(names[0]) != _series(others[0]):
        return False
    mine, theirs = ({name.lower() for name in of} for of in (columns, columns_of_other))
    return len(mine & theirs) >= max(2, MOSTLY_SHARED * min(len(mine), len(theirs)))


def _series(name: str) -> str:
    """A file's name without what counts it: figures, names of months, and what parts these."""
    return re.sub(rf"([\d_\-.]|{_MONTHS})+(?=[^/]*$)", "#", name.lower())


def _is_hidden(path: Path, below: Path) -> bool:
    """Whether a file lies in a folder such as ``.microseg`` or ``_old`` below the given one."""
    below = below.absolute()
    parts = path.relative_to(below).parts if path.is_relative_to(below) else ()
    return any(part.startswith((".", "_")) for part in parts)


def _shape(connection: Connection, name: str) -> tuple[str, ...]:
    """Format and columns of a file; its own name if it cannot be read, so that it stands alone."""
    try:
        format_ = format_of_all([name])
        encoding = guessed([name]).encoding if format_ != "parquet" else AUTO
        create_view(connection, "__one", [name], format_, encoding)
    except SourceError:
        return ("", name)
    return (format_of_all([name]), *connection.sql("FROM __one").columns)


def _together(files: Sequence[str], folder: Path) -> str | tuple[str, ...]:
    """One pattern for several files, if it matches no other; else all of them."""
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
    """A path as the project file may write it: relative where it lies below that file."""
    path, base = Path(name).absolute(), folder.absolute()
    return path.relative_to(base).as_posix() or "." if path.is_relative_to(base) else str(path)


def _looked_at(connection: Connection, files: Sequence[str], location: str | tuple[str, ...]) -> Delivery:
    format_ = format_of_all(files)
    encoding = guessed(files) if format_ != "parquet" else Guessed()
    create_view(connection, "__rows", files, format_, encoding.encoding)
    try:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE looked_at AS SELECT * EXCLUDE ({FILE}) FROM __rows LIMIT {LOOKED_AT}"
        )
        broken = _broken(connection)
        described = connection.sql("FROM looked_at")
        columns = dict(zip(described.columns, map(str, described.types), strict=True))
        seen = tuple(_seen(connection, name, type_) for name, type_ in columns.items())
        rows = seen[0].rows if seen else 0
        if rows == LOOKED_AT:
            ((rows,),) = connection.sql("SELECT count(*) FROM __rows").fetchall()
            if rows > LOOKED_AT:
                seen = tuple(replace(one, is_sample=True) for one in seen)
            if rows <= COUNTED:
                likely = {name for guess in guesses("", seen)[:1] for r in guess.columns.values() for name in r.uses}
                seen = tuple(_counted(connection, one) if one.name in likely else one for one in seen)
        bought = next((guess for guess in guesses("", seen) if guess.table == "transactions"), None)
        if bought is not None and not bought.lacks:
            of = "__rows" if rows <= COUNTED else "looked_at"
            seen = tuple(_compared(connection, one, bought, list(columns), of) for one in seen)
            _broken(connection)  # the lines that reading once more has met again are not those of the next file
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
    told = "SELECT count(DISTINCT (scan_id, file_id, line)), min_by(error_message, line), min(line) FROM reject_errors"
    ((lines, reason, line),) = connection.sql(told).fetchall()
    connection.execute("DELETE FROM reject_errors")
    return (lines, f"line {line}: {first_line(ValueError(reason))}") if lines else (0, "")


def _seen(connection: Connection, name: str, type_: str, table: str = "looked_at") -> Seen:
    value = f"nullif(trim(CAST({quoted(name)} AS VARCHAR)), '')"
    counts = f"SELECT count(*), count({value}), count(DISTINCT {value}) FROM {table}"
    ((rows, filled, distinct),) = connection.sql(counts).fetchall()
    some = f"SELECT DISTINCT CAST({quoted(name)} AS VARCHAR) AS v FROM {table} WHERE {value} IS NOT NULL"
    values = connection.sql(f"SELECT v FROM ({some}) ORDER BY md5(v) LIMIT {VALUES}").fetchall()
    # One value of each way of writing: signs that few amounts have must not depend on which values are drawn.
    shapes = (
        f"SELECT min(v), count(*) AS n FROM ({some}) GROUP BY regexp_replace(v, '[0-9]+([.,][0-9]+)*', '9', 'g') "
        f"ORDER BY n DESC, 1 LIMIT {SHAPES}"
    )
    rare = tuple(v for v, _ in connection.sql(shapes).fetchall()) if type_ == "VARCHAR" and distinct > VALUES else ()
    return Seen(name, type_, rows, rows - filled, distinct, tuple(v for (v,) in values), rare)


def _counted(connection: Connection, seen: Seen) -> Seen:
    column = quoted(seen.name)
    counts = f"SELECT count(*), count({column}), count(DISTINCT {column}) FROM __rows"
    ((rows, filled, distinct),) = connection.sql(counts).fetchall()
    return replace(seen, rows=rows, missing=rows - filled, distinct=distinct, is_sample=False)


def _compared(connection: Connection, seen: Seen, bought: Guess, columns: Sequence[str], table: str) -> Seen:
    """What rows of the same value say, of a column that may be a transaction's id or a group of products."""
    (who,) = bought.columns["customer_id"].uses
    if rank(seen.name, NAMES["transactions"]["transaction_id"]) is not None and not seen.is_unique:
        content = [n for of in ("customer_id", "amount", "product_id") if of in bought.columns
                   for n in bought.columns[of].uses if n != seen.name]  # fmt: skip
        ((ids, said, all_of_it),) = connection.sql(
            f"""
            SELECT count(DISTINCT {quoted(seen.name)}), count(DISTINCT {_hashed([seen.name, *content])}),
                   count(DISTINCT {_hashed(columns)})
            FROM {table} WHERE trim(CAST({quoted(seen.name)} AS VARCHAR)) <> ''
            """
        ).fetchall()
        return replace(seen, again=Again(said - ids, all_of_it - said))
    if rank(seen.name, GROUPS) is not None and 2 <= seen.distinct <= 500:
        ((customers, pairs),) = connection.sql(
            f"SELECT count(DISTINCT {quoted(who)}), count(DISTINCT {_hashed([who, seen.name])}) FROM {table} "
            f"WHERE trim(CAST({quoted(seen.name)} AS VARCHAR)) <> '' AND {quoted(who)} IS NOT NULL"
        ).fetchall()
        return replace(seen, is_of_customer=pairs <= ONE_GROUP * customers < seen.rows)
    return seen


def _hashed(columns: Sequence[str]) -> str:
    return f"hash({', '.join(map(quoted, columns))})"


def _frequent(connection: Connection, name: str) -> tuple[str, ...]:
    value = f"trim(CAST({quoted(name)} AS VARCHAR))"
    query = f"SELECT {value} FROM looked_at WHERE {value} <> '' GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT {CATEGORIES}"
    return tuple(v for (v,) in connection.sql(query).fetchall())

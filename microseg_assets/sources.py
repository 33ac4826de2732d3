"""Files, folders, databases → rows of a day, mapped to the contract of their table.

Belongs here: finding the files, reading them whatever their state, the user's query and column mapping, what a stamp
means and which day a row belongs to. Does not belong here: whether a row is acceptable (see `expectations`), and
Dagster.

Nothing a file can hold is lost or fatal. A value that cannot be converted makes its row carry a `problem`; a row
without a day, or dated before the project began, is `undated`; a line that is no row at all is undated too. Only what
makes the whole source unusable (a missing file, a missing column, an expression that means nothing) is an error, and
all such problems are told at once.

Text files hold text: every CSV and JSON column is a string, never guessed from a sample, so that a bad value in the
last line cannot change what the first line means. A mapping that calculates with such a column
(``retail_disc + coupon_disc``) reads it as a number.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ml.engine import quoted
from ml.rules import RuleError, nearest, scalar
from ml.tables import ARROW, INPUTS, SQL, Column, Table

Format: TypeAlias = Literal["auto", "csv", "jsonl", "parquet"]
AttributeType: TypeAlias = Literal["string", "double", "boolean"]

_SUFFIXES: dict[str, Literal["csv", "jsonl", "parquet"]] = {
    "csv": "csv", "tsv": "csv", "txt": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl",
    "parquet": "parquet", "pq": "parquet",
}  # fmt: skip
_COMPRESSED = (".gz", ".zst")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_WHITE = " \t\r\n"


class SourceError(ValueError):
    """A source that cannot be used; the message has one sentence per problem."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a source: where it is declared, and what is wrong and what to do in one sentence."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


@dataclass(frozen=True)
class SourceSpec:
    """Where a table comes from.

    Parameters
    ----------
    path : a file, a folder, or a pattern (``sales/*.csv``), or several of them: all rows of all files. Relative to the
        project file's folder, absolute, ``package://name/inner/path``, or any fsspec URL.
    files : name to location, for `query`
    query : one SELECT in DuckDB's SQL over the names in `files`
    format : by the file's suffix, unless said otherwise
    connection : a database; not read yet
    """

    path: str | tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    query: str = ""
    format: Format = "auto"
    connection: str = ""


@dataclass(frozen=True)
class TableSpec(SourceSpec):
    """How the rows of a source become rows of the contract.

    Parameters
    ----------
    columns : contract column to source column, or to a scalar SQL expression over source columns, or to a constant. A
        column that is not named here is taken from the source column of the same name, where there is one.
    where : a scalar predicate over source columns; rows for which it does not hold are not delivered
    time_zone : of stamps that do not say their own; the project's by default. A pure date is midnight in the
        project's zone, whatever stands here.
    attributes : for `customers` only: columns of its own, name to type
    """

    columns: dict[str, str | bool | int | float] = field(default_factory=dict)
    where: str = ""
    time_zone: str | None = None
    attributes: dict[str, AttributeType] = field(default_factory=dict)


def input_table(name: str, spec: TableSpec) -> Table:
    """The contract of an input table with the attributes a project adds to it."""
    return INPUTS[name].plus(
        Column(attribute, type_, "attribute of the customer") for attribute, type_ in spec.attributes.items()
    )


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def locate(location: str, base: Path) -> list[str]:
    """The files behind a location, sorted; a folder stands for all data files below it.

    Raises
    ------
    SourceError
        If there is none, or the package it names is not installed.
    """
    if location.startswith("package://"):
        name, _, inner = location.removeprefix("package://").partition("/")
        found = importlib.util.find_spec(name) if _NAME.match(name) else None
        folders = list(found.submodule_search_locations or ()) if found else []
        if not folders:
            raise SourceError(f"{location} needs the package {name}, which is not installed: install it")
        return _local(Path(folders[0]) / inner, location)
    if location.startswith("file://"):
        location = location.removeprefix("file://")
    if _URL.match(location):
        return _remote(location)
    return _local(base / Path(location).expanduser(), location)


def _local(path: Path, location: str) -> list[str]:
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        files = [p for p in path.rglob("*") if p.is_file() and _format_of(p.name) and not p.name.startswith((".", "_"))]
        if not files:
            raise SourceError(f"the folder {location} ({path}) holds no CSV, JSON lines or Parquet file")
    else:
        pattern = re.search(r"[*?\[]", location)
        path = path.absolute()
        matches = Path(path.anchor).glob(str(path.relative_to(path.anchor))) if pattern else ()
        files = [p for p in matches if p.is_file()]
        if not files:
            what = "no file matches" if pattern else "there is no file"
            raise SourceError(f"{what} {location} (looked for {path}): put it there or correct the location")
    return sorted(map(str, files))


def _remote(location: str) -> list[str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(location)
        if system.isdir(path):
            found = [p for p in system.find(path) if _format_of(p)]
        else:
            found = system.glob(path) if re.search(r"[*?\[]", path) else [path] if system.exists(path) else []
    except Exception as error:  # every file system raises errors of its own
        raise SourceError(f"{location} cannot be reached: {_first_line(error)}") from None
    if not found:
        raise SourceError(f"there is no file {location}: put it there or correct the location")
    return sorted(system.unstrip_protocol(p) for p in found)


def _format_of(name: str) -> Literal["csv", "jsonl", "parquet"] | None:
    name = name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return _SUFFIXES.get(name.rpartition(".")[2])


def _copies(files: list[str]) -> list[str]:
    """Local files whose bytes are those of an earlier one in the list: the same delivery, delivered again."""
    sizes: dict[int, list[str]] = {}
    for name in files:
        if not _URL.match(name) and (size := Path(name).stat().st_size):
            sizes.setdefault(size, []).append(name)
    copies, seen = [], set()
    for name in sorted(name for same in sizes.values() if len(same) > 1 for name in same):
        with open(name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest in seen:
            copies.append(name)
        seen.add(digest)
    return copies


def _header(name: str) -> tuple[list[str], str]:
    """Column names and delimiter of a CSV file, from its first line alone."""
    import fsspec

    with fsspec.open(name, "rt", encoding="utf-8-sig", errors="replace", newline="", compression="infer") as file:
        line = file.readline(1_000_000)
    if not line.strip():
        raise SourceError(f"{name} is empty: a CSV file begins with a line of column names")
    bare = re.sub(r'"[^"]*"', "", line)
    delimiter = max(",;\t|", key=bare.count)
    cells = next(csv.reader(io.StringIO(line), delimiter=delimiter))
    names = [cell.strip() or f"column{i}" for i, cell in enumerate(cells)]
    twice = {n for n in names if [m.lower() for m in names].count(n.lower()) > 1}
    if twice:
        raise SourceError(f"{name} names the column {sorted(twice)[0]!r} twice in its first line: rename one")
    return names, delimiter


def _text(value: str) -> str:
    """A string as a SQL literal: for file names, which DuckDB cannot take as parameters inside a view."""
    return exp.Literal.string(value).sql("duckdb")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _reader(connection: Any, files: list[str], format_: str) -> str:
    """A SELECT over the files: their columns, and `filename`. Text formats give text columns."""
    listed = f"[{', '.join(map(_text, files))}]"
    if format_ == "parquet":
        return (
            f"SELECT * FROM read_parquet({listed}, union_by_name = true, filename = '__file', "
            "hive_partitioning = true, hive_types_autocast = false)"
        )
    if format_ == "jsonl":
        objects = f"read_json_objects({listed}, format = 'newline_delimited', ignore_errors = true, filename = true)"
        keys = connection.sql(
            f"SELECT DISTINCT unnest(json_keys(json)) AS name FROM {objects} "
            "WHERE json_type(json) = 'OBJECT' ORDER BY name"
        ).to_arrow_table()["name"].to_pylist()  # fmt: skip
        names = list({name.lower(): name for name in reversed(keys)}.values())
        if not names:
            raise SourceError(f"{files[0]} holds no JSON object: write one object per line")
        structure = _text(json.dumps(dict.fromkeys(sorted(names), "VARCHAR")))
        return (
            f"SELECT unnest(json_transform(json, {structure})), filename AS __file FROM "
            f"(SELECT CASE WHEN json_type(json) = 'OBJECT' THEN json ELSE '{{}}'::JSON END AS json, filename "
            f"FROM {objects})"
        )
    parts: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for name in files:
        names, delimiter = _header(name)
        parts.setdefault((tuple(names), delimiter), []).append(name)
    selects = []
    for (columns, delimiter), same in parts.items():
        declared = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in columns)
        selects.append(
            f"SELECT * RENAME (filename AS __file) FROM read_csv([{', '.join(map(_text, same))}], auto_detect = false, "
            f"header = true, delim = {_text(delimiter)}, quote = '\"', escape = '\"', columns = {{{declared}}}, "
            "store_rejects = true, filename = true)"
        )
    return " UNION ALL BY NAME ".join(selects)


# ── the user's SQL ────────────────────────────────────────────────────────────────────────────────────────────────

_CHANGING = {
    "random", "setseed", "now", "today", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "getenv", "current_setting",
    "getvariable", "nextval", "currval", "get_current_timestamp", "transaction_timestamp", "version",
    "current_localtimestamp", "current_localtime", "txid_current",
}  # fmt: skip
_REFUSED = (
    exp.Rand, exp.Randn, exp.Uuid, exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentDatetime,
    exp.CurrentTimestampLTZ, exp.Localtime, exp.Localtimestamp, exp.Into, exp.DML, exp.DDL, exp.Command,
)  # fmt: skip


def checked_query(query: str, files: Collection[str], functions: Collection[str] = ()) -> exp.Query:
    """Parse a source's query: exactly one SELECT that reads nothing but the declared files.

    Parameters
    ----------
    query : DuckDB's SQL
    files : names that may stand as tables, beside the query's own WITH
    functions : scalar and aggregate functions that DuckDB knows; any, if empty

    Raises
    ------
    RuleError
        If it is anything else, or its answer would change from one minute to the next.
    """
    try:
        parsed = sqlglot.parse(query, read="duckdb")
    except SqlglotError as error:
        raise RuleError(f"the query is not SQL: {_first_line(error)}") from None
    if len(parsed) != 1 or not isinstance(parsed[0], (exp.Select, exp.SetOperation)):
        raise RuleError("the query must be exactly one SELECT")
    tree = parsed[0]
    own = {cte.alias for cte in tree.find_all(exp.CTE)}
    for name in own:
        if not _NAME.match(name):
            raise RuleError(f"the query calls a WITH {name!r}: use letters, digits and underscores")
    known = {name.lower() for name in own | set(files)}
    for node in tree.walk():
        if isinstance(node, exp.Table):
            name = node.name
            if not isinstance(node.this, exp.Identifier) or node.args.get("db") or name.lower() not in known:
                what = node.sql("duckdb")
                known_here = nearest(name or what, files)
                raise RuleError(f"the query reads {what}, which is not declared in files; {known_here}")
        elif isinstance(node, _REFUSED) or (isinstance(node, exp.Anonymous) and node.name.lower() in _CHANGING):
            raise RuleError(f"the query uses {node.sql('duckdb')}, whose answer changes: a day must stay the same")
        elif isinstance(node, exp.Anonymous) and functions and node.name.lower() not in functions:
            raise RuleError(f"the query calls {node.name}(), which is not a function; {nearest(node.name, functions)}")
    tolerant: exp.Query = tree.transform(_tolerant)
    return tolerant


def _tolerant(node: Any) -> Any:
    """A cast that fails gives a missing value, not an error."""
    if type(node) is exp.Cast:
        return exp.TryCast(**node.args)
    return node


_ARITHMETIC = (
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.Abs, exp.Round, exp.Floor, exp.Ceil, exp.Pow,
    exp.Sqrt, exp.Ln, exp.Log, exp.Exp,
)  # fmt: skip
_COMPARED = (
    exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Coalesce, exp.Greatest, exp.Least,
    exp.Nullif,
)  # fmt: skip
_OF_TIME = (exp.Interval, exp.Date, exp.DateTrunc, exp.TimestampTrunc)


def _is_number(node: exp.Expression) -> bool:
    bare = node.unnest()
    return bool((isinstance(bare, exp.Literal) and not bare.is_string) or isinstance(bare, _ARITHMETIC))


def _counts(node: exp.Expression) -> bool:
    """Whether an expression stands where a number is wanted."""
    parent = node.parent
    if isinstance(parent, _ARITHMETIC):
        return not any(n.find(*_OF_TIME) for n in parent.iter_expressions())
    if isinstance(parent, _COMPARED) and any(_is_number(n) for n in parent.iter_expressions() if n is not node):
        return True
    if isinstance(parent, exp.Paren | exp.Coalesce | exp.Greatest | exp.Least | exp.Nullif | exp.Case):
        return _counts(parent)
    if isinstance(parent, exp.If):
        return node is not parent.this and _counts(parent)
    return False


def _as_numbers(tree: exp.Expression, texts: Collection[str]) -> exp.Expression:
    """The expression with text columns read as numbers wherever it calculates with them."""
    for column in [c for c in tree.find_all(exp.Column) if c.name.lower() in texts and _counts(c)]:
        trimmed = exp.Nullif(this=exp.Trim(this=column.copy()), expression=exp.Literal.string(""))
        number = exp.Cast(this=trimmed, to=exp.DataType.build("double"))
        if column is tree:
            return number
        column.replace(number)
    return tree


# ── a source ──────────────────────────────────────────────────────────────────────────────────────────────────────

_NUMERIC = re.compile(r"^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|U?INTEGER|DECIMAL.*|FLOAT|DOUBLE|BIGNUM|VARINT)$")
# Contract type → what a source may bring, and what is said of a value that fails.
_FITTING: dict[str, tuple[str, str]] = {
    "double": (r"VARCHAR|JSON|BOOLEAN|NULL", "not a number"),
    "bigint": (r"VARCHAR|JSON|BOOLEAN|NULL", "not a number"),
    "boolean": (r"VARCHAR|JSON|BOOLEAN|NULL", "not true or false"),
    "date": (r"VARCHAR|DATE|TIMESTAMP.*|NULL", "not a date"),
    "timestamp": (r"VARCHAR|DATE|TIMESTAMP.*|NULL", "not a time"),
    "string": (r".*", "not text"),
}


@dataclass(frozen=True)
class _Mapped:
    """A contract column: the SQL of its raw value and DuckDB's type of that; `tried` if computing it may fail."""

    column: Column
    sql: str
    type: str
    tried: bool
    uses: tuple[str, ...]


@dataclass(frozen=True)
class _Plan:
    connection: Any
    relation: str
    columns: dict[str, str]
    mapped: tuple[_Mapped, ...]
    where: str
    label: str
    copies: tuple[str, ...]
    lines: bool


class Source:
    """The rows a business delivers for one input table.

    Every call looks at the files anew, so that one instance may live as long as a server does.

    Parameters
    ----------
    table : the contract, with the project's own attributes (see `input_table`)
    spec : where the rows are and how they map
    project_zone : the zone whose calendar days are the partitions
    start : first day of the project
    base : the project file's folder
    """

    def __init__(self, table: Table, spec: TableSpec, *, project_zone: str, start: date, base: Path) -> None:
        self.table, self.spec, self.project_zone, self.start, self.base = table, spec, project_zone, start, Path(base)

    # what a caller asks

    def check(self) -> list[Problem]:
        """Everything that makes the source unusable, all at once; nothing if it can be read."""
        problems: list[Problem] = []
        with self._planned(problems):
            return problems

    def columns(self) -> dict[str, str]:
        """Source columns and their types, as DuckDB names them."""
        problems: list[Problem] = []
        with self._planned(problems) as plan:
            if plan is None or not plan.columns:
                raise SourceError("\n".join(map(str, problems)))
            return dict(plan.columns)

    def rows(self, first: date, last: date) -> pa.Table:
        """Delivered rows of the days `first` to `last`, both included.

        Returns
        -------
        pyarrow.Table
            The contract's columns, `day`, `source` (the file or query a row came from), `problem` (missing, or the
            column and why its value could not be converted: ``"amount: not a number"``) and `delivered` (JSON text of
            the values as they came, where there is a problem). Ordered by day, stamp and all other columns.
        """
        with self._planned() as plan:
            pruned = self._pruning(plan)
            return self._run(
                plan,
                self._select(plan, f"day BETWEEN $first AND $last{pruned}"),
                {"first": first, "last": last, "from": first - timedelta(days=2), "to": last + timedelta(days=3)}
                if pruned
                else {"first": first, "last": last},
            )

    def undated(self) -> pa.Table:
        """All delivered rows that belong to no day of the project, and lines that are no rows; `day` is missing."""
        with self._planned() as plan:
            rows = self._run(plan, self._select(plan, "day IS NULL"), {})
            broken = self._broken_lines(plan)
            return pa.concat_tables([rows, broken]) if broken.num_rows else rows

    def counts_by_day(self) -> pa.Table:
        """`day` and `rows`: how many rows each day was delivered; the undated ones stand under a missing day."""
        with self._planned() as plan:
            return self._run(
                plan,
                f"WITH {self._steps(plan)} SELECT day, count(*) AS rows FROM __dated GROUP BY day "
                "ORDER BY day NULLS FIRST",
                {},
            )

    def fingerprint(self) -> str:
        """Changes when a file or the mapping does: names, sizes and stamps of the files, without reading them."""
        import fsspec

        parts: list[Any] = [repr(self.spec), self.project_zone, str(self.start)]
        for location in self._locations().values():
            for name in (n for one in location for n in locate(one, self.base)):
                if _URL.match(name):
                    system, path = fsspec.core.url_to_fs(name)
                    parts.append([name, system.ukey(path)])
                else:
                    stat = Path(name).stat()
                    parts.append([name, stat.st_size, stat.st_mtime_ns])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    # what it takes

    def _locations(self) -> dict[str, tuple[str, ...]]:
        if self.spec.path:
            return {"rows": (self.spec.path,) if isinstance(self.spec.path, str) else tuple(self.spec.path)}
        return {name: (location,) for name, location in self.spec.files.items()}

    @contextmanager
    def _planned(self, problems: list[Problem] | None = None) -> Iterator[Any]:
        """A connection with the source's views and everything about the mapping; problems are raised unless wanted."""
        found: list[Problem] = [] if problems is None else problems
        with duckdb.connect(config={"autoinstall_known_extensions": False}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET python_enable_replacements = false")
            connection.execute("SET enable_progress_bar = false")
            plan = self._plan(connection, found)
            if found and problems is None:
                raise SourceError("\n".join(map(str, found)))
            yield plan

    def _plan(self, connection: Any, problems: list[Problem]) -> _Plan | None:
        name, spec = self.table.name, self.spec

        def problem(key: str, message: str) -> None:
            problems.append(Problem(f"{name}.{key}" if key else name, message))

        if spec.connection:
            problem("connection", "databases are not read yet: export the table to a file and name that in path")
            return None
        if not spec.path and not spec.files:
            problem("path", "no file is named: set path, or files and query")
            return None
        if spec.path and (spec.files or spec.query):
            problem("path", "path stands alone: name the files of a query in files, or leave the query out")
            return None
        if len(spec.files) > 1 and not spec.query:
            problem("query", "several files need a query that says how they belong together")
        for key, zone in (("time_zone", spec.time_zone or "UTC"), ("time_zone", self.project_zone)):
            try:
                ZoneInfo(zone)
            except (KeyError, ValueError, OSError):
                problem(key, f"{zone!r} is not a time zone: write one like Europe/Berlin or UTC")
        lines, copies = False, []
        for view, locations in self._locations().items():
            key = "path" if spec.path else f"files.{view}"
            if not _NAME.match(view) or view.startswith("__"):
                problem(key, "a name in files consists of letters, digits and underscores and does not begin with two")
                continue
            try:
                files = list(dict.fromkeys(file for location in locations for file in locate(location, self.base)))
                format_ = self._format(files)
                self._view(connection, view, files, format_)
                lines = lines or format_ == "csv"
                copies += _copies(files) if spec.path and len(files) > 1 else []
            except SourceError as error:
                problem(key, str(error))
        if problems:
            return None
        relation, label = self._relation(connection, problem)
        if problems:
            return None
        columns = self._described(connection, relation)
        columns = {name: type_ for name, type_ in columns.items() if name not in ("__source", "__file")}
        mapped = self._mapping(connection, relation, columns, problem)
        where = self._where(connection, relation, columns, problem)
        return _Plan(connection, relation, columns, tuple(mapped), where, label, tuple(copies), lines)

    def _format(self, files: list[str]) -> str:
        if self.spec.format != "auto":
            return self.spec.format
        formats = {_format_of(file) for file in files}
        unknown = [file for file in files if _format_of(file) is None]
        if unknown:
            raise SourceError(f"{unknown[0]} has an unknown suffix: set format to csv, jsonl or parquet")
        if len(formats) > 1:
            raise SourceError(f"{files[0]} and others are of different formats: name one kind of file, or a pattern")
        return str(formats.pop())

    def _view(self, connection: Any, view: str, files: list[str], format_: str) -> None:
        import fsspec

        for protocol in {file.partition("://")[0] for file in files if _URL.match(file)}:
            connection.register_filesystem(fsspec.filesystem(protocol))
        hidden = quoted(f"__{view}")
        try:
            connection.execute(f"CREATE TEMP VIEW {hidden} AS {_reader(connection, files, format_)}")
            columns = self._described(connection, f"FROM {hidden}")
        except (duckdb.Error, OSError, UnicodeError) as error:
            name, reason = self._unreadable(connection, files, format_) or (files[0], _first_line(error))
            kind = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON lines"}[format_]
            raise SourceError(f"{name} cannot be read as {kind}: {reason}; deliver it again or set format") from None
        if not self.spec.path:
            kept = ", ".join(quoted(c) for c in columns if c != "__file")
            connection.execute(f"CREATE TEMP VIEW {quoted(view)} AS SELECT {kept} FROM {hidden}")

    @staticmethod
    def _unreadable(connection: Any, files: list[str], format_: str) -> tuple[str, str] | None:
        """Which of several files is to blame, and why."""
        for name in files:
            try:
                connection.sql(_reader(connection, [name], format_)).columns  # noqa: B018
            except (duckdb.Error, OSError, UnicodeError) as error:
                return name, _first_line(error)
        return None

    def _relation(self, connection: Any, problem: Any) -> tuple[str, str]:
        """A SELECT of the source's columns and `__source`, and the words for where its rows come from."""
        if self.spec.path:
            folder = _text(f"{self.base}/")
            locations = self._locations()["rows"]
            label = ", ".join(locations)
            single = len(locations) == 1 and len(locate(locations[0], self.base)) == 1
            inner = f"__file[{len(str(self.base)) + 2}:]"
            relative = f"CASE WHEN starts_with(__file, {folder}) THEN {inner} ELSE __file END"
            source = _text(label) if single else relative
            return f"SELECT * EXCLUDE (__file), {source} AS __source, __file FROM __rows", label
        if not self.spec.query:
            view = next(iter(self.spec.files))
            label = self.spec.files[view]
            return f"SELECT *, {_text(label)} AS __source FROM {quoted(view)}", label
        label = f"query over {', '.join(self.spec.files)}"
        functions = connection.sql(
            "SELECT DISTINCT lower(function_name) AS name FROM duckdb_functions() "
            "WHERE function_type IN ('scalar', 'aggregate', 'macro')"
        ).to_arrow_table()["name"].to_pylist()  # fmt: skip
        try:
            query = checked_query(self.spec.query, self.spec.files, functions).sql("duckdb")
            relation = f"SELECT *, {_text(label)} AS __source FROM ({query})"
            connection.sql(relation).columns  # noqa: B018 (binds the query)
        except RuleError as error:
            problem("query", str(error))
            return "", label
        except duckdb.Error as error:
            hint = "columns of CSV and JSON files are text: CAST(x AS DOUBLE) where needed"
            problem("query", f"{_first_line(error)}; {hint}")
            return "", label
        return relation, label

    @staticmethod
    def _described(connection: Any, query: str) -> dict[str, str]:
        relation = connection.sql(query)
        return {name: str(type_) for name, type_ in zip(relation.columns, relation.types, strict=True)}

    def _expression(
        self, connection: Any, relation: str, columns: Mapping[str, str], text: str
    ) -> tuple[str, str, tuple[str, ...]]:
        """SQL, DuckDB type and source columns of a user's expression; RuleError if it means nothing."""
        tree = scalar(text, columns)
        tree = _as_numbers(tree, {c.lower() for c, type_ in columns.items() if type_ == "VARCHAR"})
        sql = tree.sql("duckdb")
        try:
            type_ = str(connection.sql(f"SELECT ({sql}) AS x FROM ({relation})").types[0])
        except duckdb.Error as error:
            raise RuleError(f"{text!r} cannot be computed: {_first_line(error)}") from None
        known = {name.lower(): name for name in columns}
        uses = dict.fromkeys(known[c.parts[0].name.lower()] for c in tree.find_all(exp.Column))
        return sql, type_.strip('"'), tuple(uses)

    def _mapping(self, connection: Any, relation: str, columns: Mapping[str, str], problem: Any) -> list[_Mapped]:
        mapped = []
        known = {name.lower(): name for name in columns}
        for name in self.spec.columns:
            if name not in self.table.names:
                listed = nearest(name, self.table.names)
                problem(f"columns.{name}", f"{self.table.name} has no column {name!r}; {listed}")
        for column in self.table.columns:
            given = self.spec.columns.get(column.name)
            key = f"columns.{column.name}"
            text = (
                column.name if given is None else str(given).lower() if isinstance(given, bool) else str(given).strip()
            )
            found = known.get(text.lower())
            if found is not None:
                item = _Mapped(column, quoted(found), columns[found].strip('"'), False, (found,))
            elif given is None:
                if column.required:
                    listed = nearest(column.name, columns)
                    problem(key, f"no source column holds {column.name}: map it to one; {listed}")
                item = _Mapped(column, "NULL", "NULL", False, ())
            else:
                try:
                    sql, type_, uses = self._expression(connection, relation, columns, text)
                except RuleError as error:
                    problem(key, str(error))
                    continue
                item = _Mapped(column, sql, type_, True, uses)
            fitting, _ = _FITTING[column.type]
            number = column.type in ("double", "bigint", "boolean") and _NUMERIC.match(item.type)
            if not number and not re.fullmatch(fitting, item.type):
                remedy = "map another column"
                if column.type == "timestamp":
                    remedy = "write to_timestamp(…) for seconds since 1970, epoch_ms(…) for milliseconds"
                problem(key, f"{text} is of type {item.type}, but {column.name} is a {column.type}: {remedy}")
            mapped.append(item)
        return mapped

    def _where(self, connection: Any, relation: str, columns: Mapping[str, str], problem: Any) -> str:
        if not self.spec.where:
            return ""
        try:
            sql, type_, _ = self._expression(connection, relation, columns, self.spec.where)
        except RuleError as error:
            problem("where", str(error))
            return ""
        if type_ != "BOOLEAN":
            problem("where", f"{self.spec.where!r} is not true or false but {type_}: write a comparison")
        return sql

    # the one query

    def _steps(self, plan: _Plan) -> str:
        """CTEs up to `dated`: one row per delivered row, with its typed values, day and problem."""
        table, stamp = self.table, self.table.stamp
        names = {m.column.name: f"_{i}" for i, m in enumerate(plan.mapped)}
        lifted, raw, typed, failed = [], [], [], []
        for m in plan.mapped:
            n = names[m.column.name]
            lifted.append(f"TRY(struct_pack(v := {m.sql})) AS l{n}" if m.tried else f"{m.sql} AS l{n}")
            raw.append(f"l{n}.v AS r{n}" if m.tried else f"l{n} AS r{n}")
            typed.append(f"{self._typed(m, f'r{n}')} AS v{n}")
            says = _text(f"{m.column.name}: {_FITTING[m.column.type][1]}")
            if m.tried:
                failed.append((m.column.name, f"l{n} IS NULL", says))
            if m.column.type != "string" and m.type not in ("DOUBLE", "BOOLEAN", "NULL"):
                blank = f"trim(r{n}, {_text(_WHITE)}) = ''" if m.type in ("VARCHAR", "JSON") else "false"
                failed.append((m.column.name, f"v{n} IS NULL AND r{n} IS NOT NULL AND NOT ({blank})", says))
        keep = ["__source"]
        used = sorted({u for m in plan.mapped if m.tried for u in m.uses} - {m.column.name for m in plan.mapped})
        used = [u for u in used if u.lower() not in {m.column.name.lower() for m in plan.mapped}]
        lifted += [f"{quoted(u)} AS u_{i}" for i, u in enumerate(used)]
        if plan.where:
            lifted.append(f"TRY(struct_pack(v := {plan.where})) AS w")
            failed.insert(0, ("", "w IS NULL", "'where: cannot be computed'"))
        if plan.copies:
            lifted.append(f"__file IN ({', '.join(map(_text, plan.copies))}) AS copied")
            failed.insert(0, ("", "copied", "'file: delivered before'"))
        typed_stamp = f"v{names[stamp]}" if stamp and stamp in names else "NULL::TIMESTAMP"
        local = self._local_day(typed_stamp)
        if stamp and table[stamp].required:
            shown = next((says for name, _, says in failed if name == stamp), "NULL")
            before = _text(f"{stamp}: before the first day ({self.start.isoformat()})")
            missing = _text(f"{stamp}: missing")
            first_day = f"DATE {_text(self.start.isoformat())}"
            day = f"CASE WHEN local >= {first_day} THEN local END"
            lost = " OR ".join(f"({c})" for name, c, _ in failed if name == stamp) or "false"
            undated = (
                f"WHEN {lost} THEN {shown} WHEN local IS NULL THEN {missing} WHEN local < {first_day} THEN {before} "
            )
        else:
            first_day = f"DATE {_text(self.start.isoformat())}"
            day, undated = f"greatest(coalesce(local, {first_day}), {first_day})", ""
        cases = undated + " ".join(f"WHEN {c} THEN {says}" for _, c, says in failed)
        problem = f"CASE {cases} END" if cases else "NULL::VARCHAR"
        delivered = ", ".join(
            [
                f"{quoted(m.column.name)} := CAST(r{names[m.column.name]} AS VARCHAR)"
                for m in plan.mapped
                if m.type != "NULL"
            ]
            + [f"{quoted(u)} := CAST(u_{i} AS VARCHAR)" for i, u in enumerate(used)]
        )
        filtered = " WHERE w IS NULL OR w.v" if plan.where else ""
        values = ", ".join(f"v{names[c.name]} AS {quoted(c.name)}" for c in table.columns)
        raw_stamp = f", r{names[stamp]} AS __raw_stamp" if stamp and stamp in names else ""
        return (
            f"__source_rows AS ({plan.relation}), "
            f"__lifted AS (SELECT {', '.join(lifted + keep)} FROM __source_rows), "
            f"__raws AS (SELECT *, {', '.join(raw)} FROM __lifted{filtered}), "
            f"__typed AS (SELECT *, {', '.join(typed)} FROM __raws), "
            f"__located AS (SELECT *, {local} AS local FROM __typed), "
            f"__told AS (SELECT *, {day} AS day, {problem} AS problem FROM __located), "
            f"__dated AS (SELECT {values}, day, __source AS source, problem, CASE WHEN problem IS NOT NULL THEN "
            f"CAST(to_json(struct_pack({delivered})) AS VARCHAR) END AS delivered{raw_stamp} FROM __told)"
        )

    def _select(self, plan: _Plan, condition: str) -> str:
        columns = ", ".join(quoted(name) for name in (*self.table.names, "day", "source", "problem", "delivered"))
        ordered = [name for name in (self.table.stamp, "customer_id") if name]
        ordered += [name for name in self.table.names if name not in ordered] + ["source", "problem", "delivered"]
        order = ", ".join(["day", *map(quoted, ordered)])
        return f"WITH {self._steps(plan)} SELECT {columns} FROM __dated WHERE {condition} ORDER BY {order}"

    def _run(self, plan: _Plan, query: str, params: Mapping[str, Any]) -> pa.Table:
        try:
            result = plan.connection.sql(query, params=dict(params) or None).to_arrow_table()
        except duckdb.Error as error:
            raise SourceError(f"{self.table.name}: {plan.label} cannot be read: {_first_line(error)}") from None
        if "source" not in result.column_names:
            return result
        return result.cast(self._schema())

    def _schema(self) -> pa.Schema:
        extra = [("day", pa.date32()), ("source", pa.string()), ("problem", pa.string()), ("delivered", pa.string())]
        return pa.schema([*((c.name, ARROW[c.type]) for c in self.table.columns), *extra])

    def _broken_lines(self, plan: _Plan) -> pa.Table:
        """Lines of CSV files that are no rows, as DuckDB has noted them during the scan before."""
        schema = self._schema()
        if not plan.lines:
            return schema.empty_table()
        told = plan.connection.sql(
            "SELECT s.file_path AS source, e.csv_line, min(e.error_message) AS message FROM reject_errors e "
            "JOIN reject_scans s USING (scan_id, file_id) GROUP BY s.file_path, e.line_byte_position, e.csv_line "
            "ORDER BY s.file_path, e.line_byte_position"
        ).to_arrow_table().to_pylist()  # fmt: skip
        prefix = f"{self.base}/"
        return pa.Table.from_pylist(
            [
                {
                    "source": row["source"].removeprefix(prefix),
                    "problem": "line: not a row of the file",
                    "delivered": json.dumps({"line": row["csv_line"], "reason": row["message"]}, ensure_ascii=False),
                }
                for row in told
            ],
            schema=schema,
        )

    def _pruning(self, plan: _Plan) -> str:
        """A range on the stamp as it lies in the file, so that Parquet row groups of other days are not read."""
        stamp = self.table.stamp
        if not stamp or not self.table[stamp].required:
            return ""
        found = next(m for m in plan.mapped if m.column.name == stamp)
        plain = not found.tried and (found.type == "DATE" or found.type.startswith("TIMESTAMP"))
        return " AND __raw_stamp >= $from AND __raw_stamp < $to" if plain else ""

    # types

    def _typed(self, m: _Mapped, raw: str) -> str:
        kind, type_ = m.column.type, m.type
        if type_ == "NULL":
            return f"NULL::{SQL[kind]}"
        text = type_ in ("VARCHAR", "JSON")
        if kind == "string":
            return self._string(m, raw, text)
        if kind == "timestamp":
            return self._timestamp(raw, type_)
        if type_ == SQL[kind]:
            return raw
        if text:
            return f"TRY_CAST(nullif(trim({raw}, {_text(_WHITE)}), '') AS {SQL[kind]})"
        return f"TRY_CAST({raw} AS {SQL[kind]})"

    @staticmethod
    def _string(m: _Mapped, raw: str, text: bool) -> str:
        is_id = m.column.name.endswith("_id")
        if text:
            value = f"nullif(trim({raw}, {_text(_WHITE)}), '')"
            return f"regexp_replace({value}, '^(-?\\d+)\\.0+$', '\\1')" if is_id else value
        if m.type in ("DOUBLE", "FLOAT") or m.type.startswith("DECIMAL"):
            whole = f"CAST(TRY_CAST({raw} AS BIGINT) AS VARCHAR)"
            return f"CASE WHEN {raw} = floor({raw}) AND abs({raw}) < 9e15 THEN {whole} ELSE CAST({raw} AS VARCHAR) END"
        return f"CAST({raw} AS VARCHAR)"

    def _timestamp(self, raw: str, type_: str) -> str:
        zone, project = self.spec.time_zone or self.project_zone, self.project_zone

        def utc(value: str, of: str) -> str:
            return value if of == "UTC" else f"timezone('UTC', timezone({_text(of)}, {value}))"

        if type_ == "DATE":
            value = utc(f"CAST({raw} AS TIMESTAMP)", project)
        elif type_ == "TIMESTAMP WITH TIME ZONE":
            value = f"timezone('UTC', {raw})"
        elif type_ in ("VARCHAR", "JSON"):
            text = f"trim({raw}, {_text(_WHITE)})"
            value = (
                f"CASE WHEN regexp_full_match({text}, '\\d{{4}}-\\d{{1,2}}-\\d{{1,2}}') "
                f"THEN {utc(f'TRY_CAST({text} AS TIMESTAMP)', project)} "
                f"WHEN regexp_full_match({text}, '\\d{{4}}-\\d{{1,2}}-\\d{{1,2}}[T ][0-9:.,]+') "
                f"THEN {utc(f'TRY_CAST({text} AS TIMESTAMP)', zone)} "
                f"WHEN regexp_matches({text}, '^\\d{{4}}-\\d{{1,2}}-\\d{{1,2}}[T ]') "
                f"THEN timezone('UTC', TRY_CAST({text} AS TIMESTAMPTZ)) END"
            )
        else:
            value = utc(f"TRY_CAST({raw} AS TIMESTAMP)", zone)
        sane = f"{raw} BETWEEN TIMESTAMP '0002-01-01' AND TIMESTAMP '9998-12-31'"
        if type_ in ("VARCHAR", "JSON"):
            sane = f"regexp_matches({raw}, '^\\s*(000[2-9]|00[1-9]|0[1-9]|[1-8]|9[0-8]|99[0-8]|999[0-8])')"
        return f"CASE WHEN {sane} THEN {value} END"

    def _local_day(self, stamp: str) -> str:
        if self.project_zone == "UTC":
            return f"CAST({stamp} AS DATE)"
        return f"CAST(timezone({_text(self.project_zone)}, timezone('UTC', {stamp})) AS DATE)"

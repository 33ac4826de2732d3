"""The user's SQL: what a source's query may contain, and how expressions calculate with text columns.

A query is parsed, checked as a tree, and generated again from that tree: what runs is what was checked.

Belongs here: accepting and rewriting SQL as a tree. Does not belong here: scalar expressions in general (see
`ml.rules`), and running anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from microseg_assets.sources.locate import first_line
from ml.rules import RuleError, check_words, nearest

# Functions whose result changes from run to run; those with their own class in sqlglot are in `_REFUSED`.
_CHANGING = {
    "random", "setseed", "now", "today", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "getenv", "current_setting",
    "getvariable", "nextval", "currval", "get_current_timestamp", "transaction_timestamp", "version",
    "current_localtimestamp", "current_localtime", "txid_current", "clock_timestamp", "statement_timestamp",
    "timeofday", "changes", "total_changes", "last_insert_rowid", "randomblob", "random_normal", "lastval",
    "current_connection_id", "current_query", "current_query_id", "current_transaction_id", "pg_postmaster_start_time",
    "pg_conf_load_time", "sleep_ms", "write_log", "setval", "current_schemas", "in_search_path", "stats",
}  # fmt: skip
# Functions of a database's server that read its files, run SQL given as text, change its state or wait.
_SERVER_FUNCTIONS = re.compile(
    r"pg_.*|lo_.*|dblink.*|.*_to_xml.*|set_config|setval|load_extension|readfile|writefile|edit|fts3_tokenizer|inet_.*"
    r"|ts_stat|crosstab.*|connectby|xpath_table|http.*|plan_.*|txid_.*|xmlparse|file_.*|sqlite_.*"
)
_MOMENTS = {"now", "today", "tomorrow", "yesterday"}  # texts that a cast turns into the current time
# SQLite's functions that return the current time if they are given none.
_CURRENT_TIME = re.compile(r"(date|time|datetime|julianday|unixepoch)\(\)|strftime\('[^']*'\)", re.IGNORECASE)
# Catalog views of a database: no part of a query may shadow or read one of them.
_CATALOG_VIEWS = re.compile(r"__.*|(duckdb|sqlite|pg|pragma)_.*|information_schema")
_REFUSED = (
    exp.TableSample, exp.Rand, exp.Randn, exp.Uuid, exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp,
    exp.CurrentDatetime, exp.CurrentTimestampLTZ, exp.Localtime, exp.Localtimestamp, exp.CurrentVersion,
)  # fmt: skip
_WRITES = (exp.Into, exp.DML, exp.DDL, exp.Command, exp.Lock, exp.Set, exp.Attach, exp.Detach, exp.Pragma, exp.Copy)
_ARITHMETIC = (
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.Abs, exp.Round, exp.Floor, exp.Ceil, exp.Pow,
    exp.Sqrt, exp.Ln, exp.Log, exp.Exp,
)  # fmt: skip
_COMPARED = (
    exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Coalesce, exp.Greatest, exp.Least,
    exp.Nullif,
)  # fmt: skip
_TIME_FUNCTIONS = (exp.Interval, exp.Date, exp.DateTrunc, exp.TimestampTrunc)


def adds_up(query: str) -> bool:
    """Whether a query aggregates: sums that threads share differ in their last digits from run to run."""
    try:
        return _select(query, "duckdb").find(exp.AggFunc) is not None
    except RuleError:
        return False  # reported when it is checked


def parse_query(query: str, files: Collection[str], functions: Collection[str] = ()) -> exp.Query:
    """Parse a source's query: exactly one SELECT that reads nothing but the declared files.

    Parameters
    ----------
    query : DuckDB's SQL
    files : names that may be used as tables, besides those of the query's own WITH
    functions : DuckDB's scalar and aggregate functions; any, if empty

    Returns
    -------
    The query, in which a cast that fails gives a missing value.

    Raises
    ------
    RuleError
        If it is anything else, or its result would change from minute to minute.
    """
    tree = _select(query, "duckdb")
    _check_own_names(tree)
    known = {name.lower() for name in files}
    for node in tree.walk():
        if isinstance(node, exp.Table):
            _check_table(node, known, files, "not declared in files")
        else:
            _check_steady(node, "duckdb")
            _check_function(node, functions)
    for cast in [node for node in tree.find_all(exp.Cast) if type(node) is exp.Cast]:
        cast.replace(exp.TryCast(**cast.args))
    _select(tree.sql("duckdb", comments=False), "duckdb")
    return tree


def database_query(query: str, dialect: str, tables: Collection[str] = (), functions: Collection[str] = ()) -> str:
    """Parse a query of a database: exactly one SELECT that only reads tables.

    Parameters
    ----------
    query : in the database's own SQL
    dialect : as sqlglot calls it
    tables : the existing ones, in lower case, with or without their schema; any, if empty
    functions : the database's scalar and aggregate functions; any harmless ones, if empty

    Returns
    -------
    The query, as the database is to run it.

    Raises
    ------
    RuleError
        If it is anything else, or its result would change from minute to minute.
    """
    tree = _select(query, dialect)
    _check_own_names(tree)
    for node in tree.walk():
        if isinstance(node, exp.Table):
            _check_table(node, tables or None, tables, "not a table of the database")
        else:
            _check_steady(node, dialect)
            _check_function(node, functions)
    written = tree.sql(dialect, comments=False)
    _select(written, dialect)
    return written


def table_query(name: str, dialect: str, tables: Collection[str] = ()) -> str:
    """The query for all rows of a table of a database, ``orders`` or ``sales.orders``.

    Raises
    ------
    RuleError
        If this is not the name of one.
    """
    try:
        table = sqlglot.parse_one(name, read=dialect, into=exp.Table)
    except SqlglotError:
        table = exp.Table()
    if not isinstance(table.this, exp.Identifier) or {k for k, v in table.args.items() if v} - {"this", "db"}:
        raise RuleError(f"{name!r} is not the name of a table: write orders or sales.orders; a SELECT goes into query")
    return database_query(exp.select("*").from_(table).sql(dialect), dialect, tables)


def _select(query: str, dialect: str) -> exp.Query:
    """The tree of the one SELECT that a query is, without anything in it that writes.

    Raises
    ------
    RuleError
        If it is anything else.
    """
    try:
        parsed = sqlglot.parse(query, read=dialect)
    except (SqlglotError, RecursionError) as error:
        raise RuleError(f"the query is not SQL: {first_line(error)}") from None
    parsed = [tree for tree in parsed if tree is not None and not isinstance(tree, exp.Semicolon)]
    if len(parsed) != 1 or not isinstance(parsed[0], (exp.Select, exp.SetOperation)):
        raise RuleError("the query must be exactly one SELECT")
    for node in parsed[0].walk():
        if isinstance(node, _WRITES):
            raise RuleError(
                f"the query contains {node.sql(dialect)[:60]}: it must be exactly one SELECT that only reads"
            )
        check_words(node)
    return parsed[0]


def _check_own_names(tree: exp.Query) -> None:
    """Check that the parts of the query's own WITH have valid names, and none of a catalog view."""
    for name in {cte.alias for cte in tree.find_all(exp.CTE)}:
        if not (name.isascii() and name.isidentifier()):
            raise RuleError(f"the query calls a WITH {name!r}: use letters, digits and underscores")
        if _CATALOG_VIEWS.fullmatch(name.lower()):
            raise RuleError(f"the query calls a WITH {name!r}, as the database calls a table of its own: rename it")


def _is_own(table: exp.Table) -> bool:
    """Whether a table is a WITH of an enclosing query; those of other parts of the query are not in scope."""
    node: exp.Expr = table
    while (parent := node.parent) is not None:
        if isinstance(parent, exp.With):  # the parts before it, and itself if the WITH is recursive
            position = next(i for i, part in enumerate(parent.expressions) if part is node)
            parts = parent.expressions[: position + bool(parent.args.get("recursive"))]
            node = parent.parent or parent
        else:
            with_ = parent.args.get("with_")
            parts = with_.expressions if isinstance(with_, exp.With) else []
            node = parent
        if any(part.alias.lower() == table.name.lower() for part in parts):
            return True
    return False


def _check_steady(node: exp.Expr, dialect: str) -> None:
    is_changing = isinstance(node, _REFUSED)
    if isinstance(node, exp.Anonymous):
        name = node.name.lower()
        is_changing = name in _CHANGING or (name == "age" and len(node.expressions) < 2)
    if dialect == "sqlite" and isinstance(node, exp.Func):
        is_changing = is_changing or bool(_CURRENT_TIME.fullmatch(node.sql(dialect)))
    if isinstance(node, exp.Literal) and node.is_string and node.name.strip().lower() in _MOMENTS:
        is_changing = isinstance(node.parent, exp.Cast) or (dialect == "sqlite" and isinstance(node.parent, exp.Func))
        if dialect == "postgres":  # which also converts such a text implicitly
            is_changing = is_changing or isinstance(node.parent, (exp.Predicate, exp.Binary, exp.Func))
    if is_changing:
        raise RuleError(f"the query uses {node.sql(dialect).strip()}, whose answer changes: a day must stay the same")


def _check_function(node: exp.Expr, functions: Collection[str]) -> None:
    if not isinstance(node, exp.Anonymous):
        return
    name = node.name.lower()
    if functions and name not in functions:
        raise RuleError(f"the query calls {node.name}(), which is not a function; {nearest(node.name, functions)}")
    if not functions and _SERVER_FUNCTIONS.fullmatch(name):
        raise RuleError(f"the query calls {node.name}(), which is not allowed: a query only reads tables")


def _check_table(node: exp.Table, known: Collection[str] | None, listed: Collection[str], otherwise: str) -> None:
    """Check that a table is a name that is `known`, or any name if that is None; never a function."""
    name = ".".join(part.name for part in (node.args.get("db"), node.this) if isinstance(part, exp.Identifier)).lower()
    is_name = isinstance(node.this, exp.Identifier) and not node.args.get("catalog")
    if not is_name or (known is not None and name not in known and not (node.name.lower() == name and _is_own(node))):
        what = node.sql("duckdb")
        raise RuleError(f"the query reads {what}, which is {otherwise}; {nearest(node.name or what, listed)}")


def as_numbers(tree: exp.Expr, texts: Collection[str]) -> exp.Expr:
    """The expression with text columns cast to numbers wherever it calculates with them.

    Parameters
    ----------
    tree : a scalar expression, for example ``retail_disc + coupon_disc``
    texts : names of text columns, in lower case
    """
    for column in [c for c in tree.find_all(exp.Column) if c.parts[0].name.lower() in texts and _counts(c)]:
        trimmed = exp.Nullif(this=exp.Trim(this=column.copy()), expression=exp.Literal.string(""))
        number = exp.Cast(this=trimmed, to=exp.DataType.build("double"))
        if column is tree:
            return number
        column.replace(number)
    return tree


def with_fields(tree: exp.Expr, texts: Collection[str]) -> exp.Expr:
    """The expression with ``device.os`` extracted from the JSON in a text column `device`.

    Parameters
    ----------
    tree : a scalar expression
    texts : names of text columns, in lower case
    """
    for column in [c for c in tree.find_all(exp.Column) if len(c.parts) > 1 and c.parts[0].name.lower() in texts]:
        whole: exp.Expr = column
        names = [part.name for part in column.parts[1:]]
        while isinstance(whole.parent, exp.Dot) and isinstance(whole.parent.expression, exp.Identifier):
            whole = whole.parent
            names.append(whole.expression.name)
        field = _field(exp.Column(this=column.parts[0].copy()), names)
        if whole is tree:
            return field
        whole.replace(field)
    return tree


def with_fields_of_files(tree: exp.Query, columns: Mapping[str, Mapping[str, str]]) -> exp.Query:
    """The query with ``device.os`` and ``log.device.os`` extracted from the JSON in a text column of a file, as in an
    expression; text that is not JSON has no fields.

    Parameters
    ----------
    tree : a query over files
    columns : file to its columns and DuckDB's types of them
    """
    texts = {
        name.lower() for types in columns.values() for name, type_ in types.items() if type_ in ("VARCHAR", "JSON")
    }
    own = {node.alias_or_name.lower() for node in tree.find_all(exp.Table, exp.CTE, exp.Subquery)}
    for column in [c for c in tree.find_all(exp.Column) if len(c.parts) > 1]:
        parts = column.parts
        start = 1 if parts[0].name.lower() in own else 0
        if len(parts) <= start + 1 and not isinstance(column.parent, exp.Dot):
            continue
        if parts[start].name.lower() not in texts:
            continue
        whole: exp.Expr = column
        names = [part.name for part in parts[start + 1 :]]
        while isinstance(whole.parent, exp.Dot) and isinstance(whole.parent.expression, exp.Identifier):
            whole = whole.parent
            names.append(whole.expression.name)
        root = exp.Column(this=parts[start].copy(), table=parts[0].copy() if start else None)
        field: exp.Expr = exp.Case().when(
            exp.Anonymous(this="json_valid", expressions=[root.copy()]), _field(root, names)
        )
        if isinstance(whole.parent, exp.Select) and whole.arg_key == "expressions":
            field = exp.alias_(field, names[-1], quoted=True)
        whole.replace(field)
    return tree


def _field(root: exp.Column, names: Sequence[str]) -> exp.Expr:
    """A field, by its path, of the JSON in a text column."""
    pointer = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
    return exp.Anonymous(this="json_extract_string", expressions=[root, exp.Literal.string(pointer)])


def _counts(node: exp.Expr) -> bool:
    """Whether an expression is used as a number."""
    parent = node.parent
    if isinstance(parent, _ARITHMETIC):
        return not any(n.find(*_TIME_FUNCTIONS) for n in parent.iter_expressions())
    if isinstance(parent, _COMPARED) and any(_is_number(n) for n in parent.iter_expressions() if n is not node):
        return True
    if isinstance(parent, exp.Case) and node is parent.this:  # the operand of a simple CASE, not its results
        return any(_is_number(one.this) for one in parent.args["ifs"])
    if isinstance(parent, exp.Paren | exp.Coalesce | exp.Greatest | exp.Least | exp.Nullif | exp.Case):
        return _counts(parent)
    if isinstance(parent, exp.If):
        return node is not parent.this and _counts(parent)
    return False


def _is_number(node: exp.Expr) -> bool:
    bare = node.unnest()
    return bool((isinstance(bare, exp.Literal) and not bare.is_string) or isinstance(bare, _ARITHMETIC))

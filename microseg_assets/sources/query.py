"""The user's SQL: what a source's query may say, and how text columns are calculated with.

Belongs here: accepting and rewriting SQL as a tree. Does not belong here: scalar expressions in general (see
`ml.rules`), and running anything.
"""

from __future__ import annotations

from collections.abc import Collection

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from microseg_assets.sources.locate import first_line
from ml.rules import RuleError, nearest

# Functions whose answer changes from one run to the next; those that sqlglot knows by a class of their own stand below.
_CHANGING = {
    "random", "setseed", "now", "today", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "getenv", "current_setting",
    "getvariable", "nextval", "currval", "get_current_timestamp", "transaction_timestamp", "version",
    "current_localtimestamp", "current_localtime", "txid_current",
}  # fmt: skip
_REFUSED = (
    exp.Rand, exp.Randn, exp.Uuid, exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.CurrentDatetime,
    exp.CurrentTimestampLTZ, exp.Localtime, exp.Localtimestamp, exp.Into, exp.DML, exp.DDL, exp.Command,
)  # fmt: skip
_ARITHMETIC = (
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.Abs, exp.Round, exp.Floor, exp.Ceil, exp.Pow,
    exp.Sqrt, exp.Ln, exp.Log, exp.Exp,
)  # fmt: skip
_COMPARED = (
    exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Coalesce, exp.Greatest, exp.Least,
    exp.Nullif,
)  # fmt: skip
_OF_TIME = (exp.Interval, exp.Date, exp.DateTrunc, exp.TimestampTrunc)


def checked_query(query: str, files: Collection[str], functions: Collection[str] = ()) -> exp.Query:
    """Parse a source's query: exactly one SELECT that reads nothing but the declared files.

    Parameters
    ----------
    query : DuckDB's SQL
    files : names that may stand as tables, beside the query's own WITH
    functions : scalar and aggregate functions that DuckDB knows; any, if empty

    Returns
    -------
    The query, in which a cast that fails gives a missing value.

    Raises
    ------
    RuleError
        If it is anything else, or its answer would change from one minute to the next.
    """
    try:
        parsed = sqlglot.parse(query, read="duckdb")
    except SqlglotError as error:
        raise RuleError(f"the query is not SQL: {first_line(error)}") from None
    if len(parsed) != 1 or not isinstance(parsed[0], (exp.Select, exp.SetOperation)):
        raise RuleError("the query must be exactly one SELECT")
    tree = parsed[0]
    own = {cte.alias for cte in tree.find_all(exp.CTE)}
    for name in own:
        if not (name.isascii() and name.isidentifier()):
            raise RuleError(f"the query calls a WITH {name!r}: use letters, digits and underscores")
    known = {name.lower() for name in own | set(files)}
    for node in tree.walk():
        if isinstance(node, exp.Table):
            _check_table(node, known, files)
        elif isinstance(node, _REFUSED) or (isinstance(node, exp.Anonymous) and node.name.lower() in _CHANGING):
            raise RuleError(f"the query uses {node.sql('duckdb')}, whose answer changes: a day must stay the same")
        elif isinstance(node, exp.Anonymous) and functions and node.name.lower() not in functions:
            raise RuleError(f"the query calls {node.name}(), which is not a function; {nearest(node.name, functions)}")
    for cast in [node for node in tree.find_all(exp.Cast) if type(node) is exp.Cast]:
        cast.replace(exp.TryCast(**cast.args))
    return tree


def _check_table(node: exp.Table, known: Collection[str], files: Collection[str]) -> None:
    if not isinstance(node.this, exp.Identifier) or node.args.get("db") or node.name.lower() not in known:
        what = node.sql("duckdb")
        raise RuleError(f"the query reads {what}, which is not declared in files; {nearest(node.name or what, files)}")


def as_numbers(tree: exp.Expr, texts: Collection[str]) -> exp.Expr:
    """The expression with text columns read as numbers wherever it calculates with them.

    Parameters
    ----------
    tree : a scalar expression, for example ``retail_disc + coupon_disc``
    texts : names of text columns, in lower case
    """
    for column in [c for c in tree.find_all(exp.Column) if c.name.lower() in texts and _counts(c)]:
        trimmed = exp.Nullif(this=exp.Trim(this=column.copy()), expression=exp.Literal.string(""))
        number = exp.Cast(this=trimmed, to=exp.DataType.build("double"))
        if column is tree:
            return number
        column.replace(number)
    return tree


def _counts(node: exp.Expr) -> bool:
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


def _is_number(node: exp.Expr) -> bool:
    bare = node.unnest()
    return bool((isinstance(bare, exp.Literal) and not bare.is_string) or isinstance(bare, _ARITHMETIC))

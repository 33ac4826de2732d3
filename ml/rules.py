"""Expressions that people write in the project file: parsed, checked, never run as text.

Belongs here: what an expression may contain. Mappings, stage rules and audiences are scalar SQL expressions over named
columns: no sub-queries, no table or file functions, no second statement. Does not belong here: what the rules mean.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ml.engine import ConversionError, QueryError, quoted, sandbox
from ml.tables import SQL


class RuleError(ValueError):
    """An expression that cannot be accepted; the message says what is wrong and what to do."""


_ALLOWED: tuple[type[exp.Expr], ...] = (
    exp.Column, exp.Identifier, exp.Dot, exp.Bracket, exp.Literal, exp.Boolean, exp.Null, exp.Var, exp.Placeholder,
    exp.Paren, exp.And, exp.Or, exp.Xor, exp.Not, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between,
    exp.In, exp.Is, exp.Like, exp.ILike, exp.Escape, exp.NullSafeEQ, exp.NullSafeNEQ,
    exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.Pow, exp.Abs, exp.Round, exp.Floor, exp.Ceil,
    exp.Ln, exp.Log, exp.Exp, exp.Sqrt, exp.Greatest, exp.Least, exp.IsNan, exp.IsInf,
    exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Cast, exp.TryCast, exp.DataType, exp.DataTypeParam,
    exp.Lower, exp.Upper, exp.Trim, exp.Length, exp.Substring, exp.Concat, exp.DPipe, exp.Replace, exp.Left, exp.Right,
    exp.StartsWith, exp.EndsWith, exp.Contains, exp.StrPosition, exp.SplitPart, exp.RegexpLike, exp.RegexpFullMatch,
    exp.RegexpReplace, exp.RegexpExtract, exp.MD5, exp.SHA2, exp.Pad,
    exp.Interval, exp.Date, exp.DateAdd, exp.DateSub, exp.DateDiff, exp.DateTrunc, exp.TimestampTrunc, exp.Extract,
    exp.Year, exp.Month, exp.Day, exp.DayOfWeek, exp.StrToTime, exp.StrToDate, exp.TimeToStr, exp.TimestampFromParts,
    exp.UnixToTime, exp.AtTimeZone, exp.ConvertTimezone, exp.TsOrDsToDate, exp.TsOrDsToTimestamp,
    exp.JSONExtract, exp.JSONExtractScalar, exp.JSONPath, exp.JSONPathRoot, exp.JSONPathKey, exp.JSONPathSubscript,
    exp.StructExtract,
)  # fmt: skip
# Functions that sqlglot does not model by a class of their own; every one is pure and scalar.
_FUNCTIONS = {
    "epoch_ms", "to_timestamp", "make_timestamp", "try_strptime", "timezone", "regexp_matches", "strip_accents",
    "list_extract", "struct_extract", "json_extract_string", "isfinite", "sha256", "to_hours", "to_days", "to_minutes",
    "to_seconds", "nfc_normalize",
}  # fmt: skip
_VALUES = {"double": "1", "bigint": "1", "date": "'2024-01-01'", "timestamp": "'2024-01-01'", "boolean": "true"}
_DEEPEST = 120  # parentheses, calls and operators that may lie in one another
_CLASSES = [node for node in _ALLOWED if issubclass(node, exp.Func)]


def nearest(name: str, known: Collection[str]) -> str:
    """A half sentence that names the nearest known name, or lists a few."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(sorted(known)[:12])
    return f"known here: {listed}{' …' if len(known) > 12 else ''}"


def parse_scalar(expression: str, columns: Collection[str] | None = None, parameters: Collection[str] = ()) -> exp.Expr:
    """Parse a scalar SQL expression over one row.

    Parameters
    ----------
    expression : in DuckDB's dialect, for example ``recency_days <= $churn_after and orders > 1``
    columns : the columns it may use; any, if None
    parameters : names that may follow a ``$``

    Raises
    ------
    RuleError
        If it does not parse, or contains anything but a pure scalar expression over `columns`.
    """
    too_deep = f"{expression[:40]!r} … is nested too deeply: write it shorter"
    try:
        parsed = sqlglot.parse(expression, read="duckdb")
        for one in parsed:
            if one is not None:
                one.sql("duckdb")  # as it will be written: what is too deep for that is told here
    except RecursionError:
        raise RuleError(too_deep) from None
    except SqlglotError as error:
        where = next((f" near character {e['col']}" for e in getattr(error, "errors", ()) if e.get("col")), "")
        raise RuleError(f"{expression!r} is not a SQL expression: it breaks off or goes wrong{where}") from None
    if len(parsed) != 1 or parsed[0] is None:
        raise RuleError(f"{expression!r} must be exactly one expression")
    tree = parsed[0]
    for node in tree.walk():
        check_words(node)
        _check(node, expression, columns, parameters)
        if node.depth > _DEEPEST and not isinstance(node, exp.Connector) and _nesting(node) > _DEEPEST:
            raise RuleError(too_deep)
    return tree


def bind(expression: str, columns: Mapping[str, str], parameters: Collection[str] = ()) -> exp.Expr:
    """Parse a predicate over one row, and have the engine look at it: with the columns' types, but nobody's values.

    Parameters
    ----------
    expression : see `parse_scalar`
    columns : name to type, as `ml.tables` calls it
    parameters : names that may follow a ``$``; they stand for numbers

    Raises
    ------
    RuleError
        If it cannot be accepted, calculates with what cannot be calculated with, or is not true or false.
    """
    tree = parse_scalar(expression, columns, parameters)
    null = exp.cast(exp.null(), "DOUBLE")
    typed = tree.transform(lambda node: null.copy() if isinstance(node, exp.Placeholder) else node)
    given = ", ".join(
        f"{_VALUES.get(type_, 'NULL')}::{SQL[type_]} AS {quoted(name)}" for name, type_ in columns.items()
    )
    try:
        found = sandbox().cursor().sql(f"SELECT ({typed.sql('duckdb', comments=False)}) AS x FROM (SELECT {given})")
        type_ = str(found.types[0])
        try:
            found.fetchall()  # a text that is compared with a number must be one
        except ConversionError:
            raise
        except QueryError:
            pass  # such as the logarithm of a number that a customer need not have
    except QueryError as error:
        said = re.sub(r"^(\w+ )+Error: ", "", str(error).strip().partition("\n")[0])
        raise RuleError(f"{expression!r} cannot be computed: {said}") from None
    if type_ not in ("BOOLEAN", '"NULL"'):
        raise RuleError(f"{expression!r} is not true or false but {type_}: write a comparison")
    return tree


def check_words(node: exp.Expr) -> None:
    """Types and units are words: sqlglot writes some of them as they were given.

    Raises
    ------
    RuleError
        If one is not.
    """
    word = ""
    if isinstance(node, exp.DataType) and node.args.get("kind"):
        word = str(node.args["kind"])
    elif isinstance(node, exp.Var):
        word = node.name
    if not re.fullmatch(r"[\w.\- ]*", word.replace('"', "") if isinstance(node, exp.DataType) else word, re.ASCII):
        raise RuleError(f"{word!r} is no type or unit: write such as DOUBLE, VARCHAR or DATE, or 'day'")


def _nesting(node: exp.Expr) -> int:
    """How many expressions a node lies in; a row of ANDs or ORs is one."""
    depth, inner = 0, node
    while (outer := inner.parent) is not None:
        depth += not (isinstance(outer, exp.Connector) and type(outer) is type(inner))
        inner = outer
    return depth


def _check(node: exp.Expr, expression: str, columns: Collection[str] | None, parameters: Collection[str]) -> None:
    if isinstance(node, exp.Anonymous):
        if node.name.lower() not in _FUNCTIONS:
            known = _FUNCTIONS | {cls.sql_name().lower() for cls in _CLASSES}
            raise RuleError(f"{expression!r} calls {node.name}(), which is not allowed; {nearest(node.name, known)}")
    elif type(node) not in _ALLOWED:
        raise RuleError(
            f"{expression!r} contains {type(node).__name__} ({node.sql('duckdb')[:60]}): "
            "only pure expressions over one row are allowed"
        )
    if isinstance(node, exp.Placeholder) and node.name not in parameters:
        raise RuleError(f"{expression!r} uses ${node.name}, which is not a parameter; {nearest(node.name, parameters)}")
    if isinstance(node, exp.Column) and columns is not None:
        root = node.parts[0].name
        if root.lower() not in {name.lower() for name in columns}:
            raise RuleError(f"{expression!r} uses {root!r}, which is not a column; {nearest(root, columns)}")

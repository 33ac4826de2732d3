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
    """An expression that cannot be accepted; the message names the problem and the remedy."""


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
    exp.Year, exp.Quarter, exp.Month, exp.Day, exp.DayOfWeek, exp.Hour, exp.Minute,
    exp.StrToTime, exp.StrToDate, exp.TimeToStr, exp.TimestampFromParts,
    exp.UnixToTime, exp.AtTimeZone, exp.ConvertTimezone, exp.TsOrDsToDate, exp.TsOrDsToTimestamp,
    exp.JSONExtract, exp.JSONExtractScalar, exp.JSONPath, exp.JSONPathRoot, exp.JSONPathKey, exp.JSONPathSubscript,
    exp.StructExtract,
)  # fmt: skip
# Functions that have no class in sqlglot; every one is pure and scalar.
_FUNCTIONS = {
    "epoch_ms", "to_timestamp", "make_timestamp", "try_strptime", "timezone", "regexp_matches", "strip_accents",
    "list_extract", "struct_extract", "json_extract_string", "isfinite", "sha256", "to_hours", "to_days", "to_minutes",
    "to_seconds", "nfc_normalize",
}  # fmt: skip
_VALUES = {"double": "1", "bigint": "1", "date": "'2024-01-01'", "timestamp": "'2024-01-01'", "boolean": "true"}
_MAX_DEPTH = 120  # nested parentheses, calls and operators
_CLASSES = [node for node in _ALLOWED if issubclass(node, exp.Func)]


def nearest(name: str, known: Collection[str]) -> str:
    """Suggest the nearest known name, or list a few, as the second half of a sentence.

    Parameters
    ----------
    name : str
        A name that is not known.
    known : collection of str
        The names that are.

    Returns
    -------
    str
        A question with the nearest name, or a list of names.

    Examples
    --------
    >>> nearest("spnd", ["spend", "orders"])
    "did you mean 'spend'?"
    >>> nearest("x", ["spend", "orders"])
    'known here: orders, spend'
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    listed = ", ".join(sorted(known)[:12])
    return f"known here: {listed}{' …' if len(known) > 12 else ''}"


def parse_scalar(expression: str, columns: Collection[str] | None = None, parameters: Collection[str] = ()) -> exp.Expr:
    """Parse a scalar SQL expression over one row.

    Parameters
    ----------
    expression : str
        In DuckDB's dialect, for example ``recency_days <= $churn_after and orders > 1``.
    columns : collection of str, optional
        The columns it may use; any by default.
    parameters : collection of str
        Names that may follow a ``$``.

    Returns
    -------
    exp.Expr
        The parsed expression.

    Raises
    ------
    RuleError
        If it does not parse, or contains anything but a pure scalar expression over `columns`.

    Examples
    --------
    >>> parse_scalar("orders>1 and recency_days <= $churn_after", parameters=["churn_after"]).sql("duckdb")
    'orders > 1 AND recency_days <= $churn_after'
    >>> parse_scalar("read_text('x')")
    Traceback (most recent call last):
    ml.rules.RuleError: "read_text('x')" calls read_text(), which is not allowed; did you mean ...
    """
    too_deep = f"{expression[:40]!r} … is nested too deeply: write it shorter"
    try:
        parsed = sqlglot.parse(expression, read="duckdb")
        for statement in parsed:
            if statement is not None:
                statement.sql("duckdb")  # it will be written again: an expression that is too deep for that fails here
    except RecursionError:
        raise RuleError(too_deep) from None
    except SqlglotError as error:
        position = next((f" near character {e['col']}" for e in getattr(error, "errors", ()) if e.get("col")), "")
        raise RuleError(f"{expression!r} is not a SQL expression: it breaks off or goes wrong{position}") from None
    if len(parsed) != 1 or parsed[0] is None:
        raise RuleError(f"{expression!r} must be exactly one expression")
    tree = parsed[0]
    for node in tree.walk():
        check_words(node)
        _check(node, expression, columns, parameters)
        if node.depth > _MAX_DEPTH and not isinstance(node, exp.Connector) and _nesting(node) > _MAX_DEPTH:
            raise RuleError(too_deep)
    return tree


def bind(expression: str, columns: Mapping[str, str], parameters: Collection[str] = ()) -> exp.Expr:
    """Parse a predicate over one row, and let the engine check it with the columns' types, without any customer's data.

    Parameters
    ----------
    expression : str
        See `parse_scalar`.
    columns : Mapping of str to str
        Name to type, as `ml.tables` calls it.
    parameters : collection of str
        Names that may follow a ``$``; they are numbers.

    Returns
    -------
    exp.Expr
        The parsed predicate.

    Raises
    ------
    RuleError
        If it is not allowed, cannot be computed with these types, or is not true or false.

    Examples
    --------
    >>> bind("orders > $least", {"orders": "bigint"}, ["least"]).sql("duckdb")
    'orders > $least'
    >>> bind("spend", {"spend": "double"})
    Traceback (most recent call last):
    ml.rules.RuleError: 'spend' is not true or false but DOUBLE: write a comparison
    """
    tree = parse_scalar(expression, columns, parameters)
    type_ = _type(tree, expression, columns)
    if type_ not in ("BOOLEAN", '"NULL"'):
        raise RuleError(f"{expression!r} is not true or false but {type_}: write a comparison")
    return tree


def forgiving(tree: exp.Expr) -> exp.Expr:
    """Rewrite an expression so that a value it cannot be computed of gives a missing result instead of an error.

    Parameters
    ----------
    tree : exp.Expr
        A parsed scalar expression.

    Returns
    -------
    exp.Expr
        A copy in which casts and dates in texts may fail, and logarithms and roots are of positive numbers only.

    Examples
    --------
    >>> forgiving(parse_scalar("CAST(value AS DOUBLE)")).sql("duckdb")
    'TRY_CAST(value AS DOUBLE)'
    """
    return tree.copy().transform(_forgiving)


def _forgiving(node: exp.Expr) -> exp.Expr:
    if type(node) is exp.Cast:
        return exp.TryCast(**node.args)
    if isinstance(node, exp.Date | exp.TsOrDsToDate) and not [k for k, v in node.args.items() if v and k != "this"]:
        return exp.TryCast(this=node.this, to=exp.DataType.build("DATE"))
    if isinstance(node, exp.StrToTime):
        return exp.Anonymous(this="try_strptime", expressions=[node.this, node.args["format"]])
    if isinstance(node, exp.Ln | exp.Sqrt | exp.Log) and not isinstance(node.parent, exp.If):
        number = node.expression if isinstance(node, exp.Log) and node.expression else node.this
        return exp.Case().when(number.copy() > 0, node)
    return node


def type_of(expression: str, columns: Mapping[str, str]) -> str:
    """Let the engine determine the type of an expression over one row, without any customer's data.

    Parameters
    ----------
    expression : str
        See `parse_scalar`; it is evaluated as `forgiving` writes it.
    columns : Mapping of str to str
        Name to type, as `ml.tables` calls it.

    Returns
    -------
    str
        The type, as `ml.tables` calls it; whole numbers are ``bigint``, all others ``double``.

    Raises
    ------
    RuleError
        If it is not allowed, cannot be computed with these types, or has a type that no column can have.

    Examples
    --------
    >>> type_of("spend / orders", {"spend": "double", "orders": "bigint"})
    'double'
    >>> type_of("channel > 5", {"channel": "string"})
    Traceback (most recent call last):
    ml.rules.RuleError: 'channel > 5' cannot be computed: Cannot compare values of type VARCHAR and type ...
    """
    tree = forgiving(parse_scalar(expression, columns))
    engine_type = _type(tree, expression, columns, {**_VALUES, "string": "'a'"})
    for pattern, type_ in _CONTRACT_TYPES.items():
        if re.fullmatch(pattern, engine_type):
            return type_
    raise RuleError(f"{expression!r} is of type {engine_type}, which no column can have: write CAST(… AS VARCHAR)")


_CONTRACT_TYPES = {
    r"VARCHAR": "string",
    r"BOOLEAN": "boolean",
    r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?": "bigint",
    r"DOUBLE|FLOAT|DECIMAL.*": "double",
    r"DATE": "date",
    r"TIMESTAMP.*": "timestamp",
}


def _type(tree: exp.Expr, expression: str, columns: Mapping[str, str], values: Mapping[str, str] = _VALUES) -> str:
    """DuckDB's type of an expression over one row of typed columns; of `values`, each type has one in it.

    Raises
    ------
    RuleError
        If it cannot be computed.
    """
    null = exp.cast(exp.null(), "DOUBLE")
    typed = tree.transform(lambda node: null.copy() if isinstance(node, exp.Placeholder) else node)
    row = ", ".join(f"{values.get(type_, 'NULL')}::{SQL[type_]} AS {quoted(name)}" for name, type_ in columns.items())
    try:
        result = sandbox().cursor().sql(f"SELECT ({typed.sql('duckdb', comments=False)}) AS x FROM (SELECT {row})")
        type_ = str(result.types[0])
        try:
            result.fetchall()  # a text that is compared with a number must be one
        except ConversionError:
            raise
        except QueryError:
            pass  # such as the logarithm of a negative number, which customers may not have
    except QueryError as error:
        problem = re.sub(r"^(\w+ )+Error: ", "", str(error).strip().partition("\n")[0])
        raise RuleError(f"{expression!r} cannot be computed: {problem}") from None
    return type_


def check_words(node: exp.Expr) -> None:
    """Check that a type or unit is a word, since sqlglot writes some of them without quoting.

    Parameters
    ----------
    node : exp.Expr
        A node of a parsed expression.

    Raises
    ------
    RuleError
        If it is not a word.

    Examples
    --------
    >>> check_words(exp.Var(this="day"))
    >>> check_words(exp.Var(this="day; DROP"))
    Traceback (most recent call last):
    ml.rules.RuleError: 'day; DROP' is no type or unit: write such as DOUBLE, VARCHAR or DATE, or 'day'
    """
    word = ""
    if isinstance(node, exp.DataType) and node.args.get("kind"):
        word = str(node.args["kind"])
    elif isinstance(node, exp.Var):
        word = node.name
    if not re.fullmatch(r"[\w.\- ]*", word.replace('"', "") if isinstance(node, exp.DataType) else word, re.ASCII):
        raise RuleError(f"{word!r} is no type or unit: write such as DOUBLE, VARCHAR or DATE, or 'day'")


def _nesting(node: exp.Expr) -> int:
    """The number of expressions around a node; a chain of ANDs or ORs counts as one."""
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

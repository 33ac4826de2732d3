"""What declarations must satisfy, before anything runs.

Belongs here: every mistake that a declaration can contain, each in a sentence with its remedy. Does not belong here:
where in the project file it is (see the project's checks).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from ml.features.declared.columns import NUMERIC, VALUED, declared_columns, parts, slug
from ml.features.declared.spec import DATED, EVER, By, DeclaredFeature, DeclaredSpec
from ml.rules import RuleError, nearest, type_of
from ml.tables import INPUTS

MAX_WINDOW_DAYS = 3660
MAX_COLUMNS = 5000
SHOWN_PROPERTIES = 12  # in a message
RESERVED = ("share_", "median_")  # shares of categories; medians in the rules of audiences
_NAME = re.compile(r"[^\W\d]\w{0,60}")
_NEEDS_OF = (*NUMERIC, "distinct", *VALUED)
_TAKES_OF = (*_NEEDS_OF, "share")
_KINDS = {
    "string": "a text", "boolean": "true or false", "date": "a day", "timestamp": "a time", "double": "a number",
    "bigint": "a number",
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """What is wrong with a declaration.

    Parameters
    ----------
    declaration : int
        Position of the declaration.
    key : str
        The key of it that is wrong.
    message : str
        What is wrong and what to do, in one sentence.

    Examples
    --------
    >>> Problem(0, "windows", "a window of 0 days holds nothing: write 1 or more, or ever").key
    'windows'
    """

    declaration: int
    key: str
    message: str


def problems(spec: DeclaredSpec, others: Mapping[str, str], reserved: Collection[str] = ()) -> list[Problem]:
    """Find everything that is wrong with a project's declarations.

    Parameters
    ----------
    spec : DeclaredSpec
        The declarations.
    others : Mapping of str to str
        The project's other features, with their types: ratios may use them, and no declaration may have their name.
    reserved : Collection of str
        Further names that no declaration may have.

    Returns
    -------
    list of Problem
        The problems, in the order of the declarations.

    Examples
    --------
    >>> spec = DeclaredSpec((DeclaredFeature("carts", "events", windows=0),))
    >>> [one.message for one in problems(spec, {})]
    ['a window of 0 days holds nothing: write 1 or more, or ever']
    """
    result = [problem for i, one in enumerate(spec.features) for problem in _of_one(spec, i, one)]
    unusable = {problem.declaration for problem in result}
    names = [(i, part.name) for i, one in enumerate(spec.features) if i not in unusable for part in parts(one)]
    if len(names) > MAX_COLUMNS:
        last = names[MAX_COLUMNS][0]
        return [Problem(last, "name", f"{len(names):,} features are declared: at most {MAX_COLUMNS:,} are possible")]
    first = {i: one.name for i, one in enumerate(spec.features)}
    result += _repeated(names, {name.lower() for name in (*others, *reserved)}, first)
    result = result or list(_of_ratios(spec, others))
    return sorted(result, key=lambda problem: problem.declaration)


def _of_one(spec: DeclaredSpec, i: int, feature: DeclaredFeature) -> Iterator[Problem]:
    if not _NAME.fullmatch(feature.name):
        yield Problem(i, "name", f"{feature.name[:60]!r}: begin with a letter; letters, digits and _ may follow")
    for prefix in RESERVED:
        if feature.name.lower().startswith(prefix):
            yield Problem(i, "name", f"names that begin with {prefix} are taken: call it such as {_other(feature)!r}")
    yield from (Problem(i, "windows", message) for message in _of_windows(feature))
    if feature.ratio is not None:
        for key in ("table", "where", "of", "by"):
            if getattr(feature, key):
                yield Problem(i, key, f"a ratio divides two features and has no {key}: leave it out")
        return
    if feature.table is None:
        yield Problem(
            i, "name", f"{feature.name} has no table: name {', '.join(DATED[:-1])} or {DATED[-1]}, or declare a ratio"
        )
        return
    types = spec.types(feature.table)
    yield from _of_measures(i, spec, feature, types)
    if feature.where:
        yield from _of_where(i, spec, feature, types)
    if feature.by is not None:
        yield from (Problem(i, "by", message) for message in _of_by(feature.by, feature.table, types))


def _other(feature: DeclaredFeature) -> str:
    return "own_" + feature.name


def _of_windows(feature: DeclaredFeature) -> Iterator[str]:
    if not feature.spans:
        yield "no window is listed: list days, or leave the key out for all of them"
    for window in feature.spans:
        if window != EVER and window < 1:
            yield f"a window of {window} days holds nothing: write 1 or more, or ever"
        elif window != EVER and window > MAX_WINDOW_DAYS:
            yield f"a window of {window:,} days is longer than ten years: write ever"
    for repeated in _twice(feature.spans):
        yield f"the window {repeated} is listed twice: leave one out"


def _of_measures(i: int, spec: DeclaredSpec, feature: DeclaredFeature, types: Mapping[str, str]) -> Iterator[Problem]:
    measures = feature.measures
    if not measures:
        yield Problem(i, "measure", "no measure is listed: list such as count, or leave the key out to count rows")
        return
    for measure in _twice(measures):
        yield Problem(i, "measure", f"{measure} is listed twice: leave one out")
    if not feature.of:
        if needing := [measure for measure in measures if measure in _NEEDS_OF]:
            yield Problem(i, "measure", f"{needing[0]} of what? Name a column or an expression under `of`")
        return
    if not any(measure in _TAKES_OF for measure in measures):
        yield Problem(
            i, "of", f"{measures[0]} is of rows, whatever they hold: leave `of` out, or measure distinct values"
        )
        return
    try:
        type_ = type_of(feature.of, types)
    except RuleError as error:
        yield Problem(i, "of", _with_hint(error, spec, feature.table or ""))
        return
    for measure in measures:
        if measure in (*NUMERIC, "share") and type_ not in ("double", "bigint"):
            remedy = {
                "string": "measure distinct, first, last or mode of it, or write TRY_CAST(… AS DOUBLE)",
                "boolean": "put it into `where`, and count",
            }.get(type_, "measure days_since instead, or write such as hour(…)")
            yield Problem(i, "of", f"{measure} of {feature.of!r}, which is {_KINDS[type_]}: {remedy}")
            return
        if measure in VALUED and type_ in ("date", "timestamp"):
            yield Problem(
                i,
                "of",
                f"{measure} of {feature.of!r}, which is {_KINDS[type_]}: measure days_since, or write such as year(…)",
            )
            return


def _of_where(i: int, spec: DeclaredSpec, feature: DeclaredFeature, types: Mapping[str, str]) -> Iterator[Problem]:
    try:
        type_ = type_of(feature.where, types)
    except RuleError as error:
        yield Problem(i, "where", _with_hint(error, spec, feature.table or ""))
        return
    if type_ != "boolean":
        yield Problem(i, "where", f"{feature.where!r} is not true or false but {_KINDS[type_]}: write a comparison")


def _with_hint(error: RuleError, spec: DeclaredSpec, table: str) -> str:
    """The message, and where a column of one's own is declared, with those that are."""
    if "which is not a column" not in str(error) or table not in ("transactions", "events"):
        return str(error)
    own = [name for name in spec.input(table).names if name not in INPUTS[table].names]
    declared = f": {', '.join(own[:SHOWN_PROPERTIES])}{' …' * (len(own) > SHOWN_PROPERTIES)}" if own else ""
    return f"{error} (columns of your own need a type in tables.{table}.properties{declared})"


def _of_by(by: By, table: str, types: Mapping[str, str]) -> Iterator[str]:
    type_ = next((type_ for name, type_ in types.items() if name.lower() == by.column.lower()), None)
    if type_ is None:
        yield f"{by.column!r} is not a column of {table}; {nearest(by.column, types)}"
        return
    if not by.values:
        yield f"no value of {by.column} is listed: list those that are to have a feature each"
        return
    accepted: tuple[type, ...] = {"string": (str,), "boolean": (bool,)}.get(type_, (int, float))
    if type_ in ("date", "timestamp"):
        yield f"{by.column} is {_KINDS[type_]}, which has no values to list: use windows, or a predicate in `where`"
        return
    for value in by.values:
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            quotes = f": put it in quotes, '{value}'" if type_ == "string" else ""
            yield f"{by.column} is {_KINDS[type_]}, and {value!r} is not{quotes or ': list values of its kind'}"
            return
        if not slug(value):
            yield f"{value!r} has no letter or digit for a column's name: declare a feature of its own with `where`"
    for repeated in _twice([slug(value) for value in by.values]):
        named = ", ".join(repr(value) for value in by.values if slug(value) == repeated)
        remedy = "list one, and declare a feature with `where` for several values"
        yield f"{named} would be one column, …_by_{repeated}: {remedy}"


def _twice(values: Sequence[object]) -> list[object]:
    return list(dict.fromkeys(value for i, value in enumerate(values) if value in values[:i]))


def _repeated(names: Sequence[tuple[int, str]], taken: Collection[str], called: Mapping[int, str]) -> Iterator[Problem]:
    """One problem for each declaration that gives a name once more; `called` has the declarations' own names."""
    declared_by: dict[str, int] = {}
    reported: set[int] = set()
    for declaration, name in names:
        message = ""
        if name.lower() in taken:
            message = f"{name!r} is the name of a feature that exists already: choose another"
        elif (other := declared_by.setdefault(name.lower(), declaration)) != declaration:
            message = (
                f"two declarations give a feature called {name!r}, the other is number {other + 1} of the list "
                f"({called[other]}): rename one"
            )
        if message and declaration not in reported:
            reported.add(declaration)
            yield Problem(declaration, "name", message)


def _of_ratios(spec: DeclaredSpec, others: Mapping[str, str]) -> Iterator[Problem]:
    columns = declared_columns(spec)
    types = {**others, **{column.name: column.column.type for column in columns}}
    needs: dict[str, set[str]] = {}
    position = {column.name: column.declaration for column in columns}
    for column in columns:
        if column.ratio is None:
            continue
        needs[column.name] = {column.ratio.of, column.ratio.to}
        for name in (column.ratio.of, column.ratio.to):
            if name not in types:
                yield Problem(column.declaration, "ratio", f"{name!r} is not a feature; {nearest(name, types)}")
                return
            if types[name] not in ("double", "bigint"):
                message = f"{name!r} is {_KINDS[types[name]]}: a ratio divides two numbers"
                yield Problem(column.declaration, "ratio", message)
                return
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        circle = [name for name in error.args[1] if name in position]
        yield Problem(
            min(position[name] for name in circle), "ratio",
            f"ratios in a circle, {' → '.join(circle)}: let one of them divide features that are no ratios",
        )  # fmt: skip

"""What is wrong with a project file, in sentences: file, line, key, what is wrong, what to do.

Belongs here: the wording of what pydantic reports. Does not belong here: what may be wrong (see `settings` and
`checks`).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from microseg_assets.project.document import Document, Location
from microseg_assets.project.settings import Project
from ml.rules import nearest

_PLAINER = {
    "dict_type": "must contain keys and values",
    "model_type": "must contain keys and values",
    "dataclass_type": "must contain keys and values",
    "tuple_type": "must be a list",
    "date_from_datetime_parsing": "must be a day, such as 2024-01-31",
    "date_from_datetime_inexact": "must be a day, such as 2024-01-31",
    "date_parsing": "must be a day, such as 2024-01-31",
    "date_type": "must be a day, such as 2024-01-31",
    "string_type": "must be text; put it in quotes",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_type": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_pattern_mismatch": "must be at most 41 lower-case letters, digits or _, beginning with a letter",
}


_ABSENT = ("missing", "missing_argument")


def quoted(location: Iterable[Any]) -> str:
    """A key with all keys above it, in quotes: ``'segments.layers.0.name'``."""
    return repr(".".join(map(str, location)))


def sentences(document: Document, errors: Iterable[Any], old_names: Mapping[Location, Location]) -> list[str]:
    """What pydantic reports of a file, one sentence for each key.

    Parameters
    ----------
    document : Document
        The file.
    errors : iterable of dict
        `ValidationError.errors()`.
    old_names : mapping of tuple to tuple
        Location of each renamed setting, to its location as the file has it.
    """
    written = [{**error, "loc": _as_written(error["loc"], old_names)} for error in errors]
    return [_sentence(document, error) for error in _one_for_each_key(document, written)]


def _as_written(location: Location, old_names: Mapping[Location, Location]) -> Location:
    for new, old in old_names.items():
        if location[: len(new)] == new:
            return (*old, *location[len(new) :])
    return location


def _one_for_each_key(document: Document, errors: Collection[Any]) -> list[Any]:
    """The first error of each key, for of `X | Y` pydantic reports one for each of X and Y."""
    by_location: dict[Location, Any] = {}
    for error in errors:
        location = list(error["loc"])
        while location and error["type"] not in _ABSENT and not document.has(location):
            location.pop()
        first = by_location.setdefault(tuple(location), {**error, "loc": tuple(location)})
        if error["type"] == "literal_error" and first["type"] != "literal_error":  # a number, or a word such as auto
            first["or"] = error["ctx"]["expected"]
    return list(by_location.values())


def _sentence(document: Document, error: Any) -> str:
    location = error["loc"]
    position, key = document.position(location), ".".join(map(str, location)) or "the file"
    kind, message = error["type"], error["msg"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{position}: unknown key {key!r}; {nearest(str(location[-1]), _known_keys(location[:-1]))}"
    if kind in _ABSENT:
        return f"{position}: {key!r} is missing; add it"
    message = _PLAINER.get(kind, message.removeprefix("Value error, "))
    alternative = f", or {error['or']}" if "or" in error else ""
    value = "" if kind == "value_error" else f" (it is {error['input']!r:.80})"
    return f"{position}: {key!r}: {message[:1].lower()}{message[1:]}{alternative}{value}"


def _known_keys(location: Location) -> list[str]:
    """Names of the keys that may be given under a location of the project file."""
    kind: Any = Project
    for part in location:
        if isinstance(part, int):
            kind = next((a for a in typing.get_args(kind) if a is not Ellipsis), kind)
        elif typing.get_origin(kind) is dict:  # of settings by a name of the user's own
            kind = typing.get_args(kind)[1]
        else:
            kind = _fields(kind).get(part, dict)
        kind = _unwrapped(kind)
    return list(_fields(kind))


def _unwrapped(kind: Any) -> Any:
    """The type inside of `X | None`."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(a for a in typing.get_args(kind) if a is not type(None))
    return kind


def _fields(kind: Any) -> dict[str, Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: info.annotation for name, info in kind.model_fields.items()}
    if dataclasses.is_dataclass(kind):
        return typing.get_type_hints(kind)
    return {}

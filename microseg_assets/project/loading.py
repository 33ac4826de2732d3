"""Reading a project file: from a name or path to a validated `Project`.

Belongs here: the steps and their order, and settings that were renamed. Does not belong here: how a file is looked up,
parsed and checked, and how messages are worded (see the modules beside this one).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from microseg_assets.project.checks import inconsistencies
from microseg_assets.project.document import Document, Location
from microseg_assets.project.lookup import ProjectError, RenamedSetting, find
from microseg_assets.project.messages import quoted, sentences
from microseg_assets.project.settings import Project
from ml.layers.specs import RENAMED

_YAML_TYPES = {type(None): "nothing", list: "a list", str: "text", int: "a number", float: "a number", bool: "a yes"}
_WARNINGS_GIVEN: set[str] = set()


def load(name: str) -> Project:
    """Read and validate a project file, by name or path.

    Raises
    ------
    ProjectError
        With every problem of the file, one a line: file, line, key, what is wrong, what to do.
    """
    document = Document.read(find(name))
    content = document.content()
    if not isinstance(content, Mapping):
        type_name = _YAML_TYPES.get(type(content), "something else")
        raise ProjectError(
            f"{document.path}: must contain keys and values, such as `name: my_shop`; it contains {type_name}"
        )
    content = dict(content)
    old_names = _rename(document, content)
    try:
        project = Project.model_validate(content)
    except ValidationError as error:
        raise ProjectError("\n".join(sentences(document, error.errors(), old_names))) from None
    if problems := [
        f"{document.position(location)}: {quoted(location)}: {message}"
        for location, message in inconsistencies(project)
    ]:
        raise ProjectError("\n".join(problems))
    project._path = document.path
    return project


def _rename(document: Document, content: dict[str, Any]) -> dict[Location, Location]:
    """Give settings their present names, in place, with a warning each.

    Returns
    -------
    dict of tuple to tuple
        Location of a setting under its present name, to its location as the file has it.

    Raises
    ------
    ProjectError
        If a setting is given under both names.
    """
    old_names: dict[Location, Location] = {}
    segments = content.get("segments")
    layers = segments.get("layers") if isinstance(segments, dict) else None
    for number, layer in enumerate(layers if isinstance(layers, list) else []):
        for old in sorted(RENAMED.keys() & layer.keys() if isinstance(layer, dict) else ()):
            location, new = ("segments", "layers", number, old), RENAMED[old]
            key = f"{document.position(location)}: {quoted(location)}"
            if new in layer:
                raise ProjectError(f"{key} is called {new} now, which is given too; remove the old one")
            layer[new] = layer.pop(old)
            old_names["segments", "layers", number, new] = location
            message = f"{key} is called {new} now; rename it"
            if message not in _WARNINGS_GIVEN:  # a command reads its project file more than once
                _WARNINGS_GIVEN.add(message)
                warnings.warn(message, RenamedSetting, stacklevel=3)
    return old_names

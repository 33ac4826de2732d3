"""A project file as YAML: what it contains, and in which line each key is.

Belongs here: parsing, and positions for error messages. Does not belong here: which keys there are and what they mean.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from microseg_assets.project.lookup import ProjectError

Location = tuple[str | int, ...]  # keys and indices from the top of the file to a value


@dataclass(frozen=True)
class Document:
    """The text of a YAML file and its syntax tree, in which every node knows its line.

    Parameters
    ----------
    path : Path
        The file, as messages name it.
    text : str
        Its content.
    root : yaml.Node or None
        The syntax tree; None for a file that is empty or cannot be read.
    """

    path: Path
    text: str
    root: yaml.Node | None

    @classmethod
    def read(cls, path: Path) -> Document:
        """Parse a file.

        Raises
        ------
        ProjectError
            If it is not UTF-8 text or not YAML.
        """
        with _as_project_error(path):
            text = path.read_text(encoding="utf-8")
            return cls(path, text, yaml.compose(text, Loader=_Loader))

    def content(self) -> Any:
        """What the file contains, as dictionaries, lists and scalars; dates stay text.

        Raises
        ------
        ProjectError
            If a key is given twice, or a tag is not one of plain YAML.
        """
        with _as_project_error(self.path):
            return yaml.load(self.text, Loader=_Loader)

    def has(self, location: Iterable[str | int]) -> bool:
        """Whether the file gives a value at a location."""
        node = self.root
        for part in location:
            node = _child(node, part)
        return node is not None

    def position(self, location: Iterable[str | int]) -> str:
        """File and line of a key; if the file does not have it, of the innermost key above it."""
        node = self.root
        mark = node.start_mark if node is not None else None
        for part in location:
            if isinstance(node, yaml.MappingNode):
                mark = next((key.start_mark for key, _ in node.value if key.value == str(part)), mark)
            node = _child(node, part)
            if node is None:
                break
            if isinstance(part, int):
                mark = node.start_mark
        return f"{self.path}:{mark.line + 1}" if mark else str(self.path)


class _Loader(yaml.SafeLoader):
    """YAML without two silent surprises: of a key given twice, the last value would win, and text that looks like a
    date would become one before a message could quote it."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in lines:
                    problem = f"the key {key.value!r} is given twice, first in line {lines[key.value]}; remove one"
                    raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
                lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


@contextmanager
def _as_project_error(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ProjectError(f"{path}: is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        position = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
        raise ProjectError(f"{position}: is not YAML: {problem}") from None


def _child(node: yaml.Node | None, part: str | int) -> yaml.Node | None:
    """The value under a key or index."""
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        value: yaml.Node = node.value[part]
        return value
    return None

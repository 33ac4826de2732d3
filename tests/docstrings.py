"""What a public docstring of `ml` must have: numpydoc's sections in numpydoc's form, types, and an example that runs.

`python -m tests.docstrings [PACKAGE ...]` lists what is missing, by numpydoc's codes. Public is what a package lists in
`__all__`, with the public methods of its classes, and what the modules at the top of `ml` define without an underscore.
"""

from __future__ import annotations

import doctest
import enum
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from numpydoc.validate import validate

import ml

# What numpydoc offers and this project does not ask for: a style, of all functions alike.
NOT_ASKED = {
    "GL01",  # the summary begins on the line of the quotes, as PEP 257 allows
    "GL03",  # a blank line at the end
    "ES01",  # an extended summary: asked for by readers, not by a rule
    "SA01",  # "See Also": modules name their neighbours in their own docstring
}
# Types do not show an annotation twice.
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def packages() -> list[str]:
    """Packages and top modules of `ml`, by name."""
    return [m.name for m in pkgutil.walk_packages(ml.__path__, "ml.") if m.ispkg or m.name.count(".") == 1]


def public(package: str) -> Iterator[tuple[str, Any]]:
    """Dotted name and object of what a package or a top module offers."""
    module = importlib.import_module(package)
    names = getattr(module, "__all__", None)
    if names is None:
        names = [name for name, value in vars(module).items() if _is_own(value, module) and not name.startswith("_")]
    for name in names:
        value = getattr(module, name)
        if not (inspect.isfunction(value) or inspect.isclass(value)):
            continue
        yield f"{package}.{name}", value
        if inspect.isclass(value):
            for key, member in vars(value).items():
                if not key.startswith("_") and isinstance(
                    member, property | classmethod | staticmethod | type(packages)
                ):
                    yield f"{package}.{name}.{key}", member


def _is_own(value: Any, module: ModuleType) -> bool:
    return (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__ == module.__name__


def wants_example(value: Any) -> bool:
    """Whether an example is asked for: of functions and classes, not of methods, codes, errors and protocols."""
    if inspect.isclass(value):
        return not issubclass(value, enum.Enum | BaseException) and not getattr(value, "_is_protocol", False)
    return inspect.isfunction(value) and "." not in value.__qualname__


def _has_library_signature(value: type) -> bool:
    """Whether a class is made by a signature that is not its own: of an enumeration's members, or of a protocol."""
    return issubclass(value, enum.Enum) or getattr(value, "_is_protocol", False)


def shortcomings(package: str) -> list[str]:
    """What the public docstrings of a package lack, each as `name: code sentence`."""
    result = []
    for name, value in public(package):
        for code, sentence in validate(name)["errors"]:
            if code == "PR01" and inspect.isclass(value) and _has_library_signature(value):
                continue
            if code not in NOT_ASKED and (code != "EX01" or wants_example(value)):
                result.append(f"{name}: {code} {sentence}")
    return result


def modules() -> list[str]:
    """Every module of `ml`, by name."""
    return [m.name for m in pkgutil.walk_packages(ml.__path__, "ml.")]


def run_examples(name: str) -> doctest.TestResults:
    """Run the examples of a module and of what it defines."""
    return doctest.testmod(importlib.import_module(name), optionflags=FLAGS)


if __name__ == "__main__":
    asked = sys.argv[1:] or packages()
    every = [line for package in asked for line in shortcomings(package)]
    print("\n".join(every) or "none")
    inside = [name for name in modules() if any(name == one or name.startswith(f"{one}.") for one in asked)]
    failed = sum(run_examples(name).failed for name in inside)
    sys.exit(bool(every or failed))

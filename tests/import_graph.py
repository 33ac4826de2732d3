"""Who imports whom, read from the source: imports under `TYPE_CHECKING` and inside functions count like all others.

Belongs here: the graph of the modules of our packages, and its circles. Does not belong here: who may import whom
(`importlinter` in pyproject.toml).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
Graph = dict[str, set[str]]


def modules(packages: Iterable[str], root: Path = ROOT) -> dict[str, ast.Module]:
    """Dotted name to syntax tree of every module; a package goes by its own name."""
    read = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            read[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        assert package in read, f"no package {package} in {root}"
    return read


def import_graph(trees: Mapping[str, ast.Module]) -> Graph:
    """Module to the modules that it imports.

    Whoever takes a name from a package depends on the package's `__init__` and on the module that defines the name, and
    whoever imports a module of a package that it is not part of, runs that package's `__init__` as well. Modules of one
    package that import each other by their whole names do not depend on the package.
    """
    graph = {}
    for name, tree in trees.items():
        others = set(_imported(tree, trees))
        others |= {around for other in others for around in _around(other) if not f"{name}.".startswith(f"{around}.")}
        graph[name] = others - {name}
    return graph


def _around(module: str) -> Iterator[str]:
    """The packages that a module lies in."""
    while module := module.rpartition(".")[0]:
        yield module


def _imported(tree: ast.Module, trees: Mapping[str, ast.Module]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in trees)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "write the whole name, not a relative import"
            for alias in node.names:
                yield from _home_of(node.module, alias.name, trees)


def _home_of(module: str, name: str, trees: Mapping[str, ast.Module]) -> Iterator[str]:
    """The modules that `from module import name` depends on: through `__init__` files to where the name is defined."""
    if module not in trees:
        return
    yield module
    if f"{module}.{name}" in trees:
        yield f"{module}.{name}"
        return
    for node in ast.walk(trees[module]):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name and node.module != module:
                    yield from _home_of(node.module, alias.name, trees)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The strongly connected components of more than one module (Tarjan 1972), each in alphabetical order."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                result.append(sorted(component))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return sorted(result)

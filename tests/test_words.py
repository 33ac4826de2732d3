"""A decision is made by codes and figures: no module reads one out of the words that were made of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("microseg_assets", "ml", "expectations")
PROSE = {"doubt", "message", "note", "reason", "remark", "said", "sentence", "why", "words"}  # what holds words
ASKING = {"startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "find", "index", "count"}
MATCHING = {"search", "match", "fullmatch", "findall", "sub", "split"}

# Words of others, and of customers: their libraries and tills give no codes.
NOT_OURS = {
    ("microseg_assets/project/messages.py", "message.removeprefix('Value error, ')"),  # pydantic's
    ("microseg_assets/runs.py", "'DagsterExecutionInterruptedError' in cause.message"),  # Dagster's
    ("ml/profile/labels.py", "re.fullmatch(words, part)"),  # a value as it was delivered
}


def is_prose(node: ast.expr) -> bool:
    """Whether an expression is called as words are: a name, an attribute, or a column of a row."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "str" and node.args:
        return is_prose(node.args[0])
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value in PROSE
    return (node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")) in PROSE


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and bool(node.value) and _is_str(node))


def _is_str(node: ast.Constant) -> bool:
    return isinstance(node.value, str)


def readings(source: str) -> Iterator[tuple[int, str]]:
    """Line and expression of each place that takes words apart, or holds them against a text."""
    for node in ast.walk(ast.parse(source)):
        is_matched = False
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            asked, method = node.func.value, node.func.attr
            is_matched = method in ASKING and is_prose(asked)
            is_matched |= method == "split" and bool(node.args) and is_prose(asked)
            is_matched |= method in MATCHING and any(is_prose(one) for one in node.args)
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            is_matched = any(map(is_prose, sides)) and any(map(is_text, sides))
        if is_matched:
            yield node.lineno, ast.unparse(node)  # type: ignore[attr-defined]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_parses_its_own_prose(package: str) -> None:
    matches = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for line, text in readings(path.read_text(encoding="utf-8"))
        if (path.relative_to(ROOT).as_posix(), text) not in NOT_OURS
    ]
    assert matches == []


@pytest.mark.parametrize(
    "line",
    [
        're.search(r"asks for (\\d+)", layer.reason)', 'reading.note.startswith("days")', '"say their zone" in note',
        'row["reason"].removeprefix("no action: ")', 'self.reason == f"the project file asks for {n}"',
        'str(why).partition(": ")', 're.sub("[0-9]", "#", reason)',
    ],
)  # fmt: skip
def test_matching_on_prose_is_detected(line: str) -> None:
    assert list(readings(line))

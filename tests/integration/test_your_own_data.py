"""The page "Your own data", followed as a new user would: its commands run, and say what it says they say."""

from __future__ import annotations

import os
import random
import re
import shlex
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
import yaml
from click.testing import CliRunner
from pydantic import TypeAdapter

from microseg_assets import project as projects
from microseg_assets.cli.main import main
from microseg_assets.project import Project
from ml import tables
from ml.features.declared.columns import parts
from ml.features.declared.spec import DeclaredFeature, Measure
from ml.rules import parse_scalar

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "your-own-data.md").read_text(encoding="utf-8")
BEGIN = datetime(2024, 1, 1)
DAYS = 100


def bestellungen(path: Path) -> None:
    """Orders as a German spreadsheet exports them: 300 customers who buy every now and then, for a hundred days."""
    chance = random.Random(7)
    lines = []
    for customer in range(300):
        gap = chance.uniform(2, 25)
        day = chance.uniform(0, 30)
        while day < DAYS:
            stamp = BEGIN + timedelta(days=day)
            for _ in range(chance.choice((1, 1, 2, 3))):
                amount = f"{chance.lognormvariate(2.5, 0.8):,.2f}".translate(str.maketrans(",.", ".,"))
                group = chance.choice(("Brot", "Käse", "Wein", "Obst"))
                saved = chance.choice(("", "", "", "0,50", "2,00"))
                who = f"B{customer:03d}{int(day):03d};{40_000 + customer}"
                lines.append((stamp, f"{who};{stamp:%d.%m.%Y %H:%M};{amount};{group};{saved}"))
            day += chance.expovariate(1 / gap)
    text = "Bon-Nr.;Kunden-Nr.;Kaufzeit;Umsatz netto (€);Warengruppe;Rabatt\n" + "\n".join(
        line for _, line in sorted(lines)
    )
    path.write_text(text + "\n", encoding="utf-8-sig")


def commands() -> list[str]:
    """What the page tells to type, in order, without what starts a server."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    typed = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in typed if " ui " not in line]


def outputs() -> dict[str, list[str]]:
    """Command to the lines that the page shows of its output; a line `…` stands for what was left out."""
    names: dict[str, list[str]] = {}
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        command = ""
        for line in block.splitlines():
            if line.startswith("$ "):
                command = line.removeprefix("$ ")
            elif line.strip() not in ("", "…"):
                names.setdefault(command, []).append(line)
    return names


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every command of the page, run in a new user's folder, with all it says; only `run` in a process of its own."""
    folder = tmp_path_factory.mktemp("user")
    bestellungen(folder / "bestellungen.csv")
    spoken = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MICROSEG_HOME", str(folder / ".microseg"))
        for name in ("MICROSEG_PROJECT", "DAGSTER_HOME", "MLFLOW_TRACKING_URI", "MICROSEG_LAKE"):
            patch.delenv(name, raising=False)
        for command in commands():
            code, spoken[command] = _typed(shlex.split(command))
            assert code == 0, f"{command}\n{spoken[command]}"
    return spoken


def _typed(words: list[str]) -> tuple[int, str]:
    """Exit code and all that is said."""
    if words[0] == ".venv/bin/microseg" and words[1] != "run":
        result = CliRunner().invoke(main, words[1:], catch_exceptions=False)
        return result.exit_code, result.output
    if words[0] == ".venv/bin/microseg":
        words = [sys.executable, "-m", "microseg_assets.cli", *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


def test_the_page_leads_from_a_file_to_segments() -> None:
    verbs = [words[1] for command in commands() if (words := shlex.split(command))[0].endswith("microseg")]
    assert verbs[:3] == ["new", "check", "run"] and {"show", "status"} <= set(verbs)


@pytest.mark.parametrize("command", outputs())
def test_a_command_says_what_the_page_shows(said: dict[str, str], command: str) -> None:
    spoken = {_bare(line) for line in said[command].splitlines()}
    for line in outputs()[command]:
        assert _bare(line) in spoken, f"{command} does not say: {line}\n{said[command]}"


def _bare(line: str) -> str:
    """A line without what differs from one machine, or from one better model, to the next: folders and figures."""
    line = re.sub(r"\S*/(?=[\w.]+\.yaml)", "", line)
    is_result = re.match(r"  (active|star|reengaged|churn) +\d", line)
    return re.sub(r"[\d,.]+", "0", " ".join(line.split())) if is_result else line.rstrip()


# ── the rest of the page ──────────────────────────────────────────────────────────────────────────────────────────


def columns_of(table: tables.Table) -> str:
    lines = [f"**{table.name}**: {table.meaning}", "", "| column | type | meaning |", "|---|---|---|"]
    for column in table.columns:
        name = f"**{column.name}**" if column.required else column.name
        unit = f" ({column.unit})" if column.unit else ""
        lines.append(f"| {name} | {column.type} | {column.meaning}{unit} |")
    return "\n".join(lines)


@pytest.mark.parametrize("table", tables.INPUTS)
def test_the_columns_on_the_page_are_the_declared_ones(table: str) -> None:
    assert columns_of(tables.INPUTS[table]) in PAGE, columns_of(tables.INPUTS[table])


def snippets() -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", snippets())
def test_every_piece_of_a_project_file_on_the_page_is_one(text: str, tmp_path: Path) -> None:
    base = {"name": "shop", "start": "2024-01-01", "tables": {"transactions": {"path": "sales.csv"}}}
    piece = yaml.safe_load(text)
    merged = {**base, **piece, "tables": {**base["tables"], **piece.get("tables", {})}}  # type: ignore[dict-item]
    file = tmp_path / "shop.yaml"
    file.write_text(yaml.safe_dump(merged), encoding="utf-8")
    project = projects.load(str(file))
    for name in tables.INPUTS:
        spec = getattr(project.tables, name)
        for expression in spec.columns.values() if spec else ():
            if re.search(r"[(*]", str(expression)):
                parse_scalar(str(expression))


def test_four_lines_are_400_features_and_ten_are_ten(tmp_path: Path) -> None:
    counts = []
    for text in snippets():
        if (declared := (yaml.safe_load(text).get("features") or {}).get("declared")) is not None:
            features = TypeAdapter(tuple[DeclaredFeature, ...]).validate_python(declared)
            counts.append(sum(1 for feature in features for _ in parts(feature)))
    assert counts == [10, 400, 7, 5]


def test_the_examples_of_measures_are_declarations_and_every_measure_has_one(tmp_path: Path) -> None:
    table = PAGE[PAGE.index("**What can be measured**") :].partition("**Windows**")[0]
    examples = [yaml.safe_load(text) for text in re.findall(r"`(\{name: .*?\})` \|", table)]
    assert {one.get("measure", "count") for one in examples} | {"min", "last"} == set(get_args(Measure))
    file = tmp_path / "shop.yaml"
    files = {"transactions": {"path": "sales.csv"}, "events": {"path": "visits.csv"}}
    project = {"name": "shop", "start": "2024-01-01", "tables": files, "features": {"declared": examples}}
    file.write_text(yaml.safe_dump(project), encoding="utf-8")
    assert len(projects.load(str(file)).features.declared) == len(examples) == 11


def test_every_key_of_the_project_file_is_on_the_page() -> None:
    for key in Project.model_fields:
        assert f"`{key}`" in PAGE, key

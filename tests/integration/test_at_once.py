"""Several processes start in a new state folder: one sets it up, the others wait."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest

PROJECT = """\
name: {name}
start: 2024-01-01
end: 2024-01-20
tables:
  transactions: {{path: sales.csv}}
"""
# What a run, the UI and a look into MLflow's registry do before anything else, as near to each other as can be.
OPENED = """
import sys, time
from pathlib import Path
import mlflow, dagster
from microseg_assets.home import Home
home = Home(Path(sys.argv[1]))
time.sleep(max(0.0, float(sys.argv[3]) - time.time()))
if sys.argv[2] == "tracking":
    home.folder.mkdir(parents=True, exist_ok=True)
    home.tracking("p").monitor("value", {})
else:
    home.prepare()
    with dagster.DagsterInstance.get() as instance:
        assert instance.get_runs() == []
    home.tracking(sys.argv[2]).monitor("value", {})
"""


def started(home: Path, commands: Sequence[Sequence[str]], **more: str) -> list[tuple[int, str]]:
    """Exit code and output of processes that run at the same time."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DAGSTER_HOME", "MLFLOW"))}
    processes = [
        subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**environment, "MICROSEG_HOME": str(home), "PYTHONPATH": os.getcwd(), **more},
        )
        for command in commands
    ]  # fmt: skip
    outputs = [process.communicate()[0] for process in processes]
    return [(process.returncode, output) for process, output in zip(processes, outputs, strict=True)]


@pytest.mark.parametrize("second", ["b", "tracking"])
def test_the_first_process_makes_the_databases_and_the_others_use_them(second: str, tmp_path: Path) -> None:
    start = str(time.time() + 15)  # once all of them have loaded what they need
    commands = [["-c", OPENED, str(tmp_path / "home"), name, start] for name in ("a", second, "c")]
    for code, output in started(tmp_path / "home", commands):
        assert code == 0, output


def test_two_projects_run_concurrently_in_a_fresh_folder_and_both_succeed(tmp_path: Path) -> None:
    first = date(2024, 1, 1)
    commands = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        rows = [f"c{i % 7},{first + timedelta(days=i % 20)},5" for i in range(140)]
        (folder / "sales.csv").write_text("\n".join(["customer_id,occurred_at,amount", *rows]), encoding="utf-8")
        (folder / f"{name}.yaml").write_text(PROJECT.format(name=name), encoding="utf-8")
        run = ["run", "-p", str(folder / f"{name}.yaml"), "--from", "2024-01-03"]
        commands.append(["-m", "microseg_assets.cli", *run])
    commands.append(["-m", "microseg_assets.cli", "status", "-p", str(tmp_path / "one" / "one.yaml")])
    for code, output in started(tmp_path / "home", commands):
        assert code == 0, output
    for name in ("one", "two"):
        assert (tmp_path / "home/lake" / name / "segment_atlas/day=2024-01-03/atlas.html").exists()

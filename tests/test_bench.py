"""The benchmark of the engine room: it runs, its results are complete, and its arithmetic is right."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from microseg_assets.assets import CHAIN
from microseg_assets.families import FAMILIES
from microseg_assets.workspace import raw_name
from ml.tables import INPUTS
from tests.benchmarks.engine import data, measure, report
from tests.benchmarks.engine.__main__ import main
from tests.benchmarks.engine.system import LIKE_FOR_LIKE

TERMINAL = 80
TABLES = {"transactions", "customers", "exposures"}  # of the synthetic business
SWITCHED_OFF = {name for table in INPUTS if table not in TABLES for name in (table, raw_name(table))}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bench")
    main(
        [
            "--customers",
            "500",
            "--days",
            "29",
            "--runs",
            "1",
            "--backfill",
            "2",
            "--no-notebook",
            "--folder",
            str(folder),
        ]
    )
    stored: dict[str, Any] = json.loads((folder / "latest.json").read_text())
    return stored


def test_results_of_a_small_run_are_complete(results: dict[str, Any]) -> None:
    assert set(results) == {
        "date", "commit", "machine", "versions", "options", "results", "growth", "limits", "minutes"
    }  # fmt: skip
    assert all(results["machine"][name] for name in ("processor", "cores", "memory_gb", "system", "python"))
    (result,) = results["results"]
    assert set(report.PHASES) <= set(result["system"])
    for phase in report.PHASES:
        took = result["system"][phase]
        assert took["seconds"] > took["import_seconds"] > 0
        assert took["processor_seconds"] > 0
        in_assets = sum(asset["seconds"] for asset in took["assets"].values())
        assert 0 < in_assets < took["seconds"]
        for name, asset in took["assets"].items():
            assert 50 < asset["peak_mb"] <= took["peak_mb"], (phase, name)
            assert 0 <= asset["import_seconds"] <= asset["seconds"], (phase, name)
    assert all(seconds > 0 for name, seconds in result["floor"]["parts"].items() if name != "lightgbm_predict")


def test_every_asset_of_the_chain_is_measured(results: dict[str, Any]) -> None:
    system = results["results"][0]["system"]
    chain = {asset.name for asset in CHAIN} - SWITCHED_OFF
    assert set(system["first_run"]["assets"]) == chain
    trained = set(system["training_week"]["assets"])
    assert {family.asset for family in FAMILIES.values()} <= trained
    assert set(system["next_day"]["assets"]) == chain - trained
    assert set(system["backfill"]["assets"]) == set(LIKE_FOR_LIKE)


def test_table_fits_a_terminal_and_the_readme(results: dict[str, Any]) -> None:
    printed = list(report.lines(results))
    assert max(map(len, printed[2:])) <= TERMINAL  # the two lines before say on which machine
    assert all(any(name in row for row in printed) for name in results["results"][0]["system"]["first_run"]["assets"])
    rows = [row for row in report.markdown(results) if row.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1
    assert len(rows) == 2 + 2 + len(report.PHASES) + 1


def test_an_earlier_run_is_printed_again(results: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    stored = tmp_path / "results.json"
    stored.write_text(json.dumps(results))
    main(["--from", str(stored), "--readme", "--folder", str(tmp_path)])
    assert capsys.readouterr().out.splitlines() == list(report.markdown(results))


@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.4])
def test_exponent_is_that_of_what_grows(exponent: float) -> None:
    sizes = [10_000, 100_000, 1_000_000]
    seconds = [20 + 0.5 * (size / sizes[0]) ** exponent for size in sizes]
    assert report.growth(sizes, seconds) == pytest.approx(exponent, abs=0.02)
    assert report.growth(sizes[:2], seconds[:2]) is None  # two sizes cannot tell fixed costs from growth


def test_limits_compare_with_the_notebook_of_the_same_size() -> None:
    def of(customers: int, seconds: float) -> dict[str, Any]:
        took = {"seconds": seconds, "seconds_after_imports": seconds, "import_seconds": 0.0, "peak_mb": 1024.0}
        notebook = {"seconds": 10.0, "peak_mb": 1024.0, "day_seconds": 3.0}
        return {
            "customers": customers, "system": {"training_week": {**took, "assets": {}}}, "notebook": notebook,
            "floor": None,
        }  # fmt: skip

    judged = report.judged({"results": [of(2_500, 10.0), of(100_000, 8.1)]})
    assert [(row["customers"], row["unit"], row["is_kept"]) for row in judged] == [
        (2_500, "N", True), (100_000, "N", False), (100_000, "N's memory", True),
    ]  # fmt: skip


def test_memory_of_a_child_and_imports_are_seen(tmp_path: Path) -> None:
    program = """
        import subprocess, sys, time
        import json.tool
        time.sleep(.3)
        began = time.time()
        subprocess.run([sys.executable, "-c", "import time; x = bytearray(200_000_000); time.sleep(.5)"])
        print(began, time.time())
        time.sleep(.3)
    """
    took = measure.run([sys.executable, "-X", "importtime", "-c", textwrap.dedent(program)], folder=tmp_path)
    began, ended = map(float, took.output.split())
    assert 200 < took.peak_mb < 300
    assert took.peak_within(began, ended) > 200 > 100 > took.peak_within(took.started, began - 0.1)
    assert 0 < took.import_seconds() < took.seconds - 1.0
    assert took.import_seconds(began, ended) < took.import_seconds(took.started, began)


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(measure.CommandFailed, match="no such luck"):
        measure.run([sys.executable, "-c", "raise SystemExit('no such luck')"], folder=tmp_path)


def test_business_buys_about_fifty_times_in_four_hundred_days(tmp_path: Path) -> None:
    data.write(2_000, tmp_path)
    bought = pq.read_table(tmp_path / "transactions.parquet")
    stamps = bought["occurred_at"].to_numpy()
    days = (stamps - np.datetime64(data.START)) / np.timedelta64(1, "D")
    assert len(bought) / 2_000 == pytest.approx(data.PER_CUSTOMER, rel=0.05)
    assert (np.diff(days) >= 0).all()
    assert 0 <= days.min() < 1
    assert data.DAYS <= days.max() < data.DAYS + 1
    again = tmp_path / "again"
    data.write(2_000, again)
    assert all(file.read_bytes() == (again / file.name).read_bytes() for file in tmp_path.glob("*.parquet"))

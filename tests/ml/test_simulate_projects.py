"""`microseg simulate` writes what `microseg run` reads as it is."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
import pytest

from microseg_assets import project as projects
from microseg_assets.cli.simulate import simulate
from microseg_assets.project import ProjectError

PRESETS: tuple[Literal["retail", "gaming"], ...] = ("retail", "gaming")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_the_project_file_finds_every_row(
    preset: Literal["retail", "gaming"], format: Literal["parquet", "csv"], tmp_path: Path
) -> None:
    file = simulate(preset, customers=200, days=90, seed=2, folder=tmp_path / "new" / "shop", format=format)
    project = projects.load(str(file))
    assert (project.start, project.end) == (date(2024, 1, 1), date(2024, 3, 30))
    assert project.lifecycle.business == preset and project.name == f"simulated_{preset}"
    for name in project.inputs:
        source = project.source(name)
        if source is None:
            assert preset == "retail" and name == "balances"
            continue
        assert source.check() == []
        counts = source.counts_by_day().to_pylist()
        assert all(row["day"] and project.start <= row["day"] <= project.end for row in counts)
        if format == "parquet":
            assert sum(row["rows"] for row in counts) == pq.read_table(file.parent / name).num_rows > 0


@pytest.mark.parametrize(("days", "horizon"), [(364, 90), (200, 56), (90, 28), (20, 28)])
def test_the_horizon_fits_the_days_and_the_truth_has_the_same(days: int, horizon: int, tmp_path: Path) -> None:
    file = simulate("retail", customers=50, days=days, folder=tmp_path)
    project = projects.load(str(file))
    assert project.value.horizon_days == horizon
    values = pq.read_table(tmp_path / "truth" / "values")
    assert set(values["horizon_days"].to_pylist()) == {horizon}
    last = project.start + timedelta(days=days // 7 * 7 - 1)
    assert max(values["day"].to_pylist()) == last


def test_actions_are_those_of_the_preset_with_their_cost(tmp_path: Path) -> None:
    from ml.simulate import PRESETS as KINDS

    for preset in PRESETS:
        project = projects.load(str(simulate(preset, customers=20, days=40, folder=tmp_path / preset)))
        assert [(a.name, a.cost, a.channel) for a in project.actions.actions] == [
            (a.name, a.cost, a.channel) for a in KINDS[preset].actions
        ]
        # Nobody is simulated who appears in transactions and never pays for anything.
        assert set(project.lifecycle.stage_names()) - {"no-sale"} == set(KINDS[preset].stages)


def test_what_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    with pytest.raises(ProjectError, match="choose an empty folder"):
        simulate("retail", folder=tmp_path)
    with pytest.raises(ProjectError, match="at least one customer"):
        simulate("retail", customers=0, folder=tmp_path)


def test_a_simulation_is_replaced_by_the_next(tmp_path: Path) -> None:
    simulate("gaming", customers=30, days=40, folder=tmp_path)
    first = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    simulate("gaming", customers=30, days=40, folder=tmp_path, workers=1)
    assert first == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

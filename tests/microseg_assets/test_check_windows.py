"""The windows that `check` reports before anything runs: those that training will estimate, or presets."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microseg_assets import project as projects
from microseg_assets.check import report as check_report
from microseg_assets.check import windows
from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec
from ml.lifecycle import LifecycleSpec, train
from ml.lifecycle.evidence import START, purchases
from ml.value import ValueSpec

PROJECT = "name: shop\nstart: 2024-01-01\nend: 2024-12-29\ntables:\n  transactions: {path: sales.parquet}\n"
AS_OF = date(2024, 12, 29)  # a Sunday


def desk(folder: Path, customers: int, more: str = "") -> pa.Table:
    """A retailer's purchases of a year as a file, and a project file beside it."""
    who, day = purchases("retail", customers, 7)
    days = np.datetime64(START, "D") + day
    random = np.random.default_rng(7)
    rows = pa.table(
        {
            "customer_id": [f"c{number:05d}" for number in who.tolist()],
            "occurred_at": pa.array(days.astype("datetime64[us]") + np.timedelta64(12, "h"), pa.timestamp("us")),
            "amount": random.lognormal(3, 1, len(who)).round(2),
        }
    )
    inside = rows.filter(pa.array(days <= np.datetime64(AS_OF, "D")))
    pq.write_table(inside, folder / "sales.parquet")
    (folder / "shop.yaml").write_text(PROJECT + more)
    return inside


def trained(rows: pa.Table) -> tuple[int, int]:
    """`churn_after` and `new_for` of a first training on the same rows."""

    def table(name: str) -> pa.Table:
        empty = tables.INPUTS[name].schema().empty_table()
        return empty.append_column("day", pa.array([], pa.date32()))

    inputs = {name: table(name) for name in tables.INPUTS}
    schema = inputs["transactions"].schema
    rows = rows.append_column("day", rows["occurred_at"].cast(pa.date32()))
    columns = [rows[f.name] if f.name in rows.column_names else pa.nulls(rows.num_rows, f.type) for f in schema]
    inputs["transactions"] = pa.table(columns, names=schema.names).cast(schema)
    facts = CustomerHistory.from_rows(DuckDB(), FeatureSpec(), **inputs)
    model = train(facts, AS_OF, LifecycleSpec(), None, value_model=None, value_spec=ValueSpec()).model
    return model.churn_after, model.new_for  # type: ignore[union-attr]


def test_check_reports_the_windows_that_a_first_training_estimates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = desk(tmp_path, 1_500)
    churn_after, new_for = trained(rows)
    assert churn_after != 60  # the preset, which would agree by itself
    assert check_report.report(str(tmp_path / "shop.yaml")) == 0
    out = capsys.readouterr().out
    assert f"recency_days > {churn_after}*" in out
    assert f"tenure_days < {new_for}" in out
    assert f"*: estimated from purchases up to {AS_OF}" in out


def test_a_window_that_cannot_be_estimated_yet_is_called_a_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk(tmp_path, 150)  # training asks for 200 customers
    check_report.report(str(tmp_path / "shop.yaml"))
    out = capsys.readouterr().out
    assert "recency_days > 60°" in out and "tenure_days < 28°" in out
    assert "°: a preset, too few data" in out and "*" not in out.split("7 stages")[1]


def test_a_window_of_the_project_file_is_reported_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk(tmp_path, 150, "lifecycle: {churn_after_days: 90, new_for_days: 14}\n")
    check_report.report(str(tmp_path / "shop.yaml"))
    out = capsys.readouterr().out
    assert "recency_days > 90 " in out and "tenure_days < 14 " in out and "preset" not in out


def test_windows_are_estimated_up_to_the_sunday_that_ended_the_last_full_week(tmp_path: Path) -> None:
    desk(tmp_path, 600)
    project = projects.load(str(tmp_path / "shop.yaml"))
    rows = {date(2024, 1, 1) + timedelta(days=n): 5 for n in range(360)}  # up to a Wednesday
    assert windows.estimate_windows(project, rows).as_of == date(2024, 12, 22)


def test_too_many_rows_for_an_estimate_leave_the_presets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk(tmp_path, 600)
    monkeypatch.setattr(windows, "MAX_ROWS", 10)
    project = projects.load(str(tmp_path / "shop.yaml"))
    estimate = windows.estimate_windows(project, {date(2024, 6, 1): 11})
    assert estimate.days == {"churn_after": 60, "new_for": 28} and estimate.preset == {"churn_after", "new_for"}

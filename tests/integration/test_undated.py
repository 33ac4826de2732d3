"""Rows that cannot be dated belong to no day, so no day's gate can miss them: ingest itself must stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from microseg_assets.cli import main

PROJECT = """\
name: odd_dates
start: 2024-01-01
end: 2024-01-31
tables:
  transactions: {path: sales.csv}
"""


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, stamps: list[str]) -> tuple[int, str]:
    rows = "".join(f"c{i},{stamp},9.5\n" for i, stamp in enumerate(stamps))
    (folder / "sales.csv").write_text(f"customer_id,occurred_at,amount\n{rows}", encoding="utf-8")
    (folder / "odd.yaml").write_text(PROJECT, encoding="utf-8")
    monkeypatch.setenv("MICROSEG_HOME", str(folder / "state"))
    result = CliRunner().invoke(main, ["run", "-p", str(folder / "odd.yaml"), "--from", "2024-01-02"])
    return result.exit_code, result.output


def test_a_stamp_that_nobody_declared_is_not_an_empty_business(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = run(tmp_path, monkeypatch, ["31.01.2024"] * 20)
    assert code == 1
    assert "20 of 20 rows of transactions belong to no day (occurred_at: not a time" in said
    assert "odd.yaml how the stamp is written" in said
    assert not (tmp_path / "state/lake/odd_dates/transactions").exists()
    assert list((tmp_path / "state/lake/odd_dates/quarantine/table=transactions/day=undated").glob("*.parquet"))


def test_rows_older_than_the_project_are_no_reason_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = run(tmp_path, monkeypatch, ["2023-06-01 10:00:00"] * 20 + ["2024-01-01 10:00:00"])
    assert code == 0, said

"""Rows whose day cannot be read: the day they may belong to must not be published without them, and if there are too
many, ingest must stop."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from microseg_assets.cli.main import main

PROJECT = """\
name: odd_dates
start: 2024-01-01
end: 2024-01-31
tables:
  transactions: {path: sales.csv}
"""


def deliver(folder: Path, monkeypatch: pytest.MonkeyPatch, stamps: list[str], project: str = PROJECT) -> None:
    rows = "".join(f"c{i},{stamp},9.5\n" for i, stamp in enumerate(stamps))
    (folder / "sales.csv").write_text(f"customer_id,occurred_at,amount\n{rows}", encoding="utf-8")
    (folder / "odd.yaml").write_text(project, encoding="utf-8")
    monkeypatch.setenv("MICROSEG_HOME", str(folder / "state"))


def typed(*command: str) -> Result:
    return CliRunner().invoke(main, command, catch_exceptions=False)


def run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stamps: list[str], *, project: str = PROJECT, day: str = "2024-01-02"
) -> tuple[int, str]:
    deliver(folder, monkeypatch, stamps, project)
    result = typed("run", "-p", str(folder / "odd.yaml"), "--from", day)
    return result.exit_code, result.output


def test_an_undeclared_stamp_format_does_not_look_like_an_empty_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = run(tmp_path, monkeypatch, ["31.01.2024"] * 20)
    assert code == 1
    assert "20 of 20 rows of transactions belong to no day (occurred_at: not a time" in said
    assert "odd.yaml how the stamp is written" in said
    assert not (tmp_path / "state/lake/odd_dates/transactions").exists()
    assert list((tmp_path / "state/lake/odd_dates/quarantine/table=transactions/day=undated").glob("*.parquet"))


def test_rows_older_than_the_project_do_not_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = run(tmp_path, monkeypatch, ["2023-06-01 10:00:00"] * 20 + ["2024-01-01 10:00:00"])
    assert code == 0, said


def test_a_newest_day_whose_stamps_cannot_be_read_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check`, the run and `status` agree on the verdict, and another day does not change it."""
    stamps = [f"2024-01-{n:02}" if n != 30 else "31.13.2024" for n in range(1, 31) for _ in range(30)]
    deliver(tmp_path, monkeypatch, stamps)
    said = typed("check", str(tmp_path / "odd.yaml"))
    assert (
        said.exit_code == 2 and "2 of 31 days would be refused" in said.output and "2024-01-30 (30 rows" in said.output
    )
    ran = typed("run", "-p", str(tmp_path / "odd.yaml"), "--from", "2024-01-30")
    assert ran.exit_code == 1
    refusal = "refused and not written: 2024-01-30 (rows whose day cannot be read and that may belong to this day ×30)"
    assert f"1 day of transactions was {refusal}" in ran.output
    assert "The last good day before can be made: microseg run" in ran.output
    assert "--from 2024-01-29 --to 2024-01-29" in ran.output
    lake = tmp_path / "state/lake/odd_dates"
    made = sorted(path.parent.name for path in (lake / "transactions").glob("*/part-0.parquet"))
    assert made == [f"day=2024-01-{n:02}" for n in range(1, 30)]
    status = typed("status", "-p", str(tmp_path / "odd.yaml"))
    assert "transactions of 2024-01-30 was refused" in status.output and "stale" not in status.output.splitlines()[-1]
    stamps = [stamp if stamp[0] == "2" else "2024-01-30" for stamp in stamps]
    deliver(tmp_path, monkeypatch, stamps)
    assert typed("check", str(tmp_path / "odd.yaml")).exit_code == 0
    ran = typed("run", "-p", str(tmp_path / "odd.yaml"), "--stale")
    assert ran.exit_code == 0, ran.output
    assert (lake / "transactions/day=2024-01-30/part-0.parquet").exists()


def test_a_source_that_has_lost_half_of_its_days_stops_the_run_and_makes_nothing_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = [f"2024-01-{n:02}" for n in range(1, 11) for _ in range(30)]
    deliver(tmp_path, monkeypatch, stamps)
    project = str(tmp_path / "odd.yaml")
    assert run(tmp_path, monkeypatch, stamps)[0] == 0
    deliver(tmp_path, monkeypatch, [stamp if i % 2 else "" for i, stamp in enumerate(stamps)])
    sentence = "150 of 300 rows of transactions belong to no day (occurred_at: missing ×150)"
    for command, code in ((["check", project], 2), (["run", "-p", project, "--from", "2024-01-03"], 1),
                          (["run", "-p", project, "--stale"], 2), (["status", "-p", project], 0)):  # fmt: skip
        said = typed(*command)
        assert (said.exit_code, sentence in said.output) == (code, True), said.output
    assert "--stale" not in typed("status", "-p", project).output


def test_without_an_order_new_undated_rows_count_against_new_days(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = PROJECT.replace("{path: sales.csv}", "{files: {sales: sales.csv}, query: SELECT * FROM sales}")
    good = [f"2024-01-{n:02}" for n in range(1, 21) for _ in range(30)]
    code, said = run(tmp_path, monkeypatch, [*good, ""], project=project, day="2024-01-20")
    assert code == 0, said
    new = ["2024-01-21"] * 20 + [""] * 10
    code, said = run(tmp_path, monkeypatch, [*good, "", *new], project=project, day="2024-01-21")
    assert code == 1 and "2024-01-21 (rows whose day cannot be read" in said
    code, again = run(tmp_path, monkeypatch, [*good, "", *new], project=project, day="2024-01-21")
    assert code == 1 and "2024-01-21 (rows whose day cannot be read" in again, "asking again does not make it good"


def test_corrected_undated_rows_do_not_offset_as_many_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = PROJECT.replace("{path: sales.csv}", "{files: {sales: sales.csv}, query: SELECT * FROM sales}")
    good = [f"2024-01-{n:02}" for n in range(1, 11) for _ in range(30)]
    assert run(tmp_path, monkeypatch, [*good, *[""] * 10], project=project, day="2024-01-10")[0] == 0
    good += ["2024-01-11"] * 30
    assert run(tmp_path, monkeypatch, good, project=project, day="2024-01-11")[0] == 0
    new = ["2024-01-12"] * 20 + [""] * 10
    code, said = run(tmp_path, monkeypatch, [*good, *new], project=project, day="2024-01-12")
    assert code == 1 and "2024-01-12 (rows whose day cannot be read" in said

"""Digests of a lake see every change of a row, a column or a partition, and no rerun that comes to the same."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from microseg_assets.storage.lake import Lake
from ml.tables import Column, Table
from tests.benchmarks.digests import differences, digest, digests, main, read

DAY, LATER = date(2024, 1, 1), date(2024, 1, 2)
TABLE = Table(
    "spend",
    "What a customer spends.",
    (Column("customer_id", "string", "who"), Column("spend", "double", "how much", "EUR")),
)
ROWS = pa.table({"customer_id": ["a", "b", "c"], "spend": [1.0, None, 3.0]})


def written(root: Path, rows: pa.Table = ROWS, days: tuple[date, ...] = (DAY,)) -> Path:
    for day in days:
        Lake(str(root), "shop").write(TABLE, day, rows)
    return root


def test_the_same_rows_have_the_same_digests_however_often_they_were_written(tmp_path: Path) -> None:
    once, twice = written(tmp_path / "once"), written(written(tmp_path / "twice"))
    assert len(list(twice.rglob("*_made_again"))) == 1
    assert digests(once) == digests(twice) and len(digests(once)) == 2


def test_a_change_is_reported_by_partition_and_column(tmp_path: Path) -> None:
    old = written(tmp_path / "old", days=(DAY, LATER))
    new = written(tmp_path / "new", ROWS.set_column(1, "spend", pa.array([1.0, 0.0, 3.0])))
    assert differences(digests(old), digests(new)) == [
        "only in the old: shop/spend/day=2024-01-02/part-0.parquet",
        "differs: shop/spend/day=2024-01-01/part-0.parquet spend",
    ]


def test_the_order_of_rows_the_type_of_a_column_and_lists_inside_of_one_count() -> None:
    def digest_of(values: pa.Array) -> str:
        return digest(pa.chunked_array([values]))

    assert digest_of(pa.array([1, 2])) != digest_of(pa.array([2, 1]))
    assert digest_of(pa.array([1, 2], pa.int32())) != digest_of(pa.array([1, 2], pa.int64()))
    assert digest_of(pa.array([[1], None])) != digest_of(pa.array([[1], []]))
    assert digest_of(pa.array([["x"], None])) == digest_of(pa.array([["x"], None]))


def test_the_command_compares_a_lake_with_digests_that_were_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lake, kept = written(tmp_path / "lake"), tmp_path / "kept.tsv"
    assert main([str(lake)]) == 0
    kept.write_text(capsys.readouterr().out, encoding="utf-8")
    assert read(kept) == digests(lake)
    assert main([str(kept), str(lake)]) == 0
    written(lake, days=(LATER,))
    assert main([str(kept), str(lake)]) == 1
    assert "only in the new: shop/spend/day=2024-01-02/part-0.parquet" in capsys.readouterr().out

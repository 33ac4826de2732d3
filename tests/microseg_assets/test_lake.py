"""The lake: a partition exists whole or not at all, on the local disk and on any other fsspec file system."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microseg_assets.assets.ingest import RAW_COLUMNS
from microseg_assets.storage import lake as lake_module
from microseg_assets.storage.lake import FILE, Lake, MissingPartitions
from ml import tables
from ml.engine import DuckDB

TABLE = tables.AUDIENCES
D1 = date(2024, 1, 1)
D2, D3 = D1 + timedelta(days=1), D1 + timedelta(days=2)


def rows(*customers: str, audience: str = "x") -> pa.Table:
    return pa.table(
        {
            "customer_id": pa.array(customers, pa.string()),
            "audience": pa.array([audience] * len(customers), pa.string()),
        }
    )


def dated(*pairs: tuple[str, date]) -> pa.Table:
    return rows(*(who for who, _ in pairs)).append_column("day", pa.array([d for _, d in pairs], pa.date32()))


@pytest.fixture(params=["disk", "memory"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake") if request.param == "disk" else f"memory://{uuid.uuid4().hex}", "shop")


@pytest.fixture
def on_disk(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"), "shop")


def everything(lake: Lake) -> list[tuple[str, str]]:
    """All customers of all partitions, as an engine reads them."""
    result = DuckDB().query(
        "SELECT customer_id, day FROM partitions ORDER BY ALL", partitions=lake.files(TABLE, lake.keys(TABLE))
    )
    return [(row["customer_id"], str(row["day"])) for row in result.to_pylist()]


def by_another_tool(lake: Lake) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(f"FROM read_parquet('{lake.root}/shop/audiences/*/*.parquet')").fetchall()


# ── existing or absent ────────────────────────────────────────────────────────────────────────────────────────────


def test_written_rows_are_read_back_by_the_lake_and_by_the_engine(lake: Lake) -> None:
    assert lake.write(TABLE, D1, rows("a", "b")) == 2
    lake.write(TABLE, D2, rows("c"))
    assert lake.read(TABLE, D1).equals(rows("a", "b"))
    assert lake.keys(TABLE) == ["2024-01-01", "2024-01-02"]
    assert everything(lake) == [("a", "2024-01-01"), ("b", "2024-01-01"), ("c", "2024-01-02")]


def test_a_partition_is_replaced_whole(lake: Lake) -> None:
    lake.write(TABLE, D1, rows("a", "b", "c"))
    lake.write(TABLE, D1, rows("z"))
    assert everything(lake) == [("z", "2024-01-01")]


def test_an_empty_partition_exists_and_an_absent_one_does_not(lake: Lake) -> None:
    lake.write(TABLE, D1, TABLE.empty())
    assert lake.keys(TABLE) == ["2024-01-01"] and lake.missing(TABLE, [D1, D2]) == ["2024-01-02"]
    assert lake.read(TABLE, D1).num_rows == 0 and everything(lake) == []
    with pytest.raises(MissingPartitions, match="audiences has no partition 2024-01-02"):
        lake.read(TABLE, D2)
    with pytest.raises(MissingPartitions, match="2024-01-02"):
        lake.files(TABLE, [D1, D2])


def test_no_days_at_all_are_an_empty_table_of_the_same_columns(lake: Lake) -> None:
    assert lake.keys(TABLE) == [] and lake.stamps(TABLE) == {}
    result = DuckDB().query("SELECT * FROM partitions", partitions=lake.files(TABLE, []))
    assert result.num_rows == 0 and result.column_names == [*TABLE.names, "day"]


def test_many_missing_partitions_are_counted_not_listed() -> None:
    error = MissingPartitions("audiences", [f"2024-01-{d:02}" for d in range(1, 32)])
    assert str(error) == "audiences has no partition 2024-01-01, 2024-01-02, 2024-01-03 … (31 in all)"
    assert len(error.keys) == 31


def test_a_removed_partition_does_not_exist_and_removing_it_again_is_no_error(lake: Lake) -> None:
    lake.write(TABLE, D1, rows("a"))
    lake.remove(TABLE, D1)
    lake.remove(TABLE, D1)
    assert lake.keys(TABLE) == []


def test_partitions_of_one_family_or_table_do_not_mix_with_anothers(lake: Lake) -> None:
    lake.write(tables.QUARANTINE, "undated", tables.QUARANTINE.empty(), table="transactions")
    lake.write(tables.QUARANTINE, D1, tables.QUARANTINE.empty(), table="events")
    assert lake.keys(tables.QUARANTINE, table="transactions") == ["undated"]
    assert lake.keys(tables.QUARANTINE, table="events") == ["2024-01-01"]
    assert lake.keys(tables.QUARANTINE, table="customers") == []


def test_two_projects_share_a_root_and_nothing_else(lake: Lake) -> None:
    lake.write(TABLE, D1, rows("a"))
    assert Lake(lake.root, "shop_two").keys(TABLE) == []
    assert Lake(lake.root, "shop").keys(TABLE) == ["2024-01-01"]


def test_a_stamp_gives_the_time_a_partition_was_written(lake: Lake) -> None:
    before = time.time()
    lake.write(TABLE, D1, rows("a"))
    first = lake.stamps(TABLE)["2024-01-01"]
    assert before - 1 <= first.changed == first.made <= time.time() + 1
    time.sleep(0.02)
    lake.write(TABLE, D1, rows("b"))
    second = lake.stamps(TABLE)["2024-01-01"]
    assert second.changed == second.made > first.changed


def test_rewriting_the_same_rows_updates_the_time_made_but_not_the_time_changed(lake: Lake) -> None:
    lake.write(TABLE, D1, rows("a"))
    first = lake.stamps(TABLE)["2024-01-01"]
    time.sleep(0.02)
    lake.write(TABLE, D1, rows("a"))
    again = lake.stamps(TABLE)["2024-01-01"]
    assert again.changed == first.changed and again.made > first.made
    assert everything(lake) == [("a", "2024-01-01")] and lake.keys(TABLE) == ["2024-01-01"]


def test_notes_of_a_partition_are_read_back_and_are_not_rows(lake: Lake) -> None:
    lake.write(TABLE, D1, rows("a"), {"fingerprint": "é:17"})
    lake.write(TABLE, D2, rows("b"))
    assert lake.notes(TABLE) == {"2024-01-01": {"fingerprint": "é:17"}, "2024-01-02": {}}
    assert everything(lake) == [("a", "2024-01-01"), ("b", "2024-01-02")]


def test_a_file_for_people_is_stored_next_to_the_rows_and_is_not_a_partition(lake: Lake) -> None:
    url = lake.put_file(TABLE, D1, "page.html", b"<p>")
    assert url.endswith("day=2024-01-01/page.html") and "://" in url
    assert lake.keys(TABLE) == [], "without its rows the day is not there"
    lake.write(TABLE, D1, rows("a"))
    assert everything(lake) == [("a", "2024-01-01")]


def test_a_column_is_read_by_the_name_it_has_now_whichever_version_wrote_it(lake: Lake) -> None:
    segment = tables.Column("segment", "string", "which", formerly="audience")
    renamed = replace(TABLE, columns=(TABLE["customer_id"], segment))
    lake.write(TABLE, D1, rows("a", audience="old"))
    lake.write(renamed, D2, rows("b", audience="new").rename_columns(["customer_id", "segment"]))
    query = "SELECT customer_id, segment FROM partitions ORDER BY ALL"
    for keys in ([D1], [D2], [D1, D2]):
        together = DuckDB().query(query, partitions=lake.files(renamed, keys)).to_pylist()
        every = [{"customer_id": "a", "segment": "old"}, {"customer_id": "b", "segment": "new"}]
        assert together == [row for row, day in zip(every, (D1, D2), strict=True) if day in keys]
        assert [row for key in keys for row in lake.read(renamed, key).to_pylist()] == together


def test_only_declared_columns_are_stored_in_their_declared_types(lake: Lake) -> None:
    lake.write(TABLE, D1, pa.table({"extra": [1], "audience": ["x"], "customer_id": [7]}))
    assert lake.read(TABLE, D1).schema.equals(TABLE.schema()) and lake.read(TABLE, D1)["customer_id"].to_pylist() == [
        "7"
    ]
    with pytest.raises(ValueError, match="audiences lacks audience"):
        lake.write(TABLE, D2, pa.table({"customer_id": ["a"]}))
    assert lake.keys(TABLE) == ["2024-01-01"]


def test_any_tool_can_read_it(on_disk: Lake) -> None:
    on_disk.write(TABLE, D1, rows("a"))
    assert by_another_tool(on_disk) == [("a", "x", D1)]


# ── whole or not at all ───────────────────────────────────────────────────────────────────────────────────────────


class Broken(Exception):
    pass


def _break_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer stops after the first bytes, as on a full disk."""

    def write_table(_: pa.Table, where: object, **__: object) -> None:
        if isinstance(where, str):
            Path(where).write_bytes(b"PAR1 half of it")
        raise Broken

    monkeypatch.setattr(lake_module.pq, "write_table", write_table)


def test_an_error_in_the_middle_of_a_write_leaves_no_partition_and_no_litter(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _break_in_the_middle(patch)
        with pytest.raises(Broken):
            lake.write(TABLE, D1, rows("a"))
    assert lake.keys(TABLE) == []
    assert [path for path in Path(lake.root).rglob("*") if path.is_file()] == []
    lake.write(TABLE, D1, rows("a"))
    assert everything(lake) == [("a", "2024-01-01")]


def test_an_error_in_the_middle_of_a_rerun_keeps_the_older_partition(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.write(TABLE, D1, rows("a"))
    with monkeypatch.context() as patch:
        _break_in_the_middle(patch)
        with pytest.raises(Broken):
            lake.write(TABLE, D1, rows("z"))
    assert everything(lake) == [("a", "2024-01-01")]


WRITER = """
import sys, time
from datetime import date
import pyarrow as pa
from microseg_assets.storage import lake
from ml import tables

real = lake.pq.write_table
def stuck(rows, where, **options):
    real(rows, where, **options)
    print("written aside", flush=True)
    time.sleep(60)
lake.pq.write_table = stuck
rows = pa.table({"customer_id": ["z"], "audience": ["x"]})
lake.Lake(sys.argv[1], "shop").write(tables.AUDIENCES, date(2024, 1, 1), rows)
"""


def test_a_killed_process_leaves_what_was_there_and_nothing_of_its_own_is_read(on_disk: Lake) -> None:
    on_disk.write(TABLE, D2, rows("b"))
    for before in ([], ["2024-01-01"]):
        if before:
            on_disk.write(TABLE, D1, rows("a"))
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, on_disk.root], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None and writer.stdout.readline().strip() == "written aside"
            writer.send_signal(signal.SIGKILL)
        assert on_disk.keys(TABLE) == [*before, "2024-01-02"]
        assert "z" not in {who for who, _ in everything(on_disk)}
        assert "z" not in {row[0] for row in by_another_tool(on_disk)}, "another tool sees what we see"


def test_a_reader_sees_the_old_or_the_new_partition_and_never_a_part_of_one(on_disk: Lake) -> None:
    path = f"{on_disk.root}/shop/audiences/day=2024-01-01/{FILE}"
    on_disk.write(TABLE, D1, rows(*["old"] * 50_000))
    with open(path, "rb") as reader:  # opened before the rerun, read after it
        on_disk.write(TABLE, D1, rows("new"))
        assert set(pq.ParquetFile(reader).read()["customer_id"].to_pylist()) == {"old"}
    assert on_disk.read(TABLE, D1)["customer_id"].to_pylist() == ["new"]


# ── many days at once ─────────────────────────────────────────────────────────────────────────────────────────────


@given(offsets=st.lists(st.integers(0, 6), max_size=30), span=st.integers(7, 9))
@settings(max_examples=25, deadline=None)
def test_days_written_at_once_are_the_rows_of_each_day_in_their_order(offsets: list[int], span: int) -> None:
    lake = Lake(f"memory://{uuid.uuid4().hex}", "shop")
    days = [D1 + timedelta(days=i) for i in range(span)]
    counts = lake.write_days(TABLE, dated(*((f"c{i}", days[o]) for i, o in enumerate(offsets))), days)
    assert sum(counts.values()) == len(offsets) and lake.keys(TABLE) == [d.isoformat() for d in days]
    for number, day in enumerate(days):
        expected = [f"c{i}" for i, o in enumerate(offsets) if o == number]
        assert lake.read(TABLE, day)["customer_id"].to_pylist() == expected and counts[day] == len(expected)


def test_a_row_of_another_day_is_refused_before_anything_is_written(lake: Lake) -> None:
    lake.write(TABLE, D1, rows("old"))
    with pytest.raises(ValueError, match="audiences: rows of 2024-01-03 are not among the days to be written"):
        lake.write_days(TABLE, dated(("a", D1), ("b", D3)), [D1, D2])
    assert everything(lake) == [("old", "2024-01-01")]


def test_a_row_without_a_day_is_refused_too(lake: Lake) -> None:
    undated = rows("a").append_column("day", pa.array([None], pa.date32()))
    with pytest.raises(ValueError, match="not among the days"):
        lake.write_days(TABLE, undated, [D1])


# ── odd paths ────────────────────────────────────────────────────────────────────────────────────────────────────

ODD = ["with a space", "it's", "a[b]c", "what?", "all*", "100%25", "größe", "k=v", "semi;colon", "{curly}", "#hash"]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str, kind: str) -> None:
    if kind == "disk":
        (tmp_path / "aXc").mkdir()  # what a glob pattern would match instead
    root = str(tmp_path / name) if kind == "disk" else f"memory://{uuid.uuid4().hex}/{name}"
    lake = Lake(root, "shop")
    lake.write_days(TABLE, dated(("a", D1), ("b", D2)), [D1, D2])
    assert lake.keys(TABLE) == ["2024-01-01", "2024-01-02"]
    assert everything(lake) == [("a", "2024-01-01"), ("b", "2024-01-02")]


def test_a_pattern_in_a_folders_name_reads_no_neighbour(tmp_path: Path) -> None:
    starred, neighbour = Lake(str(tmp_path / "sh*p"), "shop"), Lake(str(tmp_path / "shop"), "shop")
    neighbour.write(TABLE, D1, rows("neighbour"))
    starred.write(TABLE, D1, rows("own"))
    assert everything(starred) == [("own", "2024-01-01")]


def test_local_and_remote_partitions_meet_in_one_query(tmp_path: Path) -> None:
    local, remote = Lake(str(tmp_path), "shop"), Lake(f"memory://{uuid.uuid4().hex}", "shop")
    local.write(TABLE, D1, rows("a", "b"))
    remote.write(TABLE, D2, rows("b", "c"))
    result = DuckDB().query(
        "SELECT h.customer_id FROM h JOIN t USING (customer_id)",
        h=local.files(TABLE, [D1]),
        t=remote.files(TABLE, [D2]),
    )
    assert result["customer_id"].to_pylist() == ["b"]


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    Lake(f"file://{tmp_path}/lake", "shop").write(TABLE, D1, rows("a"))
    assert everything(Lake(str(tmp_path / "lake"), "shop")) == [("a", "2024-01-01")]


def test_a_trailing_slash_changes_nothing(tmp_path: Path) -> None:
    Lake(f"{tmp_path}/lake/", "shop").write(TABLE, D1, rows("a"))
    assert Lake(f"{tmp_path}/lake", "shop").keys(TABLE) == ["2024-01-01"]
    assert os.listdir(tmp_path) == ["lake"]


def test_a_window_over_many_partitions_keeps_to_those_that_are_asked_for(tmp_path: Path) -> None:
    """DuckDB 2.0.0 by itself sums over all partitions here: its optimizer `window_self_join` loses the filter."""
    lake, table = Lake(str(tmp_path), "shop"), tables.CLUSTER_LINEAGE
    weeks = [date(2024, 6, 24) + timedelta(7 * number) for number in range(3)]
    for week in weeks:
        rows = [
            {"stage": stage, "layer": layer, "cluster": letter, "event": "first", "customers": 10 * number}
            for stage in ("active", "star", "churn")
            for layer in ("value", "engagement")
            for number, letter in enumerate("ABCD", 1)
        ]
        lake.write(table, week, pa.Table.from_pylist(rows, schema=table.schema()))
    result = DuckDB().query(
        """
        SELECT SUM(customers) OVER (PARTITION BY stage, layer) AS customers FROM lineage
        WHERE week = $week AND stage = 'star' AND layer = 'value'
        """,
        {"week": weeks[1]},
        lineage=lake.files(table, weeks),
    )
    assert [int(n) for n in result["customers"].to_pylist()] == [100] * 4


def test_choices_of_a_lake_that_knows_no_codes_of_reasons_are_read(lake: Lake) -> None:
    names = [name for name in tables.MODEL_CHOICES.names if not name.startswith("reason_")]
    columns = tuple(column for column in tables.MODEL_CHOICES.columns if column.name in names)
    row = {"family": "value", "decision": "none", "reason": "first fit", "metric": "rmse"}
    older = replace(tables.MODEL_CHOICES, columns=columns)
    lake.write(older, D1, pa.Table.from_pylist([row], older.schema()), family="value")
    read = lake.read(tables.MODEL_CHOICES, D1, family="value").to_pylist()[0]
    assert (read["reason"], read.get("reason_code")) == ("first fit", None)


def test_a_column_that_is_newer_than_every_partition_is_missing_in_their_rows(lake: Lake) -> None:
    newer = TABLE.plus(RAW_COLUMNS)
    lake.write(TABLE, D1, rows("a", "b"))
    added = [column.name for column in RAW_COLUMNS]
    asked = "SELECT * FROM partitions WHERE day = $day AND customer_id = 'a'"
    for keys in ([D1], [D1, D2]):
        if D2 in keys:
            lake.write(TABLE, D2, rows("c"))
        result = DuckDB().query(asked, {"day": D1}, partitions=lake.files(newer, keys))
        assert result.num_rows == 1 and result.schema.names == [*newer.schema().names, "day"]
        assert all(result[name].null_count == 1 for name in added)
        assert [result.schema.field(name).type for name in added] == [newer.schema().field(n).type for n in added]

"""Rows without a day: which days they may be of, by where they lie in their file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microseg_assets.sources import EARLY, Source, TableSpec, rows
from microseg_assets.sources.undated import Lump, allocate, between_files
from microseg_assets.storage.undated import count_problems
from ml.tables import TRANSACTIONS

START = date(2024, 1, 1)
HEADER = "customer_id,occurred_at,amount"


def day(n: int) -> date:
    return START + timedelta(days=n)


def lines(n: int, bad: Sequence[int] = (), rows: int = 20) -> list[str]:
    """The lines of a day; the stamps of some cannot be read."""
    return [f"c{i},{'n/a' if i in bad else day(n)},1" for i in range(rows)]


def undated(folder: Path, content: dict[str, list[str]], last: int, **more: str) -> dict[int, int]:
    """Day to how many rows without a day may be of it; days are numbered from the first one on."""
    for name, of_file in content.items():
        (folder / name).write_text("\n".join([HEADER, *of_file]) + "\n", encoding="utf-8")
    path = next(iter(content)) if len(content) == 1 else "*.csv"
    spec = TableSpec(path=path, **more)  # type: ignore[arg-type]
    source = Source(TRANSACTIONS, spec, project_zone="UTC", start=START, base=folder)
    return {(one_day - START).days: one.undated for one_day, one in source.arrivals(day(last)).items() if one.undated}


@pytest.mark.parametrize("is_descending", [False, True])
@pytest.mark.parametrize("which", [0, 4, 8])
def test_a_day_whose_stamps_are_all_unreadable_is_the_one_that_has_lost_them(
    which: int, is_descending: bool, tmp_path: Path
) -> None:
    days = [lines(n, range(20) if n == which else ()) for n in range(9)]
    ordered = [line for of_day in (reversed(days) if is_descending else days) for line in of_day]
    assert undated(tmp_path, {"a.csv": ordered}, 8) == {which: 20}


def test_half_of_the_newest_days_counts_against_these(tmp_path: Path) -> None:
    whole = [line for n in range(9) for line in lines(n, range(0, 20, 2) if n > 6 else ())]
    assert undated(tmp_path, {"a.csv": whole}, 8) == {7: 10, 8: 10}


def test_every_day_after_the_last_one_may_have_lost_what_stands_at_the_end(tmp_path: Path) -> None:
    assert undated(tmp_path, {"a.csv": lines(0) + lines(1) + lines(2, range(20))}, 4) == {2: 20, 3: 20, 4: 20}


def test_a_file_of_a_folder_without_any_day_is_of_the_days_between_its_neighbours(tmp_path: Path) -> None:
    files = {f"{n:02}.csv": lines(n, range(20) if n in (3, 8) else ()) for n in range(9)}
    assert undated(tmp_path, files, 8) == {3: 20, 8: 20}


def test_lines_that_are_no_rows_lie_where_they_stand(tmp_path: Path) -> None:
    whole = [line if n != 5 else "x,y" for n in range(8) for line in lines(n)]
    assert undated(tmp_path, {"a.csv": whole}, 7) == {5: 20}
    assert undated(tmp_path, {"a.csv": lines(0) + lines(1) + ["c1,2024-01"]}, 1) == {1: 1}, "a file cut off"


def test_objects_that_are_none_lie_where_they_stand(tmp_path: Path) -> None:
    written = [json.dumps({"customer_id": "c", "occurred_at": f"{day(n)}", "amount": 1}) for n in range(8)] * 1
    content = "\n".join("{oops" if n == 5 else line for n, line in enumerate(written) for _ in range(20))
    (tmp_path / "a.jsonl").write_text(content + "\n", encoding="utf-8")
    source = Source(TRANSACTIONS, TableSpec(path="a.jsonl"), project_zone="UTC", start=START, base=tmp_path)
    assert {one_day: one.undated for one_day, one in source.arrivals(day(7)).items() if one.undated} == {day(5): 20}


def test_rows_of_files_that_cannot_have_broken_lines_are_placed_too(tmp_path: Path) -> None:
    """A Parquet file and a CSV file with the same rows."""
    (tmp_path / "csv").mkdir()
    content = [line for n in range(8) for line in lines(n, range(0, 20, 2) if n > 5 else ())]
    assert undated(tmp_path / "csv", {"a.csv": content}, 7) == {6: 10, 7: 10}
    csv = f"read_csv('{tmp_path}/csv/a.csv', nullstr = 'n/a')"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT * FROM {csv}) TO '{tmp_path}/a.parquet'")
    source = Source(TRANSACTIONS, TableSpec(path="a.parquet"), project_zone="UTC", start=START, base=tmp_path)
    assert {(one_day - START).days: one.undated for one_day, one in source.arrivals(day(7)).items() if one.undated} == {
        6: 10,
        7: 10,
    }


def test_rows_that_are_left_out_or_older_than_the_project_count_against_nobody(tmp_path: Path) -> None:
    old = ["c,2023-12-01,1"] * 20
    whole = old + lines(0) + lines(1, range(20)) + lines(2)
    assert undated(tmp_path, {"a.csv": whole}, 2) == {1: 20}
    assert undated(tmp_path, {"a.csv": whole}, 2, where="occurred_at <> 'n/a'") == {}


def test_rows_older_than_the_project_are_marked_by_a_column_and_not_by_their_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"a.csv": ["c,2023-12-01,1"] * 20 + lines(0) + lines(1, range(8, 11)) + lines(2)}

    def measure() -> tuple[dict[int, int], int, Counter[str], list[bool]]:
        counts = undated(tmp_path, content, 2)
        source = Source(TRANSACTIONS, TableSpec(path="a.csv"), project_zone="UTC", start=START, base=tmp_path)
        without = source.undated()
        return counts, source.delivery(day(2))[1], count_problems(without), without[EARLY].to_pylist()

    sense = measure()
    assert sense[:3] == ({1: 3}, 3, {"occurred_at: not a time": 3}) and sorted(sense[3]) == [False] * 3 + [True] * 20
    monkeypatch.setattr(rows, "early_words", lambda table, start: "occurred_at: not a time")
    assert measure() == sense


def test_rows_of_a_query_have_no_order_and_are_not_placed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n".join([HEADER, *lines(0), *lines(1, range(20))]), encoding="utf-8")
    spec = TableSpec(files={"a": "a.csv"}, query="SELECT * FROM a")
    source = Source(TRANSACTIONS, spec, project_zone="UTC", start=START, base=tmp_path)
    arrived, lost = source.delivery(day(1))
    assert lost == 20 and not any(one.undated for one in arrived.values())


def test_a_shop_that_shuts_on_sundays_does_not_lose_one_to_a_row(tmp_path: Path) -> None:
    """One row between Saturday and Monday may be Sunday's: it counts there too, and a gate lets a single row pass."""
    whole = [line for n in (4, 5, 7, 8) for line in lines(n, [19] if n == 5 else ())]
    assert undated(tmp_path, {"a.csv": whole}, 8) == {5: 1, 6: 1, 7: 1}


def test_where_days_without_rows_are_the_rule_none_of_them_has_lost_any(tmp_path: Path) -> None:
    """Campaigns of three days in ninety: some unreadable rows of one must not refuse a month."""
    whole = lines(0) + lines(30, [3, 4, 5]) + lines(60, [17, 18, 19])
    assert undated(tmp_path, {"a.csv": whole}, 90) == {30: 3, 60: 3}


@settings(max_examples=100, deadline=None)
@given(
    has=st.lists(st.booleans(), min_size=1, max_size=12),
    pairs=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 13), st.integers(1, 9)), max_size=6),
)
def test_days_are_of_the_calendar_and_no_lump_counts_for_less_than_it_is(
    has: list[bool], pairs: list[tuple[int, int, int]]
) -> None:
    last = day(len(has) - 1)
    delivered = {day(n): 20 for n, is_there in enumerate(has) if is_there}
    nearest = [day(n) if n < len(has) and has[n] else None for n in range(14)]
    lumps = [Lump("a", nearest[before], nearest[after], rows) for before, after, rows in pairs]
    for lump in lumps:
        counts = allocate([lump], delivered, START, last)
        assert all(START <= one_day <= last for one_day in counts)
        if delivered and (lump.before or lump.after):
            assert sum(counts.values()) >= lump.rows
    assert between_files(lumps, {}) == lumps


def test_files_that_begin_with_the_newest_days_lie_the_other_way_round() -> None:
    """What is of the middle file lies between its neighbours' days; where names say nothing of days, nowhere."""
    lumps = [Lump("b.csv", None, None, 5)]
    older, newer = (day(0), day(9)), (day(20), day(29))
    expected = [Lump("b.csv", day(9), day(20), 5)]
    assert between_files(lumps, {"a.csv": older, "c.csv": newer}) == expected
    assert between_files(lumps, {"a.csv": newer, "c.csv": older}) == expected
    mixed = {"a.csv": newer, "c.csv": older, "d.csv": (day(40), day(49))}
    assert between_files(lumps, mixed) == lumps

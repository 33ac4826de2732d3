"""What a stamp means, in whatever way it is written; and the kinds of files that a table may come in."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microseg_assets.sources import Source, TableSpec, input_table
from microseg_assets.sources.stamps import is_written

START, FAR = date(2024, 1, 1), date(9999, 1, 1)


def source(spec: TableSpec, base: Path, *, table: str = "transactions", zone: str = "UTC") -> Source:
    return Source(input_table(table, spec), spec, project_zone=zone, start=START, base=base)


def stamps_of(spec: TableSpec, base: Path, zone: str = "UTC") -> dict[str, datetime | str]:
    """Customer to the stamp in UTC, or to what is wrong with it."""
    of = source(spec, base, zone=zone)
    rows = [*of.rows(START, FAR).to_pylist(), *of.undated().to_pylist()]
    return {row["customer_id"]: row["problem"] or row["occurred_at"] for row in rows}


def csv(path: Path, *lines: str, header: str = "customer_id,occurred_at,amount") -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


# ---------------------------------------------------------------- stamps that are numbers

MOMENT = datetime(2024, 2, 3, 4, 5, 6)
SECONDS = int(MOMENT.replace(tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("stamp", "count"),
    [
        ("epoch_s", SECONDS),
        ("epoch_ms", SECONDS * 1000),
        ("epoch_us", SECONDS * 1_000_000),
        ("epoch_ns", SECONDS * 1_000_000_000),
        ("seconds since 2024-02-03 04:00", 306),
        ("minutes since 2024-02-03T04:05:00+00:00", 0.1),
        ("hours since 2024-02-03 14:00+10:00", 306 / 3600),
        ("days since 2024-02-02", 1 + (4 * 3600 + 306) / 86400),
        ("weeks since 2024-01-27 04:05:06", 1),
        ("days since 1899-12-30", 45325 + (4 * 3600 + 306) / 86400),  # as spreadsheets count
    ],
)
def test_numbers_are_stamps_where_it_is_said_what_they_count(tmp_path: Path, stamp: str, count: float) -> None:
    rows = [{"customer_id": "a", "occurred_at": count, "amount": 1.0}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text(json.dumps(rows[0]) + "\n")
    csv(tmp_path / "a.csv", f'a," {count!r} ",1')
    for name in ("a.parquet", "a.jsonl", "a.csv"):
        of = source(TableSpec(path=name, stamp=stamp), tmp_path)
        day = of.rows(MOMENT.date(), MOMENT.date())["occurred_at"].to_pylist()
        assert len(day) == 1 and abs(day[0] - MOMENT) < timedelta(milliseconds=1), name
        assert of.rows(date(2024, 2, 4), FAR).num_rows == 0


def test_hours_since_a_start_count_time_that_passed_in_the_zone_of_the_start(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", "0,0,1", "1,24,1", "2,48,1", "3,23.5,1")
    spec = TableSpec(path="a.csv", stamp="hours since 2024-03-09 12:00", time_zone="America/New_York")
    stamps = stamps_of(spec, tmp_path)
    noon = datetime(2024, 3, 9, 17)  # 12:00 in New York; the night after, its clocks are set forward
    assert stamps == {
        "0": noon, "1": noon + timedelta(hours=24), "2": noon + timedelta(hours=48), "3": noon + timedelta(hours=23.5),
    }  # fmt: skip


ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "America/Santiago", "UTC")


@pytest.mark.parametrize("unit", ["days", "weeks"])
@pytest.mark.parametrize("zone", ZONES)
def test_a_whole_number_of_days_is_a_calendar_day_on_both_sides_of_a_change_of_the_clocks(
    tmp_path: Path, zone: str, unit: str
) -> None:
    first, length = date(2023, 12, 1), 7 if unit == "weeks" else 1
    counts = list(range(31 if unit == "days" else 5, 700 // length))
    days = [first + timedelta(days=length * n) for n in counts]
    csv(tmp_path / "a.csv", *(f"{n},{n},1" for n in counts))
    for start, own_zone in ((first.isoformat(), "Asia/Tokyo"), (f"{first} 00:00", zone)):
        spec = TableSpec(path="a.csv", stamp=f"{unit} since {start}", time_zone=own_zone)
        rows = source(spec, tmp_path, zone=zone).rows(START, FAR).to_pylist()
        assert [row["day"] for row in rows] == days, start
        one_by_one = [source(spec, tmp_path, zone=zone).rows(day, day).num_rows for day in days[:: len(days) // 7]]
        assert set(one_by_one) == {1}


def test_half_a_day_after_midnight_is_noon_and_an_offset_counts_days_of_24_hours(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", "summer,0.5,1", "winter,153.5,1", "evening,152.75,1")
    stamps = stamps_of(TableSpec(path="a.csv", stamp="days since 2024-06-01"), tmp_path, "Europe/Berlin")
    assert stamps == {
        "summer": datetime(2024, 6, 1, 10), "winter": datetime(2024, 11, 1, 11), "evening": datetime(2024, 10, 31, 17),
    }  # fmt: skip
    stamps = stamps_of(TableSpec(path="a.csv", stamp="days since 2024-06-01T00:00+02:00"), tmp_path, "Europe/Berlin")
    assert stamps["winter"] == datetime(2024, 11, 1, 10), "an offset stands for a moment: no clock is changed there"


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2024-01-01 16:55:00 +0100", "15:55"), ("2024-01-01 16:55:00 +01:00", "15:55"),
        ("2024-01-01 16:55:00 Z", "16:55"), ("2024-01-01T16:55:00z", "16:55"), ("2024-01-01t16:55:00Z", "16:55"),
        ("2024-01-01 16:55 UTC", "16:55"), ("2024-01-01 16:55:00+01", "15:55"), ("2024-01-01 16:55:00 +1", "15:55"),
        ("2024-01-01T16:55:00.123+0000", "16:55"), ("2024-01-01 16:55:00 -0330", "20:25"),
        ("2024-01-01 16:55:00 −03:30", "20:25"), ("2024-01-01 16:55:00 GMT+0100", "15:55"),
        ("2024-01-01 16:55:00 +0100 UTC", "15:55"), ("2024-01-01T16:55:00+01:00[Europe/Berlin]", "15:55"),
        ("2024-01-01 16:55:00 Europe/Berlin", "15:55"), ("2024-01-01 16:55:00,25", "06:55"),
        ("2024-01-01  16:55", "06:55"), (" 2024-1-1 16:55 ", "06:55"), ("2024-01-01 16:55:00.123456789Z", "16:55"),
    ],
)  # fmt: skip
def test_a_stamp_with_an_offset_is_read_in_every_common_way_of_writing_it(
    tmp_path: Path, suffix: str, written: str, utc: str
) -> None:
    if suffix == "csv":
        csv(tmp_path / "a.csv", f'a;"{written}";1', header="customer_id;occurred_at;amount")
    else:
        line = {"customer_id": "a", "occurred_at": written, "amount": 1}
        (tmp_path / "a.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (stamp,) = stamps_of(TableSpec(path=f"a.{suffix}", time_zone="Australia/Brisbane"), tmp_path).values()
    assert isinstance(stamp, datetime), stamp
    assert (stamp - timedelta(microseconds=stamp.microsecond)).isoformat(" ") == f"2024-01-01 {utc}:00"


def test_an_offset_that_no_place_has_is_no_time(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", "a,2024-01-01 16:55:00+25:00,1", "b,2024-01-01 16:55:00 +16:00,1", "c,2024-01-01 16 Z,1")
    assert set(stamps_of(TableSpec(path="a.csv"), tmp_path).values()) == {"occurred_at: not a time"}


PARTS = (
    ("2024-01-05", "2024-2-29", "2024-12-31", "2023-02-29", "2024-13-01", "20240105", "2024/01/05"),
    ("", " ", "T", "t", "  "),
    ("", "0:5", "0:05", "16:55:3", "16:55", "16:55:00", "24:00", "24:01", "16:60", "16:55:59.1", "16:55:01,999"),
    ("", " ", "  "),
    (
        "", "Z", "z", "UTC", "utc", "GMT", "+01", "+1", "-0330", "+05:45", "+15:59:59", "+16", "UTC+2", "PM", "CEST",
        "Europe/Berlin", "Mars/Olympus", "+01:00[Europe/Paris]", "+0000 UTC", "-", "+1:2",
    ),
)  # fmt: skip


def test_what_is_taken_for_a_stamp_is_read_as_one_and_the_other_way_round(tmp_path: Path) -> None:
    texts = ["".join(parts) for parts in product(*PARTS)]
    csv(tmp_path / "a.csv", *(f'{i};"{t}";1' for i, t in enumerate(texts)), header="customer_id;occurred_at;amount")
    stamps = stamps_of(TableSpec(path="a.csv"), tmp_path)
    is_read = {t: isinstance(stamps[str(i)], datetime) for i, t in enumerate(texts)}
    assert [t for t, is_one in is_read.items() if is_written(t) and not is_one] == [], "`microseg new` believes these"
    assert [t for t, is_one in is_read.items() if is_one and not is_written(t)] == [], "`microseg new` overlooks these"
    assert sum(is_read.values()) > 1000


def test_counts_that_are_not_a_time_are_reported_and_never_fatal(tmp_path: Path) -> None:
    counts = ["1704067200", "x", "", "nan", "inf", "-1e300", "1e300", "99999999999999999999999", "-99999999999", "0"]
    csv(tmp_path / "a.csv", *(f"{i},{value},1" for i, value in enumerate(counts)))
    stamps = stamps_of(TableSpec(path="a.csv", stamp="epoch_s"), tmp_path)
    assert stamps["0"] == datetime(2024, 1, 1) and stamps["2"] == "occurred_at: missing"
    assert stamps["9"] == "occurred_at: before the first day (2024-01-01)"
    assert {stamps[i] for i in ("1", "3", "4", "5", "6", "7", "8")} == {"occurred_at: not a time"}


def test_a_count_needs_a_column_of_numbers_and_a_stamp_one_of_stamps(tmp_path: Path) -> None:
    table = pa.table(
        {"customer_id": ["a"], "occurred_at": pa.array([MOMENT], pa.timestamp("us")), "n": [1], "amount": [1]}
    )
    pq.write_table(table, tmp_path / "a.parquet")
    (said,) = source(TableSpec(path="a.parquet", stamp="epoch_s"), tmp_path).check()
    assert "leave out the key stamp" in str(said)
    (said,) = source(TableSpec(path="a.parquet", columns={"occurred_at": "n"}), tmp_path).check()
    assert "set the key stamp to epoch_s" in str(said)
    assert source(TableSpec(path="a.parquet", columns={"occurred_at": "n"}, stamp="epoch_s"), tmp_path).check() == []
    for stamp in (
        "epoch",
        "hours since",
        "hours since noon",
        "hour since 2024-01-01",
        "2024-01-01",
        "years since 2000",
    ):
        (said,) = source(TableSpec(path="a.parquet", stamp=stamp), tmp_path).check()
        assert said.key == "transactions.stamp" and "does not say what stamps count" in said.message


def test_an_expression_may_calculate_the_stamp_too(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", "a,03.02.2024,04:05:06,1", header="customer_id,day,time,amount")
    stamp = "try_strptime(day || ' ' || time, '%d.%m.%Y %H:%M:%S')"
    assert stamps_of(TableSpec(path="a.csv", columns={"occurred_at": stamp}), tmp_path) == {"a": MOMENT}


# ---------------------------------------------------------------- daylight saving


@pytest.mark.parametrize(
    ("zone", "local", "utc"),
    [
        ("America/New_York", "2024-03-10 01:59:59", "2024-03-10 06:59:59"),
        ("America/New_York", "2024-03-10 02:30:00", "2024-03-10 07:30:00"),  # does not exist: what is called 03:30
        ("America/New_York", "2024-03-10 03:30:00", "2024-03-10 07:30:00"),
        ("America/New_York", "2024-11-03 00:59:59", "2024-11-03 04:59:59"),
        ("America/New_York", "2024-11-03 01:30:00", "2024-11-03 06:30:00"),  # exists twice: the later one
        ("Europe/Berlin", "2024-10-27 02:30:00", "2024-10-27 01:30:00"),
        ("Africa/Cairo", "2024-04-26 00:30:00", "2024-04-25 22:30:00"),  # midnight does not exist: still that day
        ("Africa/Cairo", "2024-04-26", "2024-04-25 22:00:00"),
        ("Australia/Lord_Howe", "2024-10-06 02:15:00", "2024-10-05 15:45:00"),  # by half an hour
    ],
)
def test_hours_that_stand_twice_or_never_have_one_meaning(tmp_path: Path, zone: str, local: str, utc: str) -> None:
    csv(tmp_path / "a.csv", f"a,{local},1")
    pq.write_table(
        pa.table({"customer_id": ["a"], "occurred_at": [datetime.fromisoformat(local)], "amount": [1]}),
        tmp_path / "a.parquet",
    )
    for name in ("a.csv", "a.parquet"):
        of = source(TableSpec(path=name), tmp_path, zone=zone)
        (row,) = of.rows(START, FAR).to_pylist()
        assert (str(row["occurred_at"]), str(row["day"])) == (utc, local[:10]), name


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moments=st.lists(st.datetimes(datetime(2024, 1, 2), datetime(2025, 12, 30)), min_size=1, max_size=30),
    zone=st.sampled_from(["America/New_York", "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu"]),
)
def test_a_naive_stamp_lies_in_its_own_calendar_day(tmp_path: Path, moments: list[datetime], zone: str) -> None:
    table = pa.table(
        {"customer_id": list(map(str, range(len(moments)))), "occurred_at": moments, "amount": [1.0] * len(moments)}
    )
    pq.write_table(table, tmp_path / "d.parquet")
    of = source(TableSpec(path="d.parquet"), tmp_path, zone=zone)
    for row in of.rows(START, FAR).to_pylist():
        delivered = moments[int(row["customer_id"])]
        moment = row["occurred_at"].replace(tzinfo=UTC)
        assert row["day"] == delivered.date() == moment.astimezone(ZoneInfo(zone)).date()
        candidates = {delivered.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)}
        exact = [c for c in candidates if c.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == delivered]
        assert moment == (max(exact) if exact else max(candidates))


# ---------------------------------------------------------------- files of every kind


def test_the_folders_of_hive_partitioned_parquet_are_columns(tmp_path: Path) -> None:
    for day, shop, who in (("2024-01-01", "b erlin", 1), ("2024-01-02", "paris", 2)):
        folder = tmp_path / "sales" / f"dt={day}" / f"shop={shop.replace(' ', '%20')}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"who": [who], "paid": [1.5]}), folder / "part-0.parquet")
    (tmp_path / "sales" / "_SUCCESS").touch()
    columns: dict[str, str | bool | int | float] = {
        "customer_id": "who", "occurred_at": "dt", "amount": "paid", "category": "upper(shop)",
    }  # fmt: skip
    of = source(
        TableSpec(path="sales", columns=columns, where="dt <> '2024-01-02' OR who = 2"), tmp_path, zone="Asia/Tokyo"
    )
    rows = of.rows(START, FAR).to_pylist()
    assert [(r["customer_id"], r["day"], r["category"]) for r in rows] == [
        ("1", date(2024, 1, 1), "B ERLIN"), ("2", date(2024, 1, 2), "PARIS"),
    ]  # fmt: skip
    assert rows[0]["source"] == "sales/dt=2024-01-01/shop=b%20erlin/part-0.parquet"
    assert of.rows(date(2024, 1, 2), FAR)["customer_id"].to_pylist() == ["2"]


def test_several_files_make_one_table_even_if_their_columns_differ(tmp_path: Path) -> None:
    csv(tmp_path / "2024-01.csv", "1,2024-01-01,1.5")
    csv(tmp_path / "2024-02.csv", "GROCERY;2;2024-02-01;2.5", header="category;customer_id;occurred_at;amount")
    with gzip.open(tmp_path / "2024-03.csv.gz", "wt") as file:
        file.write("Amount,Customer_ID,OCCURRED_AT\n3.5,3,2024-03-01\n")
    expected = [("1", 1.5, None), ("2", 2.5, "GROCERY"), ("3", 3.5, None)]
    for path in ("2024-*.csv*", ("2024-01.csv", "2024-02.csv", "2024-03.csv.gz"), "."):
        rows = source(TableSpec(path=path), tmp_path).rows(START, FAR).to_pylist()
        assert [(r["customer_id"], r["amount"], r["category"]) for r in rows] == expected, path


EVENT: dict[str, Any] = {
    "user": {"id": 17, "name": "x"}, "ts": 1704103200, "kind": "visit", "price": {"net": 2.5},
    "device": {"os": "iOS", "screen size": [390, 844], "app": {"version": "1.2"}},
}  # fmt: skip


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "jsonl.gz"])
def test_fields_of_structs_are_mapped_by_their_path(tmp_path: Path, suffix: str) -> None:
    lines = [
        EVENT,
        {**EVENT, "device": None, "user": {"id": "18", "name": "y"}},
        {**EVENT, "user": {"id": "19"}, "price": {}},
    ]
    if suffix == "parquet":
        rows = [{**line, "user": {"id": str(line["user"]["id"])}} for line in lines]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    else:
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        (tmp_path / f"e.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    spec = TableSpec(
        path=f"e.{suffix}",
        stamp="epoch_s",
        columns={
            "customer_id": "user.id", "occurred_at": "ts", "event_type": "kind", "os": "device.os",
            "browser": "device.app.version", "value": "price.net * 2", "channel": "'app'", "campaign": 7,
        },
        where="device.os = 'iOS' OR device IS NULL",
    )  # fmt: skip
    of = source(spec, tmp_path, table="events")
    (note,) = of.check()
    assert (note.key, note.severity) == ("events.columns.device", "note") and "device: device.os" in note.message
    by_customer = {r["customer_id"]: r for r in of.rows(START, FAR).to_pylist()}
    assert [(r["os"], r["browser"], r["value"]) for _, r in sorted(by_customer.items())] == [
        ("iOS", "1.2", 5.0), (None, None, 5.0), ("iOS", "1.2", None),
    ]  # fmt: skip
    assert (by_customer["17"]["channel"], by_customer["17"]["campaign"], by_customer["17"]["problem"]) == (
        "app",
        "7",
        None,
    )


QUERY = """
WITH visits AS (SELECT log.user.id AS who, ts, kind, device.os, device.app.version, price.net FROM log)
SELECT v.who, v.ts, v.kind, v.os, version AS browser, CAST(v.net AS DOUBLE) * 2 AS value, l.user.name AS referrer
FROM visits AS v JOIN (SELECT DISTINCT user FROM log) AS l ON l.user.id = v.who
"""


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_fields_are_written_in_a_query_as_in_columns(tmp_path: Path, suffix: str) -> None:
    lines = [EVENT | {"user": {"id": "17", "name": "x"}}, EVENT | {"user": {"id": "18", "name": "y"}, "device": None}]
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(lines), tmp_path / "e.parquet")
    else:
        (tmp_path / "e.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    columns: dict[str, str | bool | int | float] = {"customer_id": "who", "occurred_at": "ts", "event_type": "kind"}
    spec = TableSpec(files={"log": f"e.{suffix}"}, query=QUERY, stamp="epoch_s", columns=columns)
    of = source(spec, tmp_path, table="events")
    assert of.check() == []
    rows = of.rows(START, FAR).select(["customer_id", "os", "browser", "value", "referrer"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [("17", "iOS", "1.2", 5.0, "x"), ("18", None, None, 5.0, "y")]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_objects_are_not_taken_for_a_value_and_the_way_to_a_field_is_said(tmp_path: Path, suffix: str) -> None:
    line = {"customer_id": "a", "occurred_at": "2024-01-02", "event_type": "visit", "value": {"name": "q", "reward": 2}}
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([line]), tmp_path / "e.parquet")
    else:
        (tmp_path / "e.jsonl").write_text(json.dumps(line) + "\n")
    of = source(TableSpec(path=f"e.{suffix}"), tmp_path, table="events")
    (note,) = of.check()
    assert note.severity == "note" and "value: value.reward" in note.message and '{"name":"q"' in note.message
    (row,) = of.rows(START, FAR).to_pylist()
    assert (row["value"], row["problem"]) == (None, None)
    asked = source(TableSpec(path=f"e.{suffix}", columns={"value": "value"}), tmp_path, table="events")
    (problem,) = asked.check()
    assert problem.is_error and "map a field of it: value: value.reward" in problem.message
    way = source(TableSpec(path=f"e.{suffix}", columns={"value": "value.reward"}), tmp_path, table="events")
    assert way.check() == [] and way.rows(START, FAR)["value"].to_pylist() == [2.0]


def test_a_text_column_may_hold_json_and_invalid_json_is_reported(tmp_path: Path) -> None:
    header = "customer_id,occurred_at,amount,payload"
    csv(
        tmp_path / "a.csv",
        '1,2024-01-01,1,"{""kind"": ""A""}"',
        "2,2024-01-01,1,{broken",
        "3,2024-01-01,1,",
        header=header,
    )
    of = source(TableSpec(path="a.csv", columns={"category": "payload.kind"}), tmp_path)
    rows = {r["customer_id"]: (r["category"], r["problem"]) for r in of.rows(START, FAR).to_pylist()}
    assert rows == {"1": ("A", None), "2": (None, "category: not text"), "3": (None, None)}


@pytest.mark.parametrize(
    ("constant", "value"), [("'mail'", "mail"), ("mail_", "error"), (7, "7"), (True, "true"), ("'it''s'", "it's")]
)
def test_a_constant_is_a_value_and_not_the_name_of_a_column(tmp_path: Path, constant: Any, value: str) -> None:
    csv(tmp_path / "a.csv", "1,2024-01-01,1")
    of = source(TableSpec(path="a.csv", columns={"category": constant}), tmp_path)
    if value == "error":
        assert "write \"'mail_'\" if that text is meant" in str(of.check()[0])
    else:
        assert of.rows(START, FAR)["category"].to_pylist() == [value]


def test_one_mixed_log_feeds_several_tables(tmp_path: Path) -> None:
    header = "who,at,what,amount,action"
    csv(tmp_path / "log.csv", "1,2024-01-01,buy,9.5,", "1,2024-01-02,visit,,", "2,2024-01-02,send,,mail", header=header)
    columns: dict[str, str | bool | int | float] = {"customer_id": "who"}
    shop = {
        "transactions": TableSpec(path="log.csv", where="what = 'buy'", columns=columns | {"occurred_at": "at"}),
        "events": TableSpec(
            path="log.csv", where="what = 'visit'", columns=columns | {"occurred_at": "at", "event_type": "what"}
        ),
        "exposures": TableSpec(path="log.csv", where="what = 'send'", columns=columns | {"exposed_at": "at"}),
    }
    counts = {name: source(spec, tmp_path, table=name).rows(START, FAR).num_rows for name, spec in shop.items()}
    assert counts == {"transactions": 1, "events": 1, "exposures": 1}
    assert all(source(spec, tmp_path, table=name).undated().num_rows == 0 for name, spec in shop.items())

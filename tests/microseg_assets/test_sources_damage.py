"""Files as they come off real machines: lines that end in two ways, damage on the way, what programs put aside."""

from __future__ import annotations

import gzip
import json
import tempfile
from datetime import date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microseg_assets.sources import Source, SourceError, TableSpec, input_table, locate

START, FAR = date(2024, 1, 1), date(9999, 1, 1)
HEADER = b"customer_id,occurred_at,amount,category"


def source(spec: TableSpec, base: Path, *, table: str = "transactions") -> Source:
    return Source(input_table(table, spec), spec, project_zone="UTC", start=START, base=base)


def line(who: str, category: str = "x") -> bytes:
    return f"{who},2024-01-02 10:00:00,1.5,{category}".encode()


def categories_of(of: Source) -> dict[str, str | None]:
    return {row["customer_id"]: row["category"] for row in of.rows(START, FAR).to_pylist()}


# ---------------------------------------------------------------- lines that end in two ways


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@pytest.mark.parametrize(
    "ends",
    [(b"\n", b"\r\n"), (b"\r\n", b"\n"), (b"\r\r\n", b"\n"), (b"\r\n", b"\n\n"), (b"\r\n",), (b"\r\r\n",), (b"\r",)],
)
def test_it_does_not_matter_how_lines_end(tmp_path: Path, ends: tuple[bytes, ...], suffix: str) -> None:
    lines = [
        HEADER,
        line("a"),
        line("b", '"two\nlines"'),
        line("c", '"two\r\nlines"'),
        line("d", '"q"'),
        line("e", '""'),
    ]
    content = b"".join(one + ends[i % len(ends)] for i, one in enumerate(lines))
    (tmp_path / f"a.{suffix}").write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    of = source(TableSpec(path=f"a.{suffix}"), tmp_path)
    assert of.check() == [] and of.undated().num_rows == 0
    assert categories_of(of) == {"a": "x", "b": "two\nlines", "c": "two\r\nlines", "d": "q", "e": None}
    assert set(of.rows(START, FAR)["source"].to_pylist()) == {f"a.{suffix}"}


def test_a_mistake_in_a_file_with_mixed_line_endings_is_reported_for_that_file(tmp_path: Path) -> None:
    content = [HEADER, b"\n", line("a"), b"\r\n", b"b,short", b"\r\n", line("c", '"x"y'), b"\n", line("d"), b"\n"]
    (tmp_path / "a.csv").write_bytes(b"".join(content))
    (tmp_path / "b.csv").write_bytes(HEADER + b"\n" + line("e") + b"\n")
    of = source(TableSpec(path="*.csv"), tmp_path)
    assert sorted(categories_of(of)) == ["a", "d", "e"]
    rows = of.undated().to_pylist()
    assert [(row["source"], row["problem"]) for row in rows] == [("a.csv", "line: not a row of the file")] * 2


def test_half_a_row_never_passes_for_the_whole(tmp_path: Path) -> None:
    """A carriage return in the last cell is neither the end of the line nor nothing."""
    (tmp_path / "a.csv").write_bytes(b"\n".join([HEADER, line("a"), line("b", "half\rother half"), line("c"), b""]))
    of = source(TableSpec(path="a.csv"), tmp_path)
    assert sorted(categories_of(of)) == ["a", "c"] and of.undated().num_rows == 1


def test_the_folders_of_a_file_that_is_copied_still_carry_values(tmp_path: Path) -> None:
    (tmp_path / "in/category=deli").mkdir(parents=True)
    (tmp_path / "in/category=deli/a.csv").write_bytes(
        b"customer_id,occurred_at,amount\r\na,2024-01-02,1\nb,2024-01-02,1\r\n"
    )
    of = source(TableSpec(path="in"), tmp_path)
    assert categories_of(of) == {"a": "deli", "b": "deli"}


def test_copies_do_not_outlive_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_bytes(HEADER + b"\r\n" + line("a") + b"\n")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    assert categories_of(source(TableSpec(path="a.csv"), tmp_path)) == {"a": "x"}
    assert not list((tmp_path / "tmp").iterdir())


def test_a_name_of_a_column_may_have_two_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'customer_id,occurred_at,amount,"what\nkind"\n' + line("a") + b"\n")
    assert categories_of(source(TableSpec(path="a.csv", columns={"category": "what\nkind"}), tmp_path)) == {"a": "x"}


# ---------------------------------------------------------------- damaged on the way


def test_a_compressed_file_that_was_changed_is_refused_even_if_it_can_be_unpacked(tmp_path: Path) -> None:
    whole = gzip.compress(HEADER + b"\n" + b"\n".join(line(f"c{i}") for i in range(2000)) + b"\n")
    damaged = {
        "cut": whole[:-20], "start": whole[:10], "sum": whole[:-8] + b"\0\0\0\0" + whole[-4:],
        "inside": whole[:200] + b"\xff" * 50 + whole[250:], "other": b"customer_id\n1\n",
    }  # fmt: skip
    for name, content in damaged.items():
        for suffix in ("csv.gz", "jsonl.gz"):
            (tmp_path / f"{name}.{suffix}").write_bytes(content)
            (problem,) = source(TableSpec(path=f"{name}.{suffix}"), tmp_path).check()
            assert f"{name}.{suffix} is damaged (" in problem.message and "deliver it again" in problem.message


def test_a_file_that_is_not_utf_8_is_called_so(tmp_path: Path) -> None:
    for name, content in {"a.csv": HEADER + b"\n" + line("a") + b"\n", "a.jsonl": b'{"customer_id": 1}\n'}.items():
        for encoding in ("utf-16-le", "utf-16-be"):  # without a mark at the beginning
            (tmp_path / name).write_bytes(content.decode().encode(encoding))
            (problem,) = source(TableSpec(path=name), tmp_path).check()
            assert "is not UTF-8 text, but looks like UTF-16: save it as UTF-8" in problem.message


def test_a_line_of_json_that_is_none_is_shown_whatever_the_table(tmp_path: Path) -> None:
    good = b'{"customer_id": "a"}'
    broken = [b'{"customer_id": "b"', b"[1]", b'{"customer_id": "\xe9"}', b'{"customer_id": "c\0"}', good + good, b"7"]
    content = [b"\xef\xbb\xbf" + good, *broken, b"", b"  ", b'{"customer_id": "d"}']
    (tmp_path / "c.jsonl").write_bytes(b"\n".join(content) + b"\r\n")
    of = source(TableSpec(path="c.jsonl"), tmp_path, table="customers")
    assert of.rows(START, FAR)["customer_id"].to_pylist() == ["a", "d"]
    rows = of.undated().to_pylist()
    assert {row["problem"] for row in rows} == {"line: not a row of the file"} and len(rows) == len(broken)
    assert '{"customer_id": "b"' in {json.loads(row["delivered"])["line"] for row in rows}


def test_rows_are_counted_as_they_are_read(tmp_path: Path) -> None:
    """A byte that is no text makes its line no row, also where nobody asks for that cell."""
    content = [HEADER, line("a"), line("b", "Q").replace(b"Q", b"\xe9"), line("c")]
    (tmp_path / "a.csv").write_bytes(b"\n".join(content))
    of = source(TableSpec(path="a.csv"), tmp_path)
    assert sum(of.counts_by_day()["rows"].to_pylist()) == of.rows(START, FAR).num_rows == 2


def test_stamps_in_nanoseconds_are_read_on_any_day(tmp_path: Path) -> None:
    moments = pa.array([1_704_189_600 * 10**9, 2**63 - 1, -(2**63) + 1, 0], pa.timestamp("ns"))
    pq.write_table(
        pa.table({"customer_id": list("abcd"), "occurred_at": moments, "amount": [1.0] * 4}), tmp_path / "a.parquet"
    )
    of = source(TableSpec(path="a.parquet"), tmp_path)
    assert of.rows(START, date(2024, 2, 1))["occurred_at"].to_pylist() == [datetime(2024, 1, 2, 10)]
    assert of.rows(START, FAR).num_rows + of.undated().num_rows == 4


def test_a_column_may_be_called_filename_but_not_as_we_call_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HEADER + b",filename\n" + line("a") + b",mine\n")
    assert categories_of(source(TableSpec(path="a.csv", columns={"category": "filename"}), tmp_path)) == {"a": "mine"}
    (tmp_path / "b.csv").write_bytes(HEADER + b",__file\n" + line("a") + b",mine\n")
    with pytest.raises(SourceError, match="'__file', a reserved name: rename it"):
        source(TableSpec(path="b.csv"), tmp_path).rows(START, FAR)


# ---------------------------------------------------------------- which files


def test_the_same_bytes_in_two_folders_that_carry_values_are_two_deliveries(tmp_path: Path) -> None:
    for day in ("2024-01-01", "2024-01-02"):
        (tmp_path / f"in/occurred_at={day}").mkdir(parents=True)
        for name in ("part", "again"):
            (tmp_path / f"in/occurred_at={day}/{name}.csv").write_bytes(b"customer_id,amount\na,1\n")
    of = source(TableSpec(path="in"), tmp_path)
    rows = of.rows(START, FAR).to_pylist()
    assert sorted((str(row["day"]), row["problem"] or "") for row in rows) == [
        ("2024-01-01", ""), ("2024-01-01", "file: delivered before"),
        ("2024-01-02", ""), ("2024-01-02", "file: delivered before"),
    ]  # fmt: skip


@pytest.mark.parametrize("location", [".", "**/*.csv"])
def test_what_programs_put_aside_is_not_delivered(tmp_path: Path, location: str) -> None:
    for name in (".microseg/lake/x.csv", "in/.git/x.csv", "_tmp/x.csv", "in/_x.csv", ".x.csv", "in/_day=1/x.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(HEADER + b"\n")
    names = [Path(name).relative_to(tmp_path).as_posix() for name in locate(location, tmp_path)]
    assert names == ["in/_day=1/x.csv"]


def test_a_folder_that_lies_in_a_hidden_one_is_read_if_it_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ".cache/_in"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_bytes(HEADER + b"\n")
    for location in (".cache/_in", ".cache/_in/*.csv", ".cache/*/*.csv", ".cache/_*/*.csv"):
        if location != ".cache/*/*.csv":
            assert len(locate(location, tmp_path)) == 1, location
    with pytest.raises(SourceError, match="no file matches"):
        locate(".cache/*/*.csv", tmp_path)


# ---------------------------------------------------------------- other encodings


@pytest.mark.parametrize(
    ("declared", "written", "names"),
    [
        ("cp1252", "cp1252", "Käse„€“"), ("Latin-1", "latin-1", "Käse ÿ"), ("ISO8859-15", "iso8859-15", "Käse €"),
        ("mac_roman", "mac_roman", "Käse€"), ("utf-16-le", "utf-16-le", "Käse 日本 🎁"),
        ("auto", "utf-16", "Käse 日本 🎁"), ("utf-16", "utf-16", "Käse 日本 🎁"), ("utf8", "utf-8-sig", "Käse 日本 🎁"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl"])
def test_text_is_read_in_the_encoding_that_the_project_file_names(
    tmp_path: Path, declared: str, written: str, names: str, suffix: str
) -> None:
    rows = [{"customer_id": "a", "occurred_at": "2024-01-01", "amount": "1", "Größe": names}]
    content = json.dumps(rows[0], ensure_ascii=False) + "\r\n"
    if suffix != "jsonl":
        content = f'{";".join(rows[0])}\r\na;2024-01-01;1;"{names}\n2"\na;2024-01-02;1;{names}\r\n'
    raw = content.encode(written)
    folder = tmp_path / "in" / "shop=1"
    folder.mkdir(parents=True)
    (folder / f"a.{suffix}").write_bytes(gzip.compress(raw) if suffix.endswith("gz") else raw)
    of = source(TableSpec(path="in", encoding=declared, columns={"category": "Größe"}), tmp_path)
    assert of.check() == []
    rows_found = of.rows(START, FAR)
    expected = [names] if suffix == "jsonl" else [f"{names}\n2", names]
    assert rows_found["category"].to_pylist() == expected and of.undated().num_rows == 0
    assert set(rows_found["source"].to_pylist()) <= {"in", f"in/shop=1/a.{suffix}"}


def test_bytes_that_an_encoding_has_no_sign_for_make_their_line_no_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"customer_id,occurred_at,amount\nM\xfcller,2024-01-01,1\nB\x81,2024-01-01,1\n")
    of = source(TableSpec(path="a.csv", encoding="cp1252"), tmp_path)
    assert of.rows(START, FAR)["customer_id"].to_pylist() == ["Müller"]
    (lost,) = of.undated().to_pylist()
    assert lost["problem"] == "line: not a row of the file" and lost["source"] == "a.csv"
    (lost, _) = source(TableSpec(path="a.csv"), tmp_path).undated().to_pylist()
    assert "say so in the key encoding" in lost["delivered"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (TableSpec(path="a.csv", encoding="latin"), ""),
        (TableSpec(path="a.csv", encoding="klingon"), "'klingon' is not an encoding: write utf-8, latin-1, cp1252"),
        (TableSpec(path="a.csv", encoding="base64"), "'base64' is not an encoding"),
        (TableSpec(path="a.parquet", encoding="cp1252"), "Parquet files have no encoding: leave out the key"),
    ],
)
def test_an_unknown_encoding_is_reported(tmp_path: Path, spec: TableSpec, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(b"customer_id,occurred_at,amount\na,2024-01-01,1\n")
    pq.write_table(
        pa.table({"customer_id": ["a"], "occurred_at": ["2024-01-01"], "amount": [1]}), tmp_path / "a.parquet"
    )
    problems = source(spec, tmp_path).check()
    assert [p.key for p in problems] == (["transactions.encoding"] if said else [])
    assert all(said in p.message for p in problems)

"""What `microseg new` and `microseg check` observe of data before they are trusted, and what `new` does about it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microseg_assets import project as projects
from microseg_assets import scaffold
from microseg_assets.check import report as check_report
from microseg_assets.cli.customer import as_read
from microseg_assets.project import Project
from microseg_assets.sources import SourceError

FIRST = date(2024, 1, 1)
DAYS = 212  # January to July
HEADER = ["customer_id", "order_date", "total", "order_no"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def orders(ids: Sequence[str], seed: int = 1) -> list[list[object]]:
    """Customers who buy about every week to every two months."""
    draw = np.random.default_rng(seed)
    rows: list[list[object]] = [
        [id_, FIRST + timedelta(days=int(day)), round(float(draw.lognormal(3, 0.5)), 2), ""]
        for id_ in ids
        for day in draw.integers(0, DAYS, int(draw.integers(2, 20)))
    ]
    rows.sort(key=lambda row: str(row[1]))
    return [[*row[:3], f"o{i}"] for i, row in enumerate(rows)]


def new(desk: Path, capsys: pytest.CaptureFixture[str], *data: str) -> tuple[Project, str, str]:
    """The project, its text, and what was printed as one line."""
    path = desk / "shop.yaml"
    path.unlink(missing_ok=True)
    scaffold.new("shop", data, desk)
    return projects.load(str(path)), path.read_text(), " ".join(capsys.readouterr().out.split())


def check(desk: Path, capsys: pytest.CaptureFixture[str], text: str = "") -> str:
    if text:
        (desk / "shop.yaml").write_text(text)
    check_report.report(str(desk / "shop.yaml"))
    return " ".join(capsys.readouterr().out.split())


def ids_of(project: Project, table: str) -> set[str]:
    source = project.source(table)
    assert source is not None and project.end is not None
    return set(source.rows(project.start, project.end)["customer_id"].to_pylist())


FORM = """\
name: shop
start: 2024-01-01
end: 2024-07-30
tables:
  transactions:
    path: orders.csv
    columns: {occurred_at: order_date, amount: total, order_id: order_no}
"""
EXPORT = """\
  customers:
    path: customers_export.csv
    columns: {customer_id: Customer ID, registered_at: Created At, spent: Total Spent, bought: Total Orders}
    attributes: {spent: double, bought: double, Region: string}
"""
IDS = [f"{i:05d}" for i in range(1, 161)]


def export(path: Path, rows: list[list[object]], ids: Sequence[str]) -> None:
    """Customers as of the end of July, with totals."""
    draw = np.random.default_rng(8)
    total = {id_: [float(row[2]) for row in rows if row[0] == id_] for id_ in ids}  # type: ignore[arg-type]
    lines = [
        [
            i,
            FIRST - timedelta(days=int(draw.integers(1, 90))),
            round(sum(total[i]) / 1, 2),
            len(total[i]),
            "NESW"[n % 4],
        ]
        for n, i in enumerate(ids)
    ]
    write(path, ["Customer ID", "Created At", "Total Spent", "Total Orders", "Region"], lines)


# ── attributes ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_totals_as_of_the_export_are_no_attributes_and_check_warns_of_them(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = orders(IDS)
    write(desk / "orders.csv", HEADER, rows)
    export(desk / "customers_export.csv", rows, IDS)
    project, text, out = new(desk, capsys, "orders.csv", "customers_export.csv")
    assert [one.name for one in project.attributes] == ["region"]
    assert (
        "# Not taken: Total Orders: attribute total_orders equals the number of orders over the whole history" in text
    )
    assert "! customers: attribute total_orders equals the number of orders" in out
    out = check(desk, capsys, FORM + EXPORT)
    assert "attribute spent equals the total spend over the whole history for 100% of the customers" in out
    assert "attribute bought equals the number of orders" in out and "attribute Region" not in out


@pytest.mark.parametrize("answer", ["    as_of: 2024-07-31\n", "    timeless: [spent, bought]\n"])
def test_an_attribute_that_is_dated_or_declared_timeless_is_answered(
    desk: Path, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    rows = orders(IDS)
    write(desk / "orders.csv", HEADER, rows)
    export(desk / "customers_export.csv", rows, IDS)
    assert "attribute spent" not in check(desk, capsys, FORM + EXPORT + answer)


def test_what_is_timeless_must_be_an_attribute_and_only_customers_have_any(desk: Path) -> None:
    for wrong, sentence in (
        (EXPORT + "    timeless: [Regio]\n", "did you mean 'Region'"),
        ("    as_of: 2024-07-31\n", "as_of, timeless and layers belong to customers"),
    ):
        (desk / "shop.yaml").write_text(FORM + wrong)
        with pytest.raises(projects.ProjectError, match=re.escape(sentence)):
            projects.load(str(desk / "shop.yaml"))


# ── ids ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ids_with_leading_zeros_match_those_of_a_number_column(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(desk / "orders.csv", HEADER, orders(IDS))
    people = {"customer_id": [int(i) for i in IDS], "region": ["N", "S"] * 80}
    pq.write_table(pa.table(people), desk / "customers.parquet")
    out = check(desk, capsys, FORM + "  customers:\n    path: customers.parquet\n    attributes: {region: string}\n")
    assert "0 of its 160 ids occur in transactions (160 ids)" in out
    assert r"160 match with customer_id: regexp_replace(trim(customer_id), '^0+(.)', '\1') in transactions" in out
    project, text, _ = new(desk, capsys, "orders.csv", "customers.parquet")
    assert ids_of(project, "transactions") == ids_of(project, "customers")
    assert "so 160 of 160 ids of customers match those of transactions, unchanged 0" in text
    assert "none refused, all bought" in check(desk, capsys)


def test_ids_of_nobody_are_reported_and_left_out_and_nothing_is_lost(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = orders(IDS[1:])
    for n, word in enumerate(["NULL", "n/a", "-1", "00000", "4.10003E+12", "4.10008E+12"]):
        rows += [[word, FIRST + timedelta(days=(17 * i + n) % DAYS), 9.99, f"x{n}{i}"] for i in range(12)]
    till = [["80000", FIRST + timedelta(days=i % DAYS), 4.5, f"t{i}"] for i in range(len(rows) // 3)]
    write(desk / "orders.csv", HEADER, sorted([*rows, *till], key=lambda row: str(row[1])))
    project, text, out = new(desk, capsys, "orders.csv")
    ids = project.validation.ids
    assert set(ids.not_customers) == {"NULL", "n/a", "-1", "00000"} and ids.rounded == "refuse"
    assert "the id '80000' has 25% of all orders" in out and "# not_customers: ['80000'] # TODO" in text
    out = check(desk, capsys)
    assert "48 left out, as validation.ids.not_customers says" in out
    assert "24 left out, as validation.ids.rounded says" in out
    assert "placeholders" not in out, "what is answered is not asked again"
    plain = check(desk, capsys, FORM)
    assert "'-1', '00000', 'NULL', 'n/a' are placeholders, not customers, in 48 rows" in plain
    assert "2 ids such as 4.10003E+12 have been rounded by a spreadsheet" in plain


def test_spellings_of_one_id_are_merged(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = orders([f"anna{i}@shop.org" for i in range(60)])
    spelt = [str.upper, lambda s: s.replace("anna", "Anna"), lambda s: f"{s}\u00a0", lambda s: s]
    write(desk / "orders.csv", HEADER, [[spelt[i % 4](row[0]), *row[1:]] for i, row in enumerate(rows)])
    project, text, _ = new(desk, capsys, "orders.csv")
    assert ids_of(project, "transactions") == {f"anna{i}@shop.org" for i in range(60)}
    assert "spellings of 60 ids" in text


def test_ids_from_a_float_column_are_reported_as_read_as_whole_numbers(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(desk / "orders.csv", HEADER, [[f"{int(str(row[0]))}.0", *row[1:]] for row in orders(IDS)])
    assert "100% of the ids were delivered as numbers: " in check(desk, capsys, FORM)
    assert re.search(r"\d+\.0 is read as \d+", new(desk, capsys, "orders.csv")[1])


@pytest.mark.parametrize("id_", ["13085", "13085.0", " 13085.00 "])
def test_a_customer_is_found_by_the_id_as_delivered_and_as_read(id_: str) -> None:
    assert as_read(id_) == "13085"
    assert as_read("A.0") == "A.0"


# ── days, states, currencies ──────────────────────────────────────────────────────────────────────────────────────


def test_one_row_of_1970_and_one_of_2031_are_left_out_of_the_start_and_the_next_command(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["c1", "1970-01-01", 5, "x1"], *orders(IDS[:40])[:356], ["c1", "2031-05-26", 5, "x2"]]
    write(desk / "orders.csv", HEADER, rows)
    project, _, out = new(desk, capsys, "orders.csv")
    last = max(row[1] for row in rows[1:-1])  # type: ignore[type-var]
    assert (project.start, project.end) == (rows[1][1], last)
    assert f"--to {last}" in out and "2 rows lie far from all others" in out
    assert "1 row lies in the future, on 2031-05-26" in check(desk, capsys, FORM)


def test_a_currency_column_and_states_of_orders_are_reported_with_their_recipe(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        [*row, ("EUR", "EUR", "USD", "GBP")[i % 4], "cancelled" if i % 10 == 0 else "paid"]
        for i, row in enumerate(orders(IDS))
    ]
    write(desk / "orders.csv", [*HEADER, "currency", "order status"], rows)
    _, text, out = new(desk, capsys, "orders.csv")
    assert "currency: EUR # TODO currency has 3 currencies, and nothing is converted: EUR, GBP, USD" in text
    recipe = "amount: (…) * CASE trim(coalesce(currency, '')) WHEN 'EUR' THEN 1 WHEN"
    assert recipe in text and "currency has 3 currencies (EUR 50%" in out
    states = "order status marks orders that may not be sales (cancelled 10.0%), and all are counted: where: trim("
    for printed in (out, check(desk, capsys, FORM)):
        assert states in printed and recipe in printed
    answered = FORM.replace("amount: total", "amount: \"CASE currency WHEN 'EUR' THEN total END\"")
    answered += "    where: '\"order status\" <> ''cancelled'''\n"
    out = check(desk, capsys, answered)
    assert "currencies" not in out and "may not be sales" not in out


def test_what_cannot_be_read_does_not_keep_the_file_from_being_written(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise SourceError("gone")

    write(desk / "orders.csv", HEADER, orders(IDS[:20]))
    monkeypatch.setattr("microseg_assets.scaffold.settle.observe_sources", fails)
    assert projects.load(str(scaffold.new("shop", ["orders.csv"], desk))).tables.transactions.path == "orders.csv"


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def daily_files(folder: Path, name: str = "orders-{}.csv", days: int = 30, from_day: int = 20) -> list[list[object]]:
    """A file a day, the later ones with one column more."""
    folder.mkdir(exist_ok=True)
    rows = [row for row in orders(IDS, seed=4) if row[1] < FIRST + timedelta(days=days)]  # type: ignore[operator]
    for i in range(days):
        day = FIRST + timedelta(days=i)
        of_day = [row for row in rows if row[1] == day] or [["x", day, 1.0, f"x{i}"]]
        header = HEADER if i < from_day else [*HEADER, "device"]
        write(folder / name.format(day), header, [row if i < from_day else [*row, "web"] for row in of_day])
    return rows


def test_a_folder_whose_later_files_have_a_column_more_is_taken_whole(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daily_files(desk / "daily")
    project, text, out = new(desk, capsys, "daily")
    assert project.tables.transactions.path == "daily"
    assert (project.start, project.end) == (FIRST, FIRST + timedelta(days=29))
    assert "device is in only 10 of 30 files, the first of them orders-2024-01-21.csv" in out
    assert "# 30 files, not all with the same columns" in text


def test_another_table_in_the_folder_stays_another_table(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daily_files(desk / "daily")
    write(desk / "daily" / "customers.csv", ["customer_id", "region"], [[i, "NS"[n % 2]] for n, i in enumerate(IDS)])
    project, _, _ = new(desk, capsys, "daily")
    assert project.tables.transactions.path == "daily/orders-*.csv"
    assert project.tables.customers is not None and project.tables.customers.path == "daily/customers.csv"


def test_what_a_sample_has_shown_is_called_at_least(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microseg_assets.scaffold.profile.MAX_SAMPLE_ROWS", 300)
    rows = [[*row, "DE" if i < 900 else f"C{i % 25}"] for i, row in enumerate(orders(IDS))]
    write(desk / "orders.csv", [*HEADER, "country"], rows)
    _, text, _ = new(desk, capsys, "orders.csv")
    assert "country: at least 1 (in a sample of 300 rows) different" in text
    assert "customer_id: customer_id # 160 different values, never missing" in text, "what is used is counted"


def test_a_mixed_log_gives_its_other_tables_and_profiles_are_found_by_their_ids(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(6)
    people = [f"{n:032x}" for n in draw.integers(1, 2**62, 600)]
    kinds = ["transaction", "offer received", "offer viewed", "offer completed"]
    events = [
        [id_, kinds[k], 12.5 if k == 0 else "", "" if k == 0 else "abc"[k % 3], FIRST + timedelta(days=int(day))]
        for id_ in people
        for k, day in zip(draw.integers(0, 4, 8), draw.integers(0, 60, 8), strict=True)
    ]
    write(
        desk / "transcript.csv", ["person", "event", "amount", "offer", "date"], sorted(events, key=lambda e: str(e[4]))
    )
    profiles = [[i, "MF"[n % 2], 20 + n % 60, 20230101 + n % 28] for n, i in enumerate(people)]
    write(desk / "profile.csv", ["id", "gender", "age", "became_member_on"], profiles)
    project, text, _ = new(desk, capsys, "transcript.csv", "profile.csv")
    assert project.missing_tables() == ["balances"]
    assert ids_of(project, "customers") == set(people)
    assert "customer_id: id # id: its values are the ids of transcript.csv" in text
    assert "registered_at: CAST(strptime(became_member_on, '%Y%m%d') AS DATE)" in text
    for table, wanted in (("events", set(kinds[1:])), ("exposures", {"offer received"})):
        source = project.source(table)
        assert source is not None and project.end is not None
        column = "event_type" if table == "events" else "action"
        rows = source.rows(project.start, project.end)
        assert rows.num_rows == sum(e[1] in wanted for e in events)
        if table == "events":
            assert set(rows[column].to_pylist()) == wanted


def test_ids_of_another_kind_are_not_taken_for_those_of_the_log(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(desk / "orders.csv", HEADER, orders(IDS))
    write(desk / "things.csv", ["sku", "name"], [[f"s{i}", f"thing {i}"] for i in range(300)])
    project, text, _ = new(desk, capsys, "orders.csv", "things.csv")
    assert project.tables.customers is None and "# Not used: things.csv" in text

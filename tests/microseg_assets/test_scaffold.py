"""`microseg new`: what it guesses of data that nobody has prepared, why, and what it leaves to the user."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from microseg_assets import project as projects
from microseg_assets import scaffold
from microseg_assets.project import Project, ProjectError
from microseg_assets.scaffold import columns as source_columns
from microseg_assets.scaffold.assign import calendar
from microseg_assets.scaffold.columns import Holds, Repeats, SourceColumn, number, stamp
from microseg_assets.scaffold.infer import guesses
from microseg_assets.scaffold.names import plain
from microseg_assets.scaffold.render import _yaml
from microseg_assets.sources import SourceError
from ml.features import guess_roles

FIRST = date(2023, 1, 2)
DAYS = 130


def seen(name: str, values: Iterable[str], *, type_: str = "VARCHAR", missing: int = 0) -> SourceColumn:
    rows = list(values)
    different = tuple(dict.fromkeys(rows))
    return SourceColumn(name, type_, len(rows) + missing, missing, len(different), different)


def stamps() -> list[datetime]:
    return [datetime(2023, 1, 2, 8, 5, 30) + timedelta(hours=11 * i) for i in range(200)]


# ── names ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CustomerID", "customer_id"), ("Customer ID", "customer_id"), (" customer-id ", "customer_id"),
        ("Kunden-Nr.", "kunden_nr"), ("Größe", "groesse"), ("N° client", "n_client"), ("Date d'achat", "date_d_achat"),
        ("UnitPrice", "unit_price"), ("HTTPStatus", "http_status"), ("Umsatz (€)", "umsatz"), ("日付", ""),
    ],
)  # fmt: skip
def test_names_are_compared_without_accents_signs_and_capitals(name: str, expected: str) -> None:
    assert plain(name) == expected


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("values", "expression"),
    [
        (["1.5", "2", "-3.25"], "amount"),
        (["1,5", "12,50", "-3,25"], "CAST(replace(amount, ',', '.') AS DOUBLE)"),
        (["1.234,50", "12,50"], "CAST(replace(replace(amount, '.', ''), ',', '.') AS DOUBLE)"),
        (["1,234.50", "12.50"], "CAST(replace(amount, ',', '') AS DOUBLE)"),
        (["12,50 €", "3,00 €"], r"CAST(replace(regexp_replace(amount, '[€\s\p{Z}]', '', 'g'), ',', '.') AS DOUBLE)"),
        (["$1,200.00", "$3.50"], r"CAST(replace(regexp_replace(amount, '[$\s\p{Z}]', '', 'g'), ',', '') AS DOUBLE)"),
        (
            ["1 234,50", "2,50"],  # a narrow space that does not break, as French spreadsheets write it
            r"CAST(replace(regexp_replace(amount, '[\s\p{Z}]', '', 'g'), ',', '.') AS DOUBLE)",
        ),
    ],
)
def test_numbers_are_read_in_every_notation(values: list[str], expression: str) -> None:
    numbers = number(seen("amount", values))
    assert numbers is not None and numbers.expression == expression and not numbers.doubt


@pytest.mark.parametrize(
    "values", [["a", "b"], ["1.2.2023"], ["1,5", "2.5", "1.000,00", "1,000.00"], ["12 kg", "3 kg"], []]
)
def test_values_that_are_not_numbers_in_one_style_are_left_alone(values: list[str]) -> None:
    assert number(seen("x", values)) is None


def test_a_comma_that_could_be_either_is_marked_as_doubtful() -> None:
    numbers = number(seen("x", ["1,234", "5,678"]))
    assert numbers is not None and "comma" in numbers.doubt


# ── stamps ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("form", "expression"),
    [
        ("%Y-%m-%d", "t"),
        ("%Y-%m-%d %H:%M:%S", "t"),
        ("%Y-%m-%dT%H:%M:%SZ", "t"),
        ("%d.%m.%Y", "CAST(strptime(t, '%d.%m.%Y') AS DATE)"),
        ("%d.%m.%Y %H:%M", "strptime(t, '%d.%m.%Y %H:%M')"),
        ("%m/%d/%Y %H:%M", "strptime(t, '%m/%d/%Y %H:%M')"),
        ("%m/%d/%Y %I:%M %p", "strptime(t, '%m/%d/%Y %I:%M %p')"),
        ("%d/%m/%y", "CAST(strptime(t, '%d/%m/%y') AS DATE)"),
        ("%Y%m%d", "CAST(strptime(t, '%Y%m%d') AS DATE)"),
        ("%d-%b-%Y", "CAST(strptime(t, '%d-%b-%Y') AS DATE)"),
    ],
)
def test_stamps_are_read_in_every_format(form: str, expression: str) -> None:
    reading = stamp(seen("t", [one.strftime(form) for one in stamps()]))
    assert reading is not None and reading.expression == expression and not reading.doubt


@pytest.mark.parametrize(("factor", "unit"), [(1, "s"), (1_000, "ms"), (1_000_000, "us"), (1_000_000_000, "ns")])
def test_an_epoch_is_read_as_an_instant_whatever_its_unit(factor: int, unit: str) -> None:
    reading = stamp(seen("t", [str(int(one.replace(tzinfo=UTC).timestamp()) * factor) for one in stamps()]))
    assert reading is not None and (reading.expression, reading.stamp) == ("t", f"epoch_{unit}")


def test_day_and_month_that_no_value_distinguishes_are_left_to_the_user() -> None:
    reading = stamp(seen("t", ["03/04/2023", "05/06/2023", "11/12/2023"]))
    assert reading is not None and "day first" in reading.doubt


@pytest.mark.parametrize("values", [["x"], ["12.5", "3.5"], ["1", "2", "3"], ["2023-13-45", "2023-02-31x"], []])
def test_values_that_are_not_stamps_are_left_alone(values: list[str]) -> None:
    assert stamp(seen("t", values)) is None


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────────

IDS = [str(1000 + i % 40) for i in range(200)]
LINES = [str(50_000 + i) for i in range(200)]
MONEY = [f"{i % 37 + 0.5:.2f}" for i in range(200)]
TIMES = [one.isoformat(" ") for one in stamps()]
HEADERS = {
    "plain": ("customer_id", "occurred_at", "amount"),
    "capitals": ("CUSTOMER_ID", "ORDER_DATE", "SALES_VALUE"),
    "camels": ("CustomerID", "InvoiceDate", "TotalPrice"),
    "spaces": ("Customer ID", "Order Date", "Net Sales"),
    "shop": ("user_id", "created_at", "total"),
    "German": ("Kundennummer", "Kaufdatum", "Umsatz"),
    "German signs": ("Kunden-Nr.", "Bestell-Datum", "Betrag (€)"),
    "French": ("N° client", "Date d'achat", "Montant"),
    "French codes": ("id_client", "date_commande", "montant_ht"),
    "Spanish": ("id_cliente", "fecha", "importe"),
    "grocer": ("household_id", "transaction_timestamp", "sales_value"),
    "donors": ("donor id", "date", "amount given"),
}  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_headers_of_many_kinds_are_understood(header: str) -> None:
    who, when, paid = HEADERS[header]
    guess = guesses("export", [seen(paid, MONEY), seen(when, TIMES), seen(who, IDS)])[0]
    assert guess.table == "transactions" and not guess.lacks
    assert {name: reading.uses for name, reading in guess.columns.items()} == {
        "customer_id": (who,), "occurred_at": (when,), "amount": (paid,),
    }  # fmt: skip


def transactions(*more: SourceColumn) -> dict[str, str]:
    guess = guesses("sales", [seen("customer", IDS), seen("date", TIMES), *more])[0]
    assert guess.table == "transactions"
    return {name: reading.expression for name, reading in guess.columns.items()}


def test_a_unit_price_is_multiplied_by_the_quantity() -> None:
    mapping = transactions(seen("UnitPrice", MONEY), seen("Quantity", ["1", "2", "-1"]))
    assert mapping["amount"] == "UnitPrice * Quantity" and mapping["quantity"] == "Quantity"


def test_taxes_costs_and_ids_are_never_mapped_as_revenue() -> None:
    mapping = transactions(seen("tax_amount", MONEY), seen("shipping_total", MONEY), seen("total_discount", MONEY))
    assert "amount" not in mapping and mapping["discount"] == "total_discount"


def test_an_id_that_repeats_is_an_order_and_never_a_transaction_id() -> None:
    money = seen("amount", MONEY)
    assert transactions(money, seen("transaction_id", LINES))["transaction_id"] == "transaction_id"
    repeated = transactions(money, seen("transaction_id", [line[:-1] for line in LINES]))
    assert repeated["order_id"] == "transaction_id" and "transaction_id" not in repeated


@pytest.mark.parametrize(
    "header",
    [
        "Transaction ID", "transactionId", "TransactionNo", "Trans. No.", "TRANSACTIONID", "txn_ref", "Transaktions-ID",
        "N° de transaction", "id_transaccion", "Transactienummer", "Payment Reference", "Order Line No", "Zeilennummer",
    ],
)  # fmt: skip
def test_the_id_of_a_line_is_recognised_in_many_languages(header: str) -> None:
    assert transactions(seen("amount", MONEY), seen(header, LINES))["transaction_id"] == header


@pytest.mark.parametrize("header", ["Invoice No.", "Order Number", "Bestell-Nr.", "Rechnungsnummer", "factura"])
def test_the_number_of_an_order_is_never_a_transaction_id_even_where_it_does_not_repeat_yet(header: str) -> None:
    mapping = transactions(seen("amount", MONEY), seen(header, LINES))
    assert mapping["order_id"] == header and "transaction_id" not in mapping


def test_an_id_that_repeats_with_the_same_purchase_was_sent_again() -> None:
    """Of 200 purchases, 20 pages were reloaded; two lines of an order would differ."""
    money, sent = seen("amount", MONEY), seen("Transaction ID", [*LINES[:180], *LINES[:20]])
    again, others = replace(sent, repeats=Repeats(0, 20)), replace(sent, repeats=Repeats(15, 0))
    assert transactions(money, again)["transaction_id"] == "Transaction ID"
    for one in (sent, others, replace(sent, repeats=Repeats(0, 150))):
        assert transactions(money, one).items() >= {"order_id": "Transaction ID"}.items()
    assert transactions(money, replace(sent, missing=5, repeats=Repeats(0, 0)))["transaction_id"] == "Transaction ID"


@pytest.mark.parametrize(
    "header", ["sum", "total", "value", "Betrag", "Summe", "Line Sum", "somme", "suma", "totaal", "P1"]
)
def test_a_customer_a_date_and_money_are_purchases_whatever_their_names(header: str) -> None:
    """Even with a column that could be the group of a campaign."""
    words = ["toys", "food", "drinks"] * 66 + ["toys"] * 2
    columns = [seen("customer", IDS), seen("date", TIMES), seen(header, MONEY), seen("group", words)]
    guess = guesses("export", columns)[0]
    assert (guess.table, guess.lacks) == ("transactions", ())
    amount = guess.columns["amount"]
    assert (amount.uses, guess.columns["category"].uses) == ((header,), ("group",))
    assert amount.is_named is (header != "P1") and bool(amount.doubt) is (header == "P1")


def test_a_group_is_an_action_if_its_values_say_so_and_a_category_if_customers_buy_from_several() -> None:
    columns = [seen("customer", IDS), seen("date", TIMES)]
    assert guesses("export", [*columns, seen("group", ["coupon", "control"])])[0].table == "exposures"
    assert guesses("campaigns", [*columns, seen("group", ["coupon", "call"])])[0].table == "exposures"
    assert "exposures" not in {g.table for g in guesses("export", [*columns, seen("group", ["a", "b"])]) if not g.lacks}
    of_customer = replace(seen("customer group", ["gold", "silver"] * 100), is_of_customer=True)
    assert "category" not in transactions(seen("amount", MONEY), of_customer)


def test_discounts_are_summed_turned_positive_and_shares_left_out() -> None:
    money = seen("amount", MONEY)
    two = transactions(money, seen("retail_disc", MONEY), seen("coupon_disc", MONEY, missing=5))
    assert two["discount"] == "retail_disc + coalesce(coupon_disc, 0)"
    assert transactions(money, seen("Rabatt", ["-1.5", "-2.0", "0"]))["discount"] == "-Rabatt"
    assert "discount" not in transactions(money, seen("discount_pct", ["10", "20"]))
    assert "discount" not in transactions(money, seen("discount", ["0.1", "0.25", "0"]))


def test_a_time_of_day_in_another_column_completes_the_day() -> None:
    columns = [
        seen("client", IDS), seen("Date", [one.strftime("%d/%m/%Y") for one in stamps()]),
        seen("Heure", [one.strftime("%H:%M") for one in stamps()]), seen("montant", MONEY),
    ]  # fmt: skip
    reading = guesses("ventes", columns)[0].columns["occurred_at"]
    assert reading.expression == "strptime(Date || ' ' || Heure, '%d/%m/%Y %H:%M')" and reading.uses == (
        "Date",
        "Heure",
    )


def test_what_a_stamp_holds_does_not_depend_on_the_words_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    forms: dict[str, Holds] = {
        "%Y-%m-%d": "days", "%d.%m.%Y": "days", "%Y-%m-%d %H:%M:%S": "stamps", "%Y-%m-%dT%H:%M:%S+02:00": "zoned_stamps"
    }  # fmt: skip
    columns = [
        seen("client", IDS), seen("Date", [one.strftime("%d/%m/%Y") for one in stamps()]),
        seen("Heure", [one.strftime("%H:%M") for one in stamps()]), seen("montant", MONEY),
    ]  # fmt: skip

    def understood() -> tuple[list[Holds | None], str]:
        readings = [stamp(seen("t", [one.strftime(form) for one in stamps()])) for form in forms]
        holds = [reading.holds if reading is not None else None for reading in readings]
        return holds, guesses("ventes", columns)[0].columns["occurred_at"].expression

    before = understood()
    assert before[0] == list(forms.values())
    monkeypatch.setattr(source_columns, "_HOLDS", dict.fromkeys(forms.values(), "dada since 1970, days"))
    assert understood() == before


def test_rows_without_a_customer_are_left_out_with_a_note() -> None:
    guess = guesses("sales", [seen("CustomerID", IDS, missing=50), seen("date", TIMES), seen("amount", MONEY)])[0]
    assert guess.where == "trim(coalesce(CAST(CustomerID AS VARCHAR), '')) <> ''"
    assert guess.where_note.startswith("20.0%")


OTHERS: dict[str, tuple[str, list[SourceColumn], dict[str, str]]] = {
    "customers": (
        "crm",
        [seen("Kunden-Nr", LINES), seen("angelegt am", TIMES), seen("Region", ["Nord", "Süd"]), seen("Name", LINES)],
        {"customer_id": "Kunden-Nr", "registered_at": "angelegt am"},
    ),
    "events": (
        "clickstream",
        [seen("user_id", IDS), seen("ts", TIMES), seen("event", ["view", "cart"]), seen("device_type", ["ios", "web"])],
        {"customer_id": "user_id", "occurred_at": "ts", "event_type": "event", "device": "device_type"},
    ),
    "exposures": (
        "mailings",
        [seen("customer", IDS), seen("sent_at", TIMES), seen("treatment", ["coupon", "control"]), seen("p", MONEY)],
        {"customer_id": "customer", "exposed_at": "sent_at", "action": "treatment"},
    ),
    "balances": (
        "loyalty_points",
        [seen("member_id", IDS), seen("date", TIMES), seen("points", MONEY)],
        {"customer_id": "member_id", "as_of": "date", "balance": "points"},
    ),
}


@pytest.mark.parametrize("table", OTHERS)
def test_every_table_is_recognised(table: str) -> None:
    file, columns, expected = OTHERS[table]
    guess = guesses(file, columns)[0]
    assert guess.table == table and not guess.lacks
    assert {name: reading.expression for name, reading in guess.columns.items()} == expected


def test_attributes_are_values_that_many_customers_share_and_never_names() -> None:
    file, columns, _ = OTHERS["customers"]
    assert guesses(file, columns)[0].attributes == {"Region": "string"}


def test_a_file_without_customers_is_no_table() -> None:
    assert guesses("products", [seen("product_id", LINES), seen("price", MONEY), seen("date", TIMES)]) == []


def test_a_guess_that_lacks_a_column_names_it() -> None:
    lacks = {guess.table: guess.lacks for guess in guesses("sales", [seen("customer", IDS), seen("date", TIMES)])}
    assert {"transactions": ("amount",), "balances": ("balance",)}.items() <= lacks.items()


def test_few_rows_far_away_do_not_make_the_calendar() -> None:
    days = {FIRST + timedelta(days=i): 100 for i in range(DAYS)}
    assert calendar(days) == (FIRST, FIRST + timedelta(days=DAYS - 1), 0)
    assert calendar({**days, date(1970, 1, 1): 1, date(2099, 1, 1): 2}) == (FIRST, FIRST + timedelta(days=DAYS - 1), 3)
    assert calendar({FIRST: 5}) == (FIRST, FIRST, 0)


@example("-")  # alone on a line it would open a list
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_text_is_one_yaml_value_again(text: str) -> None:
    assert yaml.safe_load(f"key: {_yaml(text)} # said") == {"key": text}


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sales(rows: int = 600) -> list[tuple[int, datetime, float, str]]:
    """Line, stamp, amount, category; the customer is the line modulo something."""
    step = timedelta(days=DAYS) / rows
    start = datetime(2023, 1, 2)
    return [
        (i, start + i * step, round(1 + i * 7 % 3001 / 1.7, 2), ("Brot", "Käse", "Obst & Gemüse")[i % 3])
        for i in range(rows)
    ]


def comma(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def german(path: Path) -> None:
    lines = [f"{i // 2};K{i % 61};{t:%d.%m.%Y};{comma(a)};{c}" for i, t, a, c in sales()]
    header = "Beleg-Nr.;Kunden-Nr.;Kaufdatum;Umsatz (€);Warengruppe"
    path.write_text("\r\n".join([header, *lines]), encoding="utf-8-sig", newline="")


def french(path: Path) -> None:
    rows = [(f"C{i % 61}", f"{t:%d/%m/%Y}", f"{t:%H:%M}", f"{comma(a)} €", c) for i, t, a, c in sales()]
    write(path, ["N° client", "Date d'achat", "Heure", "Montant", "Rayon"], rows)


def american(path: Path) -> None:
    rows = [
        (i // 3, f"{t.month}/{t.day}/{t.year} {t.hour}:{t:%M}", a, i % 5 - 1, "" if i % 4 == 0 else f"{i % 61}.0")
        for i, t, a, _ in sales()
    ]
    write(path, ["InvoiceNo", "InvoiceDate", "UnitPrice", "Quantity", "CustomerID"], rows)


def log(path: Path) -> None:
    lines = [
        {"user": {"id": i % 61}, "userId": i % 61, "ts": int(t.replace(tzinfo=UTC).timestamp() * 1000),
         "event": "purchase" if i % 2 else "view", "value": a}
        for i, t, a, _ in sales()
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")


def parquet(path: Path) -> None:
    i, t, a, c = zip(*sales(), strict=True)
    table = {"Customer Key": [f"{n % 61}" for n in i], "Order Time": t, "Net Amount": a, "Product Category": c}
    pq.write_table(pa.table(table), path)


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    path.write_text(text.getvalue(), encoding="utf-8", newline="")


def rows_of(project: Project) -> list[dict[str, object]]:
    source = project.source("transactions")
    assert source is not None and project.end is not None and source.check() == []
    return source.rows(project.start, project.end).to_pylist()


@pytest.mark.parametrize(
    ("make", "file", "expected"),
    [
        (german, "umsätze.csv", 600), (french, "ventes.csv", 600), (american, "Online Retail.csv", 450),
        (log, "log.jsonl", 300), (parquet, "orders.parquet", 600),
    ],
)  # fmt: skip
def test_a_file_that_nobody_prepared_is_read_without_a_correction(
    desk: Path, make: Callable[[Path], None], file: str, expected: int
) -> None:
    make(desk / file)
    path = scaffold.new("shop", [file], desk)
    project = projects.load(str(path))
    rows = rows_of(project)
    assert len(rows) == expected and all(row["problem"] is None for row in rows)
    assert (project.start, project.end) == (FIRST, FIRST + timedelta(days=DAYS - 1))
    assert {row["day"] for row in rows} <= {row["occurred_at"].date() for row in rows}  # type: ignore[attr-defined]
    if make is not american:
        amounts = {a for i, _, a, _ in sales() if make is not log or i % 2}
        assert {row["amount"] for row in rows} == amounts


def test_every_guessed_line_has_its_evidence(desk: Path) -> None:
    german(desk / "de.csv")
    lines = scaffold.new("shop", ["de.csv"], desk).read_text().splitlines()
    for key in ("customer_id", "occurred_at", "amount", "order_id", "category", "start", "end", "currency"):
        (line,) = (line for line in lines if line.strip().startswith(f"{key}:"))
        assert " # " in line, line
    assert "      customer_id: Kunden-Nr. # 61 different values, never missing" in lines
    assert "currency: EUR # as Umsatz (€) says" in lines
    assert "  categories: [Brot, Käse, Obst & Gemüse] # the most frequent; each share of spend is a feature" in lines


def test_reloaded_pages_do_not_hide_the_id_that_distinguishes_them(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every tenth purchase is sent again, half a minute or a day later; with other amounts it is no such id."""
    sold = [(i % 61, t, a, f"T{n}") for n, (i, t, a, _) in enumerate(sales())]
    again = [(i, t + (timedelta(days=1) if n % 20 else timedelta(seconds=30)), a, id_)
             for n, (i, t, a, id_) in enumerate(sold) if n % 10 == 0]  # fmt: skip
    header = ["Customer", "Date", "Amount", "Transaction ID"]
    write(desk / "sales.csv", header, [*sold, *again])
    text = scaffold.new("shop", ["sales.csv"], desk).read_text()
    assert "      transaction_id: Transaction ID # rows that repeat an id repeat its purchase, and are left out" in text
    assert "a reloaded page" not in capsys.readouterr().out
    write(desk / "baskets.csv", header, [*sold, *((i, t, a + 1, id_) for i, t, a, id_ in sold[::10])])
    text = scaffold.new("baskets", ["baskets.csv"], desk).read_text()
    assert "      order_id: Transaction ID" in text and "      transaction_id:" not in text
    out = " ".join(capsys.readouterr().out.split())
    remedy = "map transaction_id or set validation.duplicates: keep one"
    assert f"a reloaded page counts as a purchase: {remedy}" in out


def test_the_roles_of_events_are_proposed_as_they_are_guessed(desk: Path) -> None:
    german(desk / "de.csv")
    kinds = ["page_view", "page_view", "in den Warenkorb: add_to_cart", "logout", "coupon_page", "404"]
    rows = [(i % 61, t.isoformat(), kinds[n % len(kinds)]) for n, (i, t, *_) in enumerate(sales())]
    write(desk / "clickstream.csv", ["user_id", "ts", "event"], rows)
    path = scaffold.new("shop", ["de.csv", "clickstream.csv"], desk)
    lines = path.read_text().splitlines()
    begin = next(n for n, line in enumerate(lines) if line.startswith("event_roles:"))
    assert lines[begin + 1 : begin + 4] == [
        "  page_views: [page_view]",
        "  carts: ['in den Warenkorb: add_to_cart']",
        "  # goals: ['404', logout] # keep those that you want customers to do; all have no role now",
    ]
    roles = projects.load(str(path)).event_roles
    assert {kind: roles.of(kind) for kind in kinds} == {kind: guess_roles(kind) for kind in kinds}


def test_without_types_of_events_no_roles_are_proposed(desk: Path) -> None:
    german(desk / "de.csv")
    assert "event_roles" not in scaffold.new("shop", ["de.csv"], desk).read_text()


def test_columns_that_nothing_uses_are_listed(desk: Path) -> None:
    rows = [(i % 61, t.isoformat(), a, f"note {i}", "") for i, t, a, _ in sales()]
    write(desk / "sales.csv", ["customer_id", "date", "amount", "remark: free", "nothing"], rows)
    text = scaffold.new("shop", ["sales.csv"], desk).read_text()
    assert "    #   remark: free: 600 different, such as note " in text
    assert "    #   nothing: always missing" in text


def test_a_folder_is_divided_into_tables_and_other_files_are_reported(desk: Path) -> None:
    for month in (1, 2):
        rows = [(i % 61, t.isoformat(), a) for i, t, a, _ in sales() if t.month == month]
        (desk / "data").mkdir(exist_ok=True)
        write(desk / "data" / f"sales-2023-0{month}.csv", ["customer_id", "date", "amount"], rows)
    write(desk / "data" / "crm.csv", ["customer_id", "Age Group"], [(i, ("18-30", "31+")[i % 2]) for i in range(61)])
    write(desk / "data" / "shops.csv", ["shop", "city"], [(1, "Bonn")])
    path = scaffold.new("shop", ["data"], desk / "projects")
    project = projects.load(str(path))
    assert project.tables.transactions.path == str(desk / "data/sales-*.csv")
    assert project.tables.customers is not None and project.tables.customers.attributes == {"age_group": "string"}
    assert (
        "# Not used: " in path.read_text()
        and "shops.csv (1 row): no column looks like a customer id." in path.read_text()
    )
    assert len(rows_of(project)) == sum(t.month <= 2 for _, t, _, _ in sales())
    customers = project.source("customers")
    assert customers is not None and customers.check() == []


def test_hidden_folders_and_unreadable_files_are_left_out(desk: Path) -> None:
    german(desk / "de.csv")
    (desk / ".microseg").mkdir()
    german(desk / ".microseg" / "copy.csv")
    (desk / "empty.csv").touch()
    text = scaffold.new("shop", ["."], desk).read_text()
    assert (
        "    path: de.csv" in text and "# Not used: empty.csv: " in text and "is empty" in text and "copy" not in text
    )


@pytest.mark.parametrize(
    ("encoding", "written_encoding"),
    [
        ("latin-1", "cp1252"), ("cp1252", "cp1252"), ("iso8859-15", "cp1252"), ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"), ("utf-16", ""), ("utf-8", ""), ("utf-8-sig", ""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_file_in_another_encoding_is_read_in_it_and_the_project_file_has_it(
    desk: Path, encoding: str, written_encoding: str, suffix: str
) -> None:
    lines = [f"Müller{i % 9};2023-01-{1 + i % 28:02d};{i}" for i in range(200)] + ["Jürgen;2023-02-01;3"] * 4
    content = "kunde;datum;umsatz\n" + "\n".join(lines) + "\n"
    if suffix == "jsonl":
        rows = [dict(zip(("kunde", "datum", "umsatz"), line.split(";"), strict=True)) for line in lines]
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (desk / f"bons.{suffix}").write_bytes(content.encode(encoding))
    file = scaffold.new("a", [f"bons.{suffix}"], desk)
    text = file.read_text(encoding="utf-8")
    expected = f"    encoding: {written_encoding} # the text is not UTF-8; this way it reads Müller"
    assert (expected in text) == ("encoding" in text) == bool(written_encoding)
    assert "Jürgen" in {row["customer_id"] for row in rows_of(projects.load(str(file)))}


def test_a_damaged_line_of_utf_8_does_not_make_another_encoding(desk: Path) -> None:
    lines = [f"Müller{i};2023-01-{1 + i % 28:02d};{i}".encode() for i in range(60)] + [b"M\xfcller;2023-01-05;2"]
    (desk / "bons.csv").write_bytes(b"\n".join([b"kunde;datum;umsatz", *lines]) + b"\n")
    text = scaffold.new("a", ["bons.csv"], desk).read_text(encoding="utf-8")
    assert "encoding:" not in text and "Lines that are not rows go to quarantine: 1 so far" in text


def test_a_file_with_columns_separated_by_spaces_is_reported_as_such(desk: Path) -> None:
    (desk / "spaces.txt").write_text("customer_id  date amount\n1  19970101 5\n")
    assert "columns seem to be separated by spaces" in scaffold.new("b", ["spaces.txt"], desk).read_text()


def test_paths_below_the_file_are_relative_so_that_both_can_move(desk: Path) -> None:
    (desk / "data").mkdir()
    german(desk / "data" / "de.csv")
    path = scaffold.new("shop", [str(desk / "data" / "de.csv")], desk)
    assert projects.load(str(path)).tables.transactions.path == "data/de.csv"


def test_a_stray_row_is_reported_and_does_not_begin_the_calendar(desk: Path) -> None:
    rows = [(i % 61, t.isoformat(), a) for i, t, a, _ in sales(2000)]
    write(desk / "sales.csv", ["customer_id", "date", "amount"], [*rows, (1, "1970-01-01", 5)])
    text = scaffold.new("shop", ["sales.csv"], desk).read_text()
    assert f"start: {FIRST} # the first day with purchases; 1 row far from the others, such as 1970-01-01" in text


def test_without_data_the_file_is_a_form_that_check_understands(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scaffold.new("shop", [], desk)
    project = projects.load(str(path))
    source = project.source("transactions")
    assert source is not None and "there is no file transactions.csv" in str(source.check()[0])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [f"  microseg check {path}", f"  microseg run --project {path} --from YYYY-MM-DD"]


def test_a_required_column_that_nothing_looks_like_is_left_open_and_reported(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(desk / "sales.csv", ["customer_id", "date", "blob"], [(i % 61, t.isoformat(), "x") for i, t, _, _ in sales()])
    text = scaffold.new("shop", ["sales.csv"], desk).read_text()
    assert (
        "# amount: # TODO net revenue of the line; refunds are negative; it must be one of: customer_id, date, blob"
        in text
    )
    assert "no column looks like amount: fill it in" in capsys.readouterr().out


def test_new_ends_with_the_next_two_commands(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    german(desk / "de.csv")
    path = scaffold.new("shop", ["de.csv"], Path("."))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        f"  microseg check {path}",
        f"  microseg run --project {path} --from 2023-05-05 --to 2023-05-11",
    ]


def test_an_existing_file_is_not_overwritten(desk: Path) -> None:
    (desk / "shop.yaml").write_text("mine")
    with pytest.raises(ProjectError, match="exists already and is not overwritten"):
        scaffold.new("shop", [], desk)
    assert (desk / "shop.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "suggestion"), [("My Shop", "my_shop"), ("2shop", "shop"), ("", "my_shop"), ("a" * 50, "a" * 41)]
)
def test_an_invalid_name_gets_a_suggestion(desk: Path, name: str, suggestion: str) -> None:
    with pytest.raises(ProjectError, match=f"try {suggestion}$"):
        scaffold.new(name, [], desk)
    assert list(desk.iterdir()) == []


def test_an_empty_column_is_mapped_and_reported_as_empty(tmp_path: Path) -> None:
    write(tmp_path / "sales.csv", ["customer_id", "date", "amount"], [[f"c{i % 9}", FIRST, 5] for i in range(40)])
    sent = [[f"c{i % 9}", FIRST, "mail", "", ""] for i in range(40)]
    write(tmp_path / "campaigns.csv", ["customer_id", "sent_at", "action", "is_holdout", "randomised"], sent)
    path = scaffold.new("empty", [str(tmp_path / "*.csv")], tmp_path)
    projects.load(str(path))
    assert "is_holdout: is_holdout # no value in any row" in path.read_text(encoding="utf-8")


def test_broken_lines_of_a_file_are_not_attributed_to_the_next_one(tmp_path: Path) -> None:
    sold = [[f"c{i % 9}", "2023-01-02", 5 + i % 3, f"t{i // 2}"] for i in range(60)]
    write(tmp_path / "a_sales.csv", ["customer_id", "date", "amount", "transaction_id"], sold)
    with (tmp_path / "a_sales.csv").open("a", encoding="utf-8") as file:
        file.write("c1,2023-01-02\n")
    people = [[f"c{i}", "2022-12-01", "north"] for i in range(40)]
    write(tmp_path / "b_customers.csv", ["customer_id", "registered", "region"], people)
    path = scaffold.new("two", [str(tmp_path / "a_sales.csv"), str(tmp_path / "b_customers.csv")], tmp_path)
    text = path.read_text(encoding="utf-8")
    assert text.count("Lines that are not rows") == 1 and text.index("Lines that are not rows") < text.index(
        "customers:"
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12), min_size=1, max_size=6),
    st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=6), max_size=8),
)
def test_whatever_a_file_holds_the_result_is_a_project_file_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, header: list[str], rows: list[list[str]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    write(
        folder / "any.csv",
        ["customer_id", "date", "amount", *header],
        [["1", "2023-01-01", "1.5", *row] for row in rows],
    )
    try:
        path = scaffold.new("any", [str(folder / "any.csv")], folder)
    except SourceError:
        return  # such as two columns of one name
    projects.load(str(path))

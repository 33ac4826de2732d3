"""Databases as sources: the same rows as from files, nothing but what is needed, and never a write or a password."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from microseg_assets.sources import EARLY, Source, SourceError, TableSpec, input_table
from microseg_assets.sources.database import Fetch
from tests.conftest import PostgresServer

START, FAR = date(2024, 1, 1), date(9999, 1, 1)
COLUMNS: dict[str, str | bool | int | float] = {
    "customer_id": "who", "occurred_at": "bought_at", "amount": "cents / 100", "category": "kind", "discount": "spared",
}  # fmt: skip


def source(spec: TableSpec, base: Path, *, zone: str = "UTC") -> Source:
    return Source(input_table("transactions", spec), spec, project_zone=zone, start=START, base=base)


def everything(of: Source) -> pa.Table:
    return pa.concat_tables([of.rows(START, FAR), of.undated().drop_columns(EARLY)])


def problems(of: Source) -> list[str]:
    return [str(problem) for problem in of.check()]


# ---------------------------------------------------------------- one table in three databases

ROWS: list[tuple[Any, ...]] = [
    (1, "2024-01-01 10:00:00", 250, " GROCERY ", 0.1),
    (2, "2024-01-02 23:30:00", -100, None, None),
    (3, "2023-12-31 23:00:00", 400, 'with "quotes", commas\nand lines', 1e-7),
    (4, None, 400, "", 0.30000000000000004),
    (5, "2024-03-01 00:00:00", None, "ünïcode ☃", 12345678.9),
]
NAMES = ("who", "bought_at", "cents", "kind", "spared")


def in_sqlite(path: Path, types: str = "INTEGER,TEXT,INTEGER,TEXT,REAL", rows: list[tuple[Any, ...]] = ROWS) -> Path:
    declared = ", ".join(f"{n} {t}" for n, t in zip(NAMES, types.split(","), strict=True))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE TABLE orders ({declared})")
        database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", rows)
    return path


def in_duckdb(path: Path) -> Path:
    with duckdb.connect(str(path)) as database:
        database.execute(
            "CREATE TABLE orders (who BIGINT, bought_at TIMESTAMP, cents BIGINT, kind VARCHAR, spared DOUBLE)"
        )
        database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", ROWS)
        database.execute("CREATE SCHEMA sales; CREATE VIEW sales.big AS SELECT * FROM orders WHERE cents > 300")
    return path


@contextmanager
def postgres(server: PostgresServer, *statements: str) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    import psycopg2

    connection = psycopg2.connect(server.dsn())
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:

            def run(sql: str, *values: Any) -> list[tuple[Any, ...]]:
                cursor.execute(sql, values or None)
                return cursor.fetchall() if cursor.description else []

            for statement in statements:
                run(statement)
            yield run
    finally:
        connection.close()


@pytest.fixture(scope="module")
def orders(postgres_server: PostgresServer) -> PostgresServer:
    with postgres(
        postgres_server,
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.orders (who int, bought_at timestamp, cents bigint, kind text, spared double precision)",
    ) as run:
        for row in ROWS:
            run("INSERT INTO sales.orders VALUES (%s, %s, %s, %s, %s)", *row)
    return postgres_server


def spec_of(database: str, request: pytest.FixtureRequest, base: Path) -> TableSpec:
    if database == "postgres":
        server = request.getfixturevalue("orders")
        return TableSpec(connection=server.dsn(), table="sales.orders", columns=COLUMNS)
    path = base / f"shop.{database}"
    (in_sqlite if database == "sqlite" else in_duckdb)(path)
    return TableSpec(connection=f"{database}:///shop.{database}", table="orders", columns=COLUMNS)


DATABASES = [pytest.param("postgres", marks=pytest.mark.postgres), "sqlite", "duckdb"]


@pytest.mark.parametrize("database", DATABASES)
def test_a_table_gives_its_rows_whatever_the_database(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    of = source(spec_of(database, request, tmp_path), tmp_path)
    assert of.check() == []
    rows = {row["customer_id"]: row for row in everything(of).to_pylist()}
    assert {i: (r["occurred_at"], r["amount"], r["category"], r["discount"]) for i, r in rows.items()} == {
        "1": (datetime(2024, 1, 1, 10), 2.5, "GROCERY", 0.1),
        "2": (datetime(2024, 1, 2, 23, 30), -1.0, None, None),
        "3": (datetime(2023, 12, 31, 23), 4.0, 'with "quotes", commas\nand lines', 1e-7),
        "4": (None, 4.0, None, 0.30000000000000004),
        "5": (datetime(2024, 3, 1), None, "ünïcode ☃", 12345678.9),
    }
    assert {i: r["problem"] for i, r in rows.items() if r["problem"]} == {
        "3": "occurred_at: before the first day (2024-01-01)", "4": "occurred_at: missing",
    }  # fmt: skip
    counted = {r["day"]: r["rows"] for r in of.counts_by_day().to_pylist()}
    assert counted == {None: 2, date(2024, 1, 1): 1, date(2024, 1, 2): 1, date(2024, 3, 1): 1}


@pytest.mark.parametrize("database", DATABASES)
def test_a_query_is_run_by_the_database_in_its_own_sql(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    spec = spec_of(database, request, tmp_path)
    table = spec.table
    own = {
        "postgres": f"SELECT DISTINCT ON (kind) *, cents::text || '%' AS label FROM {table} ORDER BY kind, who;",
        "sqlite": f"SELECT *, ifnull(cents, 0) || '%' AS label FROM {table} WHERE kind <> ''",
        "duckdb": f"WITH orders AS (SELECT * FROM {table}) SELECT *, cents || '%' AS label FROM orders -- all of them",
    }[database]
    spec = TableSpec(connection=spec.connection, query=own, columns={**COLUMNS, "product_id": "label"})
    rows = {r["customer_id"]: r["product_id"] for r in everything(source(spec, tmp_path)).to_pylist()}
    assert rows["1"] == "250%" and rows["3"] == "400%"


@pytest.mark.parametrize("database", DATABASES)
def test_a_day_gives_the_rows_it_gives_among_all(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> None:
    spec = spec_of(database, request, tmp_path)
    for zone in ("UTC", "Pacific/Auckland", "America/Los_Angeles"):
        of = source(spec, tmp_path, zone=zone)
        whole = of.rows(START, date(2024, 3, 2))
        days = [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3), date(2024, 2, 29), date(2024, 3, 1)]
        assert pa.concat_tables([of.rows(day, day) for day in days]).equals(whole)


# ---------------------------------------------------------------- types and stamps


@pytest.mark.postgres
def test_postgres_types_are_kept(tmp_path: Path, postgres_server: PostgresServer) -> None:
    with postgres(postgres_server, "CREATE TYPE mood AS ENUM ('ok', 'sad')"):
        pass
    query = """
        SELECT 12345678901234.56::numeric(20, 2) AS money, 'NaN'::numeric AS none_, true AS yes,
          '2024-02-03'::date AS d,
          '2024-02-03 04:05:06.123456'::timestamp AS naive, '2024-02-03 04:05:06+05:30'::timestamptz AS moment,
          '{"os": {"name": "iOS"}, "price": 2.5}'::jsonb AS device, 'ok'::mood AS mood, 7::smallint AS small,
          0.1::real AS real_, '{1,2}'::int[] AS list, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS id,
          'x'::bytea AS bytes, interval '1 day' AS span, 'x'::char(5) AS padded, NULL AS nothing
    """
    spec = TableSpec(
        connection=postgres_server.dsn(),
        query=query,
        columns={
            "customer_id": "id", "occurred_at": "moment", "amount": "money", "category": "device.os.name",
            "discount": "device.price * 2", "quantity": "none_", "product_id": "mood", "order_id": "d",
            "margin": "real_", "transaction_id": "list",
        },
    )  # fmt: skip
    of = source(spec, tmp_path)
    assert problems(of) == []
    (row,) = of.rows(START, FAR).to_pylist()
    assert row["occurred_at"] == datetime(2024, 2, 2, 22, 35, 6) and row["amount"] == 12345678901234.56
    assert (row["category"], row["discount"], row["product_id"], row["margin"]) == ("iOS", 5.0, "ok", 0.1)
    assert row["order_id"] == "2024-02-03" and row["transaction_id"] == "{1,2}" and row["problem"] is None
    assert row["customer_id"] == "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11" and row["quantity"] != row["quantity"]


@pytest.mark.postgres
@pytest.mark.parametrize("type_", ["timestamp", "timestamptz", "date", "text", "double precision", "bigint"])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_what_is_read_of_a_day_is_enough(
    tmp_path: Path, postgres_server: PostgresServer, type_: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = [
        "2024-01-01 00:00:00", "2024-01-01 23:59:59", "2024-01-05 11:00:00", "2024-01-06 00:00:00",
        "2024-01-06 12:30:00", "2024-01-07 03:00:00", "2023-12-31 13:00:00", "2001-01-01 00:00:00",
        "9995-06-01 00:00:00", "9999-12-31 23:00:00", "infinity", "-infinity", "0044-03-15 00:00:00 BC", None,
    ]  # fmt: skip
    if type_ == "text":
        stamps += [" 2024-01-06 01:00:00", "2024-1-6", "yesterday", "2024-02-30", "2024-01-06T25:00:00", ""]
    value = f"moment::{type_}"
    if type_ in ("bigint", "double precision"):
        stamps = [s for s in stamps if s is None or "infinity" not in s]
        value = f"extract(epoch FROM moment::timestamp)::{type_}"
    with postgres(postgres_server, "DROP TABLE IF EXISTS t", "CREATE TABLE t (who int, moment text)") as run:
        for i, stamp in enumerate(stamps):
            run("INSERT INTO t VALUES (%s, %s)", i, stamp)
        run("SET timezone = 'UTC'")
        run("DROP TABLE IF EXISTS dated")
        run(f"CREATE TABLE dated AS SELECT who, {value} AS moment, 1 AS amount FROM t")
    is_count = type_ in ("bigint", "double precision")
    spec = TableSpec(
        connection=postgres_server.dsn(), table="dated", columns={"customer_id": "who", "occurred_at": "moment"},
        stamp="epoch_s" if is_count else "auto",
    )  # fmt: skip
    of = source(spec, tmp_path, zone=zone)
    days = [date(2024, 1, d) for d in range(1, 9)]

    def read() -> list[pa.Table]:
        return [*(of.rows(day, day) for day in days), of.undated()]

    fetched: list[str] = []
    fill = Fetch.fill

    def noted(self: Fetch, connection: duckdb.DuckDBPyConnection, condition: str = "") -> None:
        fetched.append(condition)
        fill(self, connection, condition)

    monkeypatch.setattr(Fetch, "fill", noted)
    narrow = read()
    assert all(fetched), "a day does not need all of history"
    monkeypatch.setattr(Fetch, "fill", lambda self, c, condition="": fill(self, c))
    assert all(a.equals(b) for a, b in zip(narrow, read(), strict=True))
    assert of.rows(START, FAR).num_rows + narrow[-1].num_rows == len(stamps)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])
def test_what_is_read_of_a_day_is_enough_in_sqlite(tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps: list[Any] = [
        "2024-01-01", "2024-01-01 23:59:59", "2024-01-05T11:00:00+13:00", "2024-01-06 00:00:00", "2024-01-06 12:30:00",
        "2023-12-31 13:00:00", "2024-02-30", "2024-01-06 25:00:00", "now", 2460310, 20240106, 5.5, b"2024-01-06", None,
        "9995-06-01 00:00:00", "9999-12-31", " 2024-01-06", "2024-1-6", "", "2024-01-06 24:00:00", "2024-01-06 10:00",
    ]  # fmt: skip
    in_sqlite(tmp_path / "a.sqlite", ",,,,", [(i, stamp, 1, "", 0) for i, stamp in enumerate(stamps)])
    of = source(TableSpec(connection="a.sqlite", table="orders", columns=COLUMNS), tmp_path, zone=zone)

    def read() -> list[pa.Table]:
        return [*(of.rows(day, day) for day in (date(2024, 1, d) for d in range(1, 9))), of.undated()]

    narrow = read()
    fill = Fetch.fill
    monkeypatch.setattr(Fetch, "fill", lambda self, connection, _: fill(self, connection))
    assert all(a.equals(b) for a, b in zip(narrow, read(), strict=True))
    monkeypatch.undo()
    assert of.rows(START, FAR).num_rows + narrow[-1].num_rows == len(stamps)


def test_sqlite_keeps_what_a_column_does_not_promise(tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [
        ("7", "2024-01-06 10:00:00", 100, "a", "free"),
        (8.0, 1704535200, 250, b"\xff\x00", 1),
        (9, "2024-1-6", "12x", 3, 2.5),
        (10, " 2024-01-06", 1e3, "b", float("inf")),
    ]
    in_sqlite(tmp_path / "a.sqlite", ",,,,", rows)
    of = source(TableSpec(connection="sqlite:///a.sqlite", table="orders", columns=COLUMNS), tmp_path)
    values = {r["customer_id"]: (r["category"], r["discount"], r["problem"]) for r in everything(of).to_pylist()}
    assert values == {
        "7": ("a", None, "discount: not a number"),
        "8": ("ff00", 1.0, "occurred_at: not a time"),
        "9": ("3", 2.5, "amount: not a number"),
        "10": ("b", float("inf"), None),
    }
    assert sorted(of.rows(date(2024, 1, 6), date(2024, 1, 6))["customer_id"].to_pylist()) == ["10", "7", "9"]


def test_numbers_of_sqlite_are_stamps_where_that_is_said(tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [(i, 1704067200 + i * 86400, 1, "", 0) for i in range(9)]
    rows += [(90, "1704067200", 1, "", 0), (91, "soon", 1, "", 0), (92, None, 1, "", 0), (93, 1e30, 1, "", 0)]
    in_sqlite(tmp_path / "a.sqlite", ",,,,", rows)
    spec = TableSpec(connection="a.sqlite", table="orders", columns=COLUMNS, stamp="epoch_s")
    of = source(spec, tmp_path)
    assert of.rows(START, START)["customer_id"].to_pylist() == ["0", "90"]
    assert of.rows(date(2024, 1, 5), date(2024, 1, 5))["customer_id"].to_pylist() == ["4"]
    assert sorted(of.undated()["customer_id"].to_pylist()) == ["91", "92", "93"]


# ---------------------------------------------------------------- passwords, and nothing is written


@pytest.mark.postgres
def test_a_password_comes_from_the_environment_and_is_never_said(
    tmp_path: Path, orders: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"{orders.host}:{orders.port}/postgres"
    monkeypatch.setenv("SHOP_PASSWORD", orders.password)
    for connection in (f"postgresql://postgres:${{SHOP_PASSWORD}}@{host}", f"postgres://postgres@{host}"):
        of = source(TableSpec(connection=connection, table="sales.orders", columns=COLUMNS), tmp_path)
        monkeypatch.setenv("PGPASSWORD", orders.password)
        assert of.check() == []
        shown = "\n".join([repr(of.spec), str(everything(of).to_pylist())])
        assert orders.password not in shown and f"sales.orders of {orders.host}/postgres" in shown
    monkeypatch.setenv("SHOP_PASSWORD", "wrong pass@word/:é")
    monkeypatch.delenv("PGPASSWORD")
    wrong = TableSpec(
        connection=f"postgresql://postgres:${{SHOP_PASSWORD}}@{host}", table="sales.orders", columns=COLUMNS
    )
    (said,) = problems(source(wrong, tmp_path))
    assert said.startswith("transactions.connection: ") and "password authentication failed" in said
    assert "wrong pass" not in said and len(said.splitlines()) == 1
    for table in ("sales.nothing", "nothing"):
        (said,) = problems(source(TableSpec(connection=orders.dsn(), table=table, columns=COLUMNS), tmp_path))
        assert "does not exist" in said and orders.password not in said
    nobody = TableSpec(connection="postgresql://x:secret@127.0.0.1:1/y", table="t", columns=COLUMNS)
    (said,) = problems(source(nobody, tmp_path))
    assert "refused" in said and "secret" not in said


@pytest.mark.postgres
def test_a_server_that_fails_on_the_way_is_an_error_not_a_short_day(tmp_path: Path, orders: PostgresServer) -> None:
    query = "SELECT who, bought_at, 1 / (who - 4) AS cents, kind, spared FROM sales.orders"
    of = source(TableSpec(connection=orders.dsn(), query=query, columns=COLUMNS), tmp_path)
    assert of.check() == []
    with pytest.raises(SourceError, match="cannot be read: division by zero") as error:
        of.undated()
    assert orders.password not in str(error.value) and error.value.__cause__ is None


REFUSED = [
    ("INSERT INTO orders SELECT * FROM orders", "exactly one SELECT"),
    ("UPDATE orders SET cents = 0", "exactly one SELECT"),
    ("DROP TABLE orders", "exactly one SELECT"),
    ("SELECT * FROM orders; DROP TABLE orders", "exactly one SELECT"),
    ("SELECT * FROM orders /* ; */; DELETE FROM orders", "exactly one SELECT"),
    ("SELECT * FROM", "is not SQL|does not|syntax|exactly one"),
    ("SELECT *, random() AS r FROM orders", "answer changes"),
    ("SELECT *, current_timestamp AS r FROM orders", "answer changes"),
    ("ATTACH 'x.db' AS x", "exactly one SELECT|is not SQL"),
    ("PRAGMA journal_mode", "exactly one SELECT"),
    ("VALUES (1)", "exactly one SELECT"),
    ("", "name a table"),
]
REFUSED_BY = {
    "postgres": [
        ("WITH gone AS (DELETE FROM sales.orders RETURNING *) SELECT * FROM gone", "only reads"),
        ("SELECT * INTO copied FROM sales.orders", "only reads"),
        ("SELECT * FROM sales.orders FOR UPDATE", "only reads"),
        ("SELECT pg_read_file('/etc/passwd') AS who", "not allowed"),
        ("SELECT * FROM pg_ls_dir('/')", "not a table"),
        ("SELECT lo_import('/etc/passwd') AS who", "not allowed"),
        ("SELECT query_to_xml('DELETE FROM sales.orders', true, true, '') AS who", "not allowed"),
        ("SELECT pg_catalog.pg_sleep(60) AS who", "not allowed"),
        ("SELECT * FROM dblink('host=x', 'SELECT 1') AS t(who int)", "not a table"),
        ("SELECT nextval('s') AS who", "answer changes"),
        ("SELECT 'now'::timestamp AS who", "answer changes"),
        ("COPY sales.orders TO '/tmp/x'", "exactly one SELECT"),
        ("COPY (SELECT 1) TO PROGRAM 'touch /tmp/x'", "exactly one SELECT"),
    ],
    "sqlite": [
        ("SELECT load_extension('x') AS who", "not allowed"),
        ("SELECT writefile('x', 'y') AS who", "not allowed"),
        ("SELECT date('now') AS who", "answer changes"),
        ("SELECT * FROM pragma_database_list()", "not a table"),
    ],
    "duckdb": [
        ("SELECT * FROM '/etc/passwd'", "not a table of the database"),
        ('SELECT * FROM "/etc/passwd"', "not a table of the database"),
        ("SELECT * FROM read_text('/etc/passwd')", "not a table of the database"),
        ("SELECT * FROM duckdb_secrets()", "not a table of the database"),
        ("SELECT * FROM order", "did you mean 'orders'|is not SQL"),
        ("SELECT getenv('HOME') AS who", "answer changes|not a function"),
    ],
}


@pytest.mark.parametrize("database", DATABASES)
def test_a_query_of_a_database_only_reads(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> None:
    import re

    spec = spec_of(database, request, tmp_path)
    before = everything(source(spec, tmp_path))
    for query, says in [*REFUSED, *REFUSED_BY[database]]:
        messages = problems(source(TableSpec(connection=spec.connection, query=query, columns=COLUMNS), tmp_path))
        assert len(messages) == 1 and re.search(says, messages[0]), (query, messages)
    for table in ("orders; DROP TABLE orders", "(SELECT 1)", "read_text('x')", "orders o", "a.b.c", "../x"):
        (said,) = problems(source(TableSpec(connection=spec.connection, table=table, columns=COLUMNS), tmp_path))
        assert said.startswith("transactions.table: "), (table, said)
    assert everything(source(spec, tmp_path)).equals(before)


@pytest.mark.postgres
def test_even_a_function_that_writes_cannot(tmp_path: Path, orders: PostgresServer) -> None:
    with postgres(
        orders,
        "CREATE OR REPLACE FUNCTION sneak() RETURNS int LANGUAGE sql AS 'DELETE FROM sales.orders RETURNING 1'",
    ) as run:
        of = source(
            TableSpec(connection=orders.dsn(), query="SELECT *, sneak() AS s FROM sales.orders", columns=COLUMNS),
            tmp_path,
        )
        with pytest.raises(SourceError, match="read-only transaction"):
            of.rows(START, FAR)
        assert run("SELECT count(*) FROM sales.orders") == [(len(ROWS),)]


def test_a_view_of_a_duckdb_file_reads_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "canary.csv").write_text("who,bought_at,cents,kind,spared\nCANARY,2024-01-01,1,x,1\n")
    in_duckdb(tmp_path / "shop.duckdb")
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as database:
        database.execute(f"CREATE VIEW peek AS SELECT * FROM read_csv('{tmp_path}/canary.csv')")
    good = TableSpec(connection="shop.duckdb", table="sales.big", columns=COLUMNS)
    assert sorted(everything(source(good, tmp_path))["customer_id"].to_pylist()) == ["3", "4"]
    (said,) = problems(source(TableSpec(connection="shop.duckdb", table="peek", columns=COLUMNS), tmp_path))
    assert "disabled by configuration" in said


@pytest.mark.postgres
def test_two_columns_of_one_name_are_reported(tmp_path: Path, orders: PostgresServer) -> None:
    query = "SELECT a.*, b.who FROM sales.orders a, sales.orders b"
    (said,) = problems(source(TableSpec(connection=orders.dsn(), query=query, columns=COLUMNS), tmp_path))
    assert "two columns are called 'who'" in said


def test_without_its_driver_postgresql_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg2", None)
    (said,) = problems(source(TableSpec(connection="postgresql://x@127.0.0.1:1/y", table="t"), tmp_path))
    assert "PostgreSQL needs psycopg2: pip install 'microseg[postgres]'" in said

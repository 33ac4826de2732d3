"""The same data as CSV, JSON lines, Parquet and a PostgreSQL table: the same rows, and the same lake."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from microseg_assets import project as projects
from ml import tables
from tests.conftest import PostgresServer
from tests.integration.shop import START, Shop

pytestmark = pytest.mark.postgres

LAST = date(2024, 1, 28)
TYPES = {"double": "DOUBLE", "bigint": "BIGINT", "boolean": "BOOLEAN", "timestamp": "TIMESTAMP", "date": "DATE"}
IN_POSTGRES = {"DOUBLE": "double precision", "VARCHAR": "text"}
TABLES = ("transactions", "customers", "events", "exposures")
BAD = (
    "('C000001', TIMESTAMP '2024-01-12 22:00:00', 1e12, 'X1')",
    "(NULL, TIMESTAMP '2024-01-13 22:00:00', 1.5, 'X2')",
    "('C000001', TIMESTAMP '2023-12-30 10:00:00', 1.5, 'X3')",
    "('C000001', NULL, 1.5, 'X4')",
    "('C000001', TIMESTAMP '2024-01-17 10:00:00', NULL, 'X5')",
    "('C000002', TIMESTAMP '2024-01-15 10:00:00', 0.1 + 0.2, 'ünïcode, \"quoted\"\nand a second line')",
)


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> dict[str, Shop]:
    """One shop for each way to deliver, after ingest and validation."""
    folder = tmp_path_factory.mktemp("everywhere")
    first = Shop.new(folder / "csv")
    shops = {"csv": first, **{kind: Shop(folder / kind) for kind in ("jsonl", "parquet", "postgres")}}
    with duckdb.connect() as connection:
        for table in TABLES:
            types = _load(connection, first, table)
            for kind in ("csv", "jsonl", "parquet"):
                path = shops[kind].data / f"{table}.{kind}"
                path.parent.mkdir(parents=True, exist_ok=True)
                how = {"csv": "CSV, HEADER", "jsonl": "JSON", "parquet": "PARQUET, ROW_GROUP_SIZE 2048"}[kind]
                connection.execute(f"COPY {table} TO '{path}' (FORMAT {how})")
            _into_postgres(postgres_server, table, types, first.data / f"{table}.csv")
    declared = first.file.read_text(encoding="utf-8")
    for kind, shop in shops.items():
        text = declared
        for table in TABLES:
            location = f"path: shop/{table}.{kind}"
            if kind == "postgres":
                location = f"connection: {postgres_server.dsn()}, table: shop_{table}"
            old = f"path: shop/{table}.csv"
            text = text.replace(old, location if f"{{{old}" in text else location.replace(", ", "\n    "))
        shop.file.parent.mkdir(parents=True, exist_ok=True)
        shop.file.write_text(text, encoding="utf-8")
        shop.execute("to_features", START, LAST)
    return shops


def _load(connection: duckdb.DuckDBPyConnection, shop: Shop, table: str) -> dict[str, str]:
    """The simulated rows with types, some of them invalid; returns column to type."""
    path = shop.data / f"{table}.csv"
    names = connection.sql(f"SELECT * FROM read_csv('{path}', all_varchar = true)").columns
    known = {column.name: TYPES.get(column.type, "VARCHAR") for column in tables.INPUTS[table].columns}
    types = {name: known.get(name, "VARCHAR") for name in names}
    # In two steps: DuckDB would let the reader of the file cast, and that fails where TRY_CAST would not.
    connection.execute(f"CREATE TABLE raw_{table} AS SELECT * FROM read_csv('{path}', all_varchar = true)")
    cast = ", ".join(f'TRY_CAST("{name}" AS {type_}) AS "{name}"' for name, type_ in types.items())
    connection.execute(f"CREATE TABLE {table} AS SELECT {cast} FROM raw_{table}")
    if table == "transactions":
        connection.execute(
            f"INSERT INTO {table} (customer_id, occurred_at, amount, transaction_id) VALUES {', '.join(BAD)}"
        )
    return types


def _into_postgres(server: PostgresServer, table: str, types: dict[str, str], file: Path) -> None:
    import psycopg2

    columns = ", ".join(f'"{name}" {IN_POSTGRES.get(type_, type_)}' for name, type_ in types.items())
    connection = psycopg2.connect(server.dsn())
    try:
        with connection, connection.cursor() as cursor, file.open(encoding="utf-8") as lines:
            cursor.execute(f"CREATE TABLE shop_{table} ({columns})")
            cursor.copy_expert(f"COPY shop_{table} FROM STDIN (FORMAT csv, HEADER)", lines)
    finally:
        connection.close()


def digest(rows: pa.Table) -> str:
    """A digest of the rows in their order, without the names of their sources."""
    kept = rows.drop_columns([name for name in ("source",) if name in rows.column_names])
    return hashlib.sha256("\n".join(map(repr, kept.to_pylist())).encode()).hexdigest()


@pytest.mark.parametrize("table", TABLES)
def test_every_way_to_deliver_gives_the_same_rows_in_the_same_order(shops: dict[str, Shop], table: str) -> None:
    hashes: dict[str, tuple[str, ...]] = {}
    for kind, shop in shops.items():
        with shop.environment():
            source = projects.load(str(shop.file)).source(table)
        assert source is not None and source.check() == []
        days = [source.rows(day, day) for day in (START, date(2024, 1, 15), LAST)]
        parts = [source.rows(START, date(2024, 5, 9)), source.undated(), source.counts_by_day(), *days]
        assert parts[0].num_rows > 300
        hashes[kind] = tuple(map(digest, parts))
    assert len(set(hashes.values())) == 1, hashes


def test_every_way_to_deliver_gives_the_same_lake(shops: dict[str, Shop]) -> None:
    lakes = {
        kind: {name: digest(pq.ParquetFile(path).read()) for name, path in shop.partitions().items()}
        for kind, shop in shops.items()
    }
    for table in TABLES:
        assert sum(name.startswith(f"{table}/") for name in lakes["csv"]) == 28
    assert any(name.startswith("quarantine/") for name in lakes["csv"])
    for kind in ("jsonl", "parquet", "postgres"):
        assert lakes[kind] == lakes["csv"], kind

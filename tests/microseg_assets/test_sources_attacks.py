"""What a project file may not do: its SQL is refused, and were it not, DuckDB could open no other file."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import pytest

from microseg_assets.sources import Problem, Source, SourceError, TableSpec, input_table, parse_query
from microseg_assets.sources.plan import connected, plan
from microseg_assets.sources.query import database_query
from ml.rules import RuleError

START = date(2024, 1, 1)
CANARY = "tweet-tweet-7f3a"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_text("customer_id,occurred_at,amount,kind\n1,2024-01-01,1,x\n")
    (tmp_path / "canary.csv").write_text(f"secret\n{CANARY}\n")
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT '{CANARY}' AS secret) TO '{tmp_path}/canary.parquet'")
    return tmp_path


def source(spec: TableSpec, base: Path) -> Source:
    return Source(input_table("transactions", spec), spec, project_zone="UTC", start=START, base=base)


# Each stands where an expression is asked for; {f} is the canary.
EXPRESSIONS = [
    # sub-queries
    "(SELECT secret FROM read_csv('{f}'))",
    "(FROM '{f}')",
    "(SELECT content FROM read_text('{f}'))",
    "EXISTS (SELECT 1 FROM '{f}')",
    "kind IN (SELECT secret FROM '{f}')",
    "kind = ANY (SELECT secret FROM '{f}')",
    "ARRAY(SELECT secret FROM '{f}')",
    "CASE WHEN (SELECT true) THEN kind END",
    "(WITH x AS (FROM '{f}') FROM x)",
    "(VALUES (1))",
    "(TABLE a)",
    # functions that read, list or tell
    "read_text('{f}')",
    "read_csv('{f}')",
    "read_blob('{f}')",
    "READ_TEXT ( '{f}' )",
    "\"read_text\"('{f}')",
    "kind.read_text()",
    "main.read_text('{f}')",
    "system.main.getenv('HOME')",
    "glob('*')",
    "getenv('HOME')",
    "current_setting('home_directory')",
    "query('SELECT 1')",
    "query_table('a')",
    "getvariable('x')",
    "json_execute_serialized_sql('{}')",
    "pragma_version()",
    "duckdb_secrets()",
    "which_secret('{f}', 's3')",
    "parquet_metadata('{f}')",
    "sniff_csv('{f}')",
    "nextval('s')",
    "write_log(kind)",
    "error(kind)",
    "random()",
    "now()",
    "current_date",
    # statements and what hides them
    "kind; SELECT 1",
    "kind; COPY a TO 'x.csv'",
    "kind); DROP VIEW a; --",
    "kind /* */; ATTACH '{f}' AS x; /* */",
    "kind -- \n; PRAGMA database_list",
    "kind FROM '{f}' --",
    "kind FROM '{f}' /*",
    "kind) FROM read_text('{f}') --",
    "kind UNION ALL SELECT secret FROM '{f}'",
    "COPY a TO 'x.csv'",
    "ATTACH '{f}' AS x",
    "PRAGMA database_list",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "CALL pragma_version()",
    "EXPLAIN SELECT 1",
    # more than one value, or of more than one row
    "*",
    "COLUMNS(*)",
    "COLUMNS('.*')",
    "a.*",
    "* EXCLUDE (kind)",
    "unnest([1, 2])",
    "struct_pack(a := kind)",
    "{'a': kind}",
    "MAP {'a': kind}",
    "[x FOR x IN [kind]]",
    "list_transform([kind], x -> read_text(x))",
    "list_transform([kind], lambda x : x)",
    "sum(amount)",
    "max(kind) FILTER (WHERE true)",
    "row_number() OVER ()",
    "first(kind ORDER BY kind)",
    # names of files as names, types or units
    '"{f}"',
    '"{f}".secret',
    "'{f}'.secret",
    'kind::"{f}"',
    "CAST(kind AS \"x) FROM read_text('{f}') --\")",
    "kind::STRUCT(\"a) FROM read_text('{f}') --\" INT)",
    'kind COLLATE "x\') --"',
    "extract('x FROM read_text' FROM occurred_at::timestamp)",
    # letters that look like others, and parameters
    "ｒead_text('{f}')",
    "read_tеxt('{f}')",  # a Cyrillic letter
    "read\u200b_text('{f}')",
    "kind\u00a0; SELECT 1",
    "kind\uff1b SELECT 1",
    "\u0000",
    "$1",
    "?",
    "#1",
    "@kind_",
    ":kind",
    "",
    "(" * 5000 + "kind" + ")" * 5000,
]


@pytest.mark.parametrize("attempt", EXPRESSIONS, ids=lambda attempt: attempt[:40] or "nothing")
def test_an_expression_that_does_more_than_calculate_is_refused(shop: Path, attempt: str) -> None:
    attempt = attempt.replace("{f}", str(shop / "canary.csv"))
    files = sorted(shop.iterdir())
    # amount must be there, category need not: neither lets it through
    for spec in (
        TableSpec(path="a.csv", columns={"amount": attempt}),
        TableSpec(path="a.csv", columns={"category": attempt}),
        TableSpec(path="a.csv", where=attempt or " "),
    ):
        of = source(spec, shop)
        problems = of.check()
        is_name = attempt.replace('"', "").startswith(str(shop)) or attempt in ("\0", "@kind_")
        if "category" in spec.columns and is_name:
            assert problems and of.rows(START, START)["category"].to_pylist() == [None], "no column is called so"
            continue
        assert any(problem.is_error for problem in problems), (spec, problems)
        assert CANARY not in "".join(map(str, problems))
        with pytest.raises(SourceError):
            of.rows(START, START)
    assert sorted(shop.iterdir()) == files


QUERIES = [
    "SELECT * FROM '{f}'",
    'SELECT * FROM "{f}"',
    "FROM '{p}'",
    "SELECT * FROM a, read_csv('{f}')",
    "SELECT * FROM a, read_text('{f}')",
    "SELECT * FROM a POSITIONAL JOIN '{f}'",
    "SELECT a.*, (SELECT content FROM read_text('{f}')) AS t FROM a",
    "SELECT * FROM a WHERE kind IN (FROM '{f}')",
    'WITH a AS (FROM "{f}") SELECT * FROM a',
    'WITH "{f}" AS (SELECT 1) SELECT * FROM "{f}"',
    "SELECT * FROM a UNION ALL BY NAME FROM '{f}'",
    "SELECT * FROM glob('*')",
    "SELECT * FROM query('FROM ''{f}''')",
    "SELECT * FROM query_table('{f}')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pragma_database_list()",
    "SELECT getenv('HOME') AS h FROM a",
    "SELECT current_setting('temp_directory') AS h FROM a",
    "SELECT * FROM a; SELECT * FROM '{f}'",
    "SELECT * FROM a /* ; */ ; COPY a TO 'x.csv' -- ",
    "COPY (SELECT * FROM a) TO 'x.csv'",
    "CREATE TABLE t AS SELECT * FROM a",
    "INSERT INTO a SELECT * FROM a",
    "ATTACH '{f}' AS x",
    "PIVOT '{f}' ON secret",
    "DESCRIBE SELECT * FROM '{f}'",
    "SUMMARIZE '{f}'",
    "EXECUTE x",
    "PREPARE x AS SELECT 1",
    "EXPORT DATABASE 'x'",
    "IMPORT DATABASE 'x'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "CALL pragma_version()",
    "USE main",
    "SELECT * FROM __a",
    "SELECT * FROM a, LATERAL (FROM '{f}')",
    "SELECT * FROM a ASOF JOIN '{f}' ON true",
    "SELECT * FROM main.read_csv('{f}')",
    "SELECT kind::\"x) FROM read_text('{f}') --\" AS k FROM a",
    "SELECT * FROM ｒead_text('{f}')",
    "SELECT list_transform([1], x -> (SELECT secret FROM '{f}')) AS l FROM a",
    "(" * 5000 + "SELECT 1" + ")" * 5000,
]


@pytest.mark.parametrize("attempt", QUERIES, ids=lambda attempt: attempt[:40])
def test_a_query_that_reads_anything_else_is_refused(shop: Path, attempt: str) -> None:
    attempt = attempt.replace("{f}", str(shop / "canary.csv")).replace("{p}", str(shop / "canary.parquet"))
    files = sorted(shop.iterdir())
    of = source(TableSpec(files={"a": "a.csv"}, query=attempt), shop)
    (problem,) = of.check()
    assert problem.is_error and problem.key == "transactions.query" and CANARY not in problem.message
    assert sorted(shop.iterdir()) == files


LOCKED_OUT = [
    "FROM '{f}'",
    "FROM '{p}'",
    "SELECT * FROM read_text('{f}')",
    "SELECT * FROM read_csv('{f}')",
    "SELECT * FROM read_parquet('{d}/*.parquet')",
    "SELECT * FROM glob('{d}/*')",
    "ATTACH '{d}/x.db' AS x",
    "COPY (SELECT 1) TO '{d}/x.csv'",
    "EXPORT DATABASE '{d}/x'",
    "SET enable_external_access = true",
    "SET allowed_paths = ['{f}']",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "INSTALL httpfs",
    "SELECT * FROM sniff_csv('{f}')",
    "SELECT * FROM parquet_metadata('{p}')",
]


def _run(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    connection.execute(sql).fetchall()


@pytest.mark.parametrize("kind", ["csv", "duckdb"])
def test_whatever_sql_came_through_could_open_no_other_file(shop: Path, kind: str) -> None:
    spec = TableSpec(path="a.csv")
    if kind == "duckdb":
        with duckdb.connect(str(shop / "shop.duckdb")) as connection:
            connection.execute(f"CREATE TABLE t AS FROM '{shop}/a.csv'")
        spec = TableSpec(connection="shop.duckdb", table="t")
    files = sorted(shop.iterdir())
    problems: list[Problem] = []
    with connected() as connection:
        ready = plan(connection, spec, source(spec, shop).target, problems)
        assert ready is not None and not problems
        for attempt in LOCKED_OUT:
            sql = attempt.format(f=shop / "canary.csv", p=shop / "canary.parquet", d=shop)
            with pytest.raises(duckdb.Error, match=r"disabled by configuration|locked|Cannot"):
                _run(connection, sql)
        assert len(connection.execute(f"SELECT * FROM ({ready.relation.sql})").fetchall()) == 1
    assert sorted(shop.iterdir()) == files


def test_comments_in_an_expression_are_harmless(shop: Path) -> None:
    of = source(TableSpec(path="a.csv", columns={"category": "kind /* */ || /* ' */ '!' -- ; DROP"}), shop)
    assert of.rows(START, START)["category"].to_pylist() == ["x!"]


# Their answer would be another one in a minute, or on another machine.
UNSTEADY = [
    "SELECT * FROM a TABLESAMPLE 10%",
    "SELECT * FROM a TABLESAMPLE reservoir(1 ROWS)",
    "SELECT * FROM a USING SAMPLE 1 ROWS",
    "SELECT * FROM (SELECT * FROM a) TABLESAMPLE 10%",
    "SELECT * FROM a USING SAMPLE 10 PERCENT (bernoulli)",
    "SELECT *, age(occurred_at::timestamp) AS z FROM a",
    "SELECT *, get_current_time() AS z FROM a",
    "SELECT *, today() AS z FROM a",
    "SELECT *, kind.random() AS z FROM a",
    "SELECT *, uuidv7() AS z FROM a",
    "SELECT *, current_query() AS z FROM a",
    "SELECT *, current_transaction_id() AS z FROM a",
    "SELECT *, pg_postmaster_start_time() AS z FROM a",
    "SELECT *, write_log(kind) AS z FROM a",
    "SELECT *, sleep_ms(1) AS z FROM a",
]


@pytest.mark.parametrize("attempt", UNSTEADY)
def test_a_query_whose_answer_changes_is_refused(shop: Path, attempt: str) -> None:
    (problem,) = source(TableSpec(files={"a": "a.csv"}, query=attempt), shop).check()
    assert problem.key == "transactions.query" and "whose answer changes" in problem.message


@pytest.mark.parametrize(
    ("dialect", "attempt"),
    [
        ("postgres", "SELECT * FROM a TABLESAMPLE SYSTEM (10)"),
        ("postgres", "SELECT *, age(at) AS z FROM a"),
        ("postgres", "SELECT * FROM a WHERE at < 'now'"),
        ("postgres", "SELECT * FROM a WHERE at BETWEEN '2024-01-01' AND 'today'"),
        ("postgres", "SELECT *, clock_timestamp() AS z FROM a"),
        ("sqlite", "SELECT *, julianday() AS z FROM a"),
        ("sqlite", "SELECT *, datetime() AS z FROM a"),
        ("sqlite", "SELECT *, strftime('%s') AS z FROM a"),
        ("sqlite", "SELECT *, date('now') AS z FROM a"),
        ("sqlite", "SELECT *, random() AS z FROM a"),
    ],
)
def test_a_database_is_not_asked_for_what_changes(dialect: str, attempt: str) -> None:
    with pytest.raises(RuleError, match="whose answer changes"):
        database_query(attempt, dialect)


def test_a_stated_moment_is_accepted() -> None:
    for dialect, query in {
        "postgres": "SELECT age(at, '2024-01-01') AS z FROM a WHERE kind <> 'nowhere'",
        "sqlite": "SELECT strftime('%s', at) AS z, date(at) AS d FROM a",
    }.items():
        assert database_query(query, dialect)


# A name that a WITH has given in one place is no name elsewhere.
HIDDEN_NAMES = [
    "SELECT * FROM x, (WITH x AS (SELECT 1) SELECT 1) AS y",
    "WITH x AS (WITH y AS (SELECT * FROM a) SELECT * FROM y) SELECT * FROM y",
    "WITH y AS (SELECT * FROM x), x AS (SELECT * FROM a) SELECT * FROM y",
    "WITH x AS (SELECT * FROM x) SELECT * FROM x",
    "SELECT * FROM sqlite_master, (WITH sqlite_master AS (SELECT 1) SELECT 1) AS y",
    "SELECT * FROM duckdb_tables, (WITH duckdb_tables AS (SELECT 1) SELECT 1) AS y",
    "WITH duckdb_tables AS (SELECT * FROM duckdb_tables) SELECT * FROM duckdb_tables",
    "SELECT a.* FROM a, __a, (WITH __a AS (SELECT 1) SELECT 1) AS y",
    "SELECT a.*, (WITH __rewritten AS (SELECT 1) SELECT 1) AS z FROM a, __rewritten",
]


@pytest.mark.parametrize("attempt", HIDDEN_NAMES)
def test_a_name_of_a_with_is_one_only_where_it_can_be_seen(shop: Path, attempt: str) -> None:
    (problem,) = source(TableSpec(files={"a": "a.csv"}, query=attempt), shop).check()
    assert "not declared in files" in problem.message or "a table of its own" in problem.message


def test_a_name_of_a_with_is_one_wherever_it_can_be_seen() -> None:
    for query in (
        "WITH x AS (SELECT * FROM a) SELECT * FROM x WHERE kind IN (SELECT kind FROM x)",
        "WITH x AS (SELECT * FROM a), y AS (SELECT * FROM x) SELECT * FROM y JOIN x USING (kind)",
        "WITH x AS (WITH y AS (SELECT * FROM a) SELECT * FROM y) SELECT * FROM x UNION ALL SELECT * FROM X",
        "WITH RECURSIVE x AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM x WHERE n < 5) SELECT a.* FROM a, x",
    ):
        assert parse_query(query, ["a"])

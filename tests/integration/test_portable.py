"""Every query of the chain can be translated to Spark: sqlglot writes it in Spark's dialect, with Spark's functions.

The queries are those that the chain asks its engine: the shop's, with two training weeks, and those of a project that
uses every setting. The functions that Spark has are listed beside this file, as `SHOW SYSTEM FUNCTIONS` of Spark 4
lists them.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import ErrorLevel, exp
from sqlglot.errors import SqlglotError

from microseg_assets.assets import chain_of
from microseg_assets.orchestration.step import Step
from tests.integration.queries import ROOT, Query, read, recorded
from tests.integration.shop import FRIDAY, NEXT_MONDAY, WEEK, Shop

SPARK_FUNCTIONS = frozenset((Path(__file__).parent / "spark_functions.txt").read_text(encoding="utf-8").split())
SPARK_SYNTAX = {"try_cast"}  # what its grammar has, and sqlglot writes like a function
# Asked outside of the chain, or only once a model has been in force for longer than here.
RARELY_ASKED = {"ml/journeys/path.sql", "ml/journeys/flows.sql", "ml/value/drift.sql"}
PARTS = {
    "ml/features/snapshot.sql",
    "ml/features/orders_once.sql",
}  # of queries that are composed, and asked as a whole

# The number of an order's id is stored, so it stays as it is: Spark needs a form of its own for the same number.
OWN_FORMS = {
    "md5_number_lower": "CAST(CONV(CONCAT("
    + ", ".join(f"SUBSTRING(MD5({{0}}), {start}, 2)" for start in range(31, 16, -2))
    + "), 16, 10) AS DECIMAL(20, 0))",
}

EVERY_SETTING = """\
name: {name}
time_zone: Pacific/Auckland
start: 2024-04-20
end: 2024-05-09
tables:
  transactions: {{path: {name}/transactions.csv, time_zone: UTC, columns: {{margin: margin}}}}
  customers:
    path: {name}/customers.csv
    time_zone: UTC
    attributes: {{age_band: string, region: string, device: string}}
    as_of: 2024-04-24
    timeless: [region]
  events:
    path: {name}/events.csv
    time_zone: UTC
    columns: {{device: device, os: device, browser: device, referrer: device, channel: device, campaign: device,
              value: "2", about: category, number: "3"}}
    properties: {{about: string, number: double}}
  exposures: {{path: {name}/exposures.csv, time_zone: UTC}}
  balances: {{path: {name}/balances.csv, time_zone: UTC}}
  context:
    weather:
      path: {name}/weather.csv
      by: region
      columns: {{occurred_at: day}}
      attributes: {{sky: string, temperature: double}}
      valid_days: ever
event_roles: {{goals: [coupon_redemption]}}
value: {{of: margin}}
features:
  categories: [drinks, fresh, garden]
  order_days: 14
  undo_within_days: 7
  declared:
    - {{name: own, table: events, where: "event_type = 'visit' AND number > 1", windows: [7, 28, ever]}}
    - name: numbers
      table: events
      measure: [sum, mean, min, max, days, distinct, first, last, mode, days_since, share]
      of: number
      windows: [28]
    - {{name: kinds, table: events, by: {{column: about, values: [fresh, drinks]}}}}
    - {{name: fresh, table: transactions, measure: share, of: amount, where: "category = 'fresh'"}}
    - {{name: numbers_per_visit, ratio: {{of: numbers_sum_28d, to: own_28d}}}}
segments:
  min_cluster_customers: 15
  warm_up_days: 2
  layers:
    - {{name: basket, features: [average_order_90d], method: quantiles, k: 3}}
    - {{name: affinity, features: ["share_*"], k: 2}}
    - {{name: people, features: [age_band, region]}}
    - {{name: reach, method: rules, rules: [{{name: south, when: region = 'south'}}, {{name: rich, when: ltv > 100}}]}}
audiences:
  - {{name: "top_*", when: share_* > 2 * $median_share_*, description: buy much *}}
  - {{name: southern, when: "region = 'south' AND COALESCE(balance, 0) > 10", description: of the south}}
actions:
  budget: 100
  actions:
    - {{name: coupon, cost: 0.5, channel: app}}
    - {{name: call, cost: 4.0, channel: phone, capacity: 20}}
validation: {{duplicates: keep one, references: {{max_unknown_share: 0.9}}}}
"""


@pytest.fixture(scope="module")
def every_setting(tmp_path_factory: pytest.TempPathFactory) -> list[Query]:
    """What a project asks that uses every setting, on four days, with a training week after nine."""
    shop = Shop.new(tmp_path_factory.mktemp("portable"))
    shop.file.write_text(EVERY_SETTING.format(name=shop.name), encoding="utf-8")
    rows = shop.delivered("transactions")
    refunds = [
        row | {"transaction_id": f"R{number}", "order_id": f"R{number}", "amount": f"-{row['amount']}"}
        for number, row in enumerate(rows)
        if row["occurred_at"] > "2024-04-24" and re.fullmatch(r"[\d.]+", row["amount"])
    ]
    shop.deliver("transactions", [*rows, *rows[-20:], *refunds[::9]])
    customers = sorted({row["customer_id"] for row in rows if row["customer_id"]})
    balances = [{"customer_id": one, "as_of": "2024-04-25 01:00:00", "balance": "12"} for one in customers[::3]]
    shop.deliver("balances", balances)
    weather = [
        {"region": "south", "day": f"2024-04-{day}", "sky": "storm", "temperature": f"{day}"} for day in (22, 28)
    ]
    shop.deliver("weather", weather)
    file = shop.folder / "queries"
    with shop.environment(), recorded(file):
        workspace = shop.workspace
        days = [FRIDAY + timedelta(days=n) for n in range((NEXT_MONDAY - FRIDAY).days + 1)]
        history = workspace.calendar.days(date(2024, 4, 20), NEXT_MONDAY)
        for name in workspace.in_order():
            is_early = workspace.groups[name] in ("ingest", "validate", "features")
            keys = [WEEK] if workspace.is_weekly(name) else history if is_early else days
            next(one for one in chain_of(workspace.project) if one.name == name)(Step(workspace, name, keys))
    return read(file)


@pytest.fixture(scope="module")
def asked(friday: Shop, shop: Shop, every_setting: list[Query]) -> list[Query]:
    """Every query of both projects, each once, and the files that neither asked."""
    queries = {one.sql: one for file in (friday, shop) for one in read(file.folder.with_suffix(".queries"))}
    queries |= {one.sql: one for one in every_setting}
    files = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in _query_files()}
    others = [Query(sql, name, {}, {}) for name, sql in files.items() if sql not in queries and name not in PARTS]
    assert {one.asked_by for one in others} <= RARELY_ASKED
    return [*queries.values(), *others]


def _query_files() -> list[Path]:
    return sorted(
        path for package in ("ml", "expectations", "microseg_assets") for path in (ROOT / package).rglob("*.sql")
    )


def for_spark(sql: str) -> str:
    """A query in Spark's dialect."""

    def own_form(node: exp.Expr) -> exp.Expr:
        form = OWN_FORMS.get(node.name.lower()) if isinstance(node, exp.Anonymous) else None
        arguments = [argument.sql("spark") for argument in node.expressions]
        return sqlglot.parse_one(form.format(*arguments), read="spark") if form else node

    return sqlglot.parse_one(sql, read="duckdb").transform(own_form).sql("spark", unsupported_level=ErrorLevel.RAISE)


def problems(sql: str) -> list[str]:
    """What in a query only DuckDB has, as far as sqlglot knows both dialects."""
    try:
        tree = sqlglot.parse_one(sql, read="duckdb")
        spark = sqlglot.parse_one(for_spark(sql), read="spark")
    except SqlglotError as error:
        return [str(error)]
    problematic = [what for what, is_there in _CONSTRUCTS.items() if is_there(tree)]
    calls = {node.sql("spark").partition("(")[0] for node in spark.find_all(exp.Func)}
    names = {name.lower() for name in calls if re.fullmatch(r"\w+", name)}
    return problematic + [f"{name}()" for name in sorted(names - SPARK_FUNCTIONS - SPARK_SYNTAX)]


def _any(*kinds: type[exp.Expr]) -> Any:
    return lambda tree: tree.find(*kinds) is not None


# What sqlglot passes on, or translates into something else.
_CONSTRUCTS: dict[str, Any] = {
    "* REPLACE": lambda tree: any(
        star.args.get("replace") or star.args.get("rename") for star in tree.find_all(exp.Star)
    ),
    "QUALIFY with *": lambda tree: any(
        select.args.get("qualify") and select.is_star for select in tree.find_all(exp.Select)
    ),
    "//": _any(exp.IntDiv),
    "POSITIONAL JOIN or ASOF JOIN": lambda tree: any(
        join.args.get("method") in ("POSITIONAL", "ASOF") for join in tree.find_all(exp.Join)
    ),
    "UNION BY NAME": lambda tree: any(union.args.get("by_name") for union in tree.find_all(exp.SetOperation)),
    "a list": _any(exp.Bracket, exp.Array, exp.List, exp.Lambda, exp.Unnest, exp.Comprehension),
    "PIVOT or SAMPLE": _any(exp.Pivot, exp.TableSample),
}  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("SELECT md5_number_upper(id) FROM orders", "md5_number_upper()"),
        ("SELECT isinf(amount) FROM orders", "is_inf()"),
        ("SELECT * REPLACE (amount + 1 AS amount) FROM orders", "* REPLACE"),
        ("SELECT *, 1 AS x FROM orders QUALIFY ROW_NUMBER() OVER (PARTITION BY id) = 1", "QUALIFY with *"),
        ("SELECT orders // 2 FROM orders", "//"),
        ("SELECT * FROM a POSITIONAL JOIN b", "POSITIONAL JOIN or ASOF JOIN"),
        ("SELECT * FROM a UNION ALL BY NAME SELECT * FROM b", "UNION BY NAME"),
        ("SELECT list_transform(LIST(id), lambda x: x) FROM orders", "a list"),
        ("SELECT * FROM orders USING SAMPLE 10 ROWS", "PIVOT or SAMPLE"),
        ("SELECT list_aggregate(ids, 'sum') FROM orders", "list_aggregate()"),
    ],
)
def test_what_only_duckdb_has_is_found(sql: str, problem: str) -> None:
    assert problem in problems(sql)


def test_what_both_have_is_no_problem() -> None:
    sql = """
        WITH sums AS (SELECT customer_id, SUM(CASE WHEN amount > 0 THEN CAST(amount AS DECIMAL(18, 4)) END) AS spend,
                             MAX(DATE_DIFF('day', day, $as_of)) AS age FROM orders WHERE day <= $as_of GROUP BY 1)
        SELECT customer_id, CONCAT('a', CAST(age AS VARCHAR)) AS text, MD5(customer_id) AS hash,
               ROW_NUMBER() OVER (PARTITION BY age ORDER BY spend DESC, customer_id) AS rank
        FROM sums WHERE spend IS DISTINCT FROM 0 ORDER BY customer_id"""
    assert problems(sql) == []


def test_every_query_of_the_chain_can_be_written_for_spark(asked: list[Query]) -> None:
    assert len(asked) > 80
    problematic = {one.asked_by: what for one in asked if (what := problems(one.sql))}
    assert not problematic, problematic

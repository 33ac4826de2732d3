"""Days compared with their baseline: the same in a range as day by day, reported or, on request, refused."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from microseg_assets import runs
from microseg_assets.planning.plan import PlannedRun
from microseg_assets.runs import RunFailed
from ml import tables
from ml.tables.outputs import INPUT_PROFILES
from tests.integration.shop import Shop, differences

FIRST, DAYS = date(2024, 1, 1), 45
LAST = FIRST + timedelta(days=DAYS - 1)
TWICE, SHIFTED, SILENT = (FIRST + timedelta(days=n) for n in (20, 36, 40))

PROJECT = """\
name: shop
start: 2024-01-01
end: 2024-02-14
tables:
  transactions: {path: shop/transactions.csv}
  customers: {path: shop/customers.csv, attributes: {region: string}}
"""


def lines() -> list[dict[str, Any]]:
    """Forty customers a day, three lines each; one category for all of them on one day, none at all on another."""
    rng = random.Random(5)
    rows: list[dict[str, Any]] = []
    for n in range(DAYS):
        day = FIRST + timedelta(days=n)
        for who in () if day == SILENT else rng.sample(range(100), 40):
            for _ in range(3):
                rows.append({
                    "customer_id": f"c{who:02d}", "occurred_at": f"{day} {rng.randrange(24):02d}:00:00",
                    "amount": round(rng.lognormvariate(2, 0.5), 2), "transaction_id": f"t{len(rows)}",
                    "category": "gift" if day == SHIFTED else rng.choice("abcd"),
                })  # fmt: skip
    of_day = {
        f"{day}": [row for row in rows if row["occurred_at"].startswith(f"{day}")] for day in (FIRST, TWICE, LAST)
    }
    for day in (TWICE, LAST):
        of_day[f"{day}"][0]["transaction_id"] = of_day[f"{FIRST}"][0]["transaction_id"]
    return rows


def made(folder: Path, rows: list[dict[str, Any]], validation: str = "") -> Shop:
    shop = Shop(folder)
    shop.data.mkdir(parents=True)
    shop.file.write_text(PROJECT + validation, encoding="utf-8")
    shop.deliver("transactions", rows)
    known = [{"customer_id": f"c{n:02d}", "registered_at": f"{FIRST} 00:00:00", "region": "r"} for n in range(80)]
    shop.deliver("customers", [*known, {**known[0], "customer_id": "c80", "registered_at": f"{LAST} 00:00:00"}])
    return shop


def validated(shop: Shop, first: date, last: date) -> None:
    """Ingest and validate the tables of this project, and nothing downstream."""
    assets = ("raw_transactions", "raw_customers", "customers", "transactions")
    with shop.instance() as instance:
        run = PlannedRun("to_features", first, last, 0, "", "", assets)
        runs.execute(run, str(shop.file), shop.home, instance)


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    shop = made(tmp_path_factory.mktemp("days") / "at_once", lines())
    validated(shop, FIRST, LAST)
    return shop


def said(shop: Shop, check: str) -> dict[date, dg.AssetCheckEvaluation]:
    """The newest evaluation of a check of `transactions`, of each day."""
    with shop.instance() as instance:
        records = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(shop.workspace.key("transactions"), check), limit=1000
        )
    newest: dict[date, dg.AssetCheckEvaluation] = {}
    for record in records:
        event = record.event.dagster_event if record.event else None
        evaluation = event.event_specific_data if event else None
        if isinstance(evaluation, dg.AssetCheckEvaluation) and evaluation.partition:
            newest.setdefault(date.fromisoformat(evaluation.partition), evaluation)
    return newest


def verdicts(shop: Shop) -> dict[date, tuple[bool, Any]]:
    return {day: (one.passed, one.metadata.get("measures")) for day, one in said(shop, "day_expectations").items()}


def test_unusual_days_are_reported_and_accepted(at_once: Shop) -> None:
    evaluations = said(at_once, "day_expectations")
    assert sorted(evaluations) == at_once.days("transactions") == at_once.workspace.calendar.days(FIRST, LAST)
    assert [day for day, one in sorted(evaluations.items()) if not one.passed] == [SHIFTED, SILENT]
    assert {one.severity for one in evaluations.values() if not one.passed} == {dg.AssetCheckSeverity.WARN}
    assert "category: shift" in str(evaluations[SHIFTED].metadata["unusual"].value)
    assert "gift" in str(evaluations[SHIFTED].metadata["unusual"].value)
    assert "0 rows, usually 120" in str(evaluations[SILENT].metadata["unusual"].value)
    assert all(one.passed for one in said(at_once, "great_expectations").values())


def test_rows_of_unknown_customers_are_accepted_and_reported(at_once: Shop) -> None:
    """`c80` becomes known on the last day only."""
    accepted = at_once.table("transactions", LAST - timedelta(days=1))["customer_id"].to_pylist()
    assert {customer for customer in accepted if customer > "c80"}
    report = {day: str(one.metadata["measures"].value) for day, one in said(at_once, "day_expectations").items()}
    bought_c80 = [day for day, text in report.items() if "c80" in text]
    assert bought_c80 and LAST not in bought_c80
    assert all("unknown customers" in text and "c8" in text for day, text in report.items() if day != SILENT)


def test_an_id_accepted_on_an_earlier_day_is_refused_on_every_later_one(at_once: Shop) -> None:
    lake = at_once.workspace.lake
    for day in (TWICE, LAST):
        (row,) = lake.read(tables.QUARANTINE, day, table="transactions").to_pylist()
        assert row["rule"] == "transaction_id: duplicate" and '"t0"' in row["row"]
    assert lake.keys(tables.QUARANTINE, table="transactions") == [f"{TWICE}", f"{LAST}"]


def test_a_range_gives_the_same_as_its_days_one_by_one(at_once: Shop, tmp_path: Path) -> None:
    shop = made(tmp_path / "pieces", lines())
    for first, last in ((FIRST, TWICE), (TWICE + timedelta(days=1), SHIFTED), (SHIFTED, SHIFTED), (SILENT, SILENT)):
        if first == SILENT:
            validated(shop, SHIFTED + timedelta(days=1), SILENT - timedelta(days=1))
        validated(shop, first, last)
    validated(shop, SILENT + timedelta(days=1), LAST)
    assert differences(at_once.partitions(LAST), shop.partitions(LAST)) == []
    assert verdicts(shop) == verdicts(at_once)


def test_later_days_do_not_change_a_verdict(at_once: Shop, tmp_path: Path) -> None:
    """Neither in the source, nor in the lake when an old day is made again."""
    rows = [row for row in lines() if row["occurred_at"] < f"{SHIFTED + timedelta(days=1)}"]
    shop = made(
        tmp_path / "cut",
        [
            *rows,
            *(
                {**row, "occurred_at": f"{LAST} 01:00:00", "transaction_id": f"l{n}"}
                for n, row in enumerate(rows[:500])
            ),
        ],
    )
    validated(shop, FIRST, LAST)
    assert differences(at_once.partitions(SHIFTED), shop.partitions(SHIFTED)) == []
    before = verdicts(shop)[SHIFTED]
    validated(shop, SHIFTED, SHIFTED)
    assert verdicts(shop)[SHIFTED] == before == verdicts(at_once)[SHIFTED]
    assert differences(at_once.partitions(SHIFTED), shop.partitions(SHIFTED)) == []


def test_an_error_refuses_the_day_and_later_days_do_not_compare_with_it(tmp_path: Path) -> None:
    shop = made(tmp_path / "strict", lines(), "validation: {shift: {severity: error}, volume: {severity: error}}\n")
    with pytest.raises(RunFailed, match=rf"2 days of transactions .*{SHIFTED}.*category: shift.*{SILENT}"):
        validated(shop, FIRST, LAST)
    assert set(shop.workspace.calendar.days(FIRST, LAST)) - set(shop.days("transactions")) == {SHIFTED, SILENT}
    profiled = shop.workspace.lake.keys(INPUT_PROFILES, table="transactions")
    assert f"{SHIFTED}" not in profiled and f"{LAST}" in profiled
    page = shop.home.folder / f"lake/shop/quarantine/table=transactions/day={SHIFTED}/data-docs.html"
    text = page.read_text(encoding="utf-8")
    assert "http" not in text and "<script" not in text and "src=" not in text


def test_days_accepted_before_there_were_profiles_are_profiled_when_needed(at_once: Shop, tmp_path: Path) -> None:
    shop = at_once.copied_to(tmp_path / "older")
    for key in shop.workspace.lake.keys(INPUT_PROFILES, table="transactions"):
        shop.workspace.lake.remove(INPUT_PROFILES, key, table="transactions")
    validated(shop, SHIFTED, SHIFTED)
    assert verdicts(shop)[SHIFTED] == verdicts(at_once)[SHIFTED]

"""The gate: a refused day does not exist, nothing is made from it, and correcting the source restores everything."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from microseg_assets.cli.main import main
from microseg_assets.runs import RunFailed, job_of
from ml import tables
from tests.integration.shop import FRIDAY, SUNDAY, WEEK, WEEK_BEFORE, Shop, day_of, differences

SATURDAY, MONDAY = SUNDAY - timedelta(days=1), SUNDAY + timedelta(days=1)


@contextmanager
def spoilt(shop: Shop, day: date) -> Iterator[None]:
    """Every other amount of a day is not a number."""
    rows = shop.delivered("transactions")
    mine = [row for row in rows if day_of(row["occurred_at"]) == day]
    bad = {id(row) for row in mine[::2]}
    shop.deliver("transactions", [{**row, "amount": "n/a"} if id(row) in bad else row for row in rows])
    yield
    shop.deliver("transactions", rows)


@pytest.fixture(scope="module")
def refused(friday: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, str]]:
    """The shop after a run from Saturday to Monday whose Sunday was refused, and the output of the run."""
    shop = friday.copied_to(tmp_path_factory.mktemp("gate") / "refused")
    with spoilt(shop, SUNDAY):
        with pytest.raises(RunFailed) as failure:
            shop.execute("to_features", SATURDAY, MONDAY)
        yield shop, str(failure.value)


def alone(shop: Shop, job: str, asset: str, key: date) -> dg.ExecuteInProcessResult:
    """Materialize one partition of one asset, as a user might in the UI."""
    with shop.instance() as instance:
        return job_of(str(shop.file), str(shop.folder), f"{shop.name}_{job}").execute_in_process(
            instance=instance, asset_selection=[shop.workspace.key(asset)], partition_key=key.isoformat(),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}, raise_on_error=False,
        )  # fmt: skip


def said(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [e for e in result.all_events if e.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None, "it ended with a traceback instead of a sentence"
    return str(failure.description)


def test_the_refusal_names_table_day_counts_and_remedy(refused: tuple[Shop, str]) -> None:
    shop, sentence = refused
    for part in ("transactions", f"{SUNDAY}", "rows", "quarantine", "Correct the source", str(shop.file)):
        assert part in sentence
    refusal, _, before = sentence.partition(" The last good day before can be made: ")
    assert f"{SATURDAY}" not in refusal and f"{MONDAY}" not in refusal
    assert before == f"microseg run --project {shop.name} --from {SATURDAY} --to {SATURDAY}"


def test_a_refused_day_is_absent_and_the_accepted_days_of_the_same_run_exist(refused: tuple[Shop, str]) -> None:
    """In the lake, and in Dagster's event log as well: a failed step records nothing of itself."""
    shop, _ = refused
    there = {SATURDAY, SUNDAY, MONDAY} & set(shop.days("transactions"))
    assert there == {SATURDAY, MONDAY}
    recorded = shop.recorded("transactions")
    assert {f"{SATURDAY}", f"{MONDAY}"} <= recorded and f"{SUNDAY}" not in recorded


def test_the_check_of_each_day_says_whether_that_day_passed(refused: tuple[Shop, str]) -> None:
    shop, _ = refused
    with shop.instance() as instance:
        records = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(shop.workspace.key("transactions"), "great_expectations"), limit=50
        )
    passed: dict[str, bool] = {}
    for record in records:
        event = record.event.dagster_event if record.event else None
        evaluation = event.event_specific_data if event else None
        if isinstance(evaluation, dg.AssetCheckEvaluation) and evaluation.partition:
            passed.setdefault(evaluation.partition, evaluation.passed)  # newest first
    assert [passed[f"{day}"] for day in (SATURDAY, SUNDAY, MONDAY)] == [True, False, True]


def test_refused_rows_are_in_quarantine_with_the_rule(refused: tuple[Shop, str]) -> None:
    shop, _ = refused
    rows = shop.workspace.lake.read(tables.QUARANTINE, SUNDAY, table="transactions").to_pylist()
    raw = shop.table("raw_transactions", SUNDAY)
    assert len(rows) == raw.num_rows - raw.num_rows // 2
    assert {row["rule"] for row in rows} == {"amount: not a number"}
    assert all('"n/a"' in row["row"] and row["source"].endswith("transactions.csv") for row in rows)


def test_a_refused_day_has_a_page_that_says_why(refused: tuple[Shop, str]) -> None:
    shop, _ = refused
    page = shop.home.folder / f"lake/shop/quarantine/table=transactions/day={SUNDAY}/data-docs.html"
    assert "amount" in page.read_text(encoding="utf-8") and f"{SUNDAY}" in page.read_text(encoding="utf-8")
    assert not page.parent.with_name(f"day={FRIDAY}").joinpath(page.name).exists()


def test_nothing_downstream_ran_in_the_refused_run(refused: tuple[Shop, str]) -> None:
    shop, _ = refused
    assert max(shop.days("customer_days")) == max(shop.days("customer_features")) == FRIDAY
    assert not {f"{SATURDAY}", f"{SUNDAY}", f"{MONDAY}"} & shop.recorded("customer_days")


def test_a_later_run_of_downstream_assets_refuses_and_names_the_command(refused: tuple[Shop, str]) -> None:
    shop, _ = refused
    result = alone(shop, "to_features", "customer_days", SUNDAY)
    assert not result.success
    assert f"transactions has no partition {SUNDAY}" in said(result)
    assert f"microseg run --project shop --from {SUNDAY} --to {SUNDAY}" in said(result)
    assert SUNDAY not in shop.days("customer_days")


def test_a_training_week_with_a_refused_day_refuses_and_registers_nothing(refused: tuple[Shop, str]) -> None:
    shop, _ = refused
    before = shop.registered()
    with pytest.raises(RunFailed) as failure:
        shop.execute("weekly", WEEK)
    assert f"has no partition {SUNDAY}" in str(failure.value)
    assert re.search(rf"microseg run --project shop --from {SUNDAY} --to {SUNDAY} .*shop_daily", str(failure.value))
    assert shop.days("value_model") == [WEEK_BEFORE]
    assert shop.registered() == before


def test_a_day_whose_training_week_is_missing_refuses_and_names_the_command(refused: tuple[Shop, str]) -> None:
    """Its features exist. Without the refusal it would use no model, or that of the wrong week."""
    shop, _ = refused
    day = WEEK_BEFORE
    assert alone(shop, "to_features", "customer_features", day).success
    unmade, ended = day - timedelta(days=7), day - timedelta(days=1)
    assert day in shop.days("customer_features") and unmade not in shop.days("value_model")
    with pytest.raises(RunFailed) as failure:
        shop.execute("from_value", day)
    assert f"value_model has no partition {unmade}" in str(failure.value)
    assert f"microseg run --project shop --from {unmade} --to {ended}" in str(failure.value)
    assert "shop_weekly" in str(failure.value)
    assert day not in shop.days("customer_value")


def test_an_accepted_day_that_is_refused_later_disappears_and_can_be_restored(
    friday: Shop, shop: Shop, tmp_path: Path
) -> None:
    """A partition exists only if its day passed; following the instruction of the refusal restores everything."""
    home = friday.copied_to(tmp_path / "heals")
    assert FRIDAY in home.days("transactions")
    with spoilt(home, FRIDAY):
        with pytest.raises(RunFailed):
            home.execute("to_features", FRIDAY)
        assert FRIDAY not in home.days("transactions")
        assert FRIDAY - timedelta(days=1) in home.days("transactions"), "yesterday stays intact"
        assert FRIDAY not in home.days("customer_days"), "later days would build on what was summed from it"
        assert FRIDAY not in home.days("customer_features"), "value to atlas would be made of it again"
        refusal = alone(home, "to_features", "customer_days", FRIDAY)
        (named,) = re.findall(r"microseg (run [^(]*)", said(refusal))
        command = shlex.split(named)
        still_bad = typed(home, command)
        assert still_bad.exit_code == 1 and "refused and not written" in still_bad.output
    healed = typed(home, command)
    assert healed.exit_code == 0, healed.output
    assert differences(shop.partitions(FRIDAY), home.partitions(FRIDAY)) == []


def typed(shop: Shop, command: list[str]) -> Result:
    """Run a command as a user would type it."""
    with shop.environment():
        return CliRunner().invoke(main, command, catch_exceptions=False)

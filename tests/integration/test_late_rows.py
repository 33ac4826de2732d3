"""Late, corrected and withdrawn rows: found, reported, and put right with all that was made from them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from microseg_assets.build import build_defs
from microseg_assets.cli import main
from microseg_assets.runs import job_of
from microseg_assets.status import statuses
from microseg_assets.taken_in import compare
from tests.integration.shop import Shop, day_of

LATE = date(2024, 4, 17)
Rows = list[dict[str, str]]


def of_day(rows: Rows, day: date) -> list[int]:
    return [number for number, row in enumerate(rows) if day_of(row["occurred_at"]) == day]


def one_more(rows: Rows) -> Rows:
    new = rows[of_day(rows, LATE)[0]] | {"transaction_id": "LATE1", "order_id": "LATE1", "amount": "41.5"}
    return [*rows, new]


def one_corrected(rows: Rows) -> Rows:
    at = of_day(rows, LATE)[0]
    return [row | {"amount": "99.25"} if number == at else row for number, row in enumerate(rows)]


def one_withdrawn(rows: Rows) -> Rows:
    at = of_day(rows, LATE)[0]
    return [row for number, row in enumerate(rows) if number != at]


def reordered(rows: Rows) -> Rows:
    return rows[::-1]


def said(shop: Shop, *command: str) -> str:
    with shop.here():
        result = CliRunner().invoke(main, [*command, "--project", str(shop.file)])
    assert result.exit_code == 0, result.output
    return result.output


def without_version(path: Path) -> pa.Table:
    """Rows without the number of the model's version: the model that learnt from the late row too is a second one."""
    rows = pq.ParquetFile(path).read()
    return rows.drop_columns([name for name in ("model",) if name in rows.column_names])


@pytest.fixture
def shop(friday: Shop, tmp_path: Path) -> Shop:
    return friday.copied_to(tmp_path / "late")


@pytest.mark.parametrize(
    ("what", "told"), [(one_more, "1 row more"), (one_corrected, "other values"), (one_withdrawn, "1 row fewer")]
)
def test_a_change_in_a_day_that_was_taken_in_is_found_and_told(
    shop: Shop, what: Callable[[Rows], Rows], told: str
) -> None:
    shop.deliver("transactions", what(shop.delivered("transactions")))
    found = compare(shop.chain)
    assert [(c.table, c.day, str(c)) for c in found.changes] == [("transactions", LATE, told)]
    stale = {one.asset: sorted(one.stale) for one in statuses(shop.chain, found)}
    assert stale["raw_transactions"] == [LATE] == stale["transactions"]
    assert (
        stale["customer_features"][0] == LATE and stale["customer_features"][-1] == shop.days("customer_features")[-1]
    )
    assert stale["segment_atlas"] == shop.days("segment_atlas"), "all days with an atlas lie behind the late row"
    assert stale["raw_events"] == [] == stale["events"]


def test_another_order_and_another_file_change_nothing(shop: Shop) -> None:
    rows = reordered(shop.delivered("transactions"))
    shop.deliver("transactions", rows)
    path = shop.data / "transactions.csv"
    os.utime(path)
    assert compare(shop.chain).changes == ()


def test_rows_of_days_to_come_are_not_late(shop: Shop) -> None:
    rows = shop.delivered("transactions")
    day = shop.days("raw_transactions")[-1] + timedelta(days=1)
    kept = [row for row in rows if (d := day_of(row["occurred_at"])) is None or d < day]
    assert len(kept) < len(rows), "the file holds days to come"
    shop.deliver("transactions", kept)
    assert compare(shop.chain).changes == ()


def test_a_source_that_drops_what_is_old_takes_nothing_back(shop: Shop) -> None:
    rows = shop.delivered("transactions")
    shop.deliver("transactions", [row for row in rows if (d := day_of(row["occurred_at"])) is None or d > LATE])
    assert compare(shop.chain).changes == ()


def test_status_and_run_tell_of_late_rows_and_how_to_take_them_in(shop: Shop) -> None:
    shop.deliver("transactions", one_more(shop.delivered("transactions")))
    text = said(shop, "status")
    assert f"transactions: since it was taken in, the source has changed on {LATE} (1 row more)." in text
    assert f"microseg run --project {shop.name} --stale" in text
    after = (shop.days("segment_atlas")[-1] + timedelta(days=1)).isoformat()
    assert f"{LATE} (1 row more)" in said(shop, "run", "--from", after), "a run of other days says so too"


def test_what_is_stale_is_made_as_if_the_rows_had_never_been_late(shop: Shop, tmp_path: Path) -> None:
    """The lake after `--stale` is the one of a shop whose rows were right from the start, models included."""
    right = Shop.new(tmp_path / "right")
    right.deliver("transactions", one_more(right.delivered("transactions")))
    first, last = shop.days("segment_atlas")[0], shop.days("segment_atlas")[-1]
    right.run(first, last)
    shop.deliver("transactions", one_more(shop.delivered("transactions")))
    text = said(shop, "run", "--stale")
    assert f"transactions: the source has changed on {LATE} (1 row more)" in text
    assert compare(shop.chain).changes == ()
    assert not any(one.stale for one in statuses(shop.chain))
    theirs = right.partitions()
    compared = [name for name in shop.partitions() if not name.startswith(("model_choices", "segment_atlas"))]
    assert len(compared) > 500
    for name in compared:
        ours, expected = (without_version(found[name]) for found in (shop.partitions(), theirs))
        assert ours.equals(expected), name
    assert "Nothing is stale." in said(shop, "run", "--stale")


def evaluated(shop: Shop, instance: dg.DagsterInstance) -> dg.RunRequest | str:
    """What the sensor asks for, or why it asks for nothing."""
    definitions = build_defs(projects=[str(shop.file)], home=shop.home)
    sensor = definitions.resolve_sensor_def(f"{shop.name}_refresh")
    context = dg.build_sensor_context(instance=instance, definitions=definitions)
    data = sensor.evaluate_tick(context)
    if not data.run_requests:
        return str(data.skip_message)
    (request,) = data.run_requests
    return request


def test_the_sensor_asks_for_one_run_after_the_other_until_nothing_is_stale(shop: Shop) -> None:
    shop.deliver("transactions", one_more(shop.delivered("transactions")))
    asked = []
    with shop.instance() as instance:
        for _ in range(8):
            request = evaluated(shop, instance)
            if isinstance(request, str):
                assert request == "nothing is stale"
                break
            assert evaluated(shop, instance).run_key == request.run_key, "the same state asks for the same run"  # type: ignore[union-attr]
            asked.append(request.job_name)
            result = job_of(str(shop.file), str(shop.folder), str(request.job_name)).execute_in_process(
                instance=instance, asset_selection=list(request.asset_selection or ()), tags=dict(request.tags),
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )  # fmt: skip
            assert result.success
    assert asked == [f"{shop.name}_{job}" for job in ("to_features", "to_features", "weekly", "from_value")]
    assert compare(shop.chain).changes == ()


def test_a_failed_run_is_not_asked_for_again_until_something_changes(shop: Shop) -> None:
    shop.deliver("transactions", one_more(shop.delivered("transactions")))
    with shop.instance() as instance:
        first = evaluated(shop, instance)
        rows = shop.delivered("transactions")
        shop.deliver("transactions", one_corrected(rows))
        second = evaluated(shop, instance)
    assert isinstance(first, dg.RunRequest) and isinstance(second, dg.RunRequest)
    assert first.run_key != second.run_key


def test_a_new_column_passes_and_is_reported_and_a_lost_one_warns(shop: Shop) -> None:
    after = shop.days("raw_transactions")[-1] + timedelta(days=1)
    rows = shop.delivered("transactions")
    shop.deliver("transactions", [row | {"loyalty": "gold"} for row in rows])
    shop.execute("to_features", after)
    without = [{k: v for k, v in row.items() if k != "category"} for row in rows]
    shop.deliver("transactions", without)
    shop.execute("to_features", after + timedelta(days=1))
    with shop.instance() as instance:
        found = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(shop.chain.key("raw_transactions"), "delivery"), limit=10
        )
    told: dict[str, Any] = {}
    for one in found:
        evaluation: Any = one.event and one.event.dagster_event and one.event.dagster_event.event_specific_data
        if evaluation.partition:
            told[evaluation.partition] = evaluation
    new, lost = told[after.isoformat()], told[(after + timedelta(days=1)).isoformat()]
    assert new.passed and new.metadata["new_columns"].value == "loyalty"
    assert not lost.passed and lost.severity == dg.AssetCheckSeverity.WARN
    assert "category" in str(lost.metadata["vanished_columns"].value)
    assert set(shop.days("transactions")) >= {after, after + timedelta(days=1)}


def test_a_required_column_that_is_gone_stops_the_day_before_anything_is_written(shop: Shop) -> None:
    after = shop.days("raw_transactions")[-1] + timedelta(days=1)
    rows = shop.delivered("transactions")
    shop.deliver("transactions", [{k: v for k, v in row.items() if k != "amount"} for row in rows])
    before = shop.partitions()
    with shop.here():
        result = CliRunner().invoke(main, ["run", "--from", after.isoformat(), "--project", str(shop.file)])
    assert result.exit_code == 2 and "amount" in result.output and "Traceback" not in result.output
    assert shop.partitions() == before

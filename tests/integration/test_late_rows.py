"""Late, corrected and withdrawn rows: found, reported, and put right with all that was made from them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from microseg_assets.build import build_defs
from microseg_assets.cli.main import main
from microseg_assets.orchestration.dead_runs import HOST_TAG, PID_TAG
from microseg_assets.planning.staleness import statuses
from microseg_assets.runs import job_of
from microseg_assets.storage.ingest_log import compare
from tests.integration.shop import Shop, day_of

LATE = date(2024, 4, 17)
PINNED = 17133499673272824318  # a hash of DuckDB's
Rows = list[dict[str, str]]


def of_day(rows: Rows, day: date) -> list[int]:
    return [number for number, row in enumerate(rows) if day_of(row["occurred_at"]) == day]


def one_more(rows: Rows) -> Rows:
    new = rows[of_day(rows, LATE)[0]] | {"transaction_id": "LATE1", "order_id": "LATE1", "amount": "41.5"}
    return [*rows, new]


def one_corrected(rows: Rows) -> Rows:
    position = of_day(rows, LATE)[0]
    return [row | {"amount": "99.25"} if number == position else row for number, row in enumerate(rows)]


def one_withdrawn(rows: Rows) -> Rows:
    position = of_day(rows, LATE)[0]
    return [row for number, row in enumerate(rows) if number != position]


def reordered(rows: Rows) -> Rows:
    return rows[::-1]


def said(shop: Shop, *command: str) -> str:
    with shop.environment():
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
    ("change", "description"),
    [(one_more, "1 row more"), (one_corrected, "other values"), (one_withdrawn, "1 row fewer")],
)
def test_a_change_in_an_ingested_day_is_found_and_described(
    shop: Shop, change: Callable[[Rows], Rows], description: str
) -> None:
    shop.deliver("transactions", change(shop.delivered("transactions")))
    comparison = compare(shop.workspace)
    assert [(c.table, c.day, str(c)) for c in comparison.changes] == [("transactions", LATE, description)]
    stale = {one.asset: sorted(one.stale) for one in statuses(shop.workspace, comparison)}
    assert stale["raw_transactions"] == [LATE] == stale["transactions"]
    assert stale["customer_features"] == [day for day in shop.days("customer_features") if day >= LATE] != []
    assert stale["segment_atlas"] == shop.days("segment_atlas"), "all days with an atlas lie behind the late row"
    assert stale["raw_events"] == [] == stale["events"]


def test_the_order_of_rows_and_the_time_of_the_file_do_not_matter(shop: Shop) -> None:
    rows = reordered(shop.delivered("transactions"))
    shop.deliver("transactions", rows)
    path = shop.data / "transactions.csv"
    os.utime(path)
    assert compare(shop.workspace).changes == ()


def test_rows_of_days_to_come_are_not_late(shop: Shop) -> None:
    rows = shop.delivered("transactions")
    day = shop.days("raw_transactions")[-1] + timedelta(days=1)
    kept = [row for row in rows if (d := day_of(row["occurred_at"])) is None or d < day]
    assert len(kept) < len(rows), "the file holds days to come"
    shop.deliver("transactions", kept)
    assert compare(shop.workspace).changes == ()


def test_a_source_that_drops_old_rows_deletes_nothing(shop: Shop) -> None:
    rows = shop.delivered("transactions")
    shop.deliver("transactions", [row for row in rows if (d := day_of(row["occurred_at"])) is None or d > LATE])
    assert compare(shop.workspace).changes == ()


def test_status_and_run_report_late_rows_and_how_to_ingest_them(shop: Shop) -> None:
    shop.deliver("transactions", one_more(shop.delivered("transactions")))
    text = said(shop, "status")
    assert f"transactions: since it was ingested, the source has changed on {LATE} (1 row more)." in text
    assert f"microseg run --project {shop.name} --stale" in text
    after = (shop.days("segment_atlas")[-1] + timedelta(days=1)).isoformat()
    assert f"{LATE} (1 row more)" in said(shop, "run", "--from", after), "a run of other days says so too"


def test_rebuilding_stale_partitions_gives_what_timely_rows_would_have_given(shop: Shop, tmp_path: Path) -> None:
    """The lake after `--stale` is the one of a shop whose rows were right from the start, models included."""
    right = Shop.new(tmp_path / "right")
    right.deliver("transactions", one_more(right.delivered("transactions")))
    first, last = shop.days("segment_atlas")[0], shop.days("segment_atlas")[-1]
    right.run(first, last)
    shop.deliver("transactions", one_more(shop.delivered("transactions")))
    text = said(shop, "run", "--stale")
    assert f"transactions: the source has changed on {LATE} (1 row more)" in text
    assert compare(shop.workspace).changes == ()
    assert not any(one.stale for one in statuses(shop.workspace))
    theirs = right.partitions()
    compared = [name for name in shop.partitions() if not name.startswith(("model_choices", "segment_atlas"))]
    assert len(compared) > 500
    for name in compared:
        ours, expected = (without_version(partitions[name]) for partitions in (shop.partitions(), theirs))
        assert ours.equals(expected), name
    assert "Nothing is stale." in said(shop, "run", "--stale")


def test_an_id_that_an_earlier_day_gains_or_loses_changes_the_verdict_on_later_rows(shop: Shop) -> None:
    """The first accepted one wins, whenever it was delivered: never twice, never none."""
    rows = shop.delivered("transactions")
    late = rows[of_day(rows, LATE)[0]]
    early = rows[of_day(rows, date(2024, 2, 10))[0]] | {"transaction_id": late["transaction_id"]}

    def accepted() -> list[date]:
        days = (early_day, LATE)
        return [
            d for d in days if late["transaction_id"] in shop.table("transactions", d)["transaction_id"].to_pylist()
        ]

    early_day = date(2024, 2, 10)
    assert accepted() == [LATE]
    shop.deliver("transactions", [*rows, early])
    said(shop, "run", "--stale")
    assert accepted() == [early_day]
    shop.deliver("transactions", rows)
    said(shop, "run", "--stale")
    assert accepted() == [LATE] and not any(one.stale for one in statuses(shop.workspace, compare(shop.workspace)))


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


def test_the_sensor_requests_one_run_after_another_until_nothing_is_stale(shop: Shop) -> None:
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
            assert carried_out(shop, instance, request)
    assert asked == [f"{shop.name}_{job}" for job in ("to_features", "to_features", "weekly", "from_value")]
    assert compare(shop.workspace).changes == ()


def carried_out(shop: Shop, instance: dg.DagsterInstance, request: dg.RunRequest) -> bool:
    result = job_of(str(shop.file), str(shop.folder), str(request.job_name)).execute_in_process(
        instance=instance, asset_selection=list(request.asset_selection or ()), tags=dict(request.tags),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}, raise_on_error=False,
    )  # fmt: skip
    return bool(result.success)


def test_a_failed_run_is_not_requested_again_until_something_changes(shop: Shop) -> None:
    """Also where it has got so far as to make some of it: here the day is refused."""
    rows = shop.delivered("transactions")
    bad = set(of_day(rows, LATE)[::2])
    shop.deliver("transactions", [row | {"amount": "n/a"} if n in bad else row for n, row in enumerate(rows)])
    with shop.instance() as instance:
        first = evaluated(shop, instance)
        assert isinstance(first, dg.RunRequest) and not carried_out(shop, instance, first)
        after = evaluated(shop, instance)
        assert isinstance(after, str) or after.run_key == first.run_key
        shop.deliver("transactions", one_corrected(rows))
        again = evaluated(shop, instance)
        assert isinstance(again, dg.RunRequest) and again.run_key != first.run_key


def test_the_same_command_restores_a_refused_day_once_the_source_is_corrected(shop: Shop) -> None:
    rows = shop.delivered("transactions")
    bad = set(of_day(rows, LATE)[::2])
    shop.deliver("transactions", [row | {"amount": "n/a"} if n in bad else row for n, row in enumerate(rows)])
    with shop.environment():
        refused = CliRunner().invoke(main, ["run", "--stale", "--project", str(shop.file)])
    assert refused.exit_code == 1 and f"{LATE}" in refused.output and LATE not in shop.days("transactions")
    text = said(shop, "status")
    assert f"transactions of {LATE} was refused; why: microseg docs transactions --day {LATE}" in text
    last = shop.days("segment_atlas")[-1]
    with shop.environment():
        CliRunner().invoke(main, ["run", "--stale", "--project", str(shop.file)])
    assert LATE not in shop.days("transactions"), "while the source is as it was, nothing is planned that must fail"
    shop.deliver("transactions", rows)
    said(shop, "run", "--stale")
    assert LATE in shop.days("transactions") and shop.days("customer_features")[-1] >= last
    assert not any(one.stale or one.missing for one in statuses(shop.workspace, compare(shop.workspace)))


def test_rows_that_a_source_has_dropped_stay_when_another_table_is_late(shop: Shop) -> None:
    """A late event of a day whose transactions the source keeps no more; and a plain run of such a day."""
    early = date(2024, 2, 10)
    before = shop.table("transactions", early)
    assert before.num_rows
    rows = shop.delivered("transactions")
    shop.deliver("transactions", [row for row in rows if (d := day_of(row["occurred_at"])) is None or d > LATE])
    events = shop.delivered("events")
    mine = next(row for row in events if day_of(row["occurred_at"]) == early)
    shop.deliver("events", [*events, mine | {"event_type": "visit", "occurred_at": mine["occurred_at"]}])
    assert [change.table for change in compare(shop.workspace).changes] == ["events"]
    said(shop, "run", "--stale")
    assert shop.table("transactions", early).equals(before)
    shop.execute("to_features", early)
    assert shop.table("raw_transactions", early).num_rows and shop.table("transactions", early).equals(before)


def test_a_source_that_keeps_only_recent_hours_cuts_a_day_and_loses_nothing(shop: Shop) -> None:
    rows = shop.delivered("transactions")
    of_late = of_day(rows, LATE)
    cut = rows[of_late[len(of_late) // 2]]["occurred_at"]
    before = shop.table("transactions", LATE)
    shop.deliver("transactions", [row for row in rows if row["occurred_at"] >= cut])
    assert compare(shop.workspace).changes == ()
    shop.execute("to_features", LATE)
    assert shop.table("transactions", LATE).equals(before)


def test_a_source_without_any_rows_is_reported_and_deletes_nothing(shop: Shop) -> None:
    header = shop.delivered("transactions")[:1]
    shop.deliver("transactions", [dict.fromkeys(header[0], "")])
    comparison = compare(shop.workspace)
    assert comparison.changes == () and dict(comparison.unreadable)["transactions"].startswith(
        "the source no longer holds any row"
    )


def test_the_same_file_again_is_not_late(shop: Shop) -> None:
    project = shop.file.read_text().replace("path: shop/transactions.csv", "path: shop/transactions*.csv")
    shop.file.write_text(project)
    (shop.data / "transactions (1).csv").write_bytes((shop.data / "transactions.csv").read_bytes())
    assert compare(Shop(shop.folder).workspace).changes == ()


def test_one_more_customer_without_a_date_changes_no_past_day(shop: Shop) -> None:
    rows = shop.delivered("customers")
    shop.deliver("customers", [*rows, rows[0] | {"customer_id": "NEW", "registered_at": ""}])
    assert compare(shop.workspace).changes == ()


def test_a_correction_of_the_category_alone_reaches_the_features_step_by_step(shop: Shop) -> None:
    rows = shop.delivered("transactions")
    mine = set(of_day(rows, LATE))
    shop.deliver("transactions", [row | {"category": "garden"} if n in mine else row for n, row in enumerate(rows)])
    asked = []
    with shop.instance() as instance:
        for _ in range(2):
            request = evaluated(shop, instance)
            assert isinstance(request, dg.RunRequest) and carried_out(shop, instance, request)
            asked.append({key.path[-1] for key in request.asset_selection or ()})
    assert "transactions" in asked[0] and "events" not in asked[0] and asked[1] == {"customer_features"}


def test_a_killed_run_does_not_silence_the_sensor(shop: Shop) -> None:
    shop.deliver("transactions", one_more(shop.delivered("transactions")))
    with shop.instance() as instance:
        job = job_of(str(shop.file), str(shop.folder), f"{shop.name}_to_features")
        tags = {"microseg/project": shop.name, PID_TAG: "4194304", HOST_TAG: socket.gethostname()}
        instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)
        assert isinstance(evaluated(shop, instance), dg.RunRequest)


def test_a_run_of_assets_chosen_by_hand_makes_the_sensor_wait(shop: Shop) -> None:
    shop.deliver("transactions", one_more(shop.delivered("transactions")))
    with shop.instance() as instance:
        chosen = frozenset({shop.workspace.key("raw_transactions")})
        instance.create_run(
            job_name="__ASSET_JOB", run_id=None, run_config=None, status=dg.DagsterRunStatus.STARTED, tags={},
            root_run_id=None, parent_run_id=None, step_keys_to_execute=None, execution_plan_snapshot=None,
            job_snapshot=None, parent_job_snapshot=None, asset_selection=chosen, asset_check_selection=None,
            resolved_op_selection=None, op_selection=None, remote_job_origin=None, job_code_origin=None,
            asset_graph=build_defs(projects=[str(shop.file)], home=shop.home).resolve_asset_graph(),
        )  # fmt: skip
        assert evaluated(shop, instance) == "a run of this project is in progress"


def test_the_hash_of_a_row_has_not_changed() -> None:
    """If this fails, the fingerprints of all ingested days differ: the version in `arrivals` must change."""
    import duckdb

    row = "'C1'::VARCHAR, TIMESTAMP '2024-01-02 03:04:05', 1.5::DOUBLE, NULL::VARCHAR"
    with duckdb.connect() as connection:
        assert connection.execute(f"SELECT hash({row})").fetchall() == [(PINNED,)]

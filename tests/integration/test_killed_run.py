"""A run whose process is killed: the next start reports it, existing partitions are whole, and the rerun succeeds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
from click.testing import CliRunner

from microseg_assets.cli.main import main
from microseg_assets.orchestration.dead_runs import HOST_TAG, PID_TAG, report_dead_runs
from tests.integration.shop import SUNDAY, Shop, differences

ROOT = Path(__file__).parents[2]
COMMAND = ["run", "--project", "shop", "--from", f"{SUNDAY - timedelta(days=1)}", "--to", f"{SUNDAY}"]


def killed_in_the_middle(shop: Shop) -> int:
    """Start `microseg run` over Saturday and Sunday and kill it without warning when it has ingested them."""
    with shop.environment():
        process = subprocess.Popen(
            [sys.executable, "-m", "microseg_assets.cli", *COMMAND],
            cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "raw_transactions" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait(60) == -signal.SIGKILL, "".join(said)
    return process.pid


def test_a_killed_run_is_reported_at_the_next_start_and_its_days_can_be_made(
    friday: Shop, shop: Shop, tmp_path: Path
) -> None:
    home = friday.copied_to(tmp_path / "killed")
    pid = killed_in_the_middle(home)
    with home.instance() as instance:
        (run,) = instance.get_runs(dg.RunsFilter(tags={PID_TAG: str(pid)}))
        assert run.status == dg.DagsterRunStatus.STARTED, "Dagster cannot know; the next start must say it"

    for path in home.partitions().values():
        pq.ParquetFile(path).read()
    assert shop.partitions(SUNDAY).keys() > home.partitions().keys() >= friday.partitions().keys()

    with home.environment():
        again = CliRunner().invoke(main, COMMAND, catch_exceptions=False)
    assert again.exit_code == 0, again.output
    with home.instance() as instance:
        record = instance.get_run_by_id(run.run_id)
        assert record is not None and record.status == dg.DagsterRunStatus.FAILURE
        (said,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert "is gone" in said.message or "is gone" in str(said.dagster_event)
        statuses = {one.status for one in instance.get_runs() if one.run_id != run.run_id}
        assert statuses == {dg.DagsterRunStatus.SUCCESS}
    assert differences(shop.partitions(SUNDAY), home.partitions(SUNDAY)) == []


def test_only_runs_of_this_machine_whose_process_is_gone_are_reported(tmp_path: Path) -> None:
    """A second start must not declare a running process dead, nor a run of another machine or of the UI."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(60)
    this_host = {HOST_TAG: socket.gethostname()}
    with Shop(tmp_path / "home").instance() as instance:

        def started(tags: dict[str, str]) -> str:
            run = dg.DagsterRun(job_name="shop_daily", status=dg.DagsterRunStatus.STARTED, tags=tags)
            return instance.add_run(run).run_id

        dead = started({**this_host, PID_TAG: str(gone.pid)})
        others = [
            started({**this_host, PID_TAG: str(os.getppid())}),
            started({HOST_TAG: "elsewhere", PID_TAG: str(gone.pid)}),
            started({}),
        ]
        assert report_dead_runs(instance) == [dead]
        assert report_dead_runs(instance) == [], "it is reported once"
        statuses = {run.run_id: run.status for run in instance.get_runs()}
        assert statuses[dead] == dg.DagsterRunStatus.FAILURE
        assert {statuses[run] for run in others} == {dg.DagsterRunStatus.STARTED}

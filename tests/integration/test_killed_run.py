"""A run whose process is killed: the next start says so, what is there is whole, and the rerun succeeds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq

from microseg_assets.runs import PID_TAG, report_dead_runs
from tests.integration.shop import SUNDAY, Shop, differences

ROOT = Path(__file__).parents[2]


def killed_in_the_middle(shop: Shop) -> int:
    """Start `microseg run` over Saturday and Sunday and kill it, without a word, when it has ingested them."""
    with shop.here():
        process = subprocess.Popen(
            [sys.executable, "-m", "microseg_assets.cli", "run", "--project", "shop",
             "--from", f"{SUNDAY.replace(day=SUNDAY.day - 1)}", "--to", f"{SUNDAY}"],
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
        assert run.status == dg.DagsterRunStatus.STARTED, "Dagster cannot know: this is what the next start must put right"

    for path in home.partitions().values():
        pq.ParquetFile(path).read()
    assert shop.partitions(SUNDAY).keys() > home.partitions().keys() >= friday.partitions().keys()

    done = subprocess.run(
        [sys.executable, "-m", "microseg_assets.cli", "run", "--project", "shop",
         "--from", f"{SUNDAY.replace(day=SUNDAY.day - 1)}", "--to", f"{SUNDAY}"],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
        env={**os.environ, "MICROSEG_HOME": str(home.folder), "DAGSTER_HOME": str(home.home.folder / "dagster")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with home.instance() as instance:
        record = instance.get_run_by_id(run.run_id)
        assert record is not None and record.status == dg.DagsterRunStatus.FAILURE
        (said,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        assert "is gone" in said.message or "is gone" in str(said.dagster_event)
        statuses = {one.status for one in instance.get_runs() if one.run_id != run.run_id}
        assert statuses == {dg.DagsterRunStatus.SUCCESS}
    assert differences(shop.partitions(SUNDAY), home.partitions(SUNDAY)) == []


def test_a_run_that_is_alive_is_left_alone(friday: Shop, tmp_path: Path) -> None:
    """A second start while the first one works must not declare it dead."""
    home = friday.copied_to(tmp_path / "alive")
    with home.instance() as instance:
        (finished, *_) = instance.get_runs()
        alive = instance.add_run(
            dg.DagsterRun(
                job_name=finished.job_name, status=dg.DagsterRunStatus.STARTED,
                tags={**finished.tags, PID_TAG: str(os.getppid())},
            )
        )  # fmt: skip
        assert report_dead_runs(instance) == []
        record = instance.get_run_by_id(alive.run_id)
        assert record is not None and record.status == dg.DagsterRunStatus.STARTED

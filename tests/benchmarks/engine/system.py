"""What the system takes, asset by asset: `microseg run` on a state folder of its own, in fresh processes.

Belongs here: the project that is run, the phases and their commands, and when Dagster says that each asset began and
ended. Does not belong here: watching a process (see `measure`), words and tables (see `report`).

A checkout is measured with the Python of its own `.venv`, so an earlier version can be measured in the same run.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from tests.benchmarks.engine import measure
from tests.benchmarks.engine.data import START

PROJECT = "bench"
PARTS = Path(__file__).with_name("parts.py")
LIKE_FOR_LIKE = (
    "customer_features", "customer_value", "lifecycle_stages", "layer_assignments", "micro_segments", "movements",
)  # fmt: skip
_OWN_STATE = dict.fromkeys(("DAGSTER_HOME", "MICROSEG_LAKE", "MLFLOW_TRACKING_URI"), "")  # all of it in the home
_PROJECT_FILE = """\
# Written by the benchmark: the synthetic business of tests/benchmarks/engine/data.py.
name: {name}
title: Benchmark
start: {start}
end: {end}

tables:
  transactions: {{path: {data}/transactions.parquet}}
  customers:
    path: {data}/customers.parquet
    attributes: {{region: string, device: string}}
  exposures: {{path: {data}/exposures.parquet}}

features:
  categories: [{categories}]

actions:
  actions:
    - {{name: discount, cost: 1.0}}
    - {{name: email, cost: 0.05}}
    - {{name: gift, cost: 2.0}}
"""


@dataclass(frozen=True)
class Checkout:
    """A checkout of the project whose environment is made."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ".venv" / "bin" / "python"

    @property
    def commit(self) -> str:
        """The commit, with a plus sign if files differ from it; `unknown` outside of a repository."""
        try:
            return _git(self.folder, "describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=9")
        except (OSError, subprocess.CalledProcessError):
            return "unknown"


@dataclass
class System:
    """One checkout on one data set, with a state folder of its own.

    Parameters
    ----------
    checkout : what is measured
    data : folder of the data set, which has one day more
    days : days of the first run; the last one is made up to its atlas
    folder : where its project file and state are kept
    profile_to : the file to which a phase is profiled by function, with this checkout only; by default none is
    """

    checkout: Checkout
    data: Path
    days: int
    folder: Path
    profile_to: Path | None = None
    _ran: set[str] = field(default_factory=set)

    @property
    def as_of(self) -> date:
        """The last day of the first run."""
        return START + timedelta(days=self.days - 1)

    @property
    def day_after(self) -> date:
        return self.as_of + timedelta(days=1)

    @property
    def week(self) -> date:
        """The Monday of the last week that ended before the last day."""
        return self.as_of - timedelta(days=self.as_of.weekday() + 7)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def project(self) -> Path:
        return self.folder / f"{PROJECT}.yaml"

    def prepare(self) -> None:
        """Begin with nothing but a project file."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._ran = set()
        categories = ", ".join(f"cat{number:02d}" for number in range(20))
        text = _PROJECT_FILE.format(
            name=PROJECT, start=START, end=self.day_after, data=self.data.absolute(), categories=categories
        )
        self.project.write_text(text, encoding="utf-8")

    def first_run(self) -> dict[str, Any]:
        """From nothing: every day is ingested, a week is trained, the last day is made up to its atlas."""
        self.prepare()
        return self._microseg("--from", self.as_of.isoformat())

    def next_day(self) -> dict[str, Any]:
        """One more day with the models in force."""
        return self._microseg("--from", self.day_after.isoformat())

    def training_week(self) -> dict[str, Any]:
        """The week of the first run again, every family."""
        return self._parts("week", self.week)

    def backfill(self, days: int) -> dict[str, Any]:
        """The steps that the notebook has too, of the last `days` days, under the models in force on the last."""
        return self._parts("days", self.as_of - timedelta(days=days - 1), self.as_of)

    def _microseg(self, *options: str) -> dict[str, Any]:
        return self._measured("-m", "microseg_assets.cli", "run", "--project", str(self.project), *options)

    def _parts(self, what: str, *days: date) -> dict[str, Any]:
        # By module where it may be: cProfile would let a program's own folder hide other modules.
        program = ("-P", str(PARTS)) if self.profile_to is None else ("-m", "tests.benchmarks.engine.parts")
        return self._measured(*program, what, str(self.project), *map(str, days))

    def _measured(self, *arguments: str) -> dict[str, Any]:
        profiler = ("-X", "importtime") if self.profile_to is None else ("-m", "cProfile", "-o", str(self.profile_to))
        took = measure.run(
            [self.checkout.python, *profiler, *arguments],
            folder=self.checkout.folder,
            environment={"MICROSEG_HOME": str(self.home), "PYTHONUTF8": "1", **_OWN_STATE},
        )
        assets = self._assets(took)
        imports = took.import_seconds()
        in_assets = sum(one["seconds"] - one["import_seconds"] for one in assets.values())
        return {
            "seconds": took.seconds,
            "processor_seconds": took.processor,
            "import_seconds": imports,
            "seconds_after_imports": took.seconds - imports,
            "outside_of_assets_seconds": took.seconds - imports - in_assets,
            "peak_mb": took.peak_mb,
            "assets": assets,
        }

    def _assets(self, took: measure.Measurement) -> dict[str, dict[str, float]]:
        """Seconds and peak memory of each asset that ran, in order, as Dagster's events have it."""
        result = {}
        for asset, first, last in step_times(self.home / "dagster", self._ran):
            result[asset] = {
                "seconds": last - first,
                "processor_seconds": took.processor_within(first, last),
                "import_seconds": took.import_seconds(first, last),
                "peak_mb": took.peak_within(first, last),
            }
        return result

    def size(self) -> dict[str, float]:
        """Rows of the day that was made last and megabytes of the lake."""
        import pyarrow.parquet as pq

        lake = self.home / "lake" / PROJECT
        features = lake / "customer_features" / f"day={self.as_of}"
        return {
            "known_customers": sum(pq.read_metadata(path).num_rows for path in features.glob("*.parquet")),
            "lake_mb": sum(path.stat().st_size for path in lake.rglob("*.parquet")) / 2**20,
        }


def step_times(dagster_home: Path, ran: set[str]) -> list[tuple[str, float, float]]:
    """Asset, beginning and end of each step of the runs that are not in `ran`, in order; they are entered there."""
    from dagster import DagsterEventType, DagsterInstance

    began: dict[tuple[str, str], float] = {}
    steps = []
    with DagsterInstance.from_config(str(dagster_home)) as instance:
        for run_id in [run.run_id for run in instance.get_runs() if run.run_id not in ran]:
            ran.add(run_id)
            kinds = {DagsterEventType.STEP_START, DagsterEventType.STEP_SUCCESS}
            for entry in instance.all_logs(run_id, of_type=kinds):
                event = entry.dagster_event
                if event is None or event.step_key is None:
                    continue
                if event.event_type == DagsterEventType.STEP_START:
                    began[run_id, event.step_key] = entry.timestamp
                else:
                    asset = event.step_key.removeprefix(f"{PROJECT}__")
                    steps.append((asset, began[run_id, event.step_key], entry.timestamp))
    return sorted(steps, key=lambda step: step[1])


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

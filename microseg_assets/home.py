"""The state folder: `$MICROSEG_HOME`, by default `.microseg/`, and its contents.

dagster/    the Dagster instance: runs, events, schedules
lake/       every project's tables
logs/       the messages of runs, one file per project
mlflow.db, mlartifacts/
projects/   project files referred to by name, such as that of `microseg demo --quick`
"""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

from microseg_assets.file_lock import file_lock
from microseg_assets.storage.lake import Lake
from microseg_assets.tracking import Tracking

LOCK = ".lock"
DEFAULT_MEMORY = "4GB"  # that queries may use; what does not fit is put in files
_MEMORY = re.compile(r"[1-9]\d*(\.\d+)? ?[KMGT]i?B")
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_READY = ".databases"  # the versions of Dagster and MLflow that made the databases
_INSTANCE = """\
# Written by microseg; see docker/dagster.yaml for one that keeps its state in PostgreSQL.
telemetry:
  enabled: false
nux:
  enabled: false
event_log_storage:
  module: microseg_assets.event_log
  class: SqliteEventLog
  config:
    base_dir: {base_dir}
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


class EngineLimits(TypedDict):
    """What queries may use; as `DuckDB` takes it."""

    threads: int | None
    memory_limit: str


class HomeError(OSError):
    """The state folder cannot be used."""


@dataclass(frozen=True)
class Home:
    """The state folder: its paths, and the parts stored there."""

    folder: Path

    @classmethod
    def from_environment(cls) -> Home:
        return cls(Path(os.environ.get("MICROSEG_HOME") or ".microseg").expanduser().absolute())

    @property
    def dagster(self) -> Path:
        return Path(os.environ.get("DAGSTER_HOME") or self.folder / "dagster")

    @property
    def mlflow_uri(self) -> str:
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def lake_root(self) -> str:
        return os.environ.get("MICROSEG_LAKE") or str(self.folder / "lake")

    def log(self, project: str) -> Path:
        """The file with the messages of a project's runs."""
        return self.folder / "logs" / f"{project}.log"

    def lake(self, project: str) -> Lake:
        return Lake(self.lake_root, project)

    def tracking(self, project: str) -> Tracking:
        local = self.mlflow_uri.startswith("sqlite")
        return Tracking(self.mlflow_uri, (self.folder / "mlartifacts").as_uri() if local else None, project)

    def engine_limits(self) -> EngineLimits:
        """The threads and memory that `$MICROSEG_THREADS` and `$MICROSEG_MEMORY` allow the engine.

        Raises
        ------
        HomeError
            If one of them cannot be meant.
        """
        threads, memory = os.environ.get("MICROSEG_THREADS"), os.environ.get("MICROSEG_MEMORY") or DEFAULT_MEMORY
        if threads and not (threads.isdecimal() and int(threads) > 0):
            raise HomeError(f"MICROSEG_THREADS is {threads!r}: set it to a number of threads, such as 4")
        if not _MEMORY.fullmatch(memory):
            raise HomeError(f"MICROSEG_MEMORY is {memory!r}: set it to an amount of memory, such as 4GB")
        return EngineLimits(threads=int(threads) if threads else None, memory_limit=memory)

    def prepare(self) -> None:
        """Create the folder, its Dagster instance and the databases if they do not exist; point Dagster to it.

        Only one process does so at a time; others wait.

        Raises
        ------
        HomeError
            If the folder cannot be created or written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.dagster.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.EEXIST, *_FORBIDDEN):
                raise
            raise HomeError(
                f"the state folder {self.folder} cannot be created ({error.strerror}): set MICROSEG_HOME"
            ) from None
        os.environ["DAGSTER_HOME"] = str(self.dagster)
        os.environ["MICROSEG_HOME"] = str(self.folder)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")  # see `event_log`
        try:
            with file_lock(self.folder / LOCK):
                self._fill()
        except OSError as error:
            if error.errno not in _FORBIDDEN:
                raise
            raise HomeError(
                f"the state folder {self.folder} cannot be written to ({error.strerror}: {error.filename}): make it "
                "writable, or set MICROSEG_HOME"
            ) from None

    def _fill(self) -> None:
        settings, ready = self.dagster / "dagster.yaml", self.folder / _READY
        if not settings.exists():
            base_dir = json.dumps(str(self.dagster / "storage"))
            _write_atomically(settings, _INSTANCE.format(base_dir=base_dir))
        versions = json.dumps([self.mlflow_uri, str(self.dagster), *map(version, ("dagster", "mlflow"))])
        if not ready.exists() or ready.read_text(encoding="utf-8") != versions:
            self._make_databases()
            _write_atomically(ready, versions)

    def _make_databases(self) -> None:
        """Let Dagster and MLflow create or migrate the databases in the folder."""
        from dagster import DagsterInstance

        with DagsterInstance.get():
            pass  # opening it creates them
        if self.mlflow_uri.startswith("sqlite"):
            self.tracking("").client()


def _write_atomically(path: Path, text: str) -> None:
    """Write a file that other processes see either complete or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)

"""The state folder: `$MICROSEG_HOME`, by default `.microseg/`, and what lies in it.

dagster/    the Dagster instance: runs, events, schedules
lake/       every project's tables
mlflow.db, mlartifacts/
projects/   project files known by name, such as that of `microseg demo --quick`
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from microseg_assets.lake import Lake
from microseg_assets.tracking import Tracking

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


class HomeError(OSError):
    """The state folder cannot be used."""


@dataclass(frozen=True)
class Home:
    """Paths of the state folder, and the parts that live there."""

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

    def lake(self, project: str) -> Lake:
        return Lake(self.lake_root, project)

    def tracking(self, project: str) -> Tracking:
        local = self.mlflow_uri.startswith("sqlite")
        return Tracking(self.mlflow_uri, (self.folder / "mlartifacts").as_uri() if local else None, project)

    def prepare(self) -> None:
        """Make the folder and a Dagster instance in it, unless they are there; point Dagster to it."""
        try:
            self.dagster.mkdir(parents=True, exist_ok=True)
        except (NotADirectoryError, FileExistsError, PermissionError) as error:
            raise HomeError(
                f"the state folder {self.folder} cannot be made ({error.strerror}): set MICROSEG_HOME"
            ) from None
        settings = self.dagster / "dagster.yaml"
        if not settings.exists():
            settings.write_text(_INSTANCE.format(base_dir=json.dumps(str(self.dagster / "storage"))), encoding="utf-8")
        os.environ["DAGSTER_HOME"] = str(self.dagster)
        os.environ["MICROSEG_HOME"] = str(self.folder)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

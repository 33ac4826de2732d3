"""Names of modules, functions and classes that are stored outside of the code: whatever moves, these must be found.

A state folder, a workspace file or a model registry of last year holds them, and nothing but a test can tell that one
of them leads nowhere any more.
"""

from __future__ import annotations

import ast
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import yaml
from dagster._core.storage.event_log import EventLogStorage
from dagster._core.workspace.autodiscovery import loadable_targets_from_python_module

from microseg_assets.cli import ui
from microseg_assets.families import FAMILIES
from microseg_assets.home import Home
from microseg_assets.tracking import SERVED_MODEL

ROOT = Path(__file__).parents[1]
LOCATION = "microseg_assets.definitions"
# As registered models have them in their file `class`. A class may move; then its package goes on exporting it.
STORED_CLASSES = (
    "ml.value:ValueModel", "ml.lifecycle:LifecycleModel", "ml.segments:LayerModels", "ml.journeys:TransitionModel",
    "ml.actions:ActionResponseModel",
)  # fmt: skip


def resolve(reference: str) -> object:
    """What `module:name` stands for."""
    module, name = reference.split(":")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("file", ["docker/compose.yaml", "docker/Dockerfile", str(Path(ui.__file__).relative_to(ROOT))])
def test_the_code_location_is_where_workspace_files_and_containers_look_for_it(file: str) -> None:
    named = set(re.findall(r"microseg_assets(?:\.\w+)+", (ROOT / file).read_text(encoding="utf-8")))
    assert LOCATION in named
    assert [target.attribute for target in loadable_targets_from_python_module(LOCATION, None)] == ["defs"]


def test_the_event_log_that_a_state_folder_names_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSEG_HOME", str(tmp_path))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Home(tmp_path).prepare()
    stored = yaml.safe_load((tmp_path / "dagster/dagster.yaml").read_text(encoding="utf-8"))["event_log_storage"]
    assert f"{stored['module']}:{stored['class']}" == "microseg_assets.event_log:SqliteEventLog"
    event_log = resolve(f"{stored['module']}:{stored['class']}")
    assert isinstance(event_log, type) and issubclass(event_log, EventLogStorage)


def test_the_job_of_a_stored_run_can_be_built_again(tmp_path: Path) -> None:
    """Dagster keeps with each run how its job is made; it is asked again to show the run or to run it once more."""
    arguments: Any = ("complete_journey", str(tmp_path), "complete_journey_daily")
    job = dg.build_reconstructable_job("microseg_assets.runs", "job_of", arguments)
    origin = json.loads(dg.serialize_value(job.get_python_origin()))
    pointer = origin["repository_origin"]["code_pointer"]["reconstructor_pointer"]
    assert (pointer["module"], pointer["fn_name"]) == ("microseg_assets.runs", "job_of")
    assert job.get_definition().name == "complete_journey_daily"


def test_classes_of_registered_models_are_found_by_their_stored_names() -> None:
    assert tuple(one.model for one in FAMILIES.values()) == STORED_CLASSES, (
        "older models go on naming the old ones: keep them here too"
    )
    for reference in STORED_CLASSES:
        model_class = resolve(reference)
        assert callable(getattr(model_class, "load", None)) and callable(getattr(model_class, "predict", None)), (
            reference
        )


def test_the_file_that_mlflow_runs_exists_and_its_copies_can_import_what_they_need() -> None:
    """A copy of it lies with every registered model, so what it takes from `ml` has to stay where it is."""
    assert SERVED_MODEL == ROOT / "microseg_assets/served_model.py" and SERVED_MODEL.is_file()
    tree = ast.parse(SERVED_MODEL.read_text(encoding="utf-8"))
    taken = {
        f"{node.module}:{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("ml", "microseg_assets")
        for alias in node.names
    }
    assert taken == {"ml.serving:as_inputs"}
    as_inputs = resolve("ml.serving:as_inputs")
    assert callable(as_inputs)
    assert list(as_inputs(pd.DataFrame({"orders": [1]}), {"orders": "bigint"}).columns) == ["orders"]

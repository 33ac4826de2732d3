"""Every MLflow call: runs, models, aliases, and loading the model that a choice names.

One experiment per model family, one run per training week, so that the weeks line up; one registered model per family.
Does not belong here: the decision (each family's `train`) and the choice itself, which is a row in the lake: daily
assets load the version that the row names and never use an alias.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import date
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microseg_assets.families import FAMILIES
from microseg_assets.file_lock import file_lock
from ml.choice import FitResult, Model
from ml.serving import as_inputs, inputs_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

MAX_NAME, MAX_VALUE = (
    250,
    6000,
)  # the lengths that MLflow stores: of names, and of values of parameters
INPUTS = "inputs.json"  # next to a model's files: its input columns and their types, for `served_model`
_OPENED: set[str] = set()  # databases that this process has created or checked
SERVED_MODEL = Path(__file__).with_name("served_model.py")


@dataclass(frozen=True)
class RecordedFit:
    """The MLflow run and model version of one week's fit."""

    run_id: str
    url: str
    model_name: str | None
    version: int | None


@dataclass(frozen=True)
class Tracking:
    """MLflow for one project.

    Parameters
    ----------
    uri : tracking and registry URI, by default a SQLite file in the state folder
    artifacts : where artifacts are stored; given explicitly, as MLflow stores those of a SQLite URI in the working
        directory
    project : the project's name, the prefix of every experiment and registered model
    """

    uri: str
    artifacts: str | None
    project: str

    def client(self) -> MlflowClient:
        """A client; if the database is a file, only one process at a time creates or migrates it."""
        if self.uri in _OPENED or not self.uri.startswith("sqlite:///"):
            return self._client()
        database = Path(self.uri.removeprefix("sqlite:///"))
        database.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(database.parent / ".lock"):
            client = self._client()
            client.search_experiments(max_results=1)
            _OPENED.add(self.uri)
            return client

    def _client(self) -> MlflowClient:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        import mlflow

        for noisy in ("mlflow", "alembic"):  # after the import, which sets its own level
            logging.getLogger(noisy).setLevel(logging.ERROR)
        before = os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        if before is None:  # MLflow sets it for child processes; another state folder in this process would use it
            os.environ.pop("MLFLOW_TRACKING_URI", None)
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before
        warnings.filterwarnings("ignore", message=".*[Tt]ype hint.*", module=r"mlflow\..*")
        return mlflow.MlflowClient(self.uri, self.uri)

    def _experiment(self, client: MlflowClient, name: str) -> str:
        experiment = client.get_experiment_by_name(name)
        if experiment:
            return str(experiment.experiment_id)
        location = f"{self.artifacts}/{name}" if self.artifacts else None
        # With this tag, MLflow's UI shows training runs first rather than its pages for language models.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, artifact_location=location, tags=tags))

    def model_name(self, family: str) -> str:
        return f"{self.project}.{family}"

    def record(
        self, family: str, week: date, fit_result: FitResult, *, spec: Any, tags: Mapping[str, str]
    ) -> RecordedFit:
        """Log one week's fit as a run; register its model, if there is one.

        Recording the same fit again (a week materialized twice) creates no second version: models are identified by the
        fingerprint of their files.
        """
        client = self.client()
        import mlflow

        experiment = self._experiment(client, f"{self.project}/{family}")
        with (
            mlflow.start_run(experiment_id=experiment, run_name=week.isoformat()) as run,
            tempfile.TemporaryDirectory() as scratch,
        ):
            mlflow.set_tags(
                {
                    **tags,
                    "project": self.project,
                    "partition": week.isoformat(),
                    "decision": fit_result.decision,
                    "reason": fit_result.reason[:5000],
                    "reason_code": fit_result.reason_code,
                    "git_commit": git_commit(),
                }
            )
            params = {name: _truncate(str(value)) for name, value in {**flatten(spec), **fit_result.params}.items()}
            scores = {"choice.challenger": fit_result.challenger_score, "choice.incumbent": fit_result.incumbent_score}
            logged = {**fit_result.metrics, **{k: v for k, v in scores.items() if v is not None}}
            metrics = {k: float(v) for k, v in logged.items() if v is not None and v == v}
            mlflow.log_params({shorten(name): value for name, value in params.items()})
            _log_names(client, run.info.run_id, [*params, *metrics])
            _log_figures(client, run.info.run_id, fit_result.figures)
            version: int | None = None
            model_id: str | None = None
            if fit_result.model is not None:
                folder = Path(scratch) / "model"
                folder.mkdir()
                save(fit_result.model, family, folder)
                if fit_result.example is not None:
                    (folder / INPUTS).write_text(json.dumps(inputs_of(fit_result.example.schema)), encoding="utf-8")
                version, model_id = self._register(client, family, week, fit_result, folder)
            # After the model, which they belong to as well: of those before it, MLflow reads each one's history.
            mlflow.log_metrics({shorten(name): value for name, value in metrics.items()}, model_id=model_id)
            url = self.run_url(run.info.run_id, experiment)
            return RecordedFit(run.info.run_id, url, self.model_name(family) if version else None, version)

    def _register(
        self, client: MlflowClient, family: str, week: date, fit_result: FitResult, folder: Path
    ) -> tuple[int, str | None]:
        """The version of a fit's model, and MLflow's id of the model if it was not registered before."""
        import mlflow

        name, digest = self.model_name(family), fingerprint(folder)
        known = self._known_version(client, name, digest)
        if known is not None:
            return known, None
        signature = example = metadata = None
        if fit_result.example is not None and fit_result.model is not None:
            metadata, example = {"inputs": inputs_of(fit_result.example.schema)}, fit_result.example.to_pandas()
            signature = _signature(metadata["inputs"], fit_result.model.predict(as_inputs(example, metadata["inputs"])))
        with quiet():
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(SERVED_MODEL),
                artifacts={"model": str(folder)},
                signature=signature,
                input_example=example,
                metadata=metadata,
                pip_requirements=["microseg"],
            )
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        version = int(client.create_model_version(name, info.model_uri, info.run_id, model_id=info.model_id).version)
        tags = {
            "fingerprint": digest,
            "week": week.isoformat(),
            "decision": fit_result.decision,
            "reason": fit_result.reason[:5000],
        }
        for key, value in tags.items():
            client.set_model_version_tag(name, str(version), key, value)
        client.set_registered_model_alias(name, "challenger", str(version))
        return version, info.model_id

    @staticmethod
    def _known_version(client: MlflowClient, name: str, digest: str) -> int | None:
        versions = client.search_model_versions(f"name = '{name}' and tag.fingerprint = '{digest}'")
        return max((int(v.version) for v in versions), default=None)

    def set_champion(self, family: str, version: int | None) -> None:
        """Point the `champion` alias to `version`; if that is None, delete the alias."""
        client, name = self.client(), self.model_name(family)
        if version is not None:
            client.set_registered_model_alias(name, "champion", str(version))
        elif client.search_registered_models(f"name = '{name}'"):
            client.delete_registered_model_alias(name, "champion")

    def load(self, model_name: str, version: int) -> Model:
        """The model of a registered version, cached in this process."""
        return _load(self, model_name, version)

    def monitor(self, family: str, metrics: Mapping[date, Mapping[str, float]]) -> None:
        """Append daily metrics to the family's monitoring run; a metric's step is the day's ordinal number."""
        client = self.client()
        from mlflow.entities import Metric

        experiment = self._experiment(client, f"{self.project}/{family}")
        runs = client.search_runs([experiment], "tags.purpose = 'monitoring'", max_results=1)
        run = runs[0] if runs else client.create_run(experiment, tags={"purpose": "monitoring"}, run_name="monitoring")
        batch = [
            Metric(shorten(f"daily.{name}"), float(value), _timestamp_ms(day), day.toordinal())
            for day, values in metrics.items()
            for name, value in values.items()
            if value is not None and value == value
        ]
        for start in range(0, len(batch), 1000):
            client.log_batch(run.info.run_id, metrics=batch[start : start + 1000])
        if not runs:
            client.set_terminated(run.info.run_id)

    def log_table(
        self,
        family: str,
        week: date,
        frame: pd.DataFrame,
        metrics: Mapping[str, float],
        figures: Mapping[str, Any],
        tags: Mapping[str, str],
    ) -> str:
        """Log a week's evidence as a run without a model; returns the run's URL."""
        client = self.client()
        import mlflow

        experiment = self._experiment(client, f"{self.project}/{family}")
        with mlflow.start_run(experiment_id=experiment, run_name=week.isoformat()) as run:
            mlflow.set_tags(
                {**tags, "project": self.project, "partition": week.isoformat(), "git_commit": git_commit()}
            )
            mlflow.log_metrics({shorten(k): float(v) for k, v in metrics.items() if v == v})
            _log_names(client, run.info.run_id, metrics)
            _log_figures(client, run.info.run_id, figures)
            mlflow.log_text(frame.to_csv(index=False), "evidence.csv")
            return self.run_url(run.info.run_id, experiment)

    def run_url(self, run_id: str, experiment: str) -> str:
        local = self.uri if self.uri.startswith("http") else "http://127.0.0.1:5000"
        base = os.environ.get("MICROSEG_MLFLOW_UI") or local
        return f"{base}/#/experiments/{experiment}/runs/{run_id}"


def shorten(name: str) -> str:
    """A name short enough for MLflow: the name itself, or its beginning with a digest of the whole name.

    No name of `ml.naming` looks like the latter, so different names stay different.
    """
    if len(name) <= MAX_NAME:
        return name
    digest = f"_x{hashlib.sha256(name.encode()).hexdigest()[:16].upper()}_"
    return name[: MAX_NAME - len(digest)] + digest


def _truncate(value: str) -> str:
    return value if len(value) <= MAX_VALUE else f"{value[: MAX_VALUE - 1]}…"


def _log_names(client: MlflowClient, run_id: str, names: Iterable[str]) -> None:
    """Log the full names of shortened parameters and metrics, as a file of the run."""
    if full_names := {shorten(name): name for name in names if shorten(name) != name}:
        client.log_dict(run_id, full_names, "names.json")


def _log_figures(client: MlflowClient, run_id: str, figures: Mapping[str, Callable[[], Figure]]) -> None:
    """Draw figures into one folder and log them in one call.

    The user's texts are shown as they are: a dollar sign does not start a formula.
    """
    if not figures:
        return
    import matplotlib as mpl

    with tempfile.TemporaryDirectory() as folder, mpl.rc_context({"text.parse_math": False}):
        for name, draw in figures.items():
            draw().savefig(Path(folder, f"{name}.png"), format="png", pil_kwargs={"compress_level": 1})
        client.log_artifacts(run_id, folder, "plots")


def _signature(inputs: Mapping[str, str], predictions: pd.DataFrame) -> ModelSignature:
    """The input columns of a model by name; the model itself converts their types (see `ml.serving`).

    MLflow's types reject integers that may be missing, however declared, and turn a missing boolean into False.
    """
    from mlflow.models import ModelSignature, infer_signature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    outputs = infer_signature(model_input=None, model_output=predictions).outputs
    return ModelSignature(Schema([ColSpec(AnyType(), name) for name in inputs]), outputs)


@lru_cache(maxsize=64)
def _load(tracking: Tracking, model_name: str, version: int) -> Model:
    tracking.client()
    import mlflow

    with quiet():
        folder = Path(mlflow.artifacts.download_artifacts(f"models:/{model_name}/{version}")) / "artifacts" / "model"
    return load(folder)


def save(model: Model, family: str, folder: Path) -> None:
    """Write a model and the name of its class."""
    model.save(folder)
    (folder / "class").write_text(FAMILIES[family].model, encoding="utf-8")


def load(folder: Path) -> Model:
    """Read what `save` wrote."""
    module, name = (folder / "class").read_text(encoding="utf-8").split(":")
    if not module.startswith("ml."):
        raise ValueError(f"{module} is not a module of ml")
    loaded: Model = getattr(import_module(module), name).load(folder)
    return loaded


def fingerprint(folder: Path, extra: str = "") -> str:
    """A digest of a model's files, the same on every machine."""
    digest = hashlib.sha256(extra.encode())
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


def flatten(spec: Any, prefix: str = "") -> dict[str, Any]:
    """A typed spec as flat parameters, such as ``layers.0.k``."""
    if is_dataclass(spec) and not isinstance(spec, type):
        spec = asdict(spec)
    if isinstance(spec, Mapping):
        items: Iterator[tuple[Any, Any]] = iter(spec.items())
    elif isinstance(spec, (list, tuple)) and any(
        isinstance(v, (Mapping, list, tuple)) or is_dataclass(v) for v in spec
    ):
        items = iter(enumerate(spec))
    else:
        return {prefix or "spec": ", ".join(map(str, spec)) if isinstance(spec, (list, tuple)) else spec}
    flat: dict[str, Any] = {}
    for key, value in items:
        flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


@lru_cache(maxsize=1)
def git_commit() -> str:
    """The commit of this code, or `unknown` outside of a checkout."""
    try:
        out = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=5,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return out.stdout.strip()


def _timestamp_ms(day: date) -> int:
    return int((day.toordinal() - date(1970, 1, 1).toordinal()) * 86_400_000)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress MLflow's progress bars and its warnings about schemas with missing values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = os.environ.get("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR")
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        try:
            yield
        finally:
            if before is None:
                del os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"]
            else:
                os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = before

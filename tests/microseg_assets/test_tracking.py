"""MLflow: models are recorded and loaded unchanged, without pickles, once per fit, inside the state folder."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example as such_as
from hypothesis import given
from hypothesis import strategies as st

from microseg_assets import tracking
from microseg_assets.home import Home
from microseg_assets.tracking import Tracking, fingerprint, flatten
from ml.choice import FitResult, Model
from ml.layers import LayerModels
from ml.layers.layer_model import LayerModel
from ml.layers.specs import LayerRule, LayerSpec
from ml.lifecycle import LifecycleModel, LifecycleSpec
from ml.lifecycle.rules import StageRule
from ml.naming import metric_name, parts_of
from ml.serving import example_rows, inputs_of

WEEK, NEXT = date(2024, 1, 1), date(2024, 1, 8)


def features(rows: int = 4) -> pd.DataFrame:
    """A few rows of a snapshot, with the missing values that a real one has."""
    number = range(rows)
    return pd.DataFrame(
        {
            "recency_days": [float(5 + 40 * i) if i % 4 != 3 else None for i in number],
            "tenure_days": [float(30 + 100 * i) for i in number],
            "comeback_gap_days": [None] * rows,
            "purchase_days": [float(i) for i in number],
            "mean_gap_days": [None if i < 2 else 12.5 for i in number],
            "balance": [None] * rows,
            **{name: [float(10 * i) for i in number] for name in (
                "spend_28d", "spend_90d", "spend_prev_28d", "orders_28d", "orders_90d", "orders_prev_28d",
                "average_order_90d", "first_day_spend", "ltv", "spend", "lines", "refunds",
            )},
        }
    ).astype({"comeback_gap_days": float, "balance": float})  # fmt: skip


def training(model: Model | None, **other: Any) -> FitResult:
    def draw() -> Any:
        from matplotlib.figure import Figure

        return Figure((1, 1))

    arguments: dict[str, Any] = {
        "model": model, "decision": "challenger" if model else "none", "reason": "first fit", "metric": "log loss",
        "challenger_score": 0.5, "metrics": {"log_loss": 0.5, "unknown": float("nan")}, "params": {"rows": 4},
        "figures": {"stages": draw}, "example": example(),
    }  # fmt: skip
    return FitResult(**arguments | other)


def example() -> pa.Table:
    """An invented example of the columns above, with a boolean among them."""
    return example_rows(inputs_of(pa.Table.from_pandas(features()).schema) | {"is_member": "boolean"})


def loaded(of: Tracking, name: str = "shop.lifecycle") -> Any:
    import mlflow

    of.set_champion(name.partition(".")[2], 1)
    return mlflow.pyfunc.load_model(f"models:/{name}@champion")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: migrations take seconds, so they are made once."""
    folder = tmp_path_factory.mktemp("migrated")
    Home(folder).tracking("shop")._client().search_experiments()
    return folder / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return _home(tmp_path / "state", migrated, monkeypatch)


def _home(folder: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    folder.mkdir()
    shutil.copy(migrated, folder / "mlflow.db")
    (folder.parent / "elsewhere").mkdir(exist_ok=True)
    monkeypatch.chdir(folder.parent / "elsewhere")
    return Home(folder)


def record(of: Tracking, week: date, what: FitResult, **options: Any) -> tracking.RecordedFit:
    return of.record("lifecycle", week, what, spec=LifecycleSpec(), tags={"dagster_run_id": "r1"}, **options)


# ── names and digests ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Inner:
    k: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    seed: int
    inner: Inner
    many: tuple[Inner, ...]
    limits: dict[str, float]
    nothing: None = None
    empty: tuple[str, ...] = ()


def test_a_spec_becomes_flat_parameters() -> None:
    spec = Outer(1, Inner(2, ("a", "b")), (Inner(3, ()), Inner(4, ("c",))), {"x": 0.5})
    assert flatten(spec) == {
        "seed": 1, "inner.k": 2, "inner.names": "a, b", "many.0.k": 3, "many.0.names": "", "many.1.k": 4,
        "many.1.names": "c", "limits.x": 0.5, "nothing": None, "empty": "",
    }  # fmt: skip
    assert flatten(3) == {"spec": 3}


LEAVES = st.integers() | st.text("ab", max_size=3) | st.none()
KEYS = st.text("klm", min_size=1, max_size=3)
NESTED = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8)


@given(spec=st.dictionaries(KEYS, NESTED, max_size=4))
def test_no_setting_is_lost_or_shared_by_flattening(spec: dict[str, Any]) -> None:
    def leaves(value: Any) -> int:
        return sum(map(leaves, value.values())) if isinstance(value, dict) else 1

    flat = flatten(spec)
    assert len(flat) == leaves(spec)
    for name, value in flat.items():
        node: Any = spec
        for part in name.split("."):
            node = node[part]
        assert node == value


FILES = st.dictionaries(st.sampled_from(["a", "b", "sub/c", "sub/d", "z"]), st.binary(max_size=8), min_size=1)


def _written(folder: Path, files: list[tuple[str, bytes]]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@given(files=FILES, other=FILES)
def test_a_fingerprint_is_of_names_and_contents_in_whatever_order_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], other: dict[str, bytes]
) -> None:
    base = tmp_path_factory.getbasetemp() / "prints"
    one = fingerprint(_written(base / "one", list(files.items())))
    assert one == fingerprint(_written(base / "two", list(reversed(files.items()))))
    assert (one == fingerprint(_written(base / "three", list(other.items())))) == (files == other)
    assert one != fingerprint(base / "two", "made upon other models")


# ── a fit, recorded and loaded ────────────────────────────────────────────────────────────────────────────────────


def test_a_recorded_model_is_loaded_unchanged_and_nothing_is_pickled(home: Home) -> None:
    model = LifecycleModel(star_cut=20.0, churn_after=42)
    of = home.tracking("shop")
    recorded = record(of, WEEK, training(model))
    assert (recorded.model_name, recorded.version) == ("shop.lifecycle", 1)
    assert of.load("shop.lifecycle", 1) == model
    assert of.load("shop.lifecycle", 1) is of.load("shop.lifecycle", 1), "loaded once a process"
    stored = [p for p in (home.folder / "mlartifacts").rglob("*") if p.is_file()]
    assert {p.name for p in stored} >= {"class", "MLmodel", "stages.png"}
    assert not [p for p in stored if p.suffix in (".pkl", ".pickle", ".joblib", ".cloudpickle")]
    assert not [p for p in stored if p.read_bytes()[:1] == b"\x80"], "a pickle begins with this byte"


def test_a_run_records_its_inputs_and_the_reason_of_the_choice(home: Home) -> None:
    of = home.tracking("shop")
    recorded = record(of, WEEK, training(LifecycleModel(star_cut=1.0)))
    client = of._client()
    run = client.get_run(recorded.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "shop/lifecycle"
    assert run.info.run_name == "2024-01-01" and run.info.status == "FINISHED"
    tags = run.data.tags
    assert (tags["dagster_run_id"], tags["project"], tags["partition"], tags["decision"], tags["reason"]) == (
        "r1", "shop", "2024-01-01", "challenger", "first fit",
    )  # fmt: skip
    assert len(tags["git_commit"]) >= 7
    assert (
        run.data.params["churn_after_days"] == str(LifecycleSpec().churn_after_days) and run.data.params["rows"] == "4"
    )
    assert run.data.metrics == {"log_loss": 0.5, "choice.challenger": 0.5}
    assert [a.path for a in client.list_artifacts(recorded.run_id, "plots")] == ["plots/stages.png"]
    assert recorded.url.endswith(f"/#/experiments/{run.info.experiment_id}/runs/{recorded.run_id}")


def test_the_same_fit_recorded_twice_is_one_version_of_two_runs(home: Home) -> None:
    of = home.tracking("shop")
    model = LifecycleModel(star_cut=20.0)
    first, again = record(of, WEEK, training(model)), record(of, WEEK, training(LifecycleModel(star_cut=20.0)))
    assert first.version == again.version == 1 and first.run_id != again.run_id
    other = record(of, NEXT, training(replace(model, star_cut=21.0)))
    assert other.version == 2
    assert record(of, NEXT, training(model)).version == 1
    assert len(of._client().search_model_versions("name = 'shop.lifecycle'")) == 2


def test_without_a_model_a_week_is_a_run_and_no_version(home: Home) -> None:
    of = home.tracking("shop")
    recorded = record(of, WEEK, training(None))
    assert recorded.version is None and recorded.model_name is None
    assert of._client().get_run(recorded.run_id).data.tags["decision"] == "none"
    assert not of._client().search_registered_models()


def test_the_champion_follows_the_choice_and_the_challenger_the_newest_fit(home: Home) -> None:
    of = home.tracking("shop")
    for cut in (1.0, 2.0):
        record(of, WEEK, training(LifecycleModel(star_cut=cut)))
    client = of._client()

    def version(alias: str) -> str:
        return str(client.get_model_version_by_alias("shop.lifecycle", alias).version)

    of.set_champion("lifecycle", 2)
    assert (version("champion"), version("challenger")) == ("2", "2")
    of.set_champion("lifecycle", 1)
    assert (version("champion"), version("challenger")) == ("1", "2"), "a rollback moves the alias alone"
    tags = client.get_model_version("shop.lifecycle", "1").tags
    assert tags["week"] == "2024-01-01" and tags["reason"] == "first fit" and len(tags["fingerprint"]) == 20


def test_a_served_model_predicts_like_the_model_and_declares_its_inputs(home: Home) -> None:
    import mlflow

    model = LifecycleModel(star_cut=20.0, churn_after=42)
    of = home.tracking("shop")
    record(of, WEEK, training(model))
    of.set_champion("lifecycle", 1)
    served = mlflow.pyfunc.load_model("models:/shop.lifecycle@champion")
    wanted = features(9)
    wanted["is_member"] = None
    pd.testing.assert_frame_equal(served.predict(wanted), model.predict(wanted))
    signature = served.metadata.signature
    assert signature.inputs.input_names() == list(wanted.columns)
    assert signature.outputs.input_names() == ["stage", "sub_stage"]
    assert served.metadata.metadata["inputs"]["is_member"] == "boolean"
    assert list(served.input_example["tenure_days"]) == [30.0, 60.0, 90.0, 120.0, 150.0]
    assert len(served.predict(served.input_example)) == 5
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"missing inputs.*tenure_days"):
        served.predict(wanted.drop(columns="tenure_days"))


@pytest.mark.parametrize("backend", ["numpy", "numpy_nullable", "pyarrow"])
def test_a_served_model_takes_the_rows_of_the_lake_whatever_types_a_reader_gives_them(
    home: Home, tmp_path: Path, backend: str
) -> None:
    model = LifecycleModel(star_cut=20.0, churn_after=42)
    of = home.tracking("shop")
    record(of, WEEK, training(model))
    wanted = features(9).assign(is_member=pd.Series([True, None, False] * 3, dtype=object))
    counts = [str(name) for name in wanted if str(name).startswith(("orders", "tenure", "recency", "purchase"))]
    stored = pa.Table.from_pandas(wanted.drop(columns=counts))
    for name in counts:  # whole numbers, missing and not, and a day beside them that the model does not look at
        stored = stored.append_column(name, pa.array([None if v != v else int(v) for v in wanted[name]], pa.int64()))
    stored = stored.append_column("registered", pa.array([WEEK] * 9, pa.date32()))
    pq.write_table(stored, tmp_path / "part-0.parquet")
    options: dict[str, Any] = {} if backend == "numpy" else {"dtype_backend": backend}
    read = pd.read_parquet(tmp_path / "part-0.parquet", **options)
    assert read["orders_28d"].dtype.kind == "i"
    pd.testing.assert_frame_equal(loaded(of).predict(read), model.predict(wanted))


@pytest.mark.parametrize("family", ["lifecycle", "layers"])
def test_a_boolean_that_is_null_over_rest_is_missing_and_not_false(home: Home, family: str) -> None:
    from mlflow.pyfunc.scoring_server import invocations

    model: Model = LifecycleModel(stages=(StageRule("out", "NOT is_member"), StageRule("rest", "true")), sub_stages=())
    if family == "layers":
        rules = (LayerRule("out", "NOT is_member"), LayerRule("in", "is_member"))
        layer = LayerSpec("member", method="rules", rules=rules)
        one = LayerModel("active", layer, rules=rules, letters=("A", "B", "C"), names=("out", "in", "unknown"))
        model = LayerModels((layer,), (one,), fitted_on=WEEK)
    of = home.tracking("shop")
    inputs = inputs_of(example().schema) | ({"stage": "string"} if family == "layers" else {})
    known = example_rows(inputs, {"stage": ["active"]})
    of.record(family, WEEK, training(model, example=known), spec=None, tags={})
    served = loaded(of, f"shop.{family}")
    rows = [
        json.loads(known.to_pandas().iloc[[0]].to_json(orient="records"))[0] | {"is_member": is_mobile}
        for is_mobile in (False, True, None)
    ]
    body = json.dumps({"dataframe_records": rows})
    answer = json.loads(invocations(body, "application/json", served, served.metadata.get_input_schema()).response)
    predicted = [row["stage" if family == "lifecycle" else "micro_segment"] for row in answer["predictions"]]
    assert predicted == (
        ["out", "rest", "rest"] if family == "lifecycle" else [f"active/member.{letter}" for letter in "ABC"]
    )


def test_a_value_of_the_wrong_type_is_rejected_with_its_column(home: Home) -> None:
    of = home.tracking("shop")
    record(of, WEEK, training(LifecycleModel(star_cut=20.0)))
    frame = features(3).assign(is_member=None)
    with pytest.raises(Exception, match=r"the column orders_28d holds 'many', which is not a number \(1 of 3 rows\)"):
        loaded(of).predict(
            frame.astype({"orders_28d": object}).assign(orders_28d=pd.Series([1, "many", None], dtype=object))
        )


# ── names that the user gives ─────────────────────────────────────────────────────────────────────────────────────

NAMES = [
    "10% off",
    "10€ off",
    "10_ off",
    "SMS/Push",
    "SMS_Push",
    "SMS_x002F_Push",
    "🎁",
    "..",
    " mail",
    "mail",
    "a" * 300,
]


def test_metrics_of_any_action_are_distinct_and_lead_back_to_its_name(home: Home) -> None:
    of = home.tracking("shop")
    names = [*NAMES, "a" * 299 + "b", "ж" * 300]
    metrics = {metric_name("effect", name): float(i) for i, name in enumerate(names)}
    params = {metric_name("why", name): "x" * 7000 for name in names}
    recorded = record(of, WEEK, training(None, metrics=metrics, params=params))
    run = of._client().get_run(recorded.run_id)
    import mlflow

    full = mlflow.artifacts.load_dict(f"runs:/{recorded.run_id}/names.json")
    logged = {parts_of(full.get(name, name)): value for name, value in run.data.metrics.items()}
    assert {("effect", name): float(i) for i, name in enumerate(names)}.items() <= logged.items()
    assert {full.get(name, name) for name in run.data.params} >= set(params)


@given(one=st.text(max_size=12), other=st.text("_x0249AF €/.:", max_size=12))
@such_as(one="", other="_x_")
def test_metric_names_are_unique_and_allowed_by_mlflow(one: str, other: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    for text in (one, other):
        _validate_metric_name(metric_name("effect", text))
        assert parts_of(metric_name("effect", text)) == ("effect", text)
    assert (metric_name(one) == metric_name(other)) == (one == other)


def test_a_figure_may_contain_any_text_and_all_figures_are_logged_at_once(home: Home) -> None:
    def draw() -> Any:
        from matplotlib.figure import Figure

        figure = Figure((2, 1))
        figure.subplots().set_title("$5 off \\frac{ $x^{" + "w" * 300)
        return figure

    of = home.tracking("shop")
    recorded = record(of, WEEK, training(None, figures={"a": draw, "b": draw}))
    paths = [a.path for a in of._client().list_artifacts(recorded.run_id, "plots")]
    assert paths == ["plots/a.png", "plots/b.png"]


def test_a_class_outside_of_ml_is_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "class").write_text("subprocess:Popen")
    with pytest.raises(ValueError, match="subprocess is not a module of ml"):
        tracking.load(tmp_path)


def test_every_family_has_a_class_that_can_be_loaded() -> None:
    from importlib import import_module

    from microseg_assets.families import FAMILIES

    for family in FAMILIES.values():
        module, name = family.model.split(":")
        model_class = getattr(import_module(module), name)
        assert all(callable(getattr(model_class, method)) for method in ("save", "load", "predict"))


# ── places ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_leaks_out_of_the_state_folder(home: Home) -> None:
    of = home.tracking("shop")
    record(of, WEEK, training(LifecycleModel(star_cut=1.0)))
    of.monitor("lifecycle", {WEEK: {"share": 0.5}})
    of.log_table("evidence", WEEK, pd.DataFrame({"a": [1]}), {"r2": 0.1}, {}, {})
    of.load("shop.lifecycle", 1)
    assert os.listdir() == [], "the working directory is as it was"
    assert sorted(p.name for p in home.folder.iterdir()) == [".lock", "mlartifacts", "mlflow.db"]
    client = of._client()
    for experiment in client.search_experiments(filter_string="name LIKE 'shop/%'"):
        assert experiment.artifact_location.startswith((home.folder / "mlartifacts").as_uri()), experiment.name


def test_two_homes_in_one_process_do_not_mix(
    tmp_path: Path, home: Home, migrated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_home = _home(tmp_path / "other", migrated, monkeypatch)
    left, right = home.tracking("shop"), other_home.tracking("shop")
    record(left, WEEK, training(LifecycleModel(star_cut=1.0)))
    record(right, WEEK, training(LifecycleModel(star_cut=2.0)))
    record(left, NEXT, training(LifecycleModel(star_cut=3.0)))
    cuts = [of.load("shop.lifecycle", version).star_cut for of, version in ((left, 1), (right, 1), (left, 2))]  # type: ignore[attr-defined]
    assert cuts == [1.0, 2.0, 3.0]
    assert len(right._client().search_model_versions("name = 'shop.lifecycle'")) == 1
    assert "MLFLOW_TRACKING_URI" not in os.environ, "children would find the wrong home"


def test_two_projects_share_a_home_and_no_name(home: Home) -> None:
    record(home.tracking("shop"), WEEK, training(LifecycleModel(star_cut=1.0)))
    other = record(home.tracking("bar"), WEEK, training(LifecycleModel(star_cut=1.0)))
    assert (other.model_name, other.version) == ("bar.lifecycle", 1)
    names = {e.name for e in home.tracking("bar")._client().search_experiments()}
    assert {"shop/lifecycle", "bar/lifecycle"} <= names


def test_daily_metrics_are_steps_of_one_run(home: Home) -> None:
    of = home.tracking("shop")
    of.monitor("value", {date(2024, 1, 2): {"ltv": 2.0}, date(2024, 1, 1): {"ltv": 1.0, "gap": float("nan")}})
    of.monitor("value", {date(2024, 1, 3): {"ltv": 3.0}})
    client = of._client()
    experiment = client.get_experiment_by_name("shop/value")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.run_name for run in runs] == ["monitoring"]
    history = client.get_metric_history(runs[0].info.run_id, "daily.ltv")
    assert [(date.fromordinal(m.step), m.value) for m in sorted(history, key=lambda m: m.step)] == [
        (date(2024, 1, 1), 1.0), (date(2024, 1, 2), 2.0), (date(2024, 1, 3), 3.0),
    ]  # fmt: skip
    assert "daily.gap" not in runs[0].data.metrics

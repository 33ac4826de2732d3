"""Claims about why a layer has its clusters: a code with figures, of which words are made and nothing is read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml.layers import reasons
from ml.layers.fitting import fit_layers
from ml.layers.layer_model import LayerModel
from ml.layers.layer_models import LayerModels
from ml.layers.reasons import Code, Drift
from ml.layers.specs import LayerRule, LayerSpec, SegmentSpec
from ml.reasons import Reason
from ml.report import clusters as atlas_clusters
from ml.report.data import Row
from tests.ml.vocabularies import nonsense

DAY = date(2024, 3, 3)
LAYERS = (
    LayerSpec("asked", ("a", "b"), k=3),
    LayerSpec("fewer", ("coin",), k=3),
    LayerSpec("cut", ("a", "b")),
    LayerSpec("alike", ("same",), k=3),
    LayerSpec("grades", ("a",), k=4, method="quantiles"),
    LayerSpec("words", ("region",), method="quantiles"),
    LayerSpec("ruled", method="rules", rules=(LayerRule("high", "a > 0"),)),
    LayerSpec("unknown", ("income",), k=2),
)


def people(n: int = 900, centres: int = 1, seed: int = 3) -> pa.Table:
    random = np.random.default_rng(seed)
    group = random.integers(0, centres, n)
    income = [None if number % 4 == 0 else float(random.integers(1, 90)) for number in range(n)]
    columns: dict[str, Any] = {
        "customer_id": [f"c{number:05d}" for number in range(n)],
        "day": pa.array([DAY] * n),
        "stage": ["active"] * n,
        "a": random.normal(0, 1, n) + 9 * group,
        "b": random.normal(0, 1, n) - 7 * group,
        "coin": random.integers(0, 2, n).astype(float),
        "same": np.ones(n),
        "region": random.choice(["north", "south"], n).tolist(),
        "income": income,
    }
    return pa.table(columns)


def fitted(incumbent: LayerModels | None = None, layers: tuple[LayerSpec, ...] = LAYERS, **people_: Any) -> LayerModels:
    spec = SegmentSpec(layers, min_cluster_customers=40)
    return fit_layers(people(**people_), spec, incumbent)


@pytest.fixture(scope="module")
def models() -> LayerModels:
    return fitted()


def of(models: LayerModels, layer: str) -> LayerModel:
    model = models.find("active", layer)
    assert model is not None
    return model


def test_a_layer_has_a_code_for_why_it_has_its_clusters(models: LayerModels) -> None:
    codes = {model.layer.name: (str(model.reason.code), dict(model.reason.parameters)) for model in models.models}
    others = codes["unknown"][1].pop("others")
    assert codes == {
        "asked": ("asked_for", {"asked": 3}),
        "fewer": ("fewer_than_asked", {"asked": 3, "clusters": 2, "smallest": 40}),
        "cut": ("too_little_history", {}),
        "grades": ("quantiles", {"asked": 4, "feature": "a"}),
        "words": ("not_a_number", {"feature": "region"}),
        "ruled": ("rules", {}),
        "unknown": ("unknown_apart", {"features": ["income"], "unknown": 225, "customers": 900}),
    }
    free = LayerSpec("free", ("a",), method="quantiles")
    assert of(fitted(layers=(free,)), "free").reason.parameters["asked"] is None
    assert reasons.words(of(fitted(layers=(free,)), "free").reason) == "the project file asks for quantiles of a"
    assert others == {"code": "asked_for", "parameters": {"asked": 2}}
    natural = of(fitted(layers=LAYERS[2:3], centres=3), "cut").reason
    assert (natural.code, natural.parameters["clusters"]) == (Code.NATURAL, 3)
    few = of(fitted(layers=LAYERS[:1], n=60), "asked").reason
    assert few == Reason(Code.TOO_FEW, {"customers": 60, "needed": 80})


def test_a_stored_layer_keeps_its_reason_and_has_its_words_beside_it(models: LayerModels) -> None:
    for model in models.models:
        drifted = replace(model, drift=Reason(Drift.EMPTIED, {"cluster": "B", "customers": 3}))
        for one in (model, drifted):
            stored = json.loads(json.dumps(one.to_json()))
            assert stored["reason"] == reasons.words(one.reason)
            assert LayerModel.from_json(stored).reason == one.reason
            assert LayerModel.from_json(stored).drift == one.drift


def test_a_layer_that_was_stored_before_reasons_had_codes_is_read_and_shows_its_words(models: LayerModels) -> None:
    stored = of(models, "asked").to_json() | {"drift": "the clusters have moved"}
    older = {name: value for name, value in stored.items() if name not in ("reason_code", "reason_parameters")}
    del older["drift_reason"]
    model = LayerModel.from_json(json.loads(json.dumps(older)))
    assert (model.reason.code, reasons.words(model.reason)) == ("", "the project file asks for 3")
    assert model.drift is not None and reasons.drift_words(model.drift) == "the clusters have moved"
    assert replace(model, reason=of(models, "asked").reason, drift=None) == of(models, "asked")
    rows = replace(models, models=(model,)).lineage().to_pylist()
    assert {row["reason"] for row in rows} == {"the project file asks for 3"}
    assert {(row["reason_code"], row["reason_parameters"]) for row in rows} == {(None, None)}


def test_what_was_found_when_history_was_long_enough_is_inherited_once(models: LayerModels) -> None:
    """A cut that stays for lack of history reports the figures of its first fit, however often it stays."""
    reason = Reason(Code.CUT_PAYS, {"clusters": 3, "gain_spend": 0.1, "gain_stage": 0.2})
    cut = replace(of(models, "asked"), layer=LAYERS[2], kind="cut", reason=reason)
    first = fitted(replace(models, models=(cut,)))
    second = of(fitted(first), "cut").reason
    assert of(first, "cut").kind == "cut" and of(first, "cut").reason == second
    assert second == Reason(Code.INHERITED, {"reason": reason.stored()})


def test_a_lasting_cluster_of_unknown_customers_is_mentioned_once(models: LayerModels) -> None:
    layer = LayerSpec("unknown", ("income", "age"))
    rows = people()
    table = rows.append_column("age", rows["income"])
    spec = SegmentSpec((layer,), min_cluster_customers=40)
    first = fit_layers(table, spec)
    cut = replace(of(first, "unknown"), kind="cut")
    for _ in range(3):
        model = of(fit_layers(table, spec, replace(first, models=(cut,))), "unknown")
        assert reasons.words(model.reason).count("a group of their own") == 1
        cut = replace(model, kind="cut")


def test_other_words_change_no_cluster_and_no_decision(models: LayerModels, monkeypatch: pytest.MonkeyPatch) -> None:
    sense = fitted(models, n=880), fitted(models, centres=3)
    monkeypatch.setattr(reasons, "WORDS", nonsense(reasons.WORDS))
    monkeypatch.setattr(reasons, "DRIFT_WORDS", nonsense(reasons.DRIFT_WORDS))
    monkeypatch.setattr(reasons, "BRIEF_WORDS", nonsense(reasons.BRIEF_WORDS))
    assert fitted() == models
    assert (fitted(models, n=880), fitted(models, centres=3)) == sense


class LineageOnly:
    """What the atlas reads of the lineage."""

    leaves: tuple[Row, ...] = ()

    def __init__(self, models: LayerModels) -> None:
        self.lineage = models.lineage().to_pylist()


def skeleton(models: LayerModels) -> Any:
    """The section on clusters without its sentences: which layers stand in it, in which groups, under which heads."""
    section = atlas_clusters.clusters(LineageOnly(models))  # type: ignore[arg-type]
    assert section is not None
    return [
        (
            stage["stage"],
            [(one["layer"], one["headline"], bool(one["reason"]), one["clusters"]) for one in stage["layers"]],
            [part.partition(" — ")[0] for part in stage["not_cut"].split("; ")],
        )
        for stage in section["stages"]
    ]


def test_other_words_change_nothing_of_the_atlas_but_the_words(
    models: LayerModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = LAYERS[2:3] + LAYERS[5:6] + (replace(LAYERS[2], name="another"),)
    cut = fitted(layers=(*LAYERS, replace(LAYERS[2], name="another")))
    sense = skeleton(cut), skeleton(fitted(layers=single))
    monkeypatch.setattr(reasons, "WORDS", nonsense(reasons.WORDS))
    monkeypatch.setattr(reasons, "BRIEF_WORDS", nonsense(reasons.BRIEF_WORDS))
    assert (skeleton(cut), skeleton(fitted(layers=single))) == sense
    assert [names.removeprefix("Not cut: ") for names in sense[0][0][2]] == ["another, cut", "words"]

"""Claims about unknown attributes: where they are unknown for many customers, these form a cluster named so."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml.layers.fitting import fit_layer, fit_layers
from ml.layers.layer_model import LayerModel
from ml.layers.preparation import Numeric
from ml.layers.specs import LayerSpec, SegmentSpec
from ml.layers.structure import Point

N = 2_000


def people(missing: float, seed: int = 1, features: tuple[str, ...] = ("income", "age", "region")) -> pa.Table:
    """Customers with three attributes, all of them missing of the same share of customers."""
    random = np.random.default_rng(seed)
    gone = random.random(N) < missing
    values: dict[str, list[Any]] = {
        "income": np.exp(random.normal(10, 0.6, N)).tolist(),
        "age": random.normal(45, 12, N).tolist(),
        "region": random.choice(["north", "south", "east"], N).tolist(),
    }
    attributes = {
        name: [None if is_gone and name in features else value for is_gone, value in zip(gone, column, strict=True)]
        for name, column in values.items()
    }
    ids = {"customer_id": [f"c{number:05d}" for number in range(N)], "day": pa.array([date(2024, 1, 1)] * N)}
    return pa.table({**ids, **attributes, "gone": gone, "mean_gap_days": attributes["age"]})


def fitted(table: pa.Table, before: LayerModel | None = None, **layer: Any) -> LayerModel:
    spec = LayerSpec("who", **layer)
    used = before.letters_used if before is not None else ()
    return fit_layer(table, "active", spec, spec.present(table.column_names), SegmentSpec((spec,)), before, used)


def test_a_fit_of_all_layers_finds_the_cluster_of_unknown_customers_as_a_fit_of_one_layer_does() -> None:
    table = people(0.4).append_column("stage", pa.array(["active"] * N)).drop_columns(["gone", "mean_gap_days"])
    layers = tuple(LayerSpec(f"who{number}", **layer) for number, layer in enumerate(LAYERS))
    models = fit_layers(table, SegmentSpec(layers))
    for one, layer in zip(models.models, LAYERS, strict=True):
        alone = fitted(table, **layer)
        assert (one.letters, one.names, one.sizes, one.centres) == (
            alone.letters, alone.names, alone.sizes, alone.centres
        )  # fmt: skip
        assert sum("unknown" in name for name in one.names) == 1


def test_stability_is_reported_for_the_clusters_of_the_other_customers() -> None:
    random = np.random.default_rng(4)
    side, gone = random.integers(0, 2, N), random.random(N) < 0.3
    attributes = {
        name: np.where(gone, np.nan, 8 * side + random.normal(0, 1, N)).tolist() for name in ("income", "age")
    }
    ids = people(0).select(["customer_id", "day"])
    table = pa.table({**{name: ids[name] for name in ids.column_names}, "stage": ["active"] * N, **attributes})
    models = fit_layers(table, SegmentSpec((LayerSpec("who", ("income", "age")),)))
    rows = models.lineage().to_pylist()
    assert {(row["kind"], len(rows)) for row in rows} == {("natural", 3)}
    assert all(row["stability"] > 0.8 for row in rows)


def groups(model: LayerModel, table: pa.Table) -> dict[str, set[bool]]:
    """Whether the customers of each named cluster lack their attributes."""
    gone, assigned = table["gone"].to_numpy(zero_copy_only=False), model.assign(table)
    return {name: set(gone[assigned == number].tolist()) for number, name in enumerate(model.names)}


LAYERS: list[dict[str, Any]] = [
    {"features": ("income",), "k": 3},
    {"features": ("income",), "k": "auto"},
    {"features": ("income",), "method": "quantiles", "k": 3},
    {"features": ("income", "age", "region"), "k": 3},
    {"features": ("region",), "k": 3},
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.get('method', 'kmeans')}-{layer['k']}")
@pytest.mark.parametrize("missing", [0.08, 0.4, 0.9])
def test_customers_of_whom_nothing_is_known_form_a_cluster_named_so(layer: dict[str, Any], missing: float) -> None:
    table = people(missing)
    clusters = groups(fitted(table, **layer), table)
    unknown = [name for name in clusters if "unknown" in name]
    assert len(unknown) == 1 and clusters[unknown[0]] == {True}
    assert all(is_gone == {False} for name, is_gone in clusters.items() if name != unknown[0])


def test_the_others_are_named_as_if_nothing_were_missing() -> None:
    table = people(0.4)
    names = fitted(table, features=("income",), method="quantiles", k=3).names
    assert set(names) == {"income unknown", "very high income", "medium income", "very low income"}
    assert set(fitted(table, features=("income",), k="auto").names) == {"income unknown", "income known"}


def test_a_few_gaps_are_filled_with_the_median_and_make_no_group() -> None:
    table = people(0.02)
    clusters = groups(fitted(table, features=("income",), k=3), table)
    assert len(clusters) == 3 and not any("unknown" in name for name in clusters)


def test_what_customers_do_is_no_attribute() -> None:
    """A gap between purchases that is missing says that there was no second purchase."""
    table = people(0.4)
    assert not any("unknown" in name for name in fitted(table, features=("mean_gap_days",), k=3).names)
    assert not any("unknown" in name for name in fitted(table, features=("income", "mean_gap_days"), k=3).names)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{layer.get('method', 'kmeans')}-{layer['k']}")
def test_a_refit_moves_nobody_and_keeps_letters_whether_stored_or_not(layer: dict[str, Any]) -> None:
    table = people(0.4)
    first = fitted(table, **layer)
    stored = LayerModel.from_json(json.loads(json.dumps(first.to_json())))
    again = fitted(table, before=stored, **layer)
    before, after = first.assign(table), again.assign(table)
    assert [first.letters[n] for n in before] == [again.letters[n] for n in after]
    assert {event.event for event in again.events} == {"continued"}


def test_the_cluster_of_unknown_customers_goes_once_they_are_known_and_its_letter_is_not_reused() -> None:
    first = fitted(people(0.4), features=("income",), k=3)
    letter = first.letters[[name == "income unknown" for name in first.names].index(True)]
    later = fitted(people(0.0), before=first, features=("income",), k=3)
    assert letter not in later.letters and len(later.letters) == 3 and letter in later.letters_used


def test_a_model_that_an_earlier_version_stored_is_read() -> None:
    model = replace(
        fitted(people(0.4), features=("income",), k=3, method="quantiles"), curve=(Point(2, 0.1, 0.01, 0.9, 2.5),)
    )
    assert isinstance(model.columns[0], Numeric) and model.columns[0].separates_missing
    stored = model.to_json()
    stored["columns"][0]["apart"] = stored["columns"][0].pop("separates_missing")
    stored["curve"][0]["apart"] = stored["curve"][0].pop("centre_distance")
    for event in stored["events"]:
        event["kept"], event["came"] = event.pop("retained_share"), event.pop("inherited_share")
    assert LayerModel.from_json(json.loads(json.dumps(stored))) == model

"""Layers of many columns, most of which have nothing to do with the clusters: planted truth, and none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import adjusted_rand_score

from ml.layers.fitting import fit_layers
from ml.layers.layer_models import LayerModels
from ml.layers.reasons import words
from ml.layers.specs import LayerSpec, SegmentSpec
from ml.layers.wide import MAX_TOGETHER

SPEC = SegmentSpec((LayerSpec("everything", ("f*",)),))
PLANTED = ("f007", "f034", "f061")


def customers(seed: int, clusters: int, n: int = 1_500, width: int = 90) -> tuple[pa.Table, np.ndarray]:
    """Inputs of a stage as declarations make them, and the cluster of each customer.

    Counts, sums and shares follow one activity; a third of the columns are mostly 0, some are constant, unknown
    throughout or for many, some are words. Three columns have the clusters.
    """
    random = np.random.default_rng(seed)
    truth, activity = random.integers(clusters, size=n), random.gamma(2.0, 1.0, n)
    columns: dict[str, Any] = {}
    for number in range(width):
        values: np.ndarray = random.normal(20, 5, n)
        kind = number % 9
        if kind < 2:
            values = random.poisson(activity * random.uniform(0.2, 3)).astype(float)
        elif kind == 2:
            values = random.poisson(0.1 * activity).astype(float)
        elif kind == 3:
            values = np.where(random.random(n) < 0.7, 0, random.lognormal(3, 1, n) * activity)
        elif kind == 4:
            values = random.beta(0.5, 2, n)
        elif kind == 5:
            values = np.where(random.random(n) < 0.3, np.nan, random.lognormal(2, 1, n) * activity)
        elif kind == 6:
            values = np.full(n, float(number) if number % 2 else np.nan)
        elif kind == 8:
            channels = np.array(["web", "app", "shop", None])
            columns[f"f{number:03}"] = random.choice(channels, n, p=[0.5, 0.3, 0.15, 0.05]).tolist()
            continue
        columns[f"f{number:03}"] = pa.array(values, mask=np.isnan(values))
    for shift, name in enumerate(PLANTED if clusters > 1 else ()):
        columns[name] = random.normal(size=n) + 3.5 * ((truth + shift) % clusters)
    keys = {"customer_id": [f"c{number:05}" for number in range(n)], "day": [date(2024, 3, 1)] * n}
    return pa.table({**keys, "stage": ["active"] * n, "sub_stage": [""] * n, **columns}), truth


def fitted(inputs: pa.Table, incumbent: LayerModels | None = None, spec: SegmentSpec = SPEC) -> LayerModels:
    return fit_layers(inputs, spec, incumbent)


@pytest.mark.parametrize(("seed", "clusters"), [(1, 2), (2, 3), (3, 3), (4, 4)])
def test_clusters_in_three_of_many_columns_are_found(seed: int, clusters: int) -> None:
    inputs, truth = customers(seed, clusters)
    (model,) = fitted(inputs).models
    assert sum(column.width for column in model.columns) < MAX_TOGETHER
    assert {column.feature for column in model.columns} <= set(PLANTED)
    assert (model.kind, len(model.letters)) == ("natural", clusters)
    assert adjusted_rand_score(truth, model.assign(inputs)) > 0.9
    assert f"{clusters} natural clusters in {len(model.columns)} of " in words(model.reason)
    assert all(1 <= len(name.split(", ")) <= 3 for name in model.names) and len(set(model.names)) == clusters


@pytest.mark.parametrize("seed", range(5, 10))
def test_one_cloud_in_many_columns_is_no_clusters(seed: int) -> None:
    inputs, _ = customers(seed, 1)
    (model,) = fitted(inputs).models
    assert (model.kind, model.letters) == ("one", ("A",))
    assert words(model.reason) == "no natural clusters, and too little history to tell whether a cut would pay"


def test_a_refit_keeps_the_few_columns_and_moves_nobody() -> None:
    inputs, _ = customers(2, 3)
    first = fitted(inputs)
    again = fitted(inputs, first).models[0]
    assert again.columns == first.models[0].columns and again.drift is None
    assert again.assign(inputs).tolist() == first.models[0].assign(inputs).tolist()
    other, truth = customers(20, 3)
    later = fitted(other, first).models[0]
    assert {column.feature for column in later.columns} == {column.feature for column in first.models[0].columns}
    assert later.letters == first.models[0].letters
    assert adjusted_rand_score(truth, later.assign(other)) > 0.9


def test_a_number_of_clusters_that_is_asked_for_is_named_by_few_features() -> None:
    inputs, _ = customers(6, 1)
    (model,) = fitted(inputs, spec=SegmentSpec((LayerSpec("everything", ("f*",), k=4),))).models
    assert len(model.letters) == 4 and len(set(model.names)) == 4
    assert all(len(name.split(", ")) <= 4 and len(name) < 90 for name in model.names)
    assert all(len(differences) <= 16 for differences in model.evidence)


@pytest.mark.parametrize("columns", [("f006",), ("f015",), ("f006", "f015"), ("f006", "f007", "f015")])
def test_constant_and_unknown_columns_break_nothing(columns: Sequence[str]) -> None:
    inputs, _ = customers(2, 3)
    names = ["customer_id", "day", "stage", "sub_stage", *columns]
    assert [model.letters for model in fitted(inputs.select(names)).models] in ([], [("A",)])

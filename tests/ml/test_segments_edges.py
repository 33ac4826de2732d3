"""Layers of little, odd or much data: words that hold numbers, columns without information, tiny and wide stages."""

from __future__ import annotations

import time
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.engine import DuckDB
from ml.layers import LayerModel, LayerRule, LayerSpec, SegmentSpec, assign, fit_layers, ordinals, preparation
from ml.layers.fitting import fit_layer
from ml.layers.reasons import Code
from ml.reasons import Reason
from ml.segments import micro_segments

DAY = date(2024, 3, 1)


def stage(n: int, seed: int = 0, **columns: object) -> pa.Table:
    """n customers of one stage; columns are values, or one value for all."""
    arrays = {
        name: values if isinstance(values, (np.ndarray, list)) else [values] * n for name, values in columns.items()
    }
    base = {"customer_id": [f"c{i:06d}" for i in range(n)], "day": pa.array([DAY] * n, pa.date32())}
    return pa.table(base | arrays | {"stage": ["active"] * n})


def fitted(table: pa.Table, layer: LayerSpec) -> LayerModel:
    """One layer on the rows of one stage, without anything before it."""
    return fit_layer(table, "active", layer, layer.present(table.column_names), SegmentSpec((layer,)), None)


def strings(table: pa.Table, *layers: LayerSpec, min_size: int = 30) -> set[str]:
    spec = SegmentSpec(layers, min_cluster_customers=min_size)
    rows = micro_segments(DuckDB(threads=1), table, assign(table, fit_layers(table, spec)), spec)
    primary = rows.filter(rows["is_primary"])
    assert primary["customer_id"].to_pylist() == table["customer_id"].to_pylist()
    return set(primary["micro_segment"].to_pylist())


# ── words that hold numbers ───────────────────────────────────────────────────────────────────────────────────────

SCALES = [
    ("Under 15K", "15-24K", "25-34K", "35-49K", "50-74K", "100-124K", "250K+"),
    ("19-24", "25-34", "35-44", "65+"),
    ("1", "2", "3", "4", "5+"),
    ("None", "1", "2", "3+"),
    ("< 1 year", "1-2 years", "10 years", "more than 10 years"),
    ("$0-$999", "$1,000-$4,999", "$5,000+"),
]


@pytest.mark.parametrize("scale", SCALES)
@given(data=st.data())
def test_words_are_ordered_by_their_numbers_however_they_are_met(scale: tuple[str, ...], data: st.DataObject) -> None:
    assert ordinals.order_words(data.draw(st.permutations(scale))) == scale


@pytest.mark.parametrize("words", [("Renter", "Homeowner"), ("A1", "A2"), ("1 Adult Kids", "2 Adults"), ("x",), ()])
def test_other_words_have_no_order(words: tuple[str, ...]) -> None:
    assert ordinals.order_words(words) == ()


def test_unknown_is_missing_and_codes_are_no_scale() -> None:
    assert ordinals.order_words(["2", "Unknown", "1", "N/A"]) == ("1", "2")
    assert ordinals.order_words([f"{90000 + i}" for i in range(40)]) == ()


def test_ordinal_column_is_prepared_as_one_number_and_comes_back_from_json() -> None:
    words = np.array(["250K+", "Under 15K", "35-49K", None, "Unknown"] * 40, dtype=object)
    table = stage(200, income=words.tolist(), home=["own", "rent"] * 100)
    income, home = preparation.fit(table, ("income", "home"))
    assert isinstance(income, preparation.Ordinal) and isinstance(home, preparation.Categorical)
    values = income.transform(table)[0]
    assert values[1] < values[2] < values[0] and values[3] == values[4] == values[2]  # missing: the median
    for column in (income, home):
        again = preparation.from_json(preparation.to_json(column))
        assert again == column and all(
            np.array_equal(x, y) for x, y in zip(again.transform(table), column.transform(table), strict=True)
        )


# ── little and odd data ───────────────────────────────────────────────────────────────────────────────────────────

VALUE = LayerSpec("value", ("spend", "orders"))


@pytest.mark.parametrize("n", [1, 2, 12, 59])
@pytest.mark.parametrize("k", ["auto", 3])
def test_a_tiny_stage_is_one_cluster(n: int, k: int | str) -> None:
    random = np.random.default_rng(0)
    table = stage(n, spend=random.lognormal(3, 1, n), orders=random.poisson(3, n))
    assert strings(table, LayerSpec("value", ("spend", "orders"), k=k)) <= {"active", "active/value.A"}  # type: ignore[arg-type]


def test_identical_customers_all_missing_and_unknown_columns_leave_the_layer_out() -> None:
    nothing = pa.array([None] * 200, pa.float64())
    table = stage(200, spend=5.0, orders=2).append_column("gone", nothing).append_column("void", pa.nulls(200))
    layers = [VALUE, LayerSpec("gone", ("gone", "void")), LayerSpec("unheard", ("nowhere",)), LayerSpec("bare")]
    assert strings(table, *layers) == {"active"}


@pytest.mark.parametrize("method", ["kmeans", "quantiles"])
def test_one_constant_feature_beside_another_does_not_matter(method: str) -> None:
    values = np.random.default_rng(0).lognormal(3, 1, 300)
    with_it = LayerSpec("value", ("spend", "orders"), method=method, k=3)  # type: ignore[arg-type]
    alone = LayerSpec("value", ("spend",), method=method, k=3)  # type: ignore[arg-type]
    table = stage(300, spend=values, orders=2)
    assert strings(table, with_it) == strings(table, alone) == {f"active/value.{one}" for one in "ABC"}


def test_infinite_values_dates_and_flags_do_not_break_a_layer() -> None:
    random = np.random.default_rng(0)
    spend = random.lognormal(3, 1, 300)
    spend[:5] = [np.inf, -np.inf, np.nan, 0, -7]
    table = stage(300, spend=spend, flag=(random.random(300) < 0.3).tolist(), born=[DAY] * 300)
    assert len(strings(table, LayerSpec("all", ("spend", "flag", "born"), k=2))) == 2


def test_three_hundred_columns_fit_find_their_structure_and_explain_themselves() -> None:
    random = np.random.default_rng(0)
    group = random.integers(0, 3, 1200)
    wide = random.normal(0, 1, (1200, 300))
    wide[:, :60] += 1.5 * random.normal(0, 1, (3, 60))[group]
    columns: dict[str, object] = {f"x{i:03d}": wide[:, i] for i in range(300)}
    table = stage(1200, 0, **columns)
    started = time.perf_counter()
    fitted = fit_layers(table, SegmentSpec((LayerSpec("wide", ("x*",)),))).models[0]
    assert fitted.kind == "natural" and len(fitted.letters) == 3
    assert time.perf_counter() - started < 20
    clusters = fitted.assign(table)
    assert sum(np.bincount(group[clusters == one]).max() for one in range(3)) > 0.97 * 1200
    features = {one.feature for differences in fitted.evidence for one in differences}
    assert features <= {f"x{i:03d}" for i in range(60)} and all(
        len(differences) == 16 for differences in fitted.evidence
    )
    assert len(set(fitted.names)) == 3


def test_one_layer_can_be_fitted_and_applied_alone() -> None:
    random = np.random.default_rng(0)
    table = stage(500, spend=random.lognormal(3, 1, 500), orders=random.poisson(3, 500))
    model = fitted(table, LayerSpec("value", ("spend", "orders"), k=3))
    assert np.bincount(model.assign(table)).tolist() == list(model.sizes)
    assert LayerModel.from_json(model.to_json()) == model


# ── what is natural ───────────────────────────────────────────────────────────────────────────────────────────────


def test_between_two_natural_clusters_the_larger_one_is_likelier_and_both_are_given() -> None:
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(0, 1, 2_700), random.normal(5, 1, 300)])
    y = np.concatenate([random.normal(0, 1, 2_700), random.normal(5, 1, 300)])
    model = fitted(stage(3_000, a=x, b=y), LayerSpec("group", ("a", "b")))
    assert model.kind == "natural" and len(model.letters) == 2
    middle = stage(1, a=[2.5], b=[2.5])
    near = np.argmin(model.distances(stage(1, a=[0.0], b=[0.0])))
    assert model.assign(middle)[0] == near and model.sizes[near] > 2_500
    assert (model.memberships(middle) > 0).all()


def test_whole_numbers_are_not_natural_clusters() -> None:
    """Counts have few values, each of them a point mass; point masses alone are no groups."""
    random = np.random.default_rng(1)
    pace = random.normal(0, 1, 4_000)
    table = stage(4_000, a=np.round(3 + pace + 0.5 * random.normal(0, 1, 4_000)), b=np.round(3 + pace))
    assert fitted(table, LayerSpec("counts", ("a", "b"))).kind == "one"


def test_chances_near_one_are_spread_out() -> None:
    chance = 1 / (1 + np.exp(-np.random.default_rng(2).normal(5, 1, 2_000)))
    (column,) = preparation.fit(stage(2_000, p=chance), ["p"])
    assert isinstance(column, preparation.Numeric) and column.unskew == "logit"
    (prepared,) = column.transform(stage(2_000, p=chance))
    assert abs(prepared.mean()) < 1e-6 and abs(float((prepared**3).mean())) < 0.2


# ── invalid settings ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "rules"}, "has none"),
        ({"method": "rules", "rules": (LayerRule("west", "TRUE"), LayerRule("west", "FALSE"))}, "more than one rule"),
        ({"features": ("a",), "rules": (LayerRule("west", "TRUE"),)}, "set method to rules"),
        ({"method": "quantiles"}, "has no feature"),
        ({"features": ("a",), "weekly_switch_probability": 0.0}, "weekly_switch_probability"),
    ],
)
def test_a_layer_with_contradictory_settings_is_refused_in_a_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerSpec("region", **options)


def test_quantiles_of_words_say_why_there_are_none() -> None:
    table = stage(200, region=["north", "south"] * 100)
    model = fitted(table, LayerSpec("region", ("region",), method="quantiles"))
    assert model.kind == "one" and model.reason == Reason(Code.NOT_A_NUMBER, {"feature": "region"})

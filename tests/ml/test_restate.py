"""Restating gives each row of a snapshot its value, stage and string, whatever else is in the call."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec
from ml.layers import SegmentSpec, assign, fit_layers, micro_segment_id
from ml.lifecycle import LifecycleSpec
from ml.restate import Models, Specs, restate, valued_history
from ml.segments import micro_segments
from ml.value import ValueSpec

ENGINE = DuckDB(threads=2)
START = date(2024, 1, 1)
DAY = START + timedelta(90)


@pytest.fixture(scope="module")
def facts() -> CustomerHistory:
    rng = np.random.default_rng(1)
    who, day = np.nonzero(rng.random((150, 120)) < rng.choice([0.02, 0.1, 0.3], 150)[:, None])
    stamp = pd.Timestamp(START) + pd.to_timedelta(day, "D")
    amount = np.round(rng.lognormal(3, 0.5, len(who)), 2)
    lines = pd.DataFrame(
        {"customer_id": [f"c{i:03d}" for i in who], "occurred_at": stamp, "day": stamp.date, "amount": amount}
    ).assign(order_id=lambda x: x.index.astype(str), category="X", discount=0.0, quantity=1.0, margin=np.nan)
    nothing = {
        "customers": "'' AS customer_id, DATE '2024-01-01' AS day",
        "events": (
            "'' AS customer_id, DATE '2024-01-01' AS day, '' AS event_type, TIMESTAMP '2024-01-01' AS occurred_at"
        ),
        "exposures": "'' AS customer_id, DATE '2024-01-01' AS day, '' AS action, FALSE AS is_holdout",
        "balances": "'' AS customer_id, DATE '2024-01-01' AS day, TIMESTAMP '2024-01-01' AS as_of, 0.0 AS balance",
    }
    empty = {name: ENGINE.query(f"SELECT {columns} WHERE FALSE") for name, columns in nothing.items()}
    transactions = pa.Table.from_pandas(lines, preserve_index=False)
    return CustomerHistory.from_rows(ENGINE, FeatureSpec(), transactions=transactions, **empty)


@pytest.fixture(scope="module")
def models(facts: CustomerHistory) -> Models:
    bare = Models(None, None, None, Specs(ValueSpec(), LifecycleSpec(), SegmentSpec(min_cluster_customers=15)))
    return replace(bare, layers=fit_layers(bare.inputs_of(ENGINE, facts.snapshot_of(DAY)), bare.specs.segments, None))


def test_every_row_of_the_snapshot_comes_back_once_with_all_its_columns(facts: CustomerHistory, models: Models) -> None:
    features = facts.snapshot_of(DAY)
    restated = restate(ENGINE, features, models)
    assert restated["customer_id"].equals(features["customer_id"])
    assert restated.column_names[:5] == ["customer_id", "day", "stage", "micro_segment", "micro_segment_id"]
    assert set(features.column_names) <= set(restated.column_names)
    assert {"ltv", "p_alive", "expected_orders", "expected_spend", "sub_stage"} <= set(restated.column_names)
    assert restated["spend_90d"].equals(features["spend_90d"])


def test_several_days_at_once_give_what_each_gives_alone(facts: CustomerHistory, models: Models) -> None:
    days = [DAY + timedelta(number) for number in range(3)]
    together = restate(ENGINE, facts.snapshot_of(*days), models)
    for day in days:
        assert together.filter(pc.equal(together["day"], day)).equals(restate(ENGINE, facts.snapshot_of(day), models))


def test_strings_begin_with_the_stage_and_have_their_id(facts: CustomerHistory, models: Models) -> None:
    for row in restate(ENGINE, facts.snapshot_of(DAY), models).select(range(5)).to_pylist():
        assert row["micro_segment"].split("/")[0] == row["stage"]
        assert row["micro_segment_id"] == micro_segment_id(row["micro_segment"])


def test_strings_are_those_of_the_published_micro_segments(facts: CustomerHistory, models: Models) -> None:
    inputs = models.inputs_of(ENGINE, facts.snapshot_of(DAY))
    for layers in (models.specs.segments.layers, models.specs.segments.layers[2:0:-1]):
        spec = replace(models.specs.segments, layers=layers)
        published = micro_segments(ENGINE, inputs, assign(inputs, models.layers), spec)
        primary = published.filter(published["is_primary"])
        restated = restate(ENGINE, facts.snapshot_of(DAY), replace(models, specs=replace(models.specs, segments=spec)))
        assert restated["micro_segment"].to_pylist() == primary["micro_segment"].to_pylist()
        assert restated["micro_segment_id"].to_pylist() == primary["micro_segment_id"].to_pylist()


def test_before_there_is_a_model_the_string_is_the_stage(facts: CustomerHistory, models: Models) -> None:
    restated = restate(ENGINE, facts.snapshot_of(DAY), replace(models, layers=None))
    assert restated["micro_segment"].equals(restated["stage"])


def test_later_facts_do_not_change_an_earlier_day(facts: CustomerHistory, models: Models) -> None:
    assert restate(ENGINE, facts.until(DAY).snapshot_of(DAY), models).equals(
        restate(ENGINE, facts.snapshot_of(DAY), models)
    )


def test_without_a_model_an_earlier_day_values_nobody_by_who_else_is_asked_for(
    facts: CustomerHistory, models: Models
) -> None:
    """The baseline fills young customers' windows by what all of the day brought: of some of them it says nothing."""
    whole = facts.snapshot_of(DAY)
    valued = models.inputs_of(ENGINE, whole)
    pairs = whole.select(["customer_id", "day"]).append_column("is_valued", pa.array([True] * whole.num_rows))
    few = pairs.slice(0, 20)
    past, of_few = valued_history(facts.snapshot, models)(pairs), valued_history(facts.snapshot, models)(few)
    is_old = pc.greater_equal(past["tenure_days"], 90).fill_null(True)
    assert 0 < pc.sum(is_old).as_py() < past.num_rows
    for name in ("ltv", "expected_spend"):
        assert past[name].is_null().equals(pc.invert(is_old))
        assert past[name].filter(is_old).equals(valued[name].filter(is_old))
        assert of_few[name].equals(past[name].slice(0, 20))


def test_an_empty_snapshot_gives_no_rows(facts: CustomerHistory, models: Models) -> None:
    assert restate(ENGINE, facts.snapshot_of(START - timedelta(1)), models).num_rows == 0

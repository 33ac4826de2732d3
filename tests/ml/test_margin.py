"""Claims about margin: its sums as features, and value, outcomes and profiles that are reckoned in it."""

from __future__ import annotations

import random
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml import tables
from ml.choice import FitResult
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec, features_table
from ml.restate import Models, Specs, restate
from ml.segments import profiles
from ml.value import ValueModel, ValueSpec, apply, baseline, calibration_drift, inputs_of, train
from ml.value.currency import reckon

ENGINE = DuckDB(threads=1)
DAY = date(2024, 6, 30)
REVENUE, MARGIN = FeatureSpec(has_margin=True), FeatureSpec(has_margin=True, value_of="margin")
Sale = tuple[str, int, float, float | None]  # who, days before DAY, amount, margin


def history(lines: list[Sale], spec: FeatureSpec = MARGIN) -> CustomerHistory:
    stamps = [datetime.combine(DAY - timedelta(days=back), time(12)) for _, back, *_ in lines]
    columns: dict[str, list[Any]] = {
        "customer_id": [line[0] for line in lines],
        "occurred_at": stamps,
        "amount": [line[2] for line in lines],
        "margin": [line[3] for line in lines],
        "order_id": [str(number) for number in range(len(lines))],
    }
    table = pa.table({name: pa.array(column, _TYPES.get(name)) for name, column in columns.items()})
    return CustomerHistory.from_rows(ENGINE, spec, transactions=tables.TRANSACTIONS.filled(table))


_TYPES = {"margin": pa.float64(), "amount": pa.float64()}
LINES: list[Sale] = [
    ("a", 100, 50.0, 20.0), ("a", 100, 10.0, 4.0), ("a", 60, 30.0, -3.0), ("a", 40, 20.0, None), ("a", 30, 10.0, 5.0),
    ("a", 5, 80.0, 16.0), ("a", 2, -10.0, -2.0), ("b", 3, 12.0, None), ("c", 1, -5.0, -1.0),
]  # fmt: skip


def test_margin_is_summed_over_the_windows_over_which_spend_is() -> None:
    rows = {row["customer_id"]: row for row in history(LINES).snapshot_of(DAY).to_pylist()}
    names = [column.name for column in tables.MARGIN_FEATURES]
    expected = {
        # lifetime, first day, 28 days, 90 days, the 28 before, share of the 90 days' 130 (30 + 20 + 10 + 80 − 10)
        "a": [40.0, 24.0, 14.0, 16.0, 5.0, 16 / 130],
        "b": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # its line has no margin, which adds nothing
        "c": [-1.0, None, -1.0, -1.0, 0.0, None],  # never bought: only a refund
    }
    assert {who: [row[name] for name in names] for who, row in rows.items()} == expected


def test_a_line_without_a_margin_counts_as_an_order_all_the_same() -> None:
    row = history(LINES).snapshot_of(DAY).to_pylist()[1]
    assert (row["orders"], row["spend"], row["recency_days"]) == (1, 12.0, 3)


def test_the_other_features_do_not_depend_on_what_value_is_reckoned_in() -> None:
    plain = history(LINES, FeatureSpec()).snapshot_of(DAY)
    for spec in (REVENUE, MARGIN):
        assert history(LINES, spec).snapshot_of(DAY).select(plain.column_names).equals(plain)
    assert "margin" not in plain.column_names


def test_the_future_never_leaks_into_margin_and_a_range_is_its_days() -> None:
    days = [DAY - timedelta(days=back) for back in (50, 20, 3, 0)]
    both = history(LINES).snapshot_of(*days)
    for day in days:
        known = [line for line in LINES if DAY - timedelta(days=line[1]) <= day]
        alone = history(known).snapshot_of(day)
        assert both.filter(pc.equal(both["day"], pa.scalar(day))).equals(alone)
    later = [*LINES, ("a", -1, 500.0, 400.0), ("d", -2, 9.0, 9.0)]
    assert history(later).snapshot_of(DAY).equals(history(LINES).snapshot_of(DAY))


def test_outcomes_are_reckoned_in_what_value_is() -> None:
    pairs = pa.table({"customer_id": ["a"], "day": pa.array([DAY - timedelta(days=50)], pa.date32())})
    sums = {
        spec.value_of: history(LINES, spec).outcomes(pairs, 45, until=DAY).to_pylist()[0] for spec in (REVENUE, MARGIN)
    }
    assert sums["revenue"]["spend"] == 20.0 + 10.0 + 80.0 and sums["margin"]["spend"] == 5.0 + 16.0
    assert sums["revenue"]["orders"] == sums["margin"]["orders"] == 3, "an order is decided by its amount"


def test_an_undone_order_takes_its_margin_with_it_from_the_day_of_the_refund_on() -> None:
    spec = FeatureSpec(undo_within_days=7, has_margin=True, value_of="margin")
    lines: list[Sale] = [("a", 40, 9.0, 3.0), ("a", 10, 80.0, 30.0), ("a", 6, -80.0, -25.0)]
    facts = history(lines, spec)
    on = {back: facts.snapshot_of(DAY - timedelta(days=back)).to_pylist()[0] for back in (10, 7, 6, 0)}
    assert [(row["orders"], row["spend"], row["margin"], row["margin_28d"]) for row in on.values()] == [
        (2, 89.0, 33.0, 30.0), (2, 89.0, 33.0, 30.0), (1, 9.0, 3.0, 0.0), (1, 9.0, 3.0, 0.0),
    ]  # fmt: skip
    pairs = pa.table({"customer_id": ["a"], "day": pa.array([DAY - timedelta(days=20)], pa.date32())})
    assert facts.outcomes(pairs, 20, until=DAY)["spend"].to_pylist() == [0.0]


def test_margin_needs_a_margin() -> None:
    with pytest.raises(ValueError, match="the transactions have no margin"):
        FeatureSpec(value_of="margin")
    with pytest.raises(ValueError, match=r"value\.of is 'profit'; it must be one of revenue, margin"):
        ValueSpec(of="profit")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the snapshot has no margin_90d"):
        baseline(pa.table({"spend_90d": [1.0]}), ValueSpec(of="margin"))
    assert "margin_90d" in features_table(REVENUE).names and "margin_90d" not in features_table(FeatureSpec()).names


# ── value ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def shop(rate: float, customers: int = 260, days: int = 240) -> list[Sale]:
    """Customers who buy at their own pace; each line leaves `rate` of its amount, to the cent."""
    chance = random.Random(11)
    lines: list[Sale] = []
    for number in range(customers):
        gap, back = chance.uniform(6, 40), chance.uniform(0, 60)
        while back < days:
            amount = round(chance.lognormvariate(2.5, 0.6), 2)
            lines.append((f"c{number:03d}", int(days - back), amount, round(amount * rate, 4)))
            back += chance.expovariate(1 / gap)
    return lines


SETTINGS: dict[str, Any] = {"horizon_days": 28, "annual_discount_rate": 0.0, "min_customers": 50, "snapshots": 2}


@pytest.fixture(scope="module")
def half() -> dict[str, CustomerHistory]:
    """The same lines, each of which leaves half of its amount, reckoned in either."""
    lines = shop(0.5)
    return {spec.value_of: history(lines, spec) for spec in (REVENUE, MARGIN)}


@pytest.fixture(scope="module")
def fits(half: dict[str, CustomerHistory]) -> dict[str, FitResult]:
    """A fit in revenue, and one in margin with the first as the model in force."""
    in_revenue = train(half["revenue"], DAY, ValueSpec(**SETTINGS))
    assert isinstance(in_revenue.model, ValueModel)
    in_margin = train(half["margin"], DAY, ValueSpec(of="margin", **SETTINGS), in_revenue.model)
    return {"revenue": in_revenue, "margin": in_margin}


def model_of(fit: FitResult) -> ValueModel:
    assert isinstance(fit.model, ValueModel)
    return fit.model


def test_without_a_model_value_is_the_margin_of_the_last_90_days_carried_forward() -> None:
    snapshot = history(LINES).snapshot_of(DAY)
    spec = ValueSpec(horizon_days=90, annual_discount_rate=0.0)
    in_margin = apply(
        snapshot, None, ValueSpec(horizon_days=90, annual_discount_rate=0.0, of="margin"), label="baseline"
    )
    assert (
        dict(zip(in_margin["customer_id"].to_pylist(), in_margin["expected_spend"].to_pylist(), strict=True))["a"] == 16
    )
    assert set(in_margin["value_of"].to_pylist()) == {"margin"}
    in_revenue = apply(snapshot, None, spec, label="baseline")
    assert in_revenue["expected_spend"].to_pylist()[0] == 130.0
    assert in_revenue["expected_orders"].equals(in_margin["expected_orders"])


def test_where_every_line_leaves_half_value_in_margin_is_half_of_value_in_revenue(
    half: dict[str, CustomerHistory], fits: dict[str, FitResult]
) -> None:
    """The trees see scaled columns, so they split alike; Gamma-Gamma is equivariant."""
    snapshot = half["margin"].snapshot_of(DAY)
    sums = {of: np.sum(model_of(fit).outputs(snapshot)["expected_spend"]) for of, fit in fits.items()}
    assert sums["margin"] == pytest.approx(sums["revenue"] / 2, rel=0.02)
    assert fits["margin"].params["of"] == model_of(fits["margin"]).of == "margin"


def test_a_model_that_reckons_in_other_money_is_not_used_and_is_replaced(
    half: dict[str, CustomerHistory], fits: dict[str, FitResult]
) -> None:
    spec, snapshot, old = ValueSpec(of="margin", **SETTINGS), half["margin"].snapshot_of(DAY), model_of(fits["revenue"])
    rows = apply(snapshot, old, spec, label="value v1")
    assert rows.equals(baseline(snapshot, spec)), (
        "the baseline in margin, and labelled so, not the old model in revenue"
    )
    assert inputs_of(old, "margin") == ("orders_90d", "margin_90d", "tenure_days")
    assert fits["margin"].decision in ("challenger", "none"), "the incumbent answers another question"
    with pytest.raises(ValueError, match="reckoned in margin, but the outcomes of this history in revenue"):
        train(half["revenue"], DAY, spec)


def test_a_stored_model_keeps_what_it_reckons_in(
    half: dict[str, CustomerHistory], fits: dict[str, FitResult], tmp_path: Path
) -> None:
    model = model_of(fits["margin"])
    model.save(tmp_path)
    again = ValueModel.load(tmp_path)
    snapshot = half["margin"].snapshot_of(DAY)
    assert again.of == "margin"
    assert np.array_equal(again.outputs(snapshot)["ltv"], model.outputs(snapshot)["ltv"])
    served = again.predict(snapshot.to_pandas())["ltv"].to_numpy()
    assert np.array_equal(served, model.outputs(snapshot)["ltv"])


def test_drift_compares_margin_with_margin_and_never_with_revenue() -> None:
    names = [f"c{n:02d}" for n in range(40)]
    predicted = pa.table({"customer_id": names, "expected_spend": [4.0] * 40, "horizon_days": [28] * 40})
    predicted = predicted.append_column("value_of", pa.array(["margin"] * 40))
    sums = {"spend_28d": 10.0, "spend_prev_28d": 1.0, "spend_90d": 30.0, "margin_28d": 4.0, "margin_prev_28d": 1.0,
            "margin_90d": 9.0}  # fmt: skip
    features = pa.table({"customer_id": names, **{name: [value] * 40 for name, value in sums.items()}})
    assert calibration_drift(ENGINE, predicted, features, 28, of="margin").ratio == 1.0
    assert calibration_drift(ENGINE, predicted, features, 28, of="revenue").customers == 0


def test_a_micro_segments_revenue_is_its_margin_where_value_is() -> None:
    specs = Specs(value=ValueSpec(of="margin"))
    snapshot = history(LINES).snapshot_of(DAY)
    rows = restate(ENGINE, snapshot, Models(specs=specs))
    members = rows.select(["customer_id", "day", "micro_segment", "stage"])
    members = members.append_column("is_primary", pa.array([True] * rows.num_rows))
    kpis = profiles(ENGINE, members, rows, {}, of="margin").to_pylist()
    assert sum(row["revenue"] for row in kpis if row["is_leaf"]) == pytest.approx(14.0 + 0.0 - 1.0)
    kpis = profiles(ENGINE, members, rows, {}).to_pylist()
    assert sum(row["revenue"] for row in kpis if row["is_leaf"]) == pytest.approx(70.0 + 12.0 - 5.0)


def test_turning_a_snapshot_around_twice_gives_it_back() -> None:
    snapshot = history(LINES).snapshot_of(DAY)
    assert reckon(reckon(snapshot, "margin"), "margin").equals(snapshot) and reckon(snapshot, "revenue") is not None

"""Claims about what a sum hides: cohorts that are off, money that goes with rhythm. And about value without a model."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.value.breakdown import (
    COHORTS,
    NEVER_BOUGHT,
    by_cohort,
    corrections,
    find_caveats,
    metrics_of,
    money_rhythm_correlation,
)
from ml.value.spec import full_windows, persistence

TODAY = date(2024, 3, 1)


def buyers(customers: int, correlation: float, *, seed: int = 0) -> pa.Table:
    """A year of customers whose spend per order goes with how often they buy, as closely as asked for."""
    rng = np.random.default_rng(seed)
    often, dear = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], customers).T
    tenure = rng.integers(200, 365, customers)
    days = 1 + rng.poisson(np.exp(-3 + 0.7 * often) * tenure)
    spend = days * 20 * np.exp(0.5 * dear) * rng.gamma(20, 1 / 20, customers)
    return pa.table({"purchase_days": days, "tenure_days": tenure, "spend": spend})


def test_money_that_goes_with_rhythm_is_warned_of_with_the_correction_by_decile() -> None:
    rng = np.random.default_rng(0)
    truth = 10 + np.sort(rng.gamma(1, 50, 2000))
    closed = np.where(np.arange(2000) < 200, 0.9 * truth[0] + 0.1 * truth, truth)
    too_low = closed[:200].sum() / truth[:200].sum()  # the closed form expects too little of the lowest decile
    metrics = metrics_of([], corrections(closed, truth, truth), money_rhythm_correlation(buyers(800, 0.6)))
    assert metrics["money_rhythm_correlation"] > 0.4
    (caveat,) = find_caveats(metrics)
    assert caveat.code == "money_goes_with_rhythm" and too_low < 0.95
    assert caveat.figures["corrections"][1] == pytest.approx(1 / too_low)
    assert caveat.figures["corrections"][10] == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_independent_money_is_not_warned_of(seed: int) -> None:
    correlation, customers = money_rhythm_correlation(buyers(800, 0.0, seed=seed))
    assert customers > 500
    assert not find_caveats(metrics_of([], [], (correlation, customers)))


def test_newcomers_of_whom_too_much_was_expected_are_warned_of_by_cohort() -> None:
    """In sum nothing is amiss: newcomers bring two thirds of what was expected, elders make up for it."""
    rng = np.random.default_rng(1)
    tenure = np.concatenate([rng.integers(0, 28, 400), rng.integers(365, 800, 400), np.full(50, -1)]).astype(float)
    snapshot = pa.table({"tenure_days": pa.array(np.where(tenure < 0, np.nan, tenure), from_pandas=True)})
    expected = np.where(tenure < 0, 0.5, 60.0)
    realised = rng.gamma(2, 1, 850) / 2 * np.where(tenure < 0, 0.5, np.where(tenure < 28, 40.0, 80.0))
    groups = by_cohort(snapshot, realised, expected)
    assert [group.name for group in groups] == ["first_28_days", "a_year_and_longer", NEVER_BOUGHT]
    assert sum(group.customers for group in groups) == 850
    caveats = find_caveats(metrics_of(groups, [], (0.0, 0)))
    assert [(caveat.code, caveat.figures["cohort"]) for caveat in caveats] == [
        ("cohort_off", "first_28_days"), ("cohort_off", "a_year_and_longer"),
    ]  # fmt: skip
    assert caveats[0].figures["ratio"] == pytest.approx(2 / 3, abs=0.06)


@given(st.lists(st.integers(0, 900), min_size=1, max_size=60))
def test_every_customer_is_in_exactly_one_cohort_and_the_sums_add_up(tenures: list[int]) -> None:
    snapshot = pa.table({"tenure_days": tenures})
    values = np.arange(1.0, len(tenures) + 1)
    groups = by_cohort(snapshot, values, values)
    assert sum(group.customers for group in groups) == len(tenures)
    assert sum(group.realised for group in groups) == pytest.approx(values.sum())
    assert all(group.ratio == pytest.approx(1.0) for group in groups) and len(groups) <= len(COHORTS) + 1


# ── value before there is a model ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("age", [11, 21, 31, 46, 61])
def test_the_persistence_baseline_of_a_young_business_is_scaled_to_its_history(age: int) -> None:
    """600 customers who join all along, buy every ten days or so and stay: 90 days of the future, against so many of
    the past. Whoever joined yesterday has had no time to come again, and will have."""
    rng = np.random.default_rng(age)
    n, rate, basket = 600, rng.gamma(3, 0.03, 600), rng.lognormal(3, 0.5, 600)
    tenure = rng.integers(0, age, n)
    later = rng.poisson(rate * tenure)
    features = pa.table(
        {
            "customer_id": [f"c{who:03d}" for who in range(n)], "day": pa.array([TODAY] * n, pa.date32()),
            "orders_90d": later + 1, "spend_90d": basket * (later + 1), "tenure_days": tenure,
            "first_day_spend": basket,
        }
    )  # fmt: skip
    outputs = persistence(features, 90, 0.0)
    true_orders, true_spend = (rate * 90).sum(), (rate * basket * 90).sum()
    assert outputs["expected_orders"].sum() / true_orders == pytest.approx(1.0, abs=0.12)
    assert outputs["expected_spend"].sum() / true_spend == pytest.approx(1.0, abs=0.15)
    assert np.all(outputs["expected_spend"] >= 0)


@given(
    st.lists(st.tuples(st.integers(0, 400), st.integers(1, 9), st.floats(-50, 500)), min_size=1, max_size=30),
)
def test_a_customer_of_the_whole_window_keeps_its_sums(rows: list[tuple[int, int, float]]) -> None:
    tenure, orders, spend = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    features = pa.table({"tenure_days": tenure, "first_day_spend": np.full(len(rows), 5.0)})
    full_orders, full_spend = full_windows(features, orders, spend)
    settled = tenure >= 90
    assert np.array_equal(full_spend[settled], spend[settled])
    assert np.array_equal(full_orders[settled], orders[settled])


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_a_day_is_filled_from_its_own_customers_so_several_days_at_once_equal_each_alone(seed: int, days: int) -> None:
    rng, n = np.random.default_rng(seed), 40
    features = pa.table(
        {
            "day": pa.array(rng.integers(19_000, 19_000 + days, n).astype("datetime64[D]")),
            "orders_90d": rng.integers(1, 9, n), "spend_90d": rng.lognormal(3, 1, n),
            "tenure_days": pa.array(rng.integers(0, 120, n), mask=rng.random(n) < 0.1),
            "first_day_spend": rng.lognormal(2, 1, n),
        }
    )  # fmt: skip
    together = persistence(features, 90, 0.0)
    for day in set(features["day"].to_pylist()):
        is_of_day = np.array([one == day for one in features["day"].to_pylist()])
        for name, alone in persistence(features.filter(pa.array(is_of_day)), 90, 0.0).items():
            assert np.array_equal(together[name][is_of_day], alone), name


def test_customers_who_never_bought_or_first_bought_today_are_no_failure() -> None:
    features = pa.table(
        {
            "orders_90d": [0, 1], "spend_90d": [0.0, 30.0], "tenure_days": pa.array([None, 0], pa.int64()),
            "first_day_spend": pa.array([None, 30.0], pa.float64()),
        }
    )  # fmt: skip
    assert persistence(features, 90, 0.0)["expected_spend"].tolist() == [0.0, 30.0]

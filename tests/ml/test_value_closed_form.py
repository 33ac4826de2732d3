"""Claims about BG/NBD and Gamma-Gamma: the published numbers, the laws they obey, and what degenerate data get."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import betaincinv

from ml.value import BetaGeoModel, GammaGammaModel
from ml.value.closed_form import ClosedForm
from ml.value.reasons import Note

PUBLISHED = BetaGeoModel.of(0.243, 4.414, 0.793, 2.426)
CALIBRATION_END = date(1997, 9, 30)
Customer: TypeAlias = tuple[int, "int | None", "int | None", float]


def cdnow_sample() -> list[tuple[str, date, float]]:
    """Customer, day and dollars of each line of the 1/10 sample that comes with the package lifetimes."""
    spec = importlib.util.find_spec("lifetimes")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs CDNOW: pip install --no-deps lifetimes==0.11.3")
    file = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "CDNOW_sample.txt"
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(c[1], date(int(c[2][:4]), int(c[2][4:6]), int(c[2][6:])), float(c[4])) for c in lines]


def summary(lines: list[tuple[str, date, float]], end: date) -> tuple[np.ndarray, ...]:
    """Repeats, weeks to the last and to the end, mean spend of a repeat: a day's purchases count once."""
    days: dict[str, Counter[date]] = {}
    for customer, day, spent in lines:
        if day <= end:
            days.setdefault(customer, Counter())[day] += spent  # type: ignore[assignment]
    rows = []
    for spent_on in days.values():
        first, last = min(spent_on), max(spent_on)
        repeats = [spent for day, spent in spent_on.items() if day > first]
        rows.append(
            (len(repeats), (last - first).days / 7, (end - first).days / 7, float(np.mean(repeats)) if repeats else 0)
        )
    return tuple(np.array(column, dtype=float) for column in zip(*rows, strict=True))


def drawn(n: int, r: float, alpha: float, a: float, b: float, seed: int) -> tuple[np.ndarray, ...]:
    """Customers who live by the model, seen for 30 to 60 weeks."""
    rng = np.random.default_rng(seed)
    age, rate, leaves = rng.uniform(30, 60, n), rng.gamma(r, 1 / alpha, n), rng.beta(a, b, n)
    x, t_x, t, alive = np.zeros(n), np.zeros(n), np.zeros(n), np.ones(n, dtype=bool)
    while alive.any():
        t = t + rng.exponential(1 / rate)
        alive &= t < age
        x, t_x = x + alive, np.where(alive, t, t_x)
        alive &= rng.random(n) >= leaves
    return x, t_x, age


def test_the_published_numbers_of_the_cdnow_sample_are_reproduced() -> None:
    x, t_x, age, mean = summary(cdnow_sample(), CALIBRATION_END)
    assert len(x) == 2357
    timing = BetaGeoModel().fit(x, t_x, age)
    parameters = (timing.r_, timing.alpha_, timing.a_, timing.b_)
    assert parameters == pytest.approx((0.243, 4.414, 0.793, 2.426), abs=0.001)
    assert timing.log_likelihood_ == pytest.approx(-9582.4, abs=0.05)
    assert timing.converged_
    assert timing.notes_ == ()
    assert timing.standard_errors_["r"] == pytest.approx(0.0126, abs=0.0005)
    assert float(timing.conditional_expected_purchases(39, 2, 30.43, 38.86)) == pytest.approx(1.226, abs=0.001)
    money = GammaGammaModel().fit(x, mean)
    assert (money.p_, money.q_, money.gamma_) == pytest.approx((6.25, 3.74, 15.44), abs=0.01)
    assert money.log_likelihood_ == pytest.approx(-4055.92, abs=0.01)
    assert money.n_customers_ == 946


def test_the_published_expectation_follows_from_the_published_parameters() -> None:
    assert float(PUBLISHED.conditional_expected_purchases(39, 2, 30.43, 38.86)) == pytest.approx(1.226, abs=0.001)


def test_the_parameters_that_made_the_customers_are_recovered_within_their_errors() -> None:
    truth = {"r": 0.6, "alpha": 5.0, "a": 0.8, "b": 3.0}
    model = BetaGeoModel().fit(*drawn(6_000, truth["r"], truth["alpha"], truth["a"], truth["b"], seed=1))
    for name, value in truth.items():
        error = model.standard_errors_[name]
        assert 0 < error < value
        assert abs(getattr(model, f"{name}_") - value) < 3.5 * error, name


def test_the_parameters_of_spend_are_recovered_within_their_errors() -> None:
    rng = np.random.default_rng(2)
    truth = {"p": 3.0, "q": 4.0, "gamma": 30.0}
    x = rng.integers(1, 12, 6_000).astype(float)
    rate = rng.gamma(truth["q"], 1 / truth["gamma"], len(x))
    mean = rng.gamma(truth["p"] * x, 1 / (rate * x))
    model = GammaGammaModel().fit(x, mean)
    for name, value in truth.items():
        assert abs(getattr(model, f"{name}_") - value) < 3.5 * model.standard_errors_[name], name
    assert model.mean_value == pytest.approx(mean.mean(), rel=0.05)


def test_expected_purchases_are_those_that_come() -> None:
    truth = (0.6, 5.0, 0.8, 3.0)
    x, _, _ = drawn(200_000, *truth, seed=3)
    age = np.random.default_rng(3).uniform(30, 60, 200_000)  # the same draws as inside
    by_age = np.mean([BetaGeoModel.of(*truth).expected_purchases(t) for t in np.quantile(age, np.arange(0.5, 20) / 20)])
    assert x.mean() == pytest.approx(by_age, rel=0.02)


def test_weights_stand_for_customers_and_time_for_any_unit() -> None:
    x, t_x, age = (np.ceil(column * 10) / 10 for column in drawn(500, 0.6, 5.0, 0.8, 3.0, seed=4))
    twice = BetaGeoModel().fit(np.repeat(x, 2), np.repeat(t_x, 2), np.repeat(age, 2))
    weighted = BetaGeoModel().fit(x, t_x, age, np.full(500, 2.0))
    days = BetaGeoModel().fit(x, t_x * 7, age * 7)
    assert weighted.log_likelihood_ == pytest.approx(twice.log_likelihood_, abs=1e-6)
    assert (weighted.r_, weighted.alpha_) == pytest.approx((twice.r_, twice.alpha_), rel=1e-4)
    assert (days.r_, days.alpha_, days.a_) == pytest.approx((twice.r_, 7 * twice.alpha_, twice.a_), rel=1e-3)


def test_the_order_of_rows_does_not_change_the_fit() -> None:
    columns = drawn(300, 0.6, 5.0, 0.8, 3.0, seed=5)
    mixed = np.random.default_rng(0).permutation(300)
    one, two = BetaGeoModel().fit(*columns), BetaGeoModel().fit(*(column[mixed] for column in columns))
    assert (one.r_, one.alpha_, one.a_, one.b_) == (two.r_, two.alpha_, two.a_, two.b_)


parameters = st.tuples(st.floats(0.05, 20), st.floats(0.5, 400), st.floats(0.01, 20), st.floats(0.1, 50))


@settings(max_examples=60, deadline=None)
@given(parameters, st.sampled_from([0, 1, 2, 7, 40, 400]), st.floats(1, 800), st.sampled_from([7.0, 90.0, 365.0]))
def test_the_closed_form_is_the_integral_it_stands_for(
    drawn_parameters: tuple[float, float, float, float], x: int, age: float, t: float
) -> None:
    r, alpha, a, b = drawn_parameters
    model = BetaGeoModel.of(r, alpha, a, b)

    def at_quantile(u: float) -> float:
        p = max(float(betaincinv(a, b + x, u)), 1e-12)
        return float(-np.expm1(-(r + x) * np.log1p(p * t / (alpha + age))) / p)

    wanted = quad(at_quantile, 0, 1, limit=200)[0]
    alive = float(model.p_alive(x, age if x else 0, age))
    expected = float(model.conditional_expected_purchases(t, x, age if x else 0, age))
    assert expected == pytest.approx(wanted * alive, rel=2e-3, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(parameters, st.integers(0, 2000), st.floats(0, 1), st.floats(1, 3000))
def test_expectations_are_finite_grow_with_time_and_chances_are_chances(
    drawn_parameters: tuple[float, float, float, float], x: int, share: float, age: float
) -> None:
    model = BetaGeoModel.of(*drawn_parameters)
    t_x = max(share * age, 0.5) if x else 0.0
    alive = float(model.p_alive(x, t_x, age))
    assert 0 <= alive <= 1
    assert float(model.p_alive(x, age if x else 0, age)) >= alive
    counts = [float(model.conditional_expected_purchases(t, x, t_x, age)) for t in (0, 1, 90, 365)]
    assert np.all(np.isfinite(counts))
    assert counts[0] == 0
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(counts))
    whole = float(model.discounted_expected_purchases(365, 0.0, x, t_x, age))
    assert whole == pytest.approx(counts[-1])
    assert float(model.discounted_expected_purchases(365, 0.001, x, t_x, age)) <= whole + 1e-9


def test_a_dropout_of_one_is_no_hole_in_the_formula() -> None:
    sides = [float(BetaGeoModel.of(0.5, 5, a, 2).conditional_expected_purchases(30, 3, 20, 40)) for a in (0.999, 1.001)]
    middle = float(BetaGeoModel.of(0.5, 5, 1.0, 2).conditional_expected_purchases(30, 3, 20, 40))
    assert min(sides) < middle < max(sides)


@pytest.mark.parametrize(
    ("columns", "note"),
    [
        (([0.0] * 50, [0.0] * 50, [40.0] * 50), Note.NOBODY_BOUGHT_TWICE),
        (([3.0], [20.0], [40.0]), Note.ONE_CUSTOMER),
        (([10.0] * 200, [39.9] * 200, [40.0] * 200), Note.ALIKE_IN_RHYTHM),
        (([0.0], [0.0], [0.0]), Note.NOBODY_BOUGHT_TWICE),
    ],
)
def test_degenerate_customers_get_a_fit_and_a_note(columns: tuple[list[float], ...], note: Note) -> None:
    model = BetaGeoModel().fit(*columns)
    assert note in model.notes_
    assert np.all(np.isfinite(model.conditional_expected_purchases(90, *columns)))


def test_customers_who_never_leave_are_called_alive_and_that_is_said() -> None:
    rng = np.random.default_rng(6)
    age, rate = rng.uniform(200, 365, 2_000), rng.gamma(3, 0.05, 2_000)
    x = rng.poisson(rate * age).astype(float)
    t_x = np.where(x > 0, age * rng.beta(np.maximum(x, 1), 1), 0)
    model = BetaGeoModel().fit(x, t_x, age)
    assert model.a_ / (model.a_ + model.b_) < 0.01
    busy = x > 10
    assert float(np.median(model.p_alive(x, t_x, age)[busy])) > 0.95


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (([1], [50], [40]), "recency > T"),
        (([0], [3], [40]), "no repeat purchase"),
        (([2], [0], [40]), "count a day's purchases once"),
        (([-1], [0], [40]), "negative"),
        (([float("nan")], [0], [40]), "not a number"),
        (([], [], []), "no customer"),
        (([1, 2], [3], [40]), "same length"),
    ],
)
def test_an_impossible_row_is_named(columns: tuple[list[float], ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BetaGeoModel().fit(*columns)


def test_money_without_a_positive_purchase_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="no customer with a purchase of positive value"):
        GammaGammaModel().fit([2, 0], [-5.0, 0.0])


def test_equal_spend_is_everybodys_spend() -> None:
    model = GammaGammaModel().fit([3.0] * 40, [20.0] * 40)
    assert float(model.conditional_expected_average_value(3, 20.0)) == pytest.approx(20, rel=0.01)
    assert model.notes_


@given(st.floats(0.5, 10), st.floats(1.1, 10), st.floats(1, 100), st.integers(1, 500), st.floats(0, 1e4))
def test_the_expected_value_lies_between_the_customers_mean_and_everybodys(
    p: float, q: float, gamma: float, x: int, mean: float
) -> None:
    model = GammaGammaModel.of(p, q, gamma)
    expected = float(model.conditional_expected_average_value(x, mean))
    low, high = sorted((mean, model.mean_value))
    assert low * (1 - 1e-9) - 1e-9 <= expected <= high * (1 + 1e-9) + 1e-9


# ── on a snapshot ─────────────────────────────────────────────────────────────────────────────────────────────────


def snapshot(rows: list[Customer]) -> pa.Table:
    """Purchase days, tenure, silence and net spend of each customer."""
    days, tenure, silence, spend = (list(column) for column in zip(*rows, strict=True))
    return pa.table(
        {
            "customer_id": [f"c{number:03d}" for number in range(len(rows))],
            "day": pa.array([date(2024, 6, 1)] * len(rows), pa.date32()),
            "purchase_days": pa.array(days, pa.int64()),
            "tenure_days": pa.array(tenure, pa.int64()),
            "recency_days": pa.array(silence, pa.int64()),
            "orders": pa.array(days, pa.int64()),
            "spend": pa.array(spend, pa.float64()),
            "orders_90d": pa.array([0] * len(rows), pa.int64()),
            "spend_90d": pa.array([0.0] * len(rows), pa.float64()),
        }
    )


ORDINARY: list[Customer] = []
for k in range(120):
    tenure, days = 200 + k % 50, 1 + k % 9
    ORDINARY.append((days, tenure, (7 * k) % 190 if days > 1 else tenure, 20.0 * days))
EDGES: dict[str, Customer] = {
    "one purchase": (1, 200, 200, 30.0),
    "one purchase today": (1, 0, 0, 30.0),
    "refunds only": (0, None, None, -40.0),
    "negative net value": (3, 200, 50, -10.0),
    "bought on the first and the last day": (2, 400, 0, 50.0),
    "back after 400 days": (2, 400, 0, 80.0),
    "silent for 400 days": (9, 500, 400, 300.0),
    "never bought": (0, None, None, 0.0),
}


def test_edge_customers_get_a_finite_value_that_makes_sense() -> None:
    table = snapshot([*ORDINARY, *EDGES.values()])
    out = ClosedForm.learn(table, never_bought=(2.0, 0.1, 0.08)).outputs(table, 90)
    value = dict(zip(EDGES, out["expected_spend"][-len(EDGES) :], strict=True))
    alive = dict(zip(EDGES, out["p_alive"][-len(EDGES) :], strict=True))
    assert all(np.all(np.isfinite(values)) and np.all(values >= 0) for values in out.values())
    assert value["refunds only"] == value["never bought"] == 2.0
    assert alive["never bought"] == 0.08
    assert value["silent for 400 days"] < 0.05 * out["expected_spend"].max()
    assert value["back after 400 days"] > value["silent for 400 days"]
    assert alive["one purchase today"] > alive["one purchase"]
    assert np.all(out["p_alive"] <= 1)


@pytest.mark.parametrize("rows", [[EDGES["never bought"]], [EDGES["refunds only"]], [EDGES["one purchase"]]])
def test_a_business_of_one_customer_is_no_failure(rows: list[Customer]) -> None:
    table = snapshot(rows)
    fit = ClosedForm.learn(table)
    assert fit.notes
    assert np.all(np.isfinite(fit.outputs(table, 90)["expected_spend"]))
    assert fit.outputs(table.slice(0, 0), 90)["expected_spend"].shape == (0,)


def test_a_stored_closed_form_answers_the_same() -> None:
    table = snapshot(ORDINARY)
    fit = ClosedForm.learn(table)
    loaded = ClosedForm.of(json.loads(json.dumps(fit.stored())))
    assert loaded == fit


@pytest.mark.parametrize("parameters", [(0.243, 4.414, 0.793, 2.426), (1.5, 20.0, 1e-6, 500.0), (2.0, 15.0, 0.3, 1e-4)])
def test_what_is_expected_of_a_customer_does_not_depend_on_who_else_is_asked(parameters: tuple[float, ...]) -> None:
    """To the last bit, also where quadrature takes over: a day must come out the same alone and in a range."""
    rng = np.random.default_rng(5)
    model = BetaGeoModel.of(*parameters)
    age = rng.integers(1, 365, 2_000).astype(float)
    x = np.minimum(rng.poisson(6, 2_000), age - 1)
    last = np.where(x > 0, np.minimum(age, rng.integers(1, 365, 2_000)), 0).astype(float)
    together = model.conditional_expected_purchases(28, x, last, age)
    for size in (1, 7, 338, 1_999):
        some = np.sort(rng.choice(2_000, size, replace=False))
        alone = model.conditional_expected_purchases(28, x[some], last[some], age[some])
        assert np.array_equal(alone, together[some]), size

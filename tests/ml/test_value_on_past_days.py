"""Claims about looking back on value: the table of past days, the drift of published values, young businesses."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ml import tables
from ml.choice import FitResult
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec
from ml.value import ValueModel, ValueSpec, apply, calibration_drift, train
from ml.value.blend import MEMBERS
from ml.value.evaluation import CANDIDATES, IN_FORCE, MEAN, PERSISTENCE, Cut, cut_at, differences, table
from ml.value.reasons import ChoiceCode, Validation
from ml.value.weights import learn_weights

START = date(2024, 1, 1)
ENGINE = DuckDB(threads=1)
SPEC = ValueSpec(horizon_days=28, snapshots=2, snapshot_step_days=28, min_customers=50)


def shop(customers: int = 250, days: int = 240, *, seed: int = 0, leave: float = 0.06) -> CustomerHistory:
    """Customers who come all along, buy at a rate of their own, and after each purchase may leave for good."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[str, int, float]] = []
    for who, (first, rate, basket) in enumerate(
        zip(rng.integers(0, days * 3 // 4, customers), rng.gamma(2, 0.06, customers), rng.lognormal(3, 0.5, customers),
            strict=True)
    ):  # fmt: skip
        day = float(first)
        while day < days:
            rows.append((f"c{who:04d}", int(day), round(float(basket * rng.lognormal(0, 0.3)), 2)))
            if rng.random() < leave:
                break
            day += 1 + rng.exponential(1 / rate)
    days_of: dict[tuple[str, int], float] = {}
    for name, day, amount in rows:
        days_of[name, day] = days_of.get((name, day), 0.0) + amount
    keys = sorted(days_of)
    n = len(keys)
    schema = pa.schema([*tables.CUSTOMER_DAYS.schema(), pa.field("day", pa.date32())])
    columns = {
        "customer_id": [name for name, _ in keys], "day": [START + timedelta(days=day) for _, day in keys],
        "orders": [1] * n, "lines": [1] * n, "items": [1] * n, "amount": [days_of[key] for key in keys],
        "refunds": [0] * n, "discount": [0] * n, "margin": [None] * n, "events": [0] * n, "exposures": [0] * n,
        "page_views": [0] * n, "carts": [0] * n, "redemptions": [0] * n, "goals": [0] * n,
        "visits": [0] * n, "first_event_at": [None] * n, "last_event_at": [None] * n, "balance": [None] * n,
        "is_registered": [False] * n,
    }  # fmt: skip
    customer_days = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names})
    categories = pa.schema([*tables.CATEGORY_DAYS.schema(), pa.field("day", pa.date32())]).empty_table()
    people = pa.schema([tables.CUSTOMERS.schema().field("customer_id"), pa.field("day", pa.date32())]).empty_table()
    return CustomerHistory(ENGINE, FeatureSpec(), customer_days, categories, people)


@pytest.fixture(scope="module")
def facts() -> CustomerHistory:
    return shop()


@pytest.fixture(scope="module")
def cuts(facts: CustomerHistory) -> list[Cut]:
    return [cut_at(facts, START + timedelta(days=day), SPEC) for day in (120, 180)]


def numbers(rows: pa.Table, name: str) -> np.ndarray:
    return np.asarray(rows[name].to_numpy(), dtype=float)


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_has_every_candidate_on_every_day_and_on_all(cuts: list[Cut]) -> None:
    rows = table(cuts)
    assert [row.candidate for row in rows] == list(CANDIDATES) * 3
    pooled = {row.candidate: row for row in rows if row.day is None}
    assert pooled[IN_FORCE].customers == sum(len(cut.actual) for cut in cuts)
    one = next(row for row in rows if row.candidate == PERSISTENCE and row.day == cuts[0].day)
    error = cuts[0].predicted[PERSISTENCE] - cuts[0].actual
    assert one.mae == pytest.approx(np.abs(error).mean())
    assert one.bias == pytest.approx(error.sum() / cuts[0].actual.sum())


def test_the_plain_mean_is_the_mean_of_the_two_alone(cuts: list[Cut]) -> None:
    for cut in cuts:
        mean = (cut.predicted["BG/NBD alone"] + cut.predicted["LightGBM alone"]) / 2
        assert np.allclose(cut.predicted[MEAN], mean)


def test_a_difference_agrees_with_the_table_and_lies_in_its_interval(cuts: list[Cut]) -> None:
    mae = {row.candidate: row.mae for row in table(cuts) if row.day is None}
    for difference in differences(cuts):
        assert difference.mean == pytest.approx(mae[difference.other] - mae[IN_FORCE])
        assert difference.low <= difference.mean <= difference.high


def test_what_comes_after_the_cut_changes_no_prediction(facts: CustomerHistory, cuts: list[Cut]) -> None:
    days = facts.customer_days
    assert isinstance(days, pa.Table)
    is_late = np.asarray(days["day"].to_numpy()) > np.datetime64(cuts[0].day)
    amounts = np.where(is_late, 7.0, 1.0) * numbers(days, "amount")
    amount = pa.array(amounts).cast(days.schema.field("amount").type, safe=False)
    raised = replace(facts, customer_days=days.set_column(days.column_names.index("amount"), "amount", amount))
    again = cut_at(raised, cuts[0].day, SPEC)
    assert again.actual.sum() > 6 * cuts[0].actual.sum()
    assert all(np.array_equal(again.predicted[name], cuts[0].predicted[name]) for name in CANDIDATES)


def test_a_day_without_a_fit_is_refused_in_words(facts: CustomerHistory) -> None:
    with pytest.raises(ValueError, match="no value model can be fitted as of 2024-01-11: not enough history"):
        cut_at(facts, START + timedelta(days=10), SPEC)


# ── the blend ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def training(facts: CustomerHistory) -> FitResult:
    as_of = START + timedelta(days=180)
    return train(facts.until(as_of), as_of, SPEC, None)


@pytest.fixture(scope="module")
def model(training: FitResult) -> ValueModel:
    assert isinstance(training.model, ValueModel)
    return replace(training.model, method="blend")


def test_members_are_brought_to_one_level_and_the_blend_is_their_weighted_mean(
    facts: CustomerHistory, model: ValueModel
) -> None:
    now = facts.until(START + timedelta(days=180)).snapshot_of(START + timedelta(days=180))
    fit = model.final
    spend = {name: out["expected_spend"] for name, out in fit.candidates(now).items()}
    level = spend["blend"].sum()
    for name in ("bgnbd", "lightgbm"):
        assert spend[name].sum() * fit.factors[name] == pytest.approx(level, rel=1e-6)
    expected = fit.members(now)
    mixed = sum(fit.weights[name] * fit.factors[name] * expected[name] for name in MEMBERS)
    assert np.allclose(spend["blend"], mixed)
    assert sum(fit.weights.values()) == pytest.approx(1)


def test_few_customers_leave_the_weights_equal_and_many_favour_the_member_that_is_right() -> None:
    rng = np.random.default_rng(0)
    for customers, low, high in ((40, 0.33, 0.35), (60_000, 0.85, 1.0)):
        truth = rng.gamma(1, 50, customers)
        wrong = {name: truth.mean() * rng.gamma(1, 1, customers) for name in ("b", "c")}
        weights = learn_weights(rng.poisson(truth).astype(float), {"a": truth, **wrong})
        assert low <= weights["a"] <= high
        assert sum(weights.values()) == pytest.approx(1)
        assert min(weights.values()) >= 0


def test_members_without_information_get_equal_weights() -> None:
    nothing = np.zeros(100)
    assert learn_weights(nothing, {"a": nothing, "b": nothing}) == {"a": 0.5, "b": 0.5}
    assert learn_weights(np.ones(100), {"a": np.ones(100), "b": nothing}) == {"a": 0.5, "b": 0.5}


def test_every_candidate_is_logged_beside_the_one_in_force(training: FitResult) -> None:
    for name in ("blend", "lightgbm", "bgnbd", "plain_mean", "baseline"):
        assert np.isfinite(training.metrics[f"{name}_rmse"])
    assert training.metrics["rmse"] == training.metrics[f"{training.params['method']}_rmse"]
    assert any(name.startswith("gain.") for name in training.metrics)
    assert training.params["bgnbd_alpha"] > 0


def test_before_the_first_horizon_has_closed_bgnbd_answers_and_says_so() -> None:
    young = shop(400, 100)
    spec = replace(SPEC, horizon_days=90)
    as_of = START + timedelta(days=95)
    training = train(young.until(as_of), as_of, spec, None)
    assert training.params["validation"] == Validation.SHORTER
    assert isinstance(training.model, ValueModel)
    assert (training.model.method, training.model.final.encoder) == ("bgnbd", None)
    value = apply(young.snapshot_of(as_of), training.model, spec, label="m")
    assert np.all(np.isfinite(numbers(value, "ltv")))


def test_a_first_fit_with_outcomes_takes_over_from_bgnbd_alone(facts: CustomerHistory, model: ValueModel) -> None:
    alone = ValueModel(28, SPEC.annual_discount_rate, replace(model.final, encoder=None, heads={}), None, "bgnbd")
    as_of = START + timedelta(days=75)
    training = train(facts.until(as_of), as_of, SPEC, alone)
    assert training.decision == "challenger"
    assert training.reason_code == ChoiceCode.FIRST_OUTCOMES


def test_a_young_business_is_not_taken_for_one_that_grows(facts: CustomerHistory) -> None:
    as_of = START + timedelta(days=62)
    model = train(facts.until(as_of), as_of, replace(SPEC, min_customers=20), None).model
    assert isinstance(model, ValueModel)
    snapshot = facts.snapshot_of(as_of)
    assert model.final.encoder is not None
    matrix = model.final.encoder.matrix(snapshot, model.final.first_day)
    position = model.final.encoder.columns.index("spend_90d")
    assert model.final.first_day is not None
    seen = (as_of - model.final.first_day).days + 1
    assert matrix[:, position].sum() == pytest.approx(numbers(snapshot, "spend_90d").sum() * 90 / seen)


def test_a_model_of_another_format_is_refused_in_words(model: ValueModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    stored = tmp_path / "value_model.json"
    stored.write_text(stored.read_text(encoding="utf-8").replace('"format": 3', '"format": 1'), encoding="utf-8")
    with pytest.raises(ValueError, match="train the value family again"):
        ValueModel.load(tmp_path)


# ── drift ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def published(facts: CustomerHistory, then: date, factor: float = 1.0) -> pa.Table:
    pairs = facts.known([then])
    came = facts.outcomes(pairs, 28, until=then + timedelta(days=28))
    return pa.table(
        {
            "customer_id": came["customer_id"],
            "expected_spend": numbers(came, "spend") * factor,
            "horizon_days": pa.array([28] * came.num_rows, pa.int64()),
        }
    )


@pytest.mark.parametrize(("factor", "has_drifted"), [(1.0, False), (1.05, False), (3.0, True), (0.3, True)])
def test_values_that_turned_out_wrong_in_sum_have_drifted(
    facts: CustomerHistory, factor: float, has_drifted: bool
) -> None:
    then = START + timedelta(days=120)
    features = facts.snapshot_of(then + timedelta(days=28))
    drift = calibration_drift(ENGINE, published(facts, then, factor), features, 28)
    assert drift.ratio == pytest.approx(1 / factor)
    assert drift.low <= drift.ratio <= drift.high
    assert drift.has_drifted is has_drifted
    assert drift.decile_error == pytest.approx(abs(factor - 1), abs=1e-6)


def test_what_cannot_be_compared_has_not_drifted_and_the_reason_says_why(facts: CustomerHistory) -> None:
    then = START + timedelta(days=120)
    features, values = facts.snapshot_of(then + timedelta(days=28)), published(facts, then)
    for drift, words in (
        (calibration_drift(ENGINE, values, features, 60), "the horizon is 60"),
        (calibration_drift(ENGINE, values, features, 90), "0 customers"),
        (calibration_drift(ENGINE, values.slice(0, 5), features, 28), "5 customers"),
        (calibration_drift(ENGINE, published(facts, then, 0.0), features, 28), "nothing was expected"),
    ):
        assert not drift.has_drifted
        assert words in drift.reason

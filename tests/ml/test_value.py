"""Claims about value: what stands for a customer's worth without a model, what is learnt, and who wins the contest."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml import tables
from ml.choice import FitResult
from ml.engine import DuckDB
from ml.features import Attribute, CustomerHistory, FeatureSpec
from ml.reasons import Reason
from ml.value import ValueModel, ValueSpec, apply, baseline, train
from ml.value.blend import Fit
from ml.value.metrics import decile_error, gini
from ml.value.reasons import CHOICE_WORDS, ChoiceCode, Validation
from ml.value.spec import OUTPUTS, discount
from ml.value.training import training_days
from tests.ml.vocabularies import is_said_by_its_figures, lacking

START = date(2024, 1, 1)
AS_OF = START + timedelta(days=330)
SPEC = ValueSpec(horizon_days=60, snapshots=3, snapshot_step_days=28, min_customers=100)
ENGINE = DuckDB(threads=1)


def shop(
    customers: int, days: int = 360, *, seed: int = 0, fading: float = 0.8, amounts: float = 20.0
) -> CustomerHistory:
    """Customers with a rate and a basket of their own, of whom some fall silent; a town that tells of their basket."""
    rng = np.random.default_rng(seed)
    rates, baskets = rng.gamma(3, 0.04, customers), amounts * rng.lognormal(0, 0.5, customers)
    silent = np.where(rng.random(customers) < fading, rng.integers(30, days, customers), days)
    rows: list[tuple[str, date, int, float]] = []
    for who in range(customers):
        bought = np.flatnonzero(rng.random(days) < rates[who])
        name = f"c{who:05d}"
        rows.append((name, START, 0, 0.0))
        for day in bought[(bought < silent[who]) & (bought > 0)]:
            amount = round(float(baskets[who] * rng.lognormal(0, 0.3)), 2)
            rows.append((name, START + timedelta(days=int(day)), 1, amount))
    names, days_bought, orders, spent = (list(column) for column in zip(*rows, strict=True))
    zeros = [0] * len(rows)
    schema = pa.schema([*tables.CUSTOMER_DAYS.schema(), pa.field("day", pa.date32())])
    columns = {
        "customer_id": names, "day": days_bought, "orders": orders, "lines": orders, "items": orders, "amount": spent,
        "refunds": zeros, "discount": zeros, "margin": [None] * len(rows), "events": zeros, "exposures": zeros,
        "page_views": zeros, "carts": zeros, "redemptions": zeros, "goals": zeros,
        "visits": zeros, "first_event_at": [None] * len(rows), "last_event_at": [None] * len(rows),
        "balance": [None] * len(rows), "is_registered": [False] * len(rows),
    }  # fmt: skip
    customer_days = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names})
    category_days = pa.schema([*tables.CATEGORY_DAYS.schema(), pa.field("day", pa.date32())]).empty_table()
    towns = ["rich" if basket > amounts else "poor" for basket in baskets]
    people = pa.table(
        {
            "customer_id": [f"c{who:05d}" for who in range(customers)],
            "day": pa.array([START] * customers, pa.date32()),
            "town": towns,
        }
    )
    return CustomerHistory(ENGINE, FeatureSpec(attributes=(Attribute("town"),)), customer_days, category_days, people)


@pytest.fixture(scope="module")
def facts() -> CustomerHistory:
    return shop(400)


@pytest.fixture(scope="module")
def training(facts: CustomerHistory) -> FitResult:
    return train(facts.until(AS_OF), AS_OF, SPEC, None)


@pytest.fixture(scope="module")
def model(training: FitResult) -> ValueModel:
    assert isinstance(training.model, ValueModel)
    return training.model


def customer_days(facts: CustomerHistory) -> pa.Table:
    assert isinstance(facts.customer_days, pa.Table)
    return facts.customer_days


def numbers(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table[name].to_numpy(), dtype=float)


def test_without_a_model_spend_persists() -> None:
    features = pa.table(
        {
            "customer_id": ["a", "b", "c"],
            "day": pa.array([START] * 3, pa.date32()),
            "orders_90d": [9, 0, 1],
            "spend_90d": [180.0, 0.0, -5.0],
        }
    )
    value = apply(features, None, ValueSpec(horizon_days=30, annual_discount_rate=0.1), label="baseline")
    assert value.column_names == ["customer_id", "day", *tables.CUSTOMER_VALUE.names[1:]]
    assert value["expected_spend"].to_pylist() == [60.0, 0.0, 0.0]
    assert value["expected_orders"].to_pylist() == pytest.approx([3.0, 0.0, 1 / 3])
    assert value["p_alive"].to_pylist() == [1.0, 0.0, 1.0]
    assert value["ltv"].to_pylist() == pytest.approx([60.0 / 1.1 ** (15 / 365), 0.0, 0.0])
    assert value["horizon_days"].to_pylist() == [30] * 3
    assert value["model"].to_pylist() == ["baseline"] * 3


@given(st.integers(1, 2000), st.floats(0, 5))
def test_discounting_never_adds_value(horizon: int, rate: float) -> None:
    assert 0 < discount(horizon, rate) <= 1


def test_labels_of_the_backtest_fit_had_closed_before_the_holdout(training: FitResult) -> None:
    params = training.params
    holdout = date.fromisoformat(params["holdout_day"])
    assert holdout == AS_OF - timedelta(days=SPEC.horizon_days)
    backtest_days = [date.fromisoformat(day) for day in params["backtest_days"].split(", ")]
    assert backtest_days
    assert max(backtest_days) + timedelta(days=SPEC.horizon_days) <= holdout


def test_nothing_after_the_training_week_changes_the_fit(facts: CustomerHistory, training: FitResult) -> None:
    days = customer_days(facts)
    is_late = pc.greater(days["day"], AS_OF)
    assert pc.any(is_late).as_py()
    raised = pc.if_else(is_late, pc.multiply(days["amount"], 9.0), days["amount"])
    other = replace(facts, customer_days=days.set_column(days.column_names.index("amount"), "amount", raised))
    two = train(other.until(AS_OF), AS_OF, SPEC, None)
    assert training.metrics == two.metrics


def test_warm_up_keeps_the_first_days_of_a_business_out() -> None:
    spec = ValueSpec(snapshots=4, snapshot_step_days=28, warm_up_days=90)
    days = training_days(START + timedelta(days=120), START, spec)
    assert days == [START + timedelta(days=120), START + timedelta(days=92)]


def test_a_business_that_fades_is_predicted_better_than_by_persistence(training: FitResult) -> None:
    assert training.decision == "challenger"
    assert training.metrics["is_temporal_holdout"] == 1.0
    assert training.metrics["rmse"] < training.metrics["baseline_rmse"]
    assert training.metrics["deviance"] < training.metrics["baseline_deviance"]
    assert training.metrics["over_baseline_gain_low"] > 0
    assert training.metrics["decile_error"] < training.metrics["baseline_decile_error"]
    assert training.metrics["gini"] > 0.5


def test_without_a_backtest_fit_the_reason_says_how_it_was_scored(facts: CustomerHistory) -> None:
    early = START + timedelta(days=130)
    training = train(facts.until(early), early, SPEC, None)
    assert training.params["validation"] == Validation.BETWEEN
    assert "cross-validation between customers" in training.reason  # a figure of the remark, in words
    assert training.metrics["is_temporal_holdout"] == 0.0
    assert isinstance(training.model, ValueModel)
    assert training.model.backtest_fit is None
    again = train(facts.until(early), early, SPEC, training.model)
    assert again.decision == "incumbent"
    assert lacking(again) == Reason(ChoiceCode.NO_FAIR_CONTEST)
    assert all(is_said_by_its_figures(one, CHOICE_WORDS) for one in (training, again))


def test_too_few_customers_or_too_little_history_is_a_result() -> None:
    few = shop(30)
    training = train(few.until(AS_OF), AS_OF, SPEC, None)
    assert (training.model, training.decision) == (None, "none")
    assert lacking(training) == Reason(ChoiceCode.TOO_FEW_CUSTOMERS, {"customers": 30, "needed": SPEC.min_customers})
    soon = START + timedelta(days=20)
    young = train(few.until(soon), soon, SPEC, None)
    assert (young.decision, lacking(young).code) == ("none", ChoiceCode.HISTORY_TOO_SHORT)
    needed = lacking(young).parameters["needed"]
    for days, code in ((needed - 1, ChoiceCode.HISTORY_TOO_SHORT), (needed, ChoiceCode.TOO_FEW_CUSTOMERS)):
        last = START + timedelta(days=days)  # counted from the first purchase, which is on the second day
        assert lacking(train(few.until(last), last, SPEC, None)).code == code
    before = START - timedelta(days=9)
    nothing = train(few.until(before), before, SPEC, None)
    assert (nothing.decision, lacking(nothing).code) == ("none", ChoiceCode.NOBODY_HAS_BOUGHT)


def test_too_few_customers_keep_the_incumbent(model: ValueModel) -> None:
    training = train(shop(30).until(AS_OF), AS_OF, SPEC, model)
    assert (training.model, training.decision) == (None, "incumbent")


def test_a_small_shop_that_dies_out_trains_and_expects_nothing() -> None:
    facts = shop(30)
    gone = facts.until(START + timedelta(days=100))
    training = train(gone, AS_OF, replace(SPEC, min_customers=10), None)
    assert isinstance(training.model, ValueModel)
    value = apply(gone.snapshot_of(AS_OF), training.model, SPEC, label="m")
    assert np.all(numbers(value, "expected_spend") >= 0)
    assert numbers(value, "expected_spend").sum() <= 1.0


def test_outcomes_that_never_vary_become_constants(facts: CustomerHistory) -> None:
    snapshot = facts.snapshot_of(AS_OF)
    nothing = pa.table({"spend": np.zeros(snapshot.num_rows), "orders": np.zeros(snapshot.num_rows, dtype=int)})
    fit = Fit.learn(snapshot, nothing, snapshot, horizon_days=60, seed=0)
    out = fit.predict(snapshot, "lightgbm")
    assert all(np.all(values == 0) for values in out.values())
    assert np.all(np.isfinite(fit.predict(snapshot)["expected_spend"]))


def test_the_incumbent_is_scored_by_its_backtest_fit_and_stays_unless_clearly_beaten(
    facts: CustomerHistory, model: ValueModel
) -> None:
    week = AS_OF + timedelta(days=7)
    same = train(facts.until(AS_OF), AS_OF, SPEC, model)
    assert same.challenger_score == same.incumbent_score
    assert same.decision == "incumbent"
    assert same.reason_code == "not_better"
    assert model.backtest_fit is not None
    doubling = replace(model, backtest_fit=replace(model.backtest_fit, horizon_days=2 * SPEC.horizon_days))
    easy = train(facts.until(week), week, SPEC, doubling)
    assert (easy.decision, easy.reason_code) == ("challenger", "better")
    assert is_said_by_its_figures(easy, CHOICE_WORDS)
    assert 0 < easy.metrics["over_incumbent_gain_low"] < easy.metrics["over_incumbent_gain"]
    hard = train(facts.until(week), week, replace(SPEC, margin=0.9), model)
    assert hard.decision == "incumbent"


def test_an_incumbent_that_counts_another_horizon_is_replaced(facts: CustomerHistory, model: ValueModel) -> None:
    training = train(facts.until(AS_OF), AS_OF, replace(SPEC, horizon_days=50), model)
    assert training.decision == "challenger"
    assert training.reason_code == ChoiceCode.ANOTHER_QUESTION


def test_a_stored_model_answers_the_same(facts: CustomerHistory, model: ValueModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = ValueModel.load(tmp_path)
    features = facts.snapshot_of(AS_OF)
    assert apply(features, loaded, SPEC, label="m").equals(apply(features, model, SPEC, label="m"))
    assert loaded.backtest_fit is not None
    assert model.backtest_fit is not None
    stored, fitted = loaded.backtest_fit.predict(features), model.backtest_fit.predict(features)
    assert all(np.array_equal(stored[name], fitted[name]) for name in fitted)
    assert not [path for path in tmp_path.iterdir() if path.suffix not in (".json", ".txt")]


def test_a_model_stored_under_former_names_predicts_the_same(
    facts: CustomerHistory, model: ValueModel, tmp_path: Path
) -> None:
    model.save(tmp_path)
    former = {"backtest_": "twin_", "_corrected": "_lifted"}
    for path in list(tmp_path.glob("*.txt")):
        name = path.name
        for current, old in former.items():
            name = name.replace(current, old)
        path.rename(path.with_name(name))
    file = tmp_path / "value_model.json"
    stored = file.read_text(encoding="utf-8").replace('"backtest"', '"twin"').replace('"corrected"', '"lifted"')
    file.write_text(stored.replace('"format": 3', '"format": 2'), encoding="utf-8")
    loaded = ValueModel.load(tmp_path)
    assert loaded == replace(model, final=loaded.final, backtest_fit=loaded.backtest_fit)
    assert loaded.backtest_fit is not None
    assert model.backtest_fit is not None
    features = facts.snapshot_of(AS_OF)
    for read, written in ((loaded.final, model.final), (loaded.backtest_fit, model.backtest_fit)):
        expected = written.predict(features)
        assert all(np.array_equal(values, expected[name]) for name, values in read.predict(features).items())


def test_training_twice_gives_the_same_model_whatever_the_order_of_rows(
    facts: CustomerHistory, model: ValueModel
) -> None:
    days = customer_days(facts)
    shuffled = np.random.default_rng(1).permutation(days.num_rows)
    other = replace(facts, customer_days=days.take(pa.array(shuffled)))
    again = train(other.until(AS_OF), AS_OF, SPEC, None).model
    assert isinstance(again, ValueModel)
    features = facts.snapshot_of(AS_OF)
    assert apply(features, again, SPEC, label="m").equals(apply(features, model, SPEC, label="m"))


def test_a_day_alone_is_worth_the_same_as_in_a_week(facts: CustomerHistory, model: ValueModel) -> None:
    days = [AS_OF + timedelta(days=k) for k in range(3)]
    together = apply(facts.snapshot_of(*days), model, SPEC, label="m")
    alone = pa.concat_tables([apply(facts.snapshot_of(day), model, SPEC, label="m") for day in days])
    assert together.equals(alone.combine_chunks())


def test_predictions_are_chances_and_amounts(facts: CustomerHistory, model: ValueModel) -> None:
    value = apply(facts.snapshot_of(AS_OF), model, SPEC, label="m")
    alive = numbers(value, "p_alive")
    assert np.all((alive >= 0) & (alive <= 1))
    assert all(np.all(numbers(value, name) >= 0) for name in OUTPUTS)
    assert np.all(numbers(value, "ltv") <= numbers(value, "expected_spend"))


def test_a_frame_is_answered_like_a_table_and_unknown_words_count_as_missing(
    facts: CustomerHistory, model: ValueModel
) -> None:
    features = facts.snapshot_of(AS_OF)
    frame = features.to_pandas()
    frame.index = range(1000, 1000 + len(frame))
    answered = model.predict(frame)
    assert list(answered.columns) == list(OUTPUTS)
    assert answered.index.equals(frame.index)
    assert np.array_equal(answered["ltv"].to_numpy(), numbers(apply(features, model, SPEC, label="m"), "ltv"))
    unknown = model.predict(frame.assign(town="nowhere"))
    assert np.array_equal(unknown["ltv"], model.predict(frame.assign(town=None))["ltv"])
    assert model.predict(frame.iloc[:0]).empty


def test_a_column_that_is_gone_is_named(facts: CustomerHistory, model: ValueModel) -> None:
    with pytest.raises(ValueError, match="fitted on town"):
        apply(facts.snapshot_of(AS_OF).drop_columns("town"), replace(model, method="blend"), SPEC, label="m")


def test_nobody_known_is_no_failure(facts: CustomerHistory, model: ValueModel) -> None:
    empty = facts.snapshot_of(AS_OF).slice(0, 0)
    assert apply(empty, model, SPEC, label="m").num_rows == 0
    assert baseline(empty, SPEC).num_rows == 0


def test_the_cap_on_rows_samples_whole_customers(facts: CustomerHistory) -> None:
    training = train(facts.until(AS_OF), AS_OF, replace(SPEC, max_rows=600), None)
    assert training.metrics["holdout_customers"] <= 200


def test_the_figures_can_be_drawn(training: FitResult) -> None:
    figures = training.figures
    assert set(figures) == {"calibration", "cohorts", "contributions", "corrections", "lorenz"}
    for draw in figures.values():
        axes = draw().axes[0]
        assert axes.get_title()
        assert axes.get_xlabel()


@given(st.lists(st.floats(0, 1e4), min_size=2, max_size=50), st.integers(0, 99))
def test_gini_is_one_for_the_truth_none_for_a_constant_and_blind_to_order(values: list[float], seed: int) -> None:
    actual = np.round(np.array(values), 2)
    if len(set(actual)) > 1:
        assert gini(actual, actual) == pytest.approx(1.0)
        assert gini(actual, -actual) == pytest.approx(-1.0)
    assert gini(actual, np.ones_like(actual)) == pytest.approx(0.0)
    guess = np.random.default_rng(seed).integers(0, 3, len(actual)).astype(float)
    order = np.random.default_rng(seed).permutation(len(actual))
    assert gini(actual, guess) == pytest.approx(gini(actual[order], guess[order]))


def test_decile_error_is_the_relative_miss() -> None:
    actual = np.arange(1.0, 101.0)
    assert decile_error(actual, actual) == pytest.approx(0)
    assert decile_error(actual, 1.2 * actual) == pytest.approx(0.2)
    assert decile_error(np.zeros(5), np.ones(5)) == 0.0


@pytest.mark.parametrize(
    ("field", "value"), [("horizon_days", 0), ("annual_discount_rate", -0.1), ("max_rows", 0), ("warm_up_days", -1)]
)
def test_a_setting_that_makes_no_sense_is_named(field: str, value: float) -> None:
    senseless: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"value.{field}"):
        replace(SPEC, **senseless)

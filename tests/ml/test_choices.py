"""Claims about choices: three customers reverse none, and what is in force stays until something is better for sure."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.choice import decide, decide_first_fit, decide_without_data
from ml.features import CustomerHistory
from ml.journeys.transitions import TransitionSpec
from ml.lifecycle import LifecycleModel, LifecycleSpec
from ml.lifecycle import train as train_lifecycle
from ml.lifecycle.cuts import change_of_share_holding_half, share_holding_half
from ml.reasons import Reason
from ml.statistics import Gain, bootstrap, paired_gain, ranking_terms
from ml.value import ValueModel, ValueSpec, train
from ml.value.blend import Fit
from ml.value.closed_form import ClosedForm
from ml.value.contest import Contest
from ml.value.judgement import Judge
from ml.value.metrics import gini
from ml.value.reasons import CHOICE_WORDS, ChoiceCode, Validation
from ml.value.training import _decide
from tests.steadiness import (
    ActionWeek,
    LayerWeek,
    TransitionWeek,
    ValueWeek,
    lifecycle_decision,
    spend_of,
    steadiness,
    without_models,
)
from tests.wholesale import START, expected_of_shoppers, shop_with_a_giant, wholesaler

SPEC = ValueSpec()
seeds = st.integers(0, 10_000)


# ── the paired bootstrap ──────────────────────────────────────────────────────────────────────────────────────────


@given(seeds, st.floats(0.01, 100))
@settings(max_examples=20, deadline=None)
def test_a_gain_is_a_share_and_a_model_gains_nothing_over_itself(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    incumbent, challenger = rng.gamma(1, 1, 200), rng.gamma(1, 1, 200)
    gain, scaled = paired_gain(incumbent, challenger), paired_gain(factor * incumbent, factor * challenger)
    assert scaled.mean == pytest.approx(gain.mean)
    assert scaled.low == pytest.approx(gain.low)
    assert gain.low <= gain.mean <= gain.high
    assert paired_gain(incumbent, incumbent) == Gain(0.0, 0.0, 0.0, 200)
    assert gain.reversed().mean == pytest.approx(1 - incumbent.sum() / challenger.sum())


def test_an_interval_of_95_percent_misses_the_truth_in_about_one_of_twenty_samples() -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        incumbent = rng.gamma(1, 1, 150)
        gain = paired_gain(incumbent, rng.gamma(1, 1, 150))
        missed += gain.is_significantly_better or gain.is_significantly_worse
    assert 2 <= missed <= 24


def test_a_customer_is_drawn_with_all_of_its_rows_and_a_cell_with_all_of_its_customers() -> None:
    rng = np.random.default_rng(1)
    incumbent, challenger = rng.gamma(1, 1, 300), rng.gamma(1, 1, 300)
    thrice = paired_gain(np.repeat(incumbent, 3), np.repeat(challenger, 3), customers=np.repeat(np.arange(300), 3))
    once = paired_gain(incumbent, challenger)
    assert (thrice.low, thrice.high) == (pytest.approx(once.low), pytest.approx(once.high))
    cells = paired_gain(incumbent[:5], challenger[:5], counts=np.full(5, 60))
    customers = paired_gain(np.repeat(incumbent[:5], 60), np.repeat(challenger[:5], 60))
    assert cells.mean == pytest.approx(customers.mean)
    assert cells.low == pytest.approx(customers.low, abs=0.15 * (customers.high - customers.low))


def test_many_customers_are_drawn_in_groups_with_the_same_spread() -> None:
    rng = np.random.default_rng(2)
    terms = np.column_stack([rng.lognormal(0, 1, 20_000), np.ones(20_000)])
    gain = bootstrap(terms, lambda sums: sums[:, 0] / sums[:, 1])
    error = terms[:, 0].std() / np.sqrt(20_000)
    assert gain.high - gain.low == pytest.approx(2 * 1.96 * error, rel=0.1)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_the_terms_of_an_order_add_up_to_its_gini(seed: int) -> None:
    rng = np.random.default_rng(seed)
    actual = rng.gamma(0.5, 1, 120) * (rng.random(120) < 0.6)
    predicted = np.round(actual * rng.lognormal(0, 1, 120), 1)
    share = ranking_terms(actual, predicted).sum() / ranking_terms(actual, actual).sum()
    assert share == pytest.approx(gini(actual, predicted))


# ── the rule ──────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.1))
def test_a_challenger_takes_over_by_the_margin_and_by_more_than_chance(
    mean: float, below: float, above: float, margin: float
) -> None:
    verdict = decide("loss", 1.0, 2.0, Gain(mean, mean - below, mean + above, 100), margin=margin)
    assert (verdict.decision == "challenger") == (mean >= margin and mean > 0 and mean - below > 0)
    assert verdict.code in ("better", "within_chance", "not_better")
    assert verdict.parameters["gain_low"] == mean - below
    assert verdict.decision in ("challenger", "incumbent")  # a contest never drops a model


def test_not_enough_data_is_a_result_that_changes_nothing() -> None:
    few = Reason(ChoiceCode.TOO_FEW_CUSTOMERS, {"customers": 3, "needed": 200})
    kept, none = decide_without_data(few, has_incumbent=True), decide_without_data(few, has_incumbent=False)
    assert (kept.decision, kept.code, kept.parameters) == ("incumbent", "not_enough_data", {"lacking": few.stored()})
    assert kept.fields(CHOICE_WORDS)["reason"].startswith("not enough customers: 3 ")
    assert none.decision == "none"
    assert decide_first_fit("loss", None).code == "first_fit"


# ── value ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def spenders(seed: int, customers: int = 1_000, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """What customers are expected to spend, and what came: lognormal between and within customers."""
    rng = np.random.default_rng(seed)
    truth = np.exp(rng.normal(4, spread, customers))
    return truth, truth * np.exp(rng.normal(-0.5, 1, customers)) * rng.binomial(1, 0.6, customers) / 0.6


@given(seeds, st.sampled_from([0.5, 0.8, 1.25, 2.0]))
@settings(max_examples=20, deadline=None)
def test_the_deviance_is_lowest_at_the_mean_and_not_at_the_median(seed: int, factor: float) -> None:
    truth, came = spenders(seed, 20_000, 1.0)
    judge = Judge.of(came, truth)
    assert judge.score(truth) < judge.score(factor * truth)


@given(seeds, st.floats(1, 1e6))
@settings(max_examples=20, deadline=None)
def test_three_customers_cannot_reverse_a_comparison_however_much_they_spend(seed: int, factor: float) -> None:
    truth, came = spenders(seed)
    before = np.random.default_rng(seed + 1).permutation(truth) * 0.3 + truth * 0.7
    three = np.argsort(-truth)[:3]
    rest = np.setdiff1d(np.arange(len(truth)), three)
    without = Judge.of(came[rest], before[rest]).compare(before[rest], truth[rest])
    raised, expected, baseline = before.copy(), truth.copy(), before.copy()
    for values in (raised, expected, baseline):
        values[three] *= factor
    outcome = came.copy()
    outcome[three] = factor * truth[three[::-1]]
    turned = Judge.of(outcome, raised).compare(baseline, expected)
    assert turned.is_better(0.005) == without.is_better(0.005)
    assert turned.gain.mean == pytest.approx(without.gain.mean, abs=0.5 * (without.gain.high - without.gain.low))


def contest_of(came: np.ndarray, before: np.ndarray, expected: np.ndarray) -> Contest:
    """A holdout of 90 days on which one method has said what is expected."""
    snapshot = pa.table({"orders_90d": (before > 0).astype(float), "spend_90d": before})
    realised = pa.table({"spend": came, "orders": (came > 0).astype(int)})
    return Contest(START, 90, Validation.TEMPORAL, snapshot, realised, {"bgnbd": outputs(expected)})


def outputs(expected: np.ndarray) -> dict[str, np.ndarray]:
    return {"p_alive": np.ones(len(expected)), "expected_orders": np.ones(len(expected)), "expected_spend": expected}


MODEL = ValueModel(90, SPEC.annual_discount_rate, Fit(90, ClosedForm(None, None)), None, "bgnbd")


@given(seeds, st.sampled_from([0.0, 0.3, 1.0, 3.0]), st.sampled_from([0.1, 0.9, 1.0, 1.1, 3.0, 20.0]))
@settings(max_examples=60, deadline=None)
def test_no_value_model_is_dropped_without_an_interval_that_excludes_0(seed: int, noise: float, off: float) -> None:
    rng = np.random.default_rng(seed)
    truth, came = spenders(seed, 400)
    before = truth * np.exp(rng.normal(0, 0.7, 400))
    contest = contest_of(came, before, off * truth * np.exp(rng.normal(0, noise, 400)))
    incumbent_spend = off * truth * np.exp(rng.normal(0, noise, 400))
    verdict, compared = _decide(contest, MODEL, MODEL, incumbent_spend, SPEC)
    if verdict.decision == "none":
        assert verdict.code == "baseline_better"
        assert compared["incumbent_over_baseline"].gain.high < 0
        assert verdict.parameters["baseline_gain_high"] < 0
    if verdict.decision == "challenger":
        assert compared["over_incumbent"].gain.low > 0
    taken, compared = _decide(contest, MODEL, None, None, SPEC)
    assert (taken.decision == "challenger") == compared["over_baseline"].is_better(SPEC.margin)
    if taken.decision == "challenger":  # also a model that is taken back must be better than what is in force
        assert compared["over_baseline"].gain.low > 0


def test_a_value_model_without_information_is_dropped_with_the_figures() -> None:
    truth, came = spenders(0)
    nonsense = np.random.default_rng(0).permutation(truth) * 30
    contest = contest_of(came, truth, nonsense)
    verdict, _ = _decide(contest, MODEL, MODEL, nonsense, SPEC)
    assert (verdict.decision, verdict.code) == ("none", "baseline_better")
    assert verdict.parameters["lost_low"] > 0
    assert verdict.parameters["baseline_gain"] < verdict.parameters["baseline_gain_high"] < 0


def test_three_customers_who_decide_the_squared_error_do_not_drop_a_model_that_ranks_far_better() -> None:
    rng = np.random.default_rng(3)
    truth, came = spenders(3, 5_000)
    before = np.where(rng.random(5_000) < 0.5, 0.0, 2 * truth * np.exp(rng.normal(-0.2, 0.6, 5_000)))
    expected = truth * np.exp(rng.normal(0, 0.3, 5_000))
    three = np.argsort(-truth)[:3]
    before[three] = came[three] = 3 * truth[three]  # they go on as before, and are expected to fall off
    squares = [float(np.mean((came - one) ** 2)) for one in (before, expected)]
    assert squares[1] > squares[0]
    assert gini(came, expected) > gini(came, before) + 0.05
    verdict, _ = _decide(contest_of(came, before, expected), MODEL, MODEL, expected, SPEC)
    assert verdict.decision == "incumbent"
    assert _decide(contest_of(came, before, expected), MODEL, None, None, SPEC)[0].decision == "challenger"


@pytest.mark.parametrize("seed", [11, 12])
def test_400_shoppers_beside_one_giant_get_the_method_that_is_best_for_them(seed: int) -> None:
    as_of = START + timedelta(days=330)
    facts = shop_with_a_giant(seed=seed).until(as_of)
    spec = ValueSpec(horizon_days=60, snapshots=3)
    training = train(facts, as_of, spec, None)
    model = training.model
    assert isinstance(model, ValueModel)
    assert training.decision == "challenger"
    holdout = date.fromisoformat(training.params["holdout_day"])
    assert model.backtest_fit is not None
    snapshot = facts.until(holdout).snapshot_of(holdout)
    ids = np.array(snapshot["customer_id"].to_pylist())
    shoppers = ids != "c00400"
    # Compared with the true expectation, not with the outcome of 60 days, which no choice could know.
    truth = expected_of_shoppers(holdout, 60, seed=seed)[np.array([int(who[1:]) for who in ids[shoppers]])]
    errors = {
        method: float(np.sqrt(np.mean((truth - outputs["expected_spend"][shoppers]) ** 2)))
        for method, outputs in model.backtest_fit.candidates(snapshot).items()
    }
    assert errors[model.method] <= 1.06 * min(errors.values()), errors


# ── bootstrap weeks ───────────────────────────────────────────────────────────────────────────────────────────────

AS_OF = START + timedelta(days=480)
WEEKS = 10  # `make evidence` looks at 200, and at more customers


@pytest.fixture(scope="module")
def wholesale() -> CustomerHistory:
    return wholesaler(1_000, seed=50)


@pytest.fixture(scope="module")
def value_week(wholesale: CustomerHistory) -> ValueWeek:
    return ValueWeek.of(wholesale, AS_OF, ValueSpec(), weeks_ago=1)


@pytest.mark.parametrize("has_incumbent", [False, True])
def test_three_customers_reverse_no_decision_about_value(value_week: ValueWeek, has_incumbent: bool) -> None:
    week = value_week
    result = steadiness(week.decision(has_incumbent=has_incumbent), week.spend, weeks=WEEKS)
    assert result.same >= WEEKS - 1, result
    if not has_incumbent:
        assert steadiness(week.by_squared_error(has_incumbent=False), week.spend, weeks=WEEKS).same <= result.same


def test_three_customers_reverse_no_decision_about_stages_and_transitions(wholesale: CustomerHistory) -> None:
    spec, before = LifecycleSpec(), AS_OF - timedelta(days=28)
    first = train_lifecycle(wholesale.until(before), before, spec, None, value_model=None, value_spec=ValueSpec()).model
    assert isinstance(first, LifecycleModel)
    decision = lifecycle_decision(wholesale, AS_OF, spec, first)
    assert steadiness(decision, spend_of(wholesale, AS_OF), weeks=WEEKS).same >= WEEKS - 1
    week = TransitionWeek.of(wholesale, AS_OF, without_models(), TransitionSpec())
    assert steadiness(week.decision, week.spend, weeks=WEEKS).same == WEEKS


def test_three_customers_reverse_no_decision_about_layers(wholesale: CustomerHistory) -> None:
    week = LayerWeek.of(wholesale, AS_OF, without_models())
    assert steadiness(week.decision, week.spend, weeks=WEEKS).same >= WEEKS - 1


@pytest.mark.parametrize("moved", [0.1, 1.0])
def test_three_customers_reverse_no_decision_about_effects(moved: float) -> None:
    week = ActionWeek.of(2_000, seed=50, moved=moved)
    assert steadiness(week.decision, week.spend, weeks=WEEKS).same >= WEEKS - 1


# ── lifecycle ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_share_of_stars_that_three_customers_have_changed_is_not_sure_to_have_changed() -> None:
    ltv = np.exp(np.random.default_rng(0).normal(0, 1, 400))
    before = share_holding_half(ltv)
    assert before is not None
    three = np.argsort(-ltv)[:3]
    raised = ltv.copy()
    raised[three] *= 6
    moved = change_of_share_holding_half(raised, before)
    assert moved.mean < -0.02
    assert not moved.is_significantly_worse
    assert change_of_share_holding_half(
        np.exp(np.random.default_rng(1).normal(0, 1.6, 4_000)), before
    ).is_significantly_worse


def test_contests_know_the_same_customers_whatever_the_seed_of_the_fit() -> None:
    truth, came = spenders(5, 300)
    contest = contest_of(came, truth, truth)
    assert replace(contest, seed=1).judge.score(truth) == contest.judge.score(truth)

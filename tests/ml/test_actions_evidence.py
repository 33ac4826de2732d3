"""Claims about how much evidence there is: counted in customers, honest where few respond, never from a missing arm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml.actions import Action, ActionPolicy
from ml.actions.cells import cells_of
from ml.actions.diagnostics import SHARES, gain, gain_band, qini
from ml.actions.learners import (
    Z90,
    NuisanceModels,
    NuisancePredictions,
    NuisanceTask,
    Scores,
    doubly_robust,
    encode,
    encoded,
    folds_of,
    levels_of,
)
from ml.actions.reasons import ChoiceCode, Finding
from ml.reasons import Reason
from tests.ml.action_worlds import Array, Log, facts_of, fitted, spending
from tests.ml.vocabularies import lacking

SPEC = ActionPolicy(actions=(Action("gift", cost=1.0),))


def scores_of(score: Array, arm: Array, outcome: Array, customer: Array) -> Scores:
    size = len(score)
    return Scores(score, np.full(size, 0.5), arm, np.ones(size, bool), outcome, customer, np.zeros(size, int), np.nan)


# ── few responders ────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_arm_in_which_hardly_anybody_bought_does_not_look_certain() -> None:
    """25,000 rows, 4 % treated, one in a thousand buys, no effect: without a treated buyer, scores hardly vary."""
    excludes = []
    for seed in range(200):
        random = np.random.default_rng([seed, 13])
        size, chance = 25_000, 0.04
        arm = random.random(size) < chance
        outcome = np.where(random.random(size) < 0.001, np.exp(random.normal(size=size)), 0.0)
        expected = outcome.mean()
        score = np.where(arm, (outcome - expected) / chance, -(outcome - expected) / (1 - chance))
        mean, error = scores_of(score, arm, outcome, np.arange(size)).overall()
        excludes.append(abs(mean) > Z90 * error)
    assert 0.02 <= np.mean(excludes) <= 0.15


def test_too_few_responders_are_reported_with_their_numbers() -> None:
    random = np.random.default_rng(3)
    size = 4_000
    arm, outcome = random.random(size) < 0.5, np.where(random.random(size) < 0.002, 30.0, 0.0)
    cell = cells_of(scores_of(outcome * 1.0, arm, outcome, np.arange(size)), np.full(size, "active"), SPEC)["all"]
    finding = cell.lacks(SPEC)
    assert finding is not None and finding.code == "too_few_responders"
    assert "gift has too few responders: " in finding.words("gift")


# ── customers, not rows ───────────────────────────────────────────────────────────────────────────────────────────


def test_floors_count_customers() -> None:
    """Sixty treated rows of two customers are two customers."""
    customer = np.concatenate([np.repeat([0, 1], 30), np.arange(2, 202)])
    arm = np.arange(260) < 60
    score = np.random.default_rng(0).normal(10, 1, 260)
    cell = cells_of(scores_of(score, arm, np.ones(260), customer), np.full(260, "active"), SPEC)["all"]
    assert (cell.treated, cell.treated_customers, cell.treated_responders) == (60, 2, 2)
    finding = cell.lacks(SPEC)
    assert finding is not None and (finding.code, finding.figures["treated"]) == ("too_few_customers", 2)
    many = cells_of(scores_of(score, arm, np.ones(260), np.arange(260)), np.full(260, "active"), SPEC)["all"]
    assert many.meets(SPEC)


def test_a_few_customers_with_many_rows_are_no_experiment() -> None:
    random = np.random.default_rng(15)
    amounts, _ = spending(random, 400, 150)
    treated, days = np.repeat([0, 1], 30), np.tile(70 + np.arange(30), 2)
    others = np.arange(2, 400)
    log = Log(
        np.concatenate([treated, others]), np.concatenate([days, 70 + others % 30]),
        np.where(np.arange(458) < 60, "gift", "control"),
        {"randomised": np.full(458, True), "campaign_id": np.full(458, "k")},
    ).table()  # fmt: skip
    fit = fitted(facts_of(amounts, log), log, 149, SPEC)
    assert fit.result.model is None
    few = Finding("too_few_exposures", {"treated": 2.0, "control": 398.0, "least": 20.0}).reason("gift").stored()
    assert lacking(fit.result) == Reason(ChoiceCode.NOT_ENOUGH_EXPOSURES, {"findings": [few]})


# ── folds ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_fold_has_its_share_of_every_arm_and_customers_stay_whole() -> None:
    random = np.random.default_rng(1)
    customer = pd.Series(np.char.mod("c%04d", random.integers(0, 400, 900)))
    names = np.where(np.isin(customer, customer.unique()[:12]), "gift", "control")
    arm: pd.Series[str] = pd.Series(names.astype(str))
    fold = folds_of(customer, SPEC, arm)
    assert pd.Series(fold).groupby(customer).nunique().max() == 1
    for name in ("gift", "control"):
        people = pd.Series(fold[arm == name]).groupby(customer[arm == name].to_numpy()).first().value_counts()
        assert len(people) == SPEC.folds and people.max() - people.min() <= 1
    order = random.permutation(900)
    shuffled = folds_of(customer.iloc[order].reset_index(drop=True), SPEC, arm.iloc[order].reset_index(drop=True))
    assert (shuffled == fold[order]).all()


@pytest.mark.parametrize("alone", ["treated", "control"])
def test_an_arm_in_one_fold_is_never_replaced_by_the_mean_of_both(alone: str) -> None:
    """With all treated (or all control) rows in one fold nothing is known of that arm there: no row is scored by it."""
    random = np.random.default_rng(14)
    size = 400
    arm = np.arange(size) < 60 if alone == "treated" else np.arange(size) >= 60
    features = pd.DataFrame({"x": random.normal(size=size)})
    outcome = 100 + 25 * arm + random.normal(0, 5, size)
    fold = np.where(arm == (alone == "treated"), 0, 1 + np.arange(size) % 2)
    everywhere = np.ones(size, bool)
    predicted = NuisanceModels(features, fold, SPEC).predict(
        [NuisanceTask(outcome, arm, everywhere), NuisanceTask(outcome, ~arm, everywhere)]
    )
    expected = NuisancePredictions(predicted[0], predicted[1], np.full(size, 0.5), False)
    scores, _ = doubly_robust(expected, arm, ~arm, outcome, np.arange(size), fold, SPEC)
    side = scores.treated if alone == "treated" else ~scores.treated
    assert not (scores.in_overlap & side).any()
    assert np.isfinite(scores.score).all()


def test_a_small_treated_group_is_measured_whatever_its_names_are() -> None:
    """Sixty treated customers, by names that one hash would have put into one fold."""
    random = np.random.default_rng(4)
    amounts, _ = spending(random, 1_500, 100)
    gets = random.permutation(1_500)[:60]
    amounts[gets, 62] += 25.0
    action = np.full(1_500, "control", dtype=object)
    action[gets] = "gift"
    more: dict[str, Any] = {"randomised": np.full(1_500, True), "campaign_id": np.full(1_500, "k"),
                            "propensity": np.where(action == "gift", 0.04, 0.96)}  # fmt: skip
    log = Log(np.arange(1_500), np.full(1_500, 60), action, more).table()
    fit = fitted(facts_of(amounts, log), log, 99, SPEC)
    assert abs(fit.evidence().effect - 25.0) < 3 * fit.evidence().standard_error


# ── gain curves ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_prediction_that_is_the_same_for_all_gains_nothing_in_whatever_order_rows_come() -> None:
    score = np.linspace(-10, 10, 1_000)
    for order in (score, score[::-1], np.random.default_rng(0).permutation(score)):
        assert qini(np.zeros(1_000), order) == pytest.approx(0, abs=1e-9)
    assert qini(score, score) > 1


def test_the_gain_of_all_is_the_mean_and_that_of_none_is_zero() -> None:
    random = np.random.default_rng(1)
    guess, score = random.integers(0, 5, 500).astype(float), random.normal(1, 3, 500)
    curve = gain(guess, score, SHARES)
    assert curve[0] == 0 and curve[-1] == pytest.approx(score.mean())
    order = random.permutation(500)
    assert gain(guess[order], score[order], SHARES) == pytest.approx(curve)


def test_the_band_of_a_gain_curve_holds_the_truth_where_customers_repeat() -> None:
    """Ten rows a customer that are nearly the same: drawn by row, the band holds the truth in 4 of 10 cases."""
    inside = []
    for seed in range(120):
        random = np.random.default_rng([seed, 16])
        person = np.repeat(np.arange(100), 10)
        guess = np.repeat(random.normal(size=100), 10)
        score = 1.0 + np.repeat(random.normal(0, 5, 100), 10) + random.normal(0, 1, 1_000)
        low, high = gain_band(guess, score, person, np.array([0.5, 1.0]), seed, 200)
        inside += [low[0] <= 0.5 <= high[0], low[1] <= 1.0 <= high[1]]
    assert np.mean(inside) >= 0.85


# ── string attributes ─────────────────────────────────────────────────────────────────────────────────────────────


def test_strings_are_the_same_numbers_in_every_frame() -> None:
    frame = pd.DataFrame({"spend": [1.0, 2.0, 3.0], "region": ["north", None, "south"]})
    levels = levels_of(frame)
    assert levels == {"region": ("north", "south")}
    alone = encoded(pd.DataFrame({"spend": [5.0, 5.0], "region": ["south", "west"]}), ["spend", "region"], levels)
    np.testing.assert_array_equal(alone, [[5.0, 1.0], [5.0, np.nan]])
    np.testing.assert_array_equal(encode(frame).to_numpy(), encoded(frame, ["spend", "region"], levels))


def test_an_effect_that_an_attribute_decides_is_found_in_it() -> None:
    """The gift works in the north alone: a model that cannot read the region would give both the same."""
    random = np.random.default_rng(24)
    size = 4_000
    amounts, _ = spending(random, size, 100)
    north, gets = random.random(size) < 0.5, random.random(size) < 0.5
    amounts[north & gets, 62] += 60.0
    more: dict[str, Any] = {"randomised": np.full(size, True), "campaign_id": np.full(size, "k"),
                            "propensity": np.full(size, 0.5)}  # fmt: skip
    log = Log(np.arange(size), np.full(size, 60), np.where(gets, "gift", "control"), more).table()
    facts = facts_of(amounts, log, {"region": np.where(north, "north", "south")})
    fit = fitted(facts, log, 99, SPEC)
    assert "region" in fit.model.columns and fit.model.levels["region"] == ("north", "south")
    features = pd.DataFrame({"region": ["north", "south", None, "west"]}).reindex(columns=list(fit.model.columns))
    guess = fit.model.predict(features)["gift"]
    assert guess[0] - guess[1] > 20
    assert np.isfinite(guess).all()

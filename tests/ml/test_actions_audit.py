"""Claims about the experiment audit: a clean experiment passes, one that was not randomised is detected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ml.actions import Action, ActionPolicy
from ml.actions.audit import BALANCE_LEVEL, RATIO_LEVEL, Balance, audit_findings, balance, sample_ratio
from tests.ml.action_worlds import Array, Fitted, Log, facts_of, fitted, spending
from tests.ml.vocabularies import remarks

SPEC = ActionPolicy(actions=(Action("gift", cost=1.0),))
SEEDS = 200


def features(random: np.random.Generator, size: int) -> Array:
    """Correlated, heavy-tailed, rare and missing ones, as a snapshot has them."""
    base = random.normal(size=size)
    spends = [np.exp(base + random.normal(size=size) * spread) for spread in (0.1, 0.3, 1.0)]
    others = [*random.normal(size=(8, size)), (random.random(size) < 0.05).astype(float), random.poisson(0.3, size)]
    table = np.column_stack([*spends, *others])
    table[random.random(size) < 0.2, 2] = np.nan
    return table


def draw(
    seed: int, size: int, chance: float, campaigns: int = 1, repeats: int = 1
) -> tuple[Array, Array, Array, Array]:
    """Features, arm, campaign and customer of a clean experiment; each customer has `repeats` exposures."""
    random = np.random.default_rng([seed, 3])
    people = size // repeats
    customer = np.repeat(np.arange(people), repeats)
    return (
        np.repeat(features(random, people), repeats, axis=0),
        random.random(len(customer)) < chance,
        random.integers(0, campaigns, len(customer)),
        customer,
    )


@pytest.mark.parametrize(
    ("size", "chance", "campaigns", "repeats"),
    [(150, 0.5, 1, 1), (1_000, 0.5, 1, 1), (1_500, 0.1, 3, 1), (2_000, 0.3, 40, 1), (2_000, 0.5, 4, 4)],
)
def test_a_clean_experiment_fails_the_audit_no_more_often_than_stated(
    size: int, chance: float, campaigns: int, repeats: int
) -> None:
    p_balance, p_ratio = [], []
    for seed in range(SEEDS):
        table, arm, campaign, customer = draw(seed, size, chance, campaigns, repeats)
        chances = np.full(len(arm), chance)
        p_balance.append(balance(table, arm, chances, campaign, customer).p)
        p_ratio.append(sample_ratio(arm, chances, campaign, customer).p)
    # Three standard errors of a share of 200 above what is stated.
    for p, level in ((p_balance, BALANCE_LEVEL), (p_balance, 0.1), (p_ratio, 0.05), (p_ratio, 0.1)):
        assert np.mean(np.array(p) < level) <= level + 3 * np.sqrt(level * (1 - level) / SEEDS)


def test_arms_that_stay_the_same_over_many_waves_are_judged_by_customers() -> None:
    """One draw decides all of a customer's exposures: its rows are one draw, not five."""
    clean = []
    for seed in range(SEEDS):
        _, arm, campaign, customer = draw(seed, 2_000, 0.5, 1, 5)
        arm = arm[customer * 5]
        campaign = np.tile(np.arange(5), 400)
        clean.append(sample_ratio(arm, np.full(len(arm), 0.5), campaign, customer).p)
    assert np.mean(np.array(clean) < 0.01) <= 0.03


def test_many_small_differences_and_one_large_one_are_both_found() -> None:
    table, arm, campaign, customer = draw(1, 3_000, 0.5)
    chances = np.full(len(arm), 0.5)
    shifted = table.copy()
    shifted[arm, 5] += 0.25
    one = balance(shifted, arm, chances, campaign, customer)
    assert one.p < 1e-4 and one.feature == 5 and one.difference > 0.1
    shifted = table + 0.12 * arm[:, None]
    assert balance(shifted, arm, chances, campaign, customer).p < 1e-4


def test_chances_that_differ_between_strata_are_no_imbalance_where_they_are_stated() -> None:
    random = np.random.default_rng(2)
    table = features(random, 4_000)
    chances = np.where(table[:, 0] > 1, 0.8, 0.2)
    arm = random.random(4_000) < chances
    alone = np.zeros(4_000, dtype=np.int64)
    assert balance(table, arm, chances, alone, np.arange(4_000)).p > BALANCE_LEVEL
    assert balance(table, arm, np.full(4_000, 0.5), alone, np.arange(4_000)).p < 1e-10
    assert sample_ratio(arm, chances, alone, np.arange(4_000)).p > RATIO_LEVEL


def test_a_sample_stands_for_the_exposures_it_was_taken_from() -> None:
    """1,000 of 2,000 treated and all of 1,000 controls: a ratio of two to one, as was stated."""
    arm = np.repeat([True, False], [1_000, 1_000])
    weight = np.where(arm, 2.0, 1.0)
    alone, who = np.zeros(2_000, dtype=np.int64), np.arange(2_000)
    assert sample_ratio(arm, np.full(2_000, 2 / 3), alone, who, weight).p == pytest.approx(1.0)
    assert sample_ratio(arm, np.full(2_000, 2 / 3), alone, who).p < 1e-20


def test_a_clean_experiment_of_many_campaigns_passes_where_its_arms_were_sampled() -> None:
    p = []
    for seed in range(SEEDS):
        random = np.random.default_rng([seed, 5])
        arm, campaign = random.random(12_000) < 0.5, random.integers(0, 20, 12_000)
        sampled, weight = np.zeros(12_000, dtype=bool), np.ones(12_000)
        for side in (True, False):
            of_arm = np.flatnonzero(arm == side)
            chosen = random.permutation(of_arm)[:1_500]
            sampled[chosen], weight[chosen] = True, len(of_arm) / 1_500
        who = np.arange(3_000)
        p.append(sample_ratio(arm[sampled], np.full(3_000, 0.5), campaign[sampled], who, weight[sampled]).p)
    for level in (RATIO_LEVEL, 0.05, 0.1):
        assert np.mean(np.array(p) < level) <= level + 3 * np.sqrt(level * (1 - level) / SEEDS)


def test_a_small_campaign_of_a_sample_is_judged_by_its_rows_and_not_by_their_weights() -> None:
    """A large campaign, and one of two hundred exposures with a propensity of 1/40; a tenth of each arm is sampled."""
    p, draws = [], 2_000
    campaign = np.repeat([0, 1], [20_000, 200])
    chances = np.where(campaign == 0, 0.5, 0.025)
    for seed in range(draws):
        random = np.random.default_rng([seed, 6])
        arm = random.random(len(campaign)) < chances
        sampled, weight = np.zeros(len(arm), dtype=bool), np.ones(len(arm))
        for side in (True, False):
            of_arm = np.flatnonzero(arm == side)
            sampled[random.choice(of_arm, 1_000, replace=False)] = True
            weight[of_arm] = len(of_arm) / 1_000
        who = np.arange(sampled.sum())
        p.append(sample_ratio(arm[sampled], chances[sampled], campaign[sampled], who, weight[sampled]).p)
    assert np.mean(np.array(p) < RATIO_LEVEL) <= RATIO_LEVEL + 3 * np.sqrt(RATIO_LEVEL / draws)


def test_nothing_stated_is_nothing_to_compare_with() -> None:
    ratio = sample_ratio(np.array([True, False]), np.full(2, np.nan), np.zeros(2, int), np.arange(2))
    assert np.isnan(ratio.p) and audit_findings(ratio, Balance(1.0, -1, 0.0, 0), [], "gift", 1) == []


# ── what becomes of an experiment that fails ──────────────────────────────────────────────────────────────────────


def experiment(kind: str, seed: int, size: int = 4_000) -> Fitted:
    """A gift without effect; arms by lot unless `kind` says otherwise."""
    random = np.random.default_rng([seed, 2])
    amounts, _ = spending(random, size, 100)
    past = amounts[:, :60].sum(axis=1)
    gets, sampled = random.random(size) < 0.5, np.ones(size, dtype=bool)
    if kind == "the best are chosen":
        gets = past > np.median(past)
    elif kind == "the smallest of the treated are missing":
        rank = np.argsort(np.argsort(np.where(gets, past, np.inf)))
        sampled = ~(gets & (rank < 0.12 * gets.sum()))
    elif kind == "rows are missing at random":
        sampled = gets | (random.random(size) < 0.82)
    who = np.flatnonzero(sampled)
    size = len(who)
    more: dict[str, Any] = {"randomised": np.full(size, True), "propensity": np.full(size, 0.5),
                            "campaign_id": np.full(size, "spring")}  # fmt: skip
    log = Log(who, np.full(size, 60), np.where(gets[who], "gift", "control"), more).table()
    return fitted(facts_of(amounts, log), log, 99, SPEC)


@pytest.mark.parametrize("kind", ["the best are chosen", "the smallest of the treated are missing"])
def test_arms_that_were_not_randomised_are_never_acted_upon_whatever_the_log_declares(kind: str) -> None:
    fit = experiment(kind, 1)
    assert fit.evidence().design == "observational" and not fit.supported(SPEC)
    assert fit.code(SPEC) == "arms_unbalanced"
    assert "arms_unbalanced" in remarks(fit.result)


def test_a_mere_sample_ratio_mismatch_warns_with_its_figures_and_stays_randomised() -> None:
    fit = experiment("rows are missing at random", 1)
    assert fit.evidence().design == "randomised" and fit.supported(SPEC) and fit.covers(0.0)
    assert fit.code(SPEC) == "sample_ratio_mismatch"
    assert "sample_ratio_mismatch" in remarks(fit.result)


def test_a_clean_experiment_has_no_findings() -> None:
    fit = experiment("clean", 1)
    assert fit.evidence().findings == () and fit.supported(SPEC) and fit.code(SPEC) == ""

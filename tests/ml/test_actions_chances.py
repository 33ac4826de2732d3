"""Claims about known propensities: each row has its own, and that of the other arm is never a mean over strata."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml.actions import Action, ActionPolicy
from ml.actions.chances import known_chance
from tests.ml.action_worlds import Fitted, Log, facts_of, fitted

SPEC = ActionPolicy(actions=(Action("gift", cost=1.0),))


def strata(seed: int, more: Any = None, size: int = 2_000) -> Fitted:
    """Two strata that no feature shows, with propensities 0.8 and 0.2 and outcomes 20 apart; the gift has no effect."""
    random = np.random.default_rng([seed, 6])
    high = random.random(size) < 0.5
    amounts = np.zeros((size, 100))
    amounts[np.arange(size), random.integers(0, 60, size)] = np.exp(random.normal(2, 0.5, size))
    amounts[:, 62] = 30 + 20 * high + random.normal(0, 5, size)
    chance = np.where(high, 0.8, 0.2)
    gets = random.random(size) < chance
    columns = more(chance) if more else {"propensity": np.where(gets, chance, 1 - chance)}
    columns |= {"randomised": np.full(size, True), "campaign_id": np.full(size, "spring")}
    log = Log(np.arange(size), np.full(size, 60), np.where(gets, "gift", "control"), columns).table()
    return fitted(facts_of(amounts, log), log, 99, SPEC)


def test_the_chance_of_the_other_arm_is_the_rows_own_and_no_mean_of_the_campaign() -> None:
    fits = [strata(seed) for seed in range(4)]
    for one in fits:
        assert abs(one.evidence().effect) < 3.5 * one.evidence().standard_error and one.evidence().standard_error < 2
        assert one.evidence().findings == ()
    assert abs(np.mean([one.evidence().effect for one in fits])) < 1.0, "with the campaign's mean it is 3.7"


def test_a_chance_of_every_arm_says_the_same() -> None:
    texts = strata(1, lambda chance: {"propensities": [json.dumps({"gift": p, "control": 1 - p}) for p in chance]})
    own = strata(1)
    assert texts.evidence().effect == pytest.approx(own.evidence().effect)
    assert texts.evidence().findings == ()


def frame(**columns: Any) -> pd.DataFrame:
    made = pd.DataFrame({"campaign_id": "k", "propensity": np.nan, **columns})
    return made


def chances(rows: pd.DataFrame, action: str = "gift") -> tuple[list[float], bool]:
    arm = rows["action"].to_numpy()
    known = known_chance(rows, arm == action, arm == "control")
    return [round(float(value), 4) for value in known.chance], known.is_complete


def test_a_chance_that_is_the_same_for_an_arm_serves_campaigns_of_many_arms() -> None:
    rows = frame(action=["gift", "note", "control"] * 2, propensity=[0.2, 0.5, 0.3] * 2)
    assert chances(rows) == ([0.4, 0.5, 0.4] * 2, True)
    assert chances(rows, "note") == ([0.5, 0.625, 0.625] * 2, True)


def test_with_more_arms_a_chance_that_differs_by_row_needs_one_for_each_arm() -> None:
    rows = frame(action=["gift", "note", "control"] * 2, propensity=[0.2, 0.5, 0.3, 0.6, 0.1, 0.3])
    assert not chances(rows)[1]
    every = ['{"gift": 0.2, "note": 0.5, "Control": 0.3}'] * 3 + ['{"gift": 0.6, "note": 0.1, "Control": 0.3}'] * 3
    assert chances(rows.assign(propensities=every)) == ([0.4, 0.5, 0.4, 0.6667, 0.5, 0.6667], True)


def test_days_and_campaigns_with_chances_of_their_own_are_not_mixed() -> None:
    rows = frame(action=["gift", "control"] * 3, propensity=[0.5, 0.5, 0.9, 0.1, 0.2, 0.8],
                 exposed_on=[1, 1, 2, 2, 2, 2], campaign_id=["a", "a", "a", "a", "b", "b"])  # fmt: skip
    assert chances(rows) == ([0.5, 0.5, 0.9, 0.9, 0.2, 0.2], True)


def test_a_sampled_arm_is_less_frequent_among_the_rows() -> None:
    rows = frame(action=["gift", "control"], propensity=[0.5, 0.5], sampled_share=[0.25, 1.0])
    assert chances(rows) == ([0.2, 0.2], True)


def test_where_nothing_is_stated_the_shares_of_each_day_are_used() -> None:
    rows = frame(action=["gift"] * 90 + ["control"] * 10 + ["gift"] * 10 + ["control"] * 90,
                 exposed_on=[1] * 100 + [2] * 100)  # fmt: skip
    shares, is_complete = chances(rows)
    assert is_complete and shares[0] > 0.8 and shares[150] < 0.2

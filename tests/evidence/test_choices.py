"""Claims about choices in simulated wholesalers: 200 bootstrap weeks, with and without the three largest customers.

Fewer weeks by ``MICROSEG_EVIDENCE_WEEKS``. What squared error would have decided is printed beside it (``-s``).
"""

from __future__ import annotations

import os
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import pytest

from ml.features import CustomerHistory
from ml.journeys.transitions import TransitionSpec
from ml.lifecycle import LifecycleModel, LifecycleSpec
from ml.lifecycle import train as train_lifecycle
from ml.value import ValueModel, ValueSpec, train
from tests.evidence.seeds import SEEDS, only_in_evidence
from tests.steadiness import (
    ActionWeek,
    LayerWeek,
    Steadiness,
    TransitionWeek,
    ValueWeek,
    lifecycle_decision,
    spend_of,
    steadiness,
    without_models,
)
from tests.wholesale import START, shop_with_a_giant, wholesaler

pytestmark = only_in_evidence
WEEKS = int(os.environ.get("MICROSEG_EVIDENCE_WEEKS", "200"))
MIN_STEADY_SHARE = 0.95
CUSTOMERS = 5_000
AS_OF = START + timedelta(days=480)


@lru_cache(maxsize=1)
def business(seed: int, season: float) -> CustomerHistory:
    return wholesaler(CUSTOMERS, seed=seed, season=season)


def printed(family: str, seed: int, result: Steadiness) -> Steadiness:
    print(f"{family}, draw {seed}: {result.share:.1%} of {result.weeks} weeks alike; {dict(result.decisions)}")
    return result


@pytest.mark.parametrize("has_incumbent", [False, True])
@pytest.mark.parametrize("season", [0.0, 1.0])
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_three_customers_reverse_no_decision_about_value(seed: int, season: float, has_incumbent: bool) -> None:
    week = ValueWeek.of(business(seed, season), AS_OF, ValueSpec())
    squares = week.by_squared_error(has_incumbent=has_incumbent)
    printed("value by squared error", seed, steadiness(squares, week.spend, weeks=WEEKS, seed=seed))
    result = steadiness(week.decision(has_incumbent=has_incumbent), week.spend, weeks=WEEKS, seed=seed)
    assert printed("value", seed, result).share >= MIN_STEADY_SHARE


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_three_customers_reverse_no_decision_about_stages(seed: int) -> None:
    facts, spec, before = business(seed, 0.0), LifecycleSpec(), AS_OF - timedelta(days=56)
    first = train_lifecycle(facts.until(before), before, spec, None, value_model=None, value_spec=ValueSpec()).model
    assert isinstance(first, LifecycleModel)
    decision = lifecycle_decision(facts, AS_OF, spec, first)
    assert (
        printed("stages", seed, steadiness(decision, spend_of(facts, AS_OF), weeks=WEEKS, seed=seed)).share
        >= MIN_STEADY_SHARE
    )


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_three_customers_reverse_no_decision_about_layers_and_transitions(seed: int) -> None:
    facts, models = business(seed, 0.0), without_models()
    layers = LayerWeek.of(facts, AS_OF, models)
    assert (
        printed("layers", seed, steadiness(layers.decision, layers.spend, weeks=WEEKS, seed=seed)).share
        >= MIN_STEADY_SHARE
    )
    steps = TransitionWeek.of(facts, AS_OF, models, TransitionSpec())
    assert (
        printed("transitions", seed, steadiness(steps.decision, steps.spend, weeks=WEEKS, seed=seed)).share
        >= MIN_STEADY_SHARE
    )


@pytest.mark.parametrize("moved", [0.1, 1.0])
@pytest.mark.parametrize("effect", [0.0, 20.0])
@pytest.mark.parametrize("seed", SEEDS[:2])
def test_three_customers_reverse_no_decision_about_effects(seed: int, effect: float, moved: float) -> None:
    week = ActionWeek.of(CUSTOMERS, seed=seed, effect=effect, moved=moved)
    result = steadiness(week.decision, week.spend, weeks=WEEKS, seed=seed)
    assert printed("effects", seed, result).share >= MIN_STEADY_SHARE


@pytest.mark.parametrize("seed", SEEDS)
def test_400_shoppers_beside_one_giant_get_the_method_that_is_best_for_them(seed: int) -> None:
    as_of = START + timedelta(days=330)
    facts = shop_with_a_giant(seed=seed).until(as_of)
    training = train(facts, as_of, ValueSpec(horizon_days=60, snapshots=3), None)
    model, holdout = training.model, date.fromisoformat(training.params["holdout_day"])
    assert isinstance(model, ValueModel)
    assert model.backtest_fit is not None
    snapshot = facts.until(holdout).snapshot_of(holdout)
    spend = facts.outcomes(facts.known([holdout]), 60, until=as_of)["spend"].to_numpy()
    shoppers = np.array(snapshot["customer_id"].to_pylist()) != "c00400"
    errors = {
        method: float(np.sqrt(np.mean((spend - predicted["expected_spend"])[shoppers] ** 2)))
        for method, predicted in model.backtest_fit.candidates(snapshot).items()
    }
    print(f"draw {seed}: {model.method}, {errors}")
    assert training.decision == "challenger"
    assert errors[model.method] <= 1.06 * min(errors.values())

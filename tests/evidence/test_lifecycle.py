"""Windows and stages against the truth of simulated businesses; `python -m ml.lifecycle.evidence` prints the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from ml.engine import DuckDB
from ml.lifecycle import LifecycleModel, LifecycleSpec, train
from ml.lifecycle.evidence import (
    END,
    KINDS,
    NEW_FOR,
    PRESETS,
    Kind,
    Preset,
    agreement_by_stage,
    business,
    estimated_window,
    true_window,
)
from ml.value import ValueSpec
from tests.evidence.seeds import SEEDS

SPEC = LifecycleSpec()
truth = cache(true_window)


@pytest.mark.parametrize("kind", KINDS)
def test_the_churn_window_lies_where_the_true_chance_of_a_return_crosses_the_threshold(kind: Kind) -> None:
    true, _ = truth(kind)
    windows = [estimated_window(kind, 4_000, seed) for seed in SEEDS[:5]]
    assert windows == pytest.approx([true] * len(windows), rel=0.15)


@pytest.mark.parametrize("kind", PRESETS)
def test_stages_agree_with_the_truth_as_well_as_under_the_true_windows(kind: Preset) -> None:
    for stage in agreement_by_stage(kind, 5_000, 0, truth(kind)[0], replace(SPEC, business=kind)):
        assert stage.estimated.f1 >= 0.97 * stage.ceiling.f1, stage
        assert stage.ceiling.customers > 100, stage


@pytest.mark.parametrize("kind", PRESETS)
def test_half_a_year_of_weekly_refits_moves_hardly_anybody_and_stays_with_the_truth(kind: Preset) -> None:
    facts, _ = business(DuckDB(threads=1), kind, 4_000, 0)
    incumbent: LifecycleModel | None = None
    for back in range(26, -1, -1):
        day = END - timedelta(days=7 * back)
        training = train(
            facts.until(day), day, replace(SPEC, business=kind), incumbent, value_model=None, value_spec=ValueSpec()
        )
        if incumbent is not None and training.decision == "challenger":
            assert training.metrics["moved_by_refit"] <= 0.01
        if training.decision == "challenger":
            assert isinstance(training.model, LifecycleModel)
            incumbent = training.model
    assert incumbent is not None
    assert incumbent.churn_after == pytest.approx(truth(kind)[0], rel=0.15)
    assert incumbent.new_for == NEW_FOR

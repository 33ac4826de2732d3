"""Claims about the reasons of a stage: they are the rules' own comparisons, with the customer's figures."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ml.engine import DuckDB
from ml.lifecycle import PRESET_STAGES, PRESET_SUB_STAGES, LifecycleModel, StageRule
from ml.lifecycle.reasons import verdicts
from tests.ml.test_lifecycle import CUT, customer, staged

ENGINE = DuckDB(threads=1)
RETAIL = PRESET_STAGES["retail"]


def reasons(known: dict[str, Any], model: LifecycleModel = CUT) -> list[tuple[str, bool, list[tuple[Any, ...]]]]:
    found = verdicts(ENGINE, customer(**known), RETAIL, model.parameters())
    return [
        (one.rule, one.holds, [(c.left, c.as_it_is, c.threshold, c.value) for c in one.comparisons]) for one in found
    ]


def test_a_churned_customer_is_told_the_silence_and_the_window() -> None:
    assert reasons({"recency_days": 75})[-1] == ("churn", True, [("recency_days", ">", 60, 75)])


def test_an_active_customer_is_told_what_keeps_it_out_of_every_other_stage() -> None:
    found = {rule: comparisons for rule, holds, comparisons in reasons({}) if not holds}
    assert found["churn"] == [("recency_days", "<=", 60, 3)]
    assert found["new"] == [("tenure_days", ">=", 28, 300)]
    assert found["star"] == [("ltv", "<", 500.0, 120.0)]
    assert reasons({})[-1][:2] == ("active", True)


def test_an_unknown_cut_decides_nothing_and_is_told_as_unknown() -> None:
    star = verdicts(ENGINE, customer(), [StageRule("star", "ltv >= $star_cut")], LifecycleModel().parameters())[0]
    assert not star.holds
    assert [(c.threshold, c.holds) for c in star.comparisons] == [(None, None)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 120), st.integers(0, 120), st.integers(0, 90), st.floats(0, 900))
def test_the_last_verdict_is_the_stage_that_the_query_gives(recency: int, more: int, gap: int, ltv: float) -> None:
    known = {"recency_days": recency, "tenure_days": recency + more, "comeback_gap_days": gap, "ltv": ltv}
    stage, sub_stage = staged(customer(**known))[0]
    assert verdicts(ENGINE, customer(**known), RETAIL, CUT.parameters())[-1].rule == stage
    subs = [rule for rule in PRESET_SUB_STAGES if rule.stage == stage]
    held = [one.rule for one in verdicts(ENGINE, customer(**known), subs, CUT.parameters()) if one.holds]
    assert (held or [stage]) == [sub_stage]

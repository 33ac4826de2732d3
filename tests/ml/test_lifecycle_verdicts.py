"""Claims about the reasons of a stage: they are the rules' own comparisons, with the customer's figures."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ml.engine import DuckDB
from ml.lifecycle import LifecycleModel, StageRule
from ml.lifecycle.presets import PRESET_STAGES, PRESET_SUB_STAGES
from ml.lifecycle.verdicts import verdicts
from tests.ml.test_lifecycle import CUT, customer, staged

ENGINE = DuckDB(threads=1)
RETAIL = PRESET_STAGES["retail"]


def reasons(known: dict[str, Any], model: LifecycleModel = CUT) -> list[tuple[str, bool, list[tuple[Any, ...]]]]:
    return [
        (verdict.rule, verdict.holds, [(c.left, c.true_operator, c.threshold, c.value) for c in verdict.comparisons])
        for verdict in verdicts(ENGINE, customer(**known), RETAIL, model.parameters())
    ]


def test_the_reason_of_churn_is_the_silence_and_the_window() -> None:
    assert reasons({"recency_days": 75})[-1] == ("churn", True, [("recency_days", ">", 60, 75)])


def test_the_reasons_of_an_active_customer_rule_out_every_other_stage() -> None:
    ruled_out = {rule: comparisons for rule, holds, comparisons in reasons({}) if not holds}
    assert ruled_out["churn"] == [("recency_days", "<=", 60, 3)]
    assert ruled_out["new"] == [("tenure_days", ">=", 28, 300)]
    assert ruled_out["star"] == [("ltv", "<", 500.0, 120.0)]
    assert reasons({})[-1][:2] == ("active", True)


def test_an_unknown_cut_decides_nothing_and_is_reported_as_unknown() -> None:
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
    holding = [verdict.rule for verdict in verdicts(ENGINE, customer(**known), subs, CUT.parameters()) if verdict.holds]
    assert (holding or [stage]) == [sub_stage]

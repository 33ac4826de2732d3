"""Customers at the edges, from their rows to their stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec
from ml.lifecycle import LifecycleModel, LifecycleSpec, assign_stages, continue_spells, train
from ml.lifecycle.reasons import CHOICE_WORDS, ChoiceCode, WindowCode
from ml.reasons import Reason
from ml.value import ValueSpec, baseline
from tests.ml.vocabularies import is_said_by_its_figures, lacking, remarks

FIRST, LAST = date(2023, 1, 1), date(2024, 12, 31)
ENGINE = DuckDB(threads=1)
SPEC = LifecycleSpec()
Row = tuple[str, date, float]


def facts_of(rows: Sequence[Row], **others: Mapping[str, Sequence[Any]]) -> CustomerHistory:
    """Facts of transactions at noon; other input tables as columns."""

    def table(name: str, values: Mapping[str, Sequence[Any]], days: Sequence[date]) -> pa.Table:
        schema = tables.INPUTS[name].schema()
        columns = {f.name: pa.array(values.get(f.name, [None] * len(days)), f.type) for f in schema}
        return pa.table(columns).append_column("day", pa.array(days, pa.date32()))

    days = [day for _, day, _ in rows]
    bought: dict[str, Sequence[Any]] = {
        "customer_id": [customer for customer, _, _ in rows],
        "occurred_at": [datetime.combine(day, time(12)) for day in days],
        "amount": [amount for *_, amount in rows],
    }
    inputs = {name: table(name, others.get(name, {}), others.get(name, {}).get("day", [])) for name in tables.INPUTS}
    return CustomerHistory.from_rows(
        ENGINE, FeatureSpec(), **{**inputs, "transactions": table("transactions", bought, days)}
    )


def stages(facts: CustomerHistory, day: date, model: LifecycleModel | None = None) -> dict[str, tuple[str, str]]:
    features = facts.until(day).snapshot_of(day)
    rows = assign_stages(ENGINE, features, baseline(features, ValueSpec()), model, SPEC).to_pylist()
    return {row["customer_id"]: (row["stage"], row["sub_stage"]) for row in rows}


def ago(days: int) -> date:
    return LAST - timedelta(days=days)


@pytest.mark.parametrize(
    ("rows", "stage"),
    [
        ([("a", ago(10), 5.0)], "new"),
        ([("a", ago(400), 5.0)], "churn"),
        ([("a", ago(40), 5.0)], "active"),
        ([("a", ago(10), -5.0)], "no-sale"),
        ([("a", ago(300), 5.0), ("a", ago(3), -9.0)], "churn"),
        ([("a", ago(100), 5.0), ("a", ago(50), 5.0), ("a", ago(3), -90.0)], "active"),
        ([("a", FIRST, 5.0)], "churn"),
        ([("a", LAST, 5.0)], "new"),
        ([("a", FIRST, 5.0), ("a", LAST, 5.0)], "reengaged"),
        ([("a", ago(5), 5.0), ("a", ago(5), 5.0)], "new"),
        ([("a", ago(10), 0.0)], "no-sale"),
    ],
    ids=[
        "one purchase", "one purchase long ago", "one purchase of some time ago", "refunds only",
        "a refund is no purchase", "negative net value", "on the first day only", "on the last day only",
        "on the first day and the last", "the same second twice", "an order of nothing",
    ],
)  # fmt: skip
def test_a_customer_at_the_edge_has_the_right_stage(rows: list[Row], stage: str) -> None:
    assert stages(facts_of(rows), LAST)["a"][0] == stage


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(10, -50.0)], ("no-sale", "refund-only")),
        ([(10, -50.0), (9, 0.0)], ("no-sale", "refund-only")),
        ([(10, 80.0), (10, -80.0)], ("no-sale", "all-returned")),
        ([(10, 80.0), (10, -80.0), (3, -20.0)], ("no-sale", "all-returned")),
        ([(10, 0.0)], ("no-sale", "free-order")),
        ([(10, 80.0), (8, -80.0)], ("new", "all-returned")),
        ([(40, 80.0), (8, -95.5)], ("active", "all-returned")),
        ([(90, 0.1), (90, 0.2), (80, -0.3)], ("churn", "all-returned")),
        ([(200, 80.0), (100, -80.0), (20, 5.0), (19, -5.0)], ("reengaged", "all-returned")),
        ([(10, 80.0), (8, -79.0)], ("new", "one-time-only")),
    ],
)
def test_who_brought_no_sale_or_gave_all_back_is_called_so(
    rows: list[tuple[int, float]], expected: tuple[str, str]
) -> None:
    """Never a prospect, and never advised to be won for the first, or onboarded for the second purchase."""
    other: list[Row] = [("z", ago(5), 500.0)] if expected[1] == "one-time-only" else []
    facts = facts_of([*(("a", ago(back), amount) for back, amount in rows), *other])
    assert stages(facts, LAST)["a"] == expected
    if expected[1] != "one-time-only":
        treatment = SPEC.treatments()["/".join(expected)]
        assert treatment
        assert "first purchase" not in treatment and "second purchase" not in treatment


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 120), st.integers(-9, 9)), min_size=1, max_size=6))
def test_nobody_with_a_transaction_is_a_prospect_and_no_sale_is_who_never_had_an_order(
    rows: list[tuple[int, int]],
) -> None:
    """Lines of one day are one order here: they share their stamp."""
    sums: dict[int, int] = {}
    for back, amount in rows:
        sums[back] = sums.get(back, 0) + amount
    stage, _ = stages(facts_of([("a", ago(back), float(amount)) for back, amount in rows]), LAST)["a"]
    assert stage != "prospect"
    assert (stage == "no-sale") == all(amount <= 0 for amount in sums.values())


def test_in_a_game_things_for_nothing_are_fun_and_who_was_only_paid_back_is_not() -> None:
    facts = facts_of([("a", ago(10), 0.0), ("b", ago(10), -5.0)])
    features = facts.snapshot_of(LAST)
    gaming = LifecycleSpec(business="gaming")
    assigned = assign_stages(ENGINE, features, baseline(features, ValueSpec()), None, gaming)
    assert list(zip(assigned["stage"].to_pylist(), assigned["sub_stage"].to_pylist(), strict=True)) == [
        ("fun", "fun"),
        ("no-sale", "refund-only"),
    ]


def test_who_returns_after_400_days_is_reengaged_for_a_month_and_then_active() -> None:
    facts = facts_of([("a", ago(500), 9.0), ("a", ago(460), 9.0), ("a", ago(60), 9.0), ("a", ago(30), 9.0)])
    path = [stages(facts, ago(back))["a"][0] for back in (61, 60, 31, 30, 0)]
    assert path == ["churn", "reengaged", "reengaged", "active", "active"]


def test_two_lines_of_the_same_second_are_one_purchase() -> None:
    facts = facts_of([("a", ago(9), 5.0), ("a", ago(9), 5.0)])
    assert stages(facts, LAST) == {"a": ("new", "one-time-only")}
    assert facts.snapshot_of(LAST)["purchase_days"].to_pylist() == [1]


def test_whoever_is_known_and_never_bought_is_a_prospect() -> None:
    seen: dict[str, Sequence[Any]] = {
        "customer_id": ["b"],
        "event_type": ["visit"],
        "occurred_at": [datetime(2024, 5, 1)],
        "day": [ago(9)],
    }
    assert stages(facts_of([("a", ago(9), 5.0)], events=seen), LAST)["b"] == ("prospect", "prospect")


def test_a_business_without_customers_has_no_stages_and_says_why_there_is_no_model() -> None:
    facts = facts_of([])
    assert stages(facts, LAST) == {}
    training = train(facts, LAST, SPEC, None, value_model=None, value_spec=ValueSpec())
    assert (training.model, training.decision) == (None, "none")
    assert lacking(training) == Reason(ChoiceCode.TOO_FEW_BUYERS, {"buyers": 0, "needed": 200})


def test_thirty_customers_are_staged_by_the_preset_and_the_fit_says_why() -> None:
    facts = facts_of([(f"c{i:02d}", ago(i * 3), 5.0 + i) for i in range(30)])
    assigned = stages(facts, LAST)
    assert len(assigned) == 30
    assert {stage for stage, _ in assigned.values()} == {"new", "active", "churn"}
    training = train(facts, LAST, SPEC, None, value_model=None, value_spec=ValueSpec())
    assert training.reason == "not enough customers: 30 have ever bought, 200 are asked for"


def test_two_hundred_customers_of_a_week_get_a_model_with_the_first_windows() -> None:
    facts = facts_of([(f"c{i:03d}", ago(i % 7), 5.0 + i) for i in range(250)])
    training = train(facts, LAST, SPEC, None, value_model=None, value_spec=ValueSpec())
    assert isinstance(training.model, LifecycleModel)
    assert (training.model.churn_after, training.model.new_for) == (60, 28)
    assert is_said_by_its_figures(training, CHOICE_WORDS)
    assert remarks(training) == [WindowCode.CHURN_UNWATCHED, WindowCode.NEW_UNSEEN]
    for draw in training.figures.values():
        assert draw().axes[0].get_title()


def test_spells_are_counted_from_the_first_day_on() -> None:
    """A customer's whole life, day by day: each spell knows the stage before it and how often it was here."""
    facts = facts_of(
        [("a", FIRST, 5.0), ("a", FIRST + timedelta(days=100), 5.0), ("a", FIRST + timedelta(days=300), 5.0)]
    )
    spells: list[tuple[str, int, str | None, int, str]] = []
    yesterday = None
    features = facts.snapshot_of(*(FIRST + timedelta(days=number) for number in range(365)))
    assigned = assign_stages(ENGINE, features, baseline(features, ValueSpec()), None, SPEC)
    for number in range(365):
        yesterday = continue_spells(ENGINE, assigned.slice(number, 1), yesterday)
        row = yesterday.to_pylist()[0]
        since = (row["stage_since"] - FIRST).days
        entry = (row["stage"], since, row["previous_stage"], row["earlier_spells"], row["path"])
        if not spells or spells[-1] != entry:
            spells.append(entry)
    assert spells == [
        ("new", 0, None, 0, "new"),
        ("active", 28, "new", 0, "new/active"),
        ("churn", 61, "active", 0, "new/active/churn"),
        ("reengaged", 100, "churn", 0, "new/active/churn/reengaged"),
        ("active", 130, "reengaged", 1, "new/active/churn/reengaged/active"),
        ("churn", 161, "active", 1, "new/active/churn/reengaged/active/churn"),
        ("reengaged", 300, "churn", 1, "new/active/churn/reengaged/active/churn/reengaged"),
        ("active", 330, "reengaged", 2, "new/active/churn/reengaged/active/churn/reengaged/active"),
        ("churn", 361, "active", 2, "new/active/churn/reengaged/active/churn/reengaged/active/churn"),
    ]

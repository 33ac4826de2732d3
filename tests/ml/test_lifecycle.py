"""Claims about the lifecycle: one stage each, thresholds that stay put, spells that carry on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec, features_table
from ml.lifecycle import (
    CUTS,
    LifecycleModel,
    LifecycleSpec,
    StageRule,
    SubStageRule,
    assign_stages,
    continue_spells,
    train,
)
from ml.lifecycle.cuts import cut_for_share
from ml.lifecycle.presets import PRESET_SUB_STAGES
from ml.lifecycle.reasons import CHOICE_WORDS, ChoiceCode
from ml.lifecycle.training import freeze
from ml.rules import RuleError
from ml.value import ValueSpec, baseline
from tests.ml.vocabularies import is_said_by_its_figures

DAY = date(2024, 6, 1)
ENGINE = DuckDB(threads=1)
SPEC = LifecycleSpec()
CUT = LifecycleModel(
    star_cut=500.0, new_ltv_cut=200.0, active_median_ltv=100.0, active_median_orders=5.0,
    active_high_orders=10.0, active_high_spend=300.0, active_high_basket=60.0,
)  # fmt: skip


def customer(**known: Any) -> dict[str, Any]:
    """A steady customer, but for what is `known` of them."""
    steady = {
        "day": DAY, "known_days": 300, "tenure_days": 300, "recency_days": 3, "purchase_days": 40,
        "comeback_gap_days": 0, "mean_gap_days": 7.0, "orders_28d": 4, "orders_prev_28d": 4, "orders_90d": 6,
        "spend_28d": 40.0,
        "spend_prev_28d": 40.0, "spend_90d": 120.0, "average_order_90d": 20.0, "ltv": 120.0,
    }  # fmt: skip
    return steady | known


def tables_of(*customers: dict[str, Any]) -> tuple[pa.Table, pa.Table]:
    """Snapshot and value of hand-made customers."""
    rows = [{"customer_id": f"c{number:03d}", **row} for number, row in enumerate(customers)]
    schema = pa.schema([*features_table(FeatureSpec()).schema(), pa.field("day", pa.date32())])
    features = pa.table({f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in schema})
    value = pa.table(
        {
            "customer_id": features["customer_id"],
            "day": features["day"],
            "ltv": pa.array([row["ltv"] for row in rows], pa.float64()),
        }
    )
    return features, value


def staged(
    *customers: dict[str, Any], model: LifecycleModel | None = CUT, spec: LifecycleSpec = SPEC
) -> list[tuple[str, str]]:
    stages = assign_stages(ENGINE, *tables_of(*customers), model, spec)
    return list(zip(stages["stage"].to_pylist(), stages["sub_stage"].to_pylist(), strict=True))


PROSPECT = customer(tenure_days=None, recency_days=None, purchase_days=0, mean_gap_days=None, ltv=0.0)


@pytest.mark.parametrize(
    ("known", "stage", "sub_stage"),
    [
        (PROSPECT, "prospect", "prospect"),
        ({"recency_days": 61}, "churn", "formerly-active"),
        ({"recency_days": 61, "balance": 4.0}, "churn", "formerly-active-with-balance"),
        ({"recency_days": 61, "purchase_days": 1, "balance": 4.0}, "churn", "single-purchase"),
        ({"comeback_gap_days": 61}, "reengaged", "reengaged"),
        ({"comeback_gap_days": 61, "ltv": 900.0}, "reengaged", "reengaged"),
        ({"comeback_gap_days": 60}, "active", "steady"),
        ({"tenure_days": 27, "purchase_days": 1}, "new", "one-time-only"),
        ({"tenure_days": 27, "purchase_days": 1, "ltv": 250.0}, "new", "high-potential"),
        ({"tenure_days": 27, "purchase_days": 3}, "new", "settling"),
        ({"tenure_days": 28}, "active", "steady"),
        ({"ltv": 500.0}, "star", "star"),
        ({"recency_days": 20, "mean_gap_days": 7.0}, "active", "at-risk"),
        ({"recency_days": 20, "mean_gap_days": 7.0, "ltv": 50.0}, "active", "steady"),
        ({"recency_days": 20, "mean_gap_days": None}, "active", "steady"),
        ({"orders_90d": 12, "spend_90d": 400.0}, "active", "best"),
        ({"average_order_90d": 80.0, "orders_90d": 3}, "active", "big-basket"),
        ({"spend_28d": 90.0, "orders_28d": 5}, "active", "rising"),
        ({}, "active", "steady"),
    ],
)
def test_the_retail_rules_name_what_a_marketer_would(known: dict[str, Any], stage: str, sub_stage: str) -> None:
    assert staged(customer(**known)) == [(stage, sub_stage)]


def test_who_plays_without_paying_is_fun_in_gaming() -> None:
    gaming = LifecycleSpec(business="gaming")
    assert gaming.stage_names() == ("no-sale", "fun", "churn", "reengaged", "new", "star", "active")
    assert staged(PROSPECT, customer(), model=None, spec=gaming) == [("fun", "fun"), ("active", "steady")]


def test_without_a_model_nobody_is_a_star_and_no_cut_holds() -> None:
    stages = staged(
        customer(ltv=1e9), customer(tenure_days=3, ltv=1e9), customer(orders_90d=99, spend_90d=1e6), model=None
    )
    assert stages == [("active", "steady"), ("new", "settling"), ("active", "steady")]


def test_without_a_model_the_top_tenth_of_first_purchases_has_high_potential() -> None:
    """Of the new customers of the day; what others bought first does not count."""
    people = [customer(tenure_days=5, first_day_spend=float(spend), ltv=0.0) for spend in range(30)]
    stages = staged(*people, *[customer(first_day_spend=1e6)] * 50, model=None)
    assert [sub for stage, sub in stages[:30]] == ["settling"] * 27 + ["high-potential"] * 3


def test_without_a_model_a_day_alone_has_the_same_sub_stages_as_in_a_week() -> None:
    people = [
        customer(day=DAY + timedelta(days=number % 3), tenure_days=5, first_day_spend=float(number))
        for number in range(90)
    ]
    people += [customer(day=DAY + timedelta(days=3))]
    features, value = tables_of(*people)
    together = assign_stages(ENGINE, features, value, None, SPEC).to_pylist()
    assert Counter(row["sub_stage"] for row in together) == {"settling": 81, "high-potential": 9, "steady": 1}
    for day in sorted({row["day"] for row in people}):
        of_day = [table.filter(pc.equal(table["day"], pa.scalar(day, pa.date32()))) for table in (features, value)]
        alone = assign_stages(ENGINE, of_day[0], of_day[1], None, SPEC).to_pylist()
        assert alone == [row for row in together if row["day"] == day]


def test_without_a_model_the_windows_are_the_specs() -> None:
    spec = LifecycleSpec(churn_after_days=20, new_for_days=10)
    assert staged(customer(recency_days=21), customer(tenure_days=15), model=None, spec=spec) == [
        ("churn", "formerly-active"),
        ("active", "steady"),
    ]


numbers = st.one_of(st.none(), st.integers(-5, 400))
anybody = st.fixed_dictionaries({
    "tenure_days": numbers, "recency_days": numbers, "comeback_gap_days": numbers, "purchase_days": numbers,
    "spend_28d": numbers, "orders_90d": numbers, "balance": numbers, "mean_gap_days": numbers, "ltv": numbers,
})  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.lists(anybody, max_size=30), st.sampled_from(["retail", "gaming"]), st.booleans())
def test_every_customer_has_exactly_one_stage(people: list[dict[str, Any]], business: Any, has_model: bool) -> None:
    spec = LifecycleSpec(business=business)
    stages = staged(*(customer(**known) for known in people), model=CUT if has_model else None, spec=spec)
    assert len(stages) == len(people)
    allowed = {(name, name) for name in spec.stage_names()} | {(rule.stage, rule.name) for rule in PRESET_SUB_STAGES}
    assert set(stages) <= allowed


def test_who_has_no_value_yet_still_has_a_stage() -> None:
    features, value = tables_of(customer(), customer())
    stages = assign_stages(ENGINE, features, value.slice(0, 1), CUT, SPEC)
    assert stages["stage"].to_pylist() == ["active", "active"]


def test_a_day_alone_has_the_same_stages_as_in_a_week() -> None:
    people = [customer(day=DAY + timedelta(days=k), recency_days=57 + k, ltv=90.0 * k) for k in range(8)]
    together = assign_stages(ENGINE, *tables_of(*people), CUT, SPEC)
    for day in sorted({row["day"] for row in people}):
        features, value = tables_of(*people)
        of_day = [table.filter(pc.equal(table["day"], pa.scalar(day, pa.date32()))) for table in (features, value)]
        alone = assign_stages(ENGINE, of_day[0], of_day[1], CUT, SPEC)
        assert alone.to_pylist() == [row for row in together.to_pylist() if row["day"] == day]


# ── a project's own stages ────────────────────────────────────────────────────────────────────────────────────────


def test_a_projects_own_stages_replace_the_preset() -> None:
    spec = LifecycleSpec(
        stages=(StageRule("big spender", "ltv >= 100 and orders_90d > 1"), StageRule("everybody", "TRUE")),
        sub_stages=(SubStageRule("everybody", "quiet", "recency_days > 10"),),
    )
    people = (customer(ltv=150.0), customer(ltv=5.0, recency_days=11), customer(ltv=5.0))
    assert staged(*people, model=None, spec=spec) == [
        ("big spender", "big spender"),
        ("everybody", "quiet"),
        ("everybody", "everybody"),
    ]


@pytest.mark.parametrize(
    ("settings_", "says"),
    [
        ({"stages": (StageRule("a", "ltv > 1"),)}, "last lifecycle stage, 'a'.*must be \"true\""),
        ({"stages": (StageRule("a", "true"), StageRule("b", "true"))}, "'a' takes everybody"),
        ({"stages": (StageRule("a", "ltv > 1"), StageRule("a", "true"))}, "'a' is given twice"),
        ({"stages": (StageRule("a/b", "true"),)}, "stage 'a/b'"),
        ({"stages": (StageRule("a", "ltv > $star_cutt"), StageRule("b", "true"))}, "did you mean 'star_cut'"),
        ({"stages": (StageRule("a", "(select 1)"), StageRule("b", "true"))}, "stage 'a'"),
        ({"sub_stages": (SubStageRule("actve", "x", "true"),)}, "did you mean 'active'"),
        ({"churn_after_days": 7}, "between 14 and 365"),
        ({"star_share": 10.0}, "0.10"),
        ({"new_for_days": 0}, "at least 1"),
        ({"business": "bank"}, "business is 'bank'"),
    ],
)
def test_a_mistake_in_the_stages_is_reported_clearly(settings_: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LifecycleSpec(**settings_)


def test_a_column_that_does_not_exist_is_named_with_the_rule_it_stands_in() -> None:
    spec = LifecycleSpec(stages=(StageRule("late", "recency_day > 3"), StageRule("rest", "true")))
    with pytest.raises(RuleError, match=r"stage 'late'.*did you mean 'recency_days'"):
        staged(customer(), model=None, spec=spec)


def test_every_preset_rule_suggests_a_treatment() -> None:
    treatments = SPEC.treatments()
    assert all(treatments.values())
    assert len(treatments) == len(SPEC.rules()) + len(SPEC.sub_rules())


# ── spells ────────────────────────────────────────────────────────────────────────────────────────────────────────


def stages_of(day: date, **stages: str) -> pa.Table:
    return pa.table(
        {
            "customer_id": pa.array(list(stages), pa.string()),
            "day": pa.array([day] * len(stages), pa.date32()),
            "stage": pa.array(list(stages.values()), pa.string()),
            "sub_stage": pa.array(list(stages.values()), pa.string()),
        }
    )


def spells(table: pa.Table) -> dict[str, tuple[str, date, str | None]]:
    return {row["customer_id"]: (row["stage"], row["stage_since"], row["previous_stage"]) for row in table.to_pylist()}


def test_a_spell_carries_on_until_the_stage_changes() -> None:
    days = [DAY + timedelta(days=k) for k in range(3)]
    first = continue_spells(ENGINE, stages_of(days[0], a="new", b="active"), None)
    assert spells(first) == {"a": ("new", days[0], None), "b": ("active", days[0], None)}
    second = continue_spells(ENGINE, stages_of(days[1], a="active", b="active", c="new"), first)
    assert spells(second) == {
        "a": ("active", days[1], "new"),
        "b": ("active", days[0], None),
        "c": ("new", days[1], None),
    }
    third = continue_spells(ENGINE, stages_of(days[2], a="active", b="star", c="new"), second.drop_columns("day"))
    assert spells(third) == {
        "a": ("active", days[1], "new"),
        "b": ("star", days[2], "active"),
        "c": ("new", days[1], None),
    }
    assert third.column_names == ["customer_id", "day", *tables.LIFECYCLE_STAGES.names[1:]]
    tables.LIFECYCLE_STAGES.conform(third)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["new", "active", "star"]), min_size=1, max_size=8))
def test_a_spell_is_as_long_as_its_run_of_equal_stages(path: list[str]) -> None:
    yesterday: pa.Table | None = None
    for number, stage in enumerate(path):
        yesterday = continue_spells(ENGINE, stages_of(DAY + timedelta(days=number), a=stage), yesterday)
    assert yesterday is not None
    run = next((k for k, stage in enumerate(reversed(path)) if stage != path[-1]), len(path))
    before = path[-1 - run] if run < len(path) else None
    assert spells(yesterday)["a"] == (path[-1], DAY + timedelta(days=len(path) - run), before)
    runs = [stage for stage, _ in groupby(path)]
    assert yesterday["path"].to_pylist() == ["/".join(runs)]
    assert yesterday["earlier_spells"].to_pylist() == [runs[:-1].count(path[-1])]


# ── the weekly fit ────────────────────────────────────────────────────────────────────────────────────────────────


def shop(customers: int, *, scale: float = 1.0, growing: float = 0.0) -> CustomerHistory:
    """Weekly buyers; basket sizes are spread evenly, and from day 120 on those of `growing` of them are tenfold."""
    rows = []
    for number in range(customers):
        for day in range(number % 7, 200, 7):
            growth = 10.0 if day >= 120 and number < growing * customers else 1.0
            rows.append((f"c{number:04d}", DAY + timedelta(days=day), round(scale * (1 + number) * growth, 2)))
    names, days, amounts = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
    schema = pa.schema([*tables.CUSTOMER_DAYS.schema(), pa.field("day", pa.date32())])
    known = {"customer_id": names, "day": days, "amount": amounts, "orders": [1] * len(rows), "lines": [1] * len(rows)}
    filled = {"events": 0, "exposures": 0, "items": 1.0, "refunds": 0.0, "discount": 0.0, "is_registered": False}
    columns = {f.name: pa.array(known.get(f.name, [filled.get(f.name)] * len(rows)), f.type) for f in schema}
    nothing = pa.schema([*tables.CATEGORY_DAYS.schema(), pa.field("day", pa.date32())]).empty_table()
    people = pa.schema([("customer_id", pa.string()), ("day", pa.date32())]).empty_table()
    return CustomerHistory(ENGINE, FeatureSpec(), pa.table(columns), nothing, people)


def week(
    facts: CustomerHistory, as_of: date, spec: LifecycleSpec = SPEC, incumbent: LifecycleModel | None = None
) -> Any:
    return train(facts.until(as_of), as_of, spec, incumbent, value_model=None, value_spec=ValueSpec())


EARLY, LATE = DAY + timedelta(days=110), DAY + timedelta(days=190)


def test_the_first_fit_makes_a_tenth_of_the_active_stars() -> None:
    facts = shop(300)
    training = week(facts, EARLY)
    assert training.decision == "challenger"
    assert training.metrics["share_star"] == pytest.approx(0.1, abs=0.005)
    assert training.model.parameters().keys() >= set(CUTS)
    features = facts.snapshot_of(EARLY)
    stages = assign_stages(ENGINE, features, baseline(features, ValueSpec()), training.model, SPEC)
    assert Counter(stages["stage"].to_pylist()) == {"star": 30, "active": 270}


def test_refit_on_unchanged_behaviour_keeps_the_cut() -> None:
    facts = shop(300)
    first = week(facts, EARLY).model
    training = week(facts, LATE, incumbent=first)
    assert training.decision == "incumbent"
    assert training.incumbent_score <= SPEC.star_tolerance


def test_a_cut_that_no_longer_separates_a_tenth_is_frozen_again() -> None:
    facts = shop(300, growing=0.4)
    first = week(facts, EARLY).model
    training = week(facts, LATE, incumbent=first)
    assert training.decision == "challenger"
    assert training.incumbent_score > SPEC.star_tolerance > training.challenger_score


def test_changed_windows_and_changed_rules_come_into_force() -> None:
    facts = shop(300)
    first = week(facts, EARLY).model
    assert week(facts, LATE, LifecycleSpec(churn_after_days=90), first).decision == "challenger"
    other = LifecycleSpec(stages=(StageRule("top", "ltv >= $star_cut"), StageRule("rest", "true")))
    training = week(facts, LATE, other, first)
    assert training.decision == "challenger"
    assert training.reason_code == ChoiceCode.RULES_CHANGED
    assert training.metrics["share_top"] == pytest.approx(0.1, abs=0.005)


def test_changed_windows_leave_the_cuts_where_they_are() -> None:
    """Else customers who did nothing would lose their star to a window that does not concern them."""
    facts = shop(300)
    first = week(facts, EARLY).model
    training = week(facts, LATE, LifecycleSpec(churn_after_days=90), first)
    assert training.model == replace(first, churn_after=90)
    assert training.reason_code == ChoiceCode.WINDOWS_CHANGED
    assert is_said_by_its_figures(training, CHOICE_WORDS)
    assert training.metrics["moved_by_refit"] == 0.0


def test_new_customers_are_distinguished_by_the_first_purchase_until_a_model_forecasts_their_ltv() -> None:
    facts = shop(300)
    features = facts.snapshot_of(DAY + timedelta(days=20))
    value = baseline(features, ValueSpec())
    open_model = LifecycleModel(stages=SPEC.rules(), sub_stages=SPEC.sub_rules())
    before = freeze(ENGINE, features, value, SPEC, open_model, has_forecast=False)
    assert (before.new_ltv_cut, before.new_first_spend_cut) == (None, 271.0)
    after = freeze(ENGINE, features, value, SPEC, open_model, has_forecast=True)
    assert after.new_first_spend_cut is None and after.new_ltv_cut is not None
    for model in (before, after):
        sub_stages = Counter(assign_stages(ENGINE, features, value, model, SPEC)["sub_stage"].to_pylist())
        assert sub_stages == {"high-potential": 30, "settling": 270}
    training = week(facts, DAY + timedelta(days=20), incumbent=after)
    assert training.decision == "challenger"
    assert training.reason_code == ChoiceCode.OTHER_MEASURE_OF_NEW
    assert training.reason_parameters["measure"] == "first_purchase"


def test_too_few_buyers_is_a_result() -> None:
    training = week(shop(30), EARLY)
    assert (training.model, training.decision) == (None, "none")
    assert week(shop(30), EARLY, incumbent=CUT).decision == "incumbent"
    assert week(shop(0), EARLY).decision == "none"


def test_where_all_are_worth_the_same_nobody_is_a_star() -> None:
    assert cut_for_share(np.full(50, 7.0), 0.1) is None
    assert cut_for_share(np.array([]), 0.1) is None
    assert week(shop(250, scale=0.0), EARLY).metrics["share_star"] == 0.0


@given(st.lists(st.floats(0, 1e5), min_size=40, max_size=200, unique=True), st.floats(0.05, 0.5))
def test_the_cut_is_as_near_to_the_share_as_the_customers_allow(values: list[float], share: float) -> None:
    ltv = np.array(values)
    cut = cut_for_share(ltv, share)
    assert cut is not None
    assert abs((ltv >= cut).mean() - share) <= 0.5 / len(ltv) + 1e-9


def test_a_trained_model_keeps_its_rules_until_the_next_training_week() -> None:
    model = week(shop(300), EARLY).model
    edited = LifecycleSpec(stages=(StageRule("everybody", "true"),))
    assert staged(customer(ltv=0.0), model=model, spec=edited)[0][0] == "active"


def test_a_stored_model_answers_the_same(tmp_path: Path) -> None:
    model = week(shop(300), EARLY).model
    model.save(tmp_path)
    assert LifecycleModel.load(tmp_path) == model
    CUT.save(tmp_path)
    assert LifecycleModel.load(tmp_path) == CUT


def test_a_frame_is_answered_in_its_own_order_with_or_without_value() -> None:
    spender = customer(spend_90d=9000.0, ltv=1.0)
    features, value = tables_of(PROSPECT, customer(ltv=900.0), customer(recency_days=80), spender)
    frame = features.drop_columns(["customer_id", "day"]).to_pandas()
    frame.index = [9, 3, 7, 1]
    with_value = CUT.predict(frame.assign(ltv=value["ltv"].to_numpy()))
    assert with_value["stage"].to_dict() == {9: "prospect", 3: "star", 7: "churn", 1: "active"}
    without = CUT.predict(frame)
    assert without["stage"].to_dict() == {9: "prospect", 3: "active", 7: "churn", 1: "star"}
    assert CUT.predict(frame.iloc[:0]).empty


def test_the_figures_can_be_drawn() -> None:
    for draw in week(shop(300), EARLY).figures.values():
        axes = draw().axes[0]
        assert axes.get_title()
        assert axes.get_xlabel()


def test_the_served_example_is_answered() -> None:
    training = week(shop(300), EARLY)
    assert len(training.model.predict(training.example.to_pandas())) == 5


def test_a_model_without_rules_takes_the_specs() -> None:
    assert replace(CUT, stages=()).stages == ()
    assert staged(PROSPECT, spec=LifecycleSpec(business="gaming")) == [("fun", "fun")]

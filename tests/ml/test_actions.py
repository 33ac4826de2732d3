"""Claims about action effects and the plan: known truths are recovered, unknown ones are not acted upon."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.actions import (
    Action,
    ActionPolicy,
    ActionResponseModel,
    designs,
    effects,
    estimation,
    exposure_outcomes,
    plan,
    plan_summary,
    train,
    training,
)  # fmt: skip
from ml.actions.cells import cells_of, parent_of
from ml.actions.diagnostics import placebo_verdict
from ml.actions.learners import Z90, Scores, clustered
from ml.actions.reasons import CHOICE_WORDS, PLAN_WORDS, ChoiceCode, plan_reason
from ml.actions.response import ActionEvidence
from ml.choice import FitResult
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec
from ml.layers import SegmentSpec, micro_segment_id
from ml.lifecycle import LifecycleSpec
from ml.reasons import Reason
from ml.restate import Models, Specs, restate
from ml.value import ValueSpec
from tests.ml.vocabularies import is_said_by_its_figures, lacking, nonsense

ENGINE = DuckDB(threads=2)
START = date(2024, 1, 1)
EXPOSED = START + timedelta(days=100)
AS_OF = EXPOSED + timedelta(days=28)
MODELS = Models(None, None, None, Specs(ValueSpec(), LifecycleSpec(), SegmentSpec()))
ACTIONS = (Action("gift", cost=1.0), Action("note", cost=1.0))
SPEC = ActionPolicy(actions=ACTIONS, smallest_effect_share=0.15, trees=30)


def facts_of(
    transactions: dict[str, Any], exposures: pa.Table, customers: dict[str, Any] | None = None
) -> CustomerHistory:
    tx = pa.table(transactions)
    size = tx.num_rows
    rows = {
        "customer_id": tx["customer_id"], "day": tx["day"].cast(pa.date32()),
        "occurred_at": tx["day"].cast(pa.date32()).cast(pa.timestamp("us")), "amount": tx["amount"].cast(pa.float64()),
        **{name: pa.nulls(size, pa.string()) for name in ("order_id", "category")},
        **{name: pa.nulls(size, pa.float64()) for name in ("discount", "quantity", "margin")},
    }  # fmt: skip

    def nothing(table: tables.Table) -> pa.Table:
        return table.schema().append(pa.field("day", pa.date32())).empty_table()

    known = nothing(tables.CUSTOMERS)
    if customers:
        known = pa.table({"customer_id": customers["customer_id"], "day": pa.array(customers["day"], pa.date32())})
    return CustomerHistory.from_rows(
        ENGINE, FeatureSpec(), transactions=pa.table(rows), customers=known, events=nothing(tables.EVENTS),
        exposures=exposures, balances=nothing(tables.BALANCES),
    )  # fmt: skip


def exposures_of(rows: list[dict[str, Any]]) -> pa.Table:
    schema = tables.EXPOSURES.schema().append(pa.field("day", pa.date32()))
    filled = [{"exposed_at": datetime.combine(row["day"], time(12)), **row} for row in rows]
    return pa.Table.from_pylist(filled, schema=schema)


@dataclass(frozen=True)
class World:
    facts: CustomerHistory
    exposures: pa.Table
    truth: dict[str, float]
    naive: float


@cache
def world(kind: str, seed: int = 0, size: int = 2_000) -> World:
    """Customers with a steady level of spend who buy every week or so; `gift` adds to what they spend after day 100."""
    random = np.random.default_rng(seed)
    level = np.exp(random.normal(0, 0.6, size)) * 10
    buys = random.random((size, 130)) < random.uniform(0.1, 0.3, size)[:, None]
    amounts = buys * level[:, None] * np.exp(random.normal(0, 0.4, (size, 130)))
    early = amounts[:, :70].sum(axis=1)
    big = early > np.median(early)
    propensity = np.full(size, 1 / 3)
    if kind == "measured confounding":
        rank = np.argsort(np.argsort(early)) / size
        propensity = 1 / (1 + np.exp(-4 * (rank - 0.5)))
        gift = random.random(size) < propensity
        arm = np.where(gift, "gift", "control")
    elif kind == "hidden confounding":
        trait = random.random(size) < 0.5  # a good season that no feature of the past knows
        amounts[:, 72:] *= np.where(trait, 1.6, 0.7)[:, None]
        arm = np.where(random.random(size) < np.where(trait, 0.8, 0.2), "gift", "control")
    else:
        arm = random.choice(["gift", "note", "control"], size)
    effect = {"no effect": 0.0, "hidden confounding": 0.0}.get(kind, 25.0)
    gain = effect * (2.0 * big if kind == "by segment" else np.ones(size))
    amounts[:, 103] += np.where(arm == "gift", gain, 0.0)
    who, when = np.nonzero(amounts)
    ids = np.array([f"c{i:05d}" for i in range(size)])
    days = np.array([START + timedelta(days=int(d)) for d in range(130)])
    randomised = kind not in ("measured confounding", "hidden confounding")
    rows = [
        {"customer_id": ids[i], "day": EXPOSED, "action": str(arm[i]), "campaign_id": "spring",
         "propensity": 1 / 3 if randomised else None, "randomised": randomised}
        for i in range(size)
        if randomised or arm[i] != "control"
    ]  # fmt: skip
    exposures = exposures_of(rows)
    transactions = {"customer_id": ids[who], "day": days[when], "amount": amounts[who, when]}
    registered = {"customer_id": ids, "day": [START] * size}
    after = amounts[:, 100:128].sum(axis=1)
    return World(
        facts_of(transactions, exposures, registered), exposures, {"gift": float(gain.mean()), "note": 0.0},
        float(after[arm == "gift"].mean() - after[arm == "control"].mean()),
    )  # fmt: skip


@cache
def outcomes_of(kind: str, seed: int = 0) -> pa.Table:
    made = world(kind, seed)
    return exposure_outcomes(made.facts, made.exposures, AS_OF, SPEC, start=START)


def by_spend(engine: DuckDB, features: pa.Table, models: Models, history: object = None) -> pa.Table:
    """Stands for layers: two micro-segments of the stage, by what was spent so far."""
    string = "stage || CASE WHEN spend > $cut THEN '/value.A' ELSE '/value.B' END AS micro_segment"
    cut = f"SELECT customer_id, day, stage, {string} FROM r"
    middle = float(np.median(features["spend"].to_numpy()))
    made = engine.query(cut + " ORDER BY day, customer_id", {"cut": middle}, r=restate(engine, features, models))
    ids = [micro_segment_id(text) for text in made["micro_segment"].to_pylist()]
    return made.append_column("micro_segment_id", pa.array(ids, pa.string()))


@cache
def trained(kind: str, seed: int = 0) -> FitResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimation, "restate", by_spend)
        return train(world(kind, seed).facts, AS_OF, SPEC, None, models=MODELS, outcomes=outcomes_of(kind, seed))


@cache
def model_of(kind: str, seed: int = 0) -> ActionResponseModel:
    model = trained(kind, seed).model
    assert isinstance(model, ActionResponseModel)
    return model


@cache
def members(kind: str, seed: int = 0) -> pa.Table:
    facts = world(kind, seed).facts
    return pa.concat_tables(by_spend(ENGINE, facts.snapshot_of(AS_OF + timedelta(days=d)), MODELS) for d in (0, 1))


def planned(kind: str, seed: int = 0, spec: ActionPolicy = SPEC) -> pa.Table:
    rows = members(kind, seed)
    return plan(ENGINE, rows, effects(ENGINE, rows, model_of(kind, seed), spec), spec, start=START, salt="s")


# ── effects ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_known_effects_of_a_randomised_campaign_lie_in_their_intervals() -> None:
    made, model = world("constant effect"), model_of("constant effect")
    for action, truth in made.truth.items():
        evidence = model.actions[action]
        assert (evidence.design, evidence.placebo) == ("randomised", "not needed")
        assert abs(evidence.effect - truth) < Z90 * evidence.standard_error, action
    assert model.actions["gift"].effect > 4 * model.actions["gift"].standard_error


def test_outcome_models_make_the_estimate_sharper_than_a_difference_of_means() -> None:
    frame = outcomes_of("constant effect").to_pandas()
    arms = [frame.loc[frame["action"] == arm, "outcome"] for arm in ("gift", "control")]
    plain = np.sqrt(sum(arm.var() / len(arm) for arm in arms))
    assert model_of("constant effect").actions["gift"].standard_error < 0.85 * plain


def test_an_effect_that_differs_between_micro_segments_is_estimated_in_each() -> None:
    cells = model_of("by segment").cells["gift"]
    high, low = cells["active/value.A"], cells["active/value.B"]
    assert high.effect == pytest.approx(50, abs=3 * high.standard_error) and low.effect == pytest.approx(
        0, abs=3 * low.standard_error
    )
    assert high.shrinkage_weight > 0.5 and high.effect - low.effect > 25


@pytest.mark.parametrize("kind", ["constant effect", "by segment", "measured confounding"])
def test_effects_add_up_to_the_overall_effect_at_every_level(kind: str) -> None:
    for tree in model_of(kind).cells.values():
        for name, cell in tree.items():
            children = [c for c in tree.values() if c.micro_segment != "all" and parent_of(c.micro_segment) == name]
            total = sum(c.rows for c in children) * cell.effect
            assert sum(c.rows * c.effect for c in children) == pytest.approx(total)


def test_shrinkage_leaves_cells_without_a_difference_at_their_parent() -> None:
    random = np.random.default_rng(1)
    size, many = 4_000, np.array([f"active/value.{letter}" for letter in "ABCDEFGHIJ"])
    scores = Scores(
        random.normal(5, 60, size), np.full(size, 0.5), random.random(size) < 0.5, np.ones(size, bool),
        np.ones(size), np.arange(size), np.zeros(size, np.int64), float("nan"),
    )  # fmt: skip
    cells = cells_of(scores, random.choice(many, size), SPEC)
    raw = np.std([c.mean for c in cells.values() if "/" in c.micro_segment])
    shrunk = np.std([c.effect for c in cells.values() if "/" in c.micro_segment])
    assert shrunk < 0.5 * raw


def test_measured_confounding_is_corrected() -> None:
    made, evidence = world("measured confounding"), model_of("measured confounding").actions["gift"]
    assert made.naive > 2 * made.truth["gift"]
    assert abs(evidence.effect - made.truth["gift"]) < 2.5 * evidence.standard_error
    assert evidence.imbalance_after < 0.5 * evidence.imbalance_before
    assert evidence.placebo != "failed" and evidence.auc is not None and evidence.auc > 0.7


def test_hidden_confounding_fails_the_placebo_and_is_never_planned() -> None:
    evidence = model_of("hidden confounding").actions["gift"]
    assert evidence.effect > 3 * evidence.standard_error, "the bias looks like a large effect"
    assert evidence.placebo == "failed"
    table = planned("hidden confounding")
    assert set(table["action"].to_pylist()) == {"none"}
    assert set(table["reason_code"].to_pylist()) == {"placebo_failed"}
    assert any("placebo check failed" in reason for reason in table["reason"].to_pylist())


def test_a_world_without_effects_is_left_alone() -> None:
    assert set(planned("no effect", 1)["action"].to_pylist()) == {"none"}


def test_a_useless_action_has_no_best_customers() -> None:
    model, facts = model_of("no effect", 1), world("no effect", 1).facts
    predicted = model.predict(facts.snapshot_of(AS_OF).to_pandas())["note"]
    assert predicted.quantile(0.95) - predicted.mean() < 3 * model.actions["note"].standard_error


def test_a_placebo_passes_only_inside_the_band() -> None:
    assert placebo_verdict(0.5, 0.5, 2.0) == "passed"
    assert placebo_verdict(1.0, 0.1, 2.0) == "passed", "a certain but negligible bias is no objection"
    assert placebo_verdict(3.0, 0.5, 2.0) == "failed"
    assert placebo_verdict(-3.0, 0.5, 2.0) == "failed"
    assert placebo_verdict(0.5, 3.0, 2.0) == "cannot tell"
    assert placebo_verdict(float("nan"), float("nan"), 2.0) == "cannot tell"


def test_repeated_customers_do_not_make_an_estimate_more_precise() -> None:
    values = np.random.default_rng(0).normal(size=200)
    once, twice = clustered(values, np.arange(200)), clustered(np.repeat(values, 2), np.repeat(np.arange(200), 2))
    assert twice == pytest.approx(once)


def test_effects_of_a_day_do_not_depend_on_the_other_days() -> None:
    rows, model = members("by segment"), model_of("by segment")
    together = effects(ENGINE, rows, model, SPEC)
    for day in set(rows["day"].to_pylist()):
        alone = effects(ENGINE, rows.filter(pc.equal(rows["day"], day)), model, SPEC)
        assert together.filter(pc.equal(together["day"], day)).equals(alone)
    tables.ACTION_EFFECTS.conform(together)


def test_a_micro_segment_with_few_members_takes_its_prefix() -> None:
    rows = members("by segment")
    few = rows.filter(pc.equal(rows["micro_segment"], "active/value.A")).slice(0, 29)
    rest = rows.filter(pc.equal(rows["micro_segment"], "active/value.B"))
    rows_of_effects = effects(ENGINE, pa.concat_tables([few, rest]), model_of("by segment"), SPEC).to_pylist()
    day = few["day"][0].as_py()
    row = {r["micro_segment"]: r for r in rows_of_effects if r["day"] == day and r["action"] == "gift"}
    assert row["active/value.A"]["effect"] == row["active"]["effect"]
    assert row["active/value.A"]["evidence_level"] == "parent"


# ── the weekly choice ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stored_model_predicts_identically(tmp_path: Path) -> None:
    model = model_of("by segment")
    model.save(tmp_path)
    again = ActionResponseModel.load(tmp_path)
    frame = world("by segment").facts.snapshot_of(AS_OF).to_pandas()
    assert again.predict(frame).equals(model.predict(frame))
    expected, stored = (effects(ENGINE, members("by segment"), m, SPEC) for m in (model, again))
    assert expected.equals(stored)


def test_nan_is_null_in_strict_json_and_nan_again(tmp_path: Path) -> None:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    model = model_of("by segment")
    cell = replace(
        model.cells["gift"]["all"], micro_segment="active/value.Z", standard_error=float("nan"), variance=float("nan")
    )
    replace(model, cells={**model.cells, "gift": {**model.cells["gift"], "active/value.Z": cell}}).save(tmp_path)
    text = (tmp_path / "model.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse)["cells"]["gift"][-1]["standard_error"] is None
    again = ActionResponseModel.load(tmp_path).cells["gift"]["active/value.Z"]
    assert np.isnan(again.standard_error) and np.isnan(again.variance) and again.mean == cell.mean
    assert ActionResponseModel.load(tmp_path).actions["gift"].placebo_effect is None


def test_a_model_of_an_earlier_version_still_loads(tmp_path: Path) -> None:
    model_of("by segment").save(tmp_path)
    stored = ActionResponseModel.load(tmp_path)
    text = (tmp_path / "model.json").read_text(encoding="utf-8")
    for now, before in (("placebo_standard_error", "placebo_error"), ("standard_error", "error")):
        text = text.replace(f'"{now}"', f'"{before}"')
    (tmp_path / "model.json").write_text(text.replace('"shrinkage_weight"', '"own"'), encoding="utf-8")
    assert '"own"' in (tmp_path / "model.json").read_text(encoding="utf-8")
    assert repr(ActionResponseModel.load(tmp_path)) == repr(stored), "as text, in which NaN is equal to NaN"


def test_training_does_not_depend_on_the_order_of_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(estimation, "restate", by_spend)
    rows = outcomes_of("measured confounding")
    shuffled = rows.take(np.random.default_rng(0).permutation(rows.num_rows))
    again = train(world("measured confounding").facts, AS_OF, SPEC, None, models=MODELS, outcomes=shuffled)
    assert again.model is not None
    again.model.save(tmp_path)
    (tmp_path / "first").mkdir()
    model_of("measured confounding").save(tmp_path / "first")
    assert (tmp_path / "model.json").read_bytes() == (tmp_path / "first" / "model.json").read_bytes()


def test_the_same_exposures_again_keep_the_incumbent_and_new_ones_replace_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimation, "restate", by_spend)
    made, model, rows = world("constant effect"), model_of("constant effect"), outcomes_of("constant effect")
    again = train(made.facts, AS_OF, SPEC, model, models=MODELS, outcomes=rows)
    assert again.decision == "incumbent" and again.incumbent_score is not None
    older = replace(model, newest=EXPOSED - timedelta(days=1))
    newer = train(made.facts, AS_OF, SPEC, older, models=MODELS, outcomes=rows)
    assert (newer.decision, newer.reason_code) == ("challenger", ChoiceCode.NEW_EVIDENCE)


def test_too_little_evidence_is_a_result_and_not_a_model() -> None:
    made = world("constant effect")
    nothing = train(made.facts, AS_OF, SPEC, None, models=MODELS, outcomes=tables.EXPOSURE_OUTCOMES.empty())
    assert (nothing.model, nothing.decision, nothing.reason_code) == (None, "none", "not_enough_data")
    assert lacking(nothing) == Reason(ChoiceCode.NO_EXPOSURES)
    few = train(made.facts, AS_OF, SPEC, None, models=MODELS, outcomes=outcomes_of("constant effect").slice(0, 12))
    assert all(is_said_by_its_figures(one, CHOICE_WORDS) for one in (nothing, few, trained("measured confounding")))
    assert few.model is None and lacking(few).code == ChoiceCode.NOT_ENOUGH_EXPOSURES


def test_every_figure_draws() -> None:
    for draw in trained("measured confounding").figures.values():
        assert draw().axes


# ── exposures and their controls ──────────────────────────────────────────────────────────────────────────────────


def small(
    exposures: list[dict[str, Any]], as_of: date = AS_OF, extra: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Three customers who spend 1 every day, and `late`, first seen on the day of the exposure."""
    days = [START + timedelta(days=d) for d in range(160)]
    who = [("a", d) for d in days] + [("b", d) for d in days] + [("c", d) for d in days]
    who += [("late", d) for d in days if d >= EXPOSED]
    tx: dict[str, Any] = {"customer_id": [w for w, _ in who], "day": [d for _, d in who], "amount": [1.0] * len(who)}
    if extra:
        tx = {name: [*values, *extra[name]] for name, values in tx.items()}
    table = exposures_of(exposures)
    return exposure_outcomes(facts_of(tx, table), table, as_of, SPEC, start=START).to_pylist()


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the rows that an estimate compares."""
    if not rows:
        return []
    candidates = designs.candidates(ENGINE, tables.EXPOSURE_OUTCOMES.conform(pa.Table.from_pylist(rows)), SPEC)
    return [
        row
        for row, is_in in zip(candidates.to_pylist(), designs.is_compared(candidates.to_pandas()), strict=True)
        if is_in
    ]


GIFT = {"customer_id": "a", "day": EXPOSED, "action": "gift", "campaign_id": "k"}


def test_unexposed_known_customers_are_the_controls_of_an_observational_campaign() -> None:
    rows = {row["customer_id"]: row for row in small([GIFT, {**GIFT, "customer_id": "late"}])}
    assert {who: row["action"] for who, row in rows.items()} == {"a": "gift", "b": "control", "c": "control"}
    assert all(row["outcome"] == 28 and row["orders"] == 28 and row["placebo_outcome"] == 28 for row in rows.values())
    assert {row["design"] for row in rows.values()} == {"observational"}


@pytest.mark.parametrize(("days", "is_control"), [(-29, True), (-28, False), (0, False), (28, False), (29, True)])
def test_a_customer_reached_within_the_window_on_either_side_is_no_control(days: int, is_control: bool) -> None:
    other = {"customer_id": "b", "day": EXPOSED + timedelta(days=days), "action": "note", "campaign_id": "x"}
    rows = compared(small([GIFT, other], as_of=AS_OF + timedelta(days=1)))
    controls = {r["customer_id"] for r in rows if r["campaign_id"] == "k" and r["action"] == "control"}
    assert ("b" in controls) == is_control


@pytest.mark.parametrize(("days", "is_treated"), [(-29, True), (-28, False), (0, False), (28, False), (29, True)])
def test_nor_is_one_treated_who_is_reached_again_within_the_window(days: int, is_treated: bool) -> None:
    other = {**GIFT, "day": EXPOSED + timedelta(days=days), "action": "note", "campaign_id": "x"}
    rows = compared(small([GIFT, other], as_of=AS_OF + timedelta(days=60)))
    assert ("a" in {r["customer_id"] for r in rows if r["campaign_id"] == "k"}) == is_treated


def test_an_unmatured_exposure_is_not_used() -> None:
    assert small([GIFT], as_of=AS_OF - timedelta(days=1)) == []
    randomised = {**GIFT, "randomised": True, "propensity": 0.5}
    assert len(small([randomised], as_of=AS_OF - timedelta(days=1))) == 1, "a randomised one needs no day more"
    assert small([randomised], as_of=AS_OF - timedelta(days=2)) == []


def test_an_exposure_that_was_delivered_twice_counts_once() -> None:
    assert [r["customer_id"] for r in small([GIFT, GIFT])] == ["a", "b", "c"]


def test_randomised_rows_come_as_delivered_with_their_chances() -> None:
    randomised = {**GIFT, "randomised": True, "propensity": 0.9}
    holdout = {**randomised, "customer_id": "b", "is_holdout": True, "propensity": 0.1}
    rows = [(r["customer_id"], r["action"], r["propensity"], r["design"]) for r in small([randomised, holdout])]
    assert rows == [("a", "gift", 0.9, "randomised"), ("b", "control", 0.1, "randomised")]


def test_the_placebo_is_missing_where_history_does_not_reach_back() -> None:
    early = {**GIFT, "day": START + timedelta(days=28)}
    assert {row["placebo_outcome"] for row in small([early])} == {None}
    assert {row["placebo_outcome"] for row in small([{**GIFT, "day": START + timedelta(days=29)}])} == {28.0}
    assert small([{**GIFT, "day": START}]) == []


def test_nothing_after_the_day_matters() -> None:
    later = AS_OF + timedelta(days=1)
    extra = {"customer_id": ["a", "new"], "day": [later, later], "amount": [500.0, 5.0]}
    touched = {"customer_id": "b", "day": later, "action": "gift", "campaign_id": "later"}
    assert small([GIFT, touched], extra=extra) == small([GIFT])


def test_controls_are_capped_by_a_sample_that_a_row_order_does_not_change() -> None:
    made = world("measured confounding")
    tight = replace(SPEC, max_rows=100)
    order = np.random.default_rng(0).permutation(made.exposures.num_rows)
    outcomes = exposure_outcomes(made.facts, made.exposures, AS_OF, tight, start=START)
    assert pc.sum(pc.equal(outcomes["action"], "control")).as_py() <= 100
    assert exposure_outcomes(made.facts, made.exposures.take(order), AS_OF, tight, start=START).equals(outcomes)


# ── the plan ──────────────────────────────────────────────────────────────────────────────────────────────────────


def crowd(size: int, days: int = 1) -> pa.Table:
    names = ["active/value.A", "active/value.B", "churn"]
    return pa.table(
        {
            "customer_id": [f"c{i:04d}" for _ in range(days) for i in range(size)],
            "day": pa.array([START + timedelta(days=d) for d in range(days) for _ in range(size)], pa.date32()),
            "micro_segment": [names[i % 3] for _ in range(days) for i in range(size)],
            "micro_segment_id": [micro_segment_id(names[i % 3]) for _ in range(days) for i in range(size)],
            "stage": [names[i % 3].split("/")[0] for _ in range(days) for i in range(size)],
        },
        schema=pa.schema(
            [("customer_id", pa.string()), ("day", pa.date32()), ("micro_segment", pa.string()),
             ("micro_segment_id", pa.string()), ("stage", pa.string())]
        ),
    )  # fmt: skip


def effect_rows(values: dict[tuple[str, str], tuple[float, float, str]], days: int = 1) -> pa.Table:
    rows = [
        {"micro_segment_id": micro_segment_id(name), "micro_segment": name, "action": action, "effect": effect,
         "ci_low": effect - half, "ci_high": effect + half, "treated": 100, "control": 100, "evidence_level": level,
         "design": "observational" if level == "unsupported" else "randomised",
         "placebo": "cannot tell" if level == "unsupported" else "not needed",
         "minimum_detectable_effect": 1.0, "day": START + timedelta(days=d)}
        for d in range(days)
        for (name, action), (effect, half, level) in values.items()
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=tables.ACTION_EFFECTS.schema().append(pa.field("day", pa.date32())))


CLEAR_EFFECTS = {("active/value.A", "gift"): (9.0, 2.0, "own"), ("active/value.B", "gift"): (5.0, 9.0, "own"),
        ("churn", "gift"): (50.0, 1.0, "unsupported")}  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(
    size=st.integers(0, 60),
    budget=st.none() | st.floats(0, 50),
    capacity=st.none() | st.integers(0, 20),
    holdout=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    values=st.dictionaries(
        st.tuples(st.sampled_from(["active/value.A", "active/value.B", "churn"]), st.sampled_from(["gift", "note"])),
        st.tuples(st.floats(-20, 20), st.floats(0, 10), st.sampled_from(["own", "parent", "unsupported"])),
    ),
)
def test_a_plan_has_every_customer_once_and_keeps_every_limit(
    size: int, budget: float | None, capacity: int | None, holdout: float,
    values: dict[tuple[str, str], tuple[float, float, str]],
) -> None:  # fmt: skip
    spec = ActionPolicy(
        actions=(Action("gift", 1.5, eligible_stages=("active",), capacity=capacity), Action("note", 0.25)),
        budget=budget, holdout_share=holdout,
    )  # fmt: skip
    rows = plan(ENGINE, crowd(size), effect_rows(values), spec, start=START, salt="s").to_pylist()
    assert [row["customer_id"] for row in rows] == [f"c{i:04d}" for i in range(size)]
    assert budget is None or sum(row["cost"] for row in rows) <= budget + 1e-3
    assert capacity is None or sum(row["action"] == "gift" for row in rows) <= capacity
    names = {micro_segment_id(name): name for name in ("active/value.A", "active/value.B", "churn")}
    for row in rows:
        assert 0 < row["propensity"] <= 1 and row["reason"]
        if row["action"] not in ("none", "control"):
            effect, half, level = values[names[row["micro_segment_id"]], row["action"]]
            assert level != "unsupported" and row["ci_low"] > 0
            assert row["ci_low"] == pytest.approx(effect - half - row["cost"])
            assert row["action"] == "note" or names[row["micro_segment_id"]] != "churn"
        else:
            assert row["expected_incremental_value"] == row["cost"] == 0
            assert row["is_holdout"] == (row["action"] == "control")


def test_reasons_are_words() -> None:
    rows = plan(ENGINE, crowd(300), effect_rows(CLEAR_EFFECTS), SPEC, start=START, salt="s").to_pylist()
    assert {row["reason_code"] for row in rows} == {"planned", "interval_includes_cost", "placebo_unclear", "held_out"}
    assert {row["reason"] for row in rows} == {
        "gift: +9.00 expected against cost 1.00",
        "the interval of gift (−4.00 … 14.00) does not clear its cost 1.00",
        "gift is observational and its placebo check cannot tell (49.00 … 51.00)",
        "held out of cycle 0 on purpose",
    }
    empty = tables.ACTION_EFFECTS.schema().append(pa.field("day", pa.date32())).empty_table()
    first = plan(ENGINE, crowd(9), empty, replace(SPEC, holdout_share=0.0), start=START, salt="s")
    assert set(first["reason"].to_pylist()) == {"no effects yet: no matured exposures"}


def test_effects_of_a_version_without_figures_are_planned_with_the_words_they_had() -> None:
    older = effect_rows({("churn", "gift"): (50.0, 1.0, "unsupported")}).to_pylist()
    older[0] |= {"reason_code": "arms_unbalanced", "reason": "as it was said then"}
    table = plan(ENGINE, crowd(30), pa.Table.from_pylist(older, effect_rows({}).schema), SPEC, start=START, salt="s")
    rows = [row for row in table.to_pylist() if row["reason_code"] == "arms_unbalanced"]
    assert len(rows) == 10 and {row["reason"] for row in rows} == {"as it was said then (49.00 … 51.00)"}


def test_other_words_change_nothing_of_the_plan_but_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def planned() -> pa.Table:
        tight = replace(SPEC, budget=20.0)
        return plan(ENGINE, crowd(300), effect_rows(CLEAR_EFFECTS), tight, start=START, salt="s")

    sense = planned()
    assert all(plan_reason(row).words(PLAN_WORDS) == row["reason"] for row in sense.to_pylist())
    monkeypatch.setattr("ml.actions.policy.PLAN_WORDS", nonsense(PLAN_WORDS))
    other = planned()
    assert set(other["reason"].to_pylist()) == {"dada, 17 (42) asks for 9"}
    assert other.drop_columns("reason").equals(sense.drop_columns("reason"))
    assert plan_summary(other).equals(plan_summary(sense))


def test_where_no_action_is_declared_nobody_is_held_out() -> None:
    empty = tables.ACTION_EFFECTS.schema().append(pa.field("day", pa.date32())).empty_table()
    rows = plan(ENGINE, crowd(200), empty, replace(SPEC, actions=(), holdout_share=0.5), start=START, salt="s")
    assert set(rows["action"].to_pylist()) == {"none"} and set(rows["propensity"].to_pylist()) == {1.0}
    assert set(rows["reason"].to_pylist()) == {"no action is declared"}


def test_nobody_is_held_out_from_nothing() -> None:
    """Where no action can be handed out, because of effects, capacity or budget, everybody is simply left alone."""
    useless = {("active/value.A", "gift"): (0.2, 0.5, "own"), ("churn", "gift"): (50.0, 1.0, "unsupported")}
    none_left = replace(SPEC, actions=(Action("gift", 1.0, capacity=0),))
    for values, spec, codes in (
        (useless, SPEC, {"interval_includes_cost", "placebo_unclear", "no_effects"}),
        (CLEAR_EFFECTS, none_left, {"capacity_used", "interval_includes_cost", "placebo_unclear"}),
        (CLEAR_EFFECTS, replace(SPEC, budget=0.5), {"budget_spent", "interval_includes_cost", "placebo_unclear"}),
    ):
        rows = plan(ENGINE, crowd(300), effect_rows(values), spec, start=START, salt="s")
        assert set(rows["action"].to_pylist()) == {"none"} and not any(rows["is_holdout"].to_pylist())
        assert set(rows["propensity"].to_pylist()) == {1.0} and set(rows["reason_code"].to_pylist()) == codes
    some = plan(ENGINE, crowd(300), effect_rows(CLEAR_EFFECTS), SPEC, start=START, salt="s").to_pandas()
    assert set(some.loc[some["is_holdout"], "micro_segment_id"]) == {micro_segment_id("active/value.A")}


def test_who_is_held_out_stays_held_out_for_the_cycle_and_changes_with_it() -> None:
    table = plan(ENGINE, crowd(600, 57), effect_rows(CLEAR_EFFECTS, 57), SPEC, start=START, salt="s").to_pandas()
    table = table[table["micro_segment_id"] == micro_segment_id("active/value.A")]  # where something is handed out
    held_out = {day: frozenset(rows.loc[rows["is_holdout"], "customer_id"]) for day, rows in table.groupby("day")}
    cycles = [{held_out[START + timedelta(days=d)] for d in days} for days in (range(28), range(28, 56))]
    assert all(len(cycle) == 1 for cycle in cycles) and cycles[0] != cycles[1]
    assert 0.05 < len(next(iter(cycles[0]))) / 200 < 0.15
    salted = plan(ENGINE, crowd(600), effect_rows(CLEAR_EFFECTS), SPEC, start=START, salt="t").to_pandas()
    assert frozenset(salted.loc[salted["is_holdout"], "customer_id"]) != next(iter(cycles[0]))


def test_chances_add_up_where_capacity_serves_a_part() -> None:
    spec = replace(SPEC, actions=(Action("gift", 1.0, capacity=30),))
    rows = plan(ENGINE, crowd(300), effect_rows(CLEAR_EFFECTS), spec, start=START, salt="s").to_pandas()
    mine = rows[rows["micro_segment_id"] == micro_segment_id("active/value.A")].groupby("action")["propensity"]
    assert (mine.nunique() == 1).all() and mine.first().sum() == pytest.approx(1.0)
    assert rows.loc[rows["action"] == "gift", "propensity"].iloc[0] < 0.5


def test_the_plan_of_a_day_does_not_depend_on_the_other_days() -> None:
    together = plan(ENGINE, crowd(90, 3), effect_rows(CLEAR_EFFECTS, 3), SPEC, start=START, salt="s")
    first = together.filter(pc.equal(together["day"], START))
    assert first.equals(plan(ENGINE, crowd(90), effect_rows(CLEAR_EFFECTS), SPEC, start=START, salt="s"))


def test_the_summary_counts_every_customer() -> None:
    table = plan(ENGINE, crowd(300), effect_rows(CLEAR_EFFECTS), SPEC, start=START, salt="s")
    summary = plan_summary(table)
    assert pc.sum(summary["customers"]).as_py() == 300
    kinds = {"acted upon", "held out", "unsupported", "interval does not clear the cost"}
    assert set(summary["kind"].to_pylist()) == kinds
    assert pc.sum(summary["cost"]).as_py() == pytest.approx(pc.sum(table["cost"]).as_py())


def test_a_proven_effect_is_planned_where_it_pays() -> None:
    table = planned("by segment").to_pandas()
    gifted = table[table["action"] == "gift"]
    assert set(gifted["micro_segment_id"]) >= {micro_segment_id("active/value.A")}
    assert (gifted["ci_low"] > 0).all() and not (table["action"] == "note").any()


def test_a_campaign_without_controls_is_not_compared_with_another_season() -> None:
    """Compared with controls of another season, treated rows would measure the season."""
    import pandas as pd

    frame = pd.DataFrame(
        {
            "action": ["gift"] * 30 + ["control"] * 30 + ["gift"] * 500,
            "design": "randomised",
            "campaign_id": ["spring"] * 60 + ["christmas"] * 500,
        }
    )
    treated, control = estimation._arms(frame, {"gift": "randomised"}, ActionPolicy())["gift"]
    assert treated.sum() == control.sum() == 30
    counts = designs._counts(pa.Table.from_pandas(frame))
    assert counts["gift", "randomised"] == (30, 30)


def test_a_correction_of_the_design_replaces_the_incumbent_at_once() -> None:
    """The same exposures, now known not to be randomised: the old verdict must not stay in force."""
    kept = training._other_verdict
    numbers: dict[str, Any] = {f.name: 0.0 for f in fields(ActionEvidence)}
    evidence = ActionEvidence(**numbers | {"design": "randomised", "placebo": "not needed"})
    corrected = replace(evidence, design="observational", placebo="cannot tell")
    model = ActionResponseModel({"gift": evidence}, {}, {}, (), date(2024, 1, 1), 10)
    assert kept(model, model) is None
    judged = {"action": "gift", "design": "observational", "placebo": "cannot tell"}
    assert kept(replace(model, actions={"gift": corrected}), model) == Reason(ChoiceCode.EVIDENCE_CHANGED, judged)


def test_a_plan_from_before_reasons_had_codes_is_summed_up_by_its_actions() -> None:
    rows = [("a", "control"), ("b", "gift"), ("c", "none")]
    schema = pa.schema([*tables.ACTION_PLAN.schema(), pa.field("day", pa.date32())])
    figures = {"day": date(2024, 1, 1), "expected_incremental_value": 1.0, "cost": 0.5}
    older = pa.Table.from_pylist(
        [{"customer_id": who, "action": action, **figures} for who, action in rows], schema=schema
    )
    kinds = {row["action"]: row["kind"] for row in plan_summary(older).to_pylist()}
    assert kinds == {
        "control": "held out", "gift": "acted upon", "none": "left alone (made before reasons had codes)"
    }  # fmt: skip

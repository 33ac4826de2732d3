"""Claims about segments: identity, honest weights, one string each, names that differ, KPIs that add up."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.engine import DuckDB
from ml.evidence import evidence_figure, segment_evidence
from ml.features import Attribute, CustomerHistory, FeatureSpec, features_table
from ml.layers import (
    DEFAULT_LAYERS,
    LayerModels,
    LayerRule,
    LayerSpec,
    SegmentSpec,
    apply_means,
    assign,
    fit_layers,
    micro_segment_id,
    prefixes,
    r2,
    shrunken_means,
    train,
    unknown_features,
)
from ml.layers.cuts import _shrunken_predictions
from ml.layers.figures import all_figures
from ml.layers.identity import letter, matched_letters
from ml.layers.reasons import CHOICE_WORDS, ChoiceCode
from ml.reasons import Reason
from ml.rules import RuleError
from ml.sampling import sample_customers
from ml.segments import DEFAULT_AUDIENCES, AudienceSpec, audiences, micro_segments, profiles
from tests.ml.vocabularies import is_said_by_its_figures, lacking

DAY = date(2024, 3, 1)
ENGINE = DuckDB(threads=2)
SPEC = SegmentSpec(
    layers=(
        LayerSpec("value", ("spend_90d", "orders_90d"), k=3),
        LayerSpec("affinity", ("top_category_90d", "share_*"), k=2),
    ),
    min_cluster_customers=20,
)


def some_inputs(n: int = 600, seed: int = 0, day: date = DAY) -> pa.Table:
    """Layer inputs with three clear groups of value in `active`, and a small stage `new`."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, n)
    spend = np.exp(np.array([2.0, 4.0, 6.0])[group] + rng.normal(0, 0.2, n))
    top = np.where(rng.random(n) < 0.5, "GROCERY", "FUEL").astype(object)
    top[rng.random(n) < 0.05] = None
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{i:05d}" for i in range(n)],
            "day": [day] * n,
            "spend_90d": spend,
            "orders_90d": np.maximum(1, (spend / 20).astype(int)),
            "orders_28d": rng.integers(0, 3, n),
            "spend_28d": spend / 3,
            "spend_prev_28d": spend / 3,
            "events_28d": 0,
            "top_category_90d": top,
            "share_fuel": rng.random(n),
            "balance": np.nan,
            "ltv": spend,
            "p_alive": rng.random(n),
            "stage": np.where(np.arange(n) % 20 == 0, "new", "active"),
            "sub_stage": "x",
        }
    )
    return pa.Table.from_pandas(frame, preserve_index=False)


@pytest.fixture(scope="module")
def inputs() -> pa.Table:
    return some_inputs()


@pytest.fixture(scope="module")
def model(inputs: pa.Table) -> LayerModels:
    return fit_layers(inputs, SPEC, None)


def strings(inputs: pa.Table, model: LayerModels | None, spec: SegmentSpec = SPEC) -> pa.Table:
    return micro_segments(ENGINE, inputs, assign(inputs, model), spec)


# ── identity ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_refit_on_unchanged_data_moves_nobody(inputs: pa.Table, model: LayerModels) -> None:
    assert assign(inputs, fit_layers(inputs, SPEC, model)).equals(assign(inputs, model))


def test_refit_carries_letters_on_through_slow_drift(inputs: pa.Table, model: LayerModels) -> None:
    in_force, frame = model, inputs.to_pandas()
    truth = assign(inputs, model).to_pandas().query("layer == 'value' and is_primary").set_index("customer_id").cluster
    for week in range(4):
        frame["spend_90d"] *= 1.15  # everybody spends more each week, nobody changes place
        drifted = pa.Table.from_pandas(frame, preserve_index=False)
        in_force = fit_layers(drifted, SPEC, in_force)
        rows = assign(drifted, in_force).to_pandas().query("layer == 'value' and is_primary").set_index("customer_id")
        assert (rows.cluster == truth).all(), f"week {week}"


def test_clusters_are_the_true_groups_and_a_is_the_highest(inputs: pa.Table, model: LayerModels) -> None:
    rows = assign(inputs, model).to_pandas().query("layer == 'value' and is_primary")
    joined = rows.merge(inputs.to_pandas(), on="customer_id").query("stage == 'active'")
    means = joined.groupby("cluster").spend_90d.mean()
    assert list(means.index) == ["A", "B", "C"]
    assert means["A"] > 3 * means["B"] > 9 * means["C"]


def test_letters_are_never_reused(inputs: pa.Table) -> None:
    layer = LayerSpec("value", ("spend_90d",), k=3)
    three = fit_layers(inputs, replace(SPEC, layers=(layer,)), None)
    two = fit_layers(inputs, replace(SPEC, layers=(replace(layer, k=2),)), three)
    again = fit_layers(inputs, replace(SPEC, layers=(layer,)), two)
    lost = set(three.of("active", layer).letters) - set(two.of("active", layer).letters)
    assert len(lost) == 1 and not lost & set(again.of("active", layer).letters)
    assert "D" in again.of("active", layer).letters


def test_fit_does_not_depend_on_the_order_of_rows(inputs: pa.Table, model: LayerModels) -> None:
    shuffled = inputs.take(pa.array(np.random.default_rng(1).permutation(inputs.num_rows)))
    assert fit_layers(shuffled, SPEC, None) == model


def test_after_z_comes_aa() -> None:
    assert [letter(number) for number in (0, 25, 26, 27, 51, 52)] == ["A", "Z", "AA", "AB", "AZ", "BA"]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.permutations([0, 1, 2, 3]))
def test_renumbered_clusters_keep_their_letters(old: list[int], renumbering: list[int]) -> None:
    new = np.array([renumbering[number] for number in old])
    letters = matched_letters(np.array(old), ["A", "B", "C", "D"], new, 4)
    assert all(letters[after] == "ABCD"[before] for before, after in zip(old, new, strict=True))


# ── applying ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_day_alone_gives_what_it_gives_among_other_days(inputs: pa.Table, model: LayerModels) -> None:
    other = some_inputs(seed=7, day=DAY + timedelta(1))
    both = strings(pa.concat_tables([other, inputs]), model)
    assert both.filter(pc.equal(both["day"], DAY)).equals(strings(inputs, model))


@settings(max_examples=20, deadline=None)
@given(st.sets(st.integers(0, 599), min_size=1, max_size=40))
def test_a_customers_clusters_do_not_depend_on_who_else_is_there(places: set[int]) -> None:
    inputs = some_inputs()
    model = _once(inputs)
    some = inputs.take(pa.array(sorted(places)))
    everybody = assign(inputs, model)
    assert assign(some, model).equals(
        everybody.filter(pc.is_in(everybody["customer_id"], some["customer_id"].combine_chunks()))
    )


_CACHE: list[LayerModels] = []


def _once(inputs: pa.Table) -> LayerModels:
    if not _CACHE:
        _CACHE.append(fit_layers(inputs, SPEC, None))
    return _CACHE[0]


def test_weights_add_up_to_one_and_the_primary_is_the_heaviest(inputs: pa.Table, model: LayerModels) -> None:
    rows = assign(inputs, model).to_pandas()
    per = rows.groupby(["customer_id", "layer"])
    assert np.allclose(per.weight.sum(), 1)
    assert (per.is_primary.sum() == 1).all()
    assert np.allclose(rows[rows.is_primary].groupby(["customer_id", "layer"]).weight.max(), per.weight.max())
    top = rows[rows.is_primary].set_index(["customer_id", "layer"]).weight
    others = rows[~rows.is_primary].set_index(["customer_id", "layer"]).weight
    share = others / (others + top.reindex(others.index))
    assert (share >= 0.2 - 1e-9).all() and len(others)


def test_stored_model_predicts_identically(inputs: pa.Table, model: LayerModels, tmp_path) -> None:
    model.save(tmp_path)
    loaded = LayerModels.load(tmp_path)
    assert loaded == model
    assert assign(inputs, loaded).equals(assign(inputs, model))
    json.loads((tmp_path / "layers.json").read_text())


def test_served_model_gives_the_daily_strings(inputs: pa.Table, model: LayerModels) -> None:
    daily = strings(inputs, model).to_pandas().query("is_primary")
    served = model.predict(inputs.to_pandas().drop(columns="day"))
    assert list(served.micro_segment) == list(daily.micro_segment)
    assert list(served.micro_segment_id) == list(daily.micro_segment_id)


def test_serving_without_a_stage_says_what_to_do(model: LayerModels) -> None:
    with pytest.raises(ValueError, match="add a column 'stage'"):
        model.predict(pd.DataFrame({"spend_90d": [1.0]}))


def test_layer_without_data_or_of_another_stage_is_left_out_and_one_alike_in_a_stage_is_a() -> None:
    table = some_inputs()
    is_new = np.array(table["stage"].to_pylist()) == "new"
    points = pa.array(np.where(is_new, 1.0, np.arange(table.num_rows)))
    table = table.append_column("points", points)
    spec = SegmentSpec(
        (
            LayerSpec("money", ("balance", "not_there")),
            LayerSpec("loyalty", ("points",), k=2),
            LayerSpec("value", ("spend_90d",), stages=("active",), k=3),
        )
    )
    fitted = fit_layers(table, spec, None)
    primary = strings(table, fitted, spec).to_pandas().query("is_primary")
    assert fitted.off == ("money",)
    assert set(primary.query("stage == 'new'").micro_segment) == {"new/loyalty.A"}
    assert primary.query("stage == 'active'").micro_segment.str.fullmatch(r"active/loyalty\.[AB]/value\.[ABC]").all()


def test_stage_that_was_never_fitted_gets_a(inputs: pa.Table, model: LayerModels) -> None:
    column = inputs.column_names.index("stage")
    star = inputs.set_column(column, "stage", pa.array(["star"] * inputs.num_rows))
    assert set(strings(star, model)["micro_segment"].to_pylist()) == {"star/value.A/affinity.A"}


@pytest.mark.parametrize("rows", [0, 1, 2, 45])
def test_few_customers_never_crash(rows: int, model: LayerModels) -> None:
    few = some_inputs(max(rows, 1)).slice(0, rows)
    assert strings(few, model).num_rows >= rows
    assert strings(few, None).num_rows == rows
    if rows:
        fitted = fit_layers(few, SPEC, None)
        assert strings(few, fitted).num_rows >= rows


def test_quantiles_cut_into_equal_parts(inputs: pa.Table) -> None:
    spec = SegmentSpec((LayerSpec("value", ("spend_90d",), method="quantiles", k=4),))
    fitted = fit_layers(inputs, spec, None).of("active", spec.layers[0])
    assert fitted.letters == ("D", "C", "B", "A")  # rising cuts, A the highest
    assert max(fitted.sizes) - min(fitted.sizes) <= 2


def test_first_rule_that_holds_wins_and_the_rest_are_others(inputs: pa.Table) -> None:
    layer = LayerSpec(
        "size", method="rules", rules=(LayerRule("big", "spend_90d > 100"), LayerRule("middle", "spend_90d > 20"))
    )
    spec = SegmentSpec((layer,))
    rows = assign(inputs, fit_layers(inputs, spec, None)).to_pandas().merge(inputs.to_pandas(), on="customer_id")
    expected = np.select([rows.spend_90d > 100, rows.spend_90d > 20], ["big", "middle"], "others")
    assert list(rows.cluster_name) == list(expected)


def test_renaming_nothing_keeps_a_rules_letter_when_rules_are_reordered(inputs: pa.Table) -> None:
    big, small = LayerRule("big", "spend_90d > 100"), LayerRule("small", "spend_90d < 20")
    before = fit_layers(inputs, SegmentSpec((LayerSpec("size", method="rules", rules=(big, small)),)), None)
    layer = LayerSpec("size", method="rules", rules=(small, big))
    after = fit_layers(inputs, SegmentSpec((layer,)), before).of("active", layer)
    assert dict(zip(after.names, after.letters, strict=True)) == {"big": "A", "small": "B", "others": "C"}


# ── strings ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_id_is_the_same_in_python_and_sql(inputs: pa.Table, model: LayerModels) -> None:
    rows = strings(inputs, model)
    assert rows["micro_segment_id"].to_pylist() == [
        micro_segment_id(text) for text in rows["micro_segment"].to_pylist()
    ]
    assert prefixes("active/value.B/engagement.A") == ["active", "active/value.B", "active/value.B/engagement.A"]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.floats(0.01, 1), min_size=1, max_size=4), min_size=0, max_size=5))
def test_secondary_memberships_are_the_heaviest_products(layers: list[list[float]]) -> None:
    rows, combos = [], [("active", 1.0, True)]
    for number, raw in enumerate(layers):
        weights = np.array(raw) / sum(raw)
        for cluster, weight in enumerate(weights):
            rows.append((f"l{number}", letter(cluster), float(weight), cluster == int(np.argmax(weights))))
        combos = [
            (f"{text}/l{number}.{letter(cluster)}", product * weight, first and cluster == int(np.argmax(weights)))
            for text, product, first in combos
            for cluster, weight in enumerate(weights)
        ]
    names = ["layer", "cluster", "weight", "is_primary"]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    types = [pa.string(), pa.string(), pa.float64(), pa.bool_()]
    assignments = pa.table(
        {"customer_id": pa.array(["c"] * len(rows), pa.string()), "day": pa.array([DAY] * len(rows), pa.date32())}
        | {name: pa.array(columns[name], kind) for name, kind in zip(names, types, strict=True)}
    )
    stages = pa.table({"customer_id": ["c"], "day": pa.array([DAY], pa.date32()), "stage": ["active"]})
    spec = SegmentSpec(tuple(LayerSpec(f"l{number}") for number in range(len(layers))))
    result = micro_segments(ENGINE, stages, assignments, spec).to_pylist()
    primary = [row for row in result if row["is_primary"]]
    assert [row["micro_segment"] for row in primary] == [text for text, _, first in combos if first]
    others = sorted([weight for _, weight, first in combos if not first and weight >= 0.1], reverse=True)[:4]
    assert np.allclose([row["weight"] for row in result if not row["is_primary"]], others)


def test_layers_stand_in_the_projects_order_and_foreign_ones_are_left_out(inputs: pa.Table, model: LayerModels) -> None:
    turned = replace(SPEC, layers=SPEC.layers[::-1])
    assert all(
        "/affinity." in text.split("/value.")[0] for text in strings(inputs, model, turned)["micro_segment"].to_pylist()
    )
    fewer = replace(SPEC, layers=SPEC.layers[:1])
    assert not any("affinity" in text for text in strings(inputs, model, fewer)["micro_segment"].to_pylist())


# ── names, profiles, audiences ────────────────────────────────────────────────────────────────────────────────────


def test_no_two_clusters_share_a_name_and_names_say_what_is_different(model: LayerModels) -> None:
    for one in model.models:
        assert len(set(one.names)) == len(one.letters)
    value = model.of("active", SPEC.layers[0])
    assert "high spend" in value.names[0] and "low spend" in value.names[-1]
    names = model.names()
    assert names["active/value.A"] == f"Active: {value.names[0]}"
    assert names["new/value.A/affinity.A"] == "New"
    assert names["unheard/of.Z"] == "Unheard: of.Z"


def test_profiles_of_each_depth_add_up_to_everybody(inputs: pa.Table, model: LayerModels) -> None:
    kpis = profiles(ENGINE, strings(inputs, model), inputs, model.names()).to_pandas()
    frame = inputs.to_pandas()
    for rows in (kpis[kpis.is_leaf], kpis[kpis.depth == 0]):
        assert rows.customers.sum() == len(frame)
        assert rows.revenue.sum() == pytest.approx(frame.spend_28d.sum(), abs=0.1)
        assert rows.ltv.sum() == pytest.approx(frame.ltv.sum(), abs=0.1)
        assert rows.buyers.sum() == (frame.orders_28d > 0).sum()
    assert kpis.p_churn.between(0, 1).all() and not kpis.micro_segment.duplicated().any()


def test_audiences_hold_by_their_rule_and_the_days_median() -> None:
    table = pa.concat_tables([some_inputs(day=DAY), some_inputs(seed=3, day=DAY + timedelta(1))])
    specs = (
        AudienceSpec("above", "spend_90d > $median_spend_90d"),
        AudienceSpec("unknown", "balance > 0"),
        AudienceSpec("it's new", "stage = 'new'"),
    )
    members = audiences(ENGINE, table, specs).to_pandas()
    assert set(members.audience) == {"above", "it's new"}
    assert (members[members.audience == "above"].groupby("day").size() == 300).all()


def test_audience_on_an_unknown_column_is_refused(inputs: pa.Table) -> None:
    with pytest.raises(RuleError, match="did you mean 'spend_90d'"):
        audiences(ENGINE, inputs, (AudienceSpec("x", "spent_90d > 1"),))


def test_unknown_features_are_found_and_patterns_are_not() -> None:
    columns = features_table(FeatureSpec(("FUEL",), (Attribute("age"),))).names
    assert unknown_features(SegmentSpec(), columns) == ()
    layers = (LayerSpec("who", ("age", "share_fuel", "ltv", "income", "share_*")),)
    assert unknown_features(SegmentSpec(layers), columns) == (("who", "income"),)


def test_figures_draw(model: LayerModels) -> None:
    assert {"cluster_profiles_active", "cluster_sizes"} <= set(all_figures(model))
    for draw in all_figures(model).values():
        assert draw().axes


# ── shrinkage ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_shrinkage_takes_noise_to_the_mean_and_keeps_what_is_there() -> None:
    rng = np.random.default_rng(0)
    groups = np.array([f"s/{i}" for i in rng.integers(0, 50, 2000)])
    noise = rng.normal(10, 1, 2000)
    shrunk = shrunken_means(groups, noise)
    assert np.std([shrunk[g] for g in set(groups)]) < 0.5 * pd.Series(noise).groupby(groups).mean().std()
    truth = noise + 20 * (groups == "s/1")
    assert shrunken_means(groups, truth)["s/1"] == pytest.approx(truth[groups == "s/1"].mean(), rel=0.05)


@given(st.lists(st.tuples(st.sampled_from(["a", "a/x.A", "a/x.B", "b/x.A"]), st.floats(-1e3, 1e3)), min_size=1))
def test_shrunken_means_stay_within_what_was_seen(rows: list[tuple[str, float]]) -> None:
    groups, outcome = [g for g, _ in rows], np.array([y for _, y in rows])
    means = shrunken_means(groups, outcome)
    assert all(outcome.min() - 1e-6 <= mean <= outcome.max() + 1e-6 for mean in means.values())
    assert apply_means(means, ["never/met.A"])[0] == pytest.approx(outcome.mean())


def test_r2_of_the_outcome_itself_is_one_and_of_its_mean_zero() -> None:
    outcome = np.array([1.0, 2.0, 4.0])
    assert r2(outcome, outcome) == 1 and r2(outcome, np.full(3, outcome.mean())) == pytest.approx(0)


# ── the weekly fit ────────────────────────────────────────────────────────────────────────────────────────────────

START = date(2024, 1, 1)


def some_facts(customers: int = 240, days: int = 170) -> CustomerHistory:
    rng = np.random.default_rng(0)
    rate = rng.choice([0.03, 0.1, 0.3], customers)
    basket = rng.choice([5.0, 40.0], customers)
    who, day = np.nonzero(rng.random((customers, days)) < rate[:, None])
    stamp = pd.Timestamp(START) + pd.to_timedelta(day, "D")
    lines = pd.DataFrame(
        {
            "customer_id": [f"c{i:04d}" for i in who],
            "occurred_at": stamp,
            "day": stamp.date,
            "amount": np.round(basket[who] * rng.lognormal(0, 0.3, len(who)), 2),
            "order_id": [f"o{i}" for i in range(len(who))],
            "category": rng.choice(["GROCERY", "FUEL"], len(who)),
            "discount": 0.0,
            "quantity": 1.0,
            "margin": np.nan,
        }
    )
    nothing = {
        "customers": "CAST('' AS VARCHAR) AS customer_id, DATE '2024-01-01' AS day",
        "events": (
            "'' AS customer_id, DATE '2024-01-01' AS day, '' AS event_type, TIMESTAMP '2024-01-01' AS occurred_at"
        ),
        "exposures": "'' AS customer_id, DATE '2024-01-01' AS day, '' AS action, FALSE AS is_holdout",
        "balances": "'' AS customer_id, DATE '2024-01-01' AS day, TIMESTAMP '2024-01-01' AS as_of, 0.0 AS balance",
    }
    empty = {name: ENGINE.query(f"SELECT {columns} WHERE FALSE") for name, columns in nothing.items()}
    transactions = pa.Table.from_pandas(lines, preserve_index=False)
    return CustomerHistory.from_rows(ENGINE, FeatureSpec(("FUEL",)), transactions=transactions, **empty)


@pytest.fixture(scope="module")
def facts() -> CustomerHistory:
    return some_facts()


@pytest.fixture(scope="module")
def models():
    from ml.lifecycle import LifecycleSpec
    from ml.restate import Models, Specs
    from ml.value import ValueSpec

    spec = SegmentSpec(DEFAULT_LAYERS, min_cluster_customers=20)
    return Models(None, None, None, Specs(ValueSpec(), LifecycleSpec(), spec))


@pytest.fixture(scope="module")
def first(facts: CustomerHistory, models):
    as_of = START + timedelta(150)
    return train(facts.until(as_of), as_of, models.specs.segments, None, models=models)


def test_first_fit_is_chosen_and_the_same_week_again_changes_nothing(facts: CustomerHistory, models, first) -> None:
    as_of, spec = START + timedelta(150), models.specs.segments
    known = facts.until(as_of)
    assert first.decision == "challenger" and first.challenger_score > 0.2
    again = train(known, as_of, spec, first.model, models=models)
    assert again.decision == "incumbent"
    assert again.incumbent_score == first.challenger_score


def test_changed_layers_are_taken_over(facts: CustomerHistory, models, first) -> None:
    as_of, spec = START + timedelta(150), models.specs.segments
    known = facts.until(as_of)
    changed = train(known, as_of, replace(spec, layers=spec.layers[:2]), first.model, models=models)
    assert changed.decision == "challenger" and changed.reason_code == ChoiceCode.LAYERS_CHANGED


def test_nothing_after_the_week_reaches_a_fit(facts: CustomerHistory, models, first) -> None:
    whole = train(facts, START + timedelta(150), models.specs.segments, None, models=models)
    assert whole.model == first.model and dict(whole.metrics) == dict(first.metrics)


def test_short_history_fits_without_a_score_and_no_history_says_so(facts: CustomerHistory, models) -> None:
    spec = models.specs.segments
    soon = START + timedelta(30)
    too_early = train(facts.until(soon), soon, spec, None, models=models)
    assert too_early.decision == "none"
    assert lacking(too_early) == Reason(ChoiceCode.HISTORY_TOO_SHORT, {"days": 31, "needed": 90})
    spec = replace(spec, warm_up_days=28)
    early = train(facts.until(soon), soon, spec, None, models=models)
    assert early.decision == "challenger" and early.challenger_score is None
    assert early.reason_parameters["challenger"] is None
    assert isinstance(early.model, LayerModels)
    again = train(facts.until(soon), soon, spec, early.model, models=models)
    assert again.decision == "incumbent"
    before = START - timedelta(1)
    none = train(facts.until(before), before, spec, None, models=models)
    assert none.model is None and none.decision == "none"
    assert all(is_said_by_its_figures(one, CHOICE_WORDS) for one in (too_early, early, none))
    assert lacking(none).code == ChoiceCode.TOO_FEW_CUSTOMERS
    assert segment_evidence(facts.until(soon), soon, models).num_rows == 0


def test_sample_is_of_customers_and_keeps_the_same_ones_each_week(facts: CustomerHistory) -> None:
    days = (START + timedelta(100), START + timedelta(107))
    sample = sample_customers(facts.engine, facts.known(days), 50, seed=0).to_pandas()
    earlier, later = (set(sample[sample.day == day].customer_id) for day in days)
    assert len(later) == 50 and earlier <= later
    today = set(sample_customers(facts.engine, facts.known(days[:1]), 50, seed=0)["customer_id"].to_pylist())
    assert len(today & later) >= 45
    everybody = facts.known(days)
    assert sample_customers(facts.engine, everybody, 10_000, seed=0).equals(everybody)


def test_evidence_distinguishes_real_groups_from_random_ones(facts: CustomerHistory, models, first) -> None:
    as_of = START + timedelta(150)
    known = facts.until(as_of)
    table = segment_evidence(known, as_of, replace(models, layers=first.model))
    explained = {row["grouping"]: row["r2_log_spend"] for row in table.to_pylist()}
    assert explained["micro-segments"] > explained["stage only"] > explained["random groups"] - 0.02
    assert abs(explained["random groups"]) < 0.1
    assert evidence_figure(table).axes


def test_default_audiences_and_layers_run_on_a_real_snapshot(facts: CustomerHistory, models) -> None:

    day = START + timedelta(150)
    table = models.inputs_of(ENGINE, facts.snapshot_of(day))
    assert audiences(ENGINE, table, DEFAULT_AUDIENCES).num_rows > 0
    assert "spend_trend_28d" in table.column_names


def test_a_cell_without_earlier_customers_predicts_as_before_even_if_nothing_varies_within_cells() -> None:
    cells, is_earlier = np.array([0, 0, 1, 1, 2]), np.array([True, True, True, True, False])
    y, predictions = np.array([1.0, 1.0, 3.0, 3.0, 5.0]), np.full(5, 2.0)
    shrunken = _shrunken_predictions(cells, np.zeros(5, dtype=int), y, predictions, is_earlier)
    np.testing.assert_allclose(shrunken, [1.0, 1.0, 3.0, 3.0, 2.0])

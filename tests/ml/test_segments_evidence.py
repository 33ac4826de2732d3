"""Claims about the evidence: shrinkage, the alternatives, and that models have not seen the outcomes they predict."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.engine import DuckDB
from ml.evidence.comparison import fit_models, pooled_scores, predict_day, r2_differences, segment_evidence
from ml.evidence.groupings import (
    BINS,
    INDIVIDUAL,
    MEASURES,
    OURS,
    RANDOM,
    RFM,
    RFM_LIFETIME,
    STAGES,
    DayPredictions,
    actionable_groups,
    predict_by_groupings,
)
from ml.features import CustomerHistory, FeatureSpec
from ml.layers import LayerSpec, SegmentSpec, apply_means, r2, shrunken_means
from ml.layers.strings import prefixes
from ml.lifecycle import LifecycleSpec
from ml.restate import Models, Specs
from ml.simulate import ShopSpec, simulate
from ml.value import ValueSpec

ENGINE = DuckDB()
AS_OF = date(2024, 1, 1) + timedelta(days=180)
SPEC = SegmentSpec(
    (
        LayerSpec("value", ("spend_90d",), k=3),
        LayerSpec("engagement", ("recency_days", "purchase_predicted28d"), k=2),
    ),
    min_cluster_customers=20,
)


# ── shrinkage ─────────────────────────────────────────────────────────────────────────────────────────────────────


def nested_world(seed: int, customers: int = 1500) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    """Strings of three levels of very different sizes, outcomes with known means, and these means."""
    random = np.random.default_rng(seed)
    truth: dict[str, float] = {}
    leaves = []
    for stage in ("active", "star", "churn"):
        truth[stage] = 10 + random.normal(0, 4)
        for value in "ABCDE":
            middle = f"{stage}/value.{value}"
            truth[middle] = truth[stage] + random.normal(0, 2)
            for rhythm in "ABCDEF":
                leaf = f"{middle}/rhythm.{rhythm}"
                truth[leaf] = truth[middle] + random.normal(0, 1)
                leaves.append(leaf)
    share = random.dirichlet(np.full(len(leaves), 0.6))
    strings = random.choice(leaves, size=customers, p=share)
    return strings, np.array([truth[one] for one in strings]) + random.normal(0, 6, customers), truth


def test_shrinkage_up_the_tree_beats_raw_means_and_complete_pooling_on_known_means() -> None:
    wrong: dict[str, list[float]] = {"shrunk": [], "raw": [], "pooled": [], "stage": []}
    for seed in range(20):
        strings, outcome, truth = nested_world(seed)
        shrunk = shrunken_means(strings, outcome)
        for leaf in np.unique(strings):
            mine = strings == leaf
            stage = np.char.startswith(strings, leaf.split("/")[0])
            predictions = {
                "shrunk": shrunk[leaf],
                "raw": outcome[mine].mean(),
                "pooled": outcome.mean(),
                "stage": outcome[stage].mean(),
            }
            for name, value in predictions.items():
                wrong[name].append((value - truth[leaf]) ** 2)
    error = {name: float(np.mean(values)) for name, values in wrong.items()}
    assert error["shrunk"] < 0.6 * min(error["raw"], error["pooled"], error["stage"]), error


def test_a_group_without_members_of_its_own_takes_its_longest_known_prefix() -> None:
    strings, outcome, _ = nested_world(3)
    means = shrunken_means(strings, outcome)
    asked = ["active/value.A/rhythm.Z", "active/value.Z/rhythm.A", "unheard", ""]
    expected = [means["active/value.A"], means["active"], means[""], means[""]]
    assert apply_means(means, asked).tolist() == expected


def test_large_groups_keep_their_own_mean_and_lone_customers_take_the_prefixs() -> None:
    random = np.random.default_rng(0)
    strings = np.array(["s/v.A"] * 2000 + ["s/v.B"] * 2000 + ["s/v.C"] * 3)
    outcome = np.concatenate([random.normal(0, 5, 2000), random.normal(3, 5, 2000), [40.0, -35.0, 30.0]])
    means = shrunken_means(strings, outcome)
    assert means["s/v.A"] == pytest.approx(outcome[:2000].mean(), abs=0.1)
    assert abs(means["s/v.C"] - means["s"]) < 0.5 * abs(outcome[-3:].mean() - means["s"])


# ── what is acted upon ────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from(["a/x.A/y.A", "a/x.A/y.B", "a/x.B/y.A", "b/x.A", "c"]), max_size=120), st.integers(1, 40)
)
def test_every_actionable_group_has_enough_customers_and_is_the_longest_that_has(
    texts: list[str], min_customers: int
) -> None:
    strings = np.array(texts, dtype=str)
    groups = actionable_groups(strings, min_customers)

    def under(prefix: str) -> int:
        return sum(prefix in prefixes(one) for one in texts)

    for string, group in zip(texts, groups.tolist(), strict=True):
        if group:
            assert group in prefixes(string) and under(group) >= min_customers
        longer = prefixes(string)[prefixes(string).index(group) + 1 :] if group else prefixes(string)
        assert all(under(one) < min_customers for one in longer)


# ── pooling and intervals ─────────────────────────────────────────────────────────────────────────────────────────


def a_day(seed: int, skill: float, customers: int = 400) -> DayPredictions:
    random = np.random.default_rng(seed)
    outcomes = random.normal(0, 1, customers)
    predictions = {
        OURS: skill * outcomes,
        RFM: 0.2 * outcomes,
        "same": skill * outcomes,
    }
    return DayPredictions(
        np.array([f"c{i:04d}" for i in range(customers)]),
        dict.fromkeys(MEASURES, outcomes),
        {name: dict.fromkeys(MEASURES, value) for name, value in predictions.items()},
        dict.fromkeys(predictions, 5),
    )


def test_pooled_r2_is_one_minus_all_errors_over_all_squares_around_each_predictedmean() -> None:
    days = [a_day(0, 0.5), a_day(1, 0.9, customers=100)]
    score = next(one for one in pooled_scores(days) if one.grouping == OURS)
    errors = sum(((d.outcomes["r2_spend"] - d.predictions[OURS]["r2_spend"]) ** 2).sum() for d in days)
    squares = sum(((d.outcomes["r2_spend"] - d.outcomes["r2_spend"].mean()) ** 2).sum() for d in days)
    assert score.r2_spend == pytest.approx(1 - errors / squares) and score.groups == 5
    alone = next(one for one in pooled_scores(days[:1]) if one.grouping == OURS)
    assert alone.r2_spend == pytest.approx(r2(days[0].outcomes["r2_spend"], days[0].predictions[OURS]["r2_spend"]))


def test_differences_are_significant_where_there_is_one_and_zero_where_there_is_none() -> None:
    differences = {(one.other, one.measure): one for one in r2_differences([a_day(0, 0.5), a_day(1, 0.5)])}
    positive, same = differences[RFM, "r2_spend"], differences["same", "r2_spend"]
    assert 0 < positive.low < positive.mean < positive.high
    assert same.low == same.mean == same.high == 0
    repeated = {(one.other, one.measure): one for one in r2_differences([a_day(0, 0.5), a_day(1, 0.5)])}
    assert repeated == differences


def test_months_of_the_same_customers_do_not_pass_for_independent_ones() -> None:
    once, twice = [a_day(0, 0.5)], [a_day(0, 0.5), a_day(0, 0.5)]
    width = [next(g.high - g.low for g in r2_differences(days) if g.other == RFM) for days in (once, twice)]
    assert width[1] == pytest.approx(width[0])


# ── yardsticks ────────────────────────────────────────────────────────────────────────────────────────────────────


def slow_business(customers: int = 6_000, days: int = 700, gap: float = 240.0) -> tuple[pa.Table, np.ndarray]:
    """Two days of a business whose median customer buys once in more than 90 days, and what followed each day."""
    random = np.random.default_rng(4)
    rate = random.gamma(1.5, 1 / (1.5 * gap), customers)
    bought = random.random((customers, days + 56)) < rate[:, None]
    paid = np.where(bought, random.lognormal(3, 0.5, customers)[:, None], 0.0)
    keep = bought[:, :days].any(axis=1)
    bought, paid = bought[keep], paid[keep]
    parts, spend = [], []
    for end in (days, days + 28):
        past, recent = bought[:, :end], slice(end - 90, end)
        recency = np.argmax(past[:, ::-1], axis=1)
        values = {
            "recency_days": recency, "purchase_days": past.sum(axis=1), "spend": paid[:, :end].sum(axis=1),
            "orders_90d": past[:, recent].sum(axis=1), "spend_90d": paid[:, recent].sum(axis=1),
        }  # fmt: skip
        ids = [f"c{number:05d}" for number in range(len(past))]
        text = np.where(recency > 365, "churn", "active")
        parts.append(pa.table({"customer_id": ids, "stage": text, "micro_segment": text, **values}))
        spend.append(paid[:, end : end + 28].sum(axis=1))
    return pa.concat_tables(parts), np.concatenate(spend)


def test_where_most_have_not_bought_for_90_days_a_lifetime_grid_explains_more() -> None:
    restated, spend = slow_business()
    is_earlier = np.arange(len(spend)) < len(spend) // 2
    assert (restated["orders_90d"].to_numpy() == 0).mean() > 0.6
    day = predict_by_groupings(restated, spend, is_earlier)
    scores = {one.grouping: one for one in pooled_scores([day])}
    assert day.groups[RFM] < 25 and day.groups[RFM_LIFETIME] > 60
    assert scores[RFM_LIFETIME].r2_log_spend > max(scores[RFM].r2_log_spend, scores[STAGES].r2_log_spend)


# ── on a business ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def rows() -> dict[str, pa.Table]:
    from ml import tables

    made = simulate(ShopSpec(customers=500, days=240, seed=2)).tables
    inputs = {}
    for name, table in tables.INPUTS.items():
        one = made.get(name, table.empty())
        stamp = table.stamp or "occurred_at"
        inputs[name] = one.append_column("day", one[stamp].cast(pa.date32(), safe=False))
    return inputs


@pytest.fixture(scope="module")
def facts(rows: dict[str, pa.Table]) -> CustomerHistory:
    return CustomerHistory.from_rows(ENGINE, FeatureSpec(), **rows)


@pytest.fixture(scope="module")
def in_force(facts: CustomerHistory) -> Models:
    return fit_models(facts, AS_OF, Specs(ValueSpec(horizon_days=56), LifecycleSpec(), SPEC))


@pytest.fixture(scope="module")
def evidence(facts: CustomerHistory, in_force: Models) -> pa.Table:
    return segment_evidence(facts.until(AS_OF), AS_OF, in_force)


def test_all_groupings_are_compared_in_a_fixed_order(evidence: pa.Table) -> None:
    assert evidence["grouping"].to_pylist() == [STAGES, RFM, RFM_LIFETIME, RANDOM, OURS, BINS, INDIVIDUAL]
    rows = {row["grouping"]: row for row in evidence.to_pylist()}
    assert rows[OURS]["groups"] == rows[BINS]["groups"] > rows[STAGES]["groups"] >= 1
    assert all(abs(rows[RANDOM][measure]) < 0.05 for measure in MEASURES)
    assert rows[OURS]["r2_log_spend"] > rows[RANDOM]["r2_log_spend"] + 0.05


def test_evidence_knows_nothing_of_later_days(facts: CustomerHistory, in_force: Models, evidence: pa.Table) -> None:
    assert segment_evidence(facts, AS_OF, in_force).equals(evidence)


def test_models_that_are_judged_have_not_seen_the_window_that_judges_them(
    rows: dict[str, pa.Table], facts: CustomerHistory, in_force: Models
) -> None:
    """Everything inside the window costs ten times as much: the models that predict it stay the same."""
    apply = AS_OF - timedelta(days=SPEC.outcome_window_days)
    bought = rows["transactions"]
    amounts = pc.if_else(
        pc.greater(bought["day"], pa.scalar(apply)), pc.multiply(bought["amount"], 10.0), bought["amount"]
    )
    column = bought.column_names.index("amount")
    changed = CustomerHistory.from_rows(
        ENGINE, FeatureSpec(), **{**rows, "transactions": bought.set_column(column, "amount", amounts)}
    )
    then, again = (fit_models(one, apply, in_force.specs) for one in (facts, changed))
    learn = apply - timedelta(days=SPEC.outcome_window_days)
    predicted = [
        predict_day(one, apply, models, earlier_day=learn, until=AS_OF)
        for one, models in ((facts, then), (changed, again))
    ]
    assert then.layers == again.layers and then.lifecycle == again.lifecycle
    assert predicted[0] is not None and predicted[1] is not None
    for grouping in predicted[0].predictions:
        for measure in MEASURES:
            assert np.array_equal(
                predicted[0].predictions[grouping][measure], predicted[1].predictions[grouping][measure]
            )
    assert not np.allclose(predicted[0].outcomes["r2_spend"], predicted[1].outcomes["r2_spend"])


def test_evidence_does_not_ask_the_models_in_force(
    facts: CustomerHistory, in_force: Models, evidence: pa.Table
) -> None:
    """They have learnt from the window that is judged; only which families have one, and their specs, count."""
    blind = replace(in_force, value=object(), lifecycle=object(), layers=object())  # type: ignore[arg-type]
    assert segment_evidence(facts.until(AS_OF), AS_OF, blind).equals(evidence)


def test_families_without_a_model_in_force_are_not_fitted_for_the_evidence(
    facts: CustomerHistory, in_force: Models
) -> None:
    bare = replace(in_force, value=None, lifecycle=None, layers=None)
    rows = {row["grouping"]: row for row in segment_evidence(facts.until(AS_OF), AS_OF, bare).to_pylist()}
    assert rows[OURS]["r2_spend"] == pytest.approx(rows[STAGES]["r2_spend"], abs=0.02)


def test_short_history_and_nobody_give_an_empty_table(facts: CustomerHistory, in_force: Models) -> None:
    for day in (date(2024, 1, 20), date(2023, 12, 1)):
        assert segment_evidence(facts.until(day), day, in_force).num_rows == 0

"""Movements reconcile and name their cause; transition rows are probabilities and recover a known chain."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.choice import FitResult
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec
from ml.journeys import TransitionModel, TransitionSpec, forecast, markov_value, movements, path, summary, train
from ml.journeys.reasons import CHOICE_WORDS, ChoiceCode
from ml.journeys.training import train_on_states
from ml.journeys.transitions import fit
from ml.layers import SegmentSpec
from ml.lifecycle import LifecycleSpec
from ml.restate import Models, Specs
from ml.simulate import ShopSpec, simulate
from ml.value import ValueSpec
from tests.ml.vocabularies import is_said_by_its_figures, lacking, nonsense

ENGINE = DuckDB(threads=2)
TODAY = date(2024, 3, 10)
STAGES = ("prospect", "new", "active", "star", "reengaged", "churn")


def groups(rows: dict[str, str], day: date = TODAY) -> pa.Table:
    """Customer → string, as primary rows; the id of a string is the string."""
    return pa.table(
        {
            "customer_id": pa.array(list(rows), pa.string()),
            "day": pa.array([day] * len(rows), pa.date32()),
            "stage": pa.array([text.split("/")[0] for text in rows.values()], pa.string()),
            "micro_segment": pa.array(list(rows.values()), pa.string()),
            "micro_segment_id": pa.array(list(rows.values()), pa.string()),
        }
    )


def silent(*customers: str) -> pa.Table:
    return pa.table({"customer_id": list(customers), "recency_days": pa.array([3] * len(customers), pa.int64())})


def causes(moved: pa.Table) -> dict[str, str | None]:
    return dict(zip(moved["customer_id"].to_pylist(), moved["cause"].to_pylist(), strict=True))


# ── movements ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_on_the_first_day_everybody_is_an_entry() -> None:
    moved = movements(ENGINE, groups({"a": "new", "b": "active/value.A"}), None, None)
    assert set(causes(moved).values()) == {"entry"}
    assert moved["from_stage"].null_count == moved["restated_micro_segment_id"].null_count == 2
    assert moved.schema.names == [*tables.MOVEMENTS.names, "day"]


def test_nobody_known_gives_an_empty_table_of_the_same_columns() -> None:
    moved = movements(ENGINE, groups({}), groups({}), None)
    assert moved.num_rows == 0 and moved.schema.names == [*tables.MOVEMENTS.names, "day"]
    assert summary(ENGINE, moved).num_rows == 0


def test_each_cause_is_distinguished_from_the_others() -> None:
    yesterday = {"stays": "active/v.A", "acts": "active/v.A", "refit": "active/v.A", "both": "active/v.A"}
    restated = {"stays": "active/v.A", "acts": "active/v.A", "refit": "active/v.B", "both": "active/v.B"}
    today = {"stays": "active/v.A", "acts": "churn", "refit": "active/v.B", "both": "churn", "late": "new"}
    moved = movements(ENGINE, groups(today), groups(yesterday), groups(restated))
    assert causes(moved) == {
        "stays": None, "acts": "behaviour", "refit": "model", "both": "both", "late": "entry",
    }  # fmt: skip
    # A refit that a customer's own step undoes leaves it where it was published: that is no movement.
    back = movements(ENGINE, groups({"a": "active/v.A"}), groups({"a": "active/v.A"}), groups({"a": "active/v.B"}))
    assert causes(back) == {"a": None}


def test_a_refit_alone_is_never_attributed_to_behaviour() -> None:
    yesterday = {f"c{i}": f"active/v.{'AB'[i % 2]}" for i in range(20)}
    refitted = {name: text.translate(str.maketrans("AB", "BA")) for name, text in yesterday.items()}
    moved = movements(ENGINE, groups(refitted), groups(yesterday), groups(refitted))
    assert set(causes(moved).values()) == {"model"}
    assert set(causes(movements(ENGINE, groups(refitted), groups(yesterday), None)).values()) == {"behaviour"}


def test_an_expired_window_without_a_purchase_is_a_rule() -> None:
    yesterday = {"expired": "new/v.A", "bought": "new/v.A", "back": "reengaged", "lost": "new/v.A", "moved": "new/v.A"}
    today = {"expired": "active/v.A", "bought": "star/v.A", "back": "star", "lost": "churn", "moved": "new/v.B"}
    inputs = silent("expired", "back", "lost", "moved")
    moved = movements(ENGINE, groups(today), groups(yesterday), None, inputs)
    assert causes(moved) == {
        "expired": "rule", "bought": "behaviour", "back": "rule", "lost": "behaviour", "moved": "behaviour",
    }  # fmt: skip
    assert "rule" not in causes(movements(ENGINE, groups(today), groups(yesterday), None)).values()


def test_a_vanished_customer_stops_the_day_and_is_named() -> None:
    with pytest.raises(ValueError, match=r"2 customers of yesterday are missing today \(first: b\).*recompute"):
        movements(ENGINE, groups({"a": "new"}), groups({"a": "new", "b": "new", "c": "new"}), None)
    with pytest.raises(ValueError, match="1 customers of yesterday are missing in its restatement"):
        movements(ENGINE, groups({"a": "new"}), groups({"a": "new"}), groups({}))


def test_secondary_rows_and_several_days_are_refused() -> None:
    twice = pa.concat_tables([groups({"a": "new"}), groups({"a": "active"})])
    with pytest.raises(ValueError, match="today has 1 rows too many"):
        movements(ENGINE, twice, None, None)
    days = pa.concat_tables([groups({"a": "new"}), groups({"b": "new"}, TODAY - timedelta(days=1))])
    with pytest.raises(ValueError, match="2 days"):
        movements(ENGINE, days, None, None)


strings = st.sampled_from(["new", "active/v.A", "active/v.B", "star/v.A", "churn", "reengaged"])


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.tuples(strings, strings, strings, st.booleans())))
def test_yesterday_plus_entries_is_today(people: dict[str, tuple[str, str, str, bool]]) -> None:
    known = {name: row for name, row in people.items() if not row[3]}
    yesterday = {name: row[0] for name, row in known.items()}
    restated = {name: row[1] for name, row in known.items()}
    today = {name: row[2] for name, row in people.items()}
    moved = movements(ENGINE, groups(today), groups(yesterday), groups(restated), silent(*people))
    cause = causes(moved)
    assert moved["customer_id"].to_pylist() == sorted(people)
    assert sum(value == "entry" for value in cause.values()) + len(yesterday) == len(today)
    for name, value in cause.items():
        if name in known:
            assert (value is None) == (yesterday[name] == today[name])
            if value in ("behaviour", "rule"):
                assert restated[name] == yesterday[name]
    shuffled = groups(dict(reversed(list(today.items()))))
    assert movements(ENGINE, shuffled, groups(yesterday), groups(restated), silent(*people)).equals(moved)


def test_flows_add_up_and_carry_names() -> None:
    yesterday = {"a": "new", "b": "new", "c": "active/v.A"}
    today = {"a": "active/v.A", "b": "active/v.A", "c": "active/v.B", "d": "new"}
    moved = movements(ENGINE, groups(today), groups(yesterday), None)
    flows = summary(ENGINE, moved, {"active/v.A": "big spenders"}).to_pylist()
    by_stage = [(f["from_group"], f["to_group"], f["cause"], f["customers"]) for f in flows if f["level"] == "stage"]
    assert by_stage == [("new", "active", "behaviour", 2), (None, "new", "entry", 1)]
    fine = {(f["from_group"], f["to_group"]): f["customers"] for f in flows if f["level"] == "micro_segment"}
    assert fine == {("new", "big spenders"): 2, ("big spenders", "active/v.B"): 1, (None, "new"): 1}
    assert summary(ENGINE, moved, top=1).num_rows == 2


def test_a_path_lists_spells_in_order_with_their_dwell() -> None:
    days = [TODAY + timedelta(days=i) for i in range(6)]
    stages = pa.table(
        {
            "customer_id": ["a"] * 6 + ["b"],
            "day": pa.array([*days, days[2]], pa.date32()),
            "stage": ["new", "new", "active", "active", "new", "new", "churn"],
        }
    )
    rows = path(ENGINE, stages).to_pylist()
    assert [(r["customer_id"], r["position"], r["stage"], r["dwell_days"], r["is_current"]) for r in rows] == [
        ("a", 1, "new", 2, False), ("a", 2, "active", 2, False), ("a", 3, "new", 2, True), ("b", 1, "churn", 1, True),
    ]  # fmt: skip


# ── transitions ───────────────────────────────────────────────────────────────────────────────────────────────────


def cells(rows: list[tuple[str, str, int]]) -> pa.Table:
    texts, stages, counts = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "micro_segment": pa.array(texts, pa.string()),
            "to_stage": pa.array(stages, pa.string()),
            "customers": pa.array(counts, pa.int64()),
        }
    )


def chain(
    seed: int, *, customers: int = 3000, weeks: int = 8, churn_rates: tuple[float, float] = (0.05, 0.05)
) -> pa.Table:
    """Weekly states of a known chain: `active` with clusters A and B that leave for `churn` at their own rates."""
    random = np.random.default_rng(seed)
    cluster = random.integers(0, 2, customers)
    churned = np.zeros(customers, bool)
    parts = []
    for week in range(weeks + 1):
        text = np.where(churned, "churn", np.where(cluster == 0, "active/v.A", "active/v.B"))
        names = [f"c{i:05d}" for i in range(customers)]
        parts.append(groups(dict(zip(names, text, strict=True)), TODAY - timedelta(days=7 * (weeks - week))))
        chance = np.where(churned, 0.9, np.where(cluster == 0, *churn_rates))
        churned = random.random(customers) < chance
    return pa.concat_tables(parts)


rows_of_cells = st.lists(
    st.tuples(st.sampled_from(["new", "active", "active/v.A", "active/v.A/e.B", "star/v.A", "odd"]),
              st.sampled_from([*STAGES, "odd"]), st.integers(1, 50)), max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(rows_of_cells, st.sampled_from(["micro_segment", "stage"]))
def test_every_row_is_a_distribution_at_every_horizon(rows: list[tuple[str, str, int]], detail: str) -> None:
    model = fit(cells(rows), STAGES, TransitionSpec(), detail)  # type: ignore[arg-type]
    asked = ["active/v.A/e.B", "active/v.Z", "never/seen", "churn", ""]
    for horizon in (7, 28):
        chances = model.probabilities(asked, horizon)
        assert chances.shape == (len(asked), len(model.stages))
        assert np.allclose(chances.sum(axis=1), 1) and (chances >= 0).all()
    assert np.allclose(model.stage_matrix.sum(axis=1), 1) and np.allclose(model.staying.sum(axis=1), 1)


def test_a_row_is_shrunk_to_its_prefix_and_an_unknown_one_takes_it() -> None:
    model = fit(
        cells([("active/v.A", "churn", 5), ("active/v.B", "active", 995)]),
        ("active", "churn"),
        TransitionSpec(prior_strength=50),
    )
    stage = model.stage_matrix[0]
    few, many = model.row("active/v.A"), model.row("active/v.B")
    assert stage[1] < few[1] < 0.2  # five customers that all left count little against fifty of the prefix
    assert many[1] == pytest.approx(50 * stage[1] / 1045)
    assert np.array_equal(model.row("active/v.C"), stage)
    assert np.array_equal(model.row("active/v.A/e.B"), few)


def test_a_stage_nobody_was_seen_in_is_expected_to_stay_as_others_do() -> None:
    model = fit(
        cells([("active", "active", 90), ("active", "churn", 10)]), ("active", "churn", "new"), TransitionSpec()
    )
    assert model.row("new")[2] == pytest.approx(91 / 102)


def test_four_weeks_are_the_row_and_then_three_steps_of_the_stages() -> None:
    model = fit(
        cells([("active/v.A", "churn", 40), ("active/v.B", "active", 200), ("churn", "active", 9)]),
        STAGES,
        TransitionSpec(),
    )
    expected = model.row("active/v.A") @ model.stage_matrix @ model.stage_matrix @ model.stage_matrix
    assert np.allclose(model.probabilities(["active/v.A"], 28)[0], expected)
    with pytest.raises(ValueError, match="10 days is not a multiple of the 7-day step"):
        model.probabilities(["active/v.A"], 10)


def test_training_finds_the_rates_of_a_known_chain() -> None:
    training = train_on_states(ENGINE, chain(1, churn_rates=(0.02, 0.20)), TODAY, TransitionSpec(), None, STAGES)
    model = training.model
    assert isinstance(model, TransitionModel) and training.decision == "challenger"
    churn = model.stages.index("churn")
    assert model.row("active/v.A")[churn] == pytest.approx(0.02, abs=0.01)
    assert model.row("active/v.B")[churn] == pytest.approx(0.20, abs=0.02)
    assert model.row("churn")[churn] == pytest.approx(0.90, abs=0.03)
    figures = training.metrics
    assert model.detail == "micro_segment" and figures["gain_of_micro_segments_low"] > 0
    assert figures["log_loss_7d"] < figures["log_loss_7d_stage"] < figures["log_loss_7d_order_0"]
    assert figures["log_loss_28d"] < figures["log_loss_28d_stay"]
    assert {name: len(draw().axes) for name, draw in training.figures.items()} == {"transitions": 2, "log_loss": 1}


def test_micro_segments_that_predict_nothing_are_not_used() -> None:
    trainings = [
        train_on_states(ENGINE, chain(seed, churn_rates=(0.1, 0.1)), TODAY, TransitionSpec(), None, STAGES)
        for seed in range(10)
    ]
    assert [training.params["detail"] for training in trainings].count(
        "stage"
    ) >= 7  # chance alone lets about one in twenty through


def test_the_newest_week_never_reaches_the_model_that_is_judged_on_it() -> None:
    states = chain(3).to_pandas()
    spec = TransitionSpec()
    before = train_on_states(ENGINE, states, TODAY, spec, None, STAGES)
    last = states["day"] == TODAY
    states.loc[last, "stage"] = "churn"
    after = train_on_states(ENGINE, states, TODAY, spec, None, STAGES)
    assert after.metrics["log_loss_7d"] > 1.5 > before.metrics["log_loss_7d"]


def test_last_weeks_model_stays_unless_the_new_one_is_better() -> None:
    spec = TransitionSpec()
    states = chain(4)
    earlier = states.filter(pc.less(states["day"], TODAY))
    first = train_on_states(ENGINE, earlier, TODAY - timedelta(days=7), spec, None, STAGES)
    assert isinstance(first.model, TransitionModel)
    same = train_on_states(ENGINE, states, TODAY, spec, first.model, STAGES)
    assert same.decision == "incumbent" and same.incumbent_score is not None
    wrong = fit(cells([("active/v.A", "churn", 5000), ("active/v.B", "churn", 5000)]), STAGES, spec)
    assert train_on_states(ENGINE, states, TODAY, spec, wrong, STAGES).decision == "challenger"


def simulated_facts() -> tuple[CustomerHistory, date]:
    spec = ShopSpec(customers=300, days=130, seed=5)
    rows = {}
    for name, table in simulate(spec).tables.items():
        stamp = tables.INPUTS[name].stamp
        assert stamp is not None
        rows[name] = table.append_column("day", pc.cast(table[stamp], pa.date32(), safe=False))
    balances = tables.BALANCES.empty().append_column("day", pa.array([], pa.date32()))
    facts = CustomerHistory.from_rows(ENGINE, FeatureSpec(), **rows, balances=balances)
    return facts, date.fromisoformat(spec.start) + timedelta(days=spec.days - 1)


def test_training_restates_the_weeks_that_history_has() -> None:
    facts, as_of = simulated_facts()
    models = Models(None, None, None, Specs(ValueSpec(), LifecycleSpec(), SegmentSpec()))
    training = train(facts, as_of, TransitionSpec(), None, models=models)
    model = training.model
    assert isinstance(model, TransitionModel) and model.detail == "stage"  # no layers: the string is the stage
    assert set(model.stages) == set(LifecycleSpec().stage_names())
    known = facts.known([as_of - timedelta(days=7 * back) for back in range(1, 13)]).num_rows
    assert training.metrics["transitions"] == known == sum(map(sum, model.counts.values()))
    assert training.metrics["log_loss_7d"] < training.metrics["log_loss_7d_order_0"]
    early = train(
        facts.until(as_of - timedelta(days=100)), as_of - timedelta(days=100), TransitionSpec(), None, models=models
    )
    assert early.metrics["transitions"] < 5 * 300  # thirty days of history hold four steps
    sampled = train(facts, as_of, TransitionSpec(max_rows=1300), None, models=models)
    again = train(facts, as_of, TransitionSpec(max_rows=1300), None, models=models)
    assert 400 < sampled.metrics["transitions"] <= 1300 and sampled.model == again.model


def test_too_little_history_is_a_result() -> None:
    few = train_on_states(ENGINE, chain(5, customers=20), TODAY, TransitionSpec(), None, STAGES)
    one_step = train_on_states(ENGINE, chain(5, weeks=1), TODAY, TransitionSpec(), None, STAGES)
    nobody = train_on_states(ENGINE, groups({}), TODAY, TransitionSpec(), None, STAGES)
    for training in (few, one_step, nobody):
        assert training.model is None and training.decision == "none"
        assert lacking(training).code == ChoiceCode.TOO_FEW_TRANSITIONS
        assert is_said_by_its_figures(training, CHOICE_WORDS)
    model = fit(cells([]), STAGES, TransitionSpec())
    assert train_on_states(ENGINE, groups({}), TODAY, TransitionSpec(), model, STAGES).decision == "incumbent"


def test_training_does_not_depend_on_the_order_of_rows() -> None:
    states = chain(6, customers=500)
    shuffled = states.take(np.random.default_rng(0).permutation(states.num_rows))
    one, other = (train_on_states(ENGINE, rows, TODAY, TransitionSpec(), None, STAGES) for rows in (states, shuffled))
    assert one.model == other.model and one.metrics == other.metrics


def test_a_loaded_model_predicts_identically(tmp_path: Path) -> None:
    model = fit(
        cells([("active/v.A", "churn", 40), ("star/v.B", "active", 7)]), STAGES, TransitionSpec(horizons=(7, 14))
    )
    model.save(tmp_path)
    loaded = TransitionModel.load(tmp_path)
    frame = pd.DataFrame({"micro_segment": ["active/v.A", "star", None]}, index=[7, 8, 9])
    assert loaded == model
    pd.testing.assert_frame_equal(loaded.predict(frame), model.predict(frame))
    predicted = model.predict(frame)
    assert list(predicted.index) == [7, 8, 9] and "churn_14d" in predicted.columns
    assert np.allclose(predicted.filter(like="_14d").sum(axis=1), 1)
    assert np.allclose(model.predict(pd.DataFrame({"stage": ["star"]})).iloc[0], predicted.iloc[1])
    with pytest.raises(ValueError, match="needs the column micro_segment"):
        model.predict(pd.DataFrame({"recency_days": [1]}))


def test_a_spec_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        TransitionSpec(horizons=(7, 30))
    with pytest.raises(ValueError, match="strengths"):
        TransitionSpec(prior_strength=0)


# ── forecasts ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_forecasts_add_up_to_one_for_each_customer_and_horizon() -> None:
    model = fit(cells([("active/v.A", "churn", 40), ("star/v.B", "active", 7)]), STAGES, TransitionSpec())
    day_one, day_two = groups({"b": "active/v.A", "a": "odd/v.Q"}), groups({"a": "star/v.B"}, TODAY + timedelta(days=1))
    both = forecast(ENGINE, pa.concat_tables([day_one, day_two]), model)
    assert both.schema.names == [*tables.JOURNEY_FORECASTS.names, "day"]
    sums = both.to_pandas().groupby(["day", "customer_id", "horizon_days"])["probability"].sum()
    assert len(sums) == 6 and np.allclose(sums, 1)
    assert pa.concat_tables([forecast(ENGINE, day_one, model), forecast(ENGINE, day_two, model)]).equals(both)


def test_without_a_model_or_customers_forecasts_are_empty_tables() -> None:
    model = fit(cells([]), STAGES, TransitionSpec())
    for empty in (forecast(ENGINE, groups({"a": "new"}), None), forecast(ENGINE, groups({}), model)):
        assert empty.num_rows == 0 and empty.schema.names == [*tables.JOURNEY_FORECASTS.names, "day"]


def test_markov_value_reproduces_the_published_figures() -> None:
    stay = (0.5, 0.2, 0.1, 0.0)  # chance to buy again after 1, 2, 3 periods of silence; then lost for good
    transitions = np.zeros((4, 4))
    for state, chance in enumerate(stay):
        transitions[state, 0] += chance
        transitions[state, min(state + 1, 3)] += 1 - chance
    assert markov_value(transitions, (100, 0, 0, 0), 0.1).round(2).tolist() == [231.08, 57.29, 21.01, 0.0]


def test_markov_value_refuses_what_has_no_value() -> None:
    with pytest.raises(ValueError, match="above 0"):
        markov_value([[1.0]], [1], 0)
    with pytest.raises(ValueError, match="add up to 1"):
        markov_value([[0.5]], [1], 0.1)
    with pytest.raises(ValueError, match="do not fit"):
        markov_value([[1.0]], [1, 2], 0.1)


def test_other_words_change_nothing_but_the_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def week() -> FitResult:
        return train_on_states(ENGINE, chain(30, customers=400), TODAY, TransitionSpec(), None, STAGES)

    sense = week()
    assert is_said_by_its_figures(sense, CHOICE_WORDS)
    monkeypatch.setattr("ml.journeys.training.CHOICE_WORDS", nonsense(CHOICE_WORDS))
    other = week()
    assert other.reason != sense.reason
    for name in ("decision", "reason_code", "reason_parameters", "model", "metrics", "params"):
        assert getattr(other, name) == getattr(sense, name), name

"""The evidence worlds are what the design's table says, and their truth can be found in their rows."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import adjusted_rand_score

from ml.simulate import evidence, worlds
from ml.simulate.worlds import WORLDS, EffectWorld, Moment, TransitionWorld
from ml.simulate.worlds import effects as effect_worlds
from ml.simulate.worlds.layers import FEATURES, SPLIT_WEEK
from ml.simulate.worlds.transitions import HALVED_BY, leaving_by_week, target

NAMES = list(WORLDS)


def to_bytes(value: Any) -> bytes:
    if isinstance(value, pa.Table):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, value.schema) as file:
            file.write_table(value)
        return bytes(sink.getvalue())
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return b"".join(to_bytes(one) for one in value.values())
    return b"" if callable(value) else repr(value).encode()


def world_bytes(world: Any) -> bytes:
    return b"".join(to_bytes(getattr(world, field.name)) for field in fields(world))


# ── all of them ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NAMES)
def test_a_world_has_the_moments_that_the_design_states(name: str) -> None:
    for seed in range(3):
        moments = WORLDS[name](seed).moments()
        assert len(moments) >= 4
        assert [moment for moment in moments if moment.is_off] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(name: str) -> None:
    one, again, other = (world_bytes(WORLDS[name](seed)) for seed in (5, 5, 6))
    assert one == again
    assert one != other


@pytest.mark.parametrize("name", NAMES)
def test_a_world_has_no_missing_rows_and_no_truth_among_its_data(name: str) -> None:
    data = WORLDS[name](0).data  # type: ignore[attr-defined]
    assert not {"cluster", "second_cluster", "trait", "effect", "dwell"} & set(data.column_names)
    optional = {"propensity"}
    assert all(data[column].null_count == 0 for column in data.column_names if column not in optional)


def test_a_moment_is_off_when_sampling_error_does_not_explain_it() -> None:
    assert not Moment("m", 1.39, 1, 1, 0.1).is_off
    assert Moment("m", 1.41, 1, 1, 0.1).is_off
    assert Moment("m", 0.5, 1, 1).is_off and not Moment("m", 1.0, 1, 1).is_off
    assert not Moment("range", 2.0, 1, 3).is_off and Moment("range", 3.1, 1, 3, 0.01).is_off
    assert Moment("m", float("nan"), 1, 1, 0.1).is_off


# ── layers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def agreement(world: worlds.LayerWorld, stage: str) -> float:
    """Adjusted Rand index of k-means with the true k, and the truth, without those who are midway."""
    rows = world.stage(stage)
    scaled = rows.logs / world.log_sd[stage]
    labels = KMeans(rows.centres.shape[1], n_init=4, random_state=0).fit_predict(scaled)
    core = rows.second < 0
    return float(adjusted_rand_score(rows.cluster[core], labels[core]))


def test_clear_clusters_can_be_found_and_overlapping_ones_less_so() -> None:
    clear = [agreement(worlds.clear_layers(seed), "active") for seed in range(3)]
    overlapping = [agreement(worlds.overlapping_layers(seed), "active") for seed in range(3)]
    assert min(clear) > 0.85
    assert min(overlapping) > 0.35 and max(overlapping) < 0.8


def test_the_stages_differ_in_their_layouts() -> None:
    world = worlds.clear_layers(1)
    assert len({world.centres[stage].shape[1] for stage in world.centres} | {0}) > 1 or len(world.centres) > 1
    assert not np.allclose(world.centres["new"][0, :3], world.centres["star"][0, :3])


def test_customers_midway_are_nearest_to_the_two_they_lie_between() -> None:
    world = worlds.overlapping_layers(2)
    rows = world.stage("star")
    midway = rows.second >= 0
    offsets = rows.logs[midway] - np.log([120.0, 6.0, 20.0, 15.0])
    distances = np.linalg.norm(offsets[:, None] / world.log_sd["star"] - rows.centres[0], axis=2)
    one, other = (
        distances[np.arange(midway.sum()), rows.cluster[midway]],
        distances[np.arange(midway.sum()), rows.second[midway]],
    )
    assert np.allclose(one, other)
    assert (np.argsort(distances, axis=1)[:, :2] == rows.cluster[midway][:, None]).any(axis=1).mean() > 0.75


def test_drifting_customers_are_the_same_ones_every_week_and_split_overnight() -> None:
    world = worlds.drifting_layers(0)
    frame = world.data.to_pandas().assign(cluster=world.truth["cluster"].to_pandas())
    assert frame.groupby("week")["customer_id"].nunique().eq(5_000).all()
    clusters = frame.groupby("week")["cluster"].nunique()
    assert clusters[SPLIT_WEEK] == clusters[SPLIT_WEEK - 1] + 1
    wide = np.log(frame.pivot_table(index="customer_id", columns="week", values=FEATURES[0]))
    stayed = frame[frame["cluster"] == 1].groupby("customer_id").size().eq(10)
    assert wide.loc[stayed[stayed].index].corr()[0][1] == pytest.approx(0.9, abs=0.03)


# ── transitions ───────────────────────────────────────────────────────────────────────────────────────────────────


def recovered(world: TransitionWorld) -> np.ndarray[Any, Any]:
    """Standardised differences between the counted rows and the law, where there are enough customers to count."""
    now, after = world.states[:, :-1].ravel(), world.states[:, 1:].ravel()
    before, week = world.previous[:, :-1].ravel(), np.minimum(world.dwell[:, :-1].ravel(), HALVED_BY) - 1
    counts = np.zeros(world.law.shape)
    np.add.at(counts, (before, now, week, after), 1)
    n = counts.sum(axis=-1, keepdims=True)
    law, usual = world.law, (n * world.law > 10) & (n * (1 - world.law) > 10)
    z = (counts - n * law) / np.sqrt(np.maximum(n * law * (1 - law), 1e-9))
    return np.asarray(z[usual])


@pytest.mark.parametrize("draw", [worlds.memoryless, worlds.second_order, worlds.dwell_dependent])
def test_the_stated_law_is_the_one_the_rows_follow(draw: Any) -> None:
    world = draw(3)
    assert np.allclose(world.law.sum(axis=-1), 1) and world.law.min() >= 0
    z = recovered(world)
    assert len(z) > 200
    assert abs(z.mean()) < 0.2 and 0.85 < z.std() < 1.15 and np.abs(z).max() < 4.5


def test_data_are_the_states_by_name() -> None:
    world = worlds.memoryless(0, customers=20, weeks=6)
    frame = world.data.to_pandas()
    assert frame.shape == (120, 3)
    states = frame.pivot_table(index="customer_id", columns="week", values="state", aggfunc="first").to_numpy()
    assert (states == np.array(list("ABCDE"))[world.states]).all()


def test_second_order_matters_in_the_first_week_only() -> None:
    law = worlds.second_order(1).law
    for before in range(5):
        for now in range(5):
            shift = law[before, now, 0] - law[now, now, 1]
            wanted = np.zeros(5)
            if before != now:
                wanted[now], wanted[target(before, now)] = -0.15, 0.15
            assert np.allclose(shift, wanted)
            assert target(before, now) != now or before == now
    assert np.allclose(law[:, :, 1:], law[:1, :, 1:2])


def test_odds_of_leaving_halve_between_week_1_and_8_and_the_mean_stay_is_as_stated() -> None:
    for stay in (0.75, 0.85, 0.95):
        exit_chance = leaving_by_week(stay)
        odds = exit_chance / (1 - exit_chance)
        assert odds[7] / odds[0] == pytest.approx(0.5)
        assert np.allclose(np.diff(np.log(odds)), np.log(0.5) / 7)
        survival, weeks = 1.0, 0.0
        for week in range(5_000):
            weeks += survival
            survival *= 1 - exit_chance[min(week, 7)]
        assert 1 - 1 / weeks == pytest.approx(stay)


# ── effects ───────────────────────────────────────────────────────────────────────────────────────────────────────


def difference(world: EffectWorld, action: int, weights: np.ndarray[Any, Any] | None = None) -> tuple[float, float]:
    """Weighted difference in mean outcome between an action and control, and its standard error; % of mean outcome."""
    outcome = world.data["outcome"].to_numpy() / effect_worlds.MEAN_OUTCOME * 100
    weights = np.ones(len(outcome)) if weights is None else weights
    means, errors = [], []
    for arm in (action + 1, 0):
        own, outcomes = weights[world.arm == arm], outcome[world.arm == arm]
        means.append(np.average(outcomes, weights=own))
        errors.append(np.sqrt((own**2 * (outcomes - means[-1]) ** 2).sum()) / own.sum())
    return means[0] - means[1], float(np.hypot(*errors))


def pooled(draw: Any, action: int, weigh: Any = lambda world: None, seeds: int = 6) -> tuple[float, float]:
    differences = np.array([difference(world, action, weigh(world)) for world in map(draw, range(seeds))])
    return float(differences[:, 0].mean()), float(np.sqrt((differences[:, 1] ** 2).sum()) / seeds)


@pytest.mark.parametrize(
    ("draw", "effects"),
    [
        (worlds.randomised_effects, (8, 3, 0)),
        (worlds.constant_effect, (8, 3, 0)),
        (worlds.no_effect, (0, 0, 0)),
    ],
)
def test_where_chance_chose_plain_differences_give_the_mean_effects(draw: Any, effects: tuple[float, ...]) -> None:
    for action, effect in enumerate(effects):
        estimate, error = pooled(draw, action)
        assert error < 1.8
        assert abs(estimate - effect) < 3.5 * error, action


def test_customers_effects_are_the_slope_of_what_rows_show() -> None:
    """An outcome that is turned into a customer's effect by its propensity must follow the true effect one to one."""
    slopes = []
    for seed in range(6):
        world = worlds.randomised_effects(seed)
        outcome = world.data["outcome"].to_numpy()
        for action in range(3):
            own = (world.arm == action + 1) / world.propensities[:, action + 1]
            shown = (own - (world.arm == 0) / world.propensities[:, 0]) * outcome
            slopes.append(LinearRegression().fit(world.effects[:, [action]], shown).coef_[0])
    assert np.mean(slopes) == pytest.approx(1, abs=3.5 * np.std(slopes) / np.sqrt(len(slopes)))
    assert np.std(slopes) / np.sqrt(len(slopes)) < 0.2


def test_effects_are_driven_by_features_and_by_the_micro_segment() -> None:
    world = worlds.randomised_effects(0)
    value, recency = np.log(world.data["value"].to_numpy()), np.log(world.data["recency_days"].to_numpy())
    assert abs(np.corrcoef(world.effects[:, 0], world.data["visits"].to_numpy())[0, 1]) < 0.03
    features = np.column_stack([value, recency, world.data["discount_share"].to_numpy()])
    cells = world.data["micro_segment"].to_pandas().astype("category").cat.codes.to_numpy()
    dummies = np.eye(cells.max() + 1)[cells]
    by_feature = LinearRegression().fit(features, world.effects[:, 0]).score(features, world.effects[:, 0])
    both = np.column_stack([features, dummies])
    by_both = LinearRegression().fit(both, world.effects[:, 0]).score(both, world.effects[:, 0])
    assert by_both > by_feature + 0.1 > 0.2
    assert world.data["micro_segment"].to_pandas().value_counts().min() > 30


def test_targeting_misleads_and_true_or_estimated_propensities_put_it_right() -> None:
    naive, error = pooled(worlds.measured_confounding, 2)
    assert naive > 10 * error and naive > 50  # the call does nothing

    def true(world: EffectWorld) -> np.ndarray[Any, Any]:
        return np.asarray(1 / world.propensities[np.arange(len(world.arm)), world.arm])

    adjusted, error = pooled(worlds.measured_confounding, 2, true)
    assert abs(adjusted) < 3.5 * error


def test_what_is_hidden_cannot_be_put_right_by_what_is_measured_but_the_month_before_gives_it_away() -> None:
    def measured(world: EffectWorld) -> np.ndarray[Any, Any]:
        logs = np.log(world.data.select(["value", "recency_days"]).to_pandas().to_numpy())
        model = LogisticRegression().fit(logs, world.arm > 0)
        chance = model.predict_proba(logs)[:, 1]
        return np.where(world.arm > 0, 1 / chance, 1 / (1 - chance))

    adjusted, error = pooled(worlds.hidden_confounding, 2, measured)
    assert adjusted > 10 * error and adjusted > 30
    world = worlds.hidden_confounding(0)
    before = world.data["spend_before"].to_numpy()
    assert before[world.arm > 0].mean() > 1.3 * before[world.arm == 0].mean()
    assert world.data["propensity"].null_count == world.data.num_rows


def test_forty_percent_stay_at_zero_in_every_arm() -> None:
    world = worlds.randomised_effects(4)
    outcome = world.data["outcome"].to_numpy()
    assert ((outcome == 0) == (world.untreated == 0)).all() and outcome.min() >= 0
    for arm in range(4):
        assert (outcome[world.arm == arm] == 0).mean() == pytest.approx(0.4, abs=0.03)


# ── the printed table ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_table_says_what_is_off_and_the_exit_code_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fake:
        def __init__(self, measured: float) -> None:
            self.measured = measured

        def moments(self) -> list[Moment]:
            return [Moment("distance, SD", self.measured, 4, 4, 0.01), Moment("share", 0.5, 0.2, 0.8)]

    monkeypatch.setattr(evidence, "WORLDS", {"near": lambda seed: Fake(4.0), "far": lambda seed: Fake(4.2)})
    assert evidence.main(seeds=2) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split()[-1] for line in lines[2:6]] == ["ok", "ok", "OFF", "ok"]
    assert {len(line.removesuffix("OFF").removesuffix("ok")) for line in lines[2:6]} == {len(lines[2]) - 2}
    assert "far: distance, SD" in err
    monkeypatch.setattr(evidence, "WORLDS", {"near": lambda seed: Fake(4.0)})
    assert evidence.main(seeds=2) == 0


def test_a_bias_too_small_for_one_seed_is_found_by_all_of_them() -> None:
    moments = tuple(Moment("m", 1.3, 1, 1, 0.1) for _ in range(10))
    assert not any(moment.is_off for moment in moments)
    assert evidence.Measured("w", moments).is_off

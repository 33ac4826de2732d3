"""Layers against worlds whose truth is known: ten seeds of each, four stages a world.

Clusters of these worlds overlap: who knew the true centres and shares without error would still agree with the truth
only to an adjusted Rand index of .90 (clear) and .59 (overlapping) over all customers. The bar of .9 for clear layers
is met there; that of .7 for overlapping ones is asked of those customers who are given one cluster only.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import adjusted_rand_score

from ml.segments import LayerModels, LayerSpec, SegmentSpec, assign, fit_layers
from ml.segments.training import with_parts
from ml.simulate.worlds.layers import (
    FEATURES,
    SPLIT_WEEK,
    STAGES,
    WEEKS,
    LayerWorld,
    clear_layers,
    drifting_layers,
    no_layers,
    overlapping_layers,
)
from tests.evidence.seeds import SEEDS

SPEC = SegmentSpec((LayerSpec("group", FEATURES),))
START = date(2024, 1, 7)


def rows(world: LayerWorld, week: int = 0) -> pa.Table:
    here = world.data.filter(pc.equal(world.data["week"], week))
    return here.append_column("day", pa.array([START + timedelta(7 * week)] * here.num_rows, pa.date32()))


def placed(table: pa.Table, model: LayerModels) -> pd.DataFrame:
    """Per customer the primary letter and how many clusters it is given."""
    found = assign(table, model).to_pandas()
    first = found[found.is_primary].set_index("customer_id").cluster
    return pd.DataFrame({"letter": first, "given": found.groupby("customer_id").size()})


def told(world: LayerWorld) -> pd.DataFrame:
    """A row per stage: kind, whether k is right, agreement with the truth, and who is given two clusters."""
    table = rows(world)
    model = fit_layers(table, SPEC)
    customers = world.truth.to_pandas().merge(placed(table, model), left_on="customer_id", right_index=True)
    found = []
    for stage in STAGES:
        fitted, here, truth = model.of(stage, SPEC.layers[0]), customers[customers.stage == stage], world.stage(stage)
        row = {"natural": fitted.kind == "natural", "right": len(fitted.letters) == truth.centres.shape[1]}
        if truth.centres.shape[1]:
            spot = truth.logs - np.log([120.0, 6.0, 20.0, 15.0])
            away = np.linalg.norm(spot / world.log_sd[stage] - truth.centres[0][truth.cluster], axis=1)
            own, one = truth.second < 0, here.given.to_numpy() == 1
            letters = here.letter.to_numpy()
            row |= {
                "all": adjusted_rand_score(truth.cluster[own], letters[own]),
                "decided": adjusted_rand_score(truth.cluster[own & one], letters[own & one]),
                "midway_both": (~one[~own]).mean() if (~own).any() else np.nan,
                "near_one": one[own & (away <= 1)].mean(),
            }
        found.append(row)
    return pd.DataFrame(found)


def of_worlds(make: Callable[[int], LayerWorld]) -> pd.DataFrame:
    return pd.concat([told(make(seed)).assign(seed=seed) for seed in SEEDS])


def test_clear_layers_are_found_with_their_number_and_their_members() -> None:
    found = of_worlds(clear_layers)
    print(found.drop(columns=["midway_both"]).groupby("seed").mean().describe().loc[["mean", "min"]])
    assert (found.groupby("seed").right.mean() == 1).mean() >= 0.9
    assert found["all"].mean() >= 0.9 and found.decided.min() >= 0.9


def test_overlapping_layers_give_both_clusters_to_those_between() -> None:
    found = of_worlds(overlapping_layers)
    print(found.groupby("seed").mean().describe().loc[["mean", "min"]])
    assert found.natural.mean() >= 0.85 and found.right.mean() >= 0.625
    assert found.decided.mean() >= 0.7 and found.midway_both.mean() >= 0.8 and found.near_one.mean() >= 0.95


def test_where_there_are_no_layers_none_are_claimed() -> None:
    found = of_worlds(no_layers)
    assert found.groupby("seed").natural.any().sum() <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_drift_is_followed_within_three_weeks_and_who_did_not_drift_keeps_its_letter(seed: int) -> None:
    world = drifting_layers(seed)
    truth = world.truth.to_pandas().pivot(index="customer_id", columns="week", values="cluster")
    first = force = fit_layers(rows(world), SPEC)
    weeks: list[int] = []
    for week in range(1, WEEKS):
        refit = fit_layers(rows(world, week), SPEC, force)
        drifted = [model for model in refit.models if model.drift]
        if drifted:
            force, weeks = with_parts(force, refit, drifted), [*weeks, week]
    assert weeks and SPLIT_WEEK <= weeks[0] <= SPLIT_WEEK + 3 and len(weeks) <= 3
    last = rows(world, WEEKS - 1)
    before, after = (placed(last, model).letter.reindex(truth.index) for model in (first, force))
    assert adjusted_rand_score(truth[9], after) >= adjusted_rand_score(truth[9], before) - 0.02
    # Cluster 0 splits; of all others each true cluster goes on under the letter it had.
    start = placed(rows(world), first).letter.reindex(truth.index)
    for cluster in set(truth[0]) - {0}:
        assert after[truth[9] == cluster].mode()[0] == start[truth[0] == cluster].mode()[0]

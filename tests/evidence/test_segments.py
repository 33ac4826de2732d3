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

from ml.layers import LayerModels, LayerSpec, SegmentSpec, assign, fit_layers
from ml.layers.training import with_parts
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
    table = world.data.filter(pc.equal(world.data["week"], week))
    return table.append_column("day", pa.array([START + timedelta(7 * week)] * table.num_rows, pa.date32()))


def clusters_of_customers(table: pa.Table, model: LayerModels) -> pd.DataFrame:
    """Per customer the primary letter and how many clusters it is given."""
    assignments = assign(table, model).to_pandas()
    primary = assignments[assignments.is_primary].set_index("customer_id").cluster
    return pd.DataFrame({"letter": primary, "given": assignments.groupby("customer_id").size()})


def scores(world: LayerWorld) -> pd.DataFrame:
    """A row per stage: kind, whether k is right, agreement with the truth, and who is given two clusters."""
    table = rows(world)
    model = fit_layers(table, SPEC)
    customers = world.truth.to_pandas().merge(
        clusters_of_customers(table, model), left_on="customer_id", right_index=True
    )
    by_stage = []
    for stage in STAGES:
        fitted, of_stage, truth = (
            model.of(stage, SPEC.layers[0]),
            customers[customers.stage == stage],
            world.stage(stage),
        )
        row = {"natural": fitted.kind == "natural", "right": len(fitted.letters) == truth.centres.shape[1]}
        if truth.centres.shape[1]:
            deviations = truth.logs - np.log([120.0, 6.0, 20.0, 15.0])
            distances = np.linalg.norm(deviations / world.log_sd[stage] - truth.centres[0][truth.cluster], axis=1)
            has_one_cluster, is_given_one = truth.second < 0, of_stage.given.to_numpy() == 1
            letters = of_stage.letter.to_numpy()
            row |= {
                "all": adjusted_rand_score(truth.cluster[has_one_cluster], letters[has_one_cluster]),
                "decided": adjusted_rand_score(
                    truth.cluster[has_one_cluster & is_given_one], letters[has_one_cluster & is_given_one]
                ),
                "midway_both": (~is_given_one[~has_one_cluster]).mean() if (~has_one_cluster).any() else np.nan,
                "near_one": is_given_one[has_one_cluster & (distances <= 1)].mean(),
            }
        by_stage.append(row)
    return pd.DataFrame(by_stage)


def of_worlds(make: Callable[[int], LayerWorld]) -> pd.DataFrame:
    return pd.concat([scores(make(seed)).assign(seed=seed) for seed in SEEDS])


def test_clear_layers_are_found_with_their_number_and_their_members() -> None:
    results = of_worlds(clear_layers)
    print(results.drop(columns=["midway_both"]).groupby("seed").mean().describe().loc[["mean", "min"]])
    assert (results.groupby("seed").right.mean() == 1).mean() >= 0.9
    assert results["all"].mean() >= 0.9 and results.decided.min() >= 0.9


def test_overlapping_layers_give_both_clusters_to_those_between() -> None:
    results = of_worlds(overlapping_layers)
    print(results.groupby("seed").mean().describe().loc[["mean", "min"]])
    assert results.natural.mean() >= 0.85 and results.right.mean() >= 0.625
    assert results.decided.mean() >= 0.7 and results.midway_both.mean() >= 0.8 and results.near_one.mean() >= 0.95


def test_where_there_are_no_layers_none_are_claimed() -> None:
    results = of_worlds(no_layers)
    assert results.groupby("seed").natural.any().sum() <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_drift_is_followed_within_three_weeks_and_who_did_not_drift_keeps_its_letter(seed: int) -> None:
    world = drifting_layers(seed)
    truth = world.truth.to_pandas().pivot(index="customer_id", columns="week", values="cluster")
    first = in_force = fit_layers(rows(world), SPEC)
    weeks: list[int] = []
    for week in range(1, WEEKS):
        refit = fit_layers(rows(world, week), SPEC, in_force)
        drifted = [model for model in refit.models if model.drift]
        if drifted:
            in_force, weeks = with_parts(in_force, refit, drifted), [*weeks, week]
    assert weeks and SPLIT_WEEK <= weeks[0] <= SPLIT_WEEK + 3 and len(weeks) <= 3
    last = rows(world, WEEKS - 1)
    before, after = (clusters_of_customers(last, model).letter.reindex(truth.index) for model in (first, in_force))
    assert adjusted_rand_score(truth[9], after) >= adjusted_rand_score(truth[9], before) - 0.02
    # Cluster 0 splits; of all others each true cluster goes on under the letter it had.
    start = clusters_of_customers(rows(world), first).letter.reindex(truth.index)
    for cluster in set(truth[0]) - {0}:
        assert after[truth[9] == cluster].mode()[0] == start[truth[0] == cluster].mode()[0]

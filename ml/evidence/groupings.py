"""Other ways to group customers, and what each way tells: the yardsticks that micro-segments are held against.

Belongs here: RFM grids, random groups, bins of predicted spend, an individual model, the groups that are acted upon,
and the prediction of each for one later day. Does not belong here: which days and models are judged (see `comparison`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from ml.boosting import Binned, predict, run_in_parallel
from ml.columns import is_number, numbers
from ml.segments.micro_segments import prefixes
from ml.segments.shrinkage import apply_means, shrunken_means

STAGES, RFM, RANDOM = "stage only", "RFM quintile grid", "random groups"
RFM_LIFETIME = "lifetime RFM quintile grid"
GRIDS = {
    RFM: ("recency_days", "orders_90d", "spend_90d"),
    # Where most customers have not bought for 90 days, the other one has few cells that anybody is in.
    RFM_LIFETIME: ("recency_days", "purchase_days", "spend"),
}
OURS, BINS, INDIVIDUAL = "micro-segments", "quantile bins of predicted spend", "individual model"
MEASURES = ("r2_spend", "r2_log_spend")
LEAST_CUSTOMERS = 30  # of a group that is acted upon
FOLDS = 3
RECIPE = {
    "objective": "regression",
    "learning_rate": 0.07,
    "num_leaves": 7,
    "min_data_in_leaf": 30,
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
}


@dataclass(frozen=True)
class Judged:
    """What each grouping told of one day's customers, and what came.

    Parameters
    ----------
    customers : who, shape (n,)
    came : measure to what followed, shape (n,)
    told : grouping to measure to what it told, shape (n,)
    groups : grouping to the number of groups that the day's customers are in
    """

    customers: np.ndarray
    came: dict[str, np.ndarray]
    told: dict[str, dict[str, np.ndarray]]
    groups: dict[str, int]


def judged(restated: pa.Table, spend: np.ndarray, first: np.ndarray, seed: int = 0) -> Judged:
    """What each grouping, learnt on an earlier day, tells of each customer of a later one.

    Every grouping learns shrunken means: up its own prefixes where it has them (micro-segment → … → stage; R/F/M → R/F
    → R), else towards the overall mean.

    - `micro-segments` are what is acted upon: a string with fewer than 30 customers on the later day takes the mean of
      its longest prefix that has 30.
    - `quantile bins of predicted spend`: as many as there are such groups, of the individual model's prediction; on the
      earlier day that is cross-fitted, so that its bins do not see their own labels.
    - `RFM quintile grid`: recency, orders and spend of the last 90 days; `lifetime RFM quintile grid`: recency, and
      purchase days and spend since the first day.
    - `random groups`: the sizes of those groups, dealt out by chance; a customer keeps the group.
    - `individual model`: LightGBM on all numbers that a micro-segment may look at, the value model's among them.

    Parameters
    ----------
    restated : `ml.restate.restate` of both days, by day and customer
    spend : net revenue of the window after each row's day
    first : the rows of the earlier day
    """
    later = ~first
    customers = np.array(restated["customer_id"].to_pylist(), dtype=str)
    strings = np.array(restated["micro_segment"].to_pylist(), dtype=str)
    acted = acted_upon(strings[later])
    count = len(np.unique(acted))
    stages = np.array(restated["stage"].to_pylist(), dtype=str)
    dealt = _random(customers, acted_upon(strings[first]), seed)
    grids = {name: _rfm(restated, first, columns) for name, columns in GRIDS.items()}
    # Each with what it learns by, and what it looks up.
    groupings = {
        STAGES: (stages[first], stages[later]),
        **{name: (grid[first], grid[later]) for name, grid in grids.items()},
        RANDOM: (dealt[first], dealt[later]),
        OURS: (strings[first], acted),
    }
    came = {"r2_spend": spend, "r2_log_spend": np.log1p(np.maximum(spend, 0))}
    told: dict[str, dict[str, np.ndarray]] = {name: {} for name in (*groupings, BINS, INDIVIDUAL)}
    data = Binned(_matrix(restated))
    for measure, outcome in came.items():
        for name, (learnt, asked) in groupings.items():
            told[name][measure] = apply_means(shrunken_means(learnt, outcome[first]), asked)
        predicted = _predictions(data, outcome, first, seed)
        cuts = np.unique(np.quantile(predicted[first], np.arange(1, count) / count)) if count > 1 else np.zeros(0)
        binned = np.searchsorted(cuts, predicted, side="right").astype(str)
        told[BINS][measure] = apply_means(shrunken_means(binned[first], outcome[first]), binned[later])
        told[INDIVIDUAL][measure] = predicted[later]
    groups = {name: len(np.unique(asked)) for name, (_, asked) in groupings.items()}
    groups |= {BINS: count, INDIVIDUAL: int(later.sum())}
    return Judged(customers[later], {name: outcome[later] for name, outcome in came.items()}, told, groups)


def acted_upon(strings: np.ndarray, least: int = LEAST_CUSTOMERS) -> np.ndarray:
    """Each string, or its longest prefix that at least `least` of the rows have; empty where not even a stage has."""
    leaves, counts = np.unique(strings, return_counts=True)
    members: Counter[str] = Counter()
    for leaf, count in zip(leaves.tolist(), counts.tolist(), strict=True):
        members.update(dict.fromkeys(prefixes(leaf), count))
    enough = {leaf: next((one for one in reversed(prefixes(leaf)) if members[one] >= least), "") for leaf in leaves}
    return np.array([enough[string] for string in strings.tolist()], dtype=str)


def _rfm(restated: pa.Table, first: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """``R2/F5/M4``: quintiles with borders of the earlier day; a customer without a purchase is in quintile 0.

    Parameters
    ----------
    columns : of recency, of frequency, of money
    """
    parts = []
    for name, column in zip("RFM", columns, strict=True):
        values = numbers(restated[column])
        known = ~np.isnan(values)
        cuts = np.quantile(values[first & known], [0.2, 0.4, 0.6, 0.8]) if (first & known).any() else np.zeros(4)
        fifth = np.where(known, 1 + np.searchsorted(cuts, values, side="right"), 0)
        parts.append(np.char.add(name, fifth.astype(str)))
    return np.char.add(np.char.add(np.char.add(np.char.add(parts[0], "/"), parts[1]), "/"), parts[2])


def _random(customers: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """The sizes of some groups with members drawn by chance; the same customer has the same group on both days."""
    rng = np.random.default_rng(seed)
    codes = np.unique(groups, return_inverse=True)[1]
    everybody = np.unique(customers)
    dealt = rng.permutation(np.resize(rng.permutation(codes), len(everybody)))
    result: np.ndarray = np.char.add("g", dealt[np.searchsorted(everybody, customers)].astype(str))
    return result


def _matrix(restated: pa.Table) -> np.ndarray:
    """All numbers of `layer_inputs`, shape (n, features)."""
    return np.stack([numbers(restated[field.name]) for field in restated.schema if is_number(field.type)], axis=1)


def _predictions(data: Binned, outcome: np.ndarray, first: np.ndarray, seed: int) -> np.ndarray:
    """Predicted outcome: on the later day by the model of the earlier one, on the earlier day cross-fitted."""
    fold = np.full(len(outcome), -1)
    fold[first] = np.random.default_rng(seed).permutation(int(first.sum())) % FOLDS

    def told(held: np.ndarray) -> np.ndarray:
        return predict(data.fit(outcome, RECIPE, rounds=60, seed=seed, rows=first & ~held), data.matrix[held])

    parts = [~first, *(fold == number for number in range(FOLDS))]
    predicted = np.zeros(len(outcome))
    for held, values in zip(parts, run_in_parallel([partial(told, held) for held in parts], len(outcome)), strict=True):
        predicted[held] = values
    return predicted

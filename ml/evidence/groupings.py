"""Alternative groupings of customers, and their predictions: the benchmarks for micro-segments.

Belongs here: RFM grids, random groups, bins of predicted spend, an individual model, the groups large enough to act on,
and the predictions of each for one later day. Does not belong here: which days and models are compared (see
`comparison`).
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
from ml.layers.shrinkage import apply_means, shrunken_means
from ml.layers.strings import prefixes

STAGES, RFM, RANDOM = "stage only", "RFM quintile grid", "random groups"
RFM_LIFETIME = "lifetime RFM quintile grid"
GRIDS = {
    RFM: ("recency_days", "orders_90d", "spend_90d"),
    # Where most customers have not bought for 90 days, most cells of the other grid are empty.
    RFM_LIFETIME: ("recency_days", "purchase_days", "spend"),
}
OURS, BINS, INDIVIDUAL = "micro-segments", "quantile bins of predicted spend", "individual model"
MEASURES = ("r2_spend", "r2_log_spend")
MIN_CUSTOMERS = 30  # of a group that is acted upon
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
class DayPredictions:
    """Predictions of one day's customers by each grouping, and what followed.

    Parameters
    ----------
    customers : ndarray of shape (n,)
        Ids.
    outcomes : dict of str to ndarray of shape (n,)
        Observed outcome of each measure.
    predictions : dict of str to dict of str to ndarray of shape (n,)
        For each grouping and measure its predictions.
    groups : dict of str to int
        Number of groups that the day's customers are in, by grouping.
    """

    customers: np.ndarray
    outcomes: dict[str, np.ndarray]
    predictions: dict[str, dict[str, np.ndarray]]
    groups: dict[str, int]


def predict_by_groupings(
    restated: pa.Table, spend: np.ndarray, is_earlier: np.ndarray, seed: int = 0
) -> DayPredictions:
    """Predict each customer of a later day by each grouping, learnt on an earlier day.

    Every grouping learns shrunken means: along its own prefixes if it has any (micro-segment → … → stage; R/F/M → R/F →
    R), else towards the overall mean.

    - `micro-segments`: a string with fewer than 30 customers on the later day takes the mean of its longest prefix that
      has 30, for these are the groups large enough to act on.
    - `quantile bins of predicted spend`: as many as there are such groups, of the individual model's prediction; on the
      earlier day that is cross-fitted, so that its bins do not see their own labels.
    - `RFM quintile grid`: recency, orders and spend of the last 90 days; `lifetime RFM quintile grid`: recency, and
      purchase days and spend since the first day.
    - `random groups`: of the same sizes as those groups, drawn at random; a customer keeps the group.
    - `individual model`: LightGBM on all numbers that a micro-segment may use, including the value model's.

    Parameters
    ----------
    restated : pyarrow.Table
        `ml.restate.restate` of both days, by day and customer.
    spend : ndarray of shape (n,)
        Net revenue of the window after each row's day, in currency.
    is_earlier : ndarray of shape (n,)
        Whether a row is of the earlier day.
    seed : int
        Seed of random groups and folds.

    Returns
    -------
    DayPredictions
        Of the later day's customers.
    """
    later = ~is_earlier
    customers = np.array(restated["customer_id"].to_pylist(), dtype=str)
    strings = np.array(restated["micro_segment"].to_pylist(), dtype=str)
    actionable = actionable_groups(strings[later])
    n_groups = len(np.unique(actionable))
    stages = np.array(restated["stage"].to_pylist(), dtype=str)
    random_groups = _random(customers, actionable_groups(strings[is_earlier]), seed)
    grids = {name: _rfm(restated, is_earlier, columns) for name, columns in GRIDS.items()}
    # For each grouping the groups that learn means on the earlier day, and those to look up on the later one.
    groupings = {
        STAGES: (stages[is_earlier], stages[later]),
        **{name: (grid[is_earlier], grid[later]) for name, grid in grids.items()},
        RANDOM: (random_groups[is_earlier], random_groups[later]),
        OURS: (strings[is_earlier], actionable),
    }
    outcomes = {"r2_spend": spend, "r2_log_spend": np.log1p(np.maximum(spend, 0))}
    predictions: dict[str, dict[str, np.ndarray]] = {name: {} for name in (*groupings, BINS, INDIVIDUAL)}
    data = Binned(_matrix(restated))
    for measure, outcome in outcomes.items():
        for name, (learn_by, look_up) in groupings.items():
            predictions[name][measure] = apply_means(shrunken_means(learn_by, outcome[is_earlier]), look_up)
        predicted = _predictions(data, outcome, is_earlier, seed)
        quantiles = np.arange(1, n_groups) / n_groups
        edges = np.unique(np.quantile(predicted[is_earlier], quantiles)) if n_groups > 1 else np.zeros(0)
        binned = np.searchsorted(edges, predicted, side="right").astype(str)
        predictions[BINS][measure] = apply_means(shrunken_means(binned[is_earlier], outcome[is_earlier]), binned[later])
        predictions[INDIVIDUAL][measure] = predicted[later]
    groups = {name: len(np.unique(look_up)) for name, (_, look_up) in groupings.items()}
    groups |= {BINS: n_groups, INDIVIDUAL: int(later.sum())}
    observed = {name: outcome[later] for name, outcome in outcomes.items()}
    return DayPredictions(customers[later], observed, predictions, groups)


def actionable_groups(strings: np.ndarray, min_customers: int = MIN_CUSTOMERS) -> np.ndarray:
    """Each string, or its longest prefix that at least `min_customers` rows share; empty if no stage has so many."""
    leaves, counts = np.unique(strings, return_counts=True)
    members: Counter[str] = Counter()
    for leaf, count in zip(leaves.tolist(), counts.tolist(), strict=True):
        members.update(dict.fromkeys(prefixes(leaf), count))
    group_of = {
        leaf: next((prefix for prefix in reversed(prefixes(leaf)) if members[prefix] >= min_customers), "")
        for leaf in leaves
    }
    return np.array([group_of[string] for string in strings.tolist()], dtype=str)


def _rfm(restated: pa.Table, is_earlier: np.ndarray, columns: Sequence[str]) -> np.ndarray:
    """``R2/F5/M4``: quintiles with edges of the earlier day; a customer without a purchase is in quintile 0.

    Parameters
    ----------
    columns : of recency, of frequency, of money
    """
    parts = []
    for name, column in zip("RFM", columns, strict=True):
        values = numbers(restated[column])
        known = ~np.isnan(values)
        learning = values[is_earlier & known]
        edges = np.quantile(learning, [0.2, 0.4, 0.6, 0.8]) if learning.size else np.zeros(4)
        quintile = np.where(known, 1 + np.searchsorted(edges, values, side="right"), 0)
        parts.append(np.char.add(name, quintile.astype(str)))
    return np.char.add(np.char.add(np.char.add(np.char.add(parts[0], "/"), parts[1]), "/"), parts[2])


def _random(customers: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Random groups of the same sizes as some groups; a customer has the same group on both days."""
    rng = np.random.default_rng(seed)
    codes = np.unique(groups, return_inverse=True)[1]
    ids = np.unique(customers)
    drawn = rng.permutation(np.resize(rng.permutation(codes), len(ids)))
    result: np.ndarray = np.char.add("g", drawn[np.searchsorted(ids, customers)].astype(str))
    return result


def _matrix(restated: pa.Table) -> np.ndarray:
    """All numbers of `layer_inputs`, shape (n, features)."""
    return np.stack([numbers(restated[field.name]) for field in restated.schema if is_number(field.type)], axis=1)


def _predictions(data: Binned, outcome: np.ndarray, is_earlier: np.ndarray, seed: int) -> np.ndarray:
    """Predicted outcome: on the later day by the model of the earlier one, on the earlier day cross-fitted."""
    fold = np.full(len(outcome), -1)
    fold[is_earlier] = np.random.default_rng(seed).permutation(int(is_earlier.sum())) % FOLDS

    def predict_rows(rows: np.ndarray) -> np.ndarray:
        return predict(data.fit(outcome, RECIPE, rounds=60, seed=seed, rows=is_earlier & ~rows), data.matrix[rows])

    folds = [~is_earlier, *(fold == number for number in range(FOLDS))]
    predicted = np.zeros(len(outcome))
    values = run_in_parallel([partial(predict_rows, rows) for rows in folds], len(outcome))
    for rows, of_fold in zip(folds, values, strict=True):
        predicted[rows] = of_fold
    return predicted

"""Evidence: how much of next month's spend micro-segments tell out of time, against simpler and finer alternatives.

Belongs here: the comparison on the user's own data. Does not belong here: the choice between models (see `training`).
"""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ml import tables
from ml.boosting import Binned, predict, side_by_side
from ml.columns import is_number, numbers
from ml.features import Facts
from ml.sampling import sampled
from ml.segments.shrinkage import explained, r2
from ml.segments.specs import VALUE_COLUMNS
from ml.segments.training import evaluation_days

if TYPE_CHECKING:
    from ml.restate import Models

FOLDS = 3
RECIPE = {
    "objective": "regression",
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 30,
    "lambda_l2": 5.0,
    "feature_fraction": 0.7,
}


def segment_evidence(facts: Facts, as_of: date, models: Models, seed: int = 0) -> pa.Table:
    """Out-of-time R² of the next window's spend and log(1 + spend), per grouping.

    Two days, with windows that have closed by `as_of`: on the earlier one the shrunken group means (and the individual
    model, LightGBM on the snapshot's numbers) are learnt, on the later one they are applied. Every grouping is shrunk:
    up its own prefixes where it has them (micro-segment → … → stage; R/F/M → R/F → R), else towards the overall mean.

    - `quantile bins of predicted spend`: as many as there are micro-segments, of the individual model's prediction; on
      the earlier day that is cross-fitted, so that its bins do not see their own labels.
    - `random groups`: the micro-segments' sizes, dealt out by chance; a customer keeps the group.

    A value model in force may have been fitted on windows that overlap the later one; micro-segments that use its
    predictions then profit a little. With models of at least a window before `as_of` they do not.

    Returns
    -------
    The columns of `segment_evidence`, in a fixed order; empty if the history is too short.
    """
    from ml.restate import restate

    spec = models.specs.segments
    window = spec.outcome_window_days
    learn, apply = evaluation_days(as_of, window)
    pairs = sampled(facts.engine, facts.known((learn, apply)), spec.max_rows, seed)
    restated = restate(facts.engine, facts.snapshot(pairs), models)
    first = restated["day"].to_numpy() == np.datetime64(learn)
    if min(first.sum(), (~first).sum()) < 2 * spec.min_cluster_customers:
        return tables.SEGMENT_EVIDENCE.empty()
    spend = facts.outcomes(restated.select(["customer_id", "day"]), window, until=as_of)["spend"].to_numpy()
    customers = np.array(restated["customer_id"].to_pylist(), dtype=str)
    strings = np.array(restated["micro_segment"].to_pylist(), dtype=str)
    groupings = {
        "stage only": np.array(restated["stage"].to_pylist(), dtype=str),
        "RFM quintile grid": _rfm(restated, first),
        "random groups": _random(customers, strings, first, seed),
        "micro-segments": strings,
    }
    outcomes = {"r2_spend": spend, "r2_log_spend": np.log1p(np.maximum(spend, 0))}
    groups = len(np.unique(strings[first]))
    rows: dict[str, dict[str, Any]] = {name: {"groups": len(np.unique(g[first]))} for name, g in groupings.items()}
    bins, individual = "quantile bins of predicted spend", "individual model"
    rows |= {bins: {"groups": groups}, individual: {"groups": int((~first).sum())}}
    data = Binned(_matrix(restated))
    for measure, outcome in outcomes.items():
        for name, group in groupings.items():
            rows[name][measure] = explained(group, outcome, first)
        predicted = _predictions(data, outcome, first, seed)
        rows[individual][measure] = r2(outcome[~first], predicted[~first])
        cuts = np.unique(np.quantile(predicted[first], np.arange(1, groups) / groups)) if groups > 1 else np.zeros(0)
        binned = np.searchsorted(cuts, predicted, side="right").astype(str)
        rows[bins][measure] = explained(binned, outcome, first)
    return tables.SEGMENT_EVIDENCE.conform(
        pa.Table.from_pylist(
            [{"grouping": name, **row} for name, row in rows.items()], schema=tables.SEGMENT_EVIDENCE.schema()
        )
    )


def _rfm(restated: pa.Table, first: np.ndarray) -> np.ndarray:
    """``R2/F5/M4``: quintiles with borders of the earlier day; a customer without a purchase is in quintile 0."""
    parts = []
    for name, column in (("R", "recency_days"), ("F", "orders_90d"), ("M", "spend_90d")):
        values = numbers(restated[column])
        known = ~np.isnan(values)
        cuts = np.quantile(values[first & known], [0.2, 0.4, 0.6, 0.8]) if (first & known).any() else np.zeros(4)
        fifth = np.where(known, 1 + np.searchsorted(cuts, values, side="right"), 0)
        parts.append(np.char.add(name, fifth.astype(str)))
    return np.char.add(np.char.add(np.char.add(np.char.add(parts[0], "/"), parts[1]), "/"), parts[2])


def _random(customers: np.ndarray, strings: np.ndarray, first: np.ndarray, seed: int) -> np.ndarray:
    """The strings' sizes with members drawn by chance; the same customer has the same group on both days."""
    rng = np.random.default_rng(seed)
    codes = np.unique(strings[first], return_inverse=True)[1]
    everybody = np.unique(customers)
    dealt = rng.permutation(np.resize(rng.permutation(codes), len(everybody)))
    groups: np.ndarray = np.char.add("g", dealt[np.searchsorted(everybody, customers)].astype(str))
    return groups


def _matrix(restated: pa.Table) -> np.ndarray:
    """The snapshot's own numbers, without the value model's predictions. Shape (n, features)."""
    columns = [
        numbers(restated[field.name])
        for field in restated.schema
        if is_number(field.type) and field.name not in VALUE_COLUMNS
    ]
    return np.stack(columns, axis=1)


def _predictions(data: Binned, outcome: np.ndarray, first: np.ndarray, seed: int) -> np.ndarray:
    """Predicted outcome: on the later day by the model of the earlier one, on the earlier day cross-fitted."""
    fold = np.full(len(outcome), -1)
    fold[first] = np.random.default_rng(seed).permutation(int(first.sum())) % FOLDS

    def told(held: np.ndarray) -> np.ndarray:
        return predict(data.fit(outcome, RECIPE, rounds=60, seed=seed, rows=first & ~held), data.matrix[held])

    parts = [~first, *(fold == number for number in range(FOLDS))]
    predicted = np.zeros(len(outcome))
    for held, values in zip(parts, side_by_side([partial(told, held) for held in parts], len(outcome)), strict=True):
        predicted[held] = values
    return predicted

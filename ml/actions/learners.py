"""The doubly robust learner: one score per exposure whose mean is the effect of the action.

Belongs here: nuisance models, cross-fitting, trimming, scores, standard errors clustered by customer, and the
customer-level effect. Does not belong here: which exposures go in (see `ml.actions.outcomes`) and what is done with
the scores.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.actions.spec import ActionsSpec

if TYPE_CHECKING:
    import lightgbm
    import pandas as pd
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Mask = NDArray[np.bool_]

Z90 = 1.6448536269514722  # two-sided 90 %


@dataclass(frozen=True)
class Scores:
    """Doubly robust scores of one action over the exposures it is estimated from; all vectors have one entry a row.

    Parameters
    ----------
    score : effect of the action on the row's outcome, in currency; unbiased if either nuisance model is right
    propensity : chance of the action against control
    treated : got the action
    kept : inside the overlap; the others have no say in the estimate
    outcome : net revenue of the window
    customer : integer code of the customer
    fold : cross-fitting fold of the customer
    auc : how well features tell treated from control; NaN where the chance was known
    """

    score: Vector
    propensity: Vector
    treated: Mask
    kept: Mask
    outcome: Vector
    customer: NDArray[np.int64]
    fold: NDArray[np.int64]
    auc: float

    def overall(self) -> tuple[float, float]:
        """Mean effect over the overlap and its clustered standard error."""
        return clustered(self.score[self.kept], self.customer[self.kept])


def clustered(values: Vector, customer: NDArray[np.int64]) -> tuple[float, float]:
    """The mean of `values` and its standard error when a customer's rows are not independent.

    The error is NaN for fewer than two customers.
    """
    if not len(values):
        return float("nan"), float("nan")
    mean = float(values.mean())
    _, code = np.unique(customer, return_inverse=True)
    groups = int(code.max()) + 1
    if groups < 2:
        return mean, float("nan")
    sums = np.bincount(code, weights=values - mean)
    return mean, float(np.sqrt(groups / (groups - 1) * np.sum(sums**2)) / len(values))


def folds_of(customers: pd.Series[str], spec: ActionsSpec) -> NDArray[np.int64]:
    """The fold of each row: a hash of its customer, so that it depends on nothing else."""
    digest = {c: int(hashlib.md5(f"{spec.seed}|{c}".encode()).hexdigest()[:8], 16) for c in customers.unique()}
    return (customers.map(digest).to_numpy(dtype=np.int64)) % max(2, spec.folds)


def encode(frame: pd.DataFrame, max_levels: int = 50) -> pd.DataFrame:
    """Numbers as they are, short vocabularies as codes in alphabetical order, everything else left out."""
    import pandas as pd

    columns = {}
    for name in frame.columns:
        values = frame[name]
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            columns[name] = pd.to_numeric(values, errors="coerce").astype("float64")
        elif values.notna().any() and values.nunique() <= max_levels:
            levels = {level: float(code) for code, level in enumerate(sorted(values.dropna().unique()))}
            columns[name] = values.map(levels).astype("float64")
    return pd.DataFrame(columns, index=frame.index)


class Nuisance:
    """Cross-fitted models on one set of rows: each row is predicted by models that never saw its customer."""

    def __init__(self, features: pd.DataFrame, fold: NDArray[np.int64], spec: ActionsSpec) -> None:
        self.features = features.to_numpy(dtype=np.float64)
        self.fold = fold
        self.spec = spec

    def predict(self, target: Vector, fit_on: Mask, predict_for: Mask, objective: str) -> Vector:
        """Out-of-fold predictions of `target` for the rows `predict_for`, fitted on `fit_on`; NaN elsewhere."""
        result = np.full(len(target), np.nan)
        tests = [(predict_for & (self.fold == k), fit_on & (self.fold != k)) for k in np.unique(self.fold[predict_for])]
        with ThreadPoolExecutor(max_workers=2) as pool:
            found = pool.map(lambda pair: self._fit_predict(pair[1], pair[0], target, objective), tests)
            for (test, _), values in zip(tests, found, strict=True):
                result[test] = values
        return result

    def _fit_predict(self, train: Mask, test: Mask, target: Vector, objective: str) -> Vector | float:
        values = target[train]
        if not len(values):
            return 0.5 if objective == "binary" else float(np.nanmean(target))
        if len(values) < 2 * self.spec.min_fit or np.all(values == values[0]):
            return float(values.mean())
        booster = _boost(self.features[train], values, objective, self.spec)
        return np.asarray(booster.predict(self.features[test]), dtype=np.float64)


def _boost(features: Any, target: Vector, objective: str, spec: ActionsSpec) -> lightgbm.Booster:
    import lightgbm

    rows = len(target)
    # One thread a fit: on so few rows a second one costs more waiting than it brings. Folds run side by side instead.
    params = {
        "objective": objective,
        "learning_rate": 0.08,
        "num_leaves": 15 if rows >= 2_000 else 7,
        "min_data_in_leaf": max(10, min(40, rows // 20)),
        "lambda_l2": 5.0,
        "max_bin": 63,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": spec.seed,
        "verbosity": -1,
    }
    return lightgbm.train(params, lightgbm.Dataset(features, label=target), num_boost_round=spec.trees)


def doubly_robust(
    nuisance: Nuisance,
    treated: Mask,
    control: Mask,
    outcome: Vector,
    baseline: Vector,
    known: Vector,
    customer: NDArray[np.int64],
    spec: ActionsSpec,
) -> tuple[Scores, NDArray[np.int64]]:
    """Scores of one action against control (augmented inverse propensity weighting; Robins, Rotnitzky & Zhao 1994,
    cross-fitted as in Chernozhukov et al. 2018).

    Parameters
    ----------
    nuisance : features and folds of all rows
    treated, control : which rows got the action, which are its controls
    outcome : net revenue in the window
    baseline : cross-fitted expectation of the outcome without any action
    known : chance of the action against control where it is known, else NaN
    customer : integer code of each row's customer

    Returns
    -------
    The scores of the rows in either arm, and the positions of these rows.
    """
    used = treated | control
    with_action = nuisance.predict(outcome, treated, used, "regression")[used]
    without = baseline[used]
    arm, y, chance = treated[used], outcome[used], known[used].copy()
    auc = float("nan")
    estimated = np.isnan(chance)
    if estimated.any():
        guess = nuisance.predict(treated.astype(np.float64), used, used, "binary")[used]
        auc = _auc(arm[estimated], guess[estimated])
        chance = np.where(estimated, guess, chance)
    low, high = spec.overlap
    kept = ~estimated | ((chance >= low) & (chance <= high))
    chance = np.clip(chance, *spec.propensity_clip)
    score = with_action - without + np.where(arm, (y - with_action) / chance, -(y - without) / (1 - chance))
    positions = np.flatnonzero(used)
    return (
        Scores(score, chance, arm, kept, y, customer[used], nuisance.fold[used], auc),
        positions,
    )


def _auc(labels: Mask, guess: Vector) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, guess)) if 0 < labels.sum() < len(labels) else float("nan")


@dataclass(frozen=True)
class CustomerEffect:
    """The effect of one action on a customer: the overall effect, moved by what features tell of the scores.

    A boosted model of the scores is optimistic about its own best customers. So its deviation from the mean counts
    only as far as it held out of fold: `slope` is the regression of scores on out-of-fold predictions (best linear
    predictor, Chernozhukov, Demirer, Duflo & Fernández-Val 2018), cut to 0 … 1, and 0 where it is not significant.
    """

    overall: float
    centre: float
    slope: float
    booster: str  # LightGBM's text

    def predict(self, features: Vector) -> Vector:
        if self.slope == 0 or not len(features):
            return np.full(len(features), self.overall)
        import lightgbm

        raw = np.asarray(lightgbm.Booster(model_str=self.booster).predict(features), dtype=np.float64)
        return self.overall + self.slope * (raw - self.centre)


def customer_effect(features: pd.DataFrame, scores: Scores, spec: ActionsSpec) -> tuple[CustomerEffect, Vector]:
    """Fit the customer-level effect on the rows inside the overlap.

    Parameters
    ----------
    features : the columns that a served model gets, one row per score

    Returns
    -------
    The model, and out-of-fold predictions of the rows inside the overlap, neither scaled nor moved: good for ranking.
    """
    kept = scores.kept
    values = features.to_numpy(dtype=np.float64)[kept]
    score, fold, customer = scores.score[kept], scores.fold[kept], scores.customer[kept]
    overall = float(score.mean())
    small = replace(spec, trees=max(1, spec.trees // 3))
    if len(score) < 8 * spec.min_fit or len(np.unique(fold)) < 2:
        return CustomerEffect(overall, overall, 0.0, ""), np.zeros(len(score))
    guess = np.empty(len(score))
    for k in np.unique(fold):
        booster = _boost(values[fold != k], score[fold != k], "regression", small)
        raw = np.asarray(booster.predict(values[fold == k]), dtype=np.float64)
        guess[fold == k] = raw - raw.mean()
    slope = _significant_slope(guess, score - overall, customer)
    full = _boost(values, score, "regression", small)
    centre = float(np.mean(np.asarray(full.predict(values), dtype=np.float64)))
    return CustomerEffect(overall, centre, slope, full.model_to_string()), guess


def _significant_slope(guess: Vector, score: Vector, customer: NDArray[np.int64]) -> float:
    spread = float(np.sum(guess**2))
    if spread <= 1e-12:
        return 0.0
    slope = float(np.sum(guess * score) / spread)
    _, code = np.unique(customer, return_inverse=True)
    error = float(np.sqrt(np.sum(np.bincount(code, weights=guess * (score - slope * guess)) ** 2)) / spread)
    return min(slope, 1.0) if slope > Z90 * error else 0.0

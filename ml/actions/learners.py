"""The doubly robust learner: one score per exposure whose mean is the effect of the action.

Belongs here: nuisance models, cross-fitting, trimming, scores, standard errors clustered by customer, and the
customer-level effect. Does not belong here: which exposures are used (see `ml.actions.outcomes`) and what is done with
the scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ml.actions.spec import ActionPolicy
from ml.boosting import Binned, predict, run_in_parallel

if TYPE_CHECKING:
    import lightgbm
    import pandas as pd
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Mask = NDArray[np.bool_]

Z90 = 1.6448536269514722  # two-sided 90 %
BINS = {"max_bin": 63}
MIN_RESPONDERS = 30  # customers with revenue in an arm, below which its own variance is unreliable


@dataclass(frozen=True)
class Scores:
    """Doubly robust scores of one action over the exposures it is estimated from.

    Parameters
    ----------
    score : ndarray of shape (n_rows,)
        Effect of the action on the row's outcome, in currency; unbiased if either nuisance model is right.
    propensity : ndarray of shape (n_rows,)
        Probability of the action against control.
    treated : ndarray of shape (n_rows,)
        Whether the row got the action.
    in_overlap : ndarray of shape (n_rows,)
        Whether the row is inside the overlap; the others are left out of the estimate.
    outcome : ndarray of shape (n_rows,)
        Net revenue of the window.
    customer : ndarray of shape (n_rows,)
        Integer code of the customer.
    fold : ndarray of shape (n_rows,)
        Cross-fitting fold of the customer.
    auc : float
        How well features distinguish treated from control; NaN where the propensity was known.
    """

    score: Vector
    propensity: Vector
    treated: Mask
    in_overlap: Mask
    outcome: Vector
    customer: NDArray[np.int64]
    fold: NDArray[np.int64]
    auc: float

    def overall(self) -> tuple[float, float]:
        """Mean effect over the overlap and its standard error."""
        return self.of(np.flatnonzero(self.in_overlap))

    def of(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        """Mean effect of some rows and its standard error, clustered by customer.

        With few responders the scores of an arm underestimate their own error: without any they do not vary at all,
        and the effect would look certain. The error is then that of a difference of means between customers, in which
        an arm with fewer than `MIN_RESPONDERS` responders has the pooled variance.
        """
        code = np.unique(self.customer[rows], return_inverse=True)[1]
        mean, error = _clustered(self.score[rows], code)
        arm, outcome = self.treated[rows], self.outcome[rows]
        sides = (arm, ~arm)
        customers = [count_distinct(code[side]) for side in sides]
        responders = [count_distinct(code[side & (outcome != 0)]) for side in sides]
        if min(responders) >= MIN_RESPONDERS or not min(customers) or not np.isfinite(error):
            return mean, error
        squares = [float(np.sum((outcome[side] - outcome[side].mean()) ** 2)) for side in sides]
        pooled = sum(squares) / max(len(rows) - 2, 1)
        variances = [
            pooled if count < MIN_RESPONDERS else square / max(int(side.sum()) - 1, 1)
            for count, square, side in zip(responders, squares, sides, strict=True)
        ]
        return mean, float(np.sqrt(sum(v / n for v, n in zip(variances, customers, strict=True))))


def clustered(values: Vector, customer: NDArray[np.int64]) -> tuple[float, float]:
    """Mean of `values` and its standard error clustered by customer, NaN for fewer than two customers."""
    return _clustered(values, np.unique(customer, return_inverse=True)[1])


def count_distinct(code: NDArray[np.int64]) -> int:
    """How many of the codes 0, 1, 2 … occur."""
    return int(np.count_nonzero(np.bincount(code)))


def _clustered(values: Vector, code: NDArray[np.int64]) -> tuple[float, float]:
    """`clustered` by customers that have the codes 0, 1, 2 …, each at least once."""
    if not len(values):
        return float("nan"), float("nan")
    mean = float(values.mean())
    groups = int(code.max()) + 1
    if groups < 2:
        return mean, float("nan")
    sums = np.bincount(code, weights=values - mean)
    return mean, float(np.sqrt(groups / (groups - 1) * np.sum(sums**2)) / len(values))


def folds_of(customers: pd.Series[str], spec: ActionPolicy, arms: pd.Series[str] | None = None) -> NDArray[np.int64]:
    """Assign each row the cross-fitting fold of its customer, in the order of a hash.

    Customers are stratified by their arms, so that every fold has its share of each arm: an arm that lay wholly in one
    fold could not be predicted for it.

    Parameters
    ----------
    customers : pd.Series of shape (n_rows,)
        Customer of each row.
    spec : ActionPolicy
        Number of folds, and seed of the hash.
    arms : pd.Series of shape (n_rows,), optional
        Arm of each row; one stratum by default.

    Returns
    -------
    ndarray of shape (n_rows,)
        Folds, from 0.
    """
    import pandas as pd

    folds = max(2, spec.folds)
    pairs = pd.DataFrame({"customer": customers.to_numpy(), "arm": "" if arms is None else arms.to_numpy()})
    code, ids = pd.factorize(pairs["customer"], sort=True)
    arms_of = pairs.assign(customer=code).drop_duplicates().sort_values(["customer", "arm"])
    groups = arms_of.groupby("customer")["arm"].agg("|".join).to_numpy(dtype=str)
    digest = np.array([hashlib.md5(f"{spec.seed}|{id_}".encode()).hexdigest() for id_ in ids])
    fold = np.empty(len(ids), dtype=np.int64)
    fold[np.lexsort((digest, groups))] = np.arange(len(ids)) % folds
    return fold[code]


MAX_LEVELS = 50  # distinct values of a string column, above which it is not used as a feature


def levels_of(frame: pd.DataFrame, max_levels: int = MAX_LEVELS) -> dict[str, tuple[str, ...]]:
    """The values of each string column with a short vocabulary, in alphabetical order."""
    import pandas as pd

    levels: dict[str, tuple[str, ...]] = {}
    for name in frame.columns:
        values = frame[name]
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            continue
        if values.notna().any() and values.nunique() <= max_levels:
            levels[name] = tuple(sorted(values.dropna().unique()))
    return levels


def encoded(frame: pd.DataFrame, columns: Sequence[str], levels: Mapping[str, Sequence[str]]) -> Vector:
    """Encode strings by their position in the vocabulary, shape (n_rows, n_columns); numbers stay as they are.

    A value that is missing or not in the vocabulary becomes NaN.
    """
    import pandas as pd

    def numbers(name: str) -> Vector:
        if name not in levels:
            return np.asarray(pd.to_numeric(frame[name], errors="coerce").astype("float64"), dtype=np.float64)
        codes = {level: float(code) for code, level in enumerate(levels[name])}
        return np.asarray(frame[name].map(codes).astype("float64"), dtype=np.float64)

    return np.column_stack([numbers(name) for name in columns]) if columns else np.empty((len(frame), 0))


def encode(frame: pd.DataFrame, max_levels: int = MAX_LEVELS) -> pd.DataFrame:
    """Encode strings with a short vocabulary by alphabetical order, keep numbers, and drop all other columns."""
    import pandas as pd

    levels = levels_of(frame, max_levels)
    kinds = pd.api.types
    columns = [
        name for name in frame.columns
        if name in levels or kinds.is_numeric_dtype(frame[name]) or kinds.is_bool_dtype(frame[name])
    ]  # fmt: skip
    return pd.DataFrame(encoded(frame, columns, levels), columns=columns, index=frame.index)


@dataclass(frozen=True)
class NuisanceTask:
    """One nuisance function to estimate: an outcome regression or a propensity.

    Parameters
    ----------
    target : ndarray of shape (n_rows,)
        The quantity to predict.
    fit_on, predict_on : ndarray of shape (n_rows,)
        Rows that models may be fitted on, and rows that need a prediction.
    objective : {"regression", "binary"}
        LightGBM's objective.
    """

    target: Vector
    fit_on: Mask
    predict_on: Mask
    objective: str = "regression"


class NuisanceModels:
    """Cross-fitted models on one set of rows: each row is predicted by models that were not fitted on its customer."""

    def __init__(self, features: pd.DataFrame, fold: NDArray[np.int64], spec: ActionPolicy) -> None:
        self.fold = fold
        self.spec = spec
        self._data = Binned(features.to_numpy(dtype=np.float64), params=BINS)

    def predict(self, tasks: Sequence[NuisanceTask]) -> list[Vector]:
        """Out-of-fold predictions of each task, shape (n_rows,).

        NaN for rows outside `predict_on`, and for folds outside of which there are no rows to fit on.
        """
        parts = [(i, k) for i in range(len(tasks)) for k in np.unique(self.fold[tasks[i].predict_on])]
        jobs = [partial(self._fit_predict, tasks[i], self.fold == k) for i, k in parts]
        predictions = [np.full(len(self.fold), np.nan) for _ in tasks]
        for (i, k), values in zip(parts, run_in_parallel(jobs, len(self.fold)), strict=True):
            predictions[i][tasks[i].predict_on & (self.fold == k)] = values
        return predictions

    def _fit_predict(self, task: NuisanceTask, in_fold: Mask) -> Vector | float:
        rows = task.fit_on & ~in_fold
        values = task.target[rows]
        if not len(values):
            return float("nan")  # not the mean of other arms: the difference would look like an effect
        if len(values) < 2 * self.spec.min_fit or np.all(values == values[0]):
            return float(values.mean())
        booster = _fit(self._data, task.target, rows, self.spec, task.objective)
        return predict(booster, self._data.matrix[task.predict_on & in_fold])


def _fit(
    data: Binned,
    target: Vector,
    rows: Mask,
    spec: ActionPolicy,
    objective: str = "regression",
    trees: int | None = None,
) -> lightgbm.Booster:
    count = int(rows.sum())
    params = {
        "objective": objective,
        "learning_rate": 0.12,
        "num_leaves": 15 if count >= 2_000 else 7,
        "min_data_in_leaf": max(10, min(40, count // 20)),
        "lambda_l2": 5.0,
    }
    return data.fit(target, params, rounds=trees or spec.trees, seed=spec.seed, rows=rows)


@dataclass(frozen=True)
class NuisancePredictions:
    """Out-of-fold predictions of the nuisance functions for each row of one action.

    Parameters
    ----------
    with_action, without_action : ndarray of shape (n_rows,)
        Expected outcome with the action, and without any.
    propensity : ndarray of shape (n_rows,)
        Probability of the action against control.
    is_estimated : bool
        Whether the propensity was estimated, and not known from the campaign's design.
    """

    with_action: Vector
    without_action: Vector
    propensity: Vector
    is_estimated: bool


def doubly_robust(
    nuisance: NuisancePredictions,
    treated: Mask,
    control: Mask,
    outcome: Vector,
    customer: NDArray[np.int64],
    fold: NDArray[np.int64],
    spec: ActionPolicy,
) -> tuple[Scores, NDArray[np.int64]]:
    """Score the exposures of one action against control by augmented inverse propensity weighting.

    The estimator is that of [1]_, with nuisance functions cross-fitted as in [2]_.

    Parameters
    ----------
    nuisance : NuisancePredictions
        Out-of-fold predictions of the rows in either arm.
    treated, control : ndarray of shape (n_rows,)
        Which rows got the action, and which are its controls.
    outcome : ndarray of shape (n_rows,)
        Net revenue in the window.
    customer, fold : ndarray of shape (n_rows,)
        Integer code of each row's customer, and the customer's fold.
    spec : ActionPolicy
        The overlap, and the limits of the propensity.

    Returns
    -------
    scores : Scores
        Scores of the rows in either arm.
    positions : ndarray of shape (n_scores,)
        Positions of these rows.

    References
    ----------
    .. [1] Robins, J., Rotnitzky, A. & Zhao, L. (1994). Estimation of regression coefficients when some regressors are
       not always observed. Journal of the American Statistical Association 89, 846-866.
    .. [2] Chernozhukov, V. et al. (2018). Double/debiased machine learning for treatment and structural parameters.
       The Econometrics Journal 21, C1-C68.
    """
    positions = np.flatnonzero(treated | control)
    arm, y, propensity = treated[positions], outcome[positions], nuisance.propensity[positions]
    with_action, without = nuisance.with_action[positions], nuisance.without_action[positions]
    used, auc = np.isfinite(with_action) & np.isfinite(without) & np.isfinite(propensity), float("nan")
    if nuisance.is_estimated:
        low, high = spec.overlap
        auc = _auc(arm[used], propensity[used])
        used &= (propensity >= low) & (propensity <= high)
    propensity = np.clip(np.where(np.isfinite(propensity), propensity, 0.5), *spec.propensity_clip)
    with_action, without = np.where(used, with_action, 0.0), np.where(used, without, 0.0)
    score = with_action - without + np.where(arm, (y - with_action) / propensity, -(y - without) / (1 - propensity))
    return Scores(score, propensity, arm, used, y, customer[positions], fold[positions], auc), positions


def _auc(labels: Mask, prediction: Vector) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, prediction)) if 0 < labels.sum() < len(labels) else float("nan")


@dataclass(frozen=True)
class CustomerEffect:
    """The effect of one action on a customer: the overall effect plus what features predict of its differences.

    A boosted model of the scores is optimistic about its own best customers. Its deviation from the mean is therefore
    calibrated out of fold: `slope` is the best linear predictor of the scores [1]_, limited to 0 … 1, and 0 where it
    is not significant.

    Parameters
    ----------
    overall : float
        Mean effect, in currency.
    centre : float
        Mean prediction of the booster on the rows it was fitted on.
    slope : float
        Factor of the booster's deviation from `centre`, 0 to 1.
    booster : str
        The model as LightGBM's text; empty without one.

    References
    ----------
    .. [1] Chernozhukov, V., Demirer, M., Duflo, E. & Fernández-Val, I. (2018). Generic machine learning inference on
       heterogeneous treatment effects in randomized experiments. NBER Working Paper 24678.
    """

    overall: float
    centre: float
    slope: float
    booster: str

    def predict(self, features: Vector) -> Vector:
        if self.slope == 0 or not len(features):
            return np.full(len(features), self.overall)
        import lightgbm

        raw = predict(lightgbm.Booster(model_str=self.booster), features)
        return self.overall + self.slope * (raw - self.centre)


def customer_effect(features: Vector, scores: Scores, spec: ActionPolicy) -> tuple[CustomerEffect, Vector]:
    """Fit the customer-level effect on the rows inside the overlap.

    Parameters
    ----------
    features : ndarray of shape (n_scores, n_columns)
        The columns that a served model gets, one row per score.
    scores : Scores
        Scores of the action.
    spec : ActionPolicy
        Settings of the learner.

    Returns
    -------
    effect : CustomerEffect
        The model.
    prediction : ndarray of shape (n_in_overlap,)
        Out-of-fold predictions of the rows inside the overlap, centred but not calibrated: for ranking.
    """
    used = scores.in_overlap
    values = features[used]
    score, fold, customer = scores.score[used], scores.fold[used], scores.customer[used]
    overall = float(score.mean())
    if len(score) < 8 * spec.min_fit or len(np.unique(fold)) < 2:
        return CustomerEffect(overall, overall, 0.0, ""), np.zeros(len(score))
    data = Binned(values, params=BINS)

    def fit_predict(fit_on: Mask, predict_on: Mask) -> tuple[str, Vector]:
        booster = _fit(data, score, fit_on, spec, trees=max(1, spec.trees // 3))
        return booster.model_to_string(), predict(booster, values[predict_on])

    everybody = np.ones(len(score), dtype=bool)
    folds = [fold == k for k in np.unique(fold)]
    jobs = [partial(fit_predict, everybody, everybody), *(partial(fit_predict, ~rows, rows) for rows in folds)]
    (text, fitted), *parts = run_in_parallel(jobs, len(score))
    prediction = np.empty(len(score))
    for rows, (_, raw) in zip(folds, parts, strict=True):
        prediction[rows] = raw - raw.mean()
    slope = _significant_slope(prediction, score - overall, customer)
    return CustomerEffect(overall, float(np.mean(fitted)), slope, text), prediction


def _significant_slope(prediction: Vector, score: Vector, customer: NDArray[np.int64]) -> float:
    spread = float(np.sum(prediction**2))
    if spread <= 1e-12:
        return 0.0
    slope = float(np.sum(prediction * score) / spread)
    _, code = np.unique(customer, return_inverse=True)
    error = float(np.sqrt(np.sum(np.bincount(code, weights=prediction * (score - slope * prediction)) ** 2)) / spread)
    return min(slope, 1.0) if slope > Z90 * error else 0.0

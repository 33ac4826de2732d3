"""The doubly robust learner: one score per exposure whose mean is the effect of the action.

Belongs here: nuisance models, cross-fitting, trimming, scores, standard errors clustered by customer, and the
customer-level effect. Does not belong here: which exposures go in (see `ml.actions.outcomes`) and what is done with
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
FEW_RESPONDERS = 30  # customers with revenue in an arm, below which its own variance says little


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
        """Mean effect over the overlap and its standard error."""
        return self.of(np.flatnonzero(self.kept))

    def of(self, rows: NDArray[np.int64]) -> tuple[float, float]:
        """Mean effect of some rows and its standard error, clustered by customer.

        With few responders the scores of an arm say little about their own error: without any they do not vary at all,
        and the effect would look certain. Then the error is that of a difference of means between customers, in which
        an arm with few responders varies like both arms together.
        """
        mean, error = clustered(self.score[rows], self.customer[rows])
        customer, arm, outcome = self.customer[rows], self.treated[rows], self.outcome[rows]
        sides = (arm, ~arm)
        people = [len(np.unique(customer[side])) for side in sides]
        responders = [len(np.unique(customer[side & (outcome != 0)])) for side in sides]
        if min(responders) >= FEW_RESPONDERS or not min(people) or not np.isfinite(error):
            return mean, error
        squares = [float(np.sum((outcome[side] - outcome[side].mean()) ** 2)) for side in sides]
        both = sum(squares) / max(len(rows) - 2, 1)
        variances = [
            both if few < FEW_RESPONDERS else square / max(int(side.sum()) - 1, 1)
            for few, square, side in zip(responders, squares, sides, strict=True)
        ]
        return mean, float(np.sqrt(sum(v / n for v, n in zip(variances, people, strict=True))))


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


def folds_of(customers: pd.Series[str], spec: ActionPolicy, arms: pd.Series[str] | None = None) -> NDArray[np.int64]:
    """The fold of each row: that of its customer, dealt out in the order of a hash.

    Customers with the same arms are dealt out together, so that every fold has its share of each arm: an arm that lies
    in one fold whole could not be predicted for it.

    Parameters
    ----------
    customers : of each row
    arms : of each row; all alike by default
    """
    import pandas as pd

    folds = max(2, spec.folds)
    pairs = pd.DataFrame({"customer": customers.to_numpy(), "arm": "" if arms is None else arms.to_numpy()})
    code, people = pd.factorize(pairs["customer"], sort=True)
    held = pairs.assign(customer=code).drop_duplicates().sort_values(["customer", "arm"])
    groups = held.groupby("customer")["arm"].agg("|".join).to_numpy(dtype=str)
    digest = np.array([hashlib.md5(f"{spec.seed}|{who}".encode()).hexdigest() for who in people])
    fold = np.empty(len(people), dtype=np.int64)
    fold[np.lexsort((digest, groups))] = np.arange(len(people)) % folds
    return fold[code]


MAX_LEVELS = 50  # different values of a string column, above which it is no feature


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
    """Numbers as they are, and the place in its vocabulary for a string, shape (n, columns).

    A value that is missing, or that the vocabulary does not hold, is NaN.
    """
    import pandas as pd

    def numbers(name: str) -> Vector:
        if name not in levels:
            return np.asarray(pd.to_numeric(frame[name], errors="coerce").astype("float64"), dtype=np.float64)
        place = {level: float(code) for code, level in enumerate(levels[name])}
        return np.asarray(frame[name].map(place).astype("float64"), dtype=np.float64)

    return np.column_stack([numbers(name) for name in columns]) if columns else np.empty((len(frame), 0))


def encode(frame: pd.DataFrame, max_levels: int = MAX_LEVELS) -> pd.DataFrame:
    """Numbers as they are, short vocabularies as codes in alphabetical order, everything else left out."""
    import pandas as pd

    levels = levels_of(frame, max_levels)
    kinds = pd.api.types
    columns = [
        name for name in frame.columns
        if name in levels or kinds.is_numeric_dtype(frame[name]) or kinds.is_bool_dtype(frame[name])
    ]  # fmt: skip
    return pd.DataFrame(encoded(frame, columns, levels), columns=columns, index=frame.index)


@dataclass(frozen=True)
class Question:
    """What a nuisance model is asked.

    Parameters
    ----------
    target : one number per row
    fit_on, ask_for : rows it may be learnt from, and rows whose expectation is wanted
    objective : regression or binary
    """

    target: Vector
    fit_on: Mask
    ask_for: Mask
    objective: str = "regression"


class Nuisance:
    """Cross-fitted models on one set of rows: each row is predicted by models that never saw its customer."""

    def __init__(self, features: pd.DataFrame, fold: NDArray[np.int64], spec: ActionPolicy) -> None:
        self.fold = fold
        self.spec = spec
        self._data = Binned(features.to_numpy(dtype=np.float64), params=BINS)

    def answer(self, questions: Sequence[Question]) -> list[Vector]:
        """Out-of-fold predictions for each question, shape (n,).

        NaN for rows that were not asked for, and for those of a fold outside of which there is nothing to learn from.
        """
        parts = [(q, k) for q in range(len(questions)) for k in np.unique(self.fold[questions[q].ask_for])]
        jobs = [partial(self._fit_predict, questions[q], self.fold == k) for q, k in parts]
        answers = [np.full(len(self.fold), np.nan) for _ in questions]
        for (q, k), values in zip(parts, run_in_parallel(jobs, len(self.fold)), strict=True):
            answers[q][questions[q].ask_for & (self.fold == k)] = values
        return answers

    def _fit_predict(self, question: Question, held: Mask) -> Vector | float:
        rows = question.fit_on & ~held
        values = question.target[rows]
        if not len(values):
            return float("nan")  # never the mean of other arms: the difference would pass for an effect
        if len(values) < 2 * self.spec.min_fit or np.all(values == values[0]):
            return float(values.mean())
        booster = _fit(self._data, question.target, rows, self.spec, question.objective)
        return predict(booster, self._data.matrix[question.ask_for & held])


def _fit(
    data: Binned,
    target: Vector,
    rows: Mask,
    spec: ActionPolicy,
    objective: str = "regression",
    trees: int | None = None,
) -> lightgbm.Booster:
    count = int(rows.sum())
    recipe = {
        "objective": objective,
        "learning_rate": 0.12,
        "num_leaves": 15 if count >= 2_000 else 7,
        "min_data_in_leaf": max(10, min(40, count // 20)),
        "lambda_l2": 5.0,
    }
    return data.fit(target, recipe, rounds=trees or spec.trees, seed=spec.seed, rows=rows)


@dataclass(frozen=True)
class Expected:
    """What the nuisance models expect of each row of one action, shape (n,).

    Parameters
    ----------
    with_action, without : outcome with the action, and without any
    chance : chance of the action against control
    is_estimated : whether the chance was estimated, and not known from the campaign's design
    """

    with_action: Vector
    without: Vector
    chance: Vector
    is_estimated: bool


def doubly_robust(
    expected: Expected,
    treated: Mask,
    control: Mask,
    outcome: Vector,
    customer: NDArray[np.int64],
    fold: NDArray[np.int64],
    spec: ActionPolicy,
) -> tuple[Scores, NDArray[np.int64]]:
    """Scores of one action against control (augmented inverse propensity weighting; Robins, Rotnitzky & Zhao 1994,
    cross-fitted as in Chernozhukov et al. 2018).

    Parameters
    ----------
    expected : out-of-fold expectations of the rows in either arm
    treated, control : which rows got the action, which are its controls
    outcome : net revenue in the window
    customer, fold : integer code of each row's customer, and the customer's fold

    Returns
    -------
    The scores of the rows in either arm, and the positions of these rows.
    """
    places = np.flatnonzero(treated | control)
    arm, y, chance = treated[places], outcome[places], expected.chance[places]
    with_action, without = expected.with_action[places], expected.without[places]
    kept, auc = np.isfinite(with_action) & np.isfinite(without) & np.isfinite(chance), float("nan")
    if expected.is_estimated:
        low, high = spec.overlap
        auc = _auc(arm[kept], chance[kept])
        kept &= (chance >= low) & (chance <= high)
    chance = np.clip(np.where(np.isfinite(chance), chance, 0.5), *spec.propensity_clip)
    with_action, without = np.where(kept, with_action, 0.0), np.where(kept, without, 0.0)
    score = with_action - without + np.where(arm, (y - with_action) / chance, -(y - without) / (1 - chance))
    return Scores(score, chance, arm, kept, y, customer[places], fold[places], auc), places


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

        raw = predict(lightgbm.Booster(model_str=self.booster), features)
        return self.overall + self.slope * (raw - self.centre)


def customer_effect(features: Vector, scores: Scores, spec: ActionPolicy) -> tuple[CustomerEffect, Vector]:
    """Fit the customer-level effect on the rows inside the overlap.

    Parameters
    ----------
    features : the columns that a served model gets, one row per score, shape (n, columns)

    Returns
    -------
    The model, and out-of-fold predictions of the rows inside the overlap, neither scaled nor moved: good for ranking.
    """
    kept = scores.kept
    values = features[kept]
    score, fold, customer = scores.score[kept], scores.fold[kept], scores.customer[kept]
    overall = float(score.mean())
    if len(score) < 8 * spec.min_fit or len(np.unique(fold)) < 2:
        return CustomerEffect(overall, overall, 0.0, ""), np.zeros(len(score))
    data = Binned(values, params=BINS)

    def told(rows: Mask, of: Mask) -> tuple[str, Vector]:
        booster = _fit(data, score, rows, spec, trees=max(1, spec.trees // 3))
        return booster.model_to_string(), predict(booster, values[of])

    everybody = np.ones(len(score), dtype=bool)
    held = [fold == k for k in np.unique(fold)]
    jobs = [partial(told, everybody, everybody), *(partial(told, ~rows, rows) for rows in held)]
    (text, fitted), *parts = run_in_parallel(jobs, len(score))
    guess = np.empty(len(score))
    for rows, (_, raw) in zip(held, parts, strict=True):
        guess[rows] = raw - raw.mean()
    slope = _significant_slope(guess, score - overall, customer)
    return CustomerEffect(overall, float(np.mean(fitted)), slope, text), guess


def _significant_slope(guess: Vector, score: Vector, customer: NDArray[np.int64]) -> float:
    spread = float(np.sum(guess**2))
    if spread <= 1e-12:
        return 0.0
    slope = float(np.sum(guess * score) / spread)
    _, code = np.unique(customer, return_inverse=True)
    error = float(np.sqrt(np.sum(np.bincount(code, weights=guess * (score - slope * guess)) ** 2)) / spread)
    return min(slope, 1.0) if slope > Z90 * error else 0.0

"""The trees of the value family: one head per quantity, and the head that corrects an expectation.

Belongs here: recipes, fitting a head, storing it. Does not belong here: which heads make up a model (see `blend`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ml import boosting
from ml.boosting import REPEATABLE, Binned, thread_count

if TYPE_CHECKING:
    import lightgbm

# Small trees, because a weekly fit must be quick and a few thousand customers must be enough.
ROUNDS = 100
RECIPE: Mapping[str, Any] = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "cat_smooth": 20.0,
    "max_bin": 127,
}
# For quantities that are not money, half as many trees in steps twice as large do as well; each tree costs time.
OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "alive": {"objective": "binary", "learning_rate": 0.1},
    "orders": {"objective": "poisson", "learning_rate": 0.1},
    "spend": {"objective": "tweedie", "tweedie_variance_power": 1.3},
}
# It starts from an expectation that is nearly right, so it learns slowly.
CORRECTION: Mapping[str, Any] = {"objective": "tweedie", "tweedie_variance_power": 1.5, "learning_rate": 0.02}


@dataclass(frozen=True)
class Head:
    """One fitted quantity: trees in LightGBM's text, or a constant where the training outcome never varied."""

    text: str | None
    constant: float
    booster: lightgbm.Booster | None

    @classmethod
    def of(cls, text: str | None, constant: float) -> Self:
        """A head from its stored parts."""
        if text is None:
            return cls(None, constant, None)
        import lightgbm

        return cls(text, constant, lightgbm.Booster(model_str=text))

    @classmethod
    def fit(cls, data: Binned, target: np.ndarray, *, objective: Mapping[str, Any], seed: int) -> Self:
        """Fit one head; rows must come in a fixed order (by day and customer)."""
        params = {**recipe(target.size), **objective}
        rounds = round(ROUNDS * RECIPE["learning_rate"] / params["learning_rate"])
        booster = data.fit(target, params, rounds=rounds, seed=seed)
        return cls.of(booster.model_to_string(), float(target.mean()))

    @classmethod
    def fit_correction(cls, matrix: np.ndarray, target: np.ndarray, expected: np.ndarray, *, seed: int) -> Self:
        """Trees for the factor between an expectation (above 0) and the outcome; `target` is the outcome itself."""
        import lightgbm

        params = {
            **recipe(target.size),
            **CORRECTION,
            **REPEATABLE,
            "seed": seed,
            "num_threads": thread_count(len(matrix)),
        }
        data = lightgbm.Dataset(matrix, target, init_score=np.log(expected), params=params)
        return cls.of(lightgbm.train(params, data, num_boost_round=ROUNDS).model_to_string(), 1.0)

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """One number per row of `matrix`."""
        if self.booster is None or not matrix.shape[0]:
            return np.full(matrix.shape[0], self.constant)
        return boosting.predict(self.booster, matrix)

    def gains(self, columns: int) -> np.ndarray:
        """How much each column lowered the training loss, summed over all splits."""
        if self.booster is None:
            return np.zeros(columns)
        return np.asarray(self.booster.feature_importance("gain"), dtype=float)


def recipe(rows: int) -> dict[str, Any]:
    """LightGBM's parameters for a matrix of so many rows."""
    return {**RECIPE, "min_data_in_leaf": int(min(40, max(5, rows // 50))), "feature_pre_filter": True}


def varies(target: np.ndarray) -> bool:
    """Whether an outcome differs between rows, so that there is anything to learn."""
    return bool(target.size) and float(target.max()) > float(target.min())

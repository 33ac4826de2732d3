"""The boosted value model: encoding of a snapshot, three heads, storage, and its application to a day.

Belongs here: what a fitted model is. Does not belong here: which days it is fitted on and whether it is chosen (see
`training`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import boosting
from ml.boosting import Binned, side_by_side
from ml.columns import is_number, is_text, numbers
from ml.value.spec import OUTPUTS, ValueSpec, baseline, discount, value_table

if TYPE_CHECKING:
    import lightgbm
    import pandas as pd

BATCH_ROWS = 200_000
MAX_CATEGORIES = 64
KEYS = ("customer_id", "day")


# The recipe: small trees, because a weekly fit must be quick and a few thousand customers must be enough.
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
OBJECTIVES: Mapping[str, Mapping[str, Any]] = {
    "alive": {"objective": "binary"},
    "orders": {"objective": "poisson"},
    "spend": {"objective": "tweedie", "tweedie_variance_power": 1.3},
}


@dataclass(frozen=True)
class Encoder:
    """Turns a snapshot into numbers: numeric columns as they are, text columns as positions in a stored vocabulary.

    A word that is not in the vocabulary counts as missing.
    """

    numeric: tuple[str, ...]
    vocabulary: Mapping[str, tuple[str, ...]]

    @classmethod
    def learn(cls, table: pa.Table) -> Self:
        """Take every numeric and text column; of a text column its most frequent words (by count, then by name)."""
        numeric, vocabulary = [], {}
        for field in table.schema:
            if field.name in KEYS:
                continue
            if is_number(field.type) or pa.types.is_boolean(field.type):
                numeric.append(field.name)
            elif is_text(field.type):
                words = pc.value_counts(_text(table[field.name])).to_pylist()
                kept = sorted((-w["counts"], w["values"]) for w in words if w["values"] is not None)[:MAX_CATEGORIES]
                vocabulary[field.name] = tuple(sorted(word for _, word in kept))
        return cls(tuple(numeric), vocabulary)

    @property
    def columns(self) -> list[str]:
        """The columns of the matrix, in order."""
        return [*self.numeric, *self.vocabulary]

    def matrix(self, table: pa.Table) -> np.ndarray:
        """One row per row and one float per column, NaN where missing.

        Raises
        ------
        ValueError
            If a column that the model was fitted on is not there.
        """
        missing = [name for name in self.columns if name not in table.column_names]
        if missing:
            raise ValueError(
                f"the value model was fitted on {', '.join(missing)}, which the snapshot does not have: "
                "fit it again (weekly job), or bring the columns back"
            )
        out = np.empty((table.num_rows, len(self.columns)), dtype=np.float64)
        for place, name in enumerate(self.numeric):
            out[:, place] = numbers(table[name])
        for place, (name, words) in enumerate(self.vocabulary.items(), start=len(self.numeric)):
            codes = pc.index_in(_text(table[name]), value_set=pa.array(words, pa.string()))
            out[:, place] = numbers(codes)
        return out


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
        booster = data.fit(target, {**_recipe(target.size), **objective}, rounds=ROUNDS, seed=seed)
        return cls.of(booster.model_to_string(), float(target.mean()))

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        if self.booster is None or not matrix.shape[0]:
            return np.full(matrix.shape[0], self.constant)
        return boosting.predict(self.booster, matrix)

    def gains(self, columns: int) -> np.ndarray:
        """How much each column lowered the training loss, summed over all splits."""
        if self.booster is None:
            return np.zeros(columns)
        return np.asarray(self.booster.feature_importance("gain"), dtype=float)


@dataclass(frozen=True)
class Fit:
    """The three heads fitted on one set of matured snapshots, with the encoder learnt on the same rows."""

    encoder: Encoder
    heads: Mapping[str, Head]

    @classmethod
    def learn(cls, snapshot: pa.Table, outcomes: pa.Table, *, seed: int) -> Self:
        """Fit on rows that stand side by side, both ordered by day and customer.

        Net revenue below 0 (more refunds than sales) is learnt as 0: a customer is never expected to cost money.
        """
        encoder = Encoder.learn(snapshot)
        matrix = encoder.matrix(snapshot)
        orders = np.asarray(outcomes["orders"].to_numpy(), dtype=float)
        spend = np.maximum(np.asarray(outcomes["spend"].to_numpy(), dtype=float), 0.0)
        targets = {"alive": (orders > 0).astype(float), "orders": orders, "spend": spend}
        constant = {name: Head.of(None, _mean(target)) for name, target in targets.items() if not _varies(target)}
        learnt = [name for name in OBJECTIVES if name not in constant]
        if not learnt:
            return cls(encoder, constant)
        categorical = range(len(encoder.numeric), len(encoder.columns))
        data = Binned(matrix, categorical=categorical, params=_recipe(len(matrix)))
        jobs = [partial(Head.fit, data, targets[name], objective=OBJECTIVES[name], seed=seed) for name in learnt]
        fitted = constant | dict(zip(learnt, side_by_side(jobs, len(matrix)), strict=True))
        return cls(encoder, {name: fitted[name] for name in OBJECTIVES})

    def predict(self, table: pa.Table) -> dict[str, np.ndarray]:
        """p_alive, expected_orders and expected_spend of each row; none of them below 0."""
        matrix = self.encoder.matrix(table)
        found = {name: np.maximum(head.predict(matrix), 0.0) for name, head in self.heads.items()}
        return {
            "p_alive": np.minimum(found["alive"], 1.0),
            "expected_orders": found["orders"],
            "expected_spend": found["spend"],
        }

    def save(self, folder: Path, prefix: str) -> dict[str, Any]:
        for name, head in self.heads.items():
            if head.text is not None:
                (folder / f"{prefix}_{name}.txt").write_text(head.text, encoding="utf-8")
        return {
            "numeric": list(self.encoder.numeric),
            "vocabulary": {name: list(words) for name, words in self.encoder.vocabulary.items()},
            "heads": {
                name: {"constant": head.constant, "has_trees": head.text is not None}
                for name, head in self.heads.items()
            },
        }

    @classmethod
    def load(cls, folder: Path, prefix: str, stored: Mapping[str, Any]) -> Self:
        encoder = Encoder(tuple(stored["numeric"]), {name: tuple(v) for name, v in stored["vocabulary"].items()})
        heads = {}
        for name, head in stored["heads"].items():
            text = (folder / f"{prefix}_{name}.txt").read_text(encoding="utf-8") if head["has_trees"] else None
            heads[name] = Head.of(text, head["constant"])
        return cls(encoder, heads)


@dataclass(frozen=True)
class ValueModel:
    """Expected value from a snapshot: LightGBM heads for buying at all, orders and spend over the horizon.

    Parameters
    ----------
    final : fitted on all matured snapshots; it makes the predictions
    twin : the same recipe fitted only on what had matured one horizon earlier. It has not seen the outcomes that
        the final fit has, so it is what next week's challenger is measured against. None where history is too short.
    """

    horizon_days: int
    annual_discount_rate: float
    final: Fit
    twin: Fit | None = None

    def outputs(self, table: pa.Table) -> dict[str, np.ndarray]:
        """p_alive, expected_orders, expected_spend and ltv of each row of a snapshot, each of shape (n,)."""
        out = self.final.predict(table)
        out["ltv"] = out["expected_spend"] * discount(self.horizon_days, self.annual_discount_rate)
        return out

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """ltv, p_alive, expected_orders and expected_spend for each row of a frame with the snapshot's columns."""
        import pandas as pd

        used = [name for name in self.final.encoder.columns if name in features.columns]
        table = pa.Table.from_pandas(features[used], preserve_index=False)
        out = self.outputs(table)
        return pd.DataFrame({name: out[name] for name in OUTPUTS}, index=features.index)

    def save(self, folder: Path) -> None:
        stored = {
            "horizon_days": self.horizon_days,
            "annual_discount_rate": self.annual_discount_rate,
            "final": self.final.save(folder, "final"),
            "twin": self.twin.save(folder, "twin") if self.twin else None,
        }
        (folder / "value_model.json").write_text(json.dumps(stored, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        stored = json.loads((folder / "value_model.json").read_text(encoding="utf-8"))
        return cls(
            horizon_days=stored["horizon_days"],
            annual_discount_rate=stored["annual_discount_rate"],
            final=Fit.load(folder, "final", stored["final"]),
            twin=Fit.load(folder, "twin", stored["twin"]) if stored["twin"] else None,
        )


def apply(features: pa.Table, model: ValueModel | None, spec: ValueSpec, *, label: str) -> pa.Table:
    """The value of each row of a snapshot, in batches so that memory does not grow with the customer base.

    Parameters
    ----------
    features : a snapshot; any number of days
    model : the model in force, or None for `baseline`. A model counts over its own horizon, whatever `spec` says by now
    label : what the column `model` says

    Returns
    -------
    customer_id, day and the other columns of `customer_value`, one row per row of `features` in its order.
    """
    if model is None:
        return baseline(features, spec, label=label)
    parts: list[dict[str, np.ndarray]] = [
        model.outputs(features.slice(start, BATCH_ROWS)) for start in range(0, features.num_rows, BATCH_ROWS)
    ]
    outputs = {name: np.concatenate([np.empty(0), *(part[name] for part in parts)]) for name in OUTPUTS}
    return value_table(features, outputs, horizon_days=model.horizon_days, label=label)


def _recipe(rows: int) -> dict[str, Any]:
    return {**RECIPE, "min_data_in_leaf": int(min(40, max(5, rows // 50))), "feature_pre_filter": True}


def _varies(target: np.ndarray) -> bool:
    return bool(target.size) and float(target.max()) > float(target.min())


def _mean(target: np.ndarray) -> float:
    return float(target.mean()) if target.size else 0.0


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(column, pa.string())

"""How good the value model would have been on past days: trained as of each, compared with what was spent after it.

Belongs here: the protocol and its table. Does not belong here: where the data come from, and how a table is printed.

On each cut day the family trains on the facts of that day and before, as in a week's run without an incumbent, and
predicts for every customer known on it. Compared are the model in force (whatever the training decided, even if that is
the persistence baseline), BG/NBD alone, LightGBM alone (its own level, no blend), the plain mean of these two, and the
persistence baseline.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np

from ml.columns import numbers
from ml.value.currency import reckon
from ml.value.metrics import decile_error, gini
from ml.value.model import ValueModel, apply
from ml.value.spec import ValueSpec, persistence
from ml.value.training import train

if TYPE_CHECKING:
    from ml.features import CustomerHistory

IN_FORCE, BGNBD, LIGHTGBM, MEAN, PERSISTENCE = (
    "model in force", "BG/NBD alone", "LightGBM alone", "their plain mean", "persistence baseline",
)  # fmt: skip
CANDIDATES = (IN_FORCE, BGNBD, LIGHTGBM, MEAN, PERSISTENCE)
DRAWS, LEVEL = 1000, 0.95


@dataclass(frozen=True)
class Cut:
    """One cut day: the customers known on it, what they spent in the horizon, and what each candidate predicted."""

    day: date
    method: str
    customers: np.ndarray
    actual: np.ndarray
    predicted: dict[str, np.ndarray]


@dataclass(frozen=True)
class Score:
    """One row of the table: a candidate on one cut day, or on all of them (`day` None).

    Parameters
    ----------
    mae, rmse : currency
    gini, decile_error : see `ml.value.metrics`; over all cut days, the means
    bias : by how much the sum of the predictions is too high, as a share of what was spent
    """

    day: date | None
    candidate: str
    customers: int
    mae: float
    rmse: float
    gini: float
    decile_error: float
    bias: float


@dataclass(frozen=True)
class Difference:
    """How much lower the mean absolute error of the model in force is than another candidate's, pooled over the cuts.

    Parameters
    ----------
    mean, low, high : currency, with a 95 % interval from a bootstrap over customers; above 0 the model in force is
        better
    """

    other: str
    mean: float
    low: float
    high: float


def cut_at(facts: CustomerHistory, day: date, spec: ValueSpec) -> Cut:
    """Train as of `day` and collect what each candidate says of the horizon after it.

    Raises
    ------
    ValueError
        If the horizon has not closed in the facts, or the data do not allow a fit on that day.
    """
    past = facts.until(day)
    training = train(past, day, spec, None)
    if not isinstance(training.model, ValueModel):
        raise ValueError(f"no value model can be fitted as of {day}: {training.reason}")
    pairs = facts.known([day])
    features = past.snapshot(pairs)
    outcomes = facts.outcomes(pairs, spec.horizon_days, until=day + timedelta(days=spec.horizon_days))
    model = training.model if training.decision == "challenger" else None
    fit = training.model.final
    spend = {name: out["expected_spend"] for name, out in fit.candidates(reckon(features, spec.of)).items()}
    bgnbd, lightgbm = spend["bgnbd"], spend.get("lightgbm", spend["bgnbd"])
    predicted = {
        IN_FORCE: numbers(apply(features, model, spec, label="")["expected_spend"]),
        BGNBD: bgnbd,
        LIGHTGBM: lightgbm,
        MEAN: (bgnbd + lightgbm) / 2,
        PERSISTENCE: persistence(reckon(features, spec.of), spec.horizon_days, 0.0)["expected_spend"],
    }
    customers = np.asarray(features["customer_id"].to_pylist(), dtype=str)
    method = training.model.method if model else PERSISTENCE
    return Cut(day, method, customers, numbers(outcomes["spend"]), predicted)


def table(cuts: Sequence[Cut]) -> list[Score]:
    """Each candidate on each cut day, and on all of them."""
    rows = [_score(cut.day, name, [cut]) for cut in cuts for name in CANDIDATES]
    return rows + [_score(None, name, cuts) for name in CANDIDATES]


def differences(cuts: Sequence[Cut], others: Iterable[str] = (PERSISTENCE, MEAN), *, seed: int = 0) -> list[Difference]:
    """Compare the model in force with others on the same customers; a customer is drawn with all of its cut days."""
    _, codes = np.unique(np.concatenate([cut.customers for cut in cuts]), return_inverse=True)
    rows = np.bincount(codes).astype(float)
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, len(rows), len(rows)) for _ in range(DRAWS)]
    result = []
    for other in others:
        gain = np.concatenate([_errors(cut, other) - _errors(cut, IN_FORCE) for cut in cuts])
        sums = np.bincount(codes, weights=gain)
        means = np.array([sums[sample].sum() / rows[sample].sum() for sample in drawn])
        low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        result.append(Difference(other, float(gain.mean()), float(low), float(high)))
    return result


def _errors(cut: Cut, name: str) -> np.ndarray:
    result: np.ndarray = np.abs(cut.predicted[name] - cut.actual)
    return result


def _score(day: date | None, name: str, cuts: Sequence[Cut]) -> Score:
    error = np.concatenate([cut.predicted[name] - cut.actual for cut in cuts])
    spent = sum(float(cut.actual.sum()) for cut in cuts)
    return Score(
        day,
        name,
        customers=len(error),
        mae=float(np.abs(error).mean()),
        rmse=float(np.sqrt(np.mean(error**2))),
        gini=float(np.mean([gini(cut.actual, cut.predicted[name]) for cut in cuts])),
        decile_error=float(np.mean([decile_error(cut.actual, cut.predicted[name]) for cut in cuts])),
        bias=float(error.sum() / spent) if spent > 0 else 0.0,
    )

"""How much of next month's spend micro-segments explain out of time, against simpler and finer alternatives.

Belongs here: the comparison on the user's own data, on one day or pooled over several, under models that have not seen
the outcomes. Does not belong here: the alternatives (see `groupings`), the choice between models (see `training`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa

from ml import lifecycle, tables, value
from ml.evidence.groupings import MEASURES, OURS, DayPredictions, predict_by_groupings
from ml.features import CustomerHistory
from ml.layers import train as train_layers
from ml.layers.training import evaluation_days
from ml.restate import Models, Specs, earlier_features, restate
from ml.sampling import sample_customers

if TYPE_CHECKING:
    from ml.layers.layer_models import LayerModels
    from ml.lifecycle import LifecycleModel
    from ml.value import ValueModel

FAMILIES = ("value", "lifecycle", "layers")  # each needs those before it
DRAWS = 2000  # bootstrap samples
MAX_CUSTOMERS = 25_000  # of a fit and of the day that is predicted: R² of so many is known to a hundredth


@dataclass(frozen=True)
class Score:
    """R² of one grouping: the share of the variance of next month's spend that it explains.

    Parameters
    ----------
    grouping : str
        Name of the grouping.
    groups : int
        Number of groups, averaged over days.
    r2_spend, r2_log_spend : float
        R² of spend and of log(1 + spend).
    """

    grouping: str
    groups: int
    r2_spend: float
    r2_log_spend: float


@dataclass(frozen=True)
class R2Difference:
    """By how much micro-segments' R² exceeds another grouping's.

    Parameters
    ----------
    other : str
        Name of the other grouping.
    measure : str
        ``r2_spend`` or ``r2_log_spend``.
    mean : float
        The difference.
    low, high : float
        95 % interval over customers.
    """

    other: str
    measure: str
    mean: float
    low: float
    high: float


def segment_evidence(facts: CustomerHistory, as_of: date, models: Models, seed: int = 0) -> pa.Table:
    """Out-of-time R² of the next window's spend and log(1 + spend), per grouping (see `predict_by_groupings`).

    There are two days, with windows that have closed by `as_of`: group means and the individual model are learnt on the
    earlier day and applied on the later one, of at most `MAX_CUSTOMERS` customers. The models in force at `as_of` have
    seen the later window, so they are not used. Those families of `models` that have a model are fitted again on what
    was known at the end of the later day, with the same settings, except that layers are fitted on at most
    `MAX_CUSTOMERS` customers. So the evidence is about the way of segmenting, as it would have been used then.

    Parameters
    ----------
    facts : CustomerHistory
        Accepted rows up to `as_of`.
    as_of : date
        Last day of the training week.
    models : Models
        Models in force: which families have one, and their settings.
    seed : int
        Seed of the sample and of random groups.

    Returns
    -------
    pyarrow.Table
        The columns of `segment_evidence`, in a fixed order; empty if the history is too short.

    Examples
    --------
    >>> from ml.engine import in_memory
    >>> from ml.features import FeatureSpec
    >>> day = date(2024, 3, 1)
    >>> days = tables.CUSTOMER_DAYS.filled(pa.table({"customer_id": ["c1", "c2"], "day": [day, day]}))
    >>> no_categories, no_attributes = tables.CATEGORY_DAYS.empty_days(), tables.CUSTOMERS.empty_days()
    >>> facts = CustomerHistory(in_memory(), FeatureSpec(), days, no_categories, no_attributes)
    >>> evidence = segment_evidence(facts, day, Models())
    >>> evidence.column_names, evidence.num_rows
    (['grouping', 'groups', 'r2_spend', 'r2_log_spend'], 0)
    """
    segments = models.specs.segments
    earlier_day, later_day = evaluation_days(as_of, segments.outcome_window_days)
    in_force = [family for family in FAMILIES if getattr(models, family) is not None]
    specs = replace(models.specs, segments=replace(segments, max_rows=min(segments.max_rows, MAX_CUSTOMERS)))
    models_then = fit_models(facts, later_day, specs, in_force)
    day = predict_day(facts, later_day, models_then, earlier_day=earlier_day, until=as_of, seed=seed)
    if day is None:
        return tables.SEGMENT_EVIDENCE.empty()
    rows = [asdict(score) for score in pooled_scores([day])]
    return tables.SEGMENT_EVIDENCE.conform(pa.Table.from_pylist(rows, schema=tables.SEGMENT_EVIDENCE.schema()))


def fit_models(facts: CustomerHistory, as_of: date, specs: Specs, families: Collection[str] = FAMILIES) -> Models:
    """Fit each family for the first time on what was known by `as_of`; those not in `families` have no model."""
    known = facts.until(as_of)
    models = Models(None, None, None, specs)
    if "value" in families:
        fit = value.train(known, as_of, specs.value, None)
        if fit.decision == "challenger":
            models = replace(models, value=cast("ValueModel", fit.model))
    if "lifecycle" in families:
        fit = lifecycle.train(known, as_of, specs.lifecycle, None, value_model=models.value, value_spec=specs.value)
        models = replace(models, lifecycle=cast("LifecycleModel | None", fit.model))
    return refit_layers(known, as_of, models) if "layers" in families else models


def refit_layers(facts: CustomerHistory, as_of: date, models: Models) -> Models:
    """Replace the layers by a first fit of the settings' layers on what was known by `as_of`."""
    layers = train_layers(facts.until(as_of), as_of, models.specs.segments, None, models=models).model
    return replace(models, layers=cast("LayerModels | None", layers))


def predict_day(
    facts: CustomerHistory,
    day: date,
    models: Models,
    *,
    earlier_day: date,
    until: date,
    seed: int = 0,
    is_damped: bool = True,
) -> DayPredictions | None:
    """Predict the outcomes of `day` by each grouping, learnt on the customers of an earlier day, both under `models`.

    Parameters
    ----------
    facts : CustomerHistory
        Accepted rows.
    day : date
        Day to predict.
    models : Models
        Fitted on nothing later than `day`.
    earlier_day : date
        A day at least a window earlier.
    until : date
        Day by whose end the window after `day` has closed.
    seed : int
        Seed of the sample and of random groups.
    is_damped : bool
        Whether customers between two clusters stay where they were, as in the published strings.

    Returns
    -------
    DayPredictions or None
        None if fewer than twice `min_cluster_customers` customers were known on either day.
    """
    spec = models.specs.segments
    pairs = sample_customers(facts.engine, facts.known((earlier_day, day)), spec.max_rows, seed)
    is_earlier = pairs["day"].to_numpy() == np.datetime64(earlier_day)
    if min(is_earlier.sum(), (~is_earlier).sum()) < 2 * spec.min_cluster_customers:
        return None
    history = earlier_features(facts, models) if is_damped else None
    restated = restate(facts.engine, facts.snapshot(pairs), models, history)
    keys = restated.select(["customer_id", "day"])
    spend = facts.outcomes(keys, spec.outcome_window_days, until=until)["spend"].to_numpy()
    return predict_by_groupings(restated, spend, restated["day"].to_numpy() == np.datetime64(earlier_day), seed)


def pooled_scores(days: Sequence[DayPredictions]) -> list[Score]:
    """R² of each grouping over several days: 1 − Σ squared errors / Σ squares around each day's own mean."""
    scores = []
    for grouping in days[0].predictions:
        r2 = {}
        for measure in MEASURES:
            pairs = [(day.outcomes[measure], day.predictions[grouping][measure]) for day in days]
            errors = sum(float(((outcome - predicted) ** 2).sum()) for outcome, predicted in pairs)
            squares = sum(float(((outcome - outcome.mean()) ** 2).sum()) for outcome, _ in pairs)
            r2[measure] = 1 - errors / squares if squares > 0 else float("nan")
        groups = round(sum(day.groups[grouping] for day in days) / len(days))
        scores.append(Score(grouping, groups, **r2))
    return scores


def r2_differences(days: Sequence[DayPredictions], seed: int = 0) -> list[R2Difference]:
    """Micro-segments' pooled R² minus that of each other grouping, by a paired bootstrap over customers.

    A customer is drawn with all of its days, because months of the same customer are not independent.
    """
    ids, index = np.unique(np.concatenate([day.customers for day in days]), return_inverse=True)
    if not len(ids):
        return []
    n = len(ids)
    random = np.random.default_rng(seed)
    weights = random.multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(float)
    differences = []
    for measure in MEASURES:
        outcomes = [day.outcomes[measure] for day in days]
        deviations = [(outcome - outcome.mean()) ** 2 for outcome in outcomes]
        squares = np.bincount(index, np.concatenate(deviations), minlength=n)

        def squared_errors(grouping: str, measure: str = measure, outcomes: list[np.ndarray] = outcomes) -> np.ndarray:
            predictions = [day.predictions[grouping][measure] for day in days]
            errors = [(outcome - predicted) ** 2 for outcome, predicted in zip(outcomes, predictions, strict=True)]
            return np.bincount(index, np.concatenate(errors), minlength=n)

        own_errors = squared_errors(OURS)
        for other in days[0].predictions:
            if other == OURS or squares.sum() <= 0:
                continue
            fall = squared_errors(other) - own_errors
            draws = (weights @ fall) / np.maximum(weights @ squares, 1e-12)
            low, high = np.quantile(draws, [0.025, 0.975])
            differences.append(R2Difference(other, measure, float(fall.sum() / squares.sum()), float(low), float(high)))
    return differences

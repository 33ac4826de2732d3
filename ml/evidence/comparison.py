"""Evidence: how much of next month's spend micro-segments tell out of time, against simpler and finer alternatives.

Belongs here: the comparison on the user's own data, on one day or pooled over several, under models that had not seen
what is judged. Does not belong here: the alternatives (see `groupings`), the choice between models (see `training`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa

from ml import lifecycle, segments, tables, value
from ml.evidence.groupings import MEASURES, OURS, Judged, judged
from ml.features import CustomerHistory
from ml.restate import Models, Specs, restate
from ml.sampling import sample_customers
from ml.segments.training import evaluation_days

if TYPE_CHECKING:
    from ml.lifecycle import LifecycleModel
    from ml.segments.layers import LayerModels
    from ml.value import ValueModel

FAMILIES = ("value", "lifecycle", "layers")  # in the order in which one needs the other
DRAWS = 2000  # of a bootstrap


@dataclass(frozen=True)
class Score:
    """One grouping's R²: the share of the variance of next month's spend, and of log(1 + spend), that it tells.

    `groups` : on the days' average
    """

    grouping: str
    groups: int
    r2_spend: float
    r2_log_spend: float


@dataclass(frozen=True)
class Gap:
    """By how much micro-segments' R² is greater than another grouping's, with a 95 % interval over customers."""

    other: str
    measure: str
    mean: float
    low: float
    high: float


def segment_evidence(facts: CustomerHistory, as_of: date, models: Models, seed: int = 0) -> pa.Table:
    """Out-of-time R² of the next window's spend and log(1 + spend), per grouping (see `groupings.judged`).

    Two days, with windows that have closed by `as_of`: on the earlier one the group means (and the individual model)
    are learnt, on the later one they are applied. The models in force at `as_of` have learnt from the window that is
    judged, so they are not asked: those families of `models` that have a model are fitted anew on what was known at the
    end of the later day, by the same specs. What is judged is thus the way of segmenting, as it would have been used
    then.

    Returns
    -------
    The columns of `segment_evidence`, in a fixed order; empty if the history is too short.
    """
    window = models.specs.segments.outcome_window_days
    learn, apply = evaluation_days(as_of, window)
    in_force = [family for family in FAMILIES if getattr(models, family) is not None]
    then = fitted(facts, apply, models.specs, in_force)
    found = judged_on(facts, apply, then, learn=learn, until=as_of, seed=seed)
    if found is None:
        return tables.SEGMENT_EVIDENCE.empty()
    rows = [asdict(score) for score in pooled([found])]
    return tables.SEGMENT_EVIDENCE.conform(pa.Table.from_pylist(rows, schema=tables.SEGMENT_EVIDENCE.schema()))


def fitted(facts: CustomerHistory, as_of: date, specs: Specs, families: Collection[str] = FAMILIES) -> Models:
    """Each family's first fit on what was known by `as_of`; those not in `families` have no model."""
    known = facts.until(as_of)
    models = Models(None, None, None, specs)
    if "value" in families:
        fit = value.train(known, as_of, specs.value, None)
        if fit.decision == "challenger":
            models = replace(models, value=cast("ValueModel", fit.model))
    if "lifecycle" in families:
        fit = lifecycle.train(known, as_of, specs.lifecycle, None, value_model=models.value, value_spec=specs.value)
        models = replace(models, lifecycle=cast("LifecycleModel | None", fit.model))
    return with_layers(known, as_of, models) if "layers" in families else models


def with_layers(facts: CustomerHistory, as_of: date, models: Models) -> Models:
    """The models with a first fit of their specs' layers on what was known by `as_of`, in place of other layers."""
    layers = segments.train(facts.until(as_of), as_of, models.specs.segments, None, models=models).model
    return replace(models, layers=cast("LayerModels | None", layers))


def judged_on(
    facts: CustomerHistory,
    day: date,
    models: Models,
    *,
    learn: date,
    until: date,
    seed: int = 0,
    is_damped: bool = True,
) -> Judged | None:
    """What each grouping, learnt on the customers of `learn`, tells of those of `day`, both under `models`.

    Parameters
    ----------
    models : fitted on nothing later than `day`
    learn : a day at least a window earlier
    until : the day by whose end the window after `day` has closed
    is_damped : whether customers between two clusters stay where they were, as in the published strings

    Returns
    -------
    None if fewer than twice `min_cluster_customers` customers were known on either day.
    """
    spec = models.specs.segments
    pairs = sample_customers(facts.engine, facts.known((learn, day)), spec.max_rows, seed)
    on_first = pairs["day"].to_numpy() == np.datetime64(learn)
    if min(on_first.sum(), (~on_first).sum()) < 2 * spec.min_cluster_customers:
        return None
    history = facts.snapshot if is_damped else None
    restated = restate(facts.engine, facts.snapshot(pairs), models, history)
    keys = restated.select(["customer_id", "day"])
    spend = facts.outcomes(keys, spec.outcome_window_days, until=until)["spend"].to_numpy()
    return judged(restated, spend, restated["day"].to_numpy() == np.datetime64(learn), seed)


def pooled(days: Sequence[Judged]) -> list[Score]:
    """R² of each grouping over several days: 1 − Σ squared errors / Σ squares around each day's own mean."""
    scores = []
    for grouping in days[0].told:
        r2 = {}
        for measure in MEASURES:
            wrong = sum(float(((day.came[measure] - day.told[grouping][measure]) ** 2).sum()) for day in days)
            around = sum(float(((day.came[measure] - day.came[measure].mean()) ** 2).sum()) for day in days)
            r2[measure] = 1 - wrong / around if around > 0 else float("nan")
        groups = round(sum(day.groups[grouping] for day in days) / len(days))
        scores.append(Score(grouping, groups, **r2))
    return scores


def gaps(days: Sequence[Judged], seed: int = 0) -> list[Gap]:
    """Micro-segments' pooled R² minus that of each other grouping, by a paired bootstrap over customers.

    A customer is drawn with all of its days, so months of the same customer do not pass for independent ones.
    """
    everybody, place = np.unique(np.concatenate([day.customers for day in days]), return_inverse=True)
    if not len(everybody):
        return []
    n = len(everybody)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(n, np.full(n, 1 / n), size=DRAWS).astype(float)
    found = []
    for measure in MEASURES:
        came = [day.came[measure] for day in days]
        around = np.bincount(place, np.concatenate([(one - one.mean()) ** 2 for one in came]), minlength=n)

        def wrong(grouping: str, measure: str = measure, came: list[np.ndarray] = came) -> np.ndarray:
            errors = [(one - day.told[grouping][measure]) ** 2 for one, day in zip(came, days, strict=True)]
            return np.bincount(place, np.concatenate(errors), minlength=n)

        ours = wrong(OURS)
        for other in days[0].told:
            if other == OURS or around.sum() <= 0:
                continue
            fall = wrong(other) - ours
            draws = (drawn @ fall) / np.maximum(drawn @ around, 1e-12)
            low, high = np.quantile(draws, [0.025, 0.975])
            found.append(Gap(other, measure, float(fall.sum() / around.sum()), float(low), float(high)))
    return found

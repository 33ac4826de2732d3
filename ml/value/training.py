"""The weekly fit of the value model: matured snapshots, a temporal holdout, and a fair contest with the incumbent.

Belongs here: which days are learnt from, how a fit is scored, and the decision. Does not belong here: what a fit is
(see `model`).

A snapshot has matured when its horizon has closed by the end of the training week. The newest matured snapshot is the
holdout. Its outcomes are also the freshest thing there is to learn from, so the model that predicts is fitted on it;
what is scored is a *twin*, the same recipe fitted only on snapshots that had matured by the holdout's day. The
incumbent is scored by its own twin on the same holdout, so neither side has seen the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.sampling import sampled
from ml.training import Decision, Training, decide, example_of
from ml.value import figures
from ml.value.metrics import scores
from ml.value.model import OBJECTIVES, RECIPE, ROUNDS, Fit, ValueModel
from ml.value.spec import ValueSpec, as_it_was

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ml.features import Facts

METRIC = "rmse"
FOLDS = 4
TOLERATED = 0.02  # a fit whose RMSE is worse than the baseline's by more than this is not put in force
UNBEARABLE = 0.10  # and an incumbent that is worse by more than this is taken out of force


def training_days(newest: date, first: date, spec: ValueSpec) -> list[date]:
    """Snapshot days for a fit: `newest` and earlier ones, a step apart, none before the warm-up; newest first."""
    days = [newest - timedelta(days=spec.snapshot_step_days * k) for k in range(spec.snapshots)]
    return [day for day in days if day >= first + timedelta(days=spec.warm_up_days)]


def train(facts: Facts, as_of: date, spec: ValueSpec, incumbent: ValueModel | None) -> Training:
    """Fit this week's challenger and decide whether it comes into force.

    Parameters
    ----------
    facts : cut at `as_of`, the last day of the training week
    incumbent : the model in force, or None

    Returns
    -------
    The challenger, or ``model=None`` where fewer than `spec.min_customers` customers have a matured outcome.
    The metric is the RMSE of expected spend on the newest matured snapshot. Where history is too short for a twin, it
    comes from cross-validation between customers on that snapshot, says so, and unseats nobody.
    """
    holdout = as_of - timedelta(days=spec.horizon_days)
    first = _first_purchase(facts)
    days = training_days(holdout, first, spec) if first else []
    if not days:
        wanted = spec.warm_up_days + spec.horizon_days
        return _not_enough(incumbent, f"not enough history: {wanted} days of it are asked for by {as_of}")
    twin_days = training_days(holdout - timedelta(days=spec.horizon_days), first, spec) if first else []
    snapshot, outcomes = _rows(facts, [*days, *twin_days], spec, as_of)
    customers = pc.count_distinct(snapshot["customer_id"]).as_py()
    if customers < spec.min_customers:
        return _not_enough(
            incumbent, f"not enough customers: {customers} with a matured outcome, {spec.min_customers} are asked for"
        )

    final = Fit.learn(*_of_days(snapshot, outcomes, days), seed=spec.seed)
    held, realised = _of_days(snapshot, outcomes, [holdout])
    twin_rows = _of_days(snapshot, outcomes, twin_days)
    twin = Fit.learn(*twin_rows, seed=spec.seed) if twin_rows[0].num_rows else None
    if twin is not None:
        predicted, validation = twin.predict(held), "temporal holdout"
    else:
        predicted, validation = _cross_validated(*_of_days(snapshot, outcomes, days), holdout, spec), "customer split"
    model = ValueModel(spec.horizon_days, spec.annual_discount_rate, final, twin)

    before = as_it_was(held, spec.horizon_days, spec.annual_discount_rate)
    mine, plain = scores(realised, predicted), scores(realised, before)
    metrics = {**mine, **{f"baseline_{name}": score for name, score in plain.items()}}
    metrics["holdout_customers"] = float(held.num_rows)
    metrics["is_temporal_holdout"] = float(twin is not None)
    theirs = _incumbent_rmse(incumbent, spec, held, realised)
    decision, reason = _decide(mine["rmse"], plain["rmse"], theirs, incumbent, twin is not None, spec)
    if theirs is not None:
        metrics["incumbent_rmse"] = theirs
    return Training(
        model=model,
        decision=decision,
        reason=reason,
        metric=METRIC,
        challenger_score=mine["rmse"],
        incumbent_score=theirs,
        metrics=metrics,
        params={
            **asdict(spec),
            "as_of": str(as_of),
            "holdout_day": str(holdout),
            "validation": validation,
            "snapshot_days": ", ".join(map(str, days)),
            "twin_days": ", ".join(map(str, twin_days)),
            "rounds": ROUNDS,
            **RECIPE,
            "spend_objective": OBJECTIVES["spend"]["objective"],
        },
        figures=_figures(final, realised, predicted, before, holdout, spec, validation),
        # Booleans as floats too: the model reads them as numbers.
        example=example_of(held.select(final.encoder.columns)).astype(dict.fromkeys(final.encoder.numeric, float)),
    )


def _decide(
    mine: float, plain: float, theirs: float | None, incumbent: ValueModel | None, has_twin: bool, spec: ValueSpec
) -> tuple[Decision, str]:
    """The decision in words. `theirs` is None where there is no incumbent or none that can be scored fairly."""
    how = "on the temporal holdout"
    if not has_twin:
        how = "by cross-validation between customers, as no earlier snapshot had matured before the holdout"
    against = f"rmse {mine:.4g} against {plain:.4g} for spend as it was, {how}"
    if incumbent is not None and theirs is not None:
        if min(mine, theirs) > plain * (1 + UNBEARABLE):
            return "none", f"back to spend as it was: {against}, and the incumbent's {theirs:.4g}"
        decision, reason = decide(METRIC, mine, theirs, margin=spec.margin)
        return decision, f"{reason}; {against}"
    if mine > plain * (1 + TOLERATED):
        return "none", f"clearly worse than spend as it was: {against}"
    if incumbent is None:
        return "challenger", f"first fit: {against}"
    if not _same_question(incumbent, spec):
        return "challenger", f"the incumbent answers another question (horizon or discount have changed); {against}"
    if not has_twin:
        return "incumbent", f"no fair contest yet: neither fit can be scored on outcomes it has not seen; {against}"
    return "challenger", f"the incumbent cannot be scored out of time, this fit can; {against}"


def _same_question(incumbent: ValueModel, spec: ValueSpec) -> bool:
    return (incumbent.horizon_days, incumbent.annual_discount_rate) == (spec.horizon_days, spec.annual_discount_rate)


def _incumbent_rmse(incumbent: ValueModel | None, spec: ValueSpec, held: pa.Table, realised: pa.Table) -> float | None:
    """RMSE of the incumbent's twin on the holdout; None where it has none, or counts over another horizon."""
    if incumbent is None or incumbent.twin is None or not _same_question(incumbent, spec):
        return None
    if set(incumbent.twin.encoder.columns) - set(held.column_names):
        return None
    return scores(realised, incumbent.twin.predict(held))["rmse"]


def _not_enough(incumbent: ValueModel | None, reason: str) -> Training:
    return Training(model=None, decision="none" if incumbent is None else "incumbent", reason=reason, metric=METRIC)


def _first_purchase(facts: Facts) -> date | None:
    found = facts.engine.query(
        "SELECT MIN(day) AS first_day FROM customer_days WHERE orders > 0", customer_days=facts.customer_days
    )
    first: date | None = found["first_day"][0].as_py()
    return first


def _rows(facts: Facts, days: list[date], spec: ValueSpec, as_of: date) -> tuple[pa.Table, pa.Table]:
    """Snapshot and outcomes on `days`, side by side; of a fixed sample of customers if they are too many."""
    pairs = facts.known(sorted(set(days)))
    most = max(1, spec.max_rows // spec.snapshots)
    pairs = sampled(facts.engine, pairs, most, spec.seed)
    return facts.snapshot(pairs), facts.outcomes(pairs, spec.horizon_days, until=as_of)


def _of_days(snapshot: pa.Table, outcomes: pa.Table, days: list[date]) -> tuple[pa.Table, pa.Table]:
    """The rows of both tables on `days`; both are ordered by day and customer."""
    keep = pc.is_in(snapshot["day"], value_set=pa.array(days, pa.date32()))
    return snapshot.filter(keep), outcomes.filter(keep)


def _cross_validated(snapshot: pa.Table, outcomes: pa.Table, holdout: date, spec: ValueSpec) -> dict[str, np.ndarray]:
    """Predictions for the holdout's rows, each by a fit that saw none of that customer's rows on any day.

    It shows whether the recipe tells customers apart, not whether it foresees a change of times.
    """
    customers, codes = np.unique(np.asarray(snapshot["customer_id"].to_pylist(), dtype=str), return_inverse=True)
    folds = np.random.default_rng(spec.seed).permutation(len(customers))[codes] % FOLDS
    held = np.asarray(pc.equal(snapshot["day"], pa.scalar(holdout, pa.date32())).to_numpy(), dtype=bool)
    out: dict[str, np.ndarray] = {}
    for fold in range(FOLDS):
        rest, mine = pa.array(folds != fold), (folds == fold) & held
        fit = Fit.learn(snapshot.filter(rest), outcomes.filter(rest), seed=spec.seed)
        for name, values in fit.predict(snapshot.filter(pa.array(mine))).items():
            out.setdefault(name, np.zeros(len(folds)))[mine] = values
    return {name: values[held] for name, values in out.items()}


def _figures(
    final: Fit,
    realised: pa.Table,
    predicted: Mapping[str, np.ndarray],
    before: Mapping[str, np.ndarray],
    holdout: date,
    spec: ValueSpec,
    validation: str,
) -> dict[str, Callable[[], Figure]]:
    actual = np.asarray(realised["spend"].to_numpy(), dtype=float)
    about = f"{len(actual):,} customers on {holdout}, next {spec.horizon_days} days, {validation}"
    mine, plain = predicted["expected_spend"], before["expected_spend"]
    columns = final.encoder.columns
    gains = final.heads["spend"].gains(len(columns))
    return {
        "calibration": partial(figures.calibration, actual, mine, plain, about),
        "contributions": partial(figures.contributions, columns, gains),
        "lorenz": partial(figures.lorenz, actual, mine, plain, about),
    }

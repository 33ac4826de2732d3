"""The weekly fit of the value model: matured snapshots, a temporal holdout, and a fair contest with the incumbent.

Belongs here: which days are learnt from, and the decision. Does not belong here: what a fit is (see `blend`) and how it
is scored (see `contest`).

A snapshot has matured when its horizon has closed by the end of the training week. The newest matured snapshot is the
holdout. Its outcomes are also the freshest thing there is to learn from, so the model that predicts is fitted on it;
what is scored is a *twin*, the same recipe fitted only on snapshots that had matured by the holdout's day. The twin's
answers by the blend, by LightGBM alone and by BG/NBD alone are scored side by side, and the best decides the method.
The incumbent is scored by its own twin on the same holdout, so neither side has seen the answers.

With less history the claim shrinks step by step: without an earlier matured snapshot the score comes from
cross-validation between customers; without any, BG/NBD, which needs no labels, is scored over a shorter horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from ml.columns import numbers
from ml.sampling import sampled
from ml.training import Decision, Training, decide, example_of
from ml.value import figures
from ml.value.blend import Fit
from ml.value.boosted import LIFT, OBJECTIVES, RECIPE, ROUNDS
from ml.value.contest import Contest, Rows
from ml.value.metrics import scores
from ml.value.model import ValueModel
from ml.value.spec import SHORTEST, ValueSpec
from ml.value.weights import learnt_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ml.features import Facts

METRIC = "rmse"
TOLERATED = 0.02  # a fit whose RMSE is worse than the baseline's by more than this is not put in force
UNBEARABLE = 0.10  # and an incumbent that is worse by more than this is taken out of force
GAINS = 10  # columns whose share of the trees' gain is logged
TEMPORAL, BETWEEN = "temporal holdout", "customer split"


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
    The challenger, or ``model=None`` where there are fewer than `spec.min_customers` customers, or too little history.
    The metric is the RMSE of expected spend on the newest matured snapshot: proper for a mean, so nothing that is too
    low in sum can win by it. Where history is too short for a twin, it comes from cross-validation between customers
    on that snapshot, or from BG/NBD over a shorter horizon; then the reason says so, and it unseats nobody.
    """
    first = _first_purchase(facts)
    if first is None or as_of < first:
        return _not_enough(incumbent, f"not enough history: nobody has bought anything by {as_of}")
    holdout, ahead = as_of - timedelta(days=spec.horizon_days), spec.horizon_days
    days = training_days(holdout, first, spec)
    twin_days = training_days(holdout - timedelta(days=spec.horizon_days), first, spec)
    if not days:
        ahead = min(spec.horizon_days, ((as_of - first).days + 1) // 3)
        holdout = as_of - timedelta(days=ahead)
        if ahead < SHORTEST or holdout < first + timedelta(days=spec.warm_up_days):
            wanted = spec.warm_up_days + spec.horizon_days
            return _not_enough(incumbent, f"not enough history: {wanted} days of it are asked for by {as_of}")
    rows = _rows(facts, sorted({*days, *twin_days, holdout}), as_of, ahead, spec)
    customers = pc.count_distinct(rows.outcomes["customer_id"]).as_py()
    if customers < spec.min_customers:
        return _not_enough(
            incumbent, f"not enough customers: {customers} with a matured outcome, {spec.min_customers} are asked for"
        )

    learn = partial(Fit.learn, horizon_days=spec.horizon_days, seed=spec.seed, first_day=first)
    final = learn(*rows.of(days), rows.of([as_of])[0])
    held, realised = rows.of([holdout])
    twin = learn(*rows.of(twin_days), held) if twin_days else None
    if twin is not None:
        weights = learnt_weights(np.maximum(numbers(realised["spend"]), 0.0), twin.members(held))
        final = replace(final, weights=weights)
        contest = Contest.by_twin(twin, held, realised, holdout, TEMPORAL)
    elif days:
        contest = Contest.by_customers(rows, days, holdout, learn, spec)
    else:
        early = Fit.learn(*rows.of([]), held, horizon_days=ahead, seed=spec.seed, first_day=first)
        contest = Contest.by_twin(early, held, realised, holdout, f"{ahead} days ahead")
    method = contest.best()
    model = ValueModel(spec.horizon_days, spec.annual_discount_rate, final, twin, method)
    theirs = _incumbent_rmse(incumbent, spec, contest)
    metrics = contest.metrics(method) | {"is_temporal_holdout": float(twin is not None)}
    if days:
        metrics |= {f"factor_{name}": factor for name, factor in final.factors.items()}
        metrics |= {f"weight_{name}": weight for name, weight in final.weights.items()}
    metrics |= _gain_shares(final)
    if theirs is not None:
        metrics["incumbent_rmse"] = theirs
    decision, reason = _decide(metrics["rmse"], metrics["baseline_rmse"], theirs, incumbent, contest, model, spec)
    notes = f"; {'; '.join(final.closed.notes)}" if final.closed.notes else ""
    return Training(
        model=model,
        decision=decision,
        reason=reason + notes,
        metric=METRIC,
        challenger_score=metrics["rmse"],
        incumbent_score=theirs,
        metrics=metrics,
        params={
            **asdict(spec),
            "as_of": str(as_of),
            "holdout_day": str(holdout),
            "validation": contest.validation,
            "method": method,
            "snapshot_days": ", ".join(map(str, days)),
            "twin_days": ", ".join(map(str, twin_days)),
            "rounds": ROUNDS,
            **RECIPE,
            "spend_objective": OBJECTIVES["spend"]["objective"],
            "lift_learning_rate": LIFT["learning_rate"],
            **_closed_params(final),
        },
        figures=_figures(final, contest, model),
        # Whole numbers as floats: any of them may be missing. Booleans too: the model reads them as numbers.
        example=example_of(held.select(final.inputs)).astype(
            dict.fromkeys(final.encoder.numeric if final.encoder else (), float)
        ),
    )


def _decide(
    mine: float,
    plain: float,
    theirs: float | None,
    incumbent: ValueModel | None,
    contest: Contest,
    model: ValueModel,
    spec: ValueSpec,
) -> tuple[Decision, str]:
    """The decision in words. `theirs` is None where there is no incumbent or none that can be scored fairly."""
    how = {
        TEMPORAL: "on the temporal holdout",
        BETWEEN: "by cross-validation between customers, as no earlier snapshot had matured before the holdout",
    }.get(contest.validation, f"over {contest.ahead} days, as no horizon of {spec.horizon_days} days has closed yet")
    against = f"{model.method}: rmse {mine:.4g} against {plain:.4g} for spend as it was, {how}"
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
    if incumbent.final.encoder is None and model.final.encoder is not None:
        return "challenger", f"the first fit that has seen outcomes takes over from BG/NBD alone; {against}"
    if model.twin is None:
        return "incumbent", f"no fair contest yet: neither fit can be scored on outcomes it has not seen; {against}"
    return "challenger", f"the incumbent cannot be scored out of time, this fit can; {against}"


def _same_question(incumbent: ValueModel, spec: ValueSpec) -> bool:
    return (incumbent.horizon_days, incumbent.annual_discount_rate) == (spec.horizon_days, spec.annual_discount_rate)


def _incumbent_rmse(incumbent: ValueModel | None, spec: ValueSpec, contest: Contest) -> float | None:
    """RMSE of the incumbent's twin on the holdout; None where it has none, or counts over another horizon."""
    if incumbent is None or incumbent.twin is None or not _same_question(incumbent, spec):
        return None
    if contest.ahead != spec.horizon_days or set(incumbent.twin.inputs) - set(contest.held.column_names):
        return None
    return scores(contest.realised, incumbent.twin.predict(contest.held, incumbent.method))["rmse"]


def _not_enough(incumbent: ValueModel | None, reason: str) -> Training:
    return Training(model=None, decision="none" if incumbent is None else "incumbent", reason=reason, metric=METRIC)


def _first_purchase(facts: Facts) -> date | None:
    found = facts.engine.query(
        "SELECT MIN(day) AS first_day FROM customer_days WHERE orders > 0", customer_days=facts.customer_days
    )
    first: date | None = found["first_day"][0].as_py()
    return first


def _rows(facts: Facts, matured: list[date], as_of: date, ahead: int, spec: ValueSpec) -> Rows:
    """Snapshots on the matured days and `as_of`, outcomes of the former; of a fixed sample of customers if too many."""
    pairs = facts.known([*matured, as_of])
    pairs = sampled(facts.engine, pairs, max(1, spec.max_rows // spec.snapshots), spec.seed)
    labelled = pairs.filter(pc.less_equal(pairs["day"], matured[-1]))
    return Rows(facts.snapshot(pairs), facts.outcomes(labelled, ahead, until=as_of))


def _closed_params(fit: Fit) -> dict[str, float]:
    """Parameters of BG/NBD (days) and Gamma-Gamma (currency) in the final fit."""
    names = ("bgnbd_r", "bgnbd_alpha", "bgnbd_a", "bgnbd_b", "gamma_gamma_p", "gamma_gamma_q", "gamma_gamma_gamma")
    values = [*(fit.closed.timing or [np.nan] * 4), *(fit.closed.money or [np.nan] * 3)]
    return {name: float(value) for name, value in zip(names, values, strict=True) if np.isfinite(value)}


def _gains(fit: Fit) -> dict[str, float]:
    """Share of the gain of the trees for spend and of those that lift, per column."""
    if fit.encoder is None:
        return {}
    gains: dict[str, float] = {}
    for head, columns in (("spend", fit.encoder.columns), ("lifted", fit.lift_columns)):
        found = fit.heads[head].gains(len(columns))
        for name, gain in zip(columns, found / max(float(found.sum()), 1e-12), strict=True):
            gains[name] = gains.get(name, 0.0) + float(gain) / 2
    return gains


def _gain_shares(fit: Fit) -> dict[str, float]:
    """The largest shares, as metrics that line up over the weeks."""
    first = sorted(_gains(fit).items(), key=lambda item: (-item[1], item[0]))[:GAINS]
    return {f"gain.{name.replace('/', '_')}": share for name, share in first}


def _figures(final: Fit, contest: Contest, model: ValueModel) -> dict[str, Callable[[], Figure]]:
    actual = np.asarray(numbers(contest.realised["spend"]))
    about = f"{len(actual):,} customers on {contest.day}, next {contest.ahead} days, {contest.validation}"
    lines = {f"chosen: {model.method}": contest.predicted[model.method]["expected_spend"]}
    lines |= {str(m): out["expected_spend"] for m, out in contest.predicted.items() if m != model.method}
    lines["spend as it was"] = contest.plain["expected_spend"]
    drawn: dict[str, Callable[[], Figure]] = {
        "calibration": partial(figures.calibration, actual, lines, about),
        "lorenz": partial(figures.lorenz, actual, lines, about),
    }
    if gains := _gains(final):
        drawn["contributions"] = partial(figures.contributions, list(gains), np.array(list(gains.values())))
    return drawn

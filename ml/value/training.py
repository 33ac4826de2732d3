"""The weekly fit of the value model: matured snapshots, a temporal holdout, and a fair contest with the incumbent.

Belongs here: which days are learnt from, and the decision. Does not belong here: what a fit is (see `blend`) and how it
is scored (see `contest`).

A snapshot has matured when its horizon has closed by the end of the training week. The newest matured snapshot is the
holdout. Its outcomes are also the freshest thing there is to learn from, so the model that predicts is fitted on it;
what is scored is a *twin*, the same recipe fitted only on snapshots that had matured by the holdout's day. The twin's
answers by BG/NBD alone and by the blend are held against each other, and the blend answers only where it is surely
better. The incumbent is scored by its own twin on the same holdout, so neither side has seen
the answers; and both are held against spend as it was, which is in force where there is no model.

With less history the claim shrinks step by step: without an earlier matured snapshot the score comes from
cross-validation between customers; without any, BG/NBD, which needs no labels, is scored over a shorter horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import ml.value.breakdown as breakdown
import ml.value.figures as figures
from ml.choice import FitResult, Verdict, decide, decide_without_data
from ml.columns import numbers
from ml.naming import metric_name
from ml.reasons import Reason
from ml.sampling import sample_customers
from ml.serving import example_rows, inputs_of
from ml.value.blend import Fit, Method
from ml.value.boosted import LIFT, OBJECTIVES, RECIPE, ROUNDS
from ml.value.contest import Contest, Rows
from ml.value.judgement import Comparison
from ml.value.model import ValueModel
from ml.value.reasons import CHOICE_WORDS, ChoiceCode, Shortcoming, Validation, note_reason
from ml.value.season import Season
from ml.value.spec import SHORTEST, ValueSpec
from ml.value.weights import learnt_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ml.features import CustomerHistory

METRIC = "deviance"
GAINS = 10  # columns whose share of the trees' gain is logged


def training_days(newest: date, first: date, spec: ValueSpec) -> list[date]:
    """Snapshot days for a fit: `newest` and earlier ones, a step apart, none before the warm-up; newest first."""
    days = [newest - timedelta(days=spec.snapshot_step_days * k) for k in range(spec.snapshots)]
    return [day for day in days if day >= first + timedelta(days=spec.warm_up_days)]


def train(facts: CustomerHistory, as_of: date, spec: ValueSpec, incumbent: ValueModel | None = None) -> FitResult:
    """Fit this week's challenger and decide whether it comes into force.

    Parameters
    ----------
    facts : cut at `as_of`, the last day of the training week
    incumbent : the model in force, or None

    Returns
    -------
    The challenger, or ``model=None`` where there are fewer than `spec.min_customers` customers, or too little history.
    The metric is the deviance of expected spend on the newest matured snapshot (see `judgement`). Where history is too
    short for a twin, it comes from cross-validation between customers on that snapshot, or from BG/NBD over a shorter
    horizon; then the reason says so, and it unseats nobody. Without an incumbent spend as it was is in force, and a fit
    must be surely better than that.
    """
    first = _first_purchase(facts)
    if first is None or as_of < first:
        return _not_enough(incumbent, Reason(ChoiceCode.NOBODY_HAS_BOUGHT, {"as_of": str(as_of)}))
    holdout, ahead = as_of - timedelta(days=spec.horizon_days), spec.horizon_days
    days = training_days(holdout, first, spec)
    twin_days = training_days(holdout - timedelta(days=spec.horizon_days), first, spec)
    if not days:
        ahead = min(spec.horizon_days, ((as_of - first).days + 1) // 3)
        holdout = as_of - timedelta(days=ahead)
        if ahead < SHORTEST or holdout < first + timedelta(days=spec.warm_up_days):
            return _history_too_short(incumbent, as_of, spec)
    rows = _rows(facts, sorted({*days, *twin_days, holdout}), as_of, ahead, spec)
    customers = pc.count_distinct(rows.outcomes["customer_id"]).as_py()
    if customers < spec.min_customers:
        counts = {"customers": customers, "needed": spec.min_customers}
        return _not_enough(incumbent, Reason(ChoiceCode.TOO_FEW_CUSTOMERS, counts))

    learn = partial(Fit.learn, horizon_days=spec.horizon_days, seed=spec.seed, first_day=first)
    seasons = {day: _season(facts, day, spec) for day in (as_of, holdout)}
    final = learn(*rows.of(days), rows.of([as_of])[0], season=seasons[as_of])
    held, realised = rows.of([holdout])
    learn = partial(learn, season=seasons[holdout])  # what the holdout judges knows no day after it
    twin = learn(*rows.of(twin_days), held) if twin_days else None
    if twin is not None:
        weights = learnt_weights(np.maximum(numbers(realised["spend"]), 0.0), twin.members(held))
        final = replace(final, weights=weights)
        contest = Contest.by_twin(twin, held, realised, holdout, Validation.TEMPORAL)
    elif days:
        contest = Contest.by_customers(rows, days, holdout, learn, spec)
    else:
        early = Fit.learn(*rows.of([]), held, horizon_days=ahead, seed=spec.seed, first_day=first,
                         season=seasons[holdout])  # fmt: skip
        contest = Contest.by_twin(early, held, realised, holdout, Validation.SHORTER)
    contest = replace(contest, seed=spec.seed)
    method = contest.best()
    model = ValueModel(spec.horizon_days, spec.annual_discount_rate, final, twin, method)
    theirs = _incumbent_spend(incumbent, spec, contest)
    verdict, compared = _decide(contest, model, incumbent, theirs, spec)
    metrics = contest.metrics(method) | {"is_temporal_holdout": float(twin is not None)}
    if days:
        metrics |= {f"factor_{name}": factor for name, factor in final.factors.items()}
        metrics |= {f"weight_{name}": weight for name, weight in final.weights.items()}
    metrics |= _gain_shares(final)
    for name, comparison in compared.items():
        metrics |= comparison.metrics(name)
    metrics |= _season_metrics(final, as_of)
    metrics |= _breakdown(final, contest, method, rows.of([as_of])[0])
    if theirs is not None:
        metrics["incumbent_rmse"] = float(np.sqrt(np.mean((numbers(realised["spend"]) - theirs) ** 2)))
        metrics["incumbent_deviance"] = contest.judge.score(theirs)
    verdict = verdict.with_remarks(list(map(note_reason, final.closed.notes)))
    return FitResult(
        model=model,
        metric=METRIC,
        challenger_score=metrics[METRIC],
        incumbent_score=metrics.get("incumbent_deviance"),
        metrics=metrics,
        params={
            **asdict(spec),
            "as_of": str(as_of),
            "holdout_day": str(holdout),
            "validation": str(contest.validation),
            "method": method,
            "snapshot_days": ", ".join(map(str, days)),
            "twin_days": ", ".join(map(str, twin_days)),
            "rounds": ROUNDS,
            **RECIPE,
            "spend_objective": OBJECTIVES["spend"]["objective"],
            "lift_learning_rate": LIFT["learning_rate"],
            **_closed_params(final),
            "season": final.season.state,
        },
        figures=_figures(final, contest, model),
        example=example_rows(inputs_of(held.select(final.inputs).schema)),
        **verdict.fields(CHOICE_WORDS),
    )


def _decide(
    contest: Contest, model: ValueModel, incumbent: ValueModel | None, theirs: np.ndarray | None, spec: ValueSpec
) -> tuple[Verdict, dict[str, Comparison]]:
    """The decision, and what was compared.

    Parameters
    ----------
    theirs : what the incumbent's twin expects of each customer of the holdout; None where there is no incumbent, or
        none that can be scored fairly
    """
    mine = contest.predicted[model.method]["expected_spend"]
    over_plain = contest.against_plain(mine)
    compared = {"over_baseline": over_plain}
    if incumbent is None:
        return _in_place_of_plain(over_plain, contest, model, spec), compared
    if theirs is None:
        return _unscored(over_plain, contest, model, incumbent, spec), compared
    over_incumbent, theirs_over_plain = contest.judge.compare(theirs, mine), contest.against_plain(theirs)
    compared |= {"over_incumbent": over_incumbent, "incumbent_over_baseline": theirs_over_plain}
    scores = contest.judge.score(mine), contest.judge.score(theirs)
    verdict = decide(METRIC, *scores, over_incumbent.gain, margin=spec.margin)
    is_better = over_incumbent.is_better(spec.margin) and not over_plain.is_worse()
    if theirs_over_plain.is_worse() and not is_better:
        lost = theirs_over_plain.gain.reversed()
        parameters = _parameters(theirs_over_plain) | {"lost": lost.mean, "lost_low": lost.low, "lost_high": lost.high}
        back = Verdict("none", ChoiceCode.BASELINE_BETTER, parameters)
        return back.with_remarks([Reason(verdict.code, verdict.parameters)]), compared
    if verdict.decision == "challenger" and not is_better:
        shortcoming = "baseline" if over_plain.is_worse() else _shortcoming(over_incumbent)
        verdict = Verdict("incumbent", ChoiceCode.BETTER_BUT, {**verdict.parameters, "shortcoming": shortcoming})
    return verdict.with_remarks([_against_plain(over_plain, contest, model, spec)]), compared


def _shortcoming(over: Comparison) -> Shortcoming:
    """What a fit that is better by the loss is worse in."""
    return "order" if over.ranking.is_significantly_worse else "sum"


def _in_place_of_plain(over: Comparison, contest: Contest, model: ValueModel, spec: ValueSpec) -> Verdict:
    """Whether a fit takes the place of spend as it was, which is in force where there is no model."""
    parameters: dict[str, Any] = _parameters(over)
    if over.is_better(spec.margin):
        verdict = Verdict("challenger", ChoiceCode.BETTER_THAN_BASELINE, parameters)
    elif over.gain.mean < spec.margin:
        verdict = Verdict("none", ChoiceCode.NOT_BETTER_THAN_BASELINE, parameters)
    elif not over.gain.is_significantly_better:
        verdict = Verdict("none", ChoiceCode.WITHIN_CHANCE_OF_BASELINE, parameters)
    else:
        parameters |= {"shortcoming": _shortcoming(over)}
        verdict = Verdict("none", ChoiceCode.BETTER_THAN_BASELINE_BUT, parameters)
    return verdict.with_remarks([_against_plain(over, contest, model, spec)])


def _unscored(over: Comparison, contest: Contest, model: ValueModel, incumbent: ValueModel, spec: ValueSpec) -> Verdict:
    """The decision where the incumbent cannot be held against the fit."""
    parameters = _parameters(over)
    if not _same_question(incumbent, spec):
        if over.is_worse():
            verdict = Verdict("none", ChoiceCode.OTHER_QUESTION_AND_WORSE, parameters)
        else:
            verdict = Verdict("challenger", ChoiceCode.ANOTHER_QUESTION, parameters)
    elif over.is_worse():
        verdict = Verdict("incumbent", ChoiceCode.UNSCORED_AND_WORSE, parameters)
    elif incumbent.final.encoder is None and model.final.encoder is not None:
        verdict = Verdict("challenger", ChoiceCode.FIRST_OUTCOMES, parameters)
    elif model.twin is None:
        verdict = decide_without_data(Reason(ChoiceCode.NO_FAIR_CONTEST), has_incumbent=True)
    else:
        verdict = Verdict("challenger", ChoiceCode.INCUMBENT_UNSCORED, parameters)
    return verdict.with_remarks([_against_plain(over, contest, model, spec)])


def _against_plain(over: Comparison, contest: Contest, model: ValueModel, spec: ValueSpec) -> Reason:
    """How the fit does beside spend as it was."""
    scores = (contest.predicted[model.method]["expected_spend"], contest.plain["expected_spend"])
    mine, plain = (contest.judge.score(expected) for expected in scores)
    parameters = {
        "method": str(model.method), "score": mine, "baseline": plain, "gain": over.gain.mean,
        "gain_low": over.gain.low, "gain_high": over.gain.high, "validation": str(contest.validation),
        "ahead": contest.ahead, "horizon": spec.horizon_days,
    }  # fmt: skip
    return Reason(ChoiceCode.AGAINST_BASELINE, parameters)


def _parameters(over: Comparison) -> dict[str, float]:
    return over.metrics("baseline") | {"customers": float(over.gain.customers)}


def _same_question(incumbent: ValueModel, spec: ValueSpec) -> bool:
    return (incumbent.horizon_days, incumbent.annual_discount_rate) == (spec.horizon_days, spec.annual_discount_rate)


def _incumbent_spend(incumbent: ValueModel | None, spec: ValueSpec, contest: Contest) -> np.ndarray | None:
    """What the incumbent's twin expects on the holdout; None where it has none, or counts over another horizon."""
    if incumbent is None or incumbent.twin is None or not _same_question(incumbent, spec):
        return None
    if contest.ahead != spec.horizon_days or set(incumbent.twin.inputs) - set(contest.held.column_names):
        return None
    return incumbent.twin.predict(contest.held, incumbent.method)["expected_spend"]


def _not_enough(incumbent: ValueModel | None, lacking: Reason) -> FitResult:
    return FitResult.without_fit(decide_without_data(lacking, incumbent is not None), CHOICE_WORDS, METRIC)


def _history_too_short(incumbent: ValueModel | None, as_of: date, spec: ValueSpec) -> FitResult:
    counts = {"needed": spec.warm_up_days + spec.horizon_days, "as_of": str(as_of)}
    return _not_enough(incumbent, Reason(ChoiceCode.HISTORY_TOO_SHORT, counts))


def _season(facts: CustomerHistory, day: date, spec: ValueSpec) -> Season:
    return Season.learn(facts, day, horizon_days=spec.horizon_days, warm_up_days=spec.warm_up_days)


def _first_purchase(facts: CustomerHistory) -> date | None:
    found = facts.engine.query(
        "SELECT MIN(day) AS first_day FROM customer_days WHERE orders > 0", customer_days=facts.customer_days
    )
    first: date | None = found["first_day"][0].as_py()
    return first


def _rows(facts: CustomerHistory, matured: list[date], as_of: date, ahead: int, spec: ValueSpec) -> Rows:
    """Snapshots on the matured days and `as_of`, outcomes of the former; of a fixed sample of customers if too many."""
    pairs = facts.known([*matured, as_of])
    pairs = sample_customers(facts.engine, pairs, max(1, spec.max_rows // spec.snapshots), spec.seed)
    labelled = pairs.filter(pc.less_equal(pairs["day"], matured[-1]))
    return Rows(facts.snapshot(pairs), facts.outcomes(labelled, ahead, until=as_of))


def _closed_params(fit: Fit) -> dict[str, float]:
    """Parameters of BG/NBD (days) and Gamma-Gamma (currency) in the final fit."""
    names = ("bgnbd_r", "bgnbd_alpha", "bgnbd_a", "bgnbd_b", "gamma_gamma_p", "gamma_gamma_q", "gamma_gamma_gamma")
    values = [*(fit.closed.timing or [np.nan] * 4), *(fit.closed.money or [np.nan] * 3)]
    return {name: float(value) for name, value in zip(names, values, strict=True) if np.isfinite(value)}


def _season_metrics(fit: Fit, as_of: date) -> dict[str, float]:
    """The season as metrics that line up over the weeks: the index ahead and at its extremes, and the risk without."""
    season, day = fit.season, np.array([as_of], dtype="datetime64[D]")
    spend = season.index("spend")
    return {
        "season.is_learnt": float(season.state == "learnt"),
        "season.years": float(season.years),
        "season.explained": season.returning,
        "season.ahead": float(season.ahead(day, fit.horizon_days)[0]),
        "season.lowest": float(spend.min()),
        "season.highest": float(spend.max()),
        "season.risk_low": season.risk.low,
        "season.risk_high": season.risk.high,
    }


def _breakdown(final: Fit, contest: Contest, method: Method, now: pa.Table) -> dict[str, float]:
    """Errors on the holdout by cohort and by decile of the closed form, and how money goes with rhythm by now."""
    came = np.maximum(numbers(contest.realised["spend"]), 0.0)
    return breakdown.metrics_of(
        breakdown.by_cohort(contest.held, came, contest.predicted[method]["expected_spend"]),
        _corrections(contest, came),
        breakdown.money_and_rhythm(final.season.ordinary(now)),
    )


def _corrections(contest: Contest, came: np.ndarray) -> list[dict[str, float]]:
    """By decile of the closed form, how the blend corrects it; nothing, if there is no blend yet."""
    if "blend" not in contest.predicted:
        return []
    closed, blend = (contest.predicted[name]["expected_spend"] for name in ("bgnbd", "blend"))
    return breakdown.corrections(closed, blend, came)


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
    return {metric_name(f"gain.{name}"): share for name, share in first}


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
    came = np.maximum(actual, 0.0)
    chosen = contest.predicted[model.method]["expected_spend"]
    drawn["cohorts"] = partial(figures.cohorts, breakdown.by_cohort(contest.held, came, chosen), about)
    if rows := _corrections(contest, came):
        drawn["corrections"] = partial(figures.corrections, rows, about)
    if final.season.state == "learnt":
        drawn["season"] = partial(figures.season, final.season.index("orders"), final.season.index("spend"))
    if gains := _gains(final):
        drawn["contributions"] = partial(figures.contributions, list(gains), np.array(list(gains.values())))
    return drawn

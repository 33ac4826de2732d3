"""The weekly fit of the value model: matured snapshots, a temporal holdout, and a fair contest with the incumbent.

Belongs here: which days are learnt from, and the decision. Does not belong here: what a fit is (see `blend`) and how it
is scored (see `contest`).

A snapshot has matured when its horizon has closed by the end of the training week. The newest matured snapshot is the
holdout. Its outcomes are also the freshest thing there is to learn from, so the model that predicts is fitted on it;
what is scored is a *backtest fit*, the same recipe fitted only on snapshots that had matured by the holdout's day. Its
predictions by BG/NBD alone and by the blend are compared, and the blend is used only where it is significantly better.
The incumbent is scored by its own backtest fit on the same holdout, so neither side has seen the outcomes; and both are
compared with the persistence baseline, which is in force where there is no model.

With less history the claim shrinks step by step: without an earlier matured snapshot the score comes from
cross-validation between customers; without any, BG/NBD, which needs no labels, is scored over a shorter horizon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Self

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
from ml.value.boosted import CORRECTION, OBJECTIVES, RECIPE, ROUNDS
from ml.value.contest import Contest, Rows
from ml.value.currency import Money, exchange, reckon
from ml.value.judgement import Comparison
from ml.value.model import ValueModel
from ml.value.reasons import CHOICE_WORDS, ChoiceCode, Shortcoming, Validation, note_reason
from ml.value.season import Season
from ml.value.spec import MIN_SCORED_DAYS, ValueSpec
from ml.value.weights import learn_weights

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

    The metric is the deviance of expected spend on the newest matured snapshot (see `judgement`). Where history is too
    short for a backtest fit, it comes from cross-validation between customers on that snapshot, or from BG/NBD over a
    shorter horizon; then the reason says so, and the challenger replaces no incumbent. Without an incumbent the
    persistence baseline is in force, and a fit must be significantly better than that.

    Parameters
    ----------
    facts : CustomerHistory
        Facts up to `as_of`.
    as_of : date
        The last day of the training week.
    spec : ValueSpec
        Settings of the family.
    incumbent : ValueModel or None
        The model in force.

    Returns
    -------
    FitResult
        The challenger with its metrics and the decision; ``model=None`` where there are fewer than
        `spec.min_customers` customers, or too little history.

    Raises
    ------
    ValueError
        If the outcomes of the history are sums of other money than `spec` asks for.

    Examples
    --------
    Without a purchase there is nothing to fit, which is a result as well:

    >>> import datetime, pyarrow as pa
    >>> from ml.engine import DuckDB
    >>> from ml.features import CustomerHistory, FeatureSpec
    >>> from ml.tables import CATEGORY_DAYS, CUSTOMER_DAYS, CUSTOMERS
    >>> day = pa.field("day", pa.date32())
    >>> nothing = [table.schema().append(day).empty_table() for table in (CUSTOMER_DAYS, CATEGORY_DAYS, CUSTOMERS)]
    >>> facts = CustomerHistory(DuckDB(threads=1), FeatureSpec(), *nothing)
    >>> result = train(facts, datetime.date(2024, 3, 31), ValueSpec(), None)
    >>> result.decision, result.reason
    ('none', 'not enough history: nobody has bought anything by 2024-03-31')
    """
    if facts.spec.value_of != spec.of:
        raise ValueError(f"value is reckoned in {spec.of}, but the outcomes of this history in {facts.spec.value_of}")
    first = _first_purchase(facts)
    if first is None or as_of < first:
        return _not_enough(incumbent, Reason(ChoiceCode.NOBODY_HAS_BOUGHT, {"as_of": str(as_of)}))
    days = _Days.of(first, as_of, spec)
    if days is None:
        counts = {"needed": spec.fits_after_days + 1, "as_of": str(as_of)}
        return _not_enough(incumbent, Reason(ChoiceCode.HISTORY_TOO_SHORT, counts))
    rows = _rows(facts, days, spec)
    customers = pc.count_distinct(rows.outcomes["customer_id"]).as_py()
    if customers < spec.min_customers:
        counts = {"customers": customers, "needed": spec.min_customers}
        return _not_enough(incumbent, Reason(ChoiceCode.TOO_FEW_CUSTOMERS, counts))

    final, backtest_fit, contest = _fit(facts, rows, days, spec)
    model = ValueModel(spec.horizon_days, spec.annual_discount_rate, final, backtest_fit, contest.best(), spec.of)
    incumbent_spend = _incumbent_spend(incumbent, spec, contest)
    verdict, comparisons = _decide(contest, model, incumbent, incumbent_spend, spec)
    metrics = _metrics(model, contest, days, rows) | _incumbent_metrics(incumbent_spend, contest)
    for name, comparison in comparisons.items():
        metrics |= comparison.metrics(name)
    verdict = verdict.with_remarks(list(map(note_reason, final.closed.notes)))
    return FitResult(
        model=model,
        metric=METRIC,
        challenger_score=metrics[METRIC],
        incumbent_score=metrics.get("incumbent_deviance"),
        metrics=metrics,
        params=_params(model, contest, days, spec),
        figures=_figures(final, contest, model),
        example=example_rows(
            inputs_of(reckon(contest.snapshot, spec.of).select(exchange(final.inputs, spec.of)).schema)
        ),
        **verdict.fields(CHOICE_WORDS),
    )


@dataclass(frozen=True)
class _Days:
    """The days that a week's fit learns from and is scored on.

    Parameters
    ----------
    first : the first purchase
    as_of : the last day of the training week
    matured : snapshots that the final fit learns from, newest first
    backtest : snapshots that the backtest fit learns from, newest first
    holdout : the snapshot that is scored
    scored_days : over how many days after it
    """

    first: date
    as_of: date
    matured: list[date]
    backtest: list[date]
    holdout: date
    scored_days: int

    @classmethod
    def of(cls, first: date, as_of: date, spec: ValueSpec) -> Self | None:
        """Choose the days; None if history is too short even to score BG/NBD over a shorter horizon."""
        holdout, horizon = as_of - timedelta(days=spec.horizon_days), timedelta(days=spec.horizon_days)
        matured, backtest = training_days(holdout, first, spec), training_days(holdout - horizon, first, spec)
        if matured:
            return cls(first, as_of, matured, backtest, holdout, spec.horizon_days)
        scored_days = min(spec.horizon_days, ((as_of - first).days + 1) // 3)
        holdout = as_of - timedelta(days=scored_days)
        if scored_days < MIN_SCORED_DAYS or holdout < first + timedelta(days=spec.warm_up_days):
            return None
        return cls(first, as_of, matured, backtest, holdout, scored_days)


def _fit(facts: CustomerHistory, rows: Rows, days: _Days, spec: ValueSpec) -> tuple[Fit, Fit | None, Contest]:
    """The fit that predicts, the backtest fit if history allows one, and the contest on the holdout."""
    learn = partial(Fit.learn, seed=spec.seed, first_day=days.first)
    final = learn(
        *rows.of(days.matured), rows.of([days.as_of])[0],
        horizon_days=spec.horizon_days, season=_season(facts, days.as_of, spec),
    )  # fmt: skip
    learn = partial(learn, season=_season(facts, days.holdout, spec))  # nothing after the holdout's day may be known
    snapshot, realised = rows.of([days.holdout])
    backtest_fit = None
    if days.backtest:
        backtest_fit = learn(*rows.of(days.backtest), snapshot, horizon_days=spec.horizon_days)
        spend = np.maximum(numbers(realised["spend"]), 0.0)
        final = replace(final, weights=learn_weights(spend, backtest_fit.members(snapshot)))
        contest = Contest.by_backtest(backtest_fit, snapshot, realised, days.holdout, Validation.TEMPORAL)
    elif days.matured:
        by_fold = partial(learn, horizon_days=spec.horizon_days)
        contest = Contest.by_customers(rows, days.matured, days.holdout, by_fold, spec)
    else:
        early = learn(*rows.of([]), snapshot, horizon_days=days.scored_days)
        contest = Contest.by_backtest(early, snapshot, realised, days.holdout, Validation.SHORTER)
    return final, backtest_fit, replace(contest, seed=spec.seed)


def _metrics(model: ValueModel, contest: Contest, days: _Days, rows: Rows) -> dict[str, float]:
    final = model.final
    metrics = contest.metrics(model.method) | {"is_temporal_holdout": float(model.backtest_fit is not None)}
    if days.matured:
        metrics |= {f"factor_{name}": factor for name, factor in final.factors.items()}
        metrics |= {f"weight_{name}": weight for name, weight in final.weights.items()}
    metrics |= _gain_shares(_gains(final, model.of)) | _season_metrics(final, days.as_of)
    return metrics | _breakdown(final, contest, model.method, rows.of([days.as_of])[0])


def _incumbent_metrics(incumbent_spend: np.ndarray | None, contest: Contest) -> dict[str, float]:
    if incumbent_spend is None:
        return {}
    errors = numbers(contest.realised["spend"]) - incumbent_spend
    return {
        "incumbent_rmse": float(np.sqrt(np.mean(errors**2))),
        "incumbent_deviance": contest.judge.score(incumbent_spend),
    }


def _params(model: ValueModel, contest: Contest, days: _Days, spec: ValueSpec) -> dict[str, Any]:
    return {
        **asdict(spec),
        "as_of": str(days.as_of),
        "holdout_day": str(days.holdout),
        "validation": str(contest.validation),
        "method": model.method,
        "snapshot_days": ", ".join(map(str, days.matured)),
        "backtest_days": ", ".join(map(str, days.backtest)),
        "rounds": ROUNDS,
        **RECIPE,
        "spend_objective": OBJECTIVES["spend"]["objective"],
        "correction_learning_rate": CORRECTION["learning_rate"],
        **_closed_params(model.final),
        "season": model.final.season.state,
    }


def _decide(
    contest: Contest, model: ValueModel, incumbent: ValueModel | None, incumbent_spend: np.ndarray | None,
    spec: ValueSpec,
) -> tuple[Verdict, dict[str, Comparison]]:  # fmt: skip
    """The decision, and the comparisons it rests on.

    Parameters
    ----------
    incumbent_spend : what the incumbent's backtest fit expects of each customer of the holdout; None where there is no
        incumbent, or none that can be scored fairly
    """
    spend = contest.predicted[model.method]["expected_spend"]
    over_persistence = contest.against_persistence(spend)
    comparisons = {"over_baseline": over_persistence}
    if incumbent is None:
        return _decide_without_incumbent(over_persistence, contest, model, spec), comparisons
    if incumbent_spend is None:
        return _decide_unscored(over_persistence, contest, model, incumbent, spec), comparisons
    over_incumbent = contest.judge.compare(incumbent_spend, spend)
    incumbent_over_persistence = contest.against_persistence(incumbent_spend)
    comparisons |= {"over_incumbent": over_incumbent, "incumbent_over_baseline": incumbent_over_persistence}
    scores = contest.judge.score(spend), contest.judge.score(incumbent_spend)
    verdict = decide(METRIC, *scores, over_incumbent.gain, margin=spec.margin)
    is_better = over_incumbent.is_better(spec.margin) and not over_persistence.is_worse()
    if incumbent_over_persistence.is_worse() and not is_better:
        lost = incumbent_over_persistence.gain.reversed()
        parameters = _parameters(incumbent_over_persistence)
        parameters |= {"lost": lost.mean, "lost_low": lost.low, "lost_high": lost.high}
        fallback = Verdict("none", ChoiceCode.BASELINE_BETTER, parameters)
        return fallback.with_remarks([Reason(verdict.code, verdict.parameters)]), comparisons
    if verdict.decision == "challenger" and not is_better:
        shortcoming = "baseline" if over_persistence.is_worse() else _shortcoming(over_incumbent)
        verdict = Verdict("incumbent", ChoiceCode.BETTER_BUT, {**verdict.parameters, "shortcoming": shortcoming})
    return verdict.with_remarks([_against_persistence(over_persistence, contest, model, spec)]), comparisons


def _shortcoming(over: Comparison) -> Shortcoming:
    """Where a fit is worse that is better by the loss."""
    return "order" if over.ranking.is_significantly_worse else "sum"


def _decide_without_incumbent(over: Comparison, contest: Contest, model: ValueModel, spec: ValueSpec) -> Verdict:
    """Whether a fit replaces the persistence baseline, which is in force where there is no model."""
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
    return verdict.with_remarks([_against_persistence(over, contest, model, spec)])


def _decide_unscored(
    over: Comparison, contest: Contest, model: ValueModel, incumbent: ValueModel, spec: ValueSpec
) -> Verdict:
    """The decision where the incumbent cannot be compared with the fit."""
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
    elif model.backtest_fit is None:
        verdict = decide_without_data(Reason(ChoiceCode.NO_FAIR_CONTEST), has_incumbent=True)
    else:
        verdict = Verdict("challenger", ChoiceCode.INCUMBENT_UNSCORED, parameters)
    return verdict.with_remarks([_against_persistence(over, contest, model, spec)])


def _against_persistence(over: Comparison, contest: Contest, model: ValueModel, spec: ValueSpec) -> Reason:
    """How the fit compares with the persistence baseline, as a remark."""
    expectations = (contest.predicted[model.method]["expected_spend"], contest.baseline["expected_spend"])
    score, baseline = (contest.judge.score(expected) for expected in expectations)
    parameters = {
        "method": str(model.method), "score": score, "baseline": baseline, "gain": over.gain.mean,
        "gain_low": over.gain.low, "gain_high": over.gain.high, "validation": str(contest.validation),
        "ahead": contest.scored_days, "horizon": spec.horizon_days,
    }  # fmt: skip
    return Reason(ChoiceCode.AGAINST_BASELINE, parameters)


def _parameters(over: Comparison) -> dict[str, float]:
    return over.metrics("baseline") | {"customers": float(over.gain.customers)}


def _same_question(incumbent: ValueModel, spec: ValueSpec) -> bool:
    asked = (spec.of, spec.horizon_days, spec.annual_discount_rate)
    return (incumbent.of, incumbent.horizon_days, incumbent.annual_discount_rate) == asked


def _incumbent_spend(incumbent: ValueModel | None, spec: ValueSpec, contest: Contest) -> np.ndarray | None:
    """What the incumbent's backtest fit expects on the holdout; None where it has none, or another horizon."""
    if incumbent is None or incumbent.backtest_fit is None or not _same_question(incumbent, spec):
        return None
    columns = contest.snapshot.column_names
    if contest.scored_days != spec.horizon_days or set(incumbent.backtest_fit.inputs) - set(columns):
        return None
    return incumbent.backtest_fit.predict(contest.snapshot, incumbent.method)["expected_spend"]


def _not_enough(incumbent: ValueModel | None, lacking: Reason) -> FitResult:
    return FitResult.without_fit(decide_without_data(lacking, incumbent is not None), CHOICE_WORDS, METRIC)


def _season(facts: CustomerHistory, day: date, spec: ValueSpec) -> Season:
    return Season.learn(facts, day, horizon_days=spec.horizon_days, warm_up_days=spec.warm_up_days)


def _first_purchase(facts: CustomerHistory) -> date | None:
    row = facts.engine.query(
        "SELECT MIN(day) AS first_day FROM customer_days WHERE orders > 0", customer_days=facts.customer_days
    )
    first: date | None = row["first_day"][0].as_py()
    return first


def _rows(facts: CustomerHistory, days: _Days, spec: ValueSpec) -> Rows:
    """Snapshots on all days, outcomes of those that have matured; of a fixed sample of customers if too many."""
    matured = sorted({*days.matured, *days.backtest, days.holdout})
    pairs = facts.known([*matured, days.as_of])
    pairs = sample_customers(facts.engine, pairs, max(1, spec.max_rows // spec.snapshots), spec.seed)
    labelled = pairs.filter(pc.less_equal(pairs["day"], matured[-1]))
    return Rows(reckon(facts.snapshot(pairs), spec.of), facts.outcomes(labelled, days.scored_days, until=days.as_of))


def _closed_params(fit: Fit) -> dict[str, float]:
    """Parameters of BG/NBD (days) and Gamma-Gamma (currency) in the final fit."""
    names = ("bgnbd_r", "bgnbd_alpha", "bgnbd_a", "bgnbd_b", "gamma_gamma_p", "gamma_gamma_q", "gamma_gamma_gamma")
    values = [*(fit.closed.timing or [np.nan] * 4), *(fit.closed.money or [np.nan] * 3)]
    return {name: float(value) for name, value in zip(names, values, strict=True) if np.isfinite(value)}


def _season_metrics(fit: Fit, as_of: date) -> dict[str, float]:
    """The season as metrics with the same names every week: the index ahead, its extremes, and the risk without it."""
    season, day = fit.season, np.array([as_of], dtype="datetime64[D]")
    spend = season.index("spend")
    return {
        "season.is_learnt": float(season.state == "learnt"),
        "season.years": float(season.years),
        "season.explained": season.returning,
        "season.ahead": float(season.mean_ahead(day, fit.horizon_days)[0]),
        "season.lowest": float(spend.min()),
        "season.highest": float(spend.max()),
        "season.risk_low": season.risk.low,
        "season.risk_high": season.risk.high,
    }


def _breakdown(final: Fit, contest: Contest, method: Method, now: pa.Table) -> dict[str, float]:
    """Errors on the holdout by cohort and by decile of the closed form, and how money goes with rhythm by now."""
    realised = np.maximum(numbers(contest.realised["spend"]), 0.0)
    return breakdown.metrics_of(
        breakdown.by_cohort(contest.snapshot, realised, contest.predicted[method]["expected_spend"]),
        _corrections(contest, realised),
        breakdown.money_rhythm_correlation(final.season.ordinary(now)),
    )


def _corrections(contest: Contest, realised: np.ndarray) -> list[dict[str, float]]:
    """By decile of the closed form, how the blend corrects it; empty if there is no blend yet."""
    if "blend" not in contest.predicted:
        return []
    closed, blend = (contest.predicted[name]["expected_spend"] for name in ("bgnbd", "blend"))
    return breakdown.corrections(closed, blend, realised)


def _gains(fit: Fit, of: Money) -> dict[str, float]:
    """Share of the gain of the trees for spend and of the correcting ones, per column."""
    if fit.encoder is None:
        return {}
    gains: dict[str, float] = {}
    for head, names in (("spend", fit.encoder.columns), ("corrected", fit.correction_columns)):
        columns = exchange(names, of)
        by_column = fit.heads[head].gains(len(columns))
        for name, gain in zip(columns, by_column / max(float(by_column.sum()), 1e-12), strict=True):
            gains[name] = gains.get(name, 0.0) + float(gain) / 2
    return gains


def _gain_shares(gains: Mapping[str, float]) -> dict[str, float]:
    """The largest shares, as metrics."""
    first = sorted(gains.items(), key=lambda item: (-item[1], item[0]))[:GAINS]
    return {metric_name(f"gain.{name}"): share for name, share in first}


def _figures(final: Fit, contest: Contest, model: ValueModel) -> dict[str, Callable[[], Figure]]:
    actual = np.asarray(numbers(contest.realised["spend"]))
    subtitle = f"{len(actual):,} customers on {contest.day}, next {contest.scored_days} days, {contest.validation}"
    lines = {f"chosen: {model.method}": contest.predicted[model.method]["expected_spend"]}
    lines |= {str(m): out["expected_spend"] for m, out in contest.predicted.items() if m != model.method}
    lines["persistence baseline"] = contest.baseline["expected_spend"]
    drawn: dict[str, Callable[[], Figure]] = {
        "calibration": partial(figures.calibration, actual, lines, subtitle),
        "lorenz": partial(figures.lorenz, actual, lines, subtitle),
    }
    realised = np.maximum(actual, 0.0)
    chosen = contest.predicted[model.method]["expected_spend"]
    drawn["cohorts"] = partial(figures.cohorts, breakdown.by_cohort(contest.snapshot, realised, chosen), subtitle)
    if rows := _corrections(contest, realised):
        drawn["corrections"] = partial(figures.corrections, rows, subtitle)
    if final.season.state == "learnt":
        drawn["season"] = partial(figures.season, final.season.index("orders"), final.season.index("spend"))
    if gains := _gains(final, model.of):
        drawn["contributions"] = partial(figures.contributions, list(gains), np.array(list(gains.values())))
    return drawn

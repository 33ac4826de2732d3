"""The weekly fit of the transition model, judged on the newest step.

Belongs here: which weeks are counted, the holdout, and the decision. Does not belong here: the model
(`ml.journeys.transitions`), and recomputing past weeks under today's models (`ml.restate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import ml.journeys.figures as figures
from ml.choice import FitResult, Verdict, decide, decide_first_fit, decide_without_data
from ml.engine import Engine, Input
from ml.journeys.reasons import CHOICE_WORDS, ChoiceCode
from ml.journeys.transitions import (
    Detail,
    TransitionModel,
    TransitionSpec,
    fit,
    log_loss,
    negative_log_likelihood,
    transition_counts,
)
from ml.reasons import Reason
from ml.restate import earlier_features, restate
from ml.sampling import sample_customers
from ml.serving import example_rows
from ml.statistics import Gain, bootstrap, paired_gain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml.features import CustomerHistory
    from ml.restate import Models


def train(
    facts: CustomerHistory, as_of: date, spec: TransitionSpec, incumbent: TransitionModel | None, *, models: Models
) -> FitResult:
    """Fit the transition model on the last weeks, and decide whether it replaces the model in force.

    Every week is restated under `models`, so a refit of one of them never looks like a customer's movement. The newest
    step, `as_of` − 7 → `as_of`, is held out: a backtest fit on the steps before it stands for the challenger, which
    itself is fitted on all steps. The incumbent was fitted at least a week ago and has not seen that step either.

    Micro-segments are used if the backtest fit predicts the holdout better with them than without, beyond chance (95 %
    interval of a bootstrap over customers); otherwise only the stages' rows are used. A challenger replaces the
    incumbent if its log-loss is lower by `spec.margin` and beyond chance.

    Parameters
    ----------
    facts : CustomerHistory
        What is known at the end of `as_of`, and nothing later.
    as_of : date
        Last day of the training week.
    spec : TransitionSpec
        Settings of the family.
    incumbent : TransitionModel or None
        The model in force, if there is one.
    models : Models
        Value, lifecycle and layer models in force, with their specs (`ml.restate`).

    Returns
    -------
    FitResult
        This week's fit and the decision about it. ``model=None`` where there are fewer than `spec.min_customers`
        transitions before the newest step, or none in it.

    Examples
    --------
    A history in which nobody is known yet:

    >>> from datetime import date
    >>> from ml import tables
    >>> from ml.engine import DuckDB
    >>> from ml.features import CustomerHistory, FeatureSpec
    >>> from ml.lifecycle import LifecycleSpec
    >>> from ml.restate import Models, Specs
    >>> from ml.layers import SegmentSpec
    >>> from ml.value import ValueSpec
    >>> nothing = tables.TRANSACTIONS.empty_days()
    >>> history = CustomerHistory.from_rows(DuckDB(threads=1), FeatureSpec(), transactions=nothing)
    >>> models = Models(None, None, None, Specs(ValueSpec(), LifecycleSpec(), SegmentSpec()))
    >>> train(history, date(2024, 6, 2), TransitionSpec(), None, models=models).decision
    'none'
    """
    days = [as_of - timedelta(days=spec.step_days * back) for back in range(spec.weeks, -1, -1)]
    first = facts.engine.query("SELECT MIN(day) AS day FROM days", days=facts.customer_days)["day"][0].as_py()
    pairs = facts.known([day for day in days if first is not None and day >= first])
    if pairs.num_rows > spec.max_rows:
        share = spec.max_rows / pairs.num_rows
        people = pc.count_distinct(pairs["customer_id"]).as_py()
        pairs = sample_customers(facts.engine, pairs, max(1, int(people * share)), spec.seed)
    states = restate(facts.engine, facts.snapshot(pairs), models, earlier_features(facts, models))
    states = states.select(["customer_id", "day", "stage", "micro_segment"])  # the other columns are most of the memory
    return train_on_states(facts.engine, states, as_of, spec, incumbent, models.specs.lifecycle.stage_names())


def train_on_states(
    engine: Engine,
    states: Input,
    as_of: date,
    spec: TransitionSpec,
    incumbent: TransitionModel | None,
    stages: Iterable[str],
) -> FitResult:
    """Do what `train` does, from restated states: customer_id, day, stage and micro_segment, a step apart."""
    stages = tuple(stages)
    metric = f"log_loss_{spec.step_days}d"
    cells = transition_counts(engine, states, spec.step_days)
    newest = as_of - timedelta(days=spec.step_days)
    past, holdout = cells.filter(pc.less(cells["day"], newest)), cells.filter(pc.equal(cells["day"], newest))
    seen, newest_seen = (pc.sum(part["customers"]).as_py() or 0 for part in (past, holdout))
    if not newest_seen or seen < spec.min_customers:
        counts = {"seen": seen, "held": newest_seen, "needed": spec.min_customers, "step_days": spec.step_days}
        waiting = decide_without_data(Reason(ChoiceCode.TOO_FEW_TRANSITIONS, counts), incumbent is not None)
        counted = {"transitions": float(seen + newest_seen)}
        return FitResult.without_fit(waiting, CHOICE_WORDS, metric, metrics=counted, params=asdict(spec))

    backtest_fit = fit(past, stages, spec)
    losses, gain, gain_elsewhere = _compare(backtest_fit, holdout, spec)
    detail: Detail = "micro_segment" if gain.is_significantly_better else "stage"
    challenger_loss, incumbent_loss, gain_over_incumbent = losses[f"order 1, {detail}"], None, None
    if incumbent is None:
        verdict = decide_first_fit(metric, challenger_loss)
    else:
        backtest_fit = replace(backtest_fit, detail=detail)
        verdict, incumbent_loss, gain_over_incumbent = _contest(backtest_fit, incumbent, holdout, metric, spec)
    model = fit(cells, stages, spec, detail)
    metrics = (
        _metrics(metric, detail, losses, gain, gain_elsewhere)
        | (gain_over_incumbent.metrics("choice_gain") if gain_over_incumbent else {})
        | {
            "transitions": float(seen + newest_seen),
            "holdout_customers": float(newest_seen),
            "micro_segments": float(len(model.counts)),
        }
    )
    for horizon in spec.horizons:
        if horizon > spec.step_days:
            metrics |= _longer_horizon(engine, states, cells, as_of, horizon, stages, spec, detail)
    return FitResult(
        model=model,
        metric=metric,
        challenger_score=challenger_loss,
        incumbent_score=incumbent_loss,
        metrics=metrics,
        params=asdict(spec) | {"detail": detail},
        figures={
            "transitions": partial(figures.transitions, model),
            "log_loss": partial(figures.losses, losses, spec.step_days),
        },
        example=_example(model),
        **verdict.with_remarks([_detail_reason(detail, gain)]).fields(CHOICE_WORDS),
    )


def _contest(
    backtest_fit: TransitionModel, incumbent: TransitionModel, holdout: pa.Table, metric: str, spec: TransitionSpec
) -> tuple[Verdict, float, Gain]:
    """The decision on the newest step, the incumbent's log-loss, and the gain of the backtest fit over it."""
    texts = holdout["micro_segment"].to_pylist()
    challenger, standing = (
        negative_log_likelihood(holdout, model.stages, model.probabilities(texts, spec.step_days))
        for model in (backtest_fit, incumbent)
    )
    counts = holdout["customers"].to_numpy()
    challenger_loss, incumbent_loss = (float(counts @ loss / counts.sum()) for loss in (challenger, standing))
    gain = paired_gain(standing, challenger, counts=counts, seed=spec.seed)
    return decide(metric, challenger_loss, incumbent_loss, gain, margin=spec.margin), incumbent_loss, gain


def _metrics(
    metric: str, detail: Detail, losses: Mapping[str, float], gain: Gain, gain_elsewhere: float
) -> dict[str, float]:
    return {
        metric: losses[f"order 1, {detail}"],
        f"{metric}_micro_segment": losses["order 1, micro_segment"],
        f"{metric}_stage": losses["order 1, stage"],
        f"{metric}_order_0": losses["order 0"],
        f"{metric}_stay": losses["stay"],
        **gain.metrics("gain_of_micro_segments"),
        "gain_of_micro_segments_without_rule_stages": gain_elsewhere,
    }


def _compare(
    backtest_fit: TransitionModel, holdout: pa.Table, spec: TransitionSpec
) -> tuple[dict[str, float], Gain, float]:
    """Log-loss of each kind of model on the holdout, and what micro-segments add to stages.

    What they add is in nats a customer, with a 95 % interval, and once more without customers in a rule's stage.
    """
    texts = holdout["micro_segment"].to_pylist()
    row_of = {stage: row for row, stage in enumerate(backtest_fit.stages)}
    origins = [row_of.get(text.split("/")[0], -1) for text in texts]

    def by_stage(matrix: NDArray[Any]) -> NDArray[Any]:
        return np.array([matrix[origin] if origin >= 0 else backtest_fit.marginal for origin in origins])

    rows = {
        "order 1, micro_segment": backtest_fit.probabilities(texts, spec.step_days),
        "order 1, stage": by_stage(backtest_fit.stage_matrix),
        "stay": by_stage(backtest_fit.staying),
        "order 0": np.tile(backtest_fit.marginal, (len(texts), 1)),
    }
    losses = {name: log_loss(holdout, backtest_fit.stages, probabilities) for name, probabilities in rows.items()}
    with_stage, with_micro_segment = (
        negative_log_likelihood(holdout, backtest_fit.stages, rows[f"order 1, {detail}"])
        for detail in ("stage", "micro_segment")
    )
    gains = with_stage - with_micro_segment
    weights = holdout["customers"].to_numpy()
    terms = np.column_stack([gains, np.ones(len(gains))])
    gain = bootstrap(terms, _mean, counts=weights, seed=spec.seed, draws=spec.bootstraps)
    free = weights * np.array([text.split("/")[0] not in spec.rule_stages for text in texts])
    return losses, gain, float(free @ gains / max(1, free.sum()))


def _mean(sums: NDArray[Any]) -> NDArray[Any]:
    """Sums of gains in the first column over numbers of customers in the second."""
    return np.asarray(sums[:, 0] / np.maximum(sums[:, 1], 1))


def _longer_horizon(
    engine: Engine,
    states: Input,
    cells: pa.Table,
    as_of: date,
    horizon: int,
    stages: tuple[str, ...],
    spec: TransitionSpec,
    detail: Detail,
) -> dict[str, float]:
    """Log-loss of a longer horizon, predicted by a fit on nothing after the start of the horizon."""
    start = as_of - timedelta(days=horizon)
    past = cells.filter(pc.less_equal(cells["day"], start - timedelta(days=spec.step_days)))
    holdout = transition_counts(engine, states, horizon)
    holdout = holdout.filter(pc.equal(holdout["day"], start))
    if not past.num_rows or not holdout.num_rows:
        return {}
    backtest_fit = fit(past, stages, spec, detail)
    texts = holdout["micro_segment"].to_pylist()
    row_of = {stage: row for row, stage in enumerate(backtest_fit.stages)}
    staying = np.linalg.matrix_power(backtest_fit.staying, horizon // spec.step_days)
    origins = [row_of.get(text.split("/")[0]) for text in texts]
    stay = np.array([backtest_fit.marginal if origin is None else staying[origin] for origin in origins])
    return {
        f"log_loss_{horizon}d": log_loss(holdout, backtest_fit.stages, backtest_fit.probabilities(texts, horizon)),
        f"log_loss_{horizon}d_stay": log_loss(holdout, backtest_fit.stages, stay),
    }


def _detail_reason(detail: Detail, gain: Gain) -> Reason:
    """Why micro-segments are used, or not."""
    code = ChoiceCode.MICRO_SEGMENTS_EXPLAIN_MORE if detail == "micro_segment" else ChoiceCode.STAGES_ALONE
    return Reason(code, {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high})


def _example(model: TransitionModel) -> pa.Table:
    texts = sorted(model.counts)[:5]
    stages = [text.split("/")[0] for text in texts]
    return example_rows({"micro_segment": "string", "stage": "string"}, {"micro_segment": texts, "stage": stages})

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
    surprise,
    transition_counts,
)
from ml.reasons import Reason
from ml.restate import restate
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
    """Count the transitions of the last weeks as today's models see them, and compare with the model in force.

    Every week is restated under `models`, so a refit of theirs never looks like a customer's move. The newest step,
    `as_of` − 7 → `as_of`, is held out: a twin fitted on the steps before it stands for the challenger, which itself is
    fitted on all of them. The incumbent was fitted at least a week ago and has not seen that step either.

    Micro-segments are used if the twin tells the holdout better with them than without, beyond chance (95 % interval of
    a bootstrap over customers); otherwise the stage's row is all that is used. A challenger takes over if its log-loss
    is lower than the incumbent's by `spec.margin` and beyond chance.

    Parameters
    ----------
    facts : cut at the end of `as_of`
    as_of : last day of the training week
    models : value, lifecycle and layer models in force, with their specs
    """
    days = [as_of - timedelta(days=spec.step_days * back) for back in range(spec.weeks, -1, -1)]
    first = facts.engine.query("SELECT MIN(day) AS day FROM days", days=facts.customer_days)["day"][0].as_py()
    pairs = facts.known([day for day in days if first is not None and day >= first])
    if pairs.num_rows > spec.max_rows:
        share = spec.max_rows / pairs.num_rows
        people = pc.count_distinct(pairs["customer_id"]).as_py()
        pairs = sample_customers(facts.engine, pairs, max(1, int(people * share)), spec.seed)
    states = restate(facts.engine, facts.snapshot(pairs), models, facts.snapshot)
    return train_on_states(facts.engine, states, as_of, spec, incumbent, models.specs.lifecycle.stage_names())


def train_on_states(
    engine: Engine,
    states: Input,
    as_of: date,
    spec: TransitionSpec,
    incumbent: TransitionModel | None,
    stages: Iterable[str],
) -> FitResult:
    """`train` from states that are restated already: customer_id, day, stage, micro_segment, a step apart."""
    stages = tuple(stages)
    metric = f"log_loss_{spec.step_days}d"
    cells = transition_counts(engine, states, spec.step_days)
    newest = as_of - timedelta(days=spec.step_days)
    past, holdout = cells.filter(pc.less(cells["day"], newest)), cells.filter(pc.equal(cells["day"], newest))
    seen, held = (pc.sum(part["customers"]).as_py() or 0 for part in (past, holdout))
    if not held or seen < spec.min_customers:
        counts = {"seen": seen, "held": held, "needed": spec.min_customers, "step_days": spec.step_days}
        waiting = decide_without_data(Reason(ChoiceCode.TOO_FEW_TRANSITIONS, counts), incumbent is not None)
        counted = {"transitions": float(seen + held)}
        return FitResult.without_fit(waiting, CHOICE_WORDS, metric, metrics=counted, params=asdict(spec))

    twin = fit(past, stages, spec)
    losses, gain, gain_elsewhere = _compare(twin, holdout, spec)
    detail: Detail = "micro_segment" if gain.is_significantly_better else "stage"
    challenger, standing, over = losses[f"order 1, {detail}"], None, None
    if incumbent is None:
        verdict = decide_first_fit(metric, challenger)
    else:
        verdict, standing, over = _contest(replace(twin, detail=detail), incumbent, holdout, metric, spec)
    model = fit(cells, stages, spec, detail)
    metrics = (
        _metrics(metric, detail, losses, gain, gain_elsewhere)
        | (over.metrics("choice_gain") if over else {})
        | {
            "transitions": float(seen + held),
            "holdout_customers": float(held),
            "micro_segments": float(len(model.counts)),
        }
    )
    for horizon in spec.horizons:
        if horizon > spec.step_days:
            metrics |= _far(engine, states, cells, as_of, horizon, stages, spec, detail)
    return FitResult(
        model=model,
        metric=metric,
        challenger_score=challenger,
        incumbent_score=standing,
        metrics=metrics,
        params=asdict(spec) | {"detail": detail},
        figures={
            "transitions": partial(figures.transitions, model),
            "log_loss": partial(figures.losses, losses, spec.step_days),
        },
        example=_example(model),
        **verdict.with_remarks([_about(detail, gain)]).fields(CHOICE_WORDS),
    )


def _contest(
    twin: TransitionModel, incumbent: TransitionModel, holdout: pa.Table, metric: str, spec: TransitionSpec
) -> tuple[Verdict, float, Gain]:
    """The decision between a twin and the incumbent on the newest step; the incumbent's log-loss; the gain over it."""
    texts = holdout["micro_segment"].to_pylist()
    found = [surprise(holdout, one.stages, one.probabilities(texts, spec.step_days)) for one in (twin, incumbent)]
    counts = holdout["customers"].to_numpy()
    mine, theirs = (float(counts @ one / counts.sum()) for one in found)
    gain = paired_gain(found[1], found[0], counts=counts, seed=spec.seed)
    return decide(metric, mine, theirs, gain, margin=spec.margin), theirs, gain


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


def _compare(twin: TransitionModel, holdout: pa.Table, spec: TransitionSpec) -> tuple[dict[str, float], Gain, float]:
    """Log-loss of each kind of model on the holdout, and what micro-segments add to stages.

    What they add is in nats a customer, with a 95 % interval, and once more without customers in a rule's stage.
    """
    texts = holdout["micro_segment"].to_pylist()
    place = {stage: number for number, stage in enumerate(twin.stages)}
    origins = [place.get(text.split("/")[0], -1) for text in texts]

    def by_stage(matrix: NDArray[Any]) -> NDArray[Any]:
        return np.array([matrix[origin] if origin >= 0 else twin.marginal for origin in origins])

    rows = {
        "order 1, micro_segment": twin.probabilities(texts, spec.step_days),
        "order 1, stage": by_stage(twin.stage_matrix),
        "stay": by_stage(twin.staying),
        "order 0": np.tile(twin.marginal, (len(texts), 1)),
    }
    losses = {name: log_loss(holdout, twin.stages, chances) for name, chances in rows.items()}
    better = surprise(holdout, twin.stages, rows["order 1, stage"]) - surprise(
        holdout, twin.stages, rows["order 1, micro_segment"]
    )
    weights = holdout["customers"].to_numpy()
    terms = np.column_stack([better, np.ones(len(better))])
    gain = bootstrap(terms, _mean, counts=weights, seed=spec.seed, draws=spec.bootstraps)
    free = weights * np.array([text.split("/")[0] not in spec.rule_stages for text in texts])
    return losses, gain, float(free @ better / max(1, free.sum()))


def _mean(sums: NDArray[Any]) -> NDArray[Any]:
    """The mean per customer of sums over as many customers as the second column says."""
    return np.asarray(sums[:, 0] / np.maximum(sums[:, 1], 1))


def _far(
    engine: Engine,
    states: Input,
    cells: pa.Table,
    as_of: date,
    horizon: int,
    stages: tuple[str, ...],
    spec: TransitionSpec,
    detail: Detail,
) -> dict[str, float]:
    """Log-loss of a longer horizon, foretold by a model that knew nothing after the start of it."""
    start = as_of - timedelta(days=horizon)
    before = cells.filter(pc.less_equal(cells["day"], start - timedelta(days=spec.step_days)))
    far = transition_counts(engine, states, horizon)
    far = far.filter(pc.equal(far["day"], start))
    if not before.num_rows or not far.num_rows:
        return {}
    early = fit(before, stages, spec, detail)
    texts = far["micro_segment"].to_pylist()
    place = {stage: number for number, stage in enumerate(early.stages)}
    staying = np.linalg.matrix_power(early.staying, horizon // spec.step_days)
    stay = np.array([staying[place[s]] if (s := text.split("/")[0]) in place else early.marginal for text in texts])
    return {
        f"log_loss_{horizon}d": log_loss(far, early.stages, early.probabilities(texts, horizon)),
        f"log_loss_{horizon}d_stay": log_loss(far, early.stages, stay),
    }


def _about(detail: Detail, gain: Gain) -> Reason:
    """Why micro-segments are used, or not."""
    code = ChoiceCode.MICRO_SEGMENTS_EXPLAIN_MORE if detail == "micro_segment" else ChoiceCode.STAGES_ALONE
    return Reason(code, {"gain": gain.mean, "gain_low": gain.low, "gain_high": gain.high})


def _example(model: TransitionModel) -> pa.Table:
    texts = sorted(model.counts)[:5]
    stages = [text.split("/")[0] for text in texts]
    return example_rows({"micro_segment": "string", "stage": "string"}, {"micro_segment": texts, "stage": stages})

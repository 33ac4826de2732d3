"""The weekly fit of all layers, and whether it replaces the clusters in force.

Belongs here: the sample, the contest between refit and incumbent, and what is logged about it. Does not belong here:
how a layer is fitted (see `layers`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.features import Facts
from ml.segments.layers import LayerModels, fit_layers
from ml.segments.shrinkage import apply_means, r2, shrunken_means
from ml.segments.specs import LayerSpec, SegmentSpec
from ml.training import Decision, Training, decide

if TYPE_CHECKING:
    from ml.restate import Models

METRIC = "r2_log_spend_28d"


def train(facts: Facts, as_of: date, spec: SegmentSpec, incumbent: LayerModels | None, *, models: Models) -> Training:
    """Refit the layers on the snapshot of `as_of` and decide whether the refit takes over.

    The judge is the share of the variance of log(1 + net revenue of the next window) that micro-segment means explain
    out of time: strings of the day two windows before `as_of` learn the (shrunken) means from the window that followed,
    strings of the day one window before `as_of` apply them, and the window up to `as_of` decides. Challenger and
    incumbent are judged on the same days and customers. The clusters' geometry is fitted on features of `as_of`,
    without any outcome, so no label enters it; the means, which do use labels, are strictly out of time.

    Parameters
    ----------
    facts : cut at `as_of`
    models : value and lifecycle in force under which the layers are cut; its `layers` is not used

    Returns
    -------
    Training: a challenger is chosen if there is no incumbent, if the project's layers have changed, or if it is
    better by `spec.margin`; without a model if fewer than twice `min_cluster_customers` customers are known.
    """
    from ml.restate import inputs_of

    days = evaluation_days(as_of, spec.outcome_window_days)
    pairs = sampled_pairs(facts, (*days, as_of), spec.max_rows, spec.seed)
    known = pc.sum(pc.equal(pairs["day"], as_of)).as_py() or 0
    if known < 2 * spec.min_cluster_customers:
        reason = f"{known} customers are known; {2 * spec.min_cluster_customers} are needed for clusters"
        return Training(None, "incumbent" if incumbent is not None else "none", reason, METRIC)
    inputs = inputs_of(facts.engine, facts.snapshot(pairs), models)
    today = inputs.filter(pc.equal(inputs["day"], as_of))
    challenger = fit_layers(today, spec, incumbent)
    models = replace(models, specs=replace(models.specs, segments=spec))
    scores = {"challenger": _score(facts, inputs, challenger, models, as_of)}
    metrics: dict[str, float] = {}
    if incumbent is not None:
        scores["incumbent"] = _score(facts, inputs, incumbent, models, as_of)
        metrics |= _moved(facts, today, challenger, incumbent, models)
    for who, found in scores.items():
        metrics |= {f"{who}_{name}": value for name, value in (found or {}).items()}
    decision: Decision
    ours, theirs = scores["challenger"], scores.get("incumbent")
    challenger_score = ours[METRIC] if ours else None
    incumbent_score = theirs[METRIC] if theirs else None
    if incumbent is not None and _cuts(incumbent.layers) != _cuts(spec.layers):
        decision, reason = "challenger", "the project's layers have changed"
    elif incumbent is None and challenger_score is None:
        decision, reason = "challenger", "first fit; too little history to score it yet"
    elif challenger_score is None or (incumbent is not None and incumbent_score is None):
        decision, reason = "incumbent", "too little history to judge a refit: the clusters in force stay"
    else:
        decision, reason = decide(METRIC, challenger_score, incumbent_score, margin=spec.margin, lower_is_better=False)
    metrics |= _sizes(facts, today, challenger, models)
    from ml.segments import figures

    return Training(
        model=challenger,
        decision=decision,
        reason=reason,
        metric=METRIC,
        challenger_score=challenger_score,
        incumbent_score=incumbent_score,
        metrics=metrics,
        params={name: value for name, value in asdict(spec).items() if name != "layers"}
        | {f"layer_{layer.name}": f"{layer.method} k={layer.k}: {', '.join(layer.features)}" for layer in spec.layers},
        figures=figures.all_figures(challenger),
        example=today.slice(0, 5).to_pandas(),
    )


def _cuts(layers: tuple[LayerSpec, ...]) -> list[LayerSpec]:
    """The layers without the words that describe them: two that are equal here cut alike."""
    return [replace(layer, context="") for layer in layers]


def evaluation_days(as_of: date, window_days: int) -> tuple[date, date]:
    """The day that learns group means and the day that applies them; the window after each has closed by `as_of`."""
    return as_of - timedelta(2 * window_days), as_of - timedelta(window_days)


def sampled_pairs(facts: Facts, days: tuple[date, ...], most: int, seed: int) -> pa.Table:
    """Pairs of every customer known on each of `days`; of more than `most` a day, those with the lowest seeded hashes.

    A hash of the customer, not a draw: the same customers every week, whatever the order of rows.
    """
    pairs = facts.known(days)
    if pairs.num_rows <= most:
        return pairs
    return facts.engine.query(
        """
        WITH ranked AS (
            SELECT customer_id, day,
                   ROW_NUMBER() OVER (PARTITION BY day ORDER BY MD5($salt || customer_id), customer_id) AS place
            FROM pairs
        )
        SELECT customer_id, day FROM ranked WHERE place <= $most ORDER BY day, customer_id
        """,
        {"salt": f"{seed}/", "most": most},
        pairs=pairs,
    )


def _score(facts: Facts, inputs: pa.Table, layers: LayerModels, models: Models, as_of: date) -> dict[str, float] | None:
    """R² of log spend and spend by micro-segment means, out of time; None if the history is too short."""
    from ml.restate import strings_of

    spec = models.specs.segments
    learn, apply = evaluation_days(as_of, spec.outcome_window_days)
    past = inputs.filter(pc.less_equal(inputs["day"], apply))
    strings = strings_of(facts.engine, past, replace(models, layers=layers))
    outcomes = facts.outcomes(past.select(["customer_id", "day"]), spec.outcome_window_days, until=as_of)
    first = strings["day"].to_numpy() == np.datetime64(learn)
    if first.sum() < 2 * spec.min_cluster_customers or (~first).sum() < 2 * spec.min_cluster_customers:
        return None
    text = np.array(strings["micro_segment"].to_pylist(), dtype=str)
    spend = outcomes["spend"].to_numpy()
    found = {}
    for name, outcome in ((METRIC, np.log1p(np.maximum(spend, 0))), ("r2_spend_28d", spend)):
        means = shrunken_means(text[first], outcome[first])
        found[name] = r2(outcome[~first], apply_means(means, text[~first]))
    return found if math.isfinite(found[METRIC]) else None


def _moved(
    facts: Facts, today: pa.Table, challenger: LayerModels, incumbent: LayerModels, models: Models
) -> dict[str, float]:
    """How many of today's customers carry another string under the refit."""
    from ml.restate import strings_of

    ours = strings_of(facts.engine, today, replace(models, layers=challenger))["micro_segment"]
    theirs = strings_of(facts.engine, today, replace(models, layers=incumbent))["micro_segment"]
    other = pc.sum(pc.not_equal(ours, theirs)).as_py() or 0
    return {"customers_moved_by_refit": float(other), "share_moved_by_refit": other / max(len(ours), 1)}


def _sizes(facts: Facts, today: pa.Table, layers: LayerModels, models: Models) -> dict[str, float]:
    from ml.restate import strings_of

    strings = strings_of(facts.engine, today, replace(models, layers=layers))
    counts = np.array([row["counts"] for row in pc.value_counts(strings["micro_segment"]).to_pylist()])
    return {
        "customers": float(today.num_rows),
        "micro_segments": float(len(counts)),
        "micro_segments_of_30": float((counts >= 30).sum()),
        "share_in_micro_segments_of_30": float(counts[counts >= 30].sum() / max(counts.sum(), 1)),
        "clusters": float(sum(len(model.letters) for model in layers.models)),
    }

"""The weekly fit of all layers, and whether it replaces the clusters in force.

Belongs here: the sample, the contest between refit and incumbent, and what is logged about it. Does not belong here:
how a layer is fitted (see `layers`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.features import Facts
from ml.sampling import sampled
from ml.segments import figures
from ml.segments.fitting import fit_layers
from ml.segments.layers import LayerModels
from ml.segments.shrinkage import explained
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
    from ml.restate import inputs_of, strings_of

    days = evaluation_days(as_of, spec.outcome_window_days)
    pairs = sampled(facts.engine, facts.known((*days, as_of)), spec.max_rows, spec.seed)
    known = pc.sum(pc.equal(pairs["day"], as_of)).as_py() or 0
    if known < 2 * spec.min_cluster_customers:
        reason = f"{known} customers are known; {2 * spec.min_cluster_customers} are needed for clusters"
        return Training(None, "incumbent" if incumbent is not None else "none", reason, METRIC)
    inputs = inputs_of(facts.engine, facts.snapshot(pairs), models)
    today = inputs.filter(pc.equal(inputs["day"], as_of))
    challenger = fit_layers(today, spec, incumbent)
    models = replace(models, specs=replace(models.specs, segments=spec))
    contest = {"challenger": challenger} | ({} if incumbent is None else {"incumbent": incumbent})
    scores = _scores(facts, inputs, contest, models, as_of)
    ours, theirs = (scores[who].get(METRIC) if who in scores else None for who in ("challenger", "incumbent"))
    decision, reason = _decide(ours, theirs, incumbent, spec)
    strings = {
        who: strings_of(today, replace(models, layers=layers))["micro_segment"] for who, layers in contest.items()
    }
    metrics = {f"{who}_{name}": value for who, found in scores.items() for name, value in found.items()}
    return Training(
        model=challenger,
        decision=decision,
        reason=reason,
        metric=METRIC,
        challenger_score=ours,
        incumbent_score=theirs,
        metrics=metrics | _moved(strings) | _sizes(strings["challenger"], challenger),
        params={name: value for name, value in asdict(spec).items() if name != "layers"}
        | {f"layer_{layer.name}": f"{layer.method} k={layer.k}: {', '.join(layer.features)}" for layer in spec.layers},
        figures=figures.all_figures(challenger),
        example=today.slice(0, 5).to_pandas(),
    )


def _decide(
    ours: float | None, theirs: float | None, incumbent: LayerModels | None, spec: SegmentSpec
) -> tuple[Decision, str]:
    if incumbent is not None and _cuts(incumbent.layers) != _cuts(spec.layers):
        return "challenger", "the project's layers have changed"
    if incumbent is None and ours is None:
        return "challenger", "first fit; too little history to score it yet"
    if ours is None or (incumbent is not None and theirs is None):
        return "incumbent", "too little history to judge a refit: the clusters in force stay"
    return decide(METRIC, ours, theirs, margin=spec.margin, lower_is_better=False)


def _cuts(layers: tuple[LayerSpec, ...]) -> list[LayerSpec]:
    """The layers without the words that describe them: two that are equal here cut alike."""
    return [replace(layer, context="") for layer in layers]


def evaluation_days(as_of: date, window_days: int) -> tuple[date, date]:
    """The day that learns group means and the day that applies them; the window after each has closed by `as_of`."""
    return as_of - timedelta(2 * window_days), as_of - timedelta(window_days)


def _scores(
    facts: Facts, inputs: pa.Table, contest: Mapping[str, LayerModels], models: Models, as_of: date
) -> dict[str, dict[str, float]]:
    """R² of log spend and spend by micro-segment means, out of time, for each that can be scored; none if history is
    too short."""
    from ml.restate import strings_of

    spec = models.specs.segments
    learn, apply = evaluation_days(as_of, spec.outcome_window_days)
    past = inputs.filter(pc.less_equal(inputs["day"], apply))
    first = past["day"].to_numpy() == np.datetime64(learn)
    if min(first.sum(), (~first).sum()) < 2 * spec.min_cluster_customers:
        return {}
    spend = facts.outcomes(past.select(["customer_id", "day"]), spec.outcome_window_days, until=as_of)[
        "spend"
    ].to_numpy()
    found = {}
    for who, layers in contest.items():
        text = np.array(strings_of(past, replace(models, layers=layers))["micro_segment"].to_pylist(), dtype=str)
        score = {
            METRIC: explained(text, np.log1p(np.maximum(spend, 0)), first),
            "r2_spend_28d": explained(text, spend, first),
        }
        if math.isfinite(score[METRIC]):
            found[who] = score
    return found


def _moved(strings: Mapping[str, pa.ChunkedArray]) -> dict[str, float]:
    """How many of today's customers carry another string under the refit."""
    if "incumbent" not in strings:
        return {}
    other = pc.sum(pc.not_equal(strings["challenger"], strings["incumbent"])).as_py() or 0
    share = other / max(len(strings["challenger"]), 1)
    return {"customers_moved_by_refit": float(other), "share_moved_by_refit": share}


def _sizes(strings: pa.ChunkedArray, layers: LayerModels) -> dict[str, float]:
    counts = np.array([row["counts"] for row in pc.value_counts(strings).to_pylist()])
    return {
        "customers": float(len(strings)),
        "micro_segments": float(len(counts)),
        "micro_segments_of_30": float((counts >= 30).sum()),
        "share_in_micro_segments_of_30": float(counts[counts >= 30].sum() / max(counts.sum(), 1)),
        "clusters": float(sum(len(model.letters) for model in layers.models)),
    }

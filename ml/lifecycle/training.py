"""The weekly fit that freezes the stages' thresholds, and the decision whether they replace those in force.

Belongs here: finding thresholds on one snapshot. Does not belong here: applying them (see `stages`).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from sqlglot import exp

from ml.columns import numbers
from ml.engine import Engine
from ml.lifecycle import figures
from ml.lifecycle.model import LifecycleModel
from ml.lifecycle.rules import CUTS, PARAMETERS
from ml.lifecycle.spec import LifecycleSpec
from ml.lifecycle.stages import assign_stages
from ml.rules import scalar
from ml.training import Decision, Training, example_of
from ml.value.model import ValueModel, apply
from ml.value.spec import ValueSpec

if TYPE_CHECKING:
    from ml.features import Facts

METRIC = "star_share_error"
TOP_SHARE = 0.10  # of new customers who are high-potential


def train(
    facts: Facts,
    as_of: date,
    spec: LifecycleSpec,
    incumbent: LifecycleModel | None,
    *,
    value_model: ValueModel | None,
    value_spec: ValueSpec,
) -> Training:
    """Freeze the stages' thresholds on the snapshot of `as_of`, and decide whether they replace the incumbent's.

    Cuts that move every week would move customers who did nothing. So the incumbent stays as long as its stars are
    `spec.star_share` of the active customers (stars among them) within `spec.star_tolerance`, and its rules and windows
    are the spec's.

    Parameters
    ----------
    facts : cut at `as_of`, the last day of the training week
    value_model : the value model in force; None uses the baseline

    Returns
    -------
    ``model=None`` where fewer than `spec.min_customers` customers ever bought. The metric, `star_share_error`, is the
    distance of the share of stars from `spec.star_share` on this snapshot.
    """
    features = facts.snapshot_of(as_of)
    buyers = features.num_rows - features["recency_days"].null_count
    if buyers < spec.min_customers:
        reason = f"not enough customers: {buyers} have ever bought, {spec.min_customers} are asked for"
        return Training(model=None, decision="none" if incumbent is None else "incumbent", reason=reason, metric=METRIC)
    value = apply(features, value_model, value_spec, label="weekly")
    model = freeze(facts.engine, features, value, spec, value_spec, value_model)
    staged = assign_stages(facts.engine, features, value, model, spec)
    stages = np.asarray(staged["stage"].to_pylist(), dtype=str)
    counts = {name: int((stages == name).sum()) for name in spec.stage_names()}
    candidates = _candidates_ltv(facts.engine, features, value, model, spec)
    mine, theirs = _share_error(candidates, model, spec), None
    if incumbent is not None:
        theirs = _share_error(_candidates_ltv(facts.engine, features, value, incumbent, spec), incumbent, spec)
    metrics = {METRIC: mine, "customers": float(features.num_rows), "star_candidates": float(candidates.size)}
    metrics |= {f"share_{name}": count / features.num_rows for name, count in counts.items()}
    metrics |= {name: float(cut) for name in ("star_cut", *CUTS) if (cut := getattr(model, name)) is not None}
    if theirs is not None:
        metrics["incumbent_star_share_error"] = theirs
    decision, reason = _decide(model, mine, incumbent, theirs, spec)
    simple = {name: item for name, item in asdict(spec).items() if name not in ("stages", "sub_stages")}
    return Training(
        model=model,
        decision=decision,
        reason=reason,
        metric=METRIC,
        challenger_score=mine,
        incumbent_score=theirs,
        metrics=metrics,
        params={**simple, "as_of": str(as_of), "rules": "; ".join(f"{r.name}: {r.when}" for r in spec.rules())},
        figures={
            "stages": partial(figures.stage_shares, counts, as_of),
            "ltv_of_active": partial(figures.ltv_with_cut, candidates, model.star_cut, as_of),
        },
        example=example_of(features.drop_columns(["customer_id", "day"])),
    )


def freeze(
    engine: Engine,
    features: pa.Table,
    value: pa.Table,
    spec: LifecycleSpec,
    value_spec: ValueSpec,
    value_model: ValueModel | None = None,
) -> LifecycleModel:
    """Every threshold, read off one snapshot: first the star cut, then the cuts inside the stages it leaves."""
    asked = value_spec if value_model is None else value_model
    open_model = LifecycleModel(
        new_for=spec.new_for_days,
        churn_after=spec.churn_after_days,
        stages=spec.rules(),
        sub_stages=spec.sub_rules(),
        horizon_days=asked.horizon_days,
        annual_discount_rate=asked.annual_discount_rate,
    )
    ltv = numbers(value["ltv"])
    candidates = _candidates_ltv(engine, features, value, open_model, spec)
    model = replace(open_model, star_cut=cut_for_share(candidates, spec.star_share))
    staged = assign_stages(engine, features, value, model, spec)
    stages = np.asarray(staged["stage"].to_pylist(), dtype=str)
    active, new = stages == "active", stages == "new"

    def quantile(name: str, share: float) -> float | None:
        found = numbers(features[name])[active]
        found = found[~np.isnan(found)]
        return float(np.quantile(found, share)) if found.size else None

    return replace(
        model,
        new_ltv_cut=cut_for_share(ltv[new], TOP_SHARE),
        active_median_ltv=float(np.median(ltv[active])) if active.any() else None,
        active_median_orders=quantile("orders_90d", 0.5),
        active_high_orders=quantile("orders_90d", 0.75),
        active_high_spend=quantile("spend_90d", 0.75),
        active_high_basket=quantile("average_order_90d", 0.75),
    )


def star_candidates(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel, spec: LifecycleSpec
) -> np.ndarray:
    """Who would be a star if the cut were no hurdle: one boolean per row of `features`, ordered by day and customer.

    With the preset rules these are the active customers, stars among them. It asks the rules rather than a stage's
    name, so it holds for a project's own stages too.
    """
    rules = model.stages or spec.rules()
    starry = [rule.name for rule in rules if "star_cut" in {node.name for node in _nodes(rule.when)}]
    staged = assign_stages(engine, features, value, replace(model, star_cut=-1e300), spec)
    return np.isin(np.asarray(staged["stage"].to_pylist(), dtype=str), np.asarray(starry, dtype=str))


def cut_for_share(values: np.ndarray, share: float) -> float | None:
    """The value from which on a share of `values` nearest to `share` lies; None where having none at all is as near.

    Ties cannot be separated: where everybody is worth the same, nobody stands out.
    """
    found, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if not found.size:
        return None
    above = np.cumsum(counts[::-1])[::-1] / counts.sum()
    best = int(np.argmin(np.abs(above - share)))
    return float(found[best]) if abs(above[best] - share) < share else None


def _nodes(when: str) -> list[exp.Placeholder]:
    return list(scalar(when, None, (*PARAMETERS, *CUTS)).find_all(exp.Placeholder))


def _candidates_ltv(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel, spec: LifecycleSpec
) -> np.ndarray:
    ltv = numbers(value["ltv"])
    return ltv[star_candidates(engine, features, value, model, spec)]


def _share_error(candidates: np.ndarray, model: LifecycleModel, spec: LifecycleSpec) -> float:
    """How far the share of stars among the candidates, given by their ltv, is from the share that is asked for."""
    if not candidates.size or model.star_cut is None:
        return spec.star_share if candidates.size else 0.0
    return float(abs((candidates >= model.star_cut).mean() - spec.star_share))


def _decide(
    model: LifecycleModel, mine: float, incumbent: LifecycleModel | None, theirs: float | None, spec: LifecycleSpec
) -> tuple[Decision, str]:
    cut = "no cut separates stars" if model.star_cut is None else f"stars from {model.star_cut:,.2f} on"
    if incumbent is None or theirs is None:
        return "challenger", f"first fit: {cut}"
    if (incumbent.new_for, incumbent.churn_after) != (model.new_for, model.churn_after):
        return "challenger", f"the windows have changed; {cut}"
    if (incumbent.stages, incumbent.sub_stages) != (model.stages, model.sub_stages):
        return "challenger", f"the stage rules have changed; {cut}"
    off = f"the incumbent's share of stars is {theirs:.1%} of active customers off the {spec.star_share:.0%} asked for"
    if theirs > spec.star_tolerance and mine < theirs:
        return "challenger", f"{off}, more than {spec.star_tolerance:.0%}; {cut}"
    return "incumbent", f"{off}: kept, so that nobody moves without reason"

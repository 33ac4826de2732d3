"""The weekly fit that freezes the stages' windows and cuts, and the decision whether they replace those in force.

Belongs here: the order in which thresholds are found, and which of last week's stay. Does not belong here: how a window
is read from the data (see `windows`), and applying thresholds (see `stages`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

import ml.lifecycle.figures as figures
from ml.choice import Code, FitResult, Verdict, decide_without_data
from ml.columns import numbers
from ml.engine import Engine
from ml.lifecycle.cuts import TOP_SHARE, Array, change_of_half, cut_for_share, share_error, share_of_half, share_off
from ml.lifecycle.decisions import CHOICE_WORDS, ChoiceCode, MeasureOfNew
from ml.lifecycle.history import recent_shares
from ml.lifecycle.model import LifecycleModel, assign_stages
from ml.lifecycle.rules import CUTS
from ml.lifecycle.spec import FIRST_STAR_SHARE, LifecycleSpec
from ml.lifecycle.stars import ltv_of_candidates
from ml.lifecycle.windows import Windows, windows_of
from ml.naming import metric_name
from ml.reasons import Reason
from ml.serving import example_rows, inputs_of
from ml.statistics import Gain
from ml.value.model import ValueModel, apply
from ml.value.spec import ValueSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ml.features import CustomerHistory

METRIC = "star_share_error"


def train(
    facts: CustomerHistory,
    as_of: date,
    spec: LifecycleSpec,
    incumbent: LifecycleModel | None = None,
    *,
    value_model: ValueModel | None,
    value_spec: ValueSpec,
) -> FitResult:
    """Freeze the stages' thresholds as of `as_of`, and decide whether they replace last week's.

    Thresholds that move every week would move customers who did nothing. So each stays until the data speak against it:
    a window as `windows_of` says, the cuts until the incumbent's stars are surely further from the share asked for of
    the active customers (stars among them) than `spec.star_tolerance`, and the rules are the spec's.

    Parameters
    ----------
    facts : cut at `as_of`, the last day of the training week
    value_model : the value model in force; None uses the baseline

    Returns
    -------
    ``model=None`` where fewer than `spec.min_customers` customers ever bought. The metric, `star_share_error`, is the
    distance of the share of stars from the share asked for on this snapshot; `moved_by_refit` is the share of known
    customers whose stage the new thresholds change.
    """
    engine, features = facts.engine, facts.snapshot_of(as_of)
    buyers = features.num_rows - features["recency_days"].null_count
    if buyers < spec.min_customers:
        lacking = Reason(ChoiceCode.TOO_FEW_BUYERS, {"buyers": buyers, "needed": spec.min_customers})
        return FitResult.without_fit(decide_without_data(lacking, incumbent is not None), CHOICE_WORDS, METRIC)
    value = apply(features, value_model, value_spec, label="weekly")
    windows = windows_of(engine, facts.customer_days, as_of, spec, incumbent)
    asked = value_spec if value_model is None else value_model
    open_model = LifecycleModel(
        new_for=windows.new_for,
        churn_after=windows.churn_after,
        stages=spec.rules(),
        sub_stages=spec.sub_rules(),
        horizon_days=asked.horizon_days,
        annual_discount_rate=asked.annual_discount_rate,
    )
    candidates = ltv_of_candidates(engine, features, value, open_model, spec)
    open_model = replace(open_model, star_share=_star_share(candidates, spec, incumbent))
    fresh = freeze(engine, features, value, spec, open_model, has_forecast=value_model is not None)
    mine, theirs, off = share_error(candidates, fresh.star_cut, fresh.star_share), None, None
    if incumbent is not None:
        held = replace(incumbent, new_for=windows.new_for, churn_after=windows.churn_after)
        theirs_among = ltv_of_candidates(engine, features, value, held, spec)
        theirs = share_error(theirs_among, held.star_cut, fresh.star_share)
        off = share_off(theirs_among, held.star_cut, fresh.star_share)
    verdict, model = _decide(fresh, mine, incumbent, theirs, off, spec)
    stages = _stages(engine, features, value, model, spec)
    counts = {name: int((stages == name).sum()) for name in spec.stage_names()}
    metrics = {METRIC: mine, "customers": float(features.num_rows), "star_candidates": float(candidates.size)}
    metrics |= {metric_name(f"share_{name}"): count / features.num_rows for name, count in counts.items()}
    shown = ("new_for", "churn_after", "star_share", "star_cut", *CUTS)
    metrics |= {name: float(cut) for name in shown if (cut := getattr(model, name)) is not None}
    metrics |= _of_windows(windows)
    if incumbent is not None and theirs is not None:
        metrics["incumbent_star_share_error"] = theirs
        metrics |= off.metrics("incumbent_star_share_off") if off is not None else {}
        metrics["moved_by_refit"] = float((stages != _stages(engine, features, value, incumbent, spec)).mean())
    simple = {name: item for name, item in asdict(spec).items() if name not in ("stages", "sub_stages")}
    drawn: dict[str, Callable[[], Figure]] = {
        "stages": partial(figures.stage_shares, counts, as_of),
        "ltv_of_active": partial(figures.ltv_with_cut, candidates, model.star_cut, as_of),
        "stage_shares_over_time": lambda: figures.shares_over_time(
            recent_shares(facts, as_of, model, spec, value_model=value_model, value_spec=value_spec)
        ),
    }
    if windows.curve is not None and windows.threshold is not None:
        drawn["silence_return"] = partial(
            figures.silence_return, windows.curve, windows.threshold, model.churn_after, as_of
        )
    if windows.newcomers is not None:
        drawn["newcomers"] = partial(figures.newcomers, windows.newcomers, model.new_for, as_of)
    return FitResult(
        model=model,
        metric=METRIC,
        challenger_score=mine,
        incumbent_score=theirs,
        metrics=metrics,
        params={**simple, "as_of": str(as_of), "rules": "; ".join(f"{r.name}: {r.when}" for r in spec.rules())},
        figures=drawn,
        example=example_rows(inputs_of(features.schema)),
        **verdict.with_remarks(windows.reasons).fields(CHOICE_WORDS),
    )


def freeze(
    engine: Engine, features: pa.Table, value: pa.Table, spec: LifecycleSpec, open_model: LifecycleModel, *,
    has_forecast: bool,
) -> LifecycleModel:  # fmt: skip
    """Every cut, read off one snapshot: first that of the stars, then the cuts inside the stages it leaves.

    Parameters
    ----------
    open_model : rules, windows and the share of stars; its cuts are not used
    has_forecast : whether ltv is forecast by a value model; else new customers are cut by their first purchase
    """
    ltv = numbers(value["ltv"])
    candidates = ltv_of_candidates(engine, features, value, open_model, spec)
    model = replace(open_model, star_cut=cut_for_share(candidates, open_model.star_share))
    stages = _stages(engine, features, value, model, spec)
    active, new = stages == "active", stages == "new"

    def quantile(name: str, share: float) -> float | None:
        found = numbers(features[name])[active]
        found = found[~np.isnan(found)]
        return float(np.quantile(found, share)) if found.size else None

    first = numbers(features["first_day_spend"])
    return replace(
        model,
        new_ltv_cut=cut_for_share(ltv[new], TOP_SHARE) if has_forecast else None,
        new_first_spend_cut=None if has_forecast else cut_for_share(first[new], TOP_SHARE),
        active_median_ltv=float(np.median(ltv[active])) if active.any() else None,
        active_median_orders=quantile("orders_90d", 0.5),
        active_high_orders=quantile("orders_90d", 0.75),
        active_high_spend=quantile("spend_90d", 0.75),
        active_high_basket=quantile("average_order_90d", 0.75),
    )


def _stages(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel, spec: LifecycleSpec
) -> np.ndarray:
    return np.asarray(assign_stages(engine, features, value, model, spec)["stage"].to_pylist(), dtype=str)


def _star_share(candidates: Array, spec: LifecycleSpec, incumbent: LifecycleModel | None) -> float:
    """The share of stars asked for, or found; a found one stays until the new one is surely beyond the tolerance."""
    if not isinstance(spec.star_share, str):
        return spec.star_share
    found = share_of_half(candidates)
    if incumbent is None:
        return FIRST_STAR_SHARE if found is None else found
    if found is None:
        return incumbent.star_share
    change = change_of_half(candidates, incumbent.star_share)
    is_sure = change.low > spec.star_tolerance or change.high < -spec.star_tolerance
    return found if is_sure else incumbent.star_share


def _of_windows(windows: Windows) -> dict[str, float]:
    """What the windows were read from, as figures that can be laid side by side week by week."""
    found: dict[str, float] = {}
    curve, threshold = windows.curve, windows.threshold
    if curve is not None and threshold is not None and curve.reach >= 0:
        low, high = curve.interval(threshold)
        found |= {
            "churn_return_chance": threshold,
            "churn_after_low": float(low),
            "churn_after_high": float(high),
            "return_chance": float(curve.fitted[min(windows.churn_after, curve.reach)]),
            "longest_silence_known": float(curve.reach),
        }
    if windows.newcomers is not None and (split := windows.newcomers.split()) is not None:
        found["newcomers_over_settled"] = float(windows.newcomers.distance[split - 1] + 1)
    return found


def _decide(
    fresh: LifecycleModel,
    mine: float,
    incumbent: LifecycleModel | None,
    theirs: float | None,
    off: Gain | None,
    spec: LifecycleSpec,
) -> tuple[Verdict, LifecycleModel]:
    """The decision, and the model that comes of it (this week's fit as it is logged).

    Parameters
    ----------
    mine, theirs : how far the share of stars is from the one asked for, under the fresh cut and the incumbent's
    off : the incumbent's distance with its sign and interval
    """
    cut = {"star_cut": fresh.star_cut}
    if incumbent is None or theirs is None or off is None:
        return Verdict("challenger", Code.FIRST_FIT, cut), fresh
    if (incumbent.stages, incumbent.sub_stages) != (fresh.stages, fresh.sub_stages):
        return Verdict("challenger", ChoiceCode.RULES_CHANGED, cut), fresh
    if (incumbent.new_ltv_cut is None) != (fresh.new_ltv_cut is None):
        measure: MeasureOfNew = "first_purchase" if fresh.new_ltv_cut is None else "forecast_ltv"
        return Verdict("challenger", ChoiceCode.OTHER_MEASURE_OF_NEW, {**cut, "measure": measure}), fresh
    parameters = {
        **cut, "away": theirs, "off": off.mean, "off_low": off.low, "off_high": off.high, "asked": fresh.star_share,
        "tolerance": spec.star_tolerance,
    }  # fmt: skip
    is_sure = off.low > spec.star_tolerance or off.high < -spec.star_tolerance
    if mine < theirs and is_sure:
        return Verdict("challenger", ChoiceCode.DRIFT, parameters), fresh
    kept = replace(incumbent, new_for=fresh.new_for, churn_after=fresh.churn_after)
    if kept != incumbent:
        return Verdict("challenger", ChoiceCode.WINDOWS_CHANGED, parameters), kept
    if theirs > spec.star_tolerance and mine < theirs:
        return Verdict("incumbent", Code.WITHIN_CHANCE, parameters), fresh
    return Verdict("incumbent", Code.NOT_BETTER, parameters), fresh

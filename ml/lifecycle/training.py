"""The weekly fit that freezes the stages' windows and cuts, and the decision whether they replace those in force.

Belongs here: the order in which thresholds are estimated, and which of last week's stay. Does not belong here: how a
window is estimated (see `windows`), and applying thresholds (see `stages`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

import ml.lifecycle.figures as figures
from ml.choice import Code, FitResult, Verdict, decide_without_data
from ml.columns import numbers
from ml.engine import Engine
from ml.lifecycle.cuts import (
    TOP_SHARE,
    Array,
    change_of_share_holding_half,
    cut_for_share,
    share_error,
    share_excess,
    share_holding_half,
)
from ml.lifecycle.history import recent_shares
from ml.lifecycle.model import LifecycleModel, assign_stages
from ml.lifecycle.reasons import CHOICE_WORDS, ChoiceCode, MeasureOfNew
from ml.lifecycle.rules import CUTS
from ml.lifecycle.spec import FIRST_STAR_SHARE, LifecycleSpec
from ml.lifecycle.star_candidates import ltv_of_candidates
from ml.lifecycle.windows import Windows, windows_of
from ml.naming import metric_name
from ml.reasons import Reason
from ml.serving import example_rows, inputs_of
from ml.statistics import Gain
from ml.value.model import ValueModel, apply, model_in_force
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

    Thresholds that move every week would move customers who did nothing. So each stays while the data are compatible
    with it: a window as `windows_of` describes, and the cuts until the incumbent's share of stars among the active
    customers (stars among them) is significantly further from the target share than `spec.star_tolerance`. The rules
    are the spec's.

    Parameters
    ----------
    facts : CustomerHistory
        What is known at the end of `as_of`, and nothing later.
    as_of : date
        Last day of the training week.
    spec : LifecycleSpec
        Settings of the family.
    incumbent : LifecycleModel, optional
        The model in force, if there is one.
    value_model : ValueModel or None
        The value model in force. None uses the baseline.
    value_spec : ValueSpec
        Settings of the value family.

    Returns
    -------
    FitResult
        This week's thresholds and the decision about them. ``model=None`` where fewer than `spec.min_customers`
        customers ever bought. The metric, `star_share_error`, is the distance of the share of stars from the target
        share on this snapshot; `moved_by_refit` is the share of known customers whose stage the new thresholds change.

    Examples
    --------
    A history in which nobody is known yet:

    >>> from ml import tables
    >>> from ml.engine import DuckDB
    >>> from ml.features import CustomerHistory, FeatureSpec
    >>> nothing = tables.TRANSACTIONS.empty_days()
    >>> history = CustomerHistory.from_rows(DuckDB(threads=1), FeatureSpec(), transactions=nothing)
    >>> result = train(history, date(2024, 6, 2), LifecycleSpec(), value_model=None, value_spec=ValueSpec())
    >>> result.decision, result.reason
    ('none', 'not enough customers: 0 have ever bought, 200 are asked for')
    """
    value_model = model_in_force(value_model, value_spec.of)
    engine, features = facts.engine, facts.snapshot_of(as_of)
    buyers = features.num_rows - features["recency_days"].null_count
    if buyers < spec.min_customers:
        lacking = Reason(ChoiceCode.TOO_FEW_BUYERS, {"buyers": buyers, "needed": spec.min_customers})
        return FitResult.without_fit(decide_without_data(lacking, incumbent is not None), CHOICE_WORDS, METRIC)
    snapshot = _Snapshot(engine, features, apply(features, value_model, value_spec, label="weekly"), spec)
    windows = windows_of(engine, facts.customer_days, as_of, spec, incumbent)
    open_model = _open_model(windows, spec, value_spec if value_model is None else value_model)
    candidates = snapshot.candidates(open_model)
    open_model = replace(open_model, star_share=_star_share(candidates, spec, incumbent))
    challenger = freeze(engine, features, snapshot.value, spec, open_model, has_forecast=value_model is not None)
    error = share_error(candidates, challenger.star_cut, challenger.star_share)
    standing = None if incumbent is None else _Standing.of(incumbent, challenger, snapshot)
    verdict, model = _decide(challenger, error, standing, spec)
    stages = snapshot.stages(model)
    counts = {name: int((stages == name).sum()) for name in spec.stage_names()}
    metrics = {METRIC: error, "customers": float(features.num_rows), "star_candidates": float(candidates.size)}
    metrics |= {metric_name(f"share_{name}"): count / features.num_rows for name, count in counts.items()}
    metrics |= _threshold_metrics(model) | _window_metrics(windows)
    if standing is not None:
        metrics |= standing.metrics()
        metrics["moved_by_refit"] = float((stages != snapshot.stages(standing.model)).mean())
    simple = {name: item for name, item in asdict(spec).items() if name not in ("stages", "sub_stages")}
    recent = partial(recent_shares, facts, as_of, model, spec, value_model=value_model, value_spec=value_spec)
    return FitResult(
        model=model,
        metric=METRIC,
        challenger_score=error,
        incumbent_score=None if standing is None else standing.error,
        metrics=metrics,
        params={**simple, "as_of": str(as_of), "rules": "; ".join(f"{r.name}: {r.when}" for r in spec.rules())},
        figures=_figures(as_of, model, windows, counts, candidates, recent),
        example=example_rows(inputs_of(features.schema)),
        **verdict.with_remarks(windows.reasons).fields(CHOICE_WORDS),
    )


def freeze(
    engine: Engine, features: pa.Table, value: pa.Table, spec: LifecycleSpec, open_model: LifecycleModel, *,
    has_forecast: bool,
) -> LifecycleModel:  # fmt: skip
    """Freeze every cut on one snapshot: first that of the stars, then the cuts inside of the stages that result.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    features : pa.Table
        Snapshot of one day.
    value : pa.Table
        Columns customer_id, day and the value columns of the same rows.
    spec : LifecycleSpec
        Settings of the family.
    open_model : LifecycleModel
        Rules, windows and the share of stars; its cuts are not used.
    has_forecast : bool
        Whether a value model forecasts ltv. Otherwise new customers are cut by their first purchase.

    Returns
    -------
    LifecycleModel
        `open_model` with its cuts.
    """
    snapshot, ltv = _Snapshot(engine, features, value, spec), numbers(value["ltv"])
    model = replace(open_model, star_cut=cut_for_share(snapshot.candidates(open_model), open_model.star_share))
    stages = snapshot.stages(model)
    active, new = stages == "active", stages == "new"

    def quantile(name: str, share: float) -> float | None:
        values = numbers(features[name])[active]
        values = values[~np.isnan(values)]
        return float(np.quantile(values, share)) if values.size else None

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


@dataclass(frozen=True)
class _Snapshot:
    """The snapshot of a training week with its value, and the stages that a model assigns on it."""

    engine: Engine
    features: pa.Table
    value: pa.Table
    spec: LifecycleSpec

    def stages(self, model: LifecycleModel) -> np.ndarray:
        """Stage of each customer, of shape (n_customers,)."""
        stages = assign_stages(self.engine, self.features, self.value, model, self.spec)
        return np.asarray(stages["stage"].to_pylist(), dtype=str)

    def candidates(self, model: LifecycleModel) -> Array:
        """Ltv of those who could be stars, of shape (n_candidates,)."""
        return ltv_of_candidates(self.engine, self.features, self.value, model, self.spec)


@dataclass(frozen=True)
class _Standing:
    """The incumbent on this week's snapshot: how far its share of stars is from the target share.

    Parameters
    ----------
    model : LifecycleModel
        The incumbent.
    error : float
        Distance of the shares.
    excess : Gain
        The same with its sign and interval.
    """

    model: LifecycleModel
    error: float
    excess: Gain

    @classmethod
    def of(cls, incumbent: LifecycleModel, challenger: LifecycleModel, snapshot: _Snapshot) -> _Standing:
        """Apply the incumbent's cut under this week's windows."""
        moved = replace(incumbent, new_for=challenger.new_for, churn_after=challenger.churn_after)
        candidates, share = snapshot.candidates(moved), challenger.star_share
        error, excess = share_error(candidates, moved.star_cut, share), share_excess(candidates, moved.star_cut, share)
        return cls(incumbent, error, excess)

    def is_off(self, tolerance: float) -> bool:
        """Whether the share of stars is significantly further from the target than tolerated."""
        return self.excess.low > tolerance or self.excess.high < -tolerance

    def metrics(self) -> dict[str, float]:
        """Figures to log."""
        return {"incumbent_star_share_error": self.error} | self.excess.metrics("incumbent_star_share_off")


def _open_model(windows: Windows, spec: LifecycleSpec, value_settings: ValueModel | ValueSpec) -> LifecycleModel:
    """The spec's rules under this week's windows, without cuts."""
    return LifecycleModel(
        new_for=windows.new_for,
        churn_after=windows.churn_after,
        stages=spec.rules(),
        sub_stages=spec.sub_rules(),
        horizon_days=value_settings.horizon_days,
        annual_discount_rate=value_settings.annual_discount_rate,
        value_of=value_settings.of,
    )


def _star_share(candidates: Array, spec: LifecycleSpec, incumbent: LifecycleModel | None) -> float:
    """Target share of stars; an estimated one stays until the new estimate is significantly beyond the tolerance."""
    if not isinstance(spec.star_share, str):
        return spec.star_share
    share = share_holding_half(candidates)
    if incumbent is None:
        return FIRST_STAR_SHARE if share is None else share
    if share is None:
        return incumbent.star_share
    change = change_of_share_holding_half(candidates, incumbent.star_share)
    has_drifted = change.low > spec.star_tolerance or change.high < -spec.star_tolerance
    return share if has_drifted else incumbent.star_share


def _threshold_metrics(model: LifecycleModel) -> dict[str, float]:
    """Thresholds of the model, those that are known."""
    names = ("new_for", "churn_after", "star_share", "star_cut", *CUTS)
    return {name: float(value) for name in names if (value := getattr(model, name)) is not None}


def _window_metrics(windows: Windows) -> dict[str, float]:
    """Estimates behind the windows, to be compared week by week."""
    metrics: dict[str, float] = {}
    curve, threshold = windows.curve, windows.threshold
    if curve is not None and threshold is not None and curve.longest_observed >= 0:
        low, high = curve.interval(threshold)
        metrics |= {
            "churn_return_chance": threshold,
            "churn_after_low": float(low),
            "churn_after_high": float(high),
            "return_chance": float(curve.fitted[min(windows.churn_after, curve.longest_observed)]),
            "longest_silence_known": float(curve.longest_observed),
        }
    if windows.newcomers is not None and (split := windows.newcomers.split()) is not None:
        metrics["newcomers_over_settled"] = float(windows.newcomers.distance[split - 1] + 1)
    return metrics


def _figures(
    as_of: date,
    model: LifecycleModel,
    windows: Windows,
    counts: Mapping[str, int],
    candidates: Array,
    recent: Callable[[], Mapping[date, Mapping[str, int]]],
) -> dict[str, Callable[[], Figure]]:
    """Pictures of the fit by name, drawn when they are logged; `recent` counts customers by stage week by week."""
    drawings: dict[str, Callable[[], Figure]] = {
        "stages": partial(figures.stage_shares, counts, as_of),
        "ltv_of_active": partial(figures.ltv_with_cut, candidates, model.star_cut, as_of),
        "stage_shares_over_time": lambda: figures.shares_over_time(recent()),
    }
    if windows.curve is not None and windows.threshold is not None:
        drawings["silence_return"] = partial(
            figures.silence_return, windows.curve, windows.threshold, model.churn_after, as_of
        )
    if windows.newcomers is not None:
        drawings["newcomers"] = partial(figures.newcomers, windows.newcomers, model.new_for, as_of)
    return drawings


def _decide(
    challenger: LifecycleModel, error: float, standing: _Standing | None, spec: LifecycleSpec
) -> tuple[Verdict, LifecycleModel]:
    """The decision, and this week's model as it is logged; `error` is the challenger's."""
    cut = {"star_cut": challenger.star_cut}
    if standing is None:
        return Verdict("challenger", Code.FIRST_FIT, cut), challenger
    incumbent, excess = standing.model, standing.excess
    if (incumbent.stages, incumbent.sub_stages) != (challenger.stages, challenger.sub_stages):
        return Verdict("challenger", ChoiceCode.RULES_CHANGED, cut), challenger
    if (incumbent.new_ltv_cut is None) != (challenger.new_ltv_cut is None):
        measure: MeasureOfNew = "first_purchase" if challenger.new_ltv_cut is None else "forecast_ltv"
        return Verdict("challenger", ChoiceCode.OTHER_MEASURE_OF_NEW, {**cut, "measure": measure}), challenger
    parameters = {
        **cut, "away": standing.error, "off": excess.mean, "off_low": excess.low, "off_high": excess.high,
        "asked": challenger.star_share, "tolerance": spec.star_tolerance,
    }  # fmt: skip
    is_nearer = error < standing.error
    if is_nearer and standing.is_off(spec.star_tolerance):
        return Verdict("challenger", ChoiceCode.DRIFT, parameters), challenger
    moved = replace(incumbent, new_for=challenger.new_for, churn_after=challenger.churn_after)
    if moved != incumbent:
        return Verdict("challenger", ChoiceCode.WINDOWS_CHANGED, parameters), moved
    if standing.error > spec.star_tolerance and is_nearer:
        return Verdict("incumbent", Code.WITHIN_CHANCE, parameters), challenger
    return Verdict("incumbent", Code.NOT_BETTER, parameters), challenger

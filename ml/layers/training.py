"""The weekly fit of all layers, and whether it replaces the clusters in force.

Belongs here: the sample, the contest between refit and incumbent, and what is logged about it. Does not belong here:
how layers are fitted (see `fitting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.choice import FitResult, Verdict, decide, decide_first_fit, decide_without_data
from ml.engine import Engine
from ml.features import CustomerHistory
from ml.layers.assignment import primary_strings
from ml.layers.cuts import PastOutcomes
from ml.layers.figures import all_figures
from ml.layers.fitting import fit_layers
from ml.layers.inputs import columns_of, sort_inputs
from ml.layers.layer_model import LayerModel
from ml.layers.layer_models import LayerModels, continued
from ml.layers.reasons import CHOICE_WORDS, ChoiceCode, words
from ml.layers.shrinkage import apply_means, r2, shrunken_means
from ml.layers.specs import DERIVED, LayerSpec, SegmentSpec
from ml.naming import metric_name
from ml.reasons import Reason
from ml.sampling import sample_customers
from ml.serving import example_rows, inputs_of
from ml.statistics import Gain, bootstrap

METRIC = "r2_log_spend_28d"
LIMIT_QUANTILE = 0.95  # of the earlier day's log spend above 0
MIN_MOVED_SHARE = 0.2  # share of a cluster's customers; if fewer move, the clusters in force stay exactly as they are


class Upstream(Protocol):
    """The models before the layers, as far as a fit of layers needs them (see `ml.restate.Models`)."""

    def inputs_of(self, engine: Engine, features: pa.Table) -> pa.Table:
        """`layer_inputs` of a snapshot: features, value and stage of each customer and day, under these models."""
        ...


def train(
    facts: CustomerHistory, as_of: date, spec: SegmentSpec, incumbent: LayerModels | None = None, *, models: Upstream
) -> FitResult:
    """Refit the layers on the snapshot of `as_of` and decide whether the refit takes over.

    The score is the share of the variance of log(1 + net revenue of the next window) that micro-segment means explain
    out of time: strings of the day two windows before `as_of` learn the shrunken means from the window that followed,
    strings of the day one window before `as_of` apply them, and the window up to `as_of` decides. Challenger and
    incumbent are compared on the same days and customers. Natural clusters are fitted on features of `as_of` without
    any outcome. Whether a stage is cut again, and into how many clusters, is decided a window earlier than the contest,
    so that the contest does not repeat its own choice (on a first fit, which has no contest, on the same two days).

    The challenger is the model in force with the stages' layers that the refit cuts differently. Where a refit finds
    the same clusters again, those in force stay exactly as they are, and nobody moves. Where the challenger is not
    better, but some clusters in force are wrong today, only these are replaced; the others keep their letters and
    borders.

    Parameters
    ----------
    facts : CustomerHistory
        Accepted rows up to `as_of`.
    as_of : date
        Last day of the training week.
    spec : SegmentSpec
        Layers to fit, and limits.
    incumbent : LayerModels or None
        The layers in force.
    models : Upstream
        Value and lifecycle models in force, under which the layers are cut.

    Returns
    -------
    FitResult
        A challenger is chosen if there is no incumbent, if the project's layers have changed, if it is significantly
        better by at least `spec.margin`, or if clusters have drifted. There is no model before `spec.warm_up_days` of
        history, or if fewer than twice `min_cluster_customers` customers are known.

    Examples
    --------
    >>> from ml import tables
    >>> from ml.engine import in_memory
    >>> from ml.features import FeatureSpec
    >>> from ml.restate import Models
    >>> day = date(2024, 3, 1)
    >>> days = tables.CUSTOMER_DAYS.filled(pa.table({"customer_id": ["c1", "c2"], "day": [day, day]}))
    >>> no_categories, no_attributes = tables.CATEGORY_DAYS.empty_days(), tables.CUSTOMERS.empty_days()
    >>> facts = CustomerHistory(in_memory(), FeatureSpec(), days, no_categories, no_attributes)
    >>> fit = train(facts, day, SegmentSpec(warm_up_days=0), None, models=Models())
    >>> fit.decision, fit.reason
    ('none', '2 customers are known; 60 are needed for clusters')
    """
    window = timedelta(spec.outcome_window_days)
    days = [as_of - 3 * window, *evaluation_days(as_of, spec.outcome_window_days), as_of]
    history = _history_days(facts, as_of)
    shortfall = None
    if incumbent is None:
        days = days[1:]
        if history < spec.warm_up_days:
            shortfall = Reason(ChoiceCode.HISTORY_TOO_SHORT, {"days": history, "needed": spec.warm_up_days})
    pairs = sample_customers(facts.engine, facts.known(days), spec.max_rows, spec.seed)
    n_customers = pc.sum(pc.equal(pairs["day"], as_of)).as_py() or 0
    if n_customers < 2 * spec.min_cluster_customers:
        needed = 2 * spec.min_cluster_customers
        shortfall = Reason(ChoiceCode.TOO_FEW_CUSTOMERS, {"customers": n_customers, "needed": needed})
    if shortfall:
        return FitResult.without_fit(decide_without_data(shortfall, incumbent is not None), CHOICE_WORDS, METRIC)
    inputs = models.inputs_of(facts.engine, facts.snapshot(pairs))
    today = inputs.filter(pc.equal(inputs["day"], as_of))
    contest = _Contest(spec.layers, _past_outcomes(facts, inputs, as_of, spec), spec.seed)
    is_old = incumbent is not None and history >= 4 * spec.outcome_window_days
    earlier = _past_outcomes(facts, inputs, as_of - window, spec) if is_old else None
    refit = fit_layers(today, spec, incumbent, earlier or contest.past)
    challenger, verdict, scores, gain = _decide(contest, refit, incumbent, spec)
    challenger_score, incumbent_score = (scores.get(role, {}).get(METRIC) for role in ("challenger", "incumbent"))
    strings = {
        role: contest.strings(today, layers)
        for role, layers in (("challenger", challenger), ("incumbent", incumbent))
        if layers is not None
    }
    unchanged = None if incumbent is None or verdict.decision == "challenger" else incumbent
    in_force = "challenger" if unchanged is None else "incumbent"
    metrics = {f"{role}_{name}": value for role, figures in scores.items() for name, value in figures.items()}
    metrics |= gain.metrics("choice_gain") if gain is not None else {}
    metrics |= _moved_customers(strings)
    metrics |= _sizes(strings[in_force], unchanged or challenger, is_new=unchanged is None)
    return FitResult(
        model=challenger,
        metric=METRIC,
        challenger_score=challenger_score,
        incumbent_score=incumbent_score,
        metrics=metrics,
        params=_params(spec, challenger),
        figures=all_figures(challenger),
        example=_example_rows(today.schema, challenger, spec),
        **verdict.fields(CHOICE_WORDS),
    )


def _history_days(facts: CustomerHistory, as_of: date) -> int:
    first = facts.engine.query("SELECT MIN(day) AS first FROM days", days=facts.customer_days)["first"][0].as_py()
    return 0 if first is None else (as_of - first).days + 1


def _decide(
    contest: _Contest, refit: LayerModels, incumbent: LayerModels | None, spec: SegmentSpec
) -> tuple[LayerModels, Verdict, dict[str, dict[str, float]], Gain | None]:
    """The challenger, the verdict, the scores of both, and the challenger's gain where there was a contest."""
    if incumbent is None:
        scores = contest.scores({"challenger": refit})
        return refit, decide_first_fit(METRIC, scores.get("challenger", {}).get(METRIC)), scores, None
    if _cuts(incumbent.layers) == _cuts(spec.layers) and _settings(incumbent.layers) != _settings(spec.layers):
        adapted = with_settings(incumbent, spec)
        scores = contest.scores({"challenger": adapted, "incumbent": incumbent})
        return adapted, Verdict("challenger", ChoiceCode.SETTINGS_CHANGED), scores, None
    if _cuts(incumbent.layers) != _cuts(spec.layers) or incumbent.off != refit.off:
        scores = contest.scores({"challenger": refit, "incumbent": incumbent})
        return refit, Verdict("challenger", ChoiceCode.LAYERS_CHANGED), scores, None
    challenger = with_parts(
        incumbent, refit, [model for model in refit.models if model.drift or _has_changed(model, incumbent)]
    )
    scores = contest.scores({"challenger": challenger, "incumbent": incumbent})
    challenger_score, incumbent_score = (scores.get(role, {}).get(METRIC) for role in ("challenger", "incumbent"))
    verdict = decide_without_data(Reason(ChoiceCode.CANNOT_BE_JUDGED), has_incumbent=True)
    gain = None
    if challenger_score is not None and incumbent_score is not None:
        gain = contest.gain(challenger, incumbent)
        verdict = decide(METRIC, challenger_score, incumbent_score, gain, margin=spec.margin)
    drifted = [model for model in refit.models if model.drift]
    if verdict.decision == "challenger" or not drifted:
        return challenger, verdict, scores, gain
    challenger = with_parts(incumbent, refit, drifted)
    where = [f"{model.stage}/{model.layer.name}" for model in drifted]
    drifts = [model.drift.stored() for model in drifted if model.drift]
    scores = contest.scores({"challenger": challenger, "incumbent": incumbent})
    return challenger, Verdict("challenger", ChoiceCode.DRIFT, {"layers": where, "drifts": drifts}), scores, gain


def _has_changed(model: LayerModel, incumbent: LayerModels) -> bool:
    """Whether a refit differs substantially: in its number of clusters, or in their members."""
    before = incumbent.find(model.stage, model.layer.name)
    if before is None or before.letters != model.letters:
        return True
    min_share = 1 - MIN_MOVED_SHARE
    return any(event.retained_share < min_share or event.inherited_share < min_share for event in model.events)


def with_parts(incumbent: LayerModels, refit: LayerModels, parts: Sequence[LayerModel]) -> LayerModels:
    """The layers in force with some stages' layers taken from the refit; the others stay exactly as they are."""
    parts_by_key: dict[tuple[str, str], LayerModel] = {(model.stage, model.layer.name): model for model in parts}
    replaced = [
        parts_by_key.pop(key) if (key := (model.stage, model.layer.name)) in parts_by_key else continued(model)
        for model in incumbent.models
    ]
    order = {layer.name: position for position, layer in enumerate(incumbent.layers)}
    models = sorted([*replaced, *parts_by_key.values()], key=lambda model: (model.stage, order[model.layer.name]))
    return replace(incumbent, models=tuple(models), fitted_on=refit.fitted_on)


def with_settings(incumbent: LayerModels, spec: SegmentSpec) -> LayerModels:
    """The layers in force with new settings of membership; the clusters stay."""
    layers = {layer.name: layer for layer in spec.layers}
    models = tuple(replace(continued(model), layer=layers[model.layer.name]) for model in incumbent.models)
    return replace(incumbent, layers=spec.layers, models=models)


def _settings(layers: tuple[LayerSpec, ...]) -> list[tuple[float, float]]:
    """The settings of membership, which do not change clusters."""
    return [(layer.membership_threshold, layer.weekly_switch_probability) for layer in layers]


def _cuts(layers: tuple[LayerSpec, ...]) -> list[LayerSpec]:
    """The layers without their descriptions and settings of membership; equal ones are cut alike."""
    return [replace(layer, context="", membership_threshold=1.0, weekly_switch_probability=0.5) for layer in layers]


def evaluation_days(as_of: date, window_days: int) -> tuple[date, date]:
    """The day that learns group means and the day that applies them; the window after each has closed by `as_of`."""
    return as_of - timedelta(2 * window_days), as_of - timedelta(window_days)


@dataclass
class _Contest:
    """Two days whose outcome windows have closed; `past` is None if history is too short."""

    layers: tuple[LayerSpec, ...]
    past: PastOutcomes | None
    seed: int = 0

    def strings(self, inputs: pa.Table, layers: LayerModels) -> pa.ChunkedArray:
        """Primary strings from each row alone, without damping, which is the same for all models compared."""
        return primary_strings(sort_inputs(inputs), layers, self.layers)["micro_segment"]

    def scores(self, contest: Mapping[str, LayerModels]) -> dict[str, dict[str, float]]:
        """R² of log spend and spend by micro-segment means, out of time; empty if history is too short."""
        if self.past is None:
            return {}
        later = ~self.past.is_earlier
        scores = {}
        for role, layers in contest.items():
            score = {
                METRIC: r2(self.past.log_spend[later], self.predictions(layers, self.past.log_spend)),
                "r2_spend_28d": r2(self.past.spend[later], self.predictions(layers, self.past.spend)),
            }
            if np.isfinite(score[METRIC]):
                scores[role] = score
        return scores

    def predictions(self, layers: LayerModels, outcome: np.ndarray) -> np.ndarray:
        """Predict the later day's rows by the shrunken means of the earlier day's groups."""
        if self.past is None:
            return np.zeros(0)
        strings = np.array(self.strings(self.past.inputs, layers).to_pylist(), dtype=str)
        is_earlier = self.past.is_earlier
        return apply_means(shrunken_means(strings[is_earlier], outcome[is_earlier]), strings[~is_earlier])

    def gain(self, refit: LayerModels, incumbent: LayerModels) -> Gain:
        """Share by which the refit explains more than the incumbent, over paired customers.

        Outcomes are winsorised at a limit read from the earlier day, so that the largest customers do not decide alone.
        """
        assert self.past is not None
        is_earlier = self.past.is_earlier
        outcome = winsorised(self.past.log_spend, self.past.log_spend[is_earlier])
        predictions = [self.predictions(layers, outcome) for layers in (incumbent, refit)]
        return explained_gain(outcome[~is_earlier], *predictions, seed=self.seed)


def winsorised(outcome: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """Outcomes clipped to the limit that one in twenty of the earlier positive ones exceeds."""
    positive = earlier[earlier > 0]
    return np.minimum(outcome, np.quantile(positive, LIMIT_QUANTILE)) if positive.size else outcome


def explained_gain(actual: np.ndarray, incumbent: np.ndarray, refit: np.ndarray, *, seed: int = 0) -> Gain:
    """Share by which the refit's R² exceeds the incumbent's, from predictions for the same customers."""

    def relative_gain(sums: np.ndarray) -> np.ndarray:
        explained = np.maximum(np.abs(sums[:, 2] - sums[:, 0]), 1e-12)
        return np.asarray((sums[:, 0] - sums[:, 1]) / explained)

    terms = [(actual - incumbent) ** 2, (actual - refit) ** 2, (actual - actual.mean()) ** 2]
    return bootstrap(np.column_stack(terms), relative_gain, seed=seed)


def _past_outcomes(facts: CustomerHistory, inputs: pa.Table, as_of: date, spec: SegmentSpec) -> PastOutcomes | None:
    """Outcomes after the two evaluation days of `as_of`; None if too few customers were known."""
    learn, apply = evaluation_days(as_of, spec.outcome_window_days)
    past = inputs.filter(pc.is_in(inputs["day"], pa.array([learn, apply], pa.date32())))
    is_earlier = past["day"].to_numpy() == np.datetime64(learn)
    if min(is_earlier.sum(), (~is_earlier).sum()) < 2 * spec.min_cluster_customers:
        return None
    pairs = past.select(["customer_id", "day"])
    spend = facts.outcomes(pairs, spec.outcome_window_days, until=as_of)["spend"].to_numpy()
    return PastOutcomes(past, is_earlier, spend, _next_stages(past, inputs, spec.outcome_window_days))


def _next_stages(past: pa.Table, inputs: pa.Table, window_days: int) -> np.ndarray:
    """The number of each row's stage a window later; the days of `inputs` lie a window apart."""
    import pandas as pd

    frame = inputs.select(["customer_id", "day", "stage"]).to_pandas()
    frame["number"] = pd.factorize(frame["stage"], sort=True)[0]
    later = frame.assign(day=pd.to_datetime(frame["day"]) - pd.Timedelta(days=window_days))
    rows = past.select(["customer_id", "day"]).to_pandas()
    rows["day"] = pd.to_datetime(rows["day"])
    merged = rows.merge(later[["customer_id", "day", "number"]], on=["customer_id", "day"], how="left")
    result: np.ndarray = merged["number"].fillna(-1).to_numpy().astype(np.int64)
    return result


def _params(spec: SegmentSpec, model: LayerModels) -> dict[str, object]:
    plain = {name: value for name, value in asdict(spec).items() if name != "layers"}
    layers = {
        metric_name("layer", layer.name): f"{layer.method} k={layer.k}: {', '.join(layer.features)}"
        + (" (off: no data)" if layer.name in model.off else "")
        for layer in spec.layers
    }
    why = {metric_name("why", fit.stage, fit.layer.name): f"{fit.kind}: {words(fit.reason)}" for fit in model.models}
    return plain | layers | why


def _example_rows(schema: pa.Schema, model: LayerModels, spec: SegmentSpec) -> pa.Table:
    """Invented rows with the stage, and the columns that a layer uses, as the lake's tables have them."""
    used: set[str] = {"stage"}
    for layer in spec.layers:
        used.update(layer.present(schema.names))
        for rule in layer.rules:
            used |= columns_of(rule.when)
    derived = used & set(DERIVED)
    used = (used - derived).union(*(columns_of(DERIVED[name]) for name in derived))
    stages = list(dict.fromkeys(fit.stage for fit in model.models))
    return example_rows(inputs_of(schema, sorted(used)), {"stage": stages, "sub_stage": stages} if stages else None)


def _moved_customers(strings: Mapping[str, pa.ChunkedArray]) -> dict[str, float]:
    """Number and share of today's customers whose string the refit changes."""
    if "incumbent" not in strings:
        return {}
    other = pc.sum(pc.not_equal(strings["challenger"], strings["incumbent"])).as_py() or 0
    share = other / max(len(strings["challenger"]), 1)
    return {"customers_moved_by_refit": float(other), "share_moved_by_refit": share}


def _sizes(strings: pa.ChunkedArray, layers: LayerModels, *, is_new: bool) -> dict[str, float]:
    """Counts of micro-segments and clusters in force from now on, of layers by kind, and of clusters by fate."""
    counts = np.array([row["counts"] for row in pc.value_counts(strings).to_pylist()])
    kinds = [model.kind for model in layers.models]
    fates = layers.lineage(is_new=is_new)["event"].to_pylist()
    return {
        "customers": float(len(strings)),
        "micro_segments": float(len(counts)),
        "micro_segments_of_30": float((counts >= 30).sum()),
        "share_in_micro_segments_of_30": float(counts[counts >= 30].sum() / max(counts.sum(), 1)),
        "clusters": float(sum(len(model.letters) for model in layers.models)),
        **{f"layers_{kind}": float(kinds.count(kind)) for kind in ("natural", "cut", "one")},
        **{
            f"clusters_{fate}": float(fates.count(fate)) for fate in ("continued", "born", "split", "merged", "retired")
        },
    }

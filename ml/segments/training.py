"""The weekly fit of all layers, and whether it replaces the clusters in force.

Belongs here: the sample, the contest between refit and incumbent, and what is logged about it. Does not belong here:
how a layer is fitted (see `fitting`).
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
from ml.naming import metric_name
from ml.reasons import Reason
from ml.sampling import sample_customers
from ml.segments.assignment import primary_strings
from ml.segments.cuts import PastOutcomes
from ml.segments.figures import all_figures
from ml.segments.fitting import fit_layers
from ml.segments.inputs import columns_of, in_order
from ml.segments.layer_model import LayerModel
from ml.segments.layers import LayerModels, continued
from ml.segments.reasons import CHOICE_WORDS, ChoiceCode, words
from ml.segments.shrinkage import apply_means, r2, shrunken_means
from ml.segments.specs import DERIVED, LayerSpec, SegmentSpec
from ml.serving import example_rows, inputs_of
from ml.statistics import Gain, bootstrap

METRIC = "r2_log_spend_28d"
LIMIT_QUANTILE = 0.95  # of the earlier day's log spend above 0
MOVED = 0.2  # share of a cluster's customers: if fewer change, the clusters in force stay to the last digit


class Upstream(Protocol):
    """The models before the layers, as far as a fit of layers asks for them (see `ml.restate.Models`)."""

    def inputs_of(self, engine: Engine, features: pa.Table) -> pa.Table:
        """`layer_inputs` of a snapshot: features, value and stage of each customer and day, under these models."""
        ...


def train(
    facts: CustomerHistory, as_of: date, spec: SegmentSpec, incumbent: LayerModels | None = None, *, models: Upstream
) -> FitResult:
    """Refit the layers on the snapshot of `as_of` and decide whether the refit takes over.

    The judge is the share of the variance of log(1 + net revenue of the next window) that micro-segment means explain
    out of time: strings of the day two windows before `as_of` learn the (shrunken) means from the window that followed,
    strings of the day one window before `as_of` apply them, and the window up to `as_of` decides. Challenger and
    incumbent are judged on the same days and customers. Natural clusters are fitted on features of `as_of` without any
    outcome; whether, and into how many, a stage is cut again is decided a window earlier than the contest, so that the
    contest does not repeat its own choice (on a first fit, which has no contest, on the same two days).

    The challenger is the model in force with the stages' layers that the refit cuts differently: where a refit finds
    the same clusters again, those in force stay to the last digit, and nobody moves. Where the challenger is no
    better, but some clusters in force are wrong today, only these are replaced: who did not drift keeps its letters and
    borders.

    Parameters
    ----------
    facts : cut at `as_of`
    models : value and lifecycle in force under which the layers are cut

    Returns
    -------
    FitResult: a challenger is chosen if there is no incumbent, if the project's layers have changed, if it is better by
    `spec.margin` and by more than chance, or if clusters have drifted; without a model before `spec.warm_up_days` of
    history, or if fewer than twice `min_cluster_customers` customers are known.
    """
    window = timedelta(spec.outcome_window_days)
    days = [as_of - 3 * window, *evaluation_days(as_of, spec.outcome_window_days), as_of]
    history = _history_days(facts, as_of)
    waiting = None
    if incumbent is None:
        days = days[1:]
        if history < spec.warm_up_days:
            waiting = Reason(ChoiceCode.HISTORY_TOO_SHORT, {"days": history, "needed": spec.warm_up_days})
    pairs = sample_customers(facts.engine, facts.known(days), spec.max_rows, spec.seed)
    known = pc.sum(pc.equal(pairs["day"], as_of)).as_py() or 0
    if known < 2 * spec.min_cluster_customers:
        needed = 2 * spec.min_cluster_customers
        waiting = Reason(ChoiceCode.TOO_FEW_CUSTOMERS, {"customers": known, "needed": needed})
    if waiting:
        return FitResult.without_fit(decide_without_data(waiting, incumbent is not None), CHOICE_WORDS, METRIC)
    inputs = models.inputs_of(facts.engine, facts.snapshot(pairs))
    today = inputs.filter(pc.equal(inputs["day"], as_of))
    contest = _Contest(spec.layers, _past(facts, inputs, as_of, spec), spec.seed)
    is_old = incumbent is not None and history >= 4 * spec.outcome_window_days
    earlier = _past(facts, inputs, as_of - window, spec) if is_old else None
    refit = fit_layers(today, spec, incumbent, earlier or contest.past)
    challenger, verdict, scores, gain = _decided(contest, refit, incumbent, spec)
    ours, theirs = (scores.get(who, {}).get(METRIC) for who in ("challenger", "incumbent"))
    strings = {
        who: contest.strings(today, layers)
        for who, layers in (("challenger", challenger), ("incumbent", incumbent))
        if layers is not None
    }
    kept = None if incumbent is None or verdict.decision == "challenger" else incumbent
    in_force = "challenger" if kept is None else "incumbent"
    metrics = {f"{who}_{name}": value for who, found in scores.items() for name, value in found.items()}
    metrics |= gain.metrics("choice_gain") if gain is not None else {}
    return FitResult(
        model=challenger,
        metric=METRIC,
        challenger_score=ours,
        incumbent_score=theirs,
        metrics=metrics | _moved(strings) | _sizes(strings[in_force], kept or challenger, is_new=kept is None),
        params=_params(spec, challenger),
        figures=all_figures(challenger),
        example=_example(today.schema, challenger, spec),
        **verdict.fields(CHOICE_WORDS),
    )


def _history_days(facts: CustomerHistory, as_of: date) -> int:
    first = facts.engine.query("SELECT MIN(day) AS first FROM days", days=facts.customer_days)["first"][0].as_py()
    return 0 if first is None else (as_of - first).days + 1


def _decided(
    contest: _Contest, refit: LayerModels, incumbent: LayerModels | None, spec: SegmentSpec
) -> tuple[LayerModels, Verdict, dict[str, dict[str, float]], Gain | None]:
    """What challenges, what is decided, the scores of both, and the challenger's gain where there was a contest."""
    if incumbent is None:
        scores = contest.scores({"challenger": refit})
        return refit, decide_first_fit(METRIC, scores.get("challenger", {}).get(METRIC)), scores, None
    if _cuts(incumbent.layers) == _cuts(spec.layers) and _settings(incumbent.layers) != _settings(spec.layers):
        retold = with_settings(incumbent, spec)
        scores = contest.scores({"challenger": retold, "incumbent": incumbent})
        return retold, Verdict("challenger", ChoiceCode.SETTINGS_CHANGED), scores, None
    if _cuts(incumbent.layers) != _cuts(spec.layers) or incumbent.off != refit.off:
        scores = contest.scores({"challenger": refit, "incumbent": incumbent})
        return refit, Verdict("challenger", ChoiceCode.LAYERS_CHANGED), scores, None
    mended = with_parts(
        incumbent, refit, [model for model in refit.models if model.drift or _has_changed(model, incumbent)]
    )
    scores = contest.scores({"challenger": mended, "incumbent": incumbent})
    ours, theirs = (scores.get(who, {}).get(METRIC) for who in ("challenger", "incumbent"))
    verdict = decide_without_data(Reason(ChoiceCode.CANNOT_BE_JUDGED), has_incumbent=True)
    gain = None
    if ours is not None and theirs is not None:
        gain = contest.gain(mended, incumbent)
        verdict = decide(METRIC, ours, theirs, gain, margin=spec.margin)
    drifted = [model for model in refit.models if model.drift]
    if verdict.decision == "challenger" or not drifted:
        return mended, verdict, scores, gain
    mended = with_parts(incumbent, refit, drifted)
    where = [f"{model.stage}/{model.layer.name}" for model in drifted]
    drifts = [model.drift.stored() for model in drifted if model.drift]
    scores = contest.scores({"challenger": mended, "incumbent": incumbent})
    return mended, Verdict("challenger", ChoiceCode.DRIFT, {"layers": where, "drifts": drifts}), scores, gain


def _has_changed(model: LayerModel, incumbent: LayerModels) -> bool:
    """Whether a refit differs in more than the last digits: in its number of clusters, or in who is in which."""
    before = incumbent.find(model.stage, model.layer.name)
    if before is None or before.letters != model.letters:
        return True
    return any(event.retained_share < 1 - MOVED or event.inherited_share < 1 - MOVED for event in model.events)


def with_parts(incumbent: LayerModels, refit: LayerModels, parts: Sequence[LayerModel]) -> LayerModels:
    """The layers in force with some stages' layers taken from the refit; the others are as they were, to the number."""
    taken: dict[tuple[str, str], LayerModel] = {(model.stage, model.layer.name): model for model in parts}
    kept = [
        taken.pop(key) if (key := (model.stage, model.layer.name)) in taken else continued(model)
        for model in incumbent.models
    ]
    order = {layer.name: place for place, layer in enumerate(incumbent.layers)}
    models = sorted([*kept, *taken.values()], key=lambda model: (model.stage, order[model.layer.name]))
    return replace(incumbent, models=tuple(models), fitted_on=refit.fitted_on)


def with_settings(incumbent: LayerModels, spec: SegmentSpec) -> LayerModels:
    """The layers in force under new settings of who belongs to them; the clusters are as they were."""
    layers = {layer.name: layer for layer in spec.layers}
    models = tuple(replace(continued(model), layer=layers[model.layer.name]) for model in incumbent.models)
    return replace(incumbent, layers=spec.layers, models=models)


def _settings(layers: tuple[LayerSpec, ...]) -> list[tuple[float, float]]:
    """What decides who belongs to clusters, whatever these are."""
    return [(layer.membership_threshold, layer.weekly_switch_probability) for layer in layers]


def _cuts(layers: tuple[LayerSpec, ...]) -> list[LayerSpec]:
    """The layers without their words and settings of membership: two that are equal here cut alike."""
    return [replace(layer, context="", membership_threshold=1.0, weekly_switch_probability=0.5) for layer in layers]


def evaluation_days(as_of: date, window_days: int) -> tuple[date, date]:
    """The day that learns group means and the day that applies them; the window after each has closed by `as_of`."""
    return as_of - timedelta(2 * window_days), as_of - timedelta(window_days)


@dataclass
class _Contest:
    """Two days that have matured, on which groups are judged; `past` is None if history is too short for that."""

    layers: tuple[LayerSpec, ...]
    past: PastOutcomes | None
    seed: int = 0

    def strings(self, inputs: pa.Table, layers: LayerModels) -> pa.ChunkedArray:
        """Primary strings of some rows, each by its row alone: damping is the same for all who are compared."""
        return primary_strings(in_order(inputs), layers, self.layers)["micro_segment"]

    def scores(self, contest: Mapping[str, LayerModels]) -> dict[str, dict[str, float]]:
        """R² of log spend and spend by micro-segment means, out of time; nothing if history is too short."""
        if self.past is None:
            return {}
        later = ~self.past.is_earlier
        found = {}
        for who, layers in contest.items():
            score = {
                METRIC: r2(self.past.log_spend[later], self.told(layers, self.past.log_spend)),
                "r2_spend_28d": r2(self.past.spend[later], self.told(layers, self.past.spend)),
            }
            if np.isfinite(score[METRIC]):
                found[who] = score
        return found

    def told(self, layers: LayerModels, outcome: np.ndarray) -> np.ndarray:
        """What the shrunken means of the earlier day's groups tell of each row of the later day."""
        if self.past is None:
            return np.zeros(0)
        text = np.array(self.strings(self.past.inputs, layers).to_pylist(), dtype=str)
        first = self.past.is_earlier
        return apply_means(shrunken_means(text[first], outcome[first]), text[~first])

    def gain(self, refit: LayerModels, incumbent: LayerModels) -> Gain:
        """By which share the refit explains more than the incumbent, customer by customer.

        Outcomes beyond a limit, read from those of the earlier day, count as the limit: the largest customers have a
        say, but not for all the others.
        """
        assert self.past is not None
        first = self.past.is_earlier
        outcome = limited(self.past.log_spend, self.past.log_spend[first])
        told = [self.told(layers, outcome) for layers in (incumbent, refit)]
        return explained_gain(outcome[~first], *told, seed=self.seed)


def limited(outcome: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """Outcomes up to the limit that one in twenty of the earlier ones above 0 exceeds."""
    some = earlier[earlier > 0]
    return np.minimum(outcome, np.quantile(some, LIMIT_QUANTILE)) if some.size else outcome


def explained_gain(actual: np.ndarray, incumbent: np.ndarray, refit: np.ndarray, *, seed: int = 0) -> Gain:
    """By which share of the incumbent's R² the refit's is higher, from what each tells of the same customers."""

    def more(sums: np.ndarray) -> np.ndarray:
        explained = np.maximum(np.abs(sums[:, 2] - sums[:, 0]), 1e-12)
        return np.asarray((sums[:, 0] - sums[:, 1]) / explained)

    terms = [(actual - incumbent) ** 2, (actual - refit) ** 2, (actual - actual.mean()) ** 2]
    return bootstrap(np.column_stack(terms), more, seed=seed)


def _past(facts: CustomerHistory, inputs: pa.Table, as_of: date, spec: SegmentSpec) -> PastOutcomes | None:
    """What followed on the two evaluation days of `as_of`; nothing if too few customers were known."""
    learn, apply = evaluation_days(as_of, spec.outcome_window_days)
    past = inputs.filter(pc.is_in(inputs["day"], pa.array([learn, apply], pa.date32())))
    first = past["day"].to_numpy() == np.datetime64(learn)
    if min(first.sum(), (~first).sum()) < 2 * spec.min_cluster_customers:
        return None
    pairs = past.select(["customer_id", "day"])
    spend = facts.outcomes(pairs, spec.outcome_window_days, until=as_of)["spend"].to_numpy()
    return PastOutcomes(past, first, spend, _next_stages(past, inputs, spec.outcome_window_days))


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
    why = {metric_name("why", one.stage, one.layer.name): f"{one.kind}: {words(one.reason)}" for one in model.models}
    return plain | layers | why


def _example(schema: pa.Schema, model: LayerModels, spec: SegmentSpec) -> pa.Table:
    """Invented rows with the stage, and the columns that a layer uses, as the lake's tables have them."""
    used: set[str] = {"stage"}
    for layer in spec.layers:
        used.update(layer.present(schema.names))
        for rule in layer.rules:
            used |= columns_of(rule.when)
    derived = used & set(DERIVED)
    used = (used - derived).union(*(columns_of(DERIVED[name]) for name in derived))
    stages = list(dict.fromkeys(one.stage for one in model.models))
    return example_rows(inputs_of(schema, sorted(used)), {"stage": stages, "sub_stage": stages} if stages else None)


def _moved(strings: Mapping[str, pa.ChunkedArray]) -> dict[str, float]:
    """How many of today's customers carry another string under the refit."""
    if "incumbent" not in strings:
        return {}
    other = pc.sum(pc.not_equal(strings["challenger"], strings["incumbent"])).as_py() or 0
    share = other / max(len(strings["challenger"]), 1)
    return {"customers_moved_by_refit": float(other), "share_moved_by_refit": share}


def _sizes(strings: pa.ChunkedArray, layers: LayerModels, *, is_new: bool) -> dict[str, float]:
    """Of what is in force from now on: micro-segments, clusters, why there are as many, and what became of them."""
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

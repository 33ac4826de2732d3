"""The weekly fit of the action response family.

Belongs here: how scores become the model, what is logged about it, and when it replaces last week's. Does not belong
here: the scores (`ml.actions.estimation`), the tree of cells (`cells`), the verdicts (`diagnostics`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

import ml.actions.designs as designs
import ml.actions.estimation as estimation
from ml.actions.cells import Cell, cells_of, nearest
from ml.actions.diagnostics import Placebo, Ranked, imbalance, placebo_verdict
from ml.actions.figures import effects_figure, overlap_figure, uplift_figure
from ml.actions.learners import CustomerEffect, Scores, customer_effect, encoded, levels_of
from ml.actions.maturity import Maturity
from ml.actions.reasons import CHOICE_WORDS, ChoiceCode, Finding
from ml.actions.response import ActionEvidence, ActionResponseModel
from ml.actions.spec import ALL, CONTROL, ActionPolicy
from ml.choice import Code, FitResult, Verdict, decide, decide_without_data
from ml.features import CustomerHistory, features_table
from ml.naming import metric_name
from ml.reasons import Reason
from ml.serving import example_rows, inputs_of
from ml.statistics import Gain, paired_gain

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ml.restate import Models

METRIC = "cell_loss"
OUTERMOST = (0.01, 0.99)  # quantiles of an action's scores beyond which scores are left out of a contest
MAX_UNKNOWN_SEGMENT_SHARE = 0.01  # of exposures, above which an incumbent is out of date


@dataclass
class _Measured:
    """What was measured of each action."""

    scores: dict[str, Scores] = field(default_factory=dict)
    micro_segments: dict[str, NDArray[Any]] = field(default_factory=dict)  # one entry a score
    evidence: dict[str, ActionEvidence] = field(default_factory=dict)
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    customers: dict[str, CustomerEffect] = field(default_factory=dict)
    ranked: dict[str, Ranked] = field(default_factory=dict)
    unmeasured: dict[str, Finding] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def train(
    facts: CustomerHistory,
    as_of: date,
    spec: ActionPolicy,
    incumbent: ActionResponseModel | None,
    *,
    models: Models,
    outcomes: pa.Table,
    maturity: Maturity | None = None,
) -> FitResult:
    """Estimate the effect of every action from all matured exposures, and decide whether the fit is used.

    Per action against control: doubly robust scores, cross-fitted by customer, with the known or estimated propensity,
    trimmed to the overlap; averaged per micro-segment of the day before the exposure *restated under `models`*, and
    shrunk up the prefix tree. An action with enough randomised exposures is judged by these alone. All others get a
    placebo: the same pipeline for the window before the exposure, with the features before that. Their treated and
    control customers are those without another exposure within the window before or after.

    A design that is declared randomised is audited (`ml.actions.audit`): with arms that differ before the exposure it
    counts as observational and is never acted upon. Nor is an effect whose arms differ in later exposures.

    New matured exposures, or micro-segments that the incumbent does not know, put the challenger in force, so that
    effects rest on all evidence. Otherwise it must predict this week's scores better, cell by cell and out of fold, by
    `spec.margin` and significantly.

    Parameters
    ----------
    facts : CustomerHistory
        The history of all customers up to `as_of`.
    as_of : date
        Last day that may be used.
    spec : ActionPolicy
        Settings of the estimate.
    incumbent : ActionResponseModel, optional
        The model in force.
    models : Models
        Choices in force, under which the micro-segment of each exposure is restated.
    outcomes : pa.Table
        Columns of `tables.EXPOSURE_OUTCOMES`, from `exposure_outcomes` as of the same day.
    maturity : Maturity, optional
        Which exposures do not count yet, for the reason.

    Returns
    -------
    FitResult
        The decision, with the model unless there are too few exposures.

    Examples
    --------
    >>> from datetime import date
    >>> from ml import tables
    >>> from ml.engine import DuckDB
    >>> from ml.features import FeatureSpec
    >>> from ml.lifecycle import LifecycleSpec
    >>> from ml.restate import Models, Specs
    >>> from ml.layers import SegmentSpec
    >>> from ml.value import ValueSpec
    >>> rows = {name: table.empty_days() for name, table in tables.INPUTS.items()}
    >>> history = CustomerHistory.from_rows(DuckDB(), FeatureSpec(), **rows)
    >>> models = Models(None, None, None, Specs(ValueSpec(), LifecycleSpec(), SegmentSpec()))
    >>> outcomes = tables.EXPOSURE_OUTCOMES.empty()
    >>> result = train(history, date(2024, 1, 7), ActionPolicy(), None, models=models, outcomes=outcomes)
    >>> result.decision, result.reason
    ('none', 'no matured exposures')
    """
    outcomes = designs.candidates(facts.engine, outcomes, spec)
    chosen = designs.designs(outcomes, spec)
    if not chosen:
        return _without_fit(designs.too_little(outcomes, spec), maturity, incumbent, spec)
    rows = estimation.with_features(facts, outcomes, 1, models)
    columns, levels = _served_columns(facts, rows)
    measured = _measure(facts, rows, columns, levels, outcomes, chosen, spec)
    if not measured.scores:
        return _without_fit(Reason(ChoiceCode.NOTHING_IN_COMMON), maturity, incumbent, spec)
    rows = rows[designs.is_compared(rows)]
    treated = rows[rows["action"] != CONTROL]
    model = ActionResponseModel(
        measured.evidence, measured.cells, measured.customers, tuple(columns), max(treated["exposed_on"]), len(treated),
        levels, measured.unmeasured,
    )  # fmt: skip
    contest = _Contest.of(measured.scores, measured.micro_segments, incumbent, spec)
    verdict = _decide(model, incumbent, contest, rows, spec)
    remarks = [finding.reason(action) for action, one in sorted(measured.evidence.items()) for finding in one.findings]
    remarks += [finding.reason(action) for action, finding in sorted(measured.unmeasured.items())]
    return FitResult(
        model,
        metric=METRIC,
        challenger_score=contest.challenger,
        incumbent_score=contest.incumbent,
        metrics=measured.metrics | (contest.gain.metrics("choice_gain") if contest.gain else {}),
        params=asdict(spec),
        figures={
            "effects": lambda: effects_figure(measured.evidence),
            "overlap": lambda: overlap_figure(measured.scores),
            "uplift": lambda: uplift_figure(measured.ranked, spec.seed),
        },
        example=example_rows(inputs_of(features_table(facts.spec).schema(), columns)),
        **verdict.with_remarks([*remarks, *_not_counted(maturity)]).fields(CHOICE_WORDS),
    )


def _measure(
    facts: CustomerHistory,
    rows: pd.DataFrame,
    columns: list[str],
    levels: Mapping[str, tuple[str, ...]],
    outcomes: pa.Table,
    chosen: Mapping[str, str],
    spec: ActionPolicy,
) -> _Measured:
    """Evidence, cells and customer-level effects of every action that has an overlap."""
    placebos = estimation.placebo(facts, outcomes, chosen, spec)
    measured = _Measured(unmeasured=designs.unmeasured(outcomes, chosen, spec))
    values = encoded(rows, columns, levels)
    for action, made in estimation.estimate(rows, chosen, "outcome", facts, spec).items():
        scores, positions = made.scores, made.positions
        if not (scores.in_overlap & scores.treated).any() or not (scores.in_overlap & ~scores.treated).any():
            measured.unmeasured[action] = Finding("no_overlap")
            continue
        features = values[positions]
        strings = rows["micro_segment"].to_numpy()[positions]
        evidence = _evidence(made, placebos.get(action), features, spec)
        cells = cells_of(scores, strings, spec)
        effect, prediction = customer_effect(features, scores, spec)
        measured.scores[action], measured.micro_segments[action] = scores, strings
        measured.evidence[action], measured.cells[action], measured.customers[action] = evidence, cells, effect
        measured.ranked[action] = (prediction, scores.score[scores.in_overlap], scores.customer[scores.in_overlap])
        measured.metrics |= _metrics(action, evidence, cells[ALL], effect.slope)
    return measured


def _not_counted(maturity: Maturity | None) -> list[Reason]:
    """The exposures that do not count yet, if any."""
    return [] if maturity is None or maturity.is_complete else [maturity.reason()]


def _without_fit(
    lacking: Reason, maturity: Maturity | None, incumbent: ActionResponseModel | None, spec: ActionPolicy
) -> FitResult:
    """No fit: last week's stays in force, if there is one."""
    verdict = decide_without_data(lacking, incumbent is not None).with_remarks(_not_counted(maturity))
    return FitResult.without_fit(verdict, CHOICE_WORDS, METRIC, params=asdict(spec))


def _served_columns(facts: CustomerHistory, rows: pd.DataFrame) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The columns of the snapshot that are numbers or have a short vocabulary, and the vocabularies."""
    declared = [column for column in features_table(facts.spec).columns if column.name != "customer_id"]
    levels = levels_of(rows[[column.name for column in declared if column.type == "string"]])
    return [c.name for c in declared if c.type in ("double", "bigint", "boolean") or c.name in levels], levels


def _evidence(
    made: estimation.Estimate, placebo: tuple[float, float] | None, features: NDArray[np.float64], spec: ActionPolicy
) -> ActionEvidence:
    scores, design = made.scores, "randomised" if made.is_chance_known else "observational"
    effect, error = scores.overall()
    controls = scores.outcome[~scores.treated & scores.in_overlap]
    band = spec.smallest_effect_share * abs(float(controls.mean())) if len(controls) else 0.0
    verdict: Placebo = "not needed"
    if design != "randomised":
        verdict = placebo_verdict(*(placebo or (float("nan"), float("nan"))), band)
    unweighted, weighted = imbalance(features, scores)
    return ActionEvidence(
        design=design,
        placebo=verdict,
        effect=effect,
        standard_error=error,
        placebo_effect=placebo[0] if placebo else None,
        placebo_standard_error=placebo[1] if placebo else None,
        band=band,
        auc=scores.auc if np.isfinite(scores.auc) else None,
        overlap=float(scores.in_overlap.mean()),
        imbalance_before=unweighted,
        imbalance_after=weighted,
        findings=made.findings,
    )


def _metrics(action: str, evidence: ActionEvidence, overall: Cell, slope: float) -> dict[str, float]:
    values = {
        "effect": evidence.effect,
        "effect_se": evidence.standard_error,
        "placebo_effect": evidence.placebo_effect,
        "placebo_se": evidence.placebo_standard_error,
        "placebo_passed": float(evidence.placebo in ("passed", "not needed")),
        "smallest_effect": evidence.band,
        "propensity_auc": evidence.auc,
        "overlap_share": evidence.overlap,
        "imbalance_before": evidence.imbalance_before,
        "imbalance_after": evidence.imbalance_after,
        "treated": float(overall.treated),
        "control": float(overall.control),
        "customer_effect_slope": slope,
    }
    return {metric_name(name, action): float(value) for name, value in values.items() if value is not None}


def _predicted(cells: Mapping[str, Cell], micro_segments: NDArray[Any]) -> NDArray[np.float64]:
    """The effect of each row's cell."""
    effect = {name: nearest(cells, name).effect for name in set(micro_segments)}
    return np.array([effect[name] for name in micro_segments], dtype=np.float64)


def _cross_fitted(scores: Scores, micro_segments: NDArray[Any], spec: ActionPolicy) -> NDArray[np.float64]:
    """The effect of each row's cell, estimated from the other folds."""
    prediction = np.full(len(scores.score), scores.overall()[0])
    for k in np.unique(scores.fold):
        rest, in_fold = scores.in_overlap & (scores.fold != k), scores.fold == k
        if rest.any():
            cells = cells_of(replace(scores, in_overlap=rest), micro_segments, spec)
            prediction[in_fold] = _predicted(cells, micro_segments[in_fold])
    return prediction


@dataclass(frozen=True)
class _Contest:
    """How well cells predict this week's scores: squared errors as a share of each action's variance.

    Scores are as heavy-tailed as spend: three customers of five thousand can dominate the mean of a cell. Both models
    are therefore compared without the outermost scores: the challenger's cells are estimated from the others, and the
    incumbent's are shifted by one amount so that their mean agrees with these.

    Parameters
    ----------
    challenger, incumbent : float
        Mean loss over the actions; None without an incumbent that knows any of them.
    gain : Gain, optional
        The challenger's gain over the incumbent, on the actions that both know.
    unknown : float
        Largest share of an action's exposures whose micro-segment the incumbent does not know, 0 to 1.
    knows_all : bool
        Whether the incumbent knows every action.
    """

    challenger: float
    incumbent: float | None = None
    gain: Gain | None = None
    unknown: float = 1.0
    knows_all: bool = False

    @classmethod
    def of(
        cls,
        scores: Mapping[str, Scores],
        micro_segments: Mapping[str, NDArray[Any]],
        incumbent: ActionResponseModel | None,
        spec: ActionPolicy,
    ) -> _Contest:
        """Score both, out of fold and on the same exposures."""
        actions = sorted(scores)
        scores = {a: _without_outermost(scores[a]) for a in actions}
        errors = {a: _errors(scores[a], _cross_fitted(scores[a], micro_segments[a], spec)) for a in actions}
        challenger = float(np.mean([one.mean() for one in errors.values()]))
        shared = [a for a in actions if incumbent and a in incumbent.cells]
        if incumbent is None or not shared:
            return cls(challenger)
        incumbent_errors = {
            a: _errors(scores[a], _centred(scores[a], _predicted(incumbent.cells[a], micro_segments[a])))
            for a in shared
        }
        share = {
            a: 1 / len(incumbent_errors[a]) for a in shared
        }  # each action weighs the same, however often it was delivered
        gain = paired_gain(
            np.concatenate([incumbent_errors[a] * share[a] for a in shared]),
            np.concatenate([errors[a] * share[a] for a in shared]),
            customers=np.concatenate([scores[a].customer[scores[a].in_overlap] for a in shared]),
            seed=spec.seed,
        )
        unknown = max(float(np.mean([s not in incumbent.cells[a] for s in micro_segments[a]])) for a in shared)
        incumbent_loss = float(np.mean([one.mean() for one in incumbent_errors.values()]))
        return cls(challenger, incumbent_loss, gain, unknown, len(shared) == len(actions))


def _without_outermost(scores: Scores) -> Scores:
    """The scores of an action without its outermost hundredths."""
    if not scores.in_overlap.any():
        return scores
    low, high = np.quantile(scores.score[scores.in_overlap], OUTERMOST)
    return replace(scores, in_overlap=scores.in_overlap & (scores.score >= low) & (scores.score <= high))


def _centred(scores: Scores, prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Predictions shifted so that their mean over the overlap is that of the scores."""
    result: NDArray[np.float64] = prediction + (scores.overall()[0] - prediction[scores.in_overlap].mean())
    return result


def _errors(scores: Scores, prediction: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared errors on the overlap, as a share of the scores' variance."""
    score = scores.score[scores.in_overlap]
    errors: NDArray[np.float64] = (score - prediction[scores.in_overlap]) ** 2 / max(float(np.var(score)), 1e-12)
    return errors


def _other_verdict(model: ActionResponseModel, incumbent: ActionResponseModel) -> Reason | None:
    """The first verdict that differs for the same exposures: a correction must never wait for a better loss."""
    for action in sorted({*model.actions, *incumbent.actions}):
        now, before = model.actions.get(action), incumbent.actions.get(action)
        if now is None or before is None:
            code = ChoiceCode.NO_LONGER_MEASURED if now is None else ChoiceCode.NEWLY_MEASURED
            return Reason(code, {"action": action})
        if (now.design, now.placebo) != (before.design, before.placebo):
            judged = {"action": action, "design": now.design, "placebo": now.placebo}
            return Reason(ChoiceCode.EVIDENCE_CHANGED, judged)
        if {finding.code for finding in now.blocking} != {finding.code for finding in before.blocking}:
            findings = [finding.reason(action).stored() for finding in now.blocking]
            return Reason(ChoiceCode.FINDINGS_CHANGED, {"action": action, "findings": findings})
    return None


def _decide(
    model: ActionResponseModel,
    incumbent: ActionResponseModel | None,
    contest: _Contest,
    rows: pd.DataFrame,
    spec: ActionPolicy,
) -> Verdict:
    """Whether the fit replaces last week's."""
    if incumbent is None:
        figures = {
            "metric": METRIC, "challenger": contest.challenger, "exposures": model.exposures,
            "newest": str(model.newest),
        }  # fmt: skip
        return Verdict("challenger", Code.FIRST_FIT, figures)
    if other := _other_verdict(model, incumbent):
        return Verdict("challenger", other.code, other.parameters)
    fresh = int(((rows["action"] != CONTROL) & (rows["exposed_on"] > incumbent.newest)).sum())
    if fresh:
        newer = {"exposures": fresh, "newest": str(model.newest)}
        return Verdict("challenger", ChoiceCode.NEW_EVIDENCE, newer)
    if not contest.knows_all or contest.unknown > MAX_UNKNOWN_SEGMENT_SHARE:
        return Verdict("challenger", ChoiceCode.UNKNOWN_SEGMENTS, {"share": contest.unknown})
    assert contest.incumbent is not None and contest.gain is not None
    verdict = decide(METRIC, contest.challenger, contest.incumbent, contest.gain, margin=spec.margin)
    return verdict.with_remarks([Reason(ChoiceCode.NO_NEW_EXPOSURES)])

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
OUTERMOST = (0.01, 0.99)  # quantiles of an action's scores; whoever lies beyond has no say in a contest
_STRANGE = 0.01  # share of exposures in unknown micro-segments from which an incumbent is out of date


@dataclass
class _Found:
    """What is found out about each action."""

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
    """Measure what every action did, from all matured exposures.

    Per action against control: doubly robust scores, cross-fitted by customer, with the known chance of the action or
    an estimated one, trimmed to the overlap; averaged per micro-segment of the day before the exposure *restated under
    `models`*, shrunk up the prefix tree. An action with enough randomised exposures is judged by these alone. The
    others go through the whole pipeline once more for the window before the exposure, with the features before that.
    There, treated and controls alike are those whom no other exposure reached within the window before or after.

    A design that is said to be randomised is audited (`ml.actions.audit`): arms that differ before the exposure are
    taken for observational and never acted upon. Nor is an effect whose arms differ in what reached them afterwards.

    New matured exposures, or micro-segments that the incumbent does not know, put the challenger in force: effects rest
    on all the evidence there is. Otherwise it must tell this week's scores better, cell by cell and out of fold, by
    `spec.margin` and beyond chance.

    Parameters
    ----------
    facts : up to `as_of`
    outcomes : columns of `tables.EXPOSURE_OUTCOMES`, from `exposure_outcomes` as of the same day
    models : choices in force, under which the micro-segment of each exposure is restated
    maturity : which exposures count yet; said with the reason
    """
    outcomes = estimation.candidates(facts.engine, outcomes, spec)
    chosen = estimation.designs(outcomes, spec)
    if not chosen:
        return _nothing(estimation.too_little(outcomes, spec), maturity, incumbent, spec)
    rows = estimation.with_features(facts, outcomes, 1, models)
    columns, levels = _served_columns(facts, rows)
    found = _found(facts, rows, columns, levels, outcomes, chosen, spec)
    if not found.scores:
        return _nothing(Reason(ChoiceCode.NOTHING_IN_COMMON), maturity, incumbent, spec)
    rows = rows[estimation.is_compared(rows)]
    treated = rows[rows["action"] != CONTROL]
    model = ActionResponseModel(
        found.evidence, found.cells, found.customers, tuple(columns), max(treated["exposed_on"]), len(treated), levels,
        found.unmeasured,
    )  # fmt: skip
    contest = _Contest.of(found.scores, found.micro_segments, incumbent, spec)
    verdict = _decide(model, incumbent, contest, rows, spec)
    remarks = [finding.reason(action) for action, one in sorted(found.evidence.items()) for finding in one.findings]
    remarks += [finding.reason(action) for action, finding in sorted(found.unmeasured.items())]
    return FitResult(
        model,
        metric=METRIC,
        challenger_score=contest.challenger,
        incumbent_score=contest.incumbent,
        metrics=found.metrics | (contest.gain.metrics("choice_gain") if contest.gain else {}),
        params=asdict(spec),
        figures={
            "effects": lambda: effects_figure(found.evidence),
            "overlap": lambda: overlap_figure(found.scores),
            "uplift": lambda: uplift_figure(found.ranked, spec.seed),
        },
        example=example_rows(inputs_of(features_table(facts.spec).schema(), columns)),
        **verdict.with_remarks([*remarks, *_about(maturity)]).fields(CHOICE_WORDS),
    )


def _found(
    facts: CustomerHistory,
    rows: pd.DataFrame,
    columns: list[str],
    levels: Mapping[str, tuple[str, ...]],
    outcomes: pa.Table,
    chosen: Mapping[str, str],
    spec: ActionPolicy,
) -> _Found:
    """Evidence, cells and customer-level effects of every action that has an overlap."""
    before = estimation.placebo(facts, outcomes, chosen, spec)
    found = _Found(unmeasured=estimation.unmeasured(outcomes, chosen, spec))
    values = encoded(rows, columns, levels)
    for action, made in estimation.estimate(rows, chosen, "outcome", facts, spec).items():
        scores, places = made.scores, made.places
        if not (scores.kept & scores.treated).any() or not (scores.kept & ~scores.treated).any():
            found.unmeasured[action] = Finding("no_overlap")
            continue
        features = values[places]
        strings = rows["micro_segment"].to_numpy()[places]
        evidence = _evidence(made, before.get(action), features, spec)
        cells = cells_of(scores, strings, spec)
        effect, guess = customer_effect(features, scores, spec)
        found.scores[action], found.micro_segments[action] = scores, strings
        found.evidence[action], found.cells[action], found.customers[action] = evidence, cells, effect
        found.ranked[action] = (guess, scores.score[scores.kept], scores.customer[scores.kept])
        found.metrics |= _metrics(action, evidence, cells[ALL], effect.slope)
    return found


def _about(maturity: Maturity | None) -> list[Reason]:
    """Which exposures do not count yet, if any."""
    return [] if maturity is None or maturity.is_complete else [maturity.reason()]


def _nothing(
    lacking: Reason, maturity: Maturity | None, incumbent: ActionResponseModel | None, spec: ActionPolicy
) -> FitResult:
    """No fit: last week's stays in force, if there is one."""
    verdict = decide_without_data(lacking, incumbent is not None).with_remarks(_about(maturity))
    return FitResult.without_fit(verdict, CHOICE_WORDS, METRIC, params=asdict(spec))


def _served_columns(facts: CustomerHistory, rows: pd.DataFrame) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The columns of the snapshot that are numbers or have a short vocabulary, and the vocabularies."""
    declared = [column for column in features_table(facts.spec).columns if column.name != "customer_id"]
    levels = levels_of(rows[[column.name for column in declared if column.type == "string"]])
    return [c.name for c in declared if c.type in ("double", "bigint", "boolean") or c.name in levels], levels


def _evidence(
    made: estimation.Estimate, before: tuple[float, float] | None, features: NDArray[np.float64], spec: ActionPolicy
) -> ActionEvidence:
    scores, design = made.scores, "randomised" if made.is_chance_known else "observational"
    effect, error = scores.overall()
    controls = scores.outcome[~scores.treated & scores.kept]
    band = spec.smallest_effect_share * abs(float(controls.mean())) if len(controls) else 0.0
    verdict: Placebo = "not needed"
    if design != "randomised":
        verdict = placebo_verdict(*(before or (float("nan"), float("nan"))), band)
    unweighted, weighted = imbalance(features, scores)
    return ActionEvidence(
        design=design,
        placebo=verdict,
        effect=effect,
        error=error,
        placebo_effect=before[0] if before else None,
        placebo_error=before[1] if before else None,
        band=band,
        auc=scores.auc if np.isfinite(scores.auc) else None,
        overlap=float(scores.kept.mean()),
        imbalance_before=unweighted,
        imbalance_after=weighted,
        findings=made.findings,
    )


def _metrics(action: str, evidence: ActionEvidence, overall: Cell, slope: float) -> dict[str, float]:
    values = {
        "effect": evidence.effect,
        "effect_se": evidence.error,
        "placebo_effect": evidence.placebo_effect,
        "placebo_se": evidence.placebo_error,
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


def _told(cells: Mapping[str, Cell], micro_segments: NDArray[Any]) -> NDArray[np.float64]:
    """What the cells expect of each row."""
    effect = {name: nearest(cells, name).effect for name in set(micro_segments)}
    return np.array([effect[name] for name in micro_segments], dtype=np.float64)


def _cross_fitted(scores: Scores, micro_segments: NDArray[Any], spec: ActionPolicy) -> NDArray[np.float64]:
    """What cells that were estimated from the other folds expect of each row."""
    guess = np.full(len(scores.score), scores.overall()[0])
    for k in np.unique(scores.fold):
        rest, here = scores.kept & (scores.fold != k), scores.fold == k
        if rest.any():
            guess[here] = _told(cells_of(replace(scores, kept=rest), micro_segments, spec), micro_segments[here])
    return guess


@dataclass(frozen=True)
class _Contest:
    """How well cells tell this week's scores: squared errors as a share of each action's variance.

    Scores are as spread as what customers spend, and three of five thousand can turn the mean of a cell. So both are
    held against each other without the outermost scores: the challenger's cells are estimated from the others, and the
    incumbent's are shifted by one amount, so that on average they expect what these have.

    Parameters
    ----------
    challenger, incumbent : losses, the mean over the actions; None without an incumbent that knows any of them
    gain : the challenger's over the incumbent's, on the actions that both know
    unknown : the largest share of an action's exposures whose micro-segment the incumbent does not know
    knows_all : whether the incumbent knows every action
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
        mine = {a: _errors(scores[a], _cross_fitted(scores[a], micro_segments[a], spec)) for a in actions}
        challenger = float(np.mean([found.mean() for found in mine.values()]))
        shared = [a for a in actions if incumbent and a in incumbent.cells]
        if incumbent is None or not shared:
            return cls(challenger)
        theirs = {
            a: _errors(scores[a], _centred(scores[a], _told(incumbent.cells[a], micro_segments[a]))) for a in shared
        }
        share = {a: 1 / len(theirs[a]) for a in shared}  # each action weighs the same, however often it was delivered
        gain = paired_gain(
            np.concatenate([theirs[a] * share[a] for a in shared]),
            np.concatenate([mine[a] * share[a] for a in shared]),
            customers=np.concatenate([scores[a].customer[scores[a].kept] for a in shared]),
            seed=spec.seed,
        )
        unknown = max(float(np.mean([s not in incumbent.cells[a] for s in micro_segments[a]])) for a in shared)
        older = float(np.mean([found.mean() for found in theirs.values()]))
        return cls(challenger, older, gain, unknown, len(shared) == len(actions))


def _without_outermost(scores: Scores) -> Scores:
    """The scores of an action of which those beyond its outermost hundredths have no say."""
    if not scores.kept.any():
        return scores
    low, high = np.quantile(scores.score[scores.kept], OUTERMOST)
    return replace(scores, kept=scores.kept & (scores.score >= low) & (scores.score <= high))


def _centred(scores: Scores, guess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Guesses shifted so that over the overlap they mean what the scores do."""
    result: NDArray[np.float64] = guess + (scores.overall()[0] - guess[scores.kept].mean())
    return result


def _errors(scores: Scores, guess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared errors on the overlap, as a share of the scores' variance."""
    kept = scores.score[scores.kept]
    errors: NDArray[np.float64] = (kept - guess[scores.kept]) ** 2 / max(float(np.var(kept)), 1e-12)
    return errors


def _other_verdict(model: ActionResponseModel, incumbent: ActionResponseModel) -> Reason | None:
    """What is now said differently of the same exposures: a correction must never wait for a better loss."""
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
    if not contest.knows_all or contest.unknown > _STRANGE:
        return Verdict("challenger", ChoiceCode.UNKNOWN_SEGMENTS, {"share": contest.unknown})
    assert contest.incumbent is not None and contest.gain is not None
    verdict = decide(METRIC, contest.challenger, contest.incumbent, contest.gain, margin=spec.margin)
    return verdict.with_remarks([Reason(ChoiceCode.NO_NEW_EXPOSURES)])

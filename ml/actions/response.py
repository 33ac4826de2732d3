"""The weekly fit of the action response family.

Belongs here: what goes into the learner, what comes out as the model in force, and when it replaces last week's. Does
not belong here: the learner (`learners`), the tree of cells (`cells`), the verdicts (`diagnostics`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from ml.actions import diagnostics
from ml.actions.cells import Cell, cells_of, nearest
from ml.actions.diagnostics import Placebo
from ml.actions.learners import (
    CustomerEffect,
    Nuisance,
    Scores,
    customer_effect,
    doubly_robust,
    encode,
    folds_of,
)  # fmt: skip
from ml.actions.spec import ALL, CONTROL, ActionsSpec
from ml.engine import Engine, quoted
from ml.features import Facts, features_table
from ml.restate import restate
from ml.training import Decision, Training, decide

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ml.restate import Models

METRIC = "cell_loss"


@dataclass(frozen=True)
class ActionEvidence:
    """What stands behind one action.

    Parameters
    ----------
    design : randomised or observational
    placebo : verdict on the time before the exposure
    effect, error : overall effect per exposure and its standard error, in currency
    placebo_effect, placebo_error : the same for the time before; None if not needed or impossible
    band : smallest effect of interest, in currency
    auc : how well features tell treated from control; None where the chance was known
    overlap : share of the exposures inside the overlap
    imbalance_before, imbalance_after : largest standardised mean difference, as delivered and weighted
    """

    design: str
    placebo: Placebo
    effect: float
    error: float
    placebo_effect: float | None
    placebo_error: float | None
    band: float
    auc: float | None
    overlap: float
    imbalance_before: float
    imbalance_after: float

    def supported(self, overall: Cell, spec: ActionsSpec) -> bool:
        """Whether the action's effects may be acted upon."""
        return overall.meets(spec) and (self.design == "randomised" or self.placebo == "passed")


@dataclass(frozen=True)
class ActionResponseModel:
    """Effects of every action: overall, per micro-segment and prefix, and per customer.

    Parameters
    ----------
    actions : what stands behind each action
    cells : per action, the estimate of each micro-segment and prefix
    customer_effects : per action, the customer-level effect
    columns : numeric columns of the snapshot that the customer-level effect reads
    newest : day of the newest exposure that went in
    exposures : treated exposures that went in
    """

    actions: Mapping[str, ActionEvidence]
    cells: Mapping[str, Mapping[str, Cell]]
    customer_effects: Mapping[str, CustomerEffect]
    columns: tuple[str, ...]
    newest: date
    exposures: int

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """The expected effect of each action on each customer, in currency, from the columns of a snapshot."""
        import pandas as pd

        missing = [name for name in self.columns if name not in features.columns]
        if missing:
            raise ValueError(f"features lack {', '.join(missing)}")
        values = features[list(self.columns)].astype("float64").to_numpy()
        return pd.DataFrame(
            {action: self.customer_effects[action].predict(values) for action in sorted(self.actions)},
            index=features.index,
        )

    def save(self, folder: Path) -> None:
        """Write `model.json` into an existing folder."""
        content = {
            "actions": {name: asdict(evidence) for name, evidence in self.actions.items()},
            "cells": {name: [asdict(cell) for cell in tree.values()] for name, tree in self.cells.items()},
            "customer_effects": {name: asdict(effect) for name, effect in self.customer_effects.items()},
            "columns": self.columns,
            "newest": self.newest.isoformat(),
            "exposures": self.exposures,
        }
        (folder / "model.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        content = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        return cls(
            actions={name: ActionEvidence(**values) for name, values in content["actions"].items()},
            cells={
                name: {cell["micro_segment"]: Cell(**cell) for cell in tree} for name, tree in content["cells"].items()
            },
            customer_effects={name: CustomerEffect(**v) for name, v in content["customer_effects"].items()},
            columns=tuple(content["columns"]),
            newest=date.fromisoformat(content["newest"]),
            exposures=content["exposures"],
        )


def train(
    facts: Facts,
    as_of: date,
    spec: ActionsSpec,
    incumbent: ActionResponseModel | None,
    *,
    models: Models,
    outcomes: pa.Table,
) -> Training:
    """Measure what every action did, from all matured exposures.

    Per action against control: doubly robust scores, cross-fitted by customer, with the known chance of the action or
    an estimated one, trimmed to the overlap; averaged per micro-segment of the day before the exposure *restated under
    `models`*, shrunk up the prefix tree. An action with enough randomised exposures is judged by these alone. The
    others go through the whole pipeline once more for the window before the exposure, with the features before that.
    Their controls were left alone in the window before; so treated customers whom another of the exposures had reached
    then have nobody to be compared with, and are left out of both.

    New matured exposures, or micro-segments that the incumbent does not know, put the challenger in force: effects rest
    on all the evidence there is. Otherwise it must tell this week's scores better, cell by cell and out of fold.

    Parameters
    ----------
    facts : up to `as_of`
    outcomes : columns of `tables.EXPOSURE_OUTCOMES`, from `exposure_outcomes` as of the same day
    models : choices in force, under which the micro-segment of each exposure is restated
    """
    outcomes = _quiet_before(facts.engine, outcomes, spec)
    chosen = _designs(outcomes, spec)
    if not chosen:
        return _nothing(_too_little(outcomes, spec), incumbent, spec)
    rows = _rows(facts, outcomes, 1, models)
    main = _estimate(rows, chosen, "outcome", facts, spec)
    before = _placebo(facts, outcomes, chosen, spec)
    columns = _served_columns(facts)
    scores: dict[str, Scores] = {}
    strings: dict[str, NDArray[Any]] = {}
    evidence: dict[str, ActionEvidence] = {}
    cells: dict[str, dict[str, Cell]] = {}
    customers: dict[str, CustomerEffect] = {}
    ranked: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    metrics: dict[str, float] = {}
    for action, (found, places) in main.items():
        if not found.kept.any():
            continue
        features = rows.loc[places, columns].astype("float64")
        scores[action], strings[action] = found, rows["micro_segment"].to_numpy()[places]
        evidence[action] = _evidence(chosen[action], found, before.get(action), features.to_numpy(), spec)
        cells[action] = cells_of(found, strings[action], spec)
        customers[action], guess = customer_effect(features, found, spec)
        ranked[action] = (guess, found.score[found.kept])
        metrics |= _metrics(action, evidence[action], cells[action][ALL], customers[action].slope)
    if not scores:
        return _nothing("treated and control customers have nothing in common: no overlap", incumbent, spec)
    treated = rows[rows["action"] != CONTROL]
    model = ActionResponseModel(evidence, cells, customers, tuple(columns), max(treated["exposed_on"]), len(treated))
    decision, reason, challenger, older = _decide(model, incumbent, scores, strings, rows, spec)
    return Training(
        model,
        decision,
        reason,
        METRIC,
        challenger,
        older,
        metrics=metrics,
        params=asdict(spec),
        figures={
            "effects": lambda: diagnostics.effects_figure(evidence),
            "overlap": lambda: diagnostics.overlap_figure(scores),
            "uplift": lambda: diagnostics.uplift_figure(ranked, spec.seed),
        },
        example=rows[features_table(facts.spec).names].head(5),
    )


def _nothing(reason: str, incumbent: ActionResponseModel | None, spec: ActionsSpec) -> Training:
    """No fit: last week's stays in force, if there is one."""
    return Training(None, "none" if incumbent is None else "incumbent", reason, METRIC, params=asdict(spec))


def _served_columns(facts: Facts) -> list[str]:
    """The numeric columns of the snapshot."""
    return [c.name for c in features_table(facts.spec).columns if c.type in ("double", "bigint", "boolean")]


_QUIET = """
SELECT * FROM outcomes
WHERE design = 'randomised' OR action = 'control' OR NOT EXISTS (
    SELECT 1 FROM outcomes AS earlier
    WHERE earlier.customer_id = outcomes.customer_id AND earlier.action <> 'control'
      AND earlier.exposed_on < outcomes.exposed_on
      AND DATE_DIFF('day', earlier.exposed_on, outcomes.exposed_on) <= $window)
ORDER BY exposed_on, campaign_id, customer_id
"""


def _quiet_before(engine: Engine, outcomes: pa.Table, spec: ActionsSpec) -> pa.Table:
    """Without the observational exposures that followed another within the window."""
    return engine.query(_QUIET, {"window": spec.outcome_window_days}, outcomes=outcomes)


def _counts(outcomes: pa.Table) -> dict[tuple[str, str], tuple[int, int]]:
    """Treated and control exposures of each action and design."""
    import pandas as pd

    frame = outcomes.select(["campaign_id", "action", "design"]).to_pandas()
    counts = {}
    for key, group in frame[frame["action"] != CONTROL].groupby(["action", "design"]):
        action, design = key
        peers = frame[(frame["action"] == CONTROL) & (frame["design"] == design)]
        counts[str(action), str(design)] = (
            len(group), int(peers["campaign_id"].isin(pd.unique(group["campaign_id"])).sum())
        )  # fmt: skip
    return counts


def _designs(outcomes: pa.Table, spec: ActionsSpec) -> dict[str, str]:
    """The design each action is judged by; actions with too few exposures to estimate anything are left out."""
    counts = _counts(outcomes)
    floors = {"randomised": (spec.min_treated, spec.min_control), "observational": (spec.min_fit, spec.min_fit)}
    chosen: dict[str, str] = {}
    for design, (treated, control) in floors.items():
        for (action, has), (n_1, n_0) in sorted(counts.items()):
            if has == design and n_1 >= treated and n_0 >= control:
                chosen.setdefault(action, design)
    for (action, has), (n_1, n_0) in sorted(counts.items()):
        if has == "randomised" and min(n_1, n_0) >= spec.min_fit:
            chosen.setdefault(action, has)
    return chosen


def _too_little(outcomes: pa.Table, spec: ActionsSpec) -> str:
    if not outcomes.num_rows:
        return "no matured exposures"
    listed = "; ".join(f"{a} {n} treated, {m} control" for (a, _), (n, m) in sorted(_counts(outcomes).items()))
    return f"not enough matured exposures: each arm needs {spec.min_fit}; {listed or 'nobody was treated'}"


def _rows(facts: Facts, outcomes: pa.Table, lag: int, models: Models | None) -> pd.DataFrame:
    """Outcomes with the snapshot of `lag` days before the exposure, and the day of the exposure as a feature.

    With `models` also the micro-segment that the customer had then, under these.
    """
    pairs = facts.engine.query(_PAIRS, {"lag": lag}, outcomes=outcomes)
    features = facts.snapshot(pairs)
    beside = [name for name in features_table(facts.spec).names if name != "customer_id"]
    columns = [f"outcomes.{name} AS {name}" for name in _KEPT]
    columns += [f"features.{quoted(name)} AS {quoted(name)}" for name in beside]
    joins, inputs = _JOIN.format(table="features"), {"outcomes": outcomes, "features": features}
    if models is not None:
        columns.append("restated.micro_segment AS micro_segment")
        joins += _JOIN.format(table="restated")
        inputs["restated"] = restate(facts.engine, features, models).select(["customer_id", "day", "micro_segment"])
    rows = facts.engine.query(
        f"SELECT {', '.join(columns)} FROM outcomes {joins} "
        "ORDER BY outcomes.exposed_on, outcomes.campaign_id, outcomes.customer_id",
        {"lag": lag},
        **inputs,
    ).to_pandas()
    rows["exposure_day"] = [float(day.toordinal()) for day in rows["exposed_on"]]
    return rows


_KEPT = ("customer_id", "exposed_on", "campaign_id", "action", "design", "propensity", "outcome", "placebo_outcome")
_PAIRS = """
SELECT DISTINCT customer_id, CAST(exposed_on - CAST($lag AS INTEGER) AS DATE) AS day FROM outcomes
ORDER BY day, customer_id
"""
_JOIN = """
JOIN {table} ON {table}.customer_id = outcomes.customer_id
    AND DATE_DIFF('day', {table}.day, outcomes.exposed_on) = $lag
"""


def _estimate(
    rows: pd.DataFrame, chosen: Mapping[str, str], target: str, facts: Facts, spec: ActionsSpec
) -> dict[str, tuple[Scores, NDArray[np.int64]]]:
    """Scores of every action on `target`, and the positions of their rows."""
    names = [name for name in features_table(facts.spec).names if name != "customer_id"]
    nuisance = Nuisance(encode(rows[[*names, "exposure_day"]]), folds_of(rows["customer_id"], spec), spec)
    outcome = rows[target].to_numpy(dtype=np.float64)
    customer = np.unique(rows["customer_id"].to_numpy(dtype=str), return_inverse=True)[1].astype(np.int64)
    arm, design = rows["action"].to_numpy(), rows["design"].to_numpy()
    result = {}
    for kind in sorted(set(chosen.values())):
        alone = (arm == CONTROL) & (design == kind)
        baseline = nuisance.predict(outcome, alone, design == kind, "regression")
        for action in sorted(a for a, of in chosen.items() if of == kind):
            treated = (arm == action) & (design == kind)
            campaigns = rows["campaign_id"].isin(rows.loc[treated, "campaign_id"].unique()).to_numpy()
            control = alone & campaigns
            if min(treated.sum(), control.sum()) < spec.min_fit:
                continue
            known = _known_chance(rows, treated, control) if kind == "randomised" else np.full(len(rows), np.nan)
            result[action] = doubly_robust(nuisance, treated, control, outcome, baseline, known, customer, spec)
    return result


def _known_chance(rows: pd.DataFrame, treated: NDArray[np.bool_], control: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Chance of the action, given that it was this or control, in a randomised campaign.

    A row states the chance of its own arm only. That of the other arm is the mean of the other arm's rows of the same
    campaign; where nothing is stated, shares of the campaign stand in.
    """
    campaign = rows["campaign_id"]
    share = rows["action"].groupby([campaign, rows["action"]]).transform("size") / campaign.groupby(campaign).transform(
        "size"
    )
    stated = rows["propensity"].astype("float64")
    own = stated.where(stated > 0, share)
    of_treated = campaign.map(own[treated].groupby(campaign[treated]).mean())
    of_control = campaign.map(own[control].groupby(campaign[control]).mean())
    chance_1 = own.where(treated, of_treated)
    chance_0 = own.where(control, of_control)
    # A campaign with one arm only has no contrast of its own; its rows count at even odds of the model's predictions.
    return np.asarray((chance_1 / (chance_1 + chance_0)).fillna(0.5), dtype=np.float64)


def _placebo(
    facts: Facts, outcomes: pa.Table, chosen: Mapping[str, str], spec: ActionsSpec
) -> dict[str, tuple[float, float]]:
    """The same pipeline for the window before the exposure, for the actions that were not randomised."""
    import pyarrow.compute as pc

    observed = {action: design for action, design in chosen.items() if design == "observational"}
    able = outcomes.filter(
        pc.and_(pc.is_valid(outcomes["placebo_outcome"]), pc.equal(outcomes["design"], "observational"))
    )
    if not observed or not able.num_rows:
        return {}
    rows = _rows(facts, able, 1 + spec.outcome_window_days, None)
    estimated = _estimate(rows, observed, "placebo_outcome", facts, spec)
    return {action: scores.overall() for action, (scores, _) in estimated.items() if scores.kept.any()}


def _evidence(
    design: str, scores: Scores, before: tuple[float, float] | None, features: NDArray[np.float64], spec: ActionsSpec
) -> ActionEvidence:
    effect, error = scores.overall()
    controls = scores.outcome[~scores.treated & scores.kept]
    band = spec.smallest_effect_share * abs(float(controls.mean())) if len(controls) else 0.0
    verdict: Placebo = "not needed"
    if design != "randomised":
        verdict = diagnostics.placebo_verdict(*(before or (float("nan"), float("nan"))), band)
    unweighted, weighted = diagnostics.imbalance(features, scores)
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
    return {f"{name}/{_metric_name(action)}": float(value) for name, value in values.items() if value is not None}


def _metric_name(action: str) -> str:
    """An action's name with only what a metric's name may hold."""
    return re.sub(r"[^\w .-]", "_", action)


def _loss(guess: NDArray[np.float64], score: NDArray[np.float64]) -> float:
    """Mean squared error of the cell estimates, as a share of the scores' variance."""
    return float(np.mean((score - guess) ** 2) / max(float(np.var(score)), 1e-12))


def _told(cells: Mapping[str, Cell], micro_segments: NDArray[Any]) -> NDArray[np.float64]:
    """What the cells expect of each row."""
    effect = {name: nearest(cells, name).effect for name in set(micro_segments)}
    return np.array([effect[name] for name in micro_segments], dtype=np.float64)


def _cross_fitted_loss(scores: Scores, micro_segments: NDArray[Any], spec: ActionsSpec) -> float:
    """Loss of cells that were estimated from the other folds."""
    guess = np.full(len(scores.score), scores.overall()[0])
    for k in np.unique(scores.fold):
        rest, here = scores.kept & (scores.fold != k), scores.fold == k
        if rest.any():
            guess[here] = _told(cells_of(replace(scores, kept=rest), micro_segments, spec), micro_segments[here])
    return _loss(guess[scores.kept], scores.score[scores.kept])


def _decide(
    model: ActionResponseModel,
    incumbent: ActionResponseModel | None,
    scores: Mapping[str, Scores],
    micro_segments: Mapping[str, NDArray[Any]],
    rows: pd.DataFrame,
    spec: ActionsSpec,
) -> tuple[Decision, str, float, float | None]:
    """Decision, reason, and both losses."""
    actions = sorted(scores)
    challenger = float(np.mean([_cross_fitted_loss(scores[a], micro_segments[a], spec) for a in actions]))
    if incumbent is None:
        exposures = f"{model.exposures:,} treated exposures up to {model.newest}"
        return "challenger", f"first fit, from {exposures}: {METRIC} {challenger:.4g}", challenger, None
    shared = [a for a in actions if a in incumbent.cells and scores[a].kept.any()]
    older = None
    if shared:
        kept = {a: scores[a].kept for a in shared}
        told = {a: _told(incumbent.cells[a], micro_segments[a][kept[a]]) for a in shared}
        losses = [_loss(told[a], scores[a].score[kept[a]]) for a in shared]
        older = float(np.mean(losses))
    fresh = int(((rows["action"] != CONTROL) & (rows["exposed_on"] > incumbent.newest)).sum())
    if fresh:
        reason = f"{fresh:,} exposures matured since the incumbent, the newest of {model.newest}: all evidence counts"
        return "challenger", reason, challenger, older
    strange = max((np.mean([s not in incumbent.cells[a] for s in micro_segments[a]]) for a in shared), default=1.0)
    if len(shared) < len(actions) or strange > _STRANGE:
        reason = f"the incumbent does not know the micro-segments of {strange:.0%} of the exposures"
        return "challenger", reason, challenger, older
    assert older is not None
    decision, reason = decide(METRIC, challenger, older, margin=spec.margin)
    return decision, f"no exposure matured since the incumbent; {reason}", challenger, older


_STRANGE = 0.01  # share of exposures in unknown micro-segments from which an incumbent is out of date

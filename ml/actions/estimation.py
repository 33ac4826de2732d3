"""From matured exposures to scores: features, arms, audit, and the learner applied to each action.

Belongs here: everything between the designs (`ml.actions.designs`) and the scores. Does not belong here: the learner
itself (`ml.actions.learners`) and how scores are used (`ml.actions.training`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.actions.audit import audit_findings, balance, sample_ratio
from ml.actions.chances import known_chance
from ml.actions.designs import is_compared
from ml.actions.learners import (
    NuisanceModels,
    NuisancePredictions,
    NuisanceTask,
    Scores,
    doubly_robust,
    encode,
    folds_of,
)
from ml.actions.reasons import Finding
from ml.actions.spec import CONTROL, ActionPolicy
from ml.engine import quoted
from ml.features import CustomerHistory, features_table
from ml.restate import Models, earlier_features, restate

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_OUTCOME_COLUMNS = (
    "customer_id", "exposed_on", "campaign_id", "action", "design", "propensity", "propensities", "outcome",
    "placebo_outcome", "exposures_before", "exposures_after", "sampled_share",
)  # fmt: skip
_PAIRS = """
SELECT DISTINCT customer_id, CAST(exposed_on - CAST($lag AS INTEGER) AS DATE) AS day FROM outcomes
ORDER BY day, customer_id
"""
_JOIN = """
JOIN {table} ON {table}.customer_id = outcomes.customer_id
    AND DATE_DIFF('day', {table}.day, outcomes.exposed_on) = $lag
"""
MAX_LATER_DIFFERENCE = 0.1  # between the arms, in later exposures per exposure: their share of an effect
_LATER_Z = 2.576  # two-sided 99 %


@dataclass(frozen=True)
class Estimate:
    """The scores of one action, with what was found about its arms.

    Parameters
    ----------
    scores : Scores
        Of the exposures that are compared.
    positions : ndarray of shape (n_scores,)
        Their positions among the rows.
    findings : tuple of Finding
        Objections and caveats.
    is_chance_known : bool
        Whether the propensity is known by design, and the audit confirms the design.
    """

    scores: Scores
    positions: NDArray[np.int64]
    findings: tuple[Finding, ...]
    is_chance_known: bool


def with_features(facts: CustomerHistory, outcomes: pa.Table, lag: int, models: Models | None) -> pd.DataFrame:
    """Join outcomes with the snapshot of `lag` days before the exposure, and the day of the exposure as a feature.

    With `models`, also join the micro-segment of that day under them.
    """
    pairs = facts.engine.query(_PAIRS, {"lag": lag}, outcomes=outcomes)
    features = facts.snapshot(pairs)
    feature_names = [name for name in features_table(facts.spec).names if name != "customer_id"]
    columns = [f"outcomes.{name} AS {name}" for name in _OUTCOME_COLUMNS]
    columns += [f"features.{quoted(name)} AS {quoted(name)}" for name in feature_names]
    joins, inputs = _JOIN.format(table="features"), {"outcomes": outcomes, "features": features}
    if models is not None:
        columns.append("restated.micro_segment AS micro_segment")
        joins += _JOIN.format(table="restated")
        restated = restate(facts.engine, features, models, earlier_features(facts, models))
        inputs["restated"] = restated.select(["customer_id", "day", "micro_segment"])
    rows: pd.DataFrame = facts.engine.query(
        f"SELECT {', '.join(columns)} FROM outcomes {joins} "
        "ORDER BY outcomes.exposed_on, outcomes.campaign_id, outcomes.customer_id",
        {"lag": lag},
        **inputs,
    ).to_pandas()
    rows["exposure_day"] = [float(day.toordinal()) for day in rows["exposed_on"]]
    return rows


def estimate(
    rows: pd.DataFrame, chosen: Mapping[str, str], target: str, facts: CustomerHistory, spec: ActionPolicy
) -> dict[str, Estimate]:
    """Score every action on one outcome, and check its arms.

    Parameters
    ----------
    rows : pd.DataFrame of shape (n_rows, n_columns)
        From `with_features`.
    chosen : mapping of str to str
        The design that each action is judged by.
    target : str
        Column of the outcome.
    facts : CustomerHistory
        Names the features.
    spec : ActionPolicy
        Settings of the learner.

    Returns
    -------
    dict of str to Estimate
        By action; actions without enough rows in both arms are left out.
    """
    outcome = rows[target].to_numpy(dtype=np.float64)
    arms = _arms(rows, chosen, spec)
    if not arms:
        return {}
    names = [name for name in features_table(facts.spec).names if name != "customer_id"]
    features = encode(rows[[*names, "exposure_day"]])
    nuisance = NuisanceModels(features, folds_of(rows["customer_id"], spec, rows["action"]), spec)
    customer = np.unique(rows["customer_id"].to_numpy(dtype=str), return_inverse=True)[1].astype(np.int64)
    known = {
        action: _audited(rows, features, arms[action], customer, action, len(arms))
        for action in arms
        if chosen[action] == "randomised"
    }
    compared = is_compared(rows)
    tasks: dict[tuple[str, str], NuisanceTask] = {}
    for design in sorted({chosen[action] for action in arms}):
        of_design = (rows["design"] == design).to_numpy()
        unexposed = of_design & compared & (rows["action"] == CONTROL).to_numpy()
        tasks["without", design] = NuisanceTask(outcome, unexposed, of_design)
    for action, (treated, control) in arms.items():
        used = treated | control
        tasks["with", action] = NuisanceTask(outcome, treated & compared, used)
        if action not in known or not known[action].is_known:
            tasks["chance", action] = NuisanceTask(treated.astype(np.float64), used & compared, used, "binary")
            if not compared[used].all():
                tasks["any", action] = NuisanceTask(treated.astype(np.float64), used, used, "binary")
    predicted = dict(zip(tasks, nuisance.predict(list(tasks.values())), strict=True))
    result = {}
    for action, (treated, control) in arms.items():
        is_estimated = ("chance", action) in predicted
        chance = predicted["chance", action] if is_estimated else known[action].chance
        predictions = NuisancePredictions(
            predicted["with", action], predicted["without", chosen[action]], chance, is_estimated
        )
        scores, positions = doubly_robust(
            predictions, treated & compared, control & compared, outcome, customer, nuisance.fold, spec
        )
        findings = list(known[action].findings) if action in known else []
        findings += _sampled(rows, action, arms[action])
        findings += _later(
            rows, (treated, control), predicted.get(("any", action), chance), customer, is_estimated, spec
        )
        result[action] = Estimate(scores, positions, tuple(findings), not is_estimated)
    return result


def _arms(
    rows: pd.DataFrame, chosen: Mapping[str, str], spec: ActionPolicy
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Which rows got each action, and which are its controls; without the actions that have too few of either."""
    arm, design = rows["action"].to_numpy(), rows["design"].to_numpy()
    arms = {}
    for action, kind in sorted(chosen.items(), key=lambda pair: (pair[1], pair[0])):
        treated = (arm == action) & (design == kind)
        campaigns = rows["campaign_id"].isin(rows.loc[treated, "campaign_id"].unique()).to_numpy()
        control = (arm == CONTROL) & (design == kind) & campaigns
        # A campaign without controls has nothing to compare with; controls of other campaigns would measure the season.
        treated &= rows["campaign_id"].isin(rows.loc[control, "campaign_id"].unique()).to_numpy()
        if min(treated.sum(), control.sum()) >= spec.min_fit:
            arms[action] = (treated, control)
    return arms


@dataclass(frozen=True)
class _AuditedChance:
    """The propensities that a design states, and the findings of its audit."""

    chance: NDArray[np.float64]
    findings: list[Finding]
    is_known: bool


def _audited(
    rows: pd.DataFrame,
    features: pd.DataFrame,
    arms: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    customer: NDArray[np.int64],
    action: str,
    actions: int,
) -> _AuditedChance:
    """Read the propensity of `action` against control in randomised campaigns, and audit the arms against it.

    Balance is tested on the first exposure of each customer in either arm: features before a later one may already be
    affected by the earlier.
    """
    import pandas as pd

    treated, control = arms
    chances = known_chance(rows, treated, control)
    used = np.flatnonzero(treated | control)
    chance, arm = chances.chance[used], treated[used]
    stratum = np.unique(rows["campaign_id"].to_numpy(dtype=str)[used], return_inverse=True)[1]
    weight = 1 / rows["sampled_share"].to_numpy(dtype=np.float64)[used]
    stated = np.where(chances.is_stated, chances.design, np.nan)[used]
    ratio = sample_ratio(arm, stated, stratum, customer[used], weight)
    days = rows["exposed_on"].to_numpy()[used] if "exposed_on" in rows else np.zeros(len(used))
    appearances = pd.DataFrame({"customer": customer[used], "day": days}).sort_values("day", kind="stable")
    first = (~appearances.duplicated("customer")).sort_index().to_numpy()
    balanced = balance(
        features.to_numpy(dtype=np.float64)[used][first],
        arm[first],
        chance[first],
        stratum[first],
        customer[used][first],
    )
    findings = audit_findings(ratio, balanced, list(features.columns), action, actions)
    if not chances.is_complete:
        findings.insert(0, Finding("chances_incomplete"))
    return _AuditedChance(chances.chance, findings, not any(finding.blocks for finding in findings))


def _sampled(rows: pd.DataFrame, action: str, arms: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> list[Finding]:
    """Report that more exposures matured than `max_rows`."""
    used = arms[0] | arms[1]
    weight = 1 / rows["sampled_share"].to_numpy(dtype=np.float64)[used]
    if not len(weight) or weight.max() <= 1:
        return []
    return [Finding("sampled", {"used": float(len(weight)), "matured": float(weight.sum())}, blocks=False)]


def _later(
    rows: pd.DataFrame,
    arms: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    chance: NDArray[np.float64],
    customer: NDArray[np.int64],
    is_estimated: bool,
    spec: ActionPolicy,
) -> list[Finding]:
    """Test whether later exposures within the window are as frequent in both arms, weighted by the propensity.

    In a randomised campaign their effect is part of the outcome, so their mean number must agree. In an observational
    one, customers with a later exposure are left out, so the share of these must agree: otherwise the selection differs
    between the arms.
    """
    treated, control = arms
    used = np.flatnonzero(treated | control)
    later, arm, e = rows["exposures_after"].to_numpy(dtype=np.float64)[used], treated[used], chance[used]
    if not later.any():
        return []
    if is_estimated:
        later = np.minimum(later, 1.0)
        inside = (e >= spec.overlap[0]) & (e <= spec.overlap[1])
        if not (inside & arm).any() or not (inside & ~arm).any():
            return [Finding("later_exposures_unclear", {})]
        used, later, arm, e = used[inside], later[inside], arm[inside], e[inside]
    e = np.clip(e, *spec.propensity_clip)
    weight = np.where(arm, 1 / e, 1 / (1 - e))
    mean = {side: float(np.average(later[arm == side], weights=weight[arm == side])) for side in (True, False)}
    total = np.where(arm, weight[arm].sum(), weight[~arm].sum())
    influence = np.where(arm, 1, -1) * weight * (later - np.where(arm, mean[True], mean[False])) / total
    error = float(np.sqrt(np.sum(np.bincount(customer[used], weights=influence) ** 2)))
    difference = mean[True] - mean[False]
    if abs(difference) <= MAX_LATER_DIFFERENCE or abs(difference) <= _LATER_Z * error:
        return []
    return [Finding("later_exposures_differ", {"treated": mean[True], "control": mean[False]})]


def placebo(
    facts: CustomerHistory, outcomes: pa.Table, chosen: Mapping[str, str], spec: ActionPolicy
) -> dict[str, tuple[float, float]]:
    """Estimate the effect on the window before the exposure, and its error, of actions that were not randomised."""
    observed = {action: design for action, design in chosen.items() if design == "observational"}
    eligible = outcomes.filter(
        pc.and_(pc.is_valid(outcomes["placebo_outcome"]), pc.equal(outcomes["design"], "observational"))
    )
    eligible = eligible.filter(pc.equal(eligible["exposures_after"], 0))
    if not observed or not eligible.num_rows:
        return {}
    rows = with_features(facts, eligible, 1 + spec.outcome_window_days, None)
    estimated = estimate(rows, observed, "placebo_outcome", facts, spec)
    return {action: one.scores.overall() for action, one in estimated.items() if one.scores.in_overlap.any()}

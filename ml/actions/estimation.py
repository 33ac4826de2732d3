"""From matured exposures to scores: which exposures are compared, with which features, in which pipelines.

Belongs here: everything between `exposure_outcomes` and the learner. Does not belong here: the learner itself
(`ml.actions.learners`) and what is made of the scores (`ml.actions.training`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.actions.audit import audited, balance, sample_ratio
from ml.actions.learners import Expected, Nuisance, Question, Scores, doubly_robust, encode, folds_of
from ml.actions.reasons import ChoiceCode, Finding
from ml.actions.spec import CONTROL, ActionPolicy
from ml.engine import Engine, quoted
from ml.features import CustomerHistory, features_table
from ml.reasons import Reason
from ml.restate import Models, restate
from ml.tables import arm_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

_KEPT = (
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
_OTHERS = """
SELECT outcomes.customer_id AS customer_id, outcomes.exposed_on AS exposed_on, outcomes.campaign_id AS campaign_id,
       SUM(CASE WHEN other.exposed_on < outcomes.exposed_on THEN 1 ELSE 0 END) AS exposures_before,
       SUM(CASE WHEN other.exposed_on >= outcomes.exposed_on THEN 1 ELSE 0 END) AS exposures_after
FROM outcomes LEFT JOIN outcomes AS other ON other.customer_id = outcomes.customer_id AND other.action <> 'control'
    AND ABS(DATE_DIFF('day', other.exposed_on, outcomes.exposed_on)) <= $window
    AND NOT (other.exposed_on = outcomes.exposed_on AND other.campaign_id = outcomes.campaign_id)
GROUP BY outcomes.customer_id, outcomes.exposed_on, outcomes.campaign_id
ORDER BY exposed_on, campaign_id, customer_id
"""
LATER_TOLERANCE = 0.1  # later exposures per exposure by which the arms may differ: so much of an effect may be theirs
_LATER_Z = 2.576  # two-sided 99 %: chance alone differs by more in one of a hundred
_SMOOTHING = 20.0  # exposures of the campaign's own share that stand behind a day's


@dataclass(frozen=True)
class Estimate:
    """What is estimated of one action.

    Parameters
    ----------
    scores : of the exposures that are compared
    places : their positions among the rows
    findings : what was found out about the arms
    is_chance_known : whether the design gave the chance, and the audit did not take that away
    """

    scores: Scores
    places: NDArray[np.int64]
    findings: tuple[Finding, ...]
    is_chance_known: bool


def candidates(engine: Engine, outcomes: pa.Table, spec: ActionPolicy) -> pa.Table:
    """The exposures that may be compared: the observational ones without another exposure in the window before.

    Outcomes without the newer columns (written by hand, or by an older version) get them from their own rows.
    """
    size = outcomes.num_rows
    if "exposures_before" not in outcomes.column_names or "exposures_after" not in outcomes.column_names:
        others = engine.query(_OTHERS, {"window": spec.outcome_window_days}, outcomes=outcomes)
        outcomes = outcomes.join(others, ["customer_id", "exposed_on", "campaign_id"])
    for name, column in (("propensities", pa.nulls(size, pa.string())), ("sampled_share", pa.array(np.ones(size)))):
        if name not in outcomes.column_names:
            outcomes = outcomes.append_column(name, column)
    quiet = pc.or_(pc.equal(outcomes["design"], "randomised"), pc.equal(outcomes["exposures_before"], 0))
    order = [(name, "ascending") for name in ("exposed_on", "campaign_id", "customer_id")]
    return outcomes.filter(quiet).sort_by(order)


def is_compared(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Which candidates are compared: the randomised ones, and those that no other action reached in the window after.

    The rule is the same for treated and control rows: were only controls to be left alone afterwards, the effect would
    absorb what later exposures do to the treated.
    """
    return np.asarray((rows["design"] == "randomised") | (rows["exposures_after"] == 0), dtype=bool)


def _counts(outcomes: pa.Table) -> dict[tuple[str, str], tuple[int, int]]:
    """Treated and control customers of each action and design, in campaigns that have both."""
    import pandas as pd

    wanted = ["customer_id", "campaign_id", "action", "design", "exposures_after"]
    frame = outcomes.select([name for name in wanted if name in outcomes.column_names]).to_pandas()
    if "exposures_after" in frame:
        frame = frame[is_compared(frame)]
    who = "customer_id" if "customer_id" in frame else None

    def people(rows: pd.DataFrame) -> int:
        return int(rows[who].nunique()) if who else len(rows)

    counts = {}
    for key, group in frame[frame["action"] != CONTROL].groupby(["action", "design"]):
        action, design = key
        peers = frame[(frame["action"] == CONTROL) & (frame["design"] == design)]
        counts[str(action), str(design)] = (
            people(group[group["campaign_id"].isin(pd.unique(peers["campaign_id"]))]),
            people(peers[peers["campaign_id"].isin(pd.unique(group["campaign_id"]))]),
        )
    return counts


def designs(outcomes: pa.Table, spec: ActionPolicy) -> dict[str, str]:
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


def unmeasured(outcomes: pa.Table, chosen: Mapping[str, str], spec: ActionPolicy) -> dict[str, Finding]:
    """Why each action that was delivered, but has no design, cannot be estimated."""
    rows = {str(one["values"]): one["counts"] for one in pc.value_counts(outcomes["action"]).to_pylist()}
    counts = _counts(outcomes)
    findings = {}
    for action in sorted(set(rows) - {CONTROL, *chosen}):
        treated, control = max((n for (a, _), n in counts.items() if a == action), default=(0, 0))
        designed = outcomes.filter(pc.equal(outcomes["action"], action))["design"].to_pylist()
        if not control and "randomised" in designed:
            findings[action] = Finding("no_controls", {"treated": float(rows[action])})
        else:
            figures = {"treated": float(treated), "control": float(control), "least": float(spec.min_fit)}
            findings[action] = Finding("too_few_exposures", figures)
    return findings


def too_little(outcomes: pa.Table, spec: ActionPolicy) -> Reason:
    """Why no action has a design."""
    if not outcomes.num_rows:
        return Reason(ChoiceCode.NO_EXPOSURES)
    findings = [finding.reason(action).stored() for action, finding in unmeasured(outcomes, {}, spec).items()]
    if not findings:
        return Reason(ChoiceCode.NOBODY_TREATED)
    return Reason(ChoiceCode.NOT_ENOUGH_EXPOSURES, {"findings": findings})


def with_features(facts: CustomerHistory, outcomes: pa.Table, lag: int, models: Models | None) -> pd.DataFrame:
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
        restated = restate(facts.engine, features, models, facts.snapshot)
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
    """Scores of every action on `target`, and what the arms themselves say about them.

    Parameters
    ----------
    rows : from `with_features`
    chosen : the design each action is judged by
    target : the column that holds the outcome
    """
    outcome = rows[target].to_numpy(dtype=np.float64)
    arms = _arms(rows, chosen, spec)
    if not arms:
        return {}
    names = [name for name in features_table(facts.spec).names if name != "customer_id"]
    features = encode(rows[[*names, "exposure_day"]])
    nuisance = Nuisance(features, folds_of(rows["customer_id"], spec, rows["action"]), spec)
    customer = np.unique(rows["customer_id"].to_numpy(dtype=str), return_inverse=True)[1].astype(np.int64)
    known = {
        action: _audited(rows, features, arms[action], customer, action, len(arms))
        for action in arms
        if chosen[action] == "randomised"
    }
    compared = is_compared(rows)
    questions: dict[tuple[str, str], Question] = {}
    for design in sorted({chosen[action] for action in arms}):
        of_design = (rows["design"] == design).to_numpy()
        alone = of_design & compared & (rows["action"] == CONTROL).to_numpy()
        questions["without", design] = Question(outcome, alone, of_design)
    for action, (treated, control) in arms.items():
        used = treated | control
        questions["with", action] = Question(outcome, treated & compared, used)
        if action not in known or not known[action].is_known:
            questions["chance", action] = Question(treated.astype(np.float64), used & compared, used, "binary")
            if not compared[used].all():
                questions["any", action] = Question(treated.astype(np.float64), used, used, "binary")
    told = dict(zip(questions, nuisance.answer(list(questions.values())), strict=True))
    result = {}
    for action, (treated, control) in arms.items():
        is_estimated = ("chance", action) in told
        chance = told["chance", action] if is_estimated else known[action].chance
        expected = Expected(told["with", action], told["without", chosen[action]], chance, is_estimated)
        scores, places = doubly_robust(
            expected, treated & compared, control & compared, outcome, customer, nuisance.fold, spec
        )
        findings = list(known[action].findings) if action in known else []
        findings += _sampled(rows, action, arms[action])
        findings += _later(rows, (treated, control), told.get(("any", action), chance), customer, is_estimated, spec)
        result[action] = Estimate(scores, places, tuple(findings), not is_estimated)
    return result


def _arms(
    rows: pd.DataFrame, chosen: Mapping[str, str], spec: ActionPolicy
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Which rows got each action, and which are its controls; without the actions that have too few of either."""
    arm, design = rows["action"].to_numpy(), rows["design"].to_numpy()
    found = {}
    for action, kind in sorted(chosen.items(), key=lambda pair: (pair[1], pair[0])):
        treated = (arm == action) & (design == kind)
        campaigns = rows["campaign_id"].isin(rows.loc[treated, "campaign_id"].unique()).to_numpy()
        control = (arm == CONTROL) & (design == kind) & campaigns
        # A campaign without controls has no contrast of its own; borrowed from others it would measure the season.
        treated &= rows["campaign_id"].isin(rows.loc[control, "campaign_id"].unique()).to_numpy()
        if min(treated.sum(), control.sum()) >= spec.min_fit:
            found[action] = (treated, control)
    return found


@dataclass(frozen=True)
class _Known:
    """The chances that a design states, and what its audit found."""

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
) -> _Known:
    """The chance of `action` against control in randomised campaigns, and whether the arms agree with it.

    Balance is judged by the first exposure of each customer in either arm: what is known before a later one is already
    an effect of the earlier.
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
    appearances = pd.DataFrame({"who": customer[used], "day": days}).sort_values("day", kind="stable")
    first = (~appearances.duplicated("who")).sort_index().to_numpy()
    balanced = balance(
        features.to_numpy(dtype=np.float64)[used][first],
        arm[first],
        chance[first],
        stratum[first],
        customer[used][first],
    )
    findings = audited(ratio, balanced, list(features.columns), action, actions)
    if not chances.is_complete:
        findings.insert(0, Finding("chances_incomplete"))
    return _Known(chances.chance, findings, not any(finding.blocks for finding in findings))


@dataclass(frozen=True)
class Chances:
    """The chance of an action against control, for each row of either arm; .5 elsewhere, where nobody reads it.

    Parameters
    ----------
    chance : among the rows that are here: where an arm was sampled, its odds count accordingly
    design : by the design alone
    is_stated : whether the chance was stated, and is not the share of the campaign
    is_complete : whether what was stated is enough; else shares stand in where it is not
    """

    chance: NDArray[np.float64]
    design: NDArray[np.float64]
    is_stated: NDArray[np.bool_]
    is_complete: bool


def known_chance(rows: pd.DataFrame, treated: NDArray[np.bool_], control: NDArray[np.bool_]) -> Chances:
    """The chance of the action, given that it was this or control, in randomised campaigns.

    Taken, row by row, from the first of these that is there: the stated chances of both arms (`propensities`); the
    chance of the row's own arm, beside that of the other arm where it is the same for all of its rows on that day, or
    in that campaign; in a campaign of two arms, what is left to 1. A mean over the rows of the other arm is not taken:
    in one stratum it would be the chance of another. Where nothing is stated, the shares of the day, steadied by
    those of the campaign, stand in.

    Parameters
    ----------
    rows : campaign_id, action, propensity; `propensities`, `exposed_on`, `sampled_share` where there are any
    treated, control : which rows got the action, which are its controls
    """
    import pandas as pd

    used = treated | control
    frame = rows.loc[used, [name for name in _OF_CHANCE if name in rows.columns]].copy()
    frame["treated"] = treated[used]
    if "exposed_on" not in frame:
        frame["exposed_on"] = 0
    own = pd.to_numeric(frame["propensity"], errors="coerce").astype("float64") if "propensity" in frame else np.nan
    frame["own"] = pd.Series(own, index=frame.index).where(lambda stated: (stated > 0) & (stated < 1))
    other = _constant_of_other_arm(frame, ["campaign_id", "exposed_on"])
    other = other.fillna(_constant_of_other_arm(frame, ["campaign_id"]))
    arms = rows.groupby("campaign_id")["action"].nunique()
    other = other.fillna((1 - frame["own"]).where(frame["campaign_id"].map(arms) <= 2))
    mine, theirs = np.where(frame["treated"], frame["own"], other), np.where(frame["treated"], other, frame["own"])
    design = pd.Series(mine / (mine + theirs), index=frame.index)
    if "propensities" in frame and frame["propensities"].notna().any():
        design = _of_every_arm(frame, str(rows.loc[treated, "action"].iloc[0])).fillna(design)
    lacking = design.isna() & frame["own"].notna()
    is_stated = design.notna()
    weight = 1 / (frame["sampled_share"] if "sampled_share" in frame else pd.Series(1.0, index=frame.index))
    design = design.fillna(_share(frame, weight))
    odds = design / (1 - design).clip(lower=1e-9)
    if (weight > 1).any():  # a sampled arm is that much rarer here
        kept = (1 / weight).groupby(frame["treated"]).mean()
        odds = odds * kept.get(True, 1.0) / kept.get(False, 1.0)
    chance, plain, stated = np.full(len(rows), 0.5), np.full(len(rows), 0.5), np.zeros(len(rows), dtype=bool)
    chance[used], plain[used], stated[used] = odds / (1 + odds), design, is_stated
    return Chances(chance, plain, stated, not lacking.any())


_OF_CHANCE = ("campaign_id", "action", "propensity", "propensities", "exposed_on", "sampled_share")


def _constant_of_other_arm(frame: pd.DataFrame, group: list[str]) -> pd.Series[float]:
    """For each row the stated chance of the other arm, where both arms of its group state one chance each."""
    stated = frame.groupby([*group, "treated"])["own"].agg(["min", "max", "count"])
    stated.loc[(stated["max"] - stated["min"]) > 1e-6, "min"] = np.nan
    wide = stated["min"].unstack("treated").reindex(columns=[False, True])
    wide[wide.isna().any(axis=1)] = np.nan
    both = frame[group].merge(wide.reset_index(), on=group, how="left").set_axis(frame.index)
    return both[False].where(frame["treated"], both[True]).astype("float64")


def _of_every_arm(frame: pd.DataFrame, action: str) -> pd.Series[float]:
    """The chance of `action` against control from texts such as ``{"coupon": 0.4, "control": 0.6}``."""
    chances = {text: _parsed(text, action) for text in frame["propensities"].dropna().unique()}
    return frame["propensities"].map(chances).astype("float64")


def _parsed(text: str, action: str) -> float:
    try:
        stated = {arm_of(str(arm), (action,)): float(chance) for arm, chance in json.loads(text).items()}
        one, other = stated[action], stated[CONTROL]
    except (ValueError, TypeError, AttributeError, KeyError):
        return float("nan")
    return one / (one + other) if one > 0 and other > 0 else float("nan")


def _share(frame: pd.DataFrame, weight: pd.Series[float]) -> pd.Series[float]:
    """The share of treated exposures on the row's day, as if some more of its campaign's share had been there."""
    treated = weight * frame["treated"]
    campaign, day = frame["campaign_id"], [frame["campaign_id"], frame["exposed_on"]]
    share = treated.groupby(campaign).transform("sum") / weight.groupby(campaign).transform("sum")
    here, size = treated.groupby(day).transform("sum"), weight.groupby(day).transform("sum")
    return (here + _SMOOTHING * share) / (size + _SMOOTHING)


def _sampled(rows: pd.DataFrame, action: str, arms: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> list[Finding]:
    """Whether there were more exposures than the fit may hold."""
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
    """Whether other exposures in the window after are as frequent in both arms, once the chance is allowed for.

    In a randomised campaign what they do is part of the outcome, so their mean number must agree. Elsewhere those who
    got any are not compared, so their share must agree: else the two arms are left with different customers.
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
    apart = mean[True] - mean[False]
    if abs(apart) <= LATER_TOLERANCE or abs(apart) <= _LATER_Z * error:
        return []
    return [Finding("later_exposures_differ", {"treated": mean[True], "control": mean[False]})]


def placebo(
    facts: CustomerHistory, outcomes: pa.Table, chosen: Mapping[str, str], spec: ActionPolicy
) -> dict[str, tuple[float, float]]:
    """The same pipeline for the window before the exposure, for the actions that were not randomised."""
    observed = {action: design for action, design in chosen.items() if design == "observational"}
    able = outcomes.filter(
        pc.and_(pc.is_valid(outcomes["placebo_outcome"]), pc.equal(outcomes["design"], "observational"))
    )
    able = able.filter(pc.equal(able["exposures_after"], 0))
    if not observed or not able.num_rows:
        return {}
    rows = with_features(facts, able, 1 + spec.outcome_window_days, None)
    estimated = estimate(rows, observed, "placebo_outcome", facts, spec)
    return {action: made.scores.overall() for action, made in estimated.items() if made.scores.kept.any()}

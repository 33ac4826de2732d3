"""From matured exposures to scores: which exposures are compared, with which features, in which pipelines.

Belongs here: everything between `exposure_outcomes` and the learner. Does not belong here: the learner itself
(`ml.actions.learners`) and what is made of the scores (`ml.actions.training`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.actions.learners import Expected, Nuisance, Question, Scores, doubly_robust, encode, folds_of
from ml.actions.spec import CONTROL, ActionsSpec
from ml.engine import Engine, quoted
from ml.features import Facts, features_table
from ml.restate import restate

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from ml.restate import Models

_KEPT = ("customer_id", "exposed_on", "campaign_id", "action", "design", "propensity", "outcome", "placebo_outcome")
_PAIRS = """
SELECT DISTINCT customer_id, CAST(exposed_on - CAST($lag AS INTEGER) AS DATE) AS day FROM outcomes
ORDER BY day, customer_id
"""
_JOIN = """
JOIN {table} ON {table}.customer_id = outcomes.customer_id
    AND DATE_DIFF('day', {table}.day, outcomes.exposed_on) = $lag
"""
_QUIET = """
SELECT * FROM outcomes
WHERE design = 'randomised' OR action = 'control' OR NOT EXISTS (
    SELECT 1 FROM outcomes AS earlier
    WHERE earlier.customer_id = outcomes.customer_id AND earlier.action <> 'control'
      AND earlier.exposed_on < outcomes.exposed_on
      AND DATE_DIFF('day', earlier.exposed_on, outcomes.exposed_on) <= $window)
ORDER BY exposed_on, campaign_id, customer_id
"""


def quiet_before(engine: Engine, outcomes: pa.Table, spec: ActionsSpec) -> pa.Table:
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
            int(group["campaign_id"].isin(pd.unique(peers["campaign_id"])).sum()),
            int(peers["campaign_id"].isin(pd.unique(group["campaign_id"])).sum()),
        )
    return counts


def designs(outcomes: pa.Table, spec: ActionsSpec) -> dict[str, str]:
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


def too_little(outcomes: pa.Table, spec: ActionsSpec) -> str:
    """Why no action has a design, in words."""
    if not outcomes.num_rows:
        return "no matured exposures"
    listed = "; ".join(f"{a} {n} treated, {m} control" for (a, _), (n, m) in sorted(_counts(outcomes).items()))
    return f"not enough matured exposures: each arm needs {spec.min_fit}; {listed or 'nobody was treated'}"


def with_features(facts: Facts, outcomes: pa.Table, lag: int, models: Models | None) -> pd.DataFrame:
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
    rows = facts.engine.query(
        f"SELECT {', '.join(columns)} FROM outcomes {joins} "
        "ORDER BY outcomes.exposed_on, outcomes.campaign_id, outcomes.customer_id",
        {"lag": lag},
        **inputs,
    ).to_pandas()
    rows["exposure_day"] = [float(day.toordinal()) for day in rows["exposed_on"]]
    return rows


def estimate(
    rows: pd.DataFrame, chosen: Mapping[str, str], target: str, facts: Facts, spec: ActionsSpec
) -> dict[str, tuple[Scores, NDArray[np.int64]]]:
    """Scores of every action on `target`, and the positions of their rows.

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
    nuisance = Nuisance(encode(rows[[*names, "exposure_day"]]), folds_of(rows["customer_id"], spec), spec)
    questions: dict[tuple[str, str], Question] = {}
    for design in sorted({chosen[action] for action in arms}):
        of_design = (rows["design"] == design).to_numpy()
        alone = of_design & (rows["action"] == CONTROL).to_numpy()
        questions["without", design] = Question(outcome, alone, of_design)
    for action, (treated, control) in arms.items():
        used = treated | control
        questions["with", action] = Question(outcome, treated, used)
        if chosen[action] != "randomised":
            questions["chance", action] = Question(treated.astype(np.float64), used, used, "binary")
    told = dict(zip(questions, nuisance.answer(list(questions.values())), strict=True))
    customer = np.unique(rows["customer_id"].to_numpy(dtype=str), return_inverse=True)[1].astype(np.int64)
    result = {}
    for action, (treated, control) in arms.items():
        is_estimated = ("chance", action) in told
        chance = told["chance", action] if is_estimated else _known_chance(rows, treated, control)
        expected = Expected(told["with", action], told["without", chosen[action]], chance, is_estimated)
        result[action] = doubly_robust(expected, treated, control, outcome, customer, nuisance.fold, spec)
    return result


def _arms(
    rows: pd.DataFrame, chosen: Mapping[str, str], spec: ActionsSpec
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
    # Rows outside of the question have no chance of either arm; their number is not read.
    return np.asarray((chance_1 / (chance_1 + chance_0)).fillna(0.5), dtype=np.float64)


def placebo(
    facts: Facts, outcomes: pa.Table, chosen: Mapping[str, str], spec: ActionsSpec
) -> dict[str, tuple[float, float]]:
    """The same pipeline for the window before the exposure, for the actions that were not randomised."""
    observed = {action: design for action, design in chosen.items() if design == "observational"}
    able = outcomes.filter(
        pc.and_(pc.is_valid(outcomes["placebo_outcome"]), pc.equal(outcomes["design"], "observational"))
    )
    if not observed or not able.num_rows:
        return {}
    rows = with_features(facts, able, 1 + spec.outcome_window_days, None)
    estimated = estimate(rows, observed, "placebo_outcome", facts, spec)
    return {action: scores.overall() for action, (scores, _) in estimated.items() if scores.kept.any()}

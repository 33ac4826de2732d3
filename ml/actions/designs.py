"""Which exposures may be compared, and by which design each action is judged.

Belongs here: the candidates among the matured exposures, the counts of their arms, and why an action has no design.
Does not belong here: what is estimated from them (see `ml.actions.estimation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.actions.reasons import ChoiceCode, Finding
from ml.actions.spec import CONTROL, ActionPolicy
from ml.engine import Engine
from ml.reasons import Reason

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

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


def candidates(engine: Engine, outcomes: pa.Table, spec: ActionPolicy) -> pa.Table:
    """Select the exposures that may be compared: randomised ones, and observational ones without a recent exposure.

    Columns that outcomes of older versions lack are computed from their own rows.

    Parameters
    ----------
    engine : Engine
        Counts other exposures where the columns are missing.
    outcomes : pa.Table
        Columns of `tables.EXPOSURE_OUTCOMES`.
    spec : ActionPolicy
        Length of the window in which an earlier exposure is recent.

    Returns
    -------
    pa.Table
        The selected rows, ordered by day, campaign and customer.
    """
    size = outcomes.num_rows
    if "exposures_before" not in outcomes.column_names or "exposures_after" not in outcomes.column_names:
        others = engine.query(_OTHERS, {"window": spec.outcome_window_days}, outcomes=outcomes)
        outcomes = outcomes.join(others, ["customer_id", "exposed_on", "campaign_id"])
    for name, column in (("propensities", pa.nulls(size, pa.string())), ("sampled_share", pa.array(np.ones(size)))):
        if name not in outcomes.column_names:
            outcomes = outcomes.append_column(name, column)
    without_recent_exposure = pc.or_(
        pc.equal(outcomes["design"], "randomised"), pc.equal(outcomes["exposures_before"], 0)
    )
    order = [(name, "ascending") for name in ("exposed_on", "campaign_id", "customer_id")]
    return outcomes.filter(without_recent_exposure).sort_by(order)


def is_compared(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Flag the candidates that are compared: randomised ones, and those without a later exposure within the window.

    The rule is the same for treated and control rows: if only controls had to be without later exposures, the effects
    of these would be attributed to the action.

    Parameters
    ----------
    rows : pd.DataFrame of shape (n_rows, n_columns)
        Columns design and exposures_after.

    Returns
    -------
    ndarray of shape (n_rows,)
        Whether each row is compared.
    """
    return np.asarray((rows["design"] == "randomised") | (rows["exposures_after"] == 0), dtype=bool)


def _counts(outcomes: pa.Table) -> dict[tuple[str, str], tuple[int, int]]:
    """Count treated and control customers of each action and design, in campaigns that have both."""
    import pandas as pd

    wanted = ["customer_id", "campaign_id", "action", "design", "exposures_after"]
    frame = outcomes.select([name for name in wanted if name in outcomes.column_names]).to_pandas()
    if "exposures_after" in frame:
        frame = frame[is_compared(frame)]
    has_ids = "customer_id" in frame

    def customers(rows: pd.DataFrame) -> int:
        return int(rows["customer_id"].nunique()) if has_ids else len(rows)

    counts = {}
    for key, group in frame[frame["action"] != CONTROL].groupby(["action", "design"]):
        action, design = key
        peers = frame[(frame["action"] == CONTROL) & (frame["design"] == design)]
        counts[str(action), str(design)] = (
            customers(group[group["campaign_id"].isin(pd.unique(peers["campaign_id"]))]),
            customers(peers[peers["campaign_id"].isin(pd.unique(group["campaign_id"]))]),
        )
    return counts


def designs(outcomes: pa.Table, spec: ActionPolicy) -> dict[str, str]:
    """Choose the design by which each action is judged.

    An action with enough randomised exposures is judged by these alone. Actions with too few exposures for any estimate
    are left out.

    Parameters
    ----------
    outcomes : pa.Table
        From `candidates`.
    spec : ActionPolicy
        The evidence floors.

    Returns
    -------
    dict of str to str
        By action: randomised or observational.
    """
    counts = _counts(outcomes)
    floors = {"randomised": (spec.min_treated, spec.min_control), "observational": (spec.min_fit, spec.min_fit)}
    chosen: dict[str, str] = {}
    for design, (treated, control) in floors.items():
        for (action, delivered_as), (n_1, n_0) in sorted(counts.items()):
            if delivered_as == design and n_1 >= treated and n_0 >= control:
                chosen.setdefault(action, design)
    for (action, delivered_as), (n_1, n_0) in sorted(counts.items()):
        if delivered_as == "randomised" and min(n_1, n_0) >= spec.min_fit:
            chosen.setdefault(action, delivered_as)
    return chosen


def unmeasured(outcomes: pa.Table, chosen: Mapping[str, str], spec: ActionPolicy) -> dict[str, Finding]:
    """Explain why each action that was delivered, but has no design, cannot be estimated."""
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
    """Explain why no action has a design."""
    if not outcomes.num_rows:
        return Reason(ChoiceCode.NO_EXPOSURES)
    findings = [finding.reason(action).stored() for action, finding in unmeasured(outcomes, {}, spec).items()]
    if not findings:
        return Reason(ChoiceCode.NOBODY_TREATED)
    return Reason(ChoiceCode.NOT_ENOUGH_EXPOSURES, {"findings": findings})

"""The table `action_effects`: the effect of every action on every micro-segment of a day, and whose evidence it is.

Belongs here: which cell speaks for a micro-segment, and the rows of the table. Does not belong here: the arithmetic of
cells (see `ml.actions.cells`) and what the plan makes of the effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from ml import tables
from ml.actions.cells import branch_of, parent_of
from ml.actions.learners import Z90
from ml.actions.reasons import Finding
from ml.actions.response import ActionResponseModel
from ml.actions.spec import ALL, ActionPolicy
from ml.engine import Engine, Input
from ml.segments import micro_segment_id

POWER80 = 0.8416212335729143  # added to Z90 for 80 % power
_MEMBERS = """
SELECT day, micro_segment, COUNT(*) AS customers FROM micro_segments
GROUP BY day, micro_segment ORDER BY day, micro_segment
"""


def effects(engine: Engine, micro_segments: Input, model: ActionResponseModel | None, spec: ActionPolicy) -> pa.Table:
    """The effect of every action on every micro-segment of each day, on each prefix, and on `all`.

    A micro-segment or prefix with fewer members than `spec.min_cell_customers`, or without exposures, takes the
    estimate of the longest prefix that has both. `evidence_level` says whose evidence an effect stands on: `own`,
    `parent`, or `unsupported`: observational without a passed placebo, arms that cannot be compared, or an action below
    the evidence floors; `reason_code` and `reason` say which. An unsupported effect is shown and never acted upon. An
    action that could not be estimated has one row, for `all`, without an effect. The minimum detectable effect is what
    the evidence would show at 5 % (one-sided) in four of five cases. `treated` and `control` count the cell's own
    exposures inside the overlap.

    Parameters
    ----------
    micro_segments : primary rows: day, micro_segment; one row per customer and day
    model : None gives an empty table

    Returns
    -------
    Columns of `tables.ACTION_EFFECTS` and `day`.
    """
    schema = tables.ACTION_EFFECTS.schema().append(pa.field("day", pa.date32()))
    if model is None:
        return schema.empty_table()
    days: dict[date, dict[str, int]] = {}
    for row in engine.query(_MEMBERS, micro_segments=micro_segments).to_pylist():
        members = days.setdefault(row["day"], {})
        for prefix in branch_of(row["micro_segment"]):
            members[prefix] = members.get(prefix, 0) + row["customers"]
    rows = [
        _effect(name, day, members, action, model, spec)
        for day, members in sorted(days.items())
        for name in sorted(members)
        for action in sorted(model.actions)
    ]
    rows += [
        _without_effect(day, action, finding) for day in sorted(days) for action, finding in model.unmeasured.items()
    ]
    rows.sort(key=lambda row: (row["day"], row["micro_segment"], row["action"]))
    return pa.Table.from_pylist(rows, schema=schema)


def _effect(
    name: str, day: date, members: Mapping[str, int], action: str, model: ActionResponseModel, spec: ActionPolicy
) -> dict[str, Any]:
    evidence, cells = model.actions[action], model.cells[action]
    source = name
    while source != ALL and (members[source] < spec.min_cell_customers or source not in cells):
        source = parent_of(source)
    cell, here = cells[source], cells.get(name)
    own = source == name and (name == ALL or (cell.meets(spec) and cell.own >= 0.5))
    ground = source
    while ground != ALL and not cells[ground].meets(spec):
        ground = parent_of(ground)
    half = Z90 * float(np.sqrt(cell.variance))
    finding = evidence.finding(cells[ALL], spec)
    return {
        "micro_segment_id": micro_segment_id(name),
        "micro_segment": name,
        "action": action,
        "effect": cell.effect,
        "ci_low": cell.effect - half,
        "ci_high": cell.effect + half,
        "treated": here.treated if here else 0,
        "control": here.control if here else 0,
        "evidence_level": ("own" if own else "parent") if evidence.supported(cells[ALL], spec) else "unsupported",
        "design": evidence.design,
        "placebo": evidence.placebo,
        "minimum_detectable_effect": (Z90 + POWER80) * cells[ground].error,
        **(finding.as_columns(action) if finding else {}),
        "day": day,
    }


def _without_effect(day: date, action: str, finding: Finding) -> dict[str, Any]:
    """The row of an action that was delivered and could not be estimated."""
    return {
        "micro_segment_id": micro_segment_id(ALL),
        "micro_segment": ALL,
        "action": action,
        "treated": int(finding.figures.get("treated", 0)),
        "control": int(finding.figures.get("control", 0)),
        "evidence_level": "unsupported",
        **finding.as_columns(action),
        "day": day,
    }

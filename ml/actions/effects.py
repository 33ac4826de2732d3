"""The table `action_effects`: the effect of every action on every micro-segment of a day, and whose evidence it is.

Belongs here: which cell a micro-segment takes its effect from, and the rows of the table. Does not belong here: the
arithmetic of cells (see `ml.actions.cells`) and how the plan uses the effects.
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
from ml.layers import micro_segment_id

POWER80 = 0.8416212335729143  # added to Z90 for 80 % power
_MEMBERS = """
SELECT day, micro_segment, COUNT(*) AS customers FROM micro_segments
GROUP BY day, micro_segment ORDER BY day, micro_segment
"""


def effects(engine: Engine, micro_segments: Input, model: ActionResponseModel | None, spec: ActionPolicy) -> pa.Table:
    """Look up the effect of every action on every micro-segment of each day, on each prefix, and on `all`.

    A micro-segment or prefix with fewer members than `spec.min_cell_customers`, or without exposures, takes the
    estimate of the longest prefix that has both. `evidence_level` is `own`, `parent`, or `unsupported`: observational
    without a passed placebo, arms that cannot be compared, or an action below the evidence floors; `reason_code` and
    `reason` give the cause. An unsupported effect is shown and never acted upon. An action that could not be estimated
    has one row, for `all`, without an effect. The minimum detectable effect is the one that the evidence would detect
    at the 5 % level (one-sided) with 80 % power. `treated` and `control` count the cell's own exposures inside the
    overlap.

    Parameters
    ----------
    engine : Engine
        Counts the members of each micro-segment.
    micro_segments : Input
        Primary rows of `micro_segments`: day, micro_segment; one row per customer and day.
    model : ActionResponseModel, optional
        The model in force; None gives an empty table.
    spec : ActionPolicy
        The evidence floors.

    Returns
    -------
    pa.Table
        Columns of `tables.ACTION_EFFECTS` and `day`.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import DuckDB
    >>> members = pa.table({"day": [date(2024, 1, 1)], "micro_segment": ["active/value.A"]})
    >>> effects(DuckDB(), members, None, ActionPolicy()).num_rows
    0
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
    cell, own_cell = cells[source], cells.get(name)
    is_own = source == name and (name == ALL or (cell.meets(spec) and cell.shrinkage_weight >= 0.5))
    ground = source
    while ground != ALL and not cells[ground].meets(spec):
        ground = parent_of(ground)
    half_width = Z90 * float(np.sqrt(cell.variance))
    finding = evidence.finding(cells[ALL], spec)
    return {
        "micro_segment_id": micro_segment_id(name),
        "micro_segment": name,
        "action": action,
        "effect": cell.effect,
        "ci_low": cell.effect - half_width,
        "ci_high": cell.effect + half_width,
        "treated": own_cell.treated if own_cell else 0,
        "control": own_cell.control if own_cell else 0,
        "evidence_level": ("own" if is_own else "parent") if evidence.supported(cells[ALL], spec) else "unsupported",
        "design": evidence.design,
        "placebo": evidence.placebo,
        "minimum_detectable_effect": (Z90 + POWER80) * cells[ground].standard_error,
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

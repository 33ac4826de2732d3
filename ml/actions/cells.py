"""Effects per micro-segment and prefix: averaged in the cell, shrunk up the tree, adding up to the overall effect.

Belongs here: the arithmetic of cells and the table `action_effects`. Does not belong here: scores (see
`ml.actions.learners`) and what the plan makes of the effects.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ml import tables
from ml.actions.learners import Z90, Scores
from ml.actions.reasons import Finding
from ml.actions.spec import ALL, ActionsSpec
from ml.engine import Engine, Input
from ml.segments import micro_segment_id, prefixes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml.actions.response import ActionResponseModel

POWER80 = 0.8416212335729143  # added to Z90 for 80 % power


@dataclass(frozen=True)
class Cell:
    """What one action did in one micro-segment or prefix.

    Parameters
    ----------
    micro_segment : the string, a prefix of it, or `all`
    rows, customers : exposures of both arms inside the overlap, and whose they are
    treated, control : exposures of each arm
    treated_responders, control_responders : customers of each arm with an exposure that revenue followed
    mean, error : mean score and its clustered standard error, from this cell alone
    effect, variance : after shrinkage and calibration
    own : share of the estimate that is the cell's own evidence, 0 to 1
    treated_customers, control_customers : whose the exposures of each arm are; missing in models of older versions
    """

    micro_segment: str
    rows: int
    customers: int
    treated: int
    control: int
    treated_responders: int
    control_responders: int
    mean: float
    error: float
    effect: float
    variance: float
    own: float
    treated_customers: int | None = None
    control_customers: int | None = None

    @property
    def people(self) -> tuple[int, int]:
        """Customers of each arm: evidence is counted in these, since a customer's exposures repeat each other."""
        treated = self.treated if self.treated_customers is None else self.treated_customers
        return treated, self.control if self.control_customers is None else self.control_customers

    def lacks(self, spec: ActionsSpec) -> Finding | None:
        """What is missing until the cell may be acted upon; None if nothing is."""
        treated, control = self.people
        if treated < spec.min_treated or control < spec.min_control or not np.isfinite(self.error):
            figures = (treated, control, spec.min_treated, spec.min_control)
            return Finding("too_few_customers", dict(zip(_FLOORS, map(float, figures), strict=True)))
        responders = (self.treated_responders, self.control_responders)
        floors = (spec.min_treated_responders, spec.min_control_responders)
        if responders[0] < floors[0] or responders[1] < floors[1]:
            return Finding("too_few_responders", dict(zip(_FLOORS, map(float, (*responders, *floors)), strict=True)))
        return None

    def meets(self, spec: ActionsSpec) -> bool:
        """Whether the cell has enough evidence to be acted upon."""
        return self.lacks(spec) is None


_FLOORS = ("treated", "control", "min_treated", "min_control")


def parent_of(micro_segment: str) -> str:
    """The next shorter prefix; `all` above a stage."""
    return micro_segment.rpartition("/")[0] or ALL


def _chain(micro_segment: str) -> list[str]:
    """`all`, the stage, … and the string itself."""
    return [ALL, *prefixes(micro_segment)]


def cells_of(scores: Scores, micro_segments: NDArray[Any], spec: ActionsSpec) -> dict[str, Cell]:
    """The cells of one action, from the root down.

    A cell that meets the evidence floors is shrunk toward its parent by empirical Bayes, with the variance between
    sibling cells by the method of moments (DerSimonian & Laird 1986), per depth; below the floors it takes the parent's
    estimate. Then siblings are shifted together so that, weighted by exposures, they add up to their parent: hence
    every level of the tree adds up to the overall effect.

    Parameters
    ----------
    scores : scores of the action
    micro_segments : the string of each row, under the choices in force
    """
    rows = np.flatnonzero(scores.kept)
    levels, code = np.unique(np.asarray(micro_segments, dtype=str)[rows], return_inverse=True)
    chains = [_chain(str(level)) for level in levels]
    root = _raw(ALL, scores, rows)
    cells = {ALL: _settled(root, root.mean, root.error**2, 1.0)}
    for depth in range(1, max((len(chain) for chain in chains), default=1)):
        names, place = np.unique([chain[depth] if len(chain) > depth else "" for chain in chains], return_inverse=True)
        of_row = place[code]
        order = np.argsort(of_row, kind="stable")
        members = np.split(rows[order], np.searchsorted(of_row[order], np.arange(1, len(names))))
        raw = [_raw(str(name), scores, here) for name, here in zip(names, members, strict=True) if name]
        between = _between_variance(raw, spec)
        _settle_children(raw, between, cells, spec)
    return cells


def _raw(name: str, scores: Scores, rows: NDArray[np.int64]) -> Cell:
    customer, arm = scores.customer[rows], scores.treated[rows]
    responded = scores.outcome[rows] > 0
    mean, error = scores.of(rows)

    def people(side: NDArray[np.bool_]) -> int:
        return len(np.unique(customer[side]))

    return Cell(
        name, len(arm), len(np.unique(customer)), int(arm.sum()), int((~arm).sum()),
        people(arm & responded), people(~arm & responded), mean, error, mean, error**2, 0.0, people(arm), people(~arm),
    )  # fmt: skip


def _settled(cell: Cell, effect: float, variance: float, own: float) -> Cell:
    return replace(cell, effect=float(effect), variance=float(variance), own=float(own))


def _between_variance(raw: Iterable[Cell], spec: ActionsSpec) -> float:
    """Variance of the true effects between siblings; 0 if the spread is what chance alone gives."""
    spread, freedom, scale = 0.0, 0, 0.0
    families: dict[str, list[Cell]] = {}
    for cell in raw:
        if cell.meets(spec) and cell.error > 0:
            families.setdefault(parent_of(cell.micro_segment), []).append(cell)
    for family in families.values():
        weight = np.array([1 / cell.error**2 for cell in family])
        mean = np.array([cell.mean for cell in family])
        centre = float(np.average(mean, weights=weight))
        spread += float(np.sum(weight * (mean - centre) ** 2))
        freedom += len(family) - 1
        scale += float(weight.sum() - np.sum(weight**2) / weight.sum())
    return max(0.0, (spread - freedom) / scale) if freedom and scale > 0 else 0.0


def _settle_children(raw: Iterable[Cell], between: float, cells: dict[str, Cell], spec: ActionsSpec) -> None:
    families: dict[str, list[Cell]] = {}
    for cell in raw:
        families.setdefault(parent_of(cell.micro_segment), []).append(cell)
    for name, family in families.items():
        parent = cells[name]
        settled = []
        for cell in family:
            own = between / (between + cell.error**2) if cell.meets(spec) and between > 0 else 0.0
            effect = parent.effect + own * (cell.mean - parent.effect)
            left = own * cell.error**2 if own else between
            settled.append(_settled(cell, effect, left + (1 - own) ** 2 * parent.variance, own))
        rows = sum(cell.rows for cell in settled)
        shift = parent.effect - sum(cell.rows * cell.effect for cell in settled) / rows
        for cell in settled:
            cells[cell.micro_segment] = _settled(cell, cell.effect + shift, cell.variance, cell.own)


def nearest(cells: Mapping[str, Cell], micro_segment: str) -> Cell:
    """The cell of the string, or of the longest prefix that has one."""
    while micro_segment not in cells and micro_segment != ALL:
        micro_segment = parent_of(micro_segment)
    return cells[micro_segment]


_MEMBERS = """
SELECT day, micro_segment, COUNT(*) AS customers FROM micro_segments
GROUP BY day, micro_segment ORDER BY day, micro_segment
"""


def effects(engine: Engine, micro_segments: Input, model: ActionResponseModel | None, spec: ActionsSpec) -> pa.Table:
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
        for prefix in _chain(row["micro_segment"]):
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
    name: str, day: date, members: Mapping[str, int], action: str, model: ActionResponseModel, spec: ActionsSpec
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
        "reason_code": finding.code if finding else None,
        "reason": finding.words(action) if finding else None,
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
        "reason_code": finding.code,
        "reason": finding.words(action),
        "day": day,
    }

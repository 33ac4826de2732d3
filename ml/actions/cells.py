"""Effects per micro-segment and prefix: averaged in the cell, shrunk up the tree, adding up to the overall effect.

Belongs here: the arithmetic of cells. Does not belong here: scores (see `ml.actions.learners`) and the table of effects
(see `ml.actions.effects`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.actions.learners import Scores
from ml.actions.reasons import Finding
from ml.actions.spec import ALL, ActionPolicy
from ml.segments import prefixes

if TYPE_CHECKING:
    from numpy.typing import NDArray


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

    def lacks(self, spec: ActionPolicy) -> Finding | None:
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

    def meets(self, spec: ActionPolicy) -> bool:
        """Whether the cell has enough evidence to be acted upon."""
        return self.lacks(spec) is None


_FLOORS = ("treated", "control", "min_treated", "min_control")


def parent_of(micro_segment: str) -> str:
    """The next shorter prefix; `all` above a stage."""
    return micro_segment.rpartition("/")[0] or ALL


def branch_of(micro_segment: str) -> list[str]:
    """`all`, the stage, … and the string itself."""
    return [ALL, *prefixes(micro_segment)]


def cells_of(scores: Scores, micro_segments: NDArray[Any], spec: ActionPolicy) -> dict[str, Cell]:
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
    chains = [branch_of(str(level)) for level in levels]
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


def _between_variance(raw: Iterable[Cell], spec: ActionPolicy) -> float:
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


def _settle_children(raw: Iterable[Cell], between: float, cells: dict[str, Cell], spec: ActionPolicy) -> None:
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

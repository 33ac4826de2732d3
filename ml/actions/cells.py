"""Effects per micro-segment and prefix: averaged in the cell, shrunk up the tree, adding up to the overall effect.

Belongs here: the arithmetic of cells. Does not belong here: scores (see `ml.actions.learners`) and the table of effects
(see `ml.actions.effects`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml.actions.learners import Scores, count_distinct
from ml.actions.reasons import Finding
from ml.actions.spec import ALL, ActionPolicy
from ml.layers import prefixes

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Cell:
    """The effect of one action in one micro-segment or prefix.

    Parameters
    ----------
    micro_segment : str
        The string, a prefix of it, or `all`.
    rows, customers : int
        Exposures of both arms inside the overlap, and their customers.
    treated, control : int
        Exposures of each arm.
    treated_responders, control_responders : int
        Customers of each arm with an exposure that was followed by revenue.
    mean, standard_error : float
        Mean score and its standard error clustered by customer, from this cell alone, in currency.
    effect, variance : float
        The estimate after shrinkage and calibration, and its variance.
    shrinkage_weight : float
        Weight of the cell's own mean in the estimate, 0 to 1; the rest is its parent's.
    treated_customers, control_customers : int, optional
        Customers of each arm; missing in models of older versions.
    """

    micro_segment: str
    rows: int
    customers: int
    treated: int
    control: int
    treated_responders: int
    control_responders: int
    mean: float
    standard_error: float
    effect: float
    variance: float
    shrinkage_weight: float
    treated_customers: int | None = None
    control_customers: int | None = None

    @property
    def customers_by_arm(self) -> tuple[int, int]:
        """Treated and control customers: evidence is counted in these, since a customer's exposures are correlated."""
        treated = self.treated if self.treated_customers is None else self.treated_customers
        return treated, self.control if self.control_customers is None else self.control_customers

    def lacks(self, spec: ActionPolicy) -> Finding | None:
        """The evidence that is missing before the cell may be acted upon; None if it has enough."""
        treated, control = self.customers_by_arm
        if treated < spec.min_treated or control < spec.min_control or not np.isfinite(self.standard_error):
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
    """Every prefix of a string from `all` to the string itself."""
    return [ALL, *prefixes(micro_segment)]


def cells_of(scores: Scores, micro_segments: NDArray[Any], spec: ActionPolicy) -> dict[str, Cell]:
    """Estimate the effect of one action in every micro-segment and prefix, from the root down.

    A cell that meets the evidence floors is shrunk toward its parent by empirical Bayes, with the variance between
    sibling cells by the method of moments [1]_, per depth; below the floors it takes the parent's estimate. Siblings
    are then shifted together so that, weighted by exposures, they average to their parent: every level of the tree
    adds up to the overall effect.

    Parameters
    ----------
    scores : Scores
        Scores of the action.
    micro_segments : ndarray of shape (n_rows,)
        The string of each row, under the choices in force.
    spec : ActionPolicy
        The evidence floors.

    Returns
    -------
    dict of str to Cell
        By string or prefix; `all` is the root.

    References
    ----------
    .. [1] DerSimonian, R. & Laird, N. (1986). Meta-analysis in clinical trials. Controlled Clinical Trials 7, 177-188.
    """
    rows = np.flatnonzero(scores.in_overlap)
    levels, code = np.unique(np.asarray(micro_segments, dtype=str)[rows], return_inverse=True)
    chains = [branch_of(str(level)) for level in levels]
    root = _raw(ALL, scores, rows)
    cells = {ALL: _estimated(root, root.mean, root.standard_error**2, 1.0)}
    for depth in range(1, max((len(chain) for chain in chains), default=1)):
        names, position = np.unique(
            [chain[depth] if len(chain) > depth else "" for chain in chains], return_inverse=True
        )
        of_row = position[code]
        order = np.argsort(of_row, kind="stable")
        members = np.split(rows[order], np.searchsorted(of_row[order], np.arange(1, len(names))))
        raw = [_raw(str(name), scores, inside) for name, inside in zip(names, members, strict=True) if name]
        between = _between_variance(raw, spec)
        _shrink_to_parents(raw, between, cells, spec)
    return cells


def _raw(name: str, scores: Scores, rows: NDArray[np.int64]) -> Cell:
    code = np.unique(scores.customer[rows], return_inverse=True)[1]
    arm, responded = scores.treated[rows], scores.outcome[rows] > 0
    mean, error = scores.of(rows)

    def customers(side: NDArray[np.bool_]) -> int:
        return count_distinct(code[side])

    return Cell(
        name, len(arm), count_distinct(code), int(arm.sum()), int((~arm).sum()),
        customers(arm & responded), customers(~arm & responded), mean, error, mean, error**2, 0.0,
        customers(arm), customers(~arm),
    )  # fmt: skip


def _estimated(cell: Cell, effect: float, variance: float, weight: float) -> Cell:
    return replace(cell, effect=float(effect), variance=float(variance), shrinkage_weight=float(weight))


def _between_variance(raw: Iterable[Cell], spec: ActionPolicy) -> float:
    """Variance of the true effects between siblings; 0 if the spread is no larger than sampling error."""
    spread, freedom, scale = 0.0, 0, 0.0
    families: dict[str, list[Cell]] = {}
    for cell in raw:
        if cell.meets(spec) and cell.standard_error > 0:
            families.setdefault(parent_of(cell.micro_segment), []).append(cell)
    for family in families.values():
        weight = np.array([1 / cell.standard_error**2 for cell in family])
        mean = np.array([cell.mean for cell in family])
        centre = float(np.average(mean, weights=weight))
        spread += float(np.sum(weight * (mean - centre) ** 2))
        freedom += len(family) - 1
        scale += float(weight.sum() - np.sum(weight**2) / weight.sum())
    return max(0.0, (spread - freedom) / scale) if freedom and scale > 0 else 0.0


def _shrink_to_parents(raw: Iterable[Cell], between: float, cells: dict[str, Cell], spec: ActionPolicy) -> None:
    families: dict[str, list[Cell]] = {}
    for cell in raw:
        families.setdefault(parent_of(cell.micro_segment), []).append(cell)
    for name, family in families.items():
        parent = cells[name]
        shrunk = []
        for cell in family:
            weight = between / (between + cell.standard_error**2) if cell.meets(spec) and between > 0 else 0.0
            effect = parent.effect + weight * (cell.mean - parent.effect)
            within = weight * cell.standard_error**2 if weight else between
            shrunk.append(_estimated(cell, effect, within + (1 - weight) ** 2 * parent.variance, weight))
        rows = sum(cell.rows for cell in shrunk)
        shift = parent.effect - sum(cell.rows * cell.effect for cell in shrunk) / rows
        for cell in shrunk:
            cells[cell.micro_segment] = _estimated(cell, cell.effect + shift, cell.variance, cell.shrinkage_weight)


def nearest(cells: Mapping[str, Cell], micro_segment: str) -> Cell:
    """The cell of the string, or of the longest prefix that has one."""
    while micro_segment not in cells and micro_segment != ALL:
        micro_segment = parent_of(micro_segment)
    return cells[micro_segment]

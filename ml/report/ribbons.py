"""Geometry of pictures in which customers flow from one column of groups to the next.

Belongs here: the positions of groups, and the ribbons between two columns, in pixels. A group has the same height in
every column; the width of a ribbon is proportional to its customers. Does not belong here: which groups and customers
(see `flow` for stages, `lineage` for clusters), colours and captions (see ``page.html``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ml.report.data import Row

_GAP, _TOP = 12.0, 30.0  # pixels between groups, and above the first
STAYS = "s"  # the style of a ribbon of customers who did not move; drawn below the others


@dataclass(frozen=True)
class Flow:
    """Customers who move from one group to another; `kind` is the ribbon's style."""

    start: str
    end: str
    kind: str
    count: float
    label: str


@dataclass(frozen=True)
class Slots:
    """The position of each group, the same in all columns."""

    unit: float  # pixels per customer
    tops: dict[str, float]
    rooms: dict[str, float]
    height: float

    @property
    def names(self) -> list[str]:
        return list(self.tops)

    def bar(self, count: float) -> float:
        """Height of a number of customers, in pixels: never too small to be seen."""
        return max(1.5, self.unit * count)


def slots(names: Iterable[str], columns: Sequence[Mapping[str, float]], unit: float, min_height: float) -> Slots:
    """One slot per group, high enough for the column in which it has most customers.

    Parameters
    ----------
    names : iterable of str
        The groups in order.
    columns : sequence of mapping of str to float
        Customers per group.
    unit : float
        Pixels per customer.
    min_height : float
        Minimum height of a group, in pixels.
    """
    tops, rooms, top = {}, {}, _TOP
    for name in names:
        tops[name] = top
        rooms[name] = max(min_height, unit * max(column.get(name, 0) for column in columns))
        top += rooms[name] + _GAP
    return Slots(unit, tops, rooms, top)


def ribbons(flows: Sequence[Flow], slots: Slots, x0: float, x1: float) -> list[Row]:
    """Ribbons stacked inside the bars at both ends; customers who stay are drawn first, below the others."""
    order = slots.names.index
    starts = _stacked(sorted(flows, key=lambda f: (order(f.start), order(f.end), f.kind)), slots, "start")
    ends = _stacked(sorted(flows, key=lambda f: (order(f.end), order(f.start), f.kind)), slots, "end")
    drawn = sorted(flows, key=lambda f: (f.kind != STAYS, starts[f], ends[f]))
    return [
        {"kind": f.kind, "label": f.label, "path": _path(x0, starts[f], x1, ends[f], max(1.2, slots.unit * f.count))}
        for f in drawn
    ]


def end(name: str, count: float, figures: str, slots: Slots, key: str | None = None) -> Row:
    """A group in an outer column: its bar, and two lines of text beside it.

    `key` is the group's slot, if that differs from its name.
    """
    top = slots.tops[name if key is None else key]
    return {
        "name": name,
        "y": px(top),
        "height": px(slots.bar(count)),
        "text": px(top + 13),
        "below": px(top + 29),
        "figures": figures,
    }


def px(value: float) -> str:
    """A length in pixels for SVG, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def _stacked(flows: Iterable[Flow], slots: Slots, side: str) -> dict[Flow, float]:
    """The upper edge of each flow at its start or end, stacked from the top of the group's bar."""
    tops, edges = dict(slots.tops), {}
    for flow in flows:
        name = getattr(flow, side)
        edges[flow] = tops[name]
        tops[name] += slots.unit * flow.count
    return edges


def _path(x0: float, y0: float, x1: float, y1: float, thick: float) -> str:
    """A closed SVG path from left to right and back."""
    middle = (x0 + x1) / 2
    forward = f"M{px(x0)} {px(y0)}C{px(middle)} {px(y0)} {px(middle)} {px(y1)} {px(x1)} {px(y1)}v{px(thick)}"
    y0, y1 = y0 + thick, y1 + thick
    return forward + f"C{px(middle)} {px(y1)} {px(middle)} {px(y0)} {px(x0)} {px(y0)}z"

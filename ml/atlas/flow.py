"""The picture of flows between stages: a week ago, today and at the forecast's horizon.

Belongs here: geometry. Customers are as high as they are many, on one scale for the whole picture; a ribbon is as wide
as the customers who take it. Does not belong here: colours and captions (see ``atlas.html``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ml.atlas.facts import Facts, Row, place, summed
from ml.atlas.movements import Week
from ml.atlas.words import brief, number, plural

# Pixels: all customers together, the least room of a stage, between stages, above the first.
_BARS, _SLOT, _GAP, _TOP = 300.0, 44.0, 12.0, 30.0
_LEFT, _MIDDLE, _RIGHT = (150.0, 158.0), (410.0, 590.0), (842.0, 850.0)
_LEAST = 0.5  # expected customers that are drawn: those that do not round to nobody
_ENTRY = ""  # the slot of those who were not known a week ago


@dataclass(frozen=True)
class _Flow:
    """Customers who go from one stage to another; `kind` is the ribbon's look."""

    start: str
    end: str
    kind: str
    count: float
    said: str


@dataclass(frozen=True)
class _Slots:
    """Where each stage stands: the same height in all three columns."""

    unit: float  # pixels per customer
    tops: dict[str, float]
    rooms: dict[str, float]
    height: float

    @property
    def names(self) -> list[str]:
        return list(self.tops)


def flow(facts: Facts, week: Week) -> Row | None:
    """The picture's parts in pixels; None where nothing is known but today."""
    past = _past(week) if week.is_known else []
    ahead = _ahead(facts)
    if not facts.customers or not (past or ahead):
        return None
    before = summed((one.start, one.count) for one in past)
    expected = summed((later, count) for (_, later), count in facts.flows.items())
    after = {name: count for name, count in expected.items() if count >= _LEAST}
    slots = _slots(facts.sizes, before, after)
    ribbons = _ribbons(past, slots, _LEFT[1], _MIDDLE[0]) + _ribbons(ahead, slots, _MIDDLE[1], _RIGHT[0])
    left, right = (0.0 if past else _MIDDLE[0] - 6), (1000.0 if ahead else _MIDDLE[1] + 6)
    return {
        "viewbox": f"{left:.0f} 0 {right - left:.0f} {slots.height:.0f}",
        "width": f"{right - left:.0f}",
        "boxes": [_box(facts, name, slots) for name in slots.names if name in facts.sizes],
        "ribbons": ribbons,
        "has_model": any(ribbon["kind"] == "m" for ribbon in ribbons),
        "left": [_end(name, before[name], number(before[name]), slots) for name in slots.names if name in before],
        "right": [
            _end(name, after[name], f"{number(after[name])} ({_change(facts, name, after[name])})", slots)
            for name in slots.names
            if name in after
        ],
    }


def _past(week: Week) -> list[_Flow]:
    found = []
    for (before, after), causes in week.stages.items():
        by_model = causes["model"] + causes["both"]
        for kind, count, addition in (("g", causes.total() - by_model, ""), ("m", by_model, ", by new models")):
            if count:
                said = f"{before or 'newly known'} to {after}: {plural(count, 'customer')}{addition}"
                found.append(_Flow(before or _ENTRY, after, "s" if before == after else kind, count, said))
    return found


def _ahead(facts: Facts) -> list[_Flow]:
    return [
        _Flow(now, later, "s" if now == later else "f2", count, f"{now} to {later}: {number(count)} expected")
        for (now, later), count in facts.flows.items()
        if count >= _LEAST
    ]


def _slots(today: Mapping[str, float], before: Mapping[str, float], after: Mapping[str, float]) -> _Slots:
    """One slot per stage, high enough for the column in which it has most customers; entries come last."""
    names = sorted({*today, *before, *after}, key=lambda name: (name == _ENTRY, place(name)))
    unit = _BARS / max(sum(today.values()), sum(before.values()), 1)
    tops, rooms, top = {}, {}, _TOP
    for name in names:
        tops[name] = top
        rooms[name] = max(_SLOT, unit * max(column.get(name, 0) for column in (today, before, after)))
        top += rooms[name] + _GAP
    return _Slots(unit, tops, rooms, top)


def _box(facts: Facts, name: str, slots: _Slots) -> Row:
    """A stage today."""
    middle = slots.tops[name] + slots.rooms[name] / 2
    return {
        "name": name,
        "y": _px(slots.tops[name]),
        "height": _px(slots.rooms[name]),
        "strip": _px(max(1.5, slots.unit * facts.sizes[name])),
        "text": _px(middle - 4),
        "below": _px(middle + 13),
        "figures": f"{number(facts.sizes[name])} · LTV {brief(facts.stage_profiles.get(name, {}).get('ltv'))}",
    }


def _end(name: str, count: float, figures: str, slots: _Slots) -> Row:
    """A stage in an outer column."""
    top = slots.tops[name]
    return {
        "name": name or "newly known",
        "y": _px(top),
        "height": _px(max(1.5, slots.unit * count)),
        "text": _px(top + 13),
        "below": _px(top + 29),
        "figures": figures,
    }


def _change(facts: Facts, name: str, later: float) -> str:
    return number(later - facts.sizes.get(name, 0), sign=True)


def _ribbons(flows: Sequence[_Flow], slots: _Slots, x0: float, x1: float) -> list[Row]:
    """Ribbons stacked inside the bars at both ends; those who stay are drawn first, below the others."""
    order = slots.names.index
    starts = _stacked(sorted(flows, key=lambda f: (order(f.start), order(f.end), f.kind)), slots, "start")
    ends = _stacked(sorted(flows, key=lambda f: (order(f.end), order(f.start), f.kind)), slots, "end")
    drawn = sorted(flows, key=lambda f: (f.kind != "s", starts[f], ends[f]))
    return [
        {"kind": f.kind, "said": f.said, "path": _path(x0, starts[f], x1, ends[f], max(1.2, slots.unit * f.count))}
        for f in drawn
    ]


def _stacked(flows: Iterable[_Flow], slots: _Slots, at: str) -> dict[_Flow, float]:
    """The upper edge of each flow at its start or end, one below the other from the top of the stage's bar."""
    tops, found = dict(slots.tops), {}
    for one in flows:
        name = getattr(one, at)
        found[one] = tops[name]
        tops[name] += slots.unit * one.count
    return found


def _path(x0: float, y0: float, x1: float, y1: float, thick: float) -> str:
    """A closed SVG path from left to right and back."""
    middle = (x0 + x1) / 2
    there = f"M{_px(x0)} {_px(y0)}C{_px(middle)} {_px(y0)} {_px(middle)} {_px(y1)} {_px(x1)} {_px(y1)}v{_px(thick)}"
    y0, y1 = y0 + thick, y1 + thick
    return there + f"C{_px(middle)} {_px(y1)} {_px(middle)} {_px(y0)} {_px(x0)} {_px(y0)}z"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")

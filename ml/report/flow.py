"""The picture of flows between stages: a week ago, today and at the forecast's horizon.

Belongs here: which customers flow, and where the columns stand; all customers together are on one scale. Does not
belong here: how a ribbon is drawn (see `ribbons`), colours and captions (see ``page.html``).
"""

from __future__ import annotations

from collections.abc import Mapping

from ml.report.data import AtlasData, Row, stage_order, summed
from ml.report.movements import Week
from ml.report.ribbons import STAYS, Flow, Slots, end, px, ribbons, slots
from ml.report.words import brief, number, plural

_BARS, _SLOT = 300.0, 44.0  # pixels: all customers together, the least room of a stage
_LEFT, _MIDDLE, _RIGHT = (150.0, 158.0), (410.0, 590.0), (842.0, 850.0)
_MIN_DRAWN = 0.5  # expected customers below which a flow is not drawn
_ENTRY = ""  # the slot of those who were not known a week ago


def flow(data: AtlasData, week: Week) -> Row | None:
    """The picture's parts in pixels; None if neither past nor forecast is known."""
    past = _past(week) if week.is_known else []
    expected = _expected(data)
    if not data.customers or not (past or expected):
        return None
    before = summed((one.start, one.count) for one in past)
    totals = summed((later, count) for (_, later), count in data.flows.items())
    after = {name: count for name, count in totals.items() if count >= _MIN_DRAWN}
    columns = _slots(data.sizes, before, after)
    drawn = ribbons(past, columns, _LEFT[1], _MIDDLE[0]) + ribbons(expected, columns, _MIDDLE[1], _RIGHT[0])
    left, right = (0.0 if past else _MIDDLE[0] - 6), (1000.0 if expected else _MIDDLE[1] + 6)
    return {
        "viewbox": f"{left:.0f} 0 {right - left:.0f} {columns.height:.0f}",
        "width": f"{right - left:.0f}",
        "boxes": [_box(data, name, columns) for name in columns.names if name in data.sizes],
        "ribbons": drawn,
        "has_model": any(ribbon["kind"] == "m" for ribbon in drawn),
        "left": [
            end(name or "newly known", before[name], number(before[name]), columns, name)
            for name in columns.names
            if name in before
        ],
        "right": [
            end(name, after[name], f"{number(after[name])} ({_change(data, name, after[name])})", columns)
            for name in columns.names
            if name in after
        ],
    }


def _past(week: Week) -> list[Flow]:
    flows = []
    for (before, after), causes in week.stages.items():
        by_model = causes["model"] + causes["both"]
        for kind, count, addition in (("g", causes.total() - by_model, ""), ("m", by_model, ", by new models")):
            if count:
                label = f"{before or 'newly known'} to {after}: {plural(count, 'customer')}{addition}"
                flows.append(Flow(before or _ENTRY, after, STAYS if before == after else kind, count, label))
    return flows


def _expected(data: AtlasData) -> list[Flow]:
    return [
        Flow(now, later, STAYS if now == later else "f2", count, f"{now} to {later}: {number(count)} expected")
        for (now, later), count in data.flows.items()
        if count >= _MIN_DRAWN
    ]


def _slots(today: Mapping[str, float], before: Mapping[str, float], after: Mapping[str, float]) -> Slots:
    """One slot per stage; entries come last."""
    names = sorted({*today, *before, *after}, key=lambda name: (name == _ENTRY, stage_order(name)))
    unit = _BARS / max(sum(today.values()), sum(before.values()), 1)
    return slots(names, (today, before, after), unit, _SLOT)


def _box(data: AtlasData, name: str, columns: Slots) -> Row:
    """A stage today."""
    middle = columns.tops[name] + columns.rooms[name] / 2
    return {
        "name": name,
        "y": px(columns.tops[name]),
        "height": px(columns.rooms[name]),
        "strip": px(columns.bar(data.sizes[name])),
        "text": px(middle - 4),
        "below": px(middle + 13),
        "figures": f"{number(data.sizes[name])} · LTV {brief(data.stage_profiles.get(name, {}).get('ltv'))}",
    }


def _change(data: AtlasData, name: str, later: float) -> str:
    return number(later - data.sizes.get(name, 0), sign=True)

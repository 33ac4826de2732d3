"""Effects of actions, each with its interval, its design and whose evidence it rests on.

Belongs here: wording and drawing effects. Does not belong here: which effect may be acted upon (see `action_effects`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ml.report.data import AtlasData, Row, stage_order
from ml.report.words import is_known, number

_ALL = "all"  # the root of every string in `action_effects`
_MAX_DRAWN = 90  # intervals drawn for micro-segments, to keep the page small
_WHISKER = 120.0  # pixels
_MAY, _MAY_NOT = "May be acted upon.", "Unsupported: shown for information, never acted upon."
_LEVELS = {"own": "own evidence", "parent": "parent’s"}
_PLACEBO = {
    "passed": "placebo passed: no effect on the time before the action",
    "failed": "placebo failed: an “effect” before the action shows that the comparison is biased",
    "cannot tell": "placebo inconclusive: too little data before the action to rule out bias",
    "not needed": "no placebo needed: the action was assigned at random",
}


@dataclass(frozen=True)
class Scale:
    """One scale for every effect on the page, so that they can be compared by eye."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Pixels from the left, limited to the width of the scale."""
        return min(max(_WHISKER * (value - self.low) / (self.high - self.low), 0.0), _WHISKER)

    def whisker(self, row: Row) -> str:
        """The SVG path of interval and mean."""
        if not _is_measured(row):
            return ""
        low, mean, high = (self.x(row[name]) for name in ("ci_low", "effect", "ci_high"))
        return f"M{low:.0f} 5H{high:.0f}M{mean:.0f} 1v8"


def scale_of(data: AtlasData) -> Scale:
    """A scale for the overall effects and those with their own evidence; wider intervals are cut off."""
    known = [row for row in data.effects if _is_measured(row)]
    shown = [row for row in known if row["micro_segment"] == _ALL or row["evidence_level"] == "own"] or known
    low = min([row["ci_low"] for row in shown] + [0.0])
    high = max([row["ci_high"] for row in shown] + [0.0])
    room = (high - low) * 0.05 or 1.0
    return Scale(low - room, high + room)


def actions(data: AtlasData, scale: Scale) -> list[Row]:
    """Per action: its overall effect with its evidence, then its effects by stage."""
    cards = []
    for action in sorted({row["action"] for row in data.effects}):
        rows = {row["micro_segment"]: row for row in data.effects if row["action"] == action}
        stages = sorted((text for text in rows if text != _ALL and "/" not in text), key=stage_order)
        head = rows[_ALL]
        supported = any(_is_supported(row) for row in rows.values())
        cards.append(
            {
                "action": action,
                "design": head["design"] or "not measured",
                "is_randomised": head["design"] == "randomised",
                "placebo": _PLACEBO.get(head["placebo"], "no placebo was run"),
                "supported": supported,
                "verdict": _MAY if supported else _MAY_NOT,
                "basis": _basis(data, head),
                "rows": [
                    {**_effect(rows[text], scale), "name": "everybody" if text == _ALL else text}
                    for text in (_ALL, *stages)
                ],
            }
        )
    return cards


def _basis(data: AtlasData, head: Row) -> str:
    """The exposures behind an action's effect, the smallest detectable effect, and any objection."""
    parts = [f"{number(head['treated'])} treated and {number(head['control'])} control exposures"]
    if is_known(head["minimum_detectable_effect"]):
        parts.append(f"effects below {data.money(head['minimum_detectable_effect'])} would not be detected")
    note = f" Note: {head['reason']}." if head.get("reason") else ""
    return "; ".join(parts) + "." + note


def leaf_effects(data: AtlasData, scale: Scale) -> tuple[dict[str, list[Row]], bool]:
    """Effects by micro-segment id, and whether there are too many to draw all of their intervals.

    If so, effects with their own evidence and the most valuable micro-segments are drawn first.
    """
    ltv = {leaf["micro_segment_id"]: leaf["ltv"] if is_known(leaf["ltv"]) else 0.0 for leaf in data.leaves}
    effects: dict[str, list[Row]] = {}
    ranked: list[tuple[bool, bool, float, int, Row]] = []
    for row in data.effects:
        if (id_ := row["micro_segment_id"]) in ltv:
            effect = _effect(row, scale)
            effects.setdefault(id_, []).append(effect)
            ranked.append((row["evidence_level"] != "own", not _is_supported(row), -ltv[id_], len(ranked), effect))
    for *_, effect in sorted(ranked)[_MAX_DRAWN:]:
        effect["whisker"] = ""
    return effects, len(ranked) > _MAX_DRAWN


def _effect(row: Row, scale: Scale) -> Row:
    widest = max((abs(row[name]) for name in ("effect", "ci_low", "ci_high") if is_known(row[name])), default=0.0)
    digits = 2 if widest < 10 else 1 if widest < 100 else 0
    return {
        "action": row["action"],
        "effect": number(row["effect"], digits, sign=True),
        "interval": f"{number(row['ci_low'], digits)} to {number(row['ci_high'], digits)}",
        "whisker": scale.whisker(row),
        "label": f"{_LEVELS.get(row['evidence_level'], 'unsupported')}, {row['design']}",
        "supported": _is_supported(row),
    }


def _is_measured(row: Row) -> bool:
    return all(is_known(row[name]) for name in ("effect", "ci_low", "ci_high"))


def _is_supported(row: Row) -> bool:
    return row["evidence_level"] in _LEVELS

"""How far to trust the page: what the groups tell beyond simpler ones, which models are in force, what is missing.

Belongs here: repeating `segment_evidence` and `model_choices`, also when they are unwelcome. Does not belong here:
measuring anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml.report.data import AtlasData, Row
from ml.report.words import is_known, listed, number, share, width

_OURS = "micro-segments"  # as the table calls them
_FAMILIES = {
    "value": "what each customer will bring",
    "lifecycle": "where the stages' thresholds lie",
    "layers": "the clusters of each stage and layer",
    "transitions": "where customers go next",
    "action-response": "what an action changes",
}
_DECISIONS = {
    "challenger": "this week’s fit was chosen",
    "incumbent": "last week’s model stays",
    "none": "no model yet",
}
_MISSED = {
    "transactions": "nothing can be computed without it",
    "customers": "no attributes of customers, and nobody is known before the first purchase",
    "events": "no engagement beside buying, and no audiences made of events",
    "exposures": "no effect of any action can be measured, so the plan has nothing to stand on",
    "balances": "nobody is recognised by what they still hold",
}


def evidence(facts: AtlasData) -> list[Row]:
    """How much of next month's spend each way of grouping tells, out of time."""
    rows = _measured(facts)
    most = max((row[name] for row in rows for name in ("r2_log_spend", "r2_spend")), default=0.0)
    return [
        {
            "grouping": row["grouping"],
            "is_ours": row["grouping"] == _OURS,
            "groups": number(row["groups"]),
            "log": share(row["r2_log_spend"]),
            "log_width": width(row["r2_log_spend"], most),
            "raw": share(row["r2_spend"]),
            "raw_width": width(row["r2_spend"], most),
        }
        for row in rows
    ]


def verdict(facts: AtlasData) -> str:
    """What follows from the evidence, in one sentence; nothing if there is nothing to compare."""
    explained = {row["grouping"]: row["r2_log_spend"] for row in _measured(facts)}
    if _OURS not in explained or len(explained) < 2:
        return ""
    ours = explained.pop(_OURS)
    ranked = sorted(explained, key=lambda name: (-explained[name], name))
    ahead = [f"{name} ({share(explained[name])})" for name in ranked if explained[name] > ours]
    said = f"Micro-segments explain {share(ours)} of the variance of next month’s spend (log scale, out of time)"
    if ahead:
        return f"{said}; {listed(ahead)} {'explains' if len(ahead) == 1 else 'explain'} more."
    best = ranked[0]
    return f"{said}, more than every alternative; the next best, {best}, explains {share(explained[best])}."


def _measured(facts: AtlasData) -> list[Row]:
    """Nothing is explained of a month in which everybody spent the same."""
    return [row for row in facts.evidence if is_known(row["r2_log_spend"])]


def models(facts: AtlasData) -> list[Row]:
    """The model in force of each family, and why."""
    return [_model(row) for row in sorted(facts.atlas.choices, key=lambda row: row["family"])]


def _model(choice: Mapping[str, Any]) -> Row:
    family, version = choice["family"], choice["version"]
    return {
        "family": family,
        "what": _FAMILIES.get(family, ""),
        "week": str(choice["week"]),
        "in_force": "none yet" if version is None else f"{choice['model_name']} v{version}",
        "is_missing": version is None,
        "why": f"{_DECISIONS.get(choice['decision'], choice['decision'])}: {choice['reason']}",
    }


def switched_off(facts: AtlasData) -> list[tuple[str, str]]:
    """Input tables that the business does not bring, and what that costs."""
    return [(name, _MISSED.get(name, "what needs it is left out")) for name in facts.atlas.switched_off]

"""How far to trust the page: what the groups explain beyond simpler ones, which models are in force, what is missing.

Belongs here: repeating `segment_evidence` and `model_choices`, including unfavourable results. Does not belong here:
any estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml.report.data import AtlasData, Row
from ml.report.words import is_known, listed, money_words, number, share, width

_OURS = "micro-segments"  # as the table calls them
_FAMILIES = {
    "value": "the expected value of each customer",
    "lifecycle": "the thresholds between stages",
    "layers": "the clusters of each stage and layer",
    "transitions": "where customers go next",
    "action-response": "the effect of each action",
}
_DECISIONS = {
    "challenger": "this week’s fit was chosen",
    "incumbent": "last week’s model stays in force",
    "none": "no model yet",
}
_CONSEQUENCES = {
    "transactions": "nothing can be computed without it",
    "customers": "no customer attributes, and nobody is known before their first purchase",
    "events": "no engagement besides buying, and no audiences based on events",
    "exposures": "the effects of actions cannot be measured, so the plan assigns none",
    "balances": "churned customers with a remaining balance are not recognised",
}


def evidence(data: AtlasData) -> list[Row]:
    """The share of the variance of next month's spend that each grouping explains, out of time."""
    rows = _measured(data)
    highest = max((row[name] for row in rows for name in ("r2_log_spend", "r2_spend")), default=0.0)
    return [
        {
            "grouping": row["grouping"],
            "is_ours": row["grouping"] == _OURS,
            "groups": number(row["groups"]),
            "log": share(row["r2_log_spend"]),
            "log_width": width(row["r2_log_spend"], highest),
            "raw": share(row["r2_spend"]),
            "raw_width": width(row["r2_spend"], highest),
        }
        for row in rows
    ]


def verdict(data: AtlasData) -> str:
    """The conclusion from the evidence in one sentence; empty if there is nothing to compare."""
    explained = {row["grouping"]: row["r2_log_spend"] for row in _measured(data)}
    if _OURS not in explained or len(explained) < 2:
        return ""
    ours = explained.pop(_OURS)
    ranked = sorted(explained, key=lambda name: (-explained[name], name))
    others = [f"{name} ({share(explained[name])})" for name in ranked if explained[name] > ours]
    spend = money_words(data.value_of)["spend"]
    text = f"Micro-segments explain {share(ours)} of the variance of next month’s {spend} (log scale, out of time)"
    if others:
        return f"{text}; {listed(others)} {'explains' if len(others) == 1 else 'explain'} more."
    best = ranked[0]
    return f"{text}, more than every alternative; the next best, {best}, explains {share(explained[best])}."


def _measured(data: AtlasData) -> list[Row]:
    """Rows with a figure: there is no variance to explain in a month in which everybody spent the same."""
    return [row for row in data.evidence if is_known(row["r2_log_spend"])]


def models(data: AtlasData) -> list[Row]:
    """The model in force of each family, and why."""
    return [_model(row) for row in sorted(data.inputs.choices, key=lambda row: row["family"])]


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


def switched_off(data: AtlasData) -> list[tuple[str, str]]:
    """Input tables that are not in the project file, and the consequences."""
    return [(name, _CONSEQUENCES.get(name, "whatever needs it is left out")) for name in data.inputs.switched_off]

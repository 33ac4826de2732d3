"""Micro-segments, stage by stage: what each is like, where its customers go, and what is done about them.

Belongs here: the lines of the page's long table. Does not belong here: names (see `ml.segments`), effects and plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ml.report.data import AtlasData, Row, total
from ml.report.effects import Scale, leaf_effects
from ml.report.plan import Planned
from ml.report.words import MISSING, amount, is_known, listed, number, plural, share, width
from ml.segments.names import join_words, split_name, stage_name


@dataclass(frozen=True)
class Outlook:
    """Where a micro-segment's customers are expected at the horizon: the chance of each stage, the likeliest first."""

    leaf: Row
    stages: tuple[tuple[str, float], ...]

    @property
    def leaving(self) -> float:
        """The share expected in another stage."""
        return max(0.0, 1 - dict(self.stages).get(self.leaf["stage"], 0.0))

    @property
    def at_stake(self) -> float:
        """The lifetime value that goes with them."""
        return self.leaving * known_ltv(self.leaf)

    def __str__(self) -> str:
        return listed([f"{share(chance)} {stage}" for stage, chance in self.stages if chance >= 0.005][:4])


def known_ltv(leaf: Row) -> float:
    """A profile's lifetime value; nothing where it is unknown."""
    return leaf["ltv"] if is_known(leaf["ltv"]) else 0.0


def outlooks(facts: AtlasData) -> dict[str, Outlook]:
    """By micro-segment id, as far as there are forecasts."""
    leaves = {leaf["micro_segment_id"]: leaf for leaf in facts.leaves}
    ahead: dict[str, dict[str, float]] = {}
    for row in facts.forecasts:
        if (at := row["micro_segment_id"]) in leaves:
            stages = ahead.setdefault(at, {})
            stages[row["next_stage"]] = stages.get(row["next_stage"], 0.0) + row["customers"]
    found = {}
    for at, stages in ahead.items():
        ranked = sorted(stages.items(), key=lambda item: (-item[1], item[0]))
        found[at] = Outlook(leaves[at], tuple((stage, count / total(stages.values())) for stage, count in ranked))
    return found


def micro_segments(facts: AtlasData, ahead: Mapping[str, Outlook], plans: Mapping[str, Planned], scale: Scale) -> Row:
    """The section in words."""
    effects, is_crowded = leaf_effects(facts, scale)
    most = max(map(known_ltv, facts.leaves), default=0.0)
    groups = []
    for stage in facts.stages:
        leaves = [leaf for leaf in facts.leaves if leaf["stage"] == stage]
        groups.append(
            {
                "stage": stage,
                "customers": plural(facts.sizes[stage], "customer"),
                "treatment": facts.atlas.treatments.get(stage, ""),
                "sub_stages": _sub_stages(facts, stage),
                "leaves": [
                    {
                        **_figures(facts, leaf, most),
                        **_prospects(ahead.get(leaf["micro_segment_id"]), plans.get(leaf["micro_segment_id"])),
                        "effects": effects.get(leaf["micro_segment_id"], []),
                    }
                    for leaf in sorted(leaves, key=lambda leaf: (-known_ltv(leaf), leaf["micro_segment"]))
                ],
            }
        )
    return {"groups": groups, "count": len(facts.leaves), "is_crowded": is_crowded}


def _sub_stages(facts: AtlasData, stage: str) -> list[Row]:
    return [
        {
            "name": row["sub_stage"],
            "customers": number(row["customers"]),
            "share": share(row["customers"], facts.sizes[stage]),
            "treatment": facts.atlas.treatments.get(f"{stage}/{row['sub_stage']}", ""),
        }
        for row in facts.stage_sizes
        if row["stage"] == stage and row["sub_stage"] and row["sub_stage"] != stage
    ]


def _figures(facts: AtlasData, leaf: Row, most: float) -> Row:
    stage, words = split_name(leaf["name"])
    is_of_stage = words and stage == stage_name(leaf["stage"])  # said above it
    kpis = [
        f"{share(leaf['conversion'])} bought",
        plural(leaf["orders"], "order") + (f" of {amount(leaf['average_order'])}" if leaf["orders"] else ""),
        f"revenue {amount(leaf['revenue'])}",
        f"LTV {amount(leaf['ltv_per_customer'])} each",
    ]
    if is_known(leaf["events_per_customer"]) and leaf["events_per_customer"] >= 0.05:
        kpis.append(f"{number(leaf['events_per_customer'], 1)} events each")
    return {
        "name": join_words(words) if is_of_stage else leaf["name"],
        "string": leaf["micro_segment"],
        "customers": number(leaf["customers"]),
        "revenue_each": amount(leaf["revenue_per_customer"]),
        "ltv": amount(leaf["ltv"]),
        "ltv_width": f"{float(width(leaf['ltv'], most)):.0f}",
        "ltv_share": share(leaf["ltv"], facts.ltv),
        "p_churn": share(leaf["p_churn"]),
        "kpis": " · ".join(kpis),
    }


def _prospects(ahead: Outlook | None, plan: Planned | None) -> Row:
    return {
        "leaving": share(ahead.leaving) if ahead else MISSING,
        "ahead": str(ahead or ""),
        "plan": str(plan or ""),
        "act": plan.top() if plan else MISSING,
        "acts": bool(plan and plan.actions),
    }

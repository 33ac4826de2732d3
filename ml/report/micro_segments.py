"""Micro-segments by stage: their figures, where their customers are expected, and what the plan does.

Belongs here: the rows of the page's long table. Does not belong here: names (see `ml.layers.names`), effects and plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ml.layers.names import join_words, split_name, stage_name
from ml.report.data import AtlasData, Row, total
from ml.report.effects import Scale, leaf_effects
from ml.report.plan import Planned
from ml.report.words import MISSING, amount, is_known, listed, number, plural, share, width


@dataclass(frozen=True)
class Outlook:
    """Where a micro-segment's customers are expected at the horizon: the probability of each stage, highest first."""

    leaf: Row
    stages: tuple[tuple[str, float], ...]

    @property
    def leave_probability(self) -> float:
        """The share of customers expected in another stage."""
        return max(0.0, 1 - dict(self.stages).get(self.leaf["stage"], 0.0))

    def __str__(self) -> str:
        return listed([f"{share(chance)} {stage}" for stage, chance in self.stages if chance >= 0.005][:4])


def known_ltv(leaf: Row) -> float:
    """A profile's lifetime value; 0 if it is unknown."""
    return leaf["ltv"] if is_known(leaf["ltv"]) else 0.0


def outlooks(data: AtlasData) -> dict[str, Outlook]:
    """Outlooks by micro-segment id, of those with forecasts."""
    leaves = {leaf["micro_segment_id"]: leaf for leaf in data.leaves}
    expected: dict[str, dict[str, float]] = {}
    for row in data.forecasts:
        if (id_ := row["micro_segment_id"]) in leaves:
            stages = expected.setdefault(id_, {})
            stages[row["next_stage"]] = stages.get(row["next_stage"], 0.0) + row["customers"]
    result = {}
    for id_, stages in expected.items():
        ranked = sorted(stages.items(), key=lambda item: (-item[1], item[0]))
        result[id_] = Outlook(leaves[id_], tuple((stage, count / total(stages.values())) for stage, count in ranked))
    return result


def micro_segments(data: AtlasData, outlooks: Mapping[str, Outlook], plans: Mapping[str, Planned], scale: Scale) -> Row:
    """The section in words."""
    effects, is_crowded = leaf_effects(data, scale)
    max_ltv = max(map(known_ltv, data.leaves), default=0.0)
    groups = []
    for stage in data.stages:
        leaves = [leaf for leaf in data.leaves if leaf["stage"] == stage]
        groups.append(
            {
                "stage": stage,
                "customers": plural(data.sizes[stage], "customer"),
                "treatment": data.inputs.treatments.get(stage, ""),
                "sub_stages": _sub_stages(data, stage),
                "leaves": [
                    {
                        **_figures(data, leaf, max_ltv),
                        **_prospects(outlooks.get(leaf["micro_segment_id"]), plans.get(leaf["micro_segment_id"])),
                        "effects": effects.get(leaf["micro_segment_id"], []),
                    }
                    for leaf in sorted(leaves, key=lambda leaf: (-known_ltv(leaf), leaf["micro_segment"]))
                ],
            }
        )
    return {"groups": groups, "count": len(data.leaves), "is_crowded": is_crowded}


def _sub_stages(data: AtlasData, stage: str) -> list[Row]:
    return [
        {
            "name": row["sub_stage"],
            "customers": number(row["customers"]),
            "share": share(row["customers"], data.sizes[stage]),
            "treatment": data.inputs.treatments.get(f"{stage}/{row['sub_stage']}", ""),
        }
        for row in data.stage_sizes
        if row["stage"] == stage and row["sub_stage"] and row["sub_stage"] != stage
    ]


def _each_order(data: AtlasData, leaf: Row) -> str:
    each = amount(leaf["average_order"])
    return f" of {each}" if data.value_of == "revenue" else f" with a {data.value_of} of {each}"


def _figures(data: AtlasData, leaf: Row, max_ltv: float) -> Row:
    stage, words = split_name(leaf["name"])
    is_of_stage = words and stage == stage_name(leaf["stage"])  # the stage is in the heading
    kpis = [
        f"{share(leaf['conversion'])} bought",
        plural(leaf["orders"], "order") + (_each_order(data, leaf) if leaf["orders"] else ""),
        f"{data.value_of} {amount(leaf['revenue'])}",
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
        "ltv_width": f"{float(width(leaf['ltv'], max_ltv)):.0f}",
        "ltv_share": share(leaf["ltv"], data.ltv),
        "p_churn": share(leaf["p_churn"]),
        "kpis": " · ".join(kpis),
    }


def _prospects(outlook: Outlook | None, plan: Planned | None) -> Row:
    return {
        "leave": share(outlook.leave_probability) if outlook else MISSING,
        "expected": str(outlook or ""),
        "plan": str(plan or ""),
        "act": plan.top() if plan else MISSING,
        "acts": bool(plan and plan.actions),
    }

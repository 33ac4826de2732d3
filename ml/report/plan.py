"""The plan: its actions, its holdout, and why it abstains.

Belongs here: sums over the plan's rows and their wording. Does not belong here: who gets what (see `ml.actions`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ml.actions.reasons import plan_reason
from ml.report.data import AtlasData, Row
from ml.report.words import amount, number, plural, share, width

_MAX_REASONS = 12  # shown


@dataclass
class Assigned:
    """The customers with one action, their expected value after cost, and the cost."""

    customers: int = 0
    value: float = 0.0
    cost: float = 0.0


@dataclass
class Planned:
    """The plan for a group of customers.

    Parameters
    ----------
    actions : dict of str to Assigned
        Customers with an action.
    held_out : int
        Customers held out on purpose.
    reasons : dict of str to Counter
        Customers without an action by reason: reasons that differ only in their figures have one key, and are counted
        by their words.
    """

    actions: dict[str, Assigned] = field(default_factory=dict)
    held_out: int = 0
    reasons: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Add a row of ``plan.sql``."""
        if row["is_holdout"]:
            self.held_out += row["customers"]
        elif row["action"] == "none":
            kind = plan_reason(row).kind
            if row.get("reason_code") and row.get("reason_parameters") is None:  # written before reasons had figures
                kind = row["reason_code"]
            self.reasons.setdefault(kind, Counter())[row["reason"]] += row["customers"]
        else:
            assigned = self.actions.setdefault(row["action"], Assigned())
            assigned.customers += row["customers"]
            assigned.value += row["value"]
            assigned.cost += row["cost"]

    @property
    def acted(self) -> int:
        return sum(one.customers for one in self.actions.values())

    @property
    def abstained(self) -> int:
        return sum(same.total() for same in self.reasons.values())

    @property
    def customers(self) -> int:
        return self.acted + self.held_out + self.abstained

    @property
    def value(self) -> float:
        return sum(one.value for one in self.actions.values())

    @property
    def ranked(self) -> list[tuple[str, Assigned]]:
        """Actions, the most frequent first."""
        return sorted(self.actions.items(), key=lambda item: (-item[1].customers, item[0]))

    def top(self) -> str:
        """The most frequent action."""
        if not self.actions:
            return "none"
        name, assigned = self.ranked[0]
        return f"{name}: {number(assigned.customers)}"

    def __str__(self) -> str:
        parts = [
            f"{plural(one.customers, 'customer')} get {name} (expected {amount(one.value)} after cost "
            f"{amount(one.cost)})"
            for name, one in sorted(self.actions.items())
        ]
        parts += [f"{number(self.held_out)} held out"] if self.held_out else []
        parts += [f"{number(self.abstained)} left alone"] if self.abstained else []
        return ", ".join(parts)


def planned(data: AtlasData) -> tuple[Planned, dict[str, Planned]]:
    """The plan for all customers, and per micro-segment id."""
    everybody = Planned()
    segments: dict[str, Planned] = {}
    for row in data.plan:
        everybody.add(row)
        segments.setdefault(row["micro_segment_id"], Planned()).add(row)
    return everybody, segments


def reasons(plan: Planned) -> list[Row]:
    """Why the plan abstains, the most frequent reason first; reasons that differ only in their figures are one."""
    return [
        {
            "text": min(same, key=lambda text: (-same[text], text)).rstrip("."),
            "similar": len(same) > 1,
            "customers": number(same.total()),
            "width": width(same.total(), plan.abstained),
        }
        for _, same in sorted(plan.reasons.items(), key=lambda item: (-item[1].total(), item[0]))
    ]


def plan_section(plan: Planned) -> Row:
    """The section in words."""
    why = reasons(plan)
    bars = (
        ("act", "get an action", plan.acted),
        ("held", "held out on purpose", plan.held_out),
        ("abstain", "no action: the plan abstains", plan.abstained),
    )
    return {
        "rows": bool(plan.customers),
        "bars": [
            {
                "kind": kind,
                "words": words,
                "customers": number(count),
                "width": width(count, plan.customers),
                "share": share(count, plan.customers),
            }
            for kind, words, count in bars
            if count
        ],
        "actions": [
            {
                "action": name,
                "customers": number(assigned.customers),
                "value": amount(assigned.value),
                "cost": amount(assigned.cost),
            }
            for name, assigned in plan.ranked
        ],
        "reasons": why[:_MAX_REASONS],
        "more_reasons": len(why[_MAX_REASONS:]),
    }

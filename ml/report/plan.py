"""The plan: what it does, whom it leaves alone, and why it abstains.

Belongs here: sums over the plan's rows and their wording. Does not belong here: who gets what (see `ml.actions`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ml.actions.reasons import plan_reason
from ml.report.data import AtlasData, Row
from ml.report.words import amount, number, plural, share, width

_MOST = 12  # reasons shown


@dataclass
class Given:
    """An action as given: to how many customers, what they should bring after cost, and the cost."""

    customers: int = 0
    value: float = 0.0
    cost: float = 0.0


@dataclass
class Planned:
    """What happens to a group of customers.

    Parameters
    ----------
    reasons : of those it abstains for: what reasons share that differ in their figures alone, to the words of each and
        how often these were given
    """

    actions: dict[str, Given] = field(default_factory=dict)
    held: int = 0
    reasons: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """One row of ``plan.sql``."""
        if row["is_holdout"]:
            self.held += row["customers"]
        elif row["action"] == "none":
            kind = plan_reason(row).kind
            if row.get("reason_code") and row.get("reason_parameters") is None:  # made before reasons had figures
                kind = row["reason_code"]
            self.reasons.setdefault(kind, Counter())[row["reason"]] += row["customers"]
        else:
            given = self.actions.setdefault(row["action"], Given())
            given.customers += row["customers"]
            given.value += row["value"]
            given.cost += row["cost"]

    @property
    def acted(self) -> int:
        return sum(given.customers for given in self.actions.values())

    @property
    def abstained(self) -> int:
        return sum(same.total() for same in self.reasons.values())

    @property
    def customers(self) -> int:
        return self.acted + self.held + self.abstained

    @property
    def value(self) -> float:
        return sum(given.value for given in self.actions.values())

    @property
    def ranked(self) -> list[tuple[str, Given]]:
        """Actions, the most given first."""
        return sorted(self.actions.items(), key=lambda item: (-item[1].customers, item[0]))

    def top(self) -> str:
        """The action that most of them get."""
        if not self.actions:
            return "none"
        name, given = self.ranked[0]
        return f"{name}: {number(given.customers)}"

    def __str__(self) -> str:
        parts = [
            f"{plural(given.customers, 'customer')} get {name} (expected {amount(given.value)} after cost "
            f"{amount(given.cost)})"
            for name, given in sorted(self.actions.items())
        ]
        parts += [f"{number(self.held)} held out"] if self.held else []
        parts += [f"{number(self.abstained)} left alone"] if self.abstained else []
        return ", ".join(parts)


def planned(facts: AtlasData) -> tuple[Planned, dict[str, Planned]]:
    """The plan for everybody, and per micro-segment id."""
    everybody = Planned()
    segments: dict[str, Planned] = {}
    for row in facts.plan:
        everybody.add(row)
        segments.setdefault(row["micro_segment_id"], Planned()).add(row)
    return everybody, segments


def reasons(plan: Planned) -> list[Row]:
    """Why it abstains, the most frequent first; reasons that differ in their figures alone are one."""
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
        ("held", "held out on purpose", plan.held),
        ("abstain", "left alone: the plan abstains", plan.abstained),
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
                "customers": number(given.customers),
                "value": amount(given.value),
                "cost": amount(given.cost),
            }
            for name, given in plan.ranked
        ],
        "reasons": why[:_MOST],
        "more_reasons": len(why[_MOST:]),
    }

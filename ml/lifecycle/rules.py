"""Rules: a stage or sub-stage, and the predicate that puts a customer into it.

Belongs here: what a rule is, what it may contain, and whether rules in their order give each customer one stage. Does
not belong here: the rules of any business (see `presets`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlglot import exp

from ml.rules import RuleError, nearest, parse_scalar

PARAMETERS = ("new_for", "churn_after", "star_cut")
CUTS = (
    "new_ltv_cut",
    "new_first_spend_cut",
    "active_median_ltv",
    "active_median_orders",
    "active_high_orders",
    "active_high_spend",
    "active_high_basket",
)


@dataclass(frozen=True)
class StageRule:
    """A stage, the predicate that puts a customer into it, and the treatment it suggests.

    Parameters
    ----------
    name : str
        Name of the stage.
    when : str
        SQL predicate. It may use the snapshot's columns, ltv, p_alive, expected_orders and expected_spend, and the
        parameters ``$new_for``, ``$churn_after`` (days) and ``$star_cut`` (currency; NULL while unknown).
    treatment : str, optional
        Suggested treatment of the stage's customers.

    Examples
    --------
    >>> StageRule("churn", "recency_days > $churn_after", "Win back while it still pays").name
    'churn'
    """

    name: str
    when: str
    treatment: str = ""


@dataclass(frozen=True)
class SubStageRule:
    """A finer state inside a stage; a customer for whom no rule holds has the stage's name as its sub-stage.

    Parameters
    ----------
    stage : str
        Stage it belongs to.
    name : str
        Name of the sub-stage.
    when : str
        SQL predicate, as that of a `StageRule`; it may also use the parameters of `CUTS`.
    treatment : str, optional
        Suggested treatment of the sub-stage's customers.

    Examples
    --------
    >>> SubStageRule("new", "one-time-only", "purchase_days = 1").stage
    'new'
    """

    stage: str
    name: str
    when: str
    treatment: str = ""


def check_stages(rules: Sequence[StageRule]) -> None:
    """Raise ValueError unless the rules, in their order, give every customer exactly one stage."""
    names = [rule.name for rule in rules]
    for rule in rules:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_ -]*", rule.name):
            raise ValueError(f"lifecycle stage {rule.name!r}: use letters, digits, spaces, '-' and '_' in its name")
        if names.count(rule.name) > 1:
            raise ValueError(f"lifecycle stage {rule.name!r} is given twice; join its rules with OR")
        predicate(rule.when, f"stage {rule.name!r}", PARAMETERS)
    last = rules[-1]
    if not _is_true(last.when):
        raise ValueError(
            f'the last lifecycle stage, {last.name!r}, has the rule {last.when!r}: its `when` must be "true", '
            "so that every customer gets a stage"
        )
    for rule in rules[:-1]:
        if _is_true(rule.when):
            raise ValueError(f"lifecycle stage {rule.name!r} takes everybody, so the stages after it are never reached")


def check_sub_stages(rules: Sequence[SubStageRule], stages: Collection[str]) -> None:
    """Raise ValueError if a sub-stage belongs to no stage, or its rule cannot be accepted."""
    for rule in rules:
        if rule.stage not in stages:
            raise ValueError(
                f"sub-stage {rule.name!r} belongs to {rule.stage!r}, which is not a stage; "
                f"{nearest(rule.stage, stages)}"
            )
        predicate(rule.when, f"sub-stage {rule.name!r} of {rule.stage!r}", (*PARAMETERS, *CUTS))


def predicate(when: str, owner: str, parameters: Collection[str], columns: Collection[str] | None = None) -> exp.Expr:
    """Parse a rule; an error names its owner."""
    try:
        return parse_scalar(when, columns, parameters)
    except RuleError as error:
        raise RuleError(f"the rule of {owner}: {error}") from None


def _is_true(when: str) -> bool:
    tree = parse_scalar(when, None, (*PARAMETERS, *CUTS)).unnest()
    return isinstance(tree, exp.Boolean) and bool(tree.this)

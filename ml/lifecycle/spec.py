"""Settings of the lifecycle family.

Belongs here: the typed settings and their check. Does not belong here: thresholds, which are learnt (see `model`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ml.lifecycle.presets import PRESET_STAGES, PRESET_SUB_STAGES
from ml.lifecycle.rules import StageRule, SubStageRule, check_stages, check_sub_stages
from ml.rules import nearest

SHORTEST, LONGEST = 14, 365  # days: the bounds of a churn window
FIRST_NEW_FOR, FIRST_CHURN_AFTER = 28, 60  # days: `auto` before anything is learnt
FIRST_STAR_SHARE = 0.10
CHANCE_LEFT = 0.2  # of the highest chance of a return, when a customer has churned


@dataclass(frozen=True)
class LifecycleSpec:
    """Stages of a business.

    Parameters
    ----------
    business : whose preset stages hold where `stages` is empty
    stages : the project's own, in order; the last one's `when` must be ``"true"``, so that nobody is left out
    sub_stages : the project's own; empty takes the preset ones of the stages that exist
    new_for_days : days since the first purchase for which a customer is new; `auto`: until newcomers' buying settles
    churn_after_days : days of silence after which a customer has churned, 14 to 365; `auto`: the shortest silence after
        which the chance of returning within `return_within_days` stays under `churn_return_chance`
    churn_return_chance : below it a customer counts as churned; the smaller, the longer the window. `auto`: a fifth of
        the highest chance after any silence, since those who buy once a quarter seldom come back within four weeks
    return_within_days : the days after a silence in which a return counts
    window_history_days : the days up to the training week's end that `auto` windows are read from
    star_share : share of active customers (stars among them) that are stars when the cut is frozen; `auto`: the fewest
        who hold half of the LTV of all of them, 5 to 20 percent
    star_tolerance : how far that share may drift, beyond what chance explains, before the cut is frozen anew
    min_customers : below so many customers who ever bought, no window and no cut is learnt

    Raises
    ------
    ValueError
        If the stages cannot give each customer exactly one stage, or a rule cannot be accepted.
    """

    business: Literal["retail", "gaming"] = "retail"
    stages: tuple[StageRule, ...] = ()
    sub_stages: tuple[SubStageRule, ...] = ()
    new_for_days: int | Literal["auto"] = "auto"
    churn_after_days: int | Literal["auto"] = "auto"
    churn_return_chance: float | Literal["auto"] = "auto"
    return_within_days: int = 28
    window_history_days: int = 365
    star_share: float | Literal["auto"] = FIRST_STAR_SHARE
    star_tolerance: float = 0.02
    min_customers: int = 200

    def __post_init__(self) -> None:
        if self.business not in PRESET_STAGES:
            raise ValueError(f"lifecycle.business is {self.business!r}; {nearest(self.business, PRESET_STAGES)}")
        if not isinstance(self.churn_after_days, str) and not SHORTEST <= self.churn_after_days <= LONGEST:
            raise ValueError(
                f"lifecycle.churn_after_days is {self.churn_after_days}; it must lie between {SHORTEST} and {LONGEST}"
            )
        if not isinstance(self.new_for_days, str) and self.new_for_days < 1:
            raise ValueError(f"lifecycle.new_for_days is {self.new_for_days}; it must be at least 1")
        for name in ("churn_after_days", "churn_return_chance", "new_for_days", "star_share"):
            if isinstance(given := getattr(self, name), str) and given != "auto":
                raise ValueError(f"lifecycle.{name} is {given!r}; write a number, or auto")
        if not isinstance(self.churn_return_chance, str) and not 0 < self.churn_return_chance < 1:
            raise ValueError(
                f"lifecycle.churn_return_chance is {self.churn_return_chance}; write 0.20 for fewer than 20 percent"
            )
        for name in ("return_within_days", "window_history_days"):
            if not 7 <= getattr(self, name) <= 3650:
                raise ValueError(f"lifecycle.{name} is {getattr(self, name)}; it must lie between 7 and 3650")
        if not isinstance(self.star_share, str) and not 0 < self.star_share < 1:
            raise ValueError(f"lifecycle.star_share is {self.star_share}; write 0.10 for the top ten percent")
        check_stages(self.rules())
        check_sub_stages(self.sub_stages, self.stage_names())

    @property
    def first_churn_after(self) -> int:
        """The churn window before there is a model, days."""
        return FIRST_CHURN_AFTER if isinstance(self.churn_after_days, str) else self.churn_after_days

    @property
    def first_new_for(self) -> int:
        """How long a customer is new before there is a model, days."""
        return FIRST_NEW_FOR if isinstance(self.new_for_days, str) else self.new_for_days

    def rules(self) -> tuple[StageRule, ...]:
        """The stage rules in force: the project's own, or the preset of its business."""
        return self.stages or PRESET_STAGES[self.business]

    def sub_rules(self) -> tuple[SubStageRule, ...]:
        """The sub-stage rules in force, only of stages that exist."""
        names = self.stage_names()
        return self.sub_stages or tuple(rule for rule in PRESET_SUB_STAGES if rule.stage in names)

    def stage_names(self) -> tuple[str, ...]:
        return tuple(rule.name for rule in self.rules())

    def treatments(self) -> dict[str, str]:
        """Suggested treatment of each ``stage`` and ``stage/sub-stage``."""
        by_stage = {rule.name: rule.treatment for rule in self.rules()}
        return by_stage | {f"{rule.stage}/{rule.name}": rule.treatment for rule in self.sub_rules()}

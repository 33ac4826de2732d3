"""Settings of the lifecycle family.

Belongs here: the typed settings and their check. Does not belong here: thresholds, which are learnt (see `model`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ml.lifecycle.presets import PRESET_STAGES, PRESET_SUB_STAGES
from ml.lifecycle.rules import StageRule, SubStageRule, check_stages, check_sub_stages
from ml.rules import nearest


@dataclass(frozen=True)
class LifecycleSpec:
    """Stages of a business.

    Parameters
    ----------
    business : whose preset stages hold where `stages` is empty
    stages : the project's own, in order; the last one's `when` must be ``"true"``, so that nobody is left out
    sub_stages : the project's own; empty takes the preset ones of the stages that exist
    new_for_days : days since the first purchase for which a customer is new
    churn_after_days : days of silence after which a customer has churned, 14 to 365
    star_share : share of active customers (stars among them) that are stars when the cut is frozen
    star_tolerance : how far that share may drift before the cut is frozen anew
    min_customers : below so many customers who ever bought, no cut is learnt

    Raises
    ------
    ValueError
        If the stages cannot give each customer exactly one stage, or a rule cannot be accepted.
    """

    business: Literal["retail", "gaming"] = "retail"
    stages: tuple[StageRule, ...] = ()
    sub_stages: tuple[SubStageRule, ...] = ()
    new_for_days: int = 28
    churn_after_days: int = 60
    star_share: float = 0.10
    star_tolerance: float = 0.02
    min_customers: int = 200

    def __post_init__(self) -> None:
        if self.business not in PRESET_STAGES:
            raise ValueError(f"lifecycle.business is {self.business!r}; {nearest(self.business, PRESET_STAGES)}")
        if not 14 <= self.churn_after_days <= 365:
            raise ValueError(f"lifecycle.churn_after_days is {self.churn_after_days}; it must lie between 14 and 365")
        if self.new_for_days < 1:
            raise ValueError(f"lifecycle.new_for_days is {self.new_for_days}; it must be at least 1")
        if not 0 < self.star_share < 1:
            raise ValueError(f"lifecycle.star_share is {self.star_share}; write 0.10 for the top ten percent")
        check_stages(self.rules())
        check_sub_stages(self.sub_stages, self.stage_names())

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

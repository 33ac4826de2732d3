"""Settings of the lifecycle family.

Belongs here: the typed settings and their check. Does not belong here: thresholds, which are learnt (see `model`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ml.lifecycle.presets import PRESET_STAGES, PRESET_SUB_STAGES
from ml.lifecycle.rules import StageRule, SubStageRule, check_stages, check_sub_stages
from ml.rules import nearest

MIN_CHURN_AFTER, MAX_CHURN_AFTER = 14, 365  # days
FIRST_NEW_FOR, FIRST_CHURN_AFTER = 28, 60  # days: `auto` before anything is learnt
FIRST_STAR_SHARE = 0.10
CHURN_THRESHOLD_SHARE = 0.2  # of the highest chance of a return: `auto` of churn_return_chance


@dataclass(frozen=True)
class LifecycleSpec:
    """Settings of the lifecycle stages of a business.

    Parameters
    ----------
    business : {"retail", "gaming"}, default "retail"
        Business whose preset stages apply if `stages` is empty.
    stages : tuple of StageRule
        The project's own stages, in order. The last one's `when` must be ``"true"``, so that nobody is left out.
    sub_stages : tuple of SubStageRule
        The project's own sub-stages. If empty, the preset ones of the stages that exist apply.
    new_for_days : int or "auto", default "auto"
        Days since the first purchase for which a customer is new. `auto`: until newcomers' buying settles.
    churn_after_days : int or "auto", default "auto"
        Days of silence after which a customer has churned, 14 to 365. `auto`: the shortest silence after which the
        chance of a return within `return_within_days` stays below `churn_return_chance`.
    churn_return_chance : float or "auto", default "auto"
        Chance of a return, 0 to 1, below which a customer has churned: the smaller, the longer the window. `auto`: a
        fifth of the highest chance after any silence, since those who buy once a quarter seldom return within four
        weeks.
    return_within_days : int, default 28
        Days after a silence in which a return counts.
    window_history_days : int, default 365
        Days up to the end of the training week from which `auto` windows are estimated.
    star_share : float or "auto", default 0.10
        Share of active customers (stars among them) who are stars when the cut is frozen. `auto`: the share of the
        fewest who hold half of their LTV, 5 to 20 percent.
    star_tolerance : float, default 0.02
        How far that share may drift, beyond what chance explains, before the cut is frozen again.
    min_customers : int, default 200
        Fewest customers who ever bought for whom windows and cuts are learnt.

    Raises
    ------
    ValueError
        If the stages cannot give each customer exactly one stage, or a rule or a number cannot be accepted.

    Examples
    --------
    >>> LifecycleSpec(business="gaming", churn_after_days=30).stage_names()
    ('no-sale', 'fun', 'churn', 'reengaged', 'new', 'star', 'active')
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
        if not isinstance(self.churn_after_days, str) and not (
            MIN_CHURN_AFTER <= self.churn_after_days <= MAX_CHURN_AFTER
        ):
            raise ValueError(
                f"lifecycle.churn_after_days is {self.churn_after_days}; "
                f"it must lie between {MIN_CHURN_AFTER} and {MAX_CHURN_AFTER}"
            )
        if not isinstance(self.new_for_days, str) and self.new_for_days < 1:
            raise ValueError(f"lifecycle.new_for_days is {self.new_for_days}; it must be at least 1")
        for name in ("churn_after_days", "churn_return_chance", "new_for_days", "star_share"):
            if isinstance(value := getattr(self, name), str) and value != "auto":
                raise ValueError(f"lifecycle.{name} is {value!r}; write a number, or auto")
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
        """Churn window before there is a model, in days."""
        return FIRST_CHURN_AFTER if isinstance(self.churn_after_days, str) else self.churn_after_days

    @property
    def first_new_for(self) -> int:
        """Days for which a customer is new before there is a model."""
        return FIRST_NEW_FOR if isinstance(self.new_for_days, str) else self.new_for_days

    def rules(self) -> tuple[StageRule, ...]:
        """Return the stage rules in force.

        Returns
        -------
        tuple of StageRule
            The project's own, or the preset of its business.
        """
        return self.stages or PRESET_STAGES[self.business]

    def sub_rules(self) -> tuple[SubStageRule, ...]:
        """Return the sub-stage rules in force.

        Returns
        -------
        tuple of SubStageRule
            The project's own, or the preset ones of the stages that exist.
        """
        names = self.stage_names()
        return self.sub_stages or tuple(rule for rule in PRESET_SUB_STAGES if rule.stage in names)

    def stage_names(self) -> tuple[str, ...]:
        """Name the stages in force.

        Returns
        -------
        tuple of str
            Names, in the order of the rules.
        """
        return tuple(rule.name for rule in self.rules())

    def treatments(self) -> dict[str, str]:
        """Return the suggested treatments.

        Returns
        -------
        dict of str to str
            Treatment of each ``stage`` and ``stage/sub-stage``.
        """
        by_stage = {rule.name: rule.treatment for rule in self.rules()}
        return by_stage | {f"{rule.stage}/{rule.name}": rule.treatment for rule in self.sub_rules()}

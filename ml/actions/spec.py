"""What a project says about its marketing actions.

Belongs here: the settings of outcomes, learner, effects and plan. Does not belong here: any formula.
"""

from __future__ import annotations

from dataclasses import dataclass

from ml.tables import CONTROL, is_control

__all__ = ["ALL", "CONTROL", "NONE", "Action", "ActionPolicy"]

NONE = "none"  # the plan abstains
ALL = "all"  # the root of every micro-segment string


@dataclass(frozen=True)
class Action:
    """One marketing action.

    Parameters
    ----------
    name : as it stands in `exposures`
    cost : what one exposure costs, in currency
    channel : how it reaches the customer
    eligible_stages : lifecycle stages it is meant for; all, if empty
    capacity : how many customers can get it in one plan cycle; without a limit, if None
    """

    name: str
    cost: float = 0.0
    channel: str = ""
    eligible_stages: tuple[str, ...] = ()
    capacity: int | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name in (CONTROL, NONE, ALL):
            raise ValueError(f"an action cannot be called {self.name!r}: choose another name")
        if is_control(self.name):
            raise ValueError(f"an action cannot be called {self.name!r}, which says that nothing was done: rename it")
        if self.cost < 0:
            raise ValueError(f"the cost of {self.name} is {self.cost}; it must be at least 0")
        if self.capacity is not None and self.capacity < 0:
            raise ValueError(f"the capacity of {self.name} is {self.capacity}; it must be at least 0")


@dataclass(frozen=True)
class ActionPolicy:
    """How effects are measured and acted upon.

    Parameters
    ----------
    actions : what the plan may hand out; effects are measured for every action that was ever delivered
    outcome_window_days : length of the outcome, and of the quiet time around an observational control, in days
    holdout_share : share of all customers left alone in a plan cycle
    cycle_days : length of a plan cycle, in days
    budget : what all actions of a cycle may cost together, in currency
    smallest_effect_share : smallest effect of interest, as a share of the mean control outcome; a placebo passes only
        if its 90 % interval lies inside plus and minus that
    min_treated, min_treated_responders, min_control, min_control_responders : evidence floors in customers, of an
        action as a whole and of a micro-segment that is to stand on its own; a responder had an exposure that revenue
        followed
    min_cell_customers : micro-segments with fewer members take the estimate of their prefix
    min_fit : customers an action needs in each arm to be estimated at all
    folds : cross-fitting folds, by customer, each with its share of every arm
    max_rows : cap of treated exposures per action, and of controls in all; above it customers are sampled, and the
        reason says so
    propensity_clip : known chances are clipped to this
    overlap : rows whose estimated chance lies outside are left out of the estimate
    trees : boosting rounds of the nuisance models
    margin : by how much a refit on the same exposures must be better to replace the incumbent
    seed : of the samples and the models
    """

    actions: tuple[Action, ...] = ()
    outcome_window_days: int = 28
    holdout_share: float = 0.10
    cycle_days: int = 28
    budget: float | None = None
    smallest_effect_share: float = 0.05
    min_treated: int = 50
    min_treated_responders: int = 15
    min_control: int = 30
    min_control_responders: int = 5
    min_cell_customers: int = 30
    min_fit: int = 20
    folds: int = 3
    max_rows: int = 20_000
    propensity_clip: tuple[float, float] = (0.02, 0.98)
    overlap: tuple[float, float] = (0.05, 0.95)
    trees: int = 40
    margin: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("holdout_share", "smallest_effect_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}: write a share, such as 0.05 for five percent")
        for name in ("outcome_window_days", "cycle_days", "min_treated", "min_control", "min_fit", "max_rows", "trees"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.folds < 2:
            raise ValueError(f"folds is {self.folds}; cross-fitting needs at least 2")
        for name in ("propensity_clip", "overlap"):
            low, high = getattr(self, name)
            if not 0 < low < high < 1:
                raise ValueError(f"{name} is {low}, {high}: write the lower and the upper chance, between 0 and 1")
        if self.budget is not None and self.budget < 0:
            raise ValueError(f"budget is {self.budget}; it must be at least 0")
        names = [action.name for action in self.actions]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"action {min(twice)!r} is declared twice: delete one")

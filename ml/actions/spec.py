"""The settings of a project's marketing actions.

Belongs here: settings of outcomes, learner, effects and plan. Does not belong here: any formula.
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
    name : str
        Its name in `exposures`.
    cost : float, default 0.0
        Cost of one exposure, in currency.
    channel : str, default ""
        How it reaches the customer.
    eligible_stages : tuple of str, default ()
        Lifecycle stages that may get it; all, if empty.
    capacity : int, optional
        Customers who can get it in one plan cycle; unlimited if None.

    Raises
    ------
    ValueError
        If the name means control or is reserved, or a number is negative.

    Examples
    --------
    >>> Action("coupon", cost=0.5, eligible_stages=("active", "churn"), capacity=5_000).cost
    0.5
    >>> Action("No e-mail")
    Traceback (most recent call last):
    ValueError: an action cannot be called 'No e-mail', which says that nothing was done: rename it
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
    """How effects are estimated and acted upon.

    Parameters
    ----------
    actions : tuple of Action, default ()
        What the plan may assign; effects are estimated for every action that was ever delivered.
    outcome_window_days : int, default 28
        Length of the outcome window, and of the time without other exposures around an observational one, in days.
    holdout_share : float, default 0.1
        Share of customers held out of a plan cycle, 0 to 1.
    cycle_days : int, default 28
        Length of a plan cycle, in days.
    budget : float, optional
        Limit of the total cost of a cycle, in currency.
    smallest_effect_share : float, default 0.05
        Smallest effect of interest, as a share of the mean control outcome; a placebo passes only if its 90 % interval
        lies within plus and minus that.
    min_treated, min_treated_responders, min_control, min_control_responders : int
        Evidence floors in customers, for an action as a whole and for a micro-segment with an estimate of its own. A
        responder had an exposure that was followed by revenue.
    min_cell_customers : int, default 30
        Micro-segments with fewer members take the estimate of their prefix.
    min_fit : int, default 20
        Customers in each arm below which an action is not estimated.
    folds : int, default 3
        Cross-fitting folds, by customer, each with its share of every arm.
    max_rows : int, default 20_000
        Limit of treated exposures per action, and of controls in total; above it customers are sampled.
    propensity_clip : tuple of float, default (0.02, 0.98)
        Limits to which propensities are clipped.
    overlap : tuple of float, default (0.05, 0.95)
        Rows with an estimated propensity outside of it are left out of the estimate.
    trees : int, default 40
        Boosting rounds of the nuisance models.
    margin : float, default 0.01
        Relative improvement by which a refit on the same exposures replaces the incumbent.
    seed : int, default 0
        Of samples and models.

    Raises
    ------
    ValueError
        If a setting is out of range, or two actions have the same name.

    Examples
    --------
    >>> policy = ActionPolicy(actions=(Action("coupon", cost=0.5),), budget=1_000.0, holdout_share=0.2)
    >>> policy.actions[0].name, policy.outcome_window_days
    ('coupon', 28)
    >>> ActionPolicy(holdout_share=20)
    Traceback (most recent call last):
    ValueError: holdout_share is 20: write a share, such as 0.05 for five percent
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
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"action {min(repeated)!r} is declared twice: delete one")

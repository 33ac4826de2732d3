"""Actions: the effect of a marketing action on net revenue, per micro-segment, and who gets which action.

Belongs here: matured exposures and their controls, the doubly robust learner with its checks, effects in the prefix
tree, and the plan. Does not belong here: segments, and the delivery of actions.
"""

from ml.actions.effects import effects
from ml.actions.maturity import Maturity, maturity, maturity_of
from ml.actions.outcomes import exposure_outcomes
from ml.actions.policy import plan, plan_summary, unsupported_rows
from ml.actions.reasons import doubtful_words
from ml.actions.response import ActionResponseModel
from ml.actions.spec import Action, ActionPolicy
from ml.actions.training import train

__all__ = [
    "Action",
    "ActionPolicy",
    "ActionResponseModel",
    "Maturity",
    "doubtful_words",
    "effects",
    "exposure_outcomes",
    "maturity",
    "maturity_of",
    "plan",
    "plan_summary",
    "train",
    "unsupported_rows",
]

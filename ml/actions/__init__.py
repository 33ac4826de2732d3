"""Actions: what a marketing action does to net revenue, per micro-segment, and who gets which.

Belongs here: matured exposures and their controls, the doubly robust learner with its checks, effects up and down the
prefix tree, and the plan. Does not belong here: segments, and the delivery of actions.
"""

from ml.actions.effects import effects
from ml.actions.maturity import Maturity, maturity, maturity_of
from ml.actions.outcomes import exposure_outcomes
from ml.actions.policy import plan, plan_summary, unsupported_rows
from ml.actions.reasons import doubtful_words
from ml.actions.response import ActionResponseModel
from ml.actions.spec import Action, ActionPolicy
from ml.actions.training import train
from ml.tables import arm_of, is_control

__all__ = [
    "Action",
    "ActionPolicy",
    "ActionResponseModel",
    "Maturity",
    "arm_of",
    "doubtful_words",
    "effects",
    "exposure_outcomes",
    "is_control",
    "maturity",
    "maturity_of",
    "plan",
    "plan_summary",
    "train",
    "unsupported_rows",
]

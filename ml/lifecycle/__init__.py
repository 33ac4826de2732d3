"""Lifecycle: the one stage of each known customer, the finer state inside it, and how long the spell has lasted.

Belongs here: the stage rules of the shipped businesses, the weekly fit that freezes their thresholds, and the two
queries that apply them. Does not belong here: a customer's value (see `ml.value`) and why a customer moved (see
`ml.journeys`).

Rules are SQL predicates over the snapshot and the value columns, in order. The first that holds wins; a predicate that
evaluates to NULL does not hold. Every threshold is a parameter with a frozen value, so a day can be computed alone.
"""

from ml.lifecycle.history import TRAILING_WEEKS, Shift, share_shift, stage_counts
from ml.lifecycle.model import LifecycleModel, assign_stages
from ml.lifecycle.rules import CUTS, PARAMETERS, StageRule, SubStageRule
from ml.lifecycle.spec import LifecycleSpec
from ml.lifecycle.stages import continue_spells
from ml.lifecycle.training import train
from ml.lifecycle.windows import Windows, windows_of

__all__ = [
    "CUTS", "PARAMETERS", "TRAILING_WEEKS", "LifecycleModel", "LifecycleSpec", "Shift", "StageRule", "SubStageRule",
    "Windows", "assign_stages", "continue_spells", "share_shift", "stage_counts", "train", "windows_of",
]  # fmt: skip

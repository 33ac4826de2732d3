"""Lifecycle: the one stage of each known customer, the finer state inside it, and how long the spell has lasted.

Belongs here: the stage rules of the shipped businesses, the weekly fit that freezes their thresholds, and the two
queries that apply them. Does not belong here: what a customer is worth (see `ml.value`) and why a customer moved (see
`ml.journeys`).

Rules are SQL predicates over the snapshot and the value columns, in order; the first that holds wins, and one that
comes out as NULL does not hold. Every threshold is a parameter with a frozen value, so a day can be computed alone.
"""

from ml.lifecycle.figures import ltv_with_cut, stage_shares
from ml.lifecycle.model import LifecycleModel
from ml.lifecycle.presets import PRESET_STAGES, PRESET_SUB_STAGES
from ml.lifecycle.rules import CUTS, PARAMETERS, StageRule, SubStageRule
from ml.lifecycle.spec import LifecycleSpec
from ml.lifecycle.stages import assign_stages, continue_spells, stage_query
from ml.lifecycle.training import METRIC, TOP_SHARE, cut_for_share, freeze, star_candidates, train
from ml.value.spec import OUTPUTS as VALUE_COLUMNS

__all__ = [
    "CUTS", "METRIC", "PARAMETERS", "PRESET_STAGES", "PRESET_SUB_STAGES", "TOP_SHARE", "VALUE_COLUMNS",
    "LifecycleModel", "LifecycleSpec", "StageRule", "SubStageRule", "assign_stages", "continue_spells",
    "cut_for_share", "freeze", "ltv_with_cut", "stage_query", "stage_shares", "star_candidates", "train",
]  # fmt: skip

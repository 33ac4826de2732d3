"""Lifecycle: the one stage of each known customer, the finer state inside it, and how long the spell has lasted.

Belongs here: the stage rules of the shipped businesses, the weekly fit that freezes their thresholds, and the two
queries that apply them. Does not belong here: what a customer is worth (see `ml.value`) and why a customer moved (see
`ml.journeys`).

Rules are SQL predicates over the snapshot and the value columns, in order; the first that holds wins, and one that
comes out as NULL does not hold. Every threshold is a parameter with a frozen value, so a day can be computed alone.
"""

from ml.lifecycle.cuts import TOP_SHARE, cut_for_share, share_of_half
from ml.lifecycle.figures import ltv_with_cut, newcomers, shares_over_time, silence_return, stage_shares
from ml.lifecycle.history import TRAILING_WEEKS, Shift, recent_shares, share_shift, stage_counts
from ml.lifecycle.model import LifecycleModel, assign_stages
from ml.lifecycle.newcomers import NewcomerRates, newcomer_rates
from ml.lifecycle.presets import PRESET_STAGES, PRESET_SUB_STAGES
from ml.lifecycle.rules import CUTS, PARAMETERS, StageRule, SubStageRule
from ml.lifecycle.silences import ReturnCurve, return_curve
from ml.lifecycle.spec import LifecycleSpec
from ml.lifecycle.stages import continue_spells, stage_query
from ml.lifecycle.stars import star_candidates
from ml.lifecycle.training import METRIC, freeze, train
from ml.lifecycle.windows import Windows, churn_window, new_window, windows_of
from ml.value.spec import OUTPUTS as VALUE_COLUMNS

__all__ = [
    "CUTS", "METRIC", "PARAMETERS", "PRESET_STAGES", "PRESET_SUB_STAGES", "TOP_SHARE", "TRAILING_WEEKS",
    "VALUE_COLUMNS", "LifecycleModel", "LifecycleSpec", "NewcomerRates", "ReturnCurve", "Shift", "StageRule",
    "SubStageRule", "Windows", "assign_stages", "churn_window", "continue_spells", "cut_for_share", "freeze",
    "ltv_with_cut", "new_window", "newcomer_rates", "newcomers", "recent_shares", "return_curve", "share_of_half",
    "share_shift", "shares_over_time", "silence_return", "stage_counts", "stage_query", "stage_shares",
    "star_candidates", "train", "windows_of",
]  # fmt: skip

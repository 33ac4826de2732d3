"""Segments: layers of clusters inside each stage, micro-segments made of them, audiences and profiles.

Belongs here: cutting customers into groups that keep their identity, naming them and summing them up. Does not belong
here: stages (`ml.lifecycle`), how customers move between groups (`ml.journeys`), and what they explain (`ml.evidence`).
"""

from ml.segments.assignment import History, assign, history_columns, lookback_days
from ml.segments.audiences import audiences
from ml.segments.fitting import fit_layers
from ml.segments.inputs import layer_inputs
from ml.segments.layer_model import LayerModel
from ml.segments.layers import LayerModels
from ml.segments.micro_segments import micro_segment_id, micro_segments, prefixes
from ml.segments.names import Names
from ml.segments.profiles import profiles
from ml.segments.shrinkage import apply_means, r2, shrunken_means
from ml.segments.specs import (
    DEFAULT_AUDIENCES,
    DEFAULT_LAYERS,
    AudienceSpec,
    LayerRule,
    LayerSpec,
    SegmentSpec,
    input_columns,
    unknown_features,
)
from ml.segments.training import train

__all__ = [
    "DEFAULT_AUDIENCES",
    "DEFAULT_LAYERS",
    "AudienceSpec",
    "History",
    "LayerModel",
    "LayerModels",
    "LayerRule",
    "LayerSpec",
    "Names",
    "SegmentSpec",
    "apply_means",
    "assign",
    "audiences",
    "fit_layers",
    "history_columns",
    "input_columns",
    "layer_inputs",
    "lookback_days",
    "micro_segment_id",
    "micro_segments",
    "prefixes",
    "profiles",
    "r2",
    "shrunken_means",
    "train",
    "unknown_features",
]  # fmt: skip

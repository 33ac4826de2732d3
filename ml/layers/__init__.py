"""Layers: attributes that share a context, cut into clusters inside each stage, whose identity survives refits.

Belongs here: specs, finding and fitting clusters, letters and names, assigning customers, the weekly fit. Does not
belong here: stages (`ml.lifecycle`), and what is made of a day's assignments (`ml.segments`).
"""

from ml.layers.assignment import History, assign, history_columns, lookback_days
from ml.layers.fitting import fit_layers
from ml.layers.inputs import layer_inputs
from ml.layers.layer_model import LayerModel
from ml.layers.layer_models import LayerModels
from ml.layers.names import Names
from ml.layers.shrinkage import apply_means, r2, shrunken_means
from ml.layers.specs import (
    CONTEXTS,
    DEFAULT_LAYERS,
    TECHNOLOGY,
    LayerRule,
    LayerSpec,
    SegmentSpec,
    default_layers,
    input_columns,
    unknown_features,
)
from ml.layers.strings import micro_segment_id, prefixes
from ml.layers.training import train

__all__ = [
    "CONTEXTS",
    "DEFAULT_LAYERS",
    "TECHNOLOGY",
    "History",
    "LayerModel",
    "LayerModels",
    "LayerRule",
    "LayerSpec",
    "Names",
    "SegmentSpec",
    "apply_means",
    "assign",
    "default_layers",
    "fit_layers",
    "history_columns",
    "input_columns",
    "layer_inputs",
    "lookback_days",
    "micro_segment_id",
    "prefixes",
    "r2",
    "shrunken_means",
    "train",
    "unknown_features",
]  # fmt: skip

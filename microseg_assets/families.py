"""The list of model families.

Each family is fitted once a week by its own asset, whose choice is in force on the days after the week.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Family:
    """A model family.

    Parameters
    ----------
    name : its name in `model_choices`, in MLflow experiments and in the names of registered models
    asset : the weekly asset that fits it
    group : the group of that asset in the chain
    model : module and class of its models, as ``module:class``; stored with the files of registered models
    decides_segments : whether micro-segments depend on it, so that past days are restated under it
    """

    name: str
    asset: str
    group: str
    model: str
    decides_segments: bool = False


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        family.name: family
        for family in (
            Family("value", "value_model", "value", "ml.value:ValueModel", decides_segments=True),
            Family("lifecycle", "lifecycle_model", "lifecycle", "ml.lifecycle:LifecycleModel", decides_segments=True),
            Family("layers", "layer_models", "segments", "ml.segments:LayerModels", decides_segments=True),
            Family("transitions", "transition_model", "journeys", "ml.journeys:TransitionModel"),
            Family("action-response", "action_response_model", "actions", "ml.actions:ActionResponseModel"),
        )
    }
)
SEGMENT_DEFINING_FAMILIES = tuple(name for name, family in FAMILIES.items() if family.decides_segments)

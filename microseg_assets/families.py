"""The families of models: the one list of them.

A family is fitted once a week by an asset of its own, whose choice serves the days after the week.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Family:
    """A family of models.

    Parameters
    ----------
    name : as in `model_choices`, in MLflow's experiments and in the names of registered models
    asset : the weekly asset that fits it
    group : the link of the chain that the asset belongs to
    model : module and class of its models, as ``module:class``; registered models remember it beside their files
    decides_segments : whether a customer's micro-segment depends on it, so that past days are restated under it
    """

    name: str
    asset: str
    group: str
    model: str
    decides_segments: bool = False


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        one.name: one
        for one in (
            Family("value", "value_model", "value", "ml.value:ValueModel", decides_segments=True),
            Family("lifecycle", "lifecycle_model", "lifecycle", "ml.lifecycle:LifecycleModel", decides_segments=True),
            Family("layers", "layer_models", "segments", "ml.segments:LayerModels", decides_segments=True),
            Family("transitions", "transition_model", "journeys", "ml.journeys:TransitionModel"),
            Family("action-response", "action_response_model", "actions", "ml.actions:ActionResponseModel"),
        )
    }
)
SEGMENT_DEFINING_FAMILIES = tuple(name for name, one in FAMILIES.items() if one.decides_segments)

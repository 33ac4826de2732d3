"""Who could be a star.

Belongs here: asking the rules. Does not belong here: the share of stars and their cut (see `cuts`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from sqlglot import exp

from ml.columns import numbers
from ml.engine import Engine
from ml.lifecycle.model import LifecycleModel, assign_stages
from ml.lifecycle.rules import CUTS, PARAMETERS
from ml.lifecycle.spec import LifecycleSpec
from ml.rules import parse_scalar

Array: TypeAlias = "np.ndarray[Any, Any]"


def star_candidates(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel, spec: LifecycleSpec
) -> Array:
    """Who would be a star if the cut were no hurdle: one boolean per row of `features`, ordered by day and customer.

    With the preset rules these are the active customers, stars among them. It asks the rules rather than a stage's
    name, so it holds for a project's own stages too.
    """
    rules = model.stages or spec.rules()
    starry = [rule.name for rule in rules if "star_cut" in {node.name for node in _nodes(rule.when)}]
    staged = assign_stages(engine, features, value, replace(model, star_cut=-1e300), spec)
    return np.isin(np.asarray(staged["stage"].to_pylist(), dtype=str), np.asarray(starry, dtype=str))


def ltv_of_candidates(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel, spec: LifecycleSpec
) -> Array:
    """The ltv of `star_candidates`."""
    return numbers(value["ltv"])[star_candidates(engine, features, value, model, spec)]


def _nodes(when: str) -> list[exp.Placeholder]:
    return list(parse_scalar(when, None, (*PARAMETERS, *CUTS)).find_all(exp.Placeholder))

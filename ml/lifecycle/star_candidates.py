"""Who could be a star.

Belongs here: finding out from the rules. Does not belong here: the share of stars and their cut (see `cuts`).
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
    """Flag the customers who would be stars under an infinitely low cut.

    With the preset rules these are the active customers, stars among them. The flags come from the rules, not from the
    name of a stage, so they hold for a project's own stages too.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    features : pa.Table
        A snapshot, ordered by day and customer.
    value : pa.Table
        Columns customer_id, day and the value columns of the same rows.
    model : LifecycleModel
        Rules and thresholds; its cut of stars is not used.
    spec : LifecycleSpec
        Settings, whose rules apply if the model has none.

    Returns
    -------
    ndarray of bool of shape (n_rows,)
        One flag per row of `features`.
    """
    rules = model.stages or spec.rules()
    star_stages = [rule.name for rule in rules if "star_cut" in {node.name for node in _nodes(rule.when)}]
    staged = assign_stages(engine, features, value, replace(model, star_cut=-1e300), spec)
    return np.isin(np.asarray(staged["stage"].to_pylist(), dtype=str), np.asarray(star_stages, dtype=str))


def ltv_of_candidates(
    engine: Engine, features: pa.Table, value: pa.Table, model: LifecycleModel, spec: LifecycleSpec
) -> Array:
    """Lifetime values of `star_candidates`, in currency."""
    return numbers(value["ltv"])[star_candidates(engine, features, value, model, spec)]


def _nodes(when: str) -> list[exp.Placeholder]:
    return list(parse_scalar(when, None, (*PARAMETERS, *CUTS)).find_all(exp.Placeholder))

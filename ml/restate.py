"""Restating: any snapshot, of any days, under a given set of models: value, stage and micro-segment.

Belongs here: the chain value → stages → layers → micro-segments as one function, for past days under today's models,
for training, and for what a movement compares. Does not belong here: any step's method, and which models are in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from ml.engine import Engine
from ml.lifecycle import LifecycleModel, LifecycleSpec, assign_stages
from ml.segments import History, LayerModels, SegmentSpec, history_columns, layer_inputs
from ml.segments.assignment import primary_strings
from ml.segments.inputs import sort_inputs
from ml.value import ValueModel, ValueSpec, apply
from ml.value import inputs_of as value_inputs
from ml.value.spec import BASELINE_WINDOW_DAYS, OUTPUTS


@dataclass(frozen=True)
class Specs:
    """The project's settings of the three steps."""

    value: ValueSpec = field(default_factory=ValueSpec)
    lifecycle: LifecycleSpec = field(default_factory=LifecycleSpec)
    segments: SegmentSpec = field(default_factory=SegmentSpec)


@dataclass(frozen=True)
class Models:
    """The models of the three steps; None where there is none yet."""

    value: ValueModel | None = None
    lifecycle: LifecycleModel | None = None
    layers: LayerModels | None = None
    specs: Specs = field(default_factory=Specs)

    def inputs_of(self, engine: Engine, features: pa.Table) -> pa.Table:
        """`layer_inputs` of a snapshot: features, value and stage of each customer and day, under these models."""
        valued = apply(features, self.value, self.specs.value, label="restated")
        stages = assign_stages(engine, features, valued, self.lifecycle, self.specs.lifecycle)
        return layer_inputs(engine, features, valued, stages)


def restate(engine: Engine, features: pa.Table, models: Models, history: History | None = None) -> pa.Table:
    """The primary micro-segment of each customer and day of a snapshot, under `models`.

    Parameters
    ----------
    features : a snapshot (`CustomerHistory.snapshot`): customer_id, day and features, of one or several days
    history : features of earlier days, the same way, by which customers at the border of two clusters stay
        where they were, as in the published strings; without it nothing is damped

    Returns
    -------
    customer_id, day, stage, micro_segment, micro_segment_id and every other column of `layer_inputs`, one row per row
    of `features`, by day and customer. Before there are layers the string is the stage alone.
    """
    return strings_of(
        models.inputs_of(engine, features), models, None if history is None else valued_history(history, models)
    )


def valued_history(features: History, models: Models) -> History:
    """What was known on earlier days, as damping looks at it: their features, valued by the models in force.

    A published value of such a day is never asked for: it may have come from another model, or not be there.

    Parameters
    ----------
    features : of pairs of customer and day, at least `valued_history_columns`:
        `CustomerHistory.snapshot`, or what a lake holds

    Returns
    -------
    The features of each pair with the value model's columns beside them, null where the pair asks for none. Null as
    well, where there is no value model, of customers younger than the baseline's window: what fills that up rests on
    all customers of the day (`ml.value.spec.full_windows`), and a part of them says nothing of it.
    """

    def of(pairs: pa.Table) -> pa.Table:
        found = features(pairs)
        is_valued = pairs["is_valued"].combine_chunks()
        if models.value is None and "tenure_days" in found.column_names:
            is_young = pc.less(found["tenure_days"], BASELINE_WINDOW_DAYS).combine_chunks()
            is_valued = pc.and_not(is_valued, is_young.fill_null(False))
        # Nothing but what the model looks at: the answer for a customer must not depend on who else is asked for.
        looked_at = [name for name in value_inputs(models.value) if name in found.column_names]
        asked = found.select(["customer_id", "day", *looked_at]).filter(is_valued)
        valued = apply(asked, models.value, models.specs.value, label="restated")
        place = pc.subtract(pc.cumulative_sum(is_valued.cast(pa.int64())), 1)
        place = pc.if_else(is_valued, place, pa.scalar(None, pa.int64()))
        for name in OUTPUTS:
            found = found.append_column(name, valued[name].take(place))
        return found

    return of


def valued_history_columns(models: Models, names: Sequence[str]) -> list[str]:
    """Those of a snapshot's columns that `past` has to be given."""
    looked_at, is_valued = history_columns(models.layers, names)
    wanted = {*looked_at, *(value_inputs(models.value) if is_valued else ())}
    return [name for name in names if name in wanted]


def strings_of(inputs: pa.Table, models: Models, history: History | None = None) -> pa.Table:
    """`restate` from `layer_inputs` on: only the layers and strings are computed."""
    inputs = sort_inputs(inputs)
    strings = primary_strings(inputs, models.layers, models.specs.segments.layers, history)
    others = [name for name in inputs.column_names if name not in ("customer_id", "day", "stage")]
    first = {name: inputs[name] for name in ("customer_id", "day", "stage")}
    return pa.table(
        first | {name: strings[name] for name in strings.column_names} | {name: inputs[name] for name in others}
    )

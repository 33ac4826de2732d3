"""Restating: value, stage and micro-segment of any snapshot, of any days, under a set of models.

Belongs here: the chain value → stages → layers → micro-segments as one function, for past days under today's models,
for training, and for movements. Does not belong here: any step's method, and which models are in force.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from ml.engine import Engine
from ml.features import CustomerHistory, features_table
from ml.layers import History, LayerModels, SegmentSpec, history_columns, layer_inputs
from ml.layers.assignment import primary_strings
from ml.layers.inputs import sort_inputs
from ml.lifecycle import LifecycleModel, LifecycleSpec, assign_stages
from ml.value import ValueModel, ValueSpec, apply
from ml.value import inputs_of as value_inputs
from ml.value.model import model_in_force
from ml.value.spec import BASELINE_WINDOW_DAYS, OUTPUTS


@dataclass(frozen=True)
class Specs:
    """The project's settings of the three steps.

    Parameters
    ----------
    value : ValueSpec
        Settings of value.
    lifecycle : LifecycleSpec
        Settings of stages.
    segments : SegmentSpec
        Settings of layers and micro-segments.

    Examples
    --------
    >>> Specs(ValueSpec(horizon_days=180)).value.horizon_days
    180
    """

    value: ValueSpec = field(default_factory=ValueSpec)
    lifecycle: LifecycleSpec = field(default_factory=LifecycleSpec)
    segments: SegmentSpec = field(default_factory=SegmentSpec)


@dataclass(frozen=True)
class Models:
    """The models of the three steps; None where there is none yet.

    Parameters
    ----------
    value : ValueModel or None
        Values customers; None for the persistence baseline.
    lifecycle : LifecycleModel or None
        Assigns stages; None for preset windows.
    layers : LayerModels or None
        Assigns clusters; None where the micro-segment is the stage alone.
    specs : Specs
        The project's settings.

    Examples
    --------
    >>> models = Models()
    >>> models.specs.value.horizon_days
    90
    """

    value: ValueModel | None = None
    lifecycle: LifecycleModel | None = None
    layers: LayerModels | None = None
    specs: Specs = field(default_factory=Specs)

    def inputs_of(self, engine: Engine, features: pa.Table) -> pa.Table:
        """Compute the inputs of layers: features, value and stage of each customer and day, under these models.

        Parameters
        ----------
        engine : Engine
            Runs the queries.
        features : pa.Table
            A snapshot, of one or several days.

        Returns
        -------
        pa.Table
            See `ml.layers.layer_inputs`.
        """
        valued = apply(features, self.value, self.specs.value, label="restated")
        stages = assign_stages(engine, features, valued, self.lifecycle, self.specs.lifecycle)
        return layer_inputs(engine, features, valued, stages)


def restate(engine: Engine, features: pa.Table, models: Models, history: History | None = None) -> pa.Table:
    """Compute the primary micro-segment of each customer and day of a snapshot.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    features : pa.Table
        A snapshot (see `CustomerHistory.snapshot`): `customer_id`, `day` and features, of one or several days.
    models : Models
        The models to apply.
    history : callable, optional
        Features of earlier days, by pairs of customer and day (such as `CustomerHistory.snapshot`). With them,
        customers at the border of two clusters stay where they were, as in the published strings.

    Returns
    -------
    pa.Table
        `customer_id`, `day`, `stage`, `micro_segment`, `micro_segment_id` and every other column of `layer_inputs`: one
        row per row of `features`, by day and customer. Before there are layers the string is the stage alone.

    Examples
    --------
    >>> import datetime, pyarrow as pa
    >>> from ml.engine import DuckDB
    >>> from ml.features import CustomerHistory, FeatureSpec
    >>> from ml.tables import CATEGORY_DAYS, CUSTOMER_DAYS, CUSTOMERS
    >>> engine, day, stamp = DuckDB(threads=1), datetime.date(2024, 3, 31), pa.field("day", pa.date32())
    >>> empty = [table.schema().append(stamp).empty_table() for table in (CUSTOMER_DAYS, CATEGORY_DAYS, CUSTOMERS)]
    >>> features = CustomerHistory(engine, FeatureSpec(), *empty).snapshot_of(day)
    >>> models = Models()
    >>> restate(engine, features, models).column_names[:4]
    ['customer_id', 'day', 'stage', 'micro_segment']
    """
    earlier = None if history is None else valued_history(history, models)
    inputs = sort_inputs(models.inputs_of(engine, features))
    strings = primary_strings(inputs, models.layers, models.specs.segments.layers, earlier)
    others = [name for name in inputs.column_names if name not in ("customer_id", "day", "stage")]
    first = {name: inputs[name] for name in ("customer_id", "day", "stage")}
    return pa.table(
        first | {name: strings[name] for name in strings.column_names} | {name: inputs[name] for name in others}
    )


def valued_history(features: History, models: Models) -> History:
    """Add values by the models in force to the features of earlier days, for damping.

    Published values of such a day are never used: they may be by another model, or missing.

    Parameters
    ----------
    features : callable
        Features of pairs of customer and day, at least `valued_history_columns`: `CustomerHistory.snapshot`, or rows of
        a lake.
    models : Models
        The models in force.

    Returns
    -------
    callable
        The features of each pair with the value model's columns, null where the pair needs no value. Also null, where
        there is no value model, for customers younger than the baseline's window: what fills their windows is computed
        from all customers of the day (`ml.value.spec.full_windows`), and cannot be from a part of them.

    Examples
    --------
    >>> pairs = pa.table({"customer_id": ["a", "b"], "day": [1, 1], "is_valued": [True, False]})
    >>> snapshot = pairs.select([0, 1]).append_column("orders_90d", pa.array([3, 2]))
    >>> snapshot = snapshot.append_column("spend_90d", pa.array([90.0, 40.0]))
    >>> dated = snapshot.set_column(1, "day", pa.array([19_800, 19_800], pa.int32()).cast(pa.date32()))
    >>> models = Models()
    >>> valued_history(lambda pairs: dated, models)(pairs)["expected_spend"].to_pylist()
    [90.0, None]
    """

    def of(pairs: pa.Table) -> pa.Table:
        rows = features(pairs)
        is_valued = pairs["is_valued"].combine_chunks()
        if model_in_force(models.value, models.specs.value.of) is None and "tenure_days" in rows.column_names:
            is_young = pc.less(rows["tenure_days"], BASELINE_WINDOW_DAYS).combine_chunks()
            is_valued = pc.and_not(is_valued, is_young.fill_null(False))
        # Only the model's own inputs: the value of a customer must not depend on which others are asked for.
        inputs = [name for name in value_inputs(models.value, models.specs.value.of) if name in rows.column_names]
        wanted = rows.select(["customer_id", "day", *inputs]).filter(is_valued)
        if not wanted.num_rows:  # then the features may lack what a value is made of
            nothing = pa.nulls(rows.num_rows, pa.float64())
            return pa.table({**{name: rows[name] for name in rows.column_names}, **dict.fromkeys(OUTPUTS, nothing)})
        valued = apply(wanted, models.value, models.specs.value, label="restated")
        position = pc.subtract(pc.cumulative_sum(is_valued.cast(pa.int64())), 1)
        position = pc.if_else(is_valued, position, pa.scalar(None, pa.int64()))
        for name in OUTPUTS:
            rows = rows.append_column(name, valued[name].take(position))
        return rows

    return of


def earlier_features(facts: CustomerHistory, models: Models) -> History:
    """Compute the features of earlier days that damping needs from a history.

    Parameters
    ----------
    facts : CustomerHistory
        What is known.
    models : Models
        The models in force.

    Returns
    -------
    callable
        `facts.snapshot`, of the columns of `valued_history_columns`.

    Examples
    --------
    >>> from ml.engine import DuckDB
    >>> from ml.features import FeatureSpec
    >>> from ml.tables import TRANSACTIONS
    >>> facts = CustomerHistory.from_rows(DuckDB(threads=1), FeatureSpec(), transactions=TRANSACTIONS.empty_days())
    >>> earlier_features(facts, Models())(facts.known([])).column_names
    ['customer_id', 'day']
    """
    return partial(facts.snapshot, columns=valued_history_columns(models, features_table(facts.spec).names))


def valued_history_columns(models: Models, names: Sequence[str]) -> list[str]:
    """List those of a snapshot's columns that `valued_history` needs.

    Parameters
    ----------
    models : Models
        The models in force.
    names : sequence of str
        The snapshot's columns.

    Returns
    -------
    list of str
        In the order of `names`.

    Examples
    --------
    Without layers nothing is damped:

    >>> models = Models()
    >>> valued_history_columns(models, ["orders_90d", "spend_90d"])
    []
    """
    inputs, is_valued = history_columns(models.layers, names)
    wanted = {*inputs, *(value_inputs(models.value, models.specs.value.of) if is_valued else ())}
    return [name for name in names if name in wanted]

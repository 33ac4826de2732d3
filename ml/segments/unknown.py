"""Customers of whom a layer of attributes knows nothing: a group of their own where they are many.

Belongs here: who they are, when they are many, and putting their cluster beside those that were found among the others.
Does not belong here: finding clusters (see `fitting`), and single gaps, which the preparation fills with the median.

An attribute is a column that the project file takes from its customers; features of what customers do are none: that
one is missing (no second purchase, no spend) is itself something they did. A layer is one of attributes if all of its
features are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

from ml.reasons import Reason
from ml.segments.layer_model import LayerModel
from ml.segments.preparation import MISSING_GAP_SD, Column, Numeric, Unknown
from ml.segments.reasons import Code, among_known
from ml.segments.specs import is_attribute

T = TypeVar("T")

MANY = 0.05  # share of a stage's customers from which those of whom nothing is known are a group of their own
STILL = 0.5  # of that, and of the fewest customers: a group that there is stays down to here


def unknown_rows(table: pa.Table, features: Sequence[str]) -> np.ndarray:
    """Which rows lack every feature; none of them where a feature is no attribute."""
    if not features or not all(map(is_attribute, features)):
        return np.zeros(table.num_rows, dtype=bool)
    return np.asarray(Unknown(tuple(features)).is_unknown(table))


def are_many(unknown: np.ndarray, smallest: int, before: LayerModel | None) -> bool:
    """Whether the unknown, and the others too, are enough for a cluster."""
    count, others = int(unknown.sum()), int((~unknown).sum())
    slack = STILL if before is not None and has_unknown(before) else 1.0
    return count >= max(slack * smallest, slack * MANY * len(unknown), 1) and others >= smallest


def has_unknown(model: LayerModel) -> bool:
    """Whether a layer has a cluster of the unknown."""
    if model.cuts:
        return isinstance(model.columns[0], Numeric) and model.columns[0].separates_missing
    return bool(model.columns) and isinstance(model.columns[-1], Unknown)


def place_of_unknown(model: LayerModel) -> int:
    """The number of their cluster in a layer that has one."""
    return 0 if model.cuts else int(np.argmax([centre[-1] for centre in model.centres]))


def without_unknown(model: LayerModel | None) -> LayerModel | None:
    """A layer in force as it is among the others; the letters of its clusters are as they were."""
    if model is None or not has_unknown(model):
        return model
    gone = place_of_unknown(model)

    def others(values: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(one for number, one in enumerate(values) if number != gone) if len(values) > 1 else values

    model = replace(
        model,
        letters=others(model.letters),
        names=others(model.names),
        sizes=others(model.sizes),
        since=others(model.since),
        evidence=others(model.evidence),
        shares=others(model.shares),
        reason=among_known(model.reason),
    )
    if model.cuts:
        return replace(
            model, columns=(_numeric(model, separates_missing=False), *model.columns[1:]), cuts=model.cuts[1:]
        )
    if len(model.letters) == 1:
        return replace(model, kind="one", columns=model.columns[:-1], centres=(), spread=(), shares=())
    return replace(
        model,
        columns=model.columns[:-1],
        centres=tuple(centre[:-1] for centre in others(model.centres)),
        spread=model.spread[:-1],
    )


def with_unknown(
    fitted: LayerModel, columns: Sequence[Column], features: Sequence[str], unknown: np.ndarray
) -> LayerModel:
    """Clusters that were found among the others, and that of the unknown beside them, all without letters yet.

    Parameters
    ----------
    fitted : of the customers of whom something is known; one cluster or several
    columns : their preparation
    features : of the layer
    unknown : (customers,): who is in the new cluster
    """
    count = int(unknown.sum())
    figures = {
        "features": list(features), "unknown": count, "customers": len(unknown), "others": fitted.reason.stored(),
    }  # fmt: skip
    reason = Reason(Code.UNKNOWN_APART, figures)
    if fitted.cuts:
        first = _numeric(fitted, separates_missing=True)
        return replace(
            fitted,
            columns=(first, *fitted.columns[1:]),
            cuts=(first.missing_position + MISSING_GAP_SD / 2, *fitted.cuts),
            letters=("?",) * (len(fitted.letters) + 1),
            sizes=(count, *fitted.sizes),
            reason=reason,
        )
    width = sum(column.width for column in columns)
    centres = fitted.centres or ((0.0,) * width,)
    filled = _filled(columns, width)
    shares = fitted.shares and (*(s * (1 - unknown.mean()) for s in fitted.shares), float(unknown.mean()))
    return replace(
        fitted,
        columns=(*columns, Unknown(tuple(features))),
        centres=(*((*centre, 0.0) for centre in centres), (*filled, 1.0)),
        spread=(*(fitted.spread or (1.0,) * width), 1 / (2 * MISSING_GAP_SD)),
        sharpness=fitted.sharpness if fitted.centres else 1.0,
        shares=tuple(shares),
        letters=("?",) * (len(centres) + 1),
        sizes=(*(fitted.sizes or (int((~unknown).sum()),)), count),
        kind="fixed" if fitted.kind == "one" else fitted.kind,
        reason=reason,
    )


def _numeric(model: LayerModel, *, separates_missing: bool) -> Numeric:
    """The number that quantiles are of."""
    column = model.columns[0]
    assert isinstance(column, Numeric)
    return replace(column, separates_missing=separates_missing)


def _filled(columns: Sequence[Column], width: int) -> tuple[float, ...]:
    """Where the preparation puts a customer of whom it knows nothing."""
    empty = pa.table({column.feature: pa.nulls(1, pa.string()) for column in columns})
    numbers = {column.feature: pa.nulls(1, pa.float64()) for column in columns if type(column) is Numeric}
    for name, column in numbers.items():
        empty = empty.set_column(empty.column_names.index(name), name, column)
    found = [float(array[0]) for column in columns for array in column.transform(empty)]
    assert len(found) == width
    return tuple(found)

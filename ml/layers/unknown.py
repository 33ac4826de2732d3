"""The cluster of customers of whom a layer of attributes knows nothing.

Belongs here: who they are, when they are enough for a cluster, and adding it to those of the other customers. Does not
belong here: finding clusters (see `clustering`), and single gaps, which the preparation fills with the median.

An attribute is a column that the project file takes from its customers table. What is computed from behaviour is not
one: a missing value there (no second purchase, no spend) is itself behaviour. A layer is one of attributes if all of
its features are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

from ml.layers.layer_model import LayerModel
from ml.layers.preparation import MISSING_GAP_SD, Column, Numeric, Unknown
from ml.layers.reasons import Code, among_known
from ml.layers.specs import is_attribute
from ml.reasons import Reason

T = TypeVar("T")

MIN_SHARE = 0.05  # of a stage's customers: from this share on, those of whom nothing is known get a cluster
INCUMBENT_SLACK = 0.5  # times that, and times the smallest cluster: an existing cluster of theirs is kept down to here


def unknown_rows(table: pa.Table, features: Sequence[str]) -> np.ndarray:
    """Whether each row lacks every feature; False everywhere if a feature is not an attribute."""
    if not features or not all(map(is_attribute, features)):
        return np.zeros(table.num_rows, dtype=bool)
    return np.asarray(Unknown(tuple(features)).is_unknown(table))


def are_enough(unknown: np.ndarray, min_size: int, incumbent: LayerModel | None) -> bool:
    """Whether the unknown customers, and the others too, are enough for a cluster."""
    count, others = int(unknown.sum()), int((~unknown).sum())
    slack = INCUMBENT_SLACK if incumbent is not None and has_unknown_cluster(incumbent) else 1.0
    return count >= max(slack * min_size, slack * MIN_SHARE * len(unknown), 1) and others >= min_size


def has_unknown_cluster(model: LayerModel) -> bool:
    """Whether a layer has a cluster of unknown customers."""
    if model.cuts:
        return isinstance(model.columns[0], Numeric) and model.columns[0].separates_missing
    return bool(model.columns) and isinstance(model.columns[-1], Unknown)


def unknown_cluster(model: LayerModel) -> int:
    """Number of the unknown customers' cluster in a layer that has one."""
    return 0 if model.cuts else int(np.argmax([centre[-1] for centre in model.centres]))


def remove_unknown_cluster(model: LayerModel | None) -> LayerModel | None:
    """A layer in force as it is among the other customers; the letters of its clusters stay."""
    if model is None or not has_unknown_cluster(model):
        return model
    unknown = unknown_cluster(model)

    def others(values: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(value for number, value in enumerate(values) if number != unknown) if len(values) > 1 else values

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


def add_unknown_cluster(
    fitted: LayerModel, columns: Sequence[Column], features: Sequence[str], unknown: np.ndarray
) -> LayerModel:
    """Add the cluster of unknown customers to clusters that were fitted among the others, all without letters yet.

    Parameters
    ----------
    fitted : LayerModel
        Fitted on the customers of whom something is known; one cluster or several.
    columns : Sequence of Column
        Their preparation.
    features : Sequence of str
        Features of the layer.
    unknown : ndarray of shape (n,)
        Whether each customer is in the new cluster.
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
    """The number that quantiles are cut from."""
    column = model.columns[0]
    assert isinstance(column, Numeric)
    return replace(column, separates_missing=separates_missing)


def _filled(columns: Sequence[Column], width: int) -> tuple[float, ...]:
    """Prepared values of a customer of whom nothing is known."""
    row = pa.table({column.feature: pa.nulls(1, pa.string()) for column in columns})
    numbers = {column.feature: pa.nulls(1, pa.float64()) for column in columns if type(column) is Numeric}
    for name, column in numbers.items():
        row = row.set_column(row.column_names.index(name), name, column)
    values = [float(array[0]) for column in columns for array in column.transform(row)]
    assert len(values) == width
    return tuple(values)

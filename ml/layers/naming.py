"""What distinguishes each cluster of a fitted layer within its stage, measured and worded.

Belongs here: measuring the differences. Does not belong here: the words (see `names`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

import ml.layers.preparation as preparation
from ml.layers.layer_model import LayerModel
from ml.layers.names import ALIKE, UNKNOWN, Difference, cluster_names

MAX_DIFFERENCES = 16


def with_names(fitted: LayerModel, table: pa.Table) -> LayerModel:
    """Add evidence and names to a layer, measured on the rows of its stage."""
    if len(fitted.letters) == 1:
        return replace(fitted, names=(ALIKE,), evidence=((),))
    if not table.num_rows:
        return fitted
    cluster_differences = differences(fitted, table, fitted.assign(table))
    evidence = tuple(tuple(of_cluster[:MAX_DIFFERENCES]) for of_cluster in cluster_differences)
    if fitted.rules:
        return replace(fitted, evidence=evidence)
    features = [column.feature for column in fitted.columns]
    return replace(fitted, evidence=evidence, names=cluster_names(fitted.letters, cluster_differences, features))


def differences(fitted: LayerModel, table: pa.Table, clusters: np.ndarray) -> list[list[Difference]]:
    """For each cluster how far its mean of each column lies from the stage's, largest first."""
    count = len(fitted.letters)
    result: list[list[Difference]] = [[] for _ in range(count)]
    sizes = np.bincount(clusters, minlength=count)
    for column in fitted.columns:
        for feature, value, prepared, raw in _statements(column, table):
            spread = float(np.std(prepared))
            if spread <= 1e-12:
                continue
            known = ~np.isnan(raw)
            filled = np.where(known, raw, 0.0)
            means = np.bincount(clusters, prepared, minlength=count) / np.maximum(sizes, 1)
            n_known = np.bincount(clusters, known, minlength=count)
            raw_means = np.bincount(clusters, filled, minlength=count) / np.maximum(n_known, 1)
            overall_prepared, overall = float(prepared.mean()), float(filled.sum() / max(known.sum(), 1))
            for number in np.flatnonzero(sizes):
                deviation = (float(means[number]) - overall_prepared) / spread
                texts = _nearest_words(column, float(raw_means[number]), overall) if not value else ("", "")
                result[number].append(Difference(feature, value, deviation, float(raw_means[number]), overall, *texts))
    for of_cluster in result:
        of_cluster.sort(key=lambda one: (-abs(one.difference), one.feature, one.value))
    return result


def _nearest_words(column: preparation.Column, *means: float) -> tuple[str, ...]:
    """The words at the positions nearest to some means; empty where values are numbers."""
    if not isinstance(column, preparation.Ordinal):
        return ("",) * len(means)
    return tuple(column.values[min(max(round(mean), 0), len(column.values) - 1)] for mean in means)


def _statements(column: preparation.Column, table: pa.Table) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """Feature, value, prepared numbers and raw numbers of each statement that a column allows."""
    if isinstance(column, preparation.Unknown):
        is_unknown = column.transform(table)[0]
        return [(column.name, UNKNOWN, is_unknown, is_unknown)]
    if isinstance(column, preparation.Numeric):
        raw = column.raw(table)
        statements = [(column.feature, "", replace(column, separates_missing=False).prepare(raw), raw)]
        if column.separates_missing:
            is_unknown = np.isnan(raw).astype(float)
            statements.append((column.feature, UNKNOWN, is_unknown, is_unknown))
        return statements
    code = column.codes(table)
    prepared = column.transform(table)
    return [
        (column.feature, value, prepared[number], np.where(code < 0, np.nan, (code == number).astype(float)))
        for number, value in enumerate(column.vocabulary)
    ]

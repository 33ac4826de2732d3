"""What sets each cluster of a fitted layer apart inside its stage, measured and put into words.

Belongs here: measuring the differences. Does not belong here: the words (see `names`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

import ml.segments.preparation as preparation
from ml.segments.layer_model import LayerModel
from ml.segments.names import ALIKE, UNKNOWN, Difference, cluster_names

MOST_EVIDENCE = 16


def with_names(fitted: LayerModel, table: pa.Table) -> LayerModel:
    """The layer with its evidence and names, measured on the rows of its stage."""
    if len(fitted.letters) == 1:
        return replace(fitted, names=(ALIKE,), evidence=((),))
    if not table.num_rows:
        return fitted
    found = differences(fitted, table, fitted.assign(table))
    evidence = tuple(tuple(some[:MOST_EVIDENCE]) for some in found)
    if fitted.rules:
        return replace(fitted, evidence=evidence)
    features = [column.feature for column in fitted.columns]
    return replace(fitted, evidence=evidence, names=cluster_names(fitted.letters, found, features))


def differences(fitted: LayerModel, table: pa.Table, place: np.ndarray) -> list[list[Difference]]:
    """Per cluster how far its mean of each column lies from the stage's, greatest first."""
    count = len(fitted.letters)
    found: list[list[Difference]] = [[] for _ in range(count)]
    sizes = np.bincount(place, minlength=count)
    for column in fitted.columns:
        for feature, value, prepare, raw in _spoken(column, table):
            spread = float(np.std(prepare))
            if spread <= 1e-12:
                continue
            known = ~np.isnan(raw)
            filled = np.where(known, raw, 0.0)
            means = np.bincount(place, prepare, minlength=count) / np.maximum(sizes, 1)
            counted = np.bincount(place, known, minlength=count)
            raws = np.bincount(place, filled, minlength=count) / np.maximum(counted, 1)
            everywhere, overall = float(prepare.mean()), float(filled.sum() / max(known.sum(), 1))
            for number in np.flatnonzero(sizes):
                away = (float(means[number]) - everywhere) / spread
                texts = _nearest_words(column, float(raws[number]), overall) if not value else ("", "")
                found[number].append(Difference(feature, value, away, float(raws[number]), overall, *texts))
    for some in found:
        some.sort(key=lambda one: (-abs(one.difference), one.feature, one.value))
    return found


def _nearest_words(column: preparation.Column, *means: float) -> tuple[str, ...]:
    """The words at the places nearest to some means; nothing where values are numbers."""
    if not isinstance(column, preparation.Ordinal):
        return ("",) * len(means)
    return tuple(column.values[min(max(round(mean), 0), len(column.values) - 1)] for mean in means)


def _spoken(column: preparation.Column, table: pa.Table) -> list[tuple[str, str, np.ndarray, np.ndarray]]:
    """(feature, value, prepared numbers, raw numbers) of each thing that can be said of a column."""
    if isinstance(column, preparation.Unknown):
        is_unknown = column.transform(table)[0]
        return [(column.name, UNKNOWN, is_unknown, is_unknown)]
    if isinstance(column, preparation.Numeric):
        raw = column.raw(table)
        said = [(column.feature, "", replace(column, separates_missing=False).prepare(raw), raw)]
        if column.separates_missing:
            is_unknown = np.isnan(raw).astype(float)
            said.append((column.feature, UNKNOWN, is_unknown, is_unknown))
        return said
    code = column.codes(table)
    prepare = column.transform(table)
    return [
        (column.feature, value, prepare[number], np.where(code < 0, np.nan, (code == number).astype(float)))
        for number, value in enumerate(column.vocabulary)
    ]

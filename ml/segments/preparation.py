"""From raw features to the numbers that clusters are made of: impute, unskew, winsorise, scale, encode.

Belongs here: the preparation of one stage and layer, stored as plain numbers. Every step works value by value, so a
customer's prepared numbers do not depend on who else is in the call. Does not belong here: what is done with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import columns

MOST_VALUES = 8
SKEWED = 0.5


@dataclass(frozen=True)
class Numeric:
    """A number: missing → `median`; if `unskew`, sign(x)·log(1 + |x|); cut to `low` … `high`; standardised."""

    feature: str
    median: float
    unskew: bool
    low: float
    high: float
    mean: float
    std: float

    def transform(self, table: pa.Table) -> list[np.ndarray]:
        raw = numbers(table, self.feature)
        filled = np.where(np.isnan(raw), self.median, raw)
        return [(np.clip(_unskewed(filled) if self.unskew else filled, self.low, self.high) - self.mean) / self.std]


@dataclass(frozen=True)
class Categorical:
    """A string, one column per value of `vocabulary` and one for all others: 1 or 0, minus its share, over `scale`.

    The scale gives all columns together the variance of one number. A missing value is 0 in all: like the mean.
    """

    feature: str
    vocabulary: tuple[str, ...]
    shares: tuple[float, ...]
    scale: float

    def transform(self, table: pa.Table) -> list[np.ndarray]:
        code = self.codes(table)
        found = []
        for number, share in enumerate(self.shares):
            column = ((code == number).astype(float) - share) / self.scale
            found.append(np.where(code < 0, 0.0, column))
        return found

    def codes(self, table: pa.Table) -> np.ndarray:
        """Place in the vocabulary, its length for any other value, −1 if missing."""
        if self.feature not in table.column_names:
            return np.full(table.num_rows, -1)
        values = table[self.feature].cast(pa.string())
        place = pc.index_in(values, pa.array(self.vocabulary, pa.string())).fill_null(len(self.vocabulary))
        place = pc.if_else(pc.is_null(values), pa.scalar(-1, pa.int32()), place)
        return np.asarray(place)

    @property
    def values(self) -> tuple[str, ...]:
        return (*self.vocabulary, "other") if len(self.shares) > len(self.vocabulary) else self.vocabulary


Column = Numeric | Categorical


def numbers(table: pa.Table, feature: str) -> np.ndarray:
    """A column as floats, missing and infinite values as NaN; all NaN if there is no such column."""
    if feature not in table.column_names:
        return np.full(table.num_rows, np.nan)
    values = columns.numbers(table[feature])
    return np.where(np.isfinite(values), values, np.nan)


def fit(table: pa.Table, features: Sequence[str]) -> tuple[Column, ...]:
    """Learn the preparation of each feature that carries information here: not all missing, not constant."""
    found: list[Column] = []
    for feature in features:
        learn = _categorical if columns.is_text(table.schema.field(feature).type) else _numeric
        column = learn(table, feature)
        if column is not None:
            found.append(column)
    return tuple(found)


def transform(prepared: Sequence[Column], table: pa.Table) -> list[np.ndarray]:
    """One array of length n per prepared column; a string feature gives several."""
    return [array for column in prepared for array in column.transform(table)]


def _unskewed(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.sign(values) * np.log1p(np.abs(values))
    return result


def _skewness(values: np.ndarray) -> float:
    spread = values.std()
    return float(np.mean(((values - values.mean()) / spread) ** 3)) if spread > 0 else 0.0


def _numeric(table: pa.Table, feature: str) -> Numeric | None:
    raw = np.sort(numbers(table, feature))  # sorted, so that sums do not depend on the order of rows
    known = raw[~np.isnan(raw)]
    if not known.size or known[0] == known[-1]:
        return None
    median = float(np.median(known))
    values = np.sort(np.where(np.isnan(raw), median, raw))
    unskew = abs(_skewness(values)) > SKEWED and abs(_skewness(_unskewed(values))) < abs(_skewness(values))
    values = _unskewed(values) if unskew else values
    low, high = (float(q) for q in np.quantile(values, [0.01, 0.99]))
    if low == high:  # all but a few alike: those few are what there is to see
        low, high = float(values[0]), float(values[-1])
    values = np.clip(values, low, high)
    std = float(values.std())
    if not std > 1e-12:
        return None
    return Numeric(feature, median, bool(unskew), low, high, float(values.mean()), std)


def _categorical(table: pa.Table, feature: str) -> Categorical | None:
    values = table[feature].cast(pa.string()).drop_null()
    if not len(values):
        return None
    counts = {row["values"]: row["counts"] for row in pc.value_counts(values).to_pylist()}
    if len(counts) < 2:
        return None
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    vocabulary = tuple(ranked[:MOST_VALUES])
    shares = [counts[value] / len(values) for value in vocabulary]
    if len(ranked) > MOST_VALUES:
        shares.append(sum(counts[value] for value in ranked[MOST_VALUES:]) / len(values))
    scale = float(np.sqrt(sum(share * (1 - share) for share in shares)))
    return Categorical(feature, vocabulary, tuple(shares), scale)


def to_json(column: Column) -> dict[str, Any]:
    return {"type": type(column).__name__, **{name: getattr(column, name) for name in column.__dataclass_fields__}}


def from_json(stored: dict[str, Any]) -> Column:
    kind, fields = stored["type"], {name: value for name, value in stored.items() if name != "type"}
    if kind == "Numeric":
        return Numeric(**fields)
    return Categorical(fields["feature"], tuple(fields["vocabulary"]), tuple(fields["shares"]), fields["scale"])

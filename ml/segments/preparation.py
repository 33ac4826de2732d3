"""From raw features to the numbers that clusters are made of: impute, unskew, winsorise, scale, encode.

Belongs here: the preparation of one stage and layer, stored as plain numbers. Every step works value by value, so a
customer's prepared numbers do not depend on who else is in the call. Does not belong here: what is done with them, and
how words that hold numbers are put in order (see `ordinals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import columns
from ml.segments.ordinals import in_order

MOST_VALUES = 8
LEAST_SHARED = 5  # customers who have a word that a layer remembers
SKEWED, MOST_SKEWED = 0.5, 1.0  # what is unskewed, and what a logarithm may leave
MOST_NEGATIVE = 0.05  # share of values below 0 up to which log1p, bent at 0, still is a logarithm
MOST_BEYOND = 0.05  # two in a hundred are beyond the ends by construction
FAR = 4.0  # standard deviations between a missing value that lies apart and the lowest known one


@dataclass(frozen=True)
class Numeric:
    """A number: missing → `median`; unskewed; cut to `low` … `high`; standardised.

    `unskew` : ``log1p`` is sign(x)·log(1 + |x|), ``log`` is log(x) of what is never 0 or less, ``logit`` is
    log(x / (1 − x)) of what always lies between 0 and 1, empty leaves it as it is
    `apart` : whether a missing value lies far below all others instead (`place_of_missing`)
    """

    feature: str
    median: float
    unskew: str
    low: float
    high: float
    mean: float
    std: float
    apart: bool = False

    @property
    def place_of_missing(self) -> float:
        """Where a missing value lies that lies apart, in prepared units."""
        return (self.low - self.mean) / self.std - FAR

    @property
    def width(self) -> int:
        """Prepared columns it becomes."""
        return 1

    def transform(self, table: pa.Table) -> list[np.ndarray]:
        return [self.prepared(self.raw(table))]

    def raw(self, table: pa.Table) -> np.ndarray:
        """The column's own numbers, NaN where missing."""
        return numbers(table, self.feature)

    def prepared(self, raw: np.ndarray) -> np.ndarray:
        filled = np.where(np.isnan(raw), self.median, raw)
        filled = _unskewed(filled, self.unskew)
        np.clip(filled, self.low, self.high, out=filled)
        filled -= self.mean
        filled /= self.std
        return np.where(np.isnan(raw), self.place_of_missing, filled) if self.apart else filled


@dataclass(frozen=True)
class Ordinal(Numeric):
    """Words in an order ("Under 15K", "15-24K", "250K+"): each is its place in `values`, then a number like any other.

    A word that is not among them is missing.
    """

    values: tuple[str, ...] = ()

    def raw(self, table: pa.Table) -> np.ndarray:
        if self.feature not in table.column_names:
            return np.full(table.num_rows, np.nan)
        place = pc.index_in(table[self.feature].cast(pa.string()), pa.array(self.values, pa.string()))
        return np.asarray(place.cast(pa.float64()).to_numpy(), dtype=float)


@dataclass(frozen=True)
class Categorical:
    """A string, one column per value of `vocabulary` and one for all others: 1 or 0, minus its share, over `scale`.

    The scale gives all columns together the variance of one number. A missing value is 0 in all: like the mean.
    """

    feature: str
    vocabulary: tuple[str, ...]
    shares: tuple[float, ...]
    scale: float

    @property
    def width(self) -> int:
        """Prepared columns it becomes."""
        return len(self.shares)

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


@dataclass(frozen=True)
class Unknown:
    """Whether nothing is known of a customer in all of some features: 1 or 0."""

    features: tuple[str, ...]

    @property
    def feature(self) -> str:
        """The first of them, by which days without it are told."""
        return self.features[0]

    @property
    def width(self) -> int:
        """Prepared columns it becomes."""
        return 1

    @property
    def name(self) -> str:
        """What is unknown, as a feature is called."""
        return " and ".join(self.features) if len(self.features) < 3 else "attributes"

    def transform(self, table: pa.Table) -> list[np.ndarray]:
        return [self.is_unknown(table).astype(float)]

    def is_unknown(self, table: pa.Table) -> np.ndarray:
        """Which rows lack every feature; a number that is none counts as missing."""
        found = np.ones(table.num_rows, dtype=bool)
        for feature in self.features:
            if feature not in table.column_names:
                continue
            column = table[feature]
            if columns.is_text(column.type):
                found &= np.asarray(pc.is_null(column))
            else:
                found &= np.isnan(numbers(table, feature))
        return found


Column = Numeric | Ordinal | Categorical | Unknown


def numbers(table: pa.Table, feature: str) -> np.ndarray:
    """A column as floats, missing and infinite values as NaN; all NaN if there is no such column."""
    if feature not in table.column_names:
        return np.full(table.num_rows, np.nan)
    values = columns.numbers(table[feature])
    return np.where(np.isfinite(values), values, np.nan)


def fit(table: pa.Table, features: Sequence[str]) -> tuple[Column, ...]:
    """Learn the preparation of each feature that carries information here: not all missing, not constant.

    Columns that are neither numbers nor words (dates, lists) are left out.
    """
    found: list[Column] = []
    for feature in features:
        kind = table.schema.field(feature).type
        column: Column | None = None
        if columns.is_text(kind):
            column = _text(table, feature)
        elif columns.is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
            column = _numeric(feature, numbers(table, feature))
        if column is not None:
            found.append(column)
    return tuple(found)


def still_fit(old: Sequence[Column], new: Sequence[Column], table: pa.Table) -> bool:
    """Whether an older preparation of the same features still describes these rows: few of them lie beyond its ends."""
    if [(type(x), x.feature) for x in old] != [(type(x), x.feature) for x in new]:
        return False
    return all(_beyond(column, table) <= MOST_BEYOND for column in old)


def _beyond(column: Column, table: pa.Table) -> float:
    """Share of the known values that an older preparation cuts off, or has no word for."""
    if isinstance(column, Unknown):
        return 0.0
    if isinstance(column, Categorical):
        code = column.codes(table)
        usual = 1 - sum(column.shares[: len(column.vocabulary)])
        return float((code == len(column.vocabulary)).sum() / max((code >= 0).sum(), 1)) - usual
    raw = column.raw(table)
    values = raw[~np.isnan(raw)]
    values = _unskewed(values, column.unskew)
    slack = 1e-9 * max(abs(column.low), abs(column.high), 1.0)
    return float(((values < column.low - slack) | (values > column.high + slack)).sum() / max(len(values), 1))


def transform(prepared: Sequence[Column], table: pa.Table) -> list[np.ndarray]:
    """One array of length n per prepared column; a string feature gives several."""
    return [array for column in prepared for array in column.transform(table)]


def _unskewed(values: np.ndarray, how: str) -> np.ndarray:
    """A new array, whatever `how` is."""
    result: np.ndarray
    if how == "log":
        result = np.log(np.maximum(values, 1e-12))
    elif how == "logit":
        inside = np.clip(values, 1e-9, 1 - 1e-9)
        result = np.log(inside / (1 - inside))
    else:
        result = np.sign(values) * np.log1p(np.abs(values)) if how else values.copy()
    return result


def _skewness(values: np.ndarray) -> float:
    spread = values.std()
    return float(np.mean(((values - values.mean()) / spread) ** 3)) if spread > 0 else 0.0


def _numeric(feature: str, raw: np.ndarray) -> Numeric | None:
    raw = np.sort(raw)  # so that sums do not depend on the order of rows
    known = raw[~np.isnan(raw)]
    if not known.size or known[0] == known[-1]:
        return None
    median = float(np.median(known))
    values = np.sort(np.where(np.isnan(raw), median, raw))
    unskew = ""
    if abs(_skewness(values)) > SKEWED:
        ways = ["", "log1p"] if np.mean(known < 0) <= MOST_NEGATIVE else [""]
        if known[0] > 0:
            ways += ["log", "logit"] if known[-1] < 1 else ["log"]
        skewed = {how: abs(_skewness(_unskewed(values, how))) for how in ways}
        # What multiplies has a logarithm, whatever its unit; adding 1 bends it where it is small. A little skewness is
        # no reason against it: clusters of unequal size are skewed together.
        unskew = "log" if skewed.get("log", np.inf) <= MOST_SKEWED else min(skewed, key=lambda how: skewed[how])
    values = _unskewed(values, unskew)
    low, high = (float(q) for q in np.quantile(values, [0.01, 0.99]))
    if low == high:  # all but a few alike: those few are what there is to see
        low, high = float(values[0]), float(values[-1])
    values = np.clip(values, low, high)
    std = float(values.std())
    if not std > 1e-12:
        return None
    return Numeric(feature, median, unskew, low, high, float(values.mean()), std)


def _text(table: pa.Table, feature: str) -> Column | None:
    values = table[feature].cast(pa.string()).drop_null()
    counts = {row["values"]: row["counts"] for row in pc.value_counts(values).to_pylist()}
    if len(counts) < 2:
        return None
    order = in_order(counts)
    if order:
        bare = Ordinal(feature, 0.0, "", 0.0, 0.0, 0.0, 1.0, values=order)
        learnt = _numeric(feature, bare.raw(table))
        plain = None if learnt is None else {name: getattr(learnt, name) for name in Numeric.__dataclass_fields__}
        return None if plain is None else Ordinal(**plain, values=order)
    ranked = sorted(counts, key=lambda value: (-counts[value], value))
    # What nearly nobody shares says who somebody is, and stays out of a model.
    vocabulary = tuple(value for value in ranked[:MOST_VALUES] if counts[value] >= LEAST_SHARED)
    if not vocabulary:
        return None
    total = sum(counts.values())
    shares = [counts[value] / total for value in vocabulary]
    if len(ranked) > len(vocabulary):
        shares.append(sum(counts[value] for value in ranked[len(vocabulary) :]) / total)
    scale = float(np.sqrt(sum(share * (1 - share) for share in shares)))
    return Categorical(feature, vocabulary, tuple(shares), scale)


def to_json(column: Column) -> dict[str, Any]:
    """A prepared column as JSON holds it; `from_json` gives it back."""
    return {"type": type(column).__name__, **{name: getattr(column, name) for name in column.__dataclass_fields__}}


def from_json(stored: dict[str, Any]) -> Column:
    """The column that `to_json` has stored."""
    kind, fields = stored["type"], {name: value for name, value in stored.items() if name != "type"}
    if kind == "Numeric":
        return Numeric(**fields)
    if kind == "Unknown":
        return Unknown(tuple(fields["features"]))
    if kind == "Ordinal":
        return Ordinal(**{**fields, "values": tuple(fields["values"])})
    return Categorical(fields["feature"], tuple(fields["vocabulary"]), tuple(fields["shares"]), fields["scale"])

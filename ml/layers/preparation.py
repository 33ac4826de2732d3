"""Preparation of raw features for clustering: impute, unskew, winsorise, scale, encode.

Belongs here: the preparation of one stage and layer, stored as plain numbers. Every step works value by value, so a
customer's prepared numbers do not depend on the other rows of a call. Does not belong here: what the numbers are used
for, and the order of words that hold numbers (see `ordinals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import columns
from ml.layers.ordinals import order_words

MAX_CATEGORIES = 8
MIN_CATEGORY_CUSTOMERS = 5  # customers who share a word that is stored
MIN_SKEWNESS, MAX_LOG_SKEWNESS = 0.5, 1.0  # from which a feature is unskewed, and which a logarithm may leave
MAX_NEGATIVE_SHARE = 0.05  # share of values below 0 up to which log1p, bent at 0, still is a logarithm
MAX_CLIPPED_SHARE = 0.05  # 2 % are clipped by construction
MISSING_GAP_SD = 4.0  # standard deviations from a separated missing value to the lowest known one
# What stored models of earlier versions call a field.
_RENAMED = {"apart": "separates_missing"}


@dataclass(frozen=True)
class Numeric:
    """A number: missing values become the median; then it is unskewed, winsorised and standardised.

    Parameters
    ----------
    feature : str
        Column of the inputs.
    median : float
        Replaces a missing value.
    unskew : str
        ``log1p`` is sign(x)·log(1 + abs(x)); ``log`` is log(x), of a feature that is always above 0; ``logit`` is
        log(x / (1 − x)), of a feature that always lies between 0 and 1; empty changes nothing.
    low, high : float
        Unskewed values are clipped to this range.
    mean, std : float
        Of the clipped values.
    separates_missing : bool
        Whether a missing value lies far below all others instead (`missing_position`).
    """

    feature: str
    median: float
    unskew: str
    low: float
    high: float
    mean: float
    std: float
    separates_missing: bool = False

    @property
    def missing_position(self) -> float:
        """Where missing values lie if they are separated, in prepared units."""
        return (self.low - self.mean) / self.std - MISSING_GAP_SD

    @property
    def width(self) -> int:
        """Number of prepared columns."""
        return 1

    def transform(self, table: pa.Table) -> list[np.ndarray]:
        return [self.prepare(self.raw(table))]

    def raw(self, table: pa.Table) -> np.ndarray:
        """The column's own numbers, NaN where missing."""
        return numbers(table, self.feature)

    def prepare(self, raw: np.ndarray) -> np.ndarray:
        filled = np.where(np.isnan(raw), self.median, raw)
        filled = _unskew(filled, self.unskew)
        np.clip(filled, self.low, self.high, out=filled)
        filled -= self.mean
        filled /= self.std
        return np.where(np.isnan(raw), self.missing_position, filled) if self.separates_missing else filled


@dataclass(frozen=True)
class Ordinal(Numeric):
    """Words in an order ("Under 15K", "15-24K", "250K+"): each becomes its position in `values`, a number like any.

    A word that is not among `values` is missing.
    """

    values: tuple[str, ...] = ()

    def raw(self, table: pa.Table) -> np.ndarray:
        if self.feature not in table.column_names:
            return np.full(table.num_rows, np.nan)
        positions = pc.index_in(table[self.feature].cast(pa.string()), pa.array(self.values, pa.string()))
        return np.asarray(positions.cast(pa.float64()).to_numpy(), dtype=float)


@dataclass(frozen=True)
class Categorical:
    """A string, one-hot encoded: a column per value of `vocabulary` and one for all others.

    Each column is 1 or 0, minus its share, over `scale`, which gives all columns together the variance of one number.
    A missing value is 0 in every column, as the mean is.
    """

    feature: str
    vocabulary: tuple[str, ...]
    shares: tuple[float, ...]
    scale: float

    @property
    def width(self) -> int:
        """Number of prepared columns."""
        return len(self.shares)

    def transform(self, table: pa.Table) -> list[np.ndarray]:
        code = self.codes(table)
        arrays = []
        for number, share in enumerate(self.shares):
            column = ((code == number).astype(float) - share) / self.scale
            arrays.append(np.where(code < 0, 0.0, column))
        return arrays

    def codes(self, table: pa.Table) -> np.ndarray:
        """Position in the vocabulary; its length for any other value, −1 for a missing one."""
        if self.feature not in table.column_names:
            return np.full(table.num_rows, -1)
        values = table[self.feature].cast(pa.string())
        codes = pc.index_in(values, pa.array(self.vocabulary, pa.string())).fill_null(len(self.vocabulary))
        codes = pc.if_else(pc.is_null(values), pa.scalar(-1, pa.int32()), codes)
        return np.asarray(codes)

    @property
    def values(self) -> tuple[str, ...]:
        return (*self.vocabulary, "other") if len(self.shares) > len(self.vocabulary) else self.vocabulary


@dataclass(frozen=True)
class Unknown:
    """An indicator, 1 or 0, of customers who lack every one of some features."""

    features: tuple[str, ...]

    @property
    def feature(self) -> str:
        """The first of the features, by which days without the column are recognised."""
        return self.features[0]

    @property
    def width(self) -> int:
        """Number of prepared columns."""
        return 1

    @property
    def name(self) -> str:
        """What is unknown, worded like a feature."""
        return " and ".join(self.features) if len(self.features) < 3 else "attributes"

    def transform(self, table: pa.Table) -> list[np.ndarray]:
        return [self.is_unknown(table).astype(float)]

    def is_unknown(self, table: pa.Table) -> np.ndarray:
        """Whether each row lacks every feature; an infinite number counts as missing."""
        is_unknown = np.ones(table.num_rows, dtype=bool)
        for feature in self.features:
            if feature not in table.column_names:
                continue
            column = table[feature]
            if columns.is_text(column.type):
                is_unknown &= np.asarray(pc.is_null(column))
            else:
                is_unknown &= np.isnan(numbers(table, feature))
        return is_unknown


Column = Numeric | Ordinal | Categorical | Unknown


def numbers(table: pa.Table, feature: str) -> np.ndarray:
    """A column as floats, missing and infinite values as NaN; all NaN if there is no such column."""
    if feature not in table.column_names:
        return np.full(table.num_rows, np.nan)
    values = columns.numbers(table[feature])
    return np.where(np.isfinite(values), values, np.nan)


def fit(table: pa.Table, features: Sequence[str]) -> tuple[Column, ...]:
    """Learn the preparation of each feature that carries information: not all missing, not constant.

    Columns that are neither numbers nor text (dates, lists) are left out.
    """
    fitted: list[Column] = []
    for feature in features:
        kind = table.schema.field(feature).type
        column: Column | None = None
        if columns.is_text(kind):
            column = _fit_text(table, feature)
        elif columns.is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
            column = _fit_numeric(feature, numbers(table, feature))
        if column is not None:
            fitted.append(column)
    return tuple(fitted)


def is_still_valid(old: Sequence[Column], new: Sequence[Column], table: pa.Table) -> bool:
    """Whether an earlier preparation of the same features still describes these rows: it clips few of them."""
    if [(type(x), x.feature) for x in old] != [(type(x), x.feature) for x in new]:
        return False
    return all(_clipped_share(column, table) <= MAX_CLIPPED_SHARE for column in old)


def _clipped_share(column: Column, table: pa.Table) -> float:
    """Share of the known values that an earlier preparation clips, or has no category for."""
    if isinstance(column, Unknown):
        return 0.0
    if isinstance(column, Categorical):
        code = column.codes(table)
        usual = 1 - sum(column.shares[: len(column.vocabulary)])
        return float((code == len(column.vocabulary)).sum() / max((code >= 0).sum(), 1)) - usual
    raw = column.raw(table)
    values = raw[~np.isnan(raw)]
    values = _unskew(values, column.unskew)
    slack = 1e-9 * max(abs(column.low), abs(column.high), 1.0)
    return float(((values < column.low - slack) | (values > column.high + slack)).sum() / max(len(values), 1))


def transform(fitted: Sequence[Column], table: pa.Table) -> list[np.ndarray]:
    """One array of length n per prepared column; a string feature gives several."""
    return [array for column in fitted for array in column.transform(table)]


def _unskew(values: np.ndarray, method: str) -> np.ndarray:
    """Always a new array, even without a method."""
    result: np.ndarray
    if method == "log":
        result = np.log(np.maximum(values, 1e-12))
    elif method == "logit":
        clipped = np.clip(values, 1e-9, 1 - 1e-9)
        result = np.log(clipped / (1 - clipped))
    else:
        result = np.sign(values) * np.log1p(np.abs(values)) if method else values.copy()
    return result


def _skewness(values: np.ndarray) -> float:
    spread = values.std()
    return float(np.mean(((values - values.mean()) / spread) ** 3)) if spread > 0 else 0.0


def _fit_numeric(feature: str, raw: np.ndarray) -> Numeric | None:
    raw = np.sort(raw)  # so that sums do not depend on the order of rows
    known = raw[~np.isnan(raw)]
    if not known.size or known[0] == known[-1]:
        return None
    median = float(np.median(known))
    values = np.sort(np.where(np.isnan(raw), median, raw))
    unskew = ""
    if abs(_skewness(values)) > MIN_SKEWNESS:
        methods = ["", "log1p"] if np.mean(known < 0) <= MAX_NEGATIVE_SHARE else [""]
        if known[0] > 0:
            methods += ["log", "logit"] if known[-1] < 1 else ["log"]
        skewed = {method: abs(_skewness(_unskew(values, method))) for method in methods}
        # A multiplicative quantity is symmetric on the log scale, whatever its unit; adding 1 bends it where it is
        # small. Some remaining skewness is no objection: clusters of unequal size are skewed together.
        unskew = (
            "log" if skewed.get("log", np.inf) <= MAX_LOG_SKEWNESS else min(skewed, key=lambda method: skewed[method])
        )
    values = _unskew(values, unskew)
    low, high = (float(q) for q in np.quantile(values, [0.01, 0.99]))
    if low == high:  # all but a few values are the same: the few are the information
        low, high = float(values[0]), float(values[-1])
    values = np.clip(values, low, high)
    std = float(values.std())
    if not std > 1e-12:
        return None
    return Numeric(feature, median, unskew, low, high, float(values.mean()), std)


def _fit_text(table: pa.Table, feature: str) -> Column | None:
    values = table[feature].cast(pa.string()).drop_null()
    counts = {row["values"]: row["counts"] for row in pc.value_counts(values).to_pylist()}
    if len(counts) < 2:
        return None
    ordered = order_words(counts)
    if ordered:
        unscaled = Ordinal(feature, 0.0, "", 0.0, 0.0, 0.0, 1.0, values=ordered)
        fitted = _fit_numeric(feature, unscaled.raw(table))
        fields = None if fitted is None else {name: getattr(fitted, name) for name in Numeric.__dataclass_fields__}
        return None if fields is None else Ordinal(**fields, values=ordered)
    by_frequency = sorted(counts, key=lambda value: (-counts[value], value))
    # A value that almost nobody shares identifies people, and stays out of a model.
    vocabulary = tuple(value for value in by_frequency[:MAX_CATEGORIES] if counts[value] >= MIN_CATEGORY_CUSTOMERS)
    if not vocabulary:
        return None
    total = sum(counts.values())
    shares = [counts[value] / total for value in vocabulary]
    if len(by_frequency) > len(vocabulary):
        shares.append(sum(counts[value] for value in by_frequency[len(vocabulary) :]) / total)
    scale = float(np.sqrt(sum(share * (1 - share) for share in shares)))
    return Categorical(feature, vocabulary, tuple(shares), scale)


def to_json(column: Column) -> dict[str, Any]:
    """A prepared column as JSON; `from_json` restores it."""
    return {"type": type(column).__name__, **{name: getattr(column, name) for name in column.__dataclass_fields__}}


def from_json(stored: dict[str, Any]) -> Column:
    """Restore a column that `to_json` stored, in this version or an earlier one."""
    kind, fields = stored["type"], {_RENAMED.get(name, name): value for name, value in stored.items() if name != "type"}
    if kind == "Numeric":
        return Numeric(**fields)
    if kind == "Unknown":
        return Unknown(tuple(fields["features"]))
    if kind == "Ordinal":
        return Ordinal(**{**fields, "values": tuple(fields["values"])})
    return Categorical(fields["feature"], tuple(fields["vocabulary"]), tuple(fields["shares"]), fields["scale"])

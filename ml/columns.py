"""Arrow columns as arrays of floats, and what kind of column one is.

Belongs here: reading columns. Does not belong here: what a family makes of missing values and words.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """A numeric or boolean column as floats, NaN where missing, shape (n,)."""
    return np.asarray(pc.cast(column, pa.float64()).to_numpy(), dtype=float)


def is_number(type_: pa.DataType) -> bool:
    """Whether a column of this type holds integers or floats."""
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def is_text(type_: pa.DataType) -> bool:
    """Whether a column of this type holds words, also if they are stored as a dictionary."""
    if pa.types.is_dictionary(type_):
        return is_text(type_.value_type)
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))

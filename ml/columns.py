"""Arrow columns as arrays of floats, and kinds of columns.

Belongs here: reading columns. Does not belong here: how a family treats missing values and words.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Read a numeric or boolean column as floats.

    Parameters
    ----------
    column : pa.ChunkedArray
        A column of a table.

    Returns
    -------
    np.ndarray of shape (n_rows,)
        NaN where missing.

    Examples
    --------
    >>> numbers(pa.chunked_array([[1, None, 3]])).tolist()
    [1.0, nan, 3.0]
    """
    return np.asarray(pc.cast(column, pa.float64()).to_numpy(), dtype=float)


def is_number(type_: pa.DataType) -> bool:
    """Check whether a column of this type holds integers or floats.

    Parameters
    ----------
    type_ : pa.DataType
        Type of a column.

    Returns
    -------
    bool
        False for booleans and decimals.

    Examples
    --------
    >>> is_number(pa.int64()), is_number(pa.bool_())
    (True, False)
    """
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def is_text(type_: pa.DataType) -> bool:
    """Check whether a column of this type holds text, also if it is stored as a dictionary.

    Parameters
    ----------
    type_ : pa.DataType
        Type of a column.

    Returns
    -------
    bool
        True for all string types.

    Examples
    --------
    >>> is_text(pa.dictionary(pa.int32(), pa.string()))
    True
    """
    if pa.types.is_dictionary(type_):
        return is_text(type_.value_type)
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))

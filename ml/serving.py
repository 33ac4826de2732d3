"""Frames from outside as the inputs of a served model.

Belongs here: the columns that a model takes, an invented example of them, and reading a frame whatever its types are:
rows of the lake as any tool reads them, or rows sent as JSON. Does not belong here: any model, and MLflow.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ml.columns import is_text
from ml.tables import ARROW

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("customer_id", "day")  # of a row: no model reads them
_ROWS = 5
_LONGEST_SPANS = ("tenure_days", "known_days")


def inputs_of(schema: pa.Schema, names: Sequence[str] | None = None) -> dict[str, str]:
    """List the columns that a model takes with their types, without the keys of a row.

    Parameters
    ----------
    schema : pa.Schema
        Of the table that the model was fitted on.
    names : sequence of str, optional
        Those of the schema's columns to take; all by default.

    Returns
    -------
    dict of str to str
        Column to type, as the contracts of tables call it.

    Examples
    --------
    >>> inputs_of(pa.schema({"customer_id": pa.string(), "orders": pa.int64(), "spend": pa.float64()}))
    {'orders': 'bigint', 'spend': 'double'}
    """
    return {
        field.name: _type_of(field.type)
        for field in schema
        if field.name not in KEYS and (names is None or field.name in names)
    }


def example_rows(inputs: Mapping[str, str], words: Mapping[str, Sequence[str]] | None = None) -> pa.Table:
    """Invent a few rows as an example of what a model takes; in the last, values that may be missing are.

    Parameters
    ----------
    inputs : Mapping of str to str
        Column to type, as in `inputs_of`.
    words : Mapping of str to sequence of str, optional
        Column to the words it may hold, such as the names of stages.

    Returns
    -------
    pa.Table
        Five rows.

    Examples
    --------
    >>> example_rows({"orders": "bigint", "stage": "string"}, {"stage": ["new", "active"]}).slice(0, 2).to_pylist()
    [{'orders': 1, 'stage': 'new'}, {'orders': 2, 'stage': 'active'}]
    """
    numbers = range(1, _ROWS + 1)
    values_of: dict[str, Callable[[str], list[Any]]] = {
        "double": lambda name: [
            0.125 * n if "share" in name else 30.0 * n if name in _LONGEST_SPANS else 1.0 * n for n in numbers
        ],
        "bigint": lambda name: [30 * n if name in _LONGEST_SPANS else n for n in numbers],
        "boolean": lambda name: [n % 2 == 1 for n in numbers],
        "date": lambda name: [None for n in numbers],
        "timestamp": lambda name: [None for n in numbers],
        "string": lambda name: ["example" for n in numbers],
    }
    columns = {}
    for name, type_ in inputs.items():
        allowed = (words or {}).get(name)
        values = [allowed[n % len(allowed)] for n in range(_ROWS)] if allowed else values_of[type_](name)
        if type_ in ("boolean", "string") and not allowed:
            values[-1] = None
        columns[name] = pa.array(values, ARROW[type_])
    return pa.table(columns)


def as_inputs(frame: pd.DataFrame, inputs: Mapping[str, str]) -> pd.DataFrame:
    """Convert the columns of a frame to the types that a model takes; missing values stay missing.

    Numbers may be integers, floats, booleans, decimals or numeric texts, in NumPy's, pandas' or Arrow's types; booleans
    may also be 0 and 1; columns of objects, as JSON or a left join make them, are read value by value.

    Parameters
    ----------
    frame : pd.DataFrame
        Rows from outside.
    inputs : Mapping of str to str
        Column to type, as in `inputs_of`; columns that the frame lacks are left to the model.

    Returns
    -------
    pd.DataFrame
        With the frame's index and all of its columns. Numbers are floats, NaN where missing; booleans are pandas' own,
        which can be missing; texts and days are objects.

    Raises
    ------
    ValueError
        If a value cannot be of its column's type; the message names the column, the value and the type.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"orders": ["3", None], "is_member": [1, 0]})
    >>> as_inputs(frame, {"orders": "bigint", "is_member": "boolean"}).values.tolist()
    [[3.0, True], [nan, False]]
    """
    read = {"double": _numbers, "bigint": _numbers, "boolean": _booleans, "string": _texts, "date": _days}
    converted = frame.copy(deep=False)
    for name, type_ in inputs.items():
        if name in converted.columns and type_ in read:
            converted[name] = read[type_](frame[name])
    return converted


def _type_of(type_: pa.DataType) -> str:
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_):
        return "bigint"
    if is_text(type_):
        return "string"
    return next((name for name, known in ARROW.items() if known == type_), "double")


def _numbers(column: pd.Series) -> pd.Series:
    import pandas as pd

    if not pd.api.types.is_numeric_dtype(column.dtype):  # booleans are numeric to pandas
        plain = _objects(column)
        read = pd.to_numeric(plain, errors="coerce")
        _refuse(column, plain[pd.isna(read) & plain.notna()], "a number")
        column = read
    return pd.Series(column.to_numpy(dtype="float64", na_value=float("nan")), index=column.index, name=column.name)


def _booleans(column: pd.Series) -> pd.Series:
    plain = _objects(column)
    lower = plain.map(lambda value: value.strip().lower() if isinstance(value, str) else value, na_action="ignore")
    known = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}  # 1 and 1.0 are True
    read = lower.map(lambda value: known.get(value) if isinstance(value, Hashable) else None, na_action="ignore")
    _refuse(column, plain[read.isna() & plain.notna()], "true or false")
    return read.astype("boolean")


def _texts(column: pd.Series) -> pd.Series:
    plain = _objects(column)
    read = plain.map(str, na_action="ignore")
    return read.astype("str")


def _days(column: pd.Series) -> pd.Series:
    import pandas as pd

    plain = _objects(column)
    read = pd.to_datetime(plain, errors="coerce")
    _refuse(column, plain[read.isna() & plain.notna()], "a day")
    return read.dt.date.astype(object).where(read.notna(), None)


def _objects(column: pd.Series) -> pd.Series:
    """The values as plain objects, None where missing."""
    plain = column.astype(object)
    return plain.where(plain.notna(), None)


def _refuse(column: pd.Series, wrong: pd.Series, wanted: str) -> None:
    if len(wrong):
        raise ValueError(
            f"the column {column.name} holds {str(wrong.iloc[0])!r:.60}, which is not {wanted} "
            f"({len(wrong):,} of {len(column):,} rows): send {wanted}, or null where it is missing"
        )

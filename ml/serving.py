"""Frames from outside as the inputs of a model: what a served model is asked with.

Belongs here: the columns that a model takes, an invented example of them, and reading a frame whatever its types are:
rows of the lake as any tool reads them, rows that came as JSON. Does not belong here: any model, and MLflow.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ml.columns import is_text
from ml.tables import ARROW

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("customer_id", "day")  # who and when a row is of: no model looks at that
_ROWS = 5
_SINCE = ("tenure_days", "known_days")  # the longest of all spans of a customer


def inputs_of(schema: pa.Schema, names: Sequence[str] | None = None) -> dict[str, str]:
    """The columns that a model takes, with their types as the contracts call them; never who a customer is.

    Parameters
    ----------
    names : those among the schema's columns that count; all, if None
    """
    return {
        field.name: _type_of(field.type)
        for field in schema
        if field.name not in KEYS and (names is None or field.name in names)
    }


def example_rows(inputs: Mapping[str, str], words: Mapping[str, Sequence[str]] | None = None) -> pa.Table:
    """A few rows that nobody is behind, as an example of what a model takes; the last lacks what rows may lack.

    Parameters
    ----------
    inputs : column to type, as `inputs_of` gives them
    words : column to the words it may hold, such as the names of stages
    """
    numbers = range(1, _ROWS + 1)
    made: dict[str, Callable[[str], list[Any]]] = {
        "double": lambda name: [
            0.125 * n if "share" in name else 30.0 * n if name in _SINCE else 1.0 * n for n in numbers
        ],
        "bigint": lambda name: [30 * n if name in _SINCE else n for n in numbers],
        "boolean": lambda name: [n % 2 == 1 for n in numbers],
        "date": lambda name: [None for n in numbers],
        "timestamp": lambda name: [None for n in numbers],
        "string": lambda name: ["example" for n in numbers],
    }
    columns = {}
    for name, type_ in inputs.items():
        given = (words or {}).get(name)
        values = [given[n % len(given)] for n in range(_ROWS)] if given else made[type_](name)
        if type_ in ("boolean", "string") and not given:
            values[-1] = None
        columns[name] = pa.array(values, ARROW[type_])
    return pa.table(columns)


def as_inputs(frame: pd.DataFrame, inputs: Mapping[str, str]) -> pd.DataFrame:
    """The frame with every column of `inputs` as the type it has in the chain; a missing value stays missing.

    Numbers may come as whole ones, floats, booleans, decimals or numeric texts, in NumPy's, pandas' or Arrow's types;
    booleans also as 0 and 1; what JSON or a left join has made an object is read value by value.

    Parameters
    ----------
    inputs : column to type; those that the frame does not have are left to the model

    Returns
    -------
    pandas.DataFrame
        With the frame's index and all of its columns. Numbers are floats, NaN where missing, so that any of them may
        be; booleans are pandas' own, which can be missing; texts and days are objects.

    Raises
    ------
    ValueError
        If a value cannot be of its column's type; it names the column, the value and the type.
    """
    read = {"double": _numbers, "bigint": _numbers, "boolean": _booleans, "string": _texts, "date": _days}
    found = frame.copy(deep=False)
    for name, type_ in inputs.items():
        if name in found.columns and type_ in read:
            found[name] = read[type_](frame[name])
    return found


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

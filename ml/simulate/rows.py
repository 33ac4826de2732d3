"""Rows of the input tables: ids, stamps, words, customers, as every simulated business writes them.

Belongs here: turning drawn numbers into rows, all at once. Does not belong here: exposures (see `campaigns`), what is
drawn, and what a line of an order is (see `shop` and `business`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from ml import tables
from ml.simulate.vocabulary import AGE_BANDS, DAY, DEVICES, REGIONS, Array


def ids(letter: str, numbers: Array, width: int, end: str = "") -> pa.Array:
    """`letter`, the number with leading zeros, `end`. Digits are written at once, as formatting is slow."""
    n, prefix, suffix = len(numbers), letter.encode(), end.encode()
    size = len(prefix) + width + len(suffix)
    text = np.empty((n, size), dtype=np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    rest = np.array(numbers, dtype=np.int64)
    for position in range(len(prefix) + width - 1, len(prefix) - 1, -1):
        rest, digit = np.divmod(rest, 10)
        text[:, position] = digit + ord("0")
    if rest.any():
        raise ValueError(f"{int(np.max(numbers))} has more than {width} digits")
    text[:, len(prefix) + width :] = np.frombuffer(suffix, dtype=np.uint8)
    offsets = np.arange(0, (n + 1) * size, size, dtype=np.int32)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(text))


def named(names: tuple[str | None, ...] | pa.Array, numbers: Array) -> pa.DictionaryArray:
    """A name for each number; −1 has none."""
    values = names if isinstance(names, pa.Array) else pa.array(names, pa.string())
    indices = pa.array(numbers.astype(np.int32), mask=numbers < 0 if (numbers < 0).any() else None)
    return pa.DictionaryArray.from_arrays(indices, values)


def moments(day: Array, opens: int, closes: int, random: np.random.Generator) -> Array:
    """Seconds from the start to a moment between two hours of each day."""
    seconds: Array = day * DAY + random.integers(opens * 3600, closes * 3600, len(day))
    return seconds


def stamps(seconds: Array, start: str) -> Array:
    """UTC."""
    return np.datetime64(start, "us") + seconds.astype("timedelta64[s]")


def devices_of(own: Array, customer: Array, random: np.random.Generator) -> Array:
    """Number of a device for each entry: mostly its customer's own."""
    n = len(customer)
    return np.where(random.random(n) < 0.85, own[customer], random.integers(0, len(DEVICES), n))


def kinds_of(taste: Array, customer: Array, random: np.random.Generator) -> Array:
    """Number of a category or game for each entry, by its customer's taste, (customers, kinds)."""
    up_to = taste.cumsum(axis=1)
    drawn = random.random(len(customer))
    kind = np.zeros(len(customer), dtype=np.int8)
    for number in range(taste.shape[1] - 1):
        kind += drawn > up_to[customer, number]
    return kind


def conformed(table: tables.Table, columns: Mapping[str, Any], rows: int) -> pa.Table:
    """The contract's columns in its order, those that are not drawn empty, and then any others."""
    types = table.schema()
    missing = {name: pa.nulls(rows, types.field(name).type) for name in table.names if name not in columns}
    everything = pa.table({**columns, **missing})
    return everything.select([*table.names, *(name for name in columns if name not in table.names)])


def plain(table: pa.Table) -> pa.Table:
    """The same rows with strings in place of dictionaries."""
    types = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(types))


def customers_table(
    customers: pa.Array, seconds: Array, age: Array, region: Array, device: Array, start: str
) -> pa.Table:
    """One row per customer, by registration.

    Parameters
    ----------
    customers : ids, by number
    seconds : from the start to the registration
    age, region, device : numbers of the words; -1 is not known
    """
    order = np.lexsort((np.arange(len(customers)), seconds))
    columns = {
        "customer_id": customers.take(pa.array(order)),
        "registered_at": stamps(seconds[order], start),
        "age_band": named(AGE_BANDS, age[order]),
        "region": named(REGIONS, region[order]),
        "device": named(DEVICES, device[order]),
    }
    return conformed(tables.CUSTOMERS, columns, len(order))

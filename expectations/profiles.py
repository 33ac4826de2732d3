"""The profile of a day: what its rows looked like, in counts small enough to be kept beside the rows.

Belongs here: counting, in one SQL statement, and how values are put into bins. The bins are fixed, so that two days can
be compared without having seen each other. Does not belong here: comparing days (see `expectations.measures`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from ml.engine import quoted
from ml.tables import Column, Table
from ml.tables.outputs import INPUT_PROFILES

if TYPE_CHECKING:
    from ml.engine import Engine, Input

WHOLE, ROWS, CUSTOMERS = "*", "rows", "customers"  # the table itself
REST = "…"  # values beyond the commonest
ANY = "any"  # for columns of which only presence counts
VALUES = 50  # commonest values of a text column that a day's profile keeps
_LENGTH = 100  # characters of a value
_SMALLEST = -20  # powers of two; nearer to 0 is one bin
_OFFSET = 64  # makes the code of every power positive, so that the sign is free for that of the number


def counted_columns(table: Table) -> list[str]:
    """The columns that a profile counts: all but those that are filled with something of their own in every row."""
    return [column.name for column in table.columns if _kind(table, column) is not None]


def profile(engine: Engine, table: Table, rows: Input) -> pa.Table:
    """The profiles of the days of `rows`: the columns of `input_profiles` and `day`.

    Numbers are counted by sign and power of two, texts and truth values by value (the commonest of a day), identifiers
    and further stamps by whether they are there. A day without rows has no profile.

    Parameters
    ----------
    rows : the columns of `table`, and `day`
    """
    whole = f"SELECT day, '{WHOLE}' AS \"column\""
    parts = [
        f"{whole}, '{ROWS}' AS bin, COUNT(*) AS rows FROM given GROUP BY day",
        f"{whole}, '{CUSTOMERS}', COUNT(*) FROM (SELECT DISTINCT day, customer_id FROM given) AS people GROUP BY day",
    ]
    counts = {"number": _numbers, "value": _values, "presence": _presence}
    for column in table.columns:
        kind = _kind(table, column)
        if kind is not None:
            parts.append(counts[kind](column.name))
    sql = (
        f'SELECT "column", bin, CAST(rows AS BIGINT) AS rows, day FROM ({" UNION ALL ".join(parts)}) AS parts '
        'ORDER BY day, "column", bin'
    )
    found = engine.query(sql, given=rows)
    return found.cast(pa.schema([*INPUT_PROFILES.schema(), pa.field("day", pa.date32())]))


def _kind(table: Table, column: Column) -> str | None:
    if column.type in ("double", "bigint"):
        return "number"
    if column.type == "boolean" or (column.type == "string" and not column.name.endswith("_id")):
        return "value"
    return None if column.required or column.name in table.key else "presence"


def _name(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _numbers(name: str) -> str:
    x = quoted(name)
    code = (
        f"CASE WHEN {x} = 0 THEN 0 ELSE CAST(sign({x}) * "
        f"({_OFFSET} + greatest({_SMALLEST}, floor(log2(abs({x}))))) AS INTEGER) END"
    )
    edge = f"CASE WHEN code = 0 THEN 0e0 ELSE sign(code) * power(2e0, abs(code) - {_OFFSET}) END"
    counted = f"SELECT day, {code} AS code, COUNT(*) AS n FROM given GROUP BY 1, 2"
    return f"SELECT day, {_name(name)}, CAST({edge} AS VARCHAR), n FROM ({counted}) AS of_numbers"


def _values(name: str) -> str:
    value = f"substr(CAST({quoted(name)} AS VARCHAR), 1, {_LENGTH})"
    counted = f"SELECT day, {value} AS value, COUNT(*) AS n FROM given GROUP BY 1, 2"
    ranked = (
        "SELECT day, value, n, row_number() OVER (PARTITION BY day, value IS NULL ORDER BY n DESC, value) AS nth "
        f"FROM ({counted}) AS of_values"
    )
    kept = f"CASE WHEN value IS NOT NULL AND nth > {VALUES} THEN '{REST}' ELSE value END"
    return f"SELECT day, {_name(name)}, {kept}, SUM(n) FROM ({ranked}) AS by_rank GROUP BY 1, 2, 3"


def _presence(name: str) -> str:
    there = f"CASE WHEN {quoted(name)} IS NOT NULL THEN '{ANY}' END"
    return f"SELECT day, {_name(name)}, {there}, COUNT(*) FROM given GROUP BY 1, 2, 3"

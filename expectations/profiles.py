"""The profile of a day: what its rows looked like, in counts small enough to be stored with the rows.

Belongs here: counting, in one SQL statement, and how values are put into bins. The bins are fixed, so that the profiles
of any two days can be compared. Does not belong here: comparing days (see `expectations.measures`).
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
MAX_VALUES = 50  # of a text column in the profile of a day: the commonest
_MAX_LENGTH = 100  # characters of a value
_MIN_POWER = -20  # of two; numbers nearer to 0 share one bin
_OFFSET = 64  # makes the code of every power positive, so that the sign is free for that of the number


def counted_columns(table: Table) -> list[str]:
    """The columns that a profile counts: all but those with a different value in every row."""
    return [column.name for column in table.columns if _kind(table, column) is not None]


def profile(engine: Engine, table: Table, rows: Input) -> pa.Table:
    """The profiles of each day of `rows`: the columns of `input_profiles`, and `day`.

    Numbers are counted by sign and power of two, texts and booleans by value (the commonest of a day), identifiers and
    further timestamps by whether they are present. A day without rows has no profile.

    Parameters
    ----------
    rows : the columns of `table`, and `day`
    """
    whole = f"SELECT day, '{WHOLE}' AS \"column\""
    subjects = f"SELECT DISTINCT day, {quoted(table.subject)} FROM delivered"
    parts = [
        f"{whole}, '{ROWS}' AS bin, COUNT(*) AS rows FROM delivered GROUP BY day",
        f"{whole}, '{CUSTOMERS}', COUNT(*) FROM ({subjects}) AS ids GROUP BY day",
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
    counted = engine.query(sql, delivered=rows)
    return counted.cast(pa.schema([*INPUT_PROFILES.schema(), pa.field("day", pa.date32())]))


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
        f"({_OFFSET} + greatest({_MIN_POWER}, floor(log2(abs({x}))))) AS INTEGER) END"
    )
    edge = f"CASE WHEN code = 0 THEN 0e0 ELSE sign(code) * power(2e0, abs(code) - {_OFFSET}) END"
    counted = f"SELECT day, {code} AS code, COUNT(*) AS n FROM delivered GROUP BY 1, 2"
    return f"SELECT day, {_name(name)}, CAST({edge} AS VARCHAR), n FROM ({counted}) AS of_numbers"


def _values(name: str) -> str:
    value = f"substr(CAST({quoted(name)} AS VARCHAR), 1, {_MAX_LENGTH})"
    counted = f"SELECT day, {value} AS value, COUNT(*) AS n FROM delivered GROUP BY 1, 2"
    ranked = (
        "SELECT day, value, n, row_number() OVER (PARTITION BY day, value IS NULL ORDER BY n DESC, value) AS nth "
        f"FROM ({counted}) AS of_values"
    )
    common = f"CASE WHEN value IS NOT NULL AND nth > {MAX_VALUES} THEN '{REST}' ELSE value END"
    return f"SELECT day, {_name(name)}, {common}, SUM(n) FROM ({ranked}) AS by_rank GROUP BY 1, 2, 3"


def _presence(name: str) -> str:
    presence = f"CASE WHEN {quoted(name)} IS NOT NULL THEN '{ANY}' END"
    return f"SELECT day, {_name(name)}, {presence}, COUNT(*) FROM delivered GROUP BY 1, 2, 3"

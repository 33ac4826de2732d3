"""Refusals: which delivered rows break a rule, as one SQL statement, and the frame that the suite is asked about.

Belongs here: judging rows by themselves. Does not belong here: the rules (see `expectations.rules`), and what days and
rows of earlier days make of it (`expectations.validation`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from expectations import suites
from expectations.rules import ValidationSpec, duplicate_rule, row_rules, unique_key
from ml.engine import quoted
from ml.tables import Table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ml.engine import Engine


def judged(engine: Engine, table: Table, rows: pa.Table, spec: ValidationSpec) -> pa.Table:
    """The refused rows: `row_number`, and the columns of `quarantine` and `day`."""
    return engine.query(refusals(table, spec, rows), rows=numbered(rows))


def numbered(rows: pa.Table) -> pa.Table:
    """The rows with their place in `row_number`."""
    import numpy as np

    return rows.append_column("row_number", pa.array(np.arange(rows.num_rows, dtype=np.int64)))


def refusals(table: Table, spec: ValidationSpec, rows: pa.Table) -> str:
    """SQL for the refused ones of `rows`: their number, the first rule they break, and the row as JSON."""
    cases = " ".join(f"WHEN {rule.broken} THEN {_text(rule.name)}" for rule in row_rules(table, spec))
    key, repeated = unique_key(table), duplicate_rule(table)
    columns = ", ".join(map(quoted, table.names))
    steps = [f"judged AS (SELECT *, CASE WHEN problem IS NOT NULL THEN problem {cases} END AS broken FROM rows)"]
    last = "judged"
    if repeated and not any(rows[name].null_count == rows.num_rows for name in key):
        keys = ", ".join(map(quoted, key))
        present = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in key)
        nth = f"row_number() OVER (PARTITION BY day, broken IS NULL, {keys} ORDER BY {columns}, source)"
        told = f"CASE WHEN nth > 1 THEN {_text(repeated)} ELSE broken END"
        steps.append(f"ranked AS (SELECT *, CASE WHEN broken IS NULL AND {present} THEN {nth} END AS nth FROM judged)")
        steps.append(f"unique_rows AS (SELECT * REPLACE ({told} AS broken) FROM ranked)")
        last = "unique_rows"
    values = ", ".join(f"{quoted(name)} := {_json_value(table, name)}" for name in table.names)
    return (
        f'WITH {", ".join(steps)} SELECT row_number, {_text(table.name)} AS "table", broken AS rule, '
        f"coalesce(delivered, CAST(to_json(struct_pack({values})) AS VARCHAR)) AS row, "
        f"coalesce(source, '') AS source, day FROM {last} WHERE broken IS NOT NULL ORDER BY day, row_number"
    )


def _json_value(table: Table, name: str) -> str:
    """JSON has no NaN and no infinity: such a number is shown as text."""
    column = quoted(name)
    if table[name].type == "double":
        return f"CASE WHEN isfinite({column}) THEN to_json({column}) ELSE to_json(CAST({column} AS VARCHAR)) END"
    return column


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def without(rows: pa.Table, numbers: np.ndarray) -> pa.Table:
    """The rows but those at some places."""
    if not len(numbers):
        return rows
    import numpy as np

    keep = np.ones(rows.num_rows, dtype=bool)
    keep[numbers] = False
    return rows.filter(pa.array(keep))


def batch(table: Table, spec: ValidationSpec, rows: pa.Table, judged: pa.Table) -> pd.DataFrame:
    """What the suite is asked about: the columns, and whether a row was refused by a rule that counts.

    Great Expectations hashes all it is given, and text is dear to hash. All that is expected of text is to be there
    and, of keys, to be unique; so numbers stand for texts: equal ones for equal texts, none for a missing one. Columns
    of which nothing is expected are there, and empty.
    """
    import numpy as np
    import pandas as pd

    looked_at = suites.columns(suites.suite(table, spec))
    frame: dict[str, pd.Series | np.ndarray] = {}
    for name in table.names:
        column = rows[name]
        is_text = pa.types.is_string(column.type)
        codes = column.combine_chunks().dictionary_encode().indices if is_text and name in looked_at else column
        frame[name] = codes.to_pandas() if name in looked_at else np.full(rows.num_rows, np.nan)
    frame["day"] = rows["day"].to_pandas(date_as_object=False)
    counts = np.array([spec.severity_of(rule) == "error" for rule in judged["rule"].to_pylist()], dtype=bool)
    refused = np.full(rows.num_rows, np.nan)
    refused[judged["row_number"].to_numpy()[counts]] = 1.0
    frame[suites.REFUSED_BY] = pd.Series(refused)
    return pd.DataFrame(frame)

"""Refusals: which delivered rows break a rule, as one SQL statement, and the frame that the suite is run on.

A row that repeats a key is refused and quarantined. Whether it counts against its day is another question: a purchase
that a reloaded page sent twice, or an earlier version of a customer on the same day, is no fault of the delivery.
Another purchase under the same id is: such ids identify nothing.

Belongs here: judging rows by themselves. Does not belong here: the rules (see `expectations.rules`), and how rows of
earlier days affect them (`expectations.validation`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

import expectations.suites as suites
from expectations.rules import NO_CUSTOMER, REPEATED, ROUNDED_ID, ValidationSpec, duplicate_rule, row_rules, unique_key
from ml.engine import quoted
from ml.tables import Table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ml.engine import Engine, Input


def refused_rows(engine: Engine, table: Table, rows: pa.Table, spec: ValidationSpec) -> pa.Table:
    """The refused rows: `row_number`, the columns of `quarantine`, `day`, and `counts` (against the day)."""
    return engine.query(refusals_sql(table, spec, rows), rows=with_row_numbers(rows))


def with_row_numbers(rows: pa.Table) -> pa.Table:
    """The rows with their position in `row_number`."""
    import numpy as np

    return rows.append_column("row_number", pa.array(np.arange(rows.num_rows, dtype=np.int64)))


def refusals_sql(table: Table, spec: ValidationSpec, rows: pa.Table) -> str:
    """SQL for the refused ones of `rows`: their number, the first rule they break, and the row as JSON."""
    cases = " ".join(f"WHEN {rule.broken} THEN {_text(rule.name)}" for rule in row_rules(table, spec))
    key, repeated = unique_key(table), duplicate_rule(table)
    broken = f"CASE WHEN problem IS NOT NULL THEN problem {cases} END"
    steps = [f"judged AS (SELECT *, {broken} AS broken, true AS is_news FROM rows)"]
    last = "judged"
    if repeated and not any(rows[name].null_count == rows.num_rows for name in key):
        steps += _unique(table, key, repeated)
        last = "unique_rows"
    if spec.duplicates != "keep" and not table.key:
        steps.append(_without_repeats(table, last, counts=spec.duplicates == "refuse"))
        last = "single_rows"
    rules = sorted({*spec.severity, NO_CUSTOMER, ROUNDED_ID})
    lenient = ", ".join(_text(rule) for rule in rules if spec.severity_of(rule) == "warning")
    strict = spec.severity.get(repeated or "") == "error"
    values = ", ".join(f"{quoted(name)} := {_json_value(table, name)}" for name in table.names)
    return (
        f'WITH {", ".join(steps)} SELECT row_number, {_text(table.name)} AS "table", broken AS rule, '
        f"coalesce(delivered, CAST(to_json(struct_pack({values})) AS VARCHAR)) AS row, "
        f"coalesce(source, '') AS source, day, {'' if strict else 'is_news AND '}broken NOT IN ({lenient}) AS counts "
        f"FROM {last} WHERE broken IS NOT NULL ORDER BY day, row_number"
    )


def _unique(table: Table, key: tuple[str, ...], rule: str) -> list[str]:
    """CTEs up to `unique_rows`: of the rows with one key and day, the first is accepted, or the newest if each row is a
    version; the others are refused, and `is_news` is true of those that count against the day."""
    versioned = bool(table.key)
    stamp = f"{quoted(table.stamp)} {'DESC NULLS LAST' if versioned else 'ASC'}, " if table.stamp else ""
    order = f"{stamp}{', '.join(map(quoted, table.names))}, source"
    same = table.names if versioned else content_columns(table)
    keys = ", ".join(map(quoted, key))
    present = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in key)
    kept = ", ".join(f"{quoted(name)} := {quoted(name)}" for name in same)
    equal = " AND ".join(f"{quoted(name)} IS NOT DISTINCT FROM {_kept(name)}" for name in same)
    older = f" OR coalesce({quoted(table.stamp)} < {_kept(table.stamp)}, false)" if versioned and table.stamp else ""
    nth = f"CASE WHEN broken IS NULL AND {present} THEN row_number() OVER of_key END"
    window = f"(PARTITION BY day, broken IS NULL, {keys} ORDER BY {order})"
    holds = f"first_value(struct_pack({kept})) OVER of_key"
    rule_broken = f"CASE WHEN nth > 1 THEN {_text(rule)} ELSE broken END"
    is_news = f"coalesce(nth, 1) = 1 OR NOT ({equal}{older})"
    return [
        f"ranked AS (SELECT *, {nth} AS nth, {holds} AS __kept FROM judged WINDOW of_key AS {window})",
        f"unique_rows AS (SELECT * REPLACE ({rule_broken} AS broken, {is_news} AS is_news) FROM ranked)",
    ]


def _kept(name: str) -> str:
    """A column's value in the row that is accepted."""
    return f"struct_extract(__kept, {_text(name)})"


def _without_repeats(table: Table, before: str, counts: bool) -> str:
    """A CTE that refuses all but one of the rows that are equal in every column."""
    columns = ", ".join(map(quoted, table.names))
    nth = f"row_number() OVER (PARTITION BY day, broken IS NULL, {columns} ORDER BY source)"
    return (
        f"repeated AS (SELECT *, broken IS NULL AND {nth} > 1 AS __repeats FROM {before}), single_rows AS (SELECT * "
        f"REPLACE (CASE WHEN __repeats THEN {_text(REPEATED)} ELSE broken END AS broken, "
        f"{'is_news' if counts else 'is_news AND NOT __repeats'} AS is_news) FROM repeated)"
    )


def exact_repeats(engine: Engine, table: Table, rows: Input) -> pa.Table:
    """Count the equal rows of each day that has any: `repeats` is the number of rows that equal an earlier one in every
    column, `singles` the number that equal no other.

    Parameters
    ----------
    rows : the columns of `table`, and `day`
    """
    hashed = f"hash({', '.join(map(quoted, table.names))})"
    return engine.query(
        "SELECT day, CAST(SUM(n - 1) AS BIGINT) AS repeats, "
        "CAST(COUNT(CASE WHEN n = 1 THEN 1 END) AS BIGINT) AS singles "
        f"FROM (SELECT day, {hashed} AS content, COUNT(*) AS n FROM delivered GROUP BY day, content) AS by_content "
        "GROUP BY day HAVING SUM(n - 1) > 0 ORDER BY day",
        delivered=rows,
    )


def content_columns(table: Table) -> list[str]:
    """The columns in which two rows with the same id must agree to count as the same thing sent twice."""
    return [name for name in ("customer_id", "amount") if name in table.names]


def _json_value(table: Table, name: str) -> str:
    """A column as JSON, which has no NaN and no infinity: such a number becomes text."""
    column = quoted(name)
    if table[name].type == "double":
        return f"CASE WHEN isfinite({column}) THEN to_json({column}) ELSE to_json(CAST({column} AS VARCHAR)) END"
    return column


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def drop_rows(rows: pa.Table, numbers: np.ndarray) -> pa.Table:
    """The rows without those at the given positions."""
    if not len(numbers):
        return rows
    import numpy as np

    keep = np.ones(rows.num_rows, dtype=bool)
    keep[numbers] = False
    return rows.filter(pa.array(keep))


def batch(table: Table, spec: ValidationSpec, rows: pa.Table, refused: pa.Table) -> pd.DataFrame:
    """The frame that the suite is run on: the columns, and whether a row was refused by a rule that counts.

    Great Expectations hashes everything in the frame, and hashing text is slow. Text is only expected to be present
    and, in keys, to be unique; so texts are replaced by numbers: equal texts by equal ones, missing texts by none.
    Columns of which nothing is expected are present but empty.
    """
    import numpy as np
    import pandas as pd

    used = suites.columns(suites.suite(table, spec))
    frame: dict[str, pd.Series | np.ndarray] = {}
    for name in table.names:
        column = rows[name]
        is_text = pa.types.is_string(column.type)
        codes = column.combine_chunks().dictionary_encode().indices if is_text and name in used else column
        frame[name] = codes.to_pandas() if name in used else np.full(rows.num_rows, np.nan)
    frame["day"] = rows["day"].to_pandas(date_as_object=False)
    counts = refused["counts"].to_numpy(zero_copy_only=False).astype(bool)
    refused_by = np.full(rows.num_rows, np.nan)
    refused_by[refused["row_number"].to_numpy()[counts]] = 1.0
    frame[suites.REFUSED_BY] = pd.Series(refused_by)
    return pd.DataFrame(frame)

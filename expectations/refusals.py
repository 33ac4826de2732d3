"""Refusals: which delivered rows break a rule, as one SQL statement, and the frame that the suite is run on.

A row that repeats a key is refused and quarantined. Whether it counts against its day is another question: a purchase
that a reloaded page sent twice, or an earlier version of a customer on the same day, is no fault of the delivery.
Another purchase under the same id is: such ids identify nothing.

Belongs here: judging rows by themselves. Does not belong here: the rules (see `expectations.rules`), and how rows of
earlier days affect them (`expectations.validation`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

import expectations.suites as suites
from expectations.rules import (
    MAX_FINITE,
    NO_CUSTOMER,
    REPEATED,
    ROUNDED_ID,
    ValidationSpec,
    duplicate_rule,
    row_rules,
    unique_key,
)
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
    judged = f"CASE WHEN problem IS NOT NULL THEN problem {cases} END"
    steps = [f"judged AS (SELECT *, {judged} AS broken, true AS is_news FROM rows)"]
    last = _Verdict("judged", "broken", "is_news")
    if repeated and not any(rows[name].null_count == rows.num_rows for name in key):
        steps += _unique(table, key, repeated)
        last = _Verdict("unique_rows", "broken_or_repeated", "is_other")
    if spec.duplicates != "keep" and not table.key:
        steps.append(_without_repeats(table, last, counts=spec.duplicates == "refuse"))
        last = _Verdict("single_rows", "broken_or_equal", "is_single")
    rules = sorted({*spec.severity, NO_CUSTOMER, ROUNDED_ID})
    lenient = ", ".join(_text(rule) for rule in rules if spec.severity_of(rule) == "warning")
    strict = spec.severity.get(repeated or "") == "error"
    return (
        f'WITH {", ".join(steps)} SELECT row_number, {_text(table.name)} AS "table", {last.broken} AS rule, '
        f"coalesce(delivered, {_json(table)}) AS row, coalesce(source, '') AS source, day, "
        f"{'' if strict else f'{last.is_news} AND '}{last.broken} NOT IN ({lenient}) AS counts "
        f"FROM {last.step} WHERE {last.broken} IS NOT NULL ORDER BY day, row_number"
    )


class _Verdict(NamedTuple):
    """A step of the statement, and its columns with the rule that a row breaks and whether the row counts."""

    step: str
    broken: str
    is_news: str


def _unique(table: Table, key: tuple[str, ...], rule: str) -> list[str]:
    """CTEs up to `unique_rows`: of the rows with one key and day, the first is accepted, or the newest if each row is a
    version; the others are refused, and `is_news` is true of those that count against the day."""
    versioned = bool(table.key)
    stamp = f"{quoted(table.stamp)} {'DESC NULLS LAST' if versioned else 'ASC'}, " if table.stamp else ""
    order = f"{stamp}{', '.join(map(quoted, table.names))}, source"
    same = table.names if versioned else content_columns(table)
    keys = ", ".join(map(quoted, key))
    present = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in key)
    holds = ", ".join(f"first_value({quoted(name)}) OVER of_key AS {_kept(name)}" for name in same)
    equal = " AND ".join(f"{quoted(name)} IS NOT DISTINCT FROM {_kept(name)}" for name in same)
    older = f" OR coalesce({quoted(table.stamp)} < {_kept(table.stamp)}, false)" if versioned and table.stamp else ""
    nth = f"CASE WHEN broken IS NULL AND {present} THEN row_number() OVER of_key END"
    window = f"(PARTITION BY day, broken IS NULL, {keys} ORDER BY {order})"
    rule_broken = f"CASE WHEN nth > 1 THEN {_text(rule)} ELSE broken END"
    is_news = f"coalesce(nth, 1) = 1 OR NOT ({equal}{older})"
    return [
        f"ranked AS (SELECT *, {nth} AS nth, {holds} FROM judged WINDOW of_key AS {window})",
        f"unique_rows AS (SELECT *, {rule_broken} AS broken_or_repeated, {is_news} AS is_other FROM ranked)",
    ]


def _kept(name: str) -> str:
    """The column with a column's value in the row that is accepted."""
    return quoted(f"{name} of the first")


def _without_repeats(table: Table, before: _Verdict, counts: bool) -> str:
    """A CTE that refuses all but one of the rows that are equal in every column."""
    columns = ", ".join(map(quoted, table.names))
    window = f"(PARTITION BY day, {before.broken} IS NULL, {columns} ORDER BY source)"
    is_news = before.is_news if counts else f"{before.is_news} AND NOT __repeats"
    return (
        f"repeated AS (SELECT *, {before.broken} IS NULL AND row_number() OVER {window} > 1 AS __repeats "
        f"FROM {before.step}), single_rows AS (SELECT *, CASE WHEN __repeats THEN {_text(REPEATED)} "
        f"ELSE {before.broken} END AS broken_or_equal, {is_news} AS is_single FROM repeated)"
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


def _json(table: Table) -> str:
    """The row as JSON, which has no NaN and no infinity: such a number becomes text, in the place of its null."""
    doubles = [name for name in table.names if table[name].type == "double"]
    finite = {name: f"abs({quoted(name)}) <= {MAX_FINITE}" for name in doubles}
    values = {name: f"CASE WHEN {finite[name]} THEN {quoted(name)} END" for name in doubles}
    packed = ", ".join(f"{quoted(name)} := {values.get(name, quoted(name))}" for name in table.names)
    row = f"CAST(to_json(struct_pack({packed})) AS VARCHAR)"
    for name in doubles:
        key = f"{json.dumps(name, ensure_ascii=False)}:"  # nowhere else: inside of a text, JSON escapes quotes
        null, start = _text(f"{key}null"), _text(f'{key}"')
        text = f"concat({start}, CAST({quoted(name)} AS VARCHAR), '\"')"
        row = f"replace({row}, {null}, CASE WHEN NOT {finite[name]} THEN {text} ELSE {null} END)"
    return row


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

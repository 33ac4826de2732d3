"""Whether days would pass, counted without running the suites: for a first look at a source.

The suites decide (see `expectations.verdicts`), but importing Great Expectations takes seconds, and the decision on
refused rows is a comparison of two numbers. A test checks that both agree. Belongs here: that count. Does not belong
here: how a day compares with others (`expectations.measures`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from expectations.duplicates import ID, repeats
from expectations.refusals import content_columns, drop_rows, refused_rows, with_row_numbers
from expectations.rules import ValidationSpec, duplicate_rule
from ml.tables import Table

if TYPE_CHECKING:
    from ml.engine import Engine


@dataclass
class Tally:
    """The rows of a day.

    Parameters
    ----------
    rows, counted : delivered rows, and how many of them are refused and count against the day
    undated : rows without a day that may belong to it
    rules : rule to the number of rows it refused, including those that do not count
    passes : whether the day is accepted
    """

    rows: int = 0
    counted: int = 0
    undated: int = 0
    rules: dict[str, int] = field(default_factory=dict)
    passes: bool = True


def tallies(
    engine: Engine,
    table: Table,
    rows: pa.Table,
    days: Sequence[date],
    spec: ValidationSpec,
    undated: Mapping[date, int] = MappingProxyType({}),
    earlier: pa.Table | None = None,
) -> tuple[dict[date, Tally], pa.Table]:
    """Count the rows of each day, and return the rows that are accepted if their day is.

    Parameters
    ----------
    rows : as a source returns them
    undated : see `validation.validate`
    earlier : accepted rows of earlier days
    """
    refused = refused_rows(engine, table, rows, spec)
    tally = {day: Tally(undated=undated.get(day, 0)) for day in days}
    for entry in pc.value_counts(rows["day"]).to_pylist():
        tally[entry["values"]].rows = entry["counts"]
    counted = refused.group_by(["day", "rule", "counts"]).aggregate([([], "count_all")])
    for entry in counted.sort_by([("day", "ascending"), ("rule", "ascending")]).to_pylist():
        _add(tally[entry["day"]], entry["rule"], entry["count_all"], entry["counts"])
    kept = drop_rows(with_row_numbers(rows.select([*table.names, "day"])), refused["row_number"].to_numpy())
    if ID not in table.names:
        _judge(table, spec, tally)
        return tally, kept.drop_columns(["row_number"])
    candidates = repeats(engine, table, kept.select(["row_number", "day", ID, *content_columns(table)]), earlier)
    before = {day: (one.counted, dict(one.rules)) for day, one in tally.items()}
    of_row = rows["day"].to_pylist() if len(candidates.numbers) else []
    rule, failed = duplicate_rule(table) or "", set[date]()
    while True:  # a day that does not pass accepts no id: see `validation._settle`
        late = candidates.refused(failed)
        for day, (count, rules) in before.items():
            tally[day].counted, tally[day].rules = count, dict(rules)
        for number, is_other in late.items():
            severity = spec.severity.get(rule)
            _add(tally[of_row[number]], rule, 1, is_other if severity is None else severity == "error")
        failing = _judge(table, spec, tally)
        if failing == failed:
            break
        failed = failing
    numbers = pa.array(list(late), pa.int64())
    kept = kept.filter(pc.invert(pc.is_in(kept["row_number"], numbers))) if len(numbers) else kept
    return tally, kept.drop_columns(["row_number"])


def _add(tally: Tally, rule: str, rows: int, counts: bool) -> None:
    tally.rules[rule] = tally.rules.get(rule, 0) + rows
    tally.counted += rows if counts else 0


def _judge(table: Table, spec: ValidationSpec, tally: Mapping[date, Tally]) -> set[date]:
    """Set whether each day passes; returns those that do not."""
    min_rows = spec.min_rows.get(table.name, 0)
    for one in tally.values():
        over = one.counted + one.undated > spec.allowed(one.rows + one.undated)
        one.passes = one.rows >= min_rows and not over
    return {day for day, one in tally.items() if not one.passes}

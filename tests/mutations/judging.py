"""Whether what must come of a file has come of it.

Belongs here: running a case through the source and the validation as ingest and validate do, and naming every
difference from its expectation. Does not belong here: the expectation.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from expectations import Validation, ValidationSpec
from microseg_assets.assets.ingest import undated_as_refused
from microseg_assets.sources import Source, SourceError
from ml.engine import DuckDB
from ml.tables import Table
from tests.expectations.pieces import one_by_one
from tests.mutations.cells import LAST, START
from tests.mutations.files import TAG
from tests.mutations.mutator import NO_ROW, Case, Row

REMEDIES = ("map it to", "deliver it again", "rename", "save it as", "begins with a line", "write one object", "set ")
FAR = date(9999, 12, 31)
# One good row makes a day pass, so that what is accepted on it is known to the days after it.
LENIENT = ValidationSpec(max_refused_share=0.99)
Validate = Callable[..., Any]


def in_order(
    engine: DuckDB, table: Table, rows: pa.Table, days: Sequence[date], spec: ValidationSpec, at_once: bool = True
) -> Validation:
    """The days of the run, at once or one by one, and then each later day, with what those before have left."""
    pieces = [[day] for day in days if day > LAST or not at_once]
    if at_once:
        pieces = [[day for day in days if day <= LAST], *pieces]
    rows_one_by_one = one_by_one(engine, table, rows, pieces, spec)
    return Validation(
        pa.concat_tables([one.accepted for one in rows_one_by_one]),
        pa.concat_tables([one.refused for one in rows_one_by_one]),
        {day: verdict for one in rows_one_by_one for day, verdict in one.verdicts.items()},
    )


def judge(case: Case, folder: Path, engine: DuckDB, validate: Validate | None = None) -> list[str]:
    """Every way in which the result differs from what is expected; empty if it does not."""
    (folder / case.delivery.name).write_bytes(case.delivery.content)
    before = sorted(folder.rglob("*"))
    source = Source(case.table, case.spec, project_zone=case.zone.key, start=START, base=folder)
    validate = validate or partial(in_order, at_once=case.number % 4 < 2)
    problems = _refused(case, source) if case.expected.refused else _read(case, source, engine, validate)
    if sorted(folder.rglob("*")) != before:
        problems.append("something was written beside the file")
    return problems


def _refused(case: Case, source: Source) -> list[str]:
    faults = []
    problems = [problem for problem in source.check() if problem.is_error]
    if len(problems) != len(case.expected.refused):
        faults.append(f"{len(problems)} problems are reported instead of {len(case.expected.refused)}: {problems}")
    unnamed = [one for one in case.expected.refused if not any(one in str(problem) for problem in problems)]
    faults += [f"no problem names {one}: {problems}" for one in unnamed]
    for problem in problems:
        said = str(problem)
        if not said.isprintable() or len(said) > 500 or "Traceback" in said:
            faults.append(f"no sentence to be read: {said!r:.300}")
        if not any(remedy in said for remedy in REMEDIES):
            faults.append(f"does not say what to do: {said}")
    for read in (lambda: source.rows(START, LAST), source.undated, source.counts_by_day):
        try:
            read()
        except SourceError as error:
            if str(error) != "\n".join(map(str, problems)):
                faults.append(f"reading says something else than checking: {error}")
        else:
            faults.append("a file that must be refused was read")
    return faults


def _read(case: Case, source: Source, engine: DuckDB, validate: Validate) -> list[str]:
    if errors := [problem for problem in source.check() if problem.is_error]:
        return [f"refused: {'; '.join(map(str, errors))}"]
    if case.number % 2:
        rows = source.rows(START, FAR)
    else:
        rows = pa.concat_tables([source.rows(START, LAST), source.rows(LAST + timedelta(days=1), FAR)])
    undated = source.undated()
    days = sorted({START + timedelta(days=n) for n in range((LAST - START).days + 1)} | set(rows["day"].to_pylist()))
    result = validate(engine, case.table, rows, days, LENIENT)
    refused = result.refused.to_pylist() + undated_as_refused(case.table.name, undated).to_pylist()
    faults = _sums(case, source, rows, undated, result.accepted.num_rows + len(refused))
    quarantined = Counter((row["rule"], _tag_of(row["row"])) for row in refused)
    expected, accepted = _expected(case, result.accepted)
    actual = Counter(map(comparable, tuples(result.accepted)))
    faults += [f"must be accepted, {n} times: {row!r:.400}" for row, n in (accepted - actual).items()]
    faults += [f"was accepted in other words: {row!r:.400}" for row, n in (actual - accepted).items()]
    faults += [f"must be quarantined: {entry}" for entry in (expected - quarantined).elements()]
    faults += [f"was quarantined: {entry}" for entry in (quarantined - expected).elements()]
    faults += [f"came from {row['source']!r}" for row in refused if row["source"] != case.delivery.name]
    return faults


def _expected(case: Case, accepted: pa.Table) -> tuple[Counter[tuple[str, str]], Counter[Any]]:
    """The rows to be quarantined, by rule, and the rows to be accepted.

    Of two rows with the same key, either may be accepted: the expectation follows the result. If an earlier day has
    accepted their id, neither may be.
    """
    quarantined: Counter[tuple[str, str]] = Counter()
    expected: Counter[Any] = Counter()
    actual = set(map(comparable, tuples(accepted)))
    lost: list[Row] = []
    for first, second in case.expected.duplicates:
        is_there = [comparable(row.values(case.table, case.zone)) in actual for row in (first, second)]
        lost.append(first if is_there == [False, True] else second)
    lost += case.expected.repeated(case.table, case.zone)
    key = ", ".join(case.table.key or ("transaction_id",))
    for row in case.expected.rows:
        is_duplicate = any(row is one for one in lost)
        if row.rule or is_duplicate:
            quarantined[(f"{key}: duplicate" if is_duplicate else row.rule or "", row.tag)] += 1
        else:
            expected[comparable(row.values(case.table, case.zone))] += 1
    return quarantined, expected


def _sums(case: Case, source: Source, rows: pa.Table, undated: pa.Table, accounted: int) -> list[str]:
    faults = []
    if accounted != len(case.expected.rows):
        faults.append(f"{len(case.expected.rows)} rows came in, {accounted} are accepted or quarantined")
    counted = sum(source.counts_by_day()["rows"].to_pylist())
    no_rows = pc.sum(pc.equal(undated["problem"], NO_ROW)).as_py() or 0
    if counted + no_rows != rows.num_rows + undated.num_rows:
        faults.append(f"counted {counted} rows of {rows.num_rows} dated and {undated.num_rows - no_rows} undated ones")
    return faults


def tuples(table: pa.Table) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True)) if table.num_rows else []


def comparable(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple("nan" if isinstance(value, float) and math.isnan(value) else value for value in row)


def _tag_of(row: str) -> str:
    """The tag in a quarantined row, whose JSON must be readable."""
    match = TAG.search(json.dumps(json.loads(row), ensure_ascii=False))
    return match[0] if match else ""

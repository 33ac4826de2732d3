"""Files that are broken in a way we know: what is wrong is quarantined under its rule or refused in a sentence, what is
right is accepted as it was, and nothing is lost.

`make test` tries a share of them; `MICROSEG_MUTATIONS=1000` says how many are tried.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from expectations import Validation, validate
from ml.engine import DuckDB
from ml.tables import QUARANTINE
from tests.mutations import cells
from tests.mutations.files import CSV_DAMAGES, JSON_DAMAGES
from tests.mutations.judging import judge
from tests.mutations.mutator import Case, case

SEED = 1
FILES = int(os.environ.get("MICROSEG_MUTATIONS", "150"))
CHUNKS = 10  # tests, so that a failure says which file it was without hiding the others


@pytest.fixture(scope="module")
def engine() -> DuckDB:
    return DuckDB(threads=1)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_broken_rows_are_refused_by_their_rule_and_all_others_are_accepted_unchanged(
    chunk: int, engine: DuckDB, tmp_path: Path
) -> None:
    wrong = []
    for number in range(chunk, FILES, CHUNKS):
        folder = tmp_path / str(number)
        folder.mkdir()
        one = case(SEED, number)
        wrong += [f"{one}: {said}" for said in judge(one, folder, engine)]
    assert not wrong, "\n".join(wrong)


def test_the_files_are_of_every_kind() -> None:
    """What is claimed of a thousand files must not be claimed of a few kinds of them."""
    cases = [case(SEED, number) for number in range(1000)]
    tried = Counter(kind.split(" ")[0] for one in cases for kind in one.kinds)
    known = {kind.__name__ for kinds in cells.KINDS.values() for kind in kinds}
    assert known <= set(tried)
    tried = Counter(kind for one in cases for kind in one.kinds)
    expected = {*CSV_DAMAGES, *JSON_DAMAGES, "mixed line ends", "CRLF", "byte order mark", "UTF-16", "empty file",
                "cut in the last row", "cut gzip", "columns reordered", "columns added", "optional column missing",
                "columns renamed and mapped", "columns in capitals"}  # fmt: skip
    assert not expected - set(tried)
    assert {one.table.name for one in cases} == {"transactions", "customers", "events", "exposures", "balances"}
    refused = sum(bool(one.expected.refused) for one in cases)
    assert 0.05 < refused / len(cases) < 0.3
    rows = [row for one in cases if not one.expected.refused for row in one.expected.rows]
    assert 0.1 < sum(bool(row.rule) for row in rows) / len(rows) < 0.5


def test_the_same_seed_gives_the_same_files() -> None:
    for number in range(30):
        one, again = case(SEED, number), case(SEED, number)
        assert str(one) == str(again)
        assert one.delivery.content == again.delivery.content


# ---------------------------------------------------------------- that all this can fail


def first(holds: Callable[[Case], bool]) -> Case:
    return next(one for one in (case(SEED, number) for number in range(500)) if holds(one))


def is_read(one: Case) -> bool:
    return not one.expected.refused and one.table.name == "transactions"


def accepts_all(engine: Any, table: Any, rows: pa.Table, days: Any, spec: Any) -> Validation:
    empty = pa.schema([*QUARANTINE.schema(), pa.field("day", pa.date32())]).empty_table()
    return Validation(rows.select([*table.names, "day"]), empty, {})


def loses_a_row(engine: Any, table: Any, rows: pa.Table, days: Any, spec: Any) -> Validation:
    result = validate(engine, table, rows, days, spec)
    return dataclasses.replace(result, accepted=result.accepted.slice(1))


def bends_a_value(engine: Any, table: Any, rows: pa.Table, days: Any, spec: Any) -> Validation:
    result = validate(engine, table, rows, days, spec)
    amounts = pa.array([value + 0.01 for value in result.accepted["amount"].to_pylist()])
    position = result.accepted.column_names.index("amount")
    return dataclasses.replace(result, accepted=result.accepted.set_column(position, "amount", amounts))


def names_another_rule(engine: Any, table: Any, rows: pa.Table, days: Any, spec: Any) -> Validation:
    result = validate(engine, table, rows, days, spec)
    position = result.refused.column_names.index("rule")
    other = pa.array(["amount: too odd"] * result.refused.num_rows, pa.string())
    return dataclasses.replace(result, refused=result.refused.set_column(position, "rule", other))


@pytest.mark.parametrize(
    ("lenient", "says"),
    [
        (accepts_all, "must be quarantined"),
        (loses_a_row, "rows came in"),
        (bends_a_value, "was accepted in other words"),
        (names_another_rule, "must be quarantined"),
    ],
)
def test_a_weakened_validation_is_detected(
    lenient: Callable[..., Validation], says: str, engine: DuckDB, tmp_path: Path
) -> None:
    def is_judged(one: Case) -> bool:
        rules = {row.rule for row in one.expected.rows if row.rule}
        return is_read(one) and any("not finite" in rule or "beyond" in rule for rule in rules)

    one = first(is_judged)
    assert judge(one, tmp_path, engine) == []
    assert any(says in said for said in judge(one, tmp_path, engine, lenient))


def test_a_wrong_expectation_is_detected(engine: DuckDB, tmp_path: Path) -> None:
    one = first(is_read)
    row = next(row for row in one.expected.rows if not row.rule)
    row.rule = "amount: not a number"
    assert any("must be quarantined: ('amount: not a number'" in said for said in judge(one, tmp_path, engine))
    whole = first(is_read)
    whole.expected.refused = (whole.delivery.name,)
    assert any("a file that must be refused was read" in said for said in judge(whole, tmp_path, engine))
    damaged = first(lambda one: bool(one.expected.refused))
    damaged.expected.refused = ()
    assert any(said.startswith("refused:") for said in judge(damaged, tmp_path, engine))

"""Broken files through the whole chain, as a person runs it: a sentence and an exit code, and nothing of it written.

`make test` tries a few; `MICROSEG_MUTATIONS=1000` also tries more of these.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from microseg_assets.cli.main import main
from tests.mutations.cells import LAST, START
from tests.mutations.judging import comparable, tuples
from tests.mutations.mutator import NO_ROW, Case, case
from tests.mutations.test_mutations import SEED

MANY = int(os.environ.get("MICROSEG_MUTATIONS", "150")) >= 1000
REFUSED, READ = (24, 12) if MANY else (4, 2)
PROJECT = """\
name: {name}
start: {start}
end: 2024-01-31
time_zone: {zone}
tables:
  transactions: {{path: {file}{columns}}}
"""


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def folder(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MICROSEG_HOME", str(state))
    return tmp_path


def chosen(is_refused: bool, count: int) -> list[int]:
    """Numbers of files of transactions that must be refused, or read."""
    cases = (case(SEED, number) for number in itertools.count())
    fitting = (
        c.number
        for c in cases
        if c.table.name == "transactions"
        and bool(c.expected.refused) == is_refused
        # A day that is refused stops the run, where one that passes goes on to the last page of the chain.
        and (MANY or is_refused or sum(bool(row.rule) for row in c.expected.rows) > 4)
    )
    return list(itertools.islice(fitting, count))


def run(one: Case, folder: Path) -> Result:
    """Write a project file for a delivered file and run its days."""
    (folder / one.delivery.name).write_bytes(one.delivery.content)
    columns = ", ".join(f"{column}: {str(name)!r}" for column, name in one.spec.columns.items())
    name = f"p{one.number}"
    (folder / f"{name}.yaml").write_text(
        PROJECT.format(
            name=name, start=START, zone=one.zone.key, file=one.delivery.name,
            columns=f", columns: {{{columns}}}" if columns else "",
        )
    )  # fmt: skip
    command = ["run", "-p", str(folder / f"{name}.yaml"), "--from", str(START), "--to", str(LAST)]
    return CliRunner().invoke(main, command)


def lake(state: Path, one: Case, table: str) -> dict[str, Path]:
    paths = (state / "lake" / f"p{one.number}" / table).glob("*/part-0.parquet")
    return {path.parent.name.partition("=")[2]: path for path in paths}


@pytest.mark.parametrize("number", chosen(True, REFUSED))
def test_a_file_that_cannot_be_used_ends_in_its_error_and_nothing_is_written(
    number: int, folder: Path, state: Path
) -> None:
    one = case(SEED, number)
    result = run(one, folder)
    assert result.exit_code in (1, 2), (str(one), result.output)
    assert isinstance(result.exception, SystemExit), str(one)
    said = result.output.rpartition("microseg: ")[2].strip()
    assert "Traceback" not in result.output
    assert len(said.splitlines()) == len(one.expected.refused), said
    assert all(named in said for named in one.expected.refused), said
    for table in ("raw_transactions", "transactions", "quarantine/table=transactions", "customer_days"):
        assert not lake(state, one, table), table


@pytest.mark.parametrize("number", chosen(False, READ))
def test_a_file_with_broken_rows_gives_accepted_days_whole_and_refused_days_not_at_all(
    number: int, folder: Path, state: Path
) -> None:
    one = case(SEED, number)
    result = run(one, folder)
    assert result.exit_code in (0, 1), (str(one), result.output)
    assert result.exit_code == 0 or isinstance(result.exception, SystemExit), str(one)
    assert "Traceback" not in result.output
    said = result.output.rpartition("microseg: ")[2].strip()
    assert result.exit_code == 0 or len(said.splitlines()) == 1, said
    refused = set(re.findall(r"(\d{4}-\d\d-\d\d) \(\d+ of", said)) if result.exit_code else set()
    written = lake(state, one, "transactions")
    if result.exit_code and "belong to no day" in said:
        assert not written
        assert lake(state, one, "quarantine/table=transactions").keys() == {"undated"}
        return
    days = {str(date.fromordinal(START.toordinal() + n)) for n in range((LAST - START).days + 1)}
    assert written.keys() == days - refused
    duplicates = [row for pair in one.expected.duplicates for row in pair]
    repeated = one.expected.repeated(one.table, one.zone, {date.fromisoformat(day) for day in written})
    for day, path in written.items():
        actual = Counter(map(comparable, tuples(pq.ParquetFile(path).read())))
        rows = [
            row for row in one.expected.rows
            if not row.rule and row not in repeated and str(row.values(one.table, one.zone)[-1]) == day
        ]  # fmt: skip
        certain = Counter(comparable(r.values(one.table, one.zone)[:-1]) for r in rows if r not in duplicates)
        assert not certain - actual, "accepted unchanged"
        assert sum(actual.values()) == len(rows) - len([pair for pair in one.expected.duplicates if pair[0] in rows])
    quarantined = lake(state, one, "quarantine/table=transactions")
    rules = Counter(rule for path in quarantined.values() for rule in pq.ParquetFile(path).read()["rule"].to_pylist())
    assert rules[NO_ROW] == sum(row.rule == NO_ROW for row in one.expected.rows)

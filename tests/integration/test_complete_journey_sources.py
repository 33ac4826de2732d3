"""The Complete Journey project: every line is accepted or in quarantine, and the counts match the published ones."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from expectations import Validation, validate
from microseg_assets import project as projects
from microseg_assets.project import Project
from ml.engine import DuckDB


@pytest.fixture(scope="module")
def project() -> Project:
    return projects.load("complete_journey")


def judged(project: Project, table: str) -> tuple[int, pa.Table, Validation]:
    """Rows delivered, those of no day, and the verdict on the others."""
    source = project.source(table)
    assert source is not None and source.check() == [] and project.end is not None
    days = project.calendar.days(project.start, project.end)
    rows, undated = source.rows(days[0], days[-1]), source.undated()
    total = sum(source.counts_by_day()["rows"].to_pylist())
    return total, undated, validate(DuckDB(), project.inputs[table], rows, days, project.validation)


def test_every_transaction_line_is_accepted_or_quarantined(project: Project) -> None:
    total, undated, result = judged(project, "transactions")
    assert total == 1_469_307
    assert total == result.accepted.num_rows + result.refused.num_rows + undated.num_rows
    assert all(verdict.passed for verdict in result.verdicts.values())
    assert pc.count_distinct(result.accepted["customer_id"]).as_py() == 2_469
    # The stamps are UTC: read as local ones, the first lines would belong to 2016, and Christmas would have some.
    assert undated.num_rows == 0 and result.verdicts[date(2017, 12, 25)].rows == 0
    assert min(v.rows for day, v in result.verdicts.items() if day != date(2017, 12, 25)) > 0


def test_exposures_of_campaigns_that_began_before_the_first_day_are_quarantined_as_such(project: Project) -> None:
    total, undated, result = judged(project, "exposures")
    assert total == 6_589
    assert undated.num_rows == 147
    (rule,) = set(undated["problem"].to_pylist())
    assert "before the first day" in rule
    assert result.accepted.num_rows == 6_589 - 147 and result.refused.num_rows == 0
    assert set(result.accepted["randomised"].to_pylist()) == {False}, "these campaigns were targeted"
    assert Counter(result.accepted["action"].to_pylist()).keys() == {"type_a", "type_b", "type_c"}


@pytest.mark.parametrize(("table", "rows"), [("customers", 801), ("events", 2_102)])
def test_the_other_tables_add_up_too(project: Project, table: str, rows: int) -> None:
    total, undated, result = judged(project, table)
    assert total == rows == result.accepted.num_rows + result.refused.num_rows + undated.num_rows
    assert all(verdict.passed for verdict in result.verdicts.values())

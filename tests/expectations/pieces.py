"""Days judged piece by piece, each piece with what a lake would hold after the pieces before it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from expectations import Past, Validation, ValidationSpec, validate
from ml.engine import DuckDB
from ml.tables import Table
from ml.tables.outputs import INPUT_PROFILES


def of_days(table: pa.Table, days: Sequence[date]) -> pa.Table:
    return table.filter(pc.is_in(table["day"], pa.array(days, pa.date32())))


def one_by_one(
    engine: DuckDB,
    table: Table,
    rows: pa.Table,
    pieces: Sequence[Sequence[date]],
    spec: ValidationSpec,
    customers: pa.Table | None = None,
) -> list[Validation]:
    """The pieces' validations, in their order, which must be that of the days."""
    lake = rows.slice(0, 0).select([*table.names, "day"])
    profiles = [INPUT_PROFILES.empty_days()]
    accepted: set[date] = set()
    validations = []
    for days in pieces:
        known = None if customers is None else customers.filter(pc.less_equal(customers["day"], pa.scalar(days[-1])))
        ids = lake if "transaction_id" in table.names else None
        past = Past(pa.concat_tables(profiles), frozenset(accepted), min(accepted, default=None), ids, known)
        result = validate(engine, table, of_days(rows, days), days, spec, past)
        passed = [day for day in days if result.verdicts[day].passed]
        assert result.profiles is not None
        lake = pa.concat_tables([lake, of_days(result.accepted, passed)])
        profiles.append(of_days(result.profiles, passed))
        accepted |= set(passed)
        validations.append(result)
    return validations

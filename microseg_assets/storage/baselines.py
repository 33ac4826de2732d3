"""What the lake holds from before a day of an input table, and which later days the day's own rows decide on.

Belongs here: reading it. Does not belong here: the comparison (see `expectations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pyarrow as pa

from expectations.duplicates import ID
from expectations.past import Past, window
from expectations.profiles import profile
from expectations.refusals import said_again
from microseg_assets.workspace import Workspace, raw_name
from ml.tables import TRANSACTIONS
from ml.tables.outputs import INPUT_PROFILES


def past_of(workspace: Workspace, table: str, days: Sequence[date]) -> Past:
    """What the lake holds from before some days of an input table, for `expectations` to compare them with.

    Read beside Dagster's dependencies on purpose: making one old day anew does not make all later ones stale.
    """
    lake, accepted, first = workspace.lake, workspace.project.inputs[table], min(days)
    before = [date.fromisoformat(key) for key in lake.keys(accepted) if key < first.isoformat()]
    trailing = [day for day in before if day >= first - timedelta(days=window(workspace.project.validation))]
    profiled = set(lake.keys(INPUT_PROFILES, table=table))
    known = [day for day in trailing if day.isoformat() in profiled]
    profiles = workspace.engine.query("SELECT * FROM known", known=lake.files(INPUT_PROFILES, known, table=table))
    if unprofiled := [day for day in trailing if day.isoformat() not in profiled]:  # most of them have no rows
        made = profile(workspace.engine, accepted, lake.files(accepted, unprofiled))
        profiles = pa.concat_tables([profiles.cast(made.schema), made])
    customers = workspace.project.inputs["customers"]
    delivered = [key for key in lake.keys(customers) if key <= max(days).isoformat()]
    return Past(
        profiles,
        frozenset(trailing),
        began=min(before, default=None),
        ids=lake.files(accepted, before) if ID in accepted.names and before else None,
        customers=lake.files(customers, delivered) if workspace.sources["customers"] and table != "customers" else None,
    )


_COLUMNS = said_again(TRANSACTIONS)  # the one table with ids; what a later repeat of an id is compared with
_SAID, _SAME = ", ".join(_COLUMNS), " AND ".join(f"was.{name} = now.{name}" for name in _COLUMNS)
_LATER = f"""
WITH changed AS (
    SELECT COALESCE(was.{ID}, now.{ID}) AS id, COALESCE(was.day, now.day) AS day
    FROM (SELECT DISTINCT {ID}, day, {_SAID} FROM before WHERE {ID} IS NOT NULL) AS was
    FULL JOIN (SELECT DISTINCT {ID}, day, {_SAID} FROM after WHERE {ID} IS NOT NULL) AS now
        ON was.{ID} = now.{ID} AND was.day = now.day AND {_SAME}
    WHERE was.{ID} IS NULL OR now.{ID} IS NULL
)
SELECT DISTINCT later.day AS day FROM later JOIN changed ON changed.id = later.{ID} AND changed.day < later.day
ORDER BY day
"""


def days_to_judge_again(workspace: Workspace, table: str, days: Sequence[date], rows: pa.Table) -> list[date]:
    """Later days that hold an id which `days` have come to accept, or do no longer, or for something else: the first
    accepted one wins.

    Parameters
    ----------
    days : days that are made anew and still lie in the lake as they were
    rows : what is accepted of them now
    """
    lake, accepted, raw = workspace.lake, workspace.project.inputs[table], workspace.partitions(raw_name(table))
    made = {key for key in lake.keys(accepted) if date.fromisoformat(key) in set(days)}
    later = sorted(day for day in raw.dates() if day > min(days) and day not in set(days))
    if ID not in accepted.names or not later or (rows[ID].null_count == rows.num_rows and not made):
        return []
    found = workspace.engine.query(
        _LATER, before=lake.files(accepted, sorted(made)), after=rows, later=raw.files(later)
    )
    return list(found["day"].to_pylist())

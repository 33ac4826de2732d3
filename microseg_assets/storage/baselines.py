"""Days are compared with a baseline, the days before them: reading it, and which later days a change affects.

Belongs here: reading from the lake. Does not belong here: the comparison (see `expectations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

import pyarrow as pa

from expectations.duplicates import ID
from expectations.past import Past, window
from expectations.profiles import profile
from expectations.refusals import content_columns
from microseg_assets.workspace import Workspace, raw_name
from ml.tables import INPUTS, TRANSACTIONS
from ml.tables.outputs import INPUT_PROFILES


def read_baseline(workspace: Workspace, table: str, days: Sequence[date]) -> Past:
    """What the lake holds of an input table before `days`, for `expectations` to compare them with.

    This is deliberately not one of Dagster's dependencies: remaking one old day does not make all later ones stale.
    """
    lake, accepted, first = workspace.lake, workspace.project.inputs[table], min(days)
    before = [date.fromisoformat(key) for key in lake.keys(accepted) if key < first.isoformat()]
    baseline = [day for day in before if day >= first - timedelta(days=window(workspace.project.validation))]
    profiled = set(lake.keys(INPUT_PROFILES, table=table))
    with_profile = [day for day in baseline if day.isoformat() in profiled]
    profiles = workspace.engine.query(
        "SELECT * FROM partitions", partitions=lake.files(INPUT_PROFILES, with_profile, table=table)
    )
    if unprofiled := [day for day in baseline if day.isoformat() not in profiled]:  # most of them have no rows
        computed = profile(workspace.engine, accepted, lake.files(accepted, unprofiled))
        profiles = pa.concat_tables([profiles.cast(computed.schema), computed])
    customers = workspace.project.inputs["customers"]
    is_of_customers = workspace.sources["customers"] is not None and table in {*INPUTS} - {"customers"}
    delivered = [key for key in lake.keys(customers) if key <= max(days).isoformat()] if is_of_customers else []
    return Past(
        profiles,
        frozenset(baseline),
        began=min(before, default=None),
        ids=lake.files(accepted, before) if ID in accepted.names and before else None,
        customers=lake.files(customers, delivered) if is_of_customers else None,
    )


_COLUMNS = content_columns(TRANSACTIONS)  # the only table with ids; the columns in which repeats of an id are compared
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


def days_to_revalidate(workspace: Workspace, table: str, days: Sequence[date], rows: pa.Table) -> list[date]:
    """Later days whose verdict may change, as the first accepted row of an id wins.

    They repeat an id that `days` now accept, no longer accept, or accept with other values.

    Parameters
    ----------
    days : the days being remade, whose previous rows are still in the lake
    rows : the rows accepted of them now
    """
    lake, accepted, raw = workspace.lake, workspace.project.inputs[table], workspace.partitions(raw_name(table))
    previous = {key for key in lake.keys(accepted) if date.fromisoformat(key) in set(days)}
    later = sorted(day for day in raw.dates() if day > min(days) and day not in set(days))
    if ID not in accepted.names or not later or (rows[ID].null_count == rows.num_rows and not previous):
        return []
    affected = workspace.engine.query(
        _LATER, before=lake.files(accepted, sorted(previous)), after=rows, later=raw.files(later)
    )
    return list(affected["day"].to_pylist())

"""What validation stores besides accepted rows: refused rows with their rule, pages of refused days, profiles.

Belongs here: writing and deleting it, and deleting what a refusal invalidates. Does not belong here: the verdict itself
(see `expectations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pyarrow as pa

from expectations.docs import data_docs
from microseg_assets.storage.baselines import read_baseline
from microseg_assets.storage.rows import filter_days
from microseg_assets.workspace import Workspace
from ml import tables
from ml.tables.outputs import INPUT_PROFILES

DATA_DOCS = "data-docs.html"
REFUSAL = "refusal.txt"  # why the day was refused, next to its page


def put(workspace: Workspace, table: str, key: str | date, refused: pa.Table) -> None:
    """Replace a partition of the quarantine; without rows, there is none."""
    lake = workspace.lake
    if refused.num_rows:
        lake.write(tables.QUARANTINE, key, refused, table=table)
    else:
        lake.remove(tables.QUARANTINE, key, table=table)


def put_days(workspace: Workspace, table: str, days: Sequence[date], refused: pa.Table) -> None:
    """Replace the quarantine of some days."""
    present = set(workspace.lake.keys(tables.QUARANTINE, table=table))
    with_rows = set(refused["day"].to_pylist())
    for day in days:
        if day in with_rows or day.isoformat() in present:
            put(workspace, table, day, filter_days(refused, [day]))


def put_profiles(workspace: Workspace, table: str, days: Sequence[date], profiles: pa.Table | None) -> None:
    """Replace the profiles of accepted days; a day without rows has none."""
    if profiles is None:
        return
    lake = workspace.lake
    profiled = filter_days(profiles, days)
    with_rows = sorted(set(profiled["day"].to_pylist()))
    lake.write_days(INPUT_PROFILES, profiled, with_rows, table=table)
    for key in set(lake.keys(INPUT_PROFILES, table=table)) & {f"{day}" for day in days}:
        if date.fromisoformat(key) not in with_rows:
            lake.remove(INPUT_PROFILES, key, table=table)


def put_refusal(workspace: Workspace, table: str, day: date, reason: str) -> None:
    """Store why a day was refused, next to its page."""
    workspace.lake.put_file(tables.QUARANTINE, day, REFUSAL, reason.encode(), table=table)


def withdraw(workspace: Workspace, table: str, day: date) -> None:
    """Delete the accepted rows of a refused day, the daily facts made from them, and every snapshot that includes it.

    What was published about these days stays and counts as stale; nothing new can be made from them.
    """
    lake, snapshot = workspace.lake, workspace.project.features_table
    facts = (tables.CUSTOMER_DAYS, tables.CATEGORY_DAYS, tables.ORDER_DAYS) if table in tables.INPUTS else ()
    for rows in (workspace.project.inputs[table], *facts):
        lake.remove(rows, day)
    for key in lake.keys(snapshot):
        if key >= day.isoformat():
            lake.remove(snapshot, key)
    lake.remove(INPUT_PROFILES, day, table=table)


def clear_refusal(workspace: Workspace, table: str, day: date) -> None:
    """Delete the page and reason of an earlier refusal: the day has passed."""
    for name in (DATA_DOCS, REFUSAL):
        workspace.lake.remove(tables.QUARANTINE, day, name, table=table)


def put_data_docs(workspace: Workspace, table: str, day: date, rows: pa.Table, undated: int = 0) -> str:
    """Write Great Expectations' page of a day's delivered rows next to its quarantine; returns its URL."""
    project = workspace.project
    baseline = read_baseline(workspace, table, [day]) if workspace.sources[table] else None
    page = data_docs(workspace.engine, project.inputs[table], rows, day, project.validation, baseline, undated)
    return workspace.lake.put_file(tables.QUARANTINE, day, DATA_DOCS, page.encode(), table=table)


def was_refused(workspace: Workspace, table: str, day: date) -> bool:
    """Whether the last verdict on a day was a refusal: its page stays until the day passes."""
    return workspace.lake.read_file(tables.QUARANTINE, day, DATA_DOCS, table=table) is not None


def refusal(workspace: Workspace, table: str, day: date) -> str | None:
    """Why a day was refused; None if it was not, or before reasons were stored."""
    reason = workspace.lake.read_file(tables.QUARANTINE, day, REFUSAL, table=table)
    return None if reason is None else reason.decode()

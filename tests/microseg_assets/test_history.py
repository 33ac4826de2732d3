"""The history up to a day is read from the stored facts of each day, and needs nothing else."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from microseg_assets.build import load_workspace
from microseg_assets.home import Home
from microseg_assets.storage.history import history_from_facts
from microseg_assets.storage.lake import MissingPartitions
from microseg_assets.workspace import Workspace
from ml import tables

PROJECT = """\
name: shop
start: 2024-01-01
end: 2024-01-03
tables:
  transactions: {path: a.csv}
"""
DAYS = [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)]


def workspace_with_days(folder: Path, text: str) -> Workspace:
    """A workspace with the facts of every day, but no accepted rows."""
    (folder / "shop.yaml").write_text(text)
    workspace = load_workspace(str(folder / "shop.yaml"), Home(folder / "home"))
    for day in DAYS:
        for table in (tables.CUSTOMER_DAYS, tables.CATEGORY_DAYS):
            workspace.lake.write(table, day, table.empty())
    return workspace


def test_rows_of_earlier_days_are_read_only_if_a_refund_may_undo_an_order(tmp_path: Path) -> None:
    history = history_from_facts(workspace_with_days(tmp_path, PROJECT), DAYS[-1])
    assert history.known([DAYS[-1]]).num_rows == 0 and history.undone_orders is None
    workspace = workspace_with_days(tmp_path, f"{PROJECT}features: {{undo_within_days: 14}}\n")
    with pytest.raises(MissingPartitions, match="transactions"):
        history_from_facts(workspace, DAYS[-1])

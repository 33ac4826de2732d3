"""What is known of customers up to a day: the facts that features, labels and training weeks are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from microseg_assets.workspace import Workspace
from ml import tables
from ml.engine import Input
from ml.features import CustomerHistory, repeated_orders, undone_orders


def accepted_inputs(workspace: Workspace, days: Sequence[date]) -> dict[str, Input]:
    """The accepted rows of some days by input table, as the engine reads them."""
    return {name: workspace.accepted(name, days) for name in workspace.project.inputs}


def facts(workspace: Workspace, last: date) -> CustomerHistory:
    """Facts summed from accepted rows, none later than `last`."""
    days = workspace.calendar.days(workspace.calendar.start, last)
    return CustomerHistory.from_rows(
        workspace.engine, workspace.project.feature_spec, **accepted_inputs(workspace, days)
    )


def facts_so_far(workspace: Workspace, last: date) -> CustomerHistory:
    """Facts as `customer_days` holds them, none later than `last`."""
    days = workspace.calendar.days(workspace.calendar.start, last)
    lake, engine = workspace.lake, workspace.engine
    so_far = CustomerHistory(
        engine,
        workspace.project.feature_spec,
        lake.files(tables.CUSTOMER_DAYS, days),
        lake.files(tables.CATEGORY_DAYS, days),
        workspace.accepted("customers", days),
    )
    gone = set(lake.missing(tables.ORDER_DAYS, days))  # days that were made before parts were looked for
    orders = lake.files(tables.ORDER_DAYS, [day for day in days if day.isoformat() not in gone])
    repeated = repeated_orders(engine, orders, so_far.spec.order_days)
    if so_far.spec.undo_within_days is None:  # then no day needs the lines of all days before it
        return replace(so_far, repeated_orders=repeated)
    undone = undone_orders(engine, workspace.accepted("transactions", days), so_far.spec.undo_within_days)
    return replace(so_far, repeated_orders=repeated, undone_orders=undone)

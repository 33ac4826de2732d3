"""What is known of customers up to a day: the histories that features, labels and training weeks are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from microseg_assets.workspace import Workspace
from ml import tables
from ml.engine import Input
from ml.features import CustomerHistory, repeated_orders, undone_orders


def accepted_inputs(workspace: Workspace, days: Sequence[date]) -> dict[str, Input]:
    """The accepted rows of some days by input table, as the engine reads them; without contexts."""
    return {name: workspace.accepted(name, days) for name in tables.INPUTS}


def accepted_contexts(workspace: Workspace, days: Sequence[date]) -> dict[str, Input]:
    """The accepted rows of some days by context, as the engine reads them."""
    return {context.table: workspace.accepted(context.table, days) for context in workspace.project.contexts}


def history_from_rows(workspace: Workspace, last: date) -> CustomerHistory:
    """The history up to `last`, summed from accepted rows."""
    days = workspace.calendar.days(workspace.calendar.start, last)
    return CustomerHistory.from_rows(
        workspace.engine,
        workspace.project.feature_spec,
        **accepted_inputs(workspace, days),
        contexts=accepted_contexts(workspace, days),
    )


def history_from_facts(workspace: Workspace, last: date) -> CustomerHistory:
    """The history up to `last`, read from the daily facts that `customer_days` stored."""
    days = workspace.calendar.days(workspace.calendar.start, last)
    lake, engine = workspace.lake, workspace.engine
    history = CustomerHistory(
        engine,
        workspace.project.feature_spec,
        lake.files(tables.CUSTOMER_DAYS, days),
        lake.files(tables.CATEGORY_DAYS, days),
        workspace.accepted("customers", days),
        rows={name: workspace.accepted(name, days) for name in workspace.project.feature_spec.declared.tables},
        contexts=accepted_contexts(workspace, days),
    )
    absent = set(lake.missing(tables.ORDER_DAYS, days))  # days made before this table existed
    orders = lake.files(tables.ORDER_DAYS, [day for day in days if day.isoformat() not in absent])
    repeated = repeated_orders(engine, orders, history.spec.order_days)
    if history.spec.undo_within_days is None:  # then no day needs the rows of all days before it
        return replace(history, repeated_orders=repeated)
    undone = undone_orders(engine, workspace.accepted("transactions", days), history.spec.undo_within_days)
    return replace(history, repeated_orders=repeated, undone_orders=undone)

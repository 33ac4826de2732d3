"""What is known of customers up to a day: the histories that features, labels and training weeks are made from."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from microseg_assets.workspace import Workspace
from ml import tables
from ml.engine import Engine, Files, Input
from ml.features import CustomerHistory, repeated_orders, undone_orders
from ml.features.shared import SharedHistory


def accepted_inputs(workspace: Workspace, days: Sequence[date]) -> dict[str, Input]:
    """The accepted rows of some days by input table, as the engine reads them; without contexts."""
    return {name: workspace.accepted(name, days) for name in tables.INPUTS}


def accepted_contexts(workspace: Workspace, days: Sequence[date]) -> dict[str, Input]:
    """The accepted rows of some days by context, as the engine reads them."""
    return {context.table: workspace.accepted(context.table, days) for context in workspace.project.contexts}


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
    parts = repeated_orders(engine, orders, history.spec.order_days)
    repeated = parts if parts.num_rows else None
    if history.spec.undo_within_days is None:  # then no day needs the rows of all days before it
        return replace(history, repeated_orders=repeated)
    undone = undone_orders(engine, workspace.accepted("transactions", days), history.spec.undo_within_days)
    return replace(history, repeated_orders=repeated, undone_orders=undone)


def training_history(workspace: Workspace, last: date, run_id: str) -> CustomerHistory:
    """The history up to `last` for training, shared by all families of a run with its snapshots; orders count once.

    Every family asks the same facts some dozens of times. One local file a table answers in less time than opening one
    for each day would take and, unlike a table in memory, takes none.

    Parameters
    ----------
    run_id : run that asks; without one, nothing is shared
    """
    shared = workspace.training_histories
    for key in [key for key in shared if key[0] != run_id or not run_id]:
        del shared[key]
    if (run_id, last) not in shared:
        folder = tempfile.TemporaryDirectory(prefix="microseg-facts-")
        history = SharedHistory.of(_in_one_place(history_from_facts(workspace, last), Path(folder.name)))
        weakref.finalize(history, folder.cleanup)
        shared[run_id, last] = history
    return shared[run_id, last]


def _in_one_place(history: CustomerHistory, folder: Path) -> CustomerHistory:
    """The same history, with all that it reads in one file a table, and each order counted once."""
    once = history.each_once()

    def written(name: str, rows: Input) -> Files:
        return _written(history.engine, rows, folder / f"{name}.parquet")

    return replace(
        once,
        customer_days=written("customer_days", once.customer_days),
        category_days=written("category_days", once.category_days),
        customers=written("customers", once.customers),
        contexts={name: written(name, rows) for name, rows in once.contexts.items()},
    )


def _written(engine: Engine, rows: Files | pa.Table, path: Path) -> Files:
    """The rows as one file, written in batches."""
    schema = rows.schema
    with pq.ParquetWriter(path, schema, compression="zstd", compression_level=1) as writer:
        for batch in engine.stream("SELECT * FROM facts", facts=rows):
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))
    return Files((str(path),), schema)

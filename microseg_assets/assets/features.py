"""Features: facts per customer and day, and the snapshot of every known customer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from microseg_assets.orchestration.declaration import asset
from microseg_assets.orchestration.step import BATCH_DAYS, Step, check_one_row_per_customer
from microseg_assets.partitions import Lookback
from microseg_assets.storage import declarations
from microseg_assets.storage.declarations import FACTS, SNAPSHOT
from microseg_assets.storage.history import accepted_inputs, history_from_facts
from microseg_assets.workspace import Stored
from ml import tables
from ml.features import day_facts

MAX_ROWS = 1_000_000  # of the snapshots that are in memory at once


@asset(
    "features",
    writes=Stored(tables.CUSTOMER_DAYS, side_outputs=(tables.CATEGORY_DAYS, tables.ORDER_DAYS)),
    reads=dict.fromkeys(tables.INPUTS, Lookback.SAME_DAY),
)
def customer_days(step: Step) -> None:
    """What each customer did on the day: orders, money, events, actions. Snapshots are made from these."""
    for days in step.batches():
        facts = day_facts(
            step.engine, **accepted_inputs(step.workspace, days), event_roles=step.workspace.project.event_roles
        )
        step.workspace.lake.write_days(tables.CATEGORY_DAYS, facts.category_days, days)
        step.workspace.lake.write_days(tables.ORDER_DAYS, facts.order_days, days)
        step.write(facts.customer_days, days, footers=dict.fromkeys(days, declarations.note(step.workspace, FACTS)))
        if step.project.value.of == "margin":
            _note_lines_without_margin(step, days)


@asset(
    "features",
    writes=lambda project: project.features_table,
    reads={"customer_days": Lookback.DAYS_SO_FAR, "customers": Lookback.DAYS_SO_FAR},
    checks={"one_row_per_known_customer": "Each customer known on the day has exactly one row."},
)
def customer_features(step: Step) -> None:
    """The snapshot: every feature of every known customer, as of the end of the day."""
    history = history_from_facts(step.workspace, max(step.keys))
    customers = max(1, history.known([max(step.keys)]).num_rows)
    for days in step.batches(min(BATCH_DAYS, max(1, MAX_ROWS // customers))):
        pairs = history.known(days)
        rows = history.snapshot(pairs)
        check_one_row_per_customer(step, "one_row_per_known_customer", days, pairs, rows)
        step.write(rows, days, footers=dict.fromkeys(days, declarations.note(step.workspace, SNAPSHOT)))


def _note_lines_without_margin(step: Step, days: Sequence[date]) -> None:
    """Say of each day how many lines add nothing to value, for they have no margin."""
    counts = step.engine.query(
        "SELECT day, SUM(CASE WHEN margin IS NULL THEN 1 ELSE 0 END) AS lines FROM transactions GROUP BY day",
        transactions=step.workspace.accepted("transactions", days),
    )
    lines = dict(zip(counts["day"].to_pylist(), counts["lines"].to_pylist(), strict=True))
    for day in days:
        step.note(day, lines_without_margin=int(lines.get(day, 0)))

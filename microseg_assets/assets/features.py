"""Features: facts per customer and day, and the snapshot of every known customer."""

from __future__ import annotations

import dagster as dg

from microseg_assets.chain import Chain
from microseg_assets.partitions import Reach
from microseg_assets.step import Step
from microseg_assets.workspace import Stored
from ml import tables


def assets(chain: Chain) -> list[dg.AssetsDefinition]:
    @chain.asset(
        "features",
        writes=Stored(tables.CUSTOMER_DAYS, beside=(tables.CATEGORY_DAYS, tables.ORDER_DAYS)),
        reads=dict.fromkeys(tables.INPUTS, Reach.SAME_DAY),
    )
    def customer_days(step: Step) -> None:
        """What each customer did on the day: orders, money, events, actions. All that a snapshot is made of."""
        for days in step.batches():
            facts = step.day_facts(days)
            step.workspace.lake.write_days(tables.CATEGORY_DAYS, facts.category_days, days)
            step.workspace.lake.write_days(tables.ORDER_DAYS, facts.order_days, days)
            step.write(facts.customer_days, days)

    @chain.asset(
        "features",
        writes=Stored(chain.project.features_table),
        reads={"customer_days": Reach.DAYS_SO_FAR, "customers": Reach.DAYS_SO_FAR},
        checks={"one_row_per_known_customer": "Each customer known on the day has exactly one row."},
    )
    def customer_features(step: Step) -> None:
        """The snapshot: every feature of every known customer, as of the end of the day."""
        facts = chain.facts_so_far(max(step.keys))
        for days in step.batches():
            pairs = facts.known(days)
            rows = facts.snapshot(pairs)
            step.check_counts("one_row_per_known_customer", days, step.counts(pairs, days), step.counts(rows, days))
            step.write(rows, days)

    return [customer_days, customer_features]

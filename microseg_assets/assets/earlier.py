"""Features of customers on earlier days, which a day's micro-segments and movements depend on.

Belongs here: reading stored snapshots that are up to date, and computing the rest. Does not belong here: which
customers and days are needed (see `ml.segments` and `ml.restate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.orchestration.step import Step, read_day_before
from microseg_assets.partitions import Lookback
from microseg_assets.planning.staleness import outdated
from microseg_assets.storage.declarations import SNAPSHOT, made_under_others
from microseg_assets.storage.history import history_from_facts
from microseg_assets.workspace import Workspace
from ml.engine import quoted
from ml.restate import Models, valued_history_columns

# What a day's micro-segments depend on: with these, late rows of any earlier day make them stale.
EARLIER_DAYS = {
    "customer_days": Lookback.DAYS_SO_FAR, "customers": Lookback.DAYS_SO_FAR, "value_model": Lookback.LAST_ENDED_WEEK,
}  # fmt: skip


@dataclass(frozen=True)
class EarlierFeatures:
    """Features of given customers on earlier days, as the layers use them.

    They follow from the accepted rows up to these days, not from what was published. A stored snapshot is read only if
    remaking it now would give the same, and its inputs are declared as dependencies of the asset that uses it
    (`EARLIER_DAYS`). All other features are computed, for the given customers only.
    """

    workspace: Workspace
    models: Models

    def __call__(self, pairs: pa.Table) -> pa.Table:
        """The features of pairs of customer and day, in the order of the pairs."""
        pairs = pairs.append_column("position", pa.array(np.arange(pairs.num_rows)))
        current = self._current_snapshots(pc.unique(pairs["day"]).to_pylist())
        is_stored = pc.is_in(pairs["day"], pa.array(current, pa.date32()))
        parts = []
        if current:
            parts.append(self._stored(pairs.filter(is_stored), current))
        if (rest := pairs.filter(pc.invert(is_stored))).num_rows:
            parts.append(self._computed(rest))
        rows = pa.concat_tables(parts, promote_options="permissive")
        return rows.take(np.argsort(rows["position"].to_numpy())).drop_columns(["position"])

    @cached_property
    def _names(self) -> list[str]:
        return ["customer_id", "day", *valued_history_columns(self.models, self.workspace.project.features_table.names)]

    def _stored(self, pairs: pa.Table, days: list[date]) -> pa.Table:
        columns = ", ".join(f"partitions.{quoted(name)} AS {quoted(name)}" for name in self._names)
        return self.workspace.engine.query(
            f"""
            SELECT {columns}, pairs.position AS position FROM partitions
            JOIN pairs ON pairs.customer_id = partitions.customer_id AND pairs.day = partitions.day
            """,
            pairs=pairs,
            partitions=self.workspace.lake.files(self.workspace.project.features_table, days),
        )

    def _computed(self, pairs: pa.Table) -> pa.Table:
        history = history_from_facts(self.workspace, pc.max(pairs["day"]).as_py())
        features = history.snapshot(pairs.select(["customer_id", "day"]), self._names)
        return features.select(self._names).append_column("position", pairs["position"])

    def _current_snapshots(self, days: Sequence[date]) -> list[date]:
        """Days whose stored snapshot is up to date with the accepted rows and has all needed columns."""
        table, lake = self.workspace.project.features_table, self.workspace.lake
        absent, old = set(lake.missing(table, days)), outdated(self.workspace, SNAPSHOT)
        declared = table.schema()
        wanted = {(name, declared.field(name).type) for name in self._names if name in declared.names}
        current = [day for day in days if f"{day}" not in absent and day not in old]
        return [day for day in current if wanted <= {(field.name, field.type) for field in lake.schema(table, day)}]


def snapshot_of_day_before(step: Step, day: date) -> pa.Table | None:
    """The features of every customer on the day before, computed if they were stored under other declarations; None on
    the first day ever made."""
    stored, before = read_day_before(step, SNAPSHOT, day), day - timedelta(days=1)
    if stored is None or not made_under_others(step.workspace, SNAPSHOT, [before]):
        return stored
    return history_from_facts(step.workspace, before).snapshot(stored.select(["customer_id", "day"]))

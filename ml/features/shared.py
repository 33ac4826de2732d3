"""A history that keeps the snapshots it has computed, for several families that train on the same days.

Belongs here: what is kept, and when it can be used again. Does not belong here: how a snapshot is made (see `history`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.features.history import CustomerHistory

MAX_KEPT_ROWS = 1_000_000


@dataclass(frozen=True)
class SharedHistory(CustomerHistory):
    """A history whose whole snapshots are computed once.

    A day's snapshot is kept with the customers it was computed for, and used again for any of them. At most
    `MAX_KEPT_ROWS` rows are kept; what goes beyond is computed each time.

    Examples
    --------
    >>> from ml import tables
    >>> from ml.engine import DuckDB
    >>> from ml.features import FeatureSpec
    >>> nothing = tables.TRANSACTIONS.empty_days()
    >>> history = CustomerHistory.from_rows(DuckDB(threads=1), FeatureSpec(), transactions=nothing)
    >>> SharedHistory.of(history).snapshot_of(date(2024, 1, 2)).num_rows
    0
    """

    _kept: dict[date, pa.Table] = field(default_factory=dict, init=False, compare=False)
    _whole: SharedHistory | None = field(default=None, init=False, compare=False)  # of which this is a part
    _last: date = field(default=date.max, init=False, compare=False)

    @classmethod
    def of(cls, history: CustomerHistory) -> Self:
        """Make a history keep its snapshots.

        Parameters
        ----------
        history : CustomerHistory
            What is known.

        Returns
        -------
        SharedHistory
            The same history, with nothing kept yet.
        """
        return cls(**{one.name: getattr(history, one.name) for one in fields(CustomerHistory)})

    def until(self, day: date) -> SharedHistory:
        """Leave out everything after a day, and keep the same snapshots: none of them knows anything after its day.

        Parameters
        ----------
        day : date
            Last day to keep.

        Returns
        -------
        SharedHistory
            The history up to the end of `day`.
        """
        part = cast("SharedHistory", super().until(day))
        for name, value in (("_kept", self._kept), ("_whole", self), ("_last", min(day, self._last))):
            object.__setattr__(part, name, value)
        return part

    def snapshot(self, pairs: pa.Table, columns: Sequence[str] | None = None) -> pa.Table:
        """Compute the features of each pair of customer and day, or take those that are kept.

        Parameters
        ----------
        pairs : pa.Table
            As of `CustomerHistory.snapshot`.
        columns : sequence of str, optional
            Features to compute. With them, nothing is kept or taken.

        Returns
        -------
        pa.Table
            As of `CustomerHistory.snapshot`.
        """
        if columns is not None:
            return super().snapshot(pairs, columns)
        asked = {day: pairs.filter(pc.equal(pairs["day"], day)) for day in pc.unique(pairs["day"])}
        taken = {day.as_py(): self._take(day.as_py(), rows) for day, rows in asked.items()}
        absent = pa.array([day for day, rows in taken.items() if rows is None], pa.date32())
        if len(absent) == len(asked):
            computed = super().snapshot(pairs)
        else:
            computed = super().snapshot(pairs.filter(pc.is_in(pairs["day"], absent))) if len(absent) else None
        for day in absent:
            assert computed is not None
            rows = computed.filter(pc.equal(computed["day"], day))
            self._keep(day.as_py(), rows)
            taken[day.as_py()] = rows
        if not taken:
            return super().snapshot(pairs)
        return pa.concat_tables([rows for _, rows in sorted(taken.items()) if rows is not None])

    def _take(self, day: date, pairs: pa.Table) -> pa.Table | None:
        """The kept rows of pairs of one day, by customer; None unless there are all."""
        if day > self._last or (kept := self._kept.get(day)) is None:
            return None
        positions = pc.index_in(pairs["customer_id"], kept["customer_id"].combine_chunks())
        if positions.null_count or len(pc.unique(positions)) < len(positions):
            return None
        return kept.take(pa.array(np.sort(positions.to_numpy())))

    def _keep(self, day: date, rows: pa.Table) -> None:
        others = sum(table.num_rows for other, table in self._kept.items() if other != day)
        if day <= self._last and others + rows.num_rows <= MAX_KEPT_ROWS:
            self._kept[day] = rows

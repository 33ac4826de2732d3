"""What is known from before: what a day is compared with, and what it may not repeat.

Belongs here: the shape of that knowledge. Whoever keeps the accepted rows hands it in. Does not belong here: reading a
lake.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from expectations.rules import ValidationSpec
    from ml.engine import Input


@dataclass(frozen=True)
class Past:
    """The accepted days before those that are judged. Later ones must not be in it.

    Parameters
    ----------
    profiles : the profiles of the accepted days of the trailing window (see `window`); a day without rows has none
    days : the accepted days of that window
    began : the first day that was ever accepted; None if none was
    ids : the accepted rows' `transaction_id`, of every earlier day; None for tables without one
    customers : `customer_id` and `day` of the accepted `customers`, those of the judged days too; None where no such
        table is brought
    """

    profiles: pa.Table
    days: frozenset[date] = frozenset()
    began: date | None = None
    ids: Input | None = None
    customers: Input | None = None

    def after(self, profiles: pa.Table, days: Collection[date]) -> Past:
        """What is known once these days are accepted, too; `profiles` may hold those of other days."""
        if not days:
            return self
        known = [self.began] if self.began is not None else []
        return replace(
            self,
            profiles=pa.concat_tables(
                [self.profiles, profiles.filter(pc.is_in(profiles["day"], pa.array(sorted(days), pa.date32())))]
            ),
            days=self.days | frozenset(days),
            began=min([*known, *days]),
        )


def window(spec: ValidationSpec) -> int:
    """How many days back a day is compared."""
    return max(spec.volume.weeks * 7, spec.shift.days, *(days + 1 for days in (0, *spec.freshness.max_days.values())))

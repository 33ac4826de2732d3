"""What is known from earlier days: what a day is compared with, and what it must not repeat.

Belongs here: the shape of that knowledge. Whoever stores the accepted rows passes it in. Does not belong here:
reading a lake.
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
    """The accepted days before those that are judged. It must contain no later ones.

    Parameters
    ----------
    profiles : of the accepted days of the baseline window (see `window`); a day without rows has none
    days : the accepted days of that window
    began : the first day that was ever accepted; None if none was
    ids : the accepted rows' `transaction_id`, of every earlier day; None for tables without one
    customers : `customer_id` and `day` of the accepted `customers`, including the judged days; None if there is no
        such table
    """

    profiles: pa.Table
    days: frozenset[date] = frozenset()
    began: date | None = None
    ids: Input | None = None
    customers: Input | None = None

    def after(self, profiles: pa.Table, days: Collection[date]) -> Past:
        """What is known once these days are accepted too; `profiles` may include other days."""
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
    """With how many days before it a day is compared."""
    return max(spec.volume.weeks * 7, spec.shift.days, *(days + 1 for days in (0, *spec.freshness.max_days.values())))

"""What the lake holds from before a day of an input table: what the day is compared with.

Belongs here: reading it. Does not belong here: the comparison (see `expectations`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from expectations.duplicates import ID
from expectations.past import Past, window
from expectations.profiles import profile
from ml.tables.outputs import INPUT_PROFILES

if TYPE_CHECKING:
    from microseg_assets.chain import Chain


def past_of(chain: Chain, table: str, days: Sequence[date]) -> Past:
    """What the lake holds from before some days of an input table, for `expectations` to compare them with.

    Read beside Dagster's dependencies on purpose: making one old day anew does not make all later ones stale.
    """
    lake, accepted, first = chain.lake, chain.project.inputs[table], min(days)
    before = [date.fromisoformat(key) for key in lake.keys(accepted) if key < first.isoformat()]
    trailing = [day for day in before if day >= first - timedelta(days=window(chain.project.validation))]
    profiled = set(lake.keys(INPUT_PROFILES, table=table))
    known = [day for day in trailing if day.isoformat() in profiled]
    profiles = chain.engine.query("SELECT * FROM known", known=lake.files(INPUT_PROFILES, known, table=table))
    if unprofiled := [day for day in trailing if day.isoformat() not in profiled]:  # most of them have no rows
        made = profile(chain.engine, accepted, lake.files(accepted, unprofiled))
        profiles = pa.concat_tables([profiles.cast(made.schema), made])
    customers = chain.project.inputs["customers"]
    delivered = [key for key in lake.keys(customers) if key <= max(days).isoformat()]
    return Past(
        profiles,
        frozenset(trailing),
        began=min(before, default=None),
        ids=lake.files(accepted, before) if ID in accepted.names and before else None,
        customers=lake.files(customers, delivered) if chain.sources["customers"] and table != "customers" else None,
    )

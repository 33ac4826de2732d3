"""References: rows whose customer is in no delivery of `customers` up to their day.

Belongs here: counting them. Does not belong here: how many are too many (see `expectations.measures`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import numpy as np

    from ml.engine import Engine, Input

EXAMPLES = 3  # unknown customers that are named
_SQL = """
WITH known AS (SELECT customer_id, MIN(day) AS since FROM customers GROUP BY customer_id),
counts AS (SELECT day, customer_id, COUNT(*) AS n FROM accepted GROUP BY day, customer_id),
unknown AS (
    SELECT counts.day, counts.customer_id, counts.n,
           row_number() OVER (PARTITION BY counts.day ORDER BY counts.customer_id) AS nth
    FROM counts LEFT JOIN known ON counts.customer_id = known.customer_id
    WHERE known.since IS NULL OR known.since > counts.day
)
SELECT day, CAST(SUM(n) AS BIGINT) AS n, COUNT(*) AS customers,
       MAX(CASE WHEN nth = 1 THEN customer_id END) AS example_1,
       MAX(CASE WHEN nth = 2 THEN customer_id END) AS example_2,
       MAX(CASE WHEN nth = 3 THEN customer_id END) AS example_3
FROM unknown GROUP BY day ORDER BY day
"""


def count_unknown_customers(engine: Engine, rows: pa.Table, customers: Input) -> pa.Table:
    """Count rows of unknown customers: `n` rows and `customers` of each day that has any, and the first ones by id.

    Parameters
    ----------
    rows : `day` and `customer_id` of accepted rows
    customers : `customer_id` and `day` of the deliveries
    """
    return engine.query(_SQL, accepted=rows.select(["day", "customer_id"]), customers=customers)


def unknown_share(unknown: pa.Table, days: Sequence[date], rows: np.ndarray) -> tuple[np.ndarray, Mapping[date, str]]:
    """The share of each day's rows whose customer is unknown, NaN for a day without rows, and a note with examples."""
    import numpy as np

    of_day: dict[date, dict[str, Any]] = {row["day"]: row for row in unknown.to_pylist()}
    counts = np.array([of_day[day]["n"] if day in of_day else 0 for day in days], dtype=float)
    notes = {}
    for day, row in ((day, of_day[day]) for day in days if day in of_day):
        named = ", ".join(row[f"example_{i}"][:40] for i in range(1, EXAMPLES + 1) if row[f"example_{i}"] is not None)
        more = " …" if row["customers"] > EXAMPLES else ""
        notes[day] = f"{row['n']:,} rows of {row['customers']:,} customers: {named}{more}"
    return np.divide(counts, rows, out=np.full(len(counts), np.nan), where=rows > 0), notes

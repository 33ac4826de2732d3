"""Samples of customers that stay the same from week to week.

Belongs here: drawing customers by a salted hash. Does not belong here: how many a fit looks at (see the families'
specs).
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from ml.engine import Engine

_SAMPLE = """
WITH people AS (
    SELECT customer_id, ROW_NUMBER() OVER (ORDER BY SHA256(CONCAT($seed, '/', customer_id)), customer_id) AS place
    FROM (SELECT DISTINCT customer_id FROM pairs) AS everybody
)
SELECT pairs.customer_id AS customer_id, pairs.day AS day
FROM pairs JOIN people ON people.customer_id = pairs.customer_id
WHERE people.place <= $most
ORDER BY pairs.day, pairs.customer_id
"""


def sample_customers(engine: Engine, pairs: pa.Table, most: int, seed: int) -> pa.Table:
    """The pairs of at most `most` customers, those with the lowest hashes; all pairs if there are no more.

    A hash of the customer, not a draw: it does not depend on the order of rows, and who was drawn stays drawn until
    others with lower hashes come in.

    Parameters
    ----------
    pairs : customer_id, day (`CustomerHistory.known`)

    Returns
    -------
    customer_id, day, by day and customer; a customer with all of its days or none.
    """
    if pc.count_distinct(pairs["customer_id"]).as_py() <= most:
        return pairs
    return engine.query(_SAMPLE, {"seed": str(seed), "most": most}, pairs=pairs)

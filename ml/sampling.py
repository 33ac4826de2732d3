"""Samples of customers that stay the same from week to week.

Belongs here: drawing customers by a salted hash. Does not belong here: how many a fit reads (see the families' specs).
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from ml.engine import Engine

_SAMPLE = """
WITH people AS (
    SELECT customer_id, ROW_NUMBER() OVER (ORDER BY SHA256(CONCAT($seed, '/', customer_id)), customer_id) AS hash_rank
    FROM (SELECT DISTINCT customer_id FROM pairs) AS customers
)
SELECT pairs.customer_id AS customer_id, pairs.day AS day
FROM pairs JOIN people ON people.customer_id = pairs.customer_id
WHERE people.hash_rank <= $max_customers
ORDER BY pairs.day, pairs.customer_id
"""


def sample_customers(engine: Engine, pairs: pa.Table, max_customers: int, seed: int) -> pa.Table:
    """Take the pairs of the customers with the lowest hashes.

    A hash does not depend on the order of rows, and a sampled customer stays in the sample until customers with lower
    hashes join.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    pairs : pa.Table
        `customer_id` and `day` (see `CustomerHistory.known`).
    max_customers : int
        Number of customers to keep.
    seed : int
        Salt of the hash.

    Returns
    -------
    pa.Table
        `customer_id` and `day`, by day and customer: each customer with all of its days or none; `pairs` itself if it
        has no more than `max_customers` customers.

    Examples
    --------
    >>> from ml.engine import DuckDB
    >>> pairs = pa.table({"customer_id": ["a", "b", "c", "a"], "day": [1, 1, 1, 2]})
    >>> sample = sample_customers(DuckDB(threads=1), pairs, 2, seed=0)
    >>> sorted(set(sample["customer_id"].to_pylist()))
    ['b', 'c']
    """
    if pc.count_distinct(pairs["customer_id"]).as_py() <= max_customers:
        return pairs
    return engine.query(_SAMPLE, {"seed": str(seed), "max_customers": max_customers}, pairs=pairs)

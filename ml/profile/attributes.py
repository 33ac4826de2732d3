"""Attributes that foretell the past: totals as of the export, believed from a customer's first day on.

An attribute is such a one if it equals a sum over the whole history, grows with it, or knows how much of it came in the
later half, given the earlier one. What a customer is like (an age, a price agreed on) does none of these.

Belongs here: the tests. Does not belong here: what becomes of such an attribute (see `microseg_assets.scaffold` and
`microseg_assets.check`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ml.engine import Engine, Input, quoted
from ml.profile.observations import Code, Observation

if TYPE_CHECKING:
    import numpy as np

CUSTOMERS = 50_000  # that are looked at, at most
AMONG = 40  # customers with a purchase and a value, below which nothing can be said
EQUAL = 0.5  # share of the telling customers whose value equals a sum
GROWS = 0.8  # rank correlation with a sum
KNOWS, ALSO = 0.45, 0.25  # partial rank correlation with the later half, of one sum and of the other
APART = 0.97  # chance that a sum is larger in one group than in another
GROUP = 10
_HISTORY = """
WITH lines AS (
    SELECT customer_id, day, CAST(amount AS DOUBLE) AS amount, CAST(quantity AS DOUBLE) AS quantity,
           CAST(discount AS DOUBLE) AS discount, COALESCE(order_id, CAST(occurred_at AS VARCHAR)) AS order_key,
           ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY occurred_at, order_id) AS place
    FROM transactions WHERE day IS NOT NULL AND amount IS NOT NULL
),
span AS (SELECT QUANTILE_DISC(day, 0.5) AS half, MAX(day) AS newest FROM lines)
SELECT lines.customer_id AS customer_id,
       SUM(amount) AS spend,
       SUM(CASE WHEN amount > 0 THEN amount ELSE 0 END) AS sales,
       COUNT(DISTINCT order_key) AS orders,
       COUNT(*) AS lines,
       COUNT(DISTINCT lines.day) AS purchase_days,
       SUM(quantity) AS items,
       SUM(CASE WHEN amount < 0 THEN -amount ELSE 0 END) AS refunds,
       SUM(discount) AS discounts,
       SUM(amount) / COUNT(DISTINCT order_key) AS average_order,
       MAX(amount) AS largest,
       MAX(CASE WHEN place = 1 THEN amount END) AS first_amount,
       MAX(DATE_DIFF('day', DATE '2000-01-01', lines.day)) AS last_purchase,
       MIN(DATE_DIFF('day', lines.day, span.newest)) AS days_since_purchase,
       SUM(CASE WHEN lines.day <= span.half THEN amount ELSE 0 END) AS early_spend,
       SUM(CASE WHEN lines.day > span.half THEN amount ELSE 0 END) AS late_spend,
       COUNT(DISTINCT CASE WHEN lines.day <= span.half THEN order_key END) AS early_orders,
       COUNT(DISTINCT CASE WHEN lines.day > span.half THEN order_key END) AS late_orders
FROM lines, span
GROUP BY lines.customer_id
"""
_EQUAL_TO = (
    "spend", "sales", "orders", "lines", "purchase_days", "items", "refunds", "discounts", "average_order",
    "days_since_purchase",
)  # fmt: skip
_GROWING = ("spend", "orders", "items", "days_since_purchase")


def observe(
    engine: Engine, customers: Input, transactions: Input, attributes: Mapping[str, str]
) -> Iterator[Observation]:
    """The attributes that know what came after they were believed, and registrations that come after purchases.

    Parameters
    ----------
    customers : `customer_id`, `day`, `registered_at` and the attributes
    transactions : rows of the contract, with their `day`
    attributes : name to type: string, double or boolean
    """
    names = ", ".join(f"MAX(customers.{quoted(name)}) AS {quoted(name)}" for name in attributes)
    rows = engine.query(
        f"""
        WITH history AS ({_HISTORY}),
        known AS (
            SELECT customer_id, MIN(CAST(registered_at AS DATE)) AS registered{", " + names if names else ""}
            FROM customers GROUP BY customer_id
        ),
        first_days AS (SELECT customer_id, MIN(day) AS first_day FROM transactions GROUP BY customer_id)
        SELECT history.*, known.* EXCLUDE (customer_id), first_days.first_day
        FROM history JOIN known ON known.customer_id = history.customer_id
        JOIN first_days ON first_days.customer_id = history.customer_id
        ORDER BY md5(history.customer_id) LIMIT {CUSTOMERS}
        """,
        customers=customers,
        transactions=transactions,
    )
    if rows.num_rows < AMONG:
        return
    for name, type_ in attributes.items():
        as_numbers = _as_numbers(engine, rows, name) if type_ != "boolean" else None
        found = _of_numbers(rows, as_numbers) if as_numbers is not None else _of_groups(rows, name)
        if found is not None:
            how, of, figure = found
            yield Observation(
                Code.FORETELLING, "customers", {"attribute": name, "how": how, "of": of, "figure": round(figure, 3)}
            )
    (late,) = engine.query(
        "SELECT COUNT(registered) AS customers, SUM(CASE WHEN registered > first_day THEN 1 ELSE 0 END) AS late "
        "FROM rows",
        rows=rows,
    ).to_pylist()
    if late["customers"] >= AMONG and late["late"] > 0.2 * late["customers"]:
        said = {"customers": late["customers"], "late": int(late["late"]), "share": late["late"] / late["customers"]}
        yield Observation(Code.REGISTERED_LATE, "customers", said)


def _numbers(rows: pa.Table, name: str) -> np.ndarray:
    import numpy as np

    return np.asarray(rows[name].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=float)


def _as_numbers(engine: Engine, rows: pa.Table, name: str) -> np.ndarray | None:
    """The values as numbers, also where few different ones are taken for names; None if they are none."""
    column = f"TRY_CAST({quoted(name)} AS DOUBLE)"
    query = f"SELECT {column} AS x, {quoted(name)} IS NOT NULL AND {column} IS NULL AS is_text FROM rows"
    found = engine.query(query, rows=rows)
    return None if pc.any(found["is_text"]).as_py() else _numbers(found, "x")


def _of_numbers(rows: pa.Table, values: np.ndarray) -> tuple[str, str, float] | None:
    import numpy as np

    there = np.isfinite(values)
    if there.sum() < AMONG or len(np.unique(values[there])) < 2:
        return None
    for of in _EQUAL_TO:
        share = _equal(rows, values, of)
        if share >= EQUAL:
            return "equals", of, share
    return _growing(rows, values, there)


def _equal(rows: pa.Table, values: np.ndarray, of: str) -> float:
    """Share of the customers whose value equals a sum, among those of whom that says something."""
    import numpy as np

    sums = _numbers(rows, of)
    telling = np.isfinite(values) & np.isfinite(sums)
    if telling.sum() < AMONG:
        return 0.0
    common, counts = np.unique(sums[telling], return_counts=True)
    telling &= sums != common[counts.argmax()]
    if of == "average_order":  # where every order is of one price, the first one says it
        first = _numbers(rows, "first_amount")
        telling &= np.abs(first - sums) > 0.005 * np.abs(sums)
    if telling.sum() < AMONG / 2:
        return 0.0
    is_equal = np.abs(values - sums) <= np.maximum(0.011, 0.002 * np.abs(sums))
    return float(is_equal[telling].mean())


def _growing(rows: pa.Table, values: np.ndarray, there: np.ndarray) -> tuple[str, str, float] | None:
    """Whether values grow with a sum of all, or know the later half of it."""
    ranked = _ranks(values[there])
    of = {name: _ranks(_numbers(rows, name)[there]) for name in _GROWING if rows[name].null_count < rows.num_rows}
    strongest = max(of, key=lambda name: abs(_correlation(ranked, of[name])))
    strength = _correlation(ranked, of[strongest])
    if abs(strength) >= GROWS:
        return "grows with" if strength > 0 else "falls with", strongest, abs(strength)
    partial = {}
    for name in ("spend", "orders"):
        late, early = (_ranks(_numbers(rows, f"{half}_{name}")[there]) for half in ("late", "early"))
        partial[name] = _partial(ranked, late, early)
    of_most = max(partial, key=lambda name: abs(partial[name]))
    if abs(partial[of_most]) >= KNOWS and min(map(abs, partial.values())) >= ALSO:
        return "knows", of_most, abs(partial[of_most])
    return None


def _of_groups(rows: pa.Table, name: str) -> tuple[str, str, float] | None:
    """Groups that a sum tells apart, or whose order by it grows with it: `gold`, `has churned`, `is a repeat buyer`."""
    import numpy as np

    codes = np.asarray(rows[name].cast(pa.string()).combine_chunks().dictionary_encode().indices.fill_null(-1))
    there = codes >= 0
    sizes = np.bincount(codes[there]) if there.any() else np.array([], dtype=int)
    large = [group for group, size in enumerate(sizes) if size >= GROUP]
    there &= np.isin(codes, large)
    if len(large) < 2 or there.sum() < AMONG or len(large) > 40:
        return None
    if len(large) == 2:
        is_one = codes[there] == large[1]
        for of in ("spend", "orders", "days_since_purchase"):
            chance = _apart(_ranks(_numbers(rows, of)[there]), is_one)
            if max(chance, 1 - chance) >= APART:
                return "tells apart", of, max(chance, 1 - chance)
    for of in ("spend", "orders"):
        ranks = _ranks(_numbers(rows, of)[there])
        means = np.bincount(codes[there], weights=ranks) / np.maximum(np.bincount(codes[there]), 1)
        found = _growing(rows, np.where(there, means[np.where(there, codes, 0)], np.nan), there)
        if found is not None:
            return found
    return None


def _ranks(values: np.ndarray) -> np.ndarray:
    """Mean ranks; a missing value counts as 0."""
    import numpy as np

    _, inverse, counts = np.unique(np.nan_to_num(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: np.ndarray = ((ends - counts + ends + 1) / 2.0)[inverse]
    return ranks


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    import numpy as np

    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _partial(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float:
    """The correlation of two rank vectors that is left when a third one is known."""
    ab, ag, bg = _correlation(a, b), _correlation(a, given), _correlation(b, given)
    left = (1 - ag**2) * (1 - bg**2)
    return float((ab - ag * bg) / left**0.5) if left > 1e-9 else 0.0


def _apart(ranks: np.ndarray, is_one: np.ndarray) -> float:
    """The chance that a value of the one group is larger than one of the other (Mann and Whitney's U over n·m)."""
    n, m = int(is_one.sum()), int((~is_one).sum())
    return float((ranks[is_one].sum() - n * (n + 1) / 2) / (n * m))

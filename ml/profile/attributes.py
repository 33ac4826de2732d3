"""Attributes that leak the future: totals as of the export, believed from a customer's first day on.

An attribute leaks if it equals a sum over the whole history, grows with it, or predicts the later half of it, given the
earlier half. A trait of the customer (an age, an agreed price) does none of these.

Belongs here: the tests. Does not belong here: what becomes of such an attribute (see `microseg_assets.scaffold` and
`microseg_assets.check`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ml.engine import Engine, Input, quoted
from ml.profile.observations import Code, Observation

if TYPE_CHECKING:
    import numpy as np

MAX_CUSTOMERS = 50_000
MIN_CUSTOMERS = 40  # customers with a purchase and a value, below which there is no observation
MIN_EQUAL_SHARE = 0.5  # share of the informative customers whose value equals a sum
MIN_CORRELATION = 0.8  # rank correlation with a sum
# Partial rank correlation with the later half of one sum, and at least of the other.
MIN_LATE_CORRELATION, MIN_OTHER_LATE_CORRELATION = 0.45, 0.25
MIN_SEPARATION = 0.97  # probability that a sum is larger in one group than in the other
MIN_GROUP_CUSTOMERS, MAX_GROUPS = 10, 40
MIN_LATE_SHARE = 0.2  # share of the customers that register after their first purchase
_HISTORY = """
WITH lines AS (
    SELECT customer_id, day, CAST(amount AS DOUBLE) AS amount, CAST(quantity AS DOUBLE) AS quantity,
           CAST(discount AS DOUBLE) AS discount, COALESCE(order_id, CAST(occurred_at AS VARCHAR)) AS order_key,
           ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY occurred_at, order_id) AS purchase_number
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
       MAX(CASE WHEN purchase_number = 1 THEN amount END) AS first_amount,
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
    """Attributes that know the days after they were first believed, and registrations after the first purchase.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    customers : Input
        `customer_id`, `day`, `registered_at` and the attributes.
    transactions : Input
        Rows of the contract, with their `day`.
    attributes : mapping of str to str
        Name to type: string, double or boolean.
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
        ORDER BY md5(history.customer_id) LIMIT {MAX_CUSTOMERS}
        """,
        customers=customers,
        transactions=transactions,
    )
    if rows.num_rows < MIN_CUSTOMERS:
        return
    for name, type_ in attributes.items():
        as_numbers = _as_numbers(engine, rows, name) if type_ != "boolean" else None
        leak = _leak_of_numbers(rows, as_numbers) if as_numbers is not None else _leak_of_groups(rows, name)
        if leak is not None:
            figures = {"attribute": name, "how": leak.how, "of": leak.of, "figure": round(leak.figure, 3)}
            yield Observation(Code.FORETELLING, "customers", figures)
    (late,) = engine.query(
        "SELECT COUNT(registered) AS customers, SUM(CASE WHEN registered > first_day THEN 1 ELSE 0 END) AS late "
        "FROM rows",
        rows=rows,
    ).to_pylist()
    if late["customers"] >= MIN_CUSTOMERS and late["late"] > MIN_LATE_SHARE * late["customers"]:
        figures = {"customers": late["customers"], "late": int(late["late"]), "share": late["late"] / late["customers"]}
        yield Observation(Code.REGISTERED_LATE, "customers", figures)


class _Leak(NamedTuple):
    """How a value depends on a sum over the whole history: the relation, the sum and the strength."""

    how: str
    of: str
    figure: float


def _numbers(rows: pa.Table, name: str) -> np.ndarray:
    import numpy as np

    return np.asarray(rows[name].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=float)


def _as_numbers(engine: Engine, rows: pa.Table, name: str) -> np.ndarray | None:
    """The values as numbers, even if few distinct ones made the column a text; None if any is not a number."""
    column = f"TRY_CAST({quoted(name)} AS DOUBLE)"
    query = f"SELECT {column} AS x, {quoted(name)} IS NOT NULL AND {column} IS NULL AS is_text FROM rows"
    values = engine.query(query, rows=rows)
    return None if pc.any(values["is_text"]).as_py() else _numbers(values, "x")


def _leak_of_numbers(rows: pa.Table, values: np.ndarray) -> _Leak | None:
    import numpy as np

    has_value = np.isfinite(values)
    if has_value.sum() < MIN_CUSTOMERS or len(np.unique(values[has_value])) < 2:
        return None
    for of in _EQUAL_TO:
        share = _equal_share(rows, values, of)
        if share >= MIN_EQUAL_SHARE:
            return _Leak("equals", of, share)
    return _leak_of_order(rows, values, has_value)


def _equal_share(rows: pa.Table, values: np.ndarray, of: str) -> float:
    """Share of the customers whose value equals a sum, among those for whom equality is informative."""
    import numpy as np

    sums = _numbers(rows, of)
    is_informative = np.isfinite(values) & np.isfinite(sums)
    if is_informative.sum() < MIN_CUSTOMERS:
        return 0.0
    common, counts = np.unique(sums[is_informative], return_counts=True)
    is_informative &= sums != common[counts.argmax()]
    if of == "average_order":  # where all orders have one price, the first one shows it
        first = _numbers(rows, "first_amount")
        is_informative &= np.abs(first - sums) > 0.005 * np.abs(sums)
    if is_informative.sum() < MIN_CUSTOMERS / 2:
        return 0.0
    is_equal = np.abs(values - sums) <= np.maximum(0.011, 0.002 * np.abs(sums))
    return float(is_equal[is_informative].mean())


def _leak_of_order(rows: pa.Table, values: np.ndarray, has_value: np.ndarray) -> _Leak | None:
    """Whether values grow or fall with a sum, or know the later half of it."""
    ranked = _ranks(values[has_value])
    of = {name: _ranks(_numbers(rows, name)[has_value]) for name in _GROWING if rows[name].null_count < rows.num_rows}
    strongest = max(of, key=lambda name: abs(_correlation(ranked, of[name])))
    strength = _correlation(ranked, of[strongest])
    if abs(strength) >= MIN_CORRELATION:
        return _Leak("grows with" if strength > 0 else "falls with", strongest, abs(strength))
    partial = {}
    for name in ("spend", "orders"):
        late, early = (_ranks(_numbers(rows, f"{half}_{name}")[has_value]) for half in ("late", "early"))
        partial[name] = _partial_correlation(ranked, late, early)
    best = max(partial, key=lambda name: abs(partial[name]))
    weakest = min(map(abs, partial.values()))
    if abs(partial[best]) >= MIN_LATE_CORRELATION and weakest >= MIN_OTHER_LATE_CORRELATION:
        return _Leak("knows", best, abs(partial[best]))
    return None


def _leak_of_groups(rows: pa.Table, name: str) -> _Leak | None:
    """Whether a sum distinguishes groups, or orders them: `gold`, `has churned`, `is a repeat buyer`."""
    import numpy as np

    codes = np.asarray(rows[name].cast(pa.string()).combine_chunks().dictionary_encode().indices.fill_null(-1))
    has_value = codes >= 0
    sizes = np.bincount(codes[has_value]) if has_value.any() else np.array([], dtype=int)
    large = [group for group, size in enumerate(sizes) if size >= MIN_GROUP_CUSTOMERS]
    has_value &= np.isin(codes, large)
    if len(large) < 2 or has_value.sum() < MIN_CUSTOMERS or len(large) > MAX_GROUPS:
        return None
    if len(large) == 2:
        is_second = codes[has_value] == large[1]
        for of in ("spend", "orders", "days_since_purchase"):
            chance = _probability_larger(_ranks(_numbers(rows, of)[has_value]), is_second)
            if max(chance, 1 - chance) >= MIN_SEPARATION:
                return _Leak("distinguishes", of, max(chance, 1 - chance))
    for of in ("spend", "orders"):
        ranks = _ranks(_numbers(rows, of)[has_value])
        means = np.bincount(codes[has_value], weights=ranks) / np.maximum(np.bincount(codes[has_value]), 1)
        mean_of_group = np.where(has_value, means[np.where(has_value, codes, 0)], np.nan)
        if (leak := _leak_of_order(rows, mean_of_group, has_value)) is not None:
            return leak
    return None


def _ranks(values: np.ndarray) -> np.ndarray:
    """Mean ranks; a missing value is ranked as 0."""
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


def _partial_correlation(a: np.ndarray, b: np.ndarray, control: np.ndarray) -> float:
    """The partial correlation of two rank vectors, controlling for a third one."""
    ab, ac, bc = _correlation(a, b), _correlation(a, control), _correlation(b, control)
    unexplained = (1 - ac**2) * (1 - bc**2)
    return float((ab - ac * bc) / unexplained**0.5) if unexplained > 1e-9 else 0.0


def _probability_larger(ranks: np.ndarray, is_first: np.ndarray) -> float:
    """The probability that a value of the first group exceeds one of the other (Mann–Whitney U over n·m)."""
    n, m = int(is_first.sum()), int((~is_first).sum())
    return float((ranks[is_first].sum() - n * (n + 1) / 2) / (n * m))

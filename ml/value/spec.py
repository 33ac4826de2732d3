"""Settings of the value family, and its values without a model.

Belongs here: the horizon, the discount, and the persistence baseline. Does not belong here: anything fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ml import tables
from ml.columns import numbers
from ml.value.basis import Outlook
from ml.value.currency import KINDS, Money, reckon
from ml.value.season import Risk, days_of

BASELINE = "baseline"  # the label of values without a model
BASELINE_WINDOW_DAYS = 90
MIN_SCORED_DAYS = 14  # over which BG/NBD is scored before the first horizon has closed
BASELINE_INPUTS = ("orders_90d", "spend_90d", "tenure_days")  # of one row alone; see `full_windows` for the others
OUTPUTS = ("ltv", "p_alive", "expected_orders", "expected_spend")


@dataclass(frozen=True)
class ValueSpec:
    """How lifetime value is counted and learnt.

    Parameters
    ----------
    horizon_days : int
        Days ahead over which value is counted.
    annual_discount_rate : float
        Money at the end of a year is worth 1 / (1 + rate) of today's.
    snapshots, snapshot_step_days : int
        Number of matured snapshots to learn from, and the days between them.
    min_customers : int
        Customers in the training snapshots below which nothing is learnt.
    max_rows : int
        Cap on the rows of a fit; above it a seeded sample of customers is taken.
    margin : float
        Share by which a challenger's deviance must be lower than that of the model in force, in addition to an interval
        of the gain that excludes 0.
    seed : int
        Of the sample and the trees.
    warm_up_days : int
        Days of history before the first snapshot to learn from. Windows that reach back before the business began are
        scaled up, so it may be shorter than the longest of them (90 days).
    of : {"revenue", "margin"}
        What value is reckoned in: net revenue, or the gross margin of the same lines.

    Examples
    --------
    >>> spec = ValueSpec(horizon_days=180)
    >>> spec.fits_after_days, spec.learns_outcomes_after_days
    (45, 210)
    """

    horizon_days: int = 90
    annual_discount_rate: float = 0.10
    snapshots: int = 4
    snapshot_step_days: int = 28
    min_customers: int = 200
    max_rows: int = 100_000
    margin: float = 0.005
    seed: int = 0
    warm_up_days: int = 30
    of: Money = "revenue"

    def __post_init__(self) -> None:
        if self.of not in KINDS:
            raise ValueError(f"value.of is {self.of!r}; it must be one of {', '.join(KINDS)}")
        for name in ("horizon_days", "snapshots", "snapshot_step_days", "min_customers", "max_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"value.{name} is {getattr(self, name)}; it must be at least 1")
        if self.warm_up_days < 0:
            raise ValueError(f"value.warm_up_days is {self.warm_up_days}; it must be at least 0")
        if not 0 <= self.annual_discount_rate < 10:
            raise ValueError(
                f"value.annual_discount_rate is {self.annual_discount_rate}; write 0.10 for ten percent a year"
            )

    @property
    def learns_outcomes_after_days(self) -> int:
        """Days of history after which the first horizon has closed, so that outcomes can be learnt from."""
        return self.warm_up_days + self.horizon_days

    @property
    def fits_after_days(self) -> int:
        """Days of history after which BG/NBD can be fitted and scored: two thirds to learn from, one to judge by."""
        days = 3 * MIN_SCORED_DAYS
        while days - min(self.horizon_days, (days + 1) // 3) < self.warm_up_days:
            days += 1
        return min(days, self.learns_outcomes_after_days)


def discount(horizon_days: int, annual_rate: float) -> float:
    """The factor that turns spend over the horizon into today's money, as if all of it were spent at mid-horizon."""
    return float((1 + annual_rate) ** (-horizon_days / 2 / 365))


def value_table(
    features: pa.Table,
    outputs: dict[str, np.ndarray],
    *,
    horizon_days: int,
    label: str,
    outlook: Mapping[str, pa.Array],
    of: Money = "revenue",
) -> pa.Table:
    """Make the rows of `customer_value`, with `day`, from the customers and days of `features` and the outputs."""
    rows = features.num_rows
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"customer_id": features["customer_id"], "day": features["day"]}
    columns |= {name: pa.array(outputs[name], pa.float64()) for name in OUTPUTS}
    columns["horizon_days"] = pa.array(np.full(rows, horizon_days, dtype=np.int64))
    columns["model"] = pa.array([label] * rows, pa.string())
    columns |= outlook
    columns["value_of"] = pa.array([of] * rows, pa.string())
    declared = tables.CUSTOMER_VALUE.schema()
    types = [declared.field("customer_id"), pa.field("day", pa.date32()), *list(declared)[1:]]
    return pa.table(columns).cast(pa.schema(types))


def persistence(features: pa.Table, horizon_days: int, annual_discount_rate: float) -> dict[str, np.ndarray]:
    """The four outputs of `baseline`, each an array with one number per row."""
    share = horizon_days / BASELINE_WINDOW_DAYS
    orders, spend = (np.nan_to_num(numbers(features[name])) for name in ("orders_90d", "spend_90d"))
    full_orders, full_spend = full_windows(features, orders, spend)
    expected = np.maximum(full_spend, 0.0) * share
    return {
        "ltv": expected * discount(horizon_days, annual_discount_rate),
        "p_alive": (orders > 0).astype(float),
        "expected_orders": np.maximum(full_orders, 0.0) * share,
        "expected_spend": expected,
    }


def full_windows(features: pa.Table, orders: np.ndarray, spend: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The last 90 days' orders and spend of each row, as if every buyer had been one for all of them.

    A customer who first bought `tenure_days` ago, fewer than 90, has been observed for so many days. The first purchase
    made it a customer, and is no sign of its rhythm: only what it bought afterwards counts, and the missing days are
    filled with what all such customers of the same day's snapshot bought per day since their first purchase. Customers
    of 90 days and more keep their sums.

    Parameters
    ----------
    features : tenure_days and first_day_spend, without which every window counts as full; `day`, without which all
        rows are of one day
    orders, spend : the sums over the last 90 days, shape (n,)
    """
    if not {"tenure_days", "first_day_spend"} <= set(features.column_names):
        return orders, spend
    tenure = numbers(features["tenure_days"])
    is_young = tenure < BASELINE_WINDOW_DAYS  # not of those who never bought: their tenure is missing
    day = np.zeros(len(orders), dtype=np.int64)
    if "day" in features.column_names:
        day = np.unique(days_of(features), return_inverse=True)[1]
    observed_days = np.bincount(day, np.where(is_young, tenure, 0.0))
    # On a day on which nobody is young, or all first bought, there is no rhythm to fill with.
    is_short = is_young & (observed_days > 0)[day]
    missing_days = BASELINE_WINDOW_DAYS - tenure
    first = np.nan_to_num(numbers(features["first_day_spend"]))
    filled = []
    for sums, on_first_day in ((orders, np.ones(len(orders))), (spend, first)):
        later = sums - on_first_day
        per_day = np.maximum(np.bincount(day, np.where(is_short, later, 0.0)), 0.0) / np.maximum(observed_days, 1.0)
        filled.append(np.where(is_short, np.maximum(later, 0.0) + missing_days * per_day[day], sums))
    return filled[0], filled[1]


def baseline(features: pa.Table, spec: ValueSpec, *, label: str = BASELINE) -> pa.Table:
    """Value by persistence: the last 90 days' orders and net revenue, scaled to the horizon, never below 0.

    For customers who first bought less than 90 days ago the missing days are filled in (see `full_windows`), so that a
    young business is not taken for a dying one. `p_alive` is a crude indicator here and no probability: 1 if there was
    any order in the last 90 days, else 0.

    Parameters
    ----------
    features : pa.Table
        `customer_id`, `day`, `orders_90d` and `spend_90d` (currency); `tenure_days` and `first_day_spend` where known;
        the same sums of margin where value is reckoned in that.
    spec : ValueSpec
        Horizon and discount.
    label : str
        The value of the column `model`.

    Returns
    -------
    pa.Table
        `customer_id`, `day` and the other columns of `customer_value`: one row per row of `features`, in its order.

    Examples
    --------
    >>> import datetime, pyarrow as pa
    >>> features = pa.table(
    ...     {"customer_id": ["a", "b"], "day": [datetime.date(2024, 3, 31)] * 2, "orders_90d": [3, 0],
    ...      "spend_90d": [90.0, 0.0]}
    ... )
    >>> value = baseline(features, ValueSpec(horizon_days=30))
    >>> value.select(["customer_id", "expected_spend", "p_alive"]).to_pylist()
    [{'customer_id': 'a', 'expected_spend': 30.0, 'p_alive': 1.0}, {'customer_id': 'b', ... 'p_alive': 0.0}]
    """
    features = reckon(features, spec.of)
    outputs = persistence(features, spec.horizon_days, spec.annual_discount_rate)
    risk = Risk.of_history(0, spec.horizon_days)  # without a model no season is known, however old the business
    outlook = Outlook(1.0, risk.low, risk.high).columns(features.num_rows)
    horizon_days = spec.horizon_days
    return value_table(features, outputs, horizon_days=horizon_days, label=label, outlook=outlook, of=spec.of)

"""Simulated wholesalers and a shop with one giant customer, as the histories that model families are trained on.

Belongs here: businesses in which a few customers hold most of the money. Does not belong here: what is claimed of them
(see the tests that ask for them).
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec

START = date(2023, 1, 1)
NOISE = 0.3  # of the logarithm of a shopper's order, beside its basket


def wholesaler(
    customers: int = 5_000, days: int = 500, *, seed: int = 0, season: float = 0.0, spread: float = 2.0
) -> CustomerHistory:
    """Irregular orders, median gap about 60 days; spend per order lognormal across customers; some stop ordering.

    Parameters
    ----------
    season : by how much the last quarter of each year is above (1: twice) what it would be without
    spread : standard deviation of the logarithm of customers' mean order
    """
    rng = np.random.default_rng(seed)
    worth = 60 * np.exp(rng.normal(0, spread, customers))
    rate = rng.gamma(1.5, 1 / 160, customers) + 0.001
    begins = np.where(rng.random(customers) < 0.5, 0, rng.integers(0, int(0.8 * days), customers))
    ends = begins + 30 + rng.exponential(700, customers)
    raised = np.array([(START + timedelta(days=d)).month >= 10 for d in range(days)]) * season + 1
    parts = []
    for day in range(days):
        alive = np.flatnonzero((begins <= day) & (ends > day))
        comes = (rng.random(len(alive)) < np.minimum(rate[alive] * raised[day], 1)) | (begins[alive] == day)
        who = alive[comes]
        parts.append((who, np.full(len(who), day), worth[who] * np.exp(rng.normal(0, 0.7, len(who)))))
    who, when, amount = (np.concatenate(part) for part in zip(*parts, strict=True))
    return facts_of(who, when, amount)


def shop_with_a_giant(
    shoppers: int = 400, days: int = 360, *, seed: int = 0, amount: float = 4_000.0
) -> CustomerHistory:
    """Shoppers with individual rates and baskets, some of whom stop ordering, and a giant who spends `amount` every six
    days, the last customer."""
    rng = np.random.default_rng(seed)
    rates, baskets, ends = _shoppers(rng, shoppers, days)
    bought = (rng.random((days, shoppers)) < rates) & (np.arange(days)[:, None] < ends)
    when, who = np.nonzero(bought)
    amounts = baskets[who] * rng.lognormal(0, NOISE, len(who))
    giant = np.arange(0, days, 6)
    return facts_of(
        np.append(who, np.full(len(giant), shoppers)),
        np.append(when, giant),
        np.append(amounts, np.full(len(giant), amount)),
    )


def expected_of_shoppers(
    after: date, horizon_days: int, shoppers: int = 400, days: int = 360, *, seed: int = 0
) -> np.ndarray:
    """The expected spend of each shopper of `shop_with_a_giant` in the days after a day; shape (shoppers,)."""
    rates, baskets, ends = _shoppers(np.random.default_rng(seed), shoppers, days)
    left = np.clip(ends - (after - START).days - 1, 0, horizon_days)
    expected: np.ndarray = rates * baskets * np.exp(NOISE**2 / 2) * left
    return expected


def _shoppers(rng: np.random.Generator, shoppers: int, days: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Orders per day, basket, and the day on which each shopper stops ordering."""
    rates, baskets = rng.gamma(3, 0.04, shoppers), 20 * rng.lognormal(0, 0.5, shoppers)
    return rates, baskets, np.where(rng.random(shoppers) < 0.5, rng.integers(30, days, shoppers), days)


def facts_of(who: np.ndarray, when: np.ndarray, amount: np.ndarray) -> CustomerHistory:
    """A history with one order per customer and day.

    Parameters
    ----------
    who, when, amount : number of the customer, day since the start, currency; each of shape (n,)
    """
    order = np.lexsort((who, when))
    who, when, amount = who[order], when[order], np.round(amount[order], 2)
    ones, none = np.ones(len(who), dtype=np.int64), pa.nulls(len(who))
    zeros = np.zeros(len(who))
    columns = {name: pa.array(zeros) for name in tables.CUSTOMER_DAYS.names} | {
        "customer_id": pa.array([f"c{number:05d}" for number in who]),
        "day": pa.array(np.datetime64(START) + when.astype("timedelta64[D]")),
        **dict.fromkeys(("orders", "lines", "items"), pa.array(ones)),
        "amount": pa.array(amount), **dict.fromkeys(("margin", "balance", "first_event_at", "last_event_at"), none),
        "is_registered": pa.array(np.zeros(len(who), dtype=bool)),
    }  # fmt: skip
    schema = pa.schema([*tables.CUSTOMER_DAYS.schema(), pa.field("day", pa.date32())])
    customer_days = pa.table({name: columns[name].cast(schema.field(name).type) for name in schema.names})
    categories = pa.schema([*tables.CATEGORY_DAYS.schema(), pa.field("day", pa.date32())]).empty_table()
    people = pa.table({"customer_id": pa.array([], pa.string()), "day": pa.array([], pa.date32())})
    return CustomerHistory(DuckDB(threads=1), FeatureSpec(), customer_days, categories, people)

"""The synthetic business of the benchmark: N customers over 400 days and one more, with some 50 purchases each.

    .venv/bin/python -m tests.benchmarks.engine.data 10000 FOLDER

Belongs here: what is true of that business, and its files. It is made with numpy in memory and written as a till or an
event log would write it, in order of time. The simulators of `ml.simulate` are for evidence: they know more of
customers, and take longer for a million.

- purchases: Poisson, at a gamma-distributed rate per customer, from the customer's start until it drops out; the hazard
  of dropping out is gamma-distributed too (a Pareto/NBD world);
- amounts: lognormal around a mean per customer; 20 categories, mixed by one of four tastes per customer;
- experiment: each week a tenth of the registered customers is randomised evenly over control and three actions. For 28
  days the purchase rate changes: with *discount* by +60 % for customers whose rate is below the median, with *email* by
  +15 % for everybody, with *gift* not at all.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = date(2024, 1, 1)
DAYS = 400  # of the first run; the data hold one day more
PER_CUSTOMER = 50  # purchases in these days
ARMS = ("control", "discount", "email", "gift")
CATEGORIES, TASTES = 20, 4
SEED = 1
OUTCOME_DAYS = 28
_DAY_MICROSECONDS = 86_400_000_000
_EPOCH = np.datetime64(START, "us").astype(np.int64)
_BATCH = 1_000_000  # rows


@dataclass
class Customers:
    """What is true of the customers, one entry each.

    Parameters
    ----------
    start, end : days between which a customer may buy, counted from the first day
    rate : purchases a day
    mean_log_amount : mean of the logarithm of an amount
    taste : which of the four mixtures of categories
    effect : relative change of the rate by each arm
    """

    start: np.ndarray
    end: np.ndarray
    rate: np.ndarray
    mean_log_amount: np.ndarray
    taste: np.ndarray
    effect: np.ndarray


def write(customers: int, folder: Path, days: int = DAYS + 1) -> None:
    """Write transactions.parquet, customers.parquet and exposures.parquet of a business into a folder."""
    rng = np.random.default_rng(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    world, category_shares = _customers(rng, customers, days)
    who, when, exposures = _history(rng, world, days)
    _write_transactions(folder / "transactions.parquet", rng, world, category_shares, who, when)
    registered = np.where(world.start == 0, world.start - rng.uniform(0, 365, customers), world.start)
    ids = pa.array(np.arange(1, customers + 1, dtype=np.int64))
    region = np.array(["north", "south", "east", "west"])[rng.integers(0, 4, customers)]
    device = np.array(["phone", "desktop", "tablet"])[rng.choice(3, customers, p=[0.6, 0.3, 0.1])]
    columns = {"customer_id": ids, "registered_at": _stamps(registered), "region": region, "device": device}
    pq.write_table(pa.table(columns), folder / "customers.parquet", compression="snappy")
    pq.write_table(exposures, folder / "exposures.parquet", compression="snappy")


def _customers(rng: np.random.Generator, customers: int, days: int) -> tuple[Customers, np.ndarray]:
    """The customers, and the cumulated shares of categories by taste."""
    is_old = rng.random(customers) < 0.6
    start = np.where(is_old, 0.0, rng.uniform(0, days, customers))
    rate = rng.gamma(1.2, 1.0, customers)
    rate[rng.random(customers) < 0.03] = 0.0  # registered, never buys
    hazard = rng.gamma(1.0, 1 / 700, customers)
    end = np.minimum(start + rng.exponential(1 / np.maximum(hazard, 1e-9)), days)
    wanted = PER_CUSTOMER * days / DAYS * customers
    rate *= 0.977 * wanted / (rate * (end - start)).sum()  # the experiment adds the last 2 per cent
    mean_log_amount = rng.normal(2.8, 0.5, customers)
    taste = rng.integers(0, TASTES, customers)
    shares = _category_shares(rng)
    effect = np.zeros((customers, len(ARMS)), np.float32)
    effect[:, ARMS.index("discount")] = np.where(rate < np.median(rate), 0.60, 0.0)
    effect[:, ARMS.index("email")] = 0.15
    return Customers(start, end, rate, mean_log_amount, taste, effect), shares


def _category_shares(rng: np.random.Generator) -> np.ndarray:
    base = 1.0 / np.arange(1, CATEGORIES + 1) ** 0.7
    rows = []
    for _ in range(TASTES):
        weight = base.copy()
        weight[rng.choice(CATEGORIES, 4, replace=False)] *= 8
        rows.append(np.cumsum(weight / weight.sum()))
    return np.array(rows)


def _history(rng: np.random.Generator, world: Customers, days: int) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    """Who bought when, in order of time, and the exposures of the weekly experiment."""
    alive = world.end - world.start
    who = [np.repeat(np.arange(alive.size, dtype=np.int32), rng.poisson(world.rate * alive))]
    when = [world.start[who[0]] + rng.random(who[0].size) * alive[who[0]]]
    exposed, sent_on, arms = [], [], []
    for day in range(6, days, 7):
        drawn = np.flatnonzero((world.start <= day) & (rng.random(alive.size) < 0.10)).astype(np.int32)
        arm = rng.integers(0, len(ARMS), drawn.size).astype(np.int8)
        exposed.append(drawn)
        sent_on.append(np.full(drawn.size, day + 9 / 24))
        arms.append(arm)
        span = np.clip(np.minimum(world.end[drawn], sent_on[-1] + OUTCOME_DAYS) - sent_on[-1], 0, None)
        more = np.repeat(np.arange(drawn.size), rng.poisson(world.rate[drawn] * world.effect[drawn, arm] * span))
        who.append(drawn[more])
        when.append(sent_on[-1][more] + rng.random(more.size) * span[more])
    actor, moment, receiver = (np.concatenate(parts) for parts in (who, when, exposed))
    in_order = np.argsort(moment, kind="stable")
    exposures = pa.table(
        {
            "customer_id": receiver.astype(np.int64) + 1,
            "exposed_at": _stamps(np.concatenate(sent_on)),
            "action": pa.DictionaryArray.from_arrays(pa.array(np.concatenate(arms)), pa.array(ARMS)),
            "propensity": np.full(receiver.size, 1 / len(ARMS)),
        }
    )
    return actor[in_order], moment[in_order], exposures


def _write_transactions(
    path: Path, rng: np.random.Generator, world: Customers, shares: np.ndarray, who: np.ndarray, when: np.ndarray
) -> None:
    names = pa.array([f"cat{number:02d}" for number in range(CATEGORIES)])
    writer = None
    for first in range(0, who.size, _BATCH):
        buyers, moments = who[first : first + _BATCH], when[first : first + _BATCH]
        amount = np.exp(world.mean_log_amount[buyers] + 0.6 * rng.standard_normal(buyers.size))
        drawn = rng.random(buyers.size)
        category = np.empty(buyers.size, np.int8)
        for taste in range(TASTES):
            has_it = world.taste[buyers] == taste
            category[has_it] = np.searchsorted(shares[taste], drawn[has_it])
        rows = pa.table(
            {
                "customer_id": buyers.astype(np.int64) + 1,
                "occurred_at": _stamps(moments),
                "amount": np.round(amount, 2),
                "category": pa.DictionaryArray.from_arrays(pa.array(np.minimum(category, CATEGORIES - 1)), names),
            }
        )
        writer = writer or pq.ParquetWriter(path, rows.schema, compression="snappy")
        writer.write_table(rows)
    if writer is not None:
        writer.close()


def _stamps(days: np.ndarray) -> pa.Array:
    """Moments, in days since the first day began, as timestamps."""
    return pa.array(_EPOCH + (days * _DAY_MICROSECONDS).astype(np.int64)).cast(pa.timestamp("us"))


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))

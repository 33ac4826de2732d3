"""No weekday is special: who bought nothing moves on Mondays as on any other day.

1,500 customers who buy at random, each at a rate of its own and without a memory, are followed for five weeks under
models that stay the same. Nothing in this business knows weekdays, so nothing in its movements may.
"""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ml import tables
from ml.engine import DuckDB
from ml.evidence.comparison import fit_models
from ml.features import CustomerHistory, FeatureSpec
from ml.journeys import movements
from ml.layers import SegmentSpec
from ml.lifecycle import LifecycleSpec
from ml.restate import Specs, restate
from ml.value import ValueSpec
from tests.evidence.seeds import SEEDS

ENGINE = DuckDB()
START, WEEKS, FOLLOWED = date(2023, 1, 2), 40, 35  # a Monday; weeks before the models are fitted; days after it
EVENLY = (1.0,) * 7


def business(seed: int, customers: int = 1_500, week: tuple[float, ...] = EVENLY) -> CustomerHistory:
    """Random buyers.

    Parameters
    ----------
    week : by how much more is bought on each weekday, Monday first
    """
    random = np.random.default_rng([23, seed])
    days = 7 * WEEKS + FOLLOWED + 1
    chance = 1 - np.exp(-random.gamma(1.2, 0.06, (customers, 1)) * np.resize(week, days))
    who, day = np.nonzero(random.random((customers, days)) < chance)
    stamp = pd.Timestamp(START) + pd.to_timedelta(day, "D")
    paid = random.lognormal(3, 0.6, customers)[who] * random.lognormal(0, 0.4, len(who))
    transactions = pd.DataFrame(
        {
            "customer_id": [f"c{number:04d}" for number in who],
            "occurred_at": stamp,
            "day": stamp.date,
            "amount": np.round(paid, 2),
            "order_id": np.arange(len(who)).astype(str),
            "category": random.choice(list("ABCDEF"), len(who)),
            "discount": np.where(random.random(len(who)) < 0.3, 1.0, 0.0),
            "quantity": 1.0,
            "margin": np.nan,
        }
    )
    rows = {name: table.empty_days() for name, table in tables.INPUTS.items()}
    rows["transactions"] = pa.Table.from_pandas(transactions, preserve_index=False)
    return CustomerHistory.from_rows(ENGINE, FeatureSpec(), **rows)


def quiet_moves(facts: CustomerHistory) -> np.ndarray:
    """By weekday, Monday first: movements by behaviour of customers who bought nothing on the day. Shape (7,)."""
    fit = START + timedelta(7 * WEEKS - 1)  # a Sunday
    models = fit_models(facts, fit, Specs(ValueSpec(), LifecycleSpec(), SegmentSpec()))
    days = [fit + timedelta(number) for number in range(FOLLOWED + 1)]
    states = restate(ENGINE, facts.snapshot_of(*days), models, facts.snapshot)
    parts = {day: states.filter(pc.equal(states["day"], day)) for day in days}
    counts = np.zeros(7)
    for yesterday, today in pairwise(days):
        moves = movements(ENGINE, parts[today], parts[yesterday], None, parts[today])
        moved = moves.filter(pc.equal(moves["cause"], "behaviour"))["customer_id"]
        quiet = parts[today].filter(pc.greater(parts[today]["recency_days"], 0))["customer_id"]
        counts[today.weekday()] += pc.sum(pc.is_in(moved, quiet.combine_chunks())).as_py() or 0
    return counts


def against_the_others(counts: np.ndarray) -> np.ndarray:
    """Each weekday's count over the mean of the other six."""
    result: np.ndarray = counts / ((counts.sum() - counts) / 6)
    return result


def test_no_weekday_has_more_moves_of_customers_who_bought_nothing() -> None:
    """Over all draws together: a weekday of one draw has 50 to 200 moves, an error of 7 to 14 % by chance."""
    counts = np.sum([quiet_moves(business(seed)) for seed in SEEDS], axis=0)
    print(counts, against_the_others(counts).round(2))
    assert against_the_others(counts).max() <= 1.2

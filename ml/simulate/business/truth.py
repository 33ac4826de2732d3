"""What is true of a block's customers, and of the business.

Belongs here: truth as tables. Does not belong here: anything a business would bring.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ml.simulate.business.activity import UNKNOWN, Stages
from ml.simulate.business.law import expected_activity
from ml.simulate.business.orders import customer_ids
from ml.simulate.business.people import LAYERS, People
from ml.simulate.campaigns import Exposed, effects_table
from ml.simulate.rows import named
from ml.simulate.spec import BusinessSpec


def truth_of(people: People, stages: Stages, exposed: Exposed, spec: BusinessSpec) -> dict[str, pa.Table]:
    """`customers` (layers, traits), `stages` (spells), `values` (per day valued) and `effects` (per exposure)."""
    per_order = people.order_value[exposed.customer] * share_kept(spec)
    return {
        "customers": _customers(people, spec),
        "stages": _spells(people, stages, spec),
        "values": _values(people, stages, spec),
        "effects": effects_table(customer_ids(people), exposed, per_order, spec.kind.actions, spec.start),
    }


def share_kept(spec: BusinessSpec) -> float:
    """What remains of revenue after refunds, on average."""
    chance, share = spec.kind.refunded
    return 1 - chance * share


def _customers(people: People, spec: BusinessSpec) -> pa.Table:
    per_order = people.order_value * share_kept(spec)
    return pa.table(
        {
            "customer_id": customer_ids(people),
            "registered_on": np.datetime64(spec.start, "D") + people.registered,
            **{f"layer_{name}": named(clusters, people.layers[name]) for name, clusters in LAYERS.items()},
            "orders_per_week": people.rate,
            "order_value": people.order_value,
            # In the four weeks after an exposure that reaches the customer while active.
            **{
                f"effect_{action.name}": people.strengths[:, i] * people.rate * 4 * per_order
                for i, action in enumerate(spec.kind.actions)
            },
        }
    )


def _spells(people: People, stages: Stages, spec: BusinessSpec) -> pa.Table:
    """Stays in latent stages; `weeks` counts those up to the end, where the last stay goes on."""
    stage = stages.stage
    turns = stage != UNKNOWN
    turns[:, 1:] &= stage[:, 1:] != stage[:, :-1]
    customer, week = np.nonzero(turns)
    is_last = np.append(customer[1:] != customer[:-1], True)
    until = np.where(is_last, spec.weeks, np.append(week[1:], 0))
    is_first = np.append(True, customer[1:] != customer[:-1])
    now = stage[customer, week]
    previous = np.where(is_first, -1, np.append(-1, now[:-1]))
    first_day = np.maximum(7 * week, np.where(is_first, people.registered[customer], 0))
    return pa.table(
        {
            "customer_id": named(customer_ids(people), customer),
            "stage": named(spec.kind.stages, now),
            "previous_stage": named(spec.kind.stages, previous),
            "since": np.datetime64(spec.start, "D") + first_day,
            "first_week": week,
            "weeks": until - week,
            "is_last": is_last,
        }
    )


def _values(people: People, stages: Stages, spec: BusinessSpec) -> pa.Table:
    """Expected net revenue of the `horizon_days` days after each valued day, if no action comes; and discounted."""
    parts = []
    for week, (before, stay) in stages.valued.items():
        now = stages.stage[:, week]
        known = np.flatnonzero(now != UNKNOWN)
        state = before[known], now[known], stay[known]
        values = {}
        for name, is_discounted in (("expected_spend", False), ("ltv", True)):
            by_rate, by_entry = expected_activity(spec, is_discounted=is_discounted, week=week)
            values[name] = people.order_value[known] * (people.rate[known] * by_rate[state] + by_entry[state])
        day = np.datetime64(spec.start, "D") + 7 * week + 6
        parts.append(
            pa.table(
                {
                    "customer_id": named(customer_ids(people), known),
                    "day": np.full(len(known), day),
                    "horizon_days": np.full(len(known), spec.horizon_days),
                    "stage": named(spec.kind.stages, now[known]),
                    "week_of_stay": stay[known] + 1,
                    **values,
                }
            )
        )
    if parts:
        return pa.concat_tables(parts)
    types = {"customer_id": pa.string(), "day": pa.date32(), "horizon_days": pa.int64(), "stage": pa.string(),
             "week_of_stay": pa.int64(), "expected_spend": pa.float64(), "ltv": pa.float64()}  # fmt: skip
    return pa.schema(list(types.items())).empty_table()

"""The rows of a retail business: lines of orders, and visits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ml import tables
from ml.simulate.business.orders import by_week, customer_ids, seconds_in_week, visit_seconds, with_refunds
from ml.simulate.business.people import People
from ml.simulate.campaigns import Exposed, channels_of
from ml.simulate.rows import conformed, devices_of, ids, kinds_of, named, stamps
from ml.simulate.spec import BusinessSpec
from ml.simulate.vocabulary import CATEGORIES, DAY, DEVICES, PRODUCTS, Array

_LINES_BESIDE_THE_FIRST = 1.5


def retail_rows(
    people: People, orders: Array, visits: Array, exposed: Exposed, spec: BusinessSpec, random: np.random.Generator
) -> dict[str, pa.Table]:
    """Transactions and events of a block."""
    customer, week = by_week(orders)
    ordered = seconds_in_week(week, spec, random)
    return {
        "transactions": _transactions(people, customer, ordered, spec, random),
        "events": _events(people, customer, ordered, visits, exposed, spec, random),
    }


def _transactions(
    people: People, customer: Array, ordered: Array, spec: BusinessSpec, random: np.random.Generator
) -> pa.Table:
    """Lines whose sum over an order is its customer's order value on average."""
    size = 1 + random.poisson(_LINES_BESIDE_THE_FIRST, len(customer))
    order = np.repeat(np.arange(len(customer)), size)
    who = customer[order]
    amount = (people.order_value[customer] / size)[order] * random.gamma(1.5, 1 / 1.5, len(order))
    amount = np.maximum(np.round(amount, 2), 0.01)
    lines = with_refunds(who, order, ordered[order], amount, np.ones(len(order)), spec, random)

    n, line = len(amount), lines.line
    share = np.where(random.random(n) < 0.6, np.minimum(people.discount[who] * 1.5, 0.6), 0.0)
    category = kinds_of(people.taste, who, random)
    product = category * np.int16(PRODUCTS) + random.integers(0, PRODUCTS, n, dtype=np.int16)
    quantity = 1.0 + random.poisson(0.4, n)
    sign = np.where(lines.is_refund, -1.0, 1.0)
    refunded = np.unique(lines.order[lines.is_refund])
    first = people.block * 10_000_000
    order_ids = pa.concat_arrays(
        [ids("O", first + np.arange(len(customer)), 12), ids("O", first + refunded, 12, end="R")]
    )
    order_number = np.where(lines.is_refund, len(customer) + np.searchsorted(refunded, lines.order), lines.order)
    names = pa.array([f"{category}-{number:02d}" for category in CATEGORIES for number in range(PRODUCTS)])
    columns = {
        "customer_id": named(customer_ids(people), lines.customer),
        "occurred_at": stamps(lines.seconds, spec.start),
        "amount": lines.amount,
        "transaction_id": ids("T", first + np.arange(len(line)), 12),
        "order_id": named(order_ids, order_number),
        "product_id": named(names, product[line]),
        "category": named(CATEGORIES, category[line]),
        "discount": np.where(lines.is_refund, 0.0, np.round(amount * share / (1 - share), 2)[line]),
        "quantity": quantity[line] * sign,
        "margin": np.round(lines.amount * 0.3, 2),
    }
    return conformed(tables.TRANSACTIONS, columns, len(line))


def _events(
    people: People,
    customer: Array,
    ordered: Array,
    visits: Array,
    exposed: Exposed,
    spec: BusinessSpec,
    random: np.random.Generator,
) -> pa.Table:
    """Visits that led to an order, visits that did not, and visits that an action brought."""
    by_order = random.random(len(customer)) < 0.8
    looked, week = by_week(visits)
    opened = np.flatnonzero((exposed.arm > 0) & (random.random(len(exposed.arm)) < 0.3))
    who = np.concatenate([customer[by_order], looked, exposed.customer[opened]])
    seconds = np.concatenate(
        [
            ordered[by_order] - random.integers(60, 3600, by_order.sum()),
            visit_seconds(people, looked, week, random),
            exposed.day[opened] * DAY + random.integers(8 * 3600, 2 * DAY, len(opened)),
        ]
    )
    exposure = np.concatenate([np.full(len(who) - len(opened), -1), opened])
    order = np.lexsort((who, seconds))
    order = order[seconds[order] < spec.days * DAY]
    who, exposure = who[order], exposure[order]
    arm, campaign = np.append(exposed.arm, 0)[exposure], np.append(exposed.campaign, -1)[exposure]
    columns = {
        "customer_id": named(customer_ids(people), who),
        "occurred_at": stamps(seconds[order], spec.start),
        "event_type": named(("visit",), np.zeros(len(who), dtype=np.int8)),
        "category": named(CATEGORIES, kinds_of(people.taste, who, random)),
        "device": named(DEVICES, devices_of(people.device, who, random)),
        "channel": named(channels_of(spec.kind.actions), arm - 1),
        "campaign": named(ids("K", np.arange(campaign.max(initial=0) + 1), 3), campaign),
    }
    return conformed(tables.EVENTS, columns, len(who))

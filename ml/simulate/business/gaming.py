"""The rows of a gaming business: deposits and withdrawals, sessions of free play and wagers, and balances.

A week's deposits come first, its withdrawals are parts of them, and what is then there is what is wagered with: a
customer without money plays for free. The house keeps about a ninth of what is wagered, on average. Balances are
read at the end of each week in which they changed; they are exactly what the week before left, plus deposits, less
withdrawals, less what play cost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from ml import tables
from ml.simulate.business.orders import (
    Lines,
    by_week,
    customer_ids,
    seconds_in_week,
    visit_seconds,
    with_refunds,
)
from ml.simulate.business.people import People
from ml.simulate.campaigns import Exposed, channels_of
from ml.simulate.rows import conformed, devices_of, ids, kinds_of, named, stamps
from ml.simulate.spec import BusinessSpec
from ml.simulate.vocabulary import DAY, DEVICES, Array

GAMES = ("slots", "roulette", "poker", "blackjack", "bingo", "sports")
METHODS = ("card", "wallet", "bank", "voucher")
_TURNOVER = 3.0  # what is wagered in a week, as a multiple of what is there
_LOSS, _LUCK = 0.35, 0.45  # mean and SD of the share of what is there that play costs
_SMALLEST_STAKE = 1.0


def gaming_rows(
    people: People, orders: Array, visits: Array, exposed: Exposed, spec: BusinessSpec, random: np.random.Generator
) -> dict[str, pa.Table]:
    """Transactions, events and balances of a block."""
    customer, week = by_week(orders)
    seconds = seconds_in_week(week, spec, random)
    amount = people.order_value[customer] * random.gamma(3.0, 1 / 3.0, len(customer))
    amount = np.maximum(np.round(amount, 2), 0.5)
    share = random.uniform(0.2, 1.0, len(customer))
    lines = with_refunds(customer, np.arange(len(customer)), seconds, amount, share, spec, random)
    balance, wagered = _ledger(people, lines, visits, spec, random)
    return {
        "transactions": _transactions(people, lines, spec, random),
        "events": _events(people, visits, wagered, exposed, spec, random),
        "balances": _balances(people, balance, spec),
    }


def _ledger(
    people: People, lines: Lines, visits: Array, spec: BusinessSpec, random: np.random.Generator
) -> tuple[Array, Array]:
    """Balance at each week's end, and what was wagered in it, both (customers, weeks)."""
    n, weeks = len(people), spec.weeks
    week = lines.seconds // (7 * DAY)
    cash = np.bincount(lines.customer * weeks + week, lines.amount, minlength=n * weeks).reshape(n, weeks)
    balance, wagered = np.zeros((n, weeks)), np.zeros((n, weeks))
    left: Array = np.zeros(n)
    for now in range(weeks):
        available = left + cash[:, now]
        cost = np.clip(_LOSS + _LUCK * random.standard_normal(n), -2.0, 1.0)
        turnover = _TURNOVER * random.gamma(4.0, 1 / 4.0, n)
        plays = (visits[:, now] > 0) & (available >= _SMALLEST_STAKE)
        left = np.round(np.where(plays, available * (1 - cost), available), 2)
        balance[:, now] = left = np.maximum(left, 0.0)  # what remains of rounding
        wagered[:, now] = np.where(plays, np.round(available * np.maximum(turnover, cost), 2), 0.0)
    return balance, wagered


def _transactions(people: People, lines: Lines, spec: BusinessSpec, random: np.random.Generator) -> pa.Table:
    n = len(lines.line)
    first = people.block * 10_000_000
    count = int(lines.order.max(initial=-1)) + 1
    favourite = random.integers(0, len(METHODS), len(people))
    method = np.where(random.random(n) < 0.8, favourite[lines.customer], random.integers(0, len(METHODS), n))
    deposits = ids("D", first + np.arange(count), 12)
    order = pa.concat_arrays([deposits, ids("W", first + np.arange(count), 12)])
    columns: dict[str, Any] = {
        "customer_id": named(customer_ids(people), lines.customer),
        "occurred_at": stamps(lines.seconds, spec.start),
        "amount": lines.amount,
        "transaction_id": ids("T", first + np.arange(n), 12),
        "order_id": named(order, np.where(lines.is_refund, count, 0) + lines.order),
        "product_id": named(("deposit", "withdrawal"), lines.is_refund.astype(np.int8)),
        "category": named(METHODS, method),
    }
    return conformed(tables.TRANSACTIONS, columns, n)


def _events(
    people: People, visits: Array, wagered: Array, exposed: Exposed, spec: BusinessSpec, random: np.random.Generator
) -> pa.Table:
    """Sessions: of free play, in minutes, or of wagers, in currency; and offers opened."""
    who, week = by_week(visits)
    cell = who * wagered.shape[1] + week
    part = random.gamma(2.0, 1.0, len(who))
    whole = np.bincount(cell, part, minlength=wagered.size)
    stake = np.round(wagered.ravel()[cell] * part / whole[cell], 2)
    is_free = stake == 0
    value = np.where(is_free, np.round(5.0 + 8.0 * part), stake)
    opened = np.flatnonzero((exposed.arm > 0) & (random.random(len(exposed.arm)) < 0.3))
    seconds = np.concatenate(
        [
            visit_seconds(people, who, week, random),
            exposed.day[opened] * DAY + random.integers(8 * 3600, 2 * DAY, len(opened)),
        ]
    )
    type_ = np.concatenate([np.where(is_free, 0, 1), np.full(len(opened), 2)])
    value = np.concatenate([value, np.full(len(opened), np.nan)])
    exposure = np.concatenate([np.full(len(who), -1), opened])
    who = np.concatenate([who, exposed.customer[opened]])
    order = np.lexsort((type_, who, seconds))
    order = order[seconds[order] < spec.days * DAY]
    who, exposure, type_ = who[order], exposure[order], type_[order]
    arm, campaign = np.append(exposed.arm, 0)[exposure], np.append(exposed.campaign, -1)[exposure]
    columns = {
        "customer_id": named(customer_ids(people), who),
        "occurred_at": stamps(seconds[order], spec.start),
        "event_type": named(("free_play", "wager", "offer_opened"), type_),
        "category": named(GAMES, np.where(type_ == 2, -1, kinds_of(people.taste, who, random))),
        "value": pa.array(value[order], from_pandas=True),
        "device": named(DEVICES, devices_of(people.device, who, random)),
        "channel": named(channels_of(spec.kind.actions), arm - 1),
        "campaign": named(ids("K", np.arange(campaign.max(initial=0) + 1), 3), campaign),
    }
    return conformed(tables.EVENTS, columns, len(who))


def _balances(people: People, balance: Array, spec: BusinessSpec) -> pa.Table:
    """Readings at the end of each week in which the balance changed."""
    before = np.column_stack([np.zeros(len(balance)), balance[:, :-1]])
    week, customer = np.nonzero((balance != before).T)
    seconds = np.minimum((week + 1) * 7, spec.days) * DAY - 60
    columns = {
        "customer_id": named(customer_ids(people), customer),
        "as_of": stamps(seconds, spec.start),
        "balance": balance[customer, week],
    }
    return conformed(tables.BALANCES, columns, len(week))

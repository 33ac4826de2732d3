"""A shop as it would bring its data: rows of each input table, and the truth behind them.

Belongs here: turning the drawn world into tables. Does not belong here: the draws of who customers are and what they do
(see `world`).
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import tables
from ml.simulate.campaigns import Exposed, channels_of, effects_table, exposures_table
from ml.simulate.result import Simulated
from ml.simulate.rows import (
    conformed,
    customers_table,
    devices_of,
    ids,
    kinds_of,
    moments,
    named,
    plain,
    stamps,
)
from ml.simulate.shop.world import People, buying_days, campaigns, order_chances, people_of
from ml.simulate.spec import ShopSpec
from ml.simulate.vocabulary import CATEGORIES, CLOSES, DEVICES, OPENS, PRODUCTS, Array


def shop(spec: ShopSpec) -> Simulated:
    """Draw the shop. The same spec gives the same rows.

    An exposure later than 28 days before the end has a truth, but its window is cut off by the end of the data.

    Parameters
    ----------
    spec : ShopSpec
        The shop and its campaigns.

    Returns
    -------
    Simulated
        Its rows, and the truth behind them.

    Examples
    --------
    >>> from ml.simulate import ShopSpec
    >>> sorted(shop(ShopSpec(customers=10, days=30)).truth)
    ['actions', 'customers', 'effects', 'spells']
    """
    random = np.random.default_rng(spec.seed)
    people = people_of(spec, random)
    is_buying = buying_days(people, spec, random)
    chance = order_chances(people, is_buying, spec)
    orders = random.poisson(chance).astype(np.int64)
    exposed = campaigns(people, orders, spec, random)
    customer, day = _repeated(orders)
    rows = {
        "transactions": _transactions(people, customer, day, spec, random),
        "customers": _customers(people, spec, random),
        "events": _events(people, chance, customer, day, exposed, spec, random),
        "exposures": exposures_table(
            _customer_ids(spec), exposed, spec.actions, spec.start, random, is_randomised=spec.randomised
        ),
    }
    return Simulated({name: plain(table) for name, table in rows.items()}, _truth(people, is_buying, exposed, spec))


def _customer_ids(spec: ShopSpec) -> pa.Array:
    """The ids of all customers, for `named`."""
    return ids("C", np.arange(spec.customers), 6)


def _repeated(counts: Array) -> tuple[Array, Array]:
    """Customer and day of each of the things counted per customer and day, by day and customer."""
    day, customer = np.nonzero(counts.T)
    times = counts[customer, day]
    return np.repeat(customer, times), np.repeat(day, times)


def _transactions(people: People, customer: Array, day: Array, spec: ShopSpec, random: np.random.Generator) -> pa.Table:
    """Lines of the orders: an order's expected net revenue is its customer's `order_value`. A few lines come back."""
    size = 1 + random.poisson(1.5, len(customer))
    line = np.repeat(np.arange(len(customer)), size)
    who = customer[line]
    category = kinds_of(people.taste, who, random)
    # Gammas of shape 1.5 and mean 1, divided by the lines of the order: the order's mean stays what it is.
    amount = people.order_value[who] * random.gamma(1.5, 1 / 1.5, len(line)) / size[line]
    amount = np.maximum(np.round(amount, 2), 0.01)
    share = np.where(random.random(len(line)) < 0.6, np.minimum(people.discount[who] * 1.5, 0.6), 0.0)
    discount = np.round(amount * share / (1 - share), 2)
    quantity = 1.0 + random.poisson(0.4, len(line))
    product = random.integers(0, PRODUCTS, len(line))
    bought = moments(day, OPENS, CLOSES, random)[line]

    back_day = day[line] + 1 + random.integers(0, 10, len(line))
    back = np.flatnonzero((random.random(len(line)) < 0.01) & (back_day < spec.days))
    rows = np.concatenate([np.arange(len(line)), back])
    seconds = np.concatenate([bought, moments(back_day[back], OPENS, CLOSES, random)])
    sign = np.repeat([1.0, -1.0], [len(line), len(back)])
    order = np.lexsort((rows, sign, who[rows], seconds))
    rows, seconds, sign = rows[order], seconds[order], sign[order]
    net = amount[rows] * sign
    name = np.array(CATEGORIES)[category[rows]]
    return_mark = pa.array(np.where(sign > 0, "", "R"))
    columns = {
        "customer_id": named(_customer_ids(spec), who[rows]),
        "occurred_at": stamps(seconds, spec.start),
        "amount": net,
        "transaction_id": ids("T", np.arange(len(rows)), 9),
        "order_id": pc.binary_join_element_wise(ids("O", line[rows], 8), return_mark, ""),
        "product_id": pc.binary_join_element_wise(pa.array(name), ids("", product[rows], 2), "-"),
        "category": name,
        "discount": np.where(sign > 0, discount[rows], 0.0),
        "quantity": quantity[rows] * sign,
        "margin": np.round(net * 0.3, 2),
    }
    return conformed(tables.TRANSACTIONS, columns, len(rows))


def _customers(people: People, spec: ShopSpec, random: np.random.Generator) -> pa.Table:
    age = np.where(random.random(spec.customers) < 0.1, -1, people.age)
    seconds = moments(people.registered, 0, OPENS, random)
    return customers_table(_customer_ids(spec), seconds, age, people.region, people.device, spec.start)


def _events(
    people: People,
    chance: Array,
    order_customer: Array,
    order_day: Array,
    exposed: Exposed,
    spec: ShopSpec,
    random: np.random.Generator,
) -> pa.Table:
    """Visits that lead to an order, visits that do not, visits that an action brings, and coupons redeemed."""
    look_customer, look_day = _repeated(random.poisson(0.6 * chance + 0.01 * (chance > 0)))
    opened = np.flatnonzero((exposed.arm > 0) & (random.random(len(exposed.arm)) < 0.3))
    is_coupon = np.array([False, *(action.is_coupon for action in spec.actions)])[exposed.arm]
    entry, later = np.nonzero(exposed.extra * is_coupon[:, None])
    parts = {
        "ordered": (order_customer, order_day),
        "looked": (look_customer, look_day),
        "opened": (exposed.customer[opened], exposed.day[opened]),
        "redeemed": (exposed.customer[entry], exposed.day[entry] + later),
    }
    customer = np.concatenate([part[0] for part in parts.values()])
    day = np.concatenate([part[1] for part in parts.values()])
    part = np.repeat(list(parts), [len(who) for who, _ in parts.values()])
    n = len(customer)
    exposure = np.full(n, -1)
    exposure[part == "opened"], exposure[part == "redeemed"] = opened, entry
    device = devices_of(people.device, customer, random)
    category = kinds_of(people.taste, customer, random)
    seconds = moments(day, OPENS, CLOSES, random)
    order = np.lexsort((part, customer, seconds))
    exposure = exposure[order]
    arm, campaign = np.append(exposed.arm, 0)[exposure], np.append(exposed.campaign, -1)[exposure]
    columns = {
        "customer_id": named(_customer_ids(spec), customer[order]),
        "occurred_at": stamps(seconds[order], spec.start),
        "event_type": np.where(part == "redeemed", "coupon_redemption", "visit")[order],
        "category": named(CATEGORIES, category[order]),
        "device": named(DEVICES, device[order]),
        "channel": named(channels_of(spec.actions), arm - 1),
        "campaign": named(ids("K", np.arange(campaign.max(initial=0) + 1), 3), campaign),
    }
    return conformed(tables.EVENTS, columns, n)


def _truth(people: People, is_buying: Array, exposed: Exposed, spec: ShopSpec) -> dict[str, pa.Table]:
    first = np.datetime64(spec.start, "D")
    numbers = np.arange(spec.customers)
    customers = pa.table(
        {
            "customer_id": _customer_ids(spec),
            "registered_on": first + people.registered,
            "orders_per_day": people.rate,
            "order_value": people.order_value,
            "loves_discounts": people.lover,
            "chance_of_leaving": people.chance_of_silence,
            "chance_of_returning": people.chance_of_return,
        }
    )

    # A spell starts on the day of registration and on each day on which buying and silence take turns.
    registered = np.arange(spec.days)[None, :] >= people.registered[:, None]
    turns = np.zeros_like(is_buying)
    turns[:, 1:] = is_buying[:, 1:] != is_buying[:, :-1]
    turns[numbers, people.registered] = True
    who, since = np.nonzero(turns & registered)
    is_last = np.append(who[1:] != who[:-1], True)
    until = np.where(is_last, spec.days - 1, np.append(since[1:], 0) - 1)
    spells = pa.table(
        {
            "customer_id": _customer_ids(spec).take(pa.array(who)),
            "since": first + since,
            "until": first + until,
            "is_buying": is_buying[who, since],
        }
    )

    order_value = people.order_value[exposed.customer]
    effects = effects_table(_customer_ids(spec), exposed, order_value, spec.actions, spec.start)
    effect = exposed.expected * order_value[:, None]
    lover = people.lover[exposed.customer]
    actions = pa.table(
        {
            "action": pa.array([action.name for action in spec.actions], pa.string()),
            "cost": pa.array([action.cost for action in spec.actions], pa.float64()),
            "mean_effect": _mean(effect),
            "mean_effect_on_lovers": _mean(effect[lover]),
            "mean_effect_on_others": _mean(effect[~lover]),
        }
    )
    return {"customers": customers, "spells": spells, "effects": effects, "actions": actions}


def _mean(effect: Array) -> Array:
    result: Array = effect.sum(axis=0) / max(1, len(effect))
    return result

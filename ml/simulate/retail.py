"""A shop as it would bring its data: rows of each input table, and the truth behind them.

Belongs here: turning the drawn world into tables. Does not belong here: the draws of who customers are and what they do
(see `world`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import tables
from ml.simulate.world import (
    AGE_BANDS,
    CATEGORIES,
    DEVICES,
    REGIONS,
    Array,
    Exposed,
    People,
    SimulationSpec,
    buying_days,
    campaigns,
    people_of,
    weekly_rhythm,
)  # fmt: skip


@dataclass(frozen=True)
class Simulated:
    """What the business would bring, and what nobody in it knows.

    Parameters
    ----------
    tables : transactions, customers, events, exposures, with the contract's columns; stamps are UTC
    truth : `customers` (latent traits), `spells` (who was silent when), `effects` (per exposure and action, what it
        would do to spend in the window) and `actions` (mean effect per exposure, cost)
    """

    tables: dict[str, pa.Table] = field(default_factory=dict)
    truth: dict[str, pa.Table] = field(default_factory=dict)


def simulate(spec: SimulationSpec) -> Simulated:
    """Draw a business. The same spec gives the same rows.

    Returns
    -------
    Input tables ordered by stamp and customer, and the truth behind them. An exposure later than 28 days before the end
    has a truth, but its window is cut off by the end of the data.
    """
    random = np.random.default_rng(spec.seed)
    people = people_of(spec, random)
    is_buying = buying_days(people, spec, random)
    chance = people.rate[:, None] * is_buying * weekly_rhythm(spec)[None, :]
    orders = random.poisson(chance).astype(np.int64)
    exposed = campaigns(people, orders, spec, random)
    customer, day = _repeated(orders)
    return Simulated(
        tables={
            "transactions": _transactions(people, customer, day, spec, random),
            "customers": _customers(people, spec, random),
            "events": _events(people, chance, customer, day, exposed, spec, random),
            "exposures": _exposures(exposed, spec, random),
        },
        truth=_truth(people, is_buying, exposed, spec),
    )


def _repeated(counts: Array) -> tuple[Array, Array]:
    """Customer and day of each of the things counted per customer and day, by day and customer."""
    day, customer = np.nonzero(counts.T)
    times = counts[customer, day]
    return np.repeat(customer, times), np.repeat(day, times)


def _transactions(
    people: People, customer: Array, day: Array, spec: SimulationSpec, random: np.random.Generator
) -> pa.Table:
    """Lines of the orders: an order's expected net revenue is its customer's `order_value`. A few lines come back."""
    size = 1 + random.poisson(1.5, len(customer))
    line = np.repeat(np.arange(len(customer)), size)
    who = customer[line]
    category = _category(people, who, random)
    # Gammas of shape 1.5 and mean 1, divided by the lines of the order: the order's mean stays what it is.
    amount = people.order_value[who] * random.gamma(1.5, 1 / 1.5, len(line)) / size[line]
    amount = np.maximum(np.round(amount, 2), 0.01)
    share = np.where(random.random(len(line)) < 0.6, np.minimum(people.discount[who] * 1.5, 0.6), 0.0)
    discount = np.round(amount * share / (1 - share), 2)
    quantity = 1.0 + random.poisson(0.4, len(line))
    product = random.integers(0, 40, len(line))
    bought = _stamps(day, spec, random)[line]

    back_day = day[line] + 1 + random.integers(0, 10, len(line))
    back = np.flatnonzero((random.random(len(line)) < 0.01) & (back_day < spec.days))
    rows = np.concatenate([np.arange(len(line)), back])
    stamp = np.concatenate([bought, _stamps(back_day[back], spec, random)])
    sign = np.repeat([1.0, -1.0], [len(line), len(back)])
    order = np.lexsort((rows, sign, who[rows], stamp))
    rows, stamp, sign = rows[order], stamp[order], sign[order]
    net = amount[rows] * sign
    name = np.array(CATEGORIES)[category[rows]]
    return_mark = pa.array(np.where(sign > 0, "", "R"))
    given = {
        "customer_id": _ids("C", who[rows], 6),
        "occurred_at": stamp,
        "amount": net,
        "transaction_id": _ids("T", np.arange(len(rows)), 9),
        "order_id": pc.binary_join_element_wise(_ids("O", line[rows], 8), return_mark, ""),
        "product_id": pc.binary_join_element_wise(pa.array(name), _ids("", product[rows], 2), "-"),
        "category": name,
        "discount": np.where(sign > 0, discount[rows], 0.0),
        "quantity": quantity[rows] * sign,
        "margin": np.round(net * 0.3, 2),
    }
    return tables.TRANSACTIONS.conform(pa.table(given))


def _category(people: People, customer: Array, random: np.random.Generator) -> Array:
    """A category number per entry, drawn from its customer's taste."""
    result: Array = (random.random((len(customer), 1)) > people.taste[customer].cumsum(axis=1)[:, :-1]).sum(axis=1)
    return result


def _customers(people: People, spec: SimulationSpec, random: np.random.Generator) -> pa.Table:
    n = spec.customers
    age = np.array(AGE_BANDS, dtype=object)[people.age]
    age[random.random(n) < 0.1] = None
    given = pa.table(
        {
            "customer_id": _ids("C", np.arange(n), 6),
            "registered_at": _stamps(people.registered, spec, random, opens=0, closes=8),
            "age_band": pa.array(age, pa.string()),
            "region": np.array(REGIONS)[people.region],
            "device": np.array(DEVICES)[people.device],
        }
    )
    columns = [tables.Column(name, "string", "made up") for name in ("age_band", "region", "device")]
    return (
        tables.CUSTOMERS.plus(columns)
        .conform(given)
        .sort_by([("registered_at", "ascending"), ("customer_id", "ascending")])
    )


def _events(
    people: People,
    chance: Array,
    order_customer: Array,
    order_day: Array,
    exposed: Exposed,
    spec: SimulationSpec,
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
    channels = np.array([None, *(action.channel or None for action in spec.actions)], dtype=object)
    channel = np.full(n, None, dtype=object)
    channel[exposure >= 0] = channels[exposed.arm[exposure[exposure >= 0]]]
    campaign = np.full(n, None, dtype=object)
    campaign[exposure >= 0] = _ids("K", exposed.campaign[exposure[exposure >= 0]], 3).to_pylist()
    device = np.where(random.random(n) < 0.85, people.device[customer], random.integers(0, len(DEVICES), n))
    category = _category(people, customer, random)
    stamp = _stamps(day, spec, random)
    order = np.lexsort((part, customer, stamp))
    given = {
        "customer_id": _ids("C", customer[order], 6),
        "occurred_at": stamp[order],
        "event_type": np.where(part == "redeemed", "coupon_redemption", "visit")[order],
        "category": np.array(CATEGORIES)[category[order]],
        "device": np.array(DEVICES)[device[order]],
        "channel": pa.array(channel[order], pa.string()),
        "campaign": pa.array(campaign[order], pa.string()),
    }
    missing = {name: pa.nulls(n) for name in tables.EVENTS.names if name not in given}
    return tables.EVENTS.conform(pa.table(given | missing))


def _exposures(exposed: Exposed, spec: SimulationSpec, random: np.random.Generator) -> pa.Table:
    """Who was given what. Where chance alone did not choose, nobody wrote the propensity down."""
    n = len(exposed.arm)
    channels = np.array([None, *(action.channel or None for action in spec.actions)], dtype=object)
    costs = np.array([0.0, *(action.cost for action in spec.actions)])
    stamp = _stamps(exposed.day, spec, random, opens=6, closes=8)
    order = np.lexsort((exposed.customer, stamp))
    arm = exposed.arm[order]
    given = {
        "customer_id": _ids("C", exposed.customer[order], 6),
        "exposed_at": stamp[order],
        "action": np.array(["control", *(action.name for action in spec.actions)])[arm],
        "campaign_id": _ids("K", exposed.campaign[order], 3),
        "channel": pa.array(channels[arm], pa.string()),
        "propensity": pa.array(exposed.propensity[order]) if spec.randomised else pa.nulls(n),
        "propensities": pa.nulls(n),
        "cost": costs[arm],
        "is_holdout": arm == 0,
        "randomised": np.full(n, spec.randomised),
    }
    return tables.EXPOSURES.conform(pa.table(given))


def _truth(people: People, is_buying: Array, exposed: Exposed, spec: SimulationSpec) -> dict[str, pa.Table]:
    first = np.datetime64(spec.start, "D")
    numbers = np.arange(spec.customers)
    customers = pa.table(
        {
            "customer_id": _ids("C", numbers, 6),
            "registered_on": first + people.registered,
            "orders_per_day": people.rate,
            "order_value": people.order_value,
            "loves_discounts": people.lover,
            "chance_of_leaving": people.leaving,
            "chance_of_returning": people.returning,
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
            "customer_id": _ids("C", who, 6),
            "since": first + since,
            "until": first + until,
            "is_buying": is_buying[who, since],
        }
    )

    arms = len(spec.actions)
    effect = exposed.expected * people.order_value[exposed.customer][:, None]
    effects = pa.table(
        {
            "customer_id": _ids("C", np.repeat(exposed.customer, arms), 6),
            "exposed_on": first + np.repeat(exposed.day, arms),
            "campaign_id": _ids("K", np.repeat(exposed.campaign, arms), 3),
            "action": pa.array([action.name for action in spec.actions] * len(effect), pa.string()),
            "effect": effect.ravel(),
            "is_given": np.tile(np.arange(1, arms + 1), len(effect)) == np.repeat(exposed.arm, arms),
        }
    )

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


def _ids(letter: str, numbers: Array, width: int) -> pa.Array:
    return pa.array(np.char.mod(f"{letter}%0{width}d", numbers), pa.string())


def _stamps(
    day: Array, spec: SimulationSpec, random: np.random.Generator, *, opens: int = 8, closes: int = 21
) -> Array:
    """A second between two hours of each day, UTC."""
    second = random.integers(opens * 3600, closes * 3600, len(day))
    return np.datetime64(spec.start, "us") + (day * 86_400 + second).astype("timedelta64[s]")

"""A shop: customers who register, buy at their own rhythm, fall silent, come back, and react to campaigns.

Belongs here: the one world of `demo --quick`. All of it is drawn for all customers at once; the only loops are over
days and campaigns, because tomorrow depends on today.

The world
---------
- Each customer has a latent purchase rate, order value, taste for categories, love of discounts (three in ten are
  lovers), and a chance per day of falling silent and of coming back. A few register and never buy.
- Every `campaign_every_days` days a share of the customers registered by then is drawn, and each is given an action or
  control. With `randomised` the arms are equally likely; without, the better customers are more likely to be treated.
- An action adds orders in days e … e+27 of an exposure on day e. Their expected number is the customer's own purchase
  rate times 28 times the action's effect on such a customer, so the expected effect on spend is known exactly (before
  returns, one line in a hundred). They change nothing else, and windows of two campaigns never overlap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml import tables

Array: TypeAlias = "np.ndarray[Any, Any]"

CATEGORIES = ("groceries", "fresh", "drinks", "household", "beauty", "garden")
AGE_BANDS = ("18-29", "30-44", "45-59", "60+")
REGIONS = ("north", "east", "south", "west")
DEVICES = ("mobile", "desktop", "tablet")
WINDOW_DAYS = 28


@dataclass(frozen=True)
class SimulatedAction:
    """A campaign arm and what it truly does: extra orders in the window, as a share of the customer's own orders.

    Parameters
    ----------
    effect_on_lovers : on customers who love discounts
    effect_on_others : on everybody else
    cost : per exposure, currency
    is_coupon : its extra orders redeem a coupon, which shows in the events
    """

    name: str
    effect_on_lovers: float = 0.0
    effect_on_others: float = 0.0
    cost: float = 0.0
    channel: str = ""
    is_coupon: bool = False


ACTIONS = (
    SimulatedAction("email", 0.10, 0.10, cost=0.05, channel="email"),
    SimulatedAction("coupon", 0.90, 0.0, cost=2.0, channel="app", is_coupon=True),
    SimulatedAction("call", 0.0, 0.0, cost=4.0, channel="phone"),
)


@dataclass(frozen=True)
class SimulationSpec:
    """A simulated business.

    Parameters
    ----------
    business : only `retail` so far
    customers : how many register within the `days` days from `start`
    start : the first day, ISO
    actions : the arms of the campaigns beside `control`
    randomised : whether chance alone chooses the arm
    campaign_every_days, campaign_share : how often, and for which share of the customers registered by then
    """

    business: Literal["retail"] = "retail"
    customers: int = 2000
    days: int = 200
    start: str = "2024-01-01"
    seed: int = 0
    actions: tuple[SimulatedAction, ...] = ACTIONS
    randomised: bool = True
    campaign_every_days: int = 28
    campaign_share: float = 0.8

    def __post_init__(self) -> None:
        if self.customers < 1 or self.days < 1:
            raise ValueError("a simulation needs at least one customer and one day")
        if not 0 <= self.campaign_share <= 1:
            raise ValueError(f"campaign_share is a share from 0 to 1, not {self.campaign_share}")
        if self.campaign_every_days < WINDOW_DAYS:
            raise ValueError(f"campaigns closer than {WINDOW_DAYS} days overlap: their effects would not be known")
        names = [action.name for action in self.actions]
        if len(set(names)) < len(names) or "control" in names:
            raise ValueError("action names must differ, and `control` is always there")
        date.fromisoformat(self.start)


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


@dataclass(frozen=True)
class _People:
    """Latent traits, each of shape (customers,) except `taste`, (customers, categories)."""

    registered: Array  # day number
    rate: Array  # expected orders per day while buying
    order_value: Array  # expected net revenue of an order
    lover: Array  # loves discounts
    discount: Array  # usual share of discount
    leaving: Array  # chance per day of falling silent
    returning: Array  # chance per day of coming back
    taste: Array
    device: Array
    age: Array
    region: Array


def simulate(spec: SimulationSpec) -> Simulated:
    """Draw a business. The same spec gives the same rows.

    Returns
    -------
    Input tables ordered by stamp and customer, and the truth behind them. An exposure later than 28 days before the end
    has a truth, but its window is cut off by the end of the data.
    """
    random = np.random.default_rng(spec.seed)
    people = _people(spec, random)
    is_buying = _is_buying(people, spec, random)
    chance = people.rate[:, None] * is_buying * _week(spec)[None, :]
    orders = random.poisson(chance).astype(np.int64)
    exposed = _campaigns(people, orders, spec, random)
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


def _people(spec: SimulationSpec, random: np.random.Generator) -> _People:
    n = spec.customers
    early = min(14, spec.days)
    registered = np.where(random.random(n) < 0.6, random.integers(0, early, n), random.integers(0, spec.days, n))
    rate = random.gamma(1.5, 0.14 / 1.5, n) * (random.random(n) >= 0.06)
    lover = random.random(n) < 0.3
    taste = random.gamma(0.6, 1.0, (n, len(CATEGORIES))) + 1e-3
    age = random.integers(0, len(AGE_BANDS), n)
    by_mobile = random.random(n) < np.array([0.8, 0.65, 0.45, 0.3])[age]
    return _People(
        registered=registered,
        rate=rate,
        order_value=np.round(random.gamma(4.0, 30.0 / 4.0, n) + 5.0, 2),
        lover=lover,
        discount=np.where(lover, random.beta(6, 14, n), random.beta(1.5, 40, n)),
        leaving=random.beta(1.2, 160.0, n),
        returning=random.beta(1.2, 110.0, n),
        taste=taste / taste.sum(axis=1, keepdims=True),
        device=np.where(by_mobile, 0, random.integers(1, len(DEVICES), n)),
        age=age,
        region=random.integers(0, len(REGIONS), n),
    )


def _is_buying(people: _People, spec: SimulationSpec, random: np.random.Generator) -> Array:
    """(customers, days): registered and not in a silent spell."""
    buying = np.zeros((spec.customers, spec.days), dtype=bool)
    silent = np.zeros(spec.customers, dtype=bool)
    for day in range(spec.days):
        draw = random.random(spec.customers)
        registered = people.registered <= day
        silent = np.where(silent, draw >= people.returning, (draw < people.leaving) & registered)
        buying[:, day] = registered & ~silent
    return buying


def _week(spec: SimulationSpec) -> Array:
    """(days,): Saturdays are strong, Sundays weak; a week's mean is 1."""
    weekday = (np.arange(spec.days) + date.fromisoformat(spec.start).weekday()) % 7
    return np.array([0.9, 0.9, 0.95, 1.0, 1.15, 1.5, 0.6])[weekday]


@dataclass(frozen=True)
class _Exposed:
    """One entry per exposure, (exposures,), and per exposure and action, (exposures, actions)."""

    customer: Array
    day: Array
    campaign: Array
    arm: Array  # 0 is control
    propensity: Array
    expected: Array  # expected extra orders of each action
    extra: Array  # (exposures, days of the window): extra orders of the arm that was given


def _campaigns(people: _People, orders: Array, spec: SimulationSpec, random: np.random.Generator) -> _Exposed:
    """Give actions and add the orders they cause to `orders`, in place."""
    arms = len(spec.actions) + 1
    on_lovers = np.array([action.effect_on_lovers for action in spec.actions])
    on_others = np.array([action.effect_on_others for action in spec.actions])
    parts = []
    days = range(spec.campaign_every_days, spec.days, spec.campaign_every_days) if spec.actions else ()
    for campaign, day in enumerate(days):
        drawn = random.random(spec.customers) < spec.campaign_share
        customer = np.flatnonzero(drawn & (people.registered < day))
        chances = np.full((len(customer), arms), 1 / arms)
        if not spec.randomised:
            recent = orders[customer, day - WINDOW_DAYS : day].sum(axis=1) * people.order_value[customer]
            rank = recent.argsort(kind="stable").argsort(kind="stable") / max(1, len(recent) - 1)
            treated = 0.1 + 0.8 * rank
            chances = np.column_stack([1 - treated, np.repeat(treated[:, None] / (arms - 1), arms - 1, axis=1)])
        arm = (random.random(len(customer))[:, None] > chances.cumsum(axis=1)[:, :-1]).sum(axis=1)
        effect = np.where(people.lover[customer][:, None], on_lovers, on_others)
        expected = effect * people.rate[customer][:, None] * WINDOW_DAYS
        given = np.column_stack([np.zeros(len(customer)), expected])[np.arange(len(customer)), arm]
        extra = random.poisson(np.repeat(given[:, None] / WINDOW_DAYS, WINDOW_DAYS, axis=1))
        seen = min(WINDOW_DAYS, spec.days - day)
        extra[:, seen:] = 0
        orders[customer, day : day + seen] += extra[:, :seen]
        number = np.full(len(customer), campaign)
        propensity = chances[np.arange(len(customer)), arm]
        parts.append((customer, np.full(len(customer), day), number, arm, propensity, expected, extra))
    if not parts:
        nobody = np.zeros(0, dtype=np.int64)
        none = np.zeros((0, arms - 1))
        return _Exposed(nobody, nobody, nobody, nobody, none.sum(1), none, np.zeros((0, WINDOW_DAYS), dtype=np.int64))
    return _Exposed(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _repeated(counts: Array) -> tuple[Array, Array]:
    """Customer and day of each of the things counted per customer and day, by day and customer."""
    day, customer = np.nonzero(counts.T)
    times = counts[customer, day]
    return np.repeat(customer, times), np.repeat(day, times)


def _transactions(
    people: _People, customer: Array, day: Array, spec: SimulationSpec, random: np.random.Generator
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


def _category(people: _People, customer: Array, random: np.random.Generator) -> Array:
    """A category number per entry, drawn from its customer's taste."""
    return (random.random((len(customer), 1)) > people.taste[customer].cumsum(axis=1)[:, :-1]).sum(axis=1)


def _customers(people: _People, spec: SimulationSpec, random: np.random.Generator) -> pa.Table:
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
    people: _People,
    chance: Array,
    order_customer: Array,
    order_day: Array,
    exposed: _Exposed,
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


def _exposures(exposed: _Exposed, spec: SimulationSpec, random: np.random.Generator) -> pa.Table:
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
        "cost": costs[arm],
        "is_holdout": arm == 0,
        "randomised": np.full(n, spec.randomised),
    }
    return tables.EXPOSURES.conform(pa.table(given))


def _truth(people: _People, is_buying: Array, exposed: _Exposed, spec: SimulationSpec) -> dict[str, pa.Table]:
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
    return effect.sum(axis=0) / max(1, len(effect))


def _ids(letter: str, numbers: Array, width: int) -> pa.Array:
    return pa.array(np.char.mod(f"{letter}%0{width}d", numbers), pa.string())


def _stamps(
    day: Array, spec: SimulationSpec, random: np.random.Generator, *, opens: int = 8, closes: int = 21
) -> Array:
    """A second between two hours of each day, UTC."""
    second = random.integers(opens * 3600, closes * 3600, len(day))
    return np.datetime64(spec.start, "us") + (day * 86_400 + second).astype("timedelta64[s]")

"""The world of a shop: customers who register, buy at their own rhythm, fall silent, come back, and react to campaigns.

Belongs here: who the customers are, when they buy, and what campaigns add. All of it is drawn for all customers at
once; the only loops are over days and campaigns, because tomorrow depends on today. Does not belong here: the rows that
the business would bring (see `retail`).

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

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias

import numpy as np

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
class People:
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


def people_of(spec: SimulationSpec, random: np.random.Generator) -> People:
    """Draw the latent traits of every customer."""
    n = spec.customers
    early = min(14, spec.days)
    registered = np.where(random.random(n) < 0.6, random.integers(0, early, n), random.integers(0, spec.days, n))
    rate = random.gamma(1.5, 0.14 / 1.5, n) * (random.random(n) >= 0.06)
    lover = random.random(n) < 0.3
    taste = random.gamma(0.6, 1.0, (n, len(CATEGORIES))) + 1e-3
    age = random.integers(0, len(AGE_BANDS), n)
    by_mobile = random.random(n) < np.array([0.8, 0.65, 0.45, 0.3])[age]
    return People(
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


def buying_days(people: People, spec: SimulationSpec, random: np.random.Generator) -> Array:
    """(customers, days): registered and not in a silent spell."""
    buying = np.zeros((spec.customers, spec.days), dtype=bool)
    silent = np.zeros(spec.customers, dtype=bool)
    for day in range(spec.days):
        draw = random.random(spec.customers)
        registered = people.registered <= day
        silent = np.where(silent, draw >= people.returning, (draw < people.leaving) & registered)
        buying[:, day] = registered & ~silent
    return buying


def weekly_rhythm(spec: SimulationSpec) -> Array:
    """(days,): Saturdays are strong, Sundays weak; a week's mean is 1."""
    weekday = (np.arange(spec.days) + date.fromisoformat(spec.start).weekday()) % 7
    return np.array([0.9, 0.9, 0.95, 1.0, 1.15, 1.5, 0.6])[weekday]


@dataclass(frozen=True)
class Exposed:
    """One entry per exposure, (exposures,), and per exposure and action, (exposures, actions)."""

    customer: Array
    day: Array
    campaign: Array
    arm: Array  # 0 is control
    propensity: Array
    expected: Array  # expected extra orders of each action
    extra: Array  # (exposures, days of the window): extra orders of the arm that was given


def campaigns(people: People, orders: Array, spec: SimulationSpec, random: np.random.Generator) -> Exposed:
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
        return Exposed(nobody, nobody, nobody, nobody, none.sum(1), none, np.zeros((0, WINDOW_DAYS), dtype=np.int64))
    return Exposed(*(np.concatenate(column) for column in zip(*parts, strict=True)))

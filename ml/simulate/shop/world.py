"""The world of a shop: customers who register, buy at their own rhythm, fall silent, come back, and react to campaigns.

Belongs here: who the customers are, when they buy, and what campaigns add. All of it is drawn for all customers at
once; the only loops are over days and campaigns, because tomorrow depends on today. Does not belong here: the rows that
the shop would bring (see `rows`).

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

import numpy as np

from ml.simulate.campaigns import Exposed, exposed_in
from ml.simulate.spec import ShopSpec
from ml.simulate.vocabulary import (
    AGE_BANDS,
    CATEGORIES,
    CHANCE_OF_MOBILE,
    DEVICES,
    REGIONS,
    WINDOW_DAYS,
    Array,
    weekday_factors,
)


@dataclass(frozen=True)
class People:
    """Latent traits, each of shape (customers,) except `taste`, (customers, categories)."""

    registered: Array  # day number
    rate: Array  # expected orders per day while buying
    order_value: Array  # expected net revenue of an order
    lover: Array  # loves discounts
    discount: Array  # usual share of discount
    chance_of_silence: Array  # per day
    chance_of_return: Array  # per day
    taste: Array
    device: Array
    age: Array
    region: Array


def people_of(spec: ShopSpec, random: np.random.Generator) -> People:
    """Draw the latent traits of every customer."""
    n = spec.customers
    early = min(14, spec.days)
    registered = np.where(random.random(n) < 0.6, random.integers(0, early, n), random.integers(0, spec.days, n))
    rate = random.gamma(1.5, 0.14 / 1.5, n) * (random.random(n) >= 0.06)
    lover = random.random(n) < 0.3
    taste = random.gamma(0.6, 1.0, (n, len(CATEGORIES))) + 1e-3
    age = random.integers(0, len(AGE_BANDS), n)
    is_mobile = random.random(n) < np.array(CHANCE_OF_MOBILE)[age]
    return People(
        registered=registered,
        rate=rate,
        order_value=np.round(random.gamma(4.0, 30.0 / 4.0, n) + 5.0, 2),
        lover=lover,
        discount=np.where(lover, random.beta(6, 14, n), random.beta(1.5, 40, n)),
        chance_of_silence=random.beta(1.2, 160.0, n),
        chance_of_return=random.beta(1.2, 110.0, n),
        taste=taste / taste.sum(axis=1, keepdims=True),
        device=np.where(is_mobile, 0, random.integers(1, len(DEVICES), n)),
        age=age,
        region=random.integers(0, len(REGIONS), n),
    )


def buying_days(people: People, spec: ShopSpec, random: np.random.Generator) -> Array:
    """(customers, days): registered and not in a silent spell."""
    buying = np.zeros((spec.customers, spec.days), dtype=bool)
    silent = np.zeros(spec.customers, dtype=bool)
    for day in range(spec.days):
        draw = random.random(spec.customers)
        registered = people.registered <= day
        silent = np.where(silent, draw >= people.chance_of_return, (draw < people.chance_of_silence) & registered)
        buying[:, day] = registered & ~silent
    return buying


def order_chances(people: People, is_buying: Array, spec: ShopSpec) -> Array:
    """(customers, days): expected orders."""
    chances: Array = people.rate[:, None] * is_buying * weekday_factors(spec.start, spec.days)[None, :]
    return chances


def campaigns(people: People, orders: Array, spec: ShopSpec, random: np.random.Generator) -> Exposed:
    """Give actions and add the orders they cause to `orders`, in place."""
    on_all = np.array([action.on_all for action in spec.actions])
    on_lovers = on_all + np.array([action.on_lovers for action in spec.actions])
    drawn_campaigns = []
    days = range(spec.campaign_every_days, spec.days, spec.campaign_every_days) if spec.actions else ()
    for campaign, day in enumerate(days):
        drawn = random.random(spec.customers) < spec.campaign_share
        customer = np.flatnonzero(drawn & (people.registered < day))
        treated = None
        if not spec.randomised:
            recent = orders[customer, day - WINDOW_DAYS : day].sum(axis=1) * people.order_value[customer]
            rank = recent.argsort(kind="stable").argsort(kind="stable") / max(1, len(recent) - 1)
            treated = 0.1 + 0.8 * rank
        effect = np.where(people.lover[customer][:, None], on_lovers, on_all)
        expected = effect * people.rate[customer][:, None] * WINDOW_DAYS
        daily = expected / WINDOW_DAYS
        exposed = exposed_in(campaign, day, customer, treated, expected, daily, WINDOW_DAYS, random)
        within = min(WINDOW_DAYS, spec.days - day)
        exposed.extra[:, within:] = 0
        orders[customer, day : day + within] += exposed.extra[:, :within]
        drawn_campaigns.append(exposed)
    return Exposed.of(drawn_campaigns, len(spec.actions), WINDOW_DAYS)

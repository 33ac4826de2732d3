"""Who the customers of a block are: latent layers and traits.

Belongs here: what does not change. Does not belong here: what they do (see `activity`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.simulate.spec import BusinessSpec
from ml.simulate.vocabulary import AGE_BANDS, CHANCE_OF_MOBILE, DEVICES, REGIONS, Array

LAYERS = {
    "value": ("low", "middle", "high"),
    "engagement": ("seldom", "often"),
    "affinity": ("one", "two", "three", "broad"),
    "promotion": ("indifferent", "loves offers"),
}
_SHARES = {
    "value": (0.45, 0.37, 0.18), "engagement": (0.6, 0.4), "affinity": (0.3, 0.25, 0.2, 0.25),
    "promotion": (0.7, 0.3),
}  # fmt: skip
KINDS = 6  # categories, or games


@dataclass(frozen=True)
class People:
    """Traits of a block's customers, each (customers,) unless said otherwise.

    Parameters
    ----------
    block : the block's number
    first : the number of its first customer
    registered : day number
    layers : latent cluster of each layer
    rate : expected orders a week while active
    order_value : expected revenue of an order, before refunds
    strengths : (customers, actions): extra orders an action brings in a week to an open customer, per own order
    taste : (customers, kinds): shares of what they buy or play
    """

    block: int
    first: int
    registered: Array
    layers: dict[str, Array]
    rate: Array
    order_value: Array
    discount: Array
    strengths: Array
    taste: Array
    device: Array
    region: Array
    age: Array

    def __len__(self) -> int:
        return len(self.registered)


def people_of(spec: BusinessSpec, block: int, random: np.random.Generator) -> People:
    """Draw the traits of a block's customers."""
    numbers, kind = spec.numbers(block), spec.kind
    n = len(numbers)
    layers = {
        name: np.searchsorted(np.cumsum(shares)[:-1], random.random(n), side="right").astype(np.int8)
        for name, shares in _SHARES.items()
    }
    early = min(28, spec.days)
    is_early = random.random(n) < 0.45
    registered = np.where(is_early, random.integers(0, early, n), random.integers(0, spec.days, n))
    loves, is_often = layers["promotion"] == 1, layers["engagement"] == 1
    rate = kind.weekly_orders * np.where(is_often, 1.9, 0.4) * random.gamma(6.0, 1 / 6.0, n)
    order_value = np.asarray(kind.order_value)[layers["value"]] * np.exp(0.2 * random.standard_normal(n))
    strengths = np.column_stack(
        [
            action.on_all + action.on_lovers * loves + action.on_high_value * (layers["value"] == 2)
            for action in kind.actions
        ]
    )
    favourites = np.ones((len(LAYERS["affinity"]), KINDS))
    favourites[[0, 1, 2], [0, 1, 2]] = 14.0
    taste = random.standard_gamma(favourites[layers["affinity"]]) + 1e-6
    age = random.integers(0, len(AGE_BANDS), n)
    is_mobile = random.random(n) < np.array(CHANCE_OF_MOBILE)[age]
    return People(
        block=block,
        first=numbers.start,
        registered=registered,
        layers=layers,
        rate=rate,
        order_value=np.round(order_value, 2),
        discount=np.where(loves, random.beta(6, 14, n), random.beta(1.5, 40, n)),
        strengths=strengths,
        taste=taste / taste.sum(axis=1, keepdims=True),
        device=np.where(is_mobile, 0, random.integers(1, len(DEVICES), n)),
        region=random.integers(0, len(REGIONS), n),
        age=age,
    )

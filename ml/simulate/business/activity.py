"""What customers do week by week: the latent stage, campaigns, and how many orders come of both.

Belongs here: draws for all customers of a block at once; the only loop is over weeks, as the next depends on this.
Does not belong here: rows (see `retail` and `gaming`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ml.simulate.business.law import CHURN, ENTRY, LONGEST, PROSPECT, law_of, season
from ml.simulate.business.people import People
from ml.simulate.business.spec import WINDOW_WEEKS, BusinessSpec

Array: TypeAlias = "np.ndarray[Any, Any]"
UNKNOWN = -1  # the stage before a customer has registered


@dataclass(frozen=True)
class Stages:
    """Latent stages of a block.

    Parameters
    ----------
    stage : (customers, weeks); `UNKNOWN` before the week of registration
    enters : (customers, weeks): whether a stage that begins with an order begins in this week
    valued : week number to stage before the stay and week of the stay − 1, each (customers,), at that week's end
    """

    stage: Array
    enters: Array
    valued: dict[int, tuple[Array, Array]]


def stages_of(people: People, spec: BusinessSpec, random: np.random.Generator) -> Stages:
    """Walk every customer through the law, from the week of registration on."""
    n, weeks = len(people), spec.weeks
    up_to = law_of(spec).chances.cumsum(axis=-1)[..., :-1]
    begins = people.registered // 7
    stage = np.full((weeks, n), UNKNOWN, dtype=np.int8)
    enters = np.zeros((weeks, n), dtype=bool)
    now, before, stay = np.full(n, PROSPECT), np.full(n, PROSPECT), np.zeros(n, dtype=np.int64)
    valued = {}
    for week in range(weeks):
        if week:
            rows = up_to[before, now, stay]
            after = (random.random(n)[:, None] > rows).sum(axis=1)
            after = np.where(begins < week, after, PROSPECT)
            is_same = after == now
            stay = np.where(is_same, np.where(begins < week, np.minimum(stay + 1, LONGEST - 1), 0), 0)
            before = np.where(is_same, before, now)
            enters[week] = ~is_same & np.isin(after, ENTRY)
            now = after
        stage[week] = np.where(begins <= week, now, UNKNOWN)
        if week in spec.valued_weeks:
            valued[week] = (before.astype(np.int8), stay.astype(np.int8))
    return Stages(stage.T, enters.T, valued)


@dataclass(frozen=True)
class Exposed:
    """One entry per exposure, each (exposures,), except `expected` and `extra`.

    Parameters
    ----------
    customer : number within the block
    week, campaign : numbers; it reaches the customer on the week's first day
    arm : 0 is control
    propensity : the true chance of the arm
    expected : (exposures, actions): expected extra orders of each action in the window
    extra : (exposures, weeks of the window): extra orders of the arm that was given
    """

    customer: Array
    week: Array
    campaign: Array
    arm: Array
    propensity: Array
    expected: Array
    extra: Array


def campaigns(people: People, stages: Stages, spec: BusinessSpec, random: np.random.Generator) -> Exposed:
    """Who is given what, and the orders that come of it."""
    arms = len(spec.kind.actions) + 1
    openness = np.asarray(spec.kind.openness)
    worth = np.log(people.rate * people.order_value)
    parts = []
    for campaign, week in enumerate(range(spec.campaign_every_weeks, spec.weeks, spec.campaign_every_weeks)):
        drawn = random.random(len(people)) < spec.campaign_share
        customer = np.flatnonzero(drawn & (people.registered < 7 * week))
        n, stage = len(customer), stages.stage[customer, week - 1]
        chances = np.full((n, arms), 1 / arms)
        if not spec.randomised:
            score = worth[customer] - 3.0 - 2.0 * np.isin(stage, (CHURN, PROSPECT))
            treated = np.clip(1 / (1 + np.exp(-1.5 * score)), 0.05, 0.95)
            chances = np.column_stack([1 - treated, np.repeat(treated[:, None] / (arms - 1), arms - 1, axis=1)])
        arm = (random.random(n)[:, None] > chances.cumsum(axis=1)[:, :-1]).sum(axis=1)
        weekly = people.strengths[customer] * (people.rate[customer] * openness[stage])[:, None]
        given = np.column_stack([np.zeros(n), weekly])[np.arange(n), arm]
        extra = random.poisson(np.repeat(given[:, None], WINDOW_WEEKS, axis=1)).astype(np.int16)
        propensity = chances[np.arange(n), arm]
        parts.append((customer, np.full(n, week), np.full(n, campaign), arm, propensity, weekly * WINDOW_WEEKS, extra))
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        nothing = np.zeros((0, arms - 1))
        return Exposed(none, none, none, none, nothing.sum(axis=1), nothing, np.zeros((0, WINDOW_WEEKS), np.int16))
    return Exposed(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def orders_of(
    people: People, stages: Stages, exposed: Exposed, spec: BusinessSpec, random: np.random.Generator
) -> Array:
    """(customers, weeks): orders by the customers' own rate, with which a stage begins, and that actions brought."""
    activity = np.append(np.asarray(spec.kind.activity), 0.0)  # UNKNOWN is the last
    factors = season(spec, range(spec.weeks))
    orders: Array = random.poisson(people.rate[:, None] * activity[stages.stage] * factors).astype(np.int16)
    orders += stages.enters
    for later in range(WINDOW_WEEKS):
        week = exposed.week + later
        seen = week < spec.weeks
        orders[exposed.customer[seen], week[seen]] += exposed.extra[seen, later]  # windows never overlap
    return orders


def visits_of(people: People, stages: Stages, spec: BusinessSpec, random: np.random.Generator) -> Array:
    """(customers, weeks): visits or sessions beside orders."""
    play = np.append(np.asarray(spec.kind.play), 0.0)
    often = 0.5 + 0.5 * people.rate / spec.kind.weekly_orders
    result: Array = random.poisson(often[:, None] * play[stages.stage]).astype(np.int16)
    return result

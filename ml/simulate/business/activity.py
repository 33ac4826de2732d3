"""What customers do week by week: the latent stage, campaigns, and how many orders come of both.

Belongs here: draws for all customers of a block at once; the only loop is over weeks, as the next depends on this.
Does not belong here: rows (see `retail` and `gaming`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.simulate.business.law import CHURN, ENTRY, LONGEST, PROSPECT, law_of, season
from ml.simulate.business.people import People
from ml.simulate.campaigns import Exposed, exposed_in
from ml.simulate.spec import WINDOW_WEEKS, BusinessSpec
from ml.simulate.vocabulary import Array

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


def campaigns(people: People, stages: Stages, spec: BusinessSpec, random: np.random.Generator) -> Exposed:
    """Who is given what on the first day of a campaign's week, and the orders that come of it."""
    openness = np.asarray(spec.kind.openness)
    log_revenue = np.log(people.rate * people.order_value)
    drawn_campaigns = []
    for campaign, week in enumerate(range(spec.campaign_every_weeks, spec.weeks, spec.campaign_every_weeks)):
        drawn = random.random(len(people)) < spec.campaign_share
        customer = np.flatnonzero(drawn & (people.registered < 7 * week))
        stage = stages.stage[customer, week - 1]
        treated = None
        if not spec.randomised:
            score = log_revenue[customer] - 3.0 - 2.0 * np.isin(stage, (CHURN, PROSPECT))
            treated = np.clip(1 / (1 + np.exp(-1.5 * score)), 0.05, 0.95)
        weekly = people.strengths[customer] * (people.rate[customer] * openness[stage])[:, None]
        drawn_campaigns.append(
            exposed_in(campaign, 7 * week, customer, treated, weekly * WINDOW_WEEKS, weekly, WINDOW_WEEKS, random)
        )
    return Exposed.of(drawn_campaigns, len(spec.kind.actions), WINDOW_WEEKS)


def orders_of(
    people: People, stages: Stages, exposed: Exposed, spec: BusinessSpec, random: np.random.Generator
) -> Array:
    """(customers, weeks): orders by the customers' own rate, with which a stage begins, and that actions brought."""
    activity = np.append(np.asarray(spec.kind.activity), 0.0)  # UNKNOWN is the last
    factors = season(spec, range(spec.weeks))
    orders: Array = random.poisson(people.rate[:, None] * activity[stages.stage] * factors).astype(np.int16)
    orders += stages.enters
    for later in range(WINDOW_WEEKS):
        week = exposed.day // 7 + later
        seen = week < spec.weeks
        orders[exposed.customer[seen], week[seen]] += exposed.extra[seen, later]  # windows never overlap
    return orders


def visits_of(people: People, stages: Stages, spec: BusinessSpec, random: np.random.Generator) -> Array:
    """(customers, weeks): visits or sessions beside orders."""
    play = np.append(np.asarray(spec.kind.play), 0.0)
    often = 0.5 + 0.5 * people.rate / spec.kind.weekly_orders
    result: Array = random.poisson(often[:, None] * play[stages.stage]).astype(np.int16)
    return result

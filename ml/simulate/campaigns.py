"""Campaigns: who is given which arm, the orders that come of it, and what each arm would have done.

Belongs here: what campaigns are in every simulated business, as rows and as truth. Does not belong here: when they are,
whom they reach, and what an action does to a customer (see `shop` and `business`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from ml import tables
from ml.simulate.rows import conformed, ids, moments, named, stamps
from ml.simulate.spec import SimulatedAction
from ml.simulate.vocabulary import Array


@dataclass(frozen=True)
class Exposed:
    """One entry per exposure, each (exposures,), except `expected` and `extra`.

    Parameters
    ----------
    customer : its number
    day, campaign : numbers
    arm : 0 is control
    propensity : the true chance of the arm
    expected : (exposures, actions): expected extra orders of each action in the window
    extra : (exposures, days or weeks of the window): extra orders of the arm that was given
    """

    customer: Array
    day: Array
    campaign: Array
    arm: Array
    propensity: Array
    expected: Array
    extra: Array

    @classmethod
    def of(cls, campaigns: Sequence[Exposed], actions: int, steps: int) -> Self:
        """The exposures of all campaigns."""
        if not campaigns:
            nobody, nothing = np.zeros(0, dtype=np.int64), np.zeros((0, actions))
            return cls(nobody, nobody, nobody, nobody, nothing.sum(axis=1), nothing, np.zeros((0, steps), np.int16))
        columns = zip(*(vars(campaign).values() for campaign in campaigns), strict=True)
        return cls(*(np.concatenate(column) for column in columns))


def exposed_in(
    campaign: int, day: int, customer: Array, treated: Array | None, expected: Array, per_step: Array, steps: int,
    random: np.random.Generator,
) -> Exposed:  # fmt: skip
    """Give each customer of one campaign an arm, and draw the extra orders of the window.

    Parameters
    ----------
    treated : (customers,): chance of being given an action; None, where all arms are equally likely
    expected, per_step : (customers, actions): extra orders of each action in the window, and in one step of it
    steps : how many steps the window has
    """
    n, actions = expected.shape
    chances = np.full((n, actions + 1), 1 / (actions + 1))
    if treated is not None:
        chances = np.column_stack([1 - treated, np.repeat(treated[:, None] / actions, actions, axis=1)])
    arm = (random.random(n)[:, None] > chances.cumsum(axis=1)[:, :-1]).sum(axis=1)
    of_arm = np.column_stack([np.zeros(n), per_step])[np.arange(n), arm]
    extra = random.poisson(np.repeat(of_arm[:, None], steps, axis=1)).astype(np.int16)
    return Exposed(customer, np.full(n, day), np.full(n, campaign), arm, chances[np.arange(n), arm], expected, extra)


def effects_table(
    customers: pa.Array, exposed: Exposed, order_value: Array, actions: Sequence[SimulatedAction], start: str
) -> pa.Table:
    """Per exposure: what each action would add to net revenue in its window, in expectation.

    Parameters
    ----------
    customers : ids, by number
    order_value : (exposures,): what an order brings after refunds
    """
    return pa.table(
        {
            "customer_id": named(customers, exposed.customer),
            "exposed_on": np.datetime64(start, "D") + exposed.day,
            "campaign_id": ids("K", exposed.campaign, 3),
            "given": named(("control", *(action.name for action in actions)), exposed.arm),
            "propensity": exposed.propensity,
            **{f"effect_{action.name}": exposed.expected[:, i] * order_value for i, action in enumerate(actions)},
        }
    )


def exposures_table(
    customers: pa.Array, exposed: Exposed, actions: Sequence[SimulatedAction], start: str,
    random: np.random.Generator, *, is_randomised: bool,
) -> pa.Table:  # fmt: skip
    """Who was given what. Where chance alone did not choose, nobody wrote the propensity down.

    Parameters
    ----------
    customers : ids, by number
    """
    n = len(exposed.arm)
    seconds = moments(exposed.day, 6, 8, random)
    order = np.lexsort((exposed.customer, seconds))
    arm = exposed.arm[order]
    columns = {
        "customer_id": named(customers, exposed.customer[order]),
        "exposed_at": stamps(seconds[order], start),
        "action": named(("control", *(action.name for action in actions)), arm),
        "campaign_id": ids("K", exposed.campaign[order], 3),
        "channel": named(channels_of(actions), arm - 1),
        "propensity": pa.array(exposed.propensity[order]) if is_randomised else pa.nulls(n, pa.float64()),
        "cost": np.array([0.0, *(action.cost for action in actions)])[arm],
        "is_holdout": arm == 0,
        "randomised": np.full(n, is_randomised),
    }
    return conformed(tables.EXPOSURES, columns, n)


def channels_of(actions: Sequence[SimulatedAction]) -> tuple[str | None, ...]:
    """The channel of each action, None where it has none."""
    return tuple(action.channel or None for action in actions)

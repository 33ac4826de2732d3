"""Orders of a whole business as lines with stamps: moments in a week by its rhythm, and refunds.

Belongs here: what retail and gaming share in turning counts into lines. Does not belong here: what a line of an order
is (see `retail` and `gaming`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ml.simulate.business.law import rhythm
from ml.simulate.business.people import People
from ml.simulate.rows import ids
from ml.simulate.spec import BusinessSpec
from ml.simulate.vocabulary import CLOSES, DAY, OPENS, Array


def customer_ids(people: People) -> pa.Array:
    """The ids of a block's customers, for `named`."""
    return ids("C", people.first + np.arange(len(people)), 7)


def by_week(counts: Array) -> tuple[Array, Array]:
    """Customer and week of each of the things counted per customer and week."""
    customer, week = np.nonzero(counts)
    times = counts[customer, week]
    return np.repeat(customer, times), np.repeat(week, times)


def seconds_in_week(week: Array, spec: BusinessSpec, random: np.random.Generator) -> Array:
    """Seconds from the start to a moment of each week, by the week's rhythm, during the day."""
    day = np.searchsorted(np.cumsum(rhythm(spec))[:-1], random.random(len(week)), side="right")
    return week * (7 * DAY) + day * DAY + random.integers(OPENS * 3600, CLOSES * 3600, len(week))


@dataclass(frozen=True)
class Lines:
    """Lines of orders, refunds among them, by stamp.

    Parameters
    ----------
    customer, order : numbers within the block
    seconds : from the start
    amount : net revenue; refunds are below 0
    line : the number of the bought line that this is, or gives back
    """

    customer: Array
    order: Array
    seconds: Array
    amount: Array
    line: Array

    @property
    def is_refund(self) -> Array:
        """Whether a line gives money back."""
        return self.amount < 0


def with_refunds(
    customer: Array, order: Array, seconds: Array, amount: Array, share: Array, spec: BusinessSpec,
    random: np.random.Generator,
) -> Lines:  # fmt: skip
    """Bought lines in the order of their stamps, with those that come back within their week; none after the last day.

    `share` is what of each line would come back, if it does.
    """
    week_ends = (seconds // (7 * DAY) + 1) * (7 * DAY)
    back = np.flatnonzero(random.random(len(seconds)) < spec.kind.refunded[0])
    later = seconds[back] + (random.random(len(back)) * (week_ends[back] - seconds[back])).astype(np.int64)
    returned = np.round(amount[back] * share[back], 2)
    line = np.concatenate([np.arange(len(seconds)), back])
    when = np.concatenate([seconds, later])
    net = np.concatenate([amount, -returned])
    order_of = when.argsort(kind="stable")  # whoever comes back comes after what was bought, also within a second
    order_of = order_of[(when[order_of] < spec.days * DAY) & (net[order_of] != 0)]
    line = line[order_of]
    return Lines(customer[line], order[line], when[order_of], net[order_of], line)


def visit_seconds(people: People, customer: Array, week: Array, random: np.random.Generator) -> Array:
    """Seconds from the start to a moment of each week; in the week of registration, on the days from then on."""
    begins = np.where(people.registered[customer] // 7 == week, people.registered[customer] % 7, 0)
    day = begins + (random.random(len(customer)) * (7 - begins)).astype(np.int64)
    result: Array = week * (7 * DAY) + day * DAY + random.integers(OPENS * 3600, CLOSES * 3600, len(customer))
    return result

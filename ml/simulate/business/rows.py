"""What the rows of every business share: ids, stamps, orders as rows, customers and exposures.

Belongs here: turning counts into rows, all of a block at once. Does not belong here: what a line of an order is (see
`retail` and `gaming`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from ml import tables
from ml.simulate.business.activity import Exposed
from ml.simulate.business.law import CLOSES, OPENS, rhythm
from ml.simulate.business.people import AGE_BANDS, DEVICES, REGIONS, People
from ml.simulate.business.spec import BusinessSpec

Array: TypeAlias = "np.ndarray[Any, Any]"
DAY = 86_400


def ids(letter: str, numbers: Array, width: int, end: str = "") -> pa.Array:
    """`letter`, the number with leading zeros, `end`. Digits are written at once, as formatting is slow."""
    n, prefix, suffix = len(numbers), letter.encode(), end.encode()
    size = len(prefix) + width + len(suffix)
    text = np.empty((n, size), dtype=np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    rest = np.array(numbers, dtype=np.int64)
    for place in range(len(prefix) + width - 1, len(prefix) - 1, -1):
        rest, digit = np.divmod(rest, 10)
        text[:, place] = digit + ord("0")
    if rest.any():
        raise ValueError(f"{int(np.max(numbers))} has more than {width} digits")
    text[:, len(prefix) + width :] = np.frombuffer(suffix, dtype=np.uint8)
    offsets = np.arange(0, (n + 1) * size, size, dtype=np.int32)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(text))


def named(names: tuple[str | None, ...] | pa.Array, numbers: Array) -> pa.DictionaryArray:
    """A name for each number; −1 has none."""
    values = names if isinstance(names, pa.Array) else pa.array(names, pa.string())
    indices = pa.array(numbers.astype(np.int32), mask=numbers < 0 if (numbers < 0).any() else None)
    return pa.DictionaryArray.from_arrays(indices, values)


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


def stamps(seconds: Array, spec: BusinessSpec) -> Array:
    """UTC."""
    return np.datetime64(spec.start, "us") + seconds.astype("timedelta64[s]")


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
    given = np.round(amount[back] * share[back], 2)
    line = np.concatenate([np.arange(len(seconds)), back])
    when = np.concatenate([seconds, later])
    net = np.concatenate([amount, -given])
    order_of = when.argsort(kind="stable")  # whoever comes back comes after what was bought, also within a second
    order_of = order_of[(when[order_of] < spec.days * DAY) & (net[order_of] != 0)]
    line = line[order_of]
    return Lines(customer[line], order[line], when[order_of], net[order_of], line)


def conformed(table: tables.Table, given: Mapping[str, Any], rows: int) -> pa.Table:
    """The contract's columns in its order, those that are not given empty."""
    types = table.schema()
    missing = {name: pa.nulls(rows, types.field(name).type) for name in table.names if name not in given}
    everything = pa.table({**given, **missing})
    return everything.select([*table.names, *(name for name in given if name not in table.names)])


def customers_table(people: People, spec: BusinessSpec, random: np.random.Generator) -> pa.Table:
    """One row per customer, by registration."""
    n = len(people)
    seconds = people.registered * DAY + random.integers(0, OPENS * 3600, n)
    order = np.lexsort((np.arange(n), seconds))
    age = np.where(random.random(n) < 0.1, -1, people.age)
    given = {
        "customer_id": customer_ids(people).take(pa.array(order)),
        "registered_at": stamps(seconds[order], spec),
        "age_band": named(AGE_BANDS, age[order]),
        "region": named(REGIONS, people.region[order]),
        "device": named(DEVICES, people.device[order]),
    }
    return conformed(tables.CUSTOMERS, given, n)


def exposures_table(people: People, exposed: Exposed, spec: BusinessSpec, random: np.random.Generator) -> pa.Table:
    """Who was given what. Where chance alone did not choose, nobody wrote the propensity down."""
    actions = spec.kind.actions
    n = len(exposed.arm)
    seconds = exposed.week * (7 * DAY) + random.integers(6 * 3600, 8 * 3600, n)
    order = np.lexsort((exposed.customer, seconds))
    arm = exposed.arm[order]
    given = {
        "customer_id": named(customer_ids(people), exposed.customer[order]),
        "exposed_at": stamps(seconds[order], spec),
        "action": named(("control", *(action.name for action in actions)), arm),
        "campaign_id": ids("K", exposed.campaign[order], 3),
        "channel": named(tuple(action.channel for action in actions), arm - 1),
        "propensity": pa.array(exposed.propensity[order]) if spec.randomised else pa.nulls(n, pa.float64()),
        "cost": np.array([0.0, *(action.cost for action in actions)])[arm],
        "is_holdout": arm == 0,
        "randomised": np.full(n, spec.randomised),
    }
    return conformed(tables.EXPOSURES, given, n)


def visit_seconds(people: People, customer: Array, week: Array, random: np.random.Generator) -> Array:
    """Seconds from the start to a moment of each week; in the week of registration, on the days from then on."""
    begins = np.where(people.registered[customer] // 7 == week, people.registered[customer] % 7, 0)
    day = begins + (random.random(len(customer)) * (7 - begins)).astype(np.int64)
    result: Array = week * (7 * DAY) + day * DAY + random.integers(OPENS * 3600, CLOSES * 3600, len(customer))
    return result


def devices_of(people: People, customer: Array, random: np.random.Generator) -> pa.DictionaryArray:
    """Mostly a customer's own device."""
    n = len(customer)
    return named(
        DEVICES, np.where(random.random(n) < 0.85, people.device[customer], random.integers(0, len(DEVICES), n))
    )


def kinds_of(people: People, customer: Array, random: np.random.Generator) -> Array:
    """A category or game for each entry, by its customer's taste."""
    up_to = people.taste.cumsum(axis=1)
    drawn = random.random(len(customer))
    kind = np.zeros(len(customer), dtype=np.int8)
    for place in range(people.taste.shape[1] - 1):
        kind += drawn > up_to[customer, place]
    return kind

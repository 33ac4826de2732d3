"""Worlds of transitions: five states on a weekly clock, with and without memory.

Belongs here: weekly states of customers, and the law that made them. Does not belong here: anything that learns it.

What the design's table leaves open is fixed here. The stated weekly stay (.75 to .95, a draw for each state) is the
share of all customer-weeks of a state after which the customer is still there, also in the worlds with memory: there
the law is solved for it. *Second order*: in the first week after coming from another state, .15 of the chance of
staying goes to one certain exit, which the state before decides; later weeks know nothing of it. *Dwell*: the odds of
leaving fall evenly (on the log scale) to a half from week 1 to week 8 in a state, and stay there. Who leaves goes
where the memoryless row says. All customers start from the law's stationary state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ml.simulate.vocabulary import Array
from ml.simulate.worlds.moments import Moment, stated

STATES = ("A", "B", "C", "D", "E")
STAY = (0.75, 0.95)
SHIFT = 0.15
HALVED_BY = 8  # week of a stay at which the odds of leaving are half of those in the first
CUSTOMERS, WEEKS = 5_000, 26
_BURN_IN = 80


@dataclass(frozen=True)
class TransitionWorld:
    """Weekly states, and the law behind them.

    Parameters
    ----------
    data : pa.Table
        Columns customer_id, week, state; ordered by customer and week.
    states : ndarray of shape (n_customers, n_weeks)
        The same as numbers.
    previous : ndarray of shape (n_customers, n_weeks)
        The state before the current stay began.
    dwell : ndarray of shape (n_customers, n_weeks)
        Weeks in the current stay, from 1 on, those before the first week included.
    law : ndarray of shape (n_states, n_states, 8, n_states)
        By the state before the stay, the state, and the week of the stay less 1: the chance of each state next week.
        The last week stands for all later ones.
    shift : float, default 0
        What the design states: the shift of a row by the state before.
    halving : float, default 1
        What the design states: the odds of exit in week 8 to those in week 1.

    Examples
    --------
    >>> world = memoryless(0, customers=50, weeks=5)
    >>> world.data.num_rows, world.states.shape
    (250, (50, 5))
    """

    data: pa.Table
    states: Array
    previous: Array
    dwell: Array
    law: Array
    shift: float = 0.0
    halving: float = 1.0

    def moments(self) -> list[Moment]:
        """Stays, what the state before does to a row, and how the odds of leaving change with the stay.

        Returns
        -------
        list of Moment
            Each stated number beside its measurement.
        """
        now, after = self.states[:, :-1].ravel(), self.states[:, 1:].ravel()
        before, dwell = self.previous[:, :-1].ravel(), self.dwell[:, :-1].ravel()
        stays = np.array([(after[now == state] == state).mean() for state in range(len(STATES))])
        # Customers with memory are not that many independent weeks: take the spread over customers for the error.
        errors = np.array([self._error_of_stay(state) for state in range(len(STATES))])
        low, high = stays.argmin(), stays.argmax()
        moments = [
            stated("states", len(np.unique(now)), 5),
            Moment("smallest weekly stay", stays[low], *STAY, errors[low]),
            Moment("largest weekly stay", stays[high], *STAY, errors[high]),
        ]
        if self.halving == 1:
            moments.append(_shift(before, now, dwell, after, self.shift))
        if self.shift == 0:
            moments.append(_halving(now, dwell, after, self.halving))
        return moments

    def _error_of_stay(self, state: int) -> float:
        is_in_state = self.states[:, :-1] == state
        stayed = (is_in_state & (self.states[:, 1:] == state)).sum(axis=1) - is_in_state.sum(axis=1) * (
            (is_in_state & (self.states[:, 1:] == state)).sum() / is_in_state.sum()
        )
        return float(np.sqrt((stayed**2).sum()) / is_in_state.sum())


def memoryless(seed: int, customers: int = CUSTOMERS, weeks: int = WEEKS) -> TransitionWorld:
    """Next week's state depends on this week's alone.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 5_000
        How many.
    weeks : int, default 26
        How many are observed.

    Returns
    -------
    TransitionWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> law = memoryless(0, customers=50, weeks=5).law
    >>> bool((law == law[:1, :, :1]).all())  # neither the state before nor the week of the stay matters
    True
    """
    random = np.random.default_rng([seed, 11])
    rows = _rows(random)
    law = np.broadcast_to(rows[None, :, None], (len(rows), len(rows), HALVED_BY, len(rows)))
    return _world(random, law, customers, weeks)


def second_order(seed: int, customers: int = CUSTOMERS, weeks: int = WEEKS) -> TransitionWorld:
    """The state before shifts the first week's row by ±.15.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 5_000
        How many.
    weeks : int, default 26
        How many are observed.

    Returns
    -------
    TransitionWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> second_order(0, customers=50, weeks=5).shift
    0.15
    """
    random = np.random.default_rng([seed, 12])
    rows = _rows(random)
    stay = rows.diagonal()
    # In the stationary state a share 1 − stay of a state's weeks are first weeks, and those stay .15 less often.
    later = _with_stay(rows, 0.15 + 0.85 * stay)
    law = np.array(np.broadcast_to(later[None, :, None], (len(rows), len(rows), HALVED_BY, len(rows))))
    for before, now in np.argwhere(~np.eye(len(rows), dtype=bool)):
        law[before, now, 0, now] -= SHIFT
        law[before, now, 0, target(before, now)] += SHIFT
    return _world(random, law, customers, weeks, shift=SHIFT)


def dwell_dependent(seed: int, customers: int = CUSTOMERS, weeks: int = WEEKS) -> TransitionWorld:
    """The longer in a state, the likelier to stay: the odds of leaving fall by half from week 1 to 8.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 5_000
        How many.
    weeks : int, default 26
        How many are observed.

    Returns
    -------
    TransitionWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> dwell_dependent(0, customers=50, weeks=5).halving
    0.5
    """
    random = np.random.default_rng([seed, 13])
    rows = _rows(random)
    staying = np.array([1 - leaving_by_week(stay) for stay in rows.diagonal()])
    by_week = np.stack([_with_stay(rows, staying[:, week]) for week in range(HALVED_BY)], axis=1)
    law = np.broadcast_to(by_week[None], (len(rows), *by_week.shape))
    return _world(random, law, customers, weeks, halving=0.5)


def target(before: int, now: int) -> int:
    """The exit that a customer who came from `before` to `now` is shifted to: back, or on to the next state."""
    if (before + now) % 2:
        return int(before)
    return next(int(s % len(STATES)) for s in range(before + 1, before + 4) if s % len(STATES) != now)


def leaving_by_week(stay: float) -> Array:
    """(weeks,): the chance of leaving in week 1, 2, … 8 and later of a stay, so that on the whole `stay` of weeks stay.

    Odds are o · .5^((week − 1) / 7). A mean stay lasts 1 / (1 − stay) weeks, which settles o.
    """
    low, high = 1e-6, 10.0
    for _ in range(200):
        odds = np.sqrt(low * high) * 0.5 ** (np.arange(HALVED_BY) / (HALVED_BY - 1))
        exit_chance: Array = odds / (1 + odds)
        reached = np.cumprod(np.append(1.0, 1 - exit_chance[:-1]))
        mean = reached[:-1].sum() + reached[-1] / exit_chance[-1]
        low, high = (np.sqrt(low * high), high) if mean > 1 / (1 - stay) else (low, np.sqrt(low * high))
    return exit_chance


# ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(random: np.random.Generator) -> Array:
    """A memoryless law, (states, states), with every stay drawn from the stated range."""
    exits = random.dirichlet(np.full(len(STATES) - 1, 2.0), len(STATES))
    rows = np.zeros((len(STATES), len(STATES)))
    rows[~np.eye(len(STATES), dtype=bool)] = (0.02 + 0.92 * exits).ravel()
    return _with_stay(rows, random.uniform(*STAY, len(STATES)))


def _with_stay(rows: Array, stay: Array) -> Array:
    """The same exits in the same proportions, with other chances of staying."""
    exits = rows * (1 - np.eye(len(rows)))
    result: Array = np.diag(stay) + exits * ((1 - stay) / exits.sum(axis=1))[:, None]
    return result


def _world(
    random: np.random.Generator, law: Array, customers: int, weeks: int, *, shift: float = 0.0, halving: float = 1.0
) -> TransitionWorld:
    states, previous, dwell = walk(law, customers, weeks + _BURN_IN, random)
    states, previous, dwell = (array[:, _BURN_IN:] for array in (states, previous, dwell))
    ids = pa.array(np.char.mod("%05d", np.arange(customers)), pa.string())
    data = pa.table(
        {
            "customer_id": ids.take(pa.array(np.repeat(np.arange(customers), weeks))),
            "week": np.tile(np.arange(weeks), customers),
            "state": pa.array(STATES).take(pa.array(states.ravel())),
        }
    )
    return TransitionWorld(data, states, previous, dwell, law, shift, halving)


def walk(law: Array, customers: int, weeks: int, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """States, states before and weeks of the stay, each (customers, weeks), from a law with both memories."""
    kinds, longest = law.shape[1], law.shape[2]
    up_to = law.cumsum(axis=-1)[..., :-1]
    states, previous, dwell = (np.empty((customers, weeks), dtype=np.int8) for _ in range(3))
    state = random.integers(kinds, size=customers)
    before = (state + random.integers(1, kinds, size=customers)) % kinds
    stay = np.ones(customers, dtype=np.int64)
    for week in range(weeks):
        states[:, week], previous[:, week], dwell[:, week] = state, before, np.minimum(stay, 127)
        rows = up_to[before, state, np.minimum(stay, longest) - 1]
        after = (random.random(customers)[:, None] > rows).sum(axis=1)
        stays = after == state
        before = np.where(stays, before, state)
        stay = np.where(stays, stay + 1, 1)
        state = after
    return states, previous, dwell


# ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _shift(before: Array, now: Array, dwell: Array, after: Array, value: float) -> Moment:
    """How much likelier the shifted exit is in the first week of a stay than later, over all pairs of states."""
    shifts, weights, errors = [], [], []
    for i, j in np.argwhere(~np.eye(len(STATES), dtype=bool)):
        to = after == target(i, j)
        first, later = (now == j) & (before == i) & (dwell == 1), (now == j) & (dwell > 1)
        p, q, n, m = to[first].mean(), to[later].mean(), first.sum(), later.sum()
        shifts.append(p - q)
        weights.append(n)
        errors.append(np.sqrt(p * (1 - p) / n + q * (1 - q) / m))
    share = np.array(weights) / np.sum(weights)
    error = np.sqrt((share**2 * np.array(errors) ** 2).sum())
    return stated("shift of a row by the state before", (share * shifts).sum(), value, error)


def _halving(now: Array, dwell: Array, after: Array, value: float) -> Moment:
    """Odds of leaving in week 8 of a stay to those in week 1, pooled over states on the log scale."""
    logs, precisions = [], []
    for state in range(len(STATES)):
        counts = []
        for week in (1, HALVED_BY):
            is_in_week = (now == state) & (dwell == week)
            left = (after[is_in_week] != state).sum()
            counts += [left + 0.5, is_in_week.sum() - left + 0.5]
        logs.append(np.log(counts[2] / counts[3]) - np.log(counts[0] / counts[1]))
        precisions.append(1 / (1 / np.array(counts)).sum())
    pooled = np.average(logs, weights=precisions)
    ratio = np.exp(pooled)
    return stated("odds of leaving, week 8 to week 1", ratio, value, ratio / np.sqrt(np.sum(precisions)))

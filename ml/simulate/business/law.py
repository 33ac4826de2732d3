"""How customers move between six latent stages, week by week, and what that makes their value.

Belongs here: the law, and expectations that follow from it in closed form. Does not belong here: draws.

The law has two memories. *Dwell*: the odds of leaving prospect, active, star and churn fall by half from week 1 to
week 8 of a stay. *Path*: an active customer who came from churn through reengaged leaves at twice the odds, one who was
a star at half. New and reengaged end by rule after four weeks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from ml.simulate.spec import BusinessSpec
from ml.simulate.vocabulary import CLOSES, OPENS, Array, weekday_factors

PROSPECT, NEW, ACTIVE, STAR, CHURN, REENGAGED = range(6)
STAGES, LONGEST, RULE_WEEKS = 6, 8, 4
ENTRY = (NEW, REENGAGED)  # stages that begin with an order
# First week's chance of leaving, and where those who leave go.
_EXIT_CHANCE = {ACTIVE: 0.10, STAR: 0.08, CHURN: 0.035}
_EXITS = {
    PROSPECT: {NEW: 1.0},
    ACTIVE: {CHURN: 0.75, STAR: 0.25},
    STAR: {ACTIVE: 0.75, CHURN: 0.25},
    CHURN: {REENGAGED: 1.0},
}
_EARLY = {NEW: 0.06, REENGAGED: 0.10}  # weekly chance of churning before the four weeks are over
_AFTER_RULE = {
    NEW: {ACTIVE: 0.62, STAR: 0.13, CHURN: 0.25},
    REENGAGED: {ACTIVE: 0.55, STAR: 0.05, CHURN: 0.40},
}
_ODDS_BY_PATH = {(REENGAGED, ACTIVE): 2.0, (STAR, ACTIVE): 0.5}


@dataclass(frozen=True)
class Law:
    """The chance of each stage next week.

    Parameters
    ----------
    chances : ndarray of shape (n_stages, n_stages, 8, n_stages)
        By the stage before the stay, the stage, the week of the stay less 1, and the stage of next week. The last week
        stands for all later ones. A prospect's stage before is prospect.

    Examples
    --------
    >>> from ml.simulate import BusinessSpec
    >>> law = law_of(BusinessSpec())
    >>> bool(np.allclose(law.chances.sum(axis=-1), 1))
    True
    """

    chances: Array


def law_of(spec: BusinessSpec) -> Law:
    """The preset's law.

    Parameters
    ----------
    spec : BusinessSpec
        The business.

    Returns
    -------
    Law
        The chances of each stage next week.

    Examples
    --------
    >>> from ml.simulate import BusinessSpec
    >>> chances = law_of(BusinessSpec(preset="retail")).chances
    >>> bool(chances[NEW, ACTIVE, 0, CHURN] > chances[NEW, ACTIVE, 7, CHURN])  # the longer active, the more loyal
    True
    """
    chances = np.zeros((STAGES, STAGES, LONGEST, STAGES))
    halving = 0.5 ** (np.arange(LONGEST) / (LONGEST - 1))
    for now, first in {PROSPECT: spec.kind.converting, **_EXIT_CHANCE}.items():
        for before in range(STAGES):
            odds = first / (1 - first) * _ODDS_BY_PATH.get((before, now), 1.0) * halving
            exit_chance = odds / (1 + odds)
            chances[before, now, :, now] = 1 - exit_chance
            for to, share in _EXITS[now].items():
                chances[before, now, :, to] = exit_chance * share
    for now, early in _EARLY.items():
        chances[:, now, : RULE_WEEKS - 1, now], chances[:, now, : RULE_WEEKS - 1, CHURN] = 1 - early, early
        for to, share in _AFTER_RULE[now].items():
            chances[:, now, RULE_WEEKS - 1 :, to] = share
    return Law(chances)


def law_table(spec: BusinessSpec) -> pa.Table:
    """The law as rows.

    Parameters
    ----------
    spec : BusinessSpec
        The business.

    Returns
    -------
    pa.Table
        Columns previous_stage, stage, week_of_stay (8 is 8 or more), next_stage, probability.

    Examples
    --------
    >>> from ml.simulate import BusinessSpec
    >>> law_table(BusinessSpec(preset="gaming")).num_rows == 6 * 6 * 8 * 6
    True
    """
    chances = law_of(spec).chances
    before, now, week, after = (index.ravel() for index in np.indices(chances.shape))
    names = pa.array(spec.kind.stages)
    return pa.table(
        {
            "previous_stage": names.take(pa.array(before)),
            "stage": names.take(pa.array(now)),
            "week_of_stay": week + 1,
            "next_stage": names.take(pa.array(after)),
            "probability": chances.ravel(),
        }
    )


def rhythm(spec: BusinessSpec) -> Array:
    """(7,): the share of a week's orders on each day of the clock's week."""
    return weekday_factors(spec.start, 7) / 7


def revenue_share_by(spec: BusinessSpec, day: int) -> float:
    """Expected net revenue of a week's first `day` days, as a share of the week's revenue before refunds.

    A refund comes at a moment drawn evenly from the time between its order and the week's end.
    """
    chance, share = spec.kind.refunded
    gross = rhythm(spec)[:day].sum()
    hour = OPENS + (CLOSES - OPENS) * (np.arange(1_000) + 0.5) / 1_000
    stamp = np.arange(7)[:, None] + hour[None, :] / 24
    by_then = np.clip((day - stamp) / (7 - stamp), 0, 1).mean(axis=1)
    return float(gross - chance * share * (rhythm(spec) * by_then).sum())


def season(spec: BusinessSpec, weeks: range) -> Array:
    """(weeks,): by how much customers order more often than their own rate, in weeks counted from the start.

    A week that lies in two months has the mean of its days' factors, weighed by `rhythm`.
    """
    if not spec.calendar:
        return np.ones(len(weeks))
    start = date.fromisoformat(spec.start)
    months = [[(start + timedelta(days=7 * week + day)).month - 1 for day in range(7)] for week in weeks]
    return np.asarray(spec.calendar)[np.array(months, dtype=np.int64).reshape(-1, 7)] @ rhythm(spec)


def expected_activity(spec: BusinessSpec, *, is_discounted: bool, week: int = 0) -> tuple[Array, Array]:
    """What the `horizon_days` days after a week's end bring, from the stage at that end, if no action comes.

    Parameters
    ----------
    spec : BusinessSpec
        The business and its horizon.
    is_discounted : bool
        Whether later money is worth less.
    week : int, default 0
        Number of that week, which matters where there is a season.

    Returns
    -------
    by_rate : ndarray of shape (n_stages, n_stages, 8)
        By the stage before the stay, the stage, and the week of the stay less 1: the factor on rate times order value.
    by_entry : ndarray of shape (n_stages, n_stages, 8)
        The factor on order value, for the order with which a stage begins. The sum of the two products is expected net
        revenue.

    Examples
    --------
    >>> from ml.simulate import BusinessSpec
    >>> by_rate, _ = expected_activity(BusinessSpec(), is_discounted=False)
    >>> bool(by_rate[ACTIVE, STAR, 0] > by_rate[NEW, ACTIVE, 0] > by_rate[ACTIVE, CHURN, 0])
    True
    """
    chances = law_of(spec).chances
    weeks = -(-spec.horizon_days // 7)
    activity = np.asarray(spec.kind.activity)
    enters = np.isin(np.arange(STAGES), ENTRY).astype(float)
    by_rate, by_entry = (np.zeros((STAGES, STAGES, LONGEST)) for _ in range(2))
    before, now, weeks_there = np.indices((STAGES, STAGES, LONGEST))
    longer = np.minimum(weeks_there + 1, LONGEST - 1)
    factors = season(spec, range(week + 1, week + 1 + weeks))
    for step in range(weeks, 0, -1):
        days = min(7, spec.horizon_days - 7 * (step - 1))
        revenue = revenue_share_by(spec, days)
        if is_discounted:
            revenue *= (1 + spec.annual_discount_rate) ** (-(7 * (step - 1) + days / 2) / 365)
        rate_now, entry_now = np.zeros_like(by_rate), np.zeros_like(by_entry)
        for after in range(STAGES):
            stays = now == after
            origin, stay = np.where(stays, before, now), np.where(stays, longer, 0)
            chance = chances[..., after]
            rate_now += chance * (revenue * factors[step - 1] * activity[after] + by_rate[origin, after, stay])
            entry_now += chance * (revenue * enters[after] * ~stays + by_entry[origin, after, stay])
        by_rate, by_entry = rate_now, entry_now
    return by_rate, by_entry

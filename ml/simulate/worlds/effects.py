"""Worlds of effects: three actions and control, what each truly does to each customer, and who was given what.

Belongs here: one exposure of each customer, its outcome, and the truth. Does not belong here: anything that estimates
effects, and dates (the four weeks before the exposure are `spend_before`, for a placebo).

What the design's table leaves open is fixed here. Left alone, a customer spends nothing with a chance that recency
decides, else a lognormal amount: .4 of the variance of its log is the customer's value, .3 a trait that nobody sees,
the rest is chance. The four weeks before follow the same law with the same trait and chance of their own. An action
multiplies what a customer would spend, so that 40 % stay at zero in every arm; by how much depends on value, recency
and discount share (60 % of the variance) and on the micro-segment (40 %). A customer's effect is the expected
difference given these, whatever the trait. Mean and SD of the effects are exact for the customers drawn. Where chance
did not choose, half are treated, with the three actions equally likely among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from ml.simulate.vocabulary import Array
from ml.simulate.worlds.moments import Moment, stated

ACTIONS = ("coupon", "email", "call")
CONTROL = "control"
FEATURES = ("value", "recency_days", "discount_share", "visits", "age")  # the last two decide nothing
MEAN_EFFECTS = (0.08, 0.03, 0.0)  # of the mean outcome
EFFECT_SD = 0.15  # of the outcome's SD
ZERO_SHARE, LOG_SD = 0.40, 1.0
AUC, PROPENSITIES = 0.85, (0.05, 0.95)
CUSTOMERS = 20_000
_BY_VALUE, _BY_TRAIT = 0.4, 0.3  # of the variance of an amount's log
_LOG_MEAN = np.log(20.0)
_BY_RECENCY = 0.7  # slope of the probit of spending nothing
MEAN_OUTCOME = float((1 - ZERO_SHARE) * np.exp(_LOG_MEAN + LOG_SD**2 / 2))
SD_OUTCOME = float(np.sqrt((1 - ZERO_SHARE) * np.exp(2 * _LOG_MEAN + 2 * LOG_SD**2) - MEAN_OUTCOME**2))


@dataclass(frozen=True)
class EffectWorld:
    """One exposure per customer, and what would have happened otherwise.

    Parameters
    ----------
    data : pa.Table
        Columns customer_id, micro_segment, `FEATURES`, spend_before, action, outcome, randomised, propensity (null
        where chance alone did not choose).
    arm : ndarray of shape (n_customers,)
        0 is control, then the actions in their order.
    effects : ndarray of shape (n_customers, n_actions)
        Each action's true effect on each customer, in the outcome's currency.
    untreated : ndarray of shape (n_customers,)
        What each would have spent left alone.
    propensities : ndarray of shape (n_customers, n_actions + 1)
        The true chances of control and of the actions.
    trait : ndarray of shape (n_customers,)
        What drives spend before and after and is in no column.
    stated : Stated
        What the design states about it.

    Examples
    --------
    >>> world = randomised_effects(0, customers=500)
    >>> world.effects.shape, world.propensities.shape
    ((500, 3), (500, 4))
    """

    data: pa.Table
    arm: Array
    effects: Array
    untreated: Array
    propensities: Array
    trait: Array
    stated: Stated

    def moments(self) -> list[Moment]:
        """The untreated outcome, the effects as they are and as the rows show them, and who was treated.

        Returns
        -------
        list of Moment
            Each stated number beside its measurement.
        """
        n = len(self.arm)
        outcome = self.data["outcome"].to_numpy()
        positive = np.log(self.untreated[self.untreated > 0])
        moments = [
            stated("share of outcomes that are zero", (self.untreated == 0).mean(), ZERO_SHARE, np.sqrt(0.24 / n)),
            stated("log-SD of the others", positive.std(), LOG_SD, LOG_SD / np.sqrt(2 * len(positive))),
        ]
        added = outcome - self.untreated
        for action, (name, mean) in enumerate(zip(ACTIONS, self.stated.mean_effects, strict=True)):
            moments += [
                stated(f"true mean effect of {name}, % of mean outcome",
                       100 * self.effects[:, action].mean() / MEAN_OUTCOME, 100 * mean),
                stated(f"SD of customers' effects of {name}, % of outcome SD",
                       100 * self.effects[:, action].std() / SD_OUTCOME, 100 * self.stated.effect_sd),
            ]  # fmt: skip
            weighted = added * (self.arm == action + 1) / self.propensities[:, action + 1]
            scale = 100 / MEAN_OUTCOME
            moments.append(
                stated(f"mean effect of {name} in the rows, % of mean outcome",
                       scale * weighted.mean(), 100 * mean, scale * weighted.std() / np.sqrt(n))
            )  # fmt: skip
        is_treated = self.arm > 0
        chance = 1 - self.propensities[:, 0]
        by_features = np.log(self.data["value"].to_numpy()) - np.log(self.data["recency_days"].to_numpy())
        low, high = self.stated.propensities
        moments += [
            stated("smallest propensity of treatment", chance.min(), low),
            stated("largest propensity of treatment", chance.max(), high),
            stated("AUC of the propensity", *_auc(chance, is_treated, self.stated.auc)),
            stated("AUC of value and recency", *_auc(by_features, is_treated, self.stated.features_auc)),
        ]
        return moments


@dataclass(frozen=True)
class Stated:
    """What the design states about a world: shares of the outcome's mean and SD, and who is treated."""

    mean_effects: tuple[float, ...]
    effect_sd: float
    propensities: tuple[float, float] = (0.75, 0.75)
    auc: float = 0.5
    features_auc: float = 0.5


def randomised_effects(seed: int, customers: int = CUSTOMERS) -> EffectWorld:
    """Mean effects +8 %, +3 % and 0 of the mean outcome, which differ between customers; chance alone chooses.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 20_000
        How many, each with one exposure.

    Returns
    -------
    EffectWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> effects = randomised_effects(0, customers=500).effects
    >>> bool(np.allclose(effects.mean(axis=0) / MEAN_OUTCOME, [0.08, 0.03, 0.0]))
    True
    """
    random, people = _start(seed, customers)
    return _world(people, _varied(people, random), _equal(customers), random, Stated(MEAN_EFFECTS, EFFECT_SD))


def no_effect(seed: int, customers: int = CUSTOMERS) -> EffectWorld:
    """The same, with actions that do nothing.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 20_000
        How many, each with one exposure.

    Returns
    -------
    EffectWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> bool(no_effect(0, customers=500).effects.any())
    False
    """
    random, people = _start(seed, customers)
    nothing = np.zeros((customers, len(ACTIONS)))
    return _world(people, nothing, _equal(customers), random, Stated((0.0, 0.0, 0.0), 0.0))


def constant_effect(seed: int, customers: int = CUSTOMERS) -> EffectWorld:
    """The same, with the means only: an action does the same to everybody.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 20_000
        How many, each with one exposure.

    Returns
    -------
    EffectWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> bool(np.ptp(constant_effect(0, customers=500).effects, axis=0).max() < 1e-9)
    True
    """
    random, people = _start(seed, customers)
    constant = np.tile(np.array(MEAN_EFFECTS) * MEAN_OUTCOME, (customers, 1))
    return _world(people, constant, _equal(customers), random, Stated(MEAN_EFFECTS, 0.0))


def measured_confounding(seed: int, customers: int = CUSTOMERS) -> EffectWorld:
    """The effects of the randomised world; the better and the more recent are treated, as in targeted campaigns.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 20_000
        How many, each with one exposure.

    Returns
    -------
    EffectWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> measured_confounding(0, customers=500).data["propensity"].null_count  # nobody wrote them down
    500
    """
    random, people = _start(seed, customers)
    chances = _targeted((people.value - people.recency) / np.sqrt(2))
    what = Stated(MEAN_EFFECTS, EFFECT_SD, PROPENSITIES, AUC, features_auc=AUC)
    return _world(people, _varied(people, random), chances, random, what)


def hidden_confounding(seed: int, customers: int = CUSTOMERS) -> EffectWorld:
    """The same by a trait that no column holds, but which spend before the exposure shares with spend after it.

    Parameters
    ----------
    seed : int
        The same seed gives the same world.
    customers : int, default 20_000
        How many, each with one exposure.

    Returns
    -------
    EffectWorld
        Rows, truth and stated moments.

    Examples
    --------
    >>> world = hidden_confounding(0, customers=2_000)
    >>> bool(np.corrcoef(world.trait, world.arm > 0)[0, 1] > 0.4)
    True
    """
    random, people = _start(seed, customers)
    what = Stated(MEAN_EFFECTS, EFFECT_SD, PROPENSITIES, AUC, features_auc=0.5)
    return _world(people, _varied(people, random), _targeted(people.trait), random, what)


# ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _People:
    """Standard normal traits, (customers,), and the micro-segment as a number."""

    value: Array
    recency: Array
    discount: Array
    others: Array  # (customers, 2)
    trait: Array
    cell: Array


_CELLS = tuple(
    f"{stage}/value.{value}/promotion.{promotion}"
    for stage in ("new", "active", "star")
    for value in "ABC"
    for promotion in "AB"
)


def _start(seed: int, customers: int) -> tuple[np.random.Generator, _People]:
    """The same customers in each of these worlds: they differ in what is done to them."""
    random = np.random.default_rng([seed, 21])
    z = random.standard_normal((customers, 6))

    def cut(x: Array, *borders: float) -> Array:
        """Micro-segments know the features roughly: they were cut on another day."""
        result: Array = np.digitize(0.9 * x + np.sqrt(1 - 0.81) * random.standard_normal(customers), borders)
        return result

    cell = cut(-z[:, 1], -0.8, 0.9) * 6 + cut(z[:, 0], -0.4, 0.6) * 2 + cut(z[:, 2], 0.3)
    return random, _People(z[:, 0], z[:, 1], z[:, 2], z[:, 3:5], z[:, 5], cell)


def _chance_of_spending(people: _People) -> Array:
    from scipy.special import ndtr, ndtri

    middle = ndtri(ZERO_SHARE) * np.sqrt(1 + _BY_RECENCY**2)
    return 1 - np.asarray(ndtr(middle + _BY_RECENCY * people.recency))


def _expected(people: _People) -> Array:
    """Expected spend of a customer left alone, given what decides it and is measured."""
    amount = np.exp(_LOG_MEAN + np.sqrt(_BY_VALUE) * people.value + (1 - _BY_VALUE) / 2)
    result: Array = _chance_of_spending(people) * amount
    return result


def _spend(people: _People, random: np.random.Generator) -> Array:
    """Four weeks of a customer left alone."""
    n = len(people.value)
    rest = np.sqrt(LOG_SD**2 - _BY_VALUE - _BY_TRAIT)
    logs = _LOG_MEAN + np.sqrt(_BY_VALUE) * people.value + np.sqrt(_BY_TRAIT) * people.trait
    spends = random.random(n) < _chance_of_spending(people)
    return np.where(spends, np.exp(logs + rest * random.standard_normal(n)), 0.0)


def _varied(people: _People, random: np.random.Generator) -> Array:
    """(customers, actions): effects with the stated means and SD, driven by three features and the micro-segment."""
    features = np.tanh(np.column_stack([people.value, people.recency, people.discount]))
    expected = _expected(people)
    effects = []
    for mean in MEAN_EFFECTS:
        by_feature = features @ (random.choice([-1.0, 1.0], 3) * random.dirichlet(np.full(3, 5.0)))
        by_cell = np.clip(random.standard_normal(len(_CELLS)), -2, 2)[people.cell]
        drive = np.sqrt(0.6) * _scaled(by_feature) + np.sqrt(0.4) * _scaled(by_cell)
        effects.append(_with_moments(expected, drive, mean * MEAN_OUTCOME, EFFECT_SD * SD_OUTCOME))
    return np.column_stack(effects)


def _scaled(x: Array) -> Array:
    result: Array = (x - x.mean()) / x.std()
    return result


def _with_moments(expected: Array, drive: Array, mean: float, sd: float) -> Array:
    """expected · (a + b · drive) with this mean and SD; never so low that an outcome would fall below nothing."""
    base = mean * expected / expected.mean()
    swing = expected * (drive - (expected * drive).mean() / expected.mean())
    both = (base * swing).mean()
    b = (-both + np.sqrt(both**2 + swing.var() * (sd**2 - base.var()))) / swing.var()
    effect: Array = base + b * swing
    if (effect <= -expected).any():
        raise AssertionError("an effect takes more than there is: the world would not be what it says")
    return effect


def _equal(customers: int) -> Array:
    return np.full((customers, len(ACTIONS) + 1), 1 / (len(ACTIONS) + 1))


def _targeted(score: Array) -> Array:
    """(customers, arms): chances by a standard normal score, with the stated range and AUC."""
    treated = _propensity(score, _slope())
    return np.column_stack([1 - treated, *[treated / len(ACTIONS)] * len(ACTIONS)])


def _propensity(score: Array, slope: float) -> Array:
    return np.clip(1 / (1 + np.exp(-slope * score)), *PROPENSITIES)


@lru_cache(maxsize=1)
def _slope() -> float:
    """The slope of the propensity's logit at which treated and untreated are distinguished with the stated AUC."""
    score = np.linspace(-6, 6, 20_001)
    density = np.exp(-(score**2) / 2)
    low, high = 0.1, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        chance, group = np.unique(_propensity(score, middle), return_inverse=True)
        mass = np.bincount(group, density)
        treated, untreated = mass * chance, mass * (1 - chance)
        below = untreated.cumsum() - untreated / 2
        auc = (treated * below).sum() / treated.sum() / untreated.sum()
        low, high = (middle, high) if auc < AUC else (low, middle)
    return low


def _world(people: _People, effects: Array, chances: Array, random: np.random.Generator, what: Stated) -> EffectWorld:
    n = len(people.value)
    arm = (random.random(n)[:, None] > chances.cumsum(axis=1)[:, :-1]).sum(axis=1)
    before, untreated = _spend(people, random), _spend(people, random)
    growth = np.column_stack([np.zeros(n), effects / _expected(people)[:, None]])[np.arange(n), arm]
    is_random = what.auc == 0.5
    data = pa.table(
        {
            "customer_id": pa.array(np.char.mod("%05d", np.arange(n)), pa.string()),
            "micro_segment": pa.array(_CELLS).take(pa.array(people.cell)),
            "value": np.exp(4.0 + 0.8 * people.value),
            "recency_days": np.exp(2.5 + 0.8 * people.recency),
            "discount_share": 1 / (1 + np.exp(1.5 - people.discount)),
            "visits": np.exp(1.5 + 0.6 * people.others[:, 0]),
            "age": 45.0 + 12.0 * people.others[:, 1],
            "spend_before": before,
            "action": pa.array([CONTROL, *ACTIONS]).take(pa.array(arm)),
            "outcome": untreated * (1 + growth),
            "randomised": np.full(n, is_random),
            "propensity": pa.array(chances[np.arange(n), arm]) if is_random else pa.nulls(n, pa.float64()),
        }
    )
    return EffectWorld(data, arm, effects, untreated, chances, people.trait, what)


# ── measuring ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _auc(score: Array, is_treated: Array, value: float) -> tuple[float, float, float]:
    """The chance that a treated one scores above an untreated one, what it should be, and its standard error."""
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    rank = (counts.cumsum() - (counts - 1) / 2)[group]
    n, m = is_treated.sum(), (~is_treated).sum()
    auc = (rank[is_treated].sum() - n * (n + 1) / 2) / (n * m)
    spread = auc * (1 - auc) + (n - 1) * (auc / (2 - auc) - auc**2) + (m - 1) * (2 * auc**2 / (1 + auc) - auc**2)
    return auc, value, np.sqrt(spread / n / m)

"""`python -m ml.lifecycle.evidence`: windows and stages compared with the truth of simulated businesses.

Belongs here: the true silence–return curve, of a business that goes on until the silences of its first year have ended,
and the comparison with what is estimated from the first year alone. Does not belong here: the businesses
(`ml.simulate`).

Three kinds of business: the two presets, and subscriptions, whose customers pay every 30 days or so. There the chance
of a return is small right after a payment and near certain before the next, so that the first silence after which it
lies below a threshold would be none at all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from ml.engine import DuckDB
from ml.features import CustomerHistory
from ml.lifecycle.agreement import Agreement, agreement
from ml.lifecycle.model import assign_stages
from ml.lifecycle.spec import CHURN_THRESHOLD_SHARE, LifecycleSpec
from ml.lifecycle.training import train
from ml.lifecycle.windows import windows_of
from ml.value.spec import ValueSpec, baseline

Array: TypeAlias = "np.ndarray[Any, Any]"
Preset: TypeAlias = Literal["retail", "gaming"]
Kind: TypeAlias = Literal["retail", "gaming", "subscription"]

PRESETS: tuple[Preset, ...] = ("retail", "gaming")
KINDS: tuple[Kind, ...] = (*PRESETS, "subscription")

START, YEAR = date(2024, 1, 1), 364
END = START + timedelta(days=YEAR - 1)
NEW_FOR = 28  # days: the presets' customers are new for four weeks, by rule
TRUTH_YEARS, TRUTH_CUSTOMERS, TRUTH_SEEDS = 3, 20_000, range(1_000, 1_004)


def purchases(kind: Kind, customers: int, seed: int, *, years: int = 1) -> tuple[Array, Array]:
    """Simulate the purchase days of a business whose customers first buy in its first year.

    Parameters
    ----------
    kind : {"retail", "gaming", "subscription"}
        Kind of business.
    customers : int
        Number of customers.
    seed : int
        Seed of the simulation.
    years : int, default 1
        Years that are simulated.

    Returns
    -------
    tuple of ndarray of shape (n_purchase_days,)
        Numbers of the customer and of the day, ordered by both.
    """
    random = np.random.default_rng([seed, KINDS.index(kind)])
    drawn = _payments(customers, years, random) if kind == "subscription" else _orders(kind, customers, years, random)
    key = np.unique(drawn[0].astype(np.int64) * 100_000 + drawn[1])
    return key // 100_000, key % 100_000


def _orders(kind: Preset, customers: int, years: int, random: Any) -> tuple[Array, Array]:
    from ml.simulate import BLOCK, BusinessSpec
    from ml.simulate.business.activity import campaigns, orders_of, stages_of
    from ml.simulate.business.orders import by_week, seconds_in_week
    from ml.simulate.business.people import people_of
    from ml.simulate.vocabulary import DAY

    if customers > BLOCK:
        raise ValueError(f"at most {BLOCK} customers, a block")
    spec = BusinessSpec(preset=kind, customers=customers, days=YEAR, start=START.isoformat())
    people = people_of(spec, 0, random)
    longer = replace(spec, days=YEAR * years)
    stages = stages_of(people, longer, random)
    orders = orders_of(people, stages, campaigns(people, stages, longer, random), longer, random)
    customer, week = by_week(orders)
    return customer, seconds_in_week(week, longer, random) // DAY


def _payments(customers: int, years: int, random: Any) -> tuple[Array, Array]:
    """A payment every 30 days, give or take two; one in 20 is left out, after one in 16 the customer quits; who has
    quit begins again after 400 days on average."""
    last = YEAR * years
    count = last // 25
    after = 30 + 2 * random.standard_normal((customers, count))
    after += 30 * (random.random((customers, count)) < 1 / 20)
    quits = random.random((customers, count)) < 1 / 16
    after += np.where(quits, random.exponential(400, (customers, count)), 0.0)
    first = random.integers(0, YEAR, customers)
    day = first[:, None] + np.column_stack([np.zeros(customers), np.cumsum(after, axis=1)])
    customer, payment = np.nonzero(day < last)
    return customer, day[customer, payment].astype(np.int64)


def true_window(kind: Kind, within_days: int = 28) -> tuple[int, float]:
    """Find the silence after which the true chance of a return stays below a fifth of its highest.

    The silences that begin in the first year are followed for two more years. The chance after s days is the share of
    those longer than s that end by s + `within_days`.

    Parameters
    ----------
    kind : {"retail", "gaming", "subscription"}
        Kind of business.
    within_days : int, default 28
        Length of the outcome window in days.

    Returns
    -------
    tuple of int and float
        Days of silence, and the threshold.
    """
    ended = np.zeros(YEAR * TRUTH_YEARS + 1)
    for seed in TRUTH_SEEDS:
        customer, day = purchases(kind, TRUTH_CUSTOMERS, seed, years=TRUTH_YEARS)
        same = np.append(customer[1:] == customer[:-1], False)
        lasted = np.where(same, np.append(day[1:], 0) - day, YEAR * TRUTH_YEARS)
        ended += np.bincount(lasted[day < YEAR], minlength=len(ended))
    longer = ended.sum() - np.cumsum(ended)
    silence = np.arange(366)
    chance = 1 - longer[silence + within_days] / longer[silence]
    threshold = CHURN_THRESHOLD_SHARE * float(chance.max())
    return int(np.flatnonzero(chance >= threshold)[-1]) + 1, threshold


def estimated_window(kind: Kind, customers: int, seed: int) -> int:
    """Days of silence that `churn_after_days: auto` estimates from the first year of a business."""
    customer, day = purchases(kind, customers, seed)
    table = pa.table(
        {
            "customer_id": pa.array([f"c{number:06d}" for number in customer.tolist()], pa.string()),
            "day": pa.array(np.datetime64(START, "D") + day, pa.date32()),
            "orders": np.ones(len(day), dtype=np.int64),
        }
    )
    spec = LifecycleSpec(new_for_days=NEW_FOR)
    return windows_of(DuckDB(threads=1), table, END, spec, None).churn_after


@dataclass(frozen=True)
class StageAgreement:
    """Agreement of one stage with the truth, under estimated windows and under the true ones."""

    kind: str
    estimated: Agreement
    ceiling: Agreement


def agreement_by_stage(kind: Preset, customers: int, seed: int, true: int, spec: LifecycleSpec) -> list[StageAgreement]:
    """Compare stages with the latent ones on the last day of the first year, under `auto` and under the true windows.

    Both use the baseline of value, so that they differ in their windows alone.

    Parameters
    ----------
    kind : {"retail", "gaming"}
        Kind of business.
    customers : int
        Number of customers.
    seed : int
        Seed of the simulation.
    true : int
        The true churn window in days (`true_window`).
    spec : LifecycleSpec
        Settings, with `auto` windows.

    Returns
    -------
    list of StageAgreement
        One entry per stage that has customers, and one for all stages.
    """
    engine = DuckDB(threads=1)
    facts, truth = business(engine, kind, customers, seed)
    value_spec = ValueSpec()
    features = facts.snapshot_of(END)
    value = baseline(features, value_spec)
    agreements = []
    for settings in (spec, replace(spec, churn_after_days=true, new_for_days=NEW_FOR)):
        training = train(facts, END, settings, None, value_model=None, value_spec=value_spec)
        stages = assign_stages(engine, features, value, training.model, settings)  # type: ignore[arg-type]
        agreements.append(agreement(engine, stages, truth, spec.stage_names()))
    pairs = [StageAgreement(kind, *pair) for pair in zip(*agreements, strict=True)]
    return [pair for pair in pairs if pair.estimated.customers or pair.ceiling.customers]


def business(engine: DuckDB, kind: Preset, customers: int, seed: int) -> tuple[CustomerHistory, pa.Table]:
    """History of a preset's first year, and the latent stage of each customer on its last day."""
    from ml.simulate import BusinessSpec, block

    drawn = block(BusinessSpec(preset=kind, customers=customers, days=YEAR, start=START.isoformat(), seed=seed), 0)
    truth = engine.query(
        "SELECT CAST(customer_id AS VARCHAR) AS customer_id, $day AS day, CAST(stage AS VARCHAR) AS stage "
        "FROM spells WHERE is_last",
        {"day": END},
        spells=drawn.truth["stages"],
    )
    return drawn.history(engine), truth


def report(customers: int = 5_000, seeds: int = 5) -> Iterator[str]:
    """Yield the lines of both comparisons as they are made."""
    true = {kind: true_window(kind) for kind in KINDS}
    yield f"churn_after_days: auto, one year of {customers:,} customers, {seeds} draws"
    for kind, (days, threshold) in true.items():
        windows = [estimated_window(kind, customers, seed) for seed in range(seeds)]
        worst = max(abs(window / days - 1) for window in windows)
        yield (
            f"  {kind:13} the true chance falls below {threshold:.1%} after {days} days; "
            f"estimated {', '.join(map(str, windows))}: {worst:.1%} off at most"
        )
    yield "agreement with the latent stages (F1; of all, the share that agrees): auto, true windows, their ratio"
    for preset in PRESETS:
        spec = LifecycleSpec(business=preset)
        runs = [agreement_by_stage(preset, customers, seed, true[preset][0], spec) for seed in range(seeds)]
        for pairs in zip(*runs, strict=True):
            estimated = np.mean([pair.estimated.f1 for pair in pairs])
            ceiling = np.mean([pair.ceiling.f1 for pair in pairs])
            lowest = min(pair.estimated.f1 / pair.ceiling.f1 for pair in pairs)
            yield (
                f"  {preset:8}{pairs[0].estimated.stage:11}{estimated:.3f}  {ceiling:.3f}  {estimated / ceiling:7.1%}"
                f"  (lowest {lowest:.1%})"
            )


if __name__ == "__main__":
    for line in report():
        sys.stdout.write(line + "\n")

"""Logs of exposures with a known effect, for the claims about actions: made of arrays, so that thousands take a second.

Belongs here: making facts and exposures. Does not belong here: any claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from ml import tables
from ml.actions import ActionPolicy, ActionResponseModel, exposure_outcomes, train
from ml.actions.learners import Z90
from ml.actions.response import ActionEvidence
from ml.choice import FitResult
from ml.engine import DuckDB
from ml.features import Attribute, CustomerHistory, FeatureSpec
from ml.layers import SegmentSpec
from ml.lifecycle import LifecycleSpec
from ml.restate import Models, Specs
from ml.value import ValueSpec

Array: TypeAlias = "np.ndarray[Any, Any]"

ENGINE = DuckDB(threads=2)
START = date(2024, 1, 1)
MODELS = Models(None, None, None, Specs(ValueSpec(), LifecycleSpec(), SegmentSpec()))


def days_of(numbers: Array) -> pa.Array:
    """Days of the history as dates; day 0 is the start."""
    return pa.array(np.datetime64(START) + np.asarray(numbers).astype("timedelta64[D]"), pa.date32())


def day(number: int) -> date:
    return days_of(np.array([number]))[0].as_py()


def ids(numbers: Array) -> pa.Array:
    return pa.array(np.char.mod("c%06d", np.asarray(numbers)), pa.string())


@dataclass
class Log:
    """Exposures, one entry each.

    Parameters
    ----------
    who, when : customer and day, as numbers
    action : what each got, as delivered
    more : further columns of the contract
    """

    who: Array
    when: Array
    action: Array
    more: Mapping[str, Array] = field(default_factory=dict)

    def table(self) -> pa.Table:
        size = len(self.who)
        columns: dict[str, Any] = {name: pa.nulls(size, tables.ARROW[c.type]) for name, c in _declared()}
        columns["customer_id"], columns["day"] = ids(self.who), days_of(self.when)
        columns["exposed_at"] = columns["day"].cast(pa.timestamp("us"))
        columns["action"] = pa.array(np.asarray(self.action, dtype=object), pa.string())
        for name, values in self.more.items():
            kind = tables.ARROW[tables.EXPOSURES[name].type]
            columns[name] = pa.array(np.broadcast_to(np.asarray(values, dtype=object), size), kind)
        return pa.table(columns)


def _declared() -> list[tuple[str, tables.Column]]:
    return [(column.name, column) for column in tables.EXPOSURES.columns]


def facts_of(amounts: Array, log: pa.Table, attributes: Mapping[str, Array] | None = None) -> CustomerHistory:
    """Facts of customers who registered on day 0 and spent `amounts`, shape (customers, days)."""
    who, when = np.nonzero(amounts)
    size, people = len(who), len(amounts)
    stamps = days_of(when)
    bought = {
        "customer_id": ids(who), "day": stamps, "occurred_at": stamps.cast(pa.timestamp("us")),
        "amount": amounts[who, when],
        **{name: pa.nulls(size, pa.string()) for name in ("order_id", "category")},
        **{name: pa.nulls(size, pa.float64()) for name in ("discount", "quantity", "margin")},
    }  # fmt: skip
    customers: dict[str, Any] = {"customer_id": ids(np.arange(people)), "day": days_of(np.zeros(people, dtype=int))}
    customers |= {name: pa.array(list(values)) for name, values in (attributes or {}).items()}

    def nothing(table: tables.Table) -> pa.Table:
        return table.schema().append(pa.field("day", pa.date32())).empty_table()

    spec = FeatureSpec(attributes=tuple(Attribute(name) for name in attributes or ()))
    return CustomerHistory.from_rows(
        ENGINE, spec, transactions=pa.table(bought), customers=pa.table(customers), events=nothing(tables.EVENTS),
        exposures=log, balances=nothing(tables.BALANCES),
    )  # fmt: skip


def spending(random: np.random.Generator, customers: int, days: int) -> tuple[Array, Array]:
    """Customers with a steady level of spend who buy every week or so: amounts, shape (customers, days), and levels."""
    level = np.exp(random.normal(0, 0.6, customers)) * 10
    buys = random.random((customers, days)) < random.uniform(0.1, 0.3, customers)[:, None]
    return buys * level[:, None] * np.exp(random.normal(0, 0.4, (customers, days))), level


@dataclass(frozen=True)
class Fitted:
    """The result of a week's training on a log."""

    result: FitResult
    outcomes: pa.Table

    @property
    def model(self) -> ActionResponseModel:
        assert isinstance(self.result.model, ActionResponseModel), self.result.reason
        return self.result.model

    def evidence(self, action: str = "gift") -> ActionEvidence:
        return self.model.actions[action]

    def covers(self, truth: float, action: str = "gift") -> bool:
        """Whether the 90 % interval holds the truth."""
        evidence = self.evidence(action)
        return abs(evidence.effect - truth) <= Z90 * evidence.standard_error

    def supported(self, spec: ActionPolicy, action: str = "gift") -> bool:
        return self.evidence(action).supported(self.model.cells[action]["all"], spec)

    def code(self, spec: ActionPolicy, action: str = "gift") -> str:
        """Code of the first objection or caveat; empty if there is none."""
        finding = self.evidence(action).finding(self.model.cells[action]["all"], spec)
        return finding.code if finding else ""


def fitted(facts: CustomerHistory, log: pa.Table, as_of: int, spec: ActionPolicy) -> Fitted:
    """Train on a log as of the end of a day."""
    outcomes = exposure_outcomes(facts, log, day(as_of), spec, start=START)
    return Fitted(train(facts.until(day(as_of)), day(as_of), spec, None, models=MODELS, outcomes=outcomes), outcomes)


def waves_by_lot(
    seed: int, days: tuple[int, ...], *, customers: int = 4_000, chance: float = 0.3, effect: float = 25.0,
    campaign: str | None = None, randomised: bool = False, history: int = 150, again: float | None = None,
) -> tuple[CustomerHistory, pa.Table]:  # fmt: skip
    """Waves that reach each customer by lot; an exposure brings `effect` three days later.

    Parameters
    ----------
    campaign : of all waves; each has its own by default
    randomised : whether the log declares it, and lists controls
    again : probability that a customer of the first wave gets a later one; that of all customers by default
    """
    random = np.random.default_rng([seed, 1])
    amounts, _ = spending(random, customers, history)
    logs, first = [], np.zeros(customers, dtype=bool)
    for number, when in enumerate(days):
        lot = random.random(customers)
        got = lot < (chance if again is None or not number else np.where(first, again, chance))
        first |= got & (number == 0)
        amounts[got, when + 3] += effect
        listed = np.flatnonzero(got | randomised)
        logs.append((listed, np.full(len(listed), when), np.where(got[listed], "gift", "control")))
    who, when_, action = (np.concatenate(parts) for parts in zip(*logs, strict=True))
    more: dict[str, Any] = {"randomised": np.full(len(who), randomised)}
    if campaign:
        more["campaign_id"] = np.full(len(who), campaign)
    if randomised:
        more["propensity"] = np.where(action == "gift", chance, 1 - chance)
    log = Log(who, when_, action, more).table()
    return facts_of(amounts, log), log

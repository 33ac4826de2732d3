"""BG/NBD and Gamma-Gamma on a snapshot: value from a customer's own rhythm alone, without a single label.

A purchase is a day with an order: purchases on the same day count once, and what they brought is their sum. Belongs
here: from a snapshot's columns to the models and back to the outputs of the family. Does not belong here: the models
(`bgnbd`, `gamma_gamma`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Self

import numpy as np
import pyarrow as pa

from ml.columns import numbers
from ml.value.bgnbd import BetaGeoModel
from ml.value.encoding import history_days, require, scale_to_window
from ml.value.gamma_gamma import GammaGammaModel
from ml.value.likelihood import Floats
from ml.value.reasons import Note

INPUTS = ("purchase_days", "recency_days", "tenure_days", "orders", "spend", "orders_90d", "spend_90d")
RECENT_DAYS = 90


@dataclass(frozen=True)
class ClosedForm:
    """The two models as of a day.

    Parameters
    ----------
    timing, money : r, alpha (days), a, b of BG/NBD; p, q, gamma (currency) of Gamma-Gamma. None if nobody ever bought
    orders_per_day : orders on a day with an order, over all customers
    never_bought : mean spend, orders and share with an order, over the horizon, of customers without a purchase, for
        whom these models have no answer. Zeros until there are labels
    notes : codes of what the data do not determine (see `ml.value.reasons.Note`)
    log_likelihood : of BG/NBD per customer
    """

    timing: tuple[float, float, float, float] | None
    money: tuple[float, float, float] | None
    orders_per_day: float = 1.0
    never_bought: tuple[float, float, float] = (0.0, 0.0, 0.0)
    notes: tuple[str, ...] = ()
    log_likelihood: float = 0.0

    @classmethod
    def learn(cls, snapshot: pa.Table, never_bought: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Self:
        """Fit both models on the customers of one day's snapshot."""
        bought = _bought(snapshot)
        if not bought.buys.any():
            return cls(None, None, never_bought=never_bought, notes=(Note.NOBODY_BOUGHT,))
        timing = BetaGeoModel().fit(bought.repeats, bought.last, bought.age)
        notes, money = timing.notes_, None
        if np.any(bought.mean > 0):
            gamma_gamma = GammaGammaModel().fit(bought.repeats + 1, bought.mean)
            money = (gamma_gamma.p_, gamma_gamma.q_, gamma_gamma.gamma_)
            notes += gamma_gamma.notes_
        else:
            notes += (Note.NO_POSITIVE_SPEND,)
        orders = float(np.nansum(numbers(snapshot["orders"])))
        return cls(
            (timing.r_, timing.alpha_, timing.a_, timing.b_),
            money,
            orders_per_day=orders / max(float(np.sum(bought.repeats + 1)), 1.0),
            never_bought=never_bought,
            notes=notes,
            log_likelihood=timing.log_likelihood_ / timing.n_customers_,
        )

    def outputs(self, snapshot: pa.Table, horizon_days: int) -> dict[str, np.ndarray]:
        """p_alive, expected_orders and expected_spend over the horizon, and `p_stays`: that the customer has not left.

        `p_alive` is the chance to buy at all within the horizon.
        """
        require(snapshot, INPUTS)
        spend, orders, alive = self.never_bought
        rows = snapshot.num_rows
        out = {
            "p_alive": np.full(rows, alive),
            "expected_orders": np.full(rows, orders),
            "expected_spend": np.full(rows, spend),
            "p_stays": np.ones(rows),
        }
        bought = _bought(snapshot)
        if self.timing is None or not bought.buys.any():
            return out
        timing = BetaGeoModel.of(*self.timing)
        r, alpha, _, _ = self.timing
        stays = timing.p_alive(bought.repeats, bought.last, bought.age)
        days = timing.conditional_expected_purchases(horizon_days, bought.repeats, bought.last, bought.age)
        silent = np.exp((r + bought.repeats) * (np.log(alpha + bought.age) - np.log(alpha + bought.age + horizon_days)))
        out["p_stays"][bought.buys] = stays
        out["p_alive"][bought.buys] = stays * (1 - silent)
        out["expected_orders"][bought.buys] = days * self.orders_per_day
        out["expected_spend"][bought.buys] = days * self._spend_per_day(bought)
        return out

    def _spend_per_day(self, bought: _Bought) -> Floats:
        """Expected spend on a day with an order."""
        if self.money is None:
            return np.zeros(len(bought.mean))
        spend = GammaGammaModel.of(*self.money).conditional_expected_average_value(bought.repeats + 1, bought.mean)
        return np.where(np.isfinite(spend), spend, np.maximum(bought.mean, 0.0))

    def stored(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Read what `stored` returned, after JSON has made lists of its tuples."""
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
        return cls(**fields)


def recent_spend(snapshot: pa.Table, horizon_days: int, first_day: date | None) -> np.ndarray:
    """The spend of the last 90 days, or of all days if there were fewer, scaled to the horizon."""
    spend = np.maximum(np.nan_to_num(numbers(snapshot["spend_90d"])), 0.0)
    result: np.ndarray = (
        spend * scale_to_window(history_days(snapshot, first_day), RECENT_DAYS) * (horizon_days / RECENT_DAYS)
    )
    return result


@dataclass(frozen=True)
class _Bought:
    """The inputs of the two models, for the customers who ever bought (`buys`, a mask over all rows)."""

    buys: np.ndarray
    repeats: Floats
    last: Floats
    age: Floats
    mean: Floats


def _bought(snapshot: pa.Table) -> _Bought:
    days = np.nan_to_num(numbers(snapshot["purchase_days"]))
    buys = days > 0
    age = numbers(snapshot["tenure_days"])[buys]
    last = age - numbers(snapshot["recency_days"])[buys]
    mean = np.nan_to_num(numbers(snapshot["spend"]))[buys] / days[buys]
    return _Bought(buys, days[buys] - 1, last, age, mean)

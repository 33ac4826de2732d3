"""What business is simulated: the preset, its size and its actions.

Belongs here: typed settings and the two presets as data. Does not belong here: any draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from ml.simulate.world import WINDOW_DAYS

BLOCK = 20_000  # customers; part of what a seed means
WINDOW_WEEKS = WINDOW_DAYS // 7
MONTHS = 12


@dataclass(frozen=True)
class BusinessAction:
    """A campaign arm and what it truly does: extra orders in the four weeks from its Monday on.

    Their expected number is the customer's own weekly rate while active, times four, times the sum of what holds for
    the customer, times how open customers are in the stage that they are in when it reaches them (`Preset.openness`).

    Parameters
    ----------
    on_all, on_lovers, on_high_value : added up: for everybody, for those who love offers, for the top value cluster
    cost : per exposure, currency
    """

    name: str
    on_all: float = 0.0
    on_lovers: float = 0.0
    on_high_value: float = 0.0
    cost: float = 0.0
    channel: str = ""


@dataclass(frozen=True)
class Preset:
    """The numbers of a kind of business.

    Parameters
    ----------
    stages : names of the six latent stages, in the order of `law.Law`
    converting : chance that a prospect converts in its first week
    weekly_orders, shape : mean and gamma shape of customers' orders per week while active
    order_value : median of the three value clusters, currency
    refunded : chance that a line (in gaming: a deposit) comes back, and the mean share of it that does
    activity : orders in a stage, as a multiple of those while active
    play : visits or sessions a week in a stage, beside orders
    openness : how much an action does to a customer who is in a stage
    """

    stages: tuple[str, ...]
    converting: float
    weekly_orders: float
    shape: float
    order_value: tuple[float, float, float]
    refunded: tuple[float, float]
    activity: tuple[float, ...]
    play: tuple[float, ...]
    openness: tuple[float, ...]
    actions: tuple[BusinessAction, ...]


PRESETS: Mapping[str, Preset] = {
    "retail": Preset(
        stages=("prospect", "new", "active", "star", "churn", "reengaged"),
        converting=0.40,
        weekly_orders=0.9,
        shape=1.5,
        order_value=(12.0, 30.0, 75.0),
        refunded=(0.02, 1.0),
        activity=(0.0, 1.1, 1.0, 2.2, 0.0, 0.9),
        play=(0.25, 0.6, 0.5, 0.9, 0.02, 0.5),
        openness=(0.0, 1.0, 1.0, 1.0, 0.15, 0.8),
        actions=(
            BusinessAction("email", on_all=0.05, on_high_value=0.15, cost=0.05, channel="email"),
            BusinessAction("coupon", on_lovers=0.50, cost=2.0, channel="app"),
            BusinessAction("call", cost=4.0, channel="phone"),
        ),
    ),
    "gaming": Preset(
        stages=("fun", "new", "active", "star", "churn", "reengaged"),
        converting=0.15,
        weekly_orders=0.7,
        shape=1.2,
        order_value=(10.0, 25.0, 70.0),
        refunded=(0.15, 0.6),
        activity=(0.0, 1.3, 1.0, 2.5, 0.0, 0.9),
        play=(1.0, 1.8, 1.6, 3.0, 0.02, 1.4),
        openness=(0.0, 1.0, 1.0, 1.0, 0.15, 0.8),
        actions=(
            BusinessAction("bonus", on_all=0.05, on_lovers=0.60, cost=3.0, channel="app"),
            BusinessAction("push", on_all=0.08, cost=0.02, channel="push"),
            BusinessAction("call", on_high_value=0.10, cost=6.0, channel="phone"),
        ),
    ),
}


@dataclass(frozen=True)
class BusinessSpec:
    """A simulated business.

    Parameters
    ----------
    preset : what kind of business
    customers : how many register within the `days` days from `start`
    start : the first day, ISO; the weekly clock of stages and campaigns begins with it
    randomised : whether chance alone chooses the arms of a campaign; else the better customers are treated
    campaign_every_weeks, campaign_share : how often, and for which share of the customers registered by then
    horizon_days, annual_discount_rate : over which true value is counted
    calendar : the season: of each month from January on, by how much customers order more often than their own rate;
        empty, if no month differs. Orders with which a stage begins, and those that actions bring, know no season
    """

    preset: Literal["retail", "gaming"] = "retail"
    customers: int = 2_000
    days: int = 364
    start: str = "2024-01-01"
    seed: int = 0
    randomised: bool = True
    campaign_every_weeks: int = 4
    campaign_share: float = 0.3
    horizon_days: int = 90
    annual_discount_rate: float = 0.10
    calendar: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"there is no preset {self.preset!r}; choose one of {', '.join(PRESETS)}")
        if self.customers < 1 or self.days < 1:
            raise ValueError("a simulation needs at least one customer and one day")
        if not 0 <= self.campaign_share <= 1:
            raise ValueError(f"campaign_share is a share from 0 to 1, not {self.campaign_share}")
        if self.campaign_every_weeks < WINDOW_WEEKS:
            raise ValueError(f"campaigns closer than {WINDOW_WEEKS} weeks overlap: their effects would not be known")
        if self.horizon_days < 1 or self.annual_discount_rate < 0:
            raise ValueError("horizon_days must be at least 1, annual_discount_rate at least 0")
        if self.calendar and (len(self.calendar) != MONTHS or min(self.calendar) < 0):
            raise ValueError(f"calendar has a factor, at least 0, for each of {MONTHS} months; not {self.calendar}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0")
        date.fromisoformat(self.start)

    @property
    def kind(self) -> Preset:
        """The numbers of the preset."""
        return PRESETS[self.preset]

    @property
    def weeks(self) -> int:
        """Weeks that have begun by the last day."""
        return -(-self.days // 7)

    @property
    def blocks(self) -> int:
        """How many blocks of customers there are."""
        return -(-self.customers // BLOCK)

    def numbers(self, block: int) -> range:
        """The numbers of a block's customers."""
        return range(block * BLOCK, min((block + 1) * BLOCK, self.customers))

    @property
    def valued_weeks(self) -> tuple[int, ...]:
        """Full weeks at whose end true value is counted: the last, and the last whose horizon lies in the rows."""
        full = self.days // 7
        matured = (self.days - self.horizon_days) // 7
        return tuple(week - 1 for week in sorted({full, matured}) if week >= 1)

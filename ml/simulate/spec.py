"""What business is simulated: its size, its campaigns and what they do, and the presets of whole businesses.

Belongs here: typed settings, and the kinds of business as data. Does not belong here: any draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal

from ml.simulate.vocabulary import WINDOW_DAYS

BLOCK = 20_000  # customers; part of what a seed means
WINDOW_WEEKS = WINDOW_DAYS // 7
MONTHS = 12


@dataclass(frozen=True)
class SimulatedAction:
    """A campaign arm and what it truly does: extra orders in the four weeks from the day of the exposure on.

    Their expected number is the customer's own, over four weeks, times the sum of what holds for the customer. In a
    whole business it is also multiplied by how open customers are in their stage on that day (`Preset.openness`).

    Parameters
    ----------
    name : str
        What the rows call it.
    on_all, on_lovers, on_high_value : float, default 0
        Extra orders as a share of the customer's own, added up: for everybody, for those who love discounts, for the
        cluster of highest value (which a shop does not have).
    cost : float, default 0
        Per exposure, in currency.
    channel : str, default ""
        How it reaches the customer.
    is_coupon : bool, default False
        Whether its extra orders redeem a coupon, which shows in the events of a shop.

    Examples
    --------
    >>> from ml.simulate import ShopSpec, SimulatedAction, simulate
    >>> coupon = SimulatedAction("coupon", on_lovers=0.9, cost=2.0)
    >>> effects = simulate(ShopSpec(customers=400, days=60, actions=(coupon,))).truth["actions"].to_pylist()[0]
    >>> effects["mean_effect_on_lovers"] > effects["mean_effect_on_others"] == 0
    True
    """

    name: str
    on_all: float = 0.0
    on_lovers: float = 0.0
    on_high_value: float = 0.0
    cost: float = 0.0
    channel: str = ""
    is_coupon: bool = False


ACTIONS = (
    SimulatedAction("email", on_all=0.10, cost=0.05, channel="email"),
    SimulatedAction("coupon", on_lovers=0.90, cost=2.0, channel="app", is_coupon=True),
    SimulatedAction("call", cost=4.0, channel="phone"),
)


@dataclass(frozen=True, kw_only=True)
class SimulationSpec:
    """What every simulated business is asked for.

    Parameters
    ----------
    customers : int
        How many register within the `days` days from `start`.
    days : int
        Length of the history, days.
    start : str, default "2024-01-01"
        The first day, ISO.
    seed : int, default 0
        The same spec gives the same rows.
    randomised : bool, default True
        Whether chance alone chooses the arms of a campaign; otherwise the better customers are treated.
    campaign_share : float
        Share of the customers registered by then that a campaign draws, 0 to 1.

    Raises
    ------
    ValueError
        If the business cannot be, or its truth would not be known.

    Examples
    --------
    >>> from ml.simulate import BusinessSpec, ShopSpec, SimulationSpec
    >>> issubclass(ShopSpec, SimulationSpec) and issubclass(BusinessSpec, SimulationSpec)
    True
    """

    customers: int = 2_000
    days: int = 364
    start: str = "2024-01-01"
    seed: int = 0
    randomised: bool = True
    campaign_share: float = 0.3

    def __post_init__(self) -> None:
        if self.customers < 1 or self.days < 1:
            raise ValueError("a simulation needs at least one customer and one day")
        if not 0 <= self.campaign_share <= 1:
            raise ValueError(f"campaign_share is a share from 0 to 1, not {self.campaign_share}")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0")
        date.fromisoformat(self.start)


@dataclass(frozen=True, kw_only=True)
class ShopSpec(SimulationSpec):
    """The small shop: customers buy at their own rhythm, fall silent, come back, and react to campaigns.

    Parameters
    ----------
    customers, days : int
        How many customers register, within how many days.
    start : str, default "2024-01-01"
        The first day, ISO.
    seed : int, default 0
        The same spec gives the same rows.
    randomised : bool, default True
        Whether chance alone chooses the arms of a campaign; otherwise the better customers are treated.
    campaign_share : float
        Share of the customers registered by then that a campaign draws, 0 to 1.
    campaign_every_days : int, default 28
        Days between two campaigns.
    actions : tuple of SimulatedAction
        The arms of the campaigns beside `control`.

    Raises
    ------
    ValueError
        If the shop cannot be, or the effects of its actions would not be known.

    Examples
    --------
    >>> from ml.simulate import ShopSpec, simulate
    >>> simulate(ShopSpec(customers=5, days=30)).tables["customers"].num_rows
    5
    """

    days: int = 200
    campaign_share: float = 0.8
    campaign_every_days: int = 28
    actions: tuple[SimulatedAction, ...] = ACTIONS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.campaign_every_days < WINDOW_DAYS:
            raise ValueError(f"campaigns closer than {WINDOW_DAYS} days overlap: their effects would not be known")
        names = [action.name for action in self.actions]
        if len(set(names)) < len(names) or "control" in names:
            raise ValueError("action names must differ, and `control` is always there")


@dataclass(frozen=True)
class Preset:
    """The numbers of a kind of business.

    Parameters
    ----------
    stages : tuple of str
        Names of the six latent stages, in the order of `Law`.
    converting : float
        Chance that a prospect converts in its first week, 0 to 1.
    weekly_orders : float
        Mean of customers' orders per week while active.
    order_value : tuple of float
        Median of each of the three value clusters, currency.
    refunded : tuple of float
        Chance that a line (in gaming: a deposit) comes back, and the mean share of it that does, 0 to 1.
    activity : tuple of float
        Orders in each stage, as a multiple of those while active.
    play : tuple of float
        Visits or sessions a week in each stage, beside orders.
    openness : tuple of float
        How much an action does to a customer in each stage, as a multiple of what it does to active ones.
    actions : tuple of SimulatedAction
        The arms of the campaigns beside `control`.

    Examples
    --------
    >>> from ml.simulate import PRESETS
    >>> PRESETS["gaming"].stages
    ('fun', 'new', 'active', 'star', 'churn', 'reengaged')
    """

    stages: tuple[str, ...]
    converting: float
    weekly_orders: float
    order_value: tuple[float, float, float]
    refunded: tuple[float, float]
    activity: tuple[float, ...]
    play: tuple[float, ...]
    openness: tuple[float, ...]
    actions: tuple[SimulatedAction, ...]


PRESETS: Mapping[str, Preset] = {
    "retail": Preset(
        stages=("prospect", "new", "active", "star", "churn", "reengaged"),
        converting=0.40,
        weekly_orders=0.9,
        order_value=(12.0, 30.0, 75.0),
        refunded=(0.02, 1.0),
        activity=(0.0, 1.1, 1.0, 2.2, 0.0, 0.9),
        play=(0.25, 0.6, 0.5, 0.9, 0.02, 0.5),
        openness=(0.0, 1.0, 1.0, 1.0, 0.15, 0.8),
        actions=(
            SimulatedAction("email", on_all=0.05, on_high_value=0.15, cost=0.05, channel="email"),
            SimulatedAction("coupon", on_lovers=0.50, cost=2.0, channel="app"),
            SimulatedAction("call", cost=4.0, channel="phone"),
        ),
    ),
    "gaming": Preset(
        stages=("fun", "new", "active", "star", "churn", "reengaged"),
        converting=0.15,
        weekly_orders=0.7,
        order_value=(10.0, 25.0, 70.0),
        refunded=(0.15, 0.6),
        activity=(0.0, 1.3, 1.0, 2.5, 0.0, 0.9),
        play=(1.0, 1.8, 1.6, 3.0, 0.02, 1.4),
        openness=(0.0, 1.0, 1.0, 1.0, 0.15, 0.8),
        actions=(
            SimulatedAction("bonus", on_all=0.05, on_lovers=0.60, cost=3.0, channel="app"),
            SimulatedAction("push", on_all=0.08, cost=0.02, channel="push"),
            SimulatedAction("call", on_high_value=0.10, cost=6.0, channel="phone"),
        ),
    ),
}


@dataclass(frozen=True, kw_only=True)
class BusinessSpec(SimulationSpec):
    """A whole business of any size, with a weekly clock of latent stages.

    Parameters
    ----------
    customers, days : int
        How many customers register, within how many days.
    start : str, default "2024-01-01"
        The first day, ISO. The weekly clock of stages and campaigns begins with it.
    seed : int, default 0
        The same spec gives the same rows.
    randomised : bool, default True
        Whether chance alone chooses the arms of a campaign; otherwise the better customers are treated.
    campaign_share : float
        Share of the customers registered by then that a campaign draws, 0 to 1.
    preset : {"retail", "gaming"}
        What kind of business.
    campaign_every_weeks : int, default 4
        Weeks between two campaigns.
    horizon_days : int, default 90
        Days over which true value is counted.
    annual_discount_rate : float, default 0.10
        By which true value is discounted.
    calendar : tuple of float, default ()
        The season: for each month from January on, by how much customers order more often than their own rate; empty if
        no month differs. Orders with which a stage begins, and those that actions bring, know no season.

    Raises
    ------
    ValueError
        If the business cannot be, or the effects of its actions would not be known.

    Examples
    --------
    >>> from ml.simulate import BusinessSpec
    >>> spec = BusinessSpec(preset="gaming", customers=50_000, days=100)
    >>> spec.blocks, spec.weeks
    (3, 15)
    """

    preset: Literal["retail", "gaming"] = "retail"
    campaign_every_weeks: int = 4
    horizon_days: int = 90
    annual_discount_rate: float = 0.10
    calendar: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"there is no preset {self.preset!r}; choose one of {', '.join(PRESETS)}")
        super().__post_init__()
        if self.campaign_every_weeks < WINDOW_WEEKS:
            raise ValueError(f"campaigns closer than {WINDOW_WEEKS} weeks overlap: their effects would not be known")
        if self.horizon_days < 1 or self.annual_discount_rate < 0:
            raise ValueError("horizon_days must be at least 1, annual_discount_rate at least 0")
        if self.calendar and (len(self.calendar) != MONTHS or min(self.calendar) < 0):
            raise ValueError(f"calendar has a factor, at least 0, for each of {MONTHS} months; not {self.calendar}")

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
        """The numbers of a block's customers.

        Parameters
        ----------
        block : int
            The block's number, from 0.

        Returns
        -------
        range
            Of as many numbers as the block has customers.
        """
        return range(block * BLOCK, min((block + 1) * BLOCK, self.customers))

    @property
    def valued_weeks(self) -> tuple[int, ...]:
        """Full weeks at whose end true value is counted: the last, and the last whose horizon lies in the rows."""
        full = self.days // 7
        matured = (self.days - self.horizon_days) // 7
        return tuple(week - 1 for week in sorted({full, matured}) if week >= 1)

"""The season: how much more customers buy, or spend per order, on some days of the year than on others.

An index per day of the year, 1 on average, for orders, for what an order is worth, and for events. It is learnt from
what customers did after their first purchase, by day and age since then: a business that wins many customers in spring
and loses half of them by summer has no season in this sense, though its revenue has. What is left after the ages is a
weekly series; it is split into a trend, a part that returns every year, a part that does not, and noise, under several
assumptions about the size of each, weighted by how well they explain the series. The returning part gets only what the
others do not explain, so a business without a season keeps an index near 1.

It needs an earlier year: until every one of the last 90 days has been seen in one, the index is exactly 1, and the
`Risk` gives what a season could do to a sum.

A fit learns in *ordinary days*: sums over a window are divided by the window's mean index, spans of time are measured
by the ordinary days' buying in them, and what is then expected is multiplied by the mean index of the days ahead.

Belongs here: learning the index, taking it out of snapshots and outcomes, putting it back. Does not belong here: what
is learnt in ordinary days (see `blend`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ml.columns import numbers
from ml.engine import sql_of

if TYPE_CHECKING:
    from ml.features import CustomerHistory

Floats = NDArray[np.float64]
Quantity = Literal["orders", "spend", "events"]
State = Literal["learnt", "no_earlier_year"]

SLOTS = 366  # days of a leap year; each day of the year has the same position in every year
MONTH_BEGINS = np.cumsum([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30])
YEAR = 365
WINDOW_DAYS = 90  # the longest window of a snapshot
BAND_STARTS = (1, 8, 15, 29, 57, 92, 183, 366)  # days since the first purchase, as in season.sql
MAX_YEARS = 6  # of history that is read
ASSUMED_PEAK = 2.0  # what days not seen yet may bring, as a multiple of ordinary ones
MIN_WEEKLY = 5.0  # orders; a week with fewer is left out
# The index is a multiple of this, so that its sums over days are exact: then it does not matter from which day on they
# are taken, and a customer's value is the same to the last digit whichever other rows and days are in the table.
STEP = 2.0**-30

# Assumptions about the weekly logarithms: standard deviations of the part that returns, its smoothness (in radians of
# the year), and of the part that does not and fades within some weeks; noise relative to that between neighbouring
# weeks. A strong passing part is penalised: it needs a year that contradicts another one.
RETURNING, SMOOTHNESS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8), (0.5, 2.0)
BY_MONTH = (0.0, 0.7)  # share of the part that returns which keeps to calendar months, as seasons of shops often do
PASSING, PASSING_WEEKS, RELUCTANCE = (0.0, 0.03, 0.08, 0.2, 0.4, 0.8), 8.0, 100.0
NOISE = (0.6, 0.85, 1.2)
TREND_YEARS, TREND_SD, LEVEL_SD, SLOPE_SD = 1.5, 0.3, 10.0, 1.0

# Which columns of a snapshot sum up which quantity, over the days from `age` to `age + days - 1` before its day's end.
WINDOWS: Mapping[str, tuple[Quantity, int, int]] = {
    "orders_28d": ("orders", 0, 28), "purchase_days_28d": ("orders", 0, 28), "orders_prev_28d": ("orders", 28, 28),
    "orders_90d": ("orders", 0, 90), "purchase_days_90d": ("orders", 0, 90), "items_90d": ("orders", 0, 90),
    "spend_28d": ("spend", 0, 28), "spend_prev_28d": ("spend", 28, 28), "spend_90d": ("spend", 0, 90),
    "margin_28d": ("spend", 0, 28), "margin_prev_28d": ("spend", 28, 28), "margin_90d": ("spend", 0, 90),
    "refunds_90d": ("spend", 0, 90),
    "events_28d": ("events", 0, 28), "events_90d": ("events", 0, 90), "page_views_28d": ("events", 0, 28),
}  # fmt: skip


@dataclass(frozen=True)
class Risk:
    """What an unknown season could do to a sum of values.

    Parameters
    ----------
    low, high : possible sums, as multiples of what is expected; both 1 where the season is known
    unseen_share : share of the days ahead that no earlier year shows; for these `ASSUMED_PEAK` is assumed
    """

    low: float = 1.0
    high: float = 1.0
    unseen_share: float = 0.0

    @classmethod
    def of_history(cls, history_days: int, horizon_days: int, low: float = 1.0, high: float = 1.0) -> Self:
        """From the length of a business's history and its extremes (relative to the last days)."""
        seen = max(0, min(horizon_days, history_days - (YEAR - horizon_days)))
        unseen = 1 - seen / horizon_days
        assumed = 1 + (ASSUMED_PEAK - 1) * unseen
        return cls(min(low, 1 / assumed), max(high, assumed), unseen)


@dataclass(frozen=True)
class Season:
    """The index of each day of the year, as far as it was known on a day.

    Parameters
    ----------
    state : `learnt`, or `no_earlier_year`: then every index is exactly 1
    orders, worth, events : index of each of the `SLOTS` days of a year, 1 on average; empty where it is 1 throughout.
        `worth` is the index of spend per order
    history_days : of business up to the day that it was learnt for
    years : how often the rarest day of the year had been seen by then
    returning : share of the variance of the weekly logarithms, beside their trend, that the index explains
    risk : of sums over the horizon from that day on
    extremes : the weakest and the strongest run of `horizon_days` days seen, as multiples of the last 90 days
    """

    state: State = "no_earlier_year"
    orders: tuple[float, ...] = ()
    worth: tuple[float, ...] = ()
    events: tuple[float, ...] = ()
    history_days: int = 0
    years: int = 0
    returning: float = 0.0
    risk: Risk = Risk()
    extremes: tuple[float, float] = (1.0, 1.0)

    @classmethod
    def learn(cls, facts: CustomerHistory, as_of: date, *, horizon_days: int, warm_up_days: int) -> Self:
        """Learn the season from what customers had done by the end of `as_of`; nothing later is read.

        Parameters
        ----------
        facts : of any length
        warm_up_days : the first days of a business, which are left out
        """
        rows = facts.engine.query(
            sql_of("ml.value", "season"), {"as_of": as_of} | facts.money, customer_days=facts.customer_days
        )
        if not rows.num_rows:
            return cls(risk=Risk.of_history(0, horizon_days))
        weeks = _Weeks.of(rows, as_of)
        series = weeks.rate("orders")
        low, high = _extremes(series[warm_up_days // 7 :], horizon_days)
        history = weeks.history_days
        risk = Risk.of_history(history - warm_up_days, horizon_days, low, high)
        if history < needed_days(warm_up_days):
            return cls(history_days=history, risk=risk, extremes=(low, high))
        from_week = warm_up_days // 7
        orders, returning = weeks.index(series, from_week)
        worth, _ = weeks.index(weeks.spend_per_order(), from_week)
        events, _ = weeks.index(weeks.rate("events"), from_week)
        years = (history - warm_up_days) // YEAR
        return cls("learnt", orders, worth, events, history, years, returning, Risk(), (low, high))

    # ── the index ─────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def is_flat(self) -> bool:
        """Whether every index is exactly 1, so that nothing has to be taken out or put back."""
        return not (self.orders or self.worth or self.events)

    @cached_property
    def _indices(self) -> dict[str, Floats]:
        def full(values: tuple[float, ...]) -> Floats:
            return np.asarray(values) if values else np.ones(SLOTS)

        orders = full(self.orders)
        indices = {"orders": orders, "events": full(self.events), "spend": orders * full(self.worth)}
        return {name: np.maximum(np.round(values / STEP), 1.0) * STEP for name, values in indices.items()}

    def index(self, quantity: Quantity) -> Floats:
        """The index of each of the `SLOTS` days of a year."""
        return self._indices[quantity]

    def risk_on(self, day: date, first_day: date | None, horizon_days: int, warm_up_days: int = 0) -> Risk:
        """The risk of a sum on `day`, which may lie after the day that the season was learnt for."""
        if self.state == "learnt":
            return Risk()
        if first_day is None:  # of a model from before there was a season
            return Risk.of_history(0, horizon_days)
        history = (day - first_day).days + 1 - warm_up_days
        return Risk.of_history(history, horizon_days, self.extremes[0], self.extremes[1])

    def _sums(self, quantity: str, first: np.datetime64, last: np.datetime64) -> Floats:
        """(days + 1,): the sum of the index over the days from `first` to before each, up to the end of `last`."""
        days = np.arange(first, last + 1)
        return np.concatenate([[0.0], np.cumsum(self._indices[quantity][slots(days)])])

    def mean_ahead(self, days: np.ndarray, horizon_days: int, quantity: Quantity = "spend") -> Floats:
        """The mean index of the `horizon_days` days after each of `days` (datetime64[D], shape (n,))."""
        return self._mean(days, -horizon_days, horizon_days, quantity)

    def _mean(self, days: np.ndarray, age: int, window: int, quantity: Quantity) -> Floats:
        """The mean index of the `window` days that end `age` days before the end of each of `days`."""
        if not len(days) or self.is_flat:
            return np.ones(len(days))
        distinct, position = np.unique(days, return_inverse=True)
        first = distinct[0] - age - window + 1
        sums = self._sums(quantity, first, distinct[-1] - age)
        end = (distinct - age - first).astype(int) + 1
        return np.asarray(((sums[end] - sums[end - window]) / window)[position])

    # ── ordinary days ─────────────────────────────────────────────────────────────────────────────────────────────

    def ordinary(self, table: pa.Table) -> pa.Table:
        """A snapshot as it would be if every day were an ordinary one; the same table where the index is 1.

        A snapshot without a column `day` is left as it is.
        """
        if self.is_flat or "day" not in table.column_names or not table.num_rows:
            return table
        days = days_of(table)
        names = set(table.column_names)
        columns: dict[str, Floats] = {}
        for name, (quantity, age, window) in WINDOWS.items():
            if name in names:
                columns[name] = numbers(table[name]) / self._mean(days, age, window, quantity)
        if "average_order_90d" in names:
            per_order = self._mean(days, 0, WINDOW_DAYS, "spend") / self._mean(days, 0, WINDOW_DAYS, "orders")
            columns["average_order_90d"] = numbers(table["average_order_90d"]) / per_order
        if {"tenure_days", "recency_days"} <= names:
            columns |= self._spans(table, days, names)
        for name, values in columns.items():
            column = pa.array(values, pa.float64(), mask=~np.isfinite(values))
            table = table.set_column(table.column_names.index(name), name, column)
        return table

    def _spans(self, table: pa.Table, days: np.ndarray, names: set[str]) -> dict[str, Floats]:
        """Spans of time in ordinary days, and spend over a customer's whole life."""
        tenure, recency = numbers(table["tenure_days"]), numbers(table["recency_days"])
        has = np.isfinite(tenure) & np.isfinite(recency)
        since, silence = (np.where(has, v, 0).astype(int).astype("timedelta64[D]") for v in (tenure, recency))
        first, last = days - since, days - silence
        begin = first.min()
        orders, spend = (self._sums(name, begin, days.max()) for name in ("orders", "spend"))

        def before(sums: Floats, day: np.ndarray) -> Floats:
            return np.asarray(sums[(day - begin).astype(int)])

        def by_end(sums: Floats, day: np.ndarray) -> Floats:
            return np.asarray(sums[(day - begin).astype(int) + 1])

        columns = {
            "tenure_days": np.where(has, by_end(orders, days) - by_end(orders, first), np.nan),
            "recency_days": np.where(has, by_end(orders, days) - by_end(orders, last), np.nan),
        }
        if {"mean_gap_days", "purchase_days"} <= names:
            gaps = numbers(table["purchase_days"]) - 1
            with np.errstate(divide="ignore", invalid="ignore"):
                columns["mean_gap_days"] = np.where(
                    gaps > 0, (columns["tenure_days"] - columns["recency_days"]) / gaps, np.nan
                )
        for name in names & {"spend", "margin"}:
            per_order = (by_end(spend, last) - before(spend, first)) / (by_end(orders, last) - before(orders, first))
            columns[name] = numbers(table[name]) / np.where(has, per_order, 1.0)
        for name in names & {"first_day_spend", "first_day_margin"}:
            per_order = (by_end(spend, first) - before(spend, first)) / (by_end(orders, first) - before(orders, first))
            columns[name] = numbers(table[name]) / np.where(has, per_order, 1.0)
        return columns

    def ordinary_outcomes(self, outcomes: pa.Table, horizon_days: int) -> pa.Table:
        """Spend and orders after each row's day as they would be if every day were an ordinary one."""
        if self.is_flat or "day" not in outcomes.column_names:
            return outcomes
        days = days_of(outcomes)
        for name in ("spend", "orders"):
            values = numbers(outcomes[name]) / self.mean_ahead(days, horizon_days, name)
            outcomes = outcomes.set_column(outcomes.column_names.index(name), name, pa.array(values))
        return outcomes

    # ── storing ───────────────────────────────────────────────────────────────────────────────────────────────────

    def stored(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Self:
        """Read what `stored` returned, after JSON has made lists of its tuples; None is of a model without a season."""
        if stored is None:
            return cls()
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored.items()}
        return cls(**{**fields, "risk": Risk(**fields["risk"])})


def needed_days(warm_up_days: int) -> int:
    """Days of business with which each of the last 90 has been seen in an earlier year, after the warm-up."""
    return YEAR + WINDOW_DAYS + warm_up_days


def days_of(table: pa.Table) -> np.ndarray:
    """The column `day` as datetime64[D], shape (n,)."""
    return np.asarray(table["day"].to_numpy(), dtype="datetime64[D]")


def slots(days: np.ndarray) -> NDArray[np.int64]:
    """The position of each day in a leap year, 0 to 365; February 29 is skipped in other years."""
    months = days.astype("datetime64[M]")
    month = months.astype(int) % 12
    return np.asarray(MONTH_BEGINS[month] + (days - months.astype("datetime64[D]")).astype(int))


@dataclass(frozen=True)
class _Weeks:
    """Sums per week and age band, the newest week last; all (weeks, bands), of customers after their first purchase.

    Parameters
    ----------
    exposure : customer days
    ends : the last day of each week
    """

    exposure: Floats
    orders: Floats
    spend: Floats
    events: Floats
    ends: np.ndarray
    history_days: int

    @classmethod
    def of(cls, rows: pa.Table, as_of: date) -> Self:
        """From the rows of season.sql. Weeks are counted back from `as_of`, so that each has every weekday."""
        last = np.datetime64(as_of, "D")
        day, band = days_of(rows), numbers(rows["band"]).astype(int)
        history = int((last - day.min()).astype(int)) + 1
        day_number = (day - day.min()).astype(int)
        bands = len(BAND_STARTS)
        entries = np.bincount(day_number[band == 0], numbers(rows["customers"])[band == 0], minlength=history)
        known = np.concatenate([[0.0], np.cumsum(entries)])  # customers whose first day lies before each day
        ages = (*BAND_STARTS, history + 1)
        numbered = np.arange(history)
        daily = {
            "exposure": np.stack(
                [
                    known[np.maximum(numbered - ages[b] + 1, 0)] - known[np.maximum(numbered - ages[b + 1] + 1, 0)]
                    for b in range(bands)
                ],
                axis=1,
            )
        }
        cell = day_number * bands + band - 1
        later = band > 0
        for name in ("orders", "spend", "events"):
            daily[name] = np.bincount(cell[later], numbers(rows[name])[later], minlength=history * bands).reshape(
                history, bands
            )
        weeks = min(history // 7, MAX_YEARS * 53)
        weekly = {
            name: values[history - 7 * weeks :].reshape(weeks, 7, bands).sum(axis=1) for name, values in daily.items()
        }
        ends = last - 7 * np.arange(weeks)[::-1]
        return cls(**weekly, ends=ends, history_days=history)

    def rate(self, name: Literal["orders", "events"]) -> Floats:
        """Activity of each week relative to what the customers' ages predict, shape (weeks,); NaN where it is too low.

        Activity is assumed never to rise with age. Where the data begin in the middle of a business's life, its best
        customers are seen first; otherwise that would look like customers who do more as they age, in worsening times.
        """
        from scipy.optimize import isotonic_regression

        sums = getattr(self, name)
        total = sums.sum(axis=1)
        by_week: Floats = np.ones(len(total))
        with np.errstate(divide="ignore", invalid="ignore"):
            for _ in range(30):
                weight = by_week @ self.exposure
                seen = weight > 0
                by_age = np.zeros(len(weight))
                ratio = sums.sum(axis=0)[seen] / weight[seen]
                if len(ratio):
                    by_age[seen] = isotonic_regression(ratio, weights=weight[seen], increasing=False).x
                by_week = np.nan_to_num(total / (self.exposure @ by_age))
        return np.where(total >= MIN_WEEKLY, by_week, np.nan)

    def spend_per_order(self) -> Floats:
        """Spend per order in each week, shape (weeks,); NaN where there were too few orders."""
        orders, spend = self.orders.sum(axis=1), self.spend.sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where((orders >= MIN_WEEKLY) & (spend > 0), spend / orders, np.nan)

    def index(self, series: Floats, from_week: int) -> tuple[tuple[float, ...], float]:
        """The index of each day of the year, and the share of the variance that it explains; empty where it is 1."""
        used = np.isfinite(series) & (series > 0) & (np.arange(len(series)) >= from_week)
        if used.sum() < YEAR / 7:
            return (), 0.0
        weight = np.maximum(self.orders.sum(axis=1)[used], 1.0)
        season, share = _returning(np.log(series[used]), self.ends[used] - 3, weight)
        index = np.exp(season)
        return tuple((index / index.mean()).tolist()), share


def _returning(y: Floats, middles: np.ndarray, weight: Floats) -> tuple[Floats, float]:
    """The part of a weekly series that returns every year, for each of the `SLOTS` days.

    A Gaussian process under each of the assumptions above, averaged by how well they explain the series.

    Parameters
    ----------
    y, weight : logarithms and the orders behind each, shape (weeks,)
    middles : the middle day of each week, datetime64[D]
    """
    from scipy.linalg import cho_factor, cho_solve

    level = y - y.mean()
    # A week is the mean of its seven days, wherever in it a season begins.
    share = np.zeros((len(y), SLOTS))
    for offset in range(-3, 4):
        np.add.at(share, (np.arange(len(y)), slots(middles + offset)), 1 / 7)
    years = (middles - middles[0]).astype(float) / 365.25
    lag = np.abs(years[:, None] - years[None, :])
    trend = LEVEL_SD**2 + SLOPE_SD**2 * np.outer(years, years) + TREND_SD**2 * np.exp(-((lag / TREND_YEARS) ** 2) / 2)
    passing = np.exp(-lag * (365.25 / 7) / PASSING_WEEKS)
    day = 2 * np.pi * np.arange(SLOTS) / SLOTS
    chord = 2 * np.abs(np.sin((day[:, None] - day[None, :]) / 2))
    month = np.searchsorted(MONTH_BEGINS, np.arange(SLOTS), side="right")
    same_month = (month[:, None] == month[None, :]).astype(float)
    shapes = [(1 - part) * np.exp(-chord / s) + part * same_month for s in SMOOTHNESS for part in BY_MONTH]
    day_by_week = [shape @ share.T for shape in shapes]
    week_by_week = [share @ covariance for covariance in day_by_week]
    scatter = np.diag(weight.mean() / weight)
    steps = np.abs(np.diff(y))
    noise_sd = max(float(np.median(steps)) / 0.954, 1e-3)  # the median of |a − b| of two normal draws is .954 SD
    evidence, estimates = [], []
    for tau, shape, brief, noise in product(RETURNING, range(len(shapes)), PASSING, NOISE):
        if tau == 0 and shape:
            continue  # without a returning part its shape does not matter
        covariance = trend + tau**2 * week_by_week[shape] + brief**2 * passing + (noise * noise_sd) ** 2 * scatter
        factor = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
        solved = cho_solve(factor, level, check_finite=False)
        evidence.append(-0.5 * level @ solved - np.log(np.diag(factor[0])).sum() - RELUCTANCE * brief)
        estimates.append(tau**2 * (day_by_week[shape] @ solved))
    weights = np.exp(np.array(evidence) - max(evidence))
    season = weights @ np.array(estimates) / weights.sum()
    season = season - season.mean()
    unexplained = float(np.var(np.diff(y - share @ season)))
    return season, float(np.clip(1 - unexplained / max(float(np.var(np.diff(y))), 1e-12), 0.0, 1.0))


def _extremes(series: Floats, horizon_days: int) -> tuple[float, float]:
    """The weakest and the strongest run of `horizon_days` days of a weekly series, as multiples of the last 90 days."""
    weeks = max(1, round(horizon_days / 7))
    values = series[np.isfinite(series)]
    if len(values) < weeks + 1:
        return 1.0, 1.0
    means = np.convolve(values, np.ones(weeks) / weeks, mode="valid")
    last = float(values[-max(1, WINDOW_DAYS // 7) :].mean())
    return (float(means.min() / last), float(means.max() / last)) if last > 0 else (1.0, 1.0)

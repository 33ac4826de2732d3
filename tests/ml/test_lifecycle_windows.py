"""Claims about estimated windows: what a silence means, when newcomers settle, what moves nobody."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.engine import DuckDB
from ml.lifecycle import LifecycleModel, LifecycleSpec, share_shift, windows_of
from ml.lifecycle.cuts import Array, share_holding_half
from ml.lifecycle.history import SHIFT_THRESHOLD
from ml.lifecycle.newcomers import newcomer_rates
from ml.lifecycle.reasons import WINDOW_WORDS, WindowCode
from ml.lifecycle.silences import MIN_SILENCES, ReturnCurve, return_curve
from ml.lifecycle.windows import churn_window, new_window, threshold_of
from ml.reasons import Reason

START = date(2024, 1, 1)
ENGINE = DuckDB(threads=1)


def bought(histories: Sequence[Sequence[int]]) -> pa.Table:
    """Customer days of customers who bought on these day numbers."""
    pairs = [
        (f"c{number:05d}", START + timedelta(days=int(day))) for number, days in enumerate(histories) for day in days
    ]
    names, days = (list(column) for column in zip(*pairs, strict=True)) if pairs else ([], [])
    return pa.table(
        {
            "customer_id": pa.array(names, pa.string()),
            "day": pa.array(days, pa.date32()),
            "orders": np.ones(len(pairs), dtype=np.int64),
        }
    )


def curve_of(histories: Sequence[Sequence[int]], last: int, within: int = 28, **other: Any) -> ReturnCurve:
    as_of = START + timedelta(days=last)
    return return_curve(ENGINE, bought(histories), as_of, within_days=within, **other)


def random_histories(seed: int, customers: int, last: int, *, gap: float = 20.0) -> list[list[int]]:
    """Customers with gaps of their own, some of whom stop."""
    random = np.random.default_rng(seed)
    histories = []
    for _ in range(customers):
        days = [int(random.integers(0, last // 2))]
        mean = gap * random.gamma(2.0, 0.5) + 1
        while days[-1] <= last and random.random() > 0.15:
            days.append(days[-1] + 1 + int(random.exponential(mean)))
        histories.append([day for day in days if day <= last])
    return histories


# ── the silence–return curve ──────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(60, 200), st.integers(20, 250))
def test_the_curve_is_the_product_of_the_days_survived_unlike_a_count_of_ended_gaps(
    seed: int, last: int, history: int
) -> None:
    histories = random_histories(seed, 150, last)
    curve = curve_of(histories, last, within=14, history_days=history)
    watched, back = np.zeros(800), np.zeros(800)
    for days in histories:
        for day in range(max(last - history, -1) + 1, last + 1):
            before = [d for d in days if d < day]
            if before:
                watched[day - before[-1]] += 1
                back[day - before[-1]] += day in days
    for silence in range(60):
        ahead = slice(silence + 1, silence + 15)
        if watched[ahead].min() >= MIN_SILENCES:
            expected = 1 - np.prod(1 - back[ahead] / watched[ahead])
            assert curve.chance[silence] == pytest.approx(expected)
            assert curve.at_risk[silence] == watched[silence + 1]
        else:
            assert np.isnan(curve.chance[silence])


def test_the_future_and_the_order_of_rows_change_nothing() -> None:
    histories = random_histories(1, 400, 300)
    table = bought(histories)
    as_of = START + timedelta(days=200)
    early = return_curve(ENGINE, bought([[d for d in days if d <= 200] for days in histories]), as_of, within_days=28)
    shuffled = table.take(np.random.default_rng(0).permutation(table.num_rows))
    late = return_curve(ENGINE, shuffled, as_of, within_days=28)
    np.testing.assert_array_equal(early.fitted, late.fitted)
    np.testing.assert_array_equal(early.error, late.error)


def test_those_who_buy_often_do_not_hide_those_who_stay_away() -> None:
    """Daily buyers have a hundred silences each, but none that gets as far as a week."""
    seldom = random_histories(7, 500, 359, gap=40.0)
    daily = [list(range(360)) for _ in range(300)]
    alone, together = curve_of(seldom, 359), curve_of(seldom + daily, 359)
    assert together.chance[1:].tolist() == pytest.approx(alone.chance[1:].tolist(), nan_ok=True)
    assert together.chance[0] > 0.99 > alone.chance[0]


def test_a_subscriber_who_is_not_yet_due_has_not_churned() -> None:
    """Just after a payment hardly anybody pays within four weeks: that is no silence after which they are gone."""
    random = np.random.default_rng(3)
    histories = []
    for _ in range(1500):
        days = [int(random.integers(0, 200))]
        while random.random() > 0.07:
            days.append(days[-1] + int(np.rint(30 + random.normal())))
        histories.append([day for day in days if day <= 363])
    curve = curve_of(histories, 363)
    assert curve.chance[0] < 0.2
    assert curve.crossing(0.2) == pytest.approx(32, abs=1)


def test_a_habit_of_long_ago_no_longer_counts() -> None:
    """Weekly buyers who have turned to every sixth week: the last months alone are read, not the years before."""
    weekly = [list(range(number % 7, 700, 7)) for number in range(200)]
    seldom = [list(range(700 + number % 42, 1000, 42)) for number in range(200)]
    both = [a + b for a, b in zip(weekly, seldom, strict=True)]
    recent = curve_of(both, 999, history_days=200)
    assert recent.chance[1] == pytest.approx(0.0, abs=1e-9)
    assert curve_of(both, 999, history_days=990).chance[1] > 0.8


def test_nobody_and_thirty_customers_have_no_curve() -> None:
    assert curve_of([], 100).longest_observed == -1
    assert curve_of(random_histories(0, 30, 100), 100).longest_observed < 14


# ── the churn window ──────────────────────────────────────────────────────────────────────────────────────────────


def drawn(chance: Sequence[float] | Array, error: float = 0.01) -> ReturnCurve:
    """A curve as it might be, unknown beyond what is given."""
    padded = np.append(np.asarray(chance, dtype=float), np.full(max(366 - len(chance), 0), np.nan))
    return ReturnCurve(np.full(len(padded), 1e3), padded, np.full(len(padded), error), padded, 28)


FALLING = np.linspace(0.9025, 0.0025, 181)  # half a point a day: below 20 % from day 141 on


def test_the_window_is_where_the_chance_falls_below_the_threshold() -> None:
    days, reason = churn_window(drawn(FALLING), 0.2, None, 60)
    assert days == 141
    assert (reason.code, reason.parameters["days"]) == (WindowCode.CHURN_ESTIMATED, 141)
    assert reason.parameters["chance"] == pytest.approx(0.198, abs=1e-3)


@pytest.mark.parametrize(("incumbent", "days"), [(141, 141), (138, 138), (144, 144), (120, 137), (160, 144), (60, 137)])
def test_a_window_stays_while_the_data_are_compatible_with_it(incumbent: int, days: int) -> None:
    """Two hundredths of standard error either way are some days; whoever is off goes to the nearest that fit."""
    assert churn_window(drawn(FALLING), 0.2, incumbent, 60)[0] == days


def test_windows_have_bounds() -> None:
    assert churn_window(drawn(np.full(200, 0.01)), 0.2, None, 60)[0] == 14
    assert churn_window(drawn(np.full(366, 0.9)), 0.2, None, 60)[0] == 365


def test_the_threshold_asks_for_less_where_hardly_anybody_comes_back_soon() -> None:
    assert threshold_of(drawn([0.5, 0.9, 0.1]), LifecycleSpec()) == pytest.approx(0.18)
    assert threshold_of(drawn([0.25, 0.1]), LifecycleSpec()) == pytest.approx(0.05)
    assert threshold_of(drawn([0.25, 0.1]), LifecycleSpec(churn_return_chance=0.15)) == 0.15


def test_a_window_beyond_the_history_is_at_least_as_long_as_the_longest_silence_observed() -> None:
    days, reason = churn_window(drawn(np.full(100, 0.6)), 0.2, None, 60)
    assert days == 99
    assert reason.code == WindowCode.CHURN_BEYOND_HISTORY
    figures = [reason.parameters[name] for name in ("days", "reach", "chance", "threshold", "within")]
    assert figures == pytest.approx([99, 99, 0.6, 0.2, 28])
    assert "of those silent for 99 days" in reason.words(WINDOW_WORDS), "the stored key is `reach`"
    assert churn_window(drawn(np.full(40, 0.6)), 0.2, None, 60)[0] == 60
    assert churn_window(drawn(np.full(100, 0.6)), 0.2, 97, 60)[0] == 97, "a few days are not worth a move"
    assert churn_window(drawn(np.full(100, 0.6)), 0.2, 150, 60)[0] == 150
    assert churn_window(drawn([]), 0.2, None, 60)[0] == 60
    assert churn_window(drawn([]), 0.2, 90, 60)[0] == 90


def test_a_bump_in_a_thin_tail_is_weighed_and_not_followed() -> None:
    entered, lasted, returned = (np.zeros((1, 395)) for _ in range(3))
    entered[0, 0], lasted[0, 1], returned[0, 1] = 10_000, 5_000, 5_000
    lasted[0, 150] = 4_850
    lasted[0, 160], returned[0, 160] = 75, 75
    lasted[0, 250] = 75
    curve = ReturnCurve.of(entered, lasted, returned, 28)
    assert curve.chance[140] > 0.2 > curve.chance[100], "half of the last 150 come back"
    crossing = curve.crossing(0.2)
    assert crossing is not None and crossing < 140


# ── newcomers ─────────────────────────────────────────────────────────────────────────────────────────────────────


def newcomers(weeks: int, *, at_first: float, customers: int = 1500, last: int = 363) -> pa.Table:
    """Customers who buy on a fifth of their days, `at_first` times as often in their first weeks."""
    random = np.random.default_rng(5)
    histories = []
    for _ in range(customers):
        first = int(random.integers(0, 200))
        rate = np.where(np.arange(last - first) < 7 * weeks, 0.2 * at_first, 0.2)
        histories.append([first, *(first + 1 + np.flatnonzero(random.random(last - first) < rate))])
    return bought(histories)


@pytest.mark.parametrize(("weeks", "at_first"), [(2, 2.0), (4, 1.6), (4, 0.5), (9, 2.0)])
def test_customers_are_new_until_their_buying_settles(weeks: int, at_first: float) -> None:
    rates = newcomer_rates(ENGINE, newcomers(weeks, at_first=at_first), START + timedelta(days=363))
    assert rates.split() == weeks
    assert new_window(rates, None, 28)[0] == 7 * weeks


def test_where_newcomers_buy_as_everybody_does_the_preset_stays() -> None:
    rates = newcomer_rates(ENGINE, newcomers(4, at_first=1.0), START + timedelta(days=363))
    days, reason = new_window(rates, None, 28)
    assert days == 28
    assert reason.code == WindowCode.NEW_NO_DIFFERENCE


def test_a_window_for_newcomers_stays_while_it_describes_them_nearly_as_well() -> None:
    rates = newcomer_rates(ENGINE, newcomers(4, at_first=1.6), START + timedelta(days=363))
    assert new_window(rates, 28, 28) == (28, Reason(WindowCode.NEW_UNCHANGED, {"days": 28}))
    assert new_window(rates, 70, 28)[0] == 28


def test_too_few_newcomers_or_weeks_keep_the_window() -> None:
    few = newcomer_rates(ENGINE, newcomers(4, at_first=1.6, customers=30), START + timedelta(days=363))
    assert new_window(few, None, 28)[0] == 28
    assert new_window(few, 14, 28)[0] == 14
    assert newcomer_rates(ENGINE, bought([]), START).split() is None


# ── auto or not ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_days_in_the_project_file_are_not_estimated() -> None:
    spec = LifecycleSpec(churn_after_days=42, new_for_days=10)
    windows = windows_of(ENGINE, bought([[0, 5]]), START, spec, LifecycleModel(churn_after=80))
    assert (windows.churn_after, windows.new_for, windows.curve, windows.newcomers) == (42, 10, None, None)


@pytest.mark.parametrize("key", ["churn_after_days", "new_for_days", "star_share"])
def test_a_word_that_is_not_auto_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=f"lifecycle.{key} is 'outo'; write a number, or auto"):
        LifecycleSpec(**{key: "outo"})  # type: ignore[arg-type]


# ── the share of stars ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("spread", "share"), [(0.3, 0.20), (1.0, 0.159), (1.3, 0.097), (2.5, 0.05)])
def test_stars_are_the_fewest_who_hold_half_of_the_value(spread: float, share: float) -> None:
    """Of a lognormal law with SD s, half lies above the quantile 1 − Φ(−s)."""
    ltv = np.exp(spread * np.random.default_rng(0).standard_normal(200_000))
    assert share_holding_half(ltv) == pytest.approx(share, abs=0.002)


def test_without_value_there_is_no_share_of_it() -> None:
    assert share_holding_half(np.zeros(10)) is None
    assert share_holding_half(np.array([])) is None
    assert share_holding_half(np.array([-5.0, np.nan])) is None


# ── shares of stages against the weeks before ─────────────────────────────────────────────────────────────────────

USUAL = {"active": 700, "churn": 200, "new": 100}


def test_shares_as_they_were_are_in_line_and_a_landslide_is_not() -> None:
    assert not share_shift({"active": 690, "churn": 215, "new": 95}, [USUAL] * 4).is_large
    gone = share_shift({"active": 300, "churn": 650, "new": 50}, [USUAL] * 4)
    assert gone.index is not None and gone.is_large and gone.index > SHIFT_THRESHOLD
    assert str(gone) == "churn: 65.0% of customers, 20.0% in the 4 weeks before"


def test_a_stage_that_is_new_or_empty_has_a_share_too() -> None:
    assert share_shift({"active": 500, "vanished": 500}, [USUAL] * 4).is_large


@pytest.mark.parametrize("before", [[], [USUAL] * 3, [USUAL] * 3 + [{}]])
def test_before_four_weeks_there_is_nothing_to_compare_with(before: list[dict[str, int]]) -> None:
    shift = share_shift(USUAL, before)
    assert (shift.index, shift.is_large, str(shift)) == (None, False, "fewer than 4 weeks to compare with")

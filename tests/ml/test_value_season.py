"""Claims about the season: what is learnt of it, that it leaves no trace where there is none, and what it does to sums.

The whole table over seeds and days of the year is in tests/evidence/test_value_season.py.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec
from ml.simulate import BusinessSpec, block
from ml.value import Basis, Outlook, ValueModel, ValueSpec, apply, calibration_drift
from ml.value.blend import Fit
from ml.value.closed_form import ClosedForm
from ml.value.evaluation import BGNBD, IN_FORCE, cut_at
from ml.value.season import SLOTS, Risk, Season, needed_days, slots

START = date(2021, 1, 1)
ENGINE = DuckDB(threads=1)
SPEC = ValueSpec()
QUARTERS = ((0, 91), (91, 182), (182, 274), (274, 366))


def regulars(
    days: int, *, customers: int = 800, peak: float = 1.0, dearer: float = 1.0, joins: int = 60, seed: int = 0
) -> CustomerHistory:
    """Customers who buy at a steady rate from the day they join on, `peak` times as often in the fourth quarter, and
    then for `dearer` times as much. Without `joins` they had come before the data begin."""
    rng = np.random.default_rng(seed)
    first = np.sort(rng.integers(0, max(joins, 1), customers))
    calendar = np.arange(np.datetime64(START), np.datetime64(START) + days)
    strong = np.asarray([day.month >= 10 for day in calendar.astype(object)])
    rate = rng.gamma(4, 0.02, customers)
    buys = rng.random((customers, days)) < rate[:, None] * np.where(strong, peak, 1.0)
    if joins:
        buys &= np.arange(days) > first[:, None]
        buys[np.arange(customers), first] = True
    who, when = np.nonzero(buys)
    amount = np.round(20 * rng.lognormal(0, 0.4, len(who)) * np.where(strong[when], dearer, 1.0), 2)
    schema = pa.schema([*tables.CUSTOMER_DAYS.schema(), pa.field("day", pa.date32())])
    names = np.array([f"c{k:05d}" for k in range(customers)])
    values = {
        "customer_id": names[who], "day": calendar[when], "orders": np.ones(len(who)), "lines": np.ones(len(who)),
        "items": np.ones(len(who)), "amount": amount, "margin": [None] * len(who), "balance": [None] * len(who),
        "first_event_at": [None] * len(who), "last_event_at": [None] * len(who),
        "is_registered": [False] * len(who),
    }  # fmt: skip
    columns = [pa.array(values.get(field.name, np.zeros(len(who)))).cast(field.type) for field in schema]
    categories = pa.schema([*tables.CATEGORY_DAYS.schema(), pa.field("day", pa.date32())]).empty_table()
    people = pa.schema([tables.CUSTOMERS.schema().field("customer_id"), pa.field("day", pa.date32())]).empty_table()
    return CustomerHistory(ENGINE, FeatureSpec(), pa.table(columns, schema), categories, people)


def learnt(facts: CustomerHistory, day: date) -> Season:
    return Season.learn(facts, day, horizon_days=90, warm_up_days=30)


def quarters(season: Season, quantity: str = "spend") -> np.ndarray:
    index = season.index(quantity)  # type: ignore[arg-type]
    return np.array([index[a:b].mean() for a, b in QUARTERS])


@pytest.fixture(scope="module")
def peaked() -> CustomerHistory:
    return regulars(3 * 365, peak=2.0)


@pytest.fixture(scope="module")
def season(peaked: CustomerHistory) -> Season:
    return learnt(peaked, START + timedelta(days=1000))


# ── what is learnt ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("peak", [2.0, 3.0])
@pytest.mark.parametrize("days", [640, 740, 1000])
def test_a_peak_that_was_seen_is_learnt_and_the_rest_of_the_year_is_level(peak: float, days: int) -> None:
    levels = quarters(learnt(regulars(days, peak=peak), START + timedelta(days=days - 1)))
    true = np.array([1, 1, 1, peak]) * 4 / (3 + peak)
    assert np.all(np.abs(levels / true - 1) < 0.10), levels


@pytest.mark.parametrize("seed", range(3))
def test_a_business_without_a_season_is_given_next_to_none(seed: int) -> None:
    season = learnt(regulars(800, seed=seed), START + timedelta(days=799))
    assert np.all(np.abs(quarters(season) - 1) < 0.04)


def test_growth_and_customers_who_join_together_are_no_season() -> None:
    """Customers join evenly over two years: revenue doubles and doubles, no day of the year is special."""
    season = learnt(regulars(800, joins=780), START + timedelta(days=799))
    assert np.all(np.abs(quarters(season) - 1) < 0.06)


def test_data_that_begin_in_the_middle_of_a_business_show_neither_a_season_nor_extremes() -> None:
    """The best customers are seen first, so a customer's age since its first purchase in the data says who it is."""
    facts = regulars(730, joins=0)
    early = learnt(facts, START + timedelta(days=299))
    assert 0.85 < early.extremes[0] <= early.extremes[1] < 1.2
    assert np.all(np.abs(quarters(learnt(facts, START + timedelta(days=729))) - 1) < 0.04)


def test_dearer_orders_are_a_season_of_spend_and_none_of_orders() -> None:
    season = learnt(regulars(1000, dearer=2.0), START + timedelta(days=999))
    assert quarters(season)[3] / quarters(season)[:3].mean() == pytest.approx(2.0, rel=0.12)
    assert np.all(np.abs(quarters(season, "orders") - 1) < 0.04)


@pytest.mark.parametrize("days", [20, 200, 365, 455, 484])
def test_without_an_earlier_year_the_index_is_exactly_one_and_the_risk_has_a_size(
    peaked: CustomerHistory, days: int
) -> None:
    season = learnt(peaked, START + timedelta(days=days - 1))
    assert needed_days(30) == 485
    assert (season.state, season.is_flat) == ("no_earlier_year", True)
    assert np.all(season.index("spend") == 1.0)
    assert season.risk.low < 1 < season.risk.high


def test_the_risk_covers_what_came_before_and_after_the_first_peak(peaked: CustomerHistory) -> None:
    before = learnt(peaked, date(2021, 9, 30)).risk
    assert before.high >= 1.9  # nobody has seen these days: a peak of two is assumed, and said so
    assert before.unseen_share == 1.0
    after = learnt(peaked, date(2021, 12, 31)).risk
    assert 0.35 < after.low < 0.55  # the weakest 90 days that were seen, beside those just passed
    assert Risk.of_history(10_000, 90) == Risk(1.0, 1.0, 0.0)


def test_nothing_after_the_day_changes_the_season(peaked: CustomerHistory) -> None:
    day = date(2022, 9, 30)
    assert learnt(peaked, day) == learnt(peaked.until(day), day)


@pytest.mark.parametrize("year", [2021, 2022, 2023, 2024])
def test_every_day_has_its_position_in_a_leap_year(year: int) -> None:
    days = np.arange(np.datetime64(f"{year}-01-01"), np.datetime64(f"{year + 1}-01-01"))
    positions = slots(days)
    assert positions[0] == 0 and positions[-1] == SLOTS - 1 and len(set(positions)) == len(days)
    assert (59 in positions) is (len(days) == SLOTS)


# ── ordinary days ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_flat_season_leaves_tables_as_they_are(peaked: CustomerHistory) -> None:
    snapshot = peaked.snapshot_of(date(2022, 6, 30))
    assert Season().ordinary(snapshot) is snapshot
    assert np.all(Season().mean_ahead(np.array(["2022-06-30"], "M8[D]"), 90) == 1.0)


def test_in_ordinary_days_a_customer_looks_the_same_before_and_after_the_peak(
    peaked: CustomerHistory, season: Season
) -> None:
    before, after = (season.ordinary(peaked.snapshot_of(day)) for day in (date(2022, 9, 30), date(2022, 12, 31)))
    raw = pc.sum(peaked.snapshot_of(date(2022, 12, 31))["spend_90d"]).as_py()
    first, later = (pc.sum(table["spend_90d"]).as_py() for table in (before, after))
    assert raw / pc.sum(peaked.snapshot_of(date(2022, 9, 30))["spend_90d"]).as_py() > 1.8
    assert later / first == pytest.approx(1.0, abs=0.08)
    forms = [ClosedForm.learn(table) for table in (before, after)]
    expected = [
        form.outputs(table, 90)["expected_spend"].sum() for form, table in zip(forms, (before, after), strict=True)
    ]
    assert expected[1] / expected[0] == pytest.approx(1.0, abs=0.08)


@settings(deadline=None)
@given(st.integers(0, 700), st.integers(0, 700))
def test_spans_in_ordinary_days_add_up_and_a_whole_year_is_a_year(tenure: int, recency: int) -> None:
    index = np.where(np.arange(SLOTS) >= 274, 2.0, 1.0)
    season = Season("learnt", orders=tuple((index / index.mean()).tolist()))
    tenure, recency = max(tenure, recency), min(tenure, recency)
    table = pa.table(
        {
            "day": pa.array([date(2023, 3, 1)] * 3, pa.date32()),
            "tenure_days": pa.array([tenure, 365, None], pa.int64()),
            "recency_days": pa.array([recency, 0, None], pa.int64()),
        }
    )
    ordinary = season.ordinary(table)
    tenures, recencies = ordinary["tenure_days"].to_pylist(), ordinary["recency_days"].to_pylist()
    assert recencies[0] <= tenures[0]
    assert tenures[1] == pytest.approx(365, rel=0.01) and recencies[1] == 0
    assert tenures[2] is None and recencies[2] is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_many_days_at_once_are_to_the_last_digit_as_each_row_by_itself(seed: int) -> None:
    rng, n = np.random.default_rng(seed), 30
    orders, worth = (tuple((one / one.mean()).tolist()) for one in rng.lognormal(0, 0.4, (2, SLOTS)))
    season = Season("learnt", orders=orders, worth=worth)
    tenure = rng.integers(0, 900, n)
    table = pa.table(
        {
            "day": pa.array(rng.integers(19_000, 19_008, n).astype("datetime64[D]")), "tenure_days": tenure,
            "recency_days": (tenure * rng.random(n)).astype(int), "purchase_days": rng.integers(1, 9, n),
            "mean_gap_days": rng.random(n), "spend": rng.lognormal(4, 1, n), "spend_90d": rng.lognormal(3, 1, n),
            "average_order_90d": rng.lognormal(3, 1, n), "first_day_spend": rng.lognormal(3, 1, n),
        }
    )  # fmt: skip
    together = season.ordinary(table)
    assert together.equals(pa.concat_tables(season.ordinary(table.slice(row, 1)) for row in range(n)))
    days = table["day"].to_numpy()
    assert [season.mean_ahead(days[row : row + 1], 90)[0] for row in range(n)] == season.mean_ahead(days, 90).tolist()


def test_what_is_expected_of_ordinary_days_is_put_back_in_season(peaked: CustomerHistory, season: Season) -> None:
    now = peaked.snapshot_of(date(2022, 9, 30))
    fit = Fit(90, ClosedForm.learn(season.ordinary(now)), season=season)
    ordinary, seasonal = replace(fit, season=Season()).predict(season.ordinary(now), "bgnbd"), fit.predict(now, "bgnbd")
    factor = season.mean_ahead(np.array(["2022-09-30"], "M8[D]"), 90)[0]
    assert factor > 1.4
    assert np.allclose(seasonal["expected_spend"], ordinary["expected_spend"] * factor)
    assert np.all(seasonal["p_alive"] >= ordinary["p_alive"]) and np.all(seasonal["p_alive"] <= 1)


# ── the model ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sums_are_right_before_and_after_a_peak_once_an_earlier_year_is_known() -> None:
    """Also of the closed form alone: before there was a season, sums were off by −60 % and +180 %."""
    business = BusinessSpec(
        customers=1_500, days=820, start="2021-01-01", seed=100, campaign_share=0.0, calendar=(1.0,) * 9 + (3.0,) * 3
    )
    facts = block(business, 0).history(ENGINE)
    for day in (date(2022, 9, 28), date(2022, 12, 31)):
        cut = cut_at(facts, day, SPEC)
        came = cut.actual.sum()
        assert abs(cut.predicted[IN_FORCE].sum() / came - 1) < 0.15, day
        assert abs(cut.predicted[BGNBD].sum() / came - 1) < 0.30, day


def test_a_season_is_stored_with_the_model_and_older_models_know_none(
    peaked: CustomerHistory, season: Season, tmp_path: Path
) -> None:
    now = peaked.snapshot_of(date(2022, 9, 30))
    model = ValueModel(90, 0.1, Fit(90, ClosedForm.learn(season.ordinary(now)), season=season), None, "bgnbd")
    model.save(tmp_path)
    loaded = ValueModel.load(tmp_path)
    assert loaded.final.season == season
    assert np.array_equal(loaded.outputs(now)["ltv"], model.outputs(now)["ltv"])
    file = tmp_path / "value_model.json"
    stored = json.loads(file.read_text(encoding="utf-8"))
    del stored["final"]["season"]
    file.write_text(json.dumps(stored), encoding="utf-8")
    assert ValueModel.load(tmp_path).final.season == Season()


# ── the simulator ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_simulated_calendar_is_in_the_rows_and_in_the_truth() -> None:
    flat = BusinessSpec(customers=4_000, days=364, start="2021-01-01", seed=7, campaign_share=0.0, horizon_days=70)
    peak = replace(flat, calendar=(1.0,) * 9 + (3.0,) * 3)
    drawn = block(peak, 0)
    truth = drawn.truth["values"].to_pandas()
    matured = truth[truth["day"] == truth["day"].min()]
    facts = drawn.history(ENGINE)
    day = matured["day"].iloc[0]
    day = day if isinstance(day, date) else day.date()
    came = facts.outcomes(facts.known([day]), 70, until=day + timedelta(days=70))
    assert pc.sum(came["spend"]).as_py() / matured["expected_spend"].sum() == pytest.approx(1.0, abs=0.07)
    without = block(flat, 0).truth["values"].to_pandas()
    assert (
        matured["expected_spend"].sum() > 1.8 * without[without["day"] == without["day"].min()]["expected_spend"].sum()
    )
    with pytest.raises(ValueError, match="12 months"):
        replace(flat, calendar=(1.0, 2.0))


# ── what a sum rests on ──────────────────────────────────────────────────────────────────────────────────────────


def valued(facts: CustomerHistory, day: date, season: Season | None = None) -> pa.Table:
    """Value as of a day: by the closed form in season, or without a model."""
    features = facts.snapshot_of(day)
    if season is None:
        return apply(features, None, SPEC, label="baseline")
    fit = Fit(90, ClosedForm.learn(season.ordinary(features)), first_day=START, season=season)
    return apply(features, ValueModel(90, 0.1, fit, None, "bgnbd"), SPEC, label="m")


def test_without_a_model_or_an_earlier_year_every_value_has_a_risk(peaked: CustomerHistory, season: Season) -> None:
    first = Basis.of(ENGINE, valued(peaked, date(2021, 6, 30)))
    assert first is not None and first.is_at_risk
    assert "up to 50% less or 100% more may come" in first.words()
    early = date(2021, 12, 31)
    after = Basis.of(ENGINE, valued(peaked, early, learnt(peaked, early)))
    assert after is not None and after.outlook.risk_low < 0.55 and "No earlier year tells the season" in after.words()
    known = Basis.of(ENGINE, valued(peaked, date(2022, 9, 30), season))
    assert known is not None and not known.is_at_risk
    assert known.outlook.season_factor > 1.4 and "times as strong as ordinary days" in known.words()
    assert Basis.of(ENGINE, valued(peaked, early).slice(0, 0)) is None


def test_a_risk_shrinks_as_the_days_ahead_are_seen_though_the_model_stays(peaked: CustomerHistory) -> None:
    season = learnt(peaked, date(2021, 6, 30))
    first, later = (season.risk_on(day, START, 90, 30) for day in (date(2021, 7, 31), date(2022, 3, 31)))
    assert (first.unseen_share, later.unseen_share) == (1.0, 0.0)
    assert later.high < first.high


def test_drift_after_the_first_peak_points_down_and_value_does_fall(peaked: CustomerHistory) -> None:
    then, now = date(2021, 10, 2), date(2021, 12, 31)
    basis = Basis.of(ENGINE, valued(peaked, now, learnt(peaked, now)))
    assert basis is not None
    features = peaked.snapshot_of(now)
    drift = calibration_drift(ENGINE, valued(peaked, then, learnt(peaked, then)), features, 90, basis.outlook)
    assert drift.has_drifted and drift.ratio > 1.5  # far more came than was expected …
    assert drift.today == "may_be_too_high"  # … and so the next horizon is expected too high:
    came = peaked.outcomes(peaked.known([now]), 90, until=now + timedelta(days=90))
    assert pc.sum(came["spend"]).as_py() < 0.9 * basis.ltv
    assert "too high" in drift.reason


def test_drift_in_a_known_season_is_a_level_that_has_moved(peaked: CustomerHistory, season: Season) -> None:
    then, now = date(2022, 10, 2), date(2022, 12, 31)
    features = peaked.snapshot_of(now)
    assert not calibration_drift(ENGINE, valued(peaked, then, season), features, 90, Outlook(0.7)).has_drifted
    half = valued(peaked, then, season)
    position = half.column_names.index("expected_spend")
    half = half.set_column(position, "expected_spend", pc.multiply(half["expected_spend"], 0.5))
    assert calibration_drift(ENGINE, half, features, 90, Outlook(0.7)).today == "may_be_too_low"

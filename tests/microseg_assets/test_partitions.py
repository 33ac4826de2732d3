"""Dates: Dagster's partition mappings match what the bodies read, and no day uses the choice of its own week."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microseg_assets.partitions import WEEK, Calendar, Lookback

DAY = timedelta(days=1)
LENGTH = 200
OF_DAYS = (
    Lookback.SAME_DAY,
    Lookback.YESTERDAY,
    Lookback.TWO_DAYS,
    Lookback.SEVEN_DAYS,
    Lookback.DAYS_SO_FAR,
    Lookback.LAST_ENDED_WEEK,
)
FROM_DAYS = (*OF_DAYS[:5], Lookback.DAYS_TO_WEEK_END)
# Zones whose clocks change at different hours, at midnight itself, by half an hour, or not at all.
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Beirut", "America/Santiago", "Australia/Lord_Howe",
         "Pacific/Apia", "Asia/Kolkata")  # fmt: skip

starts = st.dates(date(2015, 1, 1), date(2024, 1, 1))
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def calendar(start: date, zone: str = "UTC") -> Calendar:
    return Calendar(start, start + (LENGTH - 1) * DAY, zone)


def weeks(of: Calendar) -> list[date]:
    return [date.fromisoformat(key) for key in of.weekly.get_partition_keys()]


def resolved(of: Calendar, lookback: Lookback, key: date) -> list[date]:
    """The upstream partitions of one partition, as Dagster resolves the mapping."""
    own = of.daily if lookback in OF_DAYS else of.weekly
    upstream = of.daily if lookback in FROM_DAYS else of.weekly
    mapped = lookback.mapping.get_upstream_mapped_partitions_result_for_partitions(
        own.subset_with_partition_keys([key.isoformat()]), own, upstream
    )
    return [date.fromisoformat(k) for k in mapped.partitions_subset.get_partition_keys()]


@pytest.mark.parametrize("lookback", Lookback)
@few
@given(start=starts, offset=st.integers(0, LENGTH - 1), zone=st.sampled_from(ZONES))
def test_dagster_resolves_a_lookback_to_the_partitions_that_a_body_reads(
    lookback: Lookback, start: date, offset: int, zone: str
) -> None:
    of = calendar(start, zone)
    keys = of.days(start, start + (LENGTH - 1) * DAY) if lookback in OF_DAYS else weeks(of)
    key = keys[offset % len(keys)]
    assert resolved(of, lookback, key) == of.upstream(lookback, key)


@given(start=starts, offset=st.integers(0, 2000))
def test_the_week_in_force_on_a_day_is_the_last_that_ended_before_it(start: date, offset: int) -> None:
    of, day = Calendar(start), start + offset * DAY
    week = of.serving_week(day)
    if week is None:
        assert of.week_end(of.first_week) >= day, "a week had ended and nobody took it"
        return
    assert week.weekday() == 0 and week >= start, "a training week is a Monday's, and whole"
    assert of.week_end(week) < day, "the week had not ended when the day began"
    assert of.week_end(week + WEEK) >= day, "a later week had ended by then"
    assert week != day - day.weekday() * DAY, "a day never uses its own week"


@given(start=starts, offset=st.integers(0, 2000))
def test_the_week_that_ends_with_a_day_serves_from_the_next_day_on(start: date, offset: int) -> None:
    of, day = Calendar(start), start + offset * DAY
    ended = of.week_ending(day)
    assert (ended is not None) == (day.weekday() == 6 and day - 6 * DAY >= start)
    if ended:
        assert of.week_end(ended) == day
        assert of.serving_week(day + DAY) == ended != of.serving_week(day)


@given(start=starts, offset=st.integers(0, 400), length=st.integers(1, 60))
def test_weeks_serving_days_are_unique_and_ascending(start: date, offset: int, length: int) -> None:
    of = Calendar(start)
    days = of.days(start + offset * DAY, start + (offset + length - 1) * DAY)
    weeks_in_force = of.weeks_serving(days)
    assert weeks_in_force == sorted(set(weeks_in_force))
    assert set(weeks_in_force) == {of.serving_week(day) for day in days} - {None}


@pytest.mark.parametrize("weekday", range(7))
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Beirut"])
def test_weeks_run_from_monday_to_sunday_whatever_day_the_project_starts_on(weekday: int, zone: str) -> None:
    start = date(2024, 1, 1) + weekday * DAY  # the first of January 2024 was a Monday
    of = calendar(start, zone)
    all_weeks = weeks(of)
    assert all_weeks[0] == of.first_week and start <= all_weeks[0] < start + WEEK
    assert {week.weekday() for week in all_weeks} == {0}
    assert all_weeks == [all_weeks[0] + i * WEEK for i in range(len(all_weeks))], "no week is left out"
    last = start + (LENGTH - 1) * DAY
    assert of.week_end(all_weeks[-1]) <= last < of.week_end(all_weeks[-1]) + WEEK, (
        "only whole weeks, up to the last one"
    )
    assert of.previous_week(all_weeks[0]) is None and of.previous_week(all_weeks[1]) == all_weeks[0]


@pytest.mark.parametrize("zone", ZONES)
def test_every_calendar_day_is_one_partition_also_when_the_clocks_change(zone: str) -> None:
    of = Calendar(date(2023, 1, 1), date(2023, 12, 31), zone)
    assert of.daily.get_partition_keys() == [d.isoformat() for d in of.days(date(2023, 1, 1), date(2023, 12, 31))]
    assert len(set(of.weekly.get_partition_keys())) == 52


def test_the_last_day_belongs_to_the_calendar_and_the_day_after_it_does_not() -> None:
    of = Calendar(date(2024, 2, 27), date(2024, 3, 1))
    assert of.daily.get_partition_keys() == ["2024-02-27", "2024-02-28", "2024-02-29", "2024-03-01"]
    assert of.newest_day == date(2024, 3, 1)
    assert Calendar(date(2024, 1, 1), date(2024, 1, 1)).daily.get_partition_keys() == ["2024-01-01"]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12", "UTC"])
def test_a_business_that_goes_on_ends_with_the_last_day_that_has_ended_where_it_is(zone: str) -> None:
    of = Calendar(date(2024, 1, 1), time_zone=zone)
    assert of.newest_day.isoformat() == of.daily.get_last_partition_key()
    beyond = Calendar(date(2024, 1, 1), end=date.today() + 900 * DAY, time_zone=zone)
    assert beyond.newest_day == of.newest_day


def test_no_lookback_goes_before_the_first_day_or_the_first_whole_week() -> None:
    of = Calendar(date(2024, 1, 3))  # a Wednesday; the first whole week begins on the 8th and serves from the 15th on
    assert of.upstream(Lookback.YESTERDAY, date(2024, 1, 3)) == []
    assert of.upstream(Lookback.LAST_ENDED_WEEK, date(2024, 1, 14)) == []
    assert of.upstream(Lookback.LAST_ENDED_WEEK, date(2024, 1, 15)) == [date(2024, 1, 8)]
    assert of.upstream(Lookback.PREVIOUS_WEEK, date(2024, 1, 8)) == []
    assert of.upstream(Lookback.DAYS_TO_WEEK_END, date(2024, 1, 8)) == of.days(date(2024, 1, 3), date(2024, 1, 14))

"""Time: no day knows its future or uses its own week's model, and how days are grouped into runs changes nothing."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from tests.integration.shop import (
    END,
    FRIDAY,
    MONDAY,
    NEXT_MONDAY,
    STAMPS,
    START,
    SUNDAY,
    WEDNESDAY,
    WEEK,
    WEEK_BEFORE,
    Shop,
    differences,
    with_another_future,
)


@pytest.fixture(scope="module")
def other_future(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop with the same data up to Sunday and another future, made from scratch up to Sunday."""
    other = Shop.new(tmp_path_factory.mktemp("other") / "future")
    with_another_future(other, after=SUNDAY)
    other.run(MONDAY, SUNDAY)
    return other


def test_nothing_after_a_sunday_changes_any_table_up_to_it(shop: Shop, other_future: Shop) -> None:
    """Sunday also ends a training week, whose choices use nothing of the week after."""
    known = shop.partitions(SUNDAY)
    assert {f"model_choices/family=value/week={week}" for week in (WEEK_BEFORE, WEEK)} <= known.keys()
    assert differences(known, other_future.partitions(SUNDAY)) == []


def test_a_weekly_fit_is_the_same_whatever_the_next_week_brings(shop: Shop, other_future: Shop) -> None:
    """Every registered version has the same fingerprint, whether chosen or not."""
    assert other_future.choices(WEEK) == shop.choices(WEEK)
    assert other_future.registered() == shop.registered()
    assert len(shop.registered()) == 5, "every family of the shop has a model, or this shows little"


def test_nothing_after_a_wednesday_changes_any_table_up_to_it(shop: Shop, other_future: Shop, tmp_path: Path) -> None:
    """Within a training week, on days whose models are already in force."""
    other = other_future.copied_to(tmp_path / "wednesday")
    for table in STAMPS:
        other.deliver(table, shop.delivered(table))
    with_another_future(other, after=WEDNESDAY)
    other.run(NEXT_MONDAY, WEDNESDAY)
    assert differences(shop.partitions(WEDNESDAY), other.partitions(WEDNESDAY)) == []


def test_the_changed_future_is_different(shop: Shop, other_future: Shop) -> None:
    """The deliveries after Sunday differ in every table; otherwise the two tests above would show nothing."""
    ours, theirs = shop.workspace.sources, other_future.workspace.sources
    for table in STAMPS:
        one, other = ours[table], theirs[table]
        assert one is not None and other is not None
        assert one.rows(NEXT_MONDAY, END).drop_columns("source") != other.rows(NEXT_MONDAY, END).drop_columns("source")
        assert one.rows(START, SUNDAY).drop_columns("source") == other.rows(START, SUNDAY).drop_columns("source")


def test_a_day_uses_the_last_week_that_ended_before_it(shop: Shop, tmp_path: Path) -> None:
    """Sunday belongs to a week that has not ended; from Monday on its choice is in force.

    In a shop that asks for so many customers with a matured outcome that one week is short of them, and the next one
    has its first fit.
    """
    short, fitted, sunday = WEEK_BEFORE - timedelta(days=7), WEEK_BEFORE, MONDAY - timedelta(days=1)
    horizon = shop.workspace.project.value.horizon_days
    counted, matured = shop.copied_to(tmp_path / "counted"), timedelta(days=6 - horizon)
    counted.execute("to_features", short + matured, fitted + matured, assets=["customer_features"])
    customers = {week: counted.table("customer_features", week + matured).num_rows for week in (short, fitted)}
    assert customers[short] < customers[fitted]
    asking = Shop.new(tmp_path / "asking")
    text = asking.file.read_text(encoding="utf-8")
    assert text.count("min_customers: 50,") == 1
    asking.file.write_text(text.replace("min_customers: 50,", f"min_customers: {customers[fitted]},"), encoding="utf-8")
    asking.run(sunday, MONDAY)
    labels = {
        week: "baseline" if row["version"] is None else f"{row['model_name']}/{row['version']}"
        for week in (short, fitted)
        for row in [asking.choices(week)["value"]]
    }
    assert labels == {short: "baseline", fitted: "shop.value/1"}
    assert asking.days("customer_value") == [sunday, MONDAY]
    for day, week in {sunday: short, MONDAY: fitted}.items():
        assert {row["model"] for row in asking.rows("customer_value", day)} == {labels[week]}, day


def test_a_range_run_equals_day_by_day_runs(shop: Shop, friday: Shop, tmp_path: Path) -> None:
    """Saturday to Wednesday, with the end of a training week between them: once in one go, once a day at a time."""
    by_day = friday.copied_to(tmp_path / "by-day")
    day = FRIDAY
    while day < WEDNESDAY:
        day += timedelta(days=1)
        by_day.run(day)
    assert differences(shop.partitions(), by_day.partitions()) == []
    assert by_day.registered() == shop.registered()


def test_running_days_and_weeks_again_changes_nothing(shop: Shop, tmp_path: Path) -> None:
    """When Sunday is remade, its own week's choice exists, and it still does not use it."""
    again = shop.copied_to(tmp_path / "again")
    again.run(SUNDAY, NEXT_MONDAY)
    with again.instance() as instance:
        trained = instance.get_run_records(dg.RunsFilter(job_name="shop_weekly"))
        assert len(trained) == 3, "the week that ended was not trained again: this shows less than it says"
    assert differences(shop.partitions(), again.partitions()) == []
    assert again.choices(WEEK) == shop.choices(WEEK)
    assert again.registered() == shop.registered(), "the same fit got a second version"
    assert again.champions() == shop.champions()

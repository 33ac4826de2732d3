"""Day measures: quiet while nothing changes, loud when something does, and independent of later days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from expectations import Past, ValidationSpec, validate
from expectations.days import Measurement, judge_days
from expectations.measures import SILENT, UNKNOWN, VOLUME, DayMeasures, measure
from expectations.profiles import MAX_VALUES, profile
from expectations.references import count_unknown_customers
from expectations.thresholds import FreshnessSpec, ReferenceSpec, ShiftSpec, VolumeSpec
from ml.engine import DuckDB
from ml.tables import INPUTS, TRANSACTIONS
from ml.tables.outputs import INPUT_PROFILES

ENGINE = DuckDB(threads=1)
FIRST = date(2024, 1, 1)
NOTHING = Past(INPUT_PROFILES.empty_days())
SPEC = ValidationSpec()


def world(people: float, lines: int, days: int, seed: int) -> pa.Table:
    """Accepted rows of a business in which nothing changes. Lines of a customer's day are alike, Sundays are busier."""
    rng = np.random.default_rng(seed)
    shoppers = rng.poisson(people * (1 + 0.5 * (np.arange(days) % 7 == 6)))
    day = np.repeat(np.arange(days), shoppers)
    size = 1 + rng.poisson(lines - 1, len(day))
    alike, favourite = np.exp(rng.normal(2, 0.6, len(day))), rng.integers(0, 12, len(day))
    who = np.char.add("c", rng.integers(0, int(people * 20), len(day)).astype(str))
    n = size.sum()
    amount = np.repeat(alike, size) * np.exp(rng.normal(0, 0.7, n))
    category = np.where(rng.random(n) < 0.5, np.repeat(favourite, size), rng.integers(0, 12, n))
    return table(
        customer_id=pa.array(np.repeat(who, size)),
        amount=amount.round(2),
        category=pa.array(np.char.add("k", category.astype(str))),
        discount=pa.array(amount / 10, mask=rng.random(n) < 0.4),
        day=pa.array(np.datetime64(FIRST) + np.repeat(day, size)),
    )


def table(**columns: Any) -> pa.Table:
    n = len(columns["day"])
    schema = TRANSACTIONS.empty_days().schema
    return pa.table({f.name: columns.get(f.name, pa.nulls(n, f.type)) for f in schema}).cast(schema)


def rows_a_day(counts: list[int]) -> pa.Table:
    """So many customers on so many days, one line each."""
    days = [FIRST + timedelta(days=i) for i, n in enumerate(counts) for _ in range(n)]
    who = [f"c{k}" for n in counts for k in range(n)]
    return table(customer_id=pa.array(who, pa.string()), amount=np.ones(len(who)), day=pa.array(days, pa.date32()))


def measures_of(rows: pa.Table, days: int, spec: ValidationSpec = SPEC, past: Past = NOTHING) -> DayMeasures:
    unknown = None if past.customers is None else count_unknown_customers(ENGINE, rows, past.customers)
    return measure(TRANSACTIONS, profile(ENGINE, TRANSACTIONS, rows), unknown, _days(days), spec, past)


def _days(n: int) -> list[date]:
    return [FIRST + timedelta(days=i) for i in range(n)]


def unusual(measures: DayMeasures, spec: ValidationSpec = SPEC) -> dict[date, list[str]]:
    judged = judge_days(TRANSACTIONS, spec, measures)
    failed = {day: [one.measure for one in measures if not one.passed] for day, measures in judged.items()}
    return {day: names for day, names in failed.items() if names}


# ── the null world ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("people", "lines"), [(8, 3), (40, 1), (120, 8), (900, 2)])
def test_where_nothing_changes_at_most_one_day_in_a_hundred_is_unusual(people: int, lines: int) -> None:
    days = 300 if people < 500 else 100
    flagged = [unusual(measures_of(world(people, lines, days, seed), days)) for seed in (1, 2)]
    assert sum(map(len, flagged)) <= 0.01 * 2 * days, flagged


def test_the_index_stays_below_what_chance_explains() -> None:
    """The index itself is above 0 on every day; less what chance explains, it is so on one day in a thousand."""
    rng = np.random.default_rng(3)
    days, n = 200, 150
    day = np.repeat(np.arange(days), n)
    rows = table(
        customer_id=pa.array(np.arange(days * n).astype(str)),
        amount=np.exp(rng.normal(2, 1, days * n)),
        category=pa.array(np.char.add("k", rng.integers(0, 8, days * n).astype(str))),
        day=pa.array(np.datetime64(FIRST) + day),
    )
    measures = measures_of(rows, days, ValidationSpec(shift=ShiftSpec(max_shift=1e-9)))
    beyond = sum(int((measures.values[name] > 0).sum()) for name in ("amount: shift", "category: shift"))
    assert beyond <= 4


# ── a change is flagged ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("column", "changed"),
    [
        ("amount", lambda rows: pc.multiply(rows["amount"], 100.0)),
        ("category", lambda rows: pc.utf8_upper(rows["category"])),
        ("category", lambda rows: pa.nulls(rows.num_rows, pa.string())),
        ("discount", lambda rows: pa.nulls(rows.num_rows, pa.float64())),
    ],
)
def test_a_column_that_changes_is_flagged_with_the_bin_that_did(column: str, changed: Callable[..., Any]) -> None:
    rows = world(120, 3, 40, 5)
    last = FIRST + timedelta(days=39)
    today = pc.equal(rows["day"], pa.scalar(last))
    position = rows.column_names.index(column)
    spoilt = rows.filter(today)
    spoilt = spoilt.set_column(position, column, changed(spoilt))
    measures = measures_of(pa.concat_tables([rows.filter(pc.invert(today)), spoilt]), 40)
    assert unusual(measures) == {last: [f"{column}: shift"]}
    assert "of rows, before" in measures.notes[f"{column}: shift", last]
    allowed = ValidationSpec(shift=ShiftSpec(columns={column: None}))
    assert unusual(measures_of(pa.concat_tables([rows.filter(pc.invert(today)), spoilt]), 40, allowed), allowed) == {}


def test_few_rows_more_or_less_are_no_news_and_many_are() -> None:
    def ratio(usual: int, today: int) -> float:
        return float(measures_of(rows_a_day([usual] * 56 + [today]), 57).values[VOLUME][-1])

    assert ratio(6, 3) == ratio(6, 12) == ratio(200, 190) == 1.0
    assert ratio(1, 30) < 2.0, "a burst of a trickle"
    assert ratio(40, 0) < 0.2 and ratio(200, 60) < 0.5 and ratio(200, 700) > 2.0


def test_the_plain_ratio_is_reported_whatever_allowance_is_made_for_chance() -> None:
    def volume(usual: int, today: int) -> Measurement:
        measures = measures_of(rows_a_day([usual] * 56 + [today]), 57)
        return next(one for one in judge_days(TRANSACTIONS, SPEC, measures)[_days(57)[-1]] if one.measure == VOLUME)

    assert str(volume(2013, 3948)) == "1.96 (3,948 rows, usually 2,013)"
    assert str(volume(1794, 0)) == "0, outside of 0.5 … 2 (0 rows, usually 1,794)"
    assert str(volume(2, 5)) == "2.5 (5 rows, usually 2, no more than chance explains)"


def test_a_day_is_compared_with_the_same_weekday_of_at_least_four_weeks() -> None:
    week = [100, 100, 100, 100, 100, 300, 0]
    ratios = measures_of(rows_a_day(week * 9), 63).values[VOLUME]
    assert np.isnan(ratios[:28]).all() and (ratios[28:] == 1.0).all()


def test_silence_is_counted_from_the_newest_row_and_not_before_the_first() -> None:
    measures = measures_of(rows_a_day([0, 0, 5, 0, 0, 4, *[0] * 9]), 15)
    silent = measures.values[SILENT]
    assert np.isnan(silent[:2]).all() and silent[2:].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert [day for day, names in unusual(measures).items() if SILENT in names] == _days(15)[13:]


def test_unknown_customers_are_counted_and_named_but_flagged_only_on_request() -> None:
    rows = rows_a_day([4, 4])
    known = pa.table({"customer_id": ["c0", "c1", "c3"], "day": pa.array([FIRST, FIRST, _days(2)[1]], pa.date32())})
    past = Past(INPUT_PROFILES.empty_days(), customers=known)
    measures = measures_of(rows, 2, past=past)
    assert measures.values[UNKNOWN].tolist() == [0.5, 0.25]
    assert measures.notes[UNKNOWN, FIRST] == "2 rows of 2 customers: c2, c3"
    assert unusual(measures) == {}
    strict = ValidationSpec(references=ReferenceSpec(max_unknown_share=0.3))
    assert unusual(measures_of(rows, 2, strict, past), strict) == {FIRST: [UNKNOWN]}
    assert UNKNOWN not in measures_of(rows, 2).values


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_measures_are_the_same_alone_or_in_a_range_and_whatever_comes_later() -> None:
    rows = world(60, 3, 70, 9)
    together = measures_of(rows, 70)
    profiles = profile(ENGINE, TRANSACTIONS, rows)
    for n in (5, 33, 62):
        day = FIRST + timedelta(days=n)
        own = rows.filter(pc.equal(rows["day"], pa.scalar(day)))
        past = Past(profiles.filter(pc.less(profiles["day"], pa.scalar(day))), frozenset(_days(n)), FIRST)
        alone = measure(TRANSACTIONS, profile(ENGINE, TRANSACTIONS, own), None, [day], SPEC, past)
        for name, values in together.values.items():
            assert np.array_equal(alone.values[name], values[n : n + 1], equal_nan=True), (name, day)


def test_a_profile_does_not_depend_on_the_order_of_rows_or_on_other_days() -> None:
    rows = world(30, 3, 5, 2)
    together = profile(ENGINE, TRANSACTIONS, rows)
    assert profile(ENGINE, TRANSACTIONS, rows.take(pa.array(np.arange(rows.num_rows)[::-1]))) == together
    one = pc.equal(rows["day"], pa.scalar(FIRST))
    of_one = together.filter(pc.equal(together["day"], pa.scalar(FIRST)))
    assert profile(ENGINE, TRANSACTIONS, rows.filter(one)) == of_one.combine_chunks()


def test_a_profile_counts_every_row_once_a_column_and_stays_small() -> None:
    n = 500
    rows = table(
        customer_id=pa.array(["c"] * n),
        amount=np.linspace(-1e6, 1e6, n),
        category=pa.array([f"v{i}" if i else None for i in range(n)]),
        day=pa.array([FIRST] * n, pa.date32()),
    )
    counts = profile(ENGINE, TRANSACTIONS, rows).to_pylist()
    for column in ("amount", "category", "discount", "transaction_id"):
        assert sum(row["rows"] for row in counts if row["column"] == column) == n
    bins = {row["bin"]: row["rows"] for row in counts if row["column"] == "category"}
    assert len(bins) == MAX_VALUES + 2 and bins[None] == 1 and bins["…"] == n - MAX_VALUES - 1


@pytest.mark.parametrize("name", INPUTS)
def test_a_table_without_rows_or_without_a_past_is_no_problem(name: str) -> None:
    raw = [("source", pa.string()), ("problem", pa.string()), ("delivered", pa.string())]
    empty = INPUTS[name].empty_days()
    for column, kind in raw:
        empty = empty.append_column(column, pa.array([], kind))
    result = validate(ENGINE, INPUTS[name], empty, _days(3), ValidationSpec(), NOTHING)
    assert all(verdict.passed and not verdict.unusual for verdict in result.verdicts.values())
    assert result.profiles is not None and result.profiles.num_rows == 0


# ── settings ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ReferenceSpec(max_unknown_share=2), "max_unknown_share"),
        (lambda: FreshnessSpec(max_days={"transaction": 3}), "'transaction' is not a table"),
        (lambda: VolumeSpec(low=1.5), "low is 1.5"),
        (lambda: VolumeSpec(min_weeks=9), "min_weeks is 9"),
        (lambda: ShiftSpec(max_shift=0), "max_shift is 0"),
        (lambda: ShiftSpec(columns={"amount": -1}), "columns: amount is -1"),
    ],
)
def test_an_impossible_setting_is_refused_by_name(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()

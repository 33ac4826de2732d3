"""A range gives what its days give, one after the other: whatever is missing, equally common, silent or refused."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from expectations import Past, ValidationSpec, validate, validation
from expectations.measures import SILENT, UNKNOWN, VOLUME
from expectations.thresholds import FreshnessSpec, ReferenceSpec, Severity, ShiftSpec, VolumeSpec
from ml.engine import DuckDB
from ml.tables import ARROW, TRANSACTIONS
from ml.tables.outputs import INPUT_PROFILES
from tests.expectations.pieces import one_by_one

ENGINE = DuckDB(threads=1)
FIRST = date(2024, 1, 1)
SHIFT = "category: shift"
NOTHING = Past(INPUT_PROFILES.empty_days())


def _day(n: int) -> date:
    return FIRST + timedelta(days=n)


def delivered(counts: list[int], seed: int = 0, values: int = 40) -> pa.Table:
    """So many rows on so many days, most values equally common; a few rows are broken, a few ids come again."""
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(len(counts)), counts)
    n = len(day)
    amount = rng.choice([1.0, 2.0, 4.0, 8.0], n)
    category = (np.arange(n) + rng.integers(0, 2) * day) % values
    columns = {
        "customer_id": pa.array(np.char.add("c", rng.integers(0, 30, n).astype(str))),
        "occurred_at": pa.array((np.datetime64(FIRST) + day).astype("datetime64[us]") + np.timedelta64(12, "h")),
        "amount": pa.array(np.where(rng.random(n) < 0.02, np.nan, amount)),
        "transaction_id": pa.array(np.char.add("t", rng.integers(0, 20 * n + 1, n).astype(str))),
        "category": pa.array(np.char.add("k", category.astype(str)), mask=rng.random(n) < 0.05),
        "day": pa.array(np.datetime64(FIRST) + day),
    }
    more = [("day", pa.date32()), ("source", pa.string()), ("problem", pa.string()), ("delivered", pa.string())]
    schema = pa.schema([*((c.name, ARROW[c.type]) for c in TRANSACTIONS.columns), *more])
    return pa.table({f.name: columns.get(f.name, pa.nulls(n, f.type)) for f in schema}).cast(schema)


def customers(seed: int) -> pa.Table:
    """Two in three are known, some of them only later."""
    rng = np.random.default_rng(seed)
    since = [_day(int(n)) for n in rng.integers(0, 25, 20)]
    return pa.table({"customer_id": [f"c{i}" for i in range(20)], "day": pa.array(since, pa.date32())})


def strict(severity: Severity, share: float) -> ValidationSpec:
    return ValidationSpec(
        max_refused_share=share,
        references=ReferenceSpec(0.6, severity),
        freshness=FreshnessSpec({"transactions": 2}, severity),
        volume=VolumeSpec(weeks=1, min_weeks=1, severity=severity),
        shift=ShiftSpec(days=7, min_rows=20, severity=severity),
    )


COUNTS = st.lists(st.sampled_from([0, 0, 1, 30, 60, 61, 200]), min_size=30, max_size=30)


@settings(max_examples=6, deadline=None)
@given(
    counts=COUNTS | st.integers(8, 24).map(lambda n: [0] * n + [60] * (30 - n)),
    cuts=st.sets(st.integers(1, 29), max_size=5),
    seed=st.integers(0, 99),
    severity=st.sampled_from(["error", "error", "warning"]),
    share=st.sampled_from([0.03, 0.2]),
)
@example(counts=[0] * 10 + [60] * 20, cuts={9}, seed=0, severity="error", share=0.2)
def test_a_range_gives_what_its_pieces_give(
    counts: list[int], cuts: set[int], seed: int, severity: Severity, share: float
) -> None:
    rows, spec, known = delivered(counts, seed), strict(severity, share), customers(seed)
    days = [_day(n) for n in range(30)]
    (together,) = one_by_one(ENGINE, TRANSACTIONS, rows, [days], spec, known)
    separate = one_by_one(
        ENGINE, TRANSACTIONS, rows, [days[a:b] for a, b in pairwise([0, *sorted(cuts), 30])], spec, known
    )
    for day, verdict in ((day, verdict) for one in separate for day, verdict in one.verdicts.items()):
        assert verdict == together.verdicts[day], day
    for name in ("accepted", "refused", "profiles"):
        parts = Counter(map(repr, (row for one in separate for row in getattr(one, name).to_pylist())))
        assert parts == Counter(map(repr, getattr(together, name).to_pylist())), name
    measures = {one.measure for verdict in together.verdicts.values() for one in verdict.measures}
    assert {UNKNOWN, SILENT, VOLUME, SHIFT} <= measures


def test_a_table_that_has_never_brought_a_row_is_silent_from_the_same_day_on_in_a_range_and_alone() -> None:
    """With only empty days in the lake, nothing is known of earlier ones: beyond the window it counts as silence."""
    rows = delivered([0] * 75 + [5])
    spec = ValidationSpec(freshness=FreshnessSpec({"transactions": 7}, "error"))
    days = [_day(n) for n in range(76)]
    separate = one_by_one(
        ENGINE, TRANSACTIONS, rows, [days[:57], [days[57]], days[58:74], [days[74]], [days[75]]], spec
    )
    refused = [day for one in separate for day, verdict in one.verdicts.items() if not verdict.passed]
    together = validate(ENGINE, TRANSACTIONS, rows, days, spec, NOTHING).verdicts
    assert [day for day in days if not together[day].passed] == refused == days[57:75]


def test_a_silence_beyond_the_window_is_as_long_alone_as_in_a_range() -> None:
    rows = delivered([5] * 3 + [0] * 97)
    spec, days = ValidationSpec(), [_day(n) for n in range(100)]
    together = validate(ENGINE, TRANSACTIONS, rows, days, spec, NOTHING).verdicts
    alone = one_by_one(ENGINE, TRANSACTIONS, rows, [days[:99], days[99:]], spec)[1].verdicts
    (silence,) = (one for one in alone[days[99]].measures if one.measure == SILENT)
    assert silence in together[days[99]].measures
    assert (silence.value, silence.note, silence.passed) == (57, "none in the 56 days before it", False)


def test_of_equally_common_values_the_same_ones_are_compared_alone_and_in_a_range() -> None:
    """Forty values, all equally common, twenty are compared one by one. A day long ago had only half of them."""
    n, names = 20, [f"k{i:02}" for i in range(40)]
    first, usual, last = names[20:] * 40, names * 20, names[10:30] * 40
    rows = delivered([800] * n)
    columns = {
        "category": pa.array([*first, *usual * (n - 2), *last]),
        "amount": pa.array(np.ones(rows.num_rows)),
        "customer_id": pa.array([f"c{i}" for i in range(rows.num_rows)]),
        "transaction_id": pa.nulls(rows.num_rows, pa.string()),
    }
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, values)
    spec = ValidationSpec(volume=VolumeSpec(weeks=1, min_weeks=1), shift=ShiftSpec(days=7))
    days = [_day(i) for i in range(n)]
    together = validate(ENGINE, TRANSACTIONS, rows, days, spec, NOTHING).verdicts[days[-1]]
    # The window does not reach back to the first day: a later piece has never seen the order of its values.
    alone = one_by_one(ENGINE, TRANSACTIONS, rows, [days[:-1], days[-1:]], spec)[1].verdicts[days[-1]]
    (shift,) = (one for one in alone.measures if one.measure == SHIFT)
    assert shift.value is not None and shift.value > 0.1
    assert shift in together.measures


def test_many_refused_days_are_settled_in_few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each silent day is refused, and each refused day could change what those after it are compared with."""
    passes: list[int] = []
    judge_days = validation.judge_days

    def counted(table: object, spec: object, measures: object) -> object:
        passes.append(len(measures.days))  # type: ignore[attr-defined]
        return judge_days(table, spec, measures)  # type: ignore[arg-type]

    monkeypatch.setattr(validation, "judge_days", counted)
    spec = ValidationSpec(max_refused_share=0.5, freshness=FreshnessSpec({"transactions": 7}, "error"))
    days = [_day(n) for n in range(80)]
    past = Past(INPUT_PROFILES.empty_days(), customers=customers(1))
    result = validate(ENGINE, TRANSACTIONS, delivered([40] * 20 + [0] * 60), days, spec, past)
    assert sum(not verdict.passed for verdict in result.verdicts.values()) == 53
    assert len(passes) <= 3, passes

"""Duplicates across days: the first accepted row of an id stays, whatever is judged together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations import Past, Validation, ValidationSpec, validate
from expectations.tallies import Tally, tallies
from expectations.thresholds import FreshnessSpec, ShiftSpec, VolumeSpec
from ml.engine import DuckDB
from ml.tables import ARROW, TRANSACTIONS
from ml.tables.outputs import INPUT_PROFILES
from tests.expectations.pieces import of_days, one_by_one
from tests.mutations.judging import judge
from tests.mutations.mutator import case

ENGINE = DuckDB(threads=1)
FIRST = date(2024, 1, 1)
RULE = "transaction_id: duplicate"


def delivered(rows: Sequence[tuple[int, str | None, float]]) -> pa.Table:
    """Rows of (day, id, amount) as a source gives them."""
    more = [("day", pa.date32()), ("source", pa.string()), ("problem", pa.string()), ("delivered", pa.string())]
    schema = pa.schema([*((c.name, ARROW[c.type]) for c in TRANSACTIONS.columns), *more])
    made = []
    for n, id_, amount in rows:
        day = _day(n)
        stamp = datetime(day.year, day.month, day.day, 12)
        made.append({"customer_id": "1", "occurred_at": stamp, "amount": amount, "transaction_id": id_, "day": day})
    return pa.Table.from_pylist(made, schema=schema)


def _day(n: int) -> date:
    return FIRST + timedelta(days=n)


def at_once(rows: pa.Table, days: int, spec: ValidationSpec = ValidationSpec()) -> Validation:  # noqa: B008
    (result,) = one_by_one(ENGINE, TRANSACTIONS, rows, [[_day(n) for n in range(days)]], spec)
    return result


def refused(result: Validation) -> list[tuple[date, str]]:
    return sorted(zip(result.refused["day"].to_pylist(), result.refused["rule"].to_pylist(), strict=True))


LENIENT = ValidationSpec(max_refused_share=0.9)
CHAIN = [(1, "a", 1.0), (20, "a", 2.0), (40, "a", 3.0), *((n, f"x{n}", 1.0) for n in range(41))]


def test_of_an_id_on_three_days_the_first_stays_and_the_others_are_refused() -> None:
    assert refused(at_once(delivered(CHAIN), 41, LENIENT)) == [(_day(20), RULE), (_day(40), RULE)]


def test_an_id_in_the_lake_is_refused_in_any_later_piece() -> None:
    pieces = [[_day(n) for n in range(a, b)] for a, b in ((0, 2), (2, 20), (20, 21), (21, 41))]
    validations = one_by_one(ENGINE, TRANSACTIONS, delivered(CHAIN), pieces, LENIENT)
    assert [refused(one) for one in validations] == [[], [], [(_day(20), RULE)], [(_day(40), RULE)]]


def test_a_row_that_was_refused_for_something_else_does_not_claim_its_id() -> None:
    rows = [(1, "a", math.nan), *CHAIN[1:]]
    assert refused(at_once(delivered(rows), 41, LENIENT)) == [(_day(1), "amount: not finite"), (_day(40), RULE)]


def test_a_day_that_is_refused_as_a_whole_does_not_claim_its_ids() -> None:
    rows = [*CHAIN, *((1, None, math.nan) for _ in range(50))]
    result = at_once(delivered(rows), 41, LENIENT)
    assert not result.verdicts[_day(1)].passed and result.verdicts[_day(20)].passed
    assert [one for one in refused(result) if one[1] == RULE] == [(_day(40), RULE)]


def test_rows_without_an_id_are_never_duplicates() -> None:
    result = at_once(delivered([(n, None, 1.0) for n in (0, 0, 1, 2)]), 3)
    assert result.accepted.num_rows == 4


def test_the_mutated_files_find_out_a_validation_that_knows_no_earlier_days(tmp_path: Path) -> None:
    """Each of these files repeats an id of an earlier day: the later row must be quarantined."""
    cases = (case(1, number) for number in range(1000))
    repeating = [one for one in cases if not one.expected.refused and one.expected.repeated(one.table, one.zone)]
    assert len(repeating) > 50
    for one in repeating[:4]:
        (folder := tmp_path / str(one.number)).mkdir()
        assert judge(one, folder, ENGINE) == []
        assert any(f"must be quarantined: ('{RULE}'" in said for said in judge(one, folder, ENGINE, validate))


def test_a_purchase_sent_again_a_day_later_does_not_count_and_another_under_its_id_does() -> None:
    strict = ValidationSpec(max_refused_share=0.0)
    rows = [*((n, f"x{n}", 1.0) for n in range(4)), (0, "a", 5.0), (0, "b", 5.0), (1, "a", 5.0), (2, "b", 6.0)]
    whole = at_once(delivered(rows), 4, strict)
    assert [whole.verdicts[_day(n)].passed for n in range(4)] == [True, True, False, True]
    assert refused(whole) == [(_day(1), RULE), (_day(2), RULE)]
    days = one_by_one(ENGINE, TRANSACTIONS, delivered(rows), [[_day(n)] for n in range(4)], strict)
    assert [one.verdicts[_day(n)] for n, one in enumerate(days)] == list(whole.verdicts.values())


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from([None, "a", "b", "c"]), st.sampled_from([1.0, 2.0, math.nan])),
        max_size=24,
    ),
    undated=st.dictionaries(st.integers(0, 6), st.integers(1, 4), max_size=3),
    share=st.sampled_from([0.0, 0.3, 0.5]),
    few=st.sampled_from([1, 3]),
    cut=st.integers(1, 6),
)
def test_what_a_first_look_counts_is_what_the_gate_decides(
    rows: list[tuple[int, str | None, float]], undated: dict[int, int], share: float, few: int, cut: int
) -> None:
    spec, table = ValidationSpec(max_refused_share=share, min_refused_rows=few), delivered(rows)
    lost = {_day(n): count for n, count in undated.items()}
    past = Past(INPUT_PROFILES.empty_days(), ids=table.slice(0, 0))
    days = [_day(n) for n in range(7)]
    gate = validate(ENGINE, TRANSACTIONS, table, days, spec, past, lost)
    by_day: dict[date, Tally] = {}
    earlier = table.slice(0, 0).select([*TRANSACTIONS.names, "day"])
    for piece in (days[:cut], days[cut:]):
        tally, accepted = tallies(ENGINE, TRANSACTIONS, of_days(table, piece), piece, spec, lost, earlier)
        by_day |= tally
        earlier = pa.concat_tables([earlier, of_days(accepted, [day for day in piece if tally[day].passes])])
    for day, verdict in gate.verdicts.items():
        one = by_day[day]
        counted = (one.rows, one.counted, one.undated, one.rules, one.passes)
        assert counted == (verdict.rows, verdict.counted, verdict.undated, verdict.rules, verdict.passed), day


ROW = st.tuples(
    st.integers(0, 6), st.sampled_from([None, "a", "b", "c", "d", "e"]), st.sampled_from([1.0, 2.0, 3.0, math.nan])
)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(ROW, max_size=24),
    cuts=st.sets(st.integers(1, 6)),
    share=st.sampled_from([0.0, 0.3, 0.5]),
    strict=st.booleans(),
)
def test_a_range_gives_what_its_days_give(
    rows: list[tuple[int, str | None, float]], cuts: set[int], share: float, strict: bool
) -> None:
    """Rows, verdicts, measures and profiles; also where a refused day frees ids, and the days after it are compared."""
    spec = ValidationSpec(max_refused_share=share)
    if strict:
        spec = ValidationSpec(
            max_refused_share=share,
            min_refused_rows=1,
            freshness=FreshnessSpec({"transactions": 1}, "error"),
            volume=VolumeSpec(weeks=1, min_weeks=1, severity="error"),
            shift=ShiftSpec(min_rows=1, severity="error"),
        )
    table = delivered(rows)
    together = at_once(table, 7, spec)
    edges = [0, *sorted(cuts), 7]
    pieces = [[_day(n) for n in range(a, b)] for a, b in pairwise(edges)]
    separate = one_by_one(ENGINE, TRANSACTIONS, table, pieces, spec)
    verdicts: dict[date, Any] = {day: verdict for one in separate for day, verdict in one.verdicts.items()}
    assert verdicts == together.verdicts
    for name in ("accepted", "refused", "profiles"):
        parts = Counter(map(repr, (row for one in separate for row in getattr(one, name).to_pylist())))
        assert parts == Counter(map(repr, getattr(together, name).to_pylist())), name
    assert together.accepted.num_rows + together.refused.num_rows == len(rows)
    kept = together.accepted.filter(pc.is_in(
        together.accepted["day"], pa.array([d for d, v in together.verdicts.items() if v.passed], pa.date32())
    ))  # fmt: skip
    ids = [id_ for id_ in kept["transaction_id"].to_pylist() if id_ is not None]
    assert len(ids) == len(set(ids)), "an id is accepted twice"

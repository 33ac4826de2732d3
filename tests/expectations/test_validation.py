"""Validation: no row is lost, every refusal has a name, and a day is judged by its own rows alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations import RuleSpec, ValidationSpec, rule_names, validate
from expectations.refusals import exact_repeats
from ml.engine import DuckDB
from ml.tables import ARROW, INPUTS, QUARANTINE, TRANSACTIONS, Column, Table

ENGINE = DuckDB(threads=1)
FIRST = date(2017, 1, 1)
DAYS = [FIRST + timedelta(days=i) for i in range(4)]
SPEC = ValidationSpec()


def delivered(table: Table, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a source gives them."""
    schema = pa.schema(
        [
            *((c.name, ARROW[c.type]) for c in table.columns),
            ("day", pa.date32()),
            ("source", pa.string()),
            ("problem", pa.string()),
            ("delivered", pa.string()),
        ]
    )
    return pa.Table.from_pylist([{"source": "a.csv", "day": FIRST} | row for row in rows], schema=schema)


def line(**values: Any) -> dict[str, Any]:
    day = values.get("day", FIRST)
    return {"customer_id": "1", "occurred_at": datetime(day.year, day.month, day.day, 12), "amount": 1.0} | values


def rows_of(table: pa.Table) -> Counter[str]:
    return Counter(json.dumps(row, default=str, sort_keys=True) for row in table.to_pylist())


NUMBER = st.sampled_from([None, 0.0, 1.0, -3.0, 1e6, 1.1e6, -1e12, math.nan, math.inf, -math.inf])
DIRTY = st.builds(
    line,
    day=st.sampled_from(DAYS[:3]),
    customer_id=st.sampled_from([None, "", "1", "2"]),
    occurred_at=st.sampled_from([None, datetime(2017, 1, 2, 3), datetime(1990, 1, 1), datetime(2290, 1, 1)]),
    amount=NUMBER,
    discount=NUMBER,
    quantity=NUMBER,
    transaction_id=st.sampled_from([None, None, "a", "b", "c"]),
    problem=st.sampled_from([None, None, None, "amount: not a number", "file: delivered before"]),
)
GOOD = st.builds(line, day=st.sampled_from(DAYS[:3]), customer_id=st.sampled_from(["1", "2"]))
TABLES = st.lists(st.one_of(DIRTY, GOOD, GOOD, GOOD), max_size=30).map(lambda rows: delivered(TRANSACTIONS, rows))


@settings(max_examples=12, deadline=None)
@given(rows=TABLES)
def test_rows_in_are_rows_accepted_plus_rows_refused(rows: pa.Table) -> None:
    out = validate(ENGINE, TRANSACTIONS, rows, DAYS, SPEC)
    columns = [*TRANSACTIONS.names, "day"]
    assert out.accepted.num_rows + out.refused.num_rows == rows.num_rows
    assert not rows_of(out.accepted) - rows_of(rows.select(columns))
    assert out.accepted.column_names == columns
    assert out.refused.column_names == [*QUARANTINE.names, "day"]
    assert not any(out.refused[name].null_count for name in out.refused.column_names)
    assert set(out.refused["rule"].to_pylist()) <= set(rule_names(TRANSACTIONS))
    for text in out.refused["row"].to_pylist():
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    for day, verdict in out.verdicts.items():
        assert verdict.rows == rows["day"].to_pylist().count(day)
        assert verdict.refused == sum(verdict.rules.values()) == out.refused["day"].to_pylist().count(day)
    for row in out.accepted.to_pylist():
        assert row["customer_id"] and math.isfinite(row["amount"]) and abs(row["amount"]) <= 1e6
        assert (row["discount"] or 0) >= 0


@settings(max_examples=6, deadline=None)
@given(
    rows=TABLES, min_rows=st.sampled_from([0, 3]), share=st.sampled_from([0.0, 0.2, 0.5]), few=st.sampled_from([1, 3])
)
def test_a_days_verdict_is_the_same_alone_or_in_a_range(rows: pa.Table, min_rows: int, share: float, few: int) -> None:
    spec = ValidationSpec(max_refused_share=share, min_refused_rows=few, min_rows={"transactions": min_rows})
    together = validate(ENGINE, TRANSACTIONS, rows, DAYS, spec)
    for day in DAYS:
        own = rows.filter(pa.array([d == day for d in rows["day"].to_pylist()], pa.bool_()))
        alone = validate(ENGINE, TRANSACTIONS, own, [day], spec)
        assert alone.verdicts[day] == together.verdicts[day]
        assert rows_of(alone.accepted) == rows_of(_of_day(together.accepted, day))
        assert rows_of(alone.refused) == rows_of(_of_day(together.refused, day))
        counted = alone.verdicts[day].counted
        known = {rule: n for rule, n in alone.verdicts[day].rules.items() if SPEC.severity.get(rule) != "warning"}
        assert sum(known.values()) - known.get("transaction_id: duplicate", 0) <= counted <= sum(known.values())
        over = counted > share * own.num_rows + 1e-9 and (counted >= few or not share)
        assert alone.verdicts[day].passed == (own.num_rows >= min_rows and not over)


def _of_day(table: pa.Table, day: date) -> pa.Table:
    return table.filter(pa.array([d == day for d in table["day"].to_pylist()], pa.bool_()))


def test_a_day_at_the_limit_passes_and_a_day_over_it_fails() -> None:
    def day(number: int, bad: int) -> list[dict[str, Any]]:
        return [line(day=DAYS[number], amount=math.nan if i < bad else 1.0) for i in range(100)]

    out = validate(ENGINE, TRANSACTIONS, delivered(TRANSACTIONS, day(0, 5) + day(1, 6) + day(2, 0)), DAYS, SPEC)
    assert [out.verdicts[d].passed for d in DAYS] == [True, False, True, True]
    failed = out.verdicts[DAYS[1]]
    assert "refused_by: expect_column_values_to_be_null" in failed.failed_expectations
    assert failed.rules == {"amount: not finite": 6} and failed.refused_share == 0.06
    assert len(json.dumps(failed.results)) < 2000


@pytest.mark.parametrize(("rows", "bad", "passes"), [(13, 1, True), (13, 2, True), (13, 4, False), (1, 1, True),
                                                     (59, 2, True), (59, 3, False), (3, 3, False)])  # fmt: skip
def test_a_few_refused_rows_do_not_refuse_a_small_day(rows: int, bad: int, passes: bool) -> None:
    day = delivered(TRANSACTIONS, [line(amount=math.nan if i < bad else 1.0) for i in range(rows)])
    verdict = validate(ENGINE, TRANSACTIONS, day, [FIRST], SPEC).verdicts[FIRST]
    assert verdict.passed == passes and verdict.counted == bad


def test_allowing_no_refused_row_applies_to_small_days_too() -> None:
    day = delivered(TRANSACTIONS, [line(amount=math.nan), *(line() for _ in range(12))])
    assert not validate(ENGINE, TRANSACTIONS, day, [FIRST], ValidationSpec(max_refused_share=0)).verdicts[FIRST].passed


def test_setting_one_severity_leaves_the_others_as_they_are() -> None:
    spec = ValidationSpec(severity={"discount: below 0": "warning"})
    rows = [line(problem="file: delivered before", delivered="{}")] * 50 + [line()] * 50
    assert validate(ENGINE, TRANSACTIONS, delivered(TRANSACTIONS, rows), [FIRST], spec).verdicts[FIRST].passed


def test_rows_without_a_day_count_against_the_day_they_may_belong_to() -> None:
    rows = delivered(TRANSACTIONS, [line(day=DAYS[0])] * 100 + [line(day=DAYS[1])] * 100 + [line(day=DAYS[3])])
    undated = {DAYS[0]: 5, DAYS[1]: 100, DAYS[2]: 100}
    verdicts = validate(ENGINE, TRANSACTIONS, rows, DAYS, SPEC, undated=undated).verdicts
    assert [verdicts[day].passed for day in DAYS] == [True, False, False, True]
    assert [(verdicts[day].rows, verdicts[day].undated) for day in DAYS] == [(100, 5), (100, 100), (0, 100), (1, 0)]
    assert all("refused_by: expect_column_values_to_be_null" in verdicts[day].failed_expectations for day in DAYS[1:3])


def sold(hour: int, **values: Any) -> dict[str, Any]:
    return line(occurred_at=datetime(2017, 1, 1, hour), transaction_id="t", **values)


def test_a_purchase_that_a_reloaded_page_sends_again_is_dropped_and_does_not_count() -> None:
    rows = delivered(TRANSACTIONS, [sold(20), sold(9), sold(9), *(line() for _ in range(10))])
    out = validate(ENGINE, TRANSACTIONS, rows, [FIRST], ValidationSpec(min_refused_rows=1))
    verdict = out.verdicts[FIRST]
    assert verdict.passed and (verdict.refused, verdict.counted) == (2, 0)
    assert out.refused["rule"].to_pylist() == ["transaction_id: duplicate"] * 2, "nothing is lost"
    kept = [row for row in out.accepted.to_pylist() if row["transaction_id"] == "t"]
    assert [row["occurred_at"] for row in kept] == [datetime(2017, 1, 1, 9)], "the first one holds"


def test_other_purchases_under_one_id_count_against_the_day() -> None:
    """Who maps the number of an order as that of a line would lose most of the lines without a word."""
    rows = delivered(TRANSACTIONS, [sold(9, amount=float(n)) for n in range(5)] + [line() for _ in range(10)])
    verdict = validate(ENGINE, TRANSACTIONS, rows, [FIRST], SPEC).verdicts[FIRST]
    assert not verdict.passed and (verdict.refused, verdict.counted) == (4, 4)


@pytest.mark.parametrize(("severity", "counted"), [("warning", 0), ("error", 3)])
def test_a_severity_of_duplicates_applies_to_all_of_them(severity: Any, counted: int) -> None:
    spec = ValidationSpec(severity={"transaction_id: duplicate": severity})
    rows = delivered(TRANSACTIONS, [sold(9), sold(10), sold(11, amount=7.0), sold(12, customer_id="2")])
    assert validate(ENGINE, TRANSACTIONS, rows, [FIRST], spec).verdicts[FIRST].counted == counted


def test_the_newest_row_of_a_customer_and_day_is_accepted_and_older_ones_do_not_count() -> None:
    table = INPUTS["customers"].plus((Column("region", "string", "where"),))
    said = [("1", 8, "east"), ("1", 18, "west"), ("2", 18, "east"), ("2", 8, "west")]
    rows = [{"customer_id": who, "registered_at": datetime(2017, 1, 1, hour), "region": region}
            for who, hour, region in said]  # fmt: skip
    out = validate(ENGINE, table, delivered(table, rows), [FIRST], ValidationSpec(min_refused_rows=1))
    assert {row["customer_id"]: row["region"] for row in out.accepted.to_pylist()} == {"1": "west", "2": "east"}
    assert out.verdicts[FIRST].passed and (out.verdicts[FIRST].refused, out.verdicts[FIRST].counted) == (2, 0)


def test_rows_of_one_customer_that_contradict_each_other_at_one_time_count() -> None:
    table = INPUTS["customers"].plus((Column("region", "string", "where"),))
    rows = [{"customer_id": f"{n % 4}", "region": region} for n, region in enumerate("aaaabbaa")]
    verdict = validate(ENGINE, table, delivered(table, rows), [FIRST], SPEC).verdicts[FIRST]
    assert (verdict.refused, verdict.counted) == (4, 2), "the last two say the same again"


@pytest.mark.parametrize(
    ("duplicates", "accepted", "passes"), [("keep", 30, True), ("keep one", 20, True), ("refuse", 20, False)]
)
def test_rows_equal_in_every_column_are_kept_or_not_as_the_project_says(
    duplicates: Any, accepted: int, passes: bool
) -> None:
    rows = [line(amount=float(n)) for n in range(20)]
    again = [line(amount=float(n)) | {"source": "second.csv"} for n in range(10)]
    table = delivered(TRANSACTIONS, rows + again)
    out = validate(ENGINE, TRANSACTIONS, table, [FIRST], ValidationSpec(duplicates=duplicates))
    assert out.accepted.num_rows == accepted and out.accepted.num_rows + out.refused.num_rows == 30
    assert set(out.refused["rule"].to_pylist()) <= {"row: equal to another"}
    assert out.verdicts[FIRST].passed == passes
    assert exact_repeats(ENGINE, TRANSACTIONS, table).to_pylist() == [{"day": FIRST, "repeats": 10, "singles": 10}]


def test_a_sparse_optional_column_cannot_fail_a_day_but_is_reported() -> None:
    rows = [line() for _ in range(98)] + [line(discount=-1.0), line(discount=1.0)]
    verdict = validate(ENGINE, TRANSACTIONS, delivered(TRANSACTIONS, rows), [FIRST], SPEC).verdicts[FIRST]
    assert verdict.passed and verdict.warnings == ["discount: expect_column_values_to_be_between"]


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"customer_id": " "}, "customer_id: missing"),
        ({"amount": None}, "amount: missing"),
        ({"amount": math.inf}, "amount: not finite"),
        ({"amount": -2e6}, "amount: beyond ±1,000,000"),
        ({"discount": -0.5}, "discount: below 0"),
        ({"quantity": 2e9}, "quantity: beyond ±1,000,000,000"),
        ({"margin": math.nan}, "margin: not finite"),
        ({"occurred_at": datetime(2017, 1, 9)}, "occurred_at: outside of its day"),
        ({"occurred_at": datetime(2016, 1, 9)}, "occurred_at: outside of its day"),
        (
            {"amount": math.nan, "problem": "discount: not a number", "delivered": '{"discount":"x"}'},
            "discount: not a number",
        ),
    ],
)
def test_the_first_broken_rule_names_the_refusal(values: dict[str, Any], rule: str) -> None:
    out = validate(ENGINE, TRANSACTIONS, delivered(TRANSACTIONS, [line(**values)]), [FIRST], SPEC)
    (refused,) = out.refused.to_pylist()
    assert (refused["rule"], refused["table"], refused["source"]) == (rule, "transactions", "a.csv")
    assert refused["row"] == values.get("delivered", refused["row"])


@pytest.mark.parametrize(
    ("table", "values", "rule"),
    [
        ("exposures", {"exposed_at": datetime(2017, 1, 1), "action": " "}, "action: missing"),
        (
            "exposures",
            {"exposed_at": datetime(2017, 1, 1), "action": "a", "propensity": 1.2},
            "propensity: not between 0 and 1",
        ),
        ("events", {"occurred_at": datetime(2017, 1, 1)}, "event_type: missing"),
        ("balances", {"as_of": datetime(2017, 1, 1)}, "balance: missing"),
        ("customers", {"customer_id": None}, "customer_id: missing"),
    ],
)
def test_every_table_has_rules(table: str, values: dict[str, Any], rule: str) -> None:
    rows = delivered(INPUTS[table], [{"customer_id": "1"} | values])
    assert validate(ENGINE, INPUTS[table], rows, [FIRST], SPEC).refused["rule"].to_pylist() == [rule]


def test_a_repeated_transaction_keeps_one_row_whatever_the_order() -> None:
    rows = [line(transaction_id="t", amount=a) for a in (3.0, 1.0, math.nan, 2.0)]
    rows += [line(transaction_id=None)] * 2 + [line(day=DAYS[1], transaction_id="t", amount=9.0)]
    outcomes = []
    for order in (rows, rows[::-1]):
        out = validate(ENGINE, TRANSACTIONS, delivered(TRANSACTIONS, order), DAYS, SPEC)
        kept = zip(out.accepted["amount"].to_pylist(), out.accepted["transaction_id"].to_pylist(), strict=True)
        outcomes.append(sorted(kept, key=str))
        assert Counter(out.refused["rule"].to_pylist()) == {"transaction_id: duplicate": 2, "amount: not finite": 1}
    assert outcomes[0] == outcomes[1] == [(1.0, "t"), (1.0, None), (1.0, None), (9.0, "t")]


def test_a_customer_delivered_on_two_days_is_no_duplicate() -> None:
    rows = delivered(INPUTS["customers"], [{"customer_id": "1", "day": d} for d in (*DAYS[:2], DAYS[0])])
    out = validate(ENGINE, INPUTS["customers"], rows, DAYS, SPEC)
    assert out.accepted.num_rows == 2 and out.refused["rule"].to_pylist() == ["customer_id: duplicate"]


def test_a_day_without_rows_passes_with_a_warning_unless_rows_are_asked_for() -> None:
    empty = delivered(TRANSACTIONS, [])
    relaxed = validate(ENGINE, TRANSACTIONS, empty, DAYS, SPEC).verdicts[FIRST]
    assert relaxed.passed and relaxed.warnings == ["no rows were delivered"]
    strict = validate(ENGINE, TRANSACTIONS, empty, DAYS, ValidationSpec(min_rows={"transactions": 1})).verdicts[FIRST]
    assert not strict.passed and strict.failed_expectations == ["table: expect_table_row_count_to_be_between"]


def test_a_warning_refuses_rows_without_counting_them() -> None:
    rows = delivered(TRANSACTIONS, [line(discount=-1.0)] * 50 + [line()] * 50)
    spec = ValidationSpec(severity={"discount: below 0": "warning"})
    verdict = validate(ENGINE, TRANSACTIONS, rows, [FIRST], spec).verdicts[FIRST]
    assert verdict.passed and verdict.refused == 50
    assert not validate(ENGINE, TRANSACTIONS, rows, [FIRST], SPEC).verdicts[FIRST].passed


def test_a_project_may_add_rules() -> None:
    spec = ValidationSpec(rules=(RuleSpec("transactions", "a category is given", "category IS NOT NULL"),))
    rows = delivered(TRANSACTIONS, [line(), line(category="x")])
    assert validate(ENGINE, TRANSACTIONS, rows, [FIRST], spec).refused["rule"].to_pylist() == ["a category is given"]
    assert "a category is given" in rule_names(TRANSACTIONS, spec)


def test_rows_of_another_day_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="2017-01-02"):
        validate(ENGINE, TRANSACTIONS, delivered(TRANSACTIONS, [line(day=DAYS[1])]), [FIRST], SPEC)


def test_the_page_shows_what_was_expected_and_what_was_delivered() -> None:
    from expectations.docs import data_docs

    rows = delivered(TRANSACTIONS, [line(amount=math.nan), line(), line(day=DAYS[1])])
    text = data_docs(ENGINE, TRANSACTIONS, rows, FIRST, SPEC)
    assert "transactions, 2017-01-01" in text
    assert "amount: not finite" in text and "2017-01-02" not in text


def test_importing_the_rules_does_not_import_great_expectations() -> None:
    import subprocess
    import sys

    code = "import sys, expectations.docs; sys.exit(bool({'great_expectations', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Rules that people write: what is no pure predicate over known columns is one sentence, before anything runs."""

from __future__ import annotations

import pytest

from ml.rules import RuleError, bind, parse_scalar

COLUMNS = {"orders": "bigint", "spend": "double", "region": "string", "since": "date"}


@pytest.mark.parametrize(
    "rule",
    [
        "orders > 1 AND spend / orders > $cut",
        "region LIKE 'N%' OR region IS NULL",
        "date_diff('day', since, DATE '2024-01-01') > 30",
        "spend > '5'",
        "ln(spend - 1) > 2",
        "CAST(region AS DOUBLE) > 3",
        " OR ".join(f"orders = {n}" for n in range(400)),
        "(" * 40 + "orders > 1" + ")" * 40,
        "true",
    ],
    ids=lambda rule: rule[:30],
)
def test_a_rule_that_can_be_computed_is_accepted(rule: str) -> None:
    assert bind(rule, COLUMNS, ["cut"]).sql("duckdb")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("region > 1", "cannot be computed: Cannot compare"),
        ("region + 1 > 2", "cannot be computed"),
        ("spend > 'much'", "Could not convert string 'much'"),
        ("since > 'soon'", "invalid date"),
        ("spend", "is not true or false but DOUBLE: write a comparison"),
        ("lower(spend) = 'a'", "cannot be computed"),
        ("spend::no_such_type > 1", "Type with name no_such_type does not exist"),
        ("nothing > 1", "is not a column"),
    ],
)
def test_a_rule_that_cannot_be_computed_says_why_without_any_rows(rule: str, says: str) -> None:
    with pytest.raises(RuleError, match=says) as error:
        bind(rule, COLUMNS)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "attempt",
    [
        'spend::"/etc/passwd"',
        "CAST(spend AS \"x) FROM read_text('/etc/passwd') --\")",
        "(" * 5000 + "spend" + ")" * 5000,
        "(" * 200 + "spend" + ")" * 200,
        "NOT " * 5000 + "true",
        "-" + "(-" * 3000 + "spend" + ")" * 3000,
        "abs(" * 1000 + "spend" + ")" * 1000,
        "CASE WHEN true THEN " * 500 + "1" + " END" * 500,
        "spend + " * 3000 + "1",
        "(SELECT 1)",
        "read_text('/etc/passwd')",
        "spend; SELECT 1",
        "",
    ],
    ids=lambda attempt: attempt[:30] or "nothing",
)
def test_what_is_more_than_a_rule_is_one_sentence(attempt: str) -> None:
    for check in (lambda: parse_scalar(attempt), lambda: bind(attempt, COLUMNS)):
        with pytest.raises(ValueError) as error:
            check()
        assert isinstance(error.value, RuleError)
        assert len(str(error.value).splitlines()) == 1

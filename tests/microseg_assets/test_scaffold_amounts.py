"""Amounts in every common notation: `microseg new` keeps their signs, and says what it cannot know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microseg_assets import project as projects
from microseg_assets import scaffold
from microseg_assets.scaffold.amounts import disagreement
from microseg_assets.scaffold.columns import SourceColumn, number

FIRST = date(2024, 1, 1)


def comma(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def point(value: float) -> str:
    return f"{value:,.2f}"


# How a sale and a refund are written; the figures come from `comma` or `point`.
NOTATIONS: dict[str, tuple[Callable[[float], str], str, str]] = {
    "minus of Unicode, sign behind": (comma, "{} €", "−{} €"),
    "en dash": (comma, "{} €", "–{} €"),
    "hyphen that does not break": (comma, "{} EUR", "‑{} EUR"),
    "full-width minus": (point, "¥{}", "－¥{}"),
    "minus between sign and figures": (point, "${}", "$-{}"),
    "minus before the sign": (point, "${}", "-${}"),
    "brackets around all": (point, "${}", "(${})"),
    "brackets around the figures": (point, "${}", "$({})"),
    "brackets without a currency": (point, "{}", "({})"),
    "trailing minus": (point, "{}", "{}-"),
    "trailing minus before the currency": (comma, "{} EUR", "{}- EUR"),
    "CR": (point, "{} DR", "{} CR"),
    "CR against nothing": (point, "{}", "{}CR"),
    "credit word": (point, "£{}", "£{} credit"),
    "Gutschrift": (comma, "{}", "Gutschrift {}"),
    "plus and minus": (comma, "+{}", "-{}"),
    "blank after the minus": (comma, "{} kr", "- {} kr"),
    "apostrophes": (lambda v: f"{v:,.2f}".replace(",", "’"), "CHF {}", "CHF -{}"),
    "narrow blanks": (lambda v: f"{v:,.2f}".replace(",", "\u202f").replace(".", ","), "{} €", "−{} €"),
}


def column(values: Sequence[str], *, missing: int = 0) -> SourceColumn:
    different = tuple(dict.fromkeys(values))
    return SourceColumn("Betrag €", "VARCHAR", len(values) + missing, missing, len(different), different)


@pytest.mark.parametrize("notation", NOTATIONS)
@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 900_000), st.booleans()), min_size=4, max_size=40))
def test_the_expression_gives_every_sign_whatever_the_notation(notation: str, amounts: list[tuple[int, bool]]) -> None:
    figures, sale, refund = NOTATIONS[notation]
    amounts = [*amounts, (123_456, False), (250_050, True), (1_250, False), (999, False)]
    written = {
        (refund if back else sale).format(figures(n / 100)): -n / 100 if back else n / 100 for n, back in amounts
    }
    numbers = number(column(list(written)))
    assert numbers is not None
    assert disagreement(numbers.expression, "Betrag €", list(written), list(written.values())) == ""
    assert numbers.minimum < 0 < numbers.maximum
    assert "correct the expression" not in numbers.doubt


@pytest.mark.parametrize("notation", ["minus of Unicode, sign behind", "brackets around all", "trailing minus", "CR"])
def test_refunds_stay_refunds_through_new_and_the_reader(tmp_path: Path, notation: str) -> None:
    """2 % of 3,000 lines, so that they are a small part of the sample."""
    figures, sale, refund = NOTATIONS[notation]
    amounts = [(-1 if i % 50 == 7 else 1) * (101 + i * 37 % 90_000) / 100 for i in range(3_000)]
    lines = [
        f'c{i % 97};{FIRST + timedelta(days=i // 20)};"{(refund if a < 0 else sale).format(figures(abs(a)))}"'
        for i, a in enumerate(amounts)
    ]
    (tmp_path / "sales.csv").write_text("\n".join(["customer_id;date;amount", *lines]), encoding="utf-8")
    project = projects.load(str(scaffold.new("shop", [str(tmp_path / "sales.csv")], tmp_path)))
    source = project.source("transactions")
    assert source is not None and project.end is not None
    rows = source.rows(project.start, project.end)
    assert rows["problem"].null_count == rows.num_rows == 3_000
    assert sorted(rows["amount"].to_pylist()) == pytest.approx(sorted(amounts))


def test_a_notation_that_one_value_in_a_thousand_has_is_seen_in_the_file(tmp_path: Path) -> None:
    lines = [f"c{i % 97};{FIRST + timedelta(days=i // 50)};{i + 1},50 €" for i in range(5_000)]
    lines[::1000] = [f"c1;{FIRST};−{i},00 €" for i in range(1, 6)]
    (tmp_path / "sales.csv").write_text("\n".join(["customer_id;date;amount", *lines]), encoding="utf-8")
    project = projects.load(str(scaffold.new("shop", [str(tmp_path / "sales.csv")], tmp_path)))
    source = project.source("transactions")
    assert source is not None and project.end is not None
    amounts = source.rows(project.start, project.end)["amount"].to_pylist()
    assert sorted(a for a in amounts if a < 0) == [-5, -4, -3, -2, -1]


@pytest.mark.parametrize("later", ["−5,00 €", "(5,00 €)", "5,00- €", "5,00 € CR", "$5,00"])
def test_an_amount_in_a_new_notation_tomorrow_is_no_number_rather_than_a_sale(later: str) -> None:
    numbers = number(column(["12,50 €", "3,00 €"]))
    assert numbers is not None
    assert disagreement(numbers.expression, "Betrag €", [later], [5.0]) == later
    assert disagreement(numbers.expression, "Betrag €", ["4,00 €"], [4.0]) == ""


@pytest.mark.parametrize(("written", "value"), [("12,- €", 12), ("1.250,– €", 1250), ("12,50 €", 12.5)])
def test_a_dash_in_place_of_cents_is_no_minus(written: str, value: float) -> None:
    values = ["12,- €", "1.250,– €", "12,50 €", "−3,00 €"]
    numbers = number(column(values))
    assert numbers is not None and not numbers.doubt
    assert disagreement(numbers.expression, "Betrag €", [written], [value]) == ""


def test_credits_that_are_the_rule_and_several_currencies_are_left_to_the_user() -> None:
    credits = number(column(["5.00 CR", "6.00 CR", "7.00 CR", "1.00 DR"]))
    assert credits is not None and "most are credits" in credits.doubt
    mixed = number(column(["5.00 €", "$6.00", "£7.00"]))
    assert mixed is not None and "amounts in $, £ and €" in mixed.doubt


def test_an_expression_that_the_sample_contradicts_is_doubted() -> None:
    fullwidth = number(column(["１２,50 €", "１,50 €"]))
    assert fullwidth is None or "is not read as it seems to be meant" in fullwidth.doubt

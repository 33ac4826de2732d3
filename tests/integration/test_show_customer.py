"""`microseg show customer`: the stage with the figures behind it, since when truly, and what caused each step."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from microseg_assets.cli import customer
from microseg_assets.cli.customer import Customer, describe, since
from microseg_assets.storage import choices, history
from ml import tables
from ml.lifecycle.verdicts import Comparison
from tests.integration.shop import FRIDAY, MONDAY, Shop

WINDOW = "51 days ($churn_after)"


@pytest.mark.parametrize(
    ("comparison", "words"),
    [
        (("recency_days", ">", "churn_after", 88, 51, True), f"last purchase 88 days ago, more than {WINDOW}"),
        (("recency_days", ">", "churn_after", 3, 51, False), f"last purchase 3 days ago, at most {WINDOW}"),
        (("recency_days", ">", "churn_after", None, 51, None), "no purchase yet"),
        (("recency_days", "is missing", "", None, None, True), "no purchase yet"),
        (("ltv", ">=", "star_cut", 120.0, 435.5, False), "lifetime value 120 EUR, less than 436 EUR ($star_cut)"),
        (("ltv", ">=", "star_cut", 120.0, None, None), "lifetime value 120 EUR, and $star_cut is not known yet"),
        (("comeback_gap_days", ">", "churn_after", 0, 60, False), "no silence ended in the last 30 days"),
        (("purchase_days", "=", "1", 1, 1, True), "days with a purchase so far 1, equal to 1"),
        (
            ("spend_28d", ">", "1.5 * spend_prev_28d", 90.0, 60.0, True),
            "spend in 28 days 90.00 EUR, more than 60.00 EUR (1.5 * spend_prev_28d)",
        ),
    ],
)  # fmt: skip
def test_a_comparison_is_shown_with_figure_unit_and_threshold(comparison: tuple[object, ...], words: str) -> None:
    assert describe(Comparison(*comparison), "EUR") == words  # type: ignore[arg-type]


def shown(shop: Shop, who: str, capsys: pytest.CaptureFixture[str]) -> str:
    customer.show(shop.workspace, FRIDAY, who)
    return capsys.readouterr().out


def some(shop: Shop, stage: str, count: int = 2) -> list[str]:
    rows = shop.workspace.lake.read(tables.LIFECYCLE_STAGES, FRIDAY)
    customers: list[str] = rows.filter(pc.equal(rows["stage"], stage))["customer_id"].to_pylist()
    return customers[:count]


@pytest.mark.parametrize("stage", ["churn", "active", "new", "star", "prospect"])
def test_the_reasons_are_those_of_the_published_stage(
    friday: Shop, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for who in some(friday, stage):
        out = shown(friday, who, capsys)
        assert re.search(rf"^  Stage: {stage}\b", out, re.MULTILINE)
        assert "$churn_after = " in out
        if stage == "churn":
            assert re.search(r"because: last purchase \d+ days ago, more than \d+ days \(\$churn_after\)", out)
        if stage == "active":
            assert "not churn: last purchase" in out and "not star: lifetime value" in out


def test_a_spell_that_began_before_the_record_has_its_true_first_day(friday: Shop) -> None:
    """By the models in force on the day: the stage on every day from there on, and another one the day before."""
    workspace = friday.workspace
    models = choices.load_models(workspace, workspace.calendar.serving_week(FRIDAY), without=("layers",))
    facts = history.history_from_facts(workspace, FRIDAY)
    checked = 0
    for who in (*some(friday, "churn", 3), *some(friday, "active", 3), *some(friday, "prospect", 2)):
        one = Customer(workspace, who, FRIDAY)
        text = since(one)
        if one.path[-1]["stage_since"] != MONDAY:
            continue
        begun = date.fromisoformat(str(re.findall(r"\d{4}-\d\d-\d\d", text)[0]))
        days = workspace.calendar.days(max(begun - timedelta(days=1), workspace.calendar.start), MONDAY)
        asked = facts.known(days)
        asked = asked.filter(pc.equal(asked["customer_id"], who))
        stages = models.inputs_of(workspace.engine, facts.snapshot(asked))
        was: dict[date, str] = dict(zip(stages["day"].to_pylist(), stages["stage"].to_pylist(), strict=True))
        stage = one.path[-1]["stage"]
        if "at least" in text and was.get(MONDAY) != stage:
            continue
        assert all(was[day] == stage for day in was if day >= begun), text
        assert "at least" in text or was.get(begun - timedelta(days=1)) != stage, text
        checked += 1
    assert checked


def test_every_step_has_its_cause_and_the_first_day_is_called_the_record_s_beginning(
    friday: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = friday.workspace
    files = workspace.lake.files(tables.MOVEMENTS, workspace.calendar.days(MONDAY, FRIDAY))
    moved: pa.Table = workspace.engine.query(
        "SELECT customer_id, day, cause FROM moves WHERE cause IS NOT NULL AND cause <> 'entry' ORDER BY ALL",
        moves=files,
    )
    who = moved["customer_id"][0].as_py()
    out = shown(friday, who, capsys)
    assert "the record begins here" in out
    for row in moved.filter(pc.equal(moved["customer_id"], who)).to_pylist():
        line = next(one for one in out.splitlines() if one.strip().startswith(str(row["day"])))
        assert customer.CAUSES[row["cause"]] in line


def test_an_unknown_customer_is_said_to_be_unknown(friday: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        customer.show(friday.workspace, FRIDAY, "nobody")
    assert stopped.value.code == 2 and "nobody is not known on" in capsys.readouterr().out

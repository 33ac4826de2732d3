"""The body of each asset, called as a function on a small lake: no job, no executor, no event log.

The lake is made by the bodies themselves, in the order of the chain; what each of them wrote is then held against what
it read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from microseg_assets.assets import CHAIN
from microseg_assets.families import FAMILIES
from microseg_assets.orchestration.step import Report, Step
from microseg_assets.storage.quarantine import was_refused
from ml import tables
from tests.integration.shop import BAD_TRANSACTIONS, FRIDAY, NEXT_MONDAY, SUNDAY, WEEK, WEEK_BEFORE, Shop

UP_TO_FEATURES = ("ingest", "validate", "features")
DAYS = [FRIDAY + timedelta(days=n) for n in range((NEXT_MONDAY - FRIDAY).days + 1)]
WEEKS = [WEEK_BEFORE, WEEK]


class Lake:
    """A shop whose partitions are made by calling bodies, and what each body reported."""

    def __init__(self, shop: Shop) -> None:
        self.shop, self.workspace = shop, shop.workspace
        self.reports: dict[str, Report] = {}

    def make(self, name: str, keys: list[date]) -> Report:
        step = Step(self.workspace, name, keys)
        next(one for one in CHAIN if one.name == name)(step)
        return step.report

    def read(self, name: str, *keys: date) -> pa.Table:
        files = self.workspace.partitions(name).files(keys)
        return self.workspace.engine.query("SELECT * FROM rows", rows=files)

    def week(self, name: str, week: date) -> pa.Table:
        return self.workspace.partitions(name).read(week)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    shop = Shop.new(tmp_path_factory.mktemp("bodies"))
    with shop.environment():
        made = Lake(shop)
        calendar, order = made.workspace.calendar, made.workspace.in_order()
        early = [name for name in order if made.workspace.groups[name] in UP_TO_FEATURES]
        weekly = [name for name in order if made.workspace.is_weekly(name)]
        for name in early:
            made.reports[name] = made.make(name, calendar.days(calendar.start, NEXT_MONDAY))
        for name in weekly:
            made.reports[name] = made.make(name, WEEKS)
        for name in (one for one in order if one not in {*early, *weekly}):
            made.reports[name] = made.make(name, DAYS)
        yield made


def total(rows: pa.Table, column: str) -> float:
    return float(pc.sum(rows[column]).as_py() or 0)


def ids(rows: pa.Table) -> set[str]:
    return set(rows["customer_id"].to_pylist())


def primary(rows: pa.Table) -> pa.Table:
    return rows.filter(rows["is_primary"])


def test_every_declared_asset_was_made_by_its_body_and_reported_each_partition_and_check(lake: Lake) -> None:
    assert set(lake.reports) == set(lake.workspace.stored) == {one.name for one in CHAIN if one.name in lake.reports}
    assert {one.name for one in CHAIN} - set(lake.reports) == {"raw_balances", "balances"}
    for name, report in lake.reports.items():
        assert {str(key) for key in report.written} == set(lake.workspace.partitions(name).keys()) - {"undated"}, name
        declared = next(one for one in CHAIN if one.name == name)
        reported = {(one.check_name, one.partition) for one in report.checks}
        assert reported == {(check, str(key)) for check in declared.checks for key in report.written}, name
        broken = [one for one in report.checks if not one.passed and one.severity == dg.AssetCheckSeverity.ERROR]
        assert not broken, (name, broken)


# ── ingest, validate ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("table", ["transactions", "customers", "events", "exposures"])
def test_ingest_writes_every_delivered_row_once(lake: Lake, table: str) -> None:
    raw = lake.workspace.partitions(f"raw_{table}")
    dated = sum(raw.read(key).num_rows for key in raw.keys())  # noqa: SIM118  # the keys of partitions
    undated = lake.workspace.lake.read(tables.QUARANTINE, "undated", table=table).num_rows if table in (
        "transactions", "exposures") else 0  # fmt: skip
    later = [row for row in lake.shop.delivered(table) if _is_later(row, table)]
    assert dated + undated == len(lake.shop.delivered(table)) - len(later) and dated > 100


def _is_later(row: dict[str, str], table: str) -> bool:
    """Whether a row is of a day after those that were made (which begin half a day before UTC's)."""
    stamp = {"transactions": "occurred_at", "customers": "registered_at", "events": "occurred_at"}.get(
        table, "exposed_at"
    )
    return row[stamp] >= f"{NEXT_MONDAY} 12:00:00"


def test_accept_keeps_valid_rows_and_quarantines_the_rest_with_their_rule(lake: Lake) -> None:
    refused = {
        row["day"]: row["rule"]
        for day in (date(2024, 4, 20), date(2024, 4, 27))
        for row in [
            {"day": day, **one}
            for one in lake.workspace.lake.read(tables.QUARANTINE, day, table="transactions").to_pylist()
        ]
    }
    assert refused[date(2024, 4, 20)].startswith("amount: not a number")
    assert "customer_id" in refused[date(2024, 4, 27)]
    for day in (SUNDAY, date(2024, 4, 20)):
        kept, brought = lake.read("transactions", day), lake.read("raw_transactions", day)
        bad = [row for row in BAD_TRANSACTIONS if row["transaction_id"] in set(brought["transaction_id"].to_pylist())]
        assert kept.num_rows == brought.num_rows - len(bad)


def test_accept_refuses_a_day_over_the_limit_and_deletes_what_was_made_from_it(tmp_path: Path) -> None:
    shop = Shop.new(tmp_path / "refused")
    with shop.environment():
        made = Lake(shop)
        for name in made.workspace.in_order():
            if made.workspace.groups[name] in UP_TO_FEATURES and name != "customer_features":
                made.make(name, [FRIDAY, SUNDAY])
        snapshot = made.workspace.partitions("customer_features")
        for day in (FRIDAY - timedelta(days=1), FRIDAY, SUNDAY):  # what includes Friday is deleted, earlier days stay
            snapshot.write(day, snapshot.table.empty())
        rows = shop.delivered("transactions")
        of_friday = {row["transaction_id"] for row in made.read("transactions", FRIDAY).to_pylist()}
        assert len(of_friday) > 20
        shop.deliver("transactions", [
            {**row, "amount": "oops"} if row["transaction_id"] in of_friday else row for row in rows
        ])  # fmt: skip
        again = Lake(Shop(shop.folder))
        again.make("raw_transactions", [FRIDAY, SUNDAY])
        with pytest.raises(dg.Failure) as failure:
            again.make("transactions", [FRIDAY, SUNDAY])
        assert failure.value.allow_retries is False and f"{FRIDAY} (" in str(failure.value.description)
        assert was_refused(again.workspace, "transactions", FRIDAY)
        there = {name: again.workspace.partitions(name).dates() for name in again.workspace.stored}
        assert there["transactions"] == there["customer_days"] == {SUNDAY}
        assert there["customer_features"] == {FRIDAY - timedelta(days=1)}


# ── features, value, lifecycle ────────────────────────────────────────────────────────────────────────────────────


def test_customer_days_add_up_to_the_accepted_amounts(lake: Lake) -> None:
    for day in DAYS:
        assert math.isclose(
            total(lake.read("customer_days", day), "amount"),
            total(lake.read("transactions", day), "amount"),
            abs_tol=1e-6,
        )
        assert total(lake.read("customer_days", day), "lines") == lake.read("transactions", day).num_rows


def test_customer_features_have_a_row_for_every_known_customer_and_use_nothing_later(lake: Lake) -> None:
    known: set[str] = set()
    calendar = lake.workspace.calendar
    for name in ("transactions", "customers"):
        known |= ids(lake.read(name, *calendar.days(calendar.start, SUNDAY)))
    rows = lake.read("customer_features", SUNDAY)
    assert ids(rows) == known and rows.num_rows == len(known)
    spent = lake.read("transactions", *calendar.days(calendar.start, SUNDAY))
    assert math.isclose(total(rows, "spend"), total(spent, "amount"), rel_tol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_writes_one_choice_per_week_and_a_version_only_if_a_model_is_in_force(lake: Lake, family: str) -> None:
    name = FAMILIES[family].asset
    for week in WEEKS:
        (choice,) = lake.week(name, week).to_pylist()
        assert choice["family"] == family and choice["reason"]
        assert (choice["version"] is None) == (choice["decision"] == "none")
        assert (choice["model_name"] is None) == (choice["version"] is None)
        if choice["version"] is not None:
            model = lake.workspace.tracking.load(choice["model_name"], choice["version"])
            assert type(model).__name__ == FAMILIES[family].model.partition(":")[2]


def test_customer_value_is_finite_for_every_customer(lake: Lake) -> None:
    rows = lake.read("customer_value", SUNDAY)
    assert ids(rows) == ids(lake.read("customer_features", SUNDAY))
    assert all(math.isfinite(one) for one in rows["ltv"].to_pylist())
    assert 0 <= pc.min(rows["p_alive"]).as_py() <= pc.max(rows["p_alive"]).as_py() <= 1


def test_lifecycle_stages_give_each_customer_one_stage_and_continue_its_spell(lake: Lake) -> None:
    before, after = (
        {row["customer_id"]: row for row in lake.read("lifecycle_stages", day).to_pylist()} for day in DAYS[1:3]
    )
    assert set(after) == ids(lake.read("customer_features", DAYS[2]))
    for who in set(before) & set(after):
        stayed = before[who]["stage"] == after[who]["stage"]
        assert after[who]["stage_since"] == (before[who]["stage_since"] if stayed else DAYS[2])


# ── segments ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cluster_lineage_names_the_clusters_of_the_model_in_force(lake: Lake) -> None:
    for week in WEEKS:
        (choice,) = lake.week("layer_models", week).to_pylist()
        rows = lake.week("cluster_lineage", week)
        assert (rows.num_rows > 0) == (choice["version"] is not None)


def test_segment_evidence_compares_micro_segments_with_other_groupings(lake: Lake) -> None:
    for week in WEEKS:
        groupings = lake.week("segment_evidence", week)["grouping"].to_pylist()
        assert len(groupings) == len(set(groupings)) and {"micro-segments", "stage only"} <= set(groupings)


def test_layer_assignments_have_one_primary_cluster_per_layer_and_weights_that_add_up(lake: Lake) -> None:
    rows = lake.read("layer_assignments", SUNDAY)
    assert ids(rows) <= ids(lake.read("lifecycle_stages", SUNDAY)) and rows.num_rows
    sums: dict[tuple[str, str], float] = {}
    for row in rows.to_pylist():
        key = (row["customer_id"], row["layer"])
        sums[key] = sums.get(key, 0.0) + row["weight"]
    assert all(math.isclose(one, 1.0, abs_tol=1e-6) for one in sums.values())
    assert primary(rows).num_rows == len(sums)


def test_micro_segments_give_each_customer_one_primary_string_that_begins_with_its_stage(lake: Lake) -> None:
    rows = primary(lake.read("micro_segments", SUNDAY))
    stages = {row["customer_id"]: row["stage"] for row in lake.read("lifecycle_stages", SUNDAY).to_pylist()}
    assert rows.num_rows == len(stages) and ids(rows) == set(stages)
    assert all(row["micro_segment"].startswith(stages[row["customer_id"]]) for row in rows.to_pylist())


def test_audiences_hold_customers_of_the_day(lake: Lake) -> None:
    rows = lake.read("audiences", SUNDAY)
    assert rows.num_rows and ids(rows) <= ids(lake.read("customer_features", SUNDAY))


def test_micro_segment_profiles_count_each_customer_once_among_the_leaves(lake: Lake) -> None:
    rows = lake.read("micro_segment_profiles", SUNDAY)
    leaves = rows.filter(rows["is_leaf"])
    assert total(leaves, "customers") == lake.read("lifecycle_stages", SUNDAY).num_rows
    assert all(leaves["name"].to_pylist())


# ── journeys, actions, report ─────────────────────────────────────────────────────────────────────────────────────


def test_movements_give_a_cause_for_every_customer_whose_segment_changed(lake: Lake) -> None:
    for before, day in pairwise(DAYS):
        was, now = (
            {row["customer_id"]: row["micro_segment"] for row in primary(lake.read("micro_segments", one)).to_pylist()}
            for one in (before, day)
        )
        cause = {row["customer_id"]: row["cause"] for row in lake.read("movements", day).to_pylist()}
        assert {who for who in now if was.get(who) != now[who]} <= {who for who, why in cause.items() if why}


def test_journey_forecasts_are_probabilities_that_add_up_to_one(lake: Lake) -> None:
    rows = lake.read("journey_forecasts", SUNDAY)
    (choice,) = lake.week("transition_model", WEEK_BEFORE).to_pylist()
    assert (rows.num_rows > 0) == (choice["version"] is not None)
    sums: dict[tuple[str, int], float] = {}
    for row in rows.to_pylist():
        key = (row["customer_id"], row["horizon_days"])
        sums[key] = sums.get(key, 0.0) + row["probability"]
    assert all(math.isclose(one, 1.0, abs_tol=1e-6) for one in sums.values())


def test_exposure_outcomes_count_exposures_whose_window_has_closed(lake: Lake) -> None:
    for week in WEEKS:
        rows = lake.week("exposure_outcomes", week)
        end = lake.workspace.calendar.week_end(week)
        window = timedelta(days=lake.workspace.project.actions.outcome_window_days)
        assert rows.num_rows and all(one + window <= end for one in rows["exposed_on"].to_pylist())


def test_action_effects_have_an_interval_around_each_estimate(lake: Lake) -> None:
    for row in lake.read("action_effects", SUNDAY).to_pylist():
        if row["effect"] is not None:
            assert row["ci_low"] <= row["effect"] <= row["ci_high"]


def test_action_plan_has_one_row_per_customer_and_no_action_without_support(lake: Lake) -> None:
    rows = lake.read("action_plan", SUNDAY)
    assert rows.num_rows == len(ids(rows)) == lake.read("lifecycle_stages", SUNDAY).num_rows
    assert all(rows["reason"].to_pylist()) and set(rows["action"].to_pylist()) <= {"none", "control", "coupon", "call"}


def test_segment_atlas_is_a_page_that_names_the_day(lake: Lake) -> None:
    page = lake.workspace.partitions("segment_atlas").read_file(SUNDAY, "atlas.html")
    assert page is not None and str(SUNDAY).encode() in page
    (row,) = lake.read("segment_atlas", SUNDAY).to_pylist()
    assert row["page"].encode() == page

"""Every day of the shop: no row is lost, every customer has one place, and the numbers add up."""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import dagster as dg
import pytest

from microseg_assets.storage.choices import same_models
from ml import tables
from tests.integration.shop import BAD_EXPOSURES, BAD_TRANSACTIONS, MONDAY, NEXT_MONDAY, STAMPS, WEDNESDAY, Shop, day_of

DAYS = [MONDAY + timedelta(days=k) for k in range((WEDNESDAY - MONDAY).days + 1)]


def primary(shop: Shop, day: date) -> dict[str, str]:
    """Each customer's primary micro-segment, and the claim that there is one."""
    rows = [row for row in shop.rows("micro_segments", day) if row["is_primary"]]
    of = {row["customer_id"]: row["micro_segment_id"] for row in rows}
    assert len(of) == len(rows), f"{day}: somebody has two"
    return of


@pytest.fixture(scope="module")
def known(shop: Shop) -> dict[date, set[str]]:
    """The customers known on each day, derived from the accepted rows alone: registered or seen by its end."""
    workspace, by_day, sofar = shop.workspace, {}, set[str]()
    for day in workspace.calendar.days(workspace.calendar.start, WEDNESDAY):
        for table in workspace.provided_inputs():
            sofar |= set(workspace.lake.read(workspace.project.inputs[table], day)["customer_id"].to_pylist())
        by_day[day] = set(sofar)
    return by_day


@pytest.mark.parametrize("table", tables.INPUTS)
def test_every_delivered_row_is_accepted_or_quarantined(shop: Shop, table: str) -> None:
    """For each day, and for what belongs to none: counted from the file itself."""
    workspace, lake = shop.workspace, shop.workspace.lake
    if workspace.is_off(table):
        assert lake.keys(workspace.project.inputs[table]) == [] == lake.keys(tables.QUARANTINE, table=table)
        return
    delivered = Counter(day_of(row[STAMPS[table]]) for row in shop.delivered(table)) if table in STAMPS else Counter()
    accepted, quarantined = Counter[date | None](), Counter[date | None]()
    for day in workspace.calendar.days(workspace.calendar.start, WEDNESDAY):
        accepted[day] = lake.read(workspace.project.inputs[table], day).num_rows
    for key in lake.keys(tables.QUARANTINE, table=table):
        rows = lake.read(tables.QUARANTINE, key, table=table)
        assert None not in rows["rule"].to_pylist()
        quarantined[None if key == "undated" else date.fromisoformat(key)] = rows.num_rows
    undated = sum(count for day, count in delivered.items() if day is None or day < workspace.calendar.start)
    assert quarantined[None] == undated
    for day in workspace.calendar.days(workspace.calendar.start, WEDNESDAY):
        assert delivered[day] == accepted[day] + quarantined[day], day


def test_the_broken_rows_of_the_delivery_are_in_quarantine(shop: Shop) -> None:
    workspace = shop.workspace
    rules = {
        table: sorted(
            rule
            for key in workspace.lake.keys(tables.QUARANTINE, table=table)
            for rule in workspace.lake.read(tables.QUARANTINE, key, table=table)["rule"].to_pylist()
        )
        for table in tables.INPUTS
    }
    assert len(rules["transactions"]) == len(BAD_TRANSACTIONS) and len(rules["exposures"]) == len(BAD_EXPOSURES)
    assert {"amount: not a number", "customer_id: missing", "amount: beyond ±1,000,000"} <= set(rules["transactions"])
    assert any("before the first day" in rule for rule in rules["exposures"])
    assert rules["customers"] == rules["events"] == rules["balances"] == []


@pytest.mark.parametrize(
    "asset", ["customer_features", "customer_value", "lifecycle_stages", "action_plan", "movements"]
)
def test_each_known_customer_has_exactly_one_row(shop: Shop, known: dict[date, set[str]], asset: str) -> None:
    for day in DAYS:
        who = shop.table(asset, day)["customer_id"].to_pylist()
        assert len(who) == len(set(who)), f"{day}: somebody is there twice"
        assert set(who) == known[day], day


def test_each_known_customer_has_exactly_one_primary_micro_segment(shop: Shop, known: dict[date, set[str]]) -> None:
    for day in DAYS:
        assert primary(shop, day).keys() == known[day], day


def test_a_micro_segment_is_the_stage_and_the_primary_clusters(shop: Shop) -> None:
    """Its string is made from the other tables, layers in the project's order, and its id from the string."""
    order = [layer.name for layer in shop.workspace.project.segments.layers]
    for day in DAYS:
        stages = {row["customer_id"]: row["stage"] for row in shop.rows("lifecycle_stages", day)}
        clusters: dict[str, dict[str, str]] = defaultdict(dict)
        for row in shop.rows("layer_assignments", day):
            if row["is_primary"]:
                assert row["layer"] not in clusters[row["customer_id"]], f"{row} is a second primary cluster"
                clusters[row["customer_id"]][row["layer"]] = row["cluster"]
        for row in shop.rows("micro_segments", day):
            assert row["micro_segment_id"] == hashlib.sha256(row["micro_segment"].encode()).hexdigest()[:10]
            who = row["customer_id"]
            parts = [f"{layer}.{clusters[who][layer]}" for layer in order if layer in clusters[who]]
            if row["is_primary"]:
                assert row["micro_segment"] == "/".join([stages[who], *parts])
            assert row["stage"] == stages[who]


def test_weights_are_shares(shop: Shop) -> None:
    """They add up to 1 in each layer; a secondary micro-segment has at least 0.1, and there are at most four."""
    for day in DAYS:
        layers: dict[tuple[str, str], float] = defaultdict(float)
        for row in shop.rows("layer_assignments", day):
            layers[row["customer_id"], row["layer"]] += row["weight"]
        assert layers and all(math.isclose(total, 1, abs_tol=1e-9) for total in layers.values()), day
        members: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in shop.rows("micro_segments", day):
            members[row["customer_id"]].append(row)
        for rows in members.values():
            secondary = [row["weight"] for row in rows if not row["is_primary"]]
            assert len(secondary) <= 4 and all(weight >= 0.1 for weight in secondary)
            assert sum(row["weight"] for row in rows) <= 1 + 1e-9
            assert all(row["weight"] > 0 for row in rows)
        assert any(len(rows) > 1 for rows in members.values()), "nobody is between two: this shows nothing"


def test_movements_reconcile(shop: Shop) -> None:
    """Yesterday's customers and the entries are today's; each comes from where it was; every move has a cause."""
    for yesterday, today in pairwise(DAYS):
        before, after = primary(shop, yesterday), primary(shop, today)
        moves = shop.rows("movements", today)
        entries = {row["customer_id"] for row in moves if row["cause"] == "entry"}
        assert len(before) + len(entries) == len(after) == len(moves)
        assert before.keys() | entries == after.keys() and not before.keys() & entries
        for row in moves:
            who = row["customer_id"]
            assert row["to_micro_segment_id"] == after[who] and row["from_micro_segment_id"] == before.get(who)
            if row["cause"] != "entry":
                assert (row["cause"] is None) == (before[who] == after[who])


def test_models_move_customers_only_when_the_choice_changes(shop: Shop) -> None:
    """Monday's choices are in force; if all are unchanged, yesterday under today's models equals yesterday."""
    workspace, calendar = shop.workspace, shop.workspace.calendar
    for day in DAYS[1:]:
        rows = shop.rows("movements", day)
        causes = Counter(row["cause"] for row in rows)
        weeks = calendar.serving_week(day - timedelta(days=1)), calendar.serving_week(day)
        assert (weeks[0] != weeks[1]) == (day == NEXT_MONDAY)
        if same_models(workspace, *weeks):
            assert not causes["model"] + causes["both"], (day, causes)
            assert all(row["restated_micro_segment_id"] == row["from_micro_segment_id"] for row in rows)


def test_forecasts_add_up_per_customer_and_horizon(shop: Shop, known: dict[date, set[str]]) -> None:
    for day in DAYS:
        total: dict[tuple[str, int], float] = defaultdict(float)
        for row in shop.rows("journey_forecasts", day):
            assert 0 <= row["probability"] <= 1
            total[row["customer_id"], row["horizon_days"]] += row["probability"]
        assert total.keys() == {(who, horizon) for who in known[day] for horizon in (7, 28)}
        assert all(math.isclose(value, 1, abs_tol=1e-9) for value in total.values())


def test_profiles_add_up_to_all_customers_and_all_value(shop: Shop, known: dict[date, set[str]]) -> None:
    for day in DAYS:
        rows = shop.rows("micro_segment_profiles", day)
        ltv = sum(row["ltv"] for row in shop.rows("customer_value", day))
        for part in ([row for row in rows if row["is_leaf"]], [row for row in rows if row["depth"] == 0]):
            assert sum(row["customers"] for row in part) == len(known[day])
            assert math.isclose(sum(row["ltv"] for row in part), ltv, rel_tol=1e-6)


def test_the_plan_assigns_only_supported_actions(shop: Shop) -> None:
    """The actions were randomized, so no placebo is needed, and some actions are assigned."""
    for day in DAYS:
        effects = {(row["micro_segment_id"], row["action"]): row for row in shop.rows("action_effects", day)}
        labels = {(row["design"], row["placebo"]) for row in effects.values()}
        assert labels == {("randomised", "not needed")}
        treated = [row for row in shop.rows("action_plan", day) if row["action"] not in ("none", "control")]
        assert treated, "nobody is given anything: this shows nothing"
        for row in treated:
            effect = effects[row["micro_segment_id"], row["action"]]
            assert effect["evidence_level"] in ("own", "parent") and not row["is_holdout"]
            assert effect["ci_low"] > row["cost"] and 0 < row["propensity"] <= 1
        held_out = [row for row in shop.rows("action_plan", day) if row["is_holdout"]]
        assert held_out and all(row["action"] == "control" and row["cost"] == 0 for row in held_out)


def test_dagster_knows_every_existing_partition_and_every_check_passed(shop: Shop) -> None:
    workspace = shop.workspace
    with shop.instance() as instance:
        for name in workspace.stored:
            recorded = instance.get_materialized_partitions(workspace.key(name))
            assert recorded == {f"{day}" for day in shop.days(name)}, name
        for asset, check in (("micro_segments", "one_primary_per_known_customer"), ("movements", "counts_reconcile")):
            key = dg.AssetCheckKey(workspace.key(asset), check)
            history = instance.event_log_storage.get_asset_check_execution_history(key, limit=200)
            evaluations = [
                r.event.dagster_event.event_specific_data for r in history if r.event and r.event.dagster_event
            ]
            passed = {
                e.partition: e.passed for e in evaluations if isinstance(e, dg.AssetCheckEvaluation) and e.partition
            }
            assert passed == {f"{day}": True for day in DAYS}

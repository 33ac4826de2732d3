"""Declared features in a project: from a property in a JSON column to the snapshot, and what a change makes stale."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from microseg_assets.assets import CHAIN
from microseg_assets.assets.earlier import EarlierFeatures, snapshot_of_day_before
from microseg_assets.check.report import report
from microseg_assets.orchestration.step import Step
from microseg_assets.planning.staleness import Reason, outdated, statuses
from microseg_assets.project import Project
from microseg_assets.storage import ingest_log
from ml.features.declared import DeclaredFeature
from ml.restate import Models
from tests.integration.shop import Shop

START = date(2024, 3, 1)
DAYS = [START + timedelta(days=n) for n in range(5)]
LAST = DAYS[-1]
EARLY = ("ingest", "validate", "features")

PROJECT = """\
name: desk
start: 2024-03-01
end: 2024-03-05
tables:
  transactions: {path: desk/transactions.csv}
  events:
    path: desk/events.jsonl
    columns:
      occurred_at: at
      event_type: kind
      plan: payload.plan
      seats: payload.size.seats
      is_trial: payload.plan = 'trial'
    properties: {plan: string, seats: double, is_trial: boolean}
features:
  declared:
    - {name: trials, table: events, where: is_trial}
    - {name: logins, table: events, where: event_type = 'login', windows: [2, ever]}
    - {name: seats, table: events, measure: [max, last], of: seats}
    - {name: plan, table: events, measure: mode, of: plan}
    - {name: plans, table: events, by: {column: plan, values: [trial, Team]}}
    - {name: seats_per_login, ratio: {of: seats_max, to: logins}}
audiences:
  - {name: teams, when: plan = 'Team' and logins_2d >= 1}
segments:
  layers: [{name: use, features: [logins_2d, seats_last, plan]}]
"""
EVENTS: tuple[tuple[str, int, str, dict[str, Any]], ...] = (
    ("anna", 0, "login", {"plan": "trial", "size": {"seats": 1}}),
    ("anna", 2, "login", {"plan": "Team", "size": {"seats": 5}}),
    ("anna", 3, "export", {"plan": "Team", "size": {"seats": "4"}}),
    ("ben", 1, "login", {"size": None}),
)


class Desk(Shop):
    """A help desk whose events carry a JSON object."""

    @classmethod
    def of(cls, folder: Path) -> Desk:
        desk = cls(folder, "desk")
        desk.data.mkdir(parents=True)
        desk.file.write_text(PROJECT)
        desk.deliver(
            "transactions", [{"customer_id": "anna", "occurred_at": f"{day} 10:00:00", "amount": "9"} for day in DAYS]
        )
        desk.events(EVENTS)
        return desk

    def events(self, rows: tuple[tuple[str, int, str, dict[str, Any]], ...]) -> None:
        lines = [
            {"customer_id": id_, "at": f"{START + timedelta(days=day)}T12:00:00Z", "kind": kind, "payload": payload}
            for id_, day, kind, payload in rows
        ]
        (self.data / "events.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    def make(self, *names: str, days: list[date] = DAYS) -> None:
        """Make partitions by the bodies of assets; of all assets up to the snapshot, if none is named."""
        early = [one for one in self.workspace.in_order() if self.workspace.groups[one] in EARLY]
        for name in names or early:
            next(one for one in CHAIN if one.name == name)(Step(self.workspace, name, days))

    def with_project(self, *changes: tuple[str, str]) -> Desk:
        """The same desk with another project file."""
        text = self.file.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self.file.write_text(text)
        return Desk(self.folder, "desk")

    def stale(self, name: str) -> dict[date, Reason]:
        status = statuses(self.workspace, ingest_log.compare(self.workspace))
        return next(one.stale for one in status if one.asset == name)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk.of(tmp_path / "home")
    with desk.environment():
        desk.make()
        yield desk


OWN = (
    "trials", "logins_2d", "logins", "seats_max", "seats_last", "plan", "plans_by_trial", "plans_by_team",
    "seats_per_login",
)  # fmt: skip


def own(desk: Desk, day: date) -> dict[str, tuple[Any, ...]]:
    return {row["customer_id"]: tuple(row[name] for name in OWN) for row in desk.rows("customer_features", day)}


def test_a_property_from_json_becomes_features_of_each_day(desk: Desk) -> None:
    assert [one.type for one in desk.workspace.project.inputs["events"].columns[-3:]] == ["string", "double", "boolean"]
    assert own(desk, DAYS[0]) == {"anna": (1, 1, 1, 1.0, 1.0, "trial", 1, 0, 1.0)}
    assert own(desk, LAST) == {
        "anna": (1, 0, 2, 5.0, 4.0, "Team", 1, 2, 2.5),
        "ben": (0, 0, 1, None, None, None, 0, 0, None),
    }
    assert desk.stale("customer_features") == {}


def test_a_property_that_is_corrected_makes_the_snapshots_since_then_stale_although_no_fact_changes(desk: Desk) -> None:
    desk.events((*EVENTS[:2], ("anna", 3, "export", {"plan": "Team", "size": {"seats": 7}}), EVENTS[3]))
    desk.make("raw_events", "events", "customer_days", days=[DAYS[3]])
    assert desk.stale("customer_features") == dict.fromkeys(DAYS[3:], Reason("made_after", "events"))
    desk.make("customer_features", days=DAYS[3:])
    assert own(desk, LAST)["anna"][3:5] == (7.0, 7.0)


def test_a_changed_declaration_makes_every_snapshot_stale_and_none_of_them_is_used(desk: Desk) -> None:
    assert outdated(desk.workspace, "customer_features") == set()
    changed = desk.with_project(("event_type = 'login'", "event_type = 'export'"))  # the same columns, another meaning
    reason = Reason("declared", "features.declared")
    assert str(reason) == "features.declared has changed since"
    assert changed.stale("customer_features") == dict.fromkeys(DAYS, reason)
    assert EarlierFeatures(changed.workspace, Models())._current_snapshots(DAYS) == []
    before = snapshot_of_day_before(Step(changed.workspace, "movements", [LAST]), LAST)
    assert before is not None and before["logins"].to_pylist() == [1, 0]
    changed.make("customer_features")
    assert changed.stale("customer_features") == {}
    assert EarlierFeatures(changed.workspace, Models())._current_snapshots(DAYS) == DAYS


def test_what_events_count_as_makes_the_facts_of_every_day_stale(desk: Desk) -> None:
    assert desk.stale("customer_days") == {}
    changed = desk.with_project(("\nfeatures:", "\nevent_roles: {goals: [export]}\nfeatures:"))
    reason = Reason("declared", "event_roles")
    assert str(reason) == "event_roles has changed since"
    assert changed.stale("customer_days") == dict.fromkeys(DAYS, reason)
    assert set(changed.stale("customer_features")) == set(DAYS)
    changed.make("customer_days", "customer_features")
    assert changed.stale("customer_days") == changed.stale("customer_features") == {}
    assert {row["customer_id"]: row["goals_90d"] for row in changed.rows("customer_features", LAST)}["anna"] > 0


def test_a_project_that_stops_declaring_uses_the_snapshots_it_has(desk: Desk) -> None:
    start, end = PROJECT.index("features:"), PROJECT.index("audiences:")
    without = desk.with_project((PROJECT[start:end], ""), (PROJECT[PROJECT.index("audiences:") :], ""))
    assert without.stale("customer_features") == {}
    assert set(without.workspace.reads["customer_features"]) == {"customer_days"}
    assert set(desk.workspace.reads["customer_features"]) == {"customer_days", "events"}


def test_a_new_property_makes_the_days_of_its_table_stale(desk: Desk) -> None:
    changed = desk.with_project(
        ("seats: double,", "seats: double, kind_again: string,"),
        ("occurred_at: at", "occurred_at: at\n      kind_again: kind"),
    )
    assert sorted(changed.stale("raw_events")) == [DAYS[0], DAYS[1], DAYS[2], DAYS[3]]
    assert changed.stale("raw_transactions") == {}


def test_check_shows_what_each_holds_and_for_how_many_it_is_missing(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(str(desk.file)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "9 declared features, of 2 customers on 2024-03-05, as far as the newest rows show" in lines
    for line in (
        "  logins_2d                    always 0; missing for 0%",
        "  logins                       1 to 2, 1.50 on average; missing for 0%",
        "  seats_last                   always 4; missing for 50%",
        "  plan                         Team 50%; missing for 50%",
    ):
        assert line in lines, lines


def test_check_names_a_declaration_that_holds_nothing_for_a_word_may_be_misspelt(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    hint = "is 0 or missing for every customer of the sample: is a word of its `where` or a mapped field misspelt?"
    assert report(str(desk.file)) == 0
    assert hint not in " ".join(capsys.readouterr().out.split())
    misspelt = desk.with_project(
        ("event_type = 'login'", "event_type = 'Login'"), ("payload.size.seats", "payload.seats")
    )
    assert report(str(misspelt.file)) == 0
    out = " ".join(capsys.readouterr().out.split())
    for position, name in ((1, "logins"), (2, "seats"), (5, "seats_per_login")):
        assert f"desk.yaml:{17 + position}: features.declared.{position}: {name} {hint}" in out, out
    assert out.count(hint) == 3


def test_check_folds_the_columns_of_a_long_declaration_and_names_those_that_hold_nothing(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    many = "windows: [1, 2, 3, 4, 5, 6, 7, 8], by: {column: plan, values: [Team, trail]}"
    changed = desk.with_project(("by: {column: plan, values: [trial, Team]}", many))
    assert report(str(changed.file)) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "… and 8 more up to plans_by_trail_8d: missing for 0%; nothing in the sample: plans_by_trail_1d," in out


def test_the_schema_for_editors_knows_declarations_and_properties() -> None:
    schema = Project.model_json_schema()
    declared = schema["$defs"]["DeclaredFeature"]["properties"]
    assert set(declared) == {field.name for field in fields(DeclaredFeature)}
    assert "properties" in schema["$defs"]["TableSpec"]["properties"]
    jsonschema.validate(yaml.safe_load(PROJECT) | {"start": "2024-03-01", "end": "2024-03-05"}, schema)
    wrong = PROJECT.replace("measure: mode", "measure: median")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(wrong) | {"start": "2024-03-01", "end": "2024-03-05"}, schema)

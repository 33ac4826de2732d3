"""The runs that build requested days: every run finds what it reads, and days and weeks never share a run."""

from __future__ import annotations

import os
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microseg_assets import runs
from microseg_assets.build import build_defs, load_workspace
from microseg_assets.home import Home
from microseg_assets.orchestration.dead_runs import HOST_TAG, PID_TAG, report_dead_runs
from microseg_assets.orchestration.execution import require
from microseg_assets.partitions import WEEK
from microseg_assets.planning.plan import PlannedRun, plan
from microseg_assets.workspace import Workspace
from ml.tables import Table

DAY = timedelta(days=1)
START, END = date(2024, 1, 3), date(2024, 2, 28)  # Wednesdays both; the first whole week begins on 2024-01-08
EARLY = {"ingest", "validate", "features"}
PROJECT = f"name: shop\nstart: {START}\nend: {END}\ntables:\n  transactions: {{path: a.csv}}\n"


class Keys:
    """A lake that knows only the names of its partitions."""

    def __init__(self) -> None:
        self.made: dict[tuple[str, str], set[str]] = {}

    def of(self, table: Table, prefix: dict[str, str]) -> set[str]:
        return self.made.setdefault((table.name, str(prefix)), set())

    def keys(self, table: Table, /, **prefix: str) -> list[str]:
        return sorted(self.of(table, prefix))


def chain_at(folder: Path, text: str = PROJECT) -> Workspace:
    (folder / "shop.yaml").write_text(text)
    chain = load_workspace(str(folder / "shop.yaml"), Home(folder / "home"))
    lake: Any = Keys()
    chain.lake = lake
    return chain


@pytest.fixture
def chain(tmp_path: Path) -> Workspace:
    return chain_at(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return chain_at(tmp_path_factory.mktemp("runs"))


def partitions(run: PlannedRun) -> list[date]:
    step = WEEK if run.unit == "week" else DAY
    keys = [run.first + i * step for i in range((run.last - run.first) // step + 1)]
    assert len(keys) == run.partitions and keys[-1] == run.last
    return keys


def assets_of(chain: Workspace, job: str) -> list[str]:
    def belongs(name: str) -> bool:
        if job == "weekly" or chain.is_weekly(name):
            return job == "weekly" and chain.is_weekly(name)
        return (chain.groups[name] in EARLY) == (job == "to_features")

    return [name for name in chain.in_order() if belongs(name)]


def carry_out(chain: Workspace, planned: list[PlannedRun]) -> None:
    """As Dagster would: an asset refuses to work if something that it reads is missing."""
    for run in planned:
        for name in run.assets or assets_of(chain, run.job):
            keys = partitions(run)
            require(chain, name, keys)
            stored = chain.stored[name]
            chain.lake.of(stored.table, dict(stored.partition_prefix)).update(map(str, keys))  # type: ignore[attr-defined]


def made(chain: Workspace, name: str) -> set[date]:
    stored = chain.stored[name]
    return {date.fromisoformat(key) for key in chain.lake.keys(stored.table, **stored.partition_prefix)}


def brief(planned: list[PlannedRun]) -> list[tuple[str, date, date]]:
    return [(run.job, run.first, run.last) for run in planned]


def d(month: int, day: int) -> date:
    return date(2024, month, day)


# ── what is planned ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_first_run_makes_the_facts_of_all_days_before_it_and_the_snapshots_of_its_own(chain: Workspace) -> None:
    planned = plan(chain, d(2, 1), d(2, 3))
    assert brief(planned) == [
        ("to_features", START, d(2, 3)),
        ("to_features", d(2, 1), d(2, 3)),
        ("weekly", d(1, 22), d(1, 22)),
        ("from_value", d(2, 1), d(2, 3)),
    ]
    assert planned[1].assets == ("customer_features",) and "customer_features" not in planned[0].assets
    carry_out(chain, planned)
    assert made(chain, "customer_features") == {d(2, 1), d(2, 2), d(2, 3)}
    assert made(chain, "customer_days") == {START + i * DAY for i in range((d(2, 3) - START).days + 1)}


def test_days_before_any_week_has_ended_are_made_without_training(chain: Workspace) -> None:
    assert [run.job for run in plan(chain, START, d(1, 13))] == ["to_features", "from_value"]


def test_a_week_that_ends_with_the_last_day_is_trained_too(chain: Workspace) -> None:
    assert brief(plan(chain, START, d(1, 14)))[1] == ("weekly", d(1, 8), d(1, 8))


def test_weeks_are_planned_in_ascending_order_without_a_hole(chain: Workspace) -> None:
    weekly = [run for run in plan(chain, d(1, 15), d(2, 20)) if run.job == "weekly"]
    assert brief(weekly) == [("weekly", d(1, 8), d(2, 12))] and weekly[0].partitions == 6


def test_the_next_day_makes_only_itself(chain: Workspace) -> None:
    carry_out(chain, plan(chain, d(1, 31), d(2, 1)))
    assert brief(plan(chain, d(2, 2), d(2, 2))) == [("to_features", d(2, 2), d(2, 2)), ("from_value", d(2, 2), d(2, 2))]


def test_days_and_weeks_between_the_newest_one_and_the_requested_ones_are_filled(chain: Workspace) -> None:
    carry_out(chain, plan(chain, d(1, 16), d(1, 17)))
    assert brief(plan(chain, d(2, 7), d(2, 8))) == [
        ("to_features", d(1, 18), d(2, 8)),
        ("weekly", d(1, 15), d(1, 29)),
        ("from_value", d(1, 18), d(2, 8)),
    ]


def test_a_second_request_builds_the_days_again_and_only_missing_builds_nothing(chain: Workspace) -> None:
    planned = plan(chain, d(1, 20), d(1, 23))
    carry_out(chain, planned)
    assert plan(chain, d(1, 20), d(1, 23), only_missing=True) == []
    again = brief(plan(chain, d(1, 20), d(1, 23)))
    assert again[0] == ("to_features", d(1, 20), d(1, 23)) and again[-1] == ("from_value", d(1, 20), d(1, 23))


def test_a_second_request_for_the_days_of_a_week_trains_it_again(chain: Workspace) -> None:
    carry_out(chain, plan(chain, d(1, 15), d(1, 28)))
    assert ("weekly", d(1, 15), d(1, 15)) in brief(plan(chain, d(1, 15), d(1, 21)))
    assert "weekly" not in [run.job for run in plan(chain, d(1, 16), d(1, 20))], "none of its weeks ends there"
    assert plan(chain, d(1, 15), d(1, 21), only_missing=True) == []


def test_only_missing_fills_the_holes(chain: Workspace) -> None:
    carry_out(chain, plan(chain, d(1, 20), d(1, 26)))
    atlas = chain.stored["segment_atlas"]
    chain.lake.of(atlas.table, {}).difference_update({"2024-01-22", "2024-01-24"})  # type: ignore[attr-defined]
    assert brief(plan(chain, d(1, 20), d(1, 26), only_missing=True)) == [
        ("from_value", d(1, 22), d(1, 22)),
        ("from_value", d(1, 24), d(1, 24)),
    ]


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        (
            START - DAY,
            START,
            r"2024-01-02 … 2024-01-03 does not lie between the project's start 2024-01-03 and its end 2024-02-28",
        ),
        (END, END + DAY, "does not lie between the project's start"),
        (d(2, 2), d(2, 1), "the last day 2024-02-01 lies before the first day 2024-02-02: swap them"),
    ],
)
def test_days_outside_of_the_calendar_are_a_clear_error(
    chain: Workspace, first: date, last: date, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        plan(chain, first, last)


def test_a_day_that_has_not_ended_is_a_clear_error(tmp_path: Path) -> None:
    going_on = chain_at(tmp_path, PROJECT.replace(f"end: {END}\n", f"end: {date.today() + 100 * DAY}\n"))
    with pytest.raises(ValueError, match="the last day that has ended"):
        plan(going_on, date.today() + DAY, date.today() + DAY)
    yesterday = going_on.calendar.newest_day
    assert plan(going_on, yesterday, yesterday)[-1].last == yesterday


asks = st.lists(
    st.tuples(st.integers(0, (END - START).days), st.integers(0, 20), st.booleans()), min_size=1, max_size=4
)


@given(asked=asks)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_planned_run_finds_what_it_reads_whatever_was_requested_before(
    shared: Workspace, asked: list[tuple[int, int, bool]]
) -> None:
    lake: Any = Keys()
    shared.lake = lake
    for offset, length, only_missing in asked:
        first = START + offset * DAY
        last = min(first + length * DAY, END)
        planned = plan(shared, first, last, only_missing=only_missing)
        weekly = [run for run in planned if run.job == "weekly"]
        assert weekly == sorted(weekly, key=lambda run: run.first), "weeks run in ascending order"
        assert all(run.unit == ("week" if run.job == "weekly" else "day") for run in planned)
        carry_out(shared, planned)  # raises where an asset would refuse
        days = set(shared.calendar.days(first, last))
        for name in shared.stored:
            if not shared.is_weekly(name):
                assert days <= made(shared, name), f"{name} lacks requested days"


# ── days and weeks never share a run ──────────────────────────────────────────────────────────────────────────────


def test_a_job_has_daily_assets_or_weekly_ones_never_both(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(PROJECT)
    chain = load_workspace(str(tmp_path / "shop.yaml"), Home(tmp_path / "home"))
    defs = build_defs(projects=[str(tmp_path / "shop.yaml")], home=Home(tmp_path / "home"))
    seen = set()
    for job in ("to_features", "weekly", "from_value"):
        selected = {key.path[-1] for key in defs.resolve_job_def(f"shop_{job}").asset_layer.selected_asset_keys}
        assert selected == set(assets_of(chain, job))
        assert {chain.is_weekly(name) for name in selected} == {job == "weekly"}
        seen |= selected
    assert seen == set(chain.stored), "together they make everything"
    daily = {key.path[-1] for key in defs.resolve_job_def("shop_daily").asset_layer.selected_asset_keys}
    assert daily == {name for name in chain.stored if not chain.is_weekly(name)}


# ── runs whose process is gone ────────────────────────────────────────────────────────────────────────────────────


def _started(instance: dg.DagsterInstance, pid: int, host: str) -> str:
    run = instance.create_run_for_job(
        dg.GraphDefinition("nothing").to_job(),
        status=dg.DagsterRunStatus.STARTED,
        tags={PID_TAG: str(pid), HOST_TAG: host},
    )
    return run.run_id


def test_runs_of_dead_processes_are_reported_failed_and_living_or_foreign_ones_left_alone() -> None:
    import socket
    import subprocess
    import sys

    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with dg.DagsterInstance.ephemeral() as instance:
        dead = _started(instance, gone.pid, socket.gethostname())
        own = _started(instance, os.getpid(), socket.gethostname())
        foreign = _started(instance, gone.pid, "another-host")
        assert report_dead_runs(instance) == [dead]
        assert report_dead_runs(instance) == []
        states = {run.run_id: run.status for run in instance.get_runs()}
    assert states[dead] == dg.DagsterRunStatus.FAILURE
    assert states[own] == states[foreign] == dg.DagsterRunStatus.STARTED


def test_a_failed_run_reports_the_sentence_of_the_step() -> None:
    @dg.op
    def refuses() -> None:
        raise dg.Failure("rows of the day do not add up", allow_retries=False)

    @dg.op
    def breaks() -> None:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise RuntimeError("outer") from error

    for op, sentence in ((refuses, "rows of the day do not add up"), (breaks, "breaks: KeyError: 'inner'")):
        with dg.DagsterInstance.ephemeral() as instance:
            result = (
                dg.GraphDefinition(f"job_{op.name}", node_defs=[op])
                .to_job()
                .execute_in_process(instance=instance, raise_on_error=False)
            )
            assert runs._failure_message(instance, result.run_id) == sentence

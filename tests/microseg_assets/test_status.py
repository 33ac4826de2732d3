"""Status: a partition is stale when something it reads was made after it or is stale; the named remedy works."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microseg_assets.build import load_workspace
from microseg_assets.cli import status
from microseg_assets.cli.main import main
from microseg_assets.home import Home
from microseg_assets.partitions import Lookback
from microseg_assets.planning.plan import plan, plan_stale
from microseg_assets.storage.quarantine import DATA_DOCS, REFUSAL
from microseg_assets.workspace import Workspace
from ml import tables

DAY = timedelta(days=1)
START = date(2024, 1, 3)  # a Wednesday
DAYS = [START + i * DAY for i in range(21)]
WEEKS = [date(2024, 1, 8), date(2024, 1, 15)]
YEAR_2024 = 1.7e9
EARLY = ("ingest", "validate", "features")

PROJECT = """\
name: shop
start: 2024-01-03
end: 2024-01-23
tables:
  transactions: {path: a.csv}
"""


def a_chain(folder: Path) -> Workspace:
    """A project with all of its partitions, each asset made after those before it."""
    file = folder / "shop.yaml"
    file.write_text(PROJECT)
    chain = load_workspace(str(file), Home(folder / "home"))
    for position, name in enumerate(chain.in_order()):
        make(chain, name, WEEKS if chain.is_weekly(name) else DAYS, clock=position)
    return chain


@pytest.fixture
def chain(tmp_path: Path) -> Workspace:
    return a_chain(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return a_chain(tmp_path_factory.mktemp("status"))


def make(chain: Workspace, name: str, keys: Iterable[date], *, clock: float) -> None:
    stored = chain.stored[name]
    for key in keys:
        chain.lake.write(stored.table, key, stored.table.empty(), **stored.partition_prefix)
        touch(chain, name, key, clock=clock)


def touch(chain: Workspace, name: str, key: date, *, clock: float) -> None:
    stored = chain.stored[name]
    prefix = [f"{k}={v}" for k, v in stored.partition_prefix.items()]
    unit = "week" if chain.is_weekly(name) else "day"
    path = Path(chain.lake.root, "shop", stored.table.name, *prefix, f"{unit}={key}", "part-0.parquet")
    os.utime(path, (YEAR_2024 + clock, YEAR_2024 + clock))


def stale(chain: Workspace) -> set[tuple[str, date]]:
    return {(one.asset, key) for one in status.statuses(chain) for key in one.stale}


def of(chain: Workspace, name: str) -> status.AssetStatus:
    return next(one for one in status.statuses(chain) if one.asset == name)


def by_definition(chain: Workspace) -> set[tuple[str, date]]:
    """The definition of staleness, applied to every single partition until nothing changes."""
    stamps = {
        (name, date.fromisoformat(key)): stamp
        for name, stored in chain.stored.items()
        for key, stamp in chain.lake.stamps(stored.table, **stored.partition_prefix).items()
    }
    reads = {
        (name, key): {
            (upstream, k)
            for upstream, lookbacks in chain.reads[name].items()
            for lookback in ((lookbacks,) if isinstance(lookbacks, Lookback) else lookbacks)
            for k in chain.calendar.upstream(lookback, key)
            if (upstream, k) in stamps
        }
        for name, key in stamps
    }
    stale_partitions: set[tuple[str, date]] = set()
    while True:
        more = {p for p in stamps if any(stamps[u].changed > stamps[p].made or u in stale_partitions for u in reads[p])}
        if more == stale_partitions:
            return stale_partitions
        stale_partitions = more


def test_partitions_that_were_made_in_order_are_neither_stale_nor_missing(chain: Workspace) -> None:
    assets = status.statuses(chain)
    assert {one.asset for one in assets} == set(chain.stored)
    assert all(not one.missing and not one.stale for one in assets)
    assert of(chain, "value_model").there == WEEKS and of(chain, "segment_atlas").there == DAYS


def test_status_lists_assets_after_what_they_read(chain: Workspace) -> None:
    order = [one.asset for one in status.statuses(chain)]
    assert all(order.index(u) < order.index(a) for a, reads in chain.reads.items() for u in reads if u != a)


@given(touched=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.floats(-1, 40)), max_size=4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_partition_is_stale_exactly_if_it_was_made_before_something_it_reads(
    shared: Workspace, touched: list[tuple[int, int, float]]
) -> None:
    order = shared.in_order()
    changed = set()
    try:
        for which, key, clock in touched:
            name = order[which % len(order)]
            keys = WEEKS if shared.is_weekly(name) else DAYS
            touch(shared, name, keys[key % len(keys)], clock=clock)
            changed.add((name, keys[key % len(keys)]))
        assert stale(shared) == by_definition(shared)
    finally:
        for name, day in changed:
            touch(shared, name, day, clock=order.index(name))


def test_a_day_that_is_delivered_again_makes_stale_what_reads_it_and_nothing_before_it(chain: Workspace) -> None:
    touch(chain, "raw_transactions", DAYS[10], clock=100)
    partitions = stale(chain)
    assert ("transactions", DAYS[10]) in partitions and ("transactions", DAYS[9]) not in partitions
    assert {("customer_features", DAYS[10]), ("customer_features", DAYS[20])} <= partitions, "features look back"
    assert not {key for name, key in partitions if name == "customer_features"} & set(DAYS[:10])
    assert ("raw_transactions", DAYS[10]) not in partitions


def test_a_week_that_is_trained_again_makes_stale_the_days_it_serves_and_not_its_own(chain: Workspace) -> None:
    touch(chain, "value_model", WEEKS[0], clock=100)
    assert sorted(of(chain, "customer_value").stale) == [d for d in DAYS if d >= date(2024, 1, 15)]
    assert str(of(chain, "customer_value").stale[date(2024, 1, 15)]) == "value_model was made after it"


def test_an_asset_that_reads_its_own_yesterday_is_stale_to_the_end(chain: Workspace) -> None:
    touch(chain, "customer_value", DAYS[5], clock=100)
    reasons = of(chain, "lifecycle_stages").stale
    assert sorted(reasons) == DAYS[5:]
    assert str(reasons[DAYS[5]]) == "customer_value was made after it"
    assert "lifecycle_stages" in str(reasons[DAYS[-1]])


def test_staleness_has_a_reason_at_every_link(chain: Workspace) -> None:
    touch(chain, "customer_features", DAYS[-1], clock=100)
    assert of(chain, "customer_value").stale == {DAYS[-1]: status.Reason("made_after", "customer_features")}
    assert of(chain, "segment_atlas").stale[DAYS[-1]].code == "stale"


def test_what_others_of_its_day_need_is_missing_and_what_was_never_requested_is_not(chain: Workspace) -> None:
    for key in (DAYS[3], DAYS[4], DAYS[-1]):
        chain.lake.remove(chain.stored["customer_value"].table, key)
    assert of(chain, "customer_value").missing == [DAYS[3], DAYS[4], DAYS[-1]]
    later = [name for name in chain.stored if not chain.is_weekly(name) and chain.groups[name] not in EARLY]
    for name in later:
        for key in DAYS[:-1]:
            chain.lake.remove(chain.stored[name].table, key, **chain.stored[name].partition_prefix)
    assert of(chain, "customer_value").missing == [DAYS[-1]]


def test_a_single_day_of_long_ago_lacks_nothing_between_it_and_the_newest_ones(
    chain: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backtest of one day: nobody needs the days after it. One value model is fitted again: one line has the cause,
    one what follows from it, and their counts are those of the table."""
    later = [name for name in chain.stored if not chain.is_weekly(name) and chain.groups[name] not in EARLY]
    for name in later:
        for key in DAYS[6:17]:
            chain.lake.remove(chain.stored[name].table, key, **chain.stored[name].partition_prefix)
    assert not any(one.missing for one in status.statuses(chain))
    touch(chain, "value_model", WEEKS[1], clock=100)
    text = printed(chain, monkeypatch)
    (line,) = [line for line in text.splitlines() if "value_model was made after it" in line]
    assert "customer_value" in line and "2 " in line
    lines = [line for line in text.splitlines() if line.startswith("Stale")]
    assert len(lines) == 2 and " missing (" not in text
    for one in status.statuses(chain):
        counts = [int(n) for line in lines for n in re.findall(rf"{one.asset}[\w, ]*? (\d+)", line)]
        assert sum(counts) == len(one.stale), one.asset


# ── what is printed ───────────────────────────────────────────────────────────────────────────────────────────────


def printed(chain: Workspace, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MICROSEG_HOME", str(Path(chain.lake.root).parent))
    result = CliRunner().invoke(main, ["status", "--project", str(chain.project.path)])
    assert result.exit_code == 0, result.output
    return result.output


def commands(text: str) -> dict[str, tuple[date, date]]:
    """Asset to the days of the command that is printed for it."""
    by_asset = {}
    for line in text.splitlines():
        named = re.search(r"microseg run --project \S+/shop.yaml --from (\S+)(?: --to (\S+))?", line)
        if named:
            first = date.fromisoformat(named[1])
            by_asset[line.partition(":")[0]] = (first, date.fromisoformat(named[2]) if named[2] else first)
    return by_asset


def remade(chain: Workspace, first: date, last: date) -> dict[str, set[date]]:
    """Asset to the partitions that `microseg run` would build."""
    made: dict[str, set[date]] = {name: set() for name in chain.stored}
    early = {"ingest", "validate", "features"}
    for run in plan(chain, first, last):
        step = 7 if run.unit == "week" else 1
        keys = {run.first + i * DAY for i in range(0, (run.last - run.first).days + 1, step)}
        for name, group in chain.groups.items():
            job = "weekly" if chain.is_weekly(name) else "to_features" if group in early else "from_value"
            if job == run.job:
                made[name] |= keys
    return made


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("raw_transactions", DAYS[0]),
        ("raw_transactions", DAYS[10]),
        ("transactions", DAYS[-1]),
        ("value_model", WEEKS[0]),
        ("value_model", WEEKS[1]),
        ("lifecycle_stages", DAYS[7]),
    ],
)
def test_everything_stale_is_rebuilt_in_order_and_nothing_before_it(
    chain: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, key: date
) -> None:
    touch(chain, name, key, clock=100)
    text = printed(chain, monkeypatch)
    assert f"Rebuild all of it, in order: microseg run --project {chain.project.path} --stale" in text
    assert text.count(" --stale") == 1 and f"{name} was made after it" in text
    wanted = {(one.asset, day) for one in status.statuses(chain) for day in one.stale}
    made: list[tuple[str, date]] = []
    for run in plan_stale(chain, status.statuses(chain)):
        step = 7 if run.unit == "week" else 1
        keys = [run.first + i * DAY for i in range(0, (run.last - run.first).days + 1, step)]
        made += [(asset, day) for asset in sorted(run.assets, key=chain.in_order().index) for day in keys]
    assert wanted and wanted <= set(made) and len(made) == len(set(made))
    assert min(day for _, day in made if not chain.is_weekly(_)) >= min(d for a, d in wanted if not chain.is_weekly(a))
    clock = 200.0
    for asset, day in made:
        clock += 1
        touch(chain, asset, day, clock=clock)
    assert stale(chain) == set(), "what the plan made is fresh"


def test_a_rerun_that_changes_nothing_makes_nothing_stale(chain: Workspace) -> None:
    chain.lake.write(chain.stored["raw_transactions"].table, DAYS[3], chain.stored["raw_transactions"].table.empty())
    assert stale(chain) == set()


@pytest.mark.parametrize(
    ("name", "key"), [("customer_value", DAYS[4]), ("raw_transactions", DAYS[4]), ("value_model", WEEKS[0])]
)
def test_the_printed_command_builds_what_is_missing(
    chain: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, key: date
) -> None:
    chain.lake.write(
        chain.stored["value_model"].table, date(2024, 1, 1), chain.stored["value_model"].table.empty(), family="value"
    )
    stored = chain.stored[name]
    chain.lake.remove(stored.table, key, **stored.partition_prefix)
    text = printed(chain, monkeypatch)
    assert re.search(rf"^{name}: 1 missing \({key}\)\. Make them with: microseg run", text, re.MULTILINE)
    assert key in remade(chain, *commands(text)[name])[name]


def test_before_a_first_run_status_reports_what_is_off_and_how_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop.yaml").write_text(PROJECT)
    chain = load_workspace(str(tmp_path / "shop.yaml"), Home(tmp_path / "home"))
    text = printed(chain, monkeypatch)
    assert "Switched off (not in the project file): customers, events, exposures, balances." in text
    assert f"Nothing is there yet: microseg run --project {chain.project.path} --from 2024-01-03" in text
    assert not (tmp_path / "home").exists(), "status writes nothing"


def test_features_without_anything_after_them_are_pointed_out(
    chain: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in DAYS:
        chain.lake.remove(chain.stored["segment_atlas"].table, key)
    text = printed(chain, monkeypatch)
    assert (
        f"Not built yet, segment_atlas: microseg run --project {chain.project.path} --from {DAYS[-1]} --to {DAYS[-1]}"
        in text
    )


def test_a_refused_day_gets_one_remedy_and_what_waits_for_it_is_not_missing(
    chain: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the last five days the first was refused: its rows are there, and no later day was built."""
    refused, *later = DAYS[-5:]
    for name, stored in chain.stored.items():
        for key in (refused, *later):
            if not chain.is_weekly(name) and not name.startswith("raw_") and (key == refused or name != "transactions"):
                chain.lake.remove(stored.table, key, **stored.partition_prefix)
    chain.lake.put_file(tables.QUARANTINE, refused, DATA_DOCS, b"why", table="transactions")
    chain.lake.put_file(tables.QUARANTINE, refused, REFUSAL, "amount: missing ×9".encode(), table="transactions")
    text = printed(chain, monkeypatch)
    where = f"microseg run --project {chain.project.reference} --from"
    assert f"transactions of {refused} was refused; why: microseg docs transactions --day {refused}" in text
    assert " (amount: missing ×9)\n" in text
    assert f"; then: {where} {refused} --to {DAYS[-1]}\n4 later days are waiting only for that ({later[0]}, " in text
    assert text.count(where) == 1 and "missing (" not in text and "Downstream assets end" not in text


def test_if_nothing_is_published_before_a_refused_day_the_user_names_the_first_day(
    chain: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, stored in chain.stored.items():
        for key in chain.lake.keys(stored.table, **stored.partition_prefix):
            if not name.startswith("raw_") and (name != "transactions" or key == str(DAYS[3])):
                chain.lake.remove(stored.table, key, **stored.partition_prefix)
    chain.lake.put_file(tables.QUARANTINE, DAYS[3], DATA_DOCS, b"why", table="transactions")
    text = printed(chain, monkeypatch)
    assert f"--from DAY --to {DAYS[-1]}, where DAY is the first day to publish" in text


def test_downstream_assets_that_end_earlier_are_pointed_out(chain: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in DAYS[-2:]:
        chain.lake.remove(chain.stored["segment_atlas"].table, key)
    text = printed(chain, monkeypatch)
    assert f"Downstream assets end on {DAYS[-3]}, upstream ones on {DAYS[-1]}: " in text
    assert f"microseg run --project {chain.project.path} --from {DAYS[-2]} --to {DAYS[-1]}" in text

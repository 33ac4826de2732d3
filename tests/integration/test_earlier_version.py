"""A state folder that an earlier version made goes on: its lake, its registered models, its runs.

The earlier version is the last one before columns, stored fields and settings got the names they have now. Its own code
makes a shop, taken from the history of this repository. A copy without it (a shallow clone, an archive) leaves
these tests out, wherever it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from microseg_assets.cli.main import main
from microseg_assets.planning.staleness import Reason, statuses
from tests.conftest import NO_HISTORY
from tests.integration.shop import FRIDAY, MONDAY, START, WEDNESDAY, WEEK, Shop

REPOSITORY = Path(__file__).parents[2]
EARLIER = "6862747408d3c603d3f8a7570c080da97d9544ba"
MAKE_SHOP = f"""
from datetime import date
from pathlib import Path
from sys import argv
from tests.integration.shop import Shop
shop = Shop.new(Path(argv[1]))
shop.run(date.fromisoformat("{MONDAY}"), date.fromisoformat("{FRIDAY}"))
"""
# Column by its earlier name to its name now, by table.
RENAMED = {
    "micro_segment_profiles": {
        "good": "ltv_tercile_low", "better": "ltv_tercile_mid", "best": "ltv_tercile_high",
    },
    "cluster_lineage": {"kept": "retained_share", "came": "inherited_share"},
}  # fmt: skip
# Visits of days whose facts that version made: it kept none.
UNKNOWN_THEN = ["visits_28d", "visits_90d", "days_since_visit"]
# Words of reasons by what they were; the codes and figures they are made of are compared as they are.
REWORDED = {"spend as it was": "the persistence baseline"}
IN_WORDS = "segment_atlas"  # a page, of tables that are compared themselves


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop on Friday as the earlier version makes it."""
    code, state = (tmp_path_factory.mktemp("earlier") / name for name in ("code", "state"))
    archive = subprocess.run(["git", "archive", EARLIER], cwd=REPOSITORY, capture_output=True)
    if archive.returncode:
        pytest.skip(NO_HISTORY)
    code.mkdir()
    subprocess.run(["tar", "--extract", "--directory", str(code)], input=archive.stdout, check=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MICROSEG_", "DAGSTER_", "MLFLOW_"))
    }
    made = subprocess.run(
        [sys.executable, "-c", MAKE_SHOP, str(state)],
        cwd=code, env={**environment, "PYTHONPATH": str(code)}, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    return Shop(state)


@pytest.fixture(scope="module")
def continued(earlier: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same shop, continued by this version until Wednesday, with another training week."""
    shop = earlier.copied_to(tmp_path_factory.mktemp("continued") / "state")
    shop.run(FRIDAY + timedelta(days=1), WEDNESDAY)
    return shop


def test_the_lake_was_made_by_the_earlier_version(earlier: Shop) -> None:
    for table, columns in RENAMED.items():
        (path, *_) = (earlier.folder / "lake" / earlier.name / table).rglob("part-0.parquet")
        names = pq.read_schema(path).names
        assert set(columns) <= set(names) and not set(columns.values()) & set(names)


def test_every_partition_of_the_earlier_version_is_what_this_version_makes(earlier: Shop, friday: Shop) -> None:
    ours, theirs = friday.partitions(), earlier.partitions()
    unneeded = {name for name in theirs if name.startswith("customer_features/")} - ours.keys()
    assert ours.keys() == theirs.keys() - unneeded and len(ours) > 1_000
    assert differences(ours, theirs) == []


def test_columns_are_read_by_the_names_they_have_now(earlier: Shop, friday: Shop) -> None:
    for asset, key in (("micro_segment_profiles", FRIDAY), ("cluster_lineage", WEEK - timedelta(days=7))):
        assert set(RENAMED[asset].values()) <= set(earlier.table(asset, key).column_names)
        assert earlier.table(asset, key).equals(friday.table(asset, key))


def test_days_and_weeks_made_upon_it_are_those_of_a_shop_that_this_version_made_alone(
    continued: Shop, shop: Shop
) -> None:
    ours, theirs = shop.partitions(), continued.partitions()
    unneeded = {name for name in theirs if name.startswith("customer_features/")} - ours.keys()
    assert ours.keys() == theirs.keys() - unneeded
    assert differences(ours, theirs) == []
    choices = [{k: v for k, v in one.choices(WEEK).items() if k != "action-response"} for one in (continued, shop)]
    assert choices[0] == choices[1]
    assert continued.champions() == shop.champions()
    # An unchanged fit gets one more version at most, for its files have the new fields; no family has two more.
    ours_registered, theirs_registered = shop.registered(), continued.registered()
    assert ours_registered.keys() == theirs_registered.keys()
    assert all(len(theirs_registered[name]) - len(versions) in (0, 1) for name, versions in ours_registered.items())


def test_nothing_of_it_is_missing_and_it_can_be_looked_at(continued: Shop) -> None:
    assert not any(one.missing for one in statuses(continued.workspace))
    for table in ("summary", "segments", "movements", "plan"):
        assert "--stale" not in said_of(continued, "show", table, "--day", str(FRIDAY))


def test_its_facts_know_no_visits_which_status_says_and_run_stale_mends(
    continued: Shop, shop: Shop, tmp_path: Path
) -> None:
    stale = {one.asset: one.stale for one in statuses(continued.workspace)}["customer_days"]
    assert stale == dict.fromkeys(continued.workspace.calendar.days(START, FRIDAY), Reason("declared", "event_roles"))
    assert "event_roles" in said_of(continued, "status")
    mended = continued.copied_to(tmp_path / "mended")
    said_of(mended, "run", "--stale")
    assert not any(one.stale for one in statuses(mended.workspace))
    ours, theirs = (
        {name: path for name, path in one.partitions().items() if name.startswith("customer_")}
        for one in (shop, mended)
    )
    assert differences(ours, theirs, leaving_out=["model"]) == []  # it may have one more version


def said_of(shop: Shop, *arguments: str) -> str:
    """What a command that succeeds writes."""
    with shop.environment():
        result = CliRunner().invoke(main, [*arguments, "--project", str(shop.file)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("family", ["value", "lifecycle", "layers", "transitions"])
def test_models_registered_by_it_are_served_as_before(earlier: Shop, friday: Shop, family: str) -> None:
    import mlflow
    import pandas as pd

    answers = []
    for shop in (earlier, friday):
        with shop.environment():
            mlflow.set_registry_uri(shop.home.mlflow_uri)
            mlflow.set_tracking_uri(shop.home.mlflow_uri)
            served = mlflow.pyfunc.load_model(f"models:/{shop.name}.{family}/1")
            answers.append(served.predict(served.input_example))
    pd.testing.assert_frame_equal(*answers)


# The response model and the individual model of the evidence read every feature, and there are more of them now.
OF_EVERY_FEATURE = (
    "action_effects/", "action_plan/", "segment_evidence/", "model_choices/family=action-response/",
)  # fmt: skip


def differences(ours: dict[str, Path], theirs: dict[str, Path], leaving_out: Sequence[str] = UNKNOWN_THEN) -> list[str]:
    """The partitions that differ in columns that both have."""
    unequal = []
    for name in (one for one in ours if not one.startswith((f"{IN_WORDS}/", *OF_EVERY_FEATURE))):
        before, now = as_named_now(theirs[name], name), as_named_now(ours[name], name)
        compared = [column for column in before.column_names if column not in leaving_out]
        if not set(compared) <= set(now.column_names) or not before.select(compared).equals(now.select(compared)):
            unequal.append(name)
    return unequal


def as_named_now(path: Path, partition: str) -> pa.Table:
    """The rows of a partition under the names that columns have now, and with the words that reasons have now."""
    rows = pq.ParquetFile(path).read()
    names = RENAMED.get(partition.partition("/")[0], {})
    if "reason" in rows.column_names:
        reason = rows["reason"]
        for former, current in REWORDED.items():
            reason = pc.replace_substring(reason, former, current)
        rows = rows.set_column(rows.column_names.index("reason"), rows.schema.field("reason"), reason)
    return rows.rename_columns([names.get(name, name) for name in rows.column_names])

"""Two projects in one instance; the campaigns of the second were targeted: no action may rest on unproven effects."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from microseg_assets.build import build_defs
from tests.integration.shop import MONDAY, WEEK_BEFORE, Shop

VERDICTS = {"passed", "failed", "cannot tell"}


@pytest.fixture(scope="module")
def home(friday: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop's state folder with a kiosk in it, without a customers table and events, not yet materialized."""
    shop = friday.copied_to(tmp_path_factory.mktemp("two") / "projects")
    Shop.new(shop.folder, "kiosk", randomised=False)
    return shop


@pytest.fixture(scope="module")
def before(home: Shop) -> dict[str, str]:
    return digests(home.folder / "lake" / "shop")


@pytest.fixture(scope="module")
def kiosk(home: Shop, before: dict[str, str]) -> Shop:
    """The kiosk, materialized in the shop's instance."""
    kiosk = replace(home, name="kiosk")
    kiosk.run(MONDAY)
    return kiosk


def digests(folder: Path) -> dict[str, str]:
    """Modification time and digest of every file."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): f"{path.stat().st_mtime_ns} {sha256(path.read_bytes()).hexdigest()}"
        for path in files
    }


def test_the_definitions_of_two_projects_share_nothing(home: Shop) -> None:
    with home.environment():
        kiosk = replace(home, name="kiosk")
        both = build_defs(projects=[str(home.file), str(kiosk.file)]).get_repository_def()
        alone = [build_defs(projects=[str(one.file)]).get_repository_def() for one in (home, kiosk)]
    keys = [set(one.asset_graph.get_all_asset_keys()) for one in alone]
    assert keys[0] and not keys[0] & keys[1]
    assert set(both.asset_graph.get_all_asset_keys()) == keys[0] | keys[1]
    for one, project in zip(alone, ("shop", "kiosk"), strict=True):
        named = [*(job.name for job in one.get_all_jobs()), *(schedule.name for schedule in one.schedule_defs)]
        assert all(name.startswith((f"{project}_", "__")) for name in named)
        for job in one.get_all_jobs():
            if not job.name.startswith("__"):
                selected = both.get_job(job.name).asset_layer.selected_asset_keys
                assert selected and {key.path[0] for key in selected} == {project}, f"{job.name} reaches into the other"


def test_materializing_one_project_leaves_the_other_alone(
    home: Shop, before: dict[str, str], kiosk: Shop, friday: Shop
) -> None:
    """No file of its lake, no version of its models and no event of its assets changes."""
    assert kiosk.days("segment_atlas") == [MONDAY]
    assert digests(home.folder / "lake" / "shop") == before
    assert home.registered() == friday.registered() and home.champions() == friday.champions()
    assert {name.partition(".")[0] for name in kiosk.registered()} == {"kiosk"}
    with home.instance() as instance:
        for name in home.workspace.stored:
            event = instance.get_latest_materialization_event(home.workspace.key(name))
            assert event is not None
            run = instance.get_run_by_id(event.run_id)
            assert run is not None and run.job_name.startswith("shop_"), name


def test_tables_that_a_business_does_not_provide_have_no_assets_and_are_listed(kiosk: Shop) -> None:
    """The chain works without them."""
    for table in ("customers", "events", "balances"):
        assert not {table, f"raw_{table}"} & kiosk.workspace.stored.keys()
        assert not (kiosk.folder / "lake" / kiosk.name / table).exists()
    page = kiosk.rows("segment_atlas", MONDAY)[0]["page"]
    assert "customers" in page and "events" in page
    assert kiosk.table("customer_features", MONDAY).num_rows > 0


def test_observational_effects_carry_their_label_and_their_placebo_verdict(kiosk: Shop) -> None:
    outcomes = kiosk.rows("exposure_outcomes", WEEK_BEFORE)
    assert {row["design"] for row in outcomes} == {"observational"}
    effects = kiosk.rows("action_effects", MONDAY)
    assert effects, "no effects: this shows nothing"
    assert {row["design"] for row in effects} == {"observational"}
    assert {row["placebo"] for row in effects} <= VERDICTS
    for row in effects:
        if row["placebo"] != "passed":
            assert row["evidence_level"] == "unsupported", row


def test_an_unsupported_effect_is_never_in_the_plan_which_says_why(kiosk: Shop) -> None:
    effects = {(row["micro_segment_id"], row["action"]): row for row in kiosk.rows("action_effects", MONDAY)}
    unsupported = {key for key, row in effects.items() if row["evidence_level"] == "unsupported"}
    assert unsupported, "everything is supported: this shows nothing"
    plan = kiosk.rows("action_plan", MONDAY)
    treated = {(row["micro_segment_id"], row["action"]) for row in plan if row["action"] not in ("none", "control")}
    assert not treated & unsupported and treated <= effects.keys()
    refused = {row["micro_segment_id"] for row in plan if row["action"] == "none"}
    assert refused
    for row in plan:
        if row["action"] == "none" and all((row["micro_segment_id"], a) in unsupported for a in ("coupon", "call")):
            assert "placebo" in row["reason"], row

"""Context through the chain: ingested, validated and gated as every table, and a feature of customers on its day."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from microseg_assets.cli.main import main
from microseg_assets.planning.staleness import statuses
from microseg_assets.runs import RunFailed
from microseg_assets.storage.ingest_log import compare
from ml import tables
from tests.integration.shop import START, Shop, differences

LAST = START + timedelta(days=6)
STORM, LATER = START + timedelta(days=2), START + timedelta(days=4)
CONTEXT = """\
  context:
    weather:
      path: shop/weather.csv
      by: region
      columns: {occurred_at: date}
      attributes: {sky: string, degrees: double}
    fares: {path: shop/fares.csv, by: region, valid_days: ever, attributes: {fare: double}}
"""
Rows = list[dict[str, str]]


def weather(first: date = START, last: date = LAST) -> Rows:
    """Sun everywhere on every day, but a storm in the north on one."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [
        {
            "date": f"{day}", "region": region, "degrees": f"{day.day + i}",
            "sky": "storm" if (region, day) == ("north", STORM) else "sun",
        }
        for day in days for i, region in enumerate(("north", "south"))
    ]  # fmt: skip


def with_context(shop: Shop) -> Shop:
    text = shop.file.read_text(encoding="utf-8")
    assert text.count("\nvalue:") == 1
    shop.file.write_text(text.replace("\nvalue:", f"\n{CONTEXT.rstrip()}\nvalue:"), encoding="utf-8")
    shop.deliver("weather", weather())
    shop.deliver("fares", [{"region": "north", "occurred_at": f"{START}", "fare": "2.5"}])
    return shop


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop with weather and fares, from ingest to features, in one go; one line of the weather is broken."""
    shop = with_context(Shop.new(tmp_path_factory.mktemp("context") / "made"))
    broken = {"date": f"{START}", "region": "", "degrees": "1", "sky": "sun"}
    undated = {"date": "soon", "region": "north", "degrees": "1", "sky": "sun"}
    shop.deliver("weather", [*weather(), broken, undated])
    shop.execute("to_features", START, LAST)
    return shop


@pytest.fixture
def shop(made: Shop, tmp_path: Path) -> Shop:
    return made.copied_to(tmp_path / "shop")


def said(shop: Shop, *command: str, code: int = 0) -> str:
    with shop.environment():
        result = CliRunner().invoke(main, [*command, "--project", str(shop.file)])
    assert result.exit_code == code, result.output
    return result.output


def sky(shop: Shop, day: date) -> set[tuple[str, str, float, float]]:
    """Each region of customers on a day, with its sky, degrees and fare."""
    names = ("region", "context_sky", "context_degrees", "context_fare")
    return {tuple(row[name] for name in names) for row in shop.rows("customer_features", day)}


def test_every_customer_has_the_context_of_their_region_on_the_day(made: Shop) -> None:
    """Before the storm, on its day, and on the day after, when yesterday's is over."""
    for day in (STORM - timedelta(days=1), STORM, STORM + timedelta(days=1)):
        n = float(day.day)
        expected = {("north", "storm" if day == STORM else "sun", n, 2.5), ("south", "sun", n + 1, None)}
        assert expected <= sky(made, day)
        others = sky(made, day) - expected
        assert others and all(of_region[1:] == (None, None, None) for of_region in others)


def test_rows_are_accepted_or_in_quarantine_with_their_rule(made: Shop) -> None:
    lake = made.workspace.lake
    assert made.table("context_weather", STORM).select(["region", "sky"]).to_pylist() == [
        {"region": "north", "sky": "storm"}, {"region": "south", "sky": "sun"},
    ]  # fmt: skip
    refused = lake.read(tables.QUARANTINE, START, table="context_weather")
    assert refused["rule"].to_pylist() == ["region: missing"]
    undated = lake.read(tables.QUARANTINE, "undated", table="context_weather")
    assert undated["rule"].to_pylist() == ["occurred_at: not a time"]


def test_days_one_by_one_and_a_changed_future_give_the_same_rows(made: Shop, tmp_path: Path) -> None:
    """Days up to the storm, made one at a time, of a shop whose weather after it is another."""
    other = with_context(Shop.new(tmp_path / "other"))
    changed = [row | {"sky": "hail", "degrees": "-3"} for row in weather(STORM + timedelta(days=1))][::2]
    ours = made.delivered("weather")
    other.deliver("weather", [row for row in ours if row["date"] <= f"{STORM}" or row["date"] == "soon"] + changed)
    for n in range((STORM - START).days + 1):
        other.execute("to_features", START + timedelta(days=n))
    other.execute("to_features", STORM + timedelta(days=1), LAST)
    assert differences(made.partitions(STORM), other.partitions(STORM)) == []
    assert sky(made, LATER) != sky(other, LATER), "the future is the same: this shows nothing"


def test_a_late_row_makes_the_days_it_may_hold_on_stale_and_a_rebuild_takes_it_in(shop: Shop) -> None:
    late, changed = {"degrees": "1", "sky": "fog"}, (f"{LATER}", "north")
    rows = shop.delivered("weather")
    shop.deliver("weather", [row | late if (row["date"], row["region"]) == changed else row for row in rows])
    comparison = compare(shop.workspace)
    assert [(c.table, c.day, str(c)) for c in comparison.changes] == [("context_weather", LATER, "other values")]
    stale = {one.asset: sorted(one.stale) for one in statuses(shop.workspace, comparison) if one.stale}
    days = [LATER + timedelta(days=n) for n in range((LAST - LATER).days + 1)]
    assert stale == {"raw_context_weather": [LATER], "context_weather": [LATER], "customer_features": days}
    assert "context_weather: since it was ingested, the source has changed" in said(shop, "status")
    said(shop, "run", "--stale")
    assert ("north", "fog", 1.0, 2.5) in sky(shop, LATER)
    assert not any(one.stale for one in statuses(shop.workspace, compare(shop.workspace)))


def test_a_refused_day_of_context_has_no_features_until_the_source_is_corrected(shop: Shop) -> None:
    rows = shop.delivered("weather")
    shop.deliver("weather", [row | {"degrees": "n/a"} if row["date"] == f"{LATER}" else row for row in rows])
    text = shop.file.read_text(encoding="utf-8")
    shop.file.write_text(f"{text}validation: {{min_refused_rows: 1, max_refused_share: 0.2}}\n", encoding="utf-8")
    with pytest.raises(RunFailed, match="1 day of context_weather was refused"):
        shop.execute("to_features", LATER, LATER)
    assert shop.days("customer_features")[-1] == LATER - timedelta(days=1)
    assert LATER in shop.days("customer_days"), "what customers did on the day is known"
    shop.deliver("weather", rows)
    shop.execute("to_features", LATER, LAST)
    assert ("north", "sun", float(LATER.day), 2.5) in sky(shop, LATER)


def test_a_removed_customer_leaves_while_their_region_s_weather_stays(shop: Shop) -> None:
    """A context is about nobody: it neither keeps a customer nor shows that one is gone."""
    gone = max(row["customer_id"] for row in shop.rows("customer_features", START))
    for table in ("transactions", "customers", "events", "exposures"):
        shop.deliver(table, [row for row in shop.delivered(table) if row["customer_id"] != gone])
    assert compare(shop.workspace).removed.to_pylist() == [gone]
    before = shop.table("context_weather", START)
    shop.execute("to_features", START, LAST)
    assert gone not in {row["customer_id"] for row in shop.rows("customer_features", LAST)}
    assert shop.table("context_weather", START) == before


def test_check_and_status_name_the_context(made: Shop) -> None:
    with made.environment():
        report = CliRunner().invoke(main, ["check", str(made.file)]).output
    assert "2 values of region" in report and "context_sky" in report
    assert "values must be spelt alike in both" in report
    assert "raw_context_fares" in said(made, "status")


def test_a_day_of_context_has_a_page(made: Shop) -> None:
    assert "context_weather" in said(made, "docs", "context_weather", "--day", f"{STORM}")
    assert "did you mean 'context_weather'?" in said(made, "docs", "context_wether", "--day", f"{STORM}", code=2)

"""A customer whom the business has removed from all of its sources leaves every table, file and database of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from microseg_assets.cli.main import main
from microseg_assets.planning.staleness import statuses
from microseg_assets.storage.ingest_log import compare
from tests.integration.shop import STAMPS, START, Shop, day_of

LAST = START + timedelta(days=9)
FIRST_DAYS = START + timedelta(days=2)  # before which only one customer buys, who never comes back


def said(shop: Shop, *command: str) -> str:
    with shop.environment():
        result = CliRunner().invoke(main, [*command, "--project", str(shop.file)])
    assert result.exit_code == 0, result.output
    return result.output


def files_with(shop: Shop, word: str) -> list[str]:
    """Every file below the state folder that holds a word, the sources left out."""
    return sorted(str(p.relative_to(shop.folder)) for p in _files(shop.folder) if word in _content(p))


def _files(folder: Path) -> Iterator[Path]:
    return (p for p in folder.rglob("*") if p.is_file() and "projects" not in p.relative_to(folder).parts)


def _content(path: Path) -> str:
    raw = path.read_bytes().decode("latin-1")
    if path.suffix != ".parquet":
        return raw
    table = pq.ParquetFile(path).read()
    texts = [name for name, field in zip(table.column_names, table.schema, strict=True) if field.type == pa.string()]
    return raw + repr(table.select(texts).to_pylist())


@pytest.fixture
def shop(young: Shop, tmp_path: Path) -> Shop:
    return young.copied_to(tmp_path / "copy")


@pytest.fixture(scope="module")
def young(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Up to features; the first days are of one customer alone, in every table, and the customers have no stamps."""
    shop = Shop.new(tmp_path_factory.mktemp("young") / "shop")
    for table, stamp in STAMPS.items():
        rows = shop.delivered(table)
        if table == "customers":
            rows = [row | {"email": f"{row['customer_id'].lower()}@example.org", stamp: ""} for row in rows]
            rows.append(rows[0] | {"customer_id": "FIRST", "email": "first@example.org"})
        else:
            late = [row for row in rows if (day := day_of(row[stamp])) is None or day > FIRST_DAYS]
            early = [rows[0] | {"customer_id": "FIRST", stamp: f"{START} 03:00:00", "transaction_id": f"F{table}"}]
            rows = [*({name: row[name] for name in rows[0]} for row in early), *late]
        shop.deliver(table, rows)
    file = shop.file.read_text().replace("device: string}", "device: string, email: string}")
    shop.file.write_text(file, encoding="utf-8")
    shop.execute("to_features", START, LAST)
    return shop


def without(shop: Shop, who: str) -> None:
    for table in STAMPS:
        shop.deliver(table, [row for row in shop.delivered(table) if row["customer_id"] != who])


def remove_and_rebuild(shop: Shop, who: str) -> None:
    email = f"{who.lower()}@example.org"
    assert files_with(shop, who) and files_with(shop, email)
    without(shop, who)
    assert compare(shop.workspace).removed.to_pylist() == [who]
    assert "the source has changed on" in said(shop, "status")
    assert "1 customer is no longer in any source" in said(shop, "run", "--stale")
    assert files_with(shop, who) == [] == files_with(shop, email)
    after = compare(shop.workspace)
    assert after.changes == () and len(after.removed) == 0
    assert not any(one.stale for one in statuses(shop.workspace, after))


def test_the_only_customer_of_the_first_days_is_removed_everywhere(shop: Shop) -> None:
    assert {row["customer_id"] for row in shop.rows("transactions", START)} == {"FIRST"}
    others = set(shop.table("customer_features", LAST)["customer_id"].to_pylist()) - {"FIRST"}
    remove_and_rebuild(shop, "FIRST")
    assert shop.table("transactions", START).num_rows == 0
    assert set(shop.table("customer_features", LAST)["customer_id"].to_pylist()) == others


def test_removing_a_customer_changes_neither_others_nor_their_earlier_attributes(shop: Shop) -> None:
    """One among many, on days that others have too; meanwhile the customers' file says other things of the others."""
    who = next(r["customer_id"] for r in shop.rows("transactions", LAST) if r["customer_id"] != "FIRST")
    before = {row["customer_id"]: row for row in shop.rows("customers", START)}
    shop.deliver("customers", [row | {"region": "moon"} for row in shop.delivered("customers")])
    remove_and_rebuild(shop, who)
    after = {row["customer_id"]: row for row in shop.rows("customers", START)}
    assert after == {name: row for name, row in before.items() if name != who}


def test_customers_older_than_a_source_keeps_stay_while_one_of_their_days_is_left(shop: Shop) -> None:
    """Sources that keep their newest days, and a customers' file that only holds who is new."""
    cut = date(2024, 1, 6)
    early = {
        row["customer_id"] for day in shop.days("transactions") if day <= cut for row in shop.rows("transactions", day)
    }
    left = min(early)
    for table, stamp in STAMPS.items():
        rows = shop.delivered(table)
        if table == "customers":
            rows = [row for row in rows if row["customer_id"] == left]
        else:
            rows = [row for row in rows if (day := day_of(row[stamp])) is None or day > cut]
        shop.deliver(table, rows)
    assert len(early) > 1
    comparison = compare(shop.workspace)
    assert len(comparison.removed) == 0 and comparison.changes == ()


def deliver_less(shop: Shop, keep: Callable[[str, dict[str, str], date | None], bool]) -> None:
    """Deliver of every table only the rows that are kept: of which table, the row, and its day if it has one."""
    for table, stamp in STAMPS.items():
        shop.deliver(table, [row for row in shop.delivered(table) if keep(table, row, day_of(row[stamp]))])


def test_customers_dropped_as_old_keep_their_history_unless_sources_are_declared_complete(
    shop: Shop,
) -> None:
    """Sources that keep their newest days, and a customers' file of who has been here on one of them."""
    cut = FIRST_DAYS + timedelta(days=2)
    deliver_less(shop, lambda table, row, day: day is None or day > cut)
    lately = {row["customer_id"] for table in STAMPS if table != "customers" for row in shop.delivered(table)}
    deliver_less(shop, lambda table, row, day: row["customer_id"] in lately)
    comparison = compare(shop.workspace)
    assert len(comparison.removed) == 0 and comparison.changes == ()
    assert "FIRST" in comparison.missing.in_doubt.to_pylist()
    assert "sources_are_complete: true" in said(shop, "status")
    assert "sources_are_complete: true" in said(shop, "run", "--stale")
    assert files_with(shop, "FIRST")
    shop.file.write_text("sources_are_complete: true\n" + shop.file.read_text(), encoding="utf-8")
    declared = Shop(shop.folder)
    assert "FIRST" in compare(declared.workspace).removed.to_pylist()
    assert "will be in no table" in said(declared, "run", "--stale")
    assert files_with(declared, "FIRST") == []
    assert len(compare(declared.workspace).removed) == 0 == len(compare(declared.workspace).missing.in_doubt)


def test_nobody_is_removed_if_one_of_several_exports_is_missing(shop: Shop) -> None:
    """Every third customer in no table any more, on days that hold everything of the others."""
    names = sorted({row["customer_id"] for row in shop.delivered("transactions")})
    deliver_less(shop, lambda table, row, day: row["customer_id"] not in names[::3])
    comparison = compare(shop.workspace)
    assert len(comparison.removed) == 0
    assert set(names[::3]) & set(comparison.missing.in_doubt.to_pylist())


def test_nobody_is_removed_if_sources_keep_their_newest_days_and_are_truncated(shop: Shop) -> None:
    low, high = START + timedelta(days=4), START + timedelta(days=7)
    inside = {
        r["customer_id"] for r in shop.delivered("transactions") if low <= (day_of(r["occurred_at"]) or low) <= high
    }
    deliver_less(
        shop,
        lambda table, row, day: (
            table == "exposures" or (row["customer_id"] in inside if day is None else low <= day <= high)
        ),
    )
    comparison = compare(shop.workspace)
    assert comparison.changes and len(comparison.removed) == 0 < len(comparison.missing.in_doubt)


def test_a_customer_renamed_by_a_map_of_ids_does_not_count_as_removed(shop: Shop) -> None:
    who, other = shop.rows("transactions", LAST)[0]["customer_id"], "RENAMED"
    (shop.data / "ids.csv").write_text(f"source_id,customer_id\n{who},{other}\n", encoding="utf-8")
    text = shop.file.read_text(encoding="utf-8")
    for table in STAMPS:
        text = text.replace(f"{table}.csv", f"{table}.csv, ids: {{path: {shop.name}/ids.csv}}")
    text = text.replace("customers.csv, ids", "customers.csv\n    ids")
    shop.file.write_text(text, encoding="utf-8")
    comparison = compare(Shop(shop.folder).workspace)
    assert comparison.changes and len(comparison.removed) == 0 == len(comparison.missing.in_doubt)

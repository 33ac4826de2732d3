"""Micro-segments follow from accepted rows and the models in force, whichever days were made before, and how."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from microseg_assets.planning.staleness import Reason, statuses
from tests.integration.shop import MONDAY, NEXT_MONDAY, WEDNESDAY, Shop, day_of

DAYS = [MONDAY + timedelta(days=number) for number in range((WEDNESDAY - MONDAY).days + 1)]
EARLIER = [MONDAY - timedelta(days=back) for back in range(21, 0, -1)]  # days that have a snapshot and no value
MADE = ("customer_value", "lifecycle_stages", "layer_assignments", "micro_segments")
Span = tuple[date, date]


@st.composite
def orders(draw: Callable[[st.SearchStrategy[int]], int]) -> list[Span]:
    """Runs that make some of the days: each continues after the days made so far, or before them, or remakes the first
    ones."""
    first = draw(st.integers(0, len(DAYS) - 1))
    last = draw(st.integers(first, min(first + 3, len(DAYS) - 1)))
    spans = [(first, last)]
    for _ in range(draw(st.integers(0, 2))):
        if draw(st.integers(0, 1)) and first > 0:
            spans.append((draw(st.integers(0, first - 1)), first - 1))
            first = spans[-1][0]
        elif last < len(DAYS) - 1:
            spans.append((last + 1, draw(st.integers(last + 1, len(DAYS) - 1))))
            last = spans[-1][1]
        else:
            spans.append(spans[0])
    return [(DAYS[one], DAYS[other]) for one, other in spans]


def made(shop: Shop, days: Span, assets: Sequence[str] = MADE, job: str = "from_value") -> None:
    shop.execute(job, *days, assets=assets)


def strings(shop: Shop, day: date) -> pa.Table:
    return shop.table("micro_segments", day).sort_by([("customer_id", "ascending"), ("micro_segment", "ascending")])


def folder(shop: Shop, table: str) -> Path:
    return shop.folder / "lake" / shop.name / table


@pytest.fixture(scope="module")
def other(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The accepted rows and models that all examples share; each publishes other days."""
    other = shop.copied_to(tmp_path_factory.mktemp("published") / "other")
    made(other, (EARLIER[0], EARLIER[-1]), ("customer_features",), "to_features")  # nothing else needs them
    shutil.copytree(folder(other, "customer_features"), other.folder / "snapshots")
    return other


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@example([(WEDNESDAY, WEDNESDAY), (DAYS[5], DAYS[-2]), (WEDNESDAY, WEDNESDAY)], set())
@given(orders(), st.sets(st.sampled_from(EARLIER), max_size=len(EARLIER)))
def test_which_days_were_made_and_in_which_order_changes_no_micro_segment(
    shop: Shop, other: Shop, order: list[Span], unmade: set[date]
) -> None:
    """Nor does it matter which earlier days have a snapshot."""
    for table in (*MADE, "customer_features"):
        shutil.rmtree(folder(other, table), ignore_errors=True)
    shutil.copytree(other.folder / "snapshots", folder(other, "customer_features"))
    for day in unmade:
        shutil.rmtree(folder(other, "customer_features") / f"day={day}")
    for first, last in order:
        made(other, (first, last))
        for day in other.workspace.calendar.days(first, last):
            assert strings(other, day).equals(strings(shop, day)), f"{day}, made in {order}"


def test_the_values_published_on_earlier_days_change_no_micro_segment(shop: Shop, tmp_path: Path) -> None:
    """Not even one that no model would give: today's model values earlier days."""
    odd = shop.copied_to(tmp_path / "odd")
    lake = odd.workspace.lake
    for day in DAYS[:-1]:
        rows = lake.read(odd.workspace.stored["customer_value"].table, day)
        for name in ("ltv", "p_alive", "expected_orders", "expected_spend"):
            upside_down = pc.subtract(pc.max(rows[name]), rows[name])
            rows = rows.set_column(rows.column_names.index(name), name, upside_down)
        lake.write(odd.workspace.stored["customer_value"].table, day, rows)
    made(odd, (WEDNESDAY, WEDNESDAY), MADE[2:])
    assert strings(odd, WEDNESDAY).equals(strings(shop, WEDNESDAY))


def test_a_snapshot_from_before_late_rows_is_not_read(shop: Shop, tmp_path: Path) -> None:
    """Late rows arrived, and only the day itself was remade: its micro-segments are as if all days had been."""
    late, day = shop.copied_to(tmp_path / "late"), NEXT_MONDAY + timedelta(days=1)
    rows = late.delivered("transactions")
    day = MONDAY + timedelta(days=1)
    of_day = [row for row in rows if day_of(row["occurred_at"]) == day]
    who = sorted({row["customer_id"] for row in rows if row["customer_id"]})[::3]
    more = [
        of_day[0] | {"customer_id": one, "transaction_id": f"LATE{one}", "order_id": f"LATE{one}", "amount": "60.0"}
        for one in who
    ]
    late.deliver("transactions", [*rows, *more])
    made(late, (day, day), ("raw_transactions", "transactions", "customer_days"), "to_features")
    made(late, (day, day), ("customer_features",), "to_features")
    made(late, (day, day))
    alone = strings(late, day)
    made(late, (EARLIER[0], day), ("customer_features",), "to_features")
    made(late, (day, day))
    assert alone.equals(strings(late, day))
    assert not alone.equals(strings(shop, day)), "late rows of a third of all customers change nothing: this is idle"


def test_a_day_is_stale_when_a_day_it_depends_on_has_changed(shop: Shop, tmp_path: Path) -> None:
    """Also if the snapshot of the day itself was remade without a change, and so is not stale. Until Sunday the models
    in force are those of the week before, which know nothing of the changed day."""
    touched = shop.copied_to(tmp_path / "touched")
    workspace, day = touched.workspace, DAYS[1]
    workspace.lake.touch(workspace.stored["customer_days"].table, day)
    made(touched, (day, WEDNESDAY), ("customer_features",), "to_features")
    stale = {one.asset: one.stale for one in statuses(workspace)}
    newly_trained = {one for one in DAYS if one >= NEXT_MONDAY}
    assert not stale["customer_features"]
    assert stale["customer_value"] == dict.fromkeys(newly_trained, Reason("stale", "value_model"))
    assert set(stale["layer_assignments"]) == set(DAYS[1:]) and set(stale["micro_segments"]) == set(DAYS[1:])

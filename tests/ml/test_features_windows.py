"""A range of days in one pass gives exactly what each day gives by itself, whatever the facts and pairs."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.engine import DuckDB, Files
from ml.features import CustomerHistory, FeatureSpec, day_facts, repeated_orders, shared
from ml.features import history as histories
from ml.features.shared import SharedHistory

ENGINE = DuckDB(threads=1)
START = date(2024, 1, 1)
DAYS = 200


def random_history(seed: int, customers: int = 25) -> CustomerHistory:
    """Purchases, refunds, orders in parts, events, exposures and balances of a few customers over 200 days."""
    random = np.random.default_rng(seed)

    def rows(number: int) -> dict[str, list]:
        days = random.integers(0, DAYS, number)
        people = random.integers(0, customers, number)
        stamps = [
            datetime.combine(START, datetime.min.time()) + timedelta(days=int(d), hours=int(h))
            for d, h in zip(days, random.integers(0, 24, number), strict=True)
        ]
        return {"customer_id": [f"c{p}" for p in people], "stamp": stamps}

    bought, events, exposed, read = (rows(n) for n in (600, 500, 200, 100))
    transactions = {
        "customer_id": bought["customer_id"],
        "occurred_at": bought["stamp"],
        "amount": np.round(random.normal(20, 25, 600), 2),
        "order_id": [f"o{i}" if i % 3 else None for i in random.integers(0, 400, 600)],
        "category": [["FUEL", "FOOD", "TOYS", None][i] for i in random.integers(0, 4, 600)],
        "discount": np.round(random.exponential(1, 600), 2),
        "quantity": random.integers(1, 5, 600).astype(float),
    }
    kinds = ["page_view", "add_to_cart", "coupon_redeemed", "other"]
    return CustomerHistory.from_rows(
        ENGINE,
        FeatureSpec(categories=("FUEL", "TOYS")),
        transactions=tables.TRANSACTIONS.filled(pa.table(transactions)),
        events=tables.EVENTS.filled(
            pa.table(
                {
                    "customer_id": events["customer_id"],
                    "occurred_at": events["stamp"],
                    "event_type": [kinds[i] for i in random.integers(0, 4, 500)],
                }
            )
        ),
        exposures=tables.EXPOSURES.filled(
            pa.table(
                {
                    "customer_id": exposed["customer_id"],
                    "exposed_at": exposed["stamp"],
                    "action": [["mail", "control"][i] for i in random.integers(0, 2, 200)],
                }
            )
        ),
        balances=tables.BALANCES.filled(
            pa.table(
                {
                    "customer_id": read["customer_id"],
                    "as_of": read["stamp"],
                    "balance": np.round(random.normal(100, 50, 100), 2),
                }
            )
        ),
    )


def by_single_days(history: CustomerHistory, pairs: pa.Table) -> pa.Table:
    days = sorted(pc.unique(pairs["day"]).to_pylist())
    return pa.concat_tables(
        [history.snapshot(pairs.filter(pc.equal(pairs["day"], pa.scalar(day, pa.date32())))) for day in days]
    )


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    first=st.integers(0, DAYS - 40),
    steps=st.lists(st.sampled_from([1, 1, 1, 2, 7, 28]), min_size=histories.MIN_RANGE_DAYS, max_size=12),
    share=st.sampled_from([1.0, 0.8, 0.6]),
    customers=st.sampled_from([25, 15]),
)
def test_a_range_equals_its_days(seed: int, first: int, steps: list[int], share: float, customers: int) -> None:
    """Consecutive days or not, of all customers or of some, of every day of a customer or of most."""
    history = random_history(seed)
    offsets = np.cumsum([first, *steps])
    pairs = history.known([START + timedelta(days=int(offset)) for offset in offsets])
    pairs = pairs.filter(pc.is_in(pairs["customer_id"], pa.array([f"c{i}" for i in range(customers)])))
    drawn = np.random.default_rng(seed).random(pairs.num_rows) < share
    pairs = pairs.filter(pa.array(drawn))
    assert history.snapshot(pairs).equals(by_single_days(history, pairs))


def test_a_range_that_one_query_cannot_hold_is_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    history = random_history(1)
    days = [START + timedelta(days=i) for i in range(100, 130)]
    whole = history.snapshot_of(*days)
    monkeypatch.setattr(histories, "MAX_PAIRS", 100)
    assert history.snapshot_of(*days).equals(whole)


def test_what_happens_after_a_range_changes_nothing_in_it() -> None:
    history = random_history(2)
    days = [START + timedelta(days=i) for i in range(100, 120)]
    assert history.snapshot_of(*days).equals(history.until(days[-1]).snapshot_of(*days))


def test_orders_in_parts_count_once_in_a_range() -> None:
    """As read from the lake: the facts count each part, and `repeated_orders` takes the later ones back."""
    lines = pa.table(
        {
            "customer_id": ["a"] * 3,
            "occurred_at": [datetime(2024, 1, day, 12) for day in (2, 4, 9)],
            "amount": [10.0, 5.0, 7.0],
            "order_id": ["1", "1", "2"],
        }
    )
    inputs = {name: table.empty_days() for name, table in tables.INPUTS.items()}
    inputs["transactions"] = tables.TRANSACTIONS.filled(lines)
    summed = day_facts(ENGINE, **inputs)
    history = CustomerHistory(
        ENGINE, FeatureSpec(), summed.customer_days, summed.category_days, inputs["customers"],
        repeated_orders(ENGINE, summed.order_days, 30),
    )  # fmt: skip
    days = [date(2024, 1, day) for day in range(2, 12)]
    assert history.snapshot_of(*days)["orders"].to_pylist() == [1] * 7 + [2] * 3
    assert history.snapshot_of(*days)["purchase_days"].to_pylist() == [1] * 7 + [2] * 3
    assert history.snapshot_of(*days).equals(by_single_days(history, history.known(days)))


def test_features_that_are_asked_for_are_those_of_the_whole_snapshot() -> None:
    history = random_history(3)
    for days in ([START + timedelta(days=90)], [START + timedelta(days=i) for i in range(90, 120)]):
        whole = history.snapshot_of(*days)
        for wanted in (["spend_90d"], ["share_fuel", "top_category_90d"], ["comeback_gap_days", "balance"], []):
            names = [name for name in whole.column_names if name in {"customer_id", "day", *wanted}]
            assert history.snapshot(history.known(days), wanted).equals(whole.select(names))


def test_customers_with_a_weekday_each_are_ranges_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for damping: each customer is looked up on one weekday of several weeks."""
    monkeypatch.setattr(histories, "MIN_SPLIT_PAIRS", 1)
    history = random_history(4)
    pairs = history.known([START + timedelta(days=i) for i in range(100, 156)])
    weekdays = [int(name[1:]) % 7 for name in pairs["customer_id"].to_pylist()]
    pairs = pairs.filter(
        pa.array([day.weekday() == w for day, w in zip(pairs["day"].to_pylist(), weekdays, strict=True)])
    )
    assert len(histories._by_weekdays(ENGINE, pairs)) == 7
    assert history.snapshot(pairs).equals(by_single_days(history, pairs))


def test_a_shared_history_computes_a_snapshot_once_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = random_history(5)
    history = SharedHistory.of(plain)
    days = [START + timedelta(days=i) for i in (90, 97, 104)]
    some = plain.known(days).filter(pc.is_in(plain.known(days)["customer_id"], pa.array([f"c{i}" for i in range(9)])))
    assert history.snapshot(some).equals(plain.snapshot(some))
    assert history.snapshot_of(*days).equals(plain.snapshot_of(*days)), "more customers than were computed before"
    earlier = [START + timedelta(days=60), *days]
    assert history.snapshot_of(*earlier).equals(plain.snapshot_of(*earlier)), "one more day"
    monkeypatch.setattr(CustomerHistory, "_summed", lambda *_: pytest.fail("computed again"))
    assert history.snapshot(some).num_rows == some.num_rows
    assert history.snapshot_of(*earlier).num_rows > some.num_rows


def test_a_shared_history_keeps_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "MAX_KEPT_ROWS", 40)
    plain = random_history(6)
    history = SharedHistory.of(plain)
    days = [START + timedelta(days=i) for i in (90, 97, 104)]
    for _ in range(2):
        assert history.snapshot_of(*days).equals(plain.snapshot_of(*days))
    assert sum(rows.num_rows for rows in history._kept.values()) <= 40


def test_a_part_of_a_history_in_files_reads_nothing_later_and_copies_nothing(tmp_path: Path) -> None:
    plain, day = random_history(9), START + timedelta(days=80)
    stored: dict[str, Any] = {}
    for name in ("customer_days", "category_days", "customers"):
        table = getattr(plain, name)
        pq.write_table(table, tmp_path / f"{name}.parquet")
        stored[name] = Files((str(tmp_path / f"{name}.parquet"),), table.schema)
    part = replace(plain, **stored).until(day + timedelta(days=30)).until(day).until(day + timedelta(days=9))
    assert isinstance(part.customer_days, Files)
    later = day + timedelta(days=50)
    assert part.snapshot_of(later).equals(plain.until(day).snapshot_of(later))
    assert not part.snapshot_of(later).equals(plain.snapshot_of(later))


def test_a_part_of_a_shared_history_has_the_same_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = random_history(8)
    history, days = SharedHistory.of(plain), [START + timedelta(days=i) for i in (90, 97, 104)]
    part, plain_part = history.until(days[-1]), plain.until(days[-1])
    assert part.snapshot_of(*days).equals(plain_part.snapshot_of(*days))
    assert history.snapshot_of(*days).equals(plain.snapshot_of(*days))
    monkeypatch.setattr(CustomerHistory, "_summed", lambda *_: pytest.fail("computed again"))
    assert history.until(days[1]).until(days[2]).snapshot_of(*days[:2]).num_rows > 0
    assert part.snapshot_of(*days).num_rows > 0


def test_a_part_of_a_shared_history_keeps_nothing_of_what_it_does_not_know() -> None:
    history = SharedHistory.of(random_history(7))
    day = START + timedelta(days=120)
    whole = history.snapshot_of(day)
    early = history.until(START + timedelta(days=60))
    assert early.snapshot_of(day)["orders"].to_pylist() != whole["orders"].to_pylist()
    other = SharedHistory.of(random_history(7))
    other.until(START + timedelta(days=60)).snapshot_of(day)
    assert other.snapshot_of(day).equals(whole)

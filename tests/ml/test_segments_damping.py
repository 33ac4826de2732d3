"""What damping promises: who trembles at a border stays, who moves is seen, and a day stands on its own."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.layers import LayerModels, LayerSpec, SegmentSpec, assign, fit_layers, lookback_days
from ml.layers.assignment import History, _weekday_of_customer, primary_strings

FIRST, DAYS, CUSTOMERS = date(2024, 1, 1), 90, 400
SPEC = SegmentSpec((LayerSpec("pace", ("a", "b"), k=2),))


def walk(seed: int = 0) -> pa.Table:
    """Two features that tremble around a level for weeks: slow noise, as windows of past days have it.

    From day 60 on a tenth of the customers live at the other end.
    """
    random = np.random.default_rng(seed)
    level = random.normal(0, 1, (CUSTOMERS, 2))
    noise = np.zeros((DAYS, CUSTOMERS, 2))
    for day in range(1, DAYS):
        noise[day] = 0.85 * noise[day - 1] + np.sqrt(1 - 0.85**2) * random.normal(0, 0.35, (CUSTOMERS, 2))
    values = level + noise
    values[60:, : CUSTOMERS // 10] = -2.5 * np.sign(level[: CUSTOMERS // 10].sum(axis=1))[:, None] + noise[60:, :40]
    days = [FIRST + timedelta(day) for day in range(DAYS)]
    return pa.table(
        {
            "customer_id": [f"c{i:04d}" for i in range(CUSTOMERS)] * DAYS,
            "day": pa.array(np.repeat(np.array(days, dtype="datetime64[D]"), CUSTOMERS), pa.date32()),
            "a": values[:, :, 0].ravel(),
            "b": values[:, :, 1].ravel(),
            "known_days": np.repeat(np.arange(DAYS), CUSTOMERS),
            "stage": ["active"] * (CUSTOMERS * DAYS),
        }
    )


def history_of(table: pa.Table) -> History:
    frame = table.to_pandas().set_index(["day", "customer_id"]).sort_index()

    def of(pairs: pa.Table) -> pa.Table:
        rows = frame.loc[list(zip(pairs["day"].to_pylist(), pairs["customer_id"].to_pylist(), strict=True))]
        return pa.Table.from_pandas(rows.reset_index()[["a", "b"]], preserve_index=False)

    return of


def of_days(table: pa.Table, *days: int) -> pa.Table:
    return table.filter(pc.is_in(table["day"], pa.array([FIRST + timedelta(day) for day in days], pa.date32())))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return walk()


@pytest.fixture(scope="module")
def model(table: pa.Table) -> LayerModels:
    return fit_layers(of_days(table, 30), SPEC)


def primary_clusters(table: pa.Table, model: LayerModels, history: History | None) -> np.ndarray:
    strings = primary_strings(table, model, SPEC.layers, history)["micro_segment"].to_pylist()
    return np.array([text[-1] for text in strings]).reshape(-1, CUSTOMERS)


def undone(seen: np.ndarray) -> float:
    """Moves that are undone within 28 days, per customer and day."""
    count = 0
    for day in range(31, 60):
        moved = seen[day] != seen[day - 1]
        count += int((moved & (seen[day + 1 : day + 29] == seen[day - 1]).any(axis=0)).sum())
    return count / (29 * seen.shape[1])


def test_moves_that_are_undone_within_28_days_are_at_most_half_as_many(table: pa.Table, model: LayerModels) -> None:
    stay = slice(CUSTOMERS // 10, None)
    plain, damped = (primary_clusters(table, model, history)[:, stay] for history in (None, history_of(table)))
    assert undone(damped) <= 0.5 * undone(plain)


def test_true_moves_are_seen_within_three_days(table: pa.Table, model: LayerModels) -> None:
    movers = slice(0, CUSTOMERS // 10)
    seen = primary_clusters(table, model, history_of(table))[:, movers]
    settled = seen[75]
    late = [int(np.argmax(seen[60:, i] == settled[i])) for i in range(seen.shape[1]) if seen[59, i] != settled[i]]
    assert len(late) > 30 and np.median(late) <= 3 and np.quantile(late, 0.9) <= 3


def test_a_day_alone_is_what_it_is_among_other_days(table: pa.Table, model: LayerModels) -> None:
    history = history_of(table)
    together = assign(of_days(table, 40, 41, 45, 50), model, history)
    for day in (40, 41, 45, 50):
        alone = assign(of_days(table, day), model, history)
        assert alone.equals(together.filter(pc.equal(together["day"], FIRST + timedelta(day))))


def asked_for(table: pa.Table, model: LayerModels, day: int) -> pa.Table:
    """What the assignment of a day asks the history for."""
    asked: list[pa.Table] = []
    real = history_of(table)
    assign(of_days(table, day), model, lambda pairs: asked.append(pairs) or real(pairs))  # type: ignore[func-returns-value]
    assert len(asked) == 1, "all layers, stages and weeks are asked for together"
    return asked[0]


def test_nothing_later_than_the_day_is_asked_for_and_nobody_before_it_was_known(
    table: pa.Table, model: LayerModels
) -> None:
    days = set(pc.unique(asked_for(table, model, 17)["day"]).to_pylist())
    assert days == set(lookback_days(FIRST + timedelta(17))) & {FIRST + timedelta(n) for n in range(17)}


def test_a_customer_is_looked_at_once_a_week_on_a_weekday_of_its_own(table: pa.Table, model: LayerModels) -> None:
    """On all days the same one, so that the evidence on a customer is renewed once in seven days."""
    seen: dict[str, set[int]] = {}
    for day in range(40, 48):
        asked = asked_for(table, model, day).to_pandas()
        ago = (FIRST + timedelta(day) - asked.day).map(lambda one: one.days)
        assert ago.between(1, 28).all() and (asked.groupby("customer_id").size() == 4).all()
        for who, weekday in zip(asked.customer_id, asked.day.map(date.weekday), strict=True):
            seen.setdefault(who, set()).add(weekday)
    assert {len(weekdays) for weekdays in seen.values()} == {1}


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["{}", "C{:06d}", "{:08x}", "shop-{}@example.org"]), st.sampled_from([1, 2, 7, 14, 1000]))
def test_every_weekday_is_that_of_a_seventh_of_the_customers_whatever_their_ids(text: str, step: int) -> None:
    """Ids that count in sevens too: with 7,000 customers a weekday has 1,000, give or take 30 (one standard error)."""
    ids = pa.array([text.format(number * step) for number in range(7_000)])
    counts = np.bincount(_weekday_of_customer(ids, np.arange(7_000)), minlength=7)
    assert len(counts) == 7 and np.abs(counts - 1000).max() < 150


def test_the_weekday_of_a_customer_stays_what_it_is() -> None:
    """Pinned: another hash would move customers at borders without a cause."""
    ids = pa.array(["C000001", "C000002", "1228", "é"])
    assert _weekday_of_customer(ids, np.arange(4)).tolist() == [0, 5, 2, 0]


def test_the_primary_cluster_is_never_outweighed(table: pa.Table, model: LayerModels) -> None:
    rows = assign(of_days(table, 50), model, history_of(table)).to_pandas()
    top = rows.groupby("customer_id").weight.max()
    assert (rows[rows.is_primary].set_index("customer_id").weight == top).all()
    assert np.allclose(rows.groupby("customer_id").weight.sum(), 1)


def test_served_and_published_agree_where_no_history_is_given(table: pa.Table, model: LayerModels) -> None:
    part = of_days(table, 50)
    daily = assign(part, model).to_pandas().query("is_primary").cluster
    served = model.predict(part.to_pandas().drop(columns="day")).micro_segment.str[-1]
    assert list(daily) == list(served)


def test_a_layer_that_anybody_may_leave_any_week_is_not_damped(table: pa.Table) -> None:
    spec = SegmentSpec((replace(SPEC.layers[0], weekly_switch_probability=0.5),))
    loose = fit_layers(of_days(table, 30), spec)
    part = of_days(table, 40)
    assert primary_clusters(part, loose, history_of(table)).tolist() == primary_clusters(part, loose, None).tolist()


@pytest.mark.parametrize("feature", ["a", "ltv"])
def test_where_nobody_was_known_before_everybody_is_where_today_puts_them(table: pa.Table, feature: str) -> None:
    """Whether the layer is made of features or of what the value model says, which is asked for by itself."""
    named = table.rename_columns(["customer_id", "day", feature, "b", "known_days", "stage"])
    spec = SegmentSpec((LayerSpec("pace", (feature, "b"), k=2),))
    model = fit_layers(of_days(named, 30), spec)
    begun = of_days(named, 40)
    begun = begun.set_column(begun.column_names.index("known_days"), "known_days", pa.array([0] * CUSTOMERS))

    def history(pairs: pa.Table) -> pa.Table:
        raise AssertionError("there is nobody to ask about")

    assert assign(begun, model, history).equals(assign(begun, model))

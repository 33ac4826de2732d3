"""Claims about declared features: they are what plain Python counts, and nothing later than a day changes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import pyarrow as pa
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import tables
from ml.engine import DuckDB
from ml.features import CustomerHistory, FeatureSpec, features_table
from ml.features.declared import By, DeclaredFeature, DeclaredSpec, Ratio, compute, declared_columns
from ml.features.declared import computing as computing_module
from ml.features.declared.queries import blocks
from ml.features.declared.spec import Measure

FIRST = date(2024, 1, 1)
ENGINE = DuckDB(threads=1)
Row = dict[str, Any]

# ── plain Python, as the oracle ───────────────────────────────────────────────────────────────────────────────────

WHERES = {
    "": lambda row: True,
    "event_type = 'cart'": lambda row: row["event_type"] == "cart",
    "value > 2 AND device <> 'pc'": lambda row: (
        row["value"] is not None and row["value"] > 2 and row["device"] is not None and row["device"] != "pc"
    ),
}
OFS = {
    "value": lambda row: row["value"],
    "value * 2 - 3": lambda row: None if row["value"] is None else row["value"] * 2 - 3,
}
TEXTS = {
    "device": lambda row: row["device"],
    "event_type || '/' || device": lambda row: (
        None if row["device"] is None else f"{row['event_type']}/{row['device']}"
    ),
}


def oracle(feature: DeclaredFeature, pair: tuple[str, date], rows: Sequence[Row]) -> list[Any]:
    """The values of the columns of a declaration, one row at a time."""
    customer, day = pair
    own = [row for row in rows if row["customer_id"] == customer and row["day"] <= day]
    results = []
    for measure in feature.measures:
        for value in feature.by.values if feature.by else (None,):
            for window in feature.spans:
                seen = [row for row in own if window == "ever" or (day - row["day"]).days < window]
                kept_rows = [row for row in seen if WHERES[feature.where](row)]
                chosen = [row for row in kept_rows if feature.by is None or row[feature.by.column] == value]
                results.append(measured(measure, feature.of, chosen, kept_rows if feature.by else seen, day))
    return results


def measured(measure: str, of: str, chosen: Sequence[Row], among: Sequence[Row], day: date) -> Any:
    get = OFS.get(of) or TEXTS.get(of) or (lambda row: None)
    numbers = [Decimal(str(get(row))) for row in chosen if of in OFS and get(row) is not None]
    dated = sorted((row["occurred_at"], get(row)) for row in chosen if of and get(row) is not None)
    match measure:
        case "count":
            return len(chosen)
        case "sum":
            return float(sum(numbers))
        case "mean":
            return float(sum(numbers)) / len(numbers) if numbers else None
        case "min" | "max":
            return float((min if measure == "min" else max)(numbers)) if numbers else None
        case "days":
            return len({row["day"] for row in chosen})
        case "distinct":
            return len({value for _, value in dated})
        case "first":
            return dated[0][1] if dated else None
        case "last":
            return dated[-1][1] if dated else None
        case "mode":
            times, latest = Counter(value for _, value in dated), {value: stamp for stamp, value in dated}
            return max(times, key=lambda value: (times[value], latest[value], value)) if times else None
        case "days_since":
            return min(((day - row["day"]).days for row in chosen), default=None)
        case "share":
            if not of:
                return len(chosen) / len(among) if among else None
            gains = [float(sum(Decimal(str(max(get(row) or 0, 0))) for row in rows)) for rows in (chosen, among)]
            return gains[0] / gains[1] if gains[1] > 0 else None
    raise AssertionError(measure)


# ── random declarations over random rows ──────────────────────────────────────────────────────────────────────────

WINDOWS: Any = st.one_of(st.just("ever"), st.integers(1, 40), st.tuples(st.integers(1, 10), st.just("ever")))
BY = st.one_of(st.none(), st.just(By("device", ("phone", "pc"))), st.just(By("value", (3.0, -1.0))))


@st.composite
def declarations(draw: st.DrawFn) -> tuple[DeclaredFeature, ...]:
    features = []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["rows", "numbers", "texts"]))
        of = "" if kind == "rows" else draw(st.sampled_from([*(OFS if kind == "numbers" else TEXTS)]))
        possible = {
            "rows": ("count", "days", "days_since", "share"),
            "numbers": ("sum", "mean", "min", "max", "share", "distinct", "last", "mode", "first"),
            "texts": ("distinct", "first", "last", "mode", "count"),
        }[kind]
        measures: Any = tuple(draw(st.lists(st.sampled_from(possible), min_size=1, max_size=3, unique=True)))
        features.append(
            DeclaredFeature(
                f"f{number}", "events", draw(st.sampled_from([*WHERES])), measures, of, draw(WINDOWS), draw(BY)
            )
        )
    return tuple(features)


@st.composite
def events(draw: st.DrawFn, days: tuple[int, int] = (0, 60), max_rows: int = 25) -> list[Row]:
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from("abc"), st.integers(*days), st.integers(0, 2), st.sampled_from(["cart", "view"]),
                st.sampled_from(["phone", "pc", None]), st.sampled_from([3.0, -1.0, 0.25, 12.5, None]),
            ),
            max_size=max_rows,
        )
    )  # fmt: skip
    return [event(*one) for one in drawn]


def event(
    customer: str, day: int, hour: int = 12, kind: str = "cart", device: str | None = None, value: float | None = None
) -> Row:
    on = FIRST + timedelta(days=day)
    stamp = datetime(on.year, on.month, on.day, hour)
    return {
        "customer_id": customer, "occurred_at": stamp, "event_type": kind, "device": device, "value": value, "day": on,
    }  # fmt: skip


def table_of(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=tables.EVENTS.empty_days().schema)


def pairs_of(*days: int, customers: str = "abcd") -> pa.Table:
    pairs = [(customer, FIRST + timedelta(days=day)) for day in days for customer in customers]
    return pa.table({"customer_id": [one for one, _ in pairs], "day": pa.array([day for _, day in pairs], pa.date32())})


def computed(features: tuple[DeclaredFeature, ...], pairs: pa.Table, rows: Sequence[Row]) -> pa.Table:
    return compute(ENGINE, DeclaredSpec(features), pairs, {"events": table_of(rows)})


@settings(max_examples=30, deadline=None)
@given(declarations(), events(), st.sets(st.integers(0, 60), min_size=1, max_size=3), st.sampled_from([1, 3, 1000]))
def test_they_are_what_plain_python_counts_however_the_work_is_split(
    features: tuple[DeclaredFeature, ...], rows: list[Row], days: set[int], limit: int
) -> None:
    pairs = pairs_of(*days)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(computing_module, "MAX_PAIRS", limit)
        patch.setattr(computing_module, "MAX_CELLS", limit)
        patch.setattr(computing_module, "MIN_FIGURES", 1)
        result = computed(features, pairs, rows)
    names = [column.name for column in declared_columns(DeclaredSpec(features))]
    assert result.column_names == ["customer_id", "day", *names]
    keys = sorted((day, customer) for customer, day in zip(*pairs.to_pydict().values(), strict=True))
    assert [(row["day"], row["customer_id"]) for row in result.to_pylist()] == keys
    for row in result.to_pylist():
        expected = [v for feature in features for v in oracle(feature, (row["customer_id"], row["day"]), rows)]
        assert [row[name] for name in names] == expected, (row, names)


@settings(max_examples=15, deadline=None)
@given(declarations(), events((0, 30)), events((31, 60)), events((31, 60)), st.integers(0, 30))
def test_whatever_is_changed_added_or_deleted_later_changes_nothing(
    features: tuple[DeclaredFeature, ...], past: list[Row], future: list[Row], other: list[Row], day: int
) -> None:
    pairs = pairs_of(day)
    assert computed(features, pairs, past + future) == computed(features, pairs, past + other)


@settings(max_examples=15, deadline=None)
@given(declarations(), events(), st.sets(st.integers(0, 60), min_size=2, max_size=4))
def test_several_days_at_once_are_as_each_alone(
    features: tuple[DeclaredFeature, ...], rows: list[Row], days: set[int]
) -> None:
    together = computed(features, pairs_of(*days), rows)
    alone = [computed(features, pairs_of(day), rows) for day in sorted(days)]
    assert together == pa.concat_tables(alone)


@settings(max_examples=10, deadline=None)
@given(declarations(), events(), st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing(features: tuple[DeclaredFeature, ...], rows: list[Row], random: Any) -> None:
    shuffled = random.sample(rows, len(rows))
    assert computed(features, pairs_of(40), rows) == computed(features, pairs_of(40), shuffled)


# ── in a snapshot ─────────────────────────────────────────────────────────────────────────────────────────────────

CARTS = DeclaredFeature("carts", "events", "event_type = 'cart'", windows=(7, "ever"))
SPENT = DeclaredFeature("spent", "transactions", measure=("sum", "last"), of="amount", windows=30)
OWN = (
    CARTS,
    DeclaredFeature("carts_per_order", ratio=Ratio("carts", "orders")),
    DeclaredFeature("twice", ratio=Ratio("carts_per_order", "spent_sum_30d")),
    SPENT,
)


def history(undo_within_days: int | None = None) -> CustomerHistory:
    lines = [("a", 0, 20.0), ("a", 20, 5.0), ("b", 3, 30.0), ("b", 4, -30.0)]
    rows = [
        {"customer_id": id_, "occurred_at": datetime(2024, 1, 1, 12) + timedelta(days=day), "amount": amount}
        for id_, day, amount in lines
    ]
    return CustomerHistory.from_rows(
        ENGINE,
        FeatureSpec(declared=DeclaredSpec(OWN), undo_within_days=undo_within_days),
        transactions=tables.TRANSACTIONS.filled(pa.Table.from_pylist(rows)),
        events=table_of([event("a", 1), event("a", 19), event("c", 9)]),
    )


@pytest.mark.parametrize("undo_within_days", [None, 7])
def test_a_snapshot_holds_them_beside_all_other_features(undo_within_days: int | None) -> None:
    known = history(undo_within_days)
    table = known.snapshot_of(FIRST + timedelta(days=21), FIRST + timedelta(days=5))
    assert table.column_names == ["customer_id", "day", *features_table(known.spec).names[1:]]
    names = ("carts_7d", "carts", "carts_per_order", "twice", "spent_sum_30d", "spent_last_30d")
    rows = {(row["customer_id"], row["day"].day): tuple(row[name] for name in names) for row in table.to_pylist()}
    assert rows["a", 22] == (1, 2, 1.0, 1 / 25, 25.0, 5.0)
    assert rows["a", 6] == (1, 1, 1.0, 1 / 20, 20.0, 20.0)
    assert rows["b", 22] == (0, 0, 0.0 if undo_within_days is None else None, None, 0.0, -30.0)
    assert rows["c", 22] == (0, 1, None, None, 0.0, None)


def test_a_project_without_declarations_reads_no_rows() -> None:
    known = replace(history(), spec=FeatureSpec())
    assert known.snapshot_of(FIRST).equals(replace(known, rows={}).snapshot_of(FIRST))


def test_a_day_of_no_rows_at_all_has_zeros_and_missing_values() -> None:
    spec = DeclaredSpec((CARTS, DeclaredFeature("last", "events", measure="last", of="device")))
    nobody = compute(ENGINE, spec, pairs_of(5).slice(0, 0), {"events": table_of([])})
    assert nobody.num_rows == 0 and nobody.schema.field("last").type == pa.string()
    (row,) = compute(ENGINE, spec, pairs_of(5, customers="a"), {"events": table_of([])}).to_pylist()
    assert (row["carts_7d"], row["carts"], row["last"]) == (0, 0, None)


EVERY_MEASURE = tuple(
    DeclaredFeature(f"{measure}_{number}", "events", "value > 1", measure, "value", (7, "ever"), by)
    for measure in get_args(Measure)
    for number, by in enumerate((None, By("device", ("phone", 'it\'s "new"'))))
)


def test_every_query_can_be_written_for_spark() -> None:
    figures = dict.fromkeys(f for column in declared_columns(DeclaredSpec(EVERY_MEASURE)) for f in column.figures)
    queries = [block.sql for block in blocks(list(figures), [tables.EVENTS], 5)]
    for query in queries:
        (spark,) = sqlglot.transpile(query, read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
        tree = sqlglot.parse_one(spark, read="spark")
        assert not list(tree.find_all(sqlglot.exp.Anonymous, sqlglot.exp.Command)), spark
    assert len(queries) >= 10

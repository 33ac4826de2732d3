"""What a day costs at the least: the bare operations that no design can do without, on the same sizes.

    .venv/bin/python -m tests.benchmarks.engine.floor HOME DAY

Belongs here: a DuckDB group-by over the lake's facts, the prediction of the LightGBM models that were fitted and of
k-means, and writing the day's rows as Parquet; no checks, no plan, no reasons. Medians of three, imports left out.
Prints one line of JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from tests.benchmarks.engine.system import PROJECT

RUNS = 3
WINDOWS = (28, 90)  # days, beside everything until the day
LAYERS, CLUSTERS, LAYER_COLUMNS = 5, 5, 8
DAILY_TABLES = (
    "customer_features", "customer_value", "lifecycle_stages", "layer_assignments", "micro_segments", "audiences",
    "movements", "journey_forecasts", "action_plan",
)  # fmt: skip
_NUMBERS = ("BIGINT", "DOUBLE", "INTEGER", "HUGEINT")


def timed(operation: Callable[[], Any]) -> float:
    """Median seconds of an operation."""
    took = []
    for _ in range(RUNS):
        started = time.perf_counter()
        operation()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def group_by(lake: Path, day: str) -> float:
    """Sums per customer over all days and over each window, and over categories: one pass over each table of facts."""
    engine = duckdb.connect()
    engine.execute("SET enable_progress_bar = false")

    def facts(name: str) -> str:
        files = f"{lake / name}/*/*.parquet"
        source = f"read_parquet('{files}', hive_partitioning = true)"
        return f"(SELECT * FROM {source} WHERE day <= DATE '{day}')"

    days, categories = facts("customer_days"), facts("customer_category_days")
    columns = engine.execute(f"DESCRIBE SELECT * FROM {days}").fetchall()
    numbers = [f'"{name}"' for name, type_, *_ in columns if type_ in _NUMBERS]
    sums = [f"SUM({number})" for number in numbers]
    sums += [f"SUM(CASE WHEN day > DATE '{day}' - {w} THEN {number} END)" for number in numbers for w in WINDOWS]

    def run() -> None:
        engine.sql(
            f"SELECT customer_id, MIN(day), MAX(day), COUNT(*), {', '.join(sums)} FROM {days} GROUP BY customer_id"
        ).to_arrow_table()
        engine.sql(
            f"SELECT customer_id, category, SUM(amount) FROM {categories} GROUP BY customer_id, category"
        ).to_arrow_table()

    return timed(run)


def predict(models: Path, customers: int) -> tuple[float, int]:
    """Seconds that the boosters which were fitted for use take for all customers, and how many they are."""
    import lightgbm

    rng = np.random.default_rng(0)
    files = list(models.rglob("model/final_*.txt"))
    newest = max(files, key=lambda path: path.stat().st_mtime).parent if files else None
    files = [path for path in files if path.parent == newest]
    boosters = [lightgbm.Booster(model_file=str(path)) for path in files]
    inputs = {columns: rng.random((customers, columns)) for columns in {one.num_feature() for one in boosters}}
    return timed(lambda: [one.predict(inputs[one.num_feature()]) for one in boosters]), len(boosters)


def assign(customers: int) -> float:
    """Seconds of k-means' assignment of all customers in as many layers as are preset."""
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(0)
    model = KMeans(CLUSTERS, n_init=1, random_state=0).fit(rng.random((5_000, LAYER_COLUMNS)))
    layers = [rng.random((customers, LAYER_COLUMNS)) for _ in range(LAYERS)]
    return timed(lambda: [model.predict(layer) for layer in layers])


def write(lake: Path, day: str) -> tuple[float, int]:
    """Seconds that writing the day's tables takes, and how many rows they have."""
    rows = [
        pq.ParquetFile(path).read() for name in DAILY_TABLES for path in (lake / name / f"day={day}").glob("*.parquet")
    ]

    def run(folder: str) -> None:
        for number, table in enumerate(rows):
            pq.write_table(table, f"{folder}/{number}.parquet", compression="zstd")

    with tempfile.TemporaryDirectory() as folder:
        return timed(lambda: run(folder)), sum(table.num_rows for table in rows)


def main() -> None:
    """Measure the floor of a state folder's newest day."""
    home, day = Path(sys.argv[1]), sys.argv[2]
    lake = home / "lake" / PROJECT
    features = lake / "customer_features" / f"day={day}"
    customers = sum(pq.read_metadata(path).num_rows for path in features.glob("*.parquet"))
    boosting, boosters = predict(home / "mlartifacts", customers)
    writing, rows = write(lake, day)
    parts = {
        "group_by": group_by(lake, day), "lightgbm_predict": boosting, "kmeans_predict": assign(customers),
        "write": writing,
    }  # fmt: skip
    sizes = {"customers": customers, "boosters": boosters, "rows_written": rows}
    print(json.dumps({"parts": parts, "seconds": sum(parts.values()), **sizes}))


if __name__ == "__main__":
    main()

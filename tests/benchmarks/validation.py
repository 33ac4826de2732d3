"""How long the validation of one big day takes: `python -m tests.benchmarks.validation`.

A day of a million rows is judged by the table's rules, as the asset does it (Arrow in; accepted rows, refused rows and
the verdict out; four weeks of profiles and the ids of a million earlier rows to compare with), and both outcomes are
written. The figures are medians after one run that warms up imports and caches; the share of bad rows is 1 % and 50 %.
Beside the seconds by the clock stand those that the processor worked, on all cores together: on a machine that has more
to do, they say what a free one would take at most.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from expectations import Past, ValidationSpec, row_rules, validate
from expectations.profiles import profile
from microseg_assets.storage.lake import Lake
from ml.engine import DuckDB
from ml.tables import QUARANTINE, TRANSACTIONS
from ml.tables.outputs import INPUT_PROFILES

DAY = date(2024, 3, 1)
LIMIT = 5.0  # seconds for a million rows


def delivered(rows: int, bad: float, seed: int = 0) -> pa.Table:
    """A day as a source gives it: every column filled, `bad` of the rows broken in one of four ways."""
    rng = np.random.default_rng(seed)
    amount, discount = rng.gamma(2, 10, rows).round(2), rng.random(rows).round(2)
    kind = np.where(rng.random(rows) < bad, rng.integers(1, 5, rows), 0)
    amount[kind == 1], amount[kind == 2], discount[kind == 3] = np.nan, 1e9, -3.0
    customers = _text("C", rng.integers(0, 300_000, rows))
    stamps = np.datetime64(DAY, "us") + rng.integers(0, 86_400_000_000, rows).astype("timedelta64[us]")
    columns = {
        "customer_id": pc.if_else(pa.array(kind == 4), pa.scalar(None, pa.string()), customers),
        "occurred_at": pa.array(stamps),
        "amount": amount,
        "transaction_id": _text("t", rng.permutation(rows) + seed * rows),
        "order_id": _text("o", rng.integers(0, rows // 4, rows)),
        "product_id": _text("p", rng.integers(0, 30_000, rows)),
        "category": _text("k", rng.integers(0, 12, rows)),
        "discount": discount,
        "quantity": rng.integers(1, 5, rows).astype(float),
        "margin": amount * 0.3,
        "day": pa.array([DAY] * rows, pa.date32()),
        "source": pa.array(["lines.csv"] * rows),
        "problem": pa.nulls(rows, pa.string()),
        "delivered": pa.nulls(rows, pa.string()),
    }
    return pa.table(columns)


def _text(prefix: str, numbers: np.ndarray) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")


def past(engine: DuckDB, rows: int) -> Past:
    """Four weeks of days like it, the ids of one of them, and two in three customers known."""
    before = delivered(rows, 0.0, seed=1)
    accepted = before.select([*TRANSACTIONS.names, "day"])
    of_day = profile(engine, TRANSACTIONS, accepted)
    days = [DAY - timedelta(days=n) for n in range(1, 29)]
    position = of_day.column_names.index("day")
    profiles = [of_day.set_column(position, "day", pa.array([d] * of_day.num_rows, pa.date32())) for d in days]
    known = _text("C", np.arange(200_000))
    customers = pa.table({"customer_id": known, "day": pa.array([days[-1]] * len(known), pa.date32())})
    return Past(pa.concat_tables(profiles), frozenset(days), days[-1], accepted.select(["transaction_id"]), customers)


def seconds(rows: int, bad: float, repeats: int) -> tuple[list[float], list[float], list[float]]:
    """Seconds of judging and of writing, of each repeat, and those that the processor worked."""
    engine = DuckDB()
    spec, rows_delivered, before = ValidationSpec(max_refused_share=0.6), delivered(rows, bad), past(engine, rows)
    judging, writing, worked = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeats + 1):
            lake = Lake(f"{folder}/{number}", "benchmark")
            started, busy = time.perf_counter(), time.process_time()
            result = validate(engine, TRANSACTIONS, rows_delivered, [DAY], spec, before)
            judged = time.perf_counter()
            lake.write(TRANSACTIONS, DAY, result.accepted)
            lake.write(QUARANTINE, DAY, result.refused, table="transactions")
            assert result.profiles is not None
            lake.write(INPUT_PROFILES, DAY, result.profiles, table="transactions")
            judging.append(judged - started)
            writing.append(time.perf_counter() - judged)
            worked.append(time.process_time() - busy)
            assert result.accepted.num_rows + result.refused.num_rows == rows
    return judging[1:], writing[1:], worked[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(
        f"{arguments.rows:,} rows, {len(row_rules(TRANSACTIONS, ValidationSpec()))} rules, {arguments.repeats} repeats"
    )
    print(
        f"{'bad rows':>9} {'judging':>9} {'writing':>9} {'together':>9} {'worst':>9} {'processor':>9}   of {LIMIT:g} s"
    )
    for bad in (0.01, 0.5):
        judging, writing, worked = seconds(arguments.rows, bad, arguments.repeats)
        together = [a + b for a, b in zip(judging, writing, strict=True)]
        middle = statistics.median(together)
        print(
            f"{bad:>9.0%} {statistics.median(judging):>7.2f} s {statistics.median(writing):>7.2f} s {middle:>7.2f} s "
            f"{max(together):>7.2f} s {statistics.median(worked):>7.2f} s   {middle / LIMIT:.0%}"
        )


if __name__ == "__main__":
    main()

"""Computes declared features of pairs of customer and day.

Belongs here: which rows are read for which pairs, and the columns made of their aggregates. Does not belong here: SQL
(see `queries`), and what a declaration means (see `columns`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from graphlib import TopologicalSorter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.engine import Engine, Input
from ml.features.declared.columns import DeclaredColumn, Figure, declared_columns
from ml.features.declared.queries import Block, blocks
from ml.features.declared.spec import DeclaredSpec
from ml.tables import ARROW

MAX_PAIRS = 200_000  # pairs of one query, unless a single day has more
MAX_CELLS = 20_000_000  # pairs times figures of one query: about a gigabyte while it runs
MIN_FIGURES = 20  # figures of one query, whatever the number of pairs


def compute(
    engine: Engine, spec: DeclaredSpec, pairs: pa.Table, rows: Mapping[str, Input], features: pa.Table | None = None
) -> pa.Table:
    """Compute the declared features of each pair of customer and day, as of the end of the day.

    Counts and sums are 0 where there are no rows; everything else is missing then. Sums are exact to four decimals, so
    that they do not depend on the order of rows.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    spec : DeclaredSpec
        The declarations.
    pairs : pa.Table
        Columns customer_id and day, no pair twice.
    rows : Mapping of str to Input
        Accepted rows of each of `spec.tables`, with their `day`. Rows after a pair's day do not count.
    features : pa.Table, optional
        Other features of the pairs, ordered by day and customer, for ratios of them.

    Returns
    -------
    pa.Table
        One row per pair, ordered by day and customer: customer_id, day, and a column for each feature.

    Raises
    ------
    KeyError
        If a ratio is of a feature that is neither declared nor among `features`.

    Examples
    --------
    >>> from datetime import datetime
    >>> from ml import tables
    >>> from ml.engine import DuckDB
    >>> from ml.features.declared import By, DeclaredFeature
    >>> clicks = {"customer_id": ["a", "a"], "occurred_at": [datetime(2024, 1, 2, 9), datetime(2024, 1, 9, 9)]}
    >>> events = tables.EVENTS.filled(pa.table({**clicks, "event_type": ["cart", "cart"], "device": ["phone", "pc"]}))
    >>> carts = DeclaredFeature("carts", "events", "event_type = 'cart'", windows=7, by=By("device", ("phone", "pc")))
    >>> pairs = pa.table({"customer_id": ["a"], "day": [date(2024, 1, 10)]})
    >>> table = compute(DuckDB(threads=1), DeclaredSpec((carts,)), pairs, {"events": events})
    >>> table.select(["carts_by_phone_7d", "carts_by_pc_7d"]).to_pylist()
    [{'carts_by_phone_7d': 0, 'carts_by_pc_7d': 1}]
    """
    columns = declared_columns(spec)
    pairs = _ordered(pairs.select(["customer_id", "day"]))
    parts = [_of_figures(columns, _figures(engine, spec, part, rows), part.num_rows) for part in _parts(pairs)]
    computed = {
        column.name: pa.chunked_array(
            [c for part in parts for c in part[column.name].chunks], ARROW[column.column.type]
        )
        for column in columns
        if column.ratio is None
    }
    known = {name: features[name] for name in features.column_names} if features is not None else {}
    for column in _in_order(columns):
        assert column.ratio is not None
        both = {**known, **computed}
        computed[column.name] = _divided(both[column.ratio.of], both[column.ratio.to])
    return pa.table(
        {
            "customer_id": pairs["customer_id"].cast(pa.string()),
            "day": pairs["day"].cast(pa.date32()),
            **{column.name: computed[column.name] for column in columns},
        }
    )


def _ordered(pairs: pa.Table) -> pa.Table:
    return pairs.take(pc.sort_indices(pairs, sort_keys=[("day", "ascending"), ("customer_id", "ascending")]))


def _parts(pairs: pa.Table) -> Iterator[pa.Table]:
    """The pairs, whole days at a time."""
    runs = pc.run_end_encode(pairs["day"].combine_chunks())
    start, end = 0, 0
    for stop in [*runs.run_ends.to_pylist()] if pairs.num_rows else []:
        if stop - start > MAX_PAIRS and end > start:
            yield pairs.slice(start, end - start)
            start = end
        end = stop
    if end > start:
        yield pairs.slice(start, end - start)


def _figures(
    engine: Engine, spec: DeclaredSpec, pairs: pa.Table, rows: Mapping[str, Input]
) -> dict[Figure, pa.ChunkedArray]:
    """Each figure of the pairs, in their order; missing where a pair has no rows."""
    numbered = pairs.append_column("n", pa.array(np.arange(pairs.num_rows)))
    days = pc.min_max(pairs["day"]).as_py()
    width = max(MIN_FIGURES, MAX_CELLS // pairs.num_rows)
    result_by_figure: dict[Figure, pa.ChunkedArray] = {}
    for block in _blocks(spec, width):
        back = date.min if block.lookback_days is None else days["min"] - timedelta(days=block.lookback_days - 1)
        parameters = {"first": back, "last": days["max"]}
        result = engine.query(block.sql, parameters, pairs=numbered, input_rows=rows[block.table.name])
        line = np.full(pairs.num_rows, -1)
        line[result["n"].to_numpy()] = np.arange(result.num_rows)
        lines = pa.array(line, mask=line < 0)
        for number, figure in enumerate(block.figures):
            result_by_figure[figure] = result[f"f{number}"].take(lines)
    return result_by_figure


@lru_cache(maxsize=64)
def _blocks(spec: DeclaredSpec, width: int) -> list[Block]:
    figures = dict.fromkeys(figure for column in declared_columns(spec) for figure in column.figures)
    return blocks(list(figures), spec.inputs, width)


def _of_figures(
    columns: Sequence[DeclaredColumn], figures: Mapping[Figure, pa.ChunkedArray], rows: int
) -> dict[str, pa.ChunkedArray]:
    """The columns of some pairs, except for ratios."""
    made: dict[str, pa.ChunkedArray] = {}
    for column in columns:
        type_ = ARROW[column.column.type]
        values = [figures[figure] for figure in column.figures]
        match column.measure:
            case "ratio":
                continue
            case "mean":
                made[column.name] = _divided(*values)
            case "share":
                whole = pc.if_else(pc.greater(values[1], 0), values[1], None)
                made[column.name] = _divided(values[0].fill_null(0), whole)
            case "count" | "days" | "distinct" | "sum":
                made[column.name] = values[0].cast(type_).fill_null(0)
            case _:
                made[column.name] = values[0].cast(type_)
    return made


def _divided(of: pa.ChunkedArray, to: pa.ChunkedArray) -> pa.ChunkedArray:
    """One column divided by another; missing where that is missing or 0."""
    divisor = pc.cast(to, pa.float64())
    return pc.divide(pc.cast(of, pa.float64()), pc.if_else(pc.equal(divisor, 0), None, divisor))


def _in_order(columns: Sequence[DeclaredColumn]) -> list[DeclaredColumn]:
    """The ratios, each after those that it divides."""
    ratios = {column.name: column for column in columns if column.ratio is not None}
    needs = {name: {column.ratio.of, column.ratio.to} for name, column in ratios.items() if column.ratio}
    return [ratios[name] for name in TopologicalSorter(needs).static_order() if name in ratios]

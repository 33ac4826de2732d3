"""Unmapped columns of numbers, compared with the mapped ones: the total of a line, the number of pieces.

Belongs here: products and sums that hold in nearly all rows. Does not belong here: names of columns, and which of them
the project maps (see the project file).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from ml.engine import Engine, Input, quoted
from ml.profile.observations import Code, Observation

MAX_COLUMNS = 8  # columns that are tried
MIN_HOLDING_SHARE = 0.95  # share of the rows that a product must hold in
MIN_ROWS = 20  # informative rows, below which there is no observation
MAX_ROUNDING = 0.011  # by how much a rounded product may be off
MIN_NET_SHARE = 0.5  # share of the amount that is left after discounts or taxes
MIN_EQUAL_SHARE = 0.2  # share of the rows in which nothing was taken off
_AMOUNT, _QUANTITY = "amount", "quantity"


def observe(engine: Engine, table: str, rows: Input, columns: Mapping[str, str]) -> Iterator[Observation]:
    """Unmapped numbers that seem to be what a mapped column should hold.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    table : str
        Name of the table.
    rows : Input
        `amount`, `quantity` and the columns of `columns`, which are texts.
    columns : mapping of str to str
        Unmapped columns: the source's name to the name in `rows`.
    """
    numbers = _numbers(engine, rows, columns)
    if not numbers:
        return
    named = {name: source for source, name in columns.items()} | {_QUANTITY: _QUANTITY}
    totals: set[str] = set()
    has_quantity = _is_filled(engine, rows, _QUANTITY)
    for (one, other), total, share in _products(engine, rows, [_AMOUNT, _QUANTITY, *numbers]):
        if one == _AMOUNT and total in numbers and total not in totals:
            figures = {"column": named[total], "quantity": named[other], "share": share}
            totals.add(total)
            yield Observation(Code.PRICE_OF_A_PIECE, table, figures)
        elif total == _AMOUNT and not has_quantity:
            has_quantity = True
            yield Observation(Code.QUANTITY, table, {"column": named[other], "price": named[one], "share": share})
    for name in numbers:
        if name not in totals:
            yield from _net(engine, table, rows, name, named[name])


def _number(name: str) -> str:
    """SQL of a column as a number, with either decimal sign; mapped columns are numbers already."""
    if name in (_AMOUNT, _QUANTITY):
        return f"CAST({name} AS DOUBLE)"
    return f"TRY_CAST(replace({quoted(name)}, ',', '.') AS DOUBLE)"


def _numbers(engine: Engine, rows: Input, columns: Mapping[str, str]) -> list[str]:
    """The columns that hold more than one number."""
    if not columns:
        return []
    counts = ", ".join(
        f"COUNT(CASE WHEN trim({quoted(name)}) <> '' THEN 1 END) AS filled_{i}, COUNT({_number(name)}) AS read_{i}, "
        f"COUNT(DISTINCT {_number(name)}) AS different_{i}"
        for i, name in enumerate(columns.values())
    )
    (result,) = engine.query(f"SELECT {counts} FROM rows", rows=rows).to_pylist()
    return [
        name
        for i, name in enumerate(columns.values())
        if result[f"read_{i}"] >= max(MIN_HOLDING_SHARE * result[f"filled_{i}"], MIN_ROWS)
        and result[f"different_{i}"] > 1
    ][:MAX_COLUMNS]


def _is_filled(engine: Engine, rows: Input, name: str) -> bool:
    return bool(engine.query(f"SELECT 1 AS x FROM rows WHERE {name} IS NOT NULL LIMIT 1", rows=rows).num_rows)


def _products(engine: Engine, rows: Input, names: Sequence[str]) -> list[tuple[tuple[str, str], str, float]]:
    """Pairs of columns, of which the second counts pieces, the column that is their product, and its share of rows.

    A row is informative if neither factor is 0 or 1; over these rows the number of pieces is whole and varies.
    """
    candidates = [
        ((one, other), total)
        for pair in combinations(names, 2)
        for one, other in (pair, pair[::-1])
        for total in names
        if total not in pair and _AMOUNT in (one, other, total) and other != _AMOUNT and one != _QUANTITY
    ]
    if not candidates:
        return []
    values = ", ".join(f"{_number(name)} AS v{i}" for i, name in enumerate(names))
    column = {name: f"v{i}" for i, name in enumerate(names)}
    parts = []
    for i, ((one, other), total) in enumerate(candidates):
        a, b, c = column[one], column[other], column[total]
        is_informative = f"{a} NOT IN (0, 1) AND {b} NOT IN (0, 1) AND {c} IS NOT NULL"
        holds = (
            f"{is_informative} AND {b} = floor({b}) AND abs({a} * {b} - {c}) <= {MAX_ROUNDING} * greatest(1, abs({b}))"
        )
        parts.append(
            f"COUNT(CASE WHEN {is_informative} THEN 1 END) AS informative_{i}, "
            f"COUNT(CASE WHEN {holds} THEN 1 END) AS holds_{i}, "
            f"COUNT(DISTINCT CASE WHEN {holds} THEN {b} END) AS different_{i}, "
            f"COUNT(DISTINCT CASE WHEN {holds} THEN {a} END) AS prices_{i}"
        )
    (counts,) = engine.query(
        f"WITH numbers AS (SELECT {values} FROM rows) SELECT {', '.join(parts)} FROM numbers", rows=rows
    ).to_pylist()
    products = []
    for i, (pair, total) in enumerate(candidates):
        informative, holding = counts[f"informative_{i}"], counts[f"holds_{i}"]
        is_varied = counts[f"different_{i}"] > 1 and counts[f"prices_{i}"] > counts[f"different_{i}"]
        if informative >= MIN_ROWS and holding >= MIN_HOLDING_SHARE * informative and is_varied:
            products.append((pair, total, holding / informative))
    return products


def _net(engine: Engine, table: str, rows: Input, name: str, source: str) -> Iterator[Observation]:
    """Whether a column equals the amount in many rows and is less in the others, as after a discount."""
    (counts,) = engine.query(
        f"""
        WITH numbers AS (SELECT CAST(amount AS DOUBLE) AS amount, {_number(name)} AS other FROM rows)
        SELECT COUNT(*) AS rows,
               COUNT(CASE WHEN abs(other - amount) <= {MAX_ROUNDING} THEN 1 END) AS equal,
               COUNT(CASE WHEN other BETWEEN {MIN_NET_SHARE} * amount AND amount + {MAX_ROUNDING} THEN 1 END) AS part,
               SUM(other) / NULLIF(SUM(amount), 0) AS ratio
        FROM numbers WHERE amount > 0 AND other IS NOT NULL
        """,
        rows=rows,
    ).to_pylist()
    equal, part, rows_above_0 = counts["equal"], counts["part"], counts["rows"]
    if rows_above_0 < MIN_ROWS or part < MIN_HOLDING_SHARE * rows_above_0:
        return
    if MIN_EQUAL_SHARE * rows_above_0 <= equal < MIN_HOLDING_SHARE * rows_above_0:
        figures = {"column": source, "equal": equal / rows_above_0, "ratio": counts["ratio"]}
        yield Observation(Code.NET_TOTAL, table, figures)

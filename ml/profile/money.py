"""Columns of numbers that nobody maps, beside those that are mapped: a line's total, a number of pieces.

Belongs here: products and sums that hold in nearly all rows. Does not belong here: what columns are called, and which
the project maps (see the project file).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from ml.engine import Engine, Input, quoted
from ml.profile.observations import Code, Observation

NUMBERS = 8  # columns that are tried, at most
HOLDS = 0.95  # share of the rows that a product must hold in
AMONG = 20  # rows that can tell, below which nothing is said
CENT = 0.011  # by how much a rounded product may be off
PART = 0.5  # of the amount, at least, that is left after discounts or taxes
OFTEN = 0.2  # share of the rows in which nothing was taken off
_AMOUNT, _QUANTITY = "amount", "quantity"


def observe(engine: Engine, table: str, rows: Input, columns: Mapping[str, str]) -> Iterator[Observation]:
    """Which numbers seem to be what a mapped column should hold.

    Parameters
    ----------
    rows : `amount`, `quantity` and the columns of `columns`, which are texts
    columns : columns that nothing maps: the source's name to the name in `rows`
    """
    numbers = _numbers(engine, rows, columns)
    if not numbers:
        return
    named = {name: source for source, name in columns.items()} | {_QUANTITY: _QUANTITY}
    found = _products(engine, rows, [_AMOUNT, _QUANTITY, *numbers])
    totals: set[str] = set()
    knows_pieces = _is_filled(engine, rows, _QUANTITY)
    for (one, other), total, share in found:
        if one == _AMOUNT and total in numbers and total not in totals:
            said = {"column": named[total], "quantity": named[other], "share": share}
            totals.add(total)
            yield Observation(Code.PRICE_OF_A_PIECE, table, said)
        elif total == _AMOUNT and not knows_pieces:
            knows_pieces = True
            yield Observation(Code.QUANTITY, table, {"column": named[other], "price": named[one], "share": share})
    for name in numbers:
        if name not in totals:
            yield from _net(engine, table, rows, name, named[name])


def _number(name: str) -> str:
    """A column as a number, however its decimal is written; a number that is mapped is one."""
    if name in (_AMOUNT, _QUANTITY):
        return f"CAST({name} AS DOUBLE)"
    return f"TRY_CAST(replace({quoted(name)}, ',', '.') AS DOUBLE)"


def _numbers(engine: Engine, rows: Input, columns: Mapping[str, str]) -> list[str]:
    """The columns that hold different numbers."""
    if not columns:
        return []
    counts = ", ".join(
        f"COUNT(CASE WHEN trim({quoted(name)}) <> '' THEN 1 END) AS filled_{i}, COUNT({_number(name)}) AS read_{i}, "
        f"COUNT(DISTINCT {_number(name)}) AS different_{i}"
        for i, name in enumerate(columns.values())
    )
    (found,) = engine.query(f"SELECT {counts} FROM rows", rows=rows).to_pylist()
    return [
        name
        for i, name in enumerate(columns.values())
        if found[f"read_{i}"] >= max(HOLDS * found[f"filled_{i}"], AMONG) and found[f"different_{i}"] > 1
    ][:NUMBERS]


def _is_filled(engine: Engine, rows: Input, name: str) -> bool:
    return bool(engine.query(f"SELECT 1 AS x FROM rows WHERE {name} IS NOT NULL LIMIT 1", rows=rows).num_rows)


def _products(engine: Engine, rows: Input, names: Sequence[str]) -> list[tuple[tuple[str, str], str, float]]:
    """Pairs of columns, the second of which counts pieces, the column that is their product, and in how many rows.

    Rows tell where neither is 0 or 1; in them the one that counts is whole, and not always the same.
    """
    asked = [
        ((one, other), total)
        for pair in combinations(names, 2)
        for one, other in (pair, pair[::-1])
        for total in names
        if total not in pair and _AMOUNT in (one, other, total) and other != _AMOUNT and one != _QUANTITY
    ]
    if not asked:
        return []
    values = ", ".join(f"{_number(name)} AS v{i}" for i, name in enumerate(names))
    at = {name: f"v{i}" for i, name in enumerate(names)}
    parts = []
    for i, ((one, other), total) in enumerate(asked):
        a, b, c = at[one], at[other], at[total]
        tells = f"{a} NOT IN (0, 1) AND {b} NOT IN (0, 1) AND {c} IS NOT NULL"
        holds = f"{tells} AND {b} = floor({b}) AND abs({a} * {b} - {c}) <= {CENT} * greatest(1, abs({b}))"
        parts.append(
            f"COUNT(CASE WHEN {tells} THEN 1 END) AS tells_{i}, "
            f"COUNT(CASE WHEN {holds} THEN 1 END) AS holds_{i}, "
            f"COUNT(DISTINCT CASE WHEN {holds} THEN {b} END) AS different_{i}, "
            f"COUNT(DISTINCT CASE WHEN {holds} THEN {a} END) AS prices_{i}"
        )
    (found,) = engine.query(
        f"WITH numbers AS (SELECT {values} FROM rows) SELECT {', '.join(parts)} FROM numbers", rows=rows
    ).to_pylist()
    held = []
    for i, (pair, total) in enumerate(asked):
        asking, holding = found[f"tells_{i}"], found[f"holds_{i}"]
        is_varied = found[f"different_{i}"] > 1 and found[f"prices_{i}"] > found[f"different_{i}"]
        if asking >= AMONG and holding >= HOLDS * asking and is_varied:
            held.append((pair, total, holding / asking))
    return held


def _net(engine: Engine, table: str, rows: Input, name: str, source: str) -> Iterator[Observation]:
    """Whether a column is the amount in many rows and less in the others: what is left after a discount."""
    (found,) = engine.query(
        f"""
        WITH numbers AS (SELECT CAST(amount AS DOUBLE) AS amount, {_number(name)} AS other FROM rows)
        SELECT COUNT(*) AS rows,
               COUNT(CASE WHEN abs(other - amount) <= {CENT} THEN 1 END) AS equal,
               COUNT(CASE WHEN other BETWEEN {PART} * amount AND amount + {CENT} THEN 1 END) AS part,
               SUM(other) / NULLIF(SUM(amount), 0) AS ratio
        FROM numbers WHERE amount > 0 AND other IS NOT NULL
        """,
        rows=rows,
    ).to_pylist()
    equal, part, count = found["equal"], found["part"], found["rows"]
    if count >= AMONG and part >= HOLDS * count and OFTEN * count <= equal < HOLDS * count:
        said = {"column": source, "equal": equal / count, "ratio": found["ratio"]}
        yield Observation(Code.NET_TOTAL, table, said)

"""Ids: those of nobody, those of many customers, spellings of one id, and whether the ids of two tables match.

Belongs here: questions about ids alone, answered from a count of rows per id. Does not belong here: which rows are
left out (see `expectations`), and mapping ids to customers (see the project file).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa

from ml.engine import Engine, Input
from ml.profile.observations import Code, Observation
from ml.tables import ids as patterns

# A heavy id has at least this share of all orders and this multiple of the 95th percentile, among at least so many ids.
MIN_HEAVY_SHARE, MIN_HEAVY_RATIO, MIN_HEAVY_IDS = 0.05, 10, 20
MAX_RETURNING_SHARE, MIN_RETURNING_CUSTOMERS = 0.02, 50
MIN_MATCHED_SHARE = 0.5  # share of the smaller table's ids that the other one knows
MIN_MATCH_GAIN = 0.1  # by how much a common form must raise that share
MIN_DISTINCT_SHARE = 0.99  # share of a table's ids that must stay distinct in a common form
# Common forms of ids, the mildest first; each is a SQL expression of an id.
FORMS: Mapping[str, str] = {
    "blanks": patterns.without_blanks("{id}"),
    "case": "lower(trim({id}))",
    "zeros": r"regexp_replace(trim({id}), '^0+(.)', '\1')",
    "signs": "regexp_replace(lower({id}), '[^a-z0-9]', '', 'g')",
    "digits": r"regexp_replace(regexp_replace({id}, '[^0-9]', '', 'g'), '^0+(.)', '\1')",
}
SPELLED: Mapping[str, str] = {
    "blanks": patterns.without_blanks("{id}"),
    "unicode": "nfc_normalize({id})",
    "case": "lower({id})",
}


def count_rows(engine: Engine, rows: Input, *, has_orders: bool = False) -> pa.Table:
    """Count the `rows`, `orders` and `days` of every `id`.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    rows : Input
        `customer_id`, `day` and, where there are orders, `order_id` and `occurred_at`.
    has_orders : bool, default False
        Whether orders are counted; otherwise each row is one order.

    Returns
    -------
    pa.Table
        One row per id.
    """
    orders = "COUNT(DISTINCT COALESCE(order_id, CAST(occurred_at AS VARCHAR)))" if has_orders else "COUNT(*)"
    return engine.query(
        f"SELECT customer_id AS id, COUNT(*) AS rows, {orders} AS orders, COUNT(DISTINCT day) AS days "
        "FROM rows WHERE customer_id IS NOT NULL GROUP BY customer_id",
        rows=rows,
    )


def observe(engine: Engine, table: str, ids: pa.Table) -> Iterator[Observation]:
    """Placeholders, rounded ids, ids with too many orders, and spellings of one id, in one table.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    table : str
        Name of the table.
    ids : pa.Table
        What `count_rows` returns.
    """
    if not ids.num_rows:
        return
    total = engine.query("SELECT SUM(rows) AS n, SUM(orders) AS orders FROM ids", ids=ids).to_pylist()[0]
    nobody = _placeholders(engine, ids, int(total["n"]))
    if nobody:
        rows = sum(n for _, n in nobody)
        yield Observation(
            Code.PLACEHOLDER_IDS, table, {"ids": [i for i, _ in nobody], "rows": rows, "share": rows / int(total["n"])}
        )
    yield from _rounded(engine, table, ids, int(total["n"]))
    yield from _heavy(engine, table, ids, int(total["orders"]), {i for i, _ in nobody})
    yield from _spellings(engine, table, ids)


def _placeholders(engine: Engine, ids: pa.Table, total: int) -> list[tuple[str, int]]:
    """Words for nobody; negative numbers where few ids are negative; zeros, unless as frequent as their neighbours."""
    rows = engine.query(
        f"""
        WITH judged AS (
            SELECT id, rows, {patterns.is_placeholder("id")} AS is_word, {patterns.is_zero("id")} AS is_zero,
                   {patterns.is_negative("id")} AS is_negative
            FROM ids
        ),
        usual AS (
            SELECT QUANTILE_DISC(rows, 0.5) AS rows, SUM(CASE WHEN is_negative THEN 1 ELSE 0 END) AS negative,
                   COUNT(*) AS ids, SUM(CASE WHEN trim(id) IN ('1', '2') THEN 1 ELSE 0 END) AS neighbours
            FROM judged
        )
        SELECT judged.id AS id, judged.rows AS rows FROM judged, usual
        WHERE judged.is_word OR (judged.is_negative AND usual.negative <= 0.02 * usual.ids + 2)
           OR (judged.is_zero AND usual.ids > 2 AND
               (judged.rows > 5 * usual.rows OR (usual.neighbours < 2 AND usual.ids >= 20)))
        ORDER BY judged.rows DESC, judged.id LIMIT 100
        """,
        ids=ids,
    ).to_pylist()
    return [(row["id"], int(row["rows"])) for row in rows]


def _rounded(engine: Engine, table: str, ids: pa.Table, total: int) -> Iterator[Observation]:
    (rounded,) = engine.query(
        f"SELECT COUNT(*) AS ids, SUM(rows) AS rows, MIN(id) AS example FROM ids WHERE {patterns.is_rounded('id')}",
        ids=ids,
    ).to_pylist()
    if rounded["ids"]:
        rows = int(rounded["rows"])
        figures = {"example": rounded["example"], "ids": rounded["ids"], "rows": rows, "share": rows / total}
        yield Observation(Code.ROUNDED_IDS, table, figures)


def _heavy(engine: Engine, table: str, ids: pa.Table, orders: int, nobody: set[str]) -> Iterator[Observation]:
    """Ids with a larger share of all orders than a single customer can have."""
    if ids.num_rows < MIN_HEAVY_IDS:
        return
    rows = engine.query(
        """
        WITH usual AS (SELECT QUANTILE_DISC(orders, 0.95) AS orders FROM ids)
        SELECT ids.id AS id, ids.orders AS orders, usual.orders AS usual FROM ids, usual
        WHERE ids.orders >= $share * $total AND ids.orders >= $times * usual.orders
        ORDER BY ids.orders DESC, ids.id
        """,
        {"share": MIN_HEAVY_SHARE, "total": orders, "times": MIN_HEAVY_RATIO},
        ids=ids,
    ).to_pylist()
    for row in rows:
        if row["id"] not in nobody:
            figures = {"id": row["id"], "orders": row["orders"], "share": row["orders"] / orders, "usual": row["usual"]}
            yield Observation(Code.HEAVY_ID, table, figures)


def merged_sql(kinds: tuple[str, ...], expression: str) -> str:
    """SQL of an id, in which the spellings of one id are equal.

    Parameters
    ----------
    kinds : tuple of str
        The kinds of differences to remove, of `SPELLED`.
    expression : str
        SQL of the id as it is.

    Returns
    -------
    str
        A SQL expression.
    """
    for kind in kinds:
        expression = SPELLED[kind].replace("{id}", expression)
    return expression


def _spellings(engine: Engine, table: str, ids: pa.Table) -> Iterator[Observation]:
    """Ids that differ only in blanks, Unicode normalisation or case.

    Case is ignored only where one of the spellings is all lower or all upper case: random ids such as `aB3` and `Ab3`
    differ in case as well, and belong to two customers.
    """
    kinds: list[str] = []
    left = ids.num_rows
    for kind in SPELLED:
        form = merged_sql((*kinds, kind), "id")
        (counts,) = engine.query(
            f"""
            WITH forms AS (SELECT id, {form} AS form, {merged_sql(tuple(kinds), "id")} AS before FROM ids),
            merged AS (
                SELECT form, COUNT(DISTINCT before) AS ids,
                       MAX(CASE WHEN before = lower(before) OR before = upper(before) THEN 1 ELSE 0 END) AS is_plain
                FROM forms GROUP BY form
            )
            SELECT COUNT(*) AS customers, SUM(CASE WHEN ids > 1 THEN 1 ELSE 0 END) AS several,
                   SUM(CASE WHEN ids > 1 THEN is_plain ELSE 0 END) AS is_plain
            FROM merged
            """,
            ids=ids,
        ).to_pylist()
        if counts["customers"] < left and (kind != "case" or 2 * counts["is_plain"] >= counts["several"]):
            kinds.append(kind)
            left = counts["customers"]
    if not kinds:
        return
    (example,) = engine.query(
        f"""
        SELECT MIN(id) AS one, MAX(id) AS other
        FROM (SELECT id, rows, {merged_sql(tuple(kinds), "id")} AS form FROM ids) AS forms
        GROUP BY form HAVING COUNT(*) > 1 ORDER BY SUM(rows) DESC, form LIMIT 1
        """,
        ids=ids,
    ).to_pylist()
    figures = {"kinds": kinds, "ids": ids.num_rows, "customers": left, "example": (example["one"], example["other"])}
    yield Observation(Code.SPELLINGS, table, figures)


def observe_returning(engine: Engine, table: str, ids: pa.Table) -> Iterator[Observation]:
    """Whether hardly anybody buys on a second day: then the ids may be those of orders, not of customers."""
    (counts,) = engine.query(
        "SELECT COUNT(*) AS customers, SUM(CASE WHEN days > 1 THEN 1 ELSE 0 END) AS returning, SUM(orders) AS orders "
        "FROM ids",
        ids=ids,
    ).to_pylist()
    customers = counts["customers"]
    if customers >= MIN_RETURNING_CUSTOMERS and counts["returning"] < MAX_RETURNING_SHARE * customers:
        figures = {name: int(counts[name]) for name in ("customers", "returning", "orders")}
        yield Observation(Code.NOBODY_RETURNS, table, figures)


def observe_matches(
    engine: Engine, table: str, ids: pa.Table, other: str, ids_of_other: pa.Table
) -> Iterator[Observation]:
    """How many ids of a table the other one knows, and the common form in which it would know more."""
    if not ids.num_rows or not ids_of_other.num_rows:
        return
    known = _known(engine, ids, ids_of_other, "{id}")
    counts = {"other": other, "ids": ids.num_rows, "known": known, "of_other": ids_of_other.num_rows}
    smaller = min(ids.num_rows, ids_of_other.num_rows)
    best, form = known, ""
    for name, sql in FORMS.items():
        if any(_distinct(engine, side, sql) < MIN_DISTINCT_SHARE * side.num_rows for side in (ids, ids_of_other)):
            continue
        known_in_form = _known(engine, ids, ids_of_other, sql)
        if known_in_form > best + MIN_MATCH_GAIN * smaller:
            best, form = known_in_form, name
    if known >= MIN_MATCHED_SHARE * smaller and not form:
        yield Observation(Code.IDS_KNOWN, table, counts)
        return
    sides = ((table, ids), (other, ids_of_other))
    apply = [name for name, ids_of_side in sides if form and _changes(engine, ids_of_side, form)]
    examples = {"apply": apply, "example": _example(engine, ids), "example_other": _example(engine, ids_of_other)}
    yield Observation(Code.IDS_DO_NOT_MEET, table, {**counts, "form": form, "known_united": best, **examples})


def _known(engine: Engine, ids: pa.Table, other: pa.Table, form: str) -> int:
    sql = form.replace("{id}", "id")
    query = (
        f"SELECT COUNT(*) AS n FROM (SELECT DISTINCT {sql} AS form FROM ids) AS a "
        f"WHERE form IN (SELECT {sql} FROM other WHERE {sql} IS NOT NULL)"
    )
    return int(engine.query(query, ids=ids, other=other)["n"][0].as_py())


def _distinct(engine: Engine, ids: pa.Table, form: str) -> int:
    sql = form.replace("{id}", "id")
    return int(engine.query(f"SELECT COUNT(DISTINCT {sql}) AS n FROM ids", ids=ids)["n"][0].as_py())


def _example(engine: Engine, ids: pa.Table) -> str:
    return str(engine.query("SELECT id FROM ids ORDER BY rows DESC, id LIMIT 1", ids=ids)["id"][0].as_py())


def _changes(engine: Engine, ids: pa.Table, form: str) -> bool:
    """Whether a common form changes any id of a table."""
    sql = FORMS[form].replace("{id}", "id")
    return bool(engine.query(f"SELECT 1 AS x FROM ids WHERE {sql} <> id LIMIT 1", ids=ids).num_rows)


def in_form(engine: Engine, rows: pa.Table, form: str) -> pa.Table:
    """Rows with their `customer_id` in a common form; unchanged if `form` is empty."""
    if not form:
        return rows
    return engine.query(
        f"SELECT * REPLACE ({FORMS[form].replace('{id}', 'customer_id')} AS customer_id) FROM rows", rows=rows
    )

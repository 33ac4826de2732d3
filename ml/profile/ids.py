"""Who the ids are: those that are nobody, those that are many, those that are one, and whether two tables meet.

Belongs here: questions about ids alone, answered from a count of rows per id. Does not belong here: which rows are
left out (see `expectations`), and mapping ids to customers (see the project file).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa

from ml.engine import Engine, Input
from ml.profile.observations import Code, Observation
from ml.tables import ids as words

HEAVY_SHARE, HEAVY_TIMES, HEAVY_AMONG = 0.05, 10, 20
FEW_RETURN, RETURN_AMONG = 0.02, 50
MEETING = 0.5  # share of the ids of the smaller side that are known to the other, below which two tables hardly meet
BETTER = 0.1  # what a common form must add to that share
ONE_TO_ONE = 0.99  # share of its ids that a common form must keep apart
# Ways of writing ids alike, the mildest first; each is a SQL expression of an id.
FORMS: Mapping[str, str] = {
    "blanks": words.without_blanks("{id}"),
    "case": "lower(trim({id}))",
    "zeros": r"regexp_replace(trim({id}), '^0+(.)', '\1')",
    "signs": "regexp_replace(lower({id}), '[^a-z0-9]', '', 'g')",
    "digits": r"regexp_replace(regexp_replace({id}, '[^0-9]', '', 'g'), '^0+(.)', '\1')",
}
SPELLED: Mapping[str, str] = {
    "blanks": words.without_blanks("{id}"),
    "unicode": "nfc_normalize({id})",
    "case": "lower({id})",
}


def counted(engine: Engine, rows: Input, *, has_orders: bool = False) -> pa.Table:
    """`id`, `rows`, `orders` and `days` of every id.

    Parameters
    ----------
    rows : `customer_id`, `day` and, where there are orders, `order_id` and `occurred_at`
    has_orders : whether orders are counted; else each row is one
    """
    orders = "COUNT(DISTINCT COALESCE(order_id, CAST(occurred_at AS VARCHAR)))" if has_orders else "COUNT(*)"
    return engine.query(
        f"SELECT customer_id AS id, COUNT(*) AS rows, {orders} AS orders, COUNT(DISTINCT day) AS days "
        "FROM rows WHERE customer_id IS NOT NULL GROUP BY customer_id",
        rows=rows,
    )


def observe(engine: Engine, table: str, ids: pa.Table) -> Iterator[Observation]:
    """What is strange about the ids of one table.

    Parameters
    ----------
    ids : see `counted`
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
    """Words for nobody; numbers below 0 where few ids are; zeros, unless they are as frequent as their neighbours."""
    found = engine.query(
        f"""
        WITH judged AS (
            SELECT id, rows, {words.is_placeholder("id")} AS is_word, {words.is_zero("id")} AS is_zero,
                   {words.is_negative("id")} AS is_negative
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
    return [(row["id"], int(row["rows"])) for row in found]


def _rounded(engine: Engine, table: str, ids: pa.Table, total: int) -> Iterator[Observation]:
    (found,) = engine.query(
        f"SELECT COUNT(*) AS ids, SUM(rows) AS rows, MIN(id) AS example FROM ids WHERE {words.is_rounded('id')}",
        ids=ids,
    ).to_pylist()
    if found["ids"]:
        rows = int(found["rows"])
        said = {"example": found["example"], "ids": found["ids"], "rows": rows, "share": rows / total}
        yield Observation(Code.ROUNDED_IDS, table, said)


def _heavy(engine: Engine, table: str, ids: pa.Table, orders: int, nobody: set[str]) -> Iterator[Observation]:
    """Ids with a share of all orders that no one customer of so many has."""
    if ids.num_rows < HEAVY_AMONG:
        return
    found = engine.query(
        """
        WITH usual AS (SELECT QUANTILE_DISC(orders, 0.95) AS orders FROM ids)
        SELECT ids.id AS id, ids.orders AS orders, usual.orders AS usual FROM ids, usual
        WHERE ids.orders >= $share * $total AND ids.orders >= $times * usual.orders
        ORDER BY ids.orders DESC, ids.id
        """,
        {"share": HEAVY_SHARE, "total": orders, "times": HEAVY_TIMES},
        ids=ids,
    ).to_pylist()
    for row in found:
        if row["id"] not in nobody:
            said = {"id": row["id"], "orders": row["orders"], "share": row["orders"] / orders, "usual": row["usual"]}
            yield Observation(Code.HEAVY_ID, table, said)


def united(kinds: tuple[str, ...], expression: str) -> str:
    """SQL in which the spellings of one id are one.

    Parameters
    ----------
    kinds : of `SPELLED`
    """
    for kind in kinds:
        expression = SPELLED[kind].replace("{id}", expression)
    return expression


def _spellings(engine: Engine, table: str, ids: pa.Table) -> Iterator[Observation]:
    """Ids that differ in blanks, in Unicode's forms or in case alone.

    Case counts where one of the spellings is all small or all capital letters: random ids such as `aB3` and `Ab3`
    differ in case as well, and are two.
    """
    kinds: list[str] = []
    left = ids.num_rows
    for kind in SPELLED:
        form = united((*kinds, kind), "id")
        (found,) = engine.query(
            f"""
            WITH forms AS (SELECT id, {form} AS form, {united(tuple(kinds), "id")} AS before FROM ids),
            united_ids AS (
                SELECT form, COUNT(DISTINCT before) AS ids,
                       MAX(CASE WHEN before = lower(before) OR before = upper(before) THEN 1 ELSE 0 END) AS is_plain
                FROM forms GROUP BY form
            )
            SELECT COUNT(*) AS customers, SUM(CASE WHEN ids > 1 THEN 1 ELSE 0 END) AS several,
                   SUM(CASE WHEN ids > 1 THEN is_plain ELSE 0 END) AS is_plain
            FROM united_ids
            """,
            ids=ids,
        ).to_pylist()
        if found["customers"] < left and (kind != "case" or 2 * found["is_plain"] >= found["several"]):
            kinds.append(kind)
            left = found["customers"]
    if not kinds:
        return
    (example,) = engine.query(
        f"""
        SELECT MIN(id) AS one, MAX(id) AS other FROM (SELECT id, rows, {united(tuple(kinds), "id")} AS form FROM ids)
        GROUP BY form HAVING COUNT(*) > 1 ORDER BY SUM(rows) DESC, form LIMIT 1
        """,
        ids=ids,
    ).to_pylist()
    said = {"kinds": kinds, "ids": ids.num_rows, "customers": left, "example": (example["one"], example["other"])}
    yield Observation(Code.SPELLINGS, table, said)


def returning(engine: Engine, table: str, ids: pa.Table) -> Iterator[Observation]:
    """Whether hardly anybody buys on a second day: then an id may be one of an order, not of a customer."""
    (found,) = engine.query(
        "SELECT COUNT(*) AS customers, SUM(CASE WHEN days > 1 THEN 1 ELSE 0 END) AS returning, SUM(orders) AS orders "
        "FROM ids",
        ids=ids,
    ).to_pylist()
    if found["customers"] >= RETURN_AMONG and found["returning"] < FEW_RETURN * found["customers"]:
        said = {name: int(found[name]) for name in ("customers", "returning", "orders")}
        yield Observation(Code.NOBODY_RETURNS, table, said)


def meeting(engine: Engine, table: str, ids: pa.Table, other: str, ids_of_other: pa.Table) -> Iterator[Observation]:
    """How many ids of a table are known to another, and by which common form more would be."""
    if not ids.num_rows or not ids_of_other.num_rows:
        return
    known = _known(engine, ids, ids_of_other, "{id}")
    counts = {"other": other, "ids": ids.num_rows, "known": known, "of_other": ids_of_other.num_rows}
    smaller = min(ids.num_rows, ids_of_other.num_rows)
    best, form = known, ""
    for name, sql in FORMS.items():
        apart = _distinct(engine, ids, sql), _distinct(engine, ids_of_other, sql)
        if apart[0] < ONE_TO_ONE * ids.num_rows or apart[1] < ONE_TO_ONE * ids_of_other.num_rows:
            continue
        found = _known(engine, ids, ids_of_other, sql)
        if found > best + BETTER * smaller:
            best, form = found, name
    if known >= MEETING * smaller and not form:
        yield Observation(Code.IDS_KNOWN, table, counts)
        return
    apply = [name for name, of in ((table, ids), (other, ids_of_other)) if form and changes(engine, of, form)]
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


def changes(engine: Engine, ids: pa.Table, form: str) -> bool:
    """Whether a common form writes any id of a table in another way."""
    sql = FORMS[form].replace("{id}", "id")
    return bool(engine.query(f"SELECT 1 AS x FROM ids WHERE {sql} <> id LIMIT 1", ids=ids).num_rows)


def written_alike(engine: Engine, rows: pa.Table, form: str) -> pa.Table:
    """Rows whose `customer_id` is in a common form; as they are where there is none."""
    if not form:
        return rows
    return engine.query(
        f"SELECT * REPLACE ({FORMS[form].replace('{id}', 'customer_id')} AS customer_id) FROM rows", rows=rows
    )

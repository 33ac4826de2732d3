"""The one query: every delivered row with its typed values, its day, its origin and what is wrong with it.

Belongs here: the order of the steps, and which problem of a row is reported. Does not belong here: what a value means
(see `values`), and running the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from microseg_assets.sources.arrivals import arrivals_sql
from microseg_assets.sources.mapping import Mapped
from microseg_assets.sources.plan import Plan
from microseg_assets.sources.read import FILE, SOURCE, text
from microseg_assets.sources.spec import DELIVERED_BEFORE, EARLY, early_words
from microseg_assets.sources.values import FAILS, Clock, day, failure, value
from ml.engine import quoted

ORDINAL = "__ordinal"  # the position of a row among those delivered


@dataclass(frozen=True)
class _Fault:
    """A condition under which a row has a problem, and the SQL of its text."""

    condition: str
    message: str
    column: str = ""


@dataclass(frozen=True)
class _Term:
    """The steps of a mapped column: `computed` evaluates it, `raw` is the delivered value, `value` the typed one.

    An expression is evaluated into a struct, which is NULL if it failed, unlike a value that is NULL.
    """

    mapped: Mapped
    number: int

    @property
    def computed(self) -> str:
        sql = f"TRY(struct_pack(v := {self.mapped.sql}))" if self.mapped.is_calculated else self.mapped.sql
        return f"{sql} AS l_{self.number}"

    @property
    def delivered(self) -> str:
        return f"l_{self.number}{'.v' if self.mapped.is_calculated else ''} AS {self.raw}"

    @property
    def raw(self) -> str:
        return f"r_{self.number}"

    @property
    def value(self) -> str:
        return f"v_{self.number}"

    def typed(self, clock: Clock) -> str:
        return f"{value(self.mapped, self.raw, clock)} AS {self.value}"

    @property
    def faults(self) -> list[_Fault]:
        name = self.mapped.column.name
        message = text(f"{name}: {FAILS[self.mapped.column.type]}")
        not_computed = [f"l_{self.number} IS NULL"] if self.mapped.is_calculated else []
        failed = failure(self.mapped, self.raw, self.value)
        return [_Fault(condition, message, name) for condition in (*not_computed, *([failed] if failed else []))]


def rows_of(plan: Plan, condition: str, *more: str) -> str:
    """SQL for the rows whose `day` meets a condition: columns of the contract, `day`, `source`, `problem`, `delivered`.

    Ordered by day, timestamp, what it is about and all other columns, so that the order of delivery does not matter.
    """
    table = plan.target.table
    origin = ["source", "problem", "delivered"]
    first = ["day", *([table.stamp] if table.stamp else []), table.subject]
    columns = ", ".join(map(quoted, [*table.names, "day", *origin, *more]))
    order = ", ".join(map(quoted, dict.fromkeys([*first, *table.names, *origin])))
    return f"WITH {_dated(plan)} SELECT {columns} FROM __dated WHERE {condition} ORDER BY {order}"


def days_of(plan: Plan) -> str:
    """SQL for `day` and `rows`: the number of rows delivered for each day, first those without a day."""
    # Invalid lines are only detected by reading all of their columns, so every column must be used.
    read = f"count(hash({', '.join(quoted(mapped.column.name) for mapped in plan.mapped)}, problem))"
    return f"WITH {_dated(plan)} SELECT day, {read} AS rows FROM __dated GROUP BY day ORDER BY day NULLS FIRST"


def arrivals_of(plan: Plan) -> str:
    """SQL for `day`, `rows` and `fingerprint`: what was delivered for each day (see `arrivals`)."""
    return f"WITH {_dated(plan)} {arrivals_sql(plan.target.table, '__dated', f'NOT {EARLY}')}"


def lumps_of(plan: Plan, lines: str) -> str:
    """SQL for `source`, `before`, `after` and `rows`: the number of rows without a day by the days of the nearest rows
    with one, in the order of their file.

    Parameters
    ----------
    lines : a table of the lines that are not rows: `source`, and their `ordinal` among the rows, as `ORDINAL` counts
        them, or if that is unknown, in `nth` how many rows of the file precede them
    """
    earlier = f"DATE {text(plan.target.start.isoformat())} - 1"
    day = f"coalesce(day, CASE WHEN {EARLY} THEN {earlier} END)"
    is_new = f"day IS NOT NULL OR problem IS DISTINCT FROM {text(DELIVERED_BEFORE)}"
    ordinal = "coalesce(l.ordinal, b.ordinal + l.nth, l.nth) - .5"
    steps = {
        "__numbered": f"SELECT source, CAST({ORDINAL} AS DOUBLE) AS ordinal, {day} AS day FROM __dated WHERE {is_new}",
        "__begins": "SELECT source, min(ordinal) AS ordinal FROM __numbered GROUP BY source",
        "__all": f"FROM __numbered UNION ALL SELECT coalesce(b.source, l.source), {ordinal}, NULL "
        f"FROM {lines} l LEFT JOIN __begins b ON b.source IN (l.source, {text(plan.relation.label)})",
        "__between": "SELECT source, day, last_value(day IGNORE NULLS) OVER so_far AS before, "
        "first_value(day IGNORE NULLS) OVER to_come AS after FROM __all WINDOW "
        "so_far AS (PARTITION BY source ORDER BY ordinal ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW), "
        "to_come AS (PARTITION BY source ORDER BY ordinal ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)",
    }
    return (
        f"WITH {_dated(plan, ORDINAL)}, {', '.join(f'{name} AS ({sql})' for name, sql in steps.items())} "
        "SELECT source, before, after, count(*) AS rows FROM __between WHERE day IS NULL GROUP BY ALL ORDER BY ALL"
    )


def files_of(plan: Plan) -> str:
    """SQL for `source`, `first` and `last`: the first and last day of each file that has any."""
    days = "min(day) AS first, max(day) AS last"
    return f"WITH {_dated(plan)} SELECT source, {days} FROM __dated WHERE day IS NOT NULL GROUP BY source"


def purchases_of(plan: Plan) -> str:
    """SQL for `customer_id`, `day` and `orders`: the days with an order, of valid transactions from $first to $last."""
    return (
        f"WITH {_dated(plan)}, __orders AS (SELECT customer_id, day, sum(amount) AS amount FROM __dated "
        "WHERE problem IS NULL AND day BETWEEN $first AND $last "
        "GROUP BY customer_id, day, coalesce(order_id, CAST(occurred_at AS VARCHAR))) "
        "SELECT customer_id, day, count(*) AS orders FROM __orders WHERE amount > 0 AND customer_id IS NOT NULL "
        "GROUP BY customer_id, day ORDER BY customer_id, day"
    )


def customers_of(plan: Plan) -> str:
    """SQL for `customer_id`: the distinct customers of the source."""
    return f"WITH {_dated(plan)} SELECT DISTINCT customer_id FROM __dated WHERE customer_id IS NOT NULL"


def unmapped_of(plan: Plan) -> str:
    """SQL for `source_id` and `rows`: delivered ids that the map of ids lacks, the most frequent first."""
    id_ = next(_Term(mapped, i).value for i, mapped in enumerate(plan.mapped) if mapped.column.name == "customer_id")
    return (
        f"WITH {_dated(plan)} SELECT {id_} AS source_id, count(*) AS rows FROM __typed "
        f"WHERE {id_} IS NOT NULL AND {id_} NOT IN (SELECT source_id FROM __ids) "
        "GROUP BY ALL ORDER BY rows DESC, source_id"
    )


def _dated(plan: Plan, ordinal: str = "") -> str:
    """CTEs up to `__dated`: one row per delivered row; with its ordinal number, if a name is given for that."""
    terms = [_Term(mapped, number) for number, mapped in enumerate(plan.mapped)]
    names = {term.mapped.column.name.lower() for term in terms}
    uses = sorted({use for term in terms for use in term.mapped.uses if use.lower() not in names})
    stamp = next((term for term in terms if term.mapped.column.name == plan.target.table.stamp), None)
    checks, faults = _of_rows(plan)
    faults += [fault for term in terms for fault in term.faults]
    dated, early, undated = _day_and_faults(plan, stamp, faults)
    problem = " ".join(f"WHEN {fault.condition} THEN {fault.message}" for fault in undated + faults)
    local = day(stamp.value, plan.target.clock) if stamp else "NULL::DATE"
    steps = {
        "__delivered": f"SELECT *, row_number() OVER () AS {ordinal} FROM ({plan.relation.sql})"
        if ordinal
        else plan.relation.sql,
        "__computed": _select(
            "__delivered",
            *(term.computed for term in terms),
            *(f"{quoted(use)} AS u_{i}" for i, use in enumerate(uses)),
            *checks,
            SOURCE,
            *([ordinal] if ordinal else []),
        ),
        "__kept": "FROM __computed" + (" WHERE w IS NULL OR w.v" if plan.where else ""),
        "__raw": _select("__kept", "*", *(term.delivered for term in terms)),
        "__typed": _select("__raw", "*", *(term.typed(plan.target.clock) for term in terms)),
        "__identified": _identified(plan, terms),
        "__located": _select("__identified", "*", f"{local} AS local"),
        "__judged": _select(
            "__located",
            "*",
            f"{dated} AS day",
            f"{early} AS {EARLY}",
            f"{f'CASE {problem} END' if problem else 'NULL::VARCHAR'} AS problem",
        ),
        "__dated": _select(
            "__judged",
            *(f"{term.value} AS {quoted(term.mapped.column.name)}" for term in terms),
            "day",
            f"{SOURCE} AS source",
            "problem",
            EARLY,
            f"CASE WHEN problem IS NOT NULL THEN {_as_delivered(terms, uses)} END AS delivered",
            *([f"{stamp.raw} AS __raw_stamp"] if stamp else []),
            *([ordinal] if ordinal else []),
        ),
    }
    return ", ".join(f"{name} AS ({sql})" for name, sql in steps.items())


def _identified(plan: Plan, terms: Sequence[_Term]) -> str:
    """The rows with the customer of the map of ids, where it has one."""
    if not plan.has_ids:
        return "FROM __typed"
    id_ = next(term.value for term in terms if term.mapped.column.name == "customer_id")
    return (
        f"SELECT __typed.* REPLACE (coalesce(__ids.customer_id, {id_}) AS {id_}) "
        f"FROM __typed LEFT JOIN __ids ON __ids.source_id = {id_}"
    )


def _select(source: str, *columns: str) -> str:
    return f"SELECT {', '.join(columns)} FROM {source}"


def _of_rows(plan: Plan) -> tuple[list[str], list[_Fault]]:
    """What is computed for a row as a whole, and what can be wrong with it."""
    checks, faults = [], []
    if plan.copies:
        checks.append(f"{FILE} IN ({', '.join(map(text, plan.copies))}) AS copied")
        faults.append(_Fault("copied", text(DELIVERED_BEFORE)))
    if plan.where:
        checks.append(f"TRY(struct_pack(v := {plan.where})) AS w")
        faults.append(_Fault("w IS NULL", "'where: cannot be computed'"))
    return checks, faults


def _as_delivered(terms: Sequence[_Term], uses: Sequence[str]) -> str:
    """JSON text of the raw values, and of the columns that expressions use."""
    values = {term.mapped.column.name: term.raw for term in terms if term.mapped.type != "NULL"}
    values |= {use: f"u_{i}" for i, use in enumerate(uses)}
    packed = ", ".join(f"{quoted(name)} := CAST({raw} AS VARCHAR)" for name, raw in values.items())
    return f"CAST(to_json(struct_pack({packed})) AS VARCHAR)"


def _day_and_faults(plan: Plan, stamp: _Term | None, faults: list[_Fault]) -> tuple[str, str, list[_Fault]]:
    """The SQL of a row's day, of whether it has none because it is older than the project, and why it may have none,
    which takes precedence over any other problem of the row.

    Where the timestamp is optional, rows without one belong to the project's first day.
    """
    start = plan.target.start.isoformat()
    first = f"DATE {text(start)}"
    if stamp is None or not stamp.mapped.column.required:
        return f"greatest(coalesce(local, {first}), {first})", "false", []
    name = stamp.mapped.column.name
    reasons = [
        *(fault for fault in faults if fault.column == name),
        _Fault("local IS NULL", text(f"{name}: missing")),
        _Fault(f"local < {first}", text(early_words(plan.target.table, plan.target.start))),
    ]
    return f"CASE WHEN local >= {first} THEN local END", f"coalesce(local < {first}, false)", reasons

"""Reading what `ml.profile` looks at.

Belongs here: which rows and which unmapped columns are looked at. Does not belong here: finding anything (see
`ml.profile`), and the words for it (see `advice`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from microseg_assets.sources import Source, TableSpec
from ml.profile import Code, Delivered, Observation
from ml.rules import RuleError, parse_scalar
from ml.tables import Column

PROFILED = 2_000_000  # rows of the newest days that are looked at
LABELS = 12  # unmapped columns that are looked at
NEWEST = 50_000
_NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*|FLOAT|DOUBLE")
_DELIVERED = "as_delivered_"  # what the names of columns begin with that no contract knows
_DELIVERED_ID = f"{_DELIVERED}who"  # the chain takes `.0` away from what is called an id


@dataclass(frozen=True)
class Opened:
    """A source and the rows that each day has of it.

    Parameters
    ----------
    not_customers : ids that the project file leaves out: there is nothing more to say of them
    """

    source: Source
    days: Mapping[date, int]
    not_customers: Sequence[str] = ()


def delivered(opened: Opened) -> tuple[Delivered, list[Observation]]:
    """What a source brings, as the profile wants it, and what only the columns as delivered can tell.

    Raises
    ------
    SourceError
        If the source cannot be read.
    """
    source, days = opened.source, opened.days
    table = source.target.table
    if not days:
        return Delivered(_accepted(source.rows(source.target.start, source.target.start), opened)), []
    first, last = min(days), max(days)
    labels = _unmapped(source) if table.name == "transactions" else {}
    with_labels = _with(source, {**{name: column for column, name in labels.items()}, **_raw_id(source)})
    newest = _accepted(with_labels.rows(_newest_from(days, NEWEST), last), opened)
    is_all = _newest_from(days, NEWEST) == first
    rows = newest if is_all else _accepted(source.rows(_newest_from(days, PROFILED), last), opened)
    attributes = {} if source.spec.as_of else dict(source.spec.attributes)
    believed = {name: type_ for name, type_ in attributes.items() if name not in source.spec.timeless}
    return Delivered(rows, days, newest, labels, believed), _as_delivered(source, newest)


def _accepted(rows: pa.Table, opened: Opened) -> pa.Table:
    rows = rows.filter(pc.is_null(rows["problem"]))
    if not opened.not_customers:
        return rows
    nobody = pa.array([one.strip().lower() for one in opened.not_customers], pa.string())
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(rows["customer_id"]))
    return rows.filter(pc.invert(pc.fill_null(pc.is_in(plain, value_set=nobody), False)))


def _newest_from(days: Mapping[date, int], most: int) -> date:
    """The day from which on there are at most so many rows; the newest day whatever its size."""
    ordered = sorted(days, reverse=True)
    first, rows = ordered[0], days[ordered[0]]
    for day in ordered[1:]:
        rows += days[day]
        if rows > most:
            break
        first = day
    return first


def _unmapped(source: Source) -> dict[str, str]:
    """Source columns that no mapping uses, of text and of numbers, and a name for each; they are read as texts."""
    used = {name.lower() for name in used_columns(source.spec)} | {name.lower() for name in source.target.table.names}
    unused = {name: type_ for name, type_ in source.columns().items() if name.lower() not in used}
    free = [name for name, type_ in unused.items() if type_ == "VARCHAR"]
    numbers = [name for name, type_ in unused.items() if _NUMBERS.fullmatch(type_)]
    telling = re.compile(r"stat|curr|waehr|währ|devise|divisa|type|art|kind|zustand|etat|sign|dc|credit|soll", re.I)
    free.sort(key=lambda name: telling.search(name) is None)
    return {name: f"{_DELIVERED}{i}" for i, name in enumerate([*free[:LABELS], *numbers[:LABELS]])}


def used_columns(spec: TableSpec) -> set[str]:
    """Source columns that a mapping uses, by themselves or in an expression."""
    used: set[str] = set()
    for text in (*map(str, spec.columns.values()), spec.where):
        used.add(text)
        with suppress(RuleError):  # a column whose name is no expression
            used |= {column.parts[0].name for column in parse_scalar(text).find_all(exp.Column)} if text else set()
    return used


def _raw_id(source: Source) -> dict[str, str | bool | int | float]:
    return {_DELIVERED_ID: source.spec.columns.get("customer_id", "customer_id")}


def _with(source: Source, columns: Mapping[str, str | bool | int | float]) -> Source:
    """A source that also brings columns as they were delivered."""
    target = source.target
    table = target.table.plus(Column(name, "string", "as delivered") for name in columns)
    spec = replace(source.spec, columns={**source.spec.columns, **columns})
    return Source(table, spec, project_zone=target.clock.project, start=target.start, base=target.base)


def _as_delivered(source: Source, rows: pa.Table) -> list[Observation]:
    """Ids that were numbers with a point: ``13085.0``, as text or as the column's type has it."""
    table, mapped = source.target.table.name, str(source.spec.columns.get("customer_id", "customer_id"))
    types = {name.lower(): type_ for name, type_ in source.columns().items()}
    if types.get(mapped.lower()) in ("DOUBLE", "FLOAT") and rows.num_rows:
        read = rows["customer_id"][0].as_py()
        return [Observation(Code.FLOAT_IDS, table, {"example": f"{read}.0", "read": read, "share": 1.0})]
    raw = rows[_DELIVERED_ID]
    is_float = pc.fill_null(pc.match_substring_regex(raw, r"^-?\d+\.0+$"), False)
    count = pc.sum(is_float).as_py() or 0
    if not count:
        return []
    one = rows.filter(is_float).slice(0, 1).to_pylist()[0]
    said = {"example": one[_DELIVERED_ID], "read": one["customer_id"], "share": count / rows.num_rows}
    return [Observation(Code.FLOAT_IDS, table, said)]


def look(opened: Mapping[str, Opened], *, zone: str) -> list[Observation]:
    """Everything that is worth a word about some sources.

    Raises
    ------
    SourceError
        If one of them cannot be read.
    """
    from ml.engine import in_memory
    from ml.profile import observe

    brought, found = {}, []
    for table, one in opened.items():
        brought[table], more = delivered(one)
        found += more
    return found + observe(in_memory(), brought, today=datetime.now(ZoneInfo(zone)).date())

"""Reading the rows that `ml.profile` observes.

Belongs here: which rows and which unmapped columns are read. Does not belong here: making observations (see
`ml.profile`), and wording them (see `advice`).
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

MAX_ROWS = 2_000_000  # rows of the newest days that are profiled
MAX_ROWS_WITH_LABELS = 50_000  # … with their unmapped columns
MAX_LABELS = 12  # unmapped columns that are profiled, of each type
_NUMBERS = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*|FLOAT|DOUBLE")
_DELIVERED = "as_delivered_"  # prefix of the names of columns that no contract knows
_DELIVERED_ID = f"{_DELIVERED}who"  # the chain strips `.0` from a column whose name ends in "id"


@dataclass(frozen=True)
class Opened:
    """A source, with its number of rows by day.

    Parameters
    ----------
    not_customers : ids that the project file leaves out, and that need no observation
    """

    source: Source
    days: Mapping[date, int]
    not_customers: Sequence[str] = ()


def read_delivered(opened: Opened) -> tuple[Delivered, list[Observation]]:
    """Read a source as the profile needs it, with the observations that only the columns as delivered allow.

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
    newest = _accepted(with_labels.rows(_newest_from(days, MAX_ROWS_WITH_LABELS), last), opened)
    is_all = _newest_from(days, MAX_ROWS_WITH_LABELS) == first
    rows = newest if is_all else _accepted(source.rows(_newest_from(days, MAX_ROWS), last), opened)
    attributes = {} if source.spec.as_of else dict(source.spec.attributes)
    believed = {name: type_ for name, type_ in attributes.items() if name not in source.spec.timeless}
    return Delivered(rows, days, newest, labels, believed), _as_delivered(source, newest)


def _accepted(rows: pa.Table, opened: Opened) -> pa.Table:
    rows = rows.filter(pc.is_null(rows["problem"]))
    if not opened.not_customers:
        return rows
    nobody = pa.array([id_.strip().lower() for id_ in opened.not_customers], pa.string())
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(rows["customer_id"]))
    return rows.filter(pc.invert(pc.fill_null(pc.is_in(plain, value_set=nobody), False)))


def _newest_from(days: Mapping[date, int], max_rows: int) -> date:
    """The first day of the newest ones that have at most `max_rows` together; the newest day, whatever its size."""
    ordered = sorted(days, reverse=True)
    first, rows = ordered[0], days[ordered[0]]
    for day in ordered[1:]:
        rows += days[day]
        if rows > max_rows:
            break
        first = day
    return first


def _unmapped(source: Source) -> dict[str, str]:
    """Source columns of text and of numbers that no mapping uses, with a name for each; they are read as texts."""
    used = {name.lower() for name in used_columns(source.spec)} | {name.lower() for name in source.target.table.names}
    unused = {name: type_ for name, type_ in source.columns().items() if name.lower() not in used}
    texts = [name for name, type_ in unused.items() if type_ == "VARCHAR"]
    numbers = [name for name, type_ in unused.items() if _NUMBERS.fullmatch(type_)]
    label_like = re.compile(r"stat|curr|waehr|währ|devise|divisa|type|art|kind|zustand|etat|sign|dc|credit|soll", re.I)
    texts.sort(key=lambda name: label_like.search(name) is None)
    return {name: f"{_DELIVERED}{i}" for i, name in enumerate([*texts[:MAX_LABELS], *numbers[:MAX_LABELS]])}


def used_columns(spec: TableSpec) -> set[str]:
    """Source columns that a mapping uses, alone or in an expression."""
    used: set[str] = set()
    for text in (*map(str, spec.columns.values()), spec.where):
        used.add(text)
        with suppress(RuleError):  # the name of a column need not be an expression
            used |= {column.parts[0].name for column in parse_scalar(text).find_all(exp.Column)} if text else set()
    return used


def _raw_id(source: Source) -> dict[str, str | bool | int | float]:
    return {_DELIVERED_ID: source.spec.columns.get("customer_id", "customer_id")}


def _with(source: Source, columns: Mapping[str, str | bool | int | float]) -> Source:
    """A source that also reads some columns as they were delivered."""
    target = source.target
    table = target.table.plus(Column(name, "string", "as delivered") for name in columns)
    spec = replace(source.spec, columns={**source.spec.columns, **columns})
    return Source(table, spec, project_zone=target.clock.project, start=target.start, base=target.base)


def _as_delivered(source: Source, rows: pa.Table) -> list[Observation]:
    """Ids delivered as numbers with a decimal point: ``13085.0``, as text or by the column's type."""
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
    row = rows.filter(is_float).slice(0, 1).to_pylist()[0]
    figures = {"example": row[_DELIVERED_ID], "read": row["customer_id"], "share": count / rows.num_rows}
    return [Observation(Code.FLOAT_IDS, table, figures)]


def observe_sources(opened: Mapping[str, Opened], *, zone: str) -> list[Observation]:
    """Everything that the owner of some sources should know about them.

    Raises
    ------
    SourceError
        If one of them cannot be read.
    """
    from ml.engine import in_memory
    from ml.profile import observe

    delivered: dict[str, Delivered] = {}
    observations: list[Observation] = []
    for table, source in opened.items():
        delivered[table], of_columns = read_delivered(source)
        observations += of_columns
    return observations + observe(in_memory(), delivered, today=datetime.now(ZoneInfo(zone)).date())

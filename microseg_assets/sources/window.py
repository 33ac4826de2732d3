"""Reading less than all of history: conditions on the timestamp column of the source.

Belongs here: which rows a database, or the reader of Parquet, may skip because they cannot matter. Does not belong
here: which day a row belongs to; that is decided for every row that is read. So a condition may let too much through,
never too little: it allows two days for time zones, and where a timestamp is ambiguous, everything is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from microseg_assets.sources.plan import Plan
from ml.engine import quoted

_ROOM = timedelta(days=2)  # more than the difference of any two time zones
_FAR = date(9990, 1, 1)  # later timestamps are invalid; see `values`
_GLOB = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"
# Texts that are certainly a time, without a calendar: the 29th of February is not certain.
_CERTAIN_TIME = (
    r"^\d{4}-((0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    r"([ T]([01]\d|2[0-3]):[0-5]\d:[0-5]\d)?$"
)
_NUMBERS = ("BIGINT", "INTEGER", "SMALLINT", "TINYINT", "DOUBLE", "FLOAT", "HUGEINT", "UBIGINT", "UINTEGER")


@dataclass(frozen=True)
class _Stamp:
    """The source column that dates a row, if it is mapped as it is."""

    name: str
    type: str
    factor: float = 0.0  # microseconds of one unit of a number; 0 for a stamp
    since: int = 0  # microseconds from 1970 to the start of the count

    def bound(self, day: date) -> str:
        """The first moment of a day in UTC, as SQL to compare the column with."""
        if not self.factor:
            return f"'{day.isoformat()}'"
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
        return repr((moment // timedelta(microseconds=1) - self.since) / self.factor)


def pruning(plan: Plan, first: date, last: date) -> str:
    """A condition on `__raw_stamp` for the days `first` to `last`, so that Parquet row groups of other days are not
    read; empty if there is none."""
    stamp = _stamp(plan)
    if stamp is None or plan.fetch is not None:
        return ""
    if stamp.factor:
        if stamp.type not in _NUMBERS:
            return ""
    elif stamp.type != "DATE" and not stamp.type.startswith("TIMESTAMP"):
        return ""
    low, high = _bounds(stamp, first, last)
    if not stamp.factor:
        low, high = f"DATE {low}", f"DATE {high}"
    if stamp.type == "TIMESTAMP_NS":  # whose range is too small for DATE
        return f" AND CAST(__raw_stamp AS TIMESTAMP) >= {low} AND CAST(__raw_stamp AS TIMESTAMP) < {high}"
    return f" AND __raw_stamp >= {low} AND __raw_stamp < {high}"


def of_days(plan: Plan, first: date, last: date) -> str:
    """A condition in the database's SQL for the rows of some days; empty if all must be read."""
    stamp = _stamp(plan)
    return "" if stamp is None else _condition(plan, stamp, *_bounds(stamp, first, last))


def of_no_day(plan: Plan) -> str:
    """A condition in the database's SQL for the rows of no day of the project; empty if all must be read."""
    stamp = _stamp(plan)
    if stamp is None or plan.fetch is None:
        return ""
    inside = _condition(plan, stamp, stamp.bound(plan.target.start + _ROOM), stamp.bound(_FAR), only=True)
    return f"({inside}) IS NOT TRUE" if inside else ""


def _stamp(plan: Plan) -> _Stamp | None:
    mapped = next((m for m in plan.mapped if m.column.name == plan.target.table.stamp), None)
    if mapped is None or not mapped.column.required or mapped.is_calculated or not mapped.source:
        return None
    counted = plan.target.clock.counted
    name = mapped.source
    return _Stamp(name, mapped.type, counted.factor, counted.since) if counted else _Stamp(name, mapped.type)


def _bounds(stamp: _Stamp, first: date, last: date) -> tuple[str, str]:
    low = max(first, date.min + _ROOM) - _ROOM
    high = min(last, date.max - 2 * _ROOM) + _ROOM + timedelta(days=1)
    return stamp.bound(low), stamp.bound(high)


def _condition(plan: Plan, stamp: _Stamp, low: str, high: str, *, only: bool = False) -> str:
    """Whether a timestamp may lie between two bounds; with `only`, whether it certainly does."""
    if plan.fetch is None:
        return ""
    dialect = _in_postgres if plan.fetch.database.kind == "postgres" else _in_sqlite
    return dialect(f"q.{quoted(stamp.name)}", stamp, low, high, only)


def _in_postgres(column: str, stamp: _Stamp, low: str, high: str, only: bool) -> str:
    within = f"{column} >= {low} AND {column} < {high}"
    if stamp.factor:
        return within if stamp.type in _NUMBERS else ""
    if stamp.type == "DATE" or stamp.type.startswith("TIMESTAMP"):
        return within
    if stamp.type != "VARCHAR":
        return ""
    day = f'left({column}::text, 10) COLLATE "C"'
    if only:
        return f"{column}::text ~ '{_CERTAIN_TIME}' AND {day} >= {low} AND {day} < {high}"
    return f"NOT ({column}::text ~ '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}' AND ({day} < {low} OR {day} >= {high}))"


def _in_sqlite(column: str, stamp: _Stamp, low: str, high: str, only: bool) -> str:
    """SQLite's columns hold values of any type: those of another than the expected type may mean anything."""
    if stamp.factor:
        is_certain, value = f"typeof({column}) IN ('integer', 'real')", column
        is_like = is_certain
    else:
        value = f"substr({column}, 1, 10)"
        is_certain = (
            f"typeof({column}) = 'text' AND {column} IN (date({column}, '+0 days'), datetime({column}, '+0 days'))"
        )
        is_like = f"typeof({column}) = 'text' AND {column} GLOB '{_GLOB}'"
    if only:
        return f"{is_certain} AND {value} >= {low} AND {value} < {high}"
    return f"NOT ({is_like} AND ({value} < {low} OR {value} >= {high}))"

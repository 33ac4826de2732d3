"""Raw values as values of the contract's types, in SQL.

Belongs here: what a text, a number or a stamp of a source means, and the calendar day of a stamp. Does not belong here:
which column it is (see `mapping`). A value that has no meaning is NULL, never an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from microseg_assets.sources.mapping import Mapped
from microseg_assets.sources.read import text
from microseg_assets.sources.stamps import DAY, OFFSET, REGION, STAMP, is_day, wall_clock, with_offset, with_region
from ml.tables import SQL

FAILS = {
    "double": "not a number",
    "bigint": "not a number",
    "boolean": "not true or false",
    "date": "not a date",
    "timestamp": "not a time",
    "string": "not text",
}
_WHITE = text(" \t\r\n")
_TEXTS = ("VARCHAR", "JSON")
# Years whose stamps any time zone can shift without leaving what a timestamp holds.
_SANE_STAMPS = "BETWEEN TIMESTAMP '0002-01-01' AND TIMESTAMP '9998-12-31'"
_SANE_YEARS = r"^\s*(000[2-9]|00[1-9]|0[1-9]|[1-8]|9[0-8]|99[0-8]|999[0-8])"


# Of a count in microseconds, so that what is far beyond any calendar is no time rather than an error.
_SANE_COUNTS = "BETWEEN -6.2e16 AND 2.533e17"  # years 6 to 9996
_COUNTS = {"epoch_s": 1e6, "epoch_ms": 1e3, "epoch_us": 1.0, "epoch_ns": 1e-3}
_UNITS = {"seconds": 1e6, "minutes": 6e7, "hours": 3.6e9, "days": 8.64e10, "weeks": 6.048e11}
_OF_THE_CALENDAR = ("days", "weeks")
_SINCE = re.compile(rf"({'|'.join(_UNITS)}) since (\S.*)")


@dataclass(frozen=True)
class Counted:
    """Stamps that are numbers: microseconds of one unit, and from 1970 to where they count from.

    Seconds, minutes and hours are time that has passed. Days and weeks are the calendar's, as spreadsheets count them:
    what is added up is what the clocks of `zone` show, so that a whole number of days after midnight is midnight, on
    whichever side of a change of the clocks it lies, and half a day later is noon.

    Parameters
    ----------
    zone : where the clocks hang that show the sum; UTC for time that has passed
    """

    factor: float
    since: int = 0
    zone: str = "UTC"


@dataclass(frozen=True)
class Clock:
    """What stamps mean: the zone of those that do not say their own, the one whose days are the project's, and what
    they count where they are numbers.

    Where clocks are set back, an hour comes twice: a stamp in it is taken for the later one, after the change. Where
    they are set forward, an hour does not exist: a stamp in it is taken as if the clocks had not been set, so 02:30 is
    the moment that is called 03:30. Both are the same on every run, and neither leaves its calendar day.
    """

    naive: str
    project: str
    counted: Counted | None = None


def counted(stamp: str, naive: str, project: str) -> Counted | None:
    """What the key `stamp` says of stamps; None where they are stamps indeed.

    Raises
    ------
    ValueError
        If it says nothing.
    """
    if stamp in ("", "auto"):
        return None
    if stamp in _COUNTS:
        return Counted(_COUNTS[stamp])
    found = _SINCE.fullmatch(stamp.strip())
    try:
        if found is None:
            raise ValueError
        start = datetime.fromisoformat(found[2].strip())
    except ValueError:
        known = f"{', '.join(_COUNTS)}, or such as 'hours since 2017-01-01 00:00'"
        raise ValueError(f"{stamp!r} does not say what stamps count: write {known}") from None
    zone = "UTC"
    if start.tzinfo is None:
        own = project if is_day(found[2]) else naive
        if found[1] in _OF_THE_CALENDAR:
            zone, start = own, start.replace(tzinfo=UTC)
        else:
            start = start.replace(tzinfo=ZoneInfo(own), fold=1)
    since = (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return Counted(_UNITS[found[1]], since, zone)


def trimmed(raw: str) -> str:
    """A text without white space around it."""
    return f"trim({raw}, {_WHITE})"


def value(mapped: Mapped, raw: str, clock: Clock) -> str:
    """The typed value of a raw one."""
    kind, type_ = mapped.column.type, mapped.type
    if type_ == "NULL":
        return f"NULL::{SQL[kind]}"
    if kind == "string":
        return _string(mapped, raw)
    if kind == "timestamp":
        return _count(raw, type_, clock.counted) if clock.counted else _stamp(raw, type_, clock)
    if type_ == SQL[kind]:
        return raw
    given = f"nullif({trimmed(raw)}, '')" if type_ in _TEXTS else raw
    return f"TRY_CAST({given} AS {SQL[kind]})"


def failure(mapped: Mapped, raw: str, value: str) -> str:
    """Whether a value was delivered that could not be converted; empty where that cannot be."""
    if mapped.column.type == "string" or mapped.type in ("DOUBLE", "BOOLEAN", "NULL"):
        return ""
    blank = f" AND {trimmed(raw)} <> ''" if mapped.type in _TEXTS else ""
    return f"{value} IS NULL AND {raw} IS NOT NULL{blank}"


def day(stamp: str, clock: Clock) -> str:
    """The project's calendar day of a stamp in UTC."""
    if clock.project == "UTC":
        return f"CAST({stamp} AS DATE)"
    return f"CAST(timezone({text(clock.project)}, timezone('UTC', {stamp})) AS DATE)"


def _string(mapped: Mapped, raw: str) -> str:
    """Ids that spreadsheets and floats have written as ``17.0`` are ``17``."""
    if mapped.type in _TEXTS:
        given = f"nullif({trimmed(raw)}, '')"
        is_id = mapped.column.name.endswith("_id")
        return f"regexp_replace({given}, '^(-?\\d+)\\.0+$', '\\1')" if is_id else given
    if mapped.type in ("DOUBLE", "FLOAT") or mapped.type.startswith("DECIMAL"):
        whole = f"CAST(TRY_CAST({raw} AS BIGINT) AS VARCHAR)"
        return f"CASE WHEN {raw} = floor({raw}) AND abs({raw}) < 9e15 THEN {whole} ELSE CAST({raw} AS VARCHAR) END"
    return f"CAST({raw} AS VARCHAR)"


def _stamp(raw: str, type_: str, clock: Clock) -> str:
    """In UTC. A text is a day, a stamp without a zone, or one with an offset; anything else is no time."""
    if type_ in _TEXTS:
        given = trimmed(raw)
        found = (
            f"CASE WHEN regexp_full_match({given}, '{DAY}') "
            f"THEN {_utc(f'TRY_CAST({given} AS TIMESTAMP)', clock.project)} "
            f"WHEN regexp_full_match({given}, '{STAMP}') THEN {_utc(wall_clock(given), clock.naive)} "
            f"WHEN regexp_full_match({given}, '{STAMP}{OFFSET}') THEN {with_offset(given)} "
            f"WHEN regexp_full_match({given}, '{STAMP}{REGION}') THEN {with_region(given)} "
            f"WHEN regexp_matches({given}, '^{DAY}[T ]') "  # what a zone is called for short
            f"THEN timezone('UTC', TRY_CAST({given} AS TIMESTAMPTZ)) END"
        )
        return f"CASE WHEN regexp_matches({raw}, '{_SANE_YEARS}') THEN {found} END"
    if type_ == "TIMESTAMP_NS":  # whose few centuries nothing can be compared with that lies outside of them
        raw = f"CAST({raw} AS TIMESTAMP)"
    if type_ == "DATE":
        found = _utc(f"CAST({raw} AS TIMESTAMP)", clock.project)
    elif type_ == "TIMESTAMP WITH TIME ZONE":
        found = f"timezone('UTC', {raw})"
    else:
        found = _utc(f"TRY_CAST({raw} AS TIMESTAMP)", clock.naive)
    return f"CASE WHEN {raw} {_SANE_STAMPS} THEN {found} END"


def _count(raw: str, type_: str, of: Counted) -> str:
    given = f"nullif({trimmed(raw)}, '')" if type_ in _TEXTS else raw
    count = f"TRY_CAST({given} AS DOUBLE) * {of.factor!r} + {of.since}"
    moment = _utc(f"make_timestamp(CAST(round({count}) AS BIGINT))", of.zone)
    return f"CASE WHEN {count} {_SANE_COUNTS} THEN {moment} END"


def _utc(stamp: str, zone: str) -> str:
    return stamp if zone == "UTC" else f"timezone('UTC', timezone({text(zone)}, {stamp}))"

"""Conversion of raw values to the contract's types, in SQL.

Belongs here: what a text, a number or a timestamp of a source means, and its calendar day. Does not belong here: which
column it is (see `mapping`). A value that cannot be converted is NULL, never an error.
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
# Years whose timestamps can be shifted to any time zone without overflow.
_SANE_STAMPS = "BETWEEN TIMESTAMP '0002-01-01' AND TIMESTAMP '9998-12-31'"
_SANE_YEARS = r"^\s*(000[2-9]|00[1-9]|0[1-9]|[1-8]|9[0-8]|99[0-8]|999[0-8])"


# Limits of a count in microseconds, so that one beyond any calendar is not a time, rather than an error.
_SANE_COUNTS = "BETWEEN -6.2e16 AND 2.533e17"  # years 6 to 9996
_COUNTS = {"epoch_s": 1e6, "epoch_ms": 1e3, "epoch_us": 1.0, "epoch_ns": 1e-3}
_UNITS = {"seconds": 1e6, "minutes": 6e7, "hours": 3.6e9, "days": 8.64e10, "weeks": 6.048e11}
_CALENDAR_UNITS = ("days", "weeks")
_SINCE = re.compile(rf"({'|'.join(_UNITS)}) since (\S.*)")


@dataclass(frozen=True)
class Counted:
    """Timestamps that are numbers: microseconds per unit, and microseconds from 1970 to the start of the count.

    Seconds, minutes and hours are elapsed time. Days and weeks are calendar time, as in spreadsheets: they are added to
    the local time of `zone`, so that a whole number of days after midnight is midnight, also across a change of the
    clocks, and half a day later is noon.

    Parameters
    ----------
    zone : time zone of the sum; UTC for elapsed time
    """

    factor: float
    since: int = 0
    zone: str = "UTC"


@dataclass(frozen=True)
class Clock:
    """What timestamps mean: the zone of those without one, the zone of the project's days, and the unit of numbers.

    When clocks are set back, an hour is repeated: a timestamp in it is read as the later one, after the change. When
    they are set forward, an hour is skipped: a timestamp in it is read as if the clocks had not been changed, so 02:30
    is the moment called 03:30. Both are the same on every run, and neither leaves its calendar day.
    """

    naive: str
    project: str
    counted: Counted | None = None


def counted(stamp: str, naive: str, project: str) -> Counted | None:
    """The unit and start of timestamps by the key `stamp`; None if they are not numbers.

    Raises
    ------
    ValueError
        If it is not a known unit.
    """
    if stamp in ("", "auto"):
        return None
    if stamp in _COUNTS:
        return Counted(_COUNTS[stamp])
    match = _SINCE.fullmatch(stamp.strip())
    try:
        if match is None:
            raise ValueError
        start = datetime.fromisoformat(match[2].strip())
    except ValueError:
        known = f"{', '.join(_COUNTS)}, or such as 'hours since 2017-01-01 00:00'"
        raise ValueError(f"{stamp!r} does not say what stamps count: write {known}") from None
    zone = "UTC"
    if start.tzinfo is None:
        own = project if is_day(match[2]) else naive
        if match[1] in _CALENDAR_UNITS:
            zone, start = own, start.replace(tzinfo=UTC)
        else:
            start = start.replace(tzinfo=ZoneInfo(own), fold=1)
    since = (start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return Counted(_UNITS[match[1]], since, zone)


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
    present = f"nullif({trimmed(raw)}, '')" if type_ in _TEXTS else raw
    return f"TRY_CAST({present} AS {SQL[kind]})"


def failure(mapped: Mapped, raw: str, value: str) -> str:
    """SQL for whether a delivered value could not be converted; empty if any can be."""
    if mapped.column.type == "string" or mapped.type in ("DOUBLE", "BOOLEAN", "NULL"):
        return ""
    blank = f" AND {trimmed(raw)} <> ''" if mapped.type in _TEXTS else ""
    return f"{value} IS NULL AND {raw} IS NOT NULL{blank}"


def day(stamp: str, clock: Clock) -> str:
    """The project's calendar day of a timestamp in UTC."""
    if clock.project == "UTC":
        return f"CAST({stamp} AS DATE)"
    return f"CAST(timezone({text(clock.project)}, timezone('UTC', {stamp})) AS DATE)"


def _string(mapped: Mapped, raw: str) -> str:
    """Ids that spreadsheets or floats turned into ``17.0`` become ``17``."""
    if mapped.type in _TEXTS:
        present = f"nullif({trimmed(raw)}, '')"
        is_id = mapped.column.name.endswith("_id")
        return f"regexp_replace({present}, '^(-?\\d+)\\.0+$', '\\1')" if is_id else present
    if mapped.type in ("DOUBLE", "FLOAT") or mapped.type.startswith("DECIMAL"):
        whole = f"CAST(TRY_CAST({raw} AS BIGINT) AS VARCHAR)"
        return f"CASE WHEN {raw} = floor({raw}) AND abs({raw}) < 9e15 THEN {whole} ELSE CAST({raw} AS VARCHAR) END"
    return f"CAST({raw} AS VARCHAR)"


def _stamp(raw: str, type_: str, clock: Clock) -> str:
    """In UTC. A text is a day, or a timestamp with or without a zone or offset; anything else is not a time."""
    if type_ in _TEXTS:
        written = trimmed(raw)
        moment = (
            f"CASE WHEN regexp_full_match({written}, '{DAY}') "
            f"THEN {_utc(f'TRY_CAST({written} AS TIMESTAMP)', clock.project)} "
            f"WHEN regexp_full_match({written}, '{STAMP}') THEN {_utc(wall_clock(written), clock.naive)} "
            f"WHEN regexp_full_match({written}, '{STAMP}{OFFSET}') THEN {with_offset(written)} "
            f"WHEN regexp_full_match({written}, '{STAMP}{REGION}') THEN {with_region(written)} "
            f"WHEN regexp_matches({written}, '^{DAY}[T ]') "  # an abbreviation of a zone
            f"THEN timezone('UTC', TRY_CAST({written} AS TIMESTAMPTZ)) END"
        )
        return f"CASE WHEN regexp_matches({raw}, '{_SANE_YEARS}') THEN {moment} END"
    if type_ == "TIMESTAMP_NS":  # whose range is too small to compare with the limits
        raw = f"CAST({raw} AS TIMESTAMP)"
    if type_ == "DATE":
        moment = _utc(f"CAST({raw} AS TIMESTAMP)", clock.project)
    elif type_ == "TIMESTAMP WITH TIME ZONE":
        moment = f"timezone('UTC', {raw})"
    else:
        moment = _utc(f"TRY_CAST({raw} AS TIMESTAMP)", clock.naive)
    return f"CASE WHEN {raw} {_SANE_STAMPS} THEN {moment} END"


def _count(raw: str, type_: str, unit: Counted) -> str:
    present = f"nullif({trimmed(raw)}, '')" if type_ in _TEXTS else raw
    count = f"TRY_CAST({present} AS DOUBLE) * {unit.factor!r} + {unit.since}"
    moment = _utc(f"make_timestamp(CAST(round({count}) AS BIGINT))", unit.zone)
    return f"CASE WHEN {count} {_SANE_COUNTS} THEN {moment} END"


def _utc(stamp: str, zone: str) -> str:
    return stamp if zone == "UTC" else f"timezone('UTC', timezone({text(zone)}, {stamp}))"

"""How timestamps are written as text: the one definition that the reader of rows and `microseg new` share.

Belongs here: which texts are days, timestamps, and timestamps with an offset, and the SQL that parses each kind. Does
not belong here: the zone of a timestamp without one and the calendar day of a timestamp (see `values`), and formats
that only `strptime` can parse (see `microseg_assets.scaffold.columns`).
"""

from __future__ import annotations

import re
from datetime import date
from zoneinfo import ZoneInfo

# In the dialect that Python and DuckDB (RE2) share, without capturing groups; letters may be in lower case, as in RFC
# 3339.
DAY = r"\d{4}-\d{1,2}-\d{1,2}"
_CLOCK = r"\d{1,2}:\d{1,2}(?::\d{1,2}(?:[.,]\d*)?)?"
STAMP = rf"{DAY}[Tt ]+{_CLOCK}"
_NUMERIC = r"(?:[Uu][Tt][Cc]|[Gg][Mm][Tt])?[-+−]\d{1,2}(?::?\d{2}(?::?\d{2})?)?"
# Some repeat the zone's name after the offset: Java in brackets, Go after a space.
OFFSET = rf" *(?:[Zz]|[Uu][Tt][Cc]|[Gg][Mm][Tt]|{_NUMERIC})(?:\[[\w/+-]+\]| UTC)?"
REGION = r" +[A-Za-z_]+(?:/[\w+-]+)+"
_MAX_OFFSET = 16 * 3600  # seconds: no time zone is as far from UTC, and PostgreSQL refuses such offsets

_PARTS = re.compile(
    rf"(?P<day>{DAY})(?:[Tt ]+(?P<clock>{_CLOCK})(?:(?P<offset>{OFFSET})|(?P<region>{REGION}))?)?", re.ASCII
)


def is_written(text: str) -> bool:
    """Whether a text is a day or a timestamp, with or without an offset, whose day exists in the calendar.

    Examples
    --------
    >>> [is_written(t) for t in ("2024-02-29", "2024-01-01 16:55:00 +0100", "2024-13-01 16:55", "01.02.2024")]
    [True, True, False, False]
    """
    match = _PARTS.fullmatch(text.strip())
    if match is None or not (_is_day(match["day"]) and _is_clock(match["clock"] or "0:00")):
        return False
    if match["region"]:
        return _is_zone(match["region"].strip())
    return abs(_seconds(match["offset"] or "Z")) < _MAX_OFFSET


def is_day(text: str) -> bool:
    """Whether a text is a day without a time."""
    return re.fullmatch(DAY, text.strip(), re.ASCII) is not None


def says_zone(text: str) -> bool:
    """Whether a text is a timestamp with an offset or zone."""
    match = _PARTS.fullmatch(text.strip())
    return match is not None and bool(match["offset"] or match["region"])


def wall_clock(stamp: str) -> str:
    """SQL of the local time of a timestamp, whatever its offset; NULL if there is no such day or time."""
    plain = f"replace({stamp}, ',', '.')"
    return f"TRY_CAST(regexp_replace({plain}, '^({DAY})[Tt ]+({_CLOCK}).*$', '\\1 \\2') AS TIMESTAMP)"


def with_offset(stamp: str) -> str:
    """SQL of a timestamp with an offset, in UTC; NULL if no time zone has such an offset."""
    numbers = r"([-+−])(\d{1,2})(?::?(\d{2}))?(?::?(\d{2}))?(?:\[[\w/+-]+\]| UTC)?$"
    parts = [f"regexp_extract({stamp}, '[0-9Cc Tt]{numbers}', {group})" for group in range(1, 5)]
    hours, minutes, seconds = (f"coalesce(TRY_CAST({part} AS BIGINT), 0)" for part in parts[1:])
    away = f"({hours} * 3600 + {minutes} * 60 + {seconds})"
    signed = f"CASE WHEN {parts[0]} IN ('-', '−') THEN -{away} ELSE {away} END"
    return f"CASE WHEN {away} < {_MAX_OFFSET} THEN {wall_clock(stamp)} - to_seconds({signed}) END"


def with_region(stamp: str) -> str:
    """SQL of a timestamp followed by the name of a time zone, in UTC; NULL if there is no such zone."""
    region = f"regexp_extract({stamp}, '\\S+$')"
    return f"timezone('UTC', TRY_CAST(CAST({wall_clock(stamp)} AS VARCHAR) || ' ' || {region} AS TIMESTAMPTZ))"


def _is_day(text: str) -> bool:
    try:
        return bool(date(*map(int, text.split("-"))))
    except ValueError:
        return False


def _is_clock(text: str) -> bool:
    hours, minutes, *seconds = re.split("[:]", text.replace(",", "."))
    total = int(hours) * 3600 + int(minutes) * 60 + float(seconds[0] if seconds else 0)
    return int(minutes) < 60 and float(seconds[0] if seconds else 0) < 60 and total <= 86_400


def _is_zone(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        return False


def _seconds(offset: str) -> int:
    match = re.search(r"([-+−])(\d{1,2})(?::?(\d{2}))?(?::?(\d{2}))?", offset)
    if match is None:
        return 0
    away = int(match[2]) * 3600 + int(match[3] or 0) * 60 + int(match[4] or 0)
    return away if match[1] == "+" else -away

"""Raw values as values of the contract's types, in SQL.

Belongs here: what a text, a number or a stamp of a source means, and the calendar day of a stamp. Does not belong here:
which column it is (see `mapping`). A value that has no meaning is NULL, never an error.
"""

from __future__ import annotations

from dataclasses import dataclass

from microseg_assets.sources.mapping import Mapped
from microseg_assets.sources.read import text
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
_DAY = r"\d{4}-\d{1,2}-\d{1,2}"
# Years whose stamps any time zone can shift without leaving what a timestamp holds.
_SANE_STAMPS = "BETWEEN TIMESTAMP '0002-01-01' AND TIMESTAMP '9998-12-31'"
_SANE_YEARS = r"^\s*(000[2-9]|00[1-9]|0[1-9]|[1-8]|9[0-8]|99[0-8]|999[0-8])"


@dataclass(frozen=True)
class Zones:
    """The zone of stamps that do not say their own, and the one whose days are the project's."""

    naive: str
    project: str


def trimmed(raw: str) -> str:
    """A text without white space around it."""
    return f"trim({raw}, {_WHITE})"


def value(mapped: Mapped, raw: str, zones: Zones) -> str:
    """The typed value of a raw one."""
    kind, type_ = mapped.column.type, mapped.type
    if type_ == "NULL":
        return f"NULL::{SQL[kind]}"
    if kind == "string":
        return _string(mapped, raw)
    if kind == "timestamp":
        return _stamp(raw, type_, zones)
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


def day(stamp: str, zones: Zones) -> str:
    """The project's calendar day of a stamp in UTC."""
    if zones.project == "UTC":
        return f"CAST({stamp} AS DATE)"
    return f"CAST(timezone({text(zones.project)}, timezone('UTC', {stamp})) AS DATE)"


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


def _stamp(raw: str, type_: str, zones: Zones) -> str:
    """In UTC. A text is a day, a stamp without a zone, or one with an offset; anything else is no time."""
    if type_ in _TEXTS:
        given = trimmed(raw)
        found = (
            f"CASE WHEN regexp_full_match({given}, '{_DAY}') "
            f"THEN {_utc(f'TRY_CAST({given} AS TIMESTAMP)', zones.project)} "
            f"WHEN regexp_full_match({given}, '{_DAY}[T ][0-9:.,]+') "
            f"THEN {_utc(f'TRY_CAST({given} AS TIMESTAMP)', zones.naive)} "
            f"WHEN regexp_matches({given}, '^{_DAY}[T ]') "
            f"THEN timezone('UTC', TRY_CAST({given} AS TIMESTAMPTZ)) END"
        )
        return f"CASE WHEN regexp_matches({raw}, '{_SANE_YEARS}') THEN {found} END"
    if type_ == "DATE":
        found = _utc(f"CAST({raw} AS TIMESTAMP)", zones.project)
    elif type_ == "TIMESTAMP WITH TIME ZONE":
        found = f"timezone('UTC', {raw})"
    else:
        found = _utc(f"TRY_CAST({raw} AS TIMESTAMP)", zones.naive)
    return f"CASE WHEN {raw} {_SANE_STAMPS} THEN {found} END"


def _utc(stamp: str, zone: str) -> str:
    return stamp if zone == "UTC" else f"timezone('UTC', timezone({text(zone)}, {stamp}))"

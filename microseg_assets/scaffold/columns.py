"""A column as it was delivered, and how to read it as numbers or timestamps.

Belongs here: pure functions of a column's type and a few of its values. Does not belong here: the role of the column
(see `infer`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from typing import Literal, TypeAlias

from microseg_assets.scaffold.amounts import Amount, amount, disagreement, magnitude, sql
from microseg_assets.sources import stamps
from ml.engine import quoted

_NUMERIC = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL.*|FLOAT|DOUBLE")
TYPED_STAMP = re.compile(r"DATE|TIMESTAMP.*")
_MIN_AGREEMENT = 0.98  # share of the values that must fit the interpretation of a column
# A stamp of the years 1990 to 2100, in seconds since 1970.
_EPOCH = (631_152_000, 4_102_444_800)


@dataclass(frozen=True)
class Repeats:
    """Rows that share their value of a column with another row.

    Parameters
    ----------
    other : rows of another customer, product or amount than another one of the same value
    same : rows of the same customer, product and amount, that differ in a time or the like; rows that are equal in
        every column do not count
    """

    other: int
    same: int


@dataclass(frozen=True)
class SourceColumn:
    """A column as it was delivered.

    Parameters
    ----------
    type : type in DuckDB; text for CSV and JSON lines
    rows, missing, distinct : counts in the sample
    values : some hundred distinct values as text, none of them missing
    rare : further values, one of each notation
    is_sample : whether there are more rows than in the sample
    repeats : rows that share a value, if these were counted
    is_of_customer : whether every customer has only one value
    """

    name: str
    type: str
    rows: int
    missing: int
    distinct: int
    values: tuple[str, ...]
    rare: tuple[str, ...] = ()
    is_sample: bool = False
    repeats: Repeats | None = None
    is_of_customer: bool = False

    @property
    def is_text(self) -> bool:
        return self.type == "VARCHAR"

    @property
    def is_unique(self) -> bool:
        return self.distinct == self.rows - self.missing > 0

    @property
    def sql(self) -> str:
        """The column in an expression."""
        return self.name if re.fullmatch(r"[A-Za-z_]\w*", self.name, re.ASCII) else quoted(self.name)


Holds: TypeAlias = Literal["days", "stamps", "zoned_stamps", "epoch"]
_HOLDS: dict[Holds, str] = {  # the words for it
    "days": "days", "stamps": "stamps", "zoned_stamps": "stamps with a time zone",
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How a column of the contract is read.

    Parameters
    ----------
    expression : the mapping to write
    uses : names of the source columns in it
    note : the notation of the values, if it is unusual
    doubt : what only the user can know
    stamp : unit of a column of numbers that are timestamps, as in the key `stamp` of a table
    holds : what a timestamp's column holds
    examples : the values that are quoted in the note
    is_named : whether the column was recognised by its name, and not only by its values
    """

    expression: str
    uses: tuple[str, ...]
    note: str = ""
    doubt: str = ""
    stamp: str = ""
    holds: Holds | None = None
    examples: tuple[str, ...] = ()
    is_named: bool = True


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────

_PLAIN = re.compile(r"\s*[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?\s*")


@dataclass(frozen=True)
class Number:
    """A column of numbers: the expression that reads them, their notation, and their range."""

    expression: str
    note: str
    minimum: float
    maximum: float
    is_whole: bool
    doubt: str = ""
    examples: tuple[str, ...] = ()


def number(seen: SourceColumn) -> Number | None:
    """How to read a column as numbers; None if it does not hold numbers."""
    if not seen.values or not (seen.is_text or _NUMERIC.fullmatch(seen.type)):
        return None
    if not seen.is_text:
        return _as_number(seen, seen.sql, "", [float(v) for v in seen.values])
    values = (*seen.values, *(v for v in seen.rare if v not in seen.values))
    amounts = {v: parsed for v in values if (parsed := amount(v)) is not None}
    decorated = [v for v in amounts if not _PLAIN.fullmatch(v)]
    if agree(_PLAIN, seen.values) and not decorated:
        return _as_number(seen, seen.sql, "", [float(v) for v in seen.values if _PLAIN.fullmatch(v)])
    if sum(v in amounts or bool(_PLAIN.fullmatch(v)) for v in seen.values) < _MIN_AGREEMENT * len(seen.values):
        return None
    style = _style([re.sub(r"['’٬]", "", one.digits) for one in amounts.values()])
    return _written(seen, amounts, *style) if style is not None else None


def _written(
    seen: SourceColumn, amounts: Mapping[str, Amount], decimal: str, thousands: str, doubt: str
) -> Number | None:
    """A column of amounts that are not plain numbers, with an expression that is tried on the sample."""
    each = list(amounts.values())
    expression = sql(seen.sql, each, decimal, thousands, has_blanks=seen.missing > 0)
    values = [magnitude(a.digits, decimal, thousands) * (-1 if a.is_negative else 1) for a in each]
    if wrong := disagreement(expression, seen.name, list(amounts), values):
        doubt = f"{wrong.strip()!r} is not read as it seems to be meant: correct the expression"
    notations = frozenset().union(*(one.notations for one in each))
    currencies = sorted({"".join(one.currencies).upper() for one in each if one.currencies})
    negative = [v for v, one in amounts.items() if one.is_negative]
    examples: tuple[str, ...] = ()
    notes = []
    if decimal == ",":
        notes.append("written with a decimal comma")
    elif thousands == "," and any("," in one.digits for one in each):
        notes.append("written with commas as thousands separators")
    if any(one.currencies or one.around for one in each):
        notes.append("with signs around the number")
    if notations & {"dash", "trailing", "brackets", "credit"}:
        examples = tuple(_shapes(negative))
        notes.append(f"{_listed(examples)} as negative")
    if "credit" in notations and 2 * len(negative) > len(each):
        doubt = doubt or "most are credits: decide whether a credit is money paid back (then it must be negative)"
    if len(currencies) > 1:
        doubt = doubt or f"amounts in {_listed(currencies)}: convert them in the expression, or keep only one"
    read = _as_number(seen, expression, ", ".join(notes), values, doubt)
    return None if read is None else replace(read, examples=examples)


def _shapes(values: Sequence[str]) -> list[str]:
    """One example of each notation of the values."""
    return list({re.sub(r"[\d.,\s]+", "9", value): " ".join(value.split()) for value in reversed(values)}.values())[:3]


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def agree(pattern: re.Pattern[str], values: Sequence[str]) -> bool:
    return agreed(pattern.fullmatch, values)


def agreed(fits: Callable[[str], object], values: Sequence[str]) -> bool:
    """Whether nearly all values fit."""
    return sum(bool(fits(value)) for value in values) >= _MIN_AGREEMENT * len(values)


def _style(written: Sequence[str]) -> tuple[str, str, str] | None:
    """The decimal sign, the thousands separator, and a doubt about them; None if no single style fits."""
    both = [v for v in written if "," in v and "." in v]
    if both:
        comma = sum(v.rfind(",") > v.rfind(".") for v in both)
        if comma not in (0, len(both)):
            return None
        return (",", ".", "") if comma else (".", ",", "")
    commas = [v for v in written if "," in v]
    if not commas:
        grouped = [v for v in written if v.count(".") > 1]
        if not grouped:
            return (".", ",", "")
        return (",", ".", "") if all(re.fullmatch(r"-?\d{1,3}(\.\d{3})+", v) for v in grouped) else None
    grouped = [v for v in commas if re.fullmatch(r"-?\d{1,3}(,\d{3})+", v)]
    if len(grouped) < len(commas):
        return (",", ".", "")
    return (".", ",", "the comma is read as a thousands separator, not as a decimal comma")


def _as_number(
    seen: SourceColumn, expression: str, note: str, values: Sequence[float], doubt: str = ""
) -> Number | None:
    finite = [v for v in values if v == v and abs(v) != float("inf")]
    if not finite:
        return None
    return Number(expression, note, min(finite), max(finite), all(v == int(v) for v in finite), doubt)


# ── stamps ────────────────────────────────────────────────────────────────────────────────────────────────────────

CLOCK = re.compile(r"\s*\d{1,2}:\d{2}(:\d{2})?\s*")
_DATES = (
    "%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%Y/%m/%d", "%Y.%m.%d", "%d-%m-%Y",
    "%m-%d-%Y", "%Y%m%d", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y",
)  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", "%H%M%S")
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_SWAPPED = str.maketrans({"d": "m", "m": "d"})


def stamp(seen: SourceColumn) -> Reading | None:
    """How to read a column as timestamps; None if it does not hold timestamps."""
    name = seen.name
    if TYPED_STAMP.fullmatch(seen.type):
        typed: dict[str, Holds] = {"DATE": "days", "TIMESTAMP WITH TIME ZONE": "zoned_stamps"}
        return _plain(name, typed.get(seen.type, "stamps"))
    if not seen.values or not (seen.is_text or _NUMERIC.fullmatch(seen.type)):
        return None
    if seen.is_text and agreed(stamps.is_written, seen.values):
        if agreed(stamps.is_day, seen.values):
            return _plain(name, "days")
        return _plain(name, "zoned_stamps" if all(map(stamps.says_zone, seen.values)) else "stamps")
    texts = [v.strip().removesuffix(".0") for v in seen.values]
    form = _format(texts[:300])
    if form is not None:
        return _by_format(seen, *form)
    return _epoch(seen, texts)


def _plain(name: str, holds: Holds) -> Reading:
    return Reading(name, (name,), _HOLDS[holds], holds=holds)


def _format(texts: Sequence[str]) -> tuple[str, str] | None:
    """The format of the texts, and a doubt about it."""
    for date, time in product(_DATES, _TIMES):
        if _all_read(texts, date + time):
            swapped = date.translate(_SWAPPED)
            both_ways = swapped != date and swapped in _DATES and _all_read(texts, swapped + time)
            if both_ways and "%p" in time:
                date = swapped if date.startswith("%d") else date
            order = "day" if date[1] == "d" else "month"
            doubt = f"no value shows whether day or month comes first: this reads {order} first"
            return date + time, doubt if both_ways else ""
    return None


def _all_read(texts: Sequence[str], form: str) -> bool:
    wrong, allowed = 0, (1 - _MIN_AGREEMENT) * len(texts)
    for text in texts:
        try:
            year = datetime.strptime(text, form).year  # noqa: DTZ007
        except ValueError:
            year = 0
        wrong += not 1980 <= year <= 2100
        if wrong > allowed:
            return False
    return bool(texts)


def _by_format(seen: SourceColumn, form: str, doubt: str) -> Reading:
    is_day = not any(sign in form for sign in ("%H", "%I"))
    text = seen.sql if seen.is_text else f"CAST({seen.sql} AS VARCHAR)"
    text = f"trim({text})" if any(v != v.strip() for v in seen.values) else text
    if seen.is_text and any(v.endswith(".0") for v in seen.values):
        text = f"replace({text}, '.0', '')"
    parsed = f"strptime({text}, '{form}')"
    expression = f"CAST({parsed} AS DATE)" if is_day else parsed
    holds: Holds = "days" if is_day else "stamps"
    example = seen.values[0].strip()
    note = f"{_HOLDS[holds]} such as {example}"
    return Reading(expression, (seen.name,), note, doubt, holds=holds, examples=(example,))


def _epoch(seen: SourceColumn, texts: Sequence[str]) -> Reading | None:
    if not agree(_PLAIN, texts):
        return None
    numbers = [float(v) for v in texts if _PLAIN.fullmatch(v)]
    for factor, unit in ((1, "s"), (1_000, "ms"), (1_000_000, "us"), (1_000_000_000, "ns")):
        if all(_EPOCH[0] <= v / factor <= _EPOCH[1] for v in numbers):
            note = f"{_UNITS[unit]} since 1970"
            return Reading(seen.name, (seen.name,), note, stamp=f"epoch_{unit}", holds="epoch")
    return None


def with_clock(reading: Reading, clock: SourceColumn) -> Reading:
    """A day and a time of day, in separate columns, as one timestamp."""
    form = "%H:%M:%S" if all(v.count(":") == 2 for v in clock.values) else "%H:%M"
    day = reading.expression
    inner = re.fullmatch(r"CAST\(strptime\((.*), '(.*)'\) AS DATE\)", day)
    if inner:
        expression = f"strptime({inner[1]} || ' ' || {clock.sql}, '{inner[2]} {form}')"
    else:
        name = day if re.fullmatch(r"[A-Za-z_]\w*", day, re.ASCII) else quoted(day)
        expression = f"strptime(CAST({name} AS VARCHAR) || ' ' || {clock.sql}, '%Y-%m-%d {form}')"
    note = f"day and time of day such as {clock.values[0].strip()}"
    return Reading(expression, (*reading.uses, clock.name), note, holds="stamps")

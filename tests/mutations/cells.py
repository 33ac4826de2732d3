"""What can be wrong with a cell, or only look so: each kind says what is delivered and what must come of it.

Belongs here: kinds of cells, stated from what the README and the design promise, never asked of the code that is
tested. Does not belong here: files.

What is relied on: a number is what a program writes as one, with a point; a stamp is ISO text. A row whose stamp lies
behind the days that are run belongs to its own, later day: it is accepted there, unchanged. One before the first day is
quarantined; a customer may have registered before it, and is then of the first day. An optional cell that is empty is
missing, which is no fault. Text means itself: a formula in it is text, whoever opens it in a spreadsheet later.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from ml.tables import Column

START, LAST = date(2024, 1, 10), date(2024, 1, 12)  # the days that are run
LONG = 100_000
CURRENCY_LIMIT, QUANTITY_LIMIT = 1_000_000, 1_000_000_000


@dataclass(frozen=True)
class Cell:
    """What is delivered, what it means, and the rule that refuses its row; `None` is an empty cell, or no refusal."""

    text: str | None
    value: Any = None
    rule: str | None = None


Kind: TypeAlias = Callable[[Random, Column, ZoneInfo], Cell]

NUMBERS_THAT_ARE_NONE = ["abc", "1,5", "12.3.4", "--1", "1 000", "€5", "2024-01-01", "0x1F", "1e", "-", "NULL", "true."]
FORMULAS = ["=CMD()", "=1+1", "+1+1", "-1+2", "@SUM(A1:A9)", '=HYPERLINK("http://x","y")', "=cmd|' /C calc'!A0", "=1"]
INFINITIES = ["inf", "-inf", "nan", "NaN", "Infinity", "1e999", "-1e400"]
TIMES_THAT_ARE_NONE = [
    "soon", "31.12.2024", "01/02/2024", "2024-13-01 10:00:00", "2024-02-30 10:00:00", "2024-01-11 25:00:00",
    "1704967200", "NaT", "now", "epoch", "infinity", "99999-01-01 00:00:00", "0000-01-01 00:00:00",
    "2024-01-11 10:00:61", "2024-01-11T10:00:00 o'clock",
]  # fmt: skip
ODD_TEXTS = [
    "NULL", "None", "nan", "true", "0", "-", "#N/A", "Ω≈ç√", "日本語", "😀👩‍👩‍👧",
    "e\u0301", "\u202eabc", "a\u00a0b", "\\N",
]  # fmt: skip


def moment(local: datetime, zone: ZoneInfo) -> datetime:
    """A local time as the contract has it, in UTC."""
    return local.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None)


def clean(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    """A cell with which nothing is wrong."""
    if column.type == "timestamp":
        day = START + timedelta(days=random.randrange((LAST - START).days + 1))
        local = datetime(day.year, day.month, day.day) + timedelta(seconds=random.randrange(86_400))
        return Cell(str(local), moment(local, zone))
    if column.type == "double":
        value = round(random.uniform(0, 1), 3) if column.name == "propensity" else round(random.uniform(0, 500), 2)
        return Cell(repr(value), value)
    if column.type == "boolean":
        value = random.random() < 0.5
        return Cell(str(value).lower(), value)
    text = f"{column.name[:3]}{random.randrange(10**6)}"
    return Cell(text, text)


def empty(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    text = random.choice([None, "", "  ", "\t"])
    return Cell(text, None, f"{column.name}: missing" if column.required else None)


def wrong_type(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    if column.type == "timestamp":
        return Cell(random.choice(TIMES_THAT_ARE_NONE), None, f"{column.name}: not a time")
    if column.type == "boolean":
        return Cell(random.choice(["maybe", "=TRUE()", "2024-01-01", "tru"]), None, f"{column.name}: not true or false")
    return Cell(random.choice(NUMBERS_THAT_ARE_NONE), None, f"{column.name}: not a number")


def formula(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    text = random.choice(FORMULAS)
    if column.type == "string":
        return Cell(text, text)
    return Cell(text, None, f"{column.name}: not a {'time' if column.type == 'timestamp' else 'number'}")


def infinite(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    return Cell(random.choice(INFINITIES), None, f"{column.name}: not finite")


def absurd(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    """Beyond what is believable, or just not."""
    sign = random.choice([1, -1])
    if column.name == "propensity":
        return Cell(repr(random.choice([1.5, -0.2, 40.0])), None, "propensity: not between 0 and 1")
    if column.name in ("discount", "cost") and sign < 0:
        return Cell("-3.5", None, f"{column.name}: below 0")
    limit = QUANTITY_LIMIT if column.name == "quantity" else CURRENCY_LIMIT if column.unit == "currency" else None
    if limit is None or random.random() < 0.3:
        value = float(sign * (limit or 10**15))
        return Cell(repr(value), value)
    value = sign * random.choice([limit + 0.5, limit * 1e3, 1e300])
    return Cell(repr(value), None, f"{column.name}: beyond ±{limit:,}")


def other_spelling(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    """The same value, written in another way that is one."""
    if column.type == "double":
        return random.choice(
            [Cell(" 0.5 ", 0.5), Cell("+0.5", 0.5), Cell("5e-1", 0.5), Cell(".5", 0.5), Cell("0", 0.0)]
        )
    value = datetime(2024, 1, 11, 12, 30)
    texts = {"2024-01-11T12:30:00": zone, " 2024-01-11 12:30 ": zone, "2024-01-11T12:30:00Z": ZoneInfo("UTC"),
             "2024-01-11 12:30:00+02:00": ZoneInfo("Etc/GMT-2")}  # fmt: skip
    text = random.choice(list(texts))
    return Cell(text, moment(value, texts[text]))


def ancient(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    text = random.choice(["1900-01-01 00:00:00", "1970-01-01 00:00:00", "2024-01-09 23:59:59", "0815-06-01 12:00:00"])
    if column.required:
        return Cell(text, None, f"{column.name}: before the first day ({START})")
    return Cell(text, moment(datetime.fromisoformat(text), zone))


def future(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    text = random.choice(["2024-01-13 00:00:00", "2031-05-05 10:00:00", "2262-04-13 00:00:00", "9990-01-01 12:00:00"])
    return Cell(text, moment(datetime.fromisoformat(text), zone))


def long(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    if column.type == "string":
        return Cell("x" * LONG, "x" * LONG)
    if column.type == "double" and random.random() < 0.5:
        return Cell("9" * LONG, None, f"{column.name}: not finite")
    return Cell("x" * LONG, None, wrong_type(random, column, zone).rule)


def embedded(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    text = random.choice([
        'he said "no"', '"quoted"', "a,b;c\td|e", "two\nlines", "two\r\nlines", "a\rb", 'x","y', "'single'", '""',
        '",\n"', "a\\",
    ])  # fmt: skip
    return Cell(text, text)


def odd_text(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    text = random.choice(ODD_TEXTS)
    return Cell(text, text)


def with_nul(random: Random, column: Column, zone: ZoneInfo) -> Cell:
    if column.type == "string":
        return Cell("a\0b", "a\0b")
    return Cell("1\0005", None, wrong_type(random, column, zone).rule)


ON_NUMBERS: list[Kind] = [empty, wrong_type, formula, infinite, absurd, other_spelling, long, with_nul]
ON_STAMPS: list[Kind] = [empty, wrong_type, formula, ancient, future, other_spelling, long, with_nul]
ON_TEXTS: list[Kind] = [empty, formula, long, embedded, odd_text, with_nul]
KINDS: dict[str, list[Kind]] = {
    "double": ON_NUMBERS, "timestamp": ON_STAMPS, "string": ON_TEXTS, "boolean": [empty, wrong_type],
}  # fmt: skip

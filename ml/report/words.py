"""Numbers, dates and lists as people read them.

Belongs here: how a value is written. Does not belong here: which value a section shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import Any, TypeGuard

from ml.value.currency import Money

MISSING = "–"
# Not strftime, whose names depend on the locale.
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def money_words(money: Money) -> dict[str, str]:
    """What value is reckoned in, as text has it: on its own, in full, and in the place of what customers spend."""
    if money == "margin":
        return {"money": "margin", "net_money": "gross margin", "spend": "margin"}
    return {"money": "revenue", "net_money": "net revenue", "spend": "spend"}


def is_known(value: Any) -> TypeGuard[float]:
    """Whether there is a number to show."""
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 0, *, sign: bool = False) -> str:
    """A number with thousands separators and a minus sign; with `sign` also a plus. Zero never has a sign."""
    if not is_known(value):
        return MISSING
    if round(value, digits) == 0:
        value = 0.0
    return f"{value:{'+' if sign and value else ''},.{digits}f}".replace("-", "−")


def amount(value: float | None) -> str:
    """An amount without its currency: with cents only if it is small."""
    return number(value, 2 if value is not None and 0.005 <= abs(value) < 100 else 0)


def brief(value: float | None) -> str:
    """A short amount for pictures: 950, 12.3k, 4.56M."""
    if not is_known(value):
        return MISSING
    for threshold, unit, letter in ((1e9, 1e9, "bn"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= threshold:
            return f"{value / unit:.3g}{letter}".replace("-", "−")
    return number(value)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if is_known(part) and is_known(whole) and whole > 0 else None


def share(part: float | None, whole: float | None = 1.0) -> str:
    """`part` of `whole` in percent, with one decimal below ten."""
    ratio = _ratio(part, whole)
    if ratio is None:
        return MISSING
    percent = 100 * ratio
    return number(percent, 1 if 0 < abs(percent) < 9.95 else 0) + "%"


def width(part: float | None, whole: float | None) -> str:
    """A bar's length in percent for CSS; 0 where there is nothing to compare."""
    return f"{100 * min(max(_ratio(part, whole) or 0.0, 0.0), 1.0):.3g}"


def day_of(day: date) -> str:
    """A day without its year: ``1 December``."""
    return f"{day.day} {_MONTHS[day.month - 1]}"


def full_day(day: date) -> str:
    """A day with its year: ``1 December 2017``."""
    return f"{day_of(day)} {day.year}"


def plural(count: float, one: str) -> str:
    """``1 customer``, ``2 customers``."""
    return f"{number(count)} {one if count == 1 else one + 's'}"


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)

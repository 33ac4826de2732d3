"""Words that hold numbers, in the order of these numbers: "Under 15K", "15-24K", "250K+".

Belongs here: telling such words from others, and their order. Does not belong here: what becomes of them (see
`preparation`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

MOST_STEPS = 30
UNKNOWN = re.compile(r"(?:none\s*/\s*)?(?:unknown|n/?a|missing|not stated|other|null|\?|-)?", re.IGNORECASE)
NOTHING = re.compile(r"none|no|nobody|zero", re.IGNORECASE)
_NUMBER = r"[$€£]?\s*(\d[\d,.' ]*?)\s*([kKmM])?"
_UNIT = r"(?:\s*(?:years?|yrs?|days?|weeks?|months?|persons?|people|kids?|children|%))?"
_RANGE = re.compile(rf"{_NUMBER}\s*(?:-|–|to|bis)\s*{_NUMBER}{_UNIT}", re.IGNORECASE)
_BELOW = re.compile(rf"(?:under|below|less than|up to|<=?)\s*{_NUMBER}{_UNIT}", re.IGNORECASE)
_ABOVE = re.compile(rf"(?:over|above|more than|>=?)\s*{_NUMBER}{_UNIT}", re.IGNORECASE)
_PLUS = re.compile(rf"{_NUMBER}\s*(?:\+|or more|and over|and above){_UNIT}", re.IGNORECASE)
_ONE = re.compile(rf"{_NUMBER}{_UNIT}", re.IGNORECASE)


def in_order(words: Iterable[str]) -> tuple[str, ...]:
    """The words by their numbers, or nothing if they are not such words.

    At least two must hold numbers, and all of the others must say that nothing is known ("Unknown"), which leaves them
    out, or that there is none ("None"), which counts as 0. More than 30 steps are no scale but codes.
    """
    bounds: dict[str, tuple[float, float]] = {}
    for word in words:
        text = word.strip()
        found = _bounds(text)
        if found is not None and not any(math.isnan(end) for end in found):
            bounds[word] = found
        elif NOTHING.fullmatch(text):
            bounds[word] = (0.0, 0.0)
        elif not UNKNOWN.fullmatch(text):
            return ()
    if not 2 <= len(set(bounds.values())) <= MOST_STEPS or len(set(bounds.values())) < len(bounds):
        return ()
    return tuple(sorted(bounds, key=lambda word: (*bounds[word], word)))


def _bounds(text: str) -> tuple[float, float] | None:
    """Lower and upper end: what stands below a number begins under it, what stands above has no end."""
    if found := _RANGE.fullmatch(text):
        low, low_unit, high, high_unit = found.groups()
        return _value(low, low_unit or high_unit), _value(high, high_unit)
    if found := _BELOW.fullmatch(text):
        return -math.inf, _value(*found.groups())
    if found := _ABOVE.fullmatch(text) or _PLUS.fullmatch(text):
        return _value(*found.groups()), math.inf
    if found := _ONE.fullmatch(text):
        value = _value(*found.groups())
        return value, value
    return None


def _value(digits: str, unit: str | None) -> float:
    plain = re.sub(r"[,' ](?=\d{3}\b)", "", digits).replace(",", ".").strip(" .'")
    try:
        number = float(plain)
    except ValueError:
        return math.nan
    return number * {"k": 1e3, "m": 1e6}.get((unit or "").lower(), 1.0)

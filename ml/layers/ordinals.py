"""Words that hold numbers, in the order of these numbers: "Under 15K", "15-24K", "250K+".

Belongs here: recognising such words, and their order. Does not belong here: how they are used (see `preparation`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

MAX_STEPS = 30
UNKNOWN_WORDS = re.compile(r"(?:none\s*/\s*)?(?:unknown|n/?a|missing|not stated|other|null|\?|-)?", re.IGNORECASE)
ZERO_WORDS = re.compile(r"none|no|nobody|zero", re.IGNORECASE)
_NUMBER = r"[$€£]?\s*(\d[\d,.' ]*?)\s*([kKmM])?"
_UNIT = r"(?:\s*(?:years?|yrs?|days?|weeks?|months?|persons?|people|kids?|children|%))?"
_RANGE = re.compile(rf"{_NUMBER}\s*(?:-|–|to|bis)\s*{_NUMBER}{_UNIT}", re.IGNORECASE)
_BELOW = re.compile(rf"(?:under|below|less than|up to|<=?)\s*{_NUMBER}{_UNIT}", re.IGNORECASE)
_ABOVE = re.compile(rf"(?:over|above|more than|>=?)\s*{_NUMBER}{_UNIT}", re.IGNORECASE)
_PLUS = re.compile(rf"{_NUMBER}\s*(?:\+|or more|and over|and above){_UNIT}", re.IGNORECASE)
_EXACT = re.compile(rf"{_NUMBER}{_UNIT}", re.IGNORECASE)


def order_words(words: Iterable[str]) -> tuple[str, ...]:
    """The words sorted by their numbers, or nothing if they are not such words.

    At least two must hold numbers. Each of the others must mean that nothing is known ("Unknown"), which leaves it out,
    or that there is none ("None"), which counts as 0. More than 30 steps are codes, not a scale.
    """
    intervals: dict[str, tuple[float, float]] = {}
    for word in words:
        text = word.strip()
        interval = _interval(text)
        if interval is not None and not any(math.isnan(end) for end in interval):
            intervals[word] = interval
        elif ZERO_WORDS.fullmatch(text):
            intervals[word] = (0.0, 0.0)
        elif not UNKNOWN_WORDS.fullmatch(text):
            return ()
    if not 2 <= len(set(intervals.values())) <= MAX_STEPS or len(set(intervals.values())) < len(intervals):
        return ()
    return tuple(sorted(intervals, key=lambda word: (*intervals[word], word)))


def _interval(text: str) -> tuple[float, float] | None:
    """Lower and upper end: "below" has no lower end, "above" no upper one."""
    if match := _RANGE.fullmatch(text):
        low, low_unit, high, high_unit = match.groups()
        return _value(low, low_unit or high_unit), _value(high, high_unit)
    if match := _BELOW.fullmatch(text):
        return -math.inf, _value(*match.groups())
    if match := _ABOVE.fullmatch(text) or _PLUS.fullmatch(text):
        return _value(*match.groups()), math.inf
    if match := _EXACT.fullmatch(text):
        value = _value(*match.groups())
        return value, value
    return None


def _value(digits: str, unit: str | None) -> float:
    plain = re.sub(r"[,' ](?=\d{3}\b)", "", digits).replace(",", ".").strip(" .'")
    try:
        number = float(plain)
    except ValueError:
        return math.nan
    return number * {"k": 1e3, "m": 1e6}.get((unit or "").lower(), 1.0)

"""Amounts in the notations of people and tills: ``−26,75 €``, ``($12.50)``, ``12.50-``, ``1'250.00 CR``.

Belongs here: the meaning of one written amount, and the SQL that reads a column of them. The results of that SQL for
the sampled values are compared with their meaning, so an expression never loses a sign unnoticed. Does not belong here:
whether a column holds amounts (see `columns`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp

from ml.engine import sandbox

MINUS = "-−–—‐‑‒﹣－⁻"
_OPEN, _CLOSE = "(（[<⟨‹", ")）]>⟩›"
_SIGNS = "$¢£¤¥€₠₡₢₣₤₥₦₧₨₩₪₫₭₮₯₰₱₲₳₴₵₸₹₺₻₼₽₾₿฿"
# Words beside an amount that name a currency; longer ones first, so that `US$` is not taken for `S`.
_CODES = (
    "EURO", "EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "ISK", "PLN", "CZK", "HUF", "RON", "BGN", "TRY", "UAH",
    "RUB", "JPY", "CNY", "RMB", "KRW", "INR", "IDR", "THB", "SGD", "HKD", "AUD", "NZD", "CAD", "MXN", "BRL", "ARS",
    "CLP", "COP", "ZAR", "ILS", "AED", "SAR", "US", "CA", "AU", "NZ", "HK", "SFR", "FR", "KR", "RS", "ZŁ", "KČ", "FT",
    "LEI", "TL", "R",
)  # fmt: skip
_CREDIT = (
    "CREDIT NOTE", "CREDIT", "CRED", "CR", "REFUNDED", "REFUND", "RETURNED", "RETURN", "REVERSAL", "GUTSCHRIFT",
    "ERSTATTUNG", "STORNO", "HABEN", "AVOIR", "REMBOURSEMENT", "ABONO", "REEMBOLSO", "MINUS", "NEG",
)  # fmt: skip
_DEBIT = ("DEBIT", "DEB", "DR", "SOLL", "SALE", "CHARGE", "PLUS")
_WHOLE = rf"[.,][{MINUS}]{{1,2}}"  # `12,-` is twelve, without cents: that dash is not a sign


def _words(words: Sequence[str]) -> str:
    return "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words)


_TOKEN = re.compile(
    rf"(?P<number>[.,]?\d(?:[\d.,'’٬\s]*\d)?[.,]?)(?P<whole>[{MINUS}]{{1,2}}(?![\d]))?"
    rf"|(?P<minus>[{MINUS}])|(?P<plus>\+)|(?P<open>[{re.escape(_OPEN)}])|(?P<close>[{re.escape(_CLOSE)}])"
    rf"|(?P<blank>\s+)|(?P<sign>[{_SIGNS}])"
    rf"|(?P<word>{_words((*_CREDIT, *_DEBIT, *_CODES))})(?![^\W\d_])\.?",
    re.IGNORECASE,
)
_BLANKS = r"\s\p{Z}"


@dataclass(frozen=True)
class Amount:
    """One written amount.

    Parameters
    ----------
    digits : the digits and separators, without anything around them
    is_negative : whether money is paid back
    notations : how that, or the opposite, is written: ``minus``, ``dash`` (another sign than the ASCII one),
        ``trailing``, ``brackets``, ``credit``, ``debit``, ``whole``
    currencies : signs and words that name a currency
    around : all other words
    is_bare : whether there is nothing but digits, separators, and perhaps a leading sign
    """

    digits: str
    is_negative: bool
    notations: frozenset[str] = frozenset()
    currencies: tuple[str, ...] = ()
    around: tuple[str, ...] = ()
    is_bare: bool = False


def amount(text: str) -> Amount | None:
    """Parse a written amount; None if it is not an amount."""
    digits, notations, currencies, around = "", set(), [], []
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None or token.end() == position:
            return None
        kind, symbol, position = token.lastgroup or "", token[0], token.end()
        if token["number"]:
            if digits:
                return None
            digits = re.sub(r"\s", "", token["number"])
            if token["whole"] and digits[-1] in ".,":
                digits, kind = digits[:-1], "whole"
                notations.add("whole")
            elif token["whole"]:
                position = token.end("number")
        elif kind == "minus":
            notations |= {"minus" if symbol == "-" else "dash"} | ({"trailing"} if digits else set())
        elif kind in ("open", "close"):
            notations.add(kind)
        elif kind == "word" and (word := symbol.rstrip(".").upper()) not in _CODES:
            notations.add("credit" if re.fullmatch(_words(_CREDIT), word) else "debit")
            around.append(symbol)
        elif kind in ("word", "sign"):
            currencies.append(symbol)
    if not digits or ("open" in notations) != ("close" in notations):
        return None
    if "open" in notations:
        notations = notations - {"open", "close"} | {"brackets"}
    is_negative = bool(notations & {"minus", "dash", "brackets", "credit"})
    is_bare = re.fullmatch(r"[-+]?[\d.,]+", text) is not None
    return Amount(digits, is_negative, frozenset(notations), tuple(currencies), tuple(around), is_bare)


def magnitude(digits: str, decimal: str, thousands: str) -> float:
    """The number that digits and separators stand for."""
    plain = re.sub(r"['’٬]", "", digits).replace(thousands, "").rstrip(decimal)
    return float(plain.replace(decimal, "."))


def sql(column: str, amounts: Sequence[Amount], decimal: str, thousands: str, *, has_blanks: bool = False) -> str:
    """The SQL that reads a column of amounts in the notations of these.

    Only signs that were seen are removed: an amount in another notation is refused tomorrow, and does not lose its
    sign.
    """
    notations: frozenset[str] = frozenset().union(*(one.notations for one in amounts))
    is_simple = not notations & {"dash", "trailing", "brackets", "credit", "debit", "whole"}
    inner = _without(column, _WHOLE) if "whole" in notations else column
    signed = inner
    if not all(one.is_bare for one in amounts):
        inner = _without(inner, _strip(amounts, notations, is_simple))
    if thousands and any(thousands in one.digits for one in amounts):
        inner = f"replace({inner}, '{thousands}', '')"
    if decimal == ",":
        inner = f"replace({inner}, ',', '.')"
    value = f"CAST(nullif({inner}, '') AS DOUBLE)" if has_blanks else f"CAST({inner} AS DOUBLE)"
    negative = _negative(amounts, notations)
    if is_simple or not negative:
        return value
    return f"CASE WHEN regexp_matches({signed}, {_text(negative)}) THEN -1 ELSE 1 END * {value}"


def disagreement(expression: str, column: str, values: Sequence[str], expected: Sequence[float]) -> str:
    """The first value that an expression reads as another number than expected; empty if there is none."""
    with sandbox().cursor() as cursor:
        cursor.register("seen", pa.table({column: pa.array(values, pa.string())}))
        results = cursor.sql(f"SELECT TRY({expression}) FROM seen").fetchall()
    for text, (value,), number in zip(values, results, expected, strict=True):
        if value is None or abs(value - number) > 1e-9 * max(1.0, abs(number)):
            return text
    return ""


def _strip(amounts: Sequence[Amount], notations: frozenset[str], is_simple: bool) -> str:
    """A pattern of everything that was seen around the digits, and of blanks."""
    signs = {sign for one in amounts for sign in one.currencies if len(sign) == 1 and not sign.isalpha()}
    signs |= {mark for one in amounts for mark in one.digits if mark in "'’٬"}
    words = {word for one in amounts for word in (*one.currencies, *one.around) if word not in signs}
    if not is_simple:
        signs |= set(_seen_marks(notations))
    classes = re.sub(r"([\[\]^\\-])", r"\\\1", "".join(sorted(signs)))
    parts = [f"[{classes}{_BLANKS}]", *(re.escape(word) for word in sorted(words, key=lambda w: (-len(w), w)))]
    return "|".join(parts)


def _seen_marks(notations: frozenset[str]) -> str:
    marks = "+" + MINUS if notations & {"dash", "trailing", "minus"} else ""
    return marks + (_OPEN + _CLOSE if "brackets" in notations else "")


def _negative(amounts: Sequence[Amount], notations: frozenset[str]) -> str:
    """A pattern of the signs and words that make an amount negative."""
    marks = MINUS[1:] + "-" if notations & {"dash", "trailing", "minus"} else ""
    brackets = r"(（\[<⟨‹" if "brackets" in notations else ""
    words = sorted({w for one in amounts if "credit" in one.notations for w in one.around}, key=lambda w: (-len(w), w))
    parts = [f"[{brackets}{marks}]"] if brackets or marks else []
    if words:
        parts.append(f"(^|[^A-Za-z])({'|'.join(map(re.escape, words))})([^A-Za-z]|$)")
    return "|".join(parts)


def _without(column: str, pattern: str) -> str:
    return f"regexp_replace({column}, {_text(pattern)}, '', 'g')"


def _text(value: str) -> str:
    return exp.Literal.string(value).sql("duckdb")

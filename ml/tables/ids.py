"""Ids that are none: what programs and people write where nobody is known, and what spreadsheets make of long numbers.

Belongs here: the words and their SQL, which the profile of delivered data and the rules about rows share. Does not
belong here: when they are looked for (see `ml.profile`), and what becomes of their rows (see `expectations`).
"""

from __future__ import annotations

from sqlglot import exp

CUSTOMER = "customer_id"
# In small letters, without blanks around them.
PLACEHOLDERS = (
    "null", "(null)", "none", "nil", "nan", "na", "n/a", "#n/a", "n.a.", "n/v", "undefined", "unknown", "(unknown)",
    "unbekannt", "inconnu", "desconocido", "not set", "(not set)", "not available", "(blank)", "blank", "empty",
    "missing", "anonymous", "anonym", "anonyme", "anon", "guest", "gast", "invité", "invitado", "walk-in", "walkin",
    "laufkunde", "test", "dummy", "default", "-", "--", "?", "??", "???", ".", "#ref!", "#value!",
    "00000000-0000-0000-0000-000000000000",
)  # fmt: skip
_ZERO = r"^[-+]?0+(\.0+)?$"
_NEGATIVE = r"^-\d+(\.0+)?$"
# With a point or a sign before the exponent: an id of hexadecimal digits such as `12e45678` has neither.
_ROUNDED = r"^[-+]?\d+([.,]\d+[eE]\+?|[eE]\+)\d+$"
_BLANKS = r"[\s\p{Z}\x{200B}\x{FEFF}]+"


def _text(value: str) -> str:
    return exp.Literal.string(value).sql("duckdb")


def bare(id_: str) -> str:
    """SQL of an id in small letters without blanks around it."""
    return f"lower(trim({id_}))"


def is_placeholder(id_: str) -> str:
    """SQL: whether an id is a word for nobody."""
    return f"{bare(id_)} IN ({', '.join(map(_text, PLACEHOLDERS))})"


def is_zero(id_: str) -> str:
    """SQL: whether an id is nothing but zeros, which may be somebody where ids are counted from 0."""
    return f"regexp_matches({id_}, {_text(_ZERO)})"


def is_negative(id_: str) -> str:
    """SQL: whether an id is a number below 0."""
    return f"regexp_matches({id_}, {_text(_NEGATIVE)})"


def is_rounded(id_: str) -> str:
    """SQL: whether an id is a number in scientific notation: spreadsheets write long ones so, and lose digits."""
    return f"regexp_matches({id_}, {_text(_ROUNDED)})"


def without_blanks(id_: str) -> str:
    """SQL of an id in which every kind of blank is one plain blank, with none around."""
    return f"trim(regexp_replace({id_}, {_text(_BLANKS)}, ' ', 'g'))"

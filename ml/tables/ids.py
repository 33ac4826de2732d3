"""Ids that identify nobody: placeholders that programs and people write, and long numbers that spreadsheets rounded.

Belongs here: the words and their SQL, which the profile of delivered data and the rules about rows share. Does not
belong here: when they are looked for (see `ml.profile`), and what becomes of their rows (see `expectations`).
"""

from __future__ import annotations

from sqlglot import exp

CUSTOMER = "customer_id"
# In lower case, without blanks around them.
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
    """SQL of an id in lower case without blanks around it."""
    return f"lower(trim({id_}))"


def is_placeholder(id_: str) -> str:
    """SQL: whether an id is a placeholder."""
    return f"{bare(id_)} IN ({', '.join(map(_text, PLACEHOLDERS))})"


def is_zero(id_: str) -> str:
    """SQL: whether an id is nothing but zeros, which may be a real id where ids start at 0."""
    return f"regexp_matches({id_}, {_text(_ZERO)})"


def is_negative(id_: str) -> str:
    """SQL: whether an id is a number below 0."""
    return f"regexp_matches({id_}, {_text(_NEGATIVE)})"


def is_rounded(id_: str) -> str:
    """SQL: whether an id is in scientific notation, as spreadsheets write long numbers, losing digits."""
    return f"regexp_matches({id_}, {_text(_ROUNDED)})"


def without_blanks(id_: str) -> str:
    """SQL of an id with every run of blanks replaced by one space, and none at its ends."""
    return f"trim(regexp_replace({id_}, {_text(_BLANKS)}, ' ', 'g'))"

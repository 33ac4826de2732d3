"""Columns of labels that change what an amount means: currencies, states of an order, debit or credit.

Belongs here: the words, in the languages that exports come in, and counting them. Does not belong here: which columns
the project maps (see the project file).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ml.engine import Engine, Input, quoted
from ml.profile.observations import Code, Observation

MAX_LABELS = 40  # distinct values of a column of labels
CURRENCIES = frozenset({
    "EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "ISK", "PLN", "CZK", "HUF", "RON", "BGN", "TRY", "UAH", "RUB",
    "JPY", "CNY", "KRW", "INR", "IDR", "THB", "SGD", "HKD", "TWD", "MYR", "PHP", "VND", "AUD", "NZD", "CAD", "MXN",
    "BRL", "ARS", "CLP", "COP", "PEN", "ZAR", "ILS", "AED", "SAR", "EGP", "NGN", "KES", "MAD",
    "€", "$", "£", "¥", "₹", "₩", "₽",
    "₺", "₴", "₪", "EURO", "DOLLAR", "POUND",
})  # fmt: skip
_UNSETTLED = (
    r"cancel\w*|canceled|storn\w*|annul\w*|cancelad\w*|void\w*|fail\w*|fehlgeschlagen|declin\w*|reject\w*|abgelehnt|refus\w*|"
    r"pending|unpaid|open|offen|draft|entwurf|en_attente|pendiente|abandon\w*|expired|test|fraud\w*|on_hold|authorized"
)
_BACK = (
    r"refund\w*|return\w*|retour\w*|rueckgabe|rma|credit(_note|_memo)?|cr|gutschrift\w*|erstattung\w*|erstattet|chargeback|"
    r"reversal|remboursement|rembourse|avoir|reembols\w*|devol\w*|haben"
)
_SEVERAL_WORDS = r"[^\w]+"


def observe(engine: Engine, table: str, rows: Input, columns: Mapping[str, str]) -> Iterator[Observation]:
    """Currencies, doubtful orders and money going back, as unmapped columns label them.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    table : str
        Name of the table.
    rows : Input
        `amount` and the columns of `columns`.
    columns : mapping of str to str
        Unmapped columns: the source's name to the name in `rows`.
    """
    for source, name in columns.items():
        counts = _counts(engine, rows, name)
        if not 2 <= len(counts) <= MAX_LABELS:
            continue
        total = sum(count["rows"] for count in counts)
        shares = {count["value"]: count["rows"] / total for count in counts}
        if all(value.upper() in CURRENCIES for value in shares):
            yield Observation(Code.SEVERAL_CURRENCIES, table, {"column": source, "values": shares})
            continue
        back = [count for count in counts if _is_like(count["value"], _BACK)]
        rows_back = sum(count["rows"] for count in back)
        above = rows_back - sum(count["below"] for count in back)
        if above > rows_back / 2:  # where most are below 0, the amount has its sign already
            figures = {"rows": rows_back, "share": rows_back / total, "above": above}
            values = [count["value"] for count in back]
            yield Observation(Code.SIGN_IN_COLUMN, table, {"column": source, "values": values, **figures})
        doubtful = {value: share for value, share in shares.items() if _is_like(value, _UNSETTLED)}
        if doubtful:
            others = [value for value in shares if value not in doubtful]
            yield Observation(Code.ORDER_STATES, table, {"column": source, "values": doubtful, "others": others[:4]})


def states(engine: Engine, rows: Input, columns: Mapping[str, str]) -> dict[str, str]:
    """The columns that hold the state of an order: the source's name to the name in `rows`."""
    return {
        source: name
        for source, name in columns.items()
        if re.search(r"stat(us|e)|zustand|etat|estado|stato", source.lower())
        and 2 <= len(_counts(engine, rows, name)) <= MAX_LABELS
    }


def _counts(engine: Engine, rows: Input, name: str) -> list[dict[str, Any]]:
    """The values of a column, the number of rows of each, and how many of these have an amount below 0."""
    result: list[dict[str, Any]] = engine.query(
        f"""
        SELECT trim({quoted(name)}) AS value, COUNT(*) AS rows, SUM(CASE WHEN amount < 0 THEN 1 ELSE 0 END) AS below
        FROM rows WHERE trim({quoted(name)}) <> '' GROUP BY 1 ORDER BY rows DESC, value LIMIT {MAX_LABELS + 1}
        """,
        rows=rows,
    ).to_pylist()
    return result


def _is_like(value: str, words: str) -> bool:
    plain = value.lower().replace("ü", "ue").replace("é", "e").replace("ó", "o")
    whole = re.sub(_SEVERAL_WORDS, "_", plain).strip("_")
    return any(re.fullmatch(words, part) for part in (whole, *whole.split("_")))

"""What the words in a column mean for money: currencies, states of an order, signs in a column of their own.

Belongs here: words, in the languages that exports come in, and counting them. Does not belong here: which columns the
project maps (see the project file).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ml.engine import Engine, Input, quoted
from ml.profile.observations import Code, Observation

FEW = 40  # different values that a column of labels has at most
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
    """What the columns that nobody maps say about the rows.

    Parameters
    ----------
    rows : `amount` and the columns of `columns`
    columns : the source's name of a column to its name in `rows`
    """
    for source, name in columns.items():
        counts = _counts(engine, rows, name)
        if not 2 <= len(counts) <= FEW:
            continue
        total = sum(one["rows"] for one in counts)
        shares = {one["value"]: one["rows"] / total for one in counts}
        if all(value.upper() in CURRENCIES for value in shares):
            yield Observation(Code.SEVERAL_CURRENCIES, table, {"column": source, "values": shares})
            continue
        back = [one for one in counts if _is_like(one["value"], _BACK)]
        rows_back, above = (sum(one["rows"] - less * one["below"] for one in back) for less in (0, 1))
        if above > rows_back / 2:  # where most are below 0 the sign is there
            said = {"values": [one["value"] for one in back], "rows": rows_back, "share": rows_back / total}
            said["above"] = above
            yield Observation(Code.SIGN_IN_COLUMN, table, {"column": source, **said})
        doubtful = {value: share for value, share in shares.items() if _is_like(value, _UNSETTLED)}
        if doubtful:
            others = [value for value in shares if value not in doubtful]
            yield Observation(Code.ORDER_STATES, table, {"column": source, "values": doubtful, "others": others[:4]})


def states(engine: Engine, rows: Input, columns: Mapping[str, str]) -> dict[str, str]:
    """The columns that say what became of an order: the source's name to the name in `rows`."""
    return {
        source: name
        for source, name in columns.items()
        if re.search(r"stat(us|e)|zustand|etat|estado|stato", source.lower())
        and 2 <= len(_counts(engine, rows, name)) <= FEW
    }


def _counts(engine: Engine, rows: Input, name: str) -> list[dict[str, Any]]:
    """The values of a column, how many rows each has, and how many of these have an amount below 0."""
    result: list[dict[str, Any]] = engine.query(
        f"""
        SELECT trim({quoted(name)}) AS value, COUNT(*) AS rows, SUM(CASE WHEN amount < 0 THEN 1 ELSE 0 END) AS below
        FROM rows WHERE trim({quoted(name)}) <> '' GROUP BY 1 ORDER BY rows DESC, value LIMIT {FEW + 1}
        """,
        rows=rows,
    ).to_pylist()
    return result


def _is_like(value: str, words: str) -> bool:
    plain = value.lower().replace("ü", "ue").replace("é", "e").replace("ó", "o")
    whole = re.sub(_SEVERAL_WORDS, "_", plain).strip("_")
    return any(re.fullmatch(words, part) for part in (whole, *whole.split("_")))

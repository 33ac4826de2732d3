"""A look at delivered data before it is believed: what a careful analyst would ask first.

`observe` answers for all tables at once; its parts ask about ids, days, orders, labels and attributes. Belongs here:
pure functions of relations, and findings as codes with their figures. Does not belong here: reading sources, words for
people (both in `microseg_assets`), and refusing anything (see `expectations`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import pyarrow as pa

from ml.engine import Engine
from ml.profile import attributes, days, ids, labels, money, orders
from ml.profile.days import main_span
from ml.profile.labels import CURRENCIES
from ml.profile.observations import Code, Observation
from ml.tables import INPUTS

__all__ = ["CURRENCIES", "Code", "Delivered", "Observation", "main_span", "observe"]


@dataclass(frozen=True)
class Delivered:
    """The rows of one table, as its source gives them.

    Parameters
    ----------
    rows : the contract's columns, `day` and `source`; all rows, or those of the newest days
    days : day to rows, of all rows
    newest : the rows of the newest days, with the columns of `labels`
    labels : columns that nothing maps: the source's name to the name in `newest`
    attributes : of customers: name to type, of those that are believed from a customer's first day on
    """

    rows: pa.Table
    days: Mapping[date, int] = field(default_factory=dict)
    newest: pa.Table | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


def observe(engine: Engine, delivered: Mapping[str, Delivered], *, today: date) -> list[Observation]:
    """Everything that is worth a word, table by table.

    Parameters
    ----------
    delivered : input table to what it brings
    today : the newest day that can have happened
    """
    found: list[Observation] = []
    counted = {
        table: ids.counted(engine, brought.rows, has_orders=table == "transactions")
        for table, brought in delivered.items()
    }
    for table, brought in delivered.items():
        found += ids.observe(engine, table, counted[table])
        if table == "transactions":
            found += ids.returning(engine, table, counted[table])
            found += orders.observe(engine, table, brought.rows)
            if brought.newest is not None:
                states = labels.states(engine, brought.newest, brought.labels)
                found += labels.observe(engine, table, brought.newest, brought.labels)
                again = list(orders.changed(engine, table, brought.newest, states, INPUTS[table].names))
                # One remedy at a time: leaving out equal rows does not mend orders that come again with other ones.
                found += again or orders.without_ids(engine, table, brought.rows, brought.newest, brought.labels)
                found += money.observe(engine, table, brought.newest, brought.labels)
        if brought.days:
            found += days.observe(table, brought.days, today=today, is_steady=table == "transactions")
    bought = delivered.get("transactions")
    if bought is None:
        return found
    forms: dict[str, str] = {}
    for table in delivered:
        if table != "transactions":
            for one in ids.meeting(engine, table, counted[table], "transactions", counted["transactions"]):
                forms[table] = one.parameters.get("form", "")
                found.append(one)
    if (known := delivered.get("customers")) is not None:
        form = forms.get("customers", "")
        who, what = (ids.written_alike(engine, brought.rows, form) for brought in (known, bought))
        found += attributes.observe(engine, who, what, known.attributes)
    return found

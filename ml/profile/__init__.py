"""A profile of delivered data, before anybody trusts it: the questions that a careful analyst asks first.

`observe` profiles all tables at once; the modules ask about ids, days, orders, labels, numbers and attributes. Belongs
here: pure functions of relations, and findings as codes with their figures. Does not belong here: reading sources,
wording (both in `microseg_assets`), and refusing anything (see `expectations`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """The rows of one input table, as its source delivers them.

    Parameters
    ----------
    rows : pa.Table
        The contract's columns, `day` and `source`; all rows, or those of the newest days.
    days : mapping of date to int, optional
        Number of rows by day, of all rows.
    newest : pa.Table, optional
        The rows of the newest days, with the columns of `labels`.
    labels : mapping of str to str, optional
        Columns that nothing is mapped to: the source's name to the name in `newest`.
    attributes : mapping of str to str, optional
        Customer attributes that are believed from a customer's first day on: name to type.

    Examples
    --------
    >>> Delivered(pa.table({"customer_id": ["a", "b"]}), days={date(2024, 5, 1): 2}).rows.num_rows
    2
    """

    rows: pa.Table
    days: Mapping[date, int] = field(default_factory=dict)
    newest: pa.Table | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)


def observe(engine: Engine, delivered: Mapping[str, Delivered], *, today: date) -> list[Observation]:
    """Everything about delivered tables that their owner should know, table by table.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    delivered : mapping of str to Delivered
        Name of the input table to its rows.
    today : date
        The newest day that can have happened.

    Returns
    -------
    list of Observation
        Empty for sound data.

    Examples
    --------
    >>> from ml.engine import DuckDB
    >>> rows = pa.table({"customer_id": ["ann", "bob", "N/A"], "day": [date(2024, 5, 1)] * 3})
    >>> (observation,) = observe(DuckDB(threads=1), {"events": Delivered(rows)}, today=date(2024, 5, 2))
    >>> str(observation.code), observation["ids"], observation["rows"]
    ('placeholder_ids', ['N/A'], 1)
    """
    counts = {
        table: ids.count_rows(engine, delivery.rows, has_orders=table == "transactions")
        for table, delivery in delivered.items()
    }
    observations: list[Observation] = []
    for table, delivery in delivered.items():
        observations += ids.observe(engine, table, counts[table])
        if table == "transactions":
            observations += ids.observe_returning(engine, table, counts[table])
            observations += _purchases(engine, table, delivery)
        if delivery.days:
            observations += days.observe(table, delivery.days, today=today, is_steady=table == "transactions")
    if "transactions" in delivered:
        observations += _across_tables(engine, delivered, counts)
    return observations


def _purchases(engine: Engine, table: str, delivery: Delivered) -> Iterator[Observation]:
    """Orders, labels and amounts of the transactions."""
    yield from orders.observe(engine, table, delivery.rows)
    if delivery.newest is None:
        return
    states = labels.states(engine, delivery.newest, delivery.labels)
    yield from labels.observe(engine, table, delivery.newest, delivery.labels)
    repeated = list(orders.observe_repeats(engine, table, delivery.newest, states, INPUTS[table].names))
    # One remedy at a time: leaving out equal rows does not mend orders that are delivered again with other rows.
    yield from repeated or orders.observe_missing_ids(engine, table, delivery.rows, delivery.newest, delivery.labels)
    yield from money.observe(engine, table, delivery.newest, delivery.labels)


def _across_tables(
    engine: Engine, delivered: Mapping[str, Delivered], counts: Mapping[str, pa.Table]
) -> Iterator[Observation]:
    """Whether the ids of the tables match those of the transactions, and which attributes know the future."""
    forms: dict[str, str] = {}
    for table in delivered:
        if table != "transactions":
            matches = ids.observe_matches(engine, table, counts[table], "transactions", counts["transactions"])
            for observation in matches:
                forms[table] = observation.parameters.get("form", "")
                yield observation
    if (customers := delivered.get("customers")) is not None:
        form = forms.get("customers", "")
        customer_rows, purchase_rows = (
            ids.in_form(engine, delivery.rows, form) for delivery in (customers, delivered["transactions"])
        )
        yield from attributes.observe(engine, customer_rows, purchase_rows, customers.attributes)

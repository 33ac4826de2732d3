"""Choosing which delivery is which table, and trying the choice with the chain's own reader.

Belongs here: at most one delivery for each table. Does not belong here: writing it down (see `render`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import pyarrow as pa

from microseg_assets.scaffold.infer import Guess, guesses, others_of_log, same_ids
from microseg_assets.scaffold.names import plain
from microseg_assets.scaffold.profile import COUNTED, Delivery
from microseg_assets.sources import Source, SourceError, TableSpec, input_table
from ml.profile import main_span
from ml.segments.specs import input_columns
from ml.tables import INPUTS

_RHYTHM = """
    WITH days AS (SELECT DISTINCT customer_id, day FROM rows WHERE customer_id IS NOT NULL),
    gaps AS (
        SELECT customer_id, DATE_DIFF('day', LAG(day) OVER (PARTITION BY customer_id ORDER BY day), day) AS gap
        FROM days
    )
    SELECT COUNT(DISTINCT customer_id) AS customers, QUANTILE_DISC(gap, 0.5) AS half, QUANTILE_DISC(gap, 0.9) AS most
    FROM gaps
"""
BEFORE_ALL = date(1900, 1, 1)
_TAKEN = {"day", "table", "rule", "row", "source", "problem", "delivered"}  # columns that rows carry on their way


@dataclass(frozen=True)
class Found:
    """A table of the contract, found in a delivery.

    Parameters
    ----------
    days : day to rows, as the chain itself reads them; `undated` rows have none
    customers, gaps : how many buy, and the quantiles (half, 9 of 10) of the silences between two purchase days
    problems : why it cannot be read as guessed
    """

    delivery: Delivery
    guess: Guess
    spec: TableSpec
    days: Mapping[date, int] = field(default_factory=dict)
    undated: int = 0
    customers: int = 0
    gaps: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()


def assigned(deliveries: Sequence[Delivery], folder: Path) -> dict[str, Found]:
    """Table to the delivery that it most likely is; transactions even where a required column is not found."""
    likely = [(guess, delivery) for delivery in deliveries for guess in guesses(delivery.name, delivery.columns)]
    chosen: dict[str, tuple[Guess, Delivery]] = {}
    for guess, delivery in sorted((one for one in likely if not one[0].lacks), key=lambda one: -one[0].score):
        if guess.table not in chosen and all(delivery is not taken for _, taken in chosen.values()):
            chosen[guess.table] = guess, delivery
    if "transactions" not in chosen:
        # A mixed log holds purchases and other events; else what lacks least is worth a line for what it lacks.
        free = [d for d in deliveries if all(d is not taken for _, taken in chosen.values())]
        bought = [(g, d) for g, d in likely if g.table == "transactions"]
        mixed = [(g, d) for g, d in bought if g.kind and not g.lacks]
        partly = [(g, d) for g, d in bought if any(d is one for one in free)]
        if mixed or partly:
            chosen["transactions"] = min(mixed or partly, key=lambda one: (len(one[0].lacks), -one[0].score))
    _complete(chosen, deliveries)
    return {table: read(table, *chosen[table], folder) for table in INPUTS if table in chosen}


def _complete(chosen: dict[str, tuple[Guess, Delivery]], deliveries: Sequence[Delivery]) -> None:
    """The tables that are left: files whose ids are those of the purchases, and the rest of a mixed log."""
    if "transactions" not in chosen or chosen["transactions"][0].lacks:
        return
    bought, log = chosen["transactions"]
    (who,) = (seen for seen in log.columns if seen.name in bought.columns["customer_id"].uses)
    for delivery in deliveries:
        if any(delivery is taken for _, taken in chosen.values()):
            continue
        ids = same_ids(delivery.columns, who)
        for guess in guesses(delivery.name, delivery.columns, ids) if ids is not None else ():
            if not guess.lacks and guess.table not in chosen:
                note = f"{ids.name}: its values are the ids of {log.label}" if ids is not None else ""
                reading = replace(guess.columns["customer_id"], note=note)
                chosen[guess.table] = replace(guess, columns={**guess.columns, "customer_id": reading}), delivery
                break
    for guess in others_of_log(bought, log.name, log.columns) if bought.kind else ():
        chosen.setdefault(guess.table, (guess, log))


def read(table: str, guess: Guess, delivery: Delivery, folder: Path) -> Found:
    """The guess, tried with the chain's own reader."""
    columns: dict[str, str | bool | int | float] = {name: r.expression for name, r in guess.columns.items()}
    names = attribute_names(guess)
    columns |= {name: source for source, name in names.items() if name != source}
    types = {names[source]: type_ for source, type_ in guess.attributes.items()}
    spec = TableSpec(
        path=delivery.location,
        encoding=delivery.encoding.encoding,
        columns=columns,
        where=guess.where,
        stamp=guess.stamp or "auto",
        attributes=types,  # type: ignore[arg-type]
    )
    found = Found(delivery, guess, spec)
    if guess.lacks:
        return found
    source = source_of(table, found, folder)
    try:
        counts = {row["day"]: row["rows"] for row in source.counts_by_day().to_pylist()}
    except SourceError as error:
        return replace(found, problems=tuple(str(error).splitlines()))
    undated = counts.pop(None, 0)
    if table == "customers" and "registered_at" not in guess.columns:
        return replace(found, undated=undated)
    found = replace(found, days=counts, undated=undated)
    if table == "transactions" and counts and sum(counts.values()) <= COUNTED:
        found = _with_rhythm(found, source.rows(min(counts), max(counts)))
    return found


def source_of(table: str, found: Found, folder: Path) -> Source:
    """The rows of a table, as the chain itself reads them."""
    contract = input_table(table, found.spec)
    return Source(contract, found.spec, project_zone="UTC", start=BEFORE_ALL, base=folder.absolute())


def _with_rhythm(found: Found, rows: pa.Table) -> Found:
    """How many customers buy, and how long they are silent in between."""
    from ml.engine import in_memory

    told = in_memory().query(_RHYTHM, rows=rows.select(["customer_id", "day"])).to_pylist()[0]
    gaps = () if told["half"] is None else (int(told["half"]), int(told["most"]))
    return replace(found, customers=int(told["customers"]), gaps=gaps)


def attribute_names(guess: Guess) -> dict[str, str]:
    """Source column to the attribute's name: the column's own where it can be one and no feature is called so."""
    taken = {*input_columns(), *INPUTS["customers"].names, *_TAKEN}
    names: dict[str, str] = {}
    for source in guess.attributes:
        fits = re.fullmatch(r"[a-z_][a-z0-9_]*", source)
        name = source if fits else plain(source)[:40] or f"attribute_{len(names) + 1}"
        name = f"customer_{name}" if name in taken or not name[0].isalpha() else name
        name = f"{name}_{len(names) + 1}" if name in taken else name
        taken.add(name)
        names[source] = name
    return names


def calendar(days: Mapping[date, int]) -> tuple[date, date, int]:
    """First and last day with rows, leaving out few rows that lie far off, and how many rows these are."""
    return main_span(days)

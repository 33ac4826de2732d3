"""Assigning deliveries to tables, and trying the assignment with the chain's own reader.

Belongs here: choosing at most one delivery for each table. Does not belong here: writing the project file (see
`render`).
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
from microseg_assets.scaffold.profile import MAX_COUNTED_ROWS, Delivery
from microseg_assets.sources import Source, SourceError, TableSpec, input_table
from ml.layers.specs import input_columns
from ml.profile import main_span
from ml.tables import INPUTS

_RHYTHM = """
    WITH days AS (SELECT DISTINCT customer_id, day FROM rows WHERE customer_id IS NOT NULL),
    gaps AS (
        SELECT customer_id, DATE_DIFF('day', LAG(day) OVER (PARTITION BY customer_id ORDER BY day), day) AS gap
        FROM days
    )
    SELECT COUNT(DISTINCT customer_id) AS customers, QUANTILE_DISC(gap, 0.5) AS half,
           QUANTILE_DISC(gap, 0.9) AS nine_in_ten
    FROM gaps
"""
BEFORE_ALL = date(1900, 1, 1)
_RESERVED = {"day", "table", "rule", "row", "source", "problem", "delivered"}  # columns that the chain adds to rows


@dataclass(frozen=True)
class Assignment:
    """A table of the contract with its delivery.

    Parameters
    ----------
    days : day to number of rows, as the chain itself reads them; `undated` rows have none
    customers : number of customers who buy
    gaps : median and 90th percentile of the days between two purchase days
    problems : why the table cannot be read as guessed
    """

    delivery: Delivery
    guess: Guess
    spec: TableSpec
    days: Mapping[date, int] = field(default_factory=dict)
    undated: int = 0
    customers: int = 0
    gaps: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()


def assign_tables(deliveries: Sequence[Delivery], folder: Path) -> dict[str, Assignment]:
    """Table to its most likely delivery; transactions even if a required column is missing."""
    likely = [(guess, delivery) for delivery in deliveries for guess in guesses(delivery.name, delivery.columns)]
    chosen: dict[str, tuple[Guess, Delivery]] = {}
    for guess, delivery in sorted((pair for pair in likely if not pair[0].lacks), key=lambda pair: -pair[0].score):
        if guess.table not in chosen and all(delivery is not used for _, used in chosen.values()):
            chosen[guess.table] = guess, delivery
    if "transactions" not in chosen:
        # A mixed log holds purchases and other events; otherwise the delivery that lacks least is taken, with its gaps.
        free = [d for d in deliveries if all(d is not used for _, used in chosen.values())]
        bought = [(g, d) for g, d in likely if g.table == "transactions"]
        mixed = [(g, d) for g, d in bought if g.kind and not g.lacks]
        partly = [(g, d) for g, d in bought if any(d is delivery for delivery in free)]
        if mixed or partly:
            chosen["transactions"] = min(mixed or partly, key=lambda pair: (len(pair[0].lacks), -pair[0].score))
    _complete(chosen, deliveries)
    return {table: try_guess(table, *chosen[table], folder) for table in INPUTS if table in chosen}


def _complete(chosen: dict[str, tuple[Guess, Delivery]], deliveries: Sequence[Delivery]) -> None:
    """Assign the tables that are left: files with the ids of the purchases, and the rest of a mixed log."""
    if "transactions" not in chosen or chosen["transactions"][0].lacks:
        return
    bought, log = chosen["transactions"]
    (who,) = (seen for seen in log.columns if seen.name in bought.columns["customer_id"].uses)
    for delivery in deliveries:
        if any(delivery is used for _, used in chosen.values()):
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


def try_guess(table: str, guess: Guess, delivery: Delivery, folder: Path) -> Assignment:
    """Read a delivery as guessed, with the chain's own reader."""
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
    assignment = Assignment(delivery, guess, spec)
    if guess.lacks:
        return assignment
    source = source_of(table, assignment, folder)
    try:
        counts = {row["day"]: row["rows"] for row in source.counts_by_day().to_pylist()}
    except SourceError as error:
        return replace(assignment, problems=tuple(str(error).splitlines()))
    undated = counts.pop(None, 0)
    if table == "customers" and "registered_at" not in guess.columns:
        return replace(assignment, undated=undated)
    assignment = replace(assignment, days=counts, undated=undated)
    if table == "transactions" and counts and sum(counts.values()) <= MAX_COUNTED_ROWS:
        assignment = _with_rhythm(assignment, source.rows(min(counts), max(counts)))
    return assignment


def source_of(table: str, assignment: Assignment, folder: Path) -> Source:
    """The source of a table, as the chain itself reads it."""
    contract = input_table(table, assignment.spec)
    return Source(contract, assignment.spec, project_zone="UTC", start=BEFORE_ALL, base=folder.absolute())


def _with_rhythm(assignment: Assignment, rows: pa.Table) -> Assignment:
    """Count the customers, and measure the gaps between their purchases."""
    from ml.engine import in_memory

    rhythm = in_memory().query(_RHYTHM, rows=rows.select(["customer_id", "day"])).to_pylist()[0]
    gaps = () if rhythm["half"] is None else (int(rhythm["half"]), int(rhythm["nine_in_ten"]))
    return replace(assignment, customers=int(rhythm["customers"]), gaps=gaps)


def attribute_names(guess: Guess) -> dict[str, str]:
    """Source column to the name of the attribute: that of the column, if it is valid and not taken by a feature."""
    taken = {*input_columns(), *INPUTS["customers"].names, *_RESERVED}
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
    """First and last day with rows, apart from a few stray rows, and the number of these."""
    return main_span(days)

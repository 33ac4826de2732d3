"""A seeded mutator: clean rows of an input table, some of them broken in a way it knows, and what must come of each.

Belongs here: choosing a table, its rows and what is broken, and stating the expectation. Does not belong here: what a
cell's kind means (see `cells`), how a file is written and damaged (see `files`), and asking whether it came so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from microseg_assets.sources import TableSpec, input_table
from ml.tables import Table
from tests.mutations import cells, files
from tests.mutations.cells import START, Cell
from tests.mutations.files import Delivery, SourceLine

NO_ROW = "line: not a row of the file"
ATTRIBUTES = {"tag": "string", "age": "double", "vip": "boolean"}
# The column by which a row is found again; it is never broken. Balances have none to spare.
TAGS = {
    "transactions": "order_id",
    "customers": "tag",
    "events": "campaign",
    "exposures": "campaign_id",
    "balances": "",
}
TABLES = ["transactions"] * 5 + ["customers", "events", "exposures", "balances"]
ZONES = ["UTC", "UTC", "America/New_York", "Asia/Tokyo"]


@dataclass
class Row:
    """A row on its way into a file.

    Parameters
    ----------
    tag : a text of its own that is found in it, whatever becomes of it; empty where it holds none
    rule : by which it must be refused; None if it must be accepted
    """

    cells: dict[str, Cell]
    tag: str
    rule: str | None = None
    line: str = ""
    is_touched: bool = False

    def values(self, table: Table, zone: ZoneInfo) -> tuple[Any, ...]:
        """The accepted row: the contract's columns and its day."""
        values = [self.cells[name].value if name in self.cells else None for name in table.names]
        stamp: datetime | None = self.cells[table.stamp].value if table.stamp in self.cells else None
        local = stamp.replace(tzinfo=UTC).astimezone(zone).date() if stamp else START
        return (*values, max(local, START))


@dataclass
class Expectation:
    """What must come of a file.

    Parameters
    ----------
    refused : what its one error must name, for each problem of it; empty if it must be read
    rows : all rows that the file holds, or lines that are none
    duplicates : pairs of rows with the same key in the same day: one of each is accepted, the other a duplicate
    id_repeats : rows with the same transaction's id on several days: all but those of the first day are duplicates
    """

    rows: list[Row] = field(default_factory=list)
    duplicates: list[tuple[Row, Row]] = field(default_factory=list)
    id_repeats: list[Row] = field(default_factory=list)
    refused: tuple[str, ...] = ()

    def repeated(self, table: Table, zone: ZoneInfo, accepted: Collection[date] | None = None) -> list[Row]:
        """Rows that repeat an id of an earlier day.

        Parameters
        ----------
        accepted : the days that were not refused; all by default
        """
        days = [(row, _day(row, table, zone)) for row in self.id_repeats if not row.rule]
        days = [(row, day) for row, day in days if accepted is None or day in accepted]
        first = min((day for _, day in days), default=START)
        return [row for row, day in days if day > first]


@dataclass
class Case:
    """A delivered file, how the project file describes it, and what must come of it."""

    number: int
    table: Table
    spec: TableSpec
    zone: ZoneInfo
    delivery: Delivery
    expected: Expectation
    kinds: list[str]

    def __str__(self) -> str:
        return f"file {self.number} ({self.table.name}, {self.delivery.name}): {', '.join(self.kinds)}"


def case(seed: int, number: int) -> Case:
    """The file of a number, the same on every machine."""
    random = Random(f"{seed}/{number}")
    name = random.choice(TABLES)
    spec = TableSpec(attributes=ATTRIBUTES if name == "customers" else {})  # type: ignore[arg-type]
    table = input_table(name, spec)
    zone = ZoneInfo(random.choice(ZONES))
    shape = files.shape(random)
    rows = [_row(random, table, zone, n) for n in range(random.randrange(8, 36))]
    kinds = _break_cells(random, table, zone, rows)
    duplicates, id_repeats, more = _repeat(random, table, zone, rows)
    kinds += more
    if shape.format != "parquet":
        kinds += _break_lines(random, rows, shape)
    random.shuffle(rows)
    expected = Expectation(rows, duplicates, id_repeats)
    columns = [column for column in table.names if column in rows[0].cells]
    lines = [SourceLine({k: c.text for k, c in row.cells.items()}, row.tag, row.line) for row in rows]
    delivery = files.deliver(random, shape, table, columns, lines)
    kinds += delivery.kinds
    for dropped in delivery.dropped:
        for row in rows:
            row.cells.pop(dropped)
    _adapt(expected, delivery, table)
    mapping = {} if delivery.refused and "renamed:" in " ".join(kinds) else delivery.mapping
    declared = TableSpec(path=delivery.name, columns=mapping, attributes=spec.attributes)
    return Case(number, table, declared, zone, delivery, expected, kinds)


def _row(random: Random, table: Table, zone: ZoneInfo, number: int) -> Row:
    tag = f"T{number:05d}"
    row = Row({column.name: cells.clean(random, column, zone) for column in table.columns}, tag)
    for name in (TAGS[table.name] or "customer_id", *({"transaction_id", *table.key} & set(table.names))):
        text = tag if name == (TAGS[table.name] or "customer_id") else f"{name[:3]}-{number}"
        row.cells[name] = Cell(text, text)
    return row


def _break_cells(random: Random, table: Table, zone: ZoneInfo, rows: list[Row]) -> list[str]:
    done = []
    breakable = [column for column in table.columns if column.name != TAGS[table.name]]
    for _ in range(random.randrange(1, 7)):
        column = random.choice(breakable)
        kind = random.choice(cells.KINDS[column.type])
        chosen = [row for row in random.sample(rows, random.randrange(1, 4)) if not row.is_touched]
        for row in chosen:
            row.cells[column.name] = cell = kind(random, column, zone)
            row.rule, row.is_touched = cell.rule, True
            if table.name == "balances" and column.name == "customer_id":
                row.tag = ""
            if column.name in (*table.key, "transaction_id") and cell.value is not None:
                row.cells[column.name] = _unique(cell, str(rows.index(row)))
        if chosen:
            done.append(f"{kind.__name__} {column.name}")
    return done


def _unique(cell: Cell, number: str) -> Cell:
    """A key that is broken in one way only is still no other row's key."""
    return Cell(f"{cell.text}{number}", f"{cell.value}{number}", cell.rule)


def _repeat(
    random: Random, table: Table, zone: ZoneInfo, rows: list[Row]
) -> tuple[list[tuple[Row, Row]], list[Row], list[str]]:
    """Rows that bring a key once more: in the same day one of both is refused. On another day a customer may come
    again, a transaction's id may not: the row of the later day is refused.
    """
    key = table.key[0] if table.key else "transaction_id" if "transaction_id" in table.names else ""
    untouched = [row for row in rows if not row.is_touched]
    if not key or len(untouched) < 4 or random.random() < 0.6:
        return [], [], []
    first, second, third, fourth = random.sample(untouched, 4)
    stamp = table.stamp or ""
    second.cells |= {key: first.cells[key], stamp: first.cells[stamp]}
    if random.random() < 0.5:
        second.cells = dict(first.cells)  # in every cell
        second.tag = first.tag
    noon = "2024-01-12 12:00:00" if _day(first, table, zone) != date(2024, 1, 12) else "2024-01-11 12:00:00"
    third.cells |= {key: first.cells[key], stamp: Cell(noon, cells.moment(datetime.fromisoformat(noon), zone))}
    fourth.cells[key] = Cell("", None, "customer_id: missing" if key == "customer_id" else None)
    fourth.rule = fourth.cells[key].rule
    for row in (first, second, third, fourth):
        row.is_touched = True
    id_repeats = [first, second, third] if key == "transaction_id" else []
    kinds = [f"duplicate {key}", f"missing {key}", *(["transaction_id again on another day"] if id_repeats else [])]
    return [(first, second)], id_repeats, kinds


def _day(row: Row, table: Table, zone: ZoneInfo) -> date:
    day: date = row.values(table, zone)[-1]
    return day


def _break_lines(random: Random, rows: list[Row], shape: files.Shape) -> list[str]:
    done = []
    for _ in range(random.randrange(0, 3)):
        untouched = [row for row in rows if not row.is_touched]
        if len(untouched) < 2:
            break
        row = random.choice(untouched)
        row.line = random.choice(sorted(files.DAMAGES[shape.format]))
        row.rule, row.is_touched = NO_ROW, True
        done.append(row.line)
    return done


def _adapt(expected: Expectation, delivery: Delivery, table: Table) -> None:
    """What the file as a whole makes of the rows."""
    expected.refused = delivery.refused
    if delivery.is_without_rows:
        expected.rows, expected.duplicates, expected.id_repeats = [], [], []
        return
    for row, line in zip(expected.rows, delivery.lines, strict=True):
        if line.is_cut:
            row.rule = NO_ROW
            expected.duplicates = [pair for pair in expected.duplicates if row not in pair]
        if row.rule == NO_ROW:
            row.tag = line.tag
    for dropped in delivery.dropped:
        _forgive(expected, [row for row in expected.rows if row.rule and row.rule.startswith(f"{dropped}:")])
        if dropped == "transaction_id":
            expected.duplicates, expected.id_repeats = [], []


def _forgive(expected: Expectation, rows: Iterable[Row]) -> None:
    """What was wrong with a cell is not delivered."""
    for row in rows:
        row.rule = None

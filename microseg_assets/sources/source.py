"""A source: the rows a business delivers for one input table.

Belongs here: what a caller may ask. Does not belong here: how it is found out (see `plan` and `rows`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from microseg_assets.sources.locate import first_line
from microseg_assets.sources.plan import Plan, Target, connected, plan
from microseg_assets.sources.rows import days_of, pruning, rows_of
from microseg_assets.sources.spec import Problem, SourceError, TableSpec
from microseg_assets.sources.values import Zones
from ml.tables import Table


class Source:
    """The rows a business delivers for one input table.

    Every call looks at the files anew, so that one instance may live as long as a server does.

    Parameters
    ----------
    table : the contract, with the project's own attributes (see `input_table`)
    spec : where the rows are and how they map
    project_zone : the zone whose calendar days are the partitions
    start : first day of the project
    base : the project file's folder
    """

    def __init__(self, table: Table, spec: TableSpec, *, project_zone: str, start: date, base: Path) -> None:
        self.spec = spec
        self.target = Target(table, Zones(spec.time_zone or project_zone, project_zone), start, Path(base))

    def check(self) -> list[Problem]:
        """Everything that makes the source unusable, all at once; nothing if it can be read."""
        problems: list[Problem] = []
        with connected() as connection:
            plan(connection, self.spec, self.target, problems)
        return problems

    def rows(self, first: date, last: date) -> pa.Table:
        """Delivered rows of the days `first` to `last`, both included.

        Returns
        -------
        pyarrow.Table
            The contract's columns, `day`, `source` (the file or query a row came from), `problem` (missing, or the
            column and why its value could not be converted: ``"amount: not a number"``) and `delivered` (JSON text of
            the values as they came, where there is a problem). Ordered by day, stamp and all other columns.
        """
        with self._planned() as ready:
            days: dict[str, Any] = {"first": first, "last": last}
            if pruned := pruning(ready):
                days |= {"from": first - timedelta(days=2), "to": last + timedelta(days=3)}
            return _run(ready, rows_of(ready, f"day BETWEEN $first AND $last{pruned}"), days).cast(_schema(ready))

    def undated(self) -> pa.Table:
        """All delivered rows that belong to no day of the project, and lines that are no rows; `day` is missing."""
        with self._planned() as ready:
            rows = _run(ready, rows_of(ready, "day IS NULL")).cast(_schema(ready))
            return pa.concat_tables([rows, _broken_lines(ready)])

    def counts_by_day(self) -> pa.Table:
        """`day` and `rows`: how many rows each day was delivered; the undated ones stand under a missing day."""
        with self._planned() as ready:
            return _run(ready, days_of(ready))

    @contextmanager
    def _planned(self) -> Iterator[Plan]:
        problems: list[Problem] = []
        with connected() as connection:
            ready = plan(connection, self.spec, self.target, problems)
            if ready is None or problems:
                raise SourceError("\n".join(map(str, problems)))
            yield ready


def _run(ready: Plan, query: str, params: Mapping[str, Any] | None = None) -> pa.Table:
    try:
        return ready.relation.connection.sql(query, params=params).to_arrow_table()
    except duckdb.Error as error:
        name, label = ready.target.table.name, ready.relation.label
        raise SourceError(f"{name}: {label} cannot be read: {first_line(error)}") from None


def _schema(ready: Plan) -> pa.Schema:
    told = [("day", pa.date32()), ("source", pa.string()), ("problem", pa.string()), ("delivered", pa.string())]
    return pa.schema([*ready.target.table.schema(), *map(pa.field, *zip(*told, strict=True))])


def _broken_lines(ready: Plan) -> pa.Table:
    """Lines of CSV files that are no rows, as DuckDB has noted them during the scan before."""
    connection, schema = ready.relation.connection, _schema(ready)
    if not connection.sql("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reject_errors'").fetchall():
        return schema.empty_table()  # no CSV file was scanned
    told = connection.sql(
        "SELECT s.file_path AS source, e.csv_line AS line, min(e.error_message) AS reason FROM reject_errors e "
        "JOIN reject_scans s USING (scan_id, file_id) GROUP BY s.file_path, e.line_byte_position, e.csv_line "
        "ORDER BY s.file_path, e.line_byte_position"
    ).fetchall()
    rows = [
        {
            "source": source.removeprefix(f"{ready.target.base}/"),
            "problem": "line: not a row of the file",
            "delivered": json.dumps({"line": line, "reason": reason}, ensure_ascii=False),
        }
        for source, line, reason in told
    ]
    return pa.Table.from_pylist(rows, schema=schema)

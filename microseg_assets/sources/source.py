"""A source: the rows a business delivers for one input table.

Belongs here: what callers can ask for. Does not belong here: how it is computed (see `plan` and `rows`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.sources.arrivals import Arrival, arrivals, arrivals_sql
from microseg_assets.sources.ids import FollowedIds, follow
from microseg_assets.sources.locate import first_line
from microseg_assets.sources.plan import Plan, Target, connected, plan
from microseg_assets.sources.read import broken, text
from microseg_assets.sources.rows import (
    arrivals_of,
    customers_of,
    days_of,
    files_of,
    lumps_of,
    purchases_of,
    rows_of,
    unmapped_of,
)
from microseg_assets.sources.spec import EARLY, IdsSpec, Problem, SourceError, TableSpec
from microseg_assets.sources.undated import Lump, allocate, between_files
from microseg_assets.sources.values import Clock
from microseg_assets.sources.window import of_days, of_no_day, pruning
from ml.tables import CUSTOMER_ID, Column, Table

_NOT_UTF8 = "it is not UTF-8: if the whole file is in another encoding, say so in the key encoding, such as cp1252"
_IDS = Table(
    "ids",
    "what a customer is called in a source",
    (Column("source_id", "string", "in the source", required=True), CUSTOMER_ID),
)


@dataclass(frozen=True)
class Drift:
    """Columns that a source has gained, which affects nothing, and those that it has lost."""

    new: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.new or self.vanished)


class Source:
    """The rows a business delivers for one input table.

    Every call reads the files again, so an instance may live as long as a server.

    Parameters
    ----------
    table : the contract, with the project's own attributes (see `input_table`)
    spec : where the rows are and how they map
    project_zone : the zone whose calendar days are the partitions
    start : the project's first day
    base : the project file's folder
    """

    def __init__(self, table: Table, spec: TableSpec, *, project_zone: str, start: date, base: Path) -> None:
        self.spec = spec
        self.ids = _ids(spec.ids, start, base) if spec.ids else None
        self.target = Target(table, Clock(spec.time_zone or project_zone, project_zone), start, Path(base))

    def check(self) -> list[Problem]:
        """Everything that is wrong with the source; it can be read if none of it is an error."""
        problems: list[Problem] = []
        with connected() as connection:
            plan(connection, self.spec, self.target, problems)
        return problems + (self._problems_of_ids() if self.ids else [])

    def columns(self) -> dict[str, str]:
        """The delivered columns and their DuckDB types; in a text file every column is text."""
        with self._planned() as ready:
            return dict(ready.relation.columns)

    def drift(self, previous: Collection[str]) -> Drift:
        """How the delivered columns have changed since they were `previous`, as `columns` returned them then."""
        now = {name.lower(): name for name in self.columns()}
        then = {name.lower(): name for name in previous}
        return Drift(
            tuple(name for key, name in now.items() if key not in then),
            tuple(name for key, name in then.items() if key not in now),
        )

    def rows(self, first: date, last: date) -> pa.Table:
        """Delivered rows of the days `first` to `last`, both included.

        Returns
        -------
        pyarrow.Table
            The contract's columns, `day`, `source` (the file or query a row came from), `problem` (missing, or the
            column and why its value could not be converted: ``"amount: not a number"``) and `delivered` (JSON text of
            the delivered values, if there is a problem). Ordered by day, stamp and all other columns.
        """
        with self._planned() as ready:
            _fetch(ready, of_days(ready, first, last))
            condition = f"day BETWEEN $first AND $last{pruning(ready, first, last)}"
            return _run(ready, rows_of(ready, condition), {"first": first, "last": last}).cast(_schema(ready))

    def undated(self) -> pa.Table:
        """All delivered rows that belong to no day of the project, and lines that are not rows; `day` is missing.

        Returns
        -------
        pyarrow.Table
            The columns of `rows`, and `EARLY`: whether a row has no day because it is older than the project.
        """
        with self._planned() as ready:
            _fetch(ready, of_no_day(ready))
            rows = _run(ready, rows_of(ready, "day IS NULL", EARLY))
            lines = _broken_lines(ready)
            lines = lines.append_column(EARLY, pa.repeat(False, lines.num_rows))
            return pa.concat_tables([rows.cast(lines.schema), lines])

    def counts_by_day(self) -> pa.Table:
        """`day` and `rows`: the number of rows delivered for each day; undated ones have a missing day."""
        with self._planned() as ready:
            _fetch(ready)
            return _run(ready, days_of(ready))

    def purchases(self, first: date, last: date) -> pa.Table:
        """Days with an order of each customer: `customer_id`, `day` and `orders`, counted in one pass over the rows.

        Only the source of transactions has them. A transaction that is delivered twice counts twice.
        """
        with self._planned() as ready:
            _fetch(ready, of_days(ready, first, last))
            return _run(ready, purchases_of(ready), {"first": first, "last": last})

    def arrivals(self, last: date = date.max) -> dict[date, Arrival]:
        """What was delivered for each day up to `last`: how many rows, a fingerprint of their content, and how many
        undated rows may belong to it."""
        return self.delivery(last)[0]

    def delivery(self, last: date = date.max) -> tuple[dict[date, Arrival], int]:
        """The result of `arrivals`, and how many rows have no day and are not older than the project, in one pass."""
        with self._planned() as ready:
            _fetch(ready)
            counts = _run(ready, arrivals_of(ready))
            lost = sum(row["rows"] for row in counts.to_pylist() if row["day"] is None) + _lines(ready).num_rows
            return arrivals(counts, self._allocate(ready, counts, last) if lost else {}), lost

    def _allocate(self, ready: Plan, counts: pa.Table, last: date) -> dict[date, int]:
        """Day to how many undated rows may belong to it; empty if the rows have no order."""
        if not self.has_order:
            return {}
        ready.relation.connection.register("__lines", _lines(ready))
        lumps = [Lump(**row) for row in _run(ready, lumps_of(ready, "__lines")).to_pylist()]
        if any(lump.before is None and lump.after is None for lump in lumps):
            files = _run(ready, files_of(ready)).to_pylist()
            lumps = between_files(lumps, {row["source"]: (row["first"], row["last"]) for row in files})
        delivered = {row["day"]: row["rows"] for row in counts.to_pylist() if row["day"] is not None}
        return allocate(lumps, delivered, self.target.start, last)

    @property
    def has_order(self) -> bool:
        """Whether the rows come in the order of files."""
        return not self.spec.connection and not self.spec.query and self.target.table.stamp is not None

    def arrived(self, rows: pa.Table) -> dict[date, Arrival]:
        """The result of `arrivals` for rows that this source has returned (see `rows`)."""
        with connected() as connection:
            connection.register("delivered_rows", rows)
            return arrivals(connection.sql(arrivals_sql(self.target.table, "delivered_rows")).to_arrow_table())

    def customers(self) -> pa.ChunkedArray:
        """The distinct customers of this source, whatever is wrong with their rows."""
        with self._planned() as ready:
            _fetch(ready)
            return _run(ready, customers_of(ready))["customer_id"]

    def mapped_ids(self) -> pa.ChunkedArray:
        """The ids that the map of ids assigns to another customer; none without a map."""
        if self.ids is None:
            return pa.chunked_array([], pa.string())
        lines = self._map().customers
        return lines.filter(pc.not_equal(lines["source_id"], lines["customer_id"]))["source_id"]

    def unmapped(self) -> pa.Table:
        """`source_id` and `rows`: ids of this source that its map of ids lacks, the most frequent first.

        Their rows keep their id. Without a map nothing is unmapped.
        """
        with self._planned() as ready:
            if self.ids is None:
                return pa.table({"source_id": pa.array([], pa.string()), "rows": pa.array([], pa.int64())})
            _fetch(ready)
            return _run(ready, unmapped_of(ready))

    def _problems_of_ids(self) -> list[Problem]:
        assert self.ids is not None
        key = f"{self.target.table.name}.ids"
        problems = [Problem(f"{self.target.table.name}.{p.key}", p.message, p.severity) for p in self.ids.check()]
        if any(problem.is_error for problem in problems):
            return problems
        try:
            lost = self._map().ambiguous
        except SourceError as error:
            return [*problems, Problem(key, error.message)]
        if lost:
            message = f"{len(lost):,} ids lead to more than one customer and stay as they are, such as {lost[0]!r}"
            problems.append(Problem(key, f"{message}: leave one line for each", "warning"))
        return problems

    def _map(self) -> FollowedIds:
        """The map of ids, followed to its end.

        Raises
        ------
        SourceError
            If it cannot be read, or leads in a circle.
        """
        assert self.ids is not None
        delivered = self.ids.rows(self.target.start, self.target.start)
        with connected() as connection:
            connection.register("delivered", delivered)
            lines = connection.sql(
                "SELECT DISTINCT source_id, customer_id FROM delivered "
                "WHERE source_id IS NOT NULL AND customer_id IS NOT NULL AND problem IS NULL"
            ).to_arrow_table()
        followed = follow(lines["source_id"], lines["customer_id"])
        if followed.circles:
            more = len(followed.circles) - 1
            others = f", and {more:,} more such circle{'s' if more > 1 else ''}" if more else ""
            raise SourceError(
                f"the map leads in a circle: {followed.circle_in_words()}{others}; take out the line that is wrong",
                key="ids",
            )
        return followed

    @contextmanager
    def _planned(self) -> Iterator[Plan]:
        problems: list[Problem] = []
        with connected() as connection:
            ready = plan(connection, self.spec, self.target, problems)
            errors = [problem for problem in problems if problem.is_error]
            if ready is None or errors:
                raise SourceError("\n".join(map(str, errors)))
            if self.ids is not None:
                try:
                    connection.register("__ids", self._map().customers)
                except SourceError as error:
                    raise SourceError(f"{self.target.table.name}.{error}") from None
            yield ready


def _ids(spec: IdsSpec, start: date, base: Path) -> Source:
    declared = {field.name: getattr(spec, field.name) for field in fields(spec)}
    return Source(_IDS, TableSpec(**declared), project_zone="UTC", start=start, base=base)


def _fetch(ready: Plan, condition: str = "") -> None:
    """Fetch the rows of a database for which a condition holds; files need no fetching."""
    if ready.fetch is None:
        return
    try:
        ready.fetch.fill(ready.relation.connection, condition)
    except SourceError as error:
        raise SourceError(str(error), key=ready.target.table.name) from None


def _run(ready: Plan, query: str, params: Mapping[str, Any] | None = None) -> pa.Table:
    try:
        return ready.relation.connection.sql(query, params=params).to_arrow_table()
    except duckdb.Error as error:
        name, label = ready.target.table.name, ready.relation.label
        raise SourceError(f"{label} cannot be read: {first_line(error)}", key=name) from None


def _schema(ready: Plan) -> pa.Schema:
    added = [("day", pa.date32()), ("source", pa.string()), ("problem", pa.string()), ("delivered", pa.string())]
    return pa.schema([*ready.target.table.schema(), *map(pa.field, *zip(*added, strict=True))])


def _lines(ready: Plan) -> pa.Table:
    """The positions of lines that are not rows, as `lumps_of` needs them. In CSV files they are those that DuckDB
    recorded during the preceding scan; a cell with line breaks shifts them by as many lines."""
    connection, parts = ready.relation.connection, []
    if objects := broken(connection):
        ordinal = "CAST(nth - row_number() OVER (ORDER BY nth) + 1 AS DOUBLE)"
        parts.append(f"SELECT source, {ordinal} AS ordinal, 0 AS nth FROM ({objects})")
    if connection.sql("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reject_errors'").fetchall():
        rejects = (
            "SELECT coalesce(w.original, s.file_path) AS source, min(e.line) AS line FROM reject_errors e "
            "JOIN reject_scans s USING (scan_id, file_id) LEFT JOIN __rewritten w ON w.copy = s.file_path "
            "GROUP BY 1, e.line_byte_position"
        )
        nth = "line - 1 - row_number() OVER (PARTITION BY source ORDER BY line)"
        parts.append(f"SELECT source, CAST(NULL AS DOUBLE) AS ordinal, {nth} AS nth FROM ({rejects})")
    if not parts:
        return pa.schema([("source", pa.string()), ("ordinal", pa.float64()), ("nth", pa.int64())]).empty_table()
    prefix = f"{ready.target.base}/"
    source = f"CASE WHEN starts_with(source, {text(prefix)}) THEN source[{len(prefix) + 1}:] ELSE source END"
    rows = f"SELECT {source} AS source, ordinal, nth FROM ({' UNION ALL '.join(parts)})"
    return connection.sql(rows).to_arrow_table()


def _broken_lines(ready: Plan) -> pa.Table:
    """Lines of text files that are not rows; of CSV files, those that DuckDB recorded during the preceding scan."""
    connection, schema = ready.relation.connection, _schema(ready)
    lines: list[tuple[str, str, str]] = []
    if objects := broken(connection):
        lines += connection.sql(f"SELECT source, line, 'not a JSON object' FROM ({objects}) ORDER BY ALL").fetchall()
    if connection.sql("SELECT 1 FROM duckdb_tables() WHERE table_name = 'reject_errors'").fetchall():
        lines += connection.sql(
            "SELECT coalesce(w.original, s.file_path), e.csv_line, min(CASE WHEN e.error_type = 'INVALID ENCODING' "
            f"THEN {text(_NOT_UTF8)} ELSE e.error_message END) FROM reject_errors e "
            "JOIN reject_scans s USING (scan_id, file_id) LEFT JOIN __rewritten w ON w.copy = s.file_path "
            "GROUP BY 1, s.file_path, e.line_byte_position, e.csv_line ORDER BY 1, e.line_byte_position"
        ).fetchall()
    rows = [
        {
            "source": source.removeprefix(f"{ready.target.base}/"),
            "problem": "line: not a row of the file",
            "delivered": json.dumps({"line": line, "reason": reason}, ensure_ascii=False),
        }
        for source, line, reason in lines
    ]
    return pa.Table.from_pylist(rows, schema=schema)

"""A project with its lake, its engine, its models, and the assets declared in it.

Belongs here: where the partitions of an asset are, and the accepted rows as everything else reads them. Does not belong
here: choices of models (see `choices`), customer histories (see `history`), how an asset is declared (see
`declaration`), and what the body of an asset works with (see `step`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from graphlib import TopologicalSorter

import dagster as dg
import pyarrow as pa

from microseg_assets.partitions import Calendar, Lookback
from microseg_assets.project import Project
from microseg_assets.sources import Source
from microseg_assets.storage.lake import Lake, Stamp
from microseg_assets.tracking import Tracking
from ml.engine import Engine, Files, Input
from ml.features import CustomerHistory
from ml.tables import Table


def raw_name(table: str) -> str:
    """The asset that ingests an input table."""
    return f"{_RAW}{table}"


def input_of(name: str) -> str:
    """The input table that an asset ingests or validates."""
    return name.removeprefix(_RAW)


_RAW = "raw_"


@dataclass(frozen=True)
class Stored:
    """Where an asset's partitions are stored: a table, and the values of its partition dimensions before the last.

    Parameters
    ----------
    table : the table that the asset writes
    partition_prefix : dimension to value, for all dimensions of the table but the last
    side_outputs : tables written with it, partition by partition
    """

    table: Table
    partition_prefix: Mapping[str, str] = field(default_factory=dict)
    side_outputs: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Partitions:
    """The partitions of one asset in the lake: its table's, under its prefix (see `Lake` for each method)."""

    lake: Lake
    stored: Stored

    @property
    def table(self) -> Table:
        return self.stored.table

    @property
    def _prefix(self) -> Mapping[str, str]:
        return self.stored.partition_prefix

    def keys(self) -> list[str]:
        return self.lake.keys(self.table, **self._prefix)

    def dates(self) -> set[date]:
        """The days or weeks that exist."""
        return {date.fromisoformat(key) for key in self.keys()}

    def missing(self, keys: Iterable[date | str]) -> list[str]:
        return self.lake.missing(self.table, keys, **self._prefix)

    def stamps(self) -> dict[str, Stamp]:
        return self.lake.stamps(self.table, **self._prefix)

    def notes(self, keys: Iterable[date | str] | None = None) -> dict[str, dict[str, str]]:
        return self.lake.notes(self.table, keys, **self._prefix)

    def files(self, keys: Iterable[date | str]) -> Files:
        return self.lake.files(self.table, keys, **self._prefix)

    def read(self, key: date | str) -> pa.Table:
        return self.lake.read(self.table, key, **self._prefix)

    def write(self, key: date | str, rows: pa.Table, notes: Mapping[str, str] | None = None) -> int:
        return self.lake.write(self.table, key, rows, notes, **self._prefix)

    def write_days(
        self, rows: pa.Table, days: Sequence[date], notes: Mapping[date, Mapping[str, str]] | None = None
    ) -> dict[date, int]:
        return self.lake.write_days(self.table, rows, days, notes, **self._prefix)

    def touch(self, key: date | str) -> None:
        self.lake.touch(self.table, key, **self._prefix)

    def put_file(self, key: date | str, name: str, content: bytes) -> str:
        return self.lake.put_file(self.table, key, name, content, **self._prefix)

    def read_file(self, key: date | str, name: str) -> bytes | None:
        return self.lake.read_file(self.table, key, name, **self._prefix)


@dataclass
class Workspace:
    """A project and the parts it works with.

    Parameters
    ----------
    project : the validated project file
    lake, engine, tracking : where tables are stored, what runs queries, where models are logged
    stored : asset to where its partitions are stored, once it is declared
    reads : asset to the assets it reads, each with its lookback
    groups : asset to its group, in the order of the chain
    removed_customers : run to the customers removed as of its start (see `ingest_log.removed_customers`)
    training_histories : run and last day to the history that its training weeks share (see `history.training_history`)
    """

    project: Project
    lake: Lake
    engine: Engine
    tracking: Tracking
    stored: dict[str, Stored] = field(default_factory=dict)
    reads: dict[str, dict[str, Lookback]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    removed_customers: dict[str, pa.Array] = field(default_factory=dict)
    training_histories: dict[tuple[str, date], CustomerHistory] = field(default_factory=dict)

    @property
    def calendar(self) -> Calendar:
        return self.project.calendar

    @cached_property
    def sources(self) -> dict[str, Source | None]:
        """The source of each input table; None if the business does not provide it."""
        return {name: self.project.source(name) for name in self.project.inputs}

    def is_off(self, name: str) -> bool:
        """Whether an asset belongs to an input table that the business does not provide, and so does not exist."""
        table = input_of(name)
        return table in self.sources and self.sources[table] is None

    def provided_inputs(self) -> list[str]:
        """The input tables that the business provides."""
        return [name for name, source in self.sources.items() if source is not None]

    def accepted(self, table: str, days: Sequence[date]) -> Input:
        """Accepted rows of an input table, as the engine reads them; no rows if the table is not provided."""
        rows = self.project.inputs[table]
        return rows.empty_days() if self.is_off(table) else self.lake.files(rows, days)

    def key(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([self.project.name, name])

    def partitions(self, name: str) -> Partitions:
        """The partitions of a declared asset."""
        return Partitions(self.lake, self.stored[name])

    def is_weekly(self, name: str) -> bool:
        return self.stored[name].table.dimensions[-1] == "week"

    def in_order(self) -> list[str]:
        """Names of all declared assets, each after the assets it reads."""
        sorter = TopologicalSorter({name: set(reads) - {name} for name, reads in self.reads.items()})
        position = {group: number for number, group in enumerate(dict.fromkeys(self.groups.values()))}
        depth = {name: number for number, name in enumerate(sorter.static_order())}
        return sorted(depth, key=lambda name: (position[self.groups[name]], depth[name]))


def command_for(workspace: Workspace, name: str, keys: Sequence[str]) -> str:
    """A sentence with the command and the job that make missing partitions of an asset."""
    first, last = min(keys), max(keys)
    if workspace.is_weekly(name):
        last = workspace.calendar.week_end(date.fromisoformat(last)).isoformat()
    job = "weekly" if workspace.is_weekly(name) else "daily"
    project = workspace.project
    return (
        f"Make them with: microseg run --project {project.reference} --from {first} --to {last} "
        f"(or, in the UI, job {project.name}_{job} for {min(keys)} … {max(keys)})"
    )

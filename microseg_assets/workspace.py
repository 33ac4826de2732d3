"""A project and what it works with: its lake, its engine and its models, and which assets are declared in it.

Belongs here: where the partitions of an asset lie, and the accepted rows as everything else reads them. Does not belong
here: choices of models (see `choices`), facts (see `history`), how an asset is declared (see `declaration`), and what a
body gets to work with (see `step`).
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
from ml import tables
from ml.engine import Engine, Files, Input
from ml.tables import Table


def raw_name(table: str) -> str:
    """The asset that takes an input table in."""
    return f"{_RAW}{table}"


def input_of(name: str) -> str:
    """The input table that an asset takes in or accepts."""
    return name.removeprefix(_RAW)


_RAW = "raw_"


@dataclass(frozen=True)
class Stored:
    """Where an asset's partitions lie: a table, and the values of its partition dimensions before the last.

    Parameters
    ----------
    table : the table that the asset writes
    partition_prefix : dimension to value, for all dimensions of the table but the last
    side_outputs : tables that are written with it, partition by partition
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
        """The days or weeks that are there."""
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
    """A project and the parts that it works with.

    Parameters
    ----------
    project : the project file, validated
    lake, engine, tracking : where tables live, what runs queries, where models are logged
    stored : asset to where its partitions lie, once it is declared
    reads : asset to the assets that it reads, and how far it looks into each
    groups : asset to the link of the chain that it belongs to, in the order of the chain
    removed_in : run to its customers: see `ingest_log.removed_in`
    """

    project: Project
    lake: Lake
    engine: Engine
    tracking: Tracking
    stored: dict[str, Stored] = field(default_factory=dict)
    reads: dict[str, dict[str, Lookback]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    removed_in: dict[str, pa.Array] = field(default_factory=dict)

    @property
    def calendar(self) -> Calendar:
        return self.project.calendar

    @cached_property
    def sources(self) -> dict[str, Source | None]:
        """Where each input table comes from; None for those the business does not bring."""
        return {name: self.project.source(name) for name in tables.INPUTS}

    def is_off(self, name: str) -> bool:
        """Whether an asset is about an input table that the business does not bring: then there is no such asset."""
        table = input_of(name)
        return table in tables.INPUTS and self.sources[table] is None

    def brought(self) -> list[str]:
        """The input tables that the business brings."""
        return [name for name, source in self.sources.items() if source is not None]

    def accepted(self, table: str, days: Sequence[date]) -> Input:
        """Accepted rows of an input table, as the engine reads them; none of one that is not brought."""
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
        """Names of all declared assets, each after what it reads."""
        sorter = TopologicalSorter({name: set(reads) - {name} for name, reads in self.reads.items()})
        place = {group: number for number, group in enumerate(dict.fromkeys(self.groups.values()))}
        depth = {name: number for number, name in enumerate(sorter.static_order())}
        return sorted(depth, key=lambda name: (place[self.groups[name]], depth[name]))


def command_for(workspace: Workspace, name: str, keys: Sequence[str]) -> str:
    """The command and the job that make missing partitions of an asset, in a sentence."""
    first, last = min(keys), max(keys)
    if workspace.is_weekly(name):
        last = workspace.calendar.week_end(date.fromisoformat(last)).isoformat()
    job = "weekly" if workspace.is_weekly(name) else "daily"
    project = workspace.project
    return (
        f"Make them with: microseg run --project {project.reference} --from {first} --to {last} "
        f"(or, in the UI, job {project.name}_{job} for {min(keys)} … {max(keys)})"
    )

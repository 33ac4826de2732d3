"""Tables on disk: hive-partitioned Parquet, one file a partition, each there whole or not at all.

A partition is written aside and put in place by one rename (one put on an object store), and replaced whole on a rerun;
that it exists means that it passed. Any tool can read `<root>/<project>/<table>/day=2017-01-01/part-0.parquet`. Does
not belong here: what is in a table (`ml.tables`) and which partitions a step needs (`partitions`).
"""

from __future__ import annotations

import glob
import io
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml.engine import Files
from ml.tables import Table

FILE = "part-0.parquet"


class MissingPartitions(LookupError):
    """Partitions that a step needs are not in the lake."""

    def __init__(self, table: str, keys: Sequence[str]) -> None:
        self.table, self.keys = table, list(keys)
        listed = ", ".join(self.keys[:3]) + (f" … ({len(self.keys)} in all)" if len(self.keys) > 3 else "")
        super().__init__(f"{table} has no partition {listed}")


@dataclass(frozen=True)
class Lake:
    """The tables of one project.

    Parameters
    ----------
    root : folder or fsspec URL under which every project has a folder
    project : the project's name
    """

    root: str
    project: str

    @cached_property
    def _filesystem(self) -> tuple[Any, str]:
        filesystem, path = fsspec.core.url_to_fs(self.root)
        return filesystem, path.rstrip("/")

    @property
    def _is_local(self) -> bool:
        return "file" in self._filesystem[0].protocol

    def _folder(self, table: str, partition: Mapping[str, str]) -> str:
        parts = [f"{name}={value}" for name, value in partition.items()]
        return str(PurePosixPath(self._filesystem[1], self.project, table, *parts))

    def _url(self, path: str) -> str:
        return path if self._is_local else self._filesystem[0].unstrip_protocol(path)

    def keys(self, table: Table, /, **fixed: str) -> list[str]:
        """Values of the last partition dimension that exist, ascending; `fixed` names the dimensions before it."""
        filesystem, _ = self._filesystem
        folder = self._folder(table.name, fixed)
        if not filesystem.isdir(folder):
            return []
        prefix = f"{table.dimensions[-1]}="
        if self._is_local:
            return sorted(
                entry.name.removeprefix(prefix)
                for entry in os.scandir(folder)
                if entry.name.startswith(prefix) and os.path.exists(os.path.join(entry.path, FILE))
            )
        filesystem.invalidate_cache(folder)  # another process may have written since we looked
        found = (PurePosixPath(path) for path in filesystem.glob(f"{glob.escape(folder)}/{prefix}*/{FILE}"))
        return sorted(path.parent.name.removeprefix(prefix) for path in found)

    def stamps(self, table: Table, /, **fixed: str) -> dict[str, float]:
        """When each partition was put in place, seconds since 1970."""
        filesystem, _ = self._filesystem
        folder, dimension = self._folder(table.name, fixed), table.dimensions[-1]
        paths = {key: f"{folder}/{dimension}={key}/{FILE}" for key in self.keys(table, **fixed)}
        if self._is_local:
            return {key: os.stat(path).st_mtime for key, path in paths.items()}
        return {key: filesystem.modified(path).timestamp() for key, path in paths.items()}

    def missing(self, table: Table, keys: Iterable[date | str], /, **fixed: str) -> list[str]:
        """Those of `keys` that are not there."""
        there = set(self.keys(table, **fixed))
        return [str(key) for key in keys if str(key) not in there]

    def files(self, table: Table, keys: Iterable[date | str], /, **fixed: str) -> Files:
        """Partitions as the engine reads them, with the partition as a column.

        Raises
        ------
        MissingPartitions
            If one of `keys` is not there.
        """
        wanted = [str(key) for key in keys]
        if gone := self.missing(table, wanted, **fixed):
            raise MissingPartitions(table.name, gone)
        dimension = table.dimensions[-1]
        paths = (f"{self._folder(table.name, {**fixed, dimension: key})}/{FILE}" for key in wanted)
        return Files(tuple(map(self._url, paths)), table.schema().append(pa.field(dimension, pa.date32())))

    def read(self, table: Table, key: date | str, /, **fixed: str) -> pa.Table:
        """One partition, without its partition column."""
        if self.missing(table, [key], **fixed):
            raise MissingPartitions(table.name, [str(key)])
        filesystem, _ = self._filesystem
        path = f"{self._folder(table.name, {**fixed, table.dimensions[-1]: str(key)})}/{FILE}"
        with filesystem.open(path, "rb") as file:
            return pq.ParquetFile(file).read()

    def write(self, table: Table, key: date | str, rows: pa.Table, /, **fixed: str) -> int:
        """Put one partition in place, replacing an older one whole. Returns its number of rows."""
        folder = self._folder(table.name, {**fixed, table.dimensions[-1]: str(key)})
        rows = table.conform(rows)
        filesystem, _ = self._filesystem
        if self._is_local:
            os.makedirs(folder, exist_ok=True)
            aside = f"{folder}/.{uuid.uuid4().hex}"
            try:
                pq.write_table(rows, aside, compression="zstd")
                os.replace(aside, f"{folder}/{FILE}")
            finally:
                if os.path.exists(aside):
                    os.unlink(aside)
        else:
            buffer = io.BytesIO()
            pq.write_table(rows, buffer, compression="zstd")
            filesystem.makedirs(folder, exist_ok=True)
            filesystem.pipe_file(f"{folder}/{FILE}", buffer.getvalue())
        return rows.num_rows

    def write_days(self, table: Table, rows: pa.Table, days: Sequence[date], /, **fixed: str) -> dict[date, int]:
        """Split `rows` by their `day` column and put each of `days` in place, the empty ones too.

        Raises
        ------
        ValueError
            If a row belongs to none of `days`: it would be lost.
        """
        order = pc.sort_indices(rows, sort_keys=[("day", "ascending")])
        rows = rows.take(order)
        runs = pc.value_counts(rows["day"])
        counts = dict(zip(runs.field("values").to_pylist(), runs.field("counts").to_pylist(), strict=True))
        if stray := set(counts) - set(days):
            raise ValueError(f"{table.name}: rows of {min(map(str, stray))} are not among the days to be written")
        start, written = 0, {}
        for day in sorted(days):
            count = counts.get(day, 0)
            written[day] = self.write(table, day, rows.slice(start, count), **fixed)
            start += count
        return written

    def put_file(self, table: Table, key: date | str, name: str, content: bytes, /, **fixed: str) -> str:
        """Put a file for people beside a partition's rows; returns its URL."""
        filesystem, _ = self._filesystem
        folder = self._folder(table.name, {**fixed, table.dimensions[-1]: str(key)})
        filesystem.makedirs(folder, exist_ok=True)
        path = f"{folder}/{name}"
        if self._is_local:
            aside = f"{folder}/.{uuid.uuid4().hex}"
            with open(aside, "wb") as file:
                file.write(content)
            os.replace(aside, path)
            return f"file://{path}"
        filesystem.pipe_file(path, content)
        return self._url(path)

    def remove(self, table: Table, key: date | str, name: str = FILE, /, **fixed: str) -> None:
        """Take a partition, or a file beside its rows, out of sight, if it is there."""
        filesystem, _ = self._filesystem
        path = f"{self._folder(table.name, {**fixed, table.dimensions[-1]: str(key)})}/{name}"
        if filesystem.exists(path):
            filesystem.rm_file(path)

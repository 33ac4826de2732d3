"""Tables on disk: hive-partitioned Parquet, one file per partition, each there whole or not at all.

A partition is written to a temporary file and renamed (one put on an object store), and replaced whole on a rerun; if
it exists, it passed validation. A rerun that produces the same bytes leaves the file as it is and only notes the time,
so that partitions made from it do not become stale. Any tool can read
`<root>/<project>/<table>/day=2017-01-01/part-0.parquet`. Does not belong here: what is in a table (`ml.tables`) and
which partitions a step needs (`partitions`).
"""

from __future__ import annotations

import glob
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml.engine import Files
from ml.tables import Table

FILE = "part-0.parquet"
REMADE = "_made_again"  # an empty file, touched by a rerun that changed nothing; Parquet readers ignore it
_NOTE = "microseg."


class MissingPartitions(LookupError):
    """Partitions that a step reads are not in the lake."""

    def __init__(self, table: str, keys: Sequence[str]) -> None:
        self.table, self.keys = table, list(keys)
        listed = ", ".join(self.keys[:3]) + (f" … ({len(self.keys)} in all)" if len(self.keys) > 3 else "")
        super().__init__(f"{table} has no partition {listed}")


@dataclass(frozen=True)
class Stamp:
    """When a partition's content last changed, and when it was last made; seconds since 1970."""

    changed: float
    made: float


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
        import fsspec

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

    def keys(self, table: Table, /, **prefix: str) -> list[str]:
        """Existing values of the last partition dimension, ascending; `prefix` gives the dimensions before it."""
        filesystem, _ = self._filesystem
        folder = self._folder(table.name, prefix)
        if not filesystem.isdir(folder):
            return []
        key_prefix = f"{table.dimensions[-1]}="
        if self._is_local:
            return sorted(
                entry.name.removeprefix(key_prefix)
                for entry in os.scandir(folder)
                if entry.name.startswith(key_prefix) and os.path.exists(os.path.join(entry.path, FILE))
            )
        filesystem.invalidate_cache(folder)  # another process may have written meanwhile
        paths = (PurePosixPath(path) for path in filesystem.glob(f"{glob.escape(folder)}/{key_prefix}*/{FILE}"))
        return sorted(path.parent.name.removeprefix(key_prefix) for path in paths)

    def stamps(self, table: Table, /, **prefix: str) -> dict[str, Stamp]:
        """When each partition's content last changed, and when it was last made."""
        folder, dimension = self._folder(table.name, prefix), table.dimensions[-1]
        stamps = {}
        for key in self.keys(table, **prefix):
            changed = self._modified(f"{folder}/{dimension}={key}/{FILE}") or 0.0
            remade = self._modified(f"{folder}/{dimension}={key}/{REMADE}") or 0.0
            stamps[key] = Stamp(changed, max(changed, remade))
        return stamps

    def _modified(self, path: str) -> float | None:
        """When a file was last written; None if there is none."""
        try:
            return os.stat(path).st_mtime if self._is_local else self._filesystem[0].modified(path).timestamp()
        except FileNotFoundError:
            return None

    def notes(
        self, table: Table, keys: Iterable[date | str] | None = None, /, **prefix: str
    ) -> dict[str, dict[str, str]]:
        """The notes of each partition, or of `keys` (see `write`)."""
        folder, dimension = self._folder(table.name, prefix), table.dimensions[-1]
        filesystem, _ = self._filesystem
        notes = {}
        for key in self.keys(table, **prefix) if keys is None else map(str, keys):
            with filesystem.open(f"{folder}/{dimension}={key}/{FILE}", "rb") as file:
                footer = pq.read_metadata(file).metadata or {}
            notes[key] = {
                name.decode()[len(_NOTE) :]: value.decode()
                for name, value in footer.items()
                if name.startswith(_NOTE.encode())
            }
        return notes

    def missing(self, table: Table, keys: Iterable[date | str], /, **prefix: str) -> list[str]:
        """Those of `keys` that do not exist."""
        existing = set(self.keys(table, **prefix))
        return [str(key) for key in keys if str(key) not in existing]

    def files(self, table: Table, keys: Iterable[date | str], /, **prefix: str) -> Files:
        """Partitions as the engine reads them, with the partition as a column.

        Raises
        ------
        MissingPartitions
            If one of `keys` does not exist.
        """
        wanted = [str(key) for key in keys]
        if absent := self.missing(table, wanted, **prefix):
            raise MissingPartitions(table.name, absent)
        dimension = table.dimensions[-1]
        paths = (f"{self._folder(table.name, {**prefix, dimension: key})}/{FILE}" for key in wanted)
        return Files(
            tuple(map(self._url, paths)), table.schema().append(pa.field(dimension, pa.date32())), table.renamed
        )

    def read(self, table: Table, key: date | str, /, **prefix: str) -> pa.Table:
        """One partition, without its partition column."""
        if self.missing(table, [key], **prefix):
            raise MissingPartitions(table.name, [str(key)])
        filesystem, _ = self._filesystem
        path = f"{self._folder(table.name, {**prefix, table.dimensions[-1]: str(key)})}/{FILE}"
        with filesystem.open(path, "rb") as file:
            rows = pq.ParquetFile(file).read()
        return rows.rename_columns([table.renamed.get(name, name) for name in rows.column_names])

    def schema(self, table: Table, key: date | str, /, **prefix: str) -> pa.Schema:
        """The columns of a partition's file, which may be older than the table's declaration."""
        path = f"{self._folder(table.name, {**prefix, table.dimensions[-1]: str(key)})}/{FILE}"
        with self._filesystem[0].open(path, "rb") as file:
            return pq.read_schema(file)

    def write(
        self, table: Table, key: date | str, rows: pa.Table, notes: Mapping[str, str] | None = None, /, **prefix: str
    ) -> int:
        """Write one partition, replacing it whole if it exists. Returns its number of rows.

        Parameters
        ----------
        notes : short texts about the rows, stored in the file's footer
        """
        folder = self._folder(table.name, {**prefix, table.dimensions[-1]: str(key)})
        rows = table.conform(rows)
        if notes:
            rows = rows.replace_schema_metadata({f"{_NOTE}{name}": text for name, text in notes.items()})
        filesystem, _ = self._filesystem
        buffer = pa.BufferOutputStream()
        pq.write_table(rows, buffer, compression="zstd")
        content = buffer.getvalue()
        filesystem.makedirs(folder, exist_ok=True)
        if self._has_content(f"{folder}/{FILE}", content):
            self._touch(f"{folder}/{REMADE}")
        elif self._is_local:
            temporary = f"{folder}/.{uuid.uuid4().hex}"
            try:
                with open(temporary, "wb") as file:
                    file.write(content)
                os.replace(temporary, f"{folder}/{FILE}")
            finally:
                if os.path.exists(temporary):
                    os.unlink(temporary)
        else:
            filesystem.pipe_file(f"{folder}/{FILE}", content.to_pybytes())
        return rows.num_rows

    def _has_content(self, path: str, content: pa.Buffer) -> bool:
        """Whether a file exists and consists of exactly these bytes."""
        filesystem, _ = self._filesystem
        try:
            if filesystem.size(path) != content.size:
                return False
            with filesystem.open(path, "rb") as file:
                return bool(pa.py_buffer(file.read()).equals(content))
        except FileNotFoundError:
            return False

    def touch(self, table: Table, key: date | str, /, **prefix: str) -> None:
        """Mark a partition as changed just now, so that what was made from it becomes stale."""
        path = f"{self._folder(table.name, {**prefix, table.dimensions[-1]: str(key)})}/{FILE}"
        if self._is_local:
            os.utime(path)
        else:
            self._filesystem[0].pipe_file(path, self._filesystem[0].cat_file(path))

    def _touch(self, path: str) -> None:
        if self._is_local:
            with open(path, "wb"):
                os.utime(path)
        else:
            self._filesystem[0].pipe_file(path, b"")

    def write_days(
        self,
        table: Table,
        rows: pa.Table,
        days: Sequence[date],
        notes: Mapping[date, Mapping[str, str]] | None = None,
        /,
        **prefix: str,
    ) -> dict[date, int]:
        """Split `rows` by their `day` column and write each of `days`, including those without rows.

        Parameters
        ----------
        notes : day to its notes (see `write`)

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
            written[day] = self.write(table, day, rows.slice(start, count), (notes or {}).get(day), **prefix)
            start += count
        return written

    def put_file(self, table: Table, key: date | str, name: str, content: bytes, /, **prefix: str) -> str:
        """Write a file for people next to a partition's rows; returns its URL."""
        filesystem, _ = self._filesystem
        folder = self._folder(table.name, {**prefix, table.dimensions[-1]: str(key)})
        filesystem.makedirs(folder, exist_ok=True)
        path = f"{folder}/{name}"
        if self._is_local:
            temporary = f"{folder}/.{uuid.uuid4().hex}"
            with open(temporary, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
            return f"file://{path}"
        filesystem.pipe_file(path, content)
        return self._url(path)

    def read_file(self, table: Table, key: date | str, name: str, /, **prefix: str) -> bytes | None:
        """A file next to a partition's rows; None if there is none."""
        path = f"{self._folder(table.name, {**prefix, table.dimensions[-1]: str(key)})}/{name}"
        try:
            with self._filesystem[0].open(path, "rb") as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def remove(self, table: Table, key: date | str, name: str = FILE, /, **prefix: str) -> None:
        """Delete a partition, or a file next to its rows, if it exists."""
        filesystem, _ = self._filesystem
        path = f"{self._folder(table.name, {**prefix, table.dimensions[-1]: str(key)})}/{name}"
        if filesystem.exists(path):
            filesystem.rm_file(path)

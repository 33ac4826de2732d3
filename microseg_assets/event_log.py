"""Dagster's event log in one SQLite file, with the connection kept open.

The stock SQLite storage opens and commits a connection for every write, about .02 s for each partition of each asset,
which is most of the time of a range run over a year. Keeping one engine open costs about a tenth of that, and storing
the events that Dagster hands over together (`DAGSTER_EVENT_BATCH_SIZE`) in one transaction a part of what is left. It
overrides one private method of Dagster, so a test pins that it still exists. PostgreSQL (docker/) does not need it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import sqlalchemy
from dagster import EventLogEntry
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

_batch = threading.local()


class SqliteEventLog(ConsolidatedSqliteEventLogStorage):
    """`ConsolidatedSqliteEventLogStorage` with one pooled engine instead of one per statement."""

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        engine = sqlalchemy.create_engine(
            self._conn_string, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
        )

        @sqlalchemy.event.listens_for(engine, "connect")
        def set_pragmas(connection: Any, _record: Any) -> None:
            # With a write-ahead log this survives a crash of the process; only a power cut may lose the last events.
            connection.execute("PRAGMA synchronous=NORMAL")

        return engine

    @contextmanager
    def _connect(self) -> Iterator[sqlalchemy.Connection]:
        if (of_batch := getattr(_batch, "connection", None)) is not None:
            yield of_batch
            return
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """All of the events, or none: then Dagster stores them one by one."""
        with self._engine.connect() as connection, connection.begin():
            _batch.connection = connection
            try:
                super().store_event_batch(events)
            finally:
                _batch.connection = None

    def dispose(self) -> None:
        if "_engine" in self.__dict__:
            self._engine.dispose()
        super().dispose()

"""Dagster's event log in one SQLite file, with the connection kept open.

Dagster's own SQLite storage opens and commits a connection for every write, about 0.02 s for each partition of each
asset, which is most of the time of a range run over a year. Keeping one engine open takes about a tenth of that.
Storing a batch of events (`DAGSTER_EVENT_BATCH_SIZE`) in one transaction takes still less: it saves what Dagster's
storage does for every event, looking up which tables and columns exist (on a new connection) and writing an asset's row
that the next event overwrites. It overrides private methods of Dagster, so a test pins that they still exist.
PostgreSQL (docker/) does not need it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import dagster as dg
import sqlalchemy
from dagster import EventLogEntry
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

_batch = threading.local()


def _asset(event: EventLogEntry) -> dg.AssetKey | None:
    return event.dagster_event.asset_key if event.dagster_event else None


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
        if (shared := getattr(_batch, "connection", None)) is not None:
            yield shared
            return
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store all of the events or, on an error, none: Dagster then stores them one by one."""
        with self._engine.connect() as connection, connection.begin():
            _batch.connection = connection
            _batch.last = set({(event.dagster_event_type, _asset(event)): id(event) for event in events}.values())
            try:
                super().store_event_batch(events)
            finally:
                _batch.connection = None

    def _store_asset_event(self, conn: sqlalchemy.Connection, event: EventLogEntry, event_id: int) -> None:
        """Update an asset's row with its newest event; of a batch's events of one type, with the last."""
        if getattr(_batch, "connection", None) is None or id(event) in _batch.last:
            super()._store_asset_event(conn, event, event_id)

    def has_table(self, table_name: str) -> bool:
        if table_name not in self._existing:
            if not super().has_table(table_name):
                return False  # a migration may make it
            self._existing.add(table_name)
        return True

    def _has_asset_key_col_on_connection(self, conn: sqlalchemy.Connection, column_name: str) -> bool:
        column = f"asset_keys.{column_name}"
        if column not in self._existing:
            if not super()._has_asset_key_col_on_connection(conn, column_name):
                return False
            self._existing.add(column)
        return True

    @cached_property
    def _existing(self) -> set[str]:
        """Tables and columns known to exist."""
        return set()

    def dispose(self) -> None:
        if "_engine" in self.__dict__:
            self._engine.dispose()
        super().dispose()

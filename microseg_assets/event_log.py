"""Dagster's event log in one SQLite file, with the connection kept open.

The stock SQLite storage opens and commits a connection for every write, about .02 s for each partition of each asset,
which is most of the time of a range run over a year. Keeping one engine open costs about a tenth of that. It overrides
one private method of Dagster, so a test pins that it still exists. PostgreSQL (docker/) does not need it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import sqlalchemy
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS


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
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def dispose(self) -> None:
        if "_engine" in self.__dict__:
            self._engine.dispose()
        super().dispose()

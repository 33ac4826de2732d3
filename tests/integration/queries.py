"""The queries that the chain asks its engine, as it asks them.

Belongs here: recording every query of this process, with the schemas of its inputs. Does not belong here: what a query
may contain (see `test_portable`).
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from ml.engine import DuckDB, Files, Input

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Query:
    """A query, who asked it first, its parameters, and the schema of each input."""

    sql: str
    asked_by: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, pa.Schema]


@contextmanager
def recorded(file: Path) -> Iterator[None]:
    """Record the queries that any engine of this process is asked, each once, and store them in a file."""
    queries: dict[str, Query] = {}
    asked = {name: getattr(DuckDB, name) for name in ("query", "stream")}

    def recording(name: str) -> Any:
        def ask(self: DuckDB, sql: str, params: Mapping[str, Any] | None = None, /, *args: Any, **inputs: Any) -> Any:
            if sql not in queries:
                schemas = {name: _schema(rows) for name, rows in inputs.items() if name != "rows" or _is_input(rows)}
                queries[sql] = Query(sql, _asking(), dict(params or {}), schemas)
            return asked[name](self, sql, params, *args, **inputs)

        return ask

    with pytest.MonkeyPatch.context() as patch:
        for name in asked:
            patch.setattr(DuckDB, name, recording(name))
        yield
    file.write_bytes(pickle.dumps(list(queries.values())))


def read(file: Path) -> list[Query]:
    """The queries that a file holds."""
    queries: list[Query] = pickle.loads(file.read_bytes())
    return queries


def _is_input(rows: object) -> bool:
    """Whether this is a table, not the number of rows of a batch."""
    return not isinstance(rows, int)


def _schema(rows: Input) -> pa.Schema:
    if isinstance(rows, pd.DataFrame):
        return pa.Schema.from_pandas(rows, preserve_index=False)
    return rows.schema if isinstance(rows, Files | pa.Table) else pa.schema(rows.schema)


def _asking() -> str:
    """The function of the packages under test that asks."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_code.co_filename in (__file__, DuckDB.query.__code__.co_filename):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{frame.f_code.co_name}"

"""Blocks into files: a file per table and block, drawn and written a few at a time.

Belongs here: files and threads. Does not belong here: any draw.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from ml.simulate.business.blocks import block
from ml.simulate.business.law import law_table
from ml.simulate.business.spec import BusinessSpec
from ml.tables import INPUTS

ROW_GROUP = 131_072  # rows are by stamp, so a reader of one day skips most row groups


def write_business(
    spec: BusinessSpec,
    folder: Path,
    *,
    format: Literal["parquet", "csv"] = "parquet",
    workers: int = 2,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> list[Path]:
    """Write `<table>/block-0000.<format>` per input table and block, and `truth/…` as Parquet.

    An earlier simulation in the folder is removed first. The same spec gives the same bytes, whatever
    `workers` is. Memory is that of `workers` blocks.

    Parameters
    ----------
    told : called with the blocks that are done, and how many there are

    Returns
    -------
    The files written.

    Raises
    ------
    FileExistsError
        If the folder holds tables that are not an earlier simulation's.
    """
    if format not in ("parquet", "csv"):
        raise ValueError(f"format is {format!r}; it must be parquet or csv")
    law = folder / "truth" / "law.parquet"
    _cleared(folder, law)
    law.parent.mkdir(parents=True)
    _write(law_table(spec), law)  # first, so that what is broken off can be told from somebody's own folder
    written = [law]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        # NumPy and Arrow let go of the interpreter's lock, so threads are enough.
        for done, files in enumerate(pool.map(lambda number: _block(spec, number, folder, format), range(spec.blocks))):
            written += files
            told(done + 1, spec.blocks)
    return written


def _cleared(folder: Path, law: Path) -> None:
    mine = [folder / name for name in (*INPUTS, "truth") if (folder / name).exists()]
    if mine and not law.exists():
        raise FileExistsError(f"{mine[0]} is there and not from a simulation: choose an empty folder")
    for path in mine:
        shutil.rmtree(path)


def _block(spec: BusinessSpec, number: int, folder: Path, format: str) -> list[Path]:
    simulated = block(spec, number)
    files = []
    for name, table in simulated.tables.items():
        files.append(_place(folder / name, number, format))
        (_write if format == "parquet" else _write_csv)(table, files[-1])
    for name, table in simulated.truth.items():
        files.append(_place(folder / "truth" / name, number, "parquet"))
        _write(table, files[-1])
    return files


def _place(folder: Path, number: int, suffix: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"block-{number:04d}.{suffix}"


def _write(table: pa.Table, path: Path) -> None:
    # Without Arrow's own schema, every reader finds plain strings where we have dictionaries.
    once = ["transaction_id", "campaign_id"]
    pq.write_table(
        table,
        path,
        compression="snappy",
        row_group_size=ROW_GROUP,
        store_schema=False,
        use_dictionary=[name for name in table.column_names if name not in once and name != "amount"],
    )


def _write_csv(table: pa.Table, path: Path) -> None:
    plain = [
        pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
        for field in table.schema
    ]
    csv.write_csv(table.cast(pa.schema(plain)), path)

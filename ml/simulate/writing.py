"""Simulations as files: what the business would bring as CSV or Parquet, the truth beside it as Parquet.

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
from ml.simulate.result import Simulated
from ml.simulate.rows import plain
from ml.simulate.spec import BusinessSpec
from ml.tables import INPUTS

ROW_GROUP = 131_072  # rows are by stamp, so a reader of one day skips most row groups


def write(simulated: Simulated, folder: Path) -> list[Path]:
    """Write `<table>.csv` per input table and `truth/<name>.parquet`; files of the same names are replaced.

    Parameters
    ----------
    simulated : Simulated
        A shop, or a small business.
    folder : Path
        Made if it is not there.

    Returns
    -------
    list of Path
        The files written. The same simulation gives the same bytes.

    Examples
    --------
    >>> import tempfile
    >>> from ml.simulate import ShopSpec, simulate, write
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sorted(file.name for file in write(simulate(ShopSpec(customers=5, days=30)), Path(folder)))[-2:]
    ['spells.parquet', 'transactions.csv']
    """
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    files = [folder / f"{name}.csv" for name in simulated.tables]
    for file, table in zip(files, simulated.tables.values(), strict=True):
        _write_csv(table, file)
    for name, table in simulated.truth.items():
        files.append(folder / "truth" / f"{name}.parquet")
        _write_parquet(table, files[-1])
    return files


def write_blocks(
    spec: BusinessSpec,
    folder: Path,
    *,
    format: Literal["parquet", "csv"] = "parquet",
    workers: int = 2,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> list[Path]:
    """Draw a business and write `<table>/block-0000.<format>` per input table and block, and `truth/…` as Parquet.

    An earlier simulation in the folder is removed first. Memory is that of `workers` blocks.

    Parameters
    ----------
    spec : BusinessSpec
        The whole business.
    folder : Path
        Made if it is not there.
    format : {"parquet", "csv"}
        Of the input tables.
    workers : int, default 2
        Blocks that are drawn at a time.
    report : callable, optional
        Called with the number of blocks that are done, and how many there are.

    Returns
    -------
    list of Path
        The files written. The same spec gives the same bytes, whatever `workers` is.

    Raises
    ------
    FileExistsError
        If the folder holds tables that are not an earlier simulation's.
    ValueError
        If `format` is neither.

    Examples
    --------
    >>> import tempfile
    >>> from ml.simulate import BusinessSpec, write_blocks
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = write_blocks(BusinessSpec(customers=5, days=28), Path(folder), format="csv")
    ...     str(files[1].relative_to(folder))
    'customers/block-0000.csv'
    """
    if format not in ("parquet", "csv"):
        raise ValueError(f"format is {format!r}; it must be parquet or csv")
    law = folder / "truth" / "law.parquet"
    _cleared(folder, law)
    law.parent.mkdir(parents=True)
    _write_parquet(law_table(spec), law)  # first: it marks even a simulation that was broken off as one
    written = [law]
    with ThreadPoolExecutor(max(1, workers)) as pool:
        # NumPy and Arrow let go of the interpreter's lock, so threads are enough.
        for done, files in enumerate(pool.map(lambda number: _block(spec, number, folder, format), range(spec.blocks))):
            written += files
            report(done + 1, spec.blocks)
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
        files.append(_block_file(folder / name, number, format))
        (_write_parquet if format == "parquet" else _write_csv)(table, files[-1])
    for name, table in simulated.truth.items():
        files.append(_block_file(folder / "truth" / name, number, "parquet"))
        _write_parquet(table, files[-1])
    return files


def _block_file(folder: Path, number: int, suffix: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"block-{number:04d}.{suffix}"


def _write_parquet(table: pa.Table, path: Path) -> None:
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
    csv.write_csv(plain(table), path)

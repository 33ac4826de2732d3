"""A simulated business as files: what the business would bring as CSV, the truth beside it as Parquet."""

from __future__ import annotations

from pathlib import Path

import pyarrow.csv as csv
import pyarrow.parquet as pq

from ml.simulate.retail import Simulated


def write(simulated: Simulated, folder: Path) -> list[Path]:
    """Write `<table>.csv` per input table and `truth/<name>.parquet`; files of the same names are replaced.

    Returns
    -------
    The files written. The same simulation gives the same bytes.
    """
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in simulated.tables.items():
        written.append(folder / f"{name}.csv")
        csv.write_csv(table, written[-1])
    for name, table in simulated.truth.items():
        written.append(folder / "truth" / f"{name}.parquet")
        pq.write_table(table, written[-1])
    return written

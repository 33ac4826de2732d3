"""What a lake holds, as one digest a column, to see that a change of the code changes no row of it.

`python -m tests.benchmarks.digests LAKE > file` writes the digests of a lake (`$MICROSEG_HOME/lake`), one line for
every column of every partition; `python -m tests.benchmarks.digests OLD NEW` compares two lakes, or two such files, and
ends with 1 if a partition or a column is on one side only or differs.

Belongs here: reading files. Does not belong here: whether a difference is right. Rows count in the order in which they
are stored, and a column by its type and its values. A file beside the rows, such as the page of the atlas, counts
whole. No table holds the id or the time of a run; the marker of a rerun that changed nothing is left out.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from microseg_assets.storage.lake import REMADE

WHOLE = "(whole file)"
Digests = dict[tuple[str, str], str]


def digests(lake: Path) -> Digests:
    """Partition file and column to digest."""
    return dict(_digests(lake))


def _digests(lake: Path) -> Iterator[tuple[tuple[str, str], str]]:
    for path in sorted(lake.rglob("*")):
        if not path.is_file() or path.name == REMADE:
            continue
        name = path.relative_to(lake).as_posix()
        if path.suffix != ".parquet":
            yield (name, WHOLE), hashlib.sha256(path.read_bytes()).hexdigest()
            continue
        rows = pq.ParquetFile(path).read()
        for column in rows.column_names:
            yield (name, column), digest(rows[column])


def digest(column: pa.ChunkedArray) -> str:
    """SHA-256 of a column's type and of the hashes of its values in their order; nested values by their JSON."""
    if pa.types.is_nested(column.type):
        values = pd.Series(
            [json.dumps(value, sort_keys=True, default=str) for value in column.to_pylist()], dtype=object
        )
    else:
        values = column.to_pandas(date_as_object=False)
    hashed = pd.util.hash_pandas_object(values, index=False).to_numpy()
    return hashlib.sha256(f"{column.type}\n".encode() + hashed.tobytes()).hexdigest()


def read(source: Path) -> Digests:
    """The digests of a lake, or those that were written to a file."""
    if source.is_dir():
        return digests(source)
    lines = (line.split("\t") for line in source.read_text(encoding="utf-8").splitlines())
    return {(name, column): value for name, column, value in lines}


def differences(old: Mapping[tuple[str, str], str], new: Mapping[tuple[str, str], str]) -> list[str]:
    """One line for each partition and each column that is on one side only, and for each column that differs."""
    partitions = {name for name, _ in old}, {name for name, _ in new}
    lines = []
    for only, there, side in ((old, partitions[1], "old"), (new, partitions[0], "new")):
        lines += [f"only in the {side}: {name}" for name in sorted({name for name, _ in only} - there)]
    for key in sorted(old.keys() | new.keys()):
        name, column = key
        if name in partitions[0] & partitions[1] and old.get(key) != new.get(key):
            side = "only in the new" if key not in old else "only in the old" if key not in new else "differs"
            lines.append(f"{side}: {name} {column}")
    return lines


def main(arguments: list[str]) -> int:
    if len(arguments) == 1:
        for (name, column), value in read(Path(arguments[0])).items():
            print(f"{name}\t{column}\t{value}")
        return 0
    if len(arguments) != 2:
        print(f"usage: {(__doc__ or '').splitlines()[2]}", file=sys.stderr)
        return 2
    old, new = (read(Path(source)) for source in arguments)
    lines = differences(old, new)
    print("\n".join(lines[:200] + ([f"… {len(lines) - 200} more"] if len(lines) > 200 else [])))
    print(f"{len(old)} and {len(new)} columns and files, {len(lines)} differences", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

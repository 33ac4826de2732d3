"""Rows as a file of some kind, in one of the many ways in which businesses write and damage them.

Belongs here: bytes, and what each way of writing them means for the file as a whole. Does not belong here: which rows
are in it.

What no reader can notice is not tried: a plain CSV file that breaks off inside of its last cell, and bytes changed
inside of a Parquet page, which carries no check sum unless its writer was asked for one.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from ml.tables import Table

TAG = re.compile(r"T\d{5}")
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
_STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
_JSON = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity", "true": "true", "false": "false"}


@dataclass(frozen=True)
class Shape:
    format: str
    is_packed: bool = False

    @property
    def name(self) -> str:
        return f"delivered.{self.format}{'.gz' if self.is_packed else ''}"


@dataclass(frozen=True)
class SourceLine:
    """A row's cells as texts, how its line is damaged, and the tag that is found in what is left of it."""

    cells: dict[str, str | None]
    tag: str
    damage: str = ""
    is_cut: bool = False


@dataclass
class Delivery:
    """A file.

    Parameters
    ----------
    lines : as they came out, in the order in which they were given
    mapping : contract column to what it is called in the file
    dropped : columns of the contract that it does not hold
    refused : see `mutator.Expectation`
    """

    name: str
    content: bytes = b""
    kinds: list[str] = field(default_factory=list)
    lines: list[SourceLine] = field(default_factory=list)
    mapping: dict[str, str | bool | int | float] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    refused: tuple[str, ...] = ()
    is_without_rows: bool = False


def shape(random: Random) -> Shape:
    return random.choice(
        [*[Shape("csv")] * 10, *[Shape("csv", True)] * 2, *[Shape("jsonl")] * 3, Shape("jsonl", True),
         *[Shape("parquet")] * 4]
    )  # fmt: skip


# ---------------------------------------------------------------- damaged lines

Damage: TypeAlias = Callable[[bytes, bytes, bytes], bytes]  # of a line, its tag and the delimiter

CSV_DAMAGES: dict[str, Damage] = {
    "too few cells": lambda line, tag, delimiter: line.rpartition(delimiter)[0],
    "too many cells": lambda line, tag, delimiter: line + delimiter + b"more",
    "Latin-1 in UTF-8": lambda line, tag, delimiter: line.replace(tag, b"caf\xe9 " + tag),
    "text after a quote": lambda line, tag, delimiter: line.replace(tag, b'"a"' + tag, 1),
    "a carriage return": lambda line, tag, delimiter: line.replace(tag, b"a\r" + tag, 1),
    "zeros": lambda line, tag, delimiter: b"\0" * 60,
    "blanks": lambda line, tag, delimiter: b"   ",
    "another file's line": lambda line, tag, delimiter: b"<html>" + tag + b"</html>",
}
JSON_DAMAGES: dict[str, Damage] = {
    "broken off": lambda line, tag, delimiter: line[: len(line) // 2],
    "Latin-1 in UTF-8": lambda line, tag, delimiter: line.replace(tag, b"caf\xe9 " + tag),
    "a comma behind": lambda line, tag, delimiter: line + b",",
    "twice in a line": lambda line, tag, delimiter: line + line,
    "no object": lambda line, tag, delimiter: b'["' + tag + b'"]',
    "a bare NUL": lambda line, tag, delimiter: line.replace(tag, b"\0" + tag),
    "half a letter": lambda line, tag, delimiter: line.replace(tag, b"\\ud800" + tag),
    "single quotes": lambda line, tag, delimiter: line.replace(b'"', b"'"),
}
DAMAGES = {"csv": CSV_DAMAGES, "jsonl": JSON_DAMAGES}


# ---------------------------------------------------------------- files


def deliver(random: Random, shape: Shape, table: Table, columns: list[str], lines: Sequence[SourceLine]) -> Delivery:
    """Write the rows, whole or damaged."""
    out = Delivery(shape.name)
    fatal = random.random() < 0.2
    columns = _other_columns(random, table, columns, lines, out, fatal)
    names = {name: str(out.mapping.get(name, name)) for name in columns}
    if shape.format == "parquet":
        out.lines = list(lines)
        out.content = _parquet(random, table, names, lines, out)
        if fatal and not out.refused:
            _break_parquet(random, out)
        return out
    is_packed_badly = shape.is_packed and fatal and not out.refused and random.random() < 0.6
    write = _csv if shape.format == "csv" else _json_lines
    write(random, table, names, lines, out, fatal and not out.refused and not is_packed_badly)
    if shape.is_packed:
        out.content = gzip.compress(out.content, mtime=0)
    if is_packed_badly:
        _break_packed(random, out)
    return out


def _other_columns(
    random: Random, table: Table, columns: list[str], lines: Sequence[SourceLine], out: Delivery, fatal: bool
) -> list[str]:
    tags = {name for line in lines if line.tag for name, text in line.cells.items() if text == line.tag}
    required = [name for name in columns if table[name].required]
    if fatal and random.random() < 0.4:
        lost = random.choice(required)
        if random.random() < 0.5:
            out.mapping[lost] = f"was_{lost}"  # in the file only: the project file does not know
            out.kinds.append(f"required column renamed: {lost}")
        else:
            columns = [name for name in columns if name != lost]
            out.kinds.append(f"required column missing: {lost}")
        out.refused = (lost,)
        return columns
    optional = [name for name in columns if not table[name].required and name not in tags and name != table.stamp]
    if optional and random.random() < 0.2:
        out.dropped = random.sample(optional, random.randrange(1, min(3, len(optional)) + 1))
        columns = [name for name in columns if name not in out.dropped]
        out.kinds.append("optional column missing")
    if random.random() < 0.3:
        columns = random.sample(columns, len(columns))
        out.kinds.append("columns reordered")
    if random.random() < 0.2:
        out.mapping |= {name: f"Their {name} (renamed)" for name in random.sample(columns, 2)}
        out.kinds.append("columns renamed and mapped")
    if random.random() < 0.2:
        columns = [*columns, "new column", "=1+1"]
        out.kinds.append("columns added")
    return columns


def _csv(
    random: Random, table: Table, names: dict[str, str], lines: Sequence[SourceLine], out: Delivery, fatal: bool
) -> None:
    delimiter = random.choice([",", ",", ",", ";", "\t", "|"])
    quoting = random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    end = {"LF": b"\n", "CRLF": b"\r\n", "mixed line ends": b""}
    ends = random.choice(["LF", "LF", "CRLF", "mixed line ends"])
    out.kinds += ([ends] if ends != "LF" else []) + (["another delimiter"] if delimiter != "," else [])
    header = list(names.values())
    if random.random() < 0.1:
        header = [name.upper() if name not in out.mapping.values() else name for name in header]
        out.kinds.append("columns in capitals")

    def line_of(values: Sequence[str | None], quoting: Any = quoting) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator="\r\n").writerow(
            ["" if v is None else v for v in values]
        )
        return text.getvalue().removesuffix("\r\n").encode()

    parts = [line_of(header)]
    for line in lines:
        plain = line_of([line.cells.get(name, "x") for name in names], csv.QUOTE_MINIMAL if line.damage else quoting)
        parts.append(_damaged(line, plain, CSV_DAMAGES, delimiter.encode(), out))
    if fatal:
        kind = random.choice(["empty file", "header only", "no header", "a column twice", "UTF-16"])
        distinct = {(text or "").lower() for text in lines[0].cells.values()}
        if kind == "no header" and (lines[0].damage or len(distinct) < len(lines[0].cells)):
            kind = "empty file"
        out.kinds.append(kind)
        out.is_without_rows = kind == "header only"
        if kind == "a column twice":
            parts[0] = line_of([*header[:-1], header[0]])
        elif kind == "no header":
            parts = parts[1:]
        elif kind in ("empty file", "header only"):
            parts = parts[: kind == "header only"]
        out.refused = {
            "header only": (), "no header": tuple(n for n in table.names if table[n].required),
        }.get(kind, (out.name,))  # fmt: skip
    _join(random, parts, end[ends], out, cut_before=delimiter.encode())
    if random.random() < 0.1 and "UTF-16" not in out.kinds and parts:
        out.content = b"\xef\xbb\xbf" + out.content
        out.kinds.append("byte order mark")
    if "UTF-16" in out.kinds:
        out.content = out.content.decode("utf-8", "replace").encode(random.choice(["utf-16-le", "utf-16-be"]))


def _json_lines(
    random: Random, table: Table, names: dict[str, str], lines: Sequence[SourceLine], out: Delivery, fatal: bool
) -> None:
    ends = random.choice(["LF", "LF", "CRLF", "mixed line ends"])
    out.kinds += [ends] if ends != "LF" else []
    ascii_only, is_native = random.random() < 0.5, random.random() < 0.5

    def written(name: str, text: str | None) -> str:
        if text is None:
            return "null"
        if is_native and name in table.names and table[name].type in ("double", "boolean"):
            if text in _JSON:
                return _JSON[text]
            if _NUMBER.fullmatch(text) and len(text) < 300:
                return text
        return json.dumps(text, ensure_ascii=ascii_only)

    parts = [b""]
    for line in lines:
        cells = {name: line.cells.get(name, "x") for name in names}
        fields = (
            f"{json.dumps(names[name])}: {written(name, text)}"
            for name, text in cells.items()
            if text is not None or line.damage or random.random() < 0.5
        )
        parts.append(_damaged(line, f"{{{', '.join(fields)}}}".encode(), JSON_DAMAGES, b"", out))
    if fatal:
        kind = random.choice(["empty file", "one array", "no JSON", "UTF-16"])
        out.kinds.append(kind)
        out.refused = (out.name,)
        if kind == "empty file":
            parts = [b""]
        elif kind == "one array":
            parts = [b"", b"[" + b", ".join(parts[1:]) + b"]"]
        elif kind == "no JSON":
            parts = [b"", b"customer_id,amount", b"1,2"]
    _join(random, parts[1:], {"LF": b"\n", "CRLF": b"\r\n"}.get(ends, b""), out, cut_before=b"}")
    if "UTF-16" in out.kinds:
        out.content = out.content.decode("utf-8", "replace").encode(random.choice(["utf-16-be", "utf-16-le"]))
    elif random.random() < 0.1 and not fatal:
        out.content = b"\xef\xbb\xbf" + out.content
        out.kinds.append("byte order mark")


def _damaged(
    line: SourceLine,
    plain: bytes,
    damages: dict[str, Damage],
    delimiter: bytes,
    out: Delivery,
) -> bytes:
    if not line.damage:
        out.lines.append(line)
        return plain
    content = damages[line.damage](plain, line.tag.encode(), delimiter)
    out.lines.append(replace(line, tag=_tag(content)))
    return content


def _tag(content: bytes) -> str:
    match = TAG.search(content.decode("utf-8", "replace"))
    return match[0] if match else ""


def _join(random: Random, parts: list[bytes], end: bytes, out: Delivery, cut_before: bytes) -> None:
    """One file of these lines; at times it breaks off in the last one."""
    ends = [end or (b"\r\n" if i % 3 else b"\n") for i in range(len(parts))]
    if parts and random.random() < 0.1:
        ends = [one * random.choice([1, 1, 3]) for one in ends]
        out.kinds.append("empty lines between")
    last = parts[-1].rfind(cut_before) if parts and not out.refused else -1
    if out.lines and not out.is_without_rows and not out.lines[-1].damage and last > 2 and random.random() < 0.15:
        parts[-1] = parts[-1][: random.randrange(1, last)].rstrip(b"\t ") or b'"'
        ends[-1] = b""
        out.lines[-1] = replace(out.lines[-1], is_cut=True, tag=_tag(parts[-1]))
        out.kinds.append("cut in the last row")
    elif parts and random.random() < 0.3:
        ends[-1] = b""
        out.kinds.append("no line end at the end")
    out.content = b"".join(part + one for part, one in zip(parts, ends, strict=True))


def _break_packed(random: Random, out: Delivery) -> None:
    if random.random() < 0.5:
        out.content = out.content[: random.randrange(1, len(out.content) - 1)]
        out.kinds.append("cut gzip")
    else:
        position = random.randrange(20, len(out.content) - 10)
        flipped = out.content[position] ^ (1 << random.randrange(8))
        out.content = out.content[:position] + bytes([flipped]) + out.content[position + 1 :]
        out.kinds.append("a changed bit in gzip")
    out.refused = (out.name,)


def _break_parquet(random: Random, out: Delivery) -> None:
    kind = random.choice(["cut Parquet", "empty file", "CSV under the name of Parquet", "no rows"])
    if kind == "cut Parquet":
        out.content = out.content[: random.randrange(1, len(out.content) - 1)]
    elif kind == "empty file":
        out.content = b""
    elif kind == "no rows":
        table = pq.read_table(io.BytesIO(out.content)).slice(0, 0)
        buffer = io.BytesIO()
        pq.write_table(table, buffer)
        out.content, out.is_without_rows = buffer.getvalue(), True
    else:
        out.content = b"customer_id,occurred_at,amount\n1,2024-01-01,2\n"
    out.kinds.append(kind)
    out.refused = () if kind == "no rows" else (out.name,)


def _parquet(random: Random, table: Table, names: dict[str, str], lines: Sequence[SourceLine], out: Delivery) -> bytes:
    """Columns are of their own type where all their cells allow it; else, or at times, they are texts."""
    arrays = []
    for name in names:
        texts = [line.cells.get(name, "x") for line in lines]
        type_ = table[name].type if name in table.names and random.random() < 0.7 else "string"
        try:
            arrays.append(_typed(random, type_, texts))
        except ValueError:
            arrays.append(pa.array(texts, random.choice([pa.string(), pa.large_string()])))
    out.kinds.append("typed" if any(not pa.types.is_string(a.type) for a in arrays) else "texts")
    buffer = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(arrays, list(names.values())),
        buffer,
        compression=random.choice(["snappy", "zstd", "none"]),
    )
    return buffer.getvalue()


def _typed(random: Random, type_: str, texts: Sequence[str | None]) -> pa.Array:
    cells = [text.strip() or None if text is not None else None for text in texts]
    if type_ == "double":
        return pa.array([None if text is None else float(text) for text in cells], pa.float64())
    if type_ == "boolean" and set(cells) <= {"true", "false", None}:
        return pa.array([None if text is None else text == "true" for text in cells], pa.bool_())
    if type_ == "timestamp" and all(text is None or _STAMP.fullmatch(text) for text in cells):
        stamps = [None if text is None else datetime.fromisoformat(text) for text in cells]
        years = [stamp.year for stamp in stamps if stamp is not None]
        units = ["us", "ms", "s", *(["ns"] * 3 if years and min(years) >= 1678 and max(years) < 2262 else [])]
        return pa.array(stamps, pa.timestamp(random.choice(units)))
    raise ValueError(type_)

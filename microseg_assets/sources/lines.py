"""Lines of text files: what a reader that expects them whole and all alike must be spared.

Belongs here: damage that the reader would not notice, and files whose lines end in different ways, which it cannot
read: of these a copy is made, for as long as the connection lives, whose lines end alike. Does not belong here: what a
line holds.
"""

from __future__ import annotations

import gzip
import mmap
import os
import re
import shutil
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO

import duckdb

from microseg_assets.sources.locate import first_line, is_url, partition
from microseg_assets.sources.spec import SourceError

DAMAGED = (OSError, EOFError, zlib.error)  # what unpacking raises
_BLOCK = 1 << 20
_NO_TEXT = b"\xff"  # no UTF-8 holds it
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def prepare(connection: duckdb.DuckDBPyConnection, folder: str) -> None:
    """Let copies be made for a connection, in a folder that goes when it does."""
    connection.execute("CREATE TEMP TABLE __rewritten (copy VARCHAR, original VARCHAR)")
    connection.execute("SET VARIABLE __folder = ?", [folder])


def rewritten(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Copy to the file that it stands for."""
    return dict(connection.execute("SELECT copy, original FROM __rewritten").fetchall())


def check_encoding(name: str, head: bytes) -> None:
    """Refuse a text file whose first bytes are not those of UTF-8.

    Raises
    ------
    SourceError
        If so; it says what to do.
    """
    if head.startswith(_UTF16) or b"\0" in head.partition(b"\n")[0]:
        raise SourceError(
            f"{name} is not UTF-8 text, but looks like UTF-16: save it as UTF-8 (CSV UTF-8 in Excel), or set the key "
            "encoding to utf-16-le or utf-16-be"
        )


def readable(connection: duckdb.DuckDBPyConnection, name: str, delimiter: str, original: str = "") -> str:
    """The file, or a copy of it whose lines end alike; of what stands in quotes nothing is changed.

    Parameters
    ----------
    original : the file that this one is a copy of already

    Raises
    ------
    SourceError
        If it is compressed and damaged.
    """
    if is_url(name):  # would have to be fetched whole, twice
        return name
    state = os.stat(name)
    try:
        if not _differ(name, state.st_size, state.st_mtime_ns):
            return name
        return _copy(connection, name, delimiter, original or name)
    except DAMAGED as error:
        raise SourceError(f"{original or name} is damaged ({first_line(error)}): deliver it again") from None


def check_whole(names: Sequence[str]) -> None:
    """Refuse a compressed file that breaks off or was changed on its way: its check sum tells, its text may not.

    Raises
    ------
    SourceError
        If so; it names the file.
    """
    for name in names:
        if name.lower().endswith(".gz") and not is_url(name):
            state = os.stat(name)
            try:
                _differ(name, state.st_size, state.st_mtime_ns)
            except DAMAGED as error:
                raise SourceError(f"{name} is damaged ({first_line(error)}): deliver it again") from None


@lru_cache(maxsize=4096)
def _differ(name: str, size: int, modified: int) -> bool:
    """Whether line endings are mixed, including those within quotes; remembered until the file changes."""
    if name.lower().endswith(".zst"):
        return False
    returns, both, feeds, last = 0, 0, 0, b""
    with _unpacked(name) as file:
        while block := file.read(_BLOCK):
            count = block.count(b"\r")
            if count or last == b"\r":
                returns += count
                both += (last + block).count(b"\r\n")
            feeds += block.count(b"\n")
            last = block[-1:] if block[-1:] == b"\r" else b""
    return bool(returns and feeds and not returns == both == feeds)


def _unpacked(name: str) -> IO[bytes]:
    return gzip.open(name, "rb") if name.lower().endswith(".gz") else open(name, "rb")  # type: ignore[return-value]


def _copy(connection: duckdb.DuckDBPyConnection, name: str, delimiter: str, original: str) -> str:
    (folder, number), = connection.execute(
        "SELECT getvariable('__folder'), (SELECT count(*) FROM __rewritten)"
    ).fetchall()  # fmt: skip
    target = Path(folder, str(number), *partition(name), "file.csv")  # folders that carry values still do
    target.parent.mkdir(parents=True)
    plain = name
    if name.lower().endswith(".gz"):
        plain = str(target.with_suffix(".unpacked"))
        with _unpacked(name) as packed, open(plain, "wb") as file:
            shutil.copyfileobj(packed, file, _BLOCK)
    # A quote opens a cell only at its beginning; elsewhere it is a character like any other.
    token = re.compile(rb'(?<![^\r\n%b])"[^"]*+(?:""[^"]*+)*+(?:"|\Z)|\r+\n|\r' % re.escape(delimiter.encode()))
    with (
        open(plain, "rb") as source,
        mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as content,
        open(target, "wb") as file,
    ):
        start, first = 0, re.search(rb"\r+\n|[\r\n]", content)
        ends_lines = bool(first and first[0] == b"\r")
        for match in token.finditer(content):
            if (sign := match[0])[:1] == b"\r":
                # A return within a line makes the row invalid, so that half of it cannot pass for the whole.
                end = b"\n" if ends_lines or sign[-1:] == b"\n" else _NO_TEXT
                file.write(content[start : match.start()] + end)
                start = match.end()
        file.write(content[start:])
    connection.execute("INSERT INTO __rewritten VALUES (?, ?)", [str(target), original])
    return str(target)

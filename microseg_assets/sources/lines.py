"""Lines of text files: damage and mixed line endings that DuckDB's reader cannot handle.

Belongs here: damage that the reader would not notice, and files with mixed line endings, which it cannot read: these
are copied with uniform ones, for as long as the connection lives. Does not belong here: the content of a line.
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
_NO_TEXT = b"\xff"  # invalid in UTF-8
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def prepare(connection: duckdb.DuckDBPyConnection, folder: str) -> None:
    """Prepare a connection for copies of files, in a folder that is deleted with it."""
    connection.execute("CREATE TEMP TABLE __rewritten (copy VARCHAR, original VARCHAR)")
    connection.execute("SET VARIABLE __folder = ?", [folder])


def rewritten(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Copy to its original file."""
    return dict(connection.execute("SELECT copy, original FROM __rewritten").fetchall())


def check_encoding(name: str, head: bytes) -> None:
    """Refuse a text file whose first bytes are not UTF-8.

    Raises
    ------
    SourceError
        If so; the message says what to do.
    """
    if head.startswith(_UTF16) or b"\0" in head.partition(b"\n")[0]:
        raise SourceError(
            f"{name} is not UTF-8 text, but looks like UTF-16: save it as UTF-8 (CSV UTF-8 in Excel), or set the key "
            "encoding to utf-16-le or utf-16-be"
        )


def readable(connection: duckdb.DuckDBPyConnection, name: str, delimiter: str, original: str = "") -> str:
    """The file, or a copy of it with uniform line endings; nothing within quotes is changed.

    Parameters
    ----------
    original : the file of which this one already is a copy

    Raises
    ------
    SourceError
        If it is compressed and damaged.
    """
    if is_url(name):  # would have to be downloaded twice
        return name
    state = os.stat(name)
    try:
        if not _differ(name, state.st_size, state.st_mtime_ns):
            return name
        return _copy(connection, name, delimiter, original or name)
    except DAMAGED as error:
        raise SourceError(f"{original or name} is damaged ({first_line(error)}): deliver it again") from None


def check_whole(names: Sequence[str]) -> None:
    """Refuse a compressed file that is truncated or corrupted, by its checksum: its text may not show it.

    Raises
    ------
    SourceError
        If so; the message names the file.
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

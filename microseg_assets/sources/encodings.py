"""Text files in other encodings than UTF-8, as UTF-8.

Belongs here: which encodings there are, a copy of a file in UTF-8 for as long as a connection lives, and guessing the
encoding of a file that nobody has described. Does not belong here: lines and columns (see `lines` and `read`).

A file is read as the key `encoding` says; without it, as UTF-8, or as UTF-16 where its first bytes say so. Bytes that
an encoding has no sign for make their line no row, as they do in UTF-8: nothing is read as something else.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import duckdb

from microseg_assets.sources.locate import is_url, partition

AUTO = "auto"
KNOWN = "utf-8, latin-1, cp1252, cp1250, mac_roman or utf-16"  # what a message names
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_UTF8 = "utf-8"
_BLOCK = 1 << 20
_GUESSED_FROM = 1 << 26  # bytes of a file at most
_NO_SIGN = "microseg_no_sign"
_WORD = re.compile(r"\w*[^\W\d_a-zA-Z]\w*")  # with a letter that is not one of ASCII
_WORDS = 3


def _no_sign(error: UnicodeError) -> tuple[str, int]:
    """Stands for what cannot be decoded: a byte that no UTF-8 holds, once it is written."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error(_NO_SIGN, _no_sign)


def checked(name: str) -> str:
    """The encoding that a name stands for, as Python calls it; `AUTO` stays what it is.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name.strip().lower() in ("", AUTO):
        return AUTO
    try:
        found = codecs.lookup(name.strip())
        "".encode(found.name)  # refuses those that encode bytes, such as base64
    except (LookupError, ValueError):
        raise ValueError(f"{name!r} is not an encoding: write {KNOWN}") from None
    return _UTF8 if found.name == "utf-8-sig" else found.name


def encoding_of(declared: str, head: bytes) -> str:
    """What a file is read as, from its first bytes where nothing is declared."""
    if declared != AUTO:
        return declared
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), _UTF8)


def decoded(connection: duckdb.DuckDBPyConnection, name: str, encoding: str) -> str:
    """The file, or a copy of it in UTF-8 if it is in another encoding.

    Raises
    ------
    OSError, EOFError, zlib.error
        If it is compressed and damaged.
    """
    import fsspec

    if encoding == _UTF8:
        return name
    (folder, number), = connection.execute(
        "SELECT getvariable('__folder'), (SELECT count(*) FROM __rewritten)"
    ).fetchall()  # fmt: skip
    target = Path(folder, f"decoded_{number}", *partition(name), "file.csv")
    target.parent.mkdir(parents=True)
    decoder = codecs.getincrementaldecoder(encoding)(errors=_NO_SIGN)
    is_first = True
    with fsspec.open(name, "rb", compression="infer") as source, open(target, "wb") as file:
        while block := source.read(_BLOCK):
            text = decoder.decode(block)
            file.write((text.removeprefix("\ufeff") if is_first else text).encode("utf-8", "surrogateescape"))
            is_first = is_first and not text
        file.write(decoder.decode(b"", final=True).encode("utf-8", "surrogateescape"))
    connection.execute("INSERT INTO __rewritten VALUES (?, ?)", [str(target), name])
    return str(target)


@dataclass(frozen=True)
class Guessed:
    """The encoding that a file seems to be in.

    Parameters
    ----------
    encoding : to be declared; `AUTO` where nothing need be
    words : some that it decides on, as they are read in it
    doubt : why it may be another one
    """

    encoding: str = AUTO
    words: tuple[str, ...] = ()
    doubt: str = ""


def guessed(files: Sequence[str]) -> Guessed:
    """The encoding of text files that belong together; of those that disagree, the commonest, with a doubt.

    Plain ASCII is in any encoding, and says nothing.
    """
    each = {name: found for name in files if (found := _guessed(name)) is not None}
    if not each:
        return Guessed()
    votes = [found.encoding for found in each.values()]
    winner = max(dict.fromkeys(votes), key=votes.count)
    others = [name for name, found in each.items() if found.encoding != winner]
    words = tuple(dict.fromkeys(word for f in each.values() if f.encoding == winner for word in f.words))[:_WORDS]
    doubt = next((found.doubt for found in each.values() if found.encoding == winner), "")
    if others:
        doubt = f"{len(others)} of {len(files)} files seem to be in another encoding, such as {Path(others[0]).name}"
    return Guessed(winner, words, doubt)


@lru_cache(maxsize=4096)
def _guessed(name: str) -> Guessed | None:
    """What one file says; None if it is plain ASCII, or cannot be read, which is told elsewhere."""
    import fsspec

    most = _BLOCK if is_url(name) else _GUESSED_FROM
    try:
        with fsspec.open(name, "rb", compression="infer") as file:
            content = file.read(most)
    except Exception:  # whatever a file system or an unpacker raises
        return None
    if any(content.startswith(mark) for mark in _MARKS):
        return Guessed()
    head = content[: 1 << 12]
    if b"\0" in head:
        wide = "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be"
        return Guessed(wide, tuple(_words(content.decode(wide, "replace"))))
    if content.isascii():
        return None
    broken, valid = _bytes_beyond_ascii(content)
    if broken <= valid / 20:  # a few damaged lines of UTF-8
        return Guessed()
    undefined = sum(content.count(bytes([byte])) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D))
    encoding, doubt = "cp1252", ""
    if undefined:
        doubt = "some signs have no meaning in it: see whether the words are right, or try mac_roman, cp437 or cp1250"
    return Guessed(encoding, tuple(_words(content.decode(encoding, "replace"))), doubt)


def _bytes_beyond_ascii(content: bytes) -> tuple[int, int]:
    """How many places are no UTF-8, and how many signs beyond ASCII are."""
    text = content.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return broken, len(re.findall(r"[^\x00-\x7f]", text)) - broken


def _words(text: str) -> list[str]:
    found: dict[str, None] = {}
    for match in _WORD.finditer(text):
        found.setdefault(match[0][:20])
        if len(found) == _WORDS:
            break
    return list(found)

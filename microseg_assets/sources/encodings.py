"""Text files in other encodings than UTF-8, as UTF-8.

Belongs here: the supported encodings, a copy of a file in UTF-8 for as long as a connection lives, and guessing an
undeclared encoding. Does not belong here: lines and columns (see `lines` and `read`).

A file is read in the encoding of the key `encoding`; without it, in UTF-8, or in UTF-16 if it begins with a byte-order
mark. Bytes that are invalid in an encoding make their line invalid, as in UTF-8: nothing is misread.
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
KNOWN = "utf-8, latin-1, cp1252, cp1250, mac_roman or utf-16"  # as messages list them
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_UTF8 = "utf-8"
_BLOCK = 1 << 20
_GUESS_BYTES = 1 << 26  # of a file, at most
_NO_SIGN = "microseg_no_sign"
_WORD = re.compile(r"\w*[^\W\d_a-zA-Z]\w*")  # with a letter beyond ASCII
_MAX_WORDS = 3


def _no_sign(error: UnicodeError) -> tuple[str, int]:
    """Replace what cannot be decoded by a byte that is invalid in UTF-8 once it is written."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error(_NO_SIGN, _no_sign)


def normalized(name: str) -> str:
    """Python's name of an encoding; `AUTO` stays as it is.

    Raises
    ------
    ValueError
        If there is none.
    """
    if name.strip().lower() in ("", AUTO):
        return AUTO
    try:
        codec = codecs.lookup(name.strip())
        "".encode(codec.name)  # refuses those that encode bytes, such as base64
    except (LookupError, ValueError):
        raise ValueError(f"{name!r} is not an encoding: write {KNOWN}") from None
    return _UTF8 if codec.name == "utf-8-sig" else codec.name


def encoding_of(declared: str, head: bytes) -> str:
    """The encoding to read a file in: the declared one, or that of its first bytes."""
    if declared != AUTO:
        return declared
    return next((name for mark, name in _MARKS.items() if head.startswith(mark)), _UTF8)


def to_utf8(connection: duckdb.DuckDBPyConnection, name: str, encoding: str) -> str:
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
class EncodingGuess:
    """The encoding in which a file seems to be.

    Parameters
    ----------
    encoding : to be declared; `AUTO` if none need be
    words : some that it affects, as they are read in it
    doubt : why it may be another one
    """

    encoding: str = AUTO
    words: tuple[str, ...] = ()
    doubt: str = ""


def guess_encoding(files: Sequence[str]) -> EncodingGuess:
    """Guess the encoding of text files that belong together; if they disagree, the commonest, with a doubt.

    Plain ASCII is valid in any encoding, and gives no evidence.
    """
    each = {name: guess for name in files if (guess := _guess(name)) is not None}
    if not each:
        return EncodingGuess()
    votes = [guess.encoding for guess in each.values()]
    winner = max(dict.fromkeys(votes), key=votes.count)
    others = [name for name, guess in each.items() if guess.encoding != winner]
    winners = [guess for guess in each.values() if guess.encoding == winner]
    words = tuple(dict.fromkeys(word for guess in winners for word in guess.words))[:_MAX_WORDS]
    doubt = winners[0].doubt
    if others:
        doubt = f"{len(others)} of {len(files)} files seem to be in another encoding, such as {Path(others[0]).name}"
    return EncodingGuess(winner, words, doubt)


@lru_cache(maxsize=4096)
def _guess(name: str) -> EncodingGuess | None:
    """The guess for one file; None if it is plain ASCII, or cannot be read, which is reported elsewhere."""
    import fsspec

    size = _BLOCK if is_url(name) else _GUESS_BYTES
    try:
        with fsspec.open(name, "rb", compression="infer") as file:
            content = file.read(size)
    except Exception:  # whatever a file system or an unpacker raises
        return None
    if any(content.startswith(mark) for mark in _MARKS):
        return EncodingGuess()
    head = content[: 1 << 12]
    if b"\0" in head:
        wide = "utf-16-le" if head[1::2].count(0) >= head[::2].count(0) else "utf-16-be"
        return EncodingGuess(wide, tuple(_words(content.decode(wide, "replace"))))
    if content.isascii():
        return None
    broken, valid = _bytes_beyond_ascii(content)
    if broken <= valid / 20:  # a few damaged lines of UTF-8
        return EncodingGuess()
    undefined = sum(content.count(bytes([byte])) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D))
    encoding, doubt = "cp1252", ""
    if undefined:
        doubt = "some bytes are invalid in it: check whether the words are right, or try mac_roman, cp437 or cp1250"
    return EncodingGuess(encoding, tuple(_words(content.decode(encoding, "replace"))), doubt)


def _bytes_beyond_ascii(content: bytes) -> tuple[int, int]:
    """How many places are invalid UTF-8, and how many characters beyond ASCII are valid."""
    text = content.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return broken, len(re.findall(r"[^\x00-\x7f]", text)) - broken


def _words(text: str) -> list[str]:
    words: dict[str, None] = {}
    for match in _WORD.finditer(text):
        words.setdefault(match[0][:20])
        if len(words) == _MAX_WORDS:
            break
    return list(words)

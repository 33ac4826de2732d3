"""Finding the files behind a location.

Belongs here: names of files, local, in an installed package, or behind a URL. Does not belong here: what they hold.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path

from microseg_assets.sources.spec import Format, SourceError

_SUFFIXES: dict[str, Format] = {
    "csv": "csv", "tsv": "csv", "txt": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "json": "jsonl",
    "parquet": "parquet", "pq": "parquet",
}  # fmt: skip
_COMPRESSED = (".gz", ".zst")
_URL = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PATTERN = re.compile(r"[*?\[]")


def locate(location: str, base: Path) -> list[str]:
    """The files of a location, sorted; a folder stands for all data files below it.

    Raises
    ------
    SourceError
        If there is none, or the package it names is not installed.
    """
    if location.startswith("package://"):
        name, _, inner = location.removeprefix("package://").partition("/")
        package = importlib.util.find_spec(name) if name.isidentifier() else None
        folders = list(package.submodule_search_locations or ()) if package else []
        if not folders:
            raise SourceError(f"{location} needs the package {name}, which is not installed: install it")
        return _local(Path(folders[0]) / inner, location)
    location = location.removeprefix("file://")
    if is_url(location):
        return _remote(location)
    return _local(base / Path(location).expanduser(), location)


def is_url(name: str) -> bool:
    """Whether a file is read through fsspec."""
    return bool(_URL.match(name))


def format_of(name: str) -> Format | None:
    """The format that a file's suffix stands for, if any."""
    name = name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return _SUFFIXES.get(name.rpartition(".")[2])


def copies(files: Sequence[str]) -> list[str]:
    """Local files with the same bytes as an earlier one in the list: a delivery that was delivered again.

    Folders such as ``day=2024-01-01`` carry values, so the same bytes in two of them are two deliveries.
    """
    sizes: dict[int, list[str]] = {}
    for name in files:
        if not is_url(name) and (size := Path(name).stat().st_size):
            sizes.setdefault(size, []).append(name)
    repeated: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for name in sorted(name for same in sizes.values() if len(same) > 1 for name in same):
        with open(name, "rb") as file:
            digest = (hashlib.file_digest(file, "sha256").hexdigest(), *partition(name))
        if digest in seen:
            repeated.append(name)
        seen.add(digest)
    return repeated


def partition(name: str) -> tuple[str, ...]:
    """The folders of a path that carry values: ``day=2024-01-01``."""
    return tuple(part for part in name.split("/")[:-1] if "=" in part.strip("="))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, in printable characters."""
    lines = ["".join(c for c in line if c.isprintable()).strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)


def _local(path: Path, location: str) -> list[str]:
    if path.is_file():
        return [str(path)]
    if path.is_dir():
        below = ((p, p.relative_to(path).parts) for p in path.rglob("*"))
        files = [p for p, parts in below if format_of(p.name) and not _is_hidden(parts) and p.is_file()]
        if not files:
            raise SourceError(f"the folder {location} ({path}) holds no CSV, JSON lines or Parquet file")
    else:
        pattern = _PATTERN.search(location)
        path = path.absolute()
        matches = Path(path.anchor).glob(str(path.relative_to(path.anchor))) if pattern else ()
        varying = next((i for i, part in enumerate(path.parts) if _PATTERN.search(part)), 0)
        wants_hidden = _is_hidden(path.parts[varying:])  # as `_sales/*.csv` and `.*/x.csv` do
        files = [p for p in matches if p.is_file() and (wants_hidden or not _is_hidden(p.parts[varying:]))]
        if not files:
            what = "no file matches" if pattern else "there is no file"
            raise SourceError(f"{what} {location} (looked for {path}): put it there or correct the location")
    return sorted(map(str, files))


def _is_hidden(parts: Sequence[str]) -> bool:
    """Whether a path leads through a hidden or auxiliary file or folder: ``.git``, ``_SUCCESS``."""
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in parts)


def _remote(location: str) -> list[str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(location)
        if system.isdir(path):
            files = [p for p in system.find(path) if format_of(p) and not _is_hidden(_below(p, path))]
        else:
            files = system.glob(path) if _PATTERN.search(path) else [path] if system.exists(path) else []
    except Exception as error:  # each file system raises its own errors
        raise SourceError(f"{location} cannot be reached: {first_line(error)}") from None
    if not files:
        raise SourceError(f"there is no file {location}: put it there or correct the location")
    return sorted(system.unstrip_protocol(p) for p in files)


def _below(path: str, folder: str) -> list[str]:
    return path.strip("/").removeprefix(folder.strip("/")).strip("/").split("/")

"""Tells whoever watches how far a run has come.

The command line sets a watcher for the time of a run; in Dagster's own processes there is none and nothing is printed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Watcher(Protocol):
    def begin(self, asset: str, of: int) -> None: ...

    def advance(self, asset: str, partitions: int, of: int) -> None: ...

    def doing(self, asset: str, what: str) -> None: ...

    def done(self, asset: str, partitions: int, seconds: float) -> None: ...

    def tell(self, asset: str, text: str) -> None: ...


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def begin(asset: str, of: int) -> None:
    """An asset sets to work on its partitions of this run."""
    if watcher := _watcher.get():
        watcher.begin(asset, of)


def advance(asset: str, partitions: int, of: int) -> None:
    """Some of an asset's partitions of this run are in place."""
    if watcher := _watcher.get():
        watcher.advance(asset, partitions, of)


def doing(asset: str, what: str) -> None:
    """What an asset is at, where it takes long before a partition is in place."""
    if watcher := _watcher.get():
        watcher.doing(asset, what)


def tell(asset: str, text: str) -> None:
    """Something about an asset's partitions is worth knowing."""
    if watcher := _watcher.get():
        watcher.tell(asset, text)


def done(asset: str, partitions: int, seconds: float) -> None:
    """An asset has made all its partitions of this run."""
    if watcher := _watcher.get():
        watcher.done(asset, partitions, seconds)

"""Reports how far a run has come to a watcher.

The command line sets a watcher during a run; in Dagster's own processes there is none, and nothing is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Watcher(Protocol):
    """What is informed of a run's progress; for each method, see the function of its name."""

    def begin(self, asset: str, total: int) -> None: ...

    def advance(self, asset: str, partitions: int, total: int) -> None: ...

    def set_activity(self, asset: str, activity: str) -> None: ...

    def finish(self, asset: str, partitions: int, seconds: float) -> None: ...

    def notify(self, asset: str, message: str) -> None: ...


_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Report progress to `watcher` within the context."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def begin(asset: str, total: int) -> None:
    """An asset starts to make its `total` partitions of this run."""
    if watcher := _watcher.get():
        watcher.begin(asset, total)


def advance(asset: str, partitions: int, total: int) -> None:
    """`partitions` of an asset's `total` partitions have been written."""
    if watcher := _watcher.get():
        watcher.advance(asset, partitions, total)


def set_activity(asset: str, activity: str) -> None:
    """What an asset is doing, if it takes long to write a partition."""
    if watcher := _watcher.get():
        watcher.set_activity(asset, activity)


def notify(asset: str, message: str) -> None:
    """A message about an asset's partitions."""
    if watcher := _watcher.get():
        watcher.notify(asset, message)


def finish(asset: str, partitions: int, seconds: float) -> None:
    """An asset has made all its partitions of this run."""
    if watcher := _watcher.get():
        watcher.finish(asset, partitions, seconds)

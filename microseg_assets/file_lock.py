"""A lock between processes, for what is made once: a state folder's databases and settings, the files of a demo.

If two processes migrate one SQLite database at the same time, one of them fails. Belongs here: the lock. Does not
belong here: what is made while holding it.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GUARD = threading.RLock()
_locked: set[Path] = set()


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`.

    The lock is released when the process ends, however it ends. It may be nested, under any name of the file.
    """
    path = path.resolve()
    with _GUARD:
        if path in _locked:
            yield
            return
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _locked.add(path)
            try:
                yield
            finally:
                _locked.discard(path)

"""One process at a time, for what is made once: a state folder's databases and settings, the files of a demo.

Two processes that migrate one SQLite database at once kill one of them. Belongs here: the lock. Does not belong here:
what is made under it.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GUARD = threading.RLock()
_held: set[Path] = set()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which goes with the process that holds it, however that ends; may be nested, also
    where one file is named in several ways."""
    path = path.resolve()
    with _GUARD:
        if path in _held:
            yield
            return
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            _held.add(path)
            try:
                yield
            finally:
                _held.discard(path)

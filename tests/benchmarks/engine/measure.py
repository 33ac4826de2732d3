"""A command in a fresh process: its seconds, those of the processor, its peak memory, and what it spent on imports.

Belongs here: starting one process and watching it and its children from /proc (so on Linux only), so that any stretch
of the run has a peak of its own. Does not belong here: what is run (see `system`, `notebook`, `floor`).

Python's own `-X importtime` reports what each import took as it happens; these lines are not passed on.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

EVERY_SECONDS = 0.05  # between two looks at memory
_MB = 2**20
_PAGE = resource.getpagesize()
_TICKS = os.sysconf("SC_CLK_TCK")
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \| ")
_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)
_LAST_LINES = 40


class CommandFailed(RuntimeError):
    """A measured command ended with an error; the message has its last lines."""


@dataclass(frozen=True)
class Look:
    """One look at a process and its children: the time, their resident memory in MB, and their processor seconds."""

    time: float
    mb: float
    processor: float


@dataclass
class Measurement:
    """What a command took.

    Parameters
    ----------
    started, ended : when it began and ended, in seconds since 1970
    processor : seconds that it worked, on all cores together
    peak_mb : the most memory that it and its children held at once
    looks : its memory over time
    imports : when a module had been imported, and the seconds that it alone took
    output : what it printed
    """

    started: float
    ended: float
    processor: float
    peak_mb: float
    looks: list[Look] = field(default_factory=list)
    imports: list[tuple[float, float]] = field(default_factory=list)
    output: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    def import_seconds(self, first: float | None = None, last: float | None = None) -> float:
        """Seconds of imports, of all or of those within a stretch of time."""
        start, end = self.started if first is None else first, self.ended if last is None else last
        within = sum(min(seconds, moment - start) for moment, seconds in self.imports if start <= moment <= end)
        return min(within, end - start)  # a line may be read a little after its import

    def peak_within(self, first: float, last: float) -> float:
        """The peak of memory in MB within a stretch of time."""
        margin = EVERY_SECONDS  # a stretch may be shorter than the time between two looks
        return max((look.mb for look in self.looks if first - margin <= look.time <= last + margin), default=0.0)

    def processor_within(self, first: float, last: float) -> float:
        """Processor seconds within a stretch of time, as exact as the looks are close."""

        def until(moment: float) -> float:
            return max((look.processor for look in self.looks if look.time <= moment), default=0.0)

        return until(last) - until(first)


def run(command: Sequence[str | Path], *, folder: Path, environment: Mapping[str, str] | None = None) -> Measurement:
    """Run a command to its end in `folder`, and measure it.

    Raises
    ------
    CommandFailed
        If it does not end with 0.
    """
    started = time.time()
    process = subprocess.Popen(
        [str(part) for part in command], cwd=folder, env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    result = Measurement(started, started, 0.0, 0.0)
    printed: list[str] = []
    messages: list[str] = []
    readers = [
        threading.Thread(target=printed.extend, args=(process.stdout,)),
        threading.Thread(target=_read_messages, args=(process.stderr, result.imports, messages)),
    ]
    for reader in readers:
        reader.start()
    try:
        status, usage, largest = _watch(process.pid, result.looks)
    except BaseException:
        process.kill()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    for reader in readers:
        reader.join()
    result.ended = result.looks[-1].time if result.looks else time.time()
    result.processor = usage.ru_utime + usage.ru_stime
    result.peak_mb = max(largest, *(look.mb for look in result.looks))
    result.output = "".join(printed)
    if process.returncode != 0:
        last = "".join([*messages, *printed][-_LAST_LINES:])
        raise CommandFailed(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{last}")
    return result


def _watch(pid: int, looks: list[Look]) -> tuple[int, resource.struct_rusage, float]:
    """Look at a process until it ends; returns its exit status, what it used, and the most MB it alone held.

    The kernel's own record of that (`ru_maxrss`) would count the program that started it too.
    """
    largest = 0.0
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            looks.append(Look(time.time(), looks[-1].mb if looks else 0.0, usage.ru_utime + usage.ru_stime))
            return status, usage, largest
        mb, processor = 0.0, 0.0
        for one in _tree(pid):
            memory, worked = _used(one)
            mb, processor = mb + memory, processor + worked
        looks.append(Look(time.time(), mb, processor))
        largest = max(largest, _high_water(pid))
        time.sleep(EVERY_SECONDS)


def _high_water(pid: int) -> float:
    """The most resident memory in MB that a process has held so far; 0 once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    match = _HIGH_WATER.search(status)
    return int(match[1]) / 1024 if match else 0.0


def _tree(pid: int) -> Iterator[int]:
    """A process and all its descendants that live."""
    yield pid
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return  # it has ended meanwhile
    for child in children:
        yield from _tree(child)


def _used(pid: int) -> tuple[float, float]:
    """Resident memory in MB and processor seconds of a process and of its children that have ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    except (OSError, IndexError):
        return 0.0, 0.0
    return pages * _PAGE / _MB, sum(map(int, ticks)) / _TICKS


def _read_messages(stream: IO[str], imports: list[tuple[float, float]], messages: list[str]) -> None:
    for text in stream:
        if match := _IMPORT.match(text):
            imports.append((time.time(), int(match[1]) / 1e6))
        else:
            messages.append(text)

"""`make evidence`: every evidence world, and whether it is what the design's table says.

Belongs here: drawing all worlds and setting their moments beside what is stated. Does not belong here: claims about
methods.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ml.simulate.worlds import WORLDS, Moment
from ml.simulate.worlds.moments import ERRORS

SEEDS = 10


@dataclass(frozen=True)
class Measured:
    """One stated number of a world over all its seeds and stages."""

    world: str
    moments: tuple[Moment, ...]

    @property
    def mean(self) -> Moment:
        """The mean over all of them, whose error is smaller; of a range, its ends' mean."""
        one = self.moments[0]
        error = np.sqrt(np.sum([moment.error**2 for moment in self.moments])) / len(self.moments)
        return Moment(one.name, float(np.mean([moment.measured for moment in self.moments])), one.low, one.high, error)

    @property
    def is_off(self) -> bool:
        """Whether any seed, or the mean of all, lies further outside than sampling error explains."""
        return self.mean.is_off or any(moment.is_off for moment in self.moments)


def measure(seeds: Iterable[int] = range(SEEDS)) -> list[Measured]:
    """The moments of every world over these seeds, in the table's order."""
    by_name: dict[tuple[str, str], list[Moment]] = {}
    for world, draw in WORLDS.items():
        for seed in seeds:
            for moment in draw(seed).moments():
                by_name.setdefault((world, moment.name), []).append(moment)
    return [Measured(world, tuple(moments)) for (world, _), moments in by_name.items()]


def table(measured: Sequence[Measured]) -> str:
    """An aligned table: world, moment, stated, measured mean with its error, smallest and largest, verdict."""
    head = ("world", "moment", "stated", "measured", "±", "from", "to", "")
    rows = [head]
    for one in measured:
        values = [moment.measured for moment in one.moments]
        low, high = one.moments[0].low, one.moments[0].high
        rows.append(
            (
                one.world,
                one.mean.name,
                _number(low) if low == high else f"{_number(low)} … {_number(high)}",
                _number(one.mean.measured),
                _number(one.mean.error),
                _number(min(values)),
                _number(max(values)),
                "OFF" if one.is_off else "ok",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [
        "  ".join(
            cell.ljust(width) if i in (0, 1, 7) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([aligned[0], "─" * len(max(aligned, key=len)), *aligned[1:]])


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{0.0 if abs(value) < 5e-4 else value:.3f}"


def main(seeds: int = SEEDS) -> int:
    """Print the table; 1 if a world is not what the design says."""
    measured = measure(range(seeds))
    print(table(measured))
    off = [f"{one.world}: {one.mean.name}" for one in measured if one.is_off]
    print(f"\n{len(WORLDS)} worlds, {seeds} seeds, {len(measured)} moments; sampling error: {ERRORS:g} standard errors")
    if off:
        print("off: " + "; ".join(off), file=sys.stderr)
    return 1 if off else 0


if __name__ == "__main__":
    sys.exit(main())

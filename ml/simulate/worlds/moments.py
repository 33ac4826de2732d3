"""A number that the design states about a world, and what it is in the rows.

Belongs here: the comparison. Does not belong here: how any number is measured (see the worlds).
"""

from __future__ import annotations

from dataclasses import dataclass

ERRORS = 4.0  # standard errors that a measurement may lie outside of what is stated


@dataclass(frozen=True)
class Moment:
    """One stated number, or range, and its measurement.

    Parameters
    ----------
    name : str
        What is measured, with its unit.
    measured : float
        In one world's rows.
    low, high : float
        What the design states; equal where it states one number.
    error : float, default 0
        Standard error of the measurement; 0 where the world has it exactly.

    Examples
    --------
    >>> Moment("share of zeros", measured=0.42, low=0.40, high=0.40, error=0.01).is_off
    False
    """

    name: str
    measured: float
    low: float
    high: float
    error: float = 0.0

    @property
    def outside(self) -> float:
        """How far the measurement lies outside of what is stated."""
        return max(self.low - self.measured, self.measured - self.high, 0.0)

    @property
    def is_off(self) -> bool:
        """Whether it lies further outside than sampling error explains."""
        return not self.outside <= ERRORS * self.error + 1e-9


def stated(name: str, measured: float, value: float, error: float = 0.0) -> Moment:
    """A moment for which the design states one number."""
    return Moment(name, float(measured), value, value, float(error))

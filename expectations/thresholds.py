"""Thresholds of a day as a whole: how far it may deviate from the days before, and what happens if it does.

Belongs here: the settings under `validation:` that concern days, each with a default that works. Does not belong
here: how a measure is computed (see `expectations.measures`) and when a single row is refused (`expectations.rules`).

An ``error`` refuses the day, as too many refused rows do; a ``warning`` only informs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ml.tables import INPUTS

Severity: TypeAlias = Literal["error", "warning"]


@dataclass(frozen=True)
class ReferenceSpec:
    """Rows whose customer is in no delivery of `customers` up to their day. They are accepted, and always reported.

    Parameters
    ----------
    max_unknown_share : share of a day's rows above which the day is flagged; None only reports it, since a business may
        know more about some customers than about others
    """

    max_unknown_share: float | None = None
    severity: Severity = "warning"

    def __post_init__(self) -> None:
        if self.max_unknown_share is not None and not 0 <= self.max_unknown_share <= 1:
            raise ValueError(
                f"max_unknown_share is {self.max_unknown_share}: write a share from 0 to 1, or null to only report"
            )


@dataclass(frozen=True)
class FreshnessSpec:
    """Days since the newest row of a table.

    Parameters
    ----------
    max_days : table to the number of consecutive days that may be without rows; tables that are not named are not
        judged. A week allows for a shop that closes for a holiday; one that sells every day is flagged sooner, by its
        volume
    """

    max_days: dict[str, int] = field(default_factory=lambda: {"transactions": 7})
    severity: Severity = "warning"

    def __post_init__(self) -> None:
        _known_tables("max_days", self.max_days)
        for table, days in self.max_days.items():
            if not 0 <= days <= 365:
                raise ValueError(f"max_days of {table} is {days}: write whole days from 0 to 365")


@dataclass(frozen=True)
class VolumeSpec:
    """Rows of a day relative to the median of the same weekday in the weeks before.

    Parameters
    ----------
    low, high : the ratios between which a day counts as usual
    weeks : how many weeks back the comparison goes
    min_weeks : how many of these weeks must have been accepted
    tables : the tables that are judged
    """

    low: float = 0.5
    high: float = 2.0
    weeks: int = 8
    min_weeks: int = 4
    tables: tuple[str, ...] = ("transactions", "events")
    severity: Severity = "warning"

    def __post_init__(self) -> None:
        _known_tables("tables", self.tables)
        if not 0 <= self.low <= 1 <= self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}: 1 must lie between them, low at 0 or above")
        if not 1 <= self.min_weeks <= self.weeks <= 52:
            raise ValueError(
                f"min_weeks is {self.min_weeks} and weeks is {self.weeks}: write whole weeks, 1 to 52, min_weeks at "
                "most weeks"
            )


@dataclass(frozen=True)
class ShiftSpec:
    """How the distribution of a column's values, missing ones included, compares with the days before.

    Parameters
    ----------
    max_shift : largest population stability index beyond what chance explains
    days : how many days back the comparison goes
    min_rows : fewest rows that a day, and the days before it together, must have to be compared
    tables : the tables that are judged
    columns : column to its own limit; null if it is not judged
    """

    max_shift: float = 0.1
    days: int = 28
    min_rows: int = 100
    tables: tuple[str, ...] = ("transactions", "events")
    columns: dict[str, float | None] = field(default_factory=dict)
    severity: Severity = "warning"

    def __post_init__(self) -> None:
        _known_tables("tables", self.tables)
        if self.max_shift <= 0:
            raise ValueError(
                f"max_shift is {self.max_shift}: write a number above 0; 0.1 is a shift, 0.25 a marked one"
            )
        for column, limit in self.columns.items():
            if limit is not None and limit <= 0:
                raise ValueError(f"columns: {column} is {limit}: write a number above 0, or null not to judge it")
        if not 7 <= self.days <= 365:
            raise ValueError(f"days is {self.days}: write whole days from 7 to 365")
        if self.min_rows < 1:
            raise ValueError(f"min_rows is {self.min_rows}: write a whole number above 0")

    def limit(self, column: str) -> float | None:
        return self.columns.get(column, self.max_shift)


def _known_tables(key: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in INPUTS:
            raise ValueError(f"{key}: {name!r} is not a table; write one of {', '.join(INPUTS)}")

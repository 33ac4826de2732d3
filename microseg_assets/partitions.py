"""Days, training weeks, and the mappings between them: every decision about dates.

A *day* is a calendar day in the project's time zone. A *training week* runs from Monday to Sunday and is named by its
Monday; the choice in force on a day is that of the last week that ended before it. A `Lookback` defines which upstream
partitions a partition reads; Dagster's partition mapping and the list of partitions that must exist follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from functools import cached_property
from zoneinfo import ZoneInfo

import dagster as dg

WEEK = timedelta(days=7)
_FAR_BACK = -7_305  # twenty years, clipped to the first partition; not more, as Dagster steps through all of it


class Lookback(Enum):
    """Which partitions of an upstream asset one partition of a downstream asset reads."""

    SAME_DAY = "day from the same day"
    YESTERDAY = "day from the day before"
    TWO_DAYS = "day from the same day and the day before"
    SEVEN_DAYS = "day from the same day and those of the six days before that exist"
    DAYS_SO_FAR = "day from every day up to it"
    LAST_ENDED_WEEK = "day from the last week that ended before it"
    SAME_WEEK = "week from the same week"
    PREVIOUS_WEEK = "week from the week before"
    DAYS_TO_WEEK_END = "week from every day up to its end"

    @property
    def mapping(self) -> dg.PartitionMapping:
        offsets = {
            Lookback.YESTERDAY: (-1, -1),
            Lookback.TWO_DAYS: (-1, 0),
            Lookback.SEVEN_DAYS: (-6, 0),
            Lookback.DAYS_SO_FAR: (_FAR_BACK, 0),
            Lookback.LAST_ENDED_WEEK: (-7, -7),
            Lookback.PREVIOUS_WEEK: (-1, -1),
            Lookback.DAYS_TO_WEEK_END: (_FAR_BACK // 7, 0),
        }
        start, end = offsets.get(self, (0, 0))
        return dg.TimeWindowPartitionMapping(
            start_offset=start, end_offset=end, allow_nonexistent_upstream_partitions=self not in _SAME
        )

    @property
    def may_begin(self) -> bool:
        """Whether earlier partitions may be missing if none was ever made before them, as at the start of the chain."""
        return self in (Lookback.YESTERDAY, Lookback.TWO_DAYS, Lookback.PREVIOUS_WEEK)


_SAME = (Lookback.SAME_DAY, Lookback.SAME_WEEK)


@dataclass(frozen=True)
class Calendar:
    """The days and weeks of a project.

    Parameters
    ----------
    start : the first day
    end : the last day, for data that has ended; None for a business that goes on
    time_zone : IANA name
    """

    start: date
    end: date | None = None
    time_zone: str = "UTC"

    @cached_property
    def daily(self) -> dg.DailyPartitionsDefinition:
        return dg.DailyPartitionsDefinition(
            self.start.isoformat(), end_date=self._stop(self.end), timezone=self.time_zone
        )

    @cached_property
    def weekly(self) -> dg.WeeklyPartitionsDefinition:
        return dg.WeeklyPartitionsDefinition(
            self.start.isoformat(), end_date=self._stop(self.end), timezone=self.time_zone, day_offset=1
        )

    @staticmethod
    def _stop(end: date | None) -> str | None:
        return (end + timedelta(days=1)).isoformat() if end else None

    @property
    def first_week(self) -> date:
        """Monday of the first whole week."""
        return self.start + timedelta(days=-self.start.weekday() % 7)

    @property
    def newest_day(self) -> date:
        """The last day that has ended: a day becomes a partition when it has."""
        yesterday = datetime.now(ZoneInfo(self.time_zone)).date() - timedelta(days=1)
        return min(yesterday, self.end) if self.end else yesterday

    def days(self, first: date, last: date) -> list[date]:
        """Every day from `first` to `last`, both included."""
        return [first + timedelta(days=i) for i in range((last - first).days + 1)]

    def week_end(self, week: date) -> date:
        """The Sunday of a training week."""
        return week + timedelta(days=6)

    def week_ending(self, day: date) -> date | None:
        """The training week whose last day is `day`, if there is one."""
        week = day - timedelta(days=6)
        return week if week.weekday() == 0 and week >= self.first_week else None

    def serving_week(self, day: date) -> date | None:
        """The last training week that ended before `day`; None while none has."""
        week = day - timedelta(days=day.weekday()) - WEEK
        return week if week >= self.first_week else None

    def previous_week(self, week: date) -> date | None:
        return week - WEEK if week - WEEK >= self.first_week else None

    def weeks_serving(self, days: Sequence[date]) -> list[date]:
        """The training weeks whose choices are in force on `days`, ascending."""
        return sorted({week for day in days if (week := self.serving_week(day)) is not None})

    def upstream(self, lookback: Lookback, key: date) -> list[date]:
        """The upstream partitions that `key` reads, none before the project's first day or week."""
        match lookback:
            case Lookback.SAME_DAY | Lookback.SAME_WEEK:
                return [key]
            case Lookback.YESTERDAY:
                return [key - timedelta(days=1)] if key > self.start else []
            case Lookback.TWO_DAYS:
                return self.days(max(self.start, key - timedelta(days=1)), key)
            case Lookback.SEVEN_DAYS:
                return self.days(max(self.start, key - timedelta(days=6)), key)
            case Lookback.DAYS_SO_FAR:
                return self.days(self.start, key)
            case Lookback.LAST_ENDED_WEEK:
                week = self.serving_week(key)
                return [week] if week else []
            case Lookback.PREVIOUS_WEEK:
                week = self.previous_week(key)
                return [week] if week else []
            case Lookback.DAYS_TO_WEEK_END:
                return self.days(self.start, self.week_end(key))

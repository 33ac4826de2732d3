"""What every simulated business shares: the words in its rows, its opening hours and the rhythm of its week.

Belongs here: constants that each draw and each row writer reads. Does not belong here: the numbers of one kind of
business (see `spec`).
"""

from __future__ import annotations

from datetime import date
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"

CATEGORIES = ("groceries", "fresh", "drinks", "household", "beauty", "garden")
AGE_BANDS = ("18-29", "30-44", "45-59", "60+")
REGIONS = ("north", "east", "south", "west")
DEVICES = ("mobile", "desktop", "tablet")
CHANCE_OF_MOBILE = (0.8, 0.65, 0.45, 0.3)  # by age band
WINDOW_DAYS = 28  # after an exposure, in which an action adds orders
PRODUCTS = 40  # a category
DAY = 86_400  # seconds
OPENS, CLOSES = 8, 21  # hours between which orders come in
_BY_WEEKDAY = (0.9, 0.9, 0.95, 1.0, 1.15, 1.5, 0.6)  # Saturdays are strong, Sundays weak; the mean is 1


def weekday_factors(start: str, days: int) -> Array:
    """By how much more is ordered on each of the days from `start` on than on the mean day of a week, (days,)."""
    weekday = (np.arange(days) + date.fromisoformat(start).weekday()) % 7
    return np.array(_BY_WEEKDAY)[weekday]

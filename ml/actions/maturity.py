"""Which exposures count yet, which wait for their window to end, and which never will.

Belongs here: days with exposures, and what becomes of each. Does not belong here: what followed an exposure (see
`ml.actions.outcomes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from ml import tables
from ml.actions.reasons import ChoiceCode, choice_words
from ml.engine import Engine, Input
from ml.reasons import Reason

_EXPOSURE_DAYS = """
SELECT exposures.day AS day, COALESCE(exposures.randomised, FALSE) AS randomised, COUNT(*) AS rows_of_day
FROM exposures LEFT JOIN arms ON arms.action = exposures.action
WHERE exposures.day <= $as_of AND (COALESCE(exposures.randomised, FALSE) OR
      (COALESCE(arms.arm, '') <> 'control' AND NOT COALESCE(exposures.is_holdout, FALSE)))
GROUP BY exposures.day, COALESCE(exposures.randomised, FALSE) ORDER BY day, randomised
"""


@dataclass(frozen=True)
class Maturity:
    """What becomes of the days with exposures.

    Parameters
    ----------
    window : length of the outcome, in days
    used : days whose exposures count
    unknown : days before which nobody was known: nothing can be said of who was exposed
    waiting : day to the end of the day on which its window is over
    doubtful : values of `action` of which nobody can tell whether they mean control
    """

    window: int
    used: Sequence[date]
    unknown: Sequence[date] = ()
    waiting: Mapping[date, date] = field(default_factory=dict)
    doubtful: Sequence[str] = ()

    @property
    def is_complete(self) -> bool:
        return not (self.unknown or self.waiting or self.doubtful)

    def reason(self) -> Reason:
        """What is used and what waits for when."""
        waiting = sorted(self.waiting)
        figures = {
            "used": len(self.used), "unknown": list(map(str, self.unknown)), "waiting": list(map(str, waiting)),
            "last": str(max(self.waiting.values())) if waiting else None, "window": self.window,
            "doubtful": list(self.doubtful),
        }  # fmt: skip
        return Reason(ChoiceCode.NOT_ALL_COUNT, figures)

    def words(self) -> str:
        """The same in one sentence without a full stop; empty if all are used."""
        return "" if self.is_complete else choice_words(self.reason())


def maturity_of(days: Iterable[tuple[date, bool]], window: int, known_since: date | None, as_of: date) -> Maturity:
    """What becomes of days with exposures by the end of `as_of`.

    Parameters
    ----------
    days : day, and whether its exposures are randomised; the others wait a day longer
    window : length of the outcome, in days
    known_since : first day on which anybody was known
    """
    used: set[date] = set()
    unknown: set[date] = set()
    waiting: dict[date, date] = {}
    for day, is_randomised in days:
        until = day + timedelta(days=window - 1 if is_randomised else window)
        if known_since is None or day <= known_since:
            unknown.add(day)
        elif until > as_of:
            waiting[day] = max(until, waiting.get(day, until))
        else:
            used.add(day)
    return Maturity(window, sorted(used), sorted(unknown), {d: e for d, e in sorted(waiting.items()) if d not in used})


def maturity(
    engine: Engine,
    exposures: Input,
    customer_days: Input,
    as_of: date,
    window: int,
    start: date,
    declared: Sequence[str],
) -> Maturity:
    """What becomes of the days with exposures in a log, by the end of `as_of`.

    Parameters
    ----------
    exposures : columns of `tables.EXPOSURES` and `day`
    customer_days : from the same project; says since when anybody is known
    start : first day of history
    declared : names of the actions that the project declares
    """
    values = engine.query("SELECT DISTINCT action FROM exposures", exposures=exposures)["action"].to_pylist()
    arms = tables.arms_table(values, declared)
    rows = engine.query(_EXPOSURE_DAYS, {"as_of": as_of}, exposures=exposures, arms=arms).to_pylist()
    known = engine.query("SELECT MIN(day) AS day FROM customer_days", customer_days=customer_days)["day"][0].as_py()
    known = None if known is None else max(known, start)
    found = maturity_of(((row["day"], row["randomised"]) for row in rows), window, known, as_of)
    pairs = zip(arms["action"].to_pylist(), arms["arm"].to_pylist(), strict=True)
    doubtful = tuple(value for value, arm in pairs if arm is None)
    return Maturity(found.window, found.used, found.unknown, found.waiting, doubtful)

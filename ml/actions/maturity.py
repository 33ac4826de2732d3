"""Which exposures count already, which wait for their window to end, and which never will.

Belongs here: days with exposures, and the state of each. Does not belong here: what followed an exposure (see
`ml.actions.outcomes`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    """The state of the days with exposures.

    Parameters
    ----------
    window : int
        Length of the outcome window, in days.
    used : sequence of date
        Days whose exposures count.
    unknown : sequence of date
        Days before which no customer was known, so that their exposures have no features.
    waiting : mapping of date to date
        Days whose window is not over, each with the day on which it ends.
    doubtful : sequence of str
        Values of `action` that are ambiguous: they may mean control.

    Examples
    --------
    >>> from datetime import date
    >>> state = Maturity(28, used=[date(2024, 1, 8)], waiting={date(2024, 1, 29): date(2024, 2, 26)})
    >>> state.is_complete
    False
    >>> state.words()
    'exposures of 1 of 2 days count; 2024-01-29 once 28 days are over, the last on 2024-02-26'
    """

    window: int
    used: Sequence[date]
    unknown: Sequence[date] = ()
    waiting: Mapping[date, date] = field(default_factory=dict)
    doubtful: Sequence[str] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all exposures count."""
        return not (self.unknown or self.waiting or self.doubtful)

    def reason(self) -> Reason:
        """Explain which exposures count, and when the others will.

        Returns
        -------
        Reason
            Of `CHOICE_WORDS`.
        """
        waiting = sorted(self.waiting)
        figures = {
            "used": len(self.used), "unknown": list(map(str, self.unknown)), "waiting": list(map(str, waiting)),
            "last": str(max(self.waiting.values())) if waiting else None, "window": self.window,
            "doubtful": list(self.doubtful),
        }  # fmt: skip
        return Reason(ChoiceCode.NOT_ALL_COUNT, figures)

    def words(self) -> str:
        """Put `reason` in words.

        Returns
        -------
        str
            One sentence without a full stop; empty if all exposures count.
        """
        return "" if self.is_complete else choice_words(self.reason())


def maturity_of(days: Iterable[tuple[date, bool]], window: int, known_since: date | None, as_of: date) -> Maturity:
    """Sort days with exposures into those that count by the end of `as_of` and those that do not.

    Parameters
    ----------
    days : iterable of tuple of date and bool
        Each day, and whether its exposures are randomised; observational ones wait a day longer.
    window : int
        Length of the outcome window, in days.
    known_since : date, optional
        First day on which any customer was known.
    as_of : date
        Last day that may be used.

    Returns
    -------
    Maturity
        Without ambiguous actions.

    Examples
    --------
    >>> from datetime import date
    >>> days = [(date(2024, 1, day), True) for day in (1, 5, 20)]
    >>> state = maturity_of(days, window=7, known_since=date(2024, 1, 1), as_of=date(2024, 1, 21))
    >>> [day.day for day in state.used], [day.day for day in state.unknown], [day.day for day in state.waiting]
    ([5], [1], [20])
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
    """Sort the days of an exposure log into those that count by the end of `as_of` and those that do not.

    Parameters
    ----------
    engine : Engine
        Reads the tables.
    exposures : Input
        Columns of `tables.EXPOSURES` and `day`.
    customer_days : Input
        The table of the same project; its first day is the first on which any customer is known.
    as_of : date
        Last day that may be used.
    window : int
        Length of the outcome window, in days.
    start : date
        First day of history.
    declared : sequence of str
        Names of the actions that the project declares.

    Returns
    -------
    Maturity
        With ambiguous actions.

    Examples
    --------
    >>> from datetime import date
    >>> import pyarrow as pa
    >>> from ml.engine import DuckDB
    >>> log = pa.table(
    ...     {
    ...         "day": [date(2024, 1, 8), date(2024, 1, 29)],
    ...         "action": ["mail", "0"],
    ...         "randomised": [True, True],
    ...         "is_holdout": [False, False],
    ...     }
    ... )
    >>> known = pa.table({"day": [date(2024, 1, 1)]})
    >>> maturity(DuckDB(), log, known, date(2024, 1, 31), 7, date(2024, 1, 1), ["mail"])
    Maturity(window=7, used=[datetime.date(2024, 1, 8)], unknown=[],
             waiting={datetime.date(2024, 1, 29): datetime.date(2024, 2, 4)}, doubtful=('0',))
    """
    values = engine.query("SELECT DISTINCT action FROM exposures", exposures=exposures)["action"].to_pylist()
    arms = tables.arms_table(values, declared)
    rows = engine.query(_EXPOSURE_DAYS, {"as_of": as_of}, exposures=exposures, arms=arms).to_pylist()
    known = engine.query("SELECT MIN(day) AS day FROM customer_days", customer_days=customer_days)["day"][0].as_py()
    known = None if known is None else max(known, start)
    state = maturity_of(((row["day"], row["randomised"]) for row in rows), window, known, as_of)
    pairs = zip(arms["action"].to_pylist(), arms["arm"].to_pylist(), strict=True)
    doubtful = tuple(value for value, arm in pairs if arm is None)
    return replace(state, doubtful=doubtful)

"""The windows of the stages: the project file's days, or days estimated from the data where the file says `auto`.

Belongs here: turning measurements into days that stay the same while nothing changes. Does not belong here: the
measuring (see `silences` and `newcomers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from ml.engine import Engine, Input
from ml.lifecycle.model import LifecycleModel
from ml.lifecycle.newcomers import NewcomerRates, newcomer_rates
from ml.lifecycle.reasons import WindowCode
from ml.lifecycle.silences import ReturnCurve, return_curve
from ml.lifecycle.spec import CHURN_THRESHOLD_SHARE, MAX_CHURN_AFTER, MIN_CHURN_AFTER, LifecycleSpec
from ml.reasons import Reason

MIN_EXPLAINED_SHARE = 0.95  # of what the best window of newcomers explains, for the incumbent to stay
MIN_LENGTHENING = 1.05  # of a churn window known to be too short: less is not worth a move


@dataclass(frozen=True)
class Windows:
    """The windows of a week, the reasons for them, and the estimates behind them.

    Parameters
    ----------
    new_for : int
        Days since the first purchase for which a customer is new.
    churn_after : int
        Days of silence after which a customer has churned.
    reasons : tuple of Reason
        One per window that was estimated.
    curve : ReturnCurve, optional
        The silence–return curve; None if the project file fixes `churn_after`.
    threshold : float, optional
        Chance of a return, 0 to 1, below which a customer has churned.
    newcomers : NewcomerRates, optional
        How newcomers buy; None if the project file fixes `new_for`.

    Examples
    --------
    >>> Windows(new_for=28, churn_after=60).reasons
    ()
    """

    new_for: int
    churn_after: int
    reasons: tuple[Reason, ...] = ()
    curve: ReturnCurve | None = None
    threshold: float | None = None
    newcomers: NewcomerRates | None = None


def windows_of(
    engine: Engine, customer_days: Input, as_of: date, spec: LifecycleSpec, incumbent: LifecycleModel | None
) -> Windows:
    """Estimate the windows of the week that ends on `as_of`.

    Last week's windows stay while the data are compatible with them. The window of newcomers stays while it explains
    their rates nearly as well as the best one, or not significantly worse. The churn window stays while the chance of
    a return after it is not significantly off the threshold. Otherwise it moves only to the nearest silence of which
    that is true, so that drift is followed in small steps.

    Parameters
    ----------
    engine : Engine
        Runs the queries.
    customer_days : Input
        Table `customer_days` with its `day`, up to `as_of`. The columns customer_id, day and orders are enough.
    as_of : date
        Last day of what is known.
    spec : LifecycleSpec
        Settings of the family. Windows that it fixes are not estimated.
    incumbent : LifecycleModel or None
        Last week's model, if there is one.

    Returns
    -------
    Windows
        The windows, with their reasons.

    Examples
    --------
    Two customers are too few for an estimate, so the preset stays:

    >>> import pyarrow as pa
    >>> from ml.engine import DuckDB
    >>> days = pa.table({"customer_id": ["a", "b"], "day": [date(2024, 1, 5), date(2024, 2, 1)], "orders": [1, 1]})
    >>> windows = windows_of(DuckDB(threads=1), days, date(2024, 3, 3), LifecycleSpec(new_for_days=14), None)
    >>> windows.new_for, windows.churn_after, str(windows.reasons[0].code)
    (14, 60, 'churn_unwatched')
    """
    reasons, curve, newcomers = [], None, None
    new_for, churn_after = spec.first_new_for, spec.first_churn_after
    threshold = None
    if spec.churn_after_days == "auto":
        curve = return_curve(
            engine, customer_days, as_of, within_days=spec.return_within_days, history_days=spec.window_history_days
        )
        threshold = threshold_of(curve, spec)
        churn_after, reason = churn_window(curve, threshold, incumbent.churn_after if incumbent else None, churn_after)
        reasons.append(reason)
    if spec.new_for_days == "auto":
        newcomers = newcomer_rates(engine, customer_days, as_of, history_days=spec.window_history_days)
        new_for, reason = new_window(newcomers, incumbent.new_for if incumbent else None, new_for)
        reasons.append(reason)
    return Windows(new_for, churn_after, tuple(reasons), curve, threshold, newcomers)


def threshold_of(curve: ReturnCurve, spec: LifecycleSpec) -> float:
    """Chance of a return below which a customer has churned."""
    if isinstance(spec.churn_return_chance, str):
        return CHURN_THRESHOLD_SHARE * curve.highest
    return spec.churn_return_chance


def churn_window(curve: ReturnCurve, threshold: float, incumbent: int | None, preset: int) -> tuple[int, Reason]:
    """Choose the days of silence after which a customer has churned.

    That is the shortest silence after which the chance of a return stays below the threshold. If it is not known up to
    there, the window is at least the longest silence observed: a shorter one is known to be too short.

    Parameters
    ----------
    curve : ReturnCurve
        The silence–return curve.
    threshold : float
        Chance of a return within the curve's outcome window, 0 to 1.
    incumbent : int or None
        Last week's window in days, if there is one.
    preset : int
        Window in days that applies before there is any.

    Returns
    -------
    tuple of int and Reason
        Days, and why.
    """
    before = preset if incumbent is None else incumbent
    target = {"threshold": threshold, "within": curve.within_days}
    if curve.longest_observed < 0:
        return before, Reason(WindowCode.CHURN_UNWATCHED, {"days": before, "within": curve.within_days})
    crossing = curve.crossing(threshold)
    if crossing is None:
        is_known_too_short = curve.is_off(before, threshold) and curve.longest_observed > MIN_LENGTHENING * before
        days = (
            min(max(before, curve.longest_observed), MAX_CHURN_AFTER)
            if is_known_too_short or incumbent is None
            else before
        )
        chance = float(curve.fitted[curve.longest_observed])
        figures = {"days": int(days), "reach": int(curve.longest_observed), "chance": chance, **target}
        return days, Reason(WindowCode.CHURN_BEYOND_HISTORY, figures)
    low, high = (min(max(days, MIN_CHURN_AFTER), MAX_CHURN_AFTER) for days in curve.interval(threshold))
    fitting = {"low": int(low), "high": int(high), **target}
    if incumbent is not None and low <= min(incumbent, curve.longest_observed) <= high:
        return incumbent, Reason(WindowCode.CHURN_UNCHANGED, {"days": incumbent, **fitting})
    days = min(max(crossing if incumbent is None else incumbent, low), high)
    chance = float(curve.fitted[min(days, curve.longest_observed)])
    return days, Reason(WindowCode.CHURN_ESTIMATED, {"days": int(days), "chance": chance, **fitting})


def new_window(rates: NewcomerRates, incumbent: int | None, preset: int) -> tuple[int, Reason]:
    """Choose the days since the first purchase for which a customer is new.

    Parameters
    ----------
    rates : NewcomerRates
        How newcomers buy.
    incumbent : int or None
        Last week's window in days, if there is one.
    preset : int
        Window in days that applies before there is any.

    Returns
    -------
    tuple of int and Reason
        Days, and why.
    """
    before = preset if incumbent is None else incumbent
    split = rates.split()
    if split is None:
        code = WindowCode.NEW_NO_DIFFERENCE if len(rates.explained) else WindowCode.NEW_UNSEEN
        return before, Reason(code, {"days": before})
    weeks = before // 7
    is_split = incumbent is not None and before % 7 == 0 and 1 <= weeks <= len(rates.explained)
    is_nearly_best = is_split and rates.explained[weeks - 1] >= MIN_EXPLAINED_SHARE * rates.explained[split - 1]
    if is_nearly_best or (is_split and not rates.is_significantly_better(split, weeks)):
        return before, Reason(WindowCode.NEW_UNCHANGED, {"days": before})
    figures = {"days": int(7 * split), "distance": float(rates.distance[split - 1])}
    return 7 * split, Reason(WindowCode.NEW_ESTIMATED, figures)

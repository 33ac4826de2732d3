"""The windows of the stages: days, or what the data say where the project file says `auto`.

Belongs here: turning what was measured into days that stay put while nothing changes. Does not belong here: the
measuring (see `silences` and `newcomers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from ml.engine import Engine, Input
from ml.lifecycle.decisions import WindowCode
from ml.lifecycle.model import LifecycleModel
from ml.lifecycle.newcomers import NewcomerRates, newcomer_rates
from ml.lifecycle.silences import ReturnCurve, return_curve
from ml.lifecycle.spec import CHANCE_LEFT, LONGEST, SHORTEST, LifecycleSpec
from ml.reasons import Reason

AS_GOOD = 0.95  # a window of newcomers stays while it explains this much of what the best one would
LENGTHEN = 1.05  # a window known to be too short is lengthened when the data reach this much further


@dataclass(frozen=True)
class Windows:
    """The windows of a week, why they are what they are, and what they were read from.

    Parameters
    ----------
    new_for, churn_after : days
    reasons : one per window that was estimated
    curve, newcomers : what was measured; None for a window that the project file fixes
    threshold : the chance of a return that the curve was held against
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
    """The windows of the week that ends on `as_of`.

    Last week's window stays while the data do not speak against it, the newcomers' while it explains their rates nearly
    as well as the best, or as well as chance can tell. The churn window stays while the chance of a return after it is
    not significantly off the threshold, and else goes just as far as the nearest silence of which that is true: drift
    is followed in small steps.

    Parameters
    ----------
    customer_days : facts per customer and day, up to `as_of`
    incumbent : last week's model, if there is one
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
    """The chance of a return below which a customer has churned."""
    if isinstance(spec.churn_return_chance, str):
        return CHANCE_LEFT * curve.highest
    return spec.churn_return_chance


def churn_window(curve: ReturnCurve, threshold: float, incumbent: int | None, preset: int) -> tuple[int, Reason]:
    """Days of silence after which a customer has churned, with the reason.

    The shortest silence after which the chance of returning stays under the threshold. Where the data do not reach so
    far, the window is at least as long as they do: a shorter one is known to be too short.

    Parameters
    ----------
    threshold : chance of a return within the curve's window
    incumbent, preset : last week's window, and the one that holds before there is any
    """
    before = preset if incumbent is None else incumbent
    asked = {"threshold": threshold, "within": curve.within_days}
    if curve.reach < 0:
        return before, Reason(WindowCode.CHURN_UNWATCHED, {"days": before, "within": curve.within_days})
    found = curve.crossing(threshold)
    if found is None:
        is_known_too_short = curve.is_off(before, threshold) and curve.reach > LENGTHEN * before
        days = min(max(before, curve.reach), LONGEST) if is_known_too_short or incumbent is None else before
        chance = float(curve.fitted[curve.reach])
        figures = {"days": int(days), "reach": int(curve.reach), "chance": chance, **asked}
        return days, Reason(WindowCode.CHURN_BEYOND_HISTORY, figures)
    low, high = (min(max(days, SHORTEST), LONGEST) for days in curve.interval(threshold))
    fitting = {"low": int(low), "high": int(high), **asked}
    if incumbent is not None and low <= min(incumbent, curve.reach) <= high:
        return incumbent, Reason(WindowCode.CHURN_UNCHANGED, {"days": incumbent, **fitting})
    days = min(max(found if incumbent is None else incumbent, low), high)
    chance = float(curve.fitted[min(days, curve.reach)])
    return days, Reason(WindowCode.CHURN_ESTIMATED, {"days": int(days), "chance": chance, **fitting})


def new_window(rates: NewcomerRates, incumbent: int | None, preset: int) -> tuple[int, Reason]:
    """Days since the first purchase for which a customer is new, with the reason."""
    before = preset if incumbent is None else incumbent
    split = rates.split()
    if split is None:
        code = WindowCode.NEW_NO_DIFFERENCE if len(rates.explained) else WindowCode.NEW_UNSEEN
        return before, Reason(code, {"days": before})
    weeks = before // 7
    is_split = incumbent is not None and before % 7 == 0 and 1 <= weeks <= len(rates.explained)
    is_as_good = is_split and rates.explained[weeks - 1] >= AS_GOOD * rates.explained[split - 1]
    if is_as_good or (is_split and not rates.is_surely_better(split, weeks)):
        return before, Reason(WindowCode.NEW_UNCHANGED, {"days": before})
    figures = {"days": int(7 * split), "distance": float(rates.distance[split - 1])}
    return 7 * split, Reason(WindowCode.NEW_ESTIMATED, figures)

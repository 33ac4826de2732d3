"""Windows as training would estimate them, before anything runs: `churn_after` and `new_for`.

Belongs here: which purchases they are estimated from, and when they cannot be. Does not belong here: estimating a
window from purchases (see `ml.lifecycle`), and printing it (see `check.report`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import pyarrow.compute as pc

from microseg_assets.project import Project
from microseg_assets.sources import SourceError

MAX_ROWS = 20_000_000  # rows of transactions that `check` reads a second time


@dataclass(frozen=True)
class Estimate:
    """The windows of the stages, and the origin of each number.

    Parameters
    ----------
    days : ``churn_after`` and ``new_for`` to days
    read : the windows that were estimated from purchases
    preset : the windows that training will estimate, and that are presets until it can
    as_of : the day up to which purchases were read; None if they were not
    """

    days: Mapping[str, int]
    read: frozenset[str] = frozenset()
    preset: frozenset[str] = frozenset()
    as_of: date | None = None


def estimate_windows(project: Project, rows: Mapping[date, int]) -> Estimate:
    """Estimate the windows as a first training at the end of the newest full week would.

    Parameters
    ----------
    rows : day to number of transactions; empty if the source cannot be read
    """
    from ml.engine import in_memory
    from ml.lifecycle import windows_of

    spec = project.lifecycle
    first = {"churn_after": spec.first_churn_after, "new_for": spec.first_new_for}
    settings = {"churn_after": spec.churn_after_days, "new_for": spec.new_for_days}
    auto = frozenset(name for name, days in settings.items() if days == "auto")
    presets = Estimate(first, preset=auto)
    inside = [day for day in rows if day >= project.start and (project.end is None or day <= project.end)]
    source = project.source("transactions")
    if not auto or not inside or source is None or sum(rows.values()) > MAX_ROWS:
        return presets
    newest = max(inside)
    as_of = newest - timedelta(days=(newest.weekday() + 1) % 7)  # the Sunday that ended the last full week
    if as_of < min(inside):
        return presets
    try:
        purchases = source.purchases(min(inside), as_of)
    except SourceError:
        return presets
    if pc.count_distinct(purchases["customer_id"]).as_py() < spec.min_customers:
        return presets
    estimate = windows_of(in_memory(), purchases, as_of, spec, None)
    read = set()
    if estimate.curve is not None and estimate.curve.longest_observed >= 0:
        read.add("churn_after")
    if estimate.newcomers is not None and estimate.newcomers.split() is not None:
        read.add("new_for")
    days = {"churn_after": estimate.churn_after, "new_for": estimate.new_for}
    return Estimate(days, frozenset(read), auto - read, as_of)

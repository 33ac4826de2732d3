"""Rows that no day can be read of: how many count against which day, and when they are too many for any.

Such a row is in quarantine, and of no day. But it was of one: where the dates of the newest day cannot be read, that
day must not be published without its rows. So rows without a day count against the days that they may belong to, by
where they lie in their files; where rows have no order (a query, a database), those that are new since rows were last
accepted count against the days that are new. Rows older than the project have a day, and count against none.

Belongs here: that reckoning, and the sentence about it. Does not belong here: where rows lie (see `sources.undated`),
and the verdict on a day (see `expectations`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from microseg_assets.sources import EARLY, Arrival

if TYPE_CHECKING:
    from microseg_assets.project import Project


def problems_of(undated: pa.Table) -> Counter[str]:
    """Why rows have no day, with how many; without those that are older than the project.

    Parameters
    ----------
    undated : from `Source.undated`
    """
    return Counter(undated.filter(pc.invert(undated[EARLY]))["problem"].to_pylist())


def too_many(project: Project, table: str, problems: Mapping[str, int], dated: int) -> str | None:
    """A sentence, if so many rows have no day that the source as a whole cannot be what it seems."""
    lost = sum(problems.values())
    if lost <= project.validation.allowed(lost + dated):
        return None
    listed = "; ".join(f"{problem} ×{count:,}" for problem, count in Counter(problems).most_common(5))
    limit = project.validation.max_refused_share
    return (
        f"{lost:,} of {lost + dated:,} rows of {table} belong to no day ({listed}), more than the {limit:.0%} that "
        f"validation.max_refused_share allows. They are in quarantine, day=undated. Say in {project.path} how "
        "the stamp is written, or correct the source"
    )


def against_new_days(
    project: Project,
    lost: int,
    arrived: Mapping[date, Arrival],
    accepted: Mapping[date, int],
    counted_before: int,
) -> dict[date, int]:
    """Day to how many rows without a day count against it, where rows have no order: of days not accepted yet, or
    grown since, in proportion to their new rows; nothing where these are within the limit.

    Parameters
    ----------
    lost : rows without a day, of the whole source
    accepted : days accepted so far, with the rows that were taken in
    counted_before : rows without a day that there were when the newest of these was taken in
    """
    new = {day: now.rows - accepted.get(day, 0) for day, now in arrived.items()}
    new = {day: rows for day, rows in new.items() if rows > 0}
    fresh, rows = max(lost - counted_before, 0), sum(new.values())
    if fresh <= project.validation.allowed(fresh + rows):
        return {}
    return {day: max(round(fresh * part / rows), 1) for day, part in new.items()}

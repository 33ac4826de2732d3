"""Rows whose day cannot be read: how many count against which day, and whether they are too many.

Such a row is in quarantine, without a day. But it belongs to one: if the dates of the newest day cannot be read, that
day must not be published without its rows. So rows without a day count against the days they may belong to, by their
position in their files. If rows have no order (a query, a database), those that are new since rows were last accepted
count against the new days. Rows older than the project have a day, and count against none.

Belongs here: these counts, and the message about them. Does not belong here: the position of rows (see
`sources.undated`), and the verdict on a day (see `expectations`).
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


def count_problems(undated: pa.Table) -> Counter[str]:
    """Why rows have no day, with their number; rows older than the project are not counted.

    Parameters
    ----------
    undated : from `Source.undated`
    """
    return Counter(undated.filter(pc.invert(undated[EARLY]))["problem"].to_pylist())


def explain_too_many(project: Project, table: str, problems: Mapping[str, int], dated: int) -> str | None:
    """A message if so many rows have no day that the source as a whole cannot be trusted."""
    undated = sum(problems.values())
    if undated <= project.validation.allowed(undated + dated):
        return None
    listed = "; ".join(f"{problem} ×{count:,}" for problem, count in Counter(problems).most_common(5))
    limit = project.validation.max_refused_share
    return (
        f"{undated:,} of {undated + dated:,} rows of {table} belong to no day ({listed}), more than the {limit:.0%} "
        f"that validation.max_refused_share allows. They are in quarantine, day=undated. Say in {project.path} how "
        "the stamp is written, or correct the source"
    )


def spread_over_new_days(
    project: Project,
    total: int,
    arrived: Mapping[date, Arrival],
    accepted: Mapping[date, int],
    total_before: int,
) -> dict[date, int]:
    """Spread the new rows without a day over the new days, if rows have no order and exceed the allowed share.

    Days not accepted yet, or with more rows than before, get a part in proportion to their new rows.

    Parameters
    ----------
    total : rows without a day in the whole source
    arrived : day to what the source holds of it
    accepted : days accepted so far, with the number of rows ingested
    total_before : rows without a day when the newest of these was ingested
    """
    new = {day: now.rows - accepted.get(day, 0) for day, now in arrived.items()}
    new = {day: rows for day, rows in new.items() if rows > 0}
    undated, dated = max(total - total_before, 0), sum(new.values())
    if undated <= project.validation.allowed(undated + dated):
        return {}
    return {day: max(round(undated * rows / dated), 1) for day, rows in new.items()}

"""Duplicates across days: a row whose `transaction_id` was accepted on an earlier day.

Belongs here: finding those rows, and which of them are accepted when an earlier day is refused after all. Does not
belong here: duplicates within a day, which are a row rule like any other (`expectations.validation`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from expectations.refusals import content_columns
from ml.engine import quoted
from ml.tables import Table

if TYPE_CHECKING:
    import numpy as np

    from ml.engine import Engine, Input

ID = "transaction_id"
_SQL = f"""
SELECT candidates.row_number, candidates.day, candidates.{ID} AS id, earlier.{ID} IS NOT NULL AS known,
       hash({{content}}) AS content, hash({{before}}) AS content_before
FROM candidates LEFT JOIN earlier ON candidates.{ID} = earlier.{ID}
WHERE earlier.{ID} IS NOT NULL OR candidates.{ID} IN (SELECT {ID} FROM candidates GROUP BY {ID} HAVING COUNT(*) > 1)
ORDER BY id, candidates.day
"""


@dataclass(frozen=True)
class Repeats:
    """Rows whose id also occurs on an earlier or later day, in order of id and day.

    Parameters
    ----------
    numbers : the row's number
    days : its day
    groups : a number for its id
    known : whether its id was accepted before the first of these days
    content : hash of the row's `refusals.content_columns`
    content_before : that of the accepted row, where `known`
    """

    numbers: np.ndarray
    days: np.ndarray
    groups: np.ndarray
    known: np.ndarray
    content: np.ndarray
    content_before: np.ndarray

    def refused(self, failed: Collection[date] = ()) -> dict[int, bool]:
        """Numbers of the rows that repeat an accepted one, given that the days in `failed` accepted none; and whether
        the row is something else under the same id, rather than the same thing sent again.

        Of the rows with one id, the first on a day that passed is accepted; all later ones repeat it.
        """
        import numpy as np

        if not len(self.numbers):
            return {}
        passed = ~np.isin(self.days, np.array(list(failed), dtype="datetime64[D]"))
        before: np.ndarray = np.cumsum(passed) - passed
        starts = np.r_[True, self.groups[1:] != self.groups[:-1]]
        before -= np.maximum.accumulate(np.where(starts, before, 0))
        accepted = np.maximum.accumulate(np.where(passed & (before == 0), np.arange(len(passed)), 0))
        differs = self.content != np.where(self.known, self.content_before, self.content[accepted])
        repeats = self.known | (before > 0)
        return dict(zip(self.numbers[repeats].tolist(), differs[repeats].tolist(), strict=True))


def repeats(engine: Engine, table: Table, candidates: pa.Table, earlier: Input | None) -> Repeats:
    """Find the rows whose id occurs on several days.

    Parameters
    ----------
    candidates : `row_number`, `day`, `transaction_id` and the columns of `refusals.content_columns`, of the rows that
        no other rule refuses; each id once a day
    earlier : the id and these columns of the rows accepted before
    """
    import numpy as np

    nothing = np.empty(0, dtype=np.int64)
    if ID not in table.names or candidates[ID].null_count == candidates.num_rows:
        return Repeats(
            nothing, nothing.astype("datetime64[D]"), nothing, nothing.astype(bool), nothing, nothing
        )  # fmt: skip
    candidates = candidates.filter(pc.is_valid(candidates[ID]))
    columns = [quoted(name) for name in content_columns(table)]
    if earlier is None:
        earlier = candidates.slice(0, 0)
    # Otherwise every id ever accepted would be held in memory.
    known = engine.query(
        f"SELECT DISTINCT {', '.join([ID, *columns])} FROM earlier WHERE {ID} IN (SELECT {ID} FROM candidates)",
        earlier=earlier, candidates=candidates,
    )  # fmt: skip
    content, before = (", ".join(f"{relation}.{name}" for name in columns) for relation in ("candidates", "earlier"))
    rows = engine.query(_SQL.format(content=content, before=before), earlier=known, candidates=candidates)
    ids = rows["id"].combine_chunks().dictionary_encode()
    return Repeats(
        rows["row_number"].to_numpy(),
        rows["day"].to_numpy().astype("datetime64[D]"),
        np.asarray(ids.indices),
        rows["known"].to_numpy(zero_copy_only=False).astype(bool),
        rows["content"].to_numpy(),
        rows["content_before"].to_numpy(),
    )

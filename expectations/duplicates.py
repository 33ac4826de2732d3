"""Duplicates across days: a row whose `transaction_id` was accepted on an earlier day.

Belongs here: finding those rows, and which of them stay when an earlier day is refused after all. Does not belong
here: duplicates inside of a day, which are a row rule like others (`expectations.validation`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ml.tables import Table

if TYPE_CHECKING:
    import numpy as np

    from ml.engine import Engine, Input

ID = "transaction_id"
_SQL = f"""
SELECT row_number, day, {ID} AS id, {ID} IN (SELECT {ID} FROM earlier) AS known
FROM candidates
WHERE {ID} IN (SELECT {ID} FROM earlier) OR {ID} IN (SELECT {ID} FROM candidates GROUP BY {ID} HAVING COUNT(*) > 1)
ORDER BY id, day
"""


@dataclass(frozen=True)
class Repeats:
    """Rows whose id occurs on an earlier or later day as well, in order of id and day.

    Parameters
    ----------
    numbers : the row's number
    days : its day
    groups : a number for its id
    known : whether its id was accepted before the first of these days
    """

    numbers: np.ndarray
    days: np.ndarray
    groups: np.ndarray
    known: np.ndarray

    def refused(self, failed: Collection[date] = ()) -> np.ndarray:
        """Numbers of the rows that repeat an accepted one, where the days in `failed` accepted none.

        Of the rows of one id the first on a day that passed is accepted, and all later ones repeat it.
        """
        import numpy as np

        if not len(self.numbers):
            return self.numbers
        passed = ~np.isin(self.days, np.array(list(failed), dtype="datetime64[D]"))
        before: np.ndarray = np.cumsum(passed) - passed
        starts = np.r_[True, self.groups[1:] != self.groups[:-1]]
        before -= np.maximum.accumulate(np.where(starts, before, 0))
        return self.numbers[self.known | (before > 0)]


def repeats(engine: Engine, table: Table, candidates: pa.Table, earlier: Input | None) -> Repeats:
    """Find the rows of an id that occurs on several days.

    Parameters
    ----------
    candidates : `row_number`, `day` and `transaction_id` of the rows that no other rule refuses, each id once a day
    earlier : `transaction_id` of what was accepted before
    """
    import numpy as np

    nothing = np.empty(0, dtype=np.int64)
    if ID not in table.names or candidates[ID].null_count == candidates.num_rows:
        return Repeats(nothing, nothing.astype("datetime64[D]"), nothing, nothing.astype(bool))
    candidates = candidates.filter(pc.is_valid(candidates[ID]))
    if earlier is None:
        earlier = pa.table({ID: pa.array([], pa.string())})
    # Only what can repeat is looked for: without that, every id ever accepted would be held in memory.
    known = engine.query(
        f"SELECT DISTINCT {ID} FROM earlier WHERE {ID} IN (SELECT {ID} FROM candidates)",
        earlier=earlier, candidates=candidates,
    )  # fmt: skip
    found = engine.query(_SQL, earlier=known, candidates=candidates)
    ids = found["id"].combine_chunks().dictionary_encode()
    return Repeats(
        found["row_number"].to_numpy(),
        found["day"].to_numpy().astype("datetime64[D]"),
        np.asarray(ids.indices),
        found["known"].to_numpy(zero_copy_only=False).astype(bool),
    )

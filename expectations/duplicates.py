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

from expectations.refusals import said_again
from ml.engine import quoted
from ml.tables import Table

if TYPE_CHECKING:
    import numpy as np

    from ml.engine import Engine, Input

ID = "transaction_id"
_SQL = f"""
SELECT candidates.row_number, candidates.day, candidates.{ID} AS id, earlier.{ID} IS NOT NULL AS known,
       hash({{said}}) AS said, hash({{before}}) AS said_before
FROM candidates LEFT JOIN earlier ON candidates.{ID} = earlier.{ID}
WHERE earlier.{ID} IS NOT NULL OR candidates.{ID} IN (SELECT {ID} FROM candidates GROUP BY {ID} HAVING COUNT(*) > 1)
ORDER BY id, candidates.day
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
    said : what the row says of the thing with that id (see `refusals.said_again`), as a number
    said_before : what the accepted one said, where `known`
    """

    numbers: np.ndarray
    days: np.ndarray
    groups: np.ndarray
    known: np.ndarray
    said: np.ndarray
    said_before: np.ndarray

    def refused(self, failed: Collection[date] = ()) -> dict[int, bool]:
        """Numbers of the rows that repeat an accepted one, where the days in `failed` accepted none; and whether the
        row is another thing under the same id, not the same one sent again.

        Of the rows of one id the first on a day that passed is accepted, and all later ones repeat it.
        """
        import numpy as np

        if not len(self.numbers):
            return {}
        passed = ~np.isin(self.days, np.array(list(failed), dtype="datetime64[D]"))
        before: np.ndarray = np.cumsum(passed) - passed
        starts = np.r_[True, self.groups[1:] != self.groups[:-1]]
        before -= np.maximum.accumulate(np.where(starts, before, 0))
        accepted = np.maximum.accumulate(np.where(passed & (before == 0), np.arange(len(passed)), 0))
        differs = self.said != np.where(self.known, self.said_before, self.said[accepted])
        repeats = self.known | (before > 0)
        return dict(zip(self.numbers[repeats].tolist(), differs[repeats].tolist(), strict=True))


def repeats(engine: Engine, table: Table, candidates: pa.Table, earlier: Input | None) -> Repeats:
    """Find the rows of an id that occurs on several days.

    Parameters
    ----------
    candidates : `row_number`, `day`, `transaction_id` and the columns of `refusals.said_again` of the rows that no
        other rule refuses, each id once a day
    earlier : `transaction_id` and these columns of what was accepted before
    """
    import numpy as np

    nothing = np.empty(0, dtype=np.int64)
    if ID not in table.names or candidates[ID].null_count == candidates.num_rows:
        return Repeats(
            nothing, nothing.astype("datetime64[D]"), nothing, nothing.astype(bool), nothing, nothing
        )  # fmt: skip
    candidates = candidates.filter(pc.is_valid(candidates[ID]))
    columns = [quoted(name) for name in said_again(table)]
    if earlier is None:
        earlier = candidates.slice(0, 0)
    # Only what can repeat is looked for: without that, every id ever accepted would be held in memory.
    known = engine.query(
        f"SELECT DISTINCT {', '.join([ID, *columns])} FROM earlier WHERE {ID} IN (SELECT {ID} FROM candidates)",
        earlier=earlier, candidates=candidates,
    )  # fmt: skip
    said, before = (", ".join(f"{of}.{name}" for name in columns) for of in ("candidates", "earlier"))
    found = engine.query(_SQL.format(said=said, before=before), earlier=known, candidates=candidates)
    ids = found["id"].combine_chunks().dictionary_encode()
    return Repeats(
        found["row_number"].to_numpy(),
        found["day"].to_numpy().astype("datetime64[D]"),
        np.asarray(ids.indices),
        found["known"].to_numpy(zero_copy_only=False).astype(bool),
        found["said"].to_numpy(),
        found["said_before"].to_numpy(),
    )

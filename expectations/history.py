"""The days that are measured and those before them, as counts on one axis.

Belongs here: laying profiles out by day and bin, and summing what came before a day. Does not belong here: any measure
(see `expectations.measures` and `expectations.shifts`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from expectations.past import Past, window
from expectations.profiles import CUSTOMERS, REST, ROWS, WHOLE
from expectations.rules import ValidationSpec

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class History:
    """Counts on an unbroken axis of days: the trailing window, then the days that are measured.

    Parameters
    ----------
    judged : places of the measured days on the axis
    accepted : whether a day may be compared with
    began : place of the first day that was ever accepted, which may lie before the axis; None if none was
    bins : column to the names of its bins (None: missing) and their counts, days × bins; in an order that does not
        depend on which days are there
    """

    first: date
    days: Sequence[date]
    judged: np.ndarray
    accepted: np.ndarray
    began: int | None
    rows: np.ndarray
    customers: np.ndarray
    bins: Mapping[str, tuple[list[str | None], np.ndarray]]

    @classmethod
    def of(
        cls,
        profiles: pa.Table,
        days: Sequence[date],
        spec: ValidationSpec,
        past: Past,
        failed: Collection[date],
    ) -> History:
        import numpy as np

        first = days[0] - timedelta(days=window(spec))
        length = (days[-1] - first).days + 1
        judged = np.array([(day - first).days for day in days])
        accepted = np.zeros(length, dtype=bool)
        there = {day for day in past.days if first <= day < days[0]} | (set(days) - set(failed))
        accepted[[(day - first).days for day in there]] = True
        ever = there if past.began is None else there | {past.began}
        began = (min(ever) - first).days if ever else None
        place = (profiles["day"].cast(pa.int32()).to_numpy() - _number(first)).astype(np.int64)
        profiles = profiles.filter(pa.array((place >= 0) & (place < length)))
        place = place[(place >= 0) & (place < length)]
        names = profiles["column"].combine_chunks().dictionary_encode()
        codes, counts = np.asarray(names.indices), profiles["rows"].to_numpy()
        bins: dict[str, tuple[list[str | None], np.ndarray]] = {}
        for code, name in enumerate(names.dictionary.to_pylist()):
            mine = codes == code
            encoded = pc.dictionary_encode(
                profiles["bin"].filter(pa.array(mine)).combine_chunks(), null_encoding="encode"
            )
            labels = encoded.dictionary.to_pylist()
            order = sorted(range(len(labels)), key=lambda i: (labels[i] == REST, labels[i] is None, labels[i] or ""))
            matrix = np.zeros((length, len(labels)))
            np.add.at(matrix, (place[mine], np.argsort(order)[np.asarray(encoded.indices)]), counts[mine])
            bins[name] = [labels[i] for i in order], matrix
        whole, matrix = bins.pop(WHOLE, ([], np.zeros((length, 0))))
        rows, customers = (
            matrix[:, whole.index(name)] if name in whole else np.zeros(length) for name in (ROWS, CUSTOMERS)
        )
        return cls(first, days, judged, accepted, began, rows, customers, bins)

    def trailing(self, counts: np.ndarray, days: int) -> np.ndarray:
        """Sums over the accepted of so many days before each measured one."""
        import numpy as np

        used = np.where(self.accepted.reshape(-1, *[1] * (counts.ndim - 1)), counts, 0.0)
        total = np.concatenate([np.zeros((1, *counts.shape[1:])), np.cumsum(used, axis=0)])
        return total[self.judged] - total[np.maximum(self.judged - days, 0)]


def _number(day: date) -> int:
    return (day - date(1970, 1, 1)).days

"""The days that are measured and those before them, as counts on one axis.

Belongs here: laying out profiles by day and bin, and summing the days before a day. Does not belong here: any measure
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
    """Counts on an unbroken axis of days: the baseline window, then the days that are measured.

    Parameters
    ----------
    judged : positions of the measured days on the axis
    accepted : whether a day was accepted, so that later ones are compared with it
    began : position of the first day that was ever accepted, which may lie before the axis; None if none was
    bins : column to the names of its bins (None: missing) and their counts, days × bins, in an order that does not
        depend on which days there are
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
        comparable = {day for day in past.days if first <= day < days[0]} | (set(days) - set(failed))
        accepted[[(day - first).days for day in comparable]] = True
        ever = comparable if past.began is None else comparable | {past.began}
        began = (min(ever) - first).days if ever else None
        position = (profiles["day"].cast(pa.int32()).to_numpy() - _number(first)).astype(np.int64)
        profiles = profiles.filter(pa.array((position >= 0) & (position < length)))
        position = position[(position >= 0) & (position < length)]
        names = profiles["column"].combine_chunks().dictionary_encode()
        codes, counts = np.asarray(names.indices), profiles["rows"].to_numpy()
        bins: dict[str, tuple[list[str | None], np.ndarray]] = {}
        for code, name in enumerate(names.dictionary.to_pylist()):
            is_column = codes == code
            encoded = pc.dictionary_encode(
                profiles["bin"].filter(pa.array(is_column)).combine_chunks(), null_encoding="encode"
            )
            labels = encoded.dictionary.to_pylist()
            order = sorted(range(len(labels)), key=lambda i: (labels[i] == REST, labels[i] is None, labels[i] or ""))
            matrix = np.zeros((length, len(labels)))
            np.add.at(matrix, (position[is_column], np.argsort(order)[np.asarray(encoded.indices)]), counts[is_column])
            bins[name] = [labels[i] for i in order], matrix
        whole, matrix = bins.pop(WHOLE, ([], np.zeros((length, 0))))
        rows, customers = (
            matrix[:, whole.index(name)] if name in whole else np.zeros(length) for name in (ROWS, CUSTOMERS)
        )
        return cls(first, days, judged, accepted, began, rows, customers, bins)

    def baseline(self, counts: np.ndarray, days: int) -> np.ndarray:
        """Sums over the accepted ones of the `days` days before each measured day."""
        import numpy as np

        used = np.where(self.accepted.reshape(-1, *[1] * (counts.ndim - 1)), counts, 0.0)
        total = np.concatenate([np.zeros((1, *counts.shape[1:])), np.cumsum(used, axis=0)])
        return total[self.judged] - total[np.maximum(self.judged - days, 0)]


def _number(day: date) -> int:
    return (day - date(1970, 1, 1)).days

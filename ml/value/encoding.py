"""A snapshot as a matrix that trees can read.

Belongs here: which columns, vocabularies, and windows that began before the business did. Does not belong here: trees
(see `boosted`), and what BG/NBD makes of a snapshot (see `closed_form`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ml.columns import is_number, is_text, numbers

MAX_CATEGORIES = 64
MIN_CUSTOMERS = 5  # that must share a word before a model stores it
KEYS = ("customer_id", "day")
# Sums over the last days: with less history than the window, they are scaled up to the whole window.
WINDOW_SUMS: Mapping[str, int] = {
    **{f"{name}_28d": 28 for name in ("orders", "spend", "margin", "purchase_days", "events", "exposures")},
    **{
        f"{name}_90d": 90
        for name in ("orders", "spend", "margin", "purchase_days", "items", "refunds", "events", "exposures")
    },
}  # fmt: skip


@dataclass(frozen=True)
class Encoder:
    """Turns a snapshot into numbers: numeric columns as they are, text columns as positions in a stored vocabulary.

    A word that is not in the vocabulary counts as missing.
    """

    numeric: tuple[str, ...]
    vocabulary: Mapping[str, tuple[str, ...]]

    @classmethod
    def learn(cls, table: pa.Table) -> Self:
        """Take every numeric and text column; of a text column the most frequent words (by count, then by name) that
        several customers share: a word that only one customer has would identify it, and stays out of a model."""
        numeric, vocabulary = [], {}
        for field in table.schema:
            if field.name in KEYS:
                continue
            if is_number(field.type) or pa.types.is_boolean(field.type):
                numeric.append(field.name)
            elif is_text(field.type):
                words = _counted(table, field.name)
                shared = sorted(
                    (-rows, word) for word, (rows, customers) in words.items() if customers >= MIN_CUSTOMERS
                )
                vocabulary[field.name] = tuple(sorted(word for _, word in shared[:MAX_CATEGORIES]))
        return cls(tuple(numeric), vocabulary)

    @property
    def columns(self) -> list[str]:
        """The columns of the matrix, in order."""
        return [*self.numeric, *self.vocabulary]

    def matrix(self, table: pa.Table, first_day: date | None = None) -> np.ndarray:
        """A matrix with the rows of `table` and one float per column, NaN where missing.

        Parameters
        ----------
        first_day : the first day of the business, to scale up windows that reach back before it; None leaves them

        Raises
        ------
        ValueError
            If a column that the model was fitted on is missing.
        """
        require(table, self.columns)
        out = np.empty((table.num_rows, len(self.columns)), dtype=np.float64)
        seen = history_days(table, first_day)
        for position, name in enumerate(self.numeric):
            out[:, position] = numbers(table[name])
            if name in WINDOW_SUMS:
                out[:, position] *= scale_to_window(seen, WINDOW_SUMS[name])
        for position, (name, words) in enumerate(self.vocabulary.items(), start=len(self.numeric)):
            codes = pc.index_in(_text(table[name]), value_set=pa.array(words, pa.string()))
            out[:, position] = numbers(codes)
        return out


def require(table: pa.Table, columns: Sequence[str]) -> None:
    """Refuse a snapshot without the columns that a model was fitted on."""
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ValueError(
            f"the value model was fitted on {', '.join(missing)}, which the snapshot does not have: "
            "fit it again (weekly job), or bring the columns back"
        )


def history_days(table: pa.Table, first_day: date | None) -> np.ndarray | None:
    """Days of business up to each row's day; None where that is unknown, and windows count as full."""
    if first_day is None or "day" not in table.column_names:
        return None
    days = np.asarray(table["day"].to_numpy(), dtype="datetime64[D]")
    result: np.ndarray | None = np.maximum((days - np.datetime64(first_day, "D")).astype(float) + 1, 1.0)
    return result


def scale_to_window(history: np.ndarray | None, window: int) -> np.ndarray | float:
    """The factor that scales a sum over `window` days up to the whole window, where history is shorter."""
    return 1.0 if history is None else window / np.minimum(history, window)


def _counted(table: pa.Table, name: str) -> dict[str, tuple[int, int]]:
    """Rows and customers of each word of a column; without a column `customer_id`, each row is a customer."""
    word = _text(table[name])
    customer = table["customer_id"] if "customer_id" in table.column_names else pa.array(range(table.num_rows))
    pairs = pa.table({"word": word, "customer": customer}).filter(word.is_valid())
    counts = pairs.group_by("word").aggregate([("customer", "count"), ("customer", "count_distinct")]).to_pylist()
    return {row["word"]: (row["customer_count"], row["customer_count_distinct"]) for row in counts}


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.cast(column, pa.string())

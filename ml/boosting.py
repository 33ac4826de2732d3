"""LightGBM as every family uses it: bins cut once, one thread a fit on small data, the same trees every time.

Belongs here: threads, determinism, and what fits on the same matrix share. Does not belong here: any family's recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import lightgbm
    from numpy.typing import NDArray

T = TypeVar("T")

SMALL_ROWS = 50_000
CORES = 2
# The same trees on every run and every number of threads.
REPEATABLE: Mapping[str, Any] = {"deterministic": True, "force_row_wise": True, "verbosity": -1}


def thread_count(rows: int) -> int:
    """Threads for a matrix of so many rows; the result is the same.

    LightGBM's threads wait for each other after every small step. Where the cores are busy with something else, two
    threads took 20 to 50 s for a fit of 10,000 rows that one does in 2 to 4.
    """
    return CORES if rows >= SMALL_ROWS else 1


def run_in_parallel(jobs: Iterable[Callable[[], T]], rows: int) -> list[T]:
    """The results of independent fits or predictions on matrices of about `rows` rows, in the order of the jobs.

    Small ones run on a core each: unlike the threads of one fit they never wait for each other.
    """
    if thread_count(rows) > 1:
        return [job() for job in jobs]
    with ThreadPoolExecutor(max_workers=CORES) as pool:
        return list(pool.map(lambda job: job(), jobs))


class Binned:
    """A matrix whose columns are cut into bins once, for many fits: of any target, on any of its rows.

    The borders are read off all rows; no target has a say in them.

    Parameters
    ----------
    matrix : shape (n, columns), NaN where missing
    categorical : positions of the columns that hold codes
    params : LightGBM's parameters of the data (`max_bin` …); a fit's own may not contradict them
    """

    def __init__(
        self, matrix: NDArray[np.float64], *, categorical: Sequence[int] = (), params: Mapping[str, Any] | None = None
    ) -> None:
        import lightgbm

        self.matrix = matrix
        # The number of threads is LightGBM's own global: a row cut out with another number, while a fit is under way in
        # another thread, made that one write beyond its buffers.
        own = {"feature_pre_filter": False, "num_threads": thread_count(len(matrix))}
        self._params = {**own, **(params or {}), **REPEATABLE}
        self._data = lightgbm.Dataset(
            matrix, np.zeros(len(matrix)), categorical_feature=list(categorical), params=dict(self._params)
        ).construct()

    def fit(
        self,
        target: NDArray[np.float64],
        recipe: Mapping[str, Any],
        *,
        rounds: int,
        seed: int,
        rows: NDArray[np.bool_] | None = None,
    ) -> lightgbm.Booster:
        """Trees for `target`, one number per row of the matrix, learnt on `rows` (a mask; all, if None)."""
        import lightgbm

        places = np.arange(len(self.matrix)) if rows is None else np.flatnonzero(rows)
        params = {**self._params, **recipe, "seed": seed, "num_threads": thread_count(len(places))}
        data = self._data.subset(places.tolist()).construct().set_label(np.asarray(target, dtype=float)[places])
        return lightgbm.train(params, data, num_boost_round=rounds)


def predict(booster: lightgbm.Booster, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """One number per row of `matrix`."""
    if not len(matrix):
        return np.zeros(0)
    return np.asarray(booster.predict(matrix, num_threads=thread_count(len(matrix))), dtype=float)

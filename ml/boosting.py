"""LightGBM as every family uses it: bins computed once, one thread per small fit, the same trees every time.

Belongs here: threads, determinism, and what fits on the same matrix share. Does not belong here: any family's recipe.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import lightgbm
    from numpy.typing import NDArray

T = TypeVar("T")

SMALL_ROWS = 50_000
LARGE_ROWS = 1_000_000
CORES = 2
# The same trees on every run and every number of threads.
REPEATABLE: Mapping[str, Any] = {"deterministic": True, "force_row_wise": True, "verbosity": -1}
_job = threading.local()  # in threads of `run_in_parallel` it has `is_running`


def thread_count(rows: int) -> int:
    """Choose the number of threads for a matrix; it does not change the result.

    LightGBM's threads wait for each other after every small step. On busy cores, two threads took 20 to 50 s for a fit
    of 10,000 rows that takes one thread 2 to 4 s. One of several jobs (`run_in_parallel`) has a core to itself.

    Parameters
    ----------
    rows : int
        Rows of the matrix.

    Returns
    -------
    int
        Number of threads.

    Examples
    --------
    >>> thread_count(10_000), thread_count(1_000_000)
    (1, 2)
    """
    return CORES if rows >= SMALL_ROWS and not hasattr(_job, "is_running") else 1


def run_in_parallel(jobs: Iterable[Callable[[], T]], rows: int) -> list[T]:
    """Run independent fits or predictions.

    Each has a core to itself: unlike the threads of one fit they never wait for each other. Those of matrices so large
    that memory is scarce take turns, with all cores.

    Parameters
    ----------
    jobs : iterable of callable
        Functions without parameters.
    rows : int
        Approximate number of rows of each job's matrix.

    Returns
    -------
    list
        The results, in the order of the jobs.

    Examples
    --------
    >>> run_in_parallel([lambda: 1, lambda: 2], rows=100)
    [1, 2]
    """
    jobs = list(jobs)
    if len(jobs) < 2 or rows > LARGE_ROWS:
        return [job() for job in jobs]
    with ThreadPoolExecutor(CORES, initializer=lambda: setattr(_job, "is_running", True)) as pool:
        return list(pool.map(lambda job: job(), jobs))


class Binned:
    """A matrix whose columns are cut into bins once, for many fits: of any target, on any of its rows.

    The borders are computed from all rows, and do not depend on a target.

    Parameters
    ----------
    matrix : np.ndarray of shape (n_rows, n_columns)
        NaN where missing.
    categorical : sequence of int
        Positions of the columns that hold codes.
    params : Mapping of str to Any, optional
        LightGBM's parameters of the data (`max_bin` and so on); those of a fit may not contradict them.

    Examples
    --------
    >>> x = np.repeat([[0.0], [1.0]], 50, axis=0)
    >>> booster = Binned(x).fit(x[:, 0], {"objective": "regression"}, rounds=50, seed=0)
    >>> predict(booster, np.array([[0.0], [1.0]])).round(1).tolist()
    [0.0, 1.0]
    """

    def __init__(
        self, matrix: NDArray[np.float64], *, categorical: Sequence[int] = (), params: Mapping[str, Any] | None = None
    ) -> None:
        import lightgbm

        self.matrix = matrix
        self._params = {"feature_pre_filter": False, **(params or {}), **REPEATABLE}
        self._data = lightgbm.Dataset(
            matrix,
            np.zeros(len(matrix)),
            categorical_feature=list(categorical),
            params={**self._params, "num_threads": thread_count(len(matrix))},
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
        """Fit trees on some of the rows.

        Parameters
        ----------
        target : np.ndarray of shape (n_rows,)
            One number per row of the matrix.
        recipe : Mapping of str to Any
            LightGBM's parameters.
        rounds : int
            Number of trees.
        seed : int
            Of LightGBM's draws.
        rows : np.ndarray of bool of shape (n_rows,), optional
            Rows to learn from; all by default.

        Returns
        -------
        lightgbm.Booster
            The trees.
        """
        import lightgbm

        positions = np.arange(len(self.matrix)) if rows is None else np.flatnonzero(rows)
        # The number of threads is global in LightGBM: taking a subset with another number, while a fit runs in another
        # thread, made that fit write beyond its buffers.
        own = {**self._params, "num_threads": thread_count(len(positions))}
        data = self._data.subset(positions.tolist(), own).construct()
        params = {**own, **recipe, "seed": seed}
        data.set_label(np.asarray(target, dtype=float)[positions])
        return lightgbm.train(params, data, num_boost_round=rounds)


def predict(booster: lightgbm.Booster, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Predict by trees, with the number of threads that suits the matrix.

    Parameters
    ----------
    booster : lightgbm.Booster
        The trees.
    matrix : np.ndarray of shape (n_rows, n_columns)
        NaN where missing; may be empty.

    Returns
    -------
    np.ndarray of shape (n_rows,)
        One number per row.

    Examples
    --------
    >>> x = np.repeat([[0.0], [1.0]], 50, axis=0)
    >>> booster = Binned(x).fit(x[:, 0], {"objective": "regression"}, rounds=1, seed=0)
    >>> predict(booster, np.empty((0, 1))).shape
    (0,)
    """
    if not len(matrix):
        return np.zeros(0)
    return np.asarray(booster.predict(matrix, num_threads=thread_count(len(matrix))), dtype=float)

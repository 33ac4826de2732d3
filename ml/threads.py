"""Threads of linear algebra: one, where matrices are small.

Belongs here: the limit that fits share. Does not belong here: LightGBM's threads (see `boosting`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import _ThreadpoolLimiter


def one_thread() -> _ThreadpoolLimiter:
    """Keep BLAS and OpenMP to one thread, for everything that runs inside.

    Threads that share a small product wait for each other longer than they work: SciPy's search for a maximum of four
    parameters took seven times as long on two of them, and much longer on busy cores. One thread also adds sums in the
    same order on every machine. Import the libraries that are to be limited before.

    Returns
    -------
    context manager
        The numbers of threads are as before on leaving it.

    Examples
    --------
    >>> import numpy as np
    >>> with one_thread():
    ...     product = np.ones((2, 3)) @ np.ones(3)
    >>> product.tolist()
    [3.0, 3.0]
    """
    from threadpoolctl import get_cached_controller  # looking for the libraries takes 4 ms each time

    return get_cached_controller().limit(limits=1)

"""Claims about boosting: what fits share changes nothing but the time they take."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from ml.boosting import SMALL_ROWS, Binned, predict, run_in_parallel, thread_count

RECIPE = {"objective": "regression", "learning_rate": 0.1, "num_leaves": 7}


@pytest.fixture(scope="module")
def data() -> tuple[Binned, np.ndarray]:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(600, 4))
    matrix[random.random((600, 4)) < 0.1] = np.nan
    return Binned(matrix), np.nan_to_num(matrix[:, 0]) + random.normal(0, 0.1, 600)


def test_small_fits_use_one_thread() -> None:
    assert thread_count(SMALL_ROWS - 1) == 1 < thread_count(SMALL_ROWS)


def test_fits_side_by_side_are_those_one_after_the_other(data: tuple[Binned, np.ndarray]) -> None:
    binned, target = data
    jobs = [partial(binned.fit, factor * target, RECIPE, rounds=10, seed=0) for factor in (1, 2, 3)]
    alone = [job().model_to_string() for job in jobs]
    assert [booster.model_to_string() for booster in run_in_parallel(jobs, 600)] == alone


def test_a_fit_looks_at_its_own_rows_only(data: tuple[Binned, np.ndarray]) -> None:
    binned, target = data
    rows = np.arange(600) % 2 == 0
    fitted = binned.fit(target, RECIPE, rounds=10, seed=0, rows=rows)
    other = binned.fit(np.where(rows, target, 1e6), RECIPE, rounds=10, seed=0, rows=rows)
    assert fitted.model_to_string() == other.model_to_string()
    assert np.corrcoef(predict(fitted, binned.matrix[~rows]), target[~rows])[0, 1] > 0.5


def test_nobody_to_predict_for_is_no_error(data: tuple[Binned, np.ndarray]) -> None:
    binned, target = data
    assert predict(binned.fit(target, RECIPE, rounds=2, seed=0), np.empty((0, 4))).shape == (0,)

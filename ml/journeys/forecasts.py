"""Where each customer is likely to be, and what a state of a Markov chain is worth.

Belongs here: applying a transition model. Does not belong here: fitting one (`ml.journeys.transitions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ml import tables
from ml.engine import Engine, Input, sql_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ml.journeys.transitions import TransitionModel

_CHANCES = pa.schema(
    [
        ("micro_segment", pa.string()),
        ("horizon_days", pa.int64()),
        ("stage", pa.string()),
        ("probability", pa.float64()),
    ]
)


def forecast(
    engine: Engine,
    micro_segments: Input,
    model: TransitionModel | None,
    horizons: Sequence[int] | None = None,
) -> pa.Table:
    """Predict the probability of each stage at each horizon, for every customer.

    Parameters
    ----------
    engine : Engine
        Runs the query.
    micro_segments : Input
        Columns customer_id, day and micro_segment: one row per customer and day, of one day or several.
    model : TransitionModel or None
        The transition model in force. None gives an empty table.
    horizons : sequence of int, optional
        Days ahead, multiples of the model's step. The model's own by default.

    Returns
    -------
    pa.Table
        The columns of `journey_forecasts` and `day`, ordered by day, customer, horizon and stage. The probabilities
        of a customer and horizon add up to 1.

    Examples
    --------
    >>> from datetime import date
    >>> from ml.engine import DuckDB
    >>> from ml.journeys import TransitionModel
    >>> model = TransitionModel(("active", "churn"), {"active": (90, 10), "churn": (5, 45)}, horizons=(7,))
    >>> today = pa.table({"customer_id": ["a"], "day": [date(2024, 6, 1)], "micro_segment": ["active/value.A"]})
    >>> rows = forecast(DuckDB(threads=1), today, model).select(["horizon_days", "stage", "probability"]).to_pylist()
    >>> [(row["stage"], round(row["probability"], 2)) for row in rows]
    [('active', 0.9), ('churn', 0.1)]
    """
    schema = tables.JOURNEY_FORECASTS.schema().append(pa.field("day", pa.date32()))
    if model is None:
        return schema.empty_table()
    distinct = engine.query(
        "SELECT DISTINCT micro_segment FROM micro_segments ORDER BY micro_segment", micro_segments=micro_segments
    )
    strings = distinct["micro_segment"].to_pylist()
    parts = [
        pa.table(
            {
                "micro_segment": pa.array([text for text in strings for _ in model.stages], pa.string()),
                "horizon_days": pa.array([horizon] * len(strings) * len(model.stages), pa.int64()),
                "stage": pa.array(list(model.stages) * len(strings), pa.string()),
                "probability": pa.array(model.probabilities(strings, horizon).ravel(), pa.float64()),
            }
        )
        for horizon in (model.horizons if horizons is None else horizons)
    ]
    chances = pa.concat_tables([_CHANCES.empty_table(), *parts])
    rows = engine.query(sql_of("ml.journeys", "forecasts"), micro_segments=micro_segments, chances=chances)
    return rows.cast(schema)


def markov_value(transitions: ArrayLike, rewards: ArrayLike, discount_rate: float) -> NDArray[Any]:
    """Value customers by the state they are in now: the expected present value over an infinite horizon.

    ``V = (I − P / (1 + d))⁻¹ R``: the reward of the current state is due at once, later rewards are discounted.

    Parameters
    ----------
    transitions : array_like of shape (n_states, n_states)
        P: row i holds the probabilities of the state after state i. Rows add up to 1.
    rewards : array_like of shape (n_states,)
        R: reward of one period in the state, net of its cost, in currency.
    discount_rate : float
        Discount rate d per period, above 0.

    Returns
    -------
    ndarray of shape (n_states,)
        Value of a customer in each state, in currency.

    Raises
    ------
    ValueError
        If the shapes do not fit, a row does not add up to 1, or the discount rate is not positive.

    References
    ----------
    .. [1] Pfeifer, P. E., & Carraway, R. L. (2000). Modeling customer relationships as Markov chains. Journal of
       Interactive Marketing, 14(2), 43-55.

    Examples
    --------
    >>> markov_value([[0.5, 0.5], [0.0, 1.0]], [100, 0], 0.1).round(2).tolist()
    [183.33, 0.0]
    """
    matrix = np.asarray(transitions, dtype=float)
    reward = np.asarray(rewards, dtype=float)
    if matrix.ndim != 2 or matrix.shape != (len(reward), len(reward)):
        raise ValueError(f"transitions of shape {matrix.shape} do not fit {len(reward)} rewards")
    if (matrix < 0).any() or not np.allclose(matrix.sum(axis=1), 1):
        raise ValueError("every row of transitions must be non-negative and add up to 1")
    if discount_rate <= 0:
        raise ValueError(f"the discount rate must be above 0, not {discount_rate}: without it the value has no bound")
    return np.linalg.solve(np.eye(len(reward)) - matrix / (1 + discount_rate), reward)

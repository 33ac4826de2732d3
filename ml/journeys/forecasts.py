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
    """The chance of each stage at each horizon, for every customer.

    Parameters
    ----------
    micro_segments : customer_id, day, micro_segment: primary rows, of one day or several
    model : the transition model in force; None gives an empty table
    horizons : days ahead, multiples of the model's step; the model's own by default

    Returns
    -------
    The columns of `journey_forecasts` and `day`; ordered by day, customer, horizon and stage. The probabilities of a
    customer and horizon add up to 1.
    """
    schema = tables.JOURNEY_FORECASTS.schema().append(pa.field("day", pa.date32()))
    if model is None:
        return schema.empty_table()
    found = engine.query(
        "SELECT DISTINCT micro_segment FROM micro_segments ORDER BY micro_segment", micro_segments=micro_segments
    )
    strings = found["micro_segment"].to_pylist()
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
    """Expected present value of a customer who is in each state now, over an endless horizon.

    ``V = (I − P / (1 + d))⁻¹ R``: the reward of the state the customer is in is due at once, later ones discounted.

    Parameters
    ----------
    transitions : P, (states, states): row i holds the chances of the next state; rows add up to 1
    rewards : R, (states,): reward of one period in the state, net of what it costs, currency
    discount_rate : d, per period, above 0

    Returns
    -------
    (states,), currency

    Raises
    ------
    ValueError
        If the shapes do not fit, a row does not add up to 1, or the discount rate is not positive.

    References
    ----------
    Pfeifer & Carraway (2000), Modeling customer relationships as Markov chains, Journal of Interactive Marketing 14(2).

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

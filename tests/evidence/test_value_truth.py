"""Claims about value where the true expected spend of every customer is known: whole simulated businesses."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml.engine import DuckDB
from ml.features import CustomerHistory
from ml.simulate import BusinessSpec, block
from ml.value import ValueModel, ValueSpec, train
from ml.value.metrics import decile_error, deciles, gini

CUSTOMERS = 10_000


def business(engine: DuckDB, preset: str) -> tuple[CustomerHistory, pa.Table]:
    """The facts of a year without campaigns, and the true expected spend of the 90 days after its last valued day."""
    spec = BusinessSpec(preset=preset, customers=CUSTOMERS, days=364, campaign_share=0.0)  # type: ignore[arg-type]
    drawn = block(spec, 0)
    truth = engine.query(
        """
        SELECT CAST(customer_id AS VARCHAR) AS customer_id, CAST(day AS DATE) AS day, expected_spend
        FROM truth WHERE day = (SELECT MAX(day) FROM truth)
        """,
        truth=drawn.truth["values"],
    )
    return drawn.history(engine), truth


@pytest.mark.parametrize("preset", ["retail", "gaming"])
def test_value_is_calibrated_by_decile_where_the_truth_is_known(preset: str) -> None:
    engine = DuckDB(threads=1)
    facts, truth = business(engine, preset)
    as_of = pc.max(truth["day"]).as_py()
    training = train(facts.until(as_of), as_of, ValueSpec(), None)
    assert isinstance(training.model, ValueModel)
    assert training.decision == "challenger"
    snapshot = facts.until(as_of).snapshot_of(as_of)
    rows = engine.query(
        """
        SELECT snapshot.customer_id AS customer_id, COALESCE(truth.expected_spend, 0.0) AS spend
        FROM snapshot LEFT JOIN truth ON truth.customer_id = snapshot.customer_id ORDER BY snapshot.customer_id
        """,
        snapshot=snapshot.select(["customer_id"]),
        truth=truth,
    )
    true = np.asarray(rows["spend"].to_numpy(), dtype=float)
    predicted = training.model.outputs(snapshot)["expected_spend"]
    assert abs(predicted.sum() / true.sum() - 1) < 0.10
    assert decile_error(true, predicted) < 0.10
    expected, realised = deciles(true, predicted)
    assert np.all(np.abs(expected[-2:] / realised[-2:] - 1) < 0.10)  # three quarters of all value
    assert np.all(np.abs(expected / realised - 1) < 0.25)  # and who is worth next to nothing is not taken for nothing
    assert gini(true, predicted) > 0.9

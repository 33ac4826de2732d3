"""Claims about sums of value in businesses with a strong season, before and after its peak, over draws not tuned on.

Three years of a simulated retailer whose customers order two or three times as often in the fourth quarter; learnt from
what was known on each day, judged by the 90 days after it. Settings were chosen on draws 0 to 2 and 100.
"""

from __future__ import annotations

from datetime import date

import pytest

from ml.engine import DuckDB
from ml.simulate import BusinessSpec, block
from ml.value import ValueSpec
from ml.value.evaluation import IN_FORCE, cut_at
from tests.evidence.seeds import only_in_evidence

pytestmark = only_in_evidence
SEEDS = range(101, 106)
CUSTOMERS = 4_000
DAYS = (
    date(2022, 7, 1), date(2022, 9, 26), date(2022, 10, 1), date(2022, 11, 15), date(2023, 1, 2), date(2023, 9, 30),
)  # fmt: skip
TOLERATED = 0.15


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("peak", [2.0, 3.0])
def test_sums_are_right_on_every_side_of_a_peak_from_the_second_year_on(peak: float, seed: int) -> None:
    spec = BusinessSpec(
        customers=CUSTOMERS, days=1096, start="2021-01-01", seed=seed, campaign_share=0.0,
        calendar=(1.0,) * 9 + (peak,) * 3,
    )  # fmt: skip
    facts = block(spec, 0).history(DuckDB(threads=1))
    off = {}
    for day in DAYS:
        cut = cut_at(facts, day, ValueSpec())
        off[day] = float(cut.predicted[IN_FORCE].sum() / cut.actual.sum() - 1)
    assert max(map(abs, off.values())) < TOLERATED, off

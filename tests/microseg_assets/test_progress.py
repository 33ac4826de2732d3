"""What a run reports while it is at work: what an asset is doing, and warnings in words."""

from __future__ import annotations

import pytest

from expectations.days import Measurement
from expectations.measures import SHIFT, SILENT, UNKNOWN, VOLUME
from microseg_assets.assets.validate import _describe
from microseg_assets.assets.value import _COHORTS, _describe_cohort
from microseg_assets.cli.run import Printer
from ml.value.breakdown import COHORTS, NEVER_BOUGHT


def test_what_takes_long_is_named_until_partitions_are_finished() -> None:
    printer = Printer()
    printer.begin("transactions", 365)
    assert "judging" not in printer._status()
    printer.set_activity("transactions", "judging 1,469,307 rows")
    assert "0/365" in printer._status() and printer._status().endswith("judging 1,469,307 rows")
    printer.advance("transactions", 365, 365)
    assert printer._status().startswith("transactions") and "judging" not in printer._status()
    printer.set_activity("transactions", "reading")
    printer.begin("events", 365)
    assert "reading" not in printer._status()


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        (Measurement(VOLUME, 2.4, 0.5, 2.0, "warning", False, "240 rows, usually 100"), "240 rows, usually 100"),
        (Measurement(UNKNOWN, 0.123, None, 0.1, "warning", False),
         "12.3% of the rows are of customers who are not in the customers table"),
        (Measurement(SILENT, 9.0, None, 7.0, "warning", False), "9 days without a row"),
        (Measurement(SHIFT.format("amount"), 0.31, None, 0.2, "warning", False),
         "the distribution of amount differs from the weeks before (by 0.31, where 0.2 is the limit)"),
    ],
)  # fmt: skip
def test_an_unusual_day_is_described_in_words_with_its_number(measured: Measurement, words: str) -> None:
    assert _describe(measured).startswith(words)


def test_every_cohort_whose_value_is_off_has_words() -> None:
    assert set(_COHORTS) == {*COHORTS, NEVER_BOUGHT}
    words = _describe_cohort({"cohort": "days_90_to_181", "ratio": 0.714, "customers": 1234.0})
    assert words == (
        "customers who first bought 90 to 181 days before spent 71% of what the model expected of them (1,234 "
        "customers)"
    )

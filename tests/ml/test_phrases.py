"""Every feature has words for people."""

from __future__ import annotations

import pytest

from ml import tables
from ml.features.phrases import label


@pytest.mark.parametrize("feature", [*tables.CUSTOMER_FEATURES.names[1:], *(c.name for c in tables.MARGIN_FEATURES)])
def test_every_feature_has_a_label(feature: str) -> None:
    assert feature == "balance" or label(feature) != feature.replace("_", " ")

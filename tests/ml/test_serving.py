"""Frames from outside as the inputs of a model: a value that cannot be of its column's type is named."""

from __future__ import annotations

import pandas as pd
import pytest

from ml.serving import as_inputs


@pytest.mark.parametrize("wrong", [[True], {"a": 1}, "perhaps", 2])
def test_what_is_no_truth_value_is_refused_with_the_column_and_the_value(wrong: object) -> None:
    frame = pd.DataFrame({"is_member": pd.Series([True, "false", "1", None, wrong], dtype=object)})
    with pytest.raises(ValueError, match=r"is_member.*true or false"):
        as_inputs(frame, {"is_member": "boolean"})
    assert as_inputs(frame.iloc[:4], {"is_member": "boolean"})["is_member"].tolist() == [True, False, True, pd.NA]

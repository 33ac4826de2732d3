"""`microseg show customer`: an id that is spelt differently is suggested, and no other."""

from __future__ import annotations

import pyarrow as pa
import pytest

from microseg_assets.cli.customer import similar_ids

IDS = pa.chunked_array([["2", "17", "80"], ["C-0042", "c99", "müller"]])


@pytest.mark.parametrize(
    ("id_", "similar"),
    [
        ("000002", ["2"]), ("02", ["2"]), ("customer 17", ["17"]), ("C-17", ["17"]), ("#80", ["80"]),
        ("c0042", ["C-0042"]), (" C-0042 ", ["C-0042"]), ("42", ["C-0042"]), ("C99", ["c99"]), ("MÜLLER", ["müller"]),
        ("0", []), ("3", []), ("", []), ("nobody", []),
    ],
)  # fmt: skip
def test_an_id_that_is_spelt_differently_is_suggested(id_: str, similar: list[str]) -> None:
    assert similar_ids(IDS, id_) == similar

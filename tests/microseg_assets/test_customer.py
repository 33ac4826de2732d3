"""`microseg show customer`: an id that is written in another way is found, and no other."""

from __future__ import annotations

import pyarrow as pa
import pytest

from microseg_assets.cli.customer import nearest

IDS = pa.chunked_array([["2", "17", "80"], ["C-0042", "c99", "müller"]])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("000002", ["2"]), ("02", ["2"]), ("customer 17", ["17"]), ("C-17", ["17"]), ("#80", ["80"]),
        ("c0042", ["C-0042"]), (" C-0042 ", ["C-0042"]), ("42", ["C-0042"]), ("C99", ["c99"]), ("MÜLLER", ["müller"]),
        ("0", []), ("3", []), ("", []), ("nobody", []),
    ],
)  # fmt: skip
def test_an_id_that_is_written_in_another_way_is_suggested(given: str, meant: list[str]) -> None:
    assert nearest(IDS, given) == meant

"""Which draws of each world the tests look at: the ten that the claims are about; other ones, or fewer, by choice.

What takes more than some minutes is left to `make evidence`; a smaller share of each such claim is in `tests/ml`.
"""

from __future__ import annotations

import os

import pytest

FIRST = int(os.environ.get("MICROSEG_EVIDENCE_FIRST", "0"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("MICROSEG_EVIDENCE_SEEDS", "10")))

only_in_evidence = pytest.mark.only_in_evidence

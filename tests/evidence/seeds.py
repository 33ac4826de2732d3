"""Which draws of each world the tests look at: the ten that the claims are about; other ones, or fewer, by choice."""

from __future__ import annotations

import os

FIRST = int(os.environ.get("MICROSEG_EVIDENCE_FIRST", "0"))
SEEDS = range(FIRST, FIRST + int(os.environ.get("MICROSEG_EVIDENCE_SEEDS", "10")))

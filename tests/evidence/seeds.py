"""How many draws of each world a run of the tests looks at: a few by themselves, all of them by `make evidence`."""

from __future__ import annotations

import os

SEEDS = range(int(os.environ.get("MICROSEG_EVIDENCE_SEEDS", "3")))

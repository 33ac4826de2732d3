"""How many draws of each world the tests look at: the ten that the claims are about; fewer while one is at work."""

from __future__ import annotations

import os

SEEDS = range(int(os.environ.get("MICROSEG_EVIDENCE_SEEDS", "10")))

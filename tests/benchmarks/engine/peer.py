"""The notebook that the system is compared with, as a process of the same measure.

Belongs here: running `tests/benchmarks/peer/notebook.py` in its environment, and which of its steps correspond to those
of the system. Does not belong here: what it computes.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

from tests.benchmarks.engine import measure

PROGRAM = Path(__file__).parents[1] / "peer" / "notebook.py"
# A day with models in force: it keeps no history, so it loads all and makes the earlier day again to know who moved.
DAY_STEPS = (
    "load", "features", "stages", "layers_assign", "features_week_ago", "movement", "ltv_bgnbd_predict",
    "ltv_lightgbm_predict", "write",
)  # fmt: skip


def run(python: Path, data: Path, out: Path, day: date, *, backfill: int = 0) -> dict[str, Any]:
    """Seconds, those of a day with models in force, peak memory and steps; those of a backfill too if asked for."""
    options: list[str | Path] = ["--data", data, "--out", out, "--as-of", day.isoformat(), "--backfill", str(backfill)]
    took = measure.run([python, PROGRAM, *options], folder=PROGRAM.parent)
    result = json.loads(took.output.strip().splitlines()[-1])
    steps = result["steps"]
    figures = {
        "seconds": result["seconds"],
        "processor_seconds": took.processor,
        "peak_mb": result["peak_mb"],
        "steps": steps,
        "day_seconds": sum(steps[name] for name in DAY_STEPS),
        "segments": result["segments"],
    }
    if backfill:
        figures |= {"backfill_seconds": steps["backfill"], "backfill_peak_mb": result["peak_mb_after"]["backfill"]}
    return figures

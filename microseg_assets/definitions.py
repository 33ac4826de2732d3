"""The code location that Dagster loads. `MICROSEG_PROJECT` names one project, or several separated by commas."""

from __future__ import annotations

import gc
import os

import dagster as dg

collects = gc.isenabled()
gc.disable()  # what is imported stays: looking through it again and again is a fifth of what loading takes
try:
    from microseg_assets.build import DEFAULT_PROJECT, build_defs
finally:
    if collects:
        gc.enable()


@dg.definitions
def defs() -> dg.Definitions:
    references = os.environ.get("MICROSEG_PROJECT") or DEFAULT_PROJECT
    return build_defs(projects=[name.strip() for name in references.split(",") if name.strip()])
